//! A checked job, planned: its query compiled, its fingerprints taken, its outputs placed.

use std::sync::Arc;
use std::time::Duration;

use data_platform_crds::field_path::FieldPath;
use data_platform_crds::kafka::{KafkaSpec, StartingOffsets};
use data_platform_crds::problem::Problem;
use data_platform_crds::sink::SinkSpec;
use data_platform_crds::source::{BadRecordAction, SourceSpec};
use data_platform_crds::streaming_job::QueryChangePolicy;
use serde::Serialize;

use crate::checkpoint::decide::Candidate;
use crate::checkpoint::record::{Plan, WindowEnds, checksum};
use crate::checkpoint::store::open::Location;
use crate::config::{ConfigError, LoadedJob, job_problems, query_problem, spec_field};
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::memory::MemoryBudget;
use crate::pipeline::streaming::{BadRecords, RunMode, StreamingSettings};
use crate::sink::table::TableSettings;
use crate::sink::topic::DeadLetterTopic;
use crate::source::dead_letter;
use crate::source::decode::{DecodePlan, declared_schema};
use crate::source::kafka::config::{ClientPurpose, Secrets, client_settings};
use crate::transform::{BatchClock, SourceTable, StreamQuery};

/// Brokers of a job that names none.
pub const DEFAULT_BOOTSTRAP_SERVERS: &str = "localhost:29092";

/// A job whose query is compiled.
pub struct PlannedJob {
    /// The job as it was loaded.
    pub loaded: LoadedJob,
    /// Its only source.
    pub source: SourceSpec,
    /// Its sink.
    pub sink: SinkSpec,
    /// Its query.
    pub query: StreamQuery,
    /// The clock that the query reads.
    pub batch_clock: BatchClock,
    /// What the decoder builds.
    pub decode: DecodePlan,
    /// The table that it writes.
    pub table: Arc<TableSettings>,
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
    /// Compiles a job.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem that can be found without Kafka and without the stores.
    pub fn new(loaded: LoadedJob) -> Result<Self, ConfigError> {
        let spec = &loaded.job.spec;
        let (Some(source), Some(sink), Some(sql)) = (spec.sources.first(), &spec.sink, &spec.query) else {
            let problem =
                Problem::error(spec_field("query"), "the job has no source, query or sink", "write all three");
            return Err(job_problems(&loaded, vec![problem]));
        };
        let (source, sink) = (source.clone(), sink.clone());
        let table = SourceTable {
            name: source.name.clone(),
            schema: declared_schema(&source),
            event_time: source.event_time.as_ref().map(|time| time.column.clone()),
        };
        let batch_clock = BatchClock::default();
        let query = match StreamQuery::plan(sql, &table.into(), batch_clock.clone()) {
            Ok(query) => query,
            Err(error) => return Err(job_problems(&loaded, vec![query_problem(&loaded, &error)])),
        };
        let decode = DecodePlan::new(&source, query.input_columns(0)).map_err(|error| {
            let place = FieldPath::root().field("spec").field("sources").index(0).field("columns");
            job_problems(&loaded, vec![Problem::error(place, error.to_string(), "correct the declaration")])
        })?;
        let table = table_settings(&loaded, &sink, &query);
        table.check().map_err(|error| {
            let place = spec_field("sink").field("partitionBy");
            job_problems(&loaded, vec![Problem::error(place, error.to_string(), "correct partitionBy or the query")])
        })?;
        Ok(Self { source, sink, query, batch_clock, decode, table: Arc::new(table), loaded })
    }

