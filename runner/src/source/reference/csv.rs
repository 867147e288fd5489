//! CSV files with a header, every cell as text; an empty one is null.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv::ReaderBuilder;
use datafusion::arrow::csv::reader::Format;
use datafusion::arrow::datatypes::{DataType, Field, Schema};

/// The columns that the header names.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn header(path: &Path) -> Result<Schema, String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (schema, _) = Format::default()
        .with_header(true)
        .infer_schema(BufReader::new(file), Some(0))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let mut fields: Vec<Field> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        // What spreadsheets put before the first name.
        let name = field.name().trim_start_matches('\u{feff}').trim();
        if name.is_empty() || fields.iter().any(|other| other.name() == name) {
            let problem = if name.is_empty() { "a column without a name" } else { "two columns of one name" };
            return Err(format!("{}: the header has {problem} ({name:?})", path.display()));
        }
        fields.push(Field::new(name, DataType::Utf8View, true));
    }
    if fields.is_empty() {
        return Err(format!("{}: it has no header", path.display()));
    }
    Ok(Schema::new(fields))
}

/// All rows.
///
/// # Errors
/// What is wrong with which line.
pub(super) fn rows(path: &Path) -> Result<Vec<RecordBatch>, String> {
    let schema = Arc::new(header(path)?);
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let reader = ReaderBuilder::new(schema).with_header(true).build(file);
    let reader = reader.map_err(|error| format!("{}: {error}", path.display()))?;
    reader.collect::<Result<Vec<_>, _>>().map_err(|error| format!("{}: {error}", path.display()))
}
