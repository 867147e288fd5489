//! Names of the objects below a job's checkpoint folder and below an output.
//!
//! Pure. Nothing that a plain reader could take for a table ends in `.parquet`, `.json` or `.csv` before it is published.

/// The job log.
pub const LOG: &str = "log";
/// Bases of the log.
pub const BASE: &str = "base";
/// State objects.
pub const STATE: &str = "state";
/// Staged files, below an output's root.
pub const STAGING: &str = "_staging";
/// What is published, below an output's root.
pub const PROGRESS: &str = "_progress.json";

/// Path of a log record.
pub fn log_record(version: u64) -> String {
    format!("{LOG}/{version:020}.json")
}

/// Path of a base.
pub fn base(version: u64) -> String {
    format!("{BASE}/{version:020}.json")
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

/// Version in the path of a state object.
pub fn state_version(path: &str) -> Option<u64> {
    path.strip_prefix(STATE)?.strip_prefix('/')?.split('-').next()?.parse().ok()
}

/// Folder of the files that an owner staged.
pub fn staging_folder(epoch: u64) -> String {
    format!("{STAGING}/{epoch}")
}

/// Path of the `number`-th staged file of an attempt.
pub fn staged_file(epoch: u64, version: u64, attempt: u64, number: usize) -> String {
    format!("{STAGING}/{epoch}/{version}-{attempt}-{number}.tmp")
}

/// Epoch in the path of a staged file.
pub fn staging_epoch(path: &str) -> Option<u64> {
    path.strip_prefix(STAGING)?.strip_prefix('/')?.split('/').next()?.parse().ok()
}

/// Final name of the `number`-th file of a commit. It carries the log id, so that a new log over old output never gives
/// two files one name.
pub fn final_file(job: &str, log_id: &str, version: u64, number: usize) -> String {
    let log_id: String = log_id.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    format!("{job}-{log_id}-{version}-{number}.parquet")
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
    fn a_staged_file_never_looks_like_a_table_and_tells_its_epoch() {
        let path = staged_file(3, 17, 1, 0);
        assert!(path.ends_with(".tmp"));
        assert_eq!(staging_epoch(&path), Some(3));
        assert_eq!(staging_epoch("date=2026-01-01/x.parquet"), None);
    }

    #[test]
    fn a_final_name_carries_the_log_and_the_version() {
        let name = final_file("event-aggregation", "0f8fad5b-d9cb-469f-a165-70867728950e", 17, 2);
        assert_eq!(name, "event-aggregation-0f8fad5b-17-2.parquet");
    }
}
