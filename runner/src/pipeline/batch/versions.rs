//! `intervals.json`, beside a table of a batch job: the version of each of its intervals, and of what they read. So it is
//! known which intervals are stale: an interval of an input was replaced after they had read it. docs/adr/0027.
//!
//! The version of an interval is the version of the log record that decided it. Versions of one log only grow, so of what
//! an interval read of an input the greatest one is enough: whatever is replaced later has a greater one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::faults::Faults;
use crate::pipeline::batch::inputs::Input;
use crate::pipeline::batch::interval::Interval;
use crate::pipeline::batch::log::State;
use crate::pipeline::error::JobError;
use crate::storage::{SharedStore, StoreError, paths};

/// Intervals of which versions are kept, those that were replaced last: a year of hours. More would make every
/// replacement slow, since the file is written with each.
pub(crate) const KEPT_MAX: usize = 9_000;

/// What an interval read, by input.
pub(crate) type Reads = BTreeMap<String, Read>;

/// What an interval read of one input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Read {
    /// The log that wrote the input.
    pub(crate) log_id: String,
    /// The greatest version of its intervals, as far as they were read.
    pub(crate) version: u64,
    /// Begin of the times that were read.
    pub(crate) start: i64,
    /// Their end.
    pub(crate) end: i64,
}

/// An interval as it is in the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// The record that decided it.
    pub(crate) version: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) reads: Reads,
}

/// `intervals.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Versions {
    /// The log that writes the table.
    pub(crate) log_id: String,
    pub(crate) intervals: Vec<Version>,
}

/// An interval that an input has overtaken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stale {
    pub(crate) interval: Interval,
    /// The input, and the interval of it that was replaced last.
    pub(crate) input: String,
    pub(crate) replaced: Interval,
}

impl Versions {
    /// The greatest version of the intervals that a time touches, and the interval that has it.
    fn newest(&self, times: Interval) -> Option<&Version> {
        let touching = self.intervals.iter().filter(|known| known.start < times.end && times.start < known.end);
        touching.max_by_key(|known| known.version)
    }
}

/// Reads what stands beside a table; `None`: nothing, or nothing that can be read.
pub(crate) async fn read(store: &SharedStore) -> Result<Option<Versions>, StoreError> {
    let bytes = store.get(paths::INTERVALS).await?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Tells the versions of a log's intervals, in one piece.
pub(super) async fn write(store: &SharedStore, state: &State) -> Result<(), StoreError> {
    let told = Versions { log_id: state.start.log_id.clone(), intervals: state.versions.values().cloned().collect() };
    if told.intervals.is_empty() || read(store).await?.as_ref() == Some(&told) {
        return Ok(());
    }
    let bytes = serde_json::to_vec(&told).expect("plain fields are always JSON");
    store.replace(paths::INTERVALS, bytes.into()).await
}

/// What the inputs have for these times now. Inputs whose intervals have no versions are not among them.
pub(super) async fn of_inputs(inputs: &[Input], times: Interval, faults: &Arc<dyn Faults>) -> Result<Reads, JobError> {
    let mut reads = Reads::new();
    for input in inputs.iter().filter(|input| input.time_column.is_some()) {
        let Some(told) = read(&input.location.open_table(faults)?).await? else { continue };
        let version = told.newest(times).map_or(0, |newest| newest.version);
        let read = Read { log_id: told.log_id, version, start: times.start, end: times.end };
        reads.insert(input.name.clone(), read);
    }
    Ok(reads)
}

/// The intervals of a log that tables have overtaken, oldest first, by what stands beside the tables: for those who know the log
/// and not the job. An input that another log writes now is not among the tables that are known.
pub(crate) fn stale_by_logs(state: &State, tables: &BTreeMap<String, Versions>) -> Vec<Stale> {
    overtaken(state, |_, read| tables.get(&read.log_id))
}

/// The intervals of a log that inputs have overtaken, oldest first.
pub(crate) async fn stale(state: &State, inputs: &[Input], faults: &Arc<dyn Faults>) -> Result<Vec<Stale>, JobError> {
    let mut told = BTreeMap::new();
    for input in inputs {
        if let Some(versions) = read(&input.location.open_table(faults)?).await? {
            told.insert(input.name.as_str(), versions);
        }
    }
    Ok(overtaken(state, |input, _| told.get(input)))
}

fn overtaken<'a>(state: &State, now: impl Fn(&str, &Read) -> Option<&'a Versions>) -> Vec<Stale> {
    let overtaken = state.versions.values().filter_map(|own| {
        let interval = Interval { start: own.start, end: own.end };
        own.reads.iter().find_map(|(input, read)| {
            overtakes(read, now(input, read)?).map(|replaced| Stale { interval, input: input.clone(), replaced })
        })
    });
    overtaken.collect()
}

/// The interval of an input that was replaced after it was read.
fn overtakes(read: &Read, now: &Versions) -> Option<Interval> {
    let newest = now.newest(Interval { start: read.start, end: read.end })?;
    // Versions of another log say nothing of those that were read, but that log did write these times since.
    let is_newer = now.log_id != read.log_id || newest.version > read.version;
    is_newer.then_some(Interval { start: newest.start, end: newest.end })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(start: i64, version: u64) -> Version {
        Version { start, end: start + 10, version, reads: Reads::new() }
    }

    #[test]
    fn an_interval_is_stale_when_something_that_it_read_was_replaced_since() {
        let now = |log: &str, intervals: &[(i64, u64)]| Versions {
            log_id: log.to_owned(),
            intervals: intervals.iter().map(|(start, number)| version(*start, *number)).collect(),
        };
        let read = Read { log_id: "a".to_owned(), version: 7, start: 10, end: 30 };
        for (now, expected) in [
            (now("a", &[(0, 9), (10, 5), (20, 7), (30, 11)]), None),
            (now("a", &[(10, 8), (20, 7)]), Some(10)),
            (now("a", &[(10, 8), (20, 12)]), Some(20)),
            // It was not there when it was read.
            (now("a", &[(20, 9)]), Some(20)),
            (now("a", &[]), None),
            // Another log, from its beginning.
            (now("b", &[(0, 9), (30, 1)]), None),
            (now("b", &[(20, 1)]), Some(20)),
        ] {
            assert_eq!(overtakes(&read, &now).map(|replaced| replaced.start), expected, "{now:?}");
        }
    }
}
