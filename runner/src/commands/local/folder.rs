//! The jobs that files describe, checked and planned: all of them at the start, and again whenever a file changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use data_platform_crds::field_path::FieldPath;
use data_platform_crds::problem::Problem;
use data_platform_crds::schedule::Schedule;

use super::decide::{Cron, Timing, Wanted};
use super::order::{self, Before, Thing, Touched};
use crate::commands::run::batch::STOP_TIMEOUT;
use crate::config::batch::{KnownTables, PlannedBatch};
use crate::config::job::{PlannedJob, RunOptions};
use crate::config::{
    ConfigError, JobSource, Loaded, check_beside_others, job_problem, load_texts, read_files, spec_field, supported,
    templates,
};
use crate::pipeline::error::JobError;
use crate::storage::checksum::checksum;
use crate::storage::location::Location;
use crate::storage::places::Place;

/// What to do about a file that is not the file of a job.
const ONLY_JOBS: &str = "leave only files of jobs in the folder, or name the files themselves";

/// A job that can run.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) loaded: Loaded,
    pub(crate) wanted: Wanted,
    /// Fields of its schedule and the zone of their clock.
    pub(crate) schedule: Option<(String, String)>,
    /// How many intervals its backfill has, if it asks for one.
    pub(crate) backfill: Option<u64>,
    /// How long it may take to stop.
    pub(crate) stop_timeout: Duration,
    pub(crate) touched: Touched,
}

/// All jobs, by name, and which ones come before which.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jobs {
    pub(crate) known: BTreeMap<String, Known>,
    pub(crate) before: Before,
}

/// Which of them are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kinds {
    pub(crate) streaming: bool,
    pub(crate) batch: bool,
}

/// Where jobs come from.
pub(crate) struct Folder {
    /// Files and folders; none: the built-in jobs.
    files: Vec<PathBuf>,
    kinds: Kinds,
    options: RunOptions,
    /// What was read last.
    texts: Vec<(String, String)>,
}

impl Folder {
    /// Nothing is read yet.
    pub(crate) fn new(files: Vec<PathBuf>, kinds: Kinds, options: RunOptions) -> Self {
        Self { files, kinds, options, texts: Vec::new() }
    }

    /// Every job of the files.
    ///
    /// # Errors
    /// Every problem of every job, and of all of them together.
    pub(crate) fn read(&mut self) -> Result<Jobs, ConfigError> {
        self.texts = self.texts_now()?;
        let (known, problems) = self.check(self.texts.clone());
        if !problems.is_empty() {
            return Err(ConfigError::Problems(problems));
        }
        if known.is_empty() {
            let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
            let files = if files.is_empty() { "the built-in ones".to_owned() } else { files.join(", ") };
            let cure = "write one, or begin with `data-platform templates event-aggregation`; --streaming and --batch leave out one \
                        kind";
            return Err(ConfigError::Usage(format!("there is no job to run in {files}: {cure}")));
        }
        together(known)
    }

    /// The jobs after a change of the files; `None`: nothing changed. Where a file is broken, what it described stays as
    /// it was.
    pub(crate) fn read_again(&mut self, before: &Jobs) -> Option<(Jobs, Option<ConfigError>)> {
        let mut texts = match self.texts_now() {
            Ok(texts) if texts == self.texts => return None,
            Ok(texts) => texts,
            // Somebody is at it: what is there in a moment counts. It is not said twice.
            Err(_) if self.texts.is_empty() => return None,
            Err(error) => {
                self.texts = Vec::new();
                return Some((before.clone(), Some(error)));
            }
        };
        self.texts = texts.clone();
        // Of two jobs of one name the one that is there already stays.
        let at_home: BTreeSet<&str> = before.known.values().map(|job| job.loaded.file()).collect();
        texts.sort_by_key(|(file, _)| !at_home.contains(file.as_str()));
        let (found, problems) = self.check(texts);
        let known = merge(&before.known, found, &problems);
        let broken = (!problems.is_empty()).then_some(ConfigError::Problems(problems));
        Some(match together(known) {
            Ok(jobs) => (jobs, broken),
            Err(error) => (before.clone(), Some(error)),
        })
    }

    fn texts_now(&self) -> Result<Vec<(String, String)>, ConfigError> {
        if self.files.is_empty() {
            let of = |(name, _, text): &(&str, &str, &str)| (format!("{name} (built in)"), (*text).to_owned());
            return Ok(templates::TEMPLATES.iter().map(of).collect());
        }
        if let Some(missing) = self.files.iter().find(|file| !file.exists()) {
            let cure = "name files of jobs or folders of such files, or none for the built-in jobs";
            return Err(ConfigError::Usage(format!("there is no file or folder {}: {cure}", missing.display())));
        }
        read_files(&self.files)
    }

