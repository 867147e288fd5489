//! What the log of a batch job says of its intervals, for those who look at it or check it. Pure, over a survey that was read.

use std::collections::BTreeMap;

use crate::checkpoint::record::FileCommit;
use crate::checkpoint::survey::{LogSurvey, Slot};
use crate::pipeline::batch::interval::Interval;
use crate::pipeline::batch::log::{Own, Record, Replace, State};

/// All objects of a log, by version.
pub(crate) type BatchSurvey = LogSurvey<State>;

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
/// Each with its decision and the root of its output.
pub(crate) fn visible_files(replacements: &BTreeMap<Interval, Replacement>) -> Vec<(&Replacement, &str, &FileCommit)> {
    let mut files: BTreeMap<(&str, &str), (&Replacement, &str, &FileCommit)> = BTreeMap::new();
    let mut decisions: Vec<_> = replacements.values().collect();
    decisions.sort_by_key(|decision| decision.version);
    for decision in decisions {
        for written in decision.replace.written() {
            let root = written.root.as_str();
            files.extend(written.files.iter().map(|file| ((root, file.path.as_str()), (decision, root, file))));
        }
    }
    files.into_values().collect()
}
