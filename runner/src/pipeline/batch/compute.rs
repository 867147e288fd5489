//! Computing an interval: its inputs are read, its rows staged as files. Decides nothing, so that several intervals may be
//! computed at once while their decisions are made in order.

use std::sync::Arc;
use std::time::Instant;

use data_platform_crds::sink::SinkFormat;
use datafusion::arrow::datatypes::{DataType, SchemaRef};

use crate::checkpoint::log::Attempt;
use crate::checkpoint::record::FileCommit;
use crate::faults::{Moment, Step};
use crate::pipeline::batch::inputs::{Tables, Waiting, cannot_read};
use crate::pipeline::batch::interval::{Grid, Interval};
use crate::pipeline::batch::log::BatchLog;
use crate::pipeline::batch::turn::interrupted;
use crate::pipeline::batch::versions::Reads;
use crate::pipeline::batch::{BatchEnvironment, BatchOutput, BatchSettings, delta, replace};
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::status::Phase;
use crate::sink::Stage;
use crate::sink::table::{FileFormat, FileNames, FileOrder, Footer, TableSettings, TableWriter};
use crate::storage::{SharedStore, paths};
use crate::tables::schema::TableSchema;
use crate::tables::{Place, Table};
use crate::transform::{BatchRows, MemoryExhausted, QueryError};

/// Of Parquet an interval is one file in each directory, however large, unless more are asked for: readers then see the old or the
/// new interval, nothing between.
const FILES: usize = 1;

/// What computes intervals in one turn.
pub(super) struct Computer<'a> {
    pub(super) settings: &'a BatchSettings,
    pub(super) environment: &'a BatchEnvironment,
    outputs: &'a [SharedStore],
    log_id: String,
    epoch: u64,
    /// Bytes that one interval may use.
    memory: usize,
}

/// An interval whose files are staged.
pub(super) struct Computed {
    pub(super) interval: Interval,
    /// Of each output.
    pub(super) files: Vec<Vec<FileCommit>>,
    /// What is known of the columns of those of Delta tables, by output.
    pub(super) noted: Vec<delta::Noted>,
    /// What it read of tables whose intervals have versions.
    pub(super) reads: Reads,
    pub(super) began: Instant,
}

/// The files of an output, and what is known of the columns of those of a Delta table.
type Written = (Vec<FileCommit>, delta::Noted);

/// Who says which columns rows have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KnownBy {
    Query,
    /// The table as it is.
    Output,
}

/// Which interval is computed, and how its files are called until they are decided.
#[derive(Clone, Copy)]
pub(super) struct Ask {
    pub(super) interval: Interval,
    /// The record that will decide it.
    pub(super) version: u64,
    /// That of the first output; the next ones follow. No two of a process are the same.
    pub(super) number: u64,
    /// Until when to wait for its inputs.
    pub(super) deadline: Instant,
}

impl<'a> Computer<'a> {
    /// `at_once`: so many intervals share the memory.
    pub(super) fn new(
        settings: &'a BatchSettings,
        environment: &'a BatchEnvironment,
        log: &BatchLog,
        outputs: &'a [SharedStore],
        at_once: usize,
    ) -> Self {
        let memory = usize::try_from(settings.memory.run).unwrap_or(usize::MAX) / at_once.max(1);
        Self { settings, environment, outputs, log_id: log.state.start.log_id.clone(), epoch: log.epoch(), memory }
    }

    /// What an interval is called; of a whole table the last one that it holds.
    pub(super) fn name(&self, interval: Interval) -> String {
        self.settings.grid.name(self.settings.grid.last_over(interval.end))
    }

    /// The times of which a run of an interval reads the rows.
    pub(super) fn read(&self, interval: Interval) -> Interval {
        // What a whole table is of was looked back from already.
        if self.settings.whole { interval } else { self.settings.looked_back(interval) }
    }

    /// Waits for an interval's inputs, and stages its rows.
    pub(super) async fn compute(&self, ask: Ask) -> Result<Computed, JobError> {
        let (settings, environment, interval) = (self.settings, self.environment, ask.interval);
        let (clock, status) = (&environment.clock, &environment.status);
        let began = clock.instant();
        let name = self.name(interval);
        let waiting = Waiting {
            inputs: &settings.inputs,
            depends_on: &settings.depends_on,
            deadline: ask.deadline,
            stop: &environment.stop,
            faults: &environment.faults,
            clock: &**clock,
            tell: &|why| {
                tracing::info!(interval = name, "waiting: {why}");
                status.enter(Phase::Running, "WaitingForInput", why);
            },
        };
        let read = self.read(interval);
        let (tables, reads) = waiting.wait(interval, read).await?;
        status.enter(Phase::Running, "Running", "");
        // All outputs are of one time.
        let now = clock.now();
        let (mut files, mut noted) = (Vec::new(), Vec::new());
        for ((output, store), number) in settings.outputs.iter().zip(self.outputs).zip(ask.number..) {
            let ask = Ask { number, ..ask };
            let written = match &tables {
                Tables::Known(tables) => match output.query.start(tables.clone(), self.memory, now) {
                    Ok(rows) => self.write(ask, output, store, (rows, KnownBy::Query)).await,
                    Err(error) => Err(cannot_plan(&error)),
                },
                _ => self.write_nothing(ask, output, store).await,
            };
            let written = written.map_err(|error| settings.of_output(output, error))?;
            files.push(written.0);
            noted.push(written.1);
        }
        Ok(Computed { interval, files, noted, reads, began })
    }

