//! A checked job, planned: its queries compiled (`compile`), its fingerprints taken (`fingerprints`), its outputs placed (`places`).

mod compile;
mod fingerprints;
mod places;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use data_platform_crds::kafka::{KafkaSpec, StartingOffsets};
use data_platform_crds::problem::Problem;
use data_platform_crds::source::BadRecordAction;
use data_platform_crds::streaming_job::QueryChangePolicy;

use self::compile::{Compiled, compile, keeps_late, table_settings};
pub(super) use self::places::location;
use crate::checkpoint::decide::Candidate;
use crate::config::{ConfigError, LoadedJob, job_problems, spec_field};
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::job_plan::{Flow, ReferencePlan, SourcePlan};
use crate::pipeline::memory::MemoryBudget;
use crate::pipeline::streaming::{BadRecords, RunMode, StreamingSettings};
use crate::sink::table::{FileFormat, FileOrder, TableSettings};
use crate::sink::topic::producer::{KafkaProducer, MakeProducer};
use crate::sink::{SinkError, SinkPlan};
use crate::source::dead_letter;
use crate::source::kafka::config::{ClientPurpose, Secrets, client_settings, tokens};
use crate::source::routes::TopicRoutes;
use crate::storage::location::Location;
use crate::transform::{BatchClock, Deduplication};

/// Brokers of a job that names none.
pub const DEFAULT_BOOTSTRAP_SERVERS: &str = "localhost:29092";

/// A job whose queries are compiled.
pub struct PlannedJob {
    /// The job as it was loaded.
    pub loaded: LoadedJob,
    /// Its sources, as they are decoded.
    pub sources: Vec<SourcePlan>,
    /// The tables that its queries join with.
    pub references: Vec<ReferencePlan>,
    /// Which records count once.
    pub deduplication: Option<Deduplication>,
    /// Its queries, each with its output. There is at least one.
    pub flows: Vec<Flow>,
    /// The clock that the queries read.
    pub batch_clock: BatchClock,
}

/// What the command line and the environment say about a run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Namespace; `local` without a cluster.
    pub namespace: String,
    /// The order to start the job again that it was started with.
    pub restart: Option<String>,
    /// Where outputs lie.
    pub outputs: Location,
    /// Where checkpoints lie.
    pub checkpoints: Location,
    /// Addresses that win over those of the job.
    pub bootstrap_servers: Option<String>,
    /// Where a job without a log begins; wins over the job's.
    pub starting_offsets: Option<StartingOffsets>,
    /// How long to run.
    pub mode: RunMode,
    /// Accept an output that belongs to another log.
    pub new_log: bool,
    /// Close a circuit breaker that is open.
    pub reset_breaker: bool,
    /// Who we are among starters.
    pub candidate: Candidate,
    /// Memory.
    pub memory: MemoryBudget,
    /// Stay up with an error that needs its user.
    pub stay_up: bool,
    /// How long a bounded run tries what may pass.
    pub patience: Duration,
    /// Take the lock of a local checkpoint folder.
    pub lock: bool,
    /// Log records between two bases.
    pub records_per_base: u64,
    /// Where secrets lie.
    pub secrets: Secrets,
}

impl PlannedJob {
    /// Compiles a job whose outputs lie at `outputs`, and its references, if their paths are relative.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem that can be found without Kafka and without the stores.
    pub fn new(loaded: LoadedJob, outputs: &Location) -> Result<Self, ConfigError> {
        let batch_clock = BatchClock::default();
        let compiled = compile(&loaded, outputs, &batch_clock);
        let Compiled { sources, references, deduplication, flows } = match compiled {
            Ok(compiled) => compiled,
            Err(problems) => return Err(job_problems(&loaded, problems)),
        };
        Ok(Self { loaded, sources, references, deduplication, flows, batch_clock })
    }

    /// Name of the job.
    pub fn name(&self) -> &str {
        self.loaded.job.metadata.name.as_deref().unwrap_or_default()
    }

    /// A word for each source that no query reads: its records are read and counted, and come to nothing.
    pub fn unread_sources(&self) -> Vec<Problem> {
        let sources = self.loaded.job.spec.sources.iter().enumerate();
        let unread = sources.filter(|(index, _)| self.flows.iter().all(|flow| !flow.reads(*index)));
        unread
            .map(|(index, source)| {
                let path = spec_field("sources").index(index);
                let message =
                    format!("no query reads the source {}: its records are read, counted and dropped", source.name);
                let cure = "leave the source out, or name it in a query";
                let location = self.loaded.manifest.location(&path);
                Problem { location, ..Problem::warning(path, message, cure) }
            })
            .collect()
    }

    /// Name of the checkpoint.
    pub fn checkpoint(&self) -> &str {
        let named = self.loaded.job.spec.checkpoint.as_ref().and_then(|checkpoint| checkpoint.name.as_deref());
        named.unwrap_or_else(|| self.name())
    }

