//! The open sessions of a query: keys, pieces, and an accumulator for each aggregate and piece.

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use datafusion::common::internal_err;
use datafusion::error::{DataFusionError, Result};

use super::super::super::aggregation::{Aggregation, EVENT_TIME};
use super::super::super::window::UTC;
use super::super::{BatchTime, Closed, Emit, OpenPart, WindowState};
use super::Session;
use super::buckets::Buckets;
use super::keys::{Keys, NONE};
use super::pieces::{Changes, Ended, Fragment, Piece, Pieces};
use super::wheel::Wheel;
use crate::engine::refusing::Refused;
use crate::engine::sets::TOGETHER;
use crate::engine::slots::SlotAccumulator;

/// Sessions that are emitted together.
const EMITTED_MAX: usize = 8_192;

/// Columns of a piece in the state, between keys and accumulators: first, last, version, version before.
const PIECE_COLUMNS: usize = 4;

/// All open sessions. A part of the state is a bucket of keys.
pub(in super::super::super) struct SessionWindows {
    session: Session,
    pieces: Pieces,
    /// What changes with the pieces.
    held: Held,
    /// Sessions that have ended and are not emitted yet.
    ended: VecDeque<Ended>,
    /// Pieces of each part, since the last change; empty if they are to be looked for.
    by_part: Vec<(i64, Vec<u32>)>,
    scratch: Scratch,
}

/// Everything beside the times of pieces. Keys and accumulators are made with the first rows.
struct Held {
    keys: Option<Keys>,
    slots: Vec<Box<dyn SlotAccumulator>>,
    buckets: Buckets,
    wheel: Wheel,
    /// Pieces that were united with others, until the rows that were meant for them follow.
    moves: Vec<(u32, u32)>,
    /// Of accumulators, while pieces are united.
    failed: Option<DataFusionError>,
}

/// Memory that is kept from batch to batch.
#[derive(Default)]
struct Scratch {
    keys: Vec<u32>,
    order: Vec<(u32, i64, u32)>,
    slots: Vec<usize>,
    ended: Vec<Ended>,
    late_keys: Vec<u32>,
}

impl Changes for Held {
    fn opened(&mut self, _: u32, what: &Piece) {
        if let Some(keys) = &mut self.keys {
            keys.add_user(what.key);
            let hash = keys.hash(what.key);
            self.buckets.add(hash, what.replay_from());
            self.buckets.touch(hash);
        }
    }

    fn changed(&mut self, _: u32, from: &Piece, to: &Piece) {
        let Some(keys) = &self.keys else { return };
        let hash = keys.hash(to.key);
        if from.replay_from() != to.replay_from() {
            self.buckets.remove(hash, from.replay_from());
            self.buckets.add(hash, to.replay_from());
        }
        self.buckets.touch(hash);
    }

    fn closed(&mut self, piece: u32, what: &Piece) {
        if let Some(keys) = &self.keys {
            self.buckets.remove(keys.hash(what.key), what.replay_from());
        }
        self.wheel.remove(piece);
    }

    fn united(&mut self, key: u32, into: u32, from: u32) {
        if let Some(keys) = &mut self.keys {
            keys.remove_user(key);
        }
        self.moves.push((into, from));
        for slots in &mut self.slots {
            if let Err(error) = slots.unite(into as usize, from as usize) {
                self.failed.get_or_insert(error);
            }
        }
    }

    fn wait(&mut self, piece: u32, time: i64) {
        self.wheel.set(piece, time);
    }
}

impl SessionWindows {
    pub(in super::super::super) fn new(session: Session) -> Self {
        let held = Held {
            keys: None,
            slots: vec![],
            buckets: Buckets::new(),
            wheel: Wheel::new(session.gap()),
            moves: vec![],
            failed: None,
        };
        Self {
            session,
            pieces: Pieces::new(session),
            held,
            ended: VecDeque::new(),
            by_part: vec![],
            scratch: Scratch::default(),
        }
    }

    /// Keys and accumulators, made when they are needed first.
    fn prepare(&mut self, aggregation: &Aggregation) -> Result<()> {
        if self.held.keys.is_none() {
            self.held.slots = aggregation.slots()?;
            self.held.keys = Some(Keys::new(&aggregation.key_types())?);
        }
        Ok(())
    }

