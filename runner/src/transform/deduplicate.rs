//! Deduplicate: of the rows of a source that agree in some keys, the first of each stretch of time is kept.
//!
//! A row is a duplicate if one that was kept before has the same keys and a time at most `within` away, on either side.
//! Kept ones are remembered, by the hash of their keys, in buckets of `within` each: of one key there is at most one in a
//! bucket, and three buckets decide about a row. A bucket goes when whatever could meet it is late.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringViewArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::error::Result as DataFusionResult;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use twox_hash::XxHash3_64;

use crate::engine;

use super::error::{Error, QueryError, Result};
use super::inputs::QueryInputs;
use super::output::type_name;
use super::suggest;

/// Hash of a row's keys, and its event time in microseconds.
type Seen = (u128, i64);

/// Seeds of the two halves of a key's hash.
const SEEDS: [u64; 2] = [0x6465_6475_706c_6963, 0x6174_6500_6b65_7973];

/// Which rows count as the same, checked against the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deduplication {
    within: i64,
    sources: Vec<KeysOf>,
}

/// The keys of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeysOf {
    keys: Vec<String>,
    event_time: String,
    columns: Vec<usize>,
}

impl Deduplication {
    /// Rows that agree in `keys` and are at most `within` microseconds apart are the same.
    ///
    /// # Errors
    /// A source lacks one of the keys, or an event time.
    pub fn plan(keys: &[String], within: i64, inputs: &QueryInputs) -> std::result::Result<Self, QueryError> {
        let event_times = inputs.check()?;
        let mut sources = Vec::with_capacity(inputs.sources.len());
        for (source, event_time) in inputs.sources.iter().zip(event_times) {
            let Some(event_time) = event_time else {
                let message = format!("deduplicate needs the event time of source {}", source.name);
                return Err(QueryError::new(message).cure("set eventTime of the source"));
            };
            let mut columns = vec![event_time];
            for key in keys {
                let Some((index, field)) = source.schema.column_with_name(key) else {
                    let known: Vec<&str> = source.schema.fields().iter().map(|field| field.name().as_str()).collect();
                    return Err(QueryError::new(format!("the key {key} is no column of source {}", source.name))
                        .cure(suggest::hint(key, &known, "its columns are")));
                };
                if field.data_type().is_nested() {
                    let message = format!("the key {key} is of type {}", type_name(field.data_type()));
                    return Err(QueryError::new(message).cure("name a column with a single value"));
                }
                columns.push(index);
            }
            columns.sort_unstable();
            columns.dedup();
            let event_time = source.schema.field(event_time).name().clone();
            sources.push(KeysOf { keys: keys.to_vec(), event_time, columns });
        }
        Ok(Self { within: within.max(1), sources })
    }

    /// Declared columns of a source that it looks at, ascending: batches must have them.
    pub fn columns(&self, source: usize) -> &[usize] {
        self.sources.get(source).map_or(&[], |source| &source.columns)
    }

    /// Columns of a bucket's state.
    pub fn state_schema() -> SchemaRef {
        let field = |name: &str| Field::new(name, DataType::Int64, false);
        Arc::new(Schema::new(vec![field("key_high"), field("key_low"), field("time")]))
    }

    /// A deduplicator that has seen nothing.
    pub fn deduplicator(&self) -> Deduplicator {
        Deduplicator { sources: vec![BTreeMap::new(); self.sources.len()], plan: self.clone() }
    }
}

/// Kept rows of one stretch of time.
#[derive(Clone, Debug, Default)]
struct Bucket {
    /// Time of the kept row, by the hash of its keys.
    kept: HashMap<u128, i64>,
    first_version: u64,
    changed: bool,
}

/// A bucket, as a part of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenBucket {
    /// Position of its source.
    pub source: usize,
    /// Its first event time, microseconds since 1970.
    pub start: i64,
    /// Version of the batch that first put a row into it.
    pub first_version: u64,
    /// Rows that it remembers.
    pub keys: usize,
    /// Whether rows came since it was last snapshotted or restored.
    pub changed_since_snapshot: bool,
}

/// The rows that were kept.
#[derive(Clone, Debug)]
pub struct Deduplicator {
    plan: Deduplication,
    sources: Vec<BTreeMap<i64, Bucket>>,
}

