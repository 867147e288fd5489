//! A series in the terminal: points over times or numbers, bars over anything else.

use std::fmt::Write as _;

use datafusion::arrow::array::{Array, Float64Array, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;

use crate::commands::error::CommandError;
use crate::commands::query::show::cells;
use crate::commands::terminal_width;

/// Rows that are drawn: more would be one above the other.
const POINTS_MAX: usize = 100_000;
/// Bars that a screen has room for.
const BARS_MAX: usize = 60;
/// Lines of a chart.
const LINES: usize = 12;
/// Columns of a terminal that does not tell.
const WIDTH: usize = 80;
/// Columns beside a chart, for the numbers of its axis.
const MARGIN: usize = 12;

/// Rows that are collected to be drawn.
#[derive(Default)]
pub(super) struct Plot {
    names: Vec<String>,
    /// What is below: its text, and its number, where it has one.
    labels: Vec<String>,
    positions: Vec<Option<f64>>,
    /// By column behind the first.
    values: Vec<Vec<Option<f64>>>,
}

impl Plot {
    /// Takes rows.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), CommandError> {
        let schema = batch.schema();
        let is_number = |column: &usize| schema.field(*column).data_type().is_numeric();
        let columns: Vec<usize> = (1..batch.num_columns()).filter(is_number).collect();
        if columns.is_empty() {
            let cure = "select what is below first, such as a time, and a number behind it";
            return Err(CommandError::user(format!("there is nothing to draw: {cure}")));
        }
        if self.names.is_empty() {
            self.names = columns.iter().map(|column| schema.field(*column).name().clone()).collect();
            self.values = vec![Vec::new(); columns.len()];
        }
        let room = POINTS_MAX.saturating_sub(self.labels.len()).min(batch.num_rows());
        let batch = batch.slice(0, room);
        let texts = cells(&batch.project(&[0]).map_err(failed)?, "NULL").map_err(failed)?;
        self.labels.extend(texts.into_iter().flatten());
        let below = schema.field(0).data_type();
        let has_place = below.is_numeric() || below.is_temporal();
        let positions = if has_place { numbers(&batch, 0)? } else { vec![None; batch.num_rows()] };
        self.positions.extend(positions);
        for (values, column) in self.values.iter_mut().zip(columns) {
            values.extend(numbers(&batch, column)?);
        }
        Ok(())
    }

    /// The charts, one below the other.
    pub(super) fn draw(&self) -> String {
        let width = terminal_width().map_or(WIDTH, usize::from);
        let mut out = String::new();
        for (name, values) in self.names.iter().zip(&self.values) {
            let _ = writeln!(out, "{name}");
            if self.positions.iter().all(Option::is_some) && self.positions.len() > 1 {
                self.points(&mut out, values, width);
            } else {
                self.bars(&mut out, values, width);
            }
        }
        if self.labels.is_empty() {
            out.push_str("no rows\n");
        }
        out
    }

    /// Points, eight to a character.
    fn points(&self, out: &mut String, values: &[Option<f64>], width: usize) {
        let columns = width.saturating_sub(MARGIN + 2).clamp(20, 400);
        let points: Vec<(f64, f64)> = self
            .positions
            .iter()
            .zip(values)
            .filter_map(|(x, y)| Some(((*x)?, (*y)?)))
            .filter(|p| p.1.is_finite())
            .collect();
        let range = |of: fn(&(f64, f64)) -> f64| {
            let numbers = || points.iter().map(of);
            (numbers().fold(f64::INFINITY, f64::min), numbers().fold(f64::NEG_INFINITY, f64::max))
        };
        let ((left, right), (low, high)) = (range(|point| point.0), range(|point| point.1));
        if points.is_empty() {
            let _ = writeln!(out, "{:MARGIN$} no values", "");
            return;
        }
        // A chart of amounts begins at 0.
        let low = if low > 0.0 && low < high * 0.75 || low == high { low.min(0.0) } else { low };
        let place = |value: f64, from: f64, to: f64, steps: usize| -> usize {
            let share = if to > from { (value - from) / (to - from) } else { 0.0 };
            ((share * (steps - 1) as f64).round().max(0.0) as usize).min(steps - 1)
        };
        let mut cells = vec![vec![0_u8; columns]; LINES];
        for (x, y) in points {
            let (column, line) = (place(x, left, right, columns * 2), place(y, low, high, LINES * 4));
            let line = LINES * 4 - 1 - line;
            cells[line / 4][column / 2] |= dot(column % 2, line % 4);
        }
        for (number, line) in cells.iter().enumerate() {
            let label = match number {
                0 => shown(high),
                _ if number == LINES - 1 => shown(low),
                _ => String::new(),
            };
            let drawn: String =
                line.iter().map(|bits| char::from_u32(0x2800 + u32::from(*bits)).unwrap_or(' ')).collect();
            let _ = writeln!(out, "{label:>MARGIN$} │{}", drawn.trim_end_matches('\u{2800}'));
        }
        let _ = writeln!(out, "{:MARGIN$} └{}", "", "─".repeat(columns));
        let (first, last) = (self.end(f64::min), self.end(f64::max));
        let gap = columns.saturating_sub(first.chars().count() + last.chars().count()).max(1);
        let _ = writeln!(out, "{:MARGIN$}  {first}{}{last}", "", " ".repeat(gap));
    }

    /// What stands at an end of the axis.
    fn end(&self, which: fn(f64, f64) -> f64) -> String {
        let wanted = self.positions.iter().flatten().copied().reduce(which);
        let at = self.positions.iter().position(|position| *position == wanted);
        at.and_then(|at| self.labels.get(at)).cloned().unwrap_or_default()
    }

    fn bars(&self, out: &mut String, values: &[Option<f64>], width: usize) {
        let shown_labels = self.labels.iter().take(BARS_MAX).map(|label| label.chars().count());
        let margin = shown_labels.max().unwrap_or_default().clamp(1, 30);
        let room = width.saturating_sub(margin + MARGIN + 4).clamp(10, 200);
        let greatest = values.iter().flatten().copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
        for (label, value) in self.labels.iter().zip(values).take(BARS_MAX) {
            let label: String = label.chars().take(margin).collect();
            let amount = value.unwrap_or(0.0).max(0.0);
            let eighths = if greatest > 0.0 { (amount / greatest * room as f64 * 8.0).round() as usize } else { 0 };
            let part = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'][eighths % 8];
            let bar = format!("{}{}", "█".repeat(eighths / 8), part);
            let value = value.map_or_else(|| "NULL".to_owned(), shown);
            let _ = writeln!(out, "{label:>margin$} │{} {value}", bar.trim_end());
        }
        if self.labels.len() > BARS_MAX {
            let _ = writeln!(out, "{:margin$}   {} more", "", self.labels.len() - BARS_MAX);
        }
    }
}

