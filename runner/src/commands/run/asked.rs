//! What a run is asked to do: a job and its options, from the command line or from the configuration of a pod.

use std::path::{Path, PathBuf};

use data_platform_crds::check::Manifest;
use data_platform_crds::job::Job;
use data_platform_crds::runner_config::{RunnerConfig, RunnerConfigError};

use crate::args::{LogLevel, PlaceArgs, RunArgs};
use crate::checkpoint::record::Rank;
use crate::commands::error::CommandError;
use crate::config::job::RunOptions;
use crate::config::{ConfigError, JobSource, Loaded, check_without_operator, load_in_pod, load_one};
use crate::source::kafka::config::Secrets;

/// A job, and how to run it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) loaded: Loaded,
    pub(crate) options: RunOptions,
}

impl Asked {
    /// Reads the job.
    pub(crate) fn read(args: &RunArgs) -> Result<Self, CommandError> {
        let Some(file) = &args.config else {
            let loaded = load_one(&args.job.source())?;
            check_without_operator(&loaded)?;
            return Ok(Self { loaded, options: super::options(args)? });
        };
        let (config, place) = read_config_at(file, &args.place)?;
        let args = RunArgs { place, ..args.clone() };
        let mut options = super::options(&args)?;
        options.candidate.rank = Rank { takeover: args.takeover, ..rank(&config.job) };
        with_secrets_of(&config, &mut options);
        let loaded = loaded(file, &config, &args.job.source())?;
        Ok(Self { loaded, options })
    }
}

fn with_secrets_of(config: &RunnerConfig, options: &mut RunOptions) {
    if std::env::var_os("SECRETS_DIR").is_none() {
        options.secrets = Secrets::new(PathBuf::from(&config.secrets_root));
    }
}

/// The job that the operator wrote for a pod, and how it would run there.
pub(crate) fn with_options_of_pod(
    file: &Path,
    place: &PlaceArgs,
    source: &JobSource,
) -> Result<(Vec<Loaded>, RunOptions), CommandError> {
    let (config, place) = read_config_at(file, place)?;
    let mut options = super::options_of_places(&place)?;
    with_secrets_of(&config, &mut options);
    Ok((vec![loaded(file, &config, source)?], options))
}

/// The job that the operator wrote for a pod, and where its data lie unless the command line says otherwise.
pub(crate) fn of_pod(file: &Path, place: &PlaceArgs, source: &JobSource) -> Result<(Loaded, PlaceArgs), CommandError> {
    let (config, place) = read_config_at(file, place)?;
    Ok((loaded(file, &config, source)?, place))
}

fn loaded(file: &Path, config: &RunnerConfig, source: &JobSource) -> Result<Loaded, CommandError> {
    let value = serde_json::to_value(&config.job).expect("a resource that was read can be written");
    Ok(load_in_pod(&file.display().to_string(), Manifest::from_value(value), source)?)
}

fn read_config_at(file: &Path, place: &PlaceArgs) -> Result<(RunnerConfig, PlaceArgs), CommandError> {
    let config = read_config(file)?;
    let place = PlaceArgs {
        outputs: place.outputs.clone().or(Some(config.outputs_root.clone())),
        checkpoints: place.checkpoints.clone().or(Some(config.checkpoints_root.clone())),
        namespace: place.namespace.clone().or(Some(config.namespace.clone())),
    };
    Ok((config, place))
}

fn read_config(file: &Path) -> Result<RunnerConfig, CommandError> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| {
        let cure = "give the file that the operator wrote with --config or DATA_PLATFORM_CONFIG";
        CommandError::user(format!("cannot read the configuration {shown}: {error}: {cure}"))
    })?;
    RunnerConfig::from_json(&text).map_err(|error| match error {
        RunnerConfigError::Job(problems) => {
            let problems = problems.into_iter().map(|problem| (shown.to_string(), problem)).collect();
            ConfigError::Problems(problems).into()
        }
        RunnerConfigError::Shape(source) => CommandError::user(format!(
            "{shown} is not a configuration of the runner: {source}: bring operator and runner to the same version"
        )),
        RunnerConfigError::Version { .. } => CommandError::user(format!("{shown}: {error}")),
    })
}

/// Rank of a job among those that had its name.
fn rank(job: &Job) -> Rank {
    let metadata = match job {
        Job::Streaming(job) => &job.metadata,
        Job::Batch(job) => &job.metadata,
    };
    let created = metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
    Rank { takeover: 0, created, generation: metadata.generation.unwrap_or(0) }
}

/// Namespace, name and log level of the job in a configuration, as far as they can be read: for pages and log lines of a
/// job that is not valid, and before it is read.
pub(crate) fn glance(args: &RunArgs) -> (String, String, Option<LogLevel>) {
    let text = args.config.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let text = |pointer: &str| value.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default();
    let or = |given: &Option<String>, otherwise: &str| given.clone().unwrap_or_else(|| otherwise.to_owned());
    let level = <LogLevel as clap::ValueEnum>::from_str(text("/job/spec/logLevel"), false).ok();
    let name = or(&args.job.job, text("/job/metadata/name"));
    (or(&args.place.namespace, text("/namespace")), name, level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_is_created_again_outranks_every_generation_of_its_predecessor() {
        let job = |created: &str, generation: i64| {
            let text = serde_json::json!({
                "apiVersion": "dataplatform.io/v1alpha1", "kind": "BatchJob",
                "metadata": {"name": "a", "creationTimestamp": created, "generation": generation},
                "spec": {"template": "hourly-aggregates"},
            });
            rank(&Job::from_value(text).unwrap())
        };
        let (first, second) = (job("2026-01-01T00:00:00Z", 1_000_000), job("2026-01-01T00:00:01Z", 1));
        assert!(job("2026-01-01T00:00:00Z", 2) > job("2026-01-01T00:00:00Z", 1));
        assert!(second > first && second.of_resource() > first.of_resource());
    }
}
