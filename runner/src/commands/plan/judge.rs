//! From what runs and what is to run to a judgement of each job, in the operator's own words.

use data_platform_crds::change::batch::{self, OTHER_INTERVALS};
use data_platform_crds::change::fields::{FieldChange, between};
use data_platform_crds::change::{HeldBack, QueryChange, streaming};
use data_platform_crds::streaming_job::StreamingJob;
use serde_json::Value;

use crate::checkpoint::decide::{PlanChange, plan_change};
use crate::checkpoint::job_state::JobState;
use crate::commands::error::CommandError;
use crate::commands::plan::before::{self, Content, Running};
use crate::config::batch::PlannedBatch;
use crate::config::job::{PlannedJob, RunOptions};
use crate::config::{Loaded, LoadedJob};
use crate::pipeline::batch::Request;

/// What becomes of a job.
pub(super) struct Judgement {
    pub(super) kind: &'static str,
    pub(super) name: String,
    /// What was compared with what.
    pub(super) compared: String,
    pub(super) outcome: Outcome,
    pub(super) changes: Vec<Change>,
    /// Outputs of which windows are open; `None`: nobody knows.
    pub(super) open_outputs: Option<Vec<String>>,
}

/// A field, and what it does.
pub(super) struct Change {
    pub(super) field: FieldChange,
    /// One word for it.
    pub(super) effect: &'static str,
    /// The same for people.
    pub(super) words: String,
}

/// What becomes of a job, all fields together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Nothing,
    /// There is no such job yet, as far as can be seen.
    New(String),
    /// There is no such job any more.
    Gone,
    /// New pods go on with the state.
    NewPod,
    Stops,
    Starts,
    NextRun,
    RunsAgain,
    /// The state does not go on as it is.
    FreshState(QueryChange),
    Refused {
        why: String,
        hint: String,
    },
}

impl Judgement {
    /// A job that only the old file has.
    pub(super) fn gone(job: &Loaded) -> Self {
        Self {
            kind: kind(job),
            name: job.name().to_owned(),
            compared: job.file().to_owned(),
            outcome: Outcome::Gone,
            changes: Vec::new(),
            open_outputs: None,
        }
    }
}

fn kind(job: &Loaded) -> &'static str {
    match job {
        Loaded::Streaming(_) => "StreamingJob",
        Loaded::Batch(_) => "BatchJob",
    }
}

impl Running {
    /// What the new job does to what runs.
    pub(super) fn judge(&self, job: Loaded, options: &RunOptions) -> Result<Judgement, CommandError> {
        let (kind, name, compared) = (kind(&job), job.name().to_owned(), self.words(&job));
        let is_known = self.file.is_some() || self.log.is_some();
        let begins = begins(&job);
        let judged = match job {
            Loaded::Streaming(loaded) => self.streaming(*loaded, options)?,
            Loaded::Batch(loaded) => self.batch(*loaded, options)?,
        };
        let (outcome, changes, open_outputs) = judged;
        let outcome = if is_known { outcome } else { Outcome::New(begins) };
        Ok(Judgement { kind, name, compared, outcome, changes, open_outputs })
    }

