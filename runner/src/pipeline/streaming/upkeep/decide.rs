//! What is to be done with a table, by the names and sizes of its files. Pure.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Days, NaiveDate, NaiveTime};

use crate::pipeline::status::TableSizes;
use crate::sink::table::merge::Merge;
use crate::storage::{ObjectEntry, paths};
use crate::tables::hive::parse_directory;

/// Larger files stay as they are: a file is read whole.
const SMALL_BYTES_MAX: u64 = 32 << 20;

/// Bytes that are merged at once: the job reads nothing meanwhile, for a few seconds.
pub(super) const MERGE_BYTES_MAX: u64 = 256 << 20;

/// Files that are merged at once.
pub(super) const MERGE_FILES_MAX: usize = 2_000;

/// A table, and what is wanted of it.
#[derive(Clone, Debug)]
pub(super) struct Upkept<'a> {
    pub(super) log_id: &'a str,
    /// Every file up to this version is published, and the log says so.
    pub(super) published: u64,
    pub(super) now: i64,
    /// The directory that tells the day.
    pub(super) date_column: &'a str,
    pub(super) compact_after: Option<i64>,
    pub(super) retain: Option<i64>,
    pub(super) target_bytes: u64,
    /// Folders whose files cannot be merged, and files that are gone.
    pub(super) left_alone: &'a BTreeSet<String>,
}

impl Upkept<'_> {
    /// Whether a file of so many bytes is to be merged.
    pub(super) fn is_small(&self, bytes: u64) -> bool {
        is_small(bytes, self.target_bytes)
    }

    /// Whether a day that was over so long ago is to be removed.
    pub(super) fn is_old(&self, age: i64) -> bool {
        self.retain.is_some_and(|retain| age >= retain)
    }

    /// Whether small files of a day that was over so long ago are to be merged.
    pub(super) fn is_compacted(&self, age: i64) -> bool {
        self.compact_after.is_some_and(|after| age >= after)
    }
}

/// Whether a file of so many bytes is small where files are to have about `target_bytes`.
fn is_small(bytes: u64, target_bytes: u64) -> bool {
    bytes < (target_bytes / 2).min(SMALL_BYTES_MAX)
}

/// Counts files by their bytes.
pub(super) fn sizes(files: impl IntoIterator<Item = u64>, target_bytes: u64) -> TableSizes {
    let mut sizes = TableSizes::default();
    for bytes in files {
        let (files, all) = if is_small(bytes, target_bytes) { &mut sizes.small } else { &mut sizes.large };
        (*files, *all) = (*files + 1, *all + bytes);
    }
    sizes
}

/// What is to be done with a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// It goes.
    Remove { folder: String, files: usize },
    /// Its small files become few.
    Merge(Merge),
}

