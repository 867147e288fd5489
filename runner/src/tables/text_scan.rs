//! The plan that reads the files of text of a table: file by file, values in the types that somebody declared.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use super::TableFile;
use super::csv::CsvFile;
use super::format::Kind;
use super::ndjson::NdjsonFile;
use super::scan::in_groups;
use super::text::TextError;

/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;

/// Reads these columns of files of text.
pub(super) fn read_text(
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
        Arc::new(TextPart { schema: Arc::clone(&schema), files })
    };
    let parts = in_groups(files, partitions).map(part).collect();
    Ok(Arc::new(StreamingTableExec::try_new(Arc::clone(&schema), parts, None, [], false, limit)?))
}

/// Some files, read one after the other. Reads block: those of this machine's disk are short, and of an object store the
/// next bytes come while the last ones are taken apart.
#[derive(Debug)]
struct TextPart {
    schema: SchemaRef,
    files: Vec<TableFile>,
}

impl PartitionStream for TextPart {
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
    open: Option<(TableFile, TextFile)>,
}

/// A file whose rows come.
enum TextFile {
    Csv(CsvFile),
    Ndjson(NdjsonFile),
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
                let rows = TextFile::open(&file, &self.schema)?;
                self.open = Some((file, rows));
                continue;
            };
            let own: Vec<_> = self.schema.fields().iter().filter(|field| file.value(field.name()).is_none()).collect();
            match rows.next(&own)? {
                Some((rows, columns)) => return batch(&self.schema, file, rows, columns).map(Some),
                None => self.open = None,
            }
        }
    }
}

impl TextFile {
    fn open(file: &TableFile, schema: &SchemaRef) -> Result<Self, TextError> {
        let packing = file.format.packing;
        Ok(match file.format.kind {
            Kind::Ndjson => {
                let own = schema.fields().iter().filter(|field| file.value(field.name()).is_none()).cloned();
                Self::Ndjson(NdjsonFile::open(&file.at, packing, own.collect::<Vec<_>>().into())?)
            }
            _ => Self::Csv(CsvFile::open(&file.at, packing)?),
        })
    }

    /// The next rows: their number, and a column for each that is wanted.
    fn next(&mut self, wanted: &[&FieldRef]) -> Result<Option<(usize, Vec<ArrayRef>)>, TextError> {
        match self {
            Self::Csv(file) => {
                if file.next_rows(BATCH_ROWS)?.is_none() {
                    return Ok(None);
                }
                let rows = file.rows();
                let column = |field: &&FieldRef| match file.column(field.name(), field.data_type()) {
                    Some(column) => column,
                    None => Ok(new_null_array(field.data_type(), rows)),
                };
                Ok(Some((rows, wanted.iter().map(column).collect::<Result<_, _>>()?)))
            }
            Self::Ndjson(file) => {
                let Some(rows) = file.next_rows(BATCH_ROWS)? else { return Ok(None) };
                Ok(Some((rows.num_rows(), rows.columns().to_vec())))
            }
        }
    }
}

/// Rows of a file in the columns of a plan: those of directories have their value.
fn batch(schema: &SchemaRef, file: &TableFile, rows: usize, own: Vec<ArrayRef>) -> Result<RecordBatch> {
    let mut own = own.into_iter();
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        columns.push(match file.value(field.name()) {
            Some(value) => cast(&value.to_array_of_size(rows)?, field.data_type())?,
            None => own.next().unwrap_or_else(|| new_null_array(field.data_type(), rows)),
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}