    /// Reads and plans every job; gives those that can run, and every problem of the others.
    fn check(&self, texts: Vec<(String, String)>) -> (BTreeMap<String, Known>, Vec<(String, Problem)>) {
        let (loaded, mut problems) = load_texts(texts, &JobSource::default());
        for (_, problem) in problems.iter_mut().filter(|(_, problem)| is_about_the_whole(&problem.path)) {
            problem.cure = format!("{}; {ONLY_JOBS}", problem.cure);
        }
        let mut known = BTreeMap::new();
        let mut tables = KnownTables::new();
        // Those that write tables come first: then the columns that batch jobs read are known.
        let (streaming, batch): (Vec<_>, Vec<_>) =
            loaded.into_iter().partition(|job| matches!(job, Loaded::Streaming(_)));
        for job in streaming.into_iter().chain(batch) {
            let is_wanted = match &job {
                Loaded::Streaming(_) => self.kinds.streaming,
                Loaded::Batch(_) => self.kinds.batch,
            };
            match self.plan(&job, &mut tables) {
                Ok(planned) if is_wanted => drop(known.insert(job.name().to_owned(), planned)),
                Ok(_) => {}
                Err(ConfigError::Problems(found)) => problems.extend(found),
                Err(error @ ConfigError::Usage(_)) => {
                    let problem = Problem::error(spec_field("sink"), error.to_string(), "correct it");
                    problems.push(job_problem(&job, problem));
                }
            }
        }
        for (name, problem) in same_checkpoints(&known) {
            known.remove(&name);
            problems.push(problem);
        }
        (known, problems)
    }

    /// Plans a job as the thread that runs it will: a plan belongs to its thread.
    fn plan(&self, loaded: &Loaded, tables: &mut KnownTables) -> Result<Known, ConfigError> {
        check_beside_others(loaded)?;
        let options = &self.options;
        let refused = |error: JobError| ConfigError::Usage(error.in_full());
        let mut filled = None;
        let (version, touched, wanted) = match loaded.clone() {
            Loaded::Streaming(job) => {
                let spec = job.job.spec.clone();
                let planned = PlannedJob::new(*job, &options.outputs)?;
                tables.extend(planned.flows.iter().filter_map(|flow| {
                    let path = flow.sink.path.as_deref()?;
                    Some((path.trim_end_matches('/').to_owned(), flow.query.output_schema()))
                }));
                let waits = supported::waits(&spec);
                (version_of(&spec), touched_by(&planned, options).map_err(refused)?, (Timing::Always, waits, 0, None))
            }
            Loaded::Batch(job) => {
                let spec = job.job.spec.clone();
                let planned = PlannedBatch::over(*job, tables)?;
                let timing = match &spec.schedule {
                    None => Timing::Once,
                    Some(fields) => Timing::By(Box::new(Cron {
                        schedule: schedule(loaded, fields, &spec.time_zone)?,
                        concurrency: spec.concurrency_policy,
                        starting_deadline: spec.starting_deadline_seconds,
                    })),
                };
                let retries = u32::try_from(spec.backoff_limit).unwrap_or(0);
                let deadline = spec.active_deadline_seconds.and_then(|seconds| u64::try_from(seconds).ok());
                let deadline = deadline.map(Duration::from_secs);
                let touched = read_and_written(&planned, options).map_err(refused)?;
                filled = spec.backfill.as_ref().map(|backfill| {
                    let (from, to) = (backfill.from.0.as_microsecond(), backfill.to.0.as_microsecond());
                    let computed = checksum(spec.backfilled().to_string().as_bytes());
                    (computed, planned.grid().between(from, to).count() as u64)
                });
                (version_of(&spec), touched, (timing, spec.suspend, retries, deadline))
            }
        };
        let (timing, suspended, retries, deadline) = wanted;
        let (schedule, stop_timeout) = match loaded {
            Loaded::Streaming(job) => (None, job.job.spec.stop_timeout.as_duration()),
            Loaded::Batch(job) => {
                let spec = &job.job.spec;
                (spec.schedule.clone().map(|fields| (fields, spec.time_zone.clone())), STOP_TIMEOUT)
            }
        };
        let (backfill, intervals) = filled.unzip();
        let wanted = Wanted { version, timing, suspended, retries, deadline, backfill };
        Ok(Known { loaded: loaded.clone(), wanted, schedule, backfill: intervals, stop_timeout, touched })
    }
}

/// The document is no job at all.
fn is_about_the_whole(path: &FieldPath) -> bool {
    let whole = [FieldPath::root(), FieldPath::root().field("kind"), FieldPath::root().field("apiVersion")];
    whole.contains(path)
}

