//! In which order jobs have to run over what is there: a job that reads what another one writes comes after it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::storage::places::Place;

/// What a job reads and writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Touched {
    pub(crate) reads: Vec<Thing>,
    pub(crate) writes: Vec<Thing>,
    /// Jobs that it waits for although it reads nothing of them.
    pub(crate) waits_for: Vec<String>,
}

/// A table, or a topic.
#[derive(Clone, Debug)]
pub(crate) enum Thing {
    Table(Place),
    Topic(String),
}

impl Thing {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Table(one), Self::Table(other)) => one.overlaps(other),
            (Self::Topic(one), Self::Topic(other)) => one == other,
            _ => false,
        }
    }
}

/// For each job those that come before it.
pub(crate) type Before = BTreeMap<String, BTreeSet<String>>;

/// Who comes before whom.
///
/// # Errors
/// Jobs that wait for each other, in a circle: each reads what the next one writes, or depends on it.
pub(crate) fn before(jobs: &BTreeMap<String, Touched>) -> Result<Before, Vec<String>> {
    let writes = |writer: &Touched, thing: &Thing| writer.writes.iter().any(|written| written.is(thing));
    let of = |(name, job): (&String, &Touched)| {
        let before = jobs.iter().filter(|(name, writer)| {
            job.waits_for.contains(name) || job.reads.iter().any(|thing| writes(writer, thing))
        });
        (name.clone(), before.map(|(writer, _)| writer.clone()).collect())
    };
    let before: Before = jobs.iter().map(of).collect();
    match circle(&before) {
        Some(circle) => Err(circle),
        None => Ok(before),
    }
}

/// Some circle, if there is one: what is left when all are gone whose predecessors are gone leads back to itself.
fn circle(before: &Before) -> Option<Vec<String>> {
    let mut left = before.clone();
    loop {
        let free: Vec<String> = left
            .iter()
            .filter(|(_, first)| first.iter().all(|name| !left.contains_key(name)))
            .map(|(name, _)| name.clone())
            .collect();
        if free.is_empty() {
            break;
        }
        left.retain(|name, _| !free.contains(name));
    }
    let mut path = vec![left.keys().next()?.clone()];
    loop {
        let last = path.last()?;
        let next = left.get(last)?.iter().find(|name| left.contains_key(*name))?.clone();
        if let Some(begin) = path.iter().position(|name| *name == next) {
            path.drain(..begin);
            path.push(next);
            return Some(path);
        }
        path.push(next);
    }
}

/// Of the jobs that have not begun: those that can, and those that never will, each with the one that failed before it.
pub(crate) fn ready(
    before: &Before,
    begun: &BTreeSet<String>,
    ended: &BTreeMap<String, bool>,
) -> (Vec<String>, Vec<(String, String)>) {
    let (mut can, mut never) = (Vec::new(), Vec::new());
    for (name, first) in before.iter().filter(|(name, _)| !begun.contains(*name)) {
        let failed = first.iter().find(|name| ended.get(*name) == Some(&false));
        match failed {
            Some(failed) => never.push((name.clone(), failed.clone())),
            None if first.iter().all(|name| ended.get(name) == Some(&true)) => can.push(name.clone()),
            None => {}
        }
    }
    (can, never)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(all: &[(&str, &[&str], &[&str])]) -> BTreeMap<String, Touched> {
        let things = |names: &[&str]| names.iter().map(|name| Thing::Topic((*name).to_owned())).collect();
        let job = |(name, reads, writes): &(&str, &[&str], &[&str])| {
            let touched = Touched { reads: things(reads), writes: things(writes), waits_for: Vec::new() };
            ((*name).to_owned(), touched)
        };
        all.iter().map(job).collect()
    }

    #[test]
    fn who_reads_comes_after_who_writes() {
        let jobs = jobs(&[
            ("days", &["hours", "visits"], &["days"]),
            ("hours", &["minutes"], &["hours"]),
            ("minutes", &["events"], &["minutes"]),
        ]);
        let before = before(&jobs).unwrap();
        assert_eq!(before["days"], BTreeSet::from(["hours".to_owned()]));
        let (mut begun, mut ended) = (BTreeSet::new(), BTreeMap::new());
        let mut order = Vec::new();
        loop {
            let (can, never) = ready(&before, &begun, &ended);
            assert!(never.is_empty());
            if can.is_empty() {
                break;
            }
            for name in can {
                begun.insert(name.clone());
                ended.insert(name.clone(), true);
                order.push(name);
            }
        }
        assert_eq!(order, ["minutes", "hours", "days"]);
    }

    #[test]
    fn what_comes_after_a_job_that_failed_never_begins() {
        let jobs = jobs(&[("a", &[], &["x"]), ("b", &["x"], &["y"]), ("c", &["z"], &[])]);
        let before = before(&jobs).unwrap();
        let begun = BTreeSet::from(["a".to_owned()]);
        let (can, never) = ready(&before, &begun, &BTreeMap::from([("a".to_owned(), false)]));
        assert_eq!((can, never), (vec!["c".to_owned()], vec![("b".to_owned(), "a".to_owned())]));
    }

    #[test]
    fn who_depends_on_a_job_comes_after_it_and_may_close_a_circle() {
        let mut jobs = jobs(&[("a", &[], &["x"]), ("b", &["x"], &["y"]), ("c", &[], &[])]);
        let wait = |jobs: &mut BTreeMap<String, Touched>, name: &str, on: &str| {
            jobs.get_mut(name).unwrap().waits_for.push(on.to_owned());
        };
        wait(&mut jobs, "c", "b");
        wait(&mut jobs, "c", "elsewhere");
        assert_eq!(before(&jobs).unwrap()["c"], BTreeSet::from(["b".to_owned()]));
        wait(&mut jobs, "a", "c");
        let circle = before(&jobs).unwrap_err();
        assert_eq!((circle.len(), circle.first()), (4, circle.last()), "{circle:?}");
    }

    #[test]
    fn jobs_that_wait_for_each_other_are_named_in_a_circle() {
        let jobs = jobs(&[("a", &["3"], &["1"]), ("b", &["1"], &["2"]), ("c", &["2"], &["3"]), ("d", &["3"], &["4"])]);
        let circle = before(&jobs).unwrap_err();
        assert_eq!((circle.len(), circle.first()), (4, circle.last()));
        assert!(!circle.contains(&"d".to_owned()), "{circle:?}");
    }
}
