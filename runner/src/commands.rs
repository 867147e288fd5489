//! The commands of `data-platform`, one module each.

pub mod audit;
pub mod backfill;
pub mod checkpoint;
pub mod demo;
pub mod doctor;
pub mod error;
pub mod explain;
pub mod generate;
mod live;
pub mod local;
pub mod plan;
pub mod query;
pub mod run;
pub mod validate;

use std::io::Write;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, TableComponent};

/// Tells the C allocator to keep few arenas. glibc makes up to eight per core, each of which keeps what it was given.
#[allow(unsafe_code)]
pub(crate) fn limit_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: called once, before any other thread exists; the call only sets a number.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Prints to standard output; somebody who stopped reading (`| head`) is no error.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// A table for people that fits the terminal, with one line per row.
pub(crate) fn list(header: &[&str]) -> Table {
    let mut list = Table::new();
    list.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    list.set_style(TableComponent::HeaderLines, '─');
    if let Some(width) = terminal_width() {
        list.set_width(width);
    }
    list
}

/// Leaves out columns where the terminal has no room for all, the first of these first: better than names that are broken.
pub(crate) fn fit(table: &mut Table, least: &[usize]) {
    if let Some(width) = terminal_width() {
        fit_into(table, least, width);
    }
}

fn fit_into(table: &mut Table, least: &[usize], width: u16) {
    for column in least {
        if natural_width(table) <= usize::from(width) {
            return;
        }
        if let Some(column) = table.column_mut(*column) {
            column.set_constraint(ColumnConstraint::Hidden);
        }
    }
}

/// Columns of the terminal that a list takes if no cell of it is broken.
pub(crate) fn natural_width(table: &Table) -> usize {
    let widths = table.column_max_content_widths().into_iter().enumerate();
    let shown = widths.filter(|(column, _)| table.column(*column).is_some_and(|column| !column.is_hidden()));
    shown.map(|(_, width)| usize::from(width) + PADDING).sum()
}

/// Blanks beside a cell.
pub(crate) const PADDING: usize = 2;

/// Columns of the terminal behind standard output; `None` when there is none.
pub(crate) fn terminal_width() -> Option<u16> {
    terminal_size().map(|(columns, _)| columns)
}

/// Columns and rows of the terminal; no rows where nobody knows them.
#[allow(unsafe_code)]
pub(crate) fn terminal_size() -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the call writes into `size`, which is as large as it says, or fails.
    let answer = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (answer == 0 && size.ws_col > 0).then_some((size.ws_col, size.ws_row))
}

/// Puts the numbers of these columns to the right.
pub(crate) fn align_right(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// A time in microseconds for people: `2026-01-31 12:00:07.123`, or `-`.
pub(crate) fn time(micros: Option<i64>) -> String {
    let time = micros.and_then(chrono::DateTime::from_timestamp_micros);
    time.map_or_else(|| "-".to_owned(), |time| time.format("%Y-%m-%d %H:%M:%S%.3f").to_string())
}

/// How long ago a time in microseconds is, for people: `12 s ago`, `3 h ago`.
pub(crate) fn ago(micros: i64, now: i64) -> String {
    let seconds = now.saturating_sub(micros) / 1_000_000;
    match seconds {
        ..0 => "in the future".to_owned(),
        0..120 => format!("{seconds} s ago"),
        120..7_200 => format!("{} min ago", seconds / 60),
        7_200..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// A number with thin groups of three digits: `1 234 567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bytes for people: `1.5 MB`.
pub(crate) fn bytes(number: u64) -> String {
    let (value, unit) = match number {
        0..1_000 => return format!("{number} B"),
        1_000..1_000_000 => (number as f64 / 1e3, "kB"),
        1_000_000..1_000_000_000 => (number as f64 / 1e6, "MB"),
        _ => (number as f64 / 1e9, "GB"),
    };
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_does_not_fit_has_fewer_columns_and_no_broken_name() {
        let mut shown = list(&["name", "what", "number"]);
        shown.add_row(["a-long-name-of-a-job", "something that matters less", "1 234"]);
        assert_eq!(natural_width(&shown), 22 + 29 + 8);
        for (width, says) in [(59, [true, true, true]), (58, [true, false, true]), (29, [true, false, false])] {
            let mut shown = shown.clone();
            fit_into(&mut shown, &[1, 2], width);
            shown.set_width(width);
            let drawn = shown.to_string();
            assert!(drawn.lines().all(|line| line.chars().count() <= usize::from(width)), "{drawn}");
            let found =
                ["a-long-name-of-a-job", "something that matters less", "1 234"].map(|text| drawn.contains(text));
            assert_eq!(found, says, "{width}: {drawn}");
        }
    }

    #[test]
    fn numbers_are_shown_for_people() {
        assert_eq!([0, 12, 1_234, 1_234_567].map(grouped), ["0", "12", "1 234", "1 234 567"]);
        assert_eq!(
            [5, 500, 9_000, 200_000].map(|seconds| ago(0, seconds * 1_000_000)),
            ["5 s ago", "8 min ago", "2 h ago", "2 days ago"]
        );
        assert_eq!(time(Some(1_500)), "1970-01-01 00:00:00.001");
        assert_eq!([999, 1_500, 2_000_000, 3_100_000_000].map(bytes), ["999 B", "1.5 kB", "2.0 MB", "3.1 GB"]);
    }
}
