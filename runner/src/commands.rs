//! The commands of `data-platform`, one module each.

pub mod audit;
pub mod checkpoint;
pub mod demo;
pub mod explain;
pub mod generate;
pub mod query;
pub mod run;
pub mod validate;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{ContentArrangement, Table};

/// Tells the C allocator to keep few arenas. glibc makes up to eight per core, each of which keeps what it was given.
#[allow(unsafe_code)]
pub(crate) fn limit_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: called once, before any other thread exists; the call only sets a number.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// A table for people that fits the terminal.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table
}

/// A number with thin groups of three digits: `1 234 567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
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
    fn numbers_are_shown_for_people() {
        assert_eq!([0, 12, 1_234, 1_234_567].map(grouped), ["0", "12", "1 234", "1 234 567"]);
        assert_eq!([999, 1_500, 2_000_000, 3_100_000_000].map(bytes), ["999 B", "1.5 kB", "2.0 MB", "3.1 GB"]);
    }
}
