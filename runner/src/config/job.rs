//! A checked job, planned: its queries compiled, its fingerprints taken, its outputs placed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use data_platform_crds::column::ColumnSpec;
use data_platform_crds::field_path::FieldPath;
use data_platform_crds::kafka::{KafkaSpec, StartingOffsets};
use data_platform_crds::problem::Problem;
use data_platform_crds::sink::{OutputSpec, SinkFormat, SinkSpec};
use data_platform_crds::source::{BadRecordAction, LateRowAction, SourceSpec};
use data_platform_crds::streaming_job::{QueryChangePolicy, StreamingJobSpec};
use datafusion::arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::checkpoint::decide::Candidate;
use crate::checkpoint::record::{Plan, QueryPlan, WindowEnds};
use crate::config::{ConfigError, LoadedJob, job_problems, query_problem, spec_field};
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::job_plan::{self, CompileEarlier, EarlierJob, Flow, FlowInput, ReferencePlan, SourcePlan};
use crate::pipeline::memory::MemoryBudget;
use crate::pipeline::streaming::{BadRecords, RunMode, StreamingSettings};
use crate::sink::table::{FileFormat, TableSettings};
use crate::sink::topic::producer::{KafkaProducer, MakeProducer};
use crate::sink::topic::rows::TopicSettings;
use crate::sink::{SinkError, SinkPlan};
use crate::source::dead_letter;
use crate::source::decode::{DecodePlan, declared_schema};
use crate::source::kafka::config::{ClientPurpose, Secrets, client_settings};
use crate::source::reference::{ReferenceError, ReferenceFiles};
use crate::source::routes::TopicRoutes;
use crate::storage::checksum::checksum;
use crate::storage::location::Location;
use crate::transform::{BatchClock, Deduplication, QueryInputs, ReferenceTable, SourceTable, StreamQuery};

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

    /// Where the job's log and state lie.
    pub fn checkpoint_location(&self, options: &RunOptions) -> Location {
        options.checkpoints.join(&options.namespace).join(self.checkpoint())
    }

    /// The root of an output, as it stands in the job log.
    ///
    /// # Errors
    /// When its path cannot be read.
    fn root(&self, flow: &Flow, options: &RunOptions) -> Result<String, JobError> {
        match flow.writes.root() {
            Some(root) => Ok(root),
            None => root_url(&location(flow, &options.outputs)?),
        }
    }

    /// Where the rows of an output go, for people.
    ///
    /// # Errors
    /// When its path cannot be read.
    pub fn place(&self, flow: &Flow, options: &RunOptions) -> Result<String, JobError> {
        flow.writes.root().map_or_else(|| Ok(location(flow, &options.outputs)?.to_string()), Ok)
    }

    /// The first output: dead letters are called by it, and lie beside its table.
    pub fn first(&self) -> &Flow {
        self.flows.first().expect("a job without an output is refused")
    }

    /// Name of the output for dead letters.
    pub fn dead_letters_name(&self) -> String {
        format!("{}_dead_letters", self.first().output)
    }

    pub(super) fn dead_letters_location(&self, outputs: &Location) -> Result<Location, JobError> {
        if let Some(path) = &self.loaded.job.spec.bad_records.path {
            return Ok(Location::resolve(path, outputs)?);
        }
        // Beside the first table and called by it; of a job without one, where tables lie and called by the job: several jobs
        // may write to one topic.
        match self.flows.iter().find(|flow| flow.writes.root().is_none()) {
            Some(table) => {
                let name = format!("{}_dead_letters", folder_name(&table.sink));
                Ok(location(table, outputs)?.beside(&name))
            }
            None => Ok(Location::resolve(&format!("{}_dead_letters", self.name()), outputs)?),
        }
    }

    /// Hashes of the job, its queries, and its outputs.
    ///
    /// # Errors
    /// When a path cannot be read, or two outputs lie at one place.
    pub fn plan(&self, options: &RunOptions) -> Result<Plan, JobError> {
        let mut outputs = BTreeMap::new();
        for flow in &self.flows {
            outputs.insert(flow.output.clone(), self.root(flow, options)?);
        }
        let mut dead_letters = None;
        if let BadRecords::Keep(plan) = self.bad_records() {
            let name = self.dead_letters_name();
            if outputs.contains_key(&name) {
                let problem = format!("the output {name} has the name of the job's dead letters");
                return Err(JobError::user(Reason::InvalidSpec, problem, "give the output another name"));
            }
            let root = plan.root().map_or_else(|| root_url(&self.dead_letters_location(&options.outputs)?), Ok)?;
            outputs.insert(name.clone(), root);
            dead_letters = Some(name);
        }
        two_at_one_place(&outputs)?;
        let query = |flow: &Flow| QueryPlan {
            sql: flow.sql.clone(),
            state_fingerprint: self.state_fingerprint(flow),
            sources: self.sources_of(flow).map(|source| source.name.clone()).collect(),
        };
        let queries = self.flows.iter().map(|flow| (flow.output.clone(), query(flow))).collect();
        Ok(Plan {
            fingerprint: self.fingerprint(),
            queries,
            sources: serde_json::to_value(&self.loaded.job.spec.sources).expect("a spec is always JSON"),
            outputs,
            dead_letters,
            deduplicate: self.deduplication.as_ref().map(|_| self.deduplicate_fingerprint()),
            rebuild: false,
            restart: options.restart.clone(),
            window_ends: self.window_ends(),
        })
    }

    fn sources_of(&self, flow: &Flow) -> impl Iterator<Item = &SourceSpec> {
        let reads: Vec<bool> = (0..self.sources.len()).map(|source| flow.reads(source)).collect();
        self.loaded.job.spec.sources.iter().zip(reads).filter_map(|(source, reads)| reads.then_some(source))
    }

    /// Where windows end, as far as the only query with windows says it. Batches of a job with several, or with duplicates to
    /// remember, are not merged: each takes part in a rebuild from a version of its own on.
    fn window_ends(&self) -> Option<WindowEnds> {
        if self.deduplication.is_some() {
            return None;
        }
        let mut windows = self.flows.iter().filter_map(|flow| flow.query.window());
        let only = windows.next().filter(|_| windows.next().is_none())?;
        only.ends().map(|(offset, step)| WindowEnds { step, offset })
    }

    /// Hash of what the job computes: an image upgrade does not change it, since no plan of the engine is part of it.
    fn fingerprint(&self) -> String {
        let of = |flow: &Flow| (flow.output.clone(), flow.query.normal_form().to_owned(), flow.sink.clone());
        let flows: Vec<_> = self.flows.iter().map(of).collect();
        let spec = &self.loaded.job.spec;
        let always = (&spec.sources, flows, &spec.bad_records);
        match (&spec.deduplicate, &spec.references[..]) {
            // What other jobs were called before there were these.
            (None, []) => hash(&always),
            others => hash(&(always, others)),
        }
    }

    /// Hash of what makes two records one.
    fn deduplicate_fingerprint(&self) -> String {
        let spec = &self.loaded.job.spec;
        let keys = |source: &SourceSpec| -> Vec<ColumnSpec> {
            let is_key = |name: &String| spec.deduplicate.as_ref().is_some_and(|keys| keys.keys.contains(name));
            source.columns.iter().filter(|column| is_key(&column.name)).cloned().collect()
        };
        let time = |source: &SourceSpec| source.event_time.as_ref().map(|time| time.column.clone());
        let sources = spec.sources.iter().map(|source| (source.name.clone(), time(source), keys(source)));
        hash(&(&spec.deduplicate, sources.collect::<Vec<_>>()))
    }

    /// Hash of what the state of an output depends on; empty for a query without a window, which has no state.
    fn state_fingerprint(&self, flow: &Flow) -> String {
        if flow.query.state_form().is_none() {
            return String::new();
        }
        checksum(self.loaded.job.spec.state_relevant(&flow.sql).text().as_bytes())
    }

    /// The same as logs of format 1 have it: a job goes on with a log that an earlier version wrote. Then a job had one source.
    fn state_fingerprint_1(&self, flow: &Flow) -> String {
        let (Some(form), [source]) = (flow.query.state_form(), &self.loaded.job.spec.sources[..]) else {
            return String::new();
        };
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

    /// Compiles what an earlier plan of the job computed, without its outputs: a rebuild writes none.
    fn compile_earlier(&self, outputs: &Location) -> CompileEarlier {
        let (loaded, clock, outputs) = (self.loaded.clone(), self.batch_clock.clone(), outputs.clone());
        let sink = SinkSpec::parquet("");
        Box::new(move |computed| {
            let mut loaded = loaded.clone();
            let spec = &mut loaded.job.spec;
            if !computed.sources.is_null() {
                spec.sources = Vec::deserialize(&computed.sources).map_err(|error| error.to_string())?;
            }
            (spec.query, spec.sink) = (None, None);
            let has_keys = |source: &SourceSpec| {
                let keys = spec.deduplicate.iter().flat_map(|deduplicate| &deduplicate.keys);
                keys.into_iter().all(|key| source.columns.iter().any(|column| column.name == *key))
            };
            if !spec.sources.iter().all(has_keys) {
                // Then its records were compared by others, or by none.
                spec.deduplicate = None;
            }
            let output = |(name, sql): (&String, &String)| OutputSpec {
                name: name.clone(),
                query: Some(sql.clone()),
                sink: sink.clone(),
            };
            spec.outputs = computed.queries.iter().map(output).collect();
            let first =
                |problems: Vec<Problem>| problems.first().map(|problem| problem.message.clone()).unwrap_or_default();
            let Compiled { sources, flows, .. } = compile(&loaded, &outputs, &clock).map_err(first)?;
            let routes = TopicRoutes::new(&loaded.job.spec.sources).map_err(|error| error.to_string())?;
            Ok(EarlierJob { sources, routes, flows })
        })
    }

    pub(super) fn bad_records(&self) -> BadRecords {
        let spec = &self.loaded.job.spec.bad_records;
        match (spec.action, &spec.topic) {
            (BadRecordAction::Fail, _) => BadRecords::Fail,
            (BadRecordAction::Drop, _) => BadRecords::Drop,
            (BadRecordAction::DeadLetter, None) => BadRecords::Keep(SinkPlan::Table(Arc::new(TableSettings {
                partition_by: Vec::new(),
                format: FileFormat::Parquet(self.first().sink.compression),
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
            Ok(Rc::new(KafkaProducer::new(topic, too_large, settings)?))
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

/// An output as the user asks for it, and where that stands.
struct AskedOutput<'a> {
    name: String,
    sql: &'a str,
    query_place: FieldPath,
    sink: &'a SinkSpec,
    sink_place: FieldPath,
}

/// `query` and `sink`, whose output is called like its folder, or `outputs`.
fn asked_outputs(spec: &StreamingJobSpec) -> Vec<AskedOutput<'_>> {
    let only = spec.query.as_deref().zip(spec.sink.as_ref()).map(|(sql, sink)| AskedOutput {
        name: folder_name(sink).to_owned(),
        sql,
        query_place: spec_field("query"),
        sink,
        sink_place: spec_field("sink"),
    });
    let several = spec.outputs.iter().enumerate().filter_map(|(index, output)| {
        let place = spec_field("outputs").index(index);
        Some(AskedOutput {
            name: output.name.clone(),
            sql: output.query.as_deref()?,
            query_place: place.field("query"),
            sink: &output.sink,
            sink_place: place.field("sink"),
        })
    });
    only.into_iter().chain(several).collect()
}

/// What is made of a job's text.
struct Compiled {
    sources: Vec<SourcePlan>,
    references: Vec<ReferencePlan>,
    deduplication: Option<Deduplication>,
    flows: Vec<Flow>,
}

/// Compiles the queries, and from what they want what is decoded.
fn compile(loaded: &LoadedJob, outputs: &Location, clock: &BatchClock) -> Result<Compiled, Vec<Problem>> {
    let spec = &loaded.job.spec;
    let asked = asked_outputs(spec);
    if asked.is_empty() || spec.sources.is_empty() {
        let message = "the job has no source, query or sink";
        return Err(vec![Problem::error(spec_field("query"), message, "write all three")]);
    }
    let sources = spec.sources.iter().map(source_table).collect();
    let mut references = references(spec, outputs)?;
    let table =
        |plan: &ReferencePlan| ReferenceTable { name: plan.files.name.clone(), schema: Arc::clone(&plan.schema) };
    let references_tables = references.iter().map(table).collect();
    let tell_late_records = keeps_late(spec);
    let inputs = QueryInputs { sources, references: references_tables, tell_late_records, ..QueryInputs::default() };
    let mut problems = Vec::new();
    let deduplication = deduplication(spec, &inputs).unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    let mut compiled = Vec::new();
    for output in &asked {
        let tell_origins = output.sink.format == SinkFormat::Kafka;
        let inputs = QueryInputs { tell_origins, ..inputs.clone() };
        match StreamQuery::plan(output.sql, &inputs, clock.clone()) {
            Ok(query) => compiled.push((output, query)),
            Err(error) => problems.push(query_problem(loaded, &output.query_place, &error)),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let with_windows = || compiled.iter().filter(|(_, query)| query.window().is_some());
    for (index, reference) in references.iter_mut().enumerate() {
        reference.kept = with_windows().any(|(_, query)| query.references().contains(&index));
    }
    let mut sources = Vec::new();
    let mut built = Vec::new();
    for (index, source) in spec.sources.iter().enumerate() {
        let wanted = compiled.iter().map(|(_, query)| query.input_columns(index));
        let needed = job_plan::union(wanted.chain(deduplication.as_ref().map(|keys| keys.columns(index))));
        match DecodePlan::new(source, &needed) {
            Ok(decode) => {
                sources.push(SourcePlan { name: source.name.clone(), decode, event_time: source.event_time.clone() });
            }
            Err(error) => {
                let place = spec_field("sources").index(index).field("columns");
                problems.push(Problem::error(place, error.to_string(), "correct the declaration"));
            }
        }
        built.push(needed);
    }
    let mut flows = Vec::new();
    for (output, query) in compiled {
        let job = loaded.job.metadata.name.as_deref().unwrap_or_default();
        let writes = sink_plan(job, &output.name, output.sink, query.output_schema());
        if let Err((field, problem)) = writes.check() {
            let place = output.sink_place.field(field);
            problems.push(Problem::error(place, problem, format!("correct {field} or the query")));
        }
        let of = |(index, built): (usize, &Vec<usize>)| FlowInput::new(query.input_columns(index), built);
        let inputs = built.iter().enumerate().map(|source| query.reads(source.0).then(|| of(source))).collect();
        let (output, sql, sink) = (output.name.clone(), output.sql.to_owned(), output.sink.clone());
        flows.push(Flow { output, sql, query, inputs, sink, writes });
    }
    if problems.is_empty() { Ok(Compiled { sources, references, deduplication, flows }) } else { Err(problems) }
}

/// The references with their columns, which their files or the job must tell.
fn references(spec: &StreamingJobSpec, outputs: &Location) -> Result<Vec<ReferencePlan>, Vec<Problem>> {
    let (mut plans, mut problems) = (Vec::new(), Vec::new());
    for (index, reference) in spec.references.iter().enumerate() {
        let place = spec_field("references").index(index);
        // A place that is no folder is refused before.
        let folder =
            Location::resolve(&reference.path, outputs).ok().and_then(|place| place.folder().map(PathBuf::from));
        let files = ReferenceFiles {
            name: reference.name.clone(),
            format: reference.format,
            path: folder.unwrap_or_else(|| PathBuf::from(&reference.path)),
            columns: reference.columns.clone(),
        };
        match files.schema() {
            Ok(schema) => {
                let reload_interval = reference.reload_interval.as_micros();
                plans.push(ReferencePlan { files, schema, reload_interval, kept: false });
            }
            Err(error @ ReferenceError::Missing { .. }) => {
                let cure = "put the files there, or name its columns, and the job can be checked before they are there";
                problems.push(Problem::error(place.field("path"), error.to_string(), cure));
            }
            Err(error) => problems.push(Problem::error(place.field("path"), error.to_string(), error.cure())),
        }
    }
    if problems.is_empty() { Ok(plans) } else { Err(problems) }
}

fn deduplication(spec: &StreamingJobSpec, inputs: &QueryInputs) -> Result<Option<Deduplication>, Problem> {
    let Some(deduplicate) = &spec.deduplicate else { return Ok(None) };
    let planned = Deduplication::plan(&deduplicate.keys, deduplicate.within.as_micros(), inputs);
    planned.map(Some).map_err(|error| {
        let cure = error.cure.unwrap_or_else(|| "correct the keys".to_owned());
        Problem::error(spec_field("deduplicate").field("keys"), error.message, cure)
    })
}

fn keeps_late(spec: &StreamingJobSpec) -> bool {
    spec.late_rows.action == LateRowAction::DeadLetter
}

fn source_table(source: &SourceSpec) -> SourceTable {
    SourceTable {
        name: source.name.clone(),
        schema: declared_schema(source),
        event_time: source.event_time.as_ref().map(|time| time.column.clone()),
    }
}

/// What becomes of the rows of a query.
fn sink_plan(job: &str, output: &str, sink: &SinkSpec, schema: SchemaRef) -> SinkPlan {
    match sink.format {
        SinkFormat::Kafka => SinkPlan::Topic(Arc::new(TopicSettings {
            output: output.to_owned(),
            topic: sink.topic.clone().unwrap_or_default(),
            key_column: sink.key_column.clone(),
            schema,
        })),
        SinkFormat::Stdout => SinkPlan::Stdout { output: output.to_owned() },
        // Delta is refused before.
        SinkFormat::Parquet | SinkFormat::Csv | SinkFormat::Delta => {
            SinkPlan::Table(Arc::new(table_settings(job, output, sink, schema)))
        }
    }
}

fn file_format(sink: &SinkSpec) -> FileFormat {
    if sink.format == SinkFormat::Csv { FileFormat::Csv } else { FileFormat::Parquet(sink.compression) }
}

fn table_settings(job: &str, output: &str, sink: &SinkSpec, schema: SchemaRef) -> TableSettings {
    TableSettings {
        output: output.to_owned(),
        job: job.to_owned(),
        partition_by: sink.partition_by.clone(),
        target_file_bytes: sink.target_file_size.as_bytes(),
        format: file_format(sink),
        schema,
    }
}

/// The folder of the table of an output.
pub(super) fn location(flow: &Flow, outputs: &Location) -> Result<Location, JobError> {
    Ok(Location::resolve(flow.sink.path.as_deref().unwrap_or_default(), outputs)?)
}

/// Name of the folder of a table, or of the topic; what goes to the screen is called `stdout`.
fn folder_name(sink: &SinkSpec) -> &str {
    let path = sink.path.as_deref().or(sink.topic.as_deref()).unwrap_or("stdout");
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// Two outputs in one folder would be one table.
fn two_at_one_place(outputs: &BTreeMap<String, String>) -> Result<(), JobError> {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, root) in outputs {
        if let Some(other) = names.insert(root, name) {
            let problem = format!("the outputs {other} and {name} lie at one place: {root}");
            return Err(JobError::user(Reason::InvalidSpec, problem, "give each output a folder or topic of its own"));
        }
    }
    Ok(())
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
        let planned = PlannedJob::new(*loaded, &Location::Folder(PathBuf::new())).unwrap();
        assert_eq!(
            (
                planned.state_fingerprint(planned.first()).as_str(),
                planned.state_fingerprint_1(planned.first()).as_str()
            ),
            ("91607ed4903c79df", "ef30200f76390ce2")
        );
    }

    #[test]
    fn a_parameter_of_the_command_line_leads_no_table_out_of_the_outputs_folder() {
        let folder = tempfile::tempdir().unwrap();
        let kinds = [
            ("StreamingJob", "sources: [{name: s, topics: [t], columns: [{name: a, type: int}]}]"),
            ("BatchJob", "interval: hour\n  inputs: [{name: s, path: in, timeColumn: ts, completeBy: clock}]"),
        ];
        for (kind, reads) in kinds {
            let file = folder.path().join(kind);
            let text = format!(
                "apiVersion: dataplatform.io/v1alpha1\nkind: {kind}\nmetadata: {{name: j}}\nspec:\n  parameters: {{to: x}}\n  \
                 {reads}\n  query: SELECT a FROM s\n  sink: {{format: parquet, path: \"t/${{to}}\"}}\n"
            );
            std::fs::write(&file, text).unwrap();
            let load = |to: &str| {
                let parameters = [("to".to_owned(), to.to_owned())].into();
                let (files, default) = (vec![file.clone()], crate::config::JobSource::default());
                crate::config::load_one(&crate::config::JobSource { files, parameters, ..default })
            };
            load("y").unwrap();
            for to in ["../../y", "_y", "a//b"] {
                let problem = load(to).unwrap_err().to_string();
                assert!(problem.contains(&format!("spec.sink.path: \"t/{to}\" has")), "{problem}");
            }
        }
    }

    #[test]
    fn a_source_that_no_query_reads_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("job.yaml");
        let source = |name: &str| format!("    - {{name: {name}, topics: [t], columns: [{{name: a, type: int}}]}}\n");
        let text = format!(
            "apiVersion: dataplatform.io/v1alpha1\nkind: StreamingJob\nmetadata: {{name: j}}\nspec:\n  sources:\n{}{}  query: \
             SELECT a FROM used\n  sink: {{format: parquet, path: t}}\n",
            source("used"),
            source("unused").replace("[t]", "[u]")
        );
        std::fs::write(&file, text).unwrap();
        let source = crate::config::JobSource { files: vec![file], ..crate::config::JobSource::default() };
        let crate::config::Loaded::Streaming(loaded) = crate::config::load_one(&source).unwrap() else {
            panic!("it is a streaming job")
        };
        let found = PlannedJob::new(*loaded, &Location::Folder(PathBuf::new())).unwrap().unread_sources();
        let found: Vec<_> = found.iter().map(|problem| problem.in_file("job.yaml")).collect();
        let expected = "job.yaml:7:7: warning: spec.sources[1]: no query reads the source unused: its records are read, \
                        counted and dropped: leave the source out, or name it in a query";
        assert_eq!(found, [expected]);
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
