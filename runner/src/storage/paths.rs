//! Names of the objects below a job's checkpoint folder and below an output.
//!
//! Pure. Nothing that a plain reader could take for a table ends in `.parquet`, `.json` or `.csv` before it is published.

use std::collections::{BTreeMap, BTreeSet};

/// The job log.
pub const LOG: &str = "log";
/// Bases of the log.
pub const BASE: &str = "base";
/// State objects.
pub const STATE: &str = "state";
/// Objects of references.
pub const REFERENCE: &str = "reference";
/// A table's bookkeeping. A path of an output's store that begins with it lies beside the table's folder, in
/// `<parent>/_dataplatform/<table>`, and never in it: readers take every file of a table's folder for a part of the table.
pub const BESIDE: &str = "_dataplatform";
/// Who may write a table: the newest number counts.
pub const OWNER: &str = "_dataplatform/owner";
/// Staged files of a table.
pub const STAGING: &str = "_dataplatform/staging";
/// Folders of a table that its owner writes anew.
pub const COMPACTION: &str = "_dataplatform/compaction";
/// Files that a rewind took from the readers of a table.
const REWOUND_FILES: &str = "_dataplatform/rewound";
/// What of a table is published.
pub const PROGRESS: &str = "_dataplatform/progress.json";
/// Of a table that a batch job writes: the versions of its intervals, and of what they read.
pub const INTERVALS: &str = "_dataplatform/intervals.json";
/// The log of a Delta table, in its folder.
pub const DELTA_LOG: &str = "_delta_log";
/// What stands before the URL of a Delta table where it is the root of an output: a folder alone does not say what it is.
pub const DELTA_ROOT: &str = "delta+";
/// Of a Delta table: the columns of the rows that its job writes, in the words of the format.
pub const DELTA_COLUMNS: &str = "_dataplatform/delta.json";
/// The columns of a table and their types.
pub const SCHEMA: &str = "_dataplatform/schema.json";
/// Records and bases that a rewind made void, below the job's folder.
pub const REWOUND: &str = "rewound";

/// Where format 1 kept the bookkeeping: in the table's folder.
pub mod format1 {
    /// Staged files.
    pub const STAGING: &str = "_staging";
    /// Files that a rewind took from the readers.
    pub const REWOUND: &str = "_rewound";
    /// What is published.
    pub const PROGRESS: &str = "_progress.json";

    /// Whether a file was staged there.
    pub fn is_stage(path: &str) -> bool {
        path.strip_prefix(STAGING).is_some_and(|rest| rest.starts_with('/'))
    }
}

/// Path of the object of a version in a folder: of a log record or a base.
pub fn slot(folder: &str, version: u64) -> String {
    format!("{folder}/{version:020}.json")
}

/// Path of a log record.
pub fn log_record(version: u64) -> String {
    slot(LOG, version)
}

/// Path of a base.
pub fn base(version: u64) -> String {
    slot(BASE, version)
}

/// Version in the name of a log record or a base; `None` for a foreign or temporary file.
pub fn version_of(path: &str) -> Option<u64> {
    let name = path.rsplit('/').next()?.strip_suffix(".json")?;
    if name.len() == 20 && name.bytes().all(|b| b.is_ascii_digit()) { name.parse().ok() } else { None }
}

/// Path of the `number`-th state object of an attempt. Unique per attempt: an abandoned one is never overwritten.
pub fn state_object(version: u64, epoch: u64, attempt: u64, number: usize) -> String {
    format!("{STATE}/{version:020}-{epoch}-{attempt}-{number}.arrow")
}

/// Path of the object of a reference, which the commit of this version is the first to use. What has this name has this
/// content.
pub fn reference_object(version: u64, epoch: u64, hash: &str) -> String {
    format!("{REFERENCE}/{version:020}-{epoch}-{hash}.arrow")
}

/// Version in the path of a state object, or of one of a reference.
pub fn state_version(path: &str) -> Option<u64> {
    let name = path.strip_prefix(STATE).or_else(|| path.strip_prefix(REFERENCE))?;
    name.strip_prefix('/')?.split('-').next()?.parse().ok()
}

/// The part of a path of an output's store that lies beside the table; `None` for a part of the table.
pub fn beside(path: &str) -> Option<&str> {
    path.strip_prefix(BESIDE)?.strip_prefix('/')
}

