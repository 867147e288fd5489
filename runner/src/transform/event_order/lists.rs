//! A list of values in the order of events for each slot: values stored once, lists as chains of nodes that are sorted
//! when they are asked for.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListArray, StringViewArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{exec_err, resources_datafusion_err};
use datafusion::error::Result;

use super::super::values::ValueCodec;
use super::moment::{Moment, Moments, Origins};
use crate::engine::sets::{Dictionary, TIDY_FROM};
use crate::engine::slots::{SlotAccumulator, passes};

/// Ends a chain.
const END: u32 = u32::MAX;

/// A value that is null.
const NULL: u32 = u32::MAX;

/// A value in a chain. 32 bytes: two share a cache line.
#[derive(Clone, Copy)]
struct Node {
    moment: Moment,
    value: u32,
    next: u32,
}

pub(super) struct Lists {
    codec: ValueCodec,
    item: DataType,
    ignores_nulls: bool,
    /// Whether an empty list is null.
    null_if_empty: bool,
    dictionary: Dictionary,
    origins: Origins,
    heads: Vec<u32>,
    counts: Vec<u32>,
    nodes: Vec<Node>,
    /// Chain of the nodes that were taken back.
    free: u32,
    /// Nodes in chains of slots.
    used: usize,
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

/// Values, then their moments: five lists of one length.
pub(super) fn state_types(item: &DataType) -> Vec<DataType> {
    [item.clone(), DataType::Int64, DataType::Utf8View, DataType::Int32, DataType::Int64].map(list_of).to_vec()
}

impl Lists {
    pub(super) fn new(item: DataType, ignores_nulls: bool, null_if_empty: bool) -> Result<Self> {
        Ok(Self {
            codec: ValueCodec::new(&item)?,
            item,
            ignores_nulls,
            null_if_empty,
            dictionary: Dictionary::default(),
            origins: Origins::default(),
            heads: vec![],
            counts: vec![],
            nodes: vec![],
            free: END,
            used: 0,
        })
    }

    fn add(&mut self, slot: usize, moment: Moment, value: u32) -> Result<()> {
        let node = Node { moment, value, next: self.heads[slot] };
        self.heads[slot] = match self.free {
            END => {
                let number = u32::try_from(self.nodes.len()).ok().filter(|number| *number != END).ok_or_else(|| {
                    resources_datafusion_err!("the lists of the open windows have more than 4 billion values")
                })?;
                self.nodes.push(node);
                number
            }
            free => {
                self.free = self.nodes[free as usize].next;
                self.nodes[free as usize] = node;
                free
            }
        };
        self.counts[slot] += 1;
        self.used += 1;
        Ok(())
    }

    /// Adds values with their moments; `slot_of` gives the slot of each, or `None` for a value to leave out.
    fn add_all(
        &mut self,
        values: &ArrayRef,
        moments: &Moments,
        slot_of: impl Fn(usize) -> Option<usize>,
    ) -> Result<()> {
        let encoded = self.codec.encode(values)?;
        let (times, topics, partitions, offsets) = moments.get();
        for row in 0..values.len() {
            let Some(slot) = slot_of(row) else { continue };
            let value = match encoded.value(row) {
                Some(value) => self.dictionary.id_of(value)?,
                None if self.ignores_nulls => continue,
                None => NULL,
            };
            let origin = self.origins.number(topics.value(row), partitions[row]);
            self.add(slot, Moment { time: times[row], offset: offsets[row], origin }, value)?;
        }
        Ok(())
    }

    /// The nodes of some slots one after the other, and where each slot's end.
    fn nodes_of(&self, slots: &[usize], sorted: bool) -> Result<(Vec<Node>, OffsetBuffer<i32>)> {
        let total = slots.iter().map(|slot| self.counts[*slot] as usize).sum::<usize>();
        let mut nodes: Vec<Node> = Vec::with_capacity(total);
        let mut ends: Vec<i32> = Vec::with_capacity(slots.len() + 1);
        ends.push(0);
        for slot in slots {
            let first = nodes.len();
            let mut at = self.heads[*slot];
            while at != END {
                let node = self.nodes[at as usize];
                nodes.push(node);
                at = node.next;
            }
            if sorted {
                // The newest is the first of the chain; of one record the first row is the first.
                nodes[first..].reverse();
                nodes[first..].sort_by_key(|node| self.origins.order(node.moment));
            }
            ends.push(i32::try_from(nodes.len()).map_err(|_| {
                resources_datafusion_err!("the lists of some closed windows have more than 2 billion values")
            })?);
        }
        Ok((nodes, OffsetBuffer::new(ends.into())))
    }

    fn values_of(&self, nodes: &[Node]) -> Result<ArrayRef> {
        let value = |node: &Node| (node.value != NULL).then(|| self.dictionary.value(node.value));
        self.codec.decode(&nodes.iter().map(value).collect::<Vec<_>>())
    }