    /// Puts fragments where they belong: for rows sorted by key and time, the slot of each.
    fn place(&mut self, batch: BatchTime) -> Result<bool> {
        let Self { session, pieces, held, scratch, .. } = self;
        let mut any_late = false;
        let (mut from, mut fetched) = (0, 0);
        let Scratch { order, slots, late_keys, .. } = scratch;
        while from < order.len() {
            if from >= fetched {
                fetched = order.len().min(from + TOGETHER);
                if let Some(keys) = &held.keys {
                    pieces.fetch(order[from..fetched].iter().map(|(key, ..)| keys.first_piece(*key)));
                }
            }
            let (key, first, _) = order[from];
            let edge = session.edge_after(first);
            let mut to = from + 1;
            // One sort and one pass over all keys: a fragment ends at a gap, at the edge of a cell, with its key.
            while to < order.len()
                && order[to].0 == key
                && session.near(order[to - 1].1, order[to].1)
                && order[to].1 < edge
            {
                to += 1;
            }
            let fragment = Fragment { first, last: order[to - 1].1, version: batch.version, before: None };
            let slot = held.put(pieces, key, fragment, batch.watermark);
            held.follow_moves(slots);
            if slot.is_none() {
                any_late = true;
                late_keys.push(key);
            }
            for (.., row) in &order[from..to] {
                slots[*row as usize] = slot.map_or(usize::MAX, |slot| slot as usize);
            }
            from = to;
        }
        // Only now: a later fragment of the same key may have opened a session.
        if let Some(keys) = &mut held.keys {
            late_keys.drain(..).for_each(|key| keys.forget_unused(key));
        }
        held.check()?;
        Ok(any_late)
    }

    fn collect_ended(&mut self, watermark: i64) -> Result<()> {
        let Self { pieces, held, scratch, .. } = self;
        let due = held.wheel.take(watermark);
        for due in due.chunks(TOGETHER) {
            if let Some(keys) = &held.keys {
                pieces.fetch(due.iter().map(|piece| keys.first_piece(pieces.get(*piece).key)));
            }
            for piece in due {
                let key = pieces.get(*piece).key;
                held.with_head(key, |head, held| pieces.end(head, watermark, held, &mut scratch.ended));
            }
        }
        held.moves.clear();
        held.check()?;
        if !scratch.ended.is_empty() {
            self.by_part.clear();
        }
        self.ended.extend(scratch.ended.drain(..));
        Ok(())
    }

    /// Empties the slots of ended sessions and gives their numbers back.
    fn release(&mut self, ended: &[Ended]) -> Result<()> {
        let slots: Vec<usize> = ended.iter().map(|ended| ended.piece as usize).collect();
        self.held.slots.iter_mut().try_for_each(|accumulator| accumulator.clear(&slots))?;
        for ended in ended {
            let key = self.pieces.get(ended.piece).key;
            if let Some(keys) = &mut self.held.keys {
                keys.remove_user(key);
            }
            self.pieces.release(ended.piece);
        }
        Ok(())
    }

    fn tidy(&mut self) -> Result<()> {
        if let Some(keys) = &mut self.held.keys {
            keys.tidy();
        }
        self.held.slots.iter_mut().try_for_each(|slots| slots.tidy())
    }

    /// The open pieces of a part.
    fn pieces_of(&mut self, part: i64) -> Vec<u32> {
        let Some(keys) = &mut self.held.keys else { return vec![] };
        if self.by_part.is_empty() {
            let parts = self.held.buckets.open_parts(0);
            let mut by_part: Vec<(i64, Vec<u32>)> = parts.iter().map(|part| (part.part, vec![])).collect();
            for key in keys.all() {
                let part = self.held.buckets.part(keys.hash(key));
                let mut at = *keys.head(key);
                let Ok(index) = by_part.binary_search_by_key(&part, |(part, _)| *part) else { continue };
                while at != NONE {
                    by_part[index].1.push(at);
                    at = self.pieces.next(at);
                }
            }
            self.by_part = by_part;
        }
        match self.by_part.binary_search_by_key(&part, |(part, _)| *part) {
            Ok(index) => self.by_part[index].1.clone(),
            Err(_) => vec![],
        }
    }

    fn grow_buckets(&mut self) {
        let Held { keys: Some(keys), buckets, .. } = &mut self.held else { return };
        if buckets.is_full() {
            let pieces = &self.pieces;
            let mut all = vec![];
            for key in keys.all() {
                let hash = keys.hash(key);
                let mut at = *keys.head(key);
                while at != NONE {
                    all.push((hash, pieces.get(at).replay_from()));
                    at = pieces.next(at);
                }
            }
            buckets.grow(all.into_iter());
        }
    }