    /// Name of the job.
    pub fn name(&self) -> &str {
        self.loaded.job.metadata.name.as_deref().unwrap_or_default()
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

    /// Where the job's log and state lie.
    pub fn checkpoint_location(&self, options: &RunOptions) -> Location {
        options.checkpoints.join(&options.namespace).join(self.checkpoint())
    }

    /// Where its table lies.
    ///
    /// # Errors
    /// When the path cannot be read.
    pub fn table_location(&self, options: &RunOptions) -> Result<Location, JobError> {
        let path = self.sink.path.as_deref().unwrap_or_default();
        Ok(Location::resolve(path, &options.outputs)?)
    }

    /// Name of the dead letter table.
    pub fn dead_letters_name(&self) -> String {
        format!("{}_dead_letters", self.table.output)
    }

    fn dead_letters_location(&self, options: &RunOptions, table: &Location) -> Result<Location, JobError> {
        match &self.loaded.job.spec.bad_records.path {
            Some(path) => Ok(Location::resolve(path, &options.outputs)?),
            None => Ok(table.beside(&self.dead_letters_name())),
        }
    }

    /// Hashes of the job, and its outputs.
    ///
    /// # Errors
    /// When a path cannot be read.
    pub fn plan(&self, options: &RunOptions) -> Result<Plan, JobError> {
        let spec = &self.loaded.job.spec;
        let table = self.table_location(options)?;
        let mut outputs = std::collections::BTreeMap::from([(self.table.output.clone(), root_url(&table)?)]);
        let mut dead_letters = None;
        if spec.bad_records.action == BadRecordAction::DeadLetter && spec.bad_records.topic.is_none() {
            let location = self.dead_letters_location(options, &table)?;
            outputs.insert(self.dead_letters_name(), root_url(&location)?);
            dead_letters = Some(self.dead_letters_name());
        }
        Ok(Plan {
            fingerprint: self.fingerprint(),
            state_fingerprint: self.state_fingerprint(),
            sql: spec.query.clone().unwrap_or_default(),
            outputs,
            dead_letters,
            rebuild: false,
            restart: options.restart.clone(),
            window_ends: self.window_ends(),
        })
    }

    /// Where windows end, as far as the query alone says it.
    fn window_ends(&self) -> Option<WindowEnds> {
        self.query.window()?.ends().map(|(offset, step)| WindowEnds { step, offset })
    }

    /// Hash of what the job computes: an image upgrade does not change it, since no plan of the engine is part of it.
    fn fingerprint(&self) -> String {
        hash(&(&self.source, self.query.normal_form(), &self.sink, &self.loaded.job.spec.bad_records))
    }

    /// Hash of what the state depends on; empty for a query without a window, which has no state.
    fn state_fingerprint(&self) -> String {
        if self.query.state_form().is_none() {
            return String::new();
        }
        let spec = &self.loaded.job.spec;
        checksum(spec.state_relevant(spec.query.as_deref().unwrap_or_default()).text().as_bytes())
    }

    /// The same as logs of format 1 have it: a job goes on with a log that an earlier version wrote.
    fn state_fingerprint_1(&self) -> String {
        let Some(form) = self.query.state_form() else { return String::new() };
        let source = &self.source;
        let event_time = source.event_time.as_ref().map(|time| &time.column);
        let good = (&source.columns, source.format, source.max_record_bytes, source.max_depth, event_time);
        hash(&(good, form))
    }

    /// Everything decided for a run.
    ///
    /// # Errors
    /// When a path or `startingOffsets` cannot be read.
    pub fn settings(&self, options: &RunOptions) -> Result<StreamingSettings, JobError> {
        let spec = &self.loaded.job.spec;
        let kafka = self.kafka();
        let table_location = self.table_location(options)?;
        Ok(StreamingSettings {
            namespace: options.namespace.clone(),
            job: self.name().to_owned(),
            checkpoint: self.checkpoint().to_owned(),
            checkpoint_location: self.checkpoint_location(options),
            plan: self.plan(options)?,
            state_fingerprint_1: self.state_fingerprint_1(),
            source: self.source.name.clone(),
            decode: self.decode.clone(),
            query: self.query.clone(),
            batch_clock: self.batch_clock.clone(),
            event_time: self.source.event_time.clone(),
            table: Arc::clone(&self.table),
            bad_records: self.bad_records(options, &table_location)?,
            table_location,
            max_bad_percent: u64::try_from(spec.bad_records.max_percent).unwrap_or(100),
            starting_offsets: starting_offsets(&kafka, options)?,
            fail_on_data_loss: kafka.fail_on_data_loss,
            trigger: spec.trigger.interval.as_duration(),
            records_max: kafka.max_offsets_per_trigger,
            mode: options.mode,
            new_log: options.new_log || spec.on_query_change == QueryChangePolicy::NewLog,
            on_query_change: spec.on_query_change,
            reset_breaker: options.reset_breaker,
            candidate: options.candidate.clone(),
            memory: options.memory,
            stay_up: options.stay_up,
            patience: options.patience,
            lock: options.lock,
            records_per_base: options.records_per_base,
        })
    }

    fn bad_records(&self, options: &RunOptions, table: &Location) -> Result<BadRecords, JobError> {
        let spec = &self.loaded.job.spec.bad_records;
        Ok(match (spec.action, &spec.topic) {
            (BadRecordAction::Fail, _) => BadRecords::Fail,
            (BadRecordAction::Drop, _) => BadRecords::Drop,
            (BadRecordAction::DeadLetter, None) => {
                let settings = TableSettings {
                    output: self.dead_letters_name(),
                    partition_by: Vec::new(),
                    schema: dead_letter::schema(),
                    ..(*self.table).clone()
                };
                BadRecords::Table(Arc::new(settings), self.dead_letters_location(options, table)?)
            }
            (BadRecordAction::DeadLetter, Some(topic)) => {
                let (topic, kafka, secrets) = (topic.clone(), self.kafka(), options.secrets.clone());
                let (servers, job) = (self.bootstrap_servers(options), self.name().to_owned());
                BadRecords::Topic(Box::new(move || {
                    let purpose =
                        ClientPurpose { job: &job, bootstrap_servers: &servers, queue_bytes: 0, partitions: 1 };
                    let settings = client_settings(&kafka, &purpose, &secrets).map_err(|error| {
                        JobError::user(Reason::SecretMissing, error.to_string(), "create the file or the Secret")
                    })?;
                    Ok(DeadLetterTopic::new(&topic, settings)?)
                }))
            }
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

fn table_settings(loaded: &LoadedJob, sink: &SinkSpec, query: &StreamQuery) -> TableSettings {
    let sink_path = sink.path.as_deref().unwrap_or_default();
    let output = sink_path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    TableSettings {
        output,
        job: loaded.job.metadata.name.clone().unwrap_or_default(),
        partition_by: sink.partition_by.clone(),
        target_file_bytes: sink.target_file_size.as_bytes(),
        compression: sink.compression,
        schema: query.output_schema(),
    }
}

/// The root as the store writes it into the log.
fn root_url(location: &Location) -> Result<String, JobError> {
    let faults: Arc<dyn crate::faults::Faults> = Arc::new(crate::faults::NoFaults);
    Ok(location.open_table(&faults)?.root().to_owned())
}

fn hash(value: &impl Serialize) -> String {
    checksum(&serde_json::to_vec(value).expect("specs and texts are always JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another hash would keep every job with open windows from going on after an upgrade.
    #[test]
    fn the_state_fingerprint_never_changes() {
        let source = crate::config::JobSource {
            name: Some("event-aggregation".to_owned()),
            ..crate::config::JobSource::default()
        };
        let crate::config::Loaded::Streaming(loaded) = crate::config::load_one(&source).unwrap() else {
            panic!("it is a streaming job")
        };
        let planned = PlannedJob::new(*loaded).unwrap();
        assert_eq!(
            (planned.state_fingerprint().as_str(), planned.state_fingerprint_1().as_str()),
            ("91607ed4903c79df", "ef30200f76390ce2")
        );
    }

    /// A name that is missing there would let a query keep the state of another aggregate.
    #[test]
    fn the_list_of_aggregates_has_every_aggregate_of_the_engine() {
        use data_platform_crds::state_relevant::sql::AGGREGATES;

        let functions = crate::engine::registry(&BatchClock::default(), true);
        let names = functions.aggregate.iter().flat_map(|function| {
            function.aliases().iter().cloned().chain([function.name().to_owned()]).collect::<Vec<_>>()
        });
        let missing: Vec<String> = names.filter(|name| !AGGREGATES.contains(&name.to_lowercase().as_str())).collect();
        assert!(missing.is_empty(), "add {missing:?} to AGGREGATES of crds/src/state_relevant/sql.rs");
    }
}
