//! Everything that lies in the log of a job, read without judging: for those who look at a log, check it or repair it. A
//! start reads less (see [`SlotLog::read`](crate::checkpoint::slot_log::SlotLog::read)) and must come to the same state.
//!
//! Reads only.

use std::collections::BTreeMap;

use crate::checkpoint::decide::{self, NextSlot};
use crate::checkpoint::job_state::JobState;
use crate::checkpoint::record::{self, Body, Record, RecordError, Rewind};
use crate::checkpoint::slot_log::{Fold, SlotLog, base_path, record_path};
use crate::storage::checksum::checksum;
use crate::storage::{ObjectEntry, SharedStore, StoreError, paths};

/// How often a folder is read again because its owner collected garbage meanwhile.
const READS_MAX: u32 = 5;

/// One object of the log.
#[derive(Clone, Debug)]
pub struct Slot<T> {
    /// Length.
    pub bytes: u64,
    /// xxh3 of the object, 16 hexadecimal digits.
    pub xxh3: String,
    /// What it says, or why it cannot be read.
    pub content: Result<T, RecordError>,
}

/// All objects of a log, by version.
#[derive(Clone, Debug)]
pub struct LogSurvey<F: Fold> {
    /// The records.
    pub records: BTreeMap<u64, Slot<F::Record>>,
    /// The bases.
    pub bases: BTreeMap<u64, Slot<F>>,
    /// The state objects that are there.
    pub state: Vec<ObjectEntry>,
}

/// All objects of the log of a streaming job.
pub type Survey = LogSurvey<JobState>;

/// Why the log cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// At which version.
    pub version: u64,
    /// What is wrong.
    pub problem: String,
}

/// How far the log can be read.
#[derive(Clone, Debug)]
pub struct Head<F> {
    /// The job as of the last version that can be reached; `None` when no base and no record 0 can be read.
    pub state: Option<F>,
    /// What stands behind it.
    pub damage: Option<Damage>,
}

impl<F: Fold> LogSurvey<F> {
    /// Reads everything.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn read(store: &SharedStore) -> Result<Self, StoreError> {
        let log = SlotLog::<F>::new(store);
        let mut reads = 0;
        loop {
            let bases = log.bases().await?;
            let survey = Self {
                records: slots(store, log.records().await?, record_path::<F>).await?,
                bases: slots(store, log.bases().await?, base_path::<F>).await?,
                state: store.list(paths::STATE).await?,
            };
            reads += 1;
            // An owner at work removes old records once it has written a base.
            if log.bases().await? == bases || reads == READS_MAX {
                return Ok(survey);
            }
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.bases.is_empty()
    }

    /// The highest version of any object.
    pub fn last_version(&self) -> u64 {
        let last = |version: Option<u64>| version.unwrap_or_default();
        last(self.records.keys().last().copied()).max(last(self.bases.keys().last().copied()))
    }

    /// The records and bases that can be read.
    pub fn readable(&self) -> impl Iterator<Item = (u64, &F::Record)> {
        self.records.iter().filter_map(|(version, slot)| Some((*version, slot.content.as_ref().ok()?)))
    }

    /// The newest base that can be read.
    pub fn newest_base(&self) -> Option<&F> {
        self.bases.values().rev().find_map(|slot| slot.content.as_ref().ok())
    }

    /// The job as a start finds it: from the newest readable base to the end of the log, or to what cannot be read.
    pub fn head(&self) -> Head<F> {
        match self.newest_base().cloned().or_else(|| self.beginning()) {
            Some(state) => {
                let (state, damage) = self.walk(state, u64::MAX, |_, _, _| ());
                Head { state: Some(state), damage }
            }
            None if self.is_empty() => Head { state: None, damage: None },
            None => {
                let problem = match self.records.get(&0).map(|slot| &slot.content) {
                    Some(Err(error)) => error.to_string(),
                    _ => "it is not there, and no base can be read".to_owned(),
                };
                Head { state: None, damage: Some(Damage { version: 0, problem }) }
            }
        }
    }

    /// The job as of a version that some readable base, or record 0, leads to.
    pub fn state_at(&self, version: u64) -> Option<F> {
        self.led_to(version, self.bases.range(..=version))
    }

    /// The job as of a version from what is older than it: what a base of that version must say.
    pub fn folded(&self, version: u64) -> Option<F> {
        self.led_to(version, self.bases.range(..version))
    }

