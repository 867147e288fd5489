//! Rows for people, for spreadsheets and for programs.

use std::io::{self, Write};

use arrow_json::LineDelimitedWriter;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::args::QueryFormat;
use crate::commands::error::CommandError;
use crate::commands::{align_right, grouped, list, print};

/// Rows of a table for people: more than fits a screen, less than a terminal takes seconds to draw. All of them must be
/// known before the first is drawn, since the columns are as wide as their widest value.
const TABLE_ROWS_MAX: usize = 2_000;

/// Writes rows to standard output.
pub(super) enum Writer {
    /// Collected, drawn at the end.
    Table { table: comfy_table::Table, rows: usize },
    /// Written as they come.
    Csv,
    /// Written as they come.
    Json,
}

impl Writer {
    pub(super) fn new(schema: SchemaRef, format: QueryFormat) -> Result<Self, CommandError> {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        match format {
            QueryFormat::Table => {
                let mut table = list(&names);
                let numbers = schema.fields().iter().enumerate().filter(|(_, field)| field.data_type().is_numeric());
                align_right(&mut table, &numbers.map(|(column, _)| column).collect::<Vec<_>>());
                Ok(Self::Table { table, rows: 0 })
            }
            QueryFormat::Csv => {
                let header: Vec<_> = names.into_iter().map(quoted).collect();
                print(&format!("{}\r\n", header.join(",")));
                Ok(Self::Csv)
            }
            QueryFormat::Json => Ok(Self::Json),
        }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), CommandError> {
        match self {
            Self::Table { table, rows } => {
                let shown = TABLE_ROWS_MAX.saturating_sub(*rows).min(batch.num_rows());
                for row in cells(&batch.slice(0, shown), "NULL").map_err(failed)? {
                    table.add_row(row);
                }
                *rows += batch.num_rows();
            }
            Self::Csv => {
                let mut lines = String::new();
                for row in cells(batch, "").map_err(failed)? {
                    let row: Vec<_> = row.iter().map(|cell| quoted(cell)).collect();
                    lines.push_str(&row.join(","));
                    lines.push_str("\r\n");
                }
                print(&lines);
            }
            Self::Json => {
                let mut lines = Vec::new();
                LineDelimitedWriter::new(&mut lines).write(batch).map_err(failed)?;
                io::stdout().write_all(&lines).map_err(|error| CommandError::failed(error.to_string()))?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), CommandError> {
        let Self::Table { table, rows } = self else { return Ok(()) };
        print(&format!("{table}\n"));
        let rows_text = if rows == 1 { "1 row".to_owned() } else { format!("{} rows", grouped(rows as u64)) };
        let more = if rows > TABLE_ROWS_MAX {
            format!(", of which {} are shown: add LIMIT, or take --format csv", grouped(TABLE_ROWS_MAX as u64))
        } else {
            String::new()
        };
        print(&format!("{rows_text}{more}\n"));
        Ok(())
    }
}

fn failed(error: ArrowError) -> CommandError {
    CommandError::failed(format!("the rows cannot be shown: {error}"))
}

/// The values of each row as text.
pub(super) fn cells(batch: &RecordBatch, null: &str) -> Result<Vec<Vec<String>>, ArrowError> {
    let options = FormatOptions::default()
        .with_null(null)
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.fZ"));
    let columns: Vec<_> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options)).collect::<Result<_, _>>()?;
    let row = |row| columns.iter().map(|column| column.value(row).try_to_string()).collect();
    (0..batch.num_rows()).map(row).collect()
}

/// A value as RFC 4180 has it.
fn quoted(value: &str) -> String {
    if value.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", value.replace('"', "\"\""))
    } else {
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_csv_value_is_quoted_only_when_it_must_be() {
        assert_eq!(
            ["a b", "a,b", "say \"a\"", "a\nb"].map(quoted),
            ["a b", "\"a,b\"", "\"say \"\"a\"\"\"", "\"a\nb\""]
        );
    }
}
