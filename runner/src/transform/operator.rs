//! The running query: takes micro-batches, holds the open windows, emits closed ones.
//!
//! ```text
//! batch -> trunk -> [late?] -> fan-out -> by window -> groups and accumulators
//!                                                         | close(watermark)
//!                                         answers + window edges -> above -> output rows
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray, UInt32Array,
};
use datafusion::arrow::compute::{filter_record_batch, take_record_batch};
use datafusion::arrow::datatypes::{Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::error::Result as DataFusionResult;

use super::aggregation::{Aggregation, EVENT_TIME};
use super::error::{Error, Result};
use super::held_window::HeldWindow;
use super::output::Output;
use super::plan::Plan;
use super::steps::Steps;
use super::window::{UTC, WindowSpec};

/// A compiled part of a query.
#[derive(Clone)]
pub(super) enum Program {
    /// Projections and filters.
    Steps(Steps),
    /// Anything else.
    Plan(Plan),
}

/// The compiled parts of a query.
#[derive(Clone)]
pub(super) struct Parts {
    /// Schema of the batches that `ingest` takes.
    pub(super) input: SchemaRef,
    /// What each record goes through alone, its WHERE included.
    pub(super) trunk: Steps,
    /// What makes several rows of a record (UNNEST, UNION ALL), and whatever comes after it. It reads the first columns
    /// of what the trunk gives.
    pub(super) fan_out: Option<Plan>,
    pub(super) window: Option<Windowed>,
    pub(super) output: Output,
}

/// The compiled parts of a query with a window.
#[derive(Clone)]
pub(super) struct Windowed {
    pub(super) spec: WindowSpec,
    /// Position of the event time in what the trunk gives.
    pub(super) trunk_event_time: usize,
    pub(super) aggregation: Aggregation,
    pub(super) above: Program,
}

/// What became of the records of a micro-batch, and the rows that a query without a window makes of them at once.
#[derive(Clone, Default)]
pub struct Ingested {
    /// Records that the WHERE below the window (and before UNNEST) removed.
    pub filtered: u64,
    /// Records whose window was closed before this batch.
    pub late: u64,
    /// All other records.
    pub accepted: u64,
    /// Output rows; always empty for a query with a window.
    pub rows: Vec<RecordBatch>,
}

impl fmt::Debug for Ingested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows.iter().map(RecordBatch::num_rows).sum::<usize>();
        write!(f, "filtered {}, late {}, accepted {}, {rows} rows", self.filtered, self.late, self.accepted)
    }
}

/// A window that holds rows and is not emitted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenWindow {
    /// Start, microseconds since 1970.
    pub start: i64,
    /// End (exclusive), microseconds since 1970.
    pub end: i64,
    /// Version of the batch that first put a row into it: where a rebuild of its state begins.
    pub first_version: u64,
    /// Number of groups.
    pub groups: usize,
    /// Bytes of memory.
    pub bytes: usize,
    /// Whether rows came since it was last snapshotted or restored.
    pub changed_since_snapshot: bool,
}

/// A running query. One thread at a time; not inside an async task, since a large micro-batch takes milliseconds.
///
/// After an error the state may lack a part of the batch: drop the operator and rebuild it from the log.
pub struct Operator {
    parts: Arc<Parts>,
    windows: BTreeMap<i64, HeldWindow>,
    /// Group of each row; kept for its memory.
    indices: Vec<usize>,
}

impl Operator {
    pub(super) fn new(parts: Arc<Parts>) -> Self {
        Self { parts, windows: BTreeMap::new(), indices: Vec::new() }
    }

