//! From files and flags to a job that can run: read, changed by `--set`, checked, expanded, planned.
//!
//! Pure but for reading the file. Every problem of a job is found here, before anything is opened, and all at once.

mod asked;
pub mod batch;
pub mod job;
pub mod supported;
pub mod templates;
pub(crate) mod written;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use data_platform_crds::batch_job::BatchJob;
use data_platform_crds::check::Manifest;
use data_platform_crds::dependencies;
use data_platform_crds::field_path::{FieldPath, Segment};
use data_platform_crds::job::Job;
use data_platform_crds::parameters::{expand_batch_parameters, expand_parameters};
use data_platform_crds::problem::{Location as Place, Problem, did_you_mean};
use data_platform_crds::streaming_job::StreamingJob;
use data_platform_crds::validate::{validate, validate_batch};

use crate::transform::QueryError;

/// What to do about a file that cannot be read.
const GIVE_A_FILE: &str = "give the file of a job after -f, or the name of a built-in job without -f";

/// What to do about a file without a job.
const WRITE_ONE: &str = "write one, or begin with `data-platform templates event-aggregation`";

/// Where a job comes from, and what the command line changes in it.
#[derive(Clone, Debug, Default)]
pub struct JobSource {
    /// Files of manifests.
    pub files: Vec<PathBuf>,
    /// A built-in job, or the name of a job in the files.
    pub name: Option<String>,
    /// `--set path=value`.
    pub set: Vec<String>,
    /// `--param name=value`.
    pub parameters: BTreeMap<String, String>,
}

/// A job that was read and checked, with its parameters in place.
#[derive(Clone, Debug)]
pub struct LoadedJob<J = StreamingJob> {
    /// Where it stands, for messages.
    pub file: String,
    /// The manifest, for the places of fields.
    pub manifest: Manifest,
    /// The job.
    pub job: J,
    /// What is probably not meant.
    pub warnings: Vec<Problem>,
}

/// A job of either kind.
#[derive(Clone, Debug)]
pub enum Loaded {
    /// A streaming job.
    Streaming(Box<LoadedJob>),
    /// A batch job.
    Batch(Box<LoadedJob<BatchJob>>),
}

impl Loaded {
    /// Its `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Streaming(_) => "StreamingJob",
            Self::Batch(_) => "BatchJob",
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        let metadata = match self {
            Self::Streaming(loaded) => &loaded.job.metadata,
            Self::Batch(loaded) => &loaded.job.metadata,
        };
        metadata.name.as_deref().unwrap_or_default()
    }

    /// Where it stands, for messages.
    pub fn file(&self) -> &str {
        match self {
            Self::Streaming(loaded) => &loaded.file,
            Self::Batch(loaded) => &loaded.file,
        }
    }

    /// What is probably not meant.
    pub fn warnings(&self) -> &[Problem] {
        match self {
            Self::Streaming(loaded) => &loaded.warnings,
            Self::Batch(loaded) => &loaded.warnings,
        }
    }

    fn manifest(&self) -> &Manifest {
        match self {
            Self::Streaming(loaded) => &loaded.manifest,
            Self::Batch(loaded) => &loaded.manifest,
        }
    }
}

