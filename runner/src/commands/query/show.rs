//! Rows for people, for spreadsheets and for programs.

use std::io::{self, Stdout, Write};
use std::sync::Arc;

use arrow_json::LineDelimitedWriter;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::WriterProperties;

use crate::args::QueryFormat;
use crate::commands::error::CommandError;
use crate::commands::{PADDING, align_right, grouped, list, print, terminal_width};

/// Rows of a table for people: more than fits a screen, less than a terminal takes seconds to draw. All of them must be
/// known before the first is drawn, since the columns are as wide as their widest value.
const TABLE_ROWS_MAX: usize = 2_000;

/// Columns of the terminal that a value has at least where it is broken over several lines. A row with less room is shown as a list.
const CELL_MIN: usize = 24;

/// Writes rows to standard output.
pub(super) struct Writer {
    format: QueryFormat,
    /// Of a table for people: collected, drawn at the end.
    table: comfy_table::Table,
    parquet: Option<ArrowWriter<Stdout>>,
    rows: usize,
}

impl Writer {
    pub(super) fn new(format: QueryFormat) -> Self {
        Self { format, table: list(&[]), parquet: None, rows: 0 }
    }

    /// Before the first rows.
    pub(super) fn begin(&mut self, schema: &SchemaRef) -> Result<(), CommandError> {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        match self.format {
            QueryFormat::Table => {
                self.table = list(&names);
                let numbers = schema.fields().iter().enumerate().filter(|(_, field)| field.data_type().is_numeric());
                align_right(&mut self.table, &numbers.map(|(column, _)| column).collect::<Vec<_>>());
            }
            QueryFormat::Csv => {
                let header: Vec<_> = names.into_iter().map(quoted).collect();
                print(&format!("{}\r\n", header.join(",")));
            }
            QueryFormat::Markdown => {
                let align =
                    schema.fields().iter().map(|field| if field.data_type().is_numeric() { "---:" } else { "---" });
                let align: Vec<_> = align.map(str::to_owned).collect();
                let names: Vec<_> = names.into_iter().map(str::to_owned).collect();
                print(&format!("{}{}", markdown(&names), markdown(&align)));
            }
            QueryFormat::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
                let writer = ArrowWriter::try_new(io::stdout(), Arc::clone(schema), Some(properties.build()));
                self.parquet = Some(writer.map_err(unwritten)?);
            }
            QueryFormat::Json => {}
        }
        Ok(())
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), CommandError> {
        let before = self.rows;
        self.rows += batch.num_rows();
        match self.format {
            QueryFormat::Table => {
                let shown = TABLE_ROWS_MAX.saturating_sub(before).min(batch.num_rows());
                for row in cells(&batch.slice(0, shown), "NULL").map_err(failed)? {
                    self.table.add_row(row);
                }
            }
            QueryFormat::Csv => {
                let mut lines = String::new();
                for row in cells(batch, "").map_err(failed)? {
                    let row: Vec<_> = row.iter().map(|cell| quoted(cell)).collect();
                    lines.push_str(&row.join(","));
                    lines.push_str("\r\n");
                }
                print(&lines);
            }
            QueryFormat::Markdown => {
                print(&cells(batch, "").map_err(failed)?.iter().map(|row| markdown(row)).collect::<String>());
            }
            QueryFormat::Json => {
                let mut lines = Vec::new();
                LineDelimitedWriter::new(&mut lines).write(batch).map_err(failed)?;
                io::stdout().write_all(&lines).map_err(|error| CommandError::failed(error.to_string()))?;
            }
            QueryFormat::Parquet => {
                if let Some(parquet) = &mut self.parquet {
                    parquet.write(batch).map_err(unwritten)?;
                }
            }
        }
        Ok(())
    }

    /// After the last rows.
    pub(super) fn finish(self) -> Result<(), CommandError> {
        if let Some(parquet) = self.parquet {
            parquet.close().map_err(unwritten)?;
        }
        if self.format != QueryFormat::Table {
            return Ok(());
        }
        let (table, rows) = (self.table, self.rows);
        match terminal_width().map(usize::from).filter(|width| rows > 0 && is_too_wide(&table, *width)) {
            Some(width) => print(&one_below_the_other(&table, width)),
            None => print(&format!("{table}\n")),
        }
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

/// Whether values would have to be broken into pieces that nobody can read.
fn is_too_wide(table: &comfy_table::Table, width: usize) -> bool {
    let widths = table.column_max_content_widths();
    widths.iter().map(|width| usize::from(*width).min(CELL_MIN) + PADDING).sum::<usize>() > width
}

/// Each row as a list of its values, for rows that are wider than the terminal.
fn one_below_the_other(table: &comfy_table::Table, width: usize) -> String {
    let texts = |row: &comfy_table::Row| row.cell_iter().map(comfy_table::Cell::content).collect::<Vec<_>>();
    let names = table.header().map(texts).unwrap_or_default();
    let margin = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    let mut out = String::new();
    for (number, row) in table.row_iter().enumerate() {
        let title = format!("── {} ", grouped(number as u64 + 1));
        out.push_str(&format!("{title}{}\n", "─".repeat(width.saturating_sub(title.chars().count()))));
        for (name, value) in names.iter().zip(texts(row)) {
            out.push_str(&format!(" {name:<margin$}  {value}\n"));
        }
    }
    out
}

fn unwritten(error: ParquetError) -> CommandError {
    CommandError::failed(format!("the rows cannot be written: {error}"))
}

/// A line of a table of Markdown.
fn markdown(row: &[String]) -> String {
    let cells = row.iter().map(|cell| cell.replace('|', "\\|").replace(['\n', '\r'], "<br>"));
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
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
    fn a_row_that_does_not_fit_is_a_list_of_its_values() {
        let mut table = list(&["user_id", "n"]);
        table.add_row(["user_000001", "1"]).add_row(["user_000002", "22"]);
        assert!(!is_too_wide(&table, 80) && is_too_wide(&table, 12));
        assert_eq!(
            one_below_the_other(&table, 16),
            "── 1 ───────────\n user_id  user_000001\n n        1\n── 2 ───────────\n user_id  user_000002\n n        22\n"
        );
        // One long value among short ones is broken over lines.
        let mut table = list(&["n", "text"]);
        table.add_row(["1".to_owned(), "word ".repeat(40)]);
        assert!(!is_too_wide(&table, 80));
    }

    #[test]
    fn a_value_does_not_break_a_table_of_markdown() {
        assert_eq!(markdown(&["a|b".to_owned(), "c\nd".to_owned()]), "| a\\|b | c<br>d |\n");
    }

    #[test]
    fn a_csv_value_is_quoted_only_when_it_must_be() {
        assert_eq!(
            ["a b", "a,b", "say \"a\"", "a\nb"].map(quoted),
            ["a b", "\"a,b\"", "\"say \"\"a\"\"\"", "\"a\nb\""]
        );
    }
}