    /// The job's `kafka` section, or the defaults.
    pub fn kafka(&self) -> KafkaSpec {
        self.loaded.job.spec.kafka.clone().unwrap_or_default()
    }

    /// Addresses of the brokers: environment and flags, then the job, then the default.
    pub fn bootstrap_servers(&self, options: &RunOptions) -> String {
        let named = options.bootstrap_servers.clone().or_else(|| self.kafka().bootstrap_servers);
        named.unwrap_or_else(|| DEFAULT_BOOTSTRAP_SERVERS.to_owned())
    }

    /// The first output: dead letters are called by it, and lie beside its table.
    pub fn first(&self) -> &Flow {
        self.flows.first().expect("a job without an output is refused")
    }

    /// Name of the output for dead letters.
    pub fn dead_letters_name(&self) -> String {
        format!("{}_dead_letters", self.first().output)
    }

    /// Everything decided for a run.
    ///
    /// # Errors
    /// When a path or `startingOffsets` cannot be read.
    pub fn settings(&self, options: &RunOptions) -> Result<StreamingSettings, JobError> {
        let spec = &self.loaded.job.spec;
        let kafka = self.kafka();
        Ok(StreamingSettings {
            namespace: options.namespace.clone(),
            job: self.name().to_owned(),
            checkpoint: self.checkpoint().to_owned(),
            checkpoint_location: self.checkpoint_location(options),
            plan: self.plan(options)?,
            state_fingerprints_1: self
                .flows
                .iter()
                .map(|flow| (flow.output.clone(), self.state_fingerprint_1(flow)))
                .collect(),
            sources: self.sources.clone(),
            routes: TopicRoutes::new(&spec.sources)?,
            references: self.references.clone(),
            deduplication: self.deduplication.clone(),
            flows: self.flows.clone(),
            batch_clock: self.batch_clock.clone(),
            bad_records: self.bad_records(),
            producers: self.producers(options),
            keep_late: keeps_late(spec),
            max_bad_percent: u64::try_from(spec.bad_records.max_percent).unwrap_or(100),
            starting_offsets: starting_offsets(&kafka, options)?,
            fail_on_data_loss: kafka.fail_on_data_loss,
            trigger: spec.trigger.interval.as_duration(),
            records_max: kafka.max_offsets_per_trigger,
            mode: options.mode,
            new_log: options.new_log || spec.on_query_change == QueryChangePolicy::NewLog,
            on_query_change: spec.on_query_change,
            compile_earlier: self.compile_earlier(&options.outputs),
            reset_breaker: options.reset_breaker,
            candidate: options.candidate.clone(),
            memory: options.memory,
            stay_up: options.stay_up,
            patience: options.patience,
            lock: options.lock,
            records_per_base: options.records_per_base,
        })
    }

    pub(crate) fn bad_records(&self) -> BadRecords {
        let spec = &self.loaded.job.spec.bad_records;
        match (spec.action, &spec.topic) {
            (BadRecordAction::Fail, _) => BadRecords::Fail,
            (BadRecordAction::Drop, _) => BadRecords::Drop,
            (BadRecordAction::DeadLetter, None) => BadRecords::Keep(SinkPlan::Table(Arc::new(TableSettings {
                partition_by: Vec::new(),
                order: FileOrder::default(),
                format: FileFormat::of(&self.first().sink).as_parquet(),
                ..table_settings(self.name(), &self.dead_letters_name(), &self.first().sink, dead_letter::schema())
            }))),
            (BadRecordAction::DeadLetter, Some(topic)) => {
                BadRecords::Keep(SinkPlan::DeadLetterTopic { output: self.dead_letters_name(), topic: topic.clone() })
            }
        }
    }

    /// What sends to topics, with the settings of all the job's clients.
    fn producers(&self, options: &RunOptions) -> Box<MakeProducer> {
        let (kafka, secrets) = (self.kafka(), options.secrets.clone());
        let (servers, job) = (self.bootstrap_servers(options), self.name().to_owned());
        Box::new(move |topic, too_large| {
            let purpose = ClientPurpose { job: &job, bootstrap_servers: &servers, queue_bytes: 0, partitions: 1 };
            let settings = client_settings(&kafka, &purpose, &secrets);
            let settings = settings.map_err(|error| SinkError::Secret(error.to_string()))?;
            Ok(Rc::new(KafkaProducer::new(topic, too_large, settings, tokens(&kafka, &secrets))?))
        })
    }
}

fn starting_offsets(kafka: &KafkaSpec, options: &RunOptions) -> Result<StartingOffsets, JobError> {
    match (&options.starting_offsets, options.mode) {
        (Some(offsets), _) => Ok(offsets.clone()),
        (None, RunMode::TestMode) => Ok(StartingOffsets::Earliest),
        (None, _) => {
            kafka.starting_offsets.parse().map_err(|error: data_platform_crds::kafka::StartingOffsetsError| {
                JobError::user(Reason::StartingOffsetsInvalid, error.to_string(), "correct kafka.startingOffsets")
            })
        }
    }
}

#[cfg(test)]
mod tests;
