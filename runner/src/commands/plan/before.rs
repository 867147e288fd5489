//! What runs now: the job as its log keeps it, or as the old file says.

use data_platform_crds::batch_job::BatchJob;
use data_platform_crds::change::fields::{FieldChange, Step};
use data_platform_crds::sink::{OutputSpec, SinkSpec};
use data_platform_crds::source::SourceSpec;
use data_platform_crds::streaming_job::StreamingJob;
use serde::Deserialize;
use serde_json::Value;

use crate::args::PlaceArgs;
use crate::checkpoint::job_state::JobState;
use crate::checkpoint::record::Plan;
use crate::checkpoint::survey::{Damage, Survey};
use crate::commands::checkpoint::{JobPlace, Kind, block_on, store_failed};
use crate::commands::error::CommandError;
use crate::config::Loaded;
use crate::pipeline::batch::log::State;
use crate::pipeline::batch::survey::BatchSurvey;

/// What is known of the job that runs.
pub(super) struct Running {
    /// The old file's.
    pub(super) file: Option<Loaded>,
    /// Its log.
    pub(super) log: Option<Log>,
}

/// A log, and where it lies.
pub(super) struct Log {
    pub(super) place: String,
    pub(super) content: Content,
}

/// What a log says.
pub(super) enum Content {
    Streaming(Box<JobState>),
    Batch {
        state: Box<State>,
        /// Hash of what the newest interval was computed by.
        fingerprint: Option<String>,
    },
}

impl Running {
    /// Looks for the log at `place`, if there is a place to look at.
    pub(super) fn find(file: Option<Loaded>, job: &Loaded, place: Option<&PlaceArgs>) -> Result<Self, CommandError> {
        // Or where the log lies that a job of the old file has, or one before its checkpoint got a name.
        let names = [checkpoint(job), file.as_ref().map_or_else(|| job.name().to_owned(), checkpoint)];
        let mut log = None;
        for name in names {
            if let (None, Some(place)) = (&log, place) {
                log = read(&name, job, place)?;
            }
        }
        Ok(Self { file, log })
    }

    /// What the new job is compared with, in words.
    pub(super) fn words(&self, job: &Loaded) -> String {
        let file = self.file.as_ref().map(|file| file.file().to_owned());
        let log = self.log.as_ref().map(|log| match &log.content {
            Content::Streaming(state) => format!("the log in {}, version {}", log.place, state.version),
            Content::Batch { state, .. } => format!("the log in {}, version {}", log.place, state.version),
        });
        let before: Vec<_> = file.into_iter().chain(log).collect();
        if before.is_empty() { job.file().to_owned() } else { format!("{} -> {}", before.join(" with "), job.file()) }
    }
}

/// Name of the checkpoint of a job.
pub(super) fn checkpoint(job: &Loaded) -> String {
    let named = match job {
        Loaded::Streaming(loaded) => &loaded.job.spec.checkpoint,
        Loaded::Batch(loaded) => &loaded.job.spec.checkpoint,
    };
    let named = named.as_ref().and_then(|checkpoint| checkpoint.name.clone());
    named.unwrap_or_else(|| job.name().to_owned())
}

fn read(name: &str, job: &Loaded, place: &PlaceArgs) -> Result<Option<Log>, CommandError> {
    let Some((place, kind)) = JobPlace::look(name, place)? else { return Ok(None) };
    let is_batch = matches!(job, Loaded::Batch(_));
    if is_batch != (kind == Kind::Batch) {
        let message = format!("the log in {} is that of another kind of job than {}", place.location, job.name());
        return Err(CommandError::user(format!("{message}: give the job a checkpoint.name of its own")));
    }
    let damaged = |damage: Option<Damage>| {
        let what = damage.map_or_else(String::new, |damage| format!(": record {}: {}", damage.version, damage.problem));
        let cure = format!("look at it with data-platform checkpoint verify {name}, or compare with --against");
        CommandError::user(format!("the log in {} cannot be read{what}: {cure}", place.location))
    };
    let content = if is_batch {
        let survey = block_on(BatchSurvey::read(&place.store))?.map_err(store_failed)?;
        let head = survey.head();
        let (Some(state), None) = (head.state, &head.damage) else { return Err(damaged(head.damage)) };
        let newest = survey.replacements().into_values().max_by_key(|replaced| replaced.version);
        Content::Batch { state: Box::new(state), fingerprint: newest.map(|newest| newest.replace.fingerprint) }
    } else {
        let head = block_on(Survey::read(&place.store))?.map_err(store_failed)?.head();
        let (Some(state), None) = (head.state, &head.damage) else { return Err(damaged(head.damage)) };
        Content::Streaming(Box::new(state))
    };
    Ok(Some(Log { place: place.location.to_string(), content }))
}