    /// Takes the records of a micro-batch, in the columns of
    /// [`StreamQuery::input_columns`](super::StreamQuery::input_columns). Records are late by `watermark`, the one that
    /// is committed before this batch; `None` before the first. `version` is the batch's version in the log.
    ///
    /// *Errors*: the batch has other columns, a record has no event time, or an expression fails on a value.
    pub fn ingest(&mut self, batch: &RecordBatch, watermark: Option<i64>, version: u64) -> Result<Ingested> {
        let parts = Arc::clone(&self.parts);
        check_input(&parts.input, batch)?;
        let (rows, removed) = parts.trunk.run(batch).map_err(Error::in_part("rows"))?;
        let mut ingested = Ingested { filtered: removed as u64, ..Ingested::default() };
        let rows = match &parts.window {
            None => rows,
            Some(window) => {
                let all = rows.num_rows();
                let rows = window.without_late(rows, watermark)?;
                ingested.late = (all - rows.num_rows()) as u64;
                rows
            }
        };
        ingested.accepted = rows.num_rows() as u64;
        if rows.num_rows() == 0 {
            return Ok(ingested);
        }
        let batches = match &parts.fan_out {
            None => vec![rows],
            Some(plan) => fan_out(plan, &rows).map_err(Error::in_part("rows"))?,
        };
        for rows in batches {
            match &parts.window {
                None => parts.output.append(&rows, &mut ingested.rows).map_err(Error::in_part("output"))?,
                Some(window) => self.aggregate(window, rows, version)?,
            }
        }
        Ok(ingested)
    }

    /// Emits the windows that end at or before `watermark`, oldest first, in batches of at most 65,536 rows, and
    /// forgets them.
    pub fn close(&mut self, watermark: i64) -> Result<Vec<RecordBatch>> {
        let mut rows = Vec::new();
        while let Some(batches) = self.close_next(watermark)? {
            rows.extend(batches);
        }
        Ok(rows)
    }

    /// As [`Self::close`], but only the oldest of these windows, for callers that write its rows before they ask for
    /// the next. `None` when no window is left that ends at or before `watermark`.
    pub fn close_next(&mut self, watermark: i64) -> Result<Option<Vec<RecordBatch>>> {
        let parts = Arc::clone(&self.parts);
        let Some(window) = &parts.window else { return Ok(None) };
        let Some((start, state)) = self.pop_closed(window.spec, watermark) else { return Ok(None) };
        window.emit(start, state, &parts.output).map(Some).map_err(Error::in_part("closed windows"))
    }

    /// Forgets the windows that end at or before `watermark` without emitting them: they were, when the batches that
    /// are now executed again were executed first.
    pub fn discard(&mut self, watermark: i64) {
        let parts = Arc::clone(&self.parts);
        if let Some(window) = &parts.window {
            while self.pop_closed(window.spec, watermark).is_some() {}
        }
    }

    /// The open windows, oldest first.
    pub fn windows(&self) -> Vec<OpenWindow> {
        let Some(window) = &self.parts.window else { return vec![] };
        let states = self.windows.iter().map(|(start, state)| OpenWindow {
            start: *start,
            end: window.spec.end_of(*start),
            first_version: state.first_version,
            groups: state.groups(),
            bytes: state.bytes(),
            changed_since_snapshot: state.changed,
        });
        states.collect()
    }

    /// The state of the window that starts at `start`, one row for each group, in the columns of
    /// [`StreamQuery::state_schema`](super::StreamQuery::state_schema). The window goes on as it is.
    ///
    /// *Errors*: [`Error::NotOpen`].
    pub fn snapshot(&mut self, start: i64) -> Result<Vec<RecordBatch>> {
        let parts = Arc::clone(&self.parts);
        let window = parts.window.as_ref().ok_or(Error::NotOpen { start })?;
        let old = self.windows.remove(&start).ok_or(Error::NotOpen { start })?;
        let (new, batches) = self.reseed(&window.aggregation, old).map_err(Error::in_part("state"))?;
        self.windows.insert(start, new);
        Ok(batches)
    }

    /// Accumulators give their state away: it is put into new ones.
    fn reseed(
        &mut self,
        aggregation: &Aggregation,
        mut old: HeldWindow,
    ) -> DataFusionResult<(HeldWindow, Vec<RecordBatch>)> {
        let mut new = HeldWindow::new(aggregation, old.first_version)?;
        let mut batches = Vec::new();
        let part = old.part();
        while let Some(batch) = old.take_state(&aggregation.state_schema, part)? {
            new.merge(aggregation, &batch, &mut self.indices)?;
            batches.push(batch);
        }
        Ok((new, batches))
    }

