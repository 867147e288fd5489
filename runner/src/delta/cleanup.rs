//! Which versions of a log nobody needs any more, by what the table says (`delta.logRetentionDuration`): whoever reads an older
//! state of the table finds everything of that time, and a log does not grow without end.
//!
//! ```text
//! 0 1 2 … 100 … │ 200 201 … 300 … 412        200: the newest checkpoint whose version is older than the retention
//!  removed      │ stays, from the checkpoint 200 on
//! ```
//!
//! Readers begin at a checkpoint, and every state behind that one can still be read. The age of a version is what its writer
//! says of it (`commitInfo.timestamp`), since files are copied and restored; a version that does not say it is not old.

use serde::Deserialize;

use crate::clock::{Clock, SystemClock};
use crate::delta::{DeltaError, DeltaLog, Head, Metadata, replay, version_path};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 24 * 3_600 * SECOND;
/// How long versions are kept where the table does not say it, in microseconds: what other writers take.
const RETENTION: i64 = 30 * DAY;
/// A process looks at most so often, in microseconds: listing the log of a month takes hundreds of requests.
const EVERY: i64 = DAY;

impl Metadata {
    /// How long versions are kept, in microseconds; `None`: for ever, or for a time that nobody understands.
    fn log_retention(&self) -> Option<i64> {
        if self.property("delta.enableExpiredLogCleanup").is_some_and(|value| value.eq_ignore_ascii_case("false")) {
            return None;
        }
        self.property("delta.logRetentionDuration").map_or(Some(RETENTION), interval)
    }
}

/// An interval in the words of Spark (`interval 1 week 2 days`), in microseconds.
fn interval(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_lowercase();
    let words: Vec<_> = text.strip_prefix("interval").unwrap_or(&text).split_whitespace().collect();
    if words.is_empty() || !words.len().is_multiple_of(2) {
        return None;
    }
    let part = |pair: &[&str]| {
        let unit = match pair[1].strip_suffix('s').unwrap_or(pair[1]) {
            "week" => 7 * DAY,
            "day" => DAY,
            "hour" => 3_600 * SECOND,
            "minute" => 60 * SECOND,
            "second" => SECOND,
            "millisecond" => 1_000,
            "microsecond" => 1,
            _ => return None,
        };
        pair[0].parse::<i64>().ok()?.checked_mul(unit)
    };
    let sum = words.chunks(2).try_fold(0_i64, |sum, pair| sum.checked_add(part(pair)?))?;
    (sum >= 0).then_some(sum)
}

/// What a version says of its making.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    commit_info: Option<CommitInfo>,
}

#[derive(Deserialize)]
struct CommitInfo {
    /// Milliseconds since 1970.
    timestamp: Option<i64>,
}

