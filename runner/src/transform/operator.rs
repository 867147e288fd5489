//! The running query: takes micro-batches, holds the open windows, emits closed ones.
//!
//! ```text
//! batch -> trunk -> [late?] -> fan-out -> by window -> groups and accumulators
//!                                                         | close(watermark)
//!                                         answers + window edges -> above -> output rows
//! ```

mod late;

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::internal_err;
use datafusion::error::{DataFusionError, Result as DataFusionResult};

use self::late::{LateRecords, both, without_late};
use super::aggregation::{Aggregation, EVENT_TIME};
use super::closed::{ClosedRows, RefusedGroups};
use super::error::{Error, Result};
use super::halves::{RefusedRow, by_halves};
use super::lookup::{Index, ReferenceRows, Side};
use super::output::Output;
use super::plan::Plan;
use super::row_program::RowProgram;
use super::steps::Steps;
use super::windows::{BatchTime, OpenPart, WindowSpec, WindowState};

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
    /// What rows of each source go through; `None` for one that is not read.
    pub(super) inputs: Vec<Option<SourceRows>>,
    /// The sides of all joins with references.
    pub(super) sides: Vec<Side>,
    pub(super) window: Option<Windowed>,
    pub(super) output: Output,
}

/// What rows of one source go through before the window, if there is one.
#[derive(Clone)]
pub(super) struct SourceRows {
    /// Schema of the batches that `ingest` takes.
    pub(super) input: SchemaRef,
    /// What each record goes through alone, its WHERE included.
    pub(super) trunk: Steps,
    /// Position of the event time in what the trunk gives; with a window there is one.
    pub(super) event_time: Option<usize>,
    /// The first of the columns that hold the identity of the record, which are the last ones the trunk gives.
    pub(super) identity: Option<usize>,
    /// What makes several rows of a record (UNNEST, UNION ALL, a join), and whatever comes after it.
    pub(super) fan_out: Option<FanOut>,
}

/// What comes behind the trunk.
#[derive(Clone)]
pub(super) struct FanOut {
    /// Columns of its leaf, which the trunk gives as its first ones.
    pub(super) columns: Vec<usize>,
    pub(super) program: RowProgram,
}

/// The compiled parts of a query with a window.
#[derive(Clone)]
pub(super) struct Windowed {
    pub(super) spec: WindowSpec,
    pub(super) aggregation: Aggregation,
    /// Whether it is told which records were late.
    pub(super) tell_late: bool,
    pub(super) above: Program,
}

/// What became of the records of a micro-batch, and the rows that a query without a window makes of them at once.
#[derive(Clone, Default)]
pub struct Ingested {
    /// Records that the WHERE below the window (and before UNNEST) removed.
    pub filtered: u64,
    /// Records whose windows were all closed before this batch.
    pub late: u64,
    /// Records of which some windows were closed, and others are not: counted in `accepted` too.
    pub partly_late: u64,
    /// All other records.
    pub accepted: u64,
    /// Topic, partition and offset of each late record, if the query's inputs ask for them.
    pub late_records: Option<RecordBatch>,
    /// Records that an expression refuses; counted nowhere else.
    pub refused: Vec<RefusedRow>,
    /// Output rows; always empty for a query with a window.
    pub rows: Vec<RecordBatch>,
}

/// What became of records before any state.
#[derive(Default)]
struct Computed {
    filtered: u64,
    late: u64,
    partly_late: u64,
    /// Behind a fan-out some of them may be late all the same.
    accepted: u64,
    late_records: Option<RecordBatch>,
    /// Output rows, or with a window prepared ones.
    rows: Vec<RecordBatch>,
}

impl fmt::Debug for Ingested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows.iter().map(RecordBatch::num_rows).sum::<usize>();
        write!(f, "filtered {}, late {}, accepted {}, {rows} rows", self.filtered, self.late, self.accepted)
    }
}

/// A running query. One thread at a time; not inside an async task, since a large micro-batch takes milliseconds.
///
/// After an error the state may lack a part of the batch: drop the operator and rebuild it from the log.
pub struct Operator {
    parts: Arc<Parts>,
    /// `None` for a query without a window.
    windows: Option<Box<dyn WindowState>>,
    /// The references as they are loaded.
    references: ReferenceRows,
    /// What joins look rows up in, by the position of their side.
    indexes: Vec<Option<Arc<Index>>>,
}

