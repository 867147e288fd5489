//! Files with a JSON object in each line, in declared columns.

use std::io::Cursor;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Field, Fields, Schema, SchemaRef};

use crate::tables::schema::{TableSchema, plain_type, value_type};
use crate::tables::{NdjsonFile, Packing};

/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;

/// The columns that somebody declared.
///
/// # Errors
/// A type of which no value is read from JSON.
pub(super) fn columns(told: &TableSchema) -> Result<Schema, String> {
    let own = told.columns.iter().filter(|column| !column.directory);
    let field = |column: &crate::tables::schema::TableColumn| {
        let data_type = value_type(&column.data_type);
        let unreadable =
            || format!("the column {} is of type {}, which is not read from JSON", column.name, column.data_type);
        data_type.map(|data_type| Field::new(&column.name, data_type, true)).ok_or_else(unreadable)
    };
    Ok(Schema::new(own.map(field).collect::<Result<Vec<_>, _>>()?))
}

/// All rows of a file with this content, in the columns of a query.
///
/// # Errors
/// What is wrong with which line.
pub(super) fn rows(
    shown: &str,
    content: Bytes,
    packing: Packing,
    schema: &SchemaRef,
) -> Result<Vec<RecordBatch>, String> {
    let field = |field: &std::sync::Arc<Field>| Field::new(field.name(), plain_type(field.data_type()), true);
    let fields: Fields = schema.fields().iter().map(field).collect();
    let mut file = NdjsonFile::over(shown.to_owned(), Box::new(Cursor::new(content)), packing, fields)?;
    let mut batches = Vec::new();
    while let Some(batch) = file.next_rows(BATCH_ROWS)? {
        batches.push(batch);
    }
    Ok(batches)
}
