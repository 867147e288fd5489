//! Upkeep of a Parquet table in an object store, where nothing exchanges files in one step.
//!
//! ```text
//! merge    stage one object ── still ours? ── publish it ── remove those whose rows it has ── remove the stage
//! clear    (whoever comes after a kill) remove those whose rows a published one has
//! ```
//!
//! The name of a merged object says which versions are in it, and between the first and the last of them nothing of the log is
//! left in its directory. So what it covers can be told by names alone: readers of ours pass over it, and the next look removes
//! it. Other readers see its rows twice until then.
//!
//! An owner that was superseded, sleeps and wakes up has nothing to publish: the next one has removed what it had staged.

use std::collections::BTreeMap;

use crate::delta::replay::{ActiveFile, TableFiles};
use crate::faults::{Step, step};
use crate::pipeline::error::JobError;
use crate::pipeline::job_plan::Flow;
use crate::pipeline::streaming::start::Session;
use crate::pipeline::streaming::upkeep::decide::Upkept;
use crate::pipeline::streaming::upkeep::rearrange;
use crate::sink::table::TableSettings;
use crate::sink::table::merge::{Merge, Merged, StagedObject, Unmerged};
use crate::storage::{ObjectEntry, Published, SharedStore, paths};
use crate::tables::hive::parse_directory;

/// What is to be done with the objects of a table.
#[derive(Clone, Debug, PartialEq)]
enum Work {
    /// Their rows are in a merged one: they go.
    Clear(Vec<String>),
    /// Their days are old: they go with their rows.
    Remove(Vec<String>),
    /// They become fewer.
    Merge(Merge),
}

/// The first thing to do; `None`: nothing.
fn next(listed: &[ObjectEntry], upkept: &Upkept<'_>) -> Option<Work> {
    let left = left_over(listed, upkept.log_id, upkept.published);
    if !left.is_empty() {
        return Some(Work::Clear(left));
    }
    let seen = |entry: &&ObjectEntry| paths::visible_ending(&entry.path) == Some(paths::PARQUET);
    let is_ours = |path: &str| is_published(path, upkept.log_id, upkept.published);
    let files = TableFiles { active: listed.iter().filter(seen).map(of_entry).collect(), removed: BTreeMap::new() };
    let old = files.active.iter().filter(|file| is_ours(&file.path) && rearrange::is_old(file, upkept));
    let old: Vec<_> = old.map(|file| file.path.clone()).collect();
    if !old.is_empty() {
        return Some(Work::Remove(old));
    }
    rearrange::next(&files, upkept).map(|found| Work::Merge(found.merge))
}

/// What whoever merged published in another object, and had not removed when it was killed.
pub(super) fn left_over(listed: &[ObjectEntry], log_id: &str, published: u64) -> Vec<String> {
    let covered = paths::covered(listed.iter().map(|entry| entry.path.as_str()));
    covered.into_iter().filter(|path| is_published(path, log_id, published)).map(str::to_owned).collect()
}

/// Whether a log wrote a file, and says that it is published.
fn is_published(path: &str, log_id: &str, published: u64) -> bool {
    paths::final_version(path, log_id).is_some_and(|version| version <= published)
}

/// An object as a file of a table that names the values of its directories.
fn of_entry(entry: &ObjectEntry) -> ActiveFile {
    let values = entry.path.split('/').filter_map(parse_directory).collect();
    ActiveFile { path: entry.path.clone(), bytes: entry.bytes, partition_values: values, ..ActiveFile::default() }
}

