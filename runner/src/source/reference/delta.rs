//! A reference that is a Delta table: the columns and files that its log says, and no others that lie in its folder.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use super::parquet;
use crate::delta;
use crate::storage::paths::DELTA_LOG;
use crate::tables::{FileAt, ListedFile, Place, TableFiles, children, delta_files, is_delta};

/// The object of its newest version, which every commit changes; `None` if there is no table.
pub(super) fn newest(place: &Place) -> Result<Option<FileAt>> {
    if !is_delta(place).map_err(|error| datafusion::error::DataFusionError::External(Box::new(error)))? {
        return Ok(None);
    }
    let objects = children(&place.join(DELTA_LOG))?.files.into_iter();
    Ok(objects.filter(|at| delta::is_of_log(&at.name())).max_by_key(|at| at.name().into_owned()))
}

/// Its columns and files as of its newest version; `None` if there is no table.
///
/// # Errors
/// A log that cannot be read, or a table that needs what this program does not know.
pub(super) fn table(place: &Place) -> Result<Option<(SchemaRef, Vec<ListedFile>)>> {
    let Some(TableFiles { files, schema }) = delta_files(place)? else { return Ok(None) };
    Ok(schema.map(|schema| (schema, files)))
}

/// All rows of a file with this content: columns that it lacks came later and are null, those of directories stand in the log.
///
/// # Errors
/// What is wrong with it.
pub(super) fn rows(
    file: &ListedFile,
    shown: &str,
    content: Bytes,
    columns: &SchemaRef,
) -> std::result::Result<Vec<RecordBatch>, String> {
    let whole = |batch: RecordBatch| {
        let rows = batch.num_rows();
        let column = |field: &Arc<datafusion::arrow::datatypes::Field>| -> ArrayRef {
            match file.values.iter().find(|(name, _)| name == field.name()) {
                Some((_, value)) => Arc::new(StringArray::from(vec![value.as_deref(); rows])),
                None => match batch.column_by_name(field.name()) {
                    Some(column) => Arc::clone(column),
                    None => new_null_array(field.data_type(), rows),
                },
            }
        };
        let named: Vec<_> = columns.fields().iter().map(|field| (field, column(field))).collect();
        let fields =
            named.iter().map(|(field, column)| field.as_ref().clone().with_data_type(column.data_type().clone()));
        let schema = datafusion::arrow::datatypes::Schema::new(
            fields.map(|field| field.with_nullable(true)).collect::<Vec<_>>(),
        );
        let arrays = named.into_iter().map(|(_, column)| column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::new(schema), arrays, &options)
            .map_err(|error| format!("{shown}: {error}"))
    };
    parquet::rows(shown, content)?.into_iter().map(whole).collect()
}