    fn clear_slot(&mut self, slot: usize) {
        let mut at = std::mem::replace(&mut self.heads[slot], END);
        while at != END {
            let next = std::mem::replace(&mut self.nodes[at as usize].next, self.free);
            (self.free, at) = (at, next);
        }
        self.used -= std::mem::take(&mut self.counts[slot]) as usize;
    }
}

impl SlotAccumulator for Lists {
    fn grow(&mut self, slots: usize) -> Result<()> {
        if slots > self.heads.len() {
            self.heads.resize(slots, END);
            self.counts.resize(slots, 0);
        }
        Ok(())
    }

    fn update(&mut self, values: &[ArrayRef], slots: &[usize], filter: Option<&BooleanArray>) -> Result<()> {
        let moments = Moments::new(&values[1..])?;
        self.add_all(&values[0], &moments, |row| passes(filter, row).then(|| slots[row]))
    }

    fn merge(&mut self, state: &[ArrayRef], slots: &[usize]) -> Result<()> {
        let lists = state.iter().map(|column| column.as_list_opt::<i32>()).collect::<Option<Vec<_>>>();
        let Some([values, moments @ ..]) = lists.as_deref() else { return exec_err!("the state of a list is lists") };
        // A slice's values are the whole child: only the part that its offsets name belongs to it.
        let part = |list: &ListArray| {
            let offsets = list.value_offsets();
            let (first, last) = (offsets[0] as usize, offsets[list.len()] as usize);
            list.values().slice(first, last - first)
        };
        let rows = slots.iter().zip(values.value_offsets().windows(2));
        let slot_of: Vec<usize> =
            rows.flat_map(|(slot, ends)| std::iter::repeat_n(*slot, (ends[1] - ends[0]) as usize)).collect();
        let moments = Moments::new(&moments.iter().map(|list| part(list)).collect::<Vec<_>>())?;
        self.add_all(&part(values), &moments, |row| slot_of.get(row).copied())
    }

    fn state(&mut self, slots: &[usize]) -> Result<Vec<ArrayRef>> {
        // Oldest first, as they came.
        let (mut nodes, ends) = self.nodes_of(slots, false)?;
        for ends in ends.windows(2) {
            nodes[ends[0] as usize..ends[1] as usize].reverse();
        }
        let moments = || nodes.iter().map(|node| node.moment);
        let columns: [ArrayRef; 5] = [
            self.values_of(&nodes)?,
            Arc::new(Int64Array::from_iter_values(moments().map(|moment| moment.time))),
            Arc::new(StringViewArray::from_iter_values(moments().map(|moment| self.origins.topic(moment.origin)))),
            Arc::new(Int32Array::from_iter_values(moments().map(|moment| self.origins.partition(moment.origin)))),
            Arc::new(Int64Array::from_iter_values(moments().map(|moment| moment.offset))),
        ];
        let list = |column: ArrayRef| -> Result<ArrayRef> {
            let field = Arc::new(Field::new_list_field(column.data_type().clone(), true));
            Ok(Arc::new(ListArray::try_new(field, ends.clone(), column, None)?))
        };
        columns.into_iter().map(list).collect()
    }

    fn answers(&mut self, slots: &[usize]) -> Result<ArrayRef> {
        let (nodes, ends) = self.nodes_of(slots, true)?;
        let nulls = self.null_if_empty.then(|| slots.iter().map(|slot| self.counts[*slot] > 0).collect::<NullBuffer>());
        let field = Arc::new(Field::new_list_field(self.item.clone(), true));
        Ok(Arc::new(ListArray::try_new(field, ends, self.values_of(&nodes)?, nulls)?))
    }

    fn unite(&mut self, into: usize, from: usize) -> Result<()> {
        let (mut at, mut last) = (self.heads[from], END);
        while at != END {
            (last, at) = (at, self.nodes[at as usize].next);
        }
        if last != END {
            self.nodes[last as usize].next = self.heads[into];
            self.heads[into] = std::mem::replace(&mut self.heads[from], END);
            self.counts[into] += std::mem::take(&mut self.counts[from]);
        }
        Ok(())
    }

    fn clear(&mut self, slots: &[usize]) -> Result<()> {
        slots.iter().for_each(|slot| self.clear_slot(*slot));
        Ok(())
    }

    fn tidy(&mut self) -> Result<()> {
        if self.dictionary.len() < 2 * self.used + TIDY_FROM {
            return Ok(());
        }
        let old = std::mem::take(&mut self.dictionary);
        for head in &self.heads {
            let mut at = *head;
            while at != END {
                let node = &mut self.nodes[at as usize];
                if node.value != NULL {
                    node.value = self.dictionary.id_of(old.value(node.value))?;
                }
                at = node.next;
            }
        }
        Ok(())
    }

    fn remove_first(&mut self, slots: usize) {
        (0..slots).for_each(|slot| self.clear_slot(slot));
        self.heads.drain(..slots);
        self.counts.drain(..slots);
        if self.used == 0 {
            (self.nodes, self.free, self.dictionary) = (vec![], END, Dictionary::default());
        }
    }

    fn size(&self) -> usize {
        self.dictionary.size()
            + self.origins.size()
            + self.heads.capacity() * 8
            + self.nodes.capacity() * size_of::<Node>()
    }
}