impl Operator {
    pub(super) fn new(parts: Arc<Parts>) -> Self {
        let windows = parts.window.as_ref().map(|window| window.spec.state());
        let indexes = vec![None; parts.sides.len()];
        Self { parts, windows, references: Vec::new(), indexes }
    }

    /// Gives the rows of a reference, by its position among the query's inputs and in its columns there. Rows that come
    /// from here on are joined with these. Before the first call a query that reads it fails.
    ///
    /// *Errors*: the side of a join fails on a value, and the operator goes on with the rows it had.
    pub fn set_reference(&mut self, reference: usize, rows: Arc<[RecordBatch]>) -> Result<()> {
        let parts = Arc::clone(&self.parts);
        let mut references = self.references.clone();
        references.resize(references.len().max(reference + 1), None);
        references[reference] = Some(rows);
        let is_loaded = |reference: &usize| references.get(*reference).is_some_and(Option::is_some);
        let mut indexes = self.indexes.clone();
        for (index, side) in indexes.iter_mut().zip(&parts.sides) {
            if side.references.contains(&reference) && side.references.iter().all(is_loaded) {
                let made = side.index(&references).map_err(Error::in_part("references"))?;
                *index = Some(Arc::new(made));
            }
        }
        (self.references, self.indexes) = (references, indexes);
        Ok(())
    }

    /// Bytes of memory of what rows are looked up by that a reference is part of.
    pub fn reference_bytes(&self, reference: usize) -> usize {
        let sides = self.indexes.iter().zip(&self.parts.sides);
        let of_reference = sides.filter(|(_, side)| side.references.contains(&reference));
        of_reference.filter_map(|(index, _)| index.as_ref()).map(|index| index.bytes()).sum()
    }

    /// Takes records of a micro-batch that are all of one source, by its position among the query's inputs, in the
    /// columns of [`StreamQuery::input_columns`](super::StreamQuery::input_columns). Records are late by `watermark`, the
    /// one that is committed before this batch; `None` before the first. `version` is the batch's version in the log.
    /// Records of a source that the query does not read are not its business: none is counted.
    ///
    /// *Errors*: the batch has other columns, a record has no event time, or an expression fails on a value.
    pub fn ingest(
        &mut self,
        source: usize,
        batch: &RecordBatch,
        watermark: Option<i64>,
        version: u64,
    ) -> Result<Ingested> {
        let parts = Arc::clone(&self.parts);
        let Some(Some(of_source)) = parts.inputs.get(source) else { return Ok(Ingested::default()) };
        check_input(&of_source.input, batch)?;
        let mut refused = Vec::new();
        let mut compute = |rows: &RecordBatch| self.compute(&parts, of_source, rows, watermark);
        let computed = by_halves(batch, &mut compute, &mut refused)?;
        let mut ingested = Ingested { refused, ..Ingested::default() };
        let mut late = LateRecords::default();
        for part in computed {
            ingested.filtered += part.filtered;
            ingested.late += part.late;
            ingested.partly_late += part.partly_late;
            ingested.accepted += part.accepted;
            ingested.late_records = both(ingested.late_records, part.late_records).map_err(Error::in_part("rows"))?;
            let Some(window) = &parts.window else {
                ingested.rows.extend(part.rows);
                continue;
            };
            for rows in part.rows {
                let fans_out = of_source.fan_out.is_some();
                self.add(window, rows, BatchTime { watermark, version }, fans_out, &mut late)?;
            }
        }
        ingested.late += late.count();
        ingested.accepted -= late.count();
        if parts.window.as_ref().is_some_and(|window| window.tell_late) && late.count() > 0 {
            ingested.late_records = Some(late.batch().map_err(Error::in_part("rows"))?);
        }
        Ok(ingested)
    }