    /// Stages files without rows where the output has files of the interval, when nobody can say what the query gives. They
    /// have the columns that the output has; one that never had any has nothing to replace.
    async fn write_nothing(&self, ask: Ask, output: &BatchOutput, store: &SharedStore) -> Result<Written, JobError> {
        let Some(schema) = output.columns()? else { return Ok(Written::default()) };
        let rows = BatchRows::none(&schema).map_err(|error| cannot_plan(&error))?;
        self.write(ask, output, store, (rows, KnownBy::Output)).await
    }

    /// Stages the rows of an interval, and files without rows where the interval has files that these rows do not need.
    async fn write(
        &self,
        ask: Ask,
        output: &BatchOutput,
        store: &SharedStore,
        (mut rows, known_by): (BatchRows, KnownBy),
    ) -> Result<Written, JobError> {
        let (settings, interval) = (self.settings, ask.interval);
        let faults = Arc::clone(&self.environment.faults);
        let schema = rows.schema();
        // The checkpoint's name survives when the job gets another one.
        let interval_name = if settings.whole { String::new() } else { settings.grid.name(interval) };
        let name = if settings.whole {
            settings.checkpoint.clone()
        } else {
            format!("{}-{interval_name}", settings.checkpoint)
        };
        let attempt = Attempt { version: ask.version, epoch: self.epoch, number: ask.number };
        let is_delta = output.is_delta();
        let asked = output.sink.max_files.and_then(|files| usize::try_from(files).ok());
        let max_files = asked.or((!is_delta).then_some(FILES));
        // A table may have been written before the columns by which it is arranged now.
        let is_known = |column: &&String| known_by == KnownBy::Query || schema.column_with_name(column).is_some();
        let known = |columns: &[String]| columns.iter().filter(is_known).cloned().collect::<Vec<_>>();
        let table = Arc::new(TableSettings {
            output: output.name.clone(),
            job: settings.job.clone(),
            partition_by: known(&output.sink.partition_by),
            order: FileOrder { by: known(&output.sink.sort_by), is_given: true },
            target_file_bytes: output.sink.target_file_size.as_bytes(),
            max_files,
            format: FileFormat::of(&output.sink),
            schema: Arc::clone(&schema),
        });
        let footer = Footer {
            job: format!("{}/{}", settings.namespace, settings.job),
            log_id: self.log_id.clone(),
            version: ask.version,
            fingerprint: settings.fingerprint.clone(),
            interval: Some((interval.start, interval.end)),
            ..Footer::default()
        };
        table.check().map_err(|(field, problem)| {
            let message = format!("the result cannot be written: {problem}");
            JobError::user(Reason::QueryFailed, message, format!("correct the query, or sink.{field}"))
        })?;
        if is_delta {
            let columns = table.delta_columns().map_err(|refused| {
                JobError::user(
                    Reason::QueryFailed,
                    format!("the result cannot be written: {refused}"),
                    "correct the query",
                )
            })?;
            delta::describe(store, &columns, &table.columns()).await?;
        } else if known_by == KnownBy::Query {
            // What stands beside the table says more of them than its files do.
            table.columns().tell(store).await?;
        }
        let table_ending = table.format.ending();
        let names = FileNames::Interval { attempt, name: name.clone() };
        let mut writer = TableWriter::new(table, SharedStore::clone(store), names, footer, Arc::clone(&faults))?;
        faults.reached(Step::Read, Moment::Before);
        while let Some(batches) = rows.next().await.map_err(query_failed)? {
            if self.environment.stop.is_stopped() {
                return Err(interrupted());
            }
            for batch in &batches {
                writer.write(batch).await?;
            }
            if let Some(refused) = writer.take_refused().first() {
                return Err(JobError::user(
                    Reason::QueryFailed,
                    format!("a row of the result cannot be written: {}", refused.why),
                    "shorten the value in the query (left, substr), leave such rows out, or partition by another column",
                ));
            }
        }
        faults.reached(Step::Read, Moment::After);
        let written = writer.finish().await?.files;
        if is_delta {
            if written.is_empty() {
                writer.write_empty(&any_directory(&schema, &output.sink.partition_by, interval)).await?;
            }
            return Ok((writer.finish().await?.files, writer.take_statistics()));
        }
        let mut stale = replace::files_of(store, &self.log_id, &name, interval_name, table_ending).await?;
        stale.retain(|path| !written.iter().any(|file| file.path == *path));
        let directory = |path: &str| path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        for path in &stale {
            writer.write_empty(&directory(path)).await?;
        }
        if written.is_empty()
            && stale.is_empty()
            && let Some(directory) = empty_directory(&schema, &output.sink.partition_by, interval)
        {
            writer.write_empty(&directory).await?;
        }
        Ok((writer.finish().await?.files, delta::Noted::new()))
    }
}

