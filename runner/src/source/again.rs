//! Records that are read once more, for the dead letters: a query refused them when their bytes were gone already.
//!
//! This way the records that are not refused, nearly all of them, cost nothing.

use std::collections::BTreeMap;

use crate::offsets::Partitions;
use crate::source::dead_letter::{DeadLetters, QUERY};
use crate::source::record::{NoHeaders, Record};
use crate::source::{Source, SourceError, WithoutLeader};
use crate::stop::StopSignal;

/// By offset: why a query refuses the record, once for each that does.
pub type Refusals = Partitions<BTreeMap<i64, Vec<String>>>;

/// What is said of a record that retention or compaction has removed meanwhile.
const GONE: &str = "; the record is gone from Kafka since";

/// Reads the records, and hands them on as dead letters. Afterwards the source stands at `then`.
pub(super) fn read_again(
    source: &mut dyn Source,
    stop: &StopSignal,
    mut refused: Refusals,
    then: &Partitions<i64>,
    hand_on: &mut dyn FnMut(&mut DeadLetters) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    let mut letters = DeadLetters::new();
    loop {
        refused.retain(|_, _, offsets| !offsets.is_empty());
        let range = |offsets: &BTreeMap<i64, Vec<String>>| {
            (*offsets.keys().next().unwrap_or(&0), offsets.keys().next_back().map_or(0, |last| last + 1))
        };
        let ranges = refused.map(range);
        let mut positions = then.clone();
        positions.extend(ranges.iter().map(|(topic, partition, (start, _))| (topic, partition, *start)));
        source.assign(&positions)?;
        let read = source.read(&ranges, WithoutLeader::Await, stop, &mut |record| {
            let offsets = refused.get_mut(record.topic, record.partition);
            for why in offsets.and_then(|offsets| offsets.remove(&record.offset)).unwrap_or_default() {
                letters.push_refused(record, QUERY, &why);
            }
            if letters.is_full() { hand_on(&mut letters) } else { Ok(()) }
        });
        match read {
            Ok(_) => break,
            Err(SourceError::OffsetsGone { topic, partition, earliest, .. }) => {
                let Some(offsets) = refused.get_mut(&topic, partition) else { break };
                let left = offsets.split_off(&earliest);
                let gone = std::mem::replace(offsets, left);
                without_value(&mut letters, &topic, partition, gone);
            }
            Err(error) => return Err(error),
        }
    }
    for (topic, partition, offsets) in refused.into_all() {
        without_value(&mut letters, &topic, partition, offsets);
    }
    hand_on(&mut letters)?;
    source.assign(then)
}

fn without_value(letters: &mut DeadLetters, topic: &str, partition: i32, offsets: BTreeMap<i64, Vec<String>>) {
    for (offset, reasons) in offsets {
        let (timestamp_ms, headers) = (None, &NoHeaders);
        let record = Record { topic, partition, offset, timestamp_ms, key: None, value: None, headers };
        for why in reasons {
            letters.push_refused(&record, QUERY, &format!("{why}{GONE}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Array, AsArray, RecordBatch};
    use datafusion::arrow::datatypes::Int64Type;

    use super::*;
    use crate::source::memory::{MemoryCluster, MemoryRecord};

    fn refusals(offsets: &[i64]) -> Refusals {
        let offsets = offsets.iter().map(|offset| (*offset, vec!["no".to_owned()])).collect();
        Partitions::of("t", [(0, offsets)])
    }

    fn letters(cluster: &MemoryCluster, offsets: &[i64], then: i64) -> Vec<(i64, Option<Vec<u8>>)> {
        let mut source = cluster.source(&["t"], 1);
        let then = Partitions::of("t", [(0, then)]);
        let mut batches: Vec<RecordBatch> = Vec::new();
        read_again(&mut source, &StopSignal::new(), refusals(offsets), &then, &mut |letters| {
            batches.extend(letters.take());
            Ok(())
        })
        .unwrap();
        let after = source.read(
            &then.map(|position| (*position, position + 1)),
            WithoutLeader::Leave,
            &StopSignal::new(),
            &mut |_| Ok(()),
        );
        after.expect("the source goes on where it was told");
        let mut found = Vec::new();
        for batch in batches {
            let (offsets, values) = (batch["offset"].as_primitive::<Int64Type>(), batch["value"].as_binary::<i32>());
            let value = |row: usize| values.is_valid(row).then(|| values.value(row).to_vec());
            found.extend((0..batch.num_rows()).map(|row| (offsets.value(row), value(row))));
        }
        found.sort();
        found
    }

    #[test]
    fn refused_records_are_kept_with_their_bytes_and_those_that_are_gone_without() {
        let cluster = MemoryCluster::default();
        cluster.create("t", 1);
        for number in 0..20 {
            cluster.append("t", 0, MemoryRecord::of(number.to_string()));
        }
        let value = |offset: i64| (offset, Some(offset.to_string().into_bytes()));
        assert_eq!(letters(&cluster, &[3, 7, 8], 19), [value(3), value(7), value(8)]);
        cluster.expire("t", 0, 8);
        assert_eq!(letters(&cluster, &[3, 7, 8, 12], 19), [(3, None), (7, None), value(8), value(12)]);
        assert_eq!(letters(&cluster, &[2, 5], 19), [(2, None), (5, None)]);
    }
}