    /// Adds rows of state to the window that starts at `start`, opening it if need be.
    ///
    /// *Errors*: [`Error::State`] if the rows are not of this query's state: rebuild instead.
    pub fn restore(&mut self, start: i64, first_version: u64, batches: &[RecordBatch]) -> Result<()> {
        let parts = Arc::clone(&self.parts);
        let window = parts.window.as_ref().ok_or(Error::NotOpen { start })?;
        for batch in batches {
            check_state(&window.aggregation.state_schema, batch)?;
        }
        let state = match self.windows.entry(start) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(HeldWindow::new(&window.aggregation, first_version).map_err(Error::in_part("state"))?)
            }
        };
        state.first_version = state.first_version.min(first_version);
        for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
            state.merge(&window.aggregation, batch, &mut self.indices).map_err(Error::in_part("state"))?;
        }
        Ok(())
    }

    /// Bytes of memory that all open windows hold.
    pub fn size_bytes(&self) -> usize {
        self.windows.values().map(HeldWindow::bytes).sum()
    }

    /// Number of groups in all open windows.
    pub fn groups(&self) -> usize {
        self.windows.values().map(HeldWindow::groups).sum()
    }

    fn pop_closed(&mut self, spec: WindowSpec, watermark: i64) -> Option<(i64, HeldWindow)> {
        let oldest = self.windows.first_entry()?;
        (spec.end_of(*oldest.key()) <= watermark).then(|| oldest.remove_entry())
    }

    /// Gives the rows of a prepared batch to their windows. Most batches lie in one or two.
    fn aggregate(&mut self, window: &Windowed, prepared: RecordBatch, version: u64) -> Result<()> {
        let prepared = window.conform(prepared).map_err(Error::in_part("rows"))?;
        let times = prepared.column(EVENT_TIME).as_primitive::<TimestampMicrosecondType>();
        if times.is_empty() {
            return Ok(());
        }
        let (least, greatest) = range(times);
        let (first, last) = (window.spec.start_of(least), window.spec.start_of(greatest));
        if first == last {
            return self.update(window, first, &prepared, version);
        }
        let mut rows_of: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, time) in (0_u32..).zip(times.values()) {
            rows_of.entry(window.spec.start_of(*time)).or_default().push(row);
        }
        for (start, rows) in rows_of {
            let part = take_record_batch(&prepared, &UInt32Array::from(rows))
                .map_err(|error| Error::in_part("rows")(error.into()))?;
            self.update(window, start, &part, version)?;
        }
        Ok(())
    }

    fn update(&mut self, window: &Windowed, start: i64, rows: &RecordBatch, version: u64) -> Result<()> {
        let aggregation = &window.aggregation;
        let state = match self.windows.entry(start) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(HeldWindow::new(aggregation, version).map_err(Error::in_part("state"))?)
            }
        };
        state.update(aggregation, rows, &mut self.indices).map_err(Error::in_part("aggregates"))
    }
}

impl Windowed {
    /// Removes the rows whose window was closed before.
    fn without_late(&self, rows: RecordBatch, watermark: Option<i64>) -> Result<RecordBatch> {
        let times = rows.column(self.trunk_event_time).as_primitive::<TimestampMicrosecondType>();
        if let Some(nulls) = times.nulls().filter(|nulls| nulls.null_count() > 0) {
            let row = (0..times.len()).find(|row| nulls.is_null(*row)).unwrap_or_default();
            return Err(Error::NullEventTime { row });
        }
        let Some(watermark) = watermark else { return Ok(rows) };
        let late_before = self.spec.late_before(watermark);
        if times.is_empty() || range(times).0 >= late_before {
            return Ok(rows);
        }
        let in_time: BooleanArray = times.values().iter().map(|time| Some(*time >= late_before)).collect();
        filter_record_batch(&rows, &in_time).map_err(|error| Error::in_part("rows")(error.into()))
    }