/// A streaming job as its log keeps it, in the form of the job that is to come: sources and queries are the log's, and of
/// all else the log knows nothing.
pub(super) fn of_log(job: &StreamingJob, logged: &Plan) -> StreamingJob {
    let mut before = job.clone();
    let spec = &mut before.spec;
    if let Ok(sources) = Vec::<SourceSpec>::deserialize(&logged.sources)
        && !sources.is_empty()
    {
        spec.sources = sources;
    }
    if let (Some(query), [logged]) = (&mut spec.query, &logged.queries.values().collect::<Vec<_>>()[..]) {
        query.clone_from(&logged.sql);
        return before;
    }
    let sink_of = |name: &String| {
        let known = job.spec.outputs.iter().find(|output| output.name == *name).map(|output| output.sink.clone());
        known.unwrap_or_else(|| SinkSpec::parquet(logged.outputs.get(name).cloned().unwrap_or_default()))
    };
    let output = |(name, query): (&String, &crate::checkpoint::record::QueryPlan)| OutputSpec {
        name: name.clone(),
        query: Some(query.sql.clone()),
        sink: sink_of(name),
    };
    spec.outputs = logged.queries.iter().map(output).collect();
    (spec.query, spec.sink) = (None, None);
    before
}

/// Outputs that the log knows at another place than the new job has them.
pub(super) fn moved(job: &StreamingJob, logged: &Plan, planned: &Plan) -> Vec<FieldChange> {
    let field = |name: &str| Step::Field(name.to_owned());
    let only = |plan: &Plan| (plan.queries.len() == 1).then(|| plan.queries.keys().next().cloned()).flatten();
    let mut moved = Vec::new();
    for (name, root) in &planned.outputs {
        // The only output of a job is called like its folder.
        let is_only = job.spec.outputs.is_empty() && planned.queries.contains_key(name);
        let was = if is_only { only(logged).unwrap_or_else(|| name.clone()) } else { name.clone() };
        let Some(before) = logged.outputs.get(&was).filter(|before| *before != root) else { continue };
        let path = match (is_only, planned.queries.contains_key(name)) {
            (true, _) => vec![field("sink"), field("path")],
            (false, true) => vec![field("outputs"), Step::Named(name.clone()), field("sink"), field("path")],
            (false, false) => vec![field("badRecords"), field("path")],
        };
        let (before, after) = (Some(before.as_str().into()), Some(root.as_str().into()));
        moved.push(FieldChange { path, before, after });
    }
    moved
}

/// A spec as JSON, with the template that its file names.
pub(super) fn values(spec: &impl serde::Serialize, manifest: &Value) -> Value {
    let mut values = serde_json::to_value(spec).unwrap_or_default();
    if let (Value::Object(fields), Some(template)) = (&mut values, manifest["spec"].get("template")) {
        fields.insert("template".to_owned(), template.clone());
    }
    values
}

/// The batch job of a file.
pub(super) fn batch(loaded: &Loaded) -> Option<&crate::config::LoadedJob<BatchJob>> {
    match loaded {
        Loaded::Batch(loaded) => Some(loaded),
        Loaded::Streaming(_) => None,
    }
}

/// The streaming job of a file.
pub(super) fn streaming(loaded: &Loaded) -> Option<&crate::config::LoadedJob> {
    match loaded {
        Loaded::Streaming(loaded) => Some(loaded),
        Loaded::Batch(_) => None,
    }
}