    fn streaming(&self, loaded: LoadedJob, options: &RunOptions) -> Result<Judged, CommandError> {
        let planned = PlannedJob::new(loaded, &options.outputs)?;
        let settings = planned.settings(options)?;
        let job = &planned.loaded.job;
        let state = self.log.as_ref().and_then(|log| match &log.content {
            Content::Streaming(state) => Some(&**state),
            Content::Batch { .. } => None,
        });
        let file = self.file.as_ref().and_then(before::streaming);
        let (old, mut fields) = match (file, state) {
            (Some(file), _) => {
                let one = before::values(&file.job.spec, file.manifest.value());
                let other = before::values(&job.spec, planned.loaded.manifest.value());
                (file.job.clone(), between(&one, &other))
            }
            (None, Some(state)) => {
                let old = self.renamed(before::of_log(job, &state.plan), state);
                let fields =
                    between(&before::values(&old.spec, &Value::Null), &before::values(&job.spec, &Value::Null));
                (old, fields)
            }
            (None, None) => return Ok((Outcome::Nothing, Vec::new(), None)),
        };
        if let (None, Some(state)) = (file, state) {
            fields.extend(before::moved(job, &state.plan, &settings.plan));
        }
        let values = before::values(&old.spec, &Value::Null);
        let is_renamed = data_platform_crds::change::checkpoint(&old) != data_platform_crds::change::checkpoint(job);
        let changes: Vec<_> = fields.into_iter().map(|field| streaming_change(field, &values, is_renamed)).collect();
        let open = state
            .map(|state| state.replay_from.iter().flat_map(|from| from.outputs.keys().cloned()).collect::<Vec<_>>());
        // The log says it better than two texts: it knows the windows, and what earlier versions called the same state.
        let change = match state.filter(|_| !is_renamed) {
            Some(state) => {
                let change = plan_change(state, &settings.plan, &settings.state_fingerprints_1);
                let fits = !matches!(change, PlanChange::StopChanged { .. });
                QueryChange::where_state_fits(&old, job, fits)
            }
            None => QueryChange::of(&old, job, None),
        };
        Ok((streaming_outcome(change, &changes, job.spec.suspend), changes, open))
    }

    /// The job of a log, with the name that the log has.
    fn renamed(&self, mut old: StreamingJob, state: &JobState) -> StreamingJob {
        if state.start.job != data_platform_crds::change::checkpoint(&old) {
            old.spec.checkpoint =
                Some(data_platform_crds::streaming_job::CheckpointSpec { name: Some(state.start.job.clone()) });
        }
        old
    }

    fn batch(
        &self,
        loaded: LoadedJob<data_platform_crds::batch_job::BatchJob>,
        options: &RunOptions,
    ) -> Result<Judged, CommandError> {
        let planned = PlannedBatch::new(loaded)?;
        let fingerprint = planned.settings(options, Request::Exactly(Vec::new()), None)?.fingerprint;
        let job = &planned.loaded.job;
        let new = before::values(&job.spec, planned.loaded.manifest.value());
        let mut changes = Vec::new();
        let mut outcome = Outcome::Nothing;
        if let Some(file) = self.file.as_ref().and_then(before::batch) {
            let old = before::values(&file.job.spec, file.manifest.value());
            let is_renamed = before::checkpoint(&Loaded::Batch(Box::new(file.clone()))) != planned.checkpoint();
            let is_moved = !file.job.spec.sinks().map(|sink| &sink.path).eq(job.spec.sinks().map(|sink| &sink.path));
            // Another log over another output is another job.
            let is_apart = is_renamed && is_moved;
            changes
                .extend(between(&old, &new).into_iter().map(|field| batch_change(field, &new, is_renamed, is_apart)));
        }
        if let Some(log) = &self.log
            && let Content::Batch { state, fingerprint: logged } = &log.content
        {
            let is_renamed = state.start.job != planned.checkpoint();
            if state.start.grid != planned.grid() && !is_renamed {
                changes.retain(|change| change.field.name() != "interval");
                let (before, after) = (Some(state.start.grid.word().into()), Some(planned.grid().word().into()));
                let path = vec![data_platform_crds::change::fields::Step::Field("interval".to_owned())];
                changes.push(batch_change(FieldChange { path, before, after }, &new, false, false));
            } else if self.file.is_none() && logged.as_ref().is_some_and(|logged| *logged != fingerprint) {
                // The log has a hash of these.
                outcome = if job.spec.schedule.is_some() { Outcome::NextRun } else { Outcome::RunsAgain };
            }
        }
        let outcome = changes.iter().map(|change| batch_outcome(change, &new)).fold(outcome, worse);
        Ok((outcome, changes, None))
    }
}

type Judged = (Outcome, Vec<Change>, Option<Vec<String>>);

/// Where a job that nobody has seen begins.
fn begins(job: &Loaded) -> String {
    match job {
        Loaded::Streaming(loaded) => {
            let offsets = loaded.job.spec.kafka.clone().unwrap_or_default().starting_offsets;
            format!("it begins a log, where kafka.startingOffsets says: {offsets}")
        }
        Loaded::Batch(loaded) => match &loaded.job.spec.schedule {
            Some(schedule) => format!("it begins a log with the first run of its schedule, {schedule}"),
            None => "it runs once".to_owned(),
        },
    }
}

