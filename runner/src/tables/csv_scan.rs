//! The plan that reads the CSV files of a table: file by file, cells in the types that their writer told.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use super::TableFile;
use super::csv::{CsvFile, typed};
use super::scan::in_groups;

/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;

/// Reads these columns of CSV files.
pub(super) fn read_csv(
    schema: &SchemaRef,
    files: &[&TableFile],
    columns: &[&str],
    partitions: usize,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let fields = columns.iter().map(|name| schema.field_with_name(name).cloned());
    let schema = Arc::new(Schema::new(fields.collect::<std::result::Result<Vec<_>, _>>()?));
    let part = |files: &[&TableFile]| -> Arc<dyn PartitionStream> {
        let files = files.iter().map(|file| (*file).clone()).collect();
        Arc::new(CsvPart { schema: Arc::clone(&schema), files })
    };
    let parts = in_groups(files, partitions).map(part).collect();
    Ok(Arc::new(StreamingTableExec::try_new(Arc::clone(&schema), parts, None, [], false, limit)?))
}

/// Some files, read one after the other. Reads block: they are short, and the disk is this machine's.
#[derive(Debug)]
struct CsvPart {
    schema: SchemaRef,
    files: Vec<TableFile>,
}

impl PartitionStream for CsvPart {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = Rows { schema: Arc::clone(&self.schema), files: self.files.clone().into_iter(), open: None };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::iter(rows)))
    }
}

/// The rows of files; nothing comes behind an error.
struct Rows {
    schema: SchemaRef,
    files: std::vec::IntoIter<TableFile>,
    open: Option<(TableFile, CsvFile)>,
}

impl Iterator for Rows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.next_batch();
        if batch.is_err() {
            (self.files, self.open) = (Vec::new().into_iter(), None);
        }
        batch.transpose()
    }
}

impl Rows {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let Some((file, rows)) = &mut self.open else {
                let Some(file) = self.files.next() else { return Ok(None) };
                let rows = CsvFile::open(&file.path).map_err(|problem| exec_datafusion_err!("{problem}"))?;
                self.open = Some((file, rows));
                continue;
            };
            match rows.next_rows(BATCH_ROWS).map_err(|problem| exec_datafusion_err!("{problem}"))? {
                Some(cells) => return batch(&self.schema, file, rows.header(), &cells).map(Some),
                None => self.open = None,
            }
        }
    }
}

/// Rows of a file in the columns of a plan: those that it lacks are null, those of directories have their value.
fn batch(schema: &SchemaRef, file: &TableFile, header: &[String], cells: &[StringArray]) -> Result<RecordBatch> {
    let rows = cells.first().map_or(0, Array::len);
    let column = |field: &Arc<Field>| -> Result<ArrayRef> {
        if let Some((_, value)) = file.values.iter().find(|(name, _)| name == field.name()) {
            return Ok(cast(&value.to_array_of_size(rows)?, field.data_type())?);
        }
        let Some(at) = header.iter().position(|name| name == field.name()) else {
            return Ok(new_null_array(field.data_type(), rows));
        };
        let path: &PathBuf = &file.path;
        typed(&cells[at], field.data_type())
            .map_err(|problem| exec_datafusion_err!("{}: the column {}: {problem}", path.display(), field.name()))
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}