    fn led_to<'a>(&self, version: u64, bases: impl DoubleEndedIterator<Item = (&'a u64, &'a Slot<F>)>) -> Option<F>
    where
        F: 'a,
    {
        let bases = bases.rev().filter_map(|(_, slot)| slot.content.as_ref().ok().cloned());
        let mut begin = bases.chain(self.beginning());
        begin.find_map(|state| {
            let (state, _) = self.walk(state, version, |_, _, _| ());
            (state.version() == version).then_some(state)
        })
    }

    /// The job before any readable record: the oldest from which the log can be followed.
    pub fn oldest(&self) -> Option<F> {
        self.beginning().or_else(|| self.bases.values().find_map(|slot| slot.content.as_ref().ok().cloned()))
    }

    fn beginning(&self) -> Option<F> {
        F::begin(self.records.get(&0)?.content.as_ref().ok()?)
    }

    /// Follows the log from `state` to `until` at most, and shows each record with the state before it and after it.
    pub fn walk(&self, mut state: F, until: u64, mut visit: impl FnMut(&F, &F::Record, &F)) -> (F, Option<Damage>) {
        let listed: Vec<_> = self.records.keys().copied().collect();
        loop {
            let (version, behind_gap) = match decide::next_slot(&listed, state.version()) {
                NextSlot::Following(next) => (next, false),
                NextSlot::BehindGap(next) => (next, true),
                NextSlot::End => return (state, None),
            };
            if version > until {
                return (state, None);
            }
            let damaged = |version, problem| Some(Damage { version, problem });
            let record = match &self.records[&version].content {
                Ok(record) if !behind_gap || F::closes_gap(record) => record,
                Err(error) if !behind_gap => return (state, damaged(version, error.to_string())),
                _ => {
                    let missing = state.version() + 1;
                    return (state, damaged(missing, "it is missing, and there are later ones".to_owned()));
                }
            };
            let mut after = state.clone();
            if let Err(error) = after.apply(version, record) {
                return (state, damaged(version, error.problem));
            }
            visit(&state, record, &after);
            state = after;
        }
    }
}

impl Survey {
    /// Root and name of every output that the job ever had, as far as that can be read.
    pub fn outputs(&self) -> BTreeMap<String, String> {
        let mut outputs = BTreeMap::new();
        let mut add = |name: &String, root: &String| {
            if !root.is_empty() {
                outputs.insert(root.clone(), name.clone());
            }
        };
        for base in self.bases.values().filter_map(|slot| slot.content.as_ref().ok()) {
            base.outputs.iter().for_each(|(name, output)| add(name, &output.root));
            base.start.plan.outputs.iter().for_each(|(name, root)| add(name, root));
        }
        for (_, record) in self.readable() {
            match record {
                Record::Start(start) => start.plan.outputs.iter().for_each(|(name, root)| add(name, root)),
                Record::Plan(plan) => plan.outputs.iter().for_each(|(name, root)| add(name, root)),
                Record::Commit(commit) => commit.outputs.iter().for_each(|(name, output)| add(name, &output.root)),
                Record::Own(_) | Record::Published(_) | Record::Base(_) | Record::Rewind(_) => {}
            }
        }
        outputs
    }

    /// A rewind that was decided and is not finished: the base of its own version is written last.
    pub fn unfinished_rewind(&self) -> Option<(u64, &Rewind)> {
        let (version, slot) = self.records.last_key_value()?;
        let Ok(Record::Rewind(rewind)) = &slot.content else { return None };
        self.bases.range(version..).next().is_none().then_some((*version, rewind))
    }

    /// The first object that a newer program wrote, with the format that it has.
    pub fn newer_format(&self) -> Option<(String, u32)> {
        let records =
            self.records.iter().map(|(version, slot)| (paths::log_record(*version), slot.content.as_ref().err()));
        let bases = self.bases.iter().map(|(version, slot)| (paths::base(*version), slot.content.as_ref().err()));
        let mut formats = records.chain(bases).filter_map(|(path, error)| match error {
            Some(RecordError::Format { found }) if *found > record::FORMAT => Some((path, *found)),
            _ => None,
        });
        formats.next()
    }
}

/// The objects of these versions.
async fn slots<T: Body>(
    store: &SharedStore,
    versions: Vec<u64>,
    path: fn(u64) -> String,
) -> Result<BTreeMap<u64, Slot<T>>, StoreError> {
    let mut slots = BTreeMap::new();
    for version in versions {
        // What is gone by now was garbage.
        let Some(bytes) = store.get(&path(version)).await? else { continue };
        let content = record::decode(version, &bytes);
        slots.insert(version, Slot { bytes: bytes.len() as u64, xxh3: checksum(&bytes), content });
    }
    Ok(slots)
}