impl DeltaLog {
    /// Removes what is older than the table keeps, if it is time to look. Readers of the table as it is need none of it: what
    /// goes wrong is told and tried again.
    pub(super) async fn clean_if_due(&self, head: &Head) {
        let now = SystemClock.now();
        if self.cleaned.get().is_some_and(|last| now.saturating_sub(last) < EVERY) {
            return;
        }
        self.cleaned.set(Some(now));
        match self.clean(head, now).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(table = self.root(), removed, "removed old objects of the log of the table"),
            Err(error) => tracing::warn!(%error, "cannot remove old objects of the log of the table"),
        }
    }

    /// Removes what is older than the table keeps; gives the number of objects.
    pub(super) async fn clean(&self, head: &Head, now: i64) -> Result<usize, DeltaError> {
        let Some(retention) = head.metadata.log_retention() else { return Ok(0) };
        let listed: Vec<_> = self.store().list(super::LOG).await?.into_iter().map(|entry| entry.path).collect();
        let checkpoints = replay::whole_checkpoints(&listed);
        // Versions are older the smaller they are: the last one that is old is searched for.
        let (mut old, mut rest) = (0, checkpoints.len());
        while old < rest {
            let middle = usize::midpoint(old, rest);
            match self.made(checkpoints[middle]).await?.is_some_and(|made| made < now.saturating_sub(retention)) {
                true => old = middle + 1,
                false => rest = middle,
            }
        }
        let Some(first) = old.checked_sub(1).map(|last| checkpoints[last]) else { return Ok(0) };
        let before: Vec<_> =
            listed.into_iter().filter(|path| replay::removable(path).is_some_and(|version| version < first)).collect();
        // Oldest first, so that what is left after a crash begins at one place.
        self.store().delete_all(&before).await?;
        Ok(before.len())
    }

    /// When a version was made, in microseconds since 1970, as far as it says so.
    async fn made(&self, version: u64) -> Result<Option<i64>, DeltaError> {
        let Some(content) = self.store().get(&version_path(version)).await? else { return Ok(None) };
        let mut lines = serde_json::Deserializer::from_slice(&content).into_iter::<Made>().filter_map(Result::ok);
        let made = lines.find_map(|line| line.commit_info?.timestamp);
        Ok(made.and_then(|millis| millis.checked_mul(1_000)))
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;

    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use serde_json::json;

    use super::*;
    use crate::delta::action::NewVersion;
    use crate::delta::columns::Columns;
    use crate::delta::protocol::Protocol;
    use crate::faults::NoFaults;
    use crate::storage::local::LocalStore;

    const NOW: i64 = 1_767_225_600 * SECOND;

    #[test]
    fn intervals_are_those_of_spark() {
        for (text, expected) in [
            ("interval 30 days", Some(30 * DAY)),
            ("INTERVAL 1 WEEK 2 day", Some(9 * DAY)),
            ("0 seconds", Some(0)),
            ("interval 36 hours", Some(DAY + DAY / 2)),
            ("interval 5 milliseconds 7 microseconds", Some(5_007)),
            ("interval 1 month", None),
            ("interval", None),
            ("interval 1", None),
            ("interval -1 days", None),
            ("interval 9999999999999999 weeks", None),
        ] {
            assert_eq!(interval(text), expected, "{text}");
        }
    }

    /// A log with a checkpoint in every tenth of 45 versions, a day between two versions. `untold`: of the versions up to this
    /// one nobody says when they were made. `looked`: when its writer looked for old ones.
    async fn log(
        folder: &std::path::Path,
        properties: &[(&str, &str)],
        untold: u64,
        looked: Option<i64>,
    ) -> (DeltaLog, Head) {
        let store = LocalStore::open(folder, Arc::new(NoFaults)).unwrap();
        let log = DeltaLog::new(Rc::new(store));
        log.cleaned.set(looked);
        let columns = Columns::of(&Schema::new(vec![Field::new("n", DataType::Int64, true)]), &[]).unwrap();
        let mut head = None;
        for version in 0..=45 {
            let mut new = NewVersion::of("WRITE", json!({}));
            new.writer("w", i64::try_from(version).unwrap());
            if version == 0 {
                new.protocol(&Protocol::of_new_table(false));
                new.new_table(columns.schema_string(), columns.partition_by());
            }
            let day = i64::try_from(45 - version).unwrap() * DAY;
            let lines = String::from_utf8(new.bytes().to_vec()).unwrap();
            let lines = lines.lines().map(|line| {
                let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
                if let Some(info) = line.get_mut("commitInfo") {
                    info["timestamp"] =
                        if version <= untold && untold > 0 { json!(null) } else { json!((NOW - day) / 1_000) };
                }
                if let Some(data) = line.get_mut("metaData") {
                    let all = properties.iter().chain(&[("delta.checkpointInterval", "10")]);
                    data["configuration"] = all.map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
                }
                line.to_string() + "\n"
            });
            log.append(&mut head, lines.collect::<String>().into()).await.unwrap();
            log.checkpoint_if_due(head.as_mut().unwrap()).await;
        }
        std::fs::write(folder.join("_delta_log/00000000000000000003.crc"), "{}").unwrap();
        (log, head.unwrap())
    }

    /// The first version that is left after a clean, and how many objects went.
    async fn cleaned(properties: &[(&str, &str)], untold: u64) -> (u64, usize) {
        let folder = tempfile::tempdir().unwrap();
        let (log, head) = log(folder.path(), properties, untold, Some(SystemClock.now())).await;
        let removed = log.clean(&head, NOW).await.unwrap();
        assert_eq!(log.clean(&head, NOW).await.unwrap(), 0, "once more there is nothing");
        let first = (0..).find(|version| folder.path().join(version_path(*version)).exists()).unwrap();
        for version in first..=45 {
            assert!(folder.path().join(version_path(version)).exists(), "{version}");
        }
        let mut read = log.read().await.unwrap().unwrap();
        assert_eq!((read.version, read.writer("t", "w").unwrap()), (45, Some(45)));
        (first, removed)
    }

    #[tokio::test]
    async fn a_writer_removes_old_versions_behind_a_checkpoint_and_looks_once_a_day() {
        let folder = tempfile::tempdir().unwrap();
        // All of these versions are old by now.
        let (log, head) = log(folder.path(), &[], 0, None).await;
        let first = (0..).find(|version| folder.path().join(version_path(*version)).exists()).unwrap();
        assert_eq!(first, 10, "the first checkpoint was a reason to look, and the next ones came too soon");
        log.cleaned.set(None);
        log.clean_if_due(&head).await;
        assert!(!folder.path().join(version_path(39)).exists() && folder.path().join(version_path(40)).exists());
    }

    #[tokio::test]
    async fn what_is_older_than_the_table_keeps_goes_and_what_readers_need_stays() {
        let days = |days| ("delta.logRetentionDuration", days);
        for (properties, untold, first, removed) in [
            // Version 15 is 30 days old: the checkpoint before it is 10.
            (&[][..], 0, 10, 11),
            (&[days("interval 5 days")][..], 0, 30, 30 + 2 + 1),
            (&[days("interval 4 days")][..], 0, 40, 40 + 3 + 1),
            (&[days("interval 60 days")][..], 0, 0, 0),
            (&[days("interval 2 months")][..], 0, 0, 0),
            (&[days("interval 5 days"), ("delta.enableExpiredLogCleanup", "false")][..], 0, 0, 0),
            (&[][..], 45, 0, 0),
        ] {
            assert_eq!(cleaned(properties, untold).await, (first, removed), "{properties:?}");
        }
    }
}