impl Deduplicator {
    /// Tells which rows of a source are no duplicates; `None`: none of them is one. Rows come in the order of their records;
    /// one with a null among its keys is no duplicate of anything, and neither is one older than `late_before`, which no
    /// query takes. `version` is the batch's version in the log.
    ///
    /// # Errors
    /// The batch lacks a column of [`Deduplication::columns`], or an event time.
    pub fn firsts(
        &mut self,
        source: usize,
        rows: &RecordBatch,
        version: u64,
        late_before: i64,
    ) -> Result<Option<BooleanArray>> {
        let Some(seen) = self.seen(source, rows)? else { return Ok(None) };
        let (within, buckets) = (self.plan.within, &mut self.sources[source]);
        let is_first = seen.into_iter().map(|row| match row {
            Some((_, time)) if time < late_before => true,
            Some(row) => keep(buckets, within, row, version),
            None => true,
        });
        let is_first: Vec<bool> = is_first.collect();
        Ok(is_first.contains(&false).then(|| is_first.into()))
    }

    /// Remembers rows of a source that were found to be the first ones before.
    ///
    /// # Errors
    /// As [`Self::firsts`].
    pub fn remember(&mut self, source: usize, rows: &RecordBatch, version: u64, late_before: i64) -> Result<()> {
        let Some(seen) = self.seen(source, rows)? else { return Ok(()) };
        let (within, buckets) = (self.plan.within, &mut self.sources[source]);
        for row in seen.into_iter().flatten().filter(|(_, time)| *time >= late_before) {
            remember(buckets, within, row, version);
        }
        Ok(())
    }

    /// Hash of the keys and time of each row, `None` for one with a null among its keys.
    fn seen(&self, source: usize, rows: &RecordBatch) -> Result<Option<Vec<Option<Seen>>>> {
        let Some(of_source) = self.plan.sources.get(source) else { return Ok(None) };
        let times = column(rows, &of_source.event_time)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        if times.null_count() > 0 {
            let row = (0..times.len()).find(|row| times.is_null(*row)).unwrap_or_default();
            return Err(Error::NullEventTime { row });
        }
        let keys = of_source.keys.iter().map(|key| text(&column(rows, key)?).map_err(Error::in_part("deduplicate")));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        let mut bytes = Vec::new();
        let seen = times.values().iter().enumerate();
        Ok(Some(seen.map(|(row, time)| Some((hash_of(&keys, row, &mut bytes)?, *time))).collect()))
    }

    /// Forgets what no row of a source at or behind `horizon` could meet.
    pub fn forget(&mut self, source: usize, horizon: i64) {
        let within = self.plan.within;
        if let Some(buckets) = self.sources.get_mut(source) {
            buckets.retain(|bucket, _| end(*bucket, within).saturating_add(within) > horizon);
        }
    }

    /// The parts of the state.
    pub fn buckets(&self) -> Vec<OpenBucket> {
        let of_source = |(source, buckets): (usize, &BTreeMap<i64, Bucket>)| -> Vec<OpenBucket> {
            let open = buckets.iter().map(|(number, bucket)| OpenBucket {
                source,
                start: number.saturating_mul(self.plan.within),
                first_version: bucket.first_version,
                keys: bucket.kept.len(),
                changed_since_snapshot: bucket.changed,
            });
            open.collect()
        };
        self.sources.iter().enumerate().flat_map(of_source).collect()
    }

    /// The content of a bucket, which goes on as it is.
    pub fn snapshot(&mut self, source: usize, start: i64) -> Option<RecordBatch> {
        let number = start.div_euclid(self.plan.within);
        let bucket = self.sources.get_mut(source)?.get_mut(&number)?;
        bucket.changed = false;
        let mut kept: Vec<_> = bucket.kept.iter().map(|(hash, time)| (*hash, *time)).collect();
        kept.sort_unstable();
        let half = |shift: u32| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(kept.iter().map(|(hash, _)| (hash >> shift) as u64 as i64)))
        };
        let times: ArrayRef = Arc::new(Int64Array::from_iter_values(kept.iter().map(|(_, time)| *time)));
        let columns = vec![half(64), half(0), times];
        Some(RecordBatch::try_new(Deduplication::state_schema(), columns).expect("three columns of one length"))
    }

    /// Takes up what [`Self::snapshot`] gave.
    ///
    /// # Errors
    /// [`Error::State`] if it is something else.
    pub fn restore(&mut self, source: usize, start: i64, first_version: u64, rows: &[RecordBatch]) -> Result<()> {
        let expected = Deduplication::state_schema();
        let number = start.div_euclid(self.plan.within);
        let Some(buckets) = self.sources.get_mut(source) else {
            let found = format!("state of source {source}");
            return Err(Error::State { expected: "state of a source of the job".to_owned(), found });
        };
        let bucket = buckets.entry(number).or_insert_with(|| Bucket { first_version, ..Bucket::default() });
        bucket.first_version = bucket.first_version.min(first_version);
        for rows in rows {
            if rows.schema() != expected {
                return Err(Error::State { expected: format!("{expected:?}"), found: format!("{:?}", rows.schema()) });
            }
            let [high, low, times] = [0, 1, 2].map(|column| rows.column(column).as_primitive::<Int64Type>().values());
            for ((high, low), time) in high.iter().zip(low).zip(times) {
                let hash = u128::from(*high as u64) << 64 | u128::from(*low as u64);
                bucket.kept.insert(hash, *time);
            }
        }
        Ok(())
    }

    /// Rows that it remembers.
    pub fn keys(&self) -> usize {
        self.sources.iter().flat_map(BTreeMap::values).map(|bucket| bucket.kept.len()).sum()
    }

    /// Bytes of memory.
    pub fn size_bytes(&self) -> usize {
        self.sources.iter().flat_map(BTreeMap::values).map(|bucket| bucket.kept.allocation_size()).sum()
    }
}