/// The bit of a dot of a braille character.
fn dot(column: usize, line: usize) -> u8 {
    [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]][column][line]
}

fn numbers(batch: &RecordBatch, column: usize) -> Result<Vec<Option<f64>>, CommandError> {
    let column = batch.column(column);
    // Times become numbers by way of whole ones.
    let whole = if column.data_type().is_temporal() {
        let width = column.data_type().primitive_width();
        cast(column, if width == Some(4) { &DataType::Int32 } else { &DataType::Int64 }).map_err(failed)?
    } else {
        column.clone()
    };
    let numbers = cast(&whole, &DataType::Float64).map_err(failed)?;
    let numbers = numbers.as_any().downcast_ref::<Float64Array>().map(|numbers| numbers.iter().collect());
    Ok(numbers.unwrap_or_else(|| vec![None; batch.num_rows()]))
}

fn failed(error: datafusion::arrow::error::ArrowError) -> CommandError {
    CommandError::failed(format!("the rows cannot be drawn: {error}"))
}

/// A number for an axis.
fn shown(value: f64) -> String {
    let (value, unit) = match value.abs() {
        1e9.. => (value / 1e9, "G"),
        1e6.. => (value / 1e6, "M"),
        1e4.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    fn plot(columns: Vec<(&str, ArrayRef)>) -> Result<String, CommandError> {
        let mut plot = Plot::default();
        plot.add(&RecordBatch::try_from_iter(columns).unwrap())?;
        Ok(plot.draw())
    }

    #[test]
    fn a_line_rises_from_the_lower_left_to_the_upper_right() {
        let minute = 60_000_000;
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values((0..60).map(|i| i * minute)));
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values((0..60).map(|i| i * 1_000)));
        let drawn = plot(vec![("minute", times), ("events", values)]).unwrap();
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines[0], "events");
        assert!(lines[1].trim_start().starts_with("59k │") && lines[LINES].trim_start().starts_with("0 │"), "{drawn}");
        assert!(lines[1].ends_with('⠋') || lines[1].ends_with('⠉') || lines[1].chars().count() > 70, "{drawn}");
        assert!(lines[LINES].chars().count() < 30, "{drawn}");
        assert!(lines[LINES + 2].contains("1970-01-01 00:00:00") && lines[LINES + 2].ends_with("00:59:00"), "{drawn}");
    }

    #[test]
    fn words_are_bars_as_long_as_their_numbers() {
        let words: ArrayRef = Arc::new(StringArray::from(vec!["click", "buy"]));
        let values: ArrayRef = Arc::new(Int64Array::from(vec![Some(40), None]));
        let drawn = plot(vec![("type", words.clone()), ("n", values)]).unwrap();
        let lines: Vec<&str> = drawn.lines().collect();
        assert!(lines[1].starts_with("click │█████") && lines[1].ends_with("█ 40"), "{drawn}");
        assert_eq!(lines[2], "  buy │ NULL");
        assert!(plot(vec![("type", words)]).unwrap_err().text().contains("nothing to draw"));
    }
}
