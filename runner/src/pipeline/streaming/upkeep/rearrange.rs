//! What is to be done with a Delta table, by what its log says of its files. Pure.
//!
//! Only files are merged that this job wrote, and whose versions follow each other: between the first and the last of a merged
//! file nothing was taken away by others. So its name alone says which files are in it.

use std::collections::{BTreeMap, BTreeSet};

use crate::delta::replay::{ActiveFile, TableFiles};
use crate::pipeline::streaming::upkeep::decide::{MERGE_BYTES_MAX, MERGE_FILES_MAX, Upkept, end_of};
use crate::sink::table::merge::Merge;
use crate::storage::paths;

/// Files whose rows become those of fewer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rearranged {
    pub(super) merge: Merge,
    /// The same files, as the table has them.
    pub(super) files: Vec<ActiveFile>,
    /// The first and the last version of the log that wrote them.
    pub(super) versions: (u64, u64),
}

/// Whether the day of a file is older than what is kept.
pub(super) fn is_old(file: &ActiveFile, upkept: &Upkept<'_>) -> bool {
    age(file, upkept).is_some_and(|age| upkept.is_old(age))
}

/// How long the day of a file has been over.
fn age(file: &ActiveFile, upkept: &Upkept<'_>) -> Option<i64> {
    let day = file.partition_values.get(upkept.date_column)?.as_deref()?;
    upkept.now.checked_sub(end_of(day)?)
}

/// The first files that are to be merged; `None`: there are none.
pub(super) fn next(table: &TableFiles, upkept: &Upkept<'_>) -> Option<Rearranged> {
    let mut folders: BTreeMap<&str, Folder<'_>> = BTreeMap::new();
    for file in &table.active {
        let Some((folder, version)) = ours(&file.path, upkept) else { continue };
        let entry = folders.entry(folder).or_default();
        let versions = paths::merged_versions(&file.path, upkept.log_id);
        let (first, last) = versions.unwrap_or((version, version));
        entry.merged.extend(versions.map(|_| file.path.as_str()));
        match is_merged(file, version, upkept) {
            true => entry.small.push(Source { first, last, file }),
            false => entry.between.extend(first..=last),
        }
    }
    for path in table.removed.keys() {
        let Some((folder, version)) = ours(path, upkept) else { continue };
        let Some(entry) = folders.get_mut(folder) else { continue };
        if !entry.merged.iter().any(|merged| paths::is_merged_into(path, merged)) {
            let (first, last) = paths::merged_versions(path, upkept.log_id).unwrap_or((version, version));
            entry.between.extend(first..=last);
        }
    }
    let wanted = |folder: &&str| !upkept.left_alone.contains(*folder);
    folders.into_iter().filter(|(folder, _)| wanted(folder)).find_map(|(folder, found)| found.first_run(folder))
}

/// Folder and version of a file that this log wrote.
fn ours<'a>(path: &'a str, upkept: &Upkept<'_>) -> Option<(&'a str, u64)> {
    let version = paths::final_version(path, upkept.log_id)?;
    path.rsplit_once('/').map(|(folder, _)| (folder, version))
}

fn is_merged(file: &ActiveFile, version: u64, upkept: &Upkept<'_>) -> bool {
    version <= upkept.published
        && upkept.is_small(file.bytes)
        && file.deletion_vector.is_none()
        && age(file, upkept).is_some_and(|age| upkept.is_compacted(age) && !upkept.is_old(age))
        && !upkept.left_alone.contains(&file.path)
}

/// A small file, and the versions that are in it.
#[derive(Clone, Copy)]
struct Source<'a> {
    first: u64,
    last: u64,
    file: &'a ActiveFile,
}

#[derive(Default)]
struct Folder<'a> {
    small: Vec<Source<'a>>,
    /// Files into which others were merged.
    merged: Vec<&'a str>,
    /// Versions of files that a merged one must not seem to hold: they stay, or others took them away.
    between: BTreeSet<u64>,
}

