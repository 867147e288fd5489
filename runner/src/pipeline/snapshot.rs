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
/// A state that is not worth a snapshot by the rule above gets one after this time, in microseconds: a rebuild never has
/// to go back further.
const SNAPSHOT_INTERVAL: i64 = 60_000_000;

/// Whether the next commit should hold the whole state.
pub fn is_due(groups: u64, records_since: u64, micros_since: i64) -> bool {
    records_since > 0
        && (groups.saturating_mul(RECORDS_PER_GROUP) <= records_since || micros_since >= SNAPSHOT_INTERVAL)
}

/// Rows of state as an object: an Arrow IPC stream, compressed.
///
/// # Errors
/// When Arrow cannot encode them.
pub fn encode(schema: &SchemaRef, rows: &[RecordBatch]) -> Result<Bytes, ArrowError> {
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD))?;
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
        assert!(!is_due(10, 0, i64::MAX), "nothing new");
        assert!(is_due(10, 100, 0));
        assert!(!is_due(10, 99, 0));
        assert!(is_due(1_000_000, 1, SNAPSHOT_INTERVAL));
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
