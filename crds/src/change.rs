//! What a changed spec does to a job that runs. Pure: the operator decides by it, and `data-platform plan` says it before.
//!
//! ```text
//! two specs ── fields::between ── each field alone ── streaming::effect, batch::effect ── what it does, and why
//!          └── QueryChange::of ── what becomes of the windows that are open
//! ```

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::parameters::expand_parameters;
use crate::state_relevant::sql::has_window;
use crate::streaming_job::{QueryChangePolicy, StreamingJob, StreamingJobSpec};

pub mod batch;
pub mod fields;
pub mod streaming;

/// What becomes of the state of a streaming job that works when its spec changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryChange {
    /// It goes on as it is.
    Kept,
    /// The new query computes the windows that are open anew, from Kafka.
    Rebuilt,
    /// The old query closes its windows; then the new one begins.
    Drained,
    /// The old log is left, and a new one begins.
    NewLog,
    /// The old spec goes on, because the running job would become a stopped one.
    HeldBack(HeldBack),
}

/// Why a change is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBack {
    /// The windows that are open were made by another query, and nobody said what becomes of them.
    QueryChanged,
    /// They were made with other `deduplicate.keys`.
    KeysChanged,
    /// The same, and the new query has no windows that could be computed anew.
    NothingToRebuild,
    /// Another checkpoint over the same output, and nobody said that a new log is wanted.
    CheckpointRenamed,
    /// A new log is wanted, under the name that the old one has.
    NewLogWithoutName,
}

impl HeldBack {
    /// What happened.
    pub fn message(self) -> &'static str {
        match self {
            Self::QueryChanged | Self::NothingToRebuild | Self::NewLogWithoutName => {
                "the new query does not fit the windows that are open, so the old one goes on"
            }
            Self::KeysChanged => "windows are open that were made with other deduplicate.keys, so the old ones go on",
            Self::CheckpointRenamed => {
                "checkpoint.name changed, and the output belongs to the log of the old one, so that one goes on"
            }
        }
    }

    /// What to do.
    pub fn hint(self) -> &'static str {
        match self {
            Self::QueryChanged => {
                "bring the old query back, or set spec.onQueryChange: rebuild (the new query computes these windows anew \
                 from Kafka) or drain (the old one closes them as they are)"
            }
            Self::KeysChanged => {
                "bring the old keys back, or set spec.onQueryChange: rebuild (these windows are computed anew from Kafka with \
                 the new ones) or drain (the old job closes them as they are)"
            }
            Self::NothingToRebuild => {
                "the new query has no windows: bring the old query back, or set spec.onQueryChange: drain (the old one \
                 closes its windows as they are)"
            }
            Self::CheckpointRenamed => {
                "bring the old name back, or set spec.onQueryChange: newLog, and a new log begins where \
                 kafka.startingOffsets says"
            }
            Self::NewLogWithoutName => {
                "set another checkpoint.name, too: a new log has a name of its own; or set spec.onQueryChange: rebuild or \
                 drain"
            }
        }
    }
}

impl QueryChange {
    /// What becomes of the state of a job that works. `open_windows`: those that it has, if it says so.
    pub fn of(before: &StreamingJob, after: &StreamingJob, open_windows: Option<u64>) -> Self {
        let fits = open_windows == Some(0) || state_of(&before.spec) == state_of(&after.spec);
        Self::where_state_fits(before, after, fits)
    }

    /// The same, where it is known whether the windows that are open fit what comes.
    pub fn where_state_fits(before: &StreamingJob, after: &StreamingJob, fits: bool) -> Self {
        let policy = after.spec.on_query_change;
        let is_renamed = checkpoint(before) != checkpoint(after);
        if is_renamed && policy != QueryChangePolicy::NewLog && share_an_output(&before.spec, &after.spec) {
            return Self::HeldBack(HeldBack::CheckpointRenamed);
        }
        match policy {
            _ if is_renamed => Self::NewLog,
            _ if fits => Self::Kept,
            QueryChangePolicy::Wait if only_keys_differ(&before.spec, &after.spec) => {
                Self::HeldBack(HeldBack::KeysChanged)
            }
            QueryChangePolicy::Wait => Self::HeldBack(HeldBack::QueryChanged),
            QueryChangePolicy::Rebuild if has_windows(&after.spec) => Self::Rebuilt,
            QueryChangePolicy::Rebuild => Self::HeldBack(HeldBack::NothingToRebuild),
            QueryChangePolicy::Drain => Self::Drained,
            QueryChangePolicy::NewLog => Self::HeldBack(HeldBack::NewLogWithoutName),
        }
    }
}

/// The name under which a job keeps its log.
pub fn checkpoint(job: &StreamingJob) -> &str {
    let named = job.spec.checkpoint.as_ref().and_then(|checkpoint| checkpoint.name.as_deref());
    named.unwrap_or_else(|| job.metadata.name.as_deref().unwrap_or_default())
}

/// The job with its parameters in place, as far as that goes without templates: those only the runner has.
fn expanded(spec: &StreamingJobSpec) -> StreamingJobSpec {
    let expanded = if spec.template.is_some() { None } else { expand(spec) };
    expanded.unwrap_or_else(|| spec.clone())
}

fn expand(spec: &StreamingJobSpec) -> Option<StreamingJobSpec> {
    expand_parameters(spec, &spec.parameters, &BTreeMap::new()).ok()
}

fn share_an_output(one: &StreamingJobSpec, other: &StreamingJobSpec) -> bool {
    let paths = |spec: &StreamingJobSpec| -> Vec<Option<String>> {
        let spec = expanded(spec);
        let named = spec.outputs.iter().map(|output| output.sink.path.clone());
        let mut paths: Vec<_> = spec.sink.iter().map(|sink| sink.path.clone()).chain(named).collect();
        // That of a template.
        paths.extend(paths.is_empty().then_some(None));
        paths
    };
    let others = paths(other);
    paths(one).iter().any(|path| others.contains(path))
}

fn has_windows(spec: &StreamingJobSpec) -> bool {
    spec.template.is_some() || expanded(spec).queries().iter().any(|(_, query)| has_window(query))
}

/// What the state of a job depends on, for each of its outputs. Of a job with a template only the runner knows more than
/// its parameters.
pub(crate) fn state_of(spec: &StreamingJobSpec) -> Value {
    if spec.template.is_some() {
        return json!([spec.template, spec.parameters, spec.deduplicate]);
    }
    let spec = expanded(spec);
    let queries = spec.queries();
    // A single output is the same one whether it has a name or not.
    let is_single = queries.len() == 1;
    let of =
        |(name, query): &(Option<&str>, &str)| json!([name.filter(|_| !is_single), spec.state_relevant(query).text()]);
    Value::Array(queries.iter().map(of).collect())
}

/// Whether the state depends on nothing else that changed.
fn only_keys_differ(before: &StreamingJobSpec, after: &StreamingJobSpec) -> bool {
    let with_new_keys = StreamingJobSpec { deduplicate: after.deduplicate.clone(), ..before.clone() };
    before.deduplicate != after.deduplicate && state_of(&with_new_keys) == state_of(after)
}

#[cfg(test)]
mod tests;