    fn state_of(&mut self, aggregation: &Aggregation, pieces: &[u32]) -> Result<RecordBatch> {
        let slots: Vec<usize> = pieces.iter().map(|piece| *piece as usize).collect();
        let whats: Vec<Piece> = pieces.iter().map(|piece| *self.pieces.get(*piece)).collect();
        let Some(keys) = &self.held.keys else { return internal_err!("there are no sessions") };
        let mut columns = keys.columns(&whats.iter().map(|what| what.key).collect::<Vec<_>>())?;
        columns.push(Arc::new(Int64Array::from_iter_values(whats.iter().map(|what| what.first))));
        columns.push(Arc::new(Int64Array::from_iter_values(whats.iter().map(|what| what.last))));
        columns.push(Arc::new(Int64Array::from_iter_values(whats.iter().map(|what| what.version as i64))));
        let before = whats.iter().map(|what| what.before.map(|version| version as i64));
        columns.push(Arc::new(before.collect::<Int64Array>()));
        for accumulator in &mut self.held.slots {
            columns.extend(accumulator.state(&slots)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(pieces.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&aggregation.state_schema), columns, &options)?)
    }

    fn restore_rows(&mut self, aggregation: &Aggregation, rows: &RecordBatch) -> Result<()> {
        let (keys, rest) = rows.columns().split_at(aggregation.key_count());
        let (times, states) = rest.split_at(PIECE_COLUMNS);
        let [first, last, version, before] = times else { return internal_err!("a piece has four columns") };
        let column = |column: &ArrayRef| column.as_primitive::<Int64Type>().clone();
        let (first, last, version, before) = (column(first), column(last), column(version), column(before));
        let Self { pieces, held, scratch, .. } = self;
        let Some(numbers) = &mut held.keys else { return internal_err!("there are no keys") };
        numbers.number(keys, rows.num_rows(), &mut scratch.keys)?;
        let Scratch { keys: numbers, slots, .. } = scratch;
        slots.clear();
        // Pieces may be united before their rows are added.
        let most = pieces.numbers() + rows.num_rows();
        held.slots.iter_mut().try_for_each(|accumulator| accumulator.grow(most))?;
        for (row, key) in numbers.iter().enumerate() {
            let fragment = Fragment {
                first: first.value(row),
                last: last.value(row),
                version: version.value(row) as u64,
                before: before.is_valid(row).then(|| before.value(row) as u64),
            };
            let Some(slot) = held.put(pieces, *key, fragment, None) else {
                return internal_err!("nothing is late without a watermark");
            };
            held.follow_moves(slots);
            slots.push(slot as usize);
        }
        held.check()?;
        aggregation.merge_slots(&mut held.slots, states, slots, most)
    }
}

impl Held {
    fn check(&mut self) -> Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Rows that were meant for a piece go where it went.
    fn follow_moves(&mut self, slots: &mut [usize]) {
        for (into, from) in self.moves.drain(..) {
            let meant = slots.iter_mut().filter(|slot| **slot == from as usize);
            meant.for_each(|slot| *slot = into as usize);
        }
    }

    /// Works on the first piece of a key.
    fn with_head<T>(&mut self, key: u32, work: impl FnOnce(&mut u32, &mut Self) -> T) -> Option<T> {
        let mut head = *self.keys.as_mut()?.head(key);
        let done = work(&mut head, self);
        *self.keys.as_mut()?.head(key) = head;
        Some(done)
    }

    fn put(&mut self, pieces: &mut Pieces, key: u32, fragment: Fragment, watermark: Option<i64>) -> Option<u32> {
        self.with_head(key, |head, held| pieces.put(key, head, fragment, watermark, held)).flatten()
    }
}

impl WindowState for SessionWindows {
    fn add(&mut self, aggregation: &Aggregation, rows: &RecordBatch, batch: BatchTime) -> Result<Option<BooleanArray>> {
        self.prepare(aggregation)?;
        self.by_part.clear();
        let times = rows.column(EVENT_TIME).as_primitive::<TimestampMicrosecondType>();
        let Some(keys) = &mut self.held.keys else { return internal_err!("there are no keys") };
        keys.number(&aggregation.keys(rows), rows.num_rows(), &mut self.scratch.keys)?;
        self.scratch.order.clear();
        let numbered = self.scratch.keys.iter().zip(times.values()).zip(0..);
        self.scratch.order.extend(numbered.map(|((key, time), row)| (*key, *time, row)));
        self.scratch.order.sort_unstable();
        self.scratch.slots.clear();
        self.scratch.slots.resize(rows.num_rows(), usize::MAX);

        let any_late = self.place(batch)?;
        let numbers = self.pieces.numbers();
        let late = any_late.then(|| self.scratch.slots.iter().map(|slot| Some(*slot == usize::MAX)).collect());
        match &late {
            None => aggregation.update_slots(&mut self.held.slots, rows, &self.scratch.slots, numbers)?,
            Some(late) => {
                let in_time = datafusion::arrow::compute::not(late)?;
                let rows = filter_record_batch(rows, &in_time)?;
                self.scratch.slots.retain(|slot| *slot != usize::MAX);
                aggregation.update_slots(&mut self.held.slots, &rows, &self.scratch.slots, numbers)?;
            }
        }
        self.grow_buckets();
        Ok(late)
    }

