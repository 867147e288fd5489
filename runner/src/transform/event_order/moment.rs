//! The place of an event in the order of events.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::internal_err;
use datafusion::error::Result;
use hashbrown::HashMap;

/// Event time, and the record: its partition by its number in [`Origins`], and its offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) time: i64,
    pub(super) offset: i64,
    pub(super) origin: u32,
}

/// Topics and partitions, numbered as they come, and their order.
#[derive(Default)]
pub(super) struct Origins {
    known: Vec<(Arc<str>, i32)>,
    numbers: HashMap<(Arc<str>, i32), u32>,
    /// Place of each in the order of topic and partition.
    ranks: Vec<u32>,
    last: u32,
}

impl Origins {
    /// Number of a partition. Runs of records are of one partition.
    #[inline]
    pub(super) fn number(&mut self, topic: &str, partition: i32) -> u32 {
        if let Some((known, number)) = self.known.get(self.last as usize)
            && *number == partition
            && **known == *topic
        {
            return self.last;
        }
        self.last = self.look_up(topic, partition);
        self.last
    }

    fn look_up(&mut self, topic: &str, partition: i32) -> u32 {
        let key = (Arc::<str>::from(topic), partition);
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let number = self.known.len() as u32;
        self.known.push(key.clone());
        self.numbers.insert(key, number);
        let mut order: Vec<u32> = (0..self.known.len() as u32).collect();
        order.sort_by(|a, b| self.known[*a as usize].cmp(&self.known[*b as usize]));
        self.ranks.resize(self.known.len(), 0);
        order.iter().zip(0..).for_each(|(number, rank)| self.ranks[*number as usize] = rank);
        number
    }

    pub(super) fn topic(&self, number: u32) -> &str {
        &self.known[number as usize].0
    }

    pub(super) fn partition(&self, number: u32) -> i32 {
        self.known[number as usize].1
    }

    /// What moments are compared by.
    pub(super) fn order(&self, moment: Moment) -> (i64, u32, i64) {
        (moment.time, self.ranks[moment.origin as usize], moment.offset)
    }

    pub(super) fn size(&self) -> usize {
        self.known.len() * 128
    }
}

/// The moments of rows, in four columns: time, topic, partition, offset.
pub(super) struct Moments {
    columns: [ArrayRef; 4],
}

impl Moments {
    pub(super) fn new(columns: &[ArrayRef]) -> Result<Self> {
        let [time, topic, partition, offset] = columns else {
            return internal_err!("a moment has four columns, not {}", columns.len());
        };
        let topic = match topic.data_type() {
            DataType::Utf8View => Arc::clone(topic),
            _ => cast(topic, &DataType::Utf8View)?,
        };
        let time = match time.data_type() {
            DataType::Int64 => Arc::clone(time),
            _ => Arc::new(time.as_primitive::<TimestampMicrosecondType>().reinterpret_cast::<Int64Type>()),
        };
        Ok(Self { columns: [time, topic, Arc::clone(partition), Arc::clone(offset)] })
    }

    pub(super) fn get(&self) -> (&[i64], &StringViewArray, &[i32], &[i64]) {
        let [time, topic, partition, offset] = &self.columns;
        (
            time.as_primitive::<Int64Type>().values(),
            topic.as_string_view(),
            partition.as_primitive::<Int32Type>().values(),
            offset.as_primitive::<Int64Type>().values(),
        )
    }
}
