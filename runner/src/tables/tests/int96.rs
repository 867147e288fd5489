//! Timestamps of twelve bytes, as Spark wrote them for years.

use bytes::Bytes;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::TimestampMicrosecondType;
use datafusion::parquet::data_type::{Int96, Int96Type};
use datafusion::parquet::file::writer::SerializedFileWriter;
use datafusion::parquet::schema::parser::parse_message_type;

use super::*;
use crate::tables::parquet_rows;

const DAY: i64 = 24 * HOUR;
/// 9999-12-31, the end of what has none.
const LAST_DAY: i64 = 2_932_896 * DAY;
/// The Julian day of 1970-01-01.
const EPOCH: i64 = 2_440_588;

/// Writes a file with one column `at` of these microseconds.
fn write_int96(file: &Path, micros: &[i64]) {
    let schema = Arc::new(parse_message_type("message spark { optional int96 at; }").unwrap());
    let mut writer = SerializedFileWriter::new(File::create(file).unwrap(), schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let values: Vec<_> = micros
        .iter()
        .map(|micros| {
            let (day, of_day) = (micros.div_euclid(DAY) + EPOCH, micros.rem_euclid(DAY).unsigned_abs() * 1_000);
            let mut value = Int96::new();
            let words = [of_day & u64::from(u32::MAX), of_day >> 32, day.unsigned_abs()]
                .map(|word| u32::try_from(word).unwrap());
            value.set_data(words[0], words[1], words[2]);
            value
        })
        .collect();
    column.typed::<Int96Type>().write_batch(&values, Some(&vec![1; values.len()]), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn int96_is_an_instant_of_any_year_beside_files_that_have_microseconds() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old.parquet");
    write_int96(&old, &[LAST_DAY, HOUR + 1, -300 * 365 * DAY]);
    let read = parquet_rows(Bytes::from(std::fs::read(&old).unwrap())).unwrap();
    let read: Vec<_> =
        read.map(|batch| batch.unwrap().column(0).as_primitive::<TimestampMicrosecondType>().clone()).collect();
    assert_eq!(read[0].values().to_vec(), [LAST_DAY, HOUR + 1, -300 * 365 * DAY]);
    write(&folder.path().join("new.parquet"), vec![("at", times(&[2 * HOUR]))]);
    let found = rows(folder.path(), "SELECT at FROM t").unwrap();
    let expected =
        ["1670-03-14T00:00:00Z", "1970-01-01T01:00:00.000001Z", "1970-01-01T02:00:00Z", "9999-12-31T00:00:00Z"];
    assert_eq!(found, expected);
    assert_eq!(rows(folder.path(), "SELECT count(*) FROM t WHERE EXTRACT(YEAR FROM at) > 3000").unwrap(), ["1"]);
    assert_eq!(
        ask(folder.path(), range(HOUR, 2 * HOUR), "SELECT at FROM t", 1).unwrap().0,
        ["1970-01-01T01:00:00.000001Z"]
    );
}