/// Path of the `number`-th owner of a table.
pub fn owner(number: u64) -> String {
    format!("{OWNER}/{number:020}.json")
}

/// Folder of the files that a log staged.
pub fn staging_of_log(log_id: &str) -> String {
    format!("{STAGING}/{log_id}")
}

/// Folder of the files that an owner of a log staged.
pub fn staging_folder(log_id: &str, epoch: u64) -> String {
    format!("{STAGING}/{log_id}/{epoch}")
}

/// Path of the `number`-th staged file of an attempt. The attempt's number is random: no two ever have one name.
pub fn staged_file(log_id: &str, epoch: u64, version: u64, attempt: u64, number: usize) -> String {
    format!("{}/{attempt:016x}-{version}-{number}.tmp", staging_folder(log_id, epoch))
}

/// Place below [`COMPACTION`] of the folders that an owner of a log stages.
pub fn compaction_of(log_id: &str, epoch: u64) -> String {
    format!("{log_id}-{epoch}")
}

/// Log and epoch in the path of a staged file.
pub fn staged_by(path: &str) -> Option<(&str, u64)> {
    let (log_id, rest) = path.strip_prefix(STAGING)?.strip_prefix('/')?.split_once('/')?;
    Some((log_id, rest.split('/').next()?.parse().ok()?))
}

/// Digits of a log id in the names of files.
const LOG_DIGITS: usize = 8;

/// First digits of a log id, as they stand in the names of files.
fn short(log_id: &str) -> String {
    log_id.chars().filter(char::is_ascii_hexdigit).take(LOG_DIGITS).collect()
}

/// Final name of the `number`-th file of a commit, which ends in `ending`. It carries the log id, so that a new log over old
/// output never gives two files one name.
pub fn final_file(job: &str, log_id: &str, version: u64, number: usize, ending: &str) -> String {
    format!("{job}-{}-{version}-{number}.{ending}", short(log_id))
}

/// Version of the commit that wrote a file, if its name says that this log wrote it and readers see it.
pub fn final_version(path: &str, log_id: &str) -> Option<u64> {
    let mut parts = stem(path)?.rsplitn(4, '-');
    let (_number, version, written_by) = (parts.next()?.parse::<u64>().ok()?, parts.next()?, parts.next()?);
    if written_by == short(log_id) { version.parse().ok() } else { None }
}

/// Digits of the number of an attempt in the name of a file.
const ATTEMPT_DIGITS: usize = 16;

/// Whether the name of a file says that it was written for a version of a Delta table, decided or not:
/// `<name>-<attempt>-<log>-<version>-<number>.parquet`.
pub fn is_of_attempt(path: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_number = |text: Option<&str>| text.is_some_and(|text| text.parse::<u64>().is_ok());
    let Some(stem) = path.rsplit('/').next().and_then(|name| name.strip_suffix(".parquet")) else { return false };
    let mut parts = stem.rsplit('-');
    is_number(parts.next())
        && is_number(parts.next())
        && parts.next().is_some_and(|log| log.len() == LOG_DIGITS && is_hex(log))
        // Of a merged file the attempt stands before its first version.
        && parts
            .find(|part| !is_number(part.strip_prefix(MERGED_FROM)))
            .is_some_and(|attempt| attempt.len() >= ATTEMPT_DIGITS && is_hex(attempt))
        && parts.next().is_some()
}

/// Final name of a file of a Delta table into which the files of the versions `first` to `last` of a log were merged. No two
/// attempts write one name.
pub fn merged_file(job: &str, log_id: &str, (first, last): (u64, u64), attempt: u64, number: usize) -> String {
    final_file(&format!("{job}-{attempt:016x}-{MERGED_FROM}{first}"), log_id, last, number, PARQUET)
}

/// Final name of a Parquet file in an object store into which the files of the versions `first` to `last` of a log were merged.
/// Whoever merges the same files gives it the same name.
pub fn merged_object(job: &str, log_id: &str, (first, last): (u64, u64)) -> String {
    final_file(&format!("{job}-{MERGED_FROM}{first}"), log_id, last, 0, PARQUET)
}

/// What stands before the first version in the name of such a file.
const MERGED_FROM: &str = "from";

