//! A checked batch job, planned: its query read, its intervals known, its tables named.

use std::collections::BTreeMap;
use std::time::Duration;

use data_platform_crds::batch_job::{BatchJob, InputFormat, InputSpec, Replaced};
use data_platform_crds::field_path::FieldPath;
use data_platform_crds::problem::Problem;
use data_platform_crds::sink::SinkSpec;
use data_platform_crds::source::ReferenceColumnSpec;
use datafusion::arrow::datatypes::SchemaRef;

use crate::config::asked::{AskedOutput, asked_outputs};
use crate::config::job::RunOptions;
use crate::config::written::WrittenFolder;
use crate::config::{ConfigError, LoadedJob, job_problems, query_problem, spec_field};
use crate::pipeline::batch::depends::Dependency;
use crate::pipeline::batch::inputs::Input;
use crate::pipeline::batch::interval::Grid;
use crate::pipeline::batch::{BatchOutput, BatchSettings, Request};
use crate::pipeline::error::JobError;
use crate::storage::checksum::checksum;
use crate::storage::location::Location;
use crate::tables::Kind;
use crate::tables::schema::TableSchema;
use crate::transform::BatchQuery;

/// Columns of tables that are known before they are there, by their path as jobs write it.
pub type KnownTables = BTreeMap<String, SchemaRef>;

/// A batch job whose query is read.
pub struct PlannedBatch {
    /// The job as it was loaded.
    pub loaded: LoadedJob<BatchJob>,
    outputs: Vec<PlannedOutput>,
    grid: Grid,
}

/// An output whose query is read.
struct PlannedOutput {
    name: String,
    /// The field of its sink.
    place: FieldPath,
    query: BatchQuery,
    sink: SinkSpec,
}

impl PlannedBatch {
    /// Reads the query, and judges what can be judged without the tables.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem that can be found so.
    pub fn new(loaded: LoadedJob<BatchJob>) -> Result<Self, ConfigError> {
        Self::over(loaded, &KnownTables::new())
    }

    /// The same, with the columns of tables that other jobs write.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem that can be found so.
    pub fn over(loaded: LoadedJob<BatchJob>, known: &KnownTables) -> Result<Self, ConfigError> {
        let spec = &loaded.job.spec;
        let asked = asked_outputs(spec.query.as_deref(), spec.sink.as_ref(), &spec.outputs);
        let (Some(interval), false) = (spec.interval, asked.is_empty()) else {
            let problem =
                Problem::error(spec_field("query"), "the job has no interval, query or sink", "write all three");
            return Err(job_problems(&loaded, vec![problem]));
        };
        let columns = |input: &InputSpec| known.get(input.path.trim_end_matches('/')).cloned();
        let inputs: Vec<_> = spec.inputs.iter().map(|input| (input.name.as_str(), columns(input))).collect();
        let (mut outputs, mut problems) = (Vec::new(), Vec::new());
        for AskedOutput { name, sql, query_place, sink, sink_place } in asked {
            let read = BatchQuery::parse(sql).map(|query| query.sorted_by(&sink.sort_by));
            match read.and_then(|query| query.check(&inputs).map(|()| query)) {
                Ok(query) => outputs.push(PlannedOutput { name, place: sink_place, query, sink: sink.clone() }),
                Err(error) => problems.push(query_problem(&loaded, &query_place, &error)),
            }
        }
        match problems.is_empty() {
            true => Ok(Self { outputs, grid: interval.into(), loaded }),
            false => Err(job_problems(&loaded, problems)),
        }
    }

