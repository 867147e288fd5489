//! Snapshots of the state: when one is due, and how a window becomes an object and comes back.
//!
//! The state is a cache: what a snapshot does not hold is rebuilt from Kafka. So one is written only when it costs little
//! beside the work since the last one.

use std::io::Cursor;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::CompressionType;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::{IpcWriteOptions, StreamWriter};

/// Writing and re-seeding a group costs about as much as taking in two records (own measurement: 0.5 µs), so with this
/// many records per group a snapshot adds about a fifth of the grouping, or 2 % of the whole.
const RECORDS_PER_GROUP: u64 = 10;
/// A group that holds lists costs as much as several: this many bytes of state as much as a tenth of a plain group, so that
/// a snapshot of a state of any kind adds about 2 % (own measurement: 3 ns for each byte that the state takes in memory).
const BYTES_PER_RECORD: u64 = 16;
/// State that is written within milliseconds, whatever it consists of.
const SMALL: u64 = 1 << 20;
/// A state that is not worth a snapshot by the rule above gets one after this time, in microseconds: a rebuild never has
/// to go back further.
const SNAPSHOT_INTERVAL: i64 = 60_000_000;

/// Of zstd, whose own default is 3: half the time for a tenth more bytes, which are read only by a start.
const COMPRESSION_LEVEL: i32 = 1;

/// The whole state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    /// Groups, and what duplicates are recognised by.
    pub groups: u64,
    /// Bytes of memory that the open windows take.
    pub bytes: u64,
}

/// Whether the next commit should hold the whole state.
pub fn is_due(size: Size, records_since: u64, micros_since: i64) -> bool {
    let costs_little = size.groups.saturating_mul(RECORDS_PER_GROUP) <= records_since
        && size.bytes.saturating_sub(SMALL) <= records_since.saturating_mul(BYTES_PER_RECORD);
    records_since > 0 && (costs_little || micros_since >= SNAPSHOT_INTERVAL)
}

/// Rows of state as an object: an Arrow IPC stream, compressed.
///
/// # Errors
/// When Arrow cannot encode them.
pub fn encode(schema: &SchemaRef, rows: &[RecordBatch]) -> Result<Bytes, ArrowError> {
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD))?;
    let options = options.try_with_compression_level(Some(COMPRESSION_LEVEL))?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), schema, options)?;
    for batch in rows {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?.into())
}

/// Rows of state from an object whose checksum was found right.
///
/// # Errors
/// When it is not such a stream, or not of this schema.
pub fn decode(schema: &SchemaRef, object: Bytes) -> Result<Vec<RecordBatch>, ArrowError> {
    let reader = StreamReader::try_new(Cursor::new(object), None)?;
    if reader.schema() != *schema {
        return Err(ArrowError::SchemaError("the state has other columns than this query's".to_owned()));
    }
    reader.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{ArrayRef, Int64Array, StringViewArray};
    use std::sync::Arc;

    #[test]
    fn a_snapshot_is_due_when_it_costs_little_or_the_last_one_is_old() {
        let of = |groups, bytes| Size { groups, bytes };
        assert!(!is_due(of(10, 0), 0, i64::MAX), "nothing new");
        assert!(is_due(of(10, 0), 100, 0));
        assert!(!is_due(of(10, 0), 99, 0));
        assert!(is_due(of(1_000_000, 0), 1, SNAPSHOT_INTERVAL));
        assert!(is_due(of(10, SMALL), 100, 0));
        assert!(is_due(of(10, SMALL + 16_000_000), 1_000_000, 0));
        assert!(!is_due(of(10, SMALL + 16_000_000), 999_999, 0), "few groups with long lists");
        assert!(is_due(of(10, u64::MAX), 1, SNAPSHOT_INTERVAL));
    }

    #[test]
    fn state_comes_back_as_it_was() {
        let keys: ArrayRef = Arc::new(StringViewArray::from(vec!["a", "a key longer than twelve bytes"]));
        let counts: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let rows = RecordBatch::try_from_iter([("k", keys), ("n", counts)]).unwrap();
        let object = encode(&rows.schema(), &[rows.clone(), rows.slice(1, 1)]).unwrap();
        assert_eq!(decode(&rows.schema(), object.clone()).unwrap(), [rows.clone(), rows.slice(1, 1)]);
        assert!(decode(&rows.project(&[0]).unwrap().schema(), object.clone()).is_err());
        assert!(decode(&rows.schema(), object.slice(0..object.len() / 2)).is_err());
    }
}
