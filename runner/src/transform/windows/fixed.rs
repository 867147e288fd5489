//! Open windows whose edges are known before any event: groups and accumulators for each of them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::TimestampMicrosecondType;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::error::Result;

use super::super::aggregation::{Aggregation, EVENT_TIME};
use super::super::held_window::HeldWindow;
use super::super::window::UTC;
use super::{BatchTime, Closed, Emit, Grid, OpenPart, WindowState};
use crate::engine::refusing::Refused;

/// The open windows of a grid, by their start. A part of the state is a window.
pub(in super::super) struct FixedWindows<G> {
    grid: G,
    windows: BTreeMap<i64, HeldWindow>,
    /// Group of each row; kept for its memory.
    indices: Vec<usize>,
}

impl<G: Grid> FixedWindows<G> {
    pub(in super::super) fn new(grid: G) -> Self {
        Self { grid, windows: BTreeMap::new(), indices: Vec::new() }
    }

    fn pop_closed(&mut self, watermark: i64) -> Option<(i64, HeldWindow)> {
        let oldest = self.windows.first_entry()?;
        (self.grid.end_of(*oldest.key()) <= watermark).then(|| oldest.remove_entry())
    }

    fn update(&mut self, aggregation: &Aggregation, start: i64, rows: &RecordBatch, version: u64) -> Result<()> {
        let window = match self.windows.entry(start) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(HeldWindow::new(aggregation, version)?),
        };
        window.update(aggregation, rows, &mut self.indices)
    }

    /// Starts of the windows of an event time that the watermark has not closed.
    fn open_starts(&self, time: i64, watermark: Option<i64>) -> impl Iterator<Item = i64> + use<G> {
        let grid = self.grid;
        let (first, last) = grid.span(time);
        let starts = std::iter::successors(Some(first), move |start| start.checked_add(grid.slide()));
        let in_span = starts.take_while(move |start| *start <= last);
        in_span.filter(move |start| watermark.is_none_or(|watermark| grid.end_of(*start) > watermark))
    }

    /// Accumulators give their state away: it is put into new ones.
    fn reseed(&mut self, aggregation: &Aggregation, mut old: HeldWindow) -> Result<(HeldWindow, Vec<RecordBatch>)> {
        let mut new = HeldWindow::new(aggregation, old.first_version)?;
        let mut batches = Vec::new();
        let part = old.part();
        while let Some(batch) = old.take_state(&aggregation.state_schema, part)? {
            new.merge(aggregation, &batch, &mut self.indices)?;
            batches.push(batch);
        }
        Ok((new, batches))
    }
}

