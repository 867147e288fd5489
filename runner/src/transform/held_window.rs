//! What is held for one open window: its groups and their accumulators.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_plan::aggregates::group_values::GroupValues;

use super::aggregation::Aggregation;
use super::output::BATCH_ROWS_MAX;
use crate::engine::refusing::{self, Refused};

/// Groups of a large window are emitted in this many parts: its rows then take a sixteenth of its memory besides the
/// state itself. Each part renumbers the groups that are left, which for a small window costs more than it saves.
const PARTS: usize = 16;

/// Groups and accumulators of a window.
pub(super) struct HeldWindow {
    /// `None` if the query groups by the window alone: then there is one group as soon as there is a row.
    keys: Option<Box<dyn GroupValues>>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    groups: usize,
    /// Version of the first batch with a row in this window: a rebuild of its state begins there.
    pub(super) first_version: u64,
    /// Whether rows came since the last snapshot.
    pub(super) changed: bool,
    bytes: usize,
}

/// What to take out of the accumulators.
enum Take<'a> {
    State,
    Answers(&'a mut Refused),
}

impl HeldWindow {
    pub(super) fn new(aggregation: &Aggregation, first_version: u64) -> Result<Self> {
        let (keys, accumulators) = (aggregation.group_values()?, aggregation.accumulators()?);
        Ok(Self { keys, accumulators, groups: 0, first_version, changed: false, bytes: 0 })
    }

    /// Number of groups.
    pub(super) fn groups(&self) -> usize {
        self.groups
    }

    /// Bytes of memory, as of the last change.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds rows of this window. `indices` is scratch space.
    pub(super) fn update(
        &mut self,
        aggregation: &Aggregation,
        prepared: &RecordBatch,
        indices: &mut Vec<usize>,
    ) -> Result<()> {
        self.intern(&aggregation.keys(prepared), prepared.num_rows(), indices)?;
        aggregation.update(&mut self.accumulators, prepared, indices, self.groups)?;
        self.changed = true;
        self.measure();
        Ok(())
    }

    /// Adds rows of state.
    pub(super) fn merge(
        &mut self,
        aggregation: &Aggregation,
        state: &RecordBatch,
        indices: &mut Vec<usize>,
    ) -> Result<()> {
        let (keys, states) = state.columns().split_at(aggregation.key_count());
        self.intern(keys, state.num_rows(), indices)?;
        aggregation.merge(&mut self.accumulators, states, indices, self.groups)?;
        self.measure();
        Ok(())
    }

    /// The next rows of state, until there are none. The rows are gone from the window.
    pub(super) fn take_state(&mut self, schema: &SchemaRef, part: usize) -> Result<Option<RecordBatch>> {
        self.take(Take::State, schema, part)
    }

    /// The next answers, until there are none. The rows are gone from the window. Those of them that have no answer are noted.
    pub(super) fn take_answers(
        &mut self,
        schema: &SchemaRef,
        part: usize,
        refused: &mut Refused,
    ) -> Result<Option<RecordBatch>> {
        self.take(Take::Answers(refused), schema, part)
    }

    /// How many groups to take at a time.
    pub(super) fn part(&self) -> usize {
        BATCH_ROWS_MAX.max(self.groups.div_ceil(PARTS))
    }

    fn take(&mut self, mut what: Take<'_>, schema: &SchemaRef, part: usize) -> Result<Option<RecordBatch>> {
        if self.groups == 0 {
            return Ok(None);
        }
        let (emit, rows) = if self.groups <= part { (EmitTo::All, self.groups) } else { (EmitTo::First(part), part) };
        let mut columns: Vec<ArrayRef> = match &mut self.keys {
            Some(keys) => keys.emit(emit)?,
            None => vec![],
        };
        for accumulator in &mut self.accumulators {
            match &mut what {
                Take::State => columns.extend(accumulator.state(emit)?),
                Take::Answers(refused) => columns.push(refusing::evaluate(accumulator.as_mut(), emit, refused)?),
            }
        }
        self.groups -= rows;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?))
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize, indices: &mut Vec<usize>) -> Result<()> {
        match &mut self.keys {
            Some(groups) => {
                groups.intern(keys, indices)?;
                self.groups = groups.len();
            }
            None => {
                indices.clear();
                indices.resize(rows, 0);
                self.groups = 1;
            }
        }
        Ok(())
    }

    fn measure(&mut self) {
        let keys = self.keys.as_ref().map_or(0, |keys| keys.size());
        self.bytes = keys + self.accumulators.iter().map(|accumulator| accumulator.size()).sum::<usize>();
    }
}
