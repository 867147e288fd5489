//! Whether every record has exactly one fate: in each commit, and in total.
//!
//! Pure.

use crate::checkpoint::duplicates::Duplicates;
use crate::checkpoint::record::{Commit, Plan};
use crate::counters::{Counters, SourceCounters};

/// Names of the outputs that a query feeds: all but the dead letters.
pub(super) fn query_outputs(plan: &Plan) -> Vec<&str> {
    plan.queries.keys().map(String::as_str).collect()
}

/// Records that went on to the outputs; `None` when more left before than were read.
fn passed(source: &SourceCounters) -> Option<u64> {
    source.read.checked_sub(source.aside())
}

/// What does not add up in counters: read = tombstone + control + dead letter + future + duplicate + what each output
/// filtered, found late, accepted or refused.
pub(super) fn conservation(counters: &Counters, plan: &Plan, outputs: &[&str]) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, source) in &counters.sources {
        if passed(source).is_none() {
            problems
                .push(format!("source {name}: {} records were read, and more than that were put aside", source.read));
        }
    }
    for name in outputs {
        let output = counters.outputs.get(*name).cloned().unwrap_or_default();
        let counted = output.reached();
        let reached = reached(counters, plan, name);
        if counted != reached && problems.is_empty() {
            problems.push(format!(
                "output {name}: {reached} records reached it, {counted} are accounted for ({} filtered, {} late, {} accepted, {} refused by \
                 the query)",
                output.filtered,
                output.late,
                output.accepted,
                output.dead_letters()
            ));
        }
    }
    problems
}

/// How many dead letters are counted, where a table of so many rows does not have them.
pub(super) fn letters_missing(counters: &Counters, rows: u64) -> Option<String> {
    let kept = || counters.sources.values().map(SourceCounters::kept);
    let refused = counters.letters();
    let least = kept().map(|kept| *kept.start()).sum::<u64>() + refused;
    let most = kept().map(|kept| *kept.end()).sum::<u64>() + refused;
    (!(least..=most).contains(&rows)).then(|| format!("{least} dead letters are counted"))
}

/// Records that the query of an output was given.
pub(super) fn reached(counters: &Counters, plan: &Plan, output: &str) -> u64 {
    let read = counters.sources.iter().filter(|(source, _)| plan.reads(output, source));
    read.filter_map(|(_, source)| passed(source)).sum()
}