impl Session<'_> {
    /// Does one piece of work on a table of objects; whether there was any.
    pub(super) async fn keep_up_objects(
        &mut self,
        flow: &Flow,
        table: &TableSettings,
        store: &SharedStore,
        now: i64,
    ) -> Result<bool, JobError> {
        let listed = store.list("").await?;
        let work = self.upkept(flow, table, now).and_then(|upkept| next(&listed, &upkept));
        let output = &flow.output;
        match work {
            None => return Ok(false),
            Some(Work::Clear(paths)) => {
                self.remove(store, &paths).await?;
                tracing::info!(output, files = paths.len(), "removed: a merged file has their rows");
            }
            Some(Work::Remove(paths)) => {
                self.remove(store, &paths).await?;
                let files = paths.len();
                tracing::info!(output, files, "removed: their days are older than sink.maintenance.retain");
            }
            Some(Work::Merge(merge)) => {
                let staged = self.merger(flow, table, store).stage_one(&merge).await?;
                let answer = match staged {
                    Ok(staged) => self.exchange(store, staged).await?,
                    Err(why) => Err(why),
                };
                if answer == Err(Unmerged::NotFewer) {
                    // The first one is large enough by itself.
                    let first = merge.merged.first().map(|name| format!("{}/{name}", merge.folder));
                    self.left_alone.extend(first);
                } else {
                    self.tell_merged(flow, &merge.folder, answer);
                }
            }
        }
        Ok(true)
    }

    /// Publishes a merged object and removes those whose rows it has. Whoever took over meanwhile has removed the stage.
    async fn exchange(
        &mut self,
        store: &SharedStore,
        staged: StagedObject,
    ) -> Result<Result<Merged, Unmerged>, JobError> {
        let StagedObject { stage, path, merged, rows } = staged;
        self.log.check_may_publish(store.root()).await?;
        let faults = &*self.environment.faults;
        let published = step(faults, Step::Exchange, store.publish(&stage, &path)).await?;
        if published == Published::Yes {
            self.remove(store, &merged).await?;
        }
        step(faults, Step::Unstage, store.delete(&stage)).await?;
        Ok(match published {
            Published::Yes => Ok(Merged { read: merged.len(), written: 1, rows }),
            // The next look finds what others did.
            Published::AlreadyExists | Published::StageMissing => Err(Unmerged::Overtaken),
        })
    }

    async fn remove(&self, store: &SharedStore, paths: &[String]) -> Result<(), JobError> {
        Ok(step(&*self.environment.faults, Step::Unstage, store.delete_all(paths)).await?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::pipeline::streaming::upkeep::decide::tests::{HOUR, LOG, upkept};

    fn path(day: u8, version: u64) -> String {
        format!("date=1970-01-0{day}/{}", paths::final_file("j", LOG, version, 0, paths::PARQUET))
    }

    fn merged(day: u8, versions: (u64, u64)) -> String {
        format!("date=1970-01-0{day}/{}", paths::merged_object("j", LOG, versions))
    }

    fn listed(paths: &[String]) -> Vec<ObjectEntry> {
        paths.iter().map(|path| ObjectEntry { path: path.clone(), bytes: 10 }).collect()
    }

    #[test]
    fn what_was_begun_is_finished_before_days_are_removed_or_merged() {
        let none = BTreeSet::new();
        let old = Upkept { retain: Some(24 * HOUR), ..upkept(&none) };
        let foreign = "date=1970-01-01/part-0.parquet".to_owned();
        let all = [path(1, 3), path(2, 5), path(2, 6), path(2, 21), path(3, 7), foreign, merged(2, (4, 5))];
        let names = |work: Option<Work>| match work {
            Some(Work::Merge(merge)) => merge.merged.iter().map(|name| format!("{}/{name}", merge.folder)).collect(),
            Some(Work::Clear(paths) | Work::Remove(paths)) => paths,
            None => Vec::new(),
        };
        let first = next(&listed(&all), &old);
        assert_eq!(first, Some(Work::Clear(vec![path(2, 5)])));
        let rest: Vec<_> = all.iter().filter(|kept| **kept != path(2, 5)).cloned().collect();
        assert_eq!(next(&listed(&rest), &old), Some(Work::Remove(vec![path(1, 3)])), "only what this job wrote");
        let third = next(&listed(&rest), &upkept(&none));
        assert!(matches!(third, Some(Work::Merge(_))));
        assert_eq!(names(third), [merged(2, (4, 5)), path(2, 6)], "what is published, of a day that is over");
        // Not published yet by what this process knows: another owner is at work.
        assert_eq!(next(&listed(&[path(2, 21), merged(2, (20, 22))]), &upkept(&none)), None);
    }
}