/// End (exclusive) of a bucket.
fn end(number: i64, within: i64) -> i64 {
    number.saturating_add(1).saturating_mul(within)
}

/// Whether a row is the first; then it is remembered.
fn keep(buckets: &mut BTreeMap<i64, Bucket>, within: i64, (hash, time): Seen, version: u64) -> bool {
    let number = time.div_euclid(within);
    let is_near = |number: i64| {
        let kept = buckets.get(&number).and_then(|bucket| bucket.kept.get(&hash));
        kept.is_some_and(|kept| kept.abs_diff(time) <= within.unsigned_abs())
    };
    if is_near(number) || is_near(number - 1) || is_near(number + 1) {
        return false;
    }
    remember(buckets, within, (hash, time), version);
    true
}

fn remember(buckets: &mut BTreeMap<i64, Bucket>, within: i64, (hash, time): Seen, version: u64) {
    let bucket = buckets.entry(time.div_euclid(within));
    let bucket = bucket.or_insert_with(|| Bucket { first_version: version, ..Bucket::default() });
    if let Entry::Vacant(entry) = bucket.kept.entry(hash) {
        entry.insert(time);
        bucket.changed = true;
    }
}

fn column(rows: &RecordBatch, name: &str) -> Result<ArrayRef> {
    let found = rows.column_by_name(name).cloned();
    found.ok_or_else(|| Error::Input { expected: name.to_owned(), found: format!("{:?}", rows.schema()) })
}

/// Values as text, which does not change between versions of a library as its encodings may. What GROUP BY takes for one
/// value is one text.
fn text(column: &ArrayRef) -> DataFusionResult<StringViewArray> {
    Ok(cast(&engine::one_form(column)?, &DataType::Utf8View)?.as_string_view().clone())
}

/// Hash of the keys of a row, of 128 bits: among a billion keys the chance that two share one is 1 in 10^21. `None` if one
/// of them is null.
fn hash_of(keys: &[StringViewArray], row: usize, bytes: &mut Vec<u8>) -> Option<u128> {
    bytes.clear();
    for key in keys {
        if key.is_null(row) {
            return None;
        }
        let value = key.value(row);
        // With its length, so that no two rows of keys are one text.
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        bytes.extend_from_slice(value.as_bytes());
    }
    let [high, low] = SEEDS.map(|seed| XxHash3_64::oneshot_with_seed(seed, bytes));
    Some(u128::from(high) << 64 | u128::from(low))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Float32Array, Float64Array};

    use super::*;

    #[test]
    fn zeros_are_one_key_and_so_are_nans() {
        let negative = |bits: u64| f64::from_bits(bits | 1 << 63);
        let doubles = [0.0, negative(0), f64::NAN, negative(f64::NAN.to_bits()), 1.5, -1.5];
        let columns: [ArrayRef; 2] = [
            Arc::new(Float64Array::from(doubles.to_vec())),
            Arc::new(Float32Array::from(doubles.map(|value| value as f32).to_vec())),
        ];
        for column in columns {
            let keys = [text(&column).unwrap()];
            let [zero, other_zero, nan, other_nan, up, down] =
                [0, 1, 2, 3, 4, 5].map(|row| hash_of(&keys, row, &mut Vec::new()).unwrap());
            assert_eq!((zero, nan), (other_zero, other_nan));
            assert!(zero != nan && up != down && zero != up);
        }
    }
}