impl BatchOutput {
    /// It is a Delta table.
    pub(super) fn is_delta(&self) -> bool {
        self.sink.format == SinkFormat::Delta
    }

    /// The columns that its table has. `None`: it has never had any.
    fn columns(&self) -> Result<Option<SchemaRef>, JobError> {
        let failed = |error| cannot_read(&format!("the output {}", self.name), &error);
        let place = Place::of(&self.location)?;
        let told = TableSchema::of_place(&place).map_err(|error| failed(error.into()))?;
        match told.filter(|_| !self.is_delta()).and_then(|told| told.columns()) {
            Some(told) => Ok(Some(told)),
            None => Table::new(place).newest_columns().map_err(failed),
        }
    }

    /// The root of its table, as it stands in the log.
    pub(crate) fn root(&self, store: &SharedStore) -> String {
        if self.is_delta() { delta::root(store) } else { store.root().to_owned() }
    }
}

impl BatchSettings {
    /// The names of its outputs, for people.
    pub(crate) fn names(&self) -> String {
        self.outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// What went wrong with an output, of several with its name.
    fn of_output(&self, output: &BatchOutput, error: JobError) -> JobError {
        match self.outputs.len() {
            1 => error,
            _ => JobError { message: format!("output {}: {}", output.name, error.message), ..error },
        }
    }

    /// Where its outputs lie, for people.
    pub(crate) fn places(&self) -> String {
        self.outputs.iter().map(|output| output.location.to_string()).collect::<Vec<_>>().join(", ")
    }

    /// An interval with the days that a run looks back from its end.
    pub(super) fn looked_back(&self, interval: Interval) -> Interval {
        let day = Grid::Day.around(0);
        let back = self.lookback_days.map(|days| i64::from(days) * (day.end - day.start));
        Interval { start: back.map_or(interval.start, |back| interval.end - back), end: interval.end }
    }
}

/// Where the file of an interval without rows lies: in the directory that rows of its begin would have, as far as dates
/// and times name it. `None`: nobody can tell.
fn empty_directory(schema: &SchemaRef, partition_by: &[String], interval: Interval) -> Option<String> {
    let mut directory = String::new();
    for column in partition_by {
        let field = schema.field_with_name(column).ok()?;
        if field.data_type() != &DataType::Date32 {
            return None;
        }
        let date = chrono::DateTime::from_timestamp_micros(interval.start)?.date_naive();
        directory += &format!("{column}={date}/");
    }
    Some(directory)
}

/// The directory of a file without rows of a Delta table, where values stand in the log: a date as above, else null.
fn any_directory(schema: &SchemaRef, partition_by: &[String], interval: Interval) -> String {
    let one = |column: &String| {
        let known = empty_directory(schema, std::slice::from_ref(column), interval);
        known.unwrap_or_else(|| format!("{column}={}/", paths::NULL_DIRECTORY))
    };
    partition_by.iter().map(one).collect()
}

fn cannot_plan(error: &QueryError) -> JobError {
    JobError::user(Reason::QueryFailed, error.to_string(), "correct the query, or inputs")
}

/// The run does not fit into its memory.
pub(crate) fn memory_exhausted(message: String) -> JobError {
    let cure = "raise pod.resources.limits.memory, process less at once, or change the query (count(DISTINCT …), array_agg and \
                collect_set hold every value, a join holds one side)";
    JobError::user(Reason::MemoryExhausted, message, cure)
}

pub(super) fn query_failed(error: MemoryExhausted) -> JobError {
    let message = error.to_string();
    match error {
        MemoryExhausted::Exhausted(_) => memory_exhausted(message),
        MemoryExhausted::DiskFull(said) => {
            JobError::passing(Reason::StorageFull, message, said.cure.unwrap_or_default())
        }
        MemoryExhausted::Unreadable(told) if told.refusal.is_none() => JobError::passing(
            Reason::StorageFailed,
            message,
            "it is tried again; if it stays, look at the store, and at who replaces the files of the input",
        ),
        MemoryExhausted::Unreadable(told) => JobError::from(&told),
        MemoryExhausted::Failed(_) => JobError::user(
            Reason::QueryFailed,
            format!("the query fails on a value: {}", crate::pipeline::error::without_values(&message)),
            "change the query so that it takes every value (a CASE, try_cast, a WHERE)",
        ),
    }
}