    fn close_next(&mut self, aggregation: &Aggregation, watermark: i64, _: bool, emit: &mut Emit<'_>) -> Result<bool> {
        if self.ended.is_empty() {
            self.collect_ended(watermark)?;
        }
        if self.ended.is_empty() {
            return Ok(false);
        }
        let ended: Vec<Ended> = self.ended.drain(..EMITTED_MAX.min(self.ended.len())).collect();
        let Some(keys) = &self.held.keys else { return internal_err!("there are no keys") };
        let numbers: Vec<u32> = ended.iter().map(|ended| self.pieces.get(ended.piece).key).collect();
        let mut columns = keys.columns(&numbers)?;
        let slots: Vec<usize> = ended.iter().map(|ended| ended.piece as usize).collect();
        let mut refused = Refused::new();
        for accumulator in &mut self.held.slots {
            columns.push(accumulator.answers_or_refuse(&slots, &mut refused)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(ended.len()));
        let answers = RecordBatch::try_new_with_options(Arc::clone(&aggregation.answer_schema), columns, &options)?;
        let edge = |time: &dyn Fn(&Ended) -> i64| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from_iter_values(ended.iter().map(time)).with_timezone(UTC))
        };
        let starts = edge(&|ended| self.pieces.get(ended.piece).first);
        let ends = edge(&|ended| ended.end);
        self.release(&ended)?;
        if self.ended.is_empty() {
            self.tidy()?;
        }
        let closed = Closed { starts, ends, answers, refused: None }.without_refused(&refused, emit)?;
        emit(closed)?;
        Ok(true)
    }

    fn discard(&mut self, watermark: i64) -> Result<()> {
        self.collect_ended(watermark)?;
        let ended: Vec<Ended> = self.ended.drain(..).collect();
        self.release(&ended)?;
        self.tidy()
    }

    fn parts(&self) -> Vec<OpenPart> {
        self.held.buckets.open_parts(self.bytes())
    }

    fn snapshot(&mut self, aggregation: &Aggregation, part: i64) -> Result<Option<Vec<RecordBatch>>> {
        let pieces = self.pieces_of(part);
        if pieces.is_empty() {
            return Ok(None);
        }
        let batches = pieces.chunks(EMITTED_MAX).map(|pieces| self.state_of(aggregation, pieces));
        let batches = batches.collect::<Result<Vec<_>>>()?;
        self.held.buckets.set_clean(part);
        Ok(Some(batches))
    }

    fn restore(&mut self, aggregation: &Aggregation, part: i64, _: u64, rows: &[RecordBatch]) -> Result<()> {
        self.prepare(aggregation)?;
        self.by_part.clear();
        self.held.buckets.fit(part);
        let fresh = self.held.buckets.pieces_in(part) == 0;
        for rows in rows.iter().filter(|rows| rows.num_rows() > 0) {
            self.restore_rows(aggregation, rows)?;
        }
        let total = rows.iter().map(RecordBatch::num_rows).sum::<usize>();
        if fresh && self.held.buckets.pieces_in(part) == total {
            // The part holds exactly these.
            self.held.buckets.set_clean(part);
        }
        self.grow_buckets();
        Ok(())
    }

    fn open_windows(&self) -> usize {
        self.held.buckets.pieces()
    }

    fn oldest_open(&self) -> Option<i64> {
        self.pieces.oldest()
    }

    fn latest_end(&self) -> Option<i64> {
        let keys = self.held.keys.as_ref()?;
        let mut latest = None;
        for key in keys.all() {
            let mut at = keys.first_piece(key);
            while at != NONE {
                latest = latest.max(Some(self.session.end_of(self.pieces.get(at).last)));
                at = self.pieces.next(at);
            }
        }
        latest
    }

    fn groups(&self) -> usize {
        self.held.buckets.pieces()
    }

    fn bytes(&self) -> usize {
        let slots = self.held.slots.iter().map(|slots| slots.size()).sum::<usize>();
        let keys = self.held.keys.as_ref().map_or(0, Keys::size);
        if self.held.buckets.pieces() == 0 { 0 } else { slots + keys + self.pieces.size() + self.held.wheel.size() }
    }
}