impl Folder<'_> {
    fn first_run(mut self, folder: &str) -> Option<Rearranged> {
        self.small.sort_by(|one, other| (one.first, &one.file.path).cmp(&(other.first, &other.file.path)));
        let mut run: Vec<Source<'_>> = Vec::new();
        let (mut first, mut last, mut bytes) = (0, 0, 0);
        for source in &self.small {
            let begin = run.first().map_or(source.first, |_| first);
            let fits = self.between.range(begin..=last.max(source.last)).next().is_none();
            let is_full = run.len() >= MERGE_FILES_MAX || bytes + source.file.bytes > MERGE_BYTES_MAX;
            if !run.is_empty() && (!fits || is_full) {
                if run.len() > 1 {
                    break;
                }
                run.clear();
            }
            if run.is_empty() {
                (first, last, bytes) = (source.first, source.last, 0);
                if self.between.range(first..=last).next().is_some() {
                    continue;
                }
            }
            (last, bytes) = (last.max(source.last), bytes + source.file.bytes);
            run.push(*source);
        }
        if run.len() < 2 {
            return None;
        }
        let name = |source: &Source<'_>| source.file.path[folder.len() + 1..].to_owned();
        let merged = run.iter().map(name).collect();
        let merge = Merge { folder: folder.to_owned(), merged, kept: Vec::new() };
        let files = run.iter().map(|source| source.file.clone()).collect();
        Some(Rearranged { merge, files, versions: (first, last) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::streaming::upkeep::decide::tests::{HOUR, LOG, upkept};

    fn path(day: u8, version: u64) -> String {
        format!("date=1970-01-0{day}/j-00a1-0f8fad5b-{version}-0.parquet")
    }

    fn active(path: &str, bytes: u64) -> ActiveFile {
        let day = path["date=".len()..].split('/').next().unwrap().to_owned();
        let partition_values = [("date".to_owned(), Some(day))].into();
        ActiveFile { path: path.to_owned(), bytes, partition_values, ..ActiveFile::default() }
    }

    fn merged(table: &TableFiles) -> Option<(Vec<String>, (u64, u64))> {
        next(table, &upkept(&BTreeSet::new())).map(|found| (found.merge.merged, found.versions))
    }

    fn table(active_files: &[(&str, u64)], removed: &[&str]) -> TableFiles {
        TableFiles {
            active: active_files.iter().map(|(path, bytes)| active(path, *bytes)).collect(),
            removed: removed.iter().map(|path| ((*path).to_owned(), 0)).collect(),
        }
    }

    #[test]
    fn small_files_of_days_that_are_over_are_merged_in_the_order_of_their_commits() {
        let of = |day, version| path(day, version);
        let foreign = "date=1970-01-02/part-0.parquet";
        let (nine, ten, eleven, unpublished) = (of(2, 9), of(2, 10), of(2, 11), of(2, 21));
        let (early, today) = (of(1, 3), [of(3, 4), of(3, 5)]);
        let files = [
            (foreign, 10),
            (&*ten, 10),
            (&*nine, 10),
            (&*eleven, 600),
            (&*unpublished, 10),
            (&*early, 10),
            (&*today[0], 10),
            (&*today[1], 10),
        ];
        let (names, versions) = merged(&table(&files, &[])).unwrap();
        let name = |path: &String| path.rsplit('/').next().unwrap().to_owned();
        assert_eq!((names, versions), ([&nine, &ten].map(name).to_vec(), (9, 10)));
        let alone = BTreeSet::from(["date=1970-01-02".to_owned()]);
        assert_eq!(next(&table(&files, &[]), &upkept(&alone)), None);
        let alone = BTreeSet::from([nine.clone()]);
        assert_eq!(next(&table(&files, &[]), &upkept(&alone)), None, "one of them is gone");
        let none = BTreeSet::new();
        let old = Upkept { retain: Some(HOUR), ..upkept(&none) };
        assert_eq!(next(&table(&files, &[]), &old), None, "it goes as a whole");
        assert!(is_old(&active(foreign, 1), &old) && !is_old(&active(&today[0], 1), &old));
    }

    #[test]
    fn a_merged_file_never_seems_to_hold_what_others_took_away() {
        let versions: Vec<_> = (5..=9).map(|version| path(1, version)).collect();
        let all = |without: &[u64]| -> Vec<(&str, u64)> {
            let kept = (5..=9).zip(&versions).filter(|(version, _)| !without.contains(version));
            kept.map(|(_, path)| (path.as_str(), 10)).collect()
        };
        let of = |table: &TableFiles| merged(table).map(|(_, versions)| versions);
        assert_eq!(of(&table(&all(&[]), &[])), Some((5, 9)));
        assert_eq!(of(&table(&all(&[7]), &[&versions[2]])), Some((5, 6)));
        assert_eq!(of(&table(&all(&[6, 8]), &[&versions[1], &versions[3]])), None);
        assert_eq!(of(&table(&all(&[7]), &[])), Some((5, 9)), "there was none");
        let large: Vec<_> =
            all(&[]).into_iter().map(|(path, _)| (path, if path == versions[1] { 900 } else { 10 })).collect();
        assert_eq!(of(&table(&large, &[])), Some((7, 9)));
        // What was merged before is no hindrance, and takes part.
        let before = format!("date=1970-01-01/{}", paths::merged_file("j", LOG, (5, 7), 1, 0));
        let files = [(&*before, 10), (&*versions[3], 10)];
        let gone = [&*versions[0], &versions[1], &versions[2]];
        assert_eq!(of(&table(&files, &gone)), Some((5, 8)));
        // Others took the merged file away: what was in it is in none.
        assert_eq!(of(&table(&[(&versions[3], 10), (&versions[4], 10)], &[&before])), Some((8, 9)));
        let vector = ActiveFile { deletion_vector: Some(serde_json::json!({})), ..active(&versions[1], 10) };
        let mut deleted = table(&all(&[6]), &[]);
        deleted.active.push(vector);
        assert_eq!(of(&deleted), Some((7, 9)));
    }
}