/// A hash of what a job says; whether it is suspended is no part of it.
fn version_of<S: serde::Serialize>(spec: &S) -> String {
    let mut value = serde_json::to_value(spec).expect("a spec is always JSON");
    if let Some(fields) = value.as_object_mut() {
        fields.remove("suspend");
        fields.remove("replicas");
    }
    checksum(value.to_string().as_bytes())
}

fn schedule(loaded: &Loaded, fields: &str, zone: &str) -> Result<Schedule, ConfigError> {
    use data_platform_crds::schedule::ScheduleError::{Fields, Zone};
    Schedule::new(fields, zone).map_err(|error| {
        let problem = match error {
            Fields(message, cure) => Problem::error(spec_field("schedule"), message, cure),
            Zone(message, cure) => Problem::error(spec_field("timeZone"), message, cure),
        };
        ConfigError::Problems(vec![job_problem(loaded, problem)])
    })
}

fn table(location: &Location) -> Result<Thing, JobError> {
    Ok(Thing::Table(Place::of(location)?))
}

fn touched_by(planned: &PlannedJob, options: &RunOptions) -> Result<Touched, JobError> {
    let mut touched = Touched::default();
    for source in &planned.loaded.job.spec.sources {
        touched.reads.extend(source.topics.iter().map(|topic| Thing::Topic(topic.clone())));
    }
    for reference in &planned.references {
        touched.reads.push(table(&reference.files.location)?);
    }
    for flow in &planned.flows {
        match (&flow.sink.topic, flow.writes.root()) {
            (Some(topic), _) => touched.writes.push(Thing::Topic(topic.clone())),
            (None, Some(_)) => {}
            (None, None) => {
                let path = flow.sink.path.as_deref().unwrap_or_default();
                touched.writes.push(table(&Location::resolve(path, &options.outputs)?)?);
            }
        }
    }
    Ok(touched)
}

fn read_and_written(planned: &PlannedBatch, options: &RunOptions) -> Result<Touched, JobError> {
    let mut touched = Touched::default();
    for input in &planned.loaded.job.spec.inputs {
        touched.reads.push(table(&Location::resolve(&input.path, &options.outputs)?)?);
    }
    for folder in planned.written_folders(&options.outputs)? {
        touched.writes.push(table(&folder.location)?);
    }
    touched.waits_for.extend(planned.loaded.job.spec.depends_on.iter().map(|named| named.name.clone()));
    Ok(touched)
}

/// Two jobs with one checkpoint would fence each other without end. Gives the second of them, and the problem.
fn same_checkpoints(known: &BTreeMap<String, Known>) -> Vec<(String, (String, Problem))> {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, job) in known {
        let spec = match &job.loaded {
            Loaded::Streaming(job) => &job.job.spec.checkpoint,
            Loaded::Batch(job) => &job.job.spec.checkpoint,
        };
        let checkpoint = spec.as_ref().and_then(|checkpoint| checkpoint.name.as_deref()).unwrap_or(name);
        if let Some(other) = owners.insert(checkpoint, name) {
            let message = format!("the job {other} has the checkpoint {checkpoint} too");
            let place = spec_field("checkpoint").field("name");
            let problem = Problem::error(place, message, "give each job a checkpoint of its own");
            problems.push((name.clone(), job_problem(&job.loaded, problem)));
        }
    }
    problems
}

/// What is known after a change: what was found, and what broken files described before.
fn merge(
    before: &BTreeMap<String, Known>,
    found: BTreeMap<String, Known>,
    problems: &[(String, Problem)],
) -> BTreeMap<String, Known> {
    let is_broken = |job: &Known| problems.iter().any(|(file, _)| file == job.loaded.file());
    let kept = before.iter().filter(|(name, job)| !found.contains_key(*name) && is_broken(job));
    let mut known: BTreeMap<_, _> = kept.map(|(name, job)| (name.clone(), job.clone())).collect();
    known.extend(found);
    known
}

/// Which jobs come before which.
fn together(known: BTreeMap<String, Known>) -> Result<Jobs, ConfigError> {
    let touched = known.iter().map(|(name, job)| (name.clone(), job.touched.clone())).collect();
    match order::before(&touched) {
        Ok(before) => Ok(Jobs { known, before }),
        Err(circle) => Err(ConfigError::Usage(format!(
            "each of these jobs reads what the next one writes or depends on it, and so each waits for itself: {}: correct inputs, \
             references, topics or dependsOn of one of them",
            circle.join(" -> ")
        ))),
    }
}

#[cfg(test)]
mod tests;
