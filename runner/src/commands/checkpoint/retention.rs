//! Files that somebody removed on purpose, because they were old.
//!
//! Pure.

use chrono::NaiveDate;

use crate::tables::hive::parse_directory;

/// What was said of files that are not there any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Files of earlier days were removed; `None` if nobody said so.
    pub(crate) since: Option<NaiveDate>,
}

impl Retention {
    /// Whether a file that was written at `clock` may have been removed. Its day is the earliest date in the names of its
    /// directories, or, without one, the day when it was written.
    pub(crate) fn covers(&self, path: &str, clock: i64) -> bool {
        let Some(since) = self.since else { return false };
        let date = |value: String| value.get(..10).and_then(|day| day.parse::<NaiveDate>().ok());
        let folders = path.split('/').filter_map(parse_directory).filter_map(|(_, value)| date(value?));
        let written = || chrono::DateTime::from_timestamp_micros(clock).map(|time| time.date_naive());
        folders.min().or_else(written).is_some_and(|day| day < since)
    }

    /// What else a missing file may mean, as long as nobody said so.
    pub(crate) fn hint(&self) -> &'static str {
        match self.since {
            None => "; if it was removed on purpose because it was old, say so with --retained-since DATE",
            Some(_) => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_as_old_as_its_directory_says_or_as_when_it_was_written() {
        let retention = Retention { since: Some("2026-02-16".parse().unwrap()) };
        let day = |text: &str| {
            let date: NaiveDate = text.parse().unwrap();
            date.and_hms_opt(12, 0, 0).unwrap().and_utc().timestamp_micros()
        };
        for (path, written, expected) in [
            ("date=2026-02-15/x.parquet", "2026-03-01", true),
            ("date=2026-02-16/x.parquet", "2026-01-01", false),
            ("kind=a/date=2026-02-15/x.parquet", "2026-03-01", true),
            ("hour=2026-02-15 23%3A00%3A00/x.parquet", "2026-03-01", true),
            ("kind=a/x.parquet", "2026-02-15", true),
            ("x.parquet", "2026-02-16", false),
        ] {
            assert_eq!(retention.covers(path, day(written)), expected, "{path}");
            assert!(!Retention::default().covers(path, day(written)));
        }
    }
}