/// First and last version of the files that were merged into this one, by its name and that of a log.
pub fn merged_versions(path: &str, log_id: &str) -> Option<(u64, u64)> {
    merged_of(path).filter(|(written_by, ..)| *written_by == short(log_id)).map(|(_, first, last)| (first, last))
}

/// Whether the rows of a file of a Delta table are in another one of its directory, into which its log merged them.
pub fn is_merged_into(path: &str, other: &str) -> bool {
    let Some((written_by, first, last)) = merged_of(other) else { return false };
    let parent = |path: &str| path.rsplit_once('/').map_or(0, |(parent, _)| parent.len());
    let version = stem(path).and_then(|stem| {
        let mut parts = stem.rsplitn(4, '-');
        let (_number, version, log) = (parts.next()?, parts.next()?, parts.next()?);
        (log == written_by).then(|| version.parse().ok())?
    });
    path != other
        && path[..parent(path)] == other[..parent(other)]
        && version.is_some_and(|version: u64| (first..=last).contains(&version))
}

/// Of files of a table those whose rows are in another one, into which they were merged: who merges in an object store has
/// published the one and not removed the others yet.
pub fn covered<'a>(paths: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for path in paths {
        folders.entry(path.rsplit_once('/').map_or("", |(folder, _)| folder)).or_default().push(path);
    }
    let mut covered = BTreeSet::new();
    for files in folders.into_values() {
        let merged: Vec<_> = files.iter().filter(|path| merged_of(path).is_some()).copied().collect();
        if !merged.is_empty() {
            covered.extend(files.into_iter().filter(|path| merged.iter().any(|other| covers(other, path))));
        }
    }
    covered
}

/// Whether a merged file has all rows of another file of its directory.
fn covers(merged: &str, path: &str) -> bool {
    let (Some((_, first, last)), true) = (merged_of(merged), is_merged_into(path, merged)) else { return false };
    match merged_of(path) {
        Some((_, from, to)) => first <= from && to <= last && (from, to) != (first, last),
        None => true,
    }
}

/// Log, first and last version in the name of a merged file.
fn merged_of(path: &str) -> Option<(&str, u64, u64)> {
    let mut parts = stem(path)?.rsplitn(5, '-');
    let (_number, last, log, from) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_log = log.len() == LOG_DIGITS && log.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some((log, from.strip_prefix(MERGED_FROM)?.parse().ok()?, last.parse().ok()?)).filter(|_| is_log)
}

/// The name of a file that readers see, without its ending.
fn stem(path: &str) -> Option<&str> {
    path.rsplit('/').next()?.strip_suffix(visible_ending(path)?)?.strip_suffix('.')
}

/// Number in the name of a file that a commit wrote.
pub fn final_number(path: &str) -> Option<usize> {
    stem(path)?.rsplit('-').next()?.parse().ok()
}

/// Whether plain readers (`**/*.parquet`, `**/*.csv`) take an object below an output's root for a file of the table.
pub fn is_visible(path: &str) -> bool {
    visible_ending(path).is_some()
}

/// How the name of a file ends that plain readers take for a file of the table.
pub fn visible_ending(path: &str) -> Option<&'static str> {
    let is_hidden = path.split('/').any(|part| part.starts_with(['_', '.']));
    let ends = |known: &&str| path.strip_suffix(*known).is_some_and(|rest| rest.ends_with('.'));
    ENDINGS.into_iter().find(ends).filter(|_| !is_hidden)
}

/// How names of published files end.
const ENDINGS: [&str; 7] = [PARQUET, CSV, NDJSON, "csv.gz", "csv.zst", "ndjson.gz", "ndjson.zst"];

/// How names of files of text end: by what is in them, and how they are packed (`gz`, `zst`, or nothing).
pub fn text_ending(kind: &'static str, packing: &str) -> &'static str {
    ENDINGS.into_iter().find(|ending| text_of(ending) == Some((kind, packing))).unwrap_or(kind)
}

/// What is in files of text whose names end so, and how they are packed; `None`: it is no text.
pub fn text_of(ending: &str) -> Option<(&str, &str)> {
    let (kind, packing) = ending.split_once('.').unwrap_or((ending, ""));
    (kind != PARQUET).then_some((kind, packing))
}

/// How names of Parquet files end.
pub const PARQUET: &str = "parquet";

/// How names of CSV files end.
pub const CSV: &str = "csv";

/// How names of files with a JSON object in each line end.
pub const NDJSON: &str = "ndjson";

/// Where a rewind puts a file that readers must not see any more. `version` is that of the `rewind` record.
pub fn rewound_file(log_id: &str, version: u64, path: &str) -> String {
    format!("{}/{path}.rewound", rewound_files(log_id, version))
}

/// The folder of such files, below the output's root.
pub fn rewound_files(log_id: &str, version: u64) -> String {
    format!("{REWOUND_FILES}/{}-{version}", short(log_id))
}

/// The folder of everything that rewinds took from the readers of a table.
pub fn rewound() -> &'static str {
    REWOUND_FILES
}