/// Why a job cannot be read or is not valid.
#[derive(Debug)]
pub enum ConfigError {
    /// A file cannot be read, or the command line asks for something that is not there.
    Usage(String),
    /// The job has problems, each with its file.
    Problems(Vec<(String, Problem)>),
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Usage(message) => f.write_str(message),
            Self::Problems(problems) => {
                let lines: Vec<_> = problems.iter().map(|(file, problem)| problem.in_file(file)).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// The job is valid, and only this version cannot run it.
    pub fn is_not_supported(&self) -> bool {
        match self {
            Self::Usage(_) => false,
            Self::Problems(problems) => problems.iter().all(|(_, problem)| supported::is_about(problem)),
        }
    }

    fn problems(file: &str, problems: Vec<Problem>) -> Self {
        Self::Problems(problems.into_iter().map(|problem| (file.to_owned(), problem)).collect())
    }
}

/// Reads the one job that the command line asks for.
///
/// # Errors
/// [`ConfigError`] with every problem.
pub fn load_one(source: &JobSource) -> Result<Loaded, ConfigError> {
    let mut jobs = load(source)?;
    let names: Vec<_> = jobs.iter().map(|job| job.name().to_owned()).collect();
    let wanted = source.name.as_ref().filter(|_| !source.files.is_empty());
    match (wanted, &names[..]) {
        (_, []) => Err(ConfigError::usage(format!("there is no job in {}: {WRITE_ONE}", shown(&source.files)))),
        (Some(name), _) => match names.iter().position(|known| known == name) {
            Some(index) => Ok(jobs.remove(index)),
            None => {
                let meant = did_you_mean(name, names.iter().map(String::as_str));
                let hint = meant.map(|meant| format!(" did you mean {meant}?")).unwrap_or_default();
                let (files, names) = (shown(&source.files), names.join(", "));
                Err(ConfigError::usage(format!("there is no job {name:?} in {files};{hint} there is {names}")))
            }
        },
        (None, [_]) => Ok(jobs.remove(0)),
        (None, _) => Err(ConfigError::usage(format!(
            "there are several jobs in {}: say which one, as in `data-platform run {} -f …`; there are {}",
            shown(&source.files),
            names[0],
            names.join(", ")
        ))),
    }
}

fn shown(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Reads the one job that the command line asks for, for a command that only knows streaming jobs.
///
/// # Errors
/// [`ConfigError`] with every problem.
pub fn load_streaming(source: &JobSource) -> Result<LoadedJob, ConfigError> {
    match load_one(source)? {
        Loaded::Streaming(loaded) => Ok(*loaded),
        Loaded::Batch(loaded) => {
            let cure = "name a StreamingJob";
            Err(ConfigError::usage(format!("{}: this is a BatchJob, which reads no Kafka: {cure}", loaded.file)))
        }
    }
}

/// Reads all jobs of the files, or the built-in one.
///
/// # Errors
/// [`ConfigError`] with every problem of every job.
pub fn load(source: &JobSource) -> Result<Vec<Loaded>, ConfigError> {
    let texts = if source.files.is_empty() { vec![built_in(source)?] } else { read_files(&source.files)? };
    let (jobs, mut problems) = load_texts(texts, source);
    if problems.is_empty() {
        problems.extend(cycle(&jobs));
    }
    if problems.is_empty() { Ok(jobs) } else { Err(ConfigError::Problems(problems)) }
}

/// The jobs of texts, each with the file that it stands in, and every problem of those that are none.
pub(crate) fn load_texts(texts: Vec<(String, String)>, source: &JobSource) -> (Vec<Loaded>, Vec<(String, Problem)>) {
    let (mut jobs, mut problems) = (Vec::new(), Vec::new());
    for (file, text) in texts {
        let manifests = match Manifest::read(&text) {
            Ok(manifests) if manifests.is_empty() => {
                problems.push((file.clone(), empty_file()));
                continue;
            }
            Ok(manifests) => manifests,
            Err(found) => {
                problems.extend(found.into_iter().map(|problem| (file.clone(), problem)));
                continue;
            }
        };
        for manifest in manifests {
            match load_manifest(&file, manifest, source) {
                Ok(job) => match same_name(&jobs, &job) {
                    Some(problem) => problems.push((file.clone(), problem)),
                    None => jobs.push(job),
                },
                Err(found) => problems.extend(found.into_iter().map(|problem| (file.clone(), problem))),
            }
        }
    }
    (jobs, problems)
}

/// Jobs that wait for each other would wait for ever.
fn cycle(jobs: &[Loaded]) -> Option<(String, Problem)> {
    let depends = |job: &Loaded| -> Vec<String> {
        let Loaded::Batch(job) = job else { return Vec::new() };
        job.job.spec.depends_on.iter().map(|dependency| dependency.name.clone()).collect()
    };
    let graph: Vec<_> = jobs.iter().map(|job| (job.name().to_owned(), depends(job))).collect();
    let cycle = dependencies::in_order(&graph).err()?;
    let job = jobs.iter().find(|job| job.name() == cycle[0])?;
    let (message, cure) = dependencies::told(&cycle);
    let path = spec_field("dependsOn");
    let location = job.manifest().location(&path);
    Some((job.file().to_owned(), Problem { location, ..Problem::error(path, message, cure) }))
}

/// Two jobs of one name would share a checkpoint, and nobody could say which one is meant.
fn same_name(jobs: &[Loaded], job: &Loaded) -> Option<Problem> {
    let other = jobs.iter().find(|other| other.name() == job.name())?;
    let path = FieldPath::root().field("metadata").field("name");
    let line = other.manifest().location(&path).map(|at| format!(":{}", at.line)).unwrap_or_default();
    let message = format!("another job is called {} too: {}{line}", job.name(), other.file());
    let mut problem = Problem::error(path.clone(), message, "give each job a name of its own");
    problem.location = job.manifest().location(&path);
    Some(problem)
}

fn empty_file() -> Problem {
    let path = FieldPath::root();
    Problem::error(path, "the file holds no job", WRITE_ONE)
}

fn built_in(source: &JobSource) -> Result<(String, String), ConfigError> {
    let Some(name) = &source.name else {
        return Err(ConfigError::usage(format!(
            "say which job: -f FILE, or one of the built-in jobs: {}",
            templates::TEMPLATES.map(|(known, ..)| known).join(", ")
        )));
    };
    let template = templates::find(name).map_err(ConfigError::Usage)?;
    Ok((format!("{name} (built in)"), template.to_owned()))
}

/// The texts of files and of the YAML files of folders, each with its path.
pub(crate) fn read_files(files: &[PathBuf]) -> Result<Vec<(String, String)>, ConfigError> {
    let mut texts = Vec::new();
    for path in files {
        for file in yaml_files(path)? {
            let text = std::fs::read_to_string(&file).map_err(|error| {
                ConfigError::usage(format!("cannot read {}: {error}: {GIVE_A_FILE}", file.display()))
            })?;
            texts.push((file.display().to_string(), text));
        }
    }
    Ok(texts)
}

/// A file, or the YAML files of a folder.
fn yaml_files(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let listing = std::fs::read_dir(path)
        .map_err(|error| ConfigError::usage(format!("cannot list {}: {error}", path.display())))?;
    let is_yaml = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let entries = listing.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>();
    let entries = entries.map_err(|error| ConfigError::usage(format!("cannot list {}: {error}", path.display())))?;
    let mut files: Vec<_> = entries.into_iter().filter(is_yaml).collect();
    files.sort();
    Ok(files)
}

/// The job of a pod.
///
/// # Errors
/// [`ConfigError`] with every problem.
pub fn load_in_pod(file: &str, manifest: Manifest, source: &JobSource) -> Result<Loaded, ConfigError> {
    load_manifest(file, manifest, source).map_err(|problems| ConfigError::problems(file, problems))
}

/// Refuses what the operator sees to in a cluster, and flags on a command line: storage, log level, suspension.
///
/// # Errors
/// [`ConfigError`] with every problem.
pub fn check_without_operator(loaded: &Loaded) -> Result<(), ConfigError> {
    let Loaded::Streaming(job) = loaded else { return Ok(()) };
    let mut problems = supported::check_beside_others(&job.job.spec);
    problems.extend(supported::check_waits(&job.job.spec));
    if problems.is_empty() { Ok(()) } else { Err(job_problems(job, problems)) }
}

/// As [`check_without_operator`], of a job that may be suspended: others run in its process.
///
/// # Errors
/// [`ConfigError`] with every problem.
pub fn check_beside_others(loaded: &Loaded) -> Result<(), ConfigError> {
    let Loaded::Streaming(job) = loaded else { return Ok(()) };
    let problems = supported::check_beside_others(&job.job.spec);
    if problems.is_empty() { Ok(()) } else { Err(job_problems(job, problems)) }
}

fn load_manifest(file: &str, mut manifest: Manifest, source: &JobSource) -> Result<Loaded, Vec<Problem>> {
    for assignment in &source.set {
        manifest.set(assignment).map_err(|problem| vec![problem])?;
    }
    let (job, warnings) = manifest.check()?;
    let file = file.to_owned();
    match job {
        Job::Streaming(mut job) => {
            job.spec = templates::expand(&job.spec).map_err(|problems| located(&manifest, problems))?;
            let expanded = expand_parameters(&job.spec, &job.spec.parameters, &source.parameters);
            job.spec = expanded.map_err(|problems| located(&manifest, problems))?;
            // Values of the command line are in place now, and nobody has looked at them.
            let problems = located(&manifest, validate(&job.spec).into_iter().filter(Problem::is_error).collect());
            let loaded = LoadedJob { file, manifest, job: *job, warnings };
            if problems.is_empty() { Ok(Loaded::Streaming(Box::new(loaded))) } else { Err(problems) }
        }
        Job::Batch(mut job) => {
            job.spec = templates::expand_batch(&job.spec).map_err(|problems| located(&manifest, problems))?;
            let expanded = expand_batch_parameters(&job.spec, &job.spec.parameters, &source.parameters);
            job.spec = expanded.map_err(|problems| located(&manifest, problems))?;
            let mut problems = supported::check_batch(&job.spec);
            problems.extend(validate_batch(&job.spec).into_iter().filter(Problem::is_error));
            let problems = located(&manifest, problems);
            let loaded = LoadedJob { file, manifest, job: *job, warnings };
            if problems.is_empty() { Ok(Loaded::Batch(Box::new(loaded))) } else { Err(problems) }
        }
    }
}

/// Fills in where the fields stand.
fn locate(manifest: &Manifest, problems: &mut [Problem]) {
    for problem in problems {
        if problem.location.is_none() {
            problem.location = manifest.location(&problem.path);
        }
    }
}

fn located(manifest: &Manifest, mut problems: Vec<Problem>) -> Vec<Problem> {
    locate(manifest, &mut problems);
    problems
}

/// One problem of a job with its file and its place.
pub(crate) fn job_problem(job: &Loaded, problem: Problem) -> (String, Problem) {
    let location = problem.location.or_else(|| job.manifest().location(&problem.path));
    (job.file().to_owned(), Problem { location, ..problem })
}

/// Problems of one job with its file.
pub(crate) fn job_problems<J>(job: &LoadedJob<J>, problems: Vec<Problem>) -> ConfigError {
    ConfigError::problems(&job.file, located(&job.manifest, problems))
}

/// The path of a field of a job's spec.
pub(crate) fn spec_field(field: &str) -> FieldPath {
    FieldPath::root().field("spec").field(field)
}

/// A query's problem with its place in the file; the query stands at `place`.
pub(crate) fn query_problem<J>(loaded: &LoadedJob<J>, place: &FieldPath, error: &QueryError) -> Problem {
    let cure = error.cure.clone().unwrap_or_else(|| "correct the query".to_owned());
    let mut problem = Problem::error(place.clone(), error.message.clone(), cure);
    // A template's query does not stand in the file.
    let begin = loaded.manifest.location(place).filter(|_| has(loaded.manifest.value(), place));
    problem.location = match (begin, error.position) {
        (Some(begin), Some(position)) => Some(Place {
            line: begin.line + usize::try_from(position.line).unwrap_or(1) - 1,
            column: begin.column + usize::try_from(position.column).unwrap_or(1) - 1,
        }),
        (begin, _) => begin,
    };
    problem
}

/// Whether a document has this field.
fn has(document: &serde_json::Value, place: &FieldPath) -> bool {
    let mut value = Some(document);
    for segment in place.segments() {
        value = match segment {
            Segment::Field(name) => value.and_then(|value| value.get(name)),
            Segment::Index(index) => value.and_then(|value| value.get(index)),
        };
    }
    value.is_some()
}