    /// Name of the job.
    pub fn name(&self) -> &str {
        self.loaded.job.metadata.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn grid(&self) -> Grid {
        self.grid
    }

    /// Name of the checkpoint.
    pub fn checkpoint(&self) -> &str {
        let named = self.loaded.job.spec.checkpoint.as_ref().and_then(|checkpoint| checkpoint.name.as_deref());
        named.unwrap_or_else(|| self.name())
    }

    /// The folders that it writes to when its outputs lie at `outputs`.
    ///
    /// # Errors
    /// When a path cannot be read.
    pub(crate) fn written_folders(&self, outputs: &Location) -> Result<Vec<WrittenFolder>, JobError> {
        let mut folders = Vec::with_capacity(self.outputs.len());
        for output in &self.outputs {
            let (field, what) = (output.place.field("path"), format!("the table {}", output.name));
            folders.push(WrittenFolder { field, what, location: output.location(outputs)? });
        }
        Ok(folders)
    }

    /// Everything decided for a run.
    ///
    /// # Errors
    /// When a path cannot be read.
    pub(crate) fn settings(
        &self,
        options: &RunOptions,
        request: Request,
        job_uid: Option<String>,
    ) -> Result<BatchSettings, JobError> {
        let spec = &self.loaded.job.spec;
        let mut inputs = Vec::with_capacity(spec.inputs.len());
        for input in &spec.inputs {
            inputs.push(Input {
                name: input.name.clone(),
                location: Location::resolve(&input.path, &options.outputs)?,
                text: text_of(input.format),
                is_delta: input.format == InputFormat::Delta,
                columns: declared(&input.columns),
                time_column: input.time_column.clone(),
                date_column: input.date_column.clone(),
                complete_by: input.complete_by,
                allow_empty: input.allow_empty,
            });
        }
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for output in &self.outputs {
            outputs.push(BatchOutput {
                name: output.name.clone(),
                query: output.query.clone(),
                location: output.location(&options.outputs)?,
                sink: output.sink.clone(),
            });
        }
        Ok(BatchSettings {
            namespace: options.namespace.clone(),
            job: self.name().to_owned(),
            checkpoint: self.checkpoint().to_owned(),
            checkpoint_location: options.checkpoints.join(&options.namespace).join(self.checkpoint()),
            grid: self.grid,
            whole: spec.replace == Replaced::Table,
            force: false,
            lookback_days: spec.lookback_days.and_then(|days| u16::try_from(days).ok()),
            request,
            inputs,
            outputs,
            fingerprint: self.fingerprint(),
            rerun_stale: spec.rerun_stale,
            depends_on: self.depends_on(options),
            catch_up: usize::try_from(spec.catch_up).unwrap_or(1),
            wait: self.wait(),
            candidate: options.candidate.clone(),
            job_uid,
            memory: options.memory,
            lock: options.lock,
            new_log: options.new_log,
        })
    }

    /// Hash of the queries and their places.
    fn fingerprint(&self) -> String {
        let inputs = &self.loaded.job.spec.inputs;
        let json = match &self.outputs[..] {
            [only] => serde_json::to_vec(&(only.query.normal_form(), inputs, &only.sink)),
            several => {
                let of =
                    |output: &PlannedOutput| serde_json::json!([output.name, output.query.normal_form(), output.sink]);
                serde_json::to_vec(&(several.iter().map(of).collect::<Vec<_>>(), inputs))
            }
        };
        checksum(&json.expect("specs and texts are always JSON"))
    }

    /// The jobs that it depends on, with the places of their logs.
    fn depends_on(&self, options: &RunOptions) -> Vec<Dependency> {
        let checkpoints = options.checkpoints.join(&options.namespace);
        let named = self.loaded.job.spec.depends_on.iter();
        let placed = named.map(|named| Dependency {
            kind: named.kind,
            name: named.name.clone(),
            checkpoint: checkpoints.join(&named.name),
        });
        placed.collect()
    }

    /// How long a run waits for its inputs, and for another run.
    pub fn wait(&self) -> Duration {
        self.loaded.job.spec.wait.as_duration()
    }
}

impl PlannedOutput {
    fn location(&self, outputs: &Location) -> Result<Location, JobError> {
        Ok(Location::resolve(self.sink.path.as_deref().unwrap_or_default(), outputs)?)
    }
}

/// Text that is read although nobody told its types.
pub(crate) fn text_of(format: InputFormat) -> Option<Kind> {
    match format {
        InputFormat::Parquet | InputFormat::Delta => None,
        InputFormat::Csv => Some(Kind::Csv),
        InputFormat::Ndjson => Some(Kind::Ndjson),
    }
}

/// The types of columns that a job declares.
pub(crate) fn declared(columns: &[ReferenceColumnSpec]) -> TableSchema {
    TableSchema::declared(columns.iter().map(|column| (column.name.as_str(), column.column_type.to_string())))
}