    /// A general plan may promise columns without nulls, which a batch of ours does not.
    fn conform(&self, prepared: RecordBatch) -> DataFusionResult<RecordBatch> {
        let schema = self.aggregation.prepared_schema();
        if Arc::ptr_eq(schema, &prepared.schema()) {
            return Ok(prepared);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(prepared.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), prepared.columns().to_vec(), &options)?)
    }

    /// Output rows of a closed window.
    fn emit(&self, start: i64, mut state: HeldWindow, output: &Output) -> DataFusionResult<Vec<RecordBatch>> {
        let mut rows = Vec::new();
        let answers = &self.aggregation.answer_schema;
        match &self.above {
            Program::Steps(steps) => {
                let part = state.part();
                while let Some(batch) = state.take_answers(answers, part)? {
                    let (batch, _) = steps.run(&self.with_edges(start, &batch, &steps.columns)?)?;
                    output.append(&batch, &mut rows)?;
                }
            }
            Program::Plan(plan) => {
                // All rows of the window in one order, whatever order its groups came in: ties then fall the same way
                // however the stream was cut into batches.
                let Some(batch) = state.take_answers(answers, usize::MAX)? else { return Ok(rows) };
                let batch = sorted_by_keys(&batch, self.aggregation.key_count())?;
                let batch = self.with_edges(start, &batch, &plan.columns)?;
                for batch in plan.run(vec![batch])? {
                    output.append(&batch, &mut rows)?;
                }
            }
        }
        Ok(rows)
    }

    /// The chosen columns of (window start, window end, keys, answers).
    fn with_edges(&self, start: i64, answers: &RecordBatch, chosen: &[usize]) -> DataFusionResult<RecordBatch> {
        let rows = answers.num_rows();
        let edges = [start, self.spec.end_of(start)];
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(chosen.len());
        let mut fields = Vec::with_capacity(chosen.len());
        for column in chosen {
            match edges.get(*column) {
                Some(edge) => {
                    let edge = TimestampMicrosecondArray::from_value(*edge, rows).with_timezone(UTC);
                    fields.push(Arc::new(datafusion::arrow::datatypes::Field::new(
                        "edge",
                        edge.data_type().clone(),
                        true,
                    )));
                    columns.push(Arc::new(edge));
                }
                None => {
                    fields.push(Arc::new(answers.schema().field(column - edges.len()).clone()));
                    columns.push(answers.column(column - edges.len()).clone());
                }
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
    }
}

fn fan_out(plan: &Plan, rows: &RecordBatch) -> DataFusionResult<Vec<RecordBatch>> {
    let read: Vec<usize> = (0..plan.columns.len()).collect();
    plan.run(vec![rows.project(&read)?])
}

/// Rows in the order of their keys, which differ; in their own order if a key has no order.
fn sorted_by_keys(batch: &RecordBatch, keys: usize) -> DataFusionResult<RecordBatch> {
    let fields = batch.columns()[..keys].iter().map(|key| SortField::new(key.data_type().clone())).collect::<Vec<_>>();
    if fields.is_empty() || !RowConverter::supports_fields(&fields) {
        return Ok(batch.clone());
    }
    let rows = RowConverter::new(fields)?.convert_columns(&batch.columns()[..keys])?;
    let mut order: Vec<u32> = (0..batch.num_rows() as u32).collect();
    order.sort_unstable_by(|a, b| rows.row(*a as usize).cmp(&rows.row(*b as usize)));
    Ok(take_record_batch(batch, &UInt32Array::from(order))?)
}

/// Least and greatest value; there is at least one.
fn range(times: &TimestampMicrosecondArray) -> (i64, i64) {
    let values = times.values().iter();
    values.fold((i64::MAX, i64::MIN), |(least, greatest), time| (least.min(*time), greatest.max(*time)))
}

fn check_input(expected: &SchemaRef, batch: &RecordBatch) -> Result<()> {
    let found = batch.schema();
    let same_names = || expected.fields().iter().zip(found.fields()).all(|(a, b)| a.name() == b.name());
    if same_types(expected, &found) && same_names() {
        return Ok(());
    }
    Err(Error::Input { expected: types(expected), found: types(&batch.schema()) })
}

fn check_state(expected: &SchemaRef, batch: &RecordBatch) -> Result<()> {
    if same_types(expected, &batch.schema()) {
        return Ok(());
    }
    Err(Error::State { expected: types(expected), found: types(&batch.schema()) })
}

fn same_types(a: &Schema, b: &Schema) -> bool {
    a.fields().len() == b.fields().len()
        && a.fields().iter().zip(b.fields()).all(|(a, b)| a.data_type().equals_datatype(b.data_type()))
}

fn types(schema: &Schema) -> String {
    let fields = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
    fields.collect::<Vec<_>>().join(", ")
}