fn streaming_change(field: FieldChange, before: &Value, is_renamed: bool) -> Change {
    use streaming::Effect;
    let effect = streaming::effect(&field, before);
    let (effect, words) = match effect {
        Effect::NewLog if is_renamed => ("newLog", "another log".to_owned()),
        Effect::NewLog => ("newPod", told("new pod, state kept", "the name is the one that it had")),
        Effect::NewPod { note } => ("newPod", told("new pod, state kept", note)),
        Effect::Stops => ("stops", "no pod any more, state kept".to_owned()),
        Effect::Starts => ("starts", "a pod again, state kept".to_owned()),
        Effect::FreshState { why } => ("freshState", told("needs fresh state", &why)),
    };
    Change { field, effect, words }
}

fn batch_change(field: FieldChange, after: &Value, is_renamed: bool, is_apart: bool) -> Change {
    use batch::Effect;
    let is_of_checkpoint = field.fields().first() == Some(&"checkpoint");
    let is_of_log = is_of_checkpoint || matches!(field.fields()[..], ["interval" | "replace"]);
    let effect = match batch::effect(&field, after) {
        Effect::Refused { .. } if is_apart && is_of_log || is_of_checkpoint && !is_renamed => {
            Effect::NextRun { note: "" }
        }
        effect => effect,
    };
    let (effect, words) = match effect {
        Effect::Nothing => ("nothing", "nothing".to_owned()),
        Effect::NextRun { note } => ("nextRun", told("the next run has it", note)),
        Effect::Stops => ("stops", "no more runs; one that is under way goes on".to_owned()),
        Effect::Starts => ("starts", "runs again; what was missed is caught up".to_owned()),
        Effect::RunsAgain { note } => ("runsAgain", told("the job runs once more", note)),
        Effect::Refused { why, .. } => ("refused", told("refused", why)),
    };
    Change { field, effect, words }
}

fn told(what: &str, note: &str) -> String {
    if note.is_empty() { what.to_owned() } else { format!("{what}: {note}") }
}

fn streaming_outcome(change: QueryChange, changes: &[Change], suspends: bool) -> Outcome {
    let has = |effect: &str| changes.iter().any(|change| change.effect == effect);
    match change {
        // There is nothing to protect, and the runner looks at its state when it begins again.
        _ if suspends && has("stops") => Outcome::Stops,
        QueryChange::HeldBack(why @ (HeldBack::NothingToRebuild | HeldBack::NewLogWithoutName)) => {
            Outcome::Refused { why: why.message().to_owned(), hint: why.hint().to_owned() }
        }
        QueryChange::Kept if changes.is_empty() => Outcome::Nothing,
        QueryChange::Kept if has("stops") => Outcome::Stops,
        QueryChange::Kept if has("starts") => Outcome::Starts,
        QueryChange::Kept => Outcome::NewPod,
        change => Outcome::FreshState(change),
    }
}

fn batch_outcome(change: &Change, after: &Value) -> Outcome {
    match change.effect {
        "nothing" => Outcome::Nothing,
        "stops" => Outcome::Stops,
        "starts" => Outcome::Starts,
        "runsAgain" => Outcome::RunsAgain,
        "refused" => {
            let effect = match change.field.name().as_str() {
                "interval" => OTHER_INTERVALS,
                _ => batch::effect(&change.field, after),
            };
            match effect {
                batch::Effect::Refused { why, hint } => Outcome::Refused { why: why.to_owned(), hint: hint.to_owned() },
                _ => Outcome::NextRun,
            }
        }
        _ => Outcome::NextRun,
    }
}

/// What of two outcomes a person must know.
fn worse(one: Outcome, other: Outcome) -> Outcome {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::Refused { .. } => 4,
        Outcome::Stops | Outcome::Starts => 3,
        Outcome::RunsAgain => 2,
        Outcome::NextRun => 1,
        _ => 0,
    };
    if rank(&other) > rank(&one) { other } else { one }
}
