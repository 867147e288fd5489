//! Everything that lies in the log of a batch job, read without judging: for those who look at a log or check it. A run
//! reads less (see [`BatchLog::read`](super::log::BatchLog::read)) and must come to the same state.
//!
//! Reads only.

use std::collections::BTreeMap;

use crate::checkpoint::log::read::versions;
use crate::checkpoint::record::FileCommit;
use crate::checkpoint::survey::{Damage, Slot, slots};
use crate::pipeline::batch::interval::Interval;
use crate::pipeline::batch::log::{BASES, Own, RECORDS, Record, Replace, State, base_path, record_path};
use crate::storage::{SharedStore, StoreError};

/// How often a log is read again because a run removed old records meanwhile.
const READS_MAX: u32 = 5;

/// All objects of a log, by version.
#[derive(Clone, Debug, Default)]
pub(crate) struct BatchSurvey {
    pub(crate) records: BTreeMap<u64, Slot<Record>>,
    pub(crate) bases: BTreeMap<u64, Slot<State>>,
}

/// How far the log can be read.
#[derive(Clone, Debug)]
pub(crate) struct BatchHead {
    /// The job as of the last version that can be reached; `None` when no base and no record 0 can be read.
    pub(crate) state: Option<State>,
    /// What stands behind it.
    pub(crate) damage: Option<Damage>,
}

/// What an interval is, as far as records are kept.
#[derive(Clone, Debug)]
pub(crate) struct Replacement {
    /// Version of the decision.
    pub(crate) version: u64,
    pub(crate) replace: Replace,
    /// The run that decided it, if its record is kept.
    pub(crate) run: Option<Own>,
    /// Decided, and not noted as visible.
    pub(crate) is_pending: bool,
}

impl BatchSurvey {
    /// Reads everything.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) async fn read(store: &SharedStore) -> Result<Self, StoreError> {
        let mut survey = Self::default();
        for _ in 0..READS_MAX {
            let bases = versions(store, BASES).await?;
            let (records, read) = (slots(store, RECORDS, record_path).await?, slots(store, BASES, base_path).await?);
            survey = Self { records, bases: read };
            if versions(store, BASES).await? == bases {
                break;
            }
        }
        Ok(survey)
    }

    /// The highest version of any object.
    pub(crate) fn last_version(&self) -> u64 {
        let last = |version: Option<&u64>| version.copied().unwrap_or_default();
        last(self.records.keys().last()).max(last(self.bases.keys().last()))
    }

    /// The newest base that can be read.
    pub(crate) fn newest_base(&self) -> Option<&State> {
        self.bases.values().rev().find_map(|slot| slot.content.as_ref().ok())
    }

    /// The job as a run finds it: from the newest readable base to the end of the log, or to what cannot be read.
    pub(crate) fn head(&self) -> BatchHead {
        match self.newest_base().cloned().or_else(|| self.beginning()) {
            Some(state) => {
                let (state, damage) = self.walk(state, u64::MAX);
                BatchHead { state: Some(state), damage }
            }
            None => {
                let problem = match self.records.get(&0).map(|slot| &slot.content) {
                    Some(Err(error)) => error.to_string(),
                    _ => "it is not there, and no base can be read".to_owned(),
                };
                BatchHead { state: None, damage: Some(Damage { version: 0, problem }) }
            }
        }
    }

    /// The job at a version, from an older base or record 0. `None`: neither leads there.
    pub(crate) fn folded(&self, version: u64) -> Option<State> {
        let older = self.bases.range(..version).rev().filter_map(|(_, slot)| slot.content.as_ref().ok().cloned());
        older.chain(self.beginning()).map(|state| self.walk(state, version).0).find(|state| state.version == version)
    }

    fn beginning(&self) -> Option<State> {
        match &self.records.get(&0)?.content {
            Ok(Record::Start(start)) => Some(State::begin(start.clone())),
            _ => None,
        }
    }

    fn walk(&self, mut state: State, until: u64) -> (State, Option<Damage>) {
        let last = self.records.keys().last().copied().unwrap_or_default().min(until);
        while state.version < last {
            let version = state.version + 1;
            let problem = match self.records.get(&version).map(|slot| &slot.content) {
                Some(Ok(record)) => {
                    state.apply(version, record);
                    continue;
                }
                Some(Err(error)) => error.to_string(),
                None => "it is missing, and there are later ones".to_owned(),
            };
            return (state, Some(Damage { version, problem }));
        }
        (state, None)
    }

    /// The records that count. Below the older of two bases lies what is about to be removed, and what a run left that slept
    /// until its slot was free again.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (&u64, &Slot<Record>)> {
        let first = self.bases.keys().next().filter(|_| self.bases.len() > 1).copied().unwrap_or_default();
        self.records.range(first..)
    }

    /// What every interval is that was replaced since the oldest record.
    pub(crate) fn replacements(&self) -> BTreeMap<Interval, Replacement> {
        let head = self.head().state;
        let pending = head.as_ref().and_then(|state| state.pending.as_ref());
        let bases = || self.bases.values().filter_map(|slot| slot.content.as_ref().ok());
        let mut runs: BTreeMap<u64, &Own> = BTreeMap::new();
        runs.extend(bases().filter_map(|base| base.owner.as_ref()).map(|own| (own.epoch, own)));
        let mut found = BTreeMap::new();
        let mut note = |version: u64, replace: &Replace, run: Option<&Own>| {
            let (is_pending, replace, run) = (pending == Some(replace), replace.clone(), run.cloned());
            found.insert(replace.interval, Replacement { version, replace, run, is_pending });
        };
        // A decision that a base still waits to see published may be older than any record.
        for base in bases() {
            if let Some(replace) = &base.pending {
                note(base.version, replace, runs.get(&replace.epoch).copied());
            }
        }
        for (version, slot) in self.kept() {
            match &slot.content {
                Ok(Record::Own(own)) => drop(runs.insert(own.epoch, own)),
                Ok(Record::Replace(replace)) => note(*version, replace, runs.get(&replace.epoch).copied()),
                _ => {}
            }
        }
        found
    }
}

/// The files that readers see, or will when a run publishes them: a later decision about a name is the one that counts.
pub(crate) fn visible_files(replacements: &BTreeMap<Interval, Replacement>) -> Vec<(&Replacement, &FileCommit)> {
    let mut files: BTreeMap<(&str, &str), (&Replacement, &FileCommit)> = BTreeMap::new();
    let mut decisions: Vec<_> = replacements.values().collect();
    decisions.sort_by_key(|decision| decision.version);
    for decision in decisions {
        let root = decision.replace.root.as_str();
        files.extend(decision.replace.files.iter().map(|file| ((root, file.path.as_str()), (decision, file))));
    }
    files.into_values().collect()
}
