//! What a plain reader finds in a table on the simulated disk.

use std::collections::BTreeMap;

use bytes::Bytes;
use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{DataType, Int64Type, TimeUnit};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::arrow::{array::RecordBatch, compute::cast};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::storage::simulated::Disk;

/// A row: columns by name, as text; times as microseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Row(BTreeMap<String, String>);

impl Row {
    pub(super) fn text(&self, column: &str) -> Result<&str, String> {
        self.0.get(column).map(String::as_str).ok_or_else(|| format!("no column {column} in {self:?}"))
    }

    pub(super) fn number(&self, column: &str) -> Result<i64, String> {
        let text = self.text(column)?;
        text.parse().map_err(|_| format!("{column} is {text:?}"))
    }

    /// A list of numbers or of texts without a comma.
    pub(super) fn list(&self, column: &str) -> Result<Vec<String>, String> {
        let text = self.text(column)?.trim_matches(['[', ']']);
        Ok(text.split(", ").filter(|item| !item.is_empty()).map(str::to_owned).collect())
    }
}

/// Every row of a table, from its files in the order of their names. A torn file is an error.
pub(super) fn read(disk: &Disk, table: &str) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (path, content) in disk.read_folder(table).into_iter().filter(|(path, _)| path.ends_with(".parquet")) {
        let torn = |error: String| format!("{path} is torn: {error}");
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(content))
            .and_then(|builder| builder.build())
            .map_err(|error| torn(error.to_string()))?;
        for batch in reader {
            append(&batch.map_err(|error| torn(error.to_string()))?, &mut rows)?;
        }
    }
    Ok(rows)
}

fn append(batch: &RecordBatch, rows: &mut Vec<Row>) -> Result<(), String> {
    let first = rows.len();
    rows.resize(first + batch.num_rows(), Row::default());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let failed = |error: datafusion::arrow::error::ArrowError| error.to_string();
        if matches!(column.data_type(), DataType::Timestamp(TimeUnit::Microsecond, _)) {
            let micros = cast(column, &DataType::Int64).map_err(failed)?;
            let micros = micros.as_primitive::<Int64Type>();
            for row in 0..micros.len() {
                rows[first + row].0.insert(field.name().clone(), micros.value(row).to_string());
            }
            continue;
        }
        let options = FormatOptions::default();
        let format = ArrayFormatter::try_new(column.as_ref(), &options).map_err(failed)?;
        for row in 0..column.len() {
            rows[first + row].0.insert(field.name().clone(), format.value(row).to_string());
        }
    }
    Ok(())
}