/// What does not add up in one commit. `before` are the totals before it.
pub(super) fn of_commit(commit: &Commit, before: &Counters, plan: &Plan) -> Vec<String> {
    let mut problems = Vec::new();
    let counters = &commit.counters;
    let written: Vec<_> = query_outputs(plan).into_iter().filter(|name| counters.outputs.contains_key(*name)).collect();
    problems.extend(conservation(counters, plan, &written));
    let ranges = || commit.partitions.values();
    let in_ranges: u64 = ranges().map(|range| range.records).sum();
    let read: u64 = counters.sources.values().map(|source| source.read).sum();
    if in_ranges != read {
        problems.push(format!("its ranges have {in_ranges} records, {read} are counted as read"));
    }
    let gone: i64 = ranges().filter_map(|range| Some(range.lost_until? - range.start)).sum();
    let lost: u64 = counters.sources.values().map(|source| source.lost_offsets).sum();
    if gone.unsigned_abs() != lost {
        problems.push(format!("its ranges lack {gone} offsets, {lost} are counted as lost"));
    }
    let named: u64 = commit.duplicates.values().map(Duplicates::count).sum();
    let duplicates: u64 = counters.sources.values().map(|source| source.duplicate).sum();
    if named != duplicates {
        problems.push(format!("it names {named} duplicates, {duplicates} are counted"));
    }
    for (name, output) in &commit.outputs {
        let counted = counters.outputs.get(name).cloned().unwrap_or_default();
        let rows = output.rows();
        if rows != counted.rows {
            problems.push(format!("output {name}: {rows} rows were written, {} are counted", counted.rows));
        }
    }
    if let Some(name) = &plan.dead_letters {
        let rows = counters.outputs.get(name).map_or(0, |output| output.rows);
        problems.extend(letters_missing(counters, rows).map(|counted| format!("{counted}, {rows} are in {name}")));
    }
    let mut totals = before.clone();
    totals.add(counters);
    if totals != commit.totals {
        problems.push("its totals are not those before it and its own counters".to_owned());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::record::{FileCommit, OutputCommit, QueryPlan};
    use crate::counters::OutputCounters;
    use crate::offsets::{Partitions, Range};
    use std::collections::BTreeMap;

    fn plan() -> Plan {
        let outputs = ["o", "d"].map(|name| (name.to_owned(), format!("file:///{name}")));
        let queries = BTreeMap::from([("o".to_owned(), QueryPlan::default())]);
        Plan { outputs: outputs.into(), queries, dead_letters: Some("d".to_owned()), ..Plan::default() }
    }

    fn commit() -> Commit {
        let source = SourceCounters {
            read: 10,
            tombstone: 1,
            dead_letter: BTreeMap::from([("syntax".to_owned(), 2)]),
            lost_offsets: 3,
            ..SourceCounters::default()
        };
        let output = OutputCounters { filtered: 1, late: 2, accepted: 4, rows: 5, ..OutputCounters::default() };
        let letters = OutputCounters { rows: 2, ..OutputCounters::default() };
        let counters = Counters {
            sources: BTreeMap::from([("s".to_owned(), source)]),
            outputs: BTreeMap::from([("o".to_owned(), output), ("d".to_owned(), letters)]),
        };
        let files = |rows| OutputCommit {
            files: vec![FileCommit { rows, stage: String::new(), path: String::new(), bytes: 0, xxh3: String::new() }],
            ..OutputCommit::default()
        };
        let range = Range { start: 5, end: 18, records: 10, lost_until: Some(8), ..Range::default() };
        Commit {
            partitions: Partitions::of("t", [(0, range)]),
            outputs: BTreeMap::from([("o".to_owned(), files(5)), ("d".to_owned(), files(2))]),
            totals: counters.clone(),
            counters,
            ..Commit::default()
        }
    }

    fn problems(change: impl FnOnce(&mut Commit)) -> String {
        let mut commit = commit();
        change(&mut commit);
        of_commit(&commit, &Counters::default(), &plan()).join("; ")
    }

    #[test]
    fn a_commit_that_adds_up_has_no_problems() {
        assert_eq!(problems(|_| ()), "");
    }

    #[test]
    fn each_sum_that_does_not_add_up_is_named() {
        let source = |commit: &mut Commit, change: fn(&mut SourceCounters)| {
            change(commit.counters.sources.get_mut("s").unwrap());
            commit.totals = commit.counters.clone();
        };
        assert!(problems(|c| source(c, |s| s.tombstone = 2)).contains("6 records reached it, 7 are accounted for"));
        assert!(problems(|c| source(c, |s| s.tombstone = 11)).contains("more than that were put aside"));
        assert!(
            problems(|c| source(c, |s| s.lost_offsets = 0))
                .contains("its ranges lack 3 offsets, 0 are counted as lost")
        );
        assert!(
            problems(|c| c.partitions = Partitions::new())
                .contains("its ranges have 0 records, 10 are counted as read")
        );
        assert!(
            problems(|c| c.outputs.get_mut("o").unwrap().files.clear()).contains("0 rows were written, 5 are counted")
        );
        assert!(problems(|c| c.totals = Counters::default()).contains("its totals are not"));
        let duplicates = problems(|c| {
            source(c, |s| (s.duplicate, s.tombstone) = (2, 0));
            let one = Duplicates::new(5, [9]);
            c.duplicates = Partitions::of("t", [(0, one)]);
            c.counters.outputs.get_mut("o").unwrap().filtered = 0;
            c.totals = c.counters.clone();
        });
        assert_eq!(duplicates, "it names 1 duplicates, 2 are counted");
        let letters = problems(|c| {
            c.counters.outputs.get_mut("d").unwrap().rows = 1;
            c.outputs.get_mut("d").unwrap().files[0].rows = 1;
            c.totals = c.counters.clone();
        });
        assert_eq!(letters, "2 dead letters are counted, 1 are in d");
    }
}