    /// Emits the windows that end at or before `watermark`, oldest first, and forgets them. For callers with queries that take
    /// every value: a group that is refused is an error.
    pub fn close(&mut self, watermark: i64) -> Result<Vec<RecordBatch>> {
        let mut rows = Vec::new();
        while let Some(closed) = self.close_next(watermark)? {
            if let Some(RefusedGroups { why, .. }) = closed.refused.into_iter().next() {
                return Err(Error::in_part("closed windows")(DataFusionError::Execution(why)));
            }
            rows.extend(closed.rows);
        }
        Ok(rows)
    }

    /// Emits the oldest window that ends at or before `watermark`, in batches of at most 65,536 rows, and forgets it. `None`
    /// when there is none.
    pub fn close_next(&mut self, watermark: i64) -> Result<Option<ClosedRows>> {
        let (Some(window), Some(windows)) = (&self.parts.window, &mut self.windows) else { return Ok(None) };
        let (mut rows, mut failed) = (ClosedRows::default(), None);
        let mut emit = |closed| {
            // The windows know DataFusion's errors alone.
            let emitted = window.emit(closed, &self.parts.output, &mut rows);
            emitted.or_else(|error| {
                failed = Some(error);
                internal_err!("a closed window cannot be emitted")
            })
        };
        let whole = matches!(window.above, Program::Plan(_));
        let closed = windows.close_next(&window.aggregation, watermark, whole, &mut emit);
        if let Some(error) = failed {
            return Err(error);
        }
        let closed = closed.map_err(Error::in_part("closed windows"))?;
        Ok(closed.then_some(rows))
    }

    /// Forgets the windows that end at or before `watermark` without emitting them: they were, when the batches that
    /// are now executed again were executed first.
    pub fn discard(&mut self, watermark: i64) -> Result<()> {
        if let Some(windows) = &mut self.windows {
            windows.discard(watermark).map_err(Error::in_part("closed windows"))?;
        }
        Ok(())
    }

    /// The parts of the state that hold rows, in the order of their numbers.
    pub fn parts(&self) -> Vec<OpenPart> {
        self.windows.as_ref().map_or_else(Vec::new, |windows| windows.parts())
    }

    /// The state of a part, one row for each group, in the columns of
    /// [`StreamQuery::state_schema`](super::StreamQuery::state_schema). The part goes on as it is.
    ///
    /// *Errors*: [`Error::NotOpen`].
    pub fn snapshot(&mut self, part: i64) -> Result<Vec<RecordBatch>> {
        let (Some(window), Some(windows)) = (&self.parts.window, &mut self.windows) else {
            return Err(Error::NotOpen { part });
        };
        let rows = windows.snapshot(&window.aggregation, part).map_err(Error::in_part("state"))?;
        rows.ok_or(Error::NotOpen { part })
    }

    /// Adds rows of state to a part, opening it if need be.
    ///
    /// *Errors*: [`Error::State`] if the rows are not of this query's state: rebuild instead.
    pub fn restore(&mut self, part: i64, first_version: u64, batches: &[RecordBatch]) -> Result<()> {
        let (Some(window), Some(windows)) = (&self.parts.window, &mut self.windows) else {
            return Err(Error::NotOpen { part });
        };
        for batch in batches {
            check_state(&window.state_schema(), batch)?;
        }
        windows.restore(&window.aggregation, part, first_version, batches).map_err(Error::in_part("state"))
    }

    /// Gives all of the state to an operator of a query with the same window, keys and aggregates.
    ///
    /// *Errors*: [`Error::State`] if it is not the same.
    pub fn hand_over(&mut self, to: &mut Self) -> Result<()> {
        let (Some(from), Some(of)) = (&self.parts.window, &to.parts.window) else { return Ok(()) };
        let Some(places) = of.aggregation.places_in(&from.aggregation) else {
            return Err(Error::State { expected: types(&of.state_schema()), found: types(&from.state_schema()) });
        };
        for part in self.parts() {
            let rows = self.snapshot(part.part)?;
            let rows = rows.iter().map(|rows| rows.project(&places)).collect::<Result<Vec<_>, _>>();
            let rows = rows.map_err(|error| Error::in_part("state")(error.into()))?;
            to.restore(part.part, part.first_version, &rows)?;
        }
        Ok(())
    }

    /// Number of open windows.
    pub fn open_windows(&self) -> usize {
        self.windows.as_ref().map_or(0, |windows| windows.open_windows())
    }

