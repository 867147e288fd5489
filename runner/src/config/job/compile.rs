//! From the text of a job to what runs: its queries compiled, and from what they want what is decoded.

use std::sync::Arc;

use data_platform_crds::problem::Problem;
use data_platform_crds::sink::{OutputSpec, SinkFormat, SinkSpec};
use data_platform_crds::source::{LateRowAction, SourceSpec};
use data_platform_crds::streaming_job::StreamingJobSpec;
use datafusion::arrow::datatypes::SchemaRef;
use serde::Deserialize;

use super::PlannedJob;
use crate::config::asked::{AskedOutput, asked_outputs};
use crate::config::{LoadedJob, query_problem, spec_field};
use crate::pipeline::job_plan::{self, CompileEarlier, EarlierJob, Flow, FlowInput, ReferencePlan, SourcePlan};
use crate::sink::SinkPlan;
use crate::sink::table::{FileFormat, FileOrder, TableSettings};
use crate::sink::topic::rows::TopicSettings;
use crate::source::decode::{DecodePlan, declared_schema};
use crate::source::reference::{ReferenceError, ReferenceFiles};
use crate::source::routes::TopicRoutes;
use crate::storage::location::Location;
use crate::transform::{BatchClock, Deduplication, QueryInputs, ReferenceTable, SourceTable, StreamQuery};

impl PlannedJob {
    /// Compiles what an earlier plan of the job computed, without its outputs: a rebuild writes none.
    pub(super) fn compile_earlier(&self, outputs: &Location) -> CompileEarlier {
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
}

/// What is made of a job's text.
pub(super) struct Compiled {
    pub(super) sources: Vec<SourcePlan>,
    pub(super) references: Vec<ReferencePlan>,
    pub(super) deduplication: Option<Deduplication>,
    pub(super) flows: Vec<Flow>,
}

/// Compiles the queries, and from what they want what is decoded.
pub(super) fn compile(loaded: &LoadedJob, outputs: &Location, clock: &BatchClock) -> Result<Compiled, Vec<Problem>> {
    let spec = &loaded.job.spec;
    let asked = asked_outputs(spec.query.as_deref(), spec.sink.as_ref(), &spec.outputs);
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
        problems.extend(unkept(output, &writes));
        let of = |(index, built): (usize, &Vec<usize>)| FlowInput::new(query.input_columns(index), built);
        let inputs = built.iter().enumerate().map(|source| query.reads(source.0).then(|| of(source))).collect();
        let (output, sql, sink) = (output.name.clone(), output.sql.to_owned(), output.sink.clone());
        flows.push(Flow { output, sql, query, inputs, sink, writes });
    }
    if problems.is_empty() { Ok(Compiled { sources, references, deduplication, flows }) } else { Err(problems) }
}

/// Why a table cannot be kept up as asked.
fn unkept(output: &AskedOutput<'_>, writes: &SinkPlan) -> Option<Problem> {
    let SinkPlan::Table(table) = writes else { return None };
    output.sink.maintenance.as_ref()?;
    let place = output.sink_place.field("maintenance");
    if table.date_column().is_none() {
        let message = "maintenance goes by days, and no column of partitionBy is a date";
        let cure = "partition by a date, such as CAST(at AS DATE) AS date, or leave maintenance out";
        return Some(Problem::error(place, message, cure));
    }
    None
}

/// The references with their columns, which their files or the job must tell.
fn references(spec: &StreamingJobSpec, outputs: &Location) -> Result<Vec<ReferencePlan>, Vec<Problem>> {
    let (mut plans, mut problems) = (Vec::new(), Vec::new());
    for (index, reference) in spec.references.iter().enumerate() {
        let place = spec_field("references").index(index);
        let location = match Location::resolve(&reference.path, outputs) {
            Ok(location) => location,
            Err(error) => {
                problems.push(Problem::error(place.field("path"), error.to_string(), "write a path or a URL"));
                continue;
            }
        };
        let files = ReferenceFiles {
            name: reference.name.clone(),
            format: reference.format,
            location,
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

pub(super) fn keeps_late(spec: &StreamingJobSpec) -> bool {
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
        SinkFormat::Parquet | SinkFormat::Csv | SinkFormat::Ndjson | SinkFormat::Delta => {
            SinkPlan::Table(Arc::new(table_settings(job, output, sink, schema)))
        }
    }
}

pub(super) fn table_settings(job: &str, output: &str, sink: &SinkSpec, schema: SchemaRef) -> TableSettings {
    TableSettings {
        output: output.to_owned(),
        job: job.to_owned(),
        partition_by: sink.partition_by.clone(),
        order: FileOrder { by: sink.sort_by.clone(), is_given: false },
        target_file_bytes: sink.target_file_size.as_bytes(),
        max_files: None,
        format: FileFormat::of(sink),
        schema,
    }
}