impl<G: Grid> WindowState for FixedWindows<G> {
    /// Most batches lie in one or two windows of a tumbling query.
    fn add(&mut self, aggregation: &Aggregation, rows: &RecordBatch, batch: BatchTime) -> Result<Option<BooleanArray>> {
        let times = rows.column(EVENT_TIME).as_primitive::<TimestampMicrosecondType>();
        if times.is_empty() {
            return Ok(None);
        }
        let (least, greatest) = range(times);
        let spans = (self.grid.span(least), self.grid.span(greatest));
        if spans.0 == spans.1 {
            // All rows lie in the same windows.
            for start in self.open_starts(least, batch.watermark) {
                self.update(aggregation, start, rows, batch.version)?;
            }
            return Ok(None);
        }
        let mut rows_of: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, time) in (0_u32..).zip(times.values()) {
            for start in self.open_starts(*time, batch.watermark) {
                rows_of.entry(start).or_default().push(row);
            }
        }
        for (start, chosen) in rows_of {
            let part = take_record_batch(rows, &UInt32Array::from(chosen))?;
            self.update(aggregation, start, &part, batch.version)?;
        }
        Ok(None)
    }

    fn close_next(
        &mut self,
        aggregation: &Aggregation,
        watermark: i64,
        whole: bool,
        emit: &mut Emit<'_>,
    ) -> Result<bool> {
        let Some((start, mut window)) = self.pop_closed(watermark) else { return Ok(false) };
        let edge = |edge: i64, rows: usize| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from_value(edge, rows).with_timezone(UTC))
        };
        let part = if whole { usize::MAX } else { window.part() };
        let mut refused = Refused::new();
        while let Some(answers) = window.take_answers(&aggregation.answer_schema, part, &mut refused)? {
            let rows = answers.num_rows();
            let (starts, ends) = (edge(start, rows), edge(self.grid.end_of(start), rows));
            let mut closed = Closed { starts, ends, answers, refused: None }.without_refused(&refused, emit)?;
            refused.clear();
            if whole {
                // Ties then fall the same way however the stream was cut into batches.
                closed.answers = sorted_by_keys(&closed.answers, aggregation.key_count())?;
            }
            emit(closed)?;
        }
        Ok(true)
    }

    fn discard(&mut self, watermark: i64) -> Result<()> {
        while self.pop_closed(watermark).is_some() {}
        Ok(())
    }

    fn parts(&self) -> Vec<OpenPart> {
        let parts = self.windows.iter().map(|(start, window)| OpenPart {
            part: *start,
            first_version: window.first_version,
            groups: window.groups(),
            bytes: window.bytes(),
            changed_since_snapshot: window.changed,
        });
        parts.collect()
    }

    fn snapshot(&mut self, aggregation: &Aggregation, part: i64) -> Result<Option<Vec<RecordBatch>>> {
        let Some(old) = self.windows.remove(&part) else { return Ok(None) };
        let (new, rows) = self.reseed(aggregation, old)?;
        self.windows.insert(part, new);
        Ok(Some(rows))
    }

    fn restore(
        &mut self,
        aggregation: &Aggregation,
        part: i64,
        first_version: u64,
        rows: &[RecordBatch],
    ) -> Result<()> {
        let window = match self.windows.entry(part) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(HeldWindow::new(aggregation, first_version)?),
        };
        window.first_version = window.first_version.min(first_version);
        for rows in rows.iter().filter(|rows| rows.num_rows() > 0) {
            window.merge(aggregation, rows, &mut self.indices)?;
        }
        Ok(())
    }

    fn open_windows(&self) -> usize {
        self.windows.len()
    }

    fn oldest_open(&self) -> Option<i64> {
        self.windows.first_key_value().map(|(start, _)| *start)
    }

    fn latest_end(&self) -> Option<i64> {
        self.windows.last_key_value().map(|(start, _)| self.grid.end_of(*start))
    }

    fn groups(&self) -> usize {
        self.windows.values().map(HeldWindow::groups).sum()
    }

    fn bytes(&self) -> usize {
        self.windows.values().map(HeldWindow::bytes).sum()
    }
}

/// Least and greatest value; there is at least one.
pub(in super::super) fn range(times: &TimestampMicrosecondArray) -> (i64, i64) {
    let values = times.values().iter();
    values.fold((i64::MAX, i64::MIN), |(least, greatest), time| (least.min(*time), greatest.max(*time)))
}

/// Rows in the order of their keys, which differ; in their own order if a key has no order.
fn sorted_by_keys(batch: &RecordBatch, keys: usize) -> Result<RecordBatch> {
    let fields = batch.columns()[..keys].iter().map(|key| SortField::new(key.data_type().clone())).collect::<Vec<_>>();
    if fields.is_empty() || !RowConverter::supports_fields(&fields) {
        return Ok(batch.clone());
    }
    let rows = RowConverter::new(fields)?.convert_columns(&batch.columns()[..keys])?;
    let mut order: Vec<u32> = (0..batch.num_rows() as u32).collect();
    order.sort_unstable_by(|a, b| rows.row(*a as usize).cmp(&rows.row(*b as usize)));
    Ok(take_record_batch(batch, &UInt32Array::from(order))?)
}