/// Where a rewind puts a record or a base that is void.
pub fn rewound_object(version: u64, path: &str) -> String {
    format!("{REWOUND}/{version:020}/{path}")
}

/// The value in the name of a directory of rows whose value is null, or an empty text.
pub const NULL_DIRECTORY: &str = "__HIVE_DEFAULT_PARTITION__";

/// Column and value in the name of a Hive directory, `column=value`; a value of `None` is null.
pub fn parse_directory(name: &str) -> Option<(String, Option<String>)> {
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (column, value) = name.split_once('=')?;
    Some((decoded(column), (value != NULL_DIRECTORY).then(|| decoded(value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_names_and_foreign_names_are_ignored() {
        assert_eq!(version_of(&log_record(42)), Some(42));
        assert_eq!(version_of(&base(u64::MAX)), Some(u64::MAX));
        for foreign in
            ["log/42.json", "log/00000000000000000042.json.tmp", "log/.00000000000000000042.json", "log/x", ""]
        {
            assert_eq!(version_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_staged_file_never_looks_like_a_table_and_tells_who_staged_it() {
        let path = staged_file("0f8fad5b-d9cb", 3, 17, 0xa1, 0);
        assert_eq!(path, "_dataplatform/staging/0f8fad5b-d9cb/3/00000000000000a1-17-0.tmp");
        assert_eq!(staged_by(&path), Some(("0f8fad5b-d9cb", 3)));
        for other in ["date=2026-01-01/x.parquet", "_staging/1/17-1-0.tmp", "_dataplatform/staging/x", PROGRESS] {
            assert_eq!(staged_by(other), None, "{other}");
        }
        assert!(
            format1::is_stage("_staging/1/17-1-0.tmp")
                && !format1::is_stage("_staging2/x")
                && !format1::is_stage(&path)
        );
        assert_eq!(beside(PROGRESS), Some("progress.json"));
        assert_eq!(beside("_dataplatformx/progress.json"), None);
    }

    #[test]
    fn a_final_name_tells_its_version_to_its_own_log_only() {
        let (log, other) = ("0f8fad5b-d9cb-469f-a165-70867728950e", "1f8fad5b-d9cb-469f-a165-70867728950e");
        let path = format!("date=2026-01-01/{}", final_file("a-job-7", log, 17, 2, "parquet"));
        assert_eq!(final_version(&path, log), Some(17));
        assert_eq!(final_version(&path, other), None);
        let csv = final_file("a-job-7", log, 17, 2, CSV);
        assert_eq!((final_version(&csv, log), visible_ending(&csv)), (Some(17), Some(CSV)));
        assert_eq!(visible_ending(&format!("_dataplatform/rewound/{csv}")), None);
        let packed = final_file("a-job-7", log, 17, 2, text_ending(NDJSON, "zst"));
        assert_eq!(packed, "a-job-7-0f8fad5b-17-2.ndjson.zst");
        assert_eq!((final_version(&packed, log), final_number(&packed)), (Some(17), Some(2)));
        assert_eq!(visible_ending(&packed).and_then(text_of), Some((NDJSON, "zst")));
        assert_eq!((text_ending(CSV, ""), text_of(PARQUET), visible_ending("a.parquet.gz")), (CSV, None, None));
        for foreign in
            ["part-0.parquet", "a-0f8fad5b-x-0.parquet", "a-0f8fad5b-17.parquet", "a-0f8fad5b-17-0.parquet.rewound"]
        {
            assert_eq!(final_version(foreign, log), None, "{foreign}");
        }
        let aside = rewound_file(log, 20, &path);
        assert_eq!(aside, format!("_dataplatform/rewound/0f8fad5b-20/{path}.rewound"));
        assert!(!is_visible(&aside) && !is_visible("_staging/1/x.parquet") && is_visible(&path));
        assert_eq!(final_version(&aside, log), None);
    }

    #[test]
    fn the_name_of_a_file_of_a_delta_table_says_that_it_is_one() {
        let log = "0f8fad5b-d9cb-469f-a165-70867728950e";
        let of_attempt = final_file("a-job-7-00000000000000a1", log, 17, 2, PARQUET);
        assert!(is_of_attempt(&format!("date=2026-01-01/{of_attempt}")));
        assert!(is_of_attempt(&merged_file("a-job-7", log, (5, 17), 0xa1, 0)));
        for other in [
            final_file("a-job-7", log, 17, 2, PARQUET),
            final_file("00000000000000a1", log, 17, 2, PARQUET),
            "daily-20260217.parquet".to_owned(),
            "part-00000-0f8fad5b-d9cb-469f-a165-70867728950e-c000.snappy.parquet".to_owned(),
        ] {
            assert!(!is_of_attempt(&other), "{other}");
        }
    }

    #[test]
    fn the_name_of_a_merged_file_tells_what_was_merged() {
        let (log, other) = ("0f8fad5b-d9cb-469f-a165-70867728950e", "1f8fad5b-d9cb-469f-a165-70867728950e");
        let merged = format!("date=2026-01-01/{}", merged_file("a-from3", log, (5, 17), 0xa1, 0));
        assert_eq!(merged, "date=2026-01-01/a-from3-00000000000000a1-from5-0f8fad5b-17-0.parquet");
        assert_eq!((final_version(&merged, log), merged_versions(&merged, log)), (Some(17), Some((5, 17))));
        assert_eq!(merged_versions(&merged, other), None);
        let written =
            |log: &str, version| format!("date=2026-01-01/{}", final_file("a-00a1", log, version, 3, PARQUET));
        assert!(is_merged_into(&written(log, 5), &merged) && is_merged_into(&written(log, 17), &merged));
        for not in [
            written(log, 4),
            written(log, 18),
            written(other, 7),
            merged.clone(),
            written(log, 7).replace("01-01", "01-02"),
            "date=2026-01-01/part-7-0.parquet".to_owned(),
        ] {
            assert!(!is_merged_into(&not, &merged), "{not}");
        }
        assert_eq!(merged_versions(&written(log, 7), log), None);
        assert!(!is_merged_into(&written(log, 7), &written(log, 8)));
    }

    #[test]
    fn what_a_merged_object_has_is_not_read_twice() {
        let log = "0f8fad5b-d9cb-469f-a165-70867728950e";
        let merged = |versions| format!("d=1/{}", merged_object("a-job", log, versions));
        assert_eq!(merged((5, 17)), "d=1/a-job-from5-0f8fad5b-17-0.parquet");
        assert!(!is_of_attempt(&merged((5, 17))), "it belongs to no Delta table");
        let written = |version, number| format!("d=1/{}", final_file("a-job", log, version, number, PARQUET));
        let (whole, inner, other) = (merged((5, 17)), merged((5, 9)), merged((17, 20)));
        let (four, nine, again) = (written(4, 0), written(9, 0), written(9, 1));
        let elsewhere = nine.replace("d=1", "d=2");
        let foreign = "d=1/part-9-0.parquet".to_owned();
        let all = [&whole, &inner, &other, &four, &nine, &again, &elsewhere, &foreign].map(String::as_str);
        assert_eq!(covered(all), BTreeSet::from([inner.as_str(), &nine, &again]));
        assert_eq!(covered([four.as_str(), &nine]), BTreeSet::new());
        // Files of one commit.
        let of_nine = merged((9, 9));
        assert_eq!(covered([of_nine.as_str(), &nine, &again]), BTreeSet::from([nine.as_str(), &again]));
        assert_eq!(covered(["x-from1-5-9-0.parquet", "x-5-7-0.parquet"]), BTreeSet::new(), "names of somebody else");
    }

    #[test]
    fn a_final_name_carries_the_log_and_the_version() {
        let name = final_file("event-aggregation", "0f8fad5b-d9cb-469f-a165-70867728950e", 17, 2, "parquet");
        assert_eq!(name, "event-aggregation-0f8fad5b-17-2.parquet");
    }
}