/// The first thing to do; `None`: nothing.
pub(super) fn next(listed: &[ObjectEntry], upkept: &Upkept<'_>) -> Option<Work> {
    let mut folders: BTreeMap<&str, Vec<&ObjectEntry>> = BTreeMap::new();
    for entry in listed {
        let (folder, _) = entry.path.rsplit_once('/').unwrap_or_default();
        folders.entry(folder).or_default().push(entry);
    }
    let has_folders =
        |folder: &str| folders.keys().any(|other| other.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')));
    folders.iter().filter(|(folder, _)| !folder.is_empty() && !has_folders(folder)).find_map(|(folder, files)| {
        let age = upkept.now.checked_sub(end_of_day(folder, upkept.date_column)?)?;
        if upkept.is_old(age) {
            // Only what this job wrote and has published.
            let is_ours = |file: &&ObjectEntry| version(file, upkept).is_some();
            return files
                .iter()
                .all(is_ours)
                .then(|| Work::Remove { folder: (*folder).to_owned(), files: files.len() });
        }
        if !upkept.is_compacted(age) || upkept.left_alone.contains(*folder) {
            return None;
        }
        merge(folder, files, upkept).map(Work::Merge)
    })
}

/// The version of a file that this job wrote and that the log knows to be published.
fn version(file: &ObjectEntry, upkept: &Upkept<'_>) -> Option<u64> {
    paths::final_version(&file.path, upkept.log_id).filter(|version| *version <= upkept.published)
}

fn merge(folder: &str, files: &[&ObjectEntry], upkept: &Upkept<'_>) -> Option<Merge> {
    let is_parquet = |file: &ObjectEntry| paths::visible_ending(&file.path) == Some(paths::PARQUET);
    let is_there = |file: &ObjectEntry| !upkept.left_alone.contains(&file.path);
    let of_small = |file: &&&ObjectEntry| is_parquet(file) && upkept.is_small(file.bytes) && is_there(file);
    let mut ours: Vec<_> = files
        .iter()
        .filter(of_small)
        .filter_map(|file| Some((version(file, upkept)?, paths::final_number(&file.path)?, *file)))
        .collect();
    ours.sort_by_key(|(version, number, _)| (*version, *number));
    let mut bytes = 0;
    let fits = |(_, _, file): &&(u64, usize, &ObjectEntry)| {
        bytes += file.bytes;
        bytes <= MERGE_BYTES_MAX
    };
    let name = |file: &ObjectEntry| file.path.rsplit('/').next().unwrap_or_default().to_owned();
    let merged: Vec<String> =
        ours.iter().take(MERGE_FILES_MAX).take_while(fits).map(|(_, _, file)| name(file)).collect();
    if merged.len() < 2 {
        return None;
    }
    let kept = files.iter().filter(|file| paths::is_visible(&file.path)).map(|file| name(file));
    let kept = kept.filter(|name| !merged.contains(name)).collect();
    Some(Merge { folder: folder.to_owned(), merged, kept })
}

/// When the day of a folder was over, in microseconds since 1970 UTC.
fn end_of_day(folder: &str, date_column: &str) -> Option<i64> {
    let mut values = folder.split('/').filter_map(parse_directory).filter(|(column, _)| column == date_column);
    end_of(&values.next()?.1?)
}

/// When a day was over that is written as `2026-02-17`.
pub(super) fn end_of(day: &str) -> Option<i64> {
    let day: NaiveDate = day.parse().ok()?;
    Some(day.checked_add_days(Days::new(1))?.and_time(NaiveTime::MIN).and_utc().timestamp_micros())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) const LOG: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
    pub(in super::super) const HOUR: i64 = 3_600_000_000;

    fn entry(path: &str, bytes: u64) -> ObjectEntry {
        ObjectEntry { path: path.to_owned(), bytes }
    }

    pub(in super::super) fn upkept(left_alone: &BTreeSet<String>) -> Upkept<'_> {
        Upkept {
            log_id: LOG,
            published: 20,
            // The first two days are over, the second one for an hour.
            now: 49 * HOUR,
            date_column: "date",
            compact_after: Some(HOUR),
            retain: None,
            target_bytes: 1_000,
            left_alone,
        }
    }

    #[test]
    fn small_files_of_days_that_are_over_are_merged_in_the_order_of_their_commits() {
        let none = BTreeSet::new();
        let listed = [
            entry("date=1970-01-03/j-0f8fad5b-1-0.parquet", 10),
            entry("date=1970-01-03/j-0f8fad5b-2-0.parquet", 10),
            entry("date=1970-01-02/_SUCCESS", 0),
            entry("date=1970-01-02/foreign.parquet", 10),
            entry("date=1970-01-02/j-0f8fad5b-10-0.parquet", 10),
            entry("date=1970-01-02/j-0f8fad5b-9-1.parquet", 10),
            entry("date=1970-01-02/j-0f8fad5b-9-0.parquet", 600),
            entry("date=1970-01-02/j-0f8fad5b-21-0.parquet", 10),
            entry("date=1970-01-01/j-0f8fad5b-3-0.parquet", 10),
            entry("x.parquet", 1),
        ];
        let Some(Work::Merge(merge)) = next(&listed, &upkept(&none)) else { panic!() };
        assert_eq!(merge.folder, "date=1970-01-02");
        assert_eq!(merge.merged, ["j-0f8fad5b-9-1.parquet", "j-0f8fad5b-10-0.parquet"]);
        let kept = ["foreign.parquet", "j-0f8fad5b-9-0.parquet", "j-0f8fad5b-21-0.parquet"];
        assert_eq!(merge.kept, kept, "what is large, not published yet, or somebody else's");
        let alone = BTreeSet::from(["date=1970-01-02".to_owned()]);
        assert_eq!(next(&listed, &upkept(&alone)), None);
        let later = Upkept { compact_after: Some(2 * HOUR), ..upkept(&none) };
        assert_eq!(next(&listed, &later), None);
        // A folder with folders in it is never exchanged, and one of another date is no day.
        let nested = [entry("date=1970-01-01/a.parquet", 1), entry("date=1970-01-01/k=1/b.parquet", 1)];
        assert_eq!(next(&nested, &upkept(&none)), None);
        let other = Upkept { date_column: "born", ..upkept(&none) };
        assert_eq!(next(&listed, &other), None);
    }

    #[test]
    fn files_are_counted_by_their_size() {
        let found = sizes([499, 500, 1, 40 << 20], 1_000);
        assert_eq!(found, TableSizes { small: (2, 500), large: (2, 500 + (40 << 20)) });
        assert_eq!(sizes([SMALL_BYTES_MAX - 1, SMALL_BYTES_MAX], 1 << 40).small.0, 1);
    }

    #[test]
    fn only_what_is_asked_for_and_only_files_of_the_job_are_removed() {
        let none = BTreeSet::new();
        let listed =
            [entry("date=1970-01-01/j-0f8fad5b-3-0.parquet", 10), entry("date=1970-01-02/j-0f8fad5b-3-1.parquet", 10)];
        assert_eq!(next(&listed, &upkept(&none)), None);
        let retain = || Upkept { retain: Some(24 * HOUR), ..upkept(&none) };
        let removed = Work::Remove { folder: "date=1970-01-01".to_owned(), files: 1 };
        assert_eq!(next(&listed, &retain()), Some(removed));
        for other in ["date=1970-01-01/foreign.parquet", "date=1970-01-01/j-0f8fad5b-21-0.parquet"] {
            let listed = [&listed[..], &[entry(other, 1)]].concat();
            assert_eq!(next(&listed, &retain()), None, "{other}");
        }
    }
}