    /// Start of the oldest open window, microseconds since 1970: no row of an earlier one is still to come.
    pub fn oldest_open(&self) -> Option<i64> {
        self.windows.as_ref()?.oldest_open()
    }

    /// Rows older than this are late under a watermark, whatever else comes; `None`: no row is ever late.
    pub fn late_before(&self, watermark: i64) -> Option<i64> {
        let spec = self.parts.window.as_ref()?.spec;
        Some(match spec.late_before(watermark) {
            Some(before) => before.all,
            // An open session may take up what would be late alone.
            None => self.oldest_open().map_or(watermark, |open| open.min(watermark)).saturating_sub(spec.length()),
        })
    }

    /// Only rows older than this can be late under a watermark; `None`: no row is ever late.
    pub fn may_be_late_before(&self, watermark: i64) -> Option<i64> {
        let spec = self.parts.window.as_ref()?.spec;
        let alone = || watermark.saturating_sub(spec.length()).saturating_add(1);
        Some(spec.late_before(watermark).map_or_else(alone, |before| before.all))
    }

    /// Greatest end of an open window, microseconds since 1970: a watermark there closes all of them.
    pub fn latest_end(&self) -> Option<i64> {
        self.windows.as_ref()?.latest_end()
    }

    /// Bytes of memory that all open windows hold.
    pub fn size_bytes(&self) -> usize {
        self.windows.as_ref().map_or(0, |windows| windows.bytes())
    }

    /// Number of groups in all open windows.
    pub fn groups(&self) -> usize {
        self.windows.as_ref().map_or(0, |windows| windows.groups())
    }

    /// What becomes of records before any state: nothing changes, so that it can be done again with fewer of them.
    fn compute(
        &self,
        parts: &Parts,
        of_source: &SourceRows,
        batch: &RecordBatch,
        watermark: Option<i64>,
    ) -> Result<Computed> {
        let in_rows = || Error::in_part("rows");
        let (rows, removed) = of_source.trunk.run(batch, &[]).map_err(in_rows())?;
        let mut computed = Computed { filtered: removed as u64, ..Computed::default() };
        let rows = match &parts.window {
            None => rows,
            Some(window) => {
                let late = window.late(&rows, of_source.event_time.unwrap_or(EVENT_TIME), watermark)?;
                (computed.late, computed.partly_late) = (late.all, late.some);
                let rows = without_late(rows, late.rows.as_ref(), of_source.identity).map_err(in_rows())?;
                computed.late_records = rows.1;
                rows.0
            }
        };
        computed.accepted = rows.num_rows() as u64;
        if rows.num_rows() == 0 {
            return Ok(computed);
        }
        let batches = match &of_source.fan_out {
            None => vec![rows],
            Some(FanOut { columns, program }) => program.run(&rows, columns, &self.indexes).map_err(in_rows())?,
        };
        if parts.window.is_some() {
            computed.rows = batches;
            return Ok(computed);
        }
        for rows in batches {
            parts.output.append(&rows, &mut computed.rows).map_err(Error::in_part("output"))?;
        }
        Ok(computed)
    }

    /// Gives the rows of a prepared batch to their windows.
    fn add(
        &mut self,
        window: &Windowed,
        prepared: RecordBatch,
        batch: BatchTime,
        fans_out: bool,
        late: &mut LateRecords,
    ) -> Result<()> {
        let Some(windows) = &mut self.windows else { return Ok(()) };
        let prepared = window.conform(prepared).map_err(Error::in_part("rows"))?;
        let found = windows.add(&window.aggregation, &prepared, batch).map_err(Error::in_part("aggregates"))?;
        // Behind a fan-out a record may be several rows.
        match &window.aggregation.identity {
            Some(identity) if fans_out || (window.tell_late && found.is_some()) => {
                late.note_rows(&prepared, identity, found.as_ref());
            }
            _ => late.records += found.map_or(0, |late| late.true_count() as u64),
        }
        Ok(())
    }
}

impl Windowed {
    /// Columns of the state.
    pub(super) fn state_schema(&self) -> SchemaRef {
        Arc::clone(&self.aggregation.state_schema)
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
