//! `EXPLAIN` and `EXPLAIN ANALYZE`: the plan of a query for people, an operator in a line, with what each of them did.

use std::sync::Arc;
use std::time::Duration;

use datafusion::physical_plan::metrics::MetricValue;
use datafusion::physical_plan::{ExecutionPlan, displayable};

use crate::commands::{align_right, bytes, grouped, list, terminal_width};

/// Columns for what an operator does, where the terminal does not tell.
const DETAIL_MAX: usize = 90;

/// What is asked of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Explain {
    /// Its rows.
    No,
    /// Its plan.
    Plan,
    /// Its plan, with what each operator did.
    Analyze,
}

/// Takes `EXPLAIN` or `EXPLAIN ANALYZE` off a query.
pub(super) fn taken_off(sql: &str) -> (Explain, &str) {
    let word = |text: &'_ str, word: &str| -> Option<usize> {
        let rest = text.trim_start();
        let is_word = rest.get(..word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word));
        let ends = rest.get(word.len()..).is_some_and(|rest| rest.starts_with(char::is_whitespace));
        (is_word && ends).then(|| text.len() - rest.len() + word.len())
    };
    let Some(at) = word(sql, "EXPLAIN") else { return (Explain::No, sql) };
    let rest = &sql[at..];
    match word(rest, "ANALYZE") {
        Some(at) => (Explain::Analyze, &rest[at..]),
        None => (Explain::Plan, rest),
    }
}

/// The plan as a tree, the last step first.
pub(super) fn tree(plan: &Arc<dyn ExecutionPlan>, ran: Option<Duration>) -> String {
    let header: &[&str] = if ran.is_some() { &["step", "rows", "time", "spilled", "what"] } else { &["step", "what"] };
    let mut shown = list(header);
    if ran.is_some() {
        align_right(&mut shown, &[1, 2, 3]);
    }
    let width = terminal_width().map_or(DETAIL_MAX, |width| usize::from(width).saturating_sub(70).max(30));
    add(&mut shown, plan, 0, ran.is_some(), width);
    let total = ran.map_or_else(String::new, |ran| {
        format!("{:.3} s in all; times are of all threads together\n", ran.as_secs_f64())
    });
    format!("{shown}\n{total}")
}

fn add(shown: &mut comfy_table::Table, plan: &Arc<dyn ExecutionPlan>, depth: usize, analyzed: bool, width: usize) {
    let line = displayable(plan.as_ref()).one_line().to_string();
    let line = line.trim();
    let (name, what) = line.split_once(": ").unwrap_or((line, ""));
    let what: String =
        if what.chars().count() > width { what.chars().take(width).chain(['…']).collect() } else { what.to_owned() };
    let name = format!("{}{}", "  ".repeat(depth), name.trim_end_matches("Exec"));
    if analyzed {
        let metrics = plan.metrics().map(|metrics| metrics.aggregate_by_name());
        let rows = metrics.as_ref().and_then(|metrics| metrics.output_rows());
        let time = metrics.as_ref().and_then(|metrics| metrics.elapsed_compute());
        let spilled = metrics.as_ref().and_then(|metrics| metrics.spilled_bytes()).filter(|bytes| *bytes > 0);
        // A scan counts its time otherwise.
        let scanned = metrics.as_ref().and_then(|metrics| {
            let times = metrics.iter().filter(|metric| metric.value().name() == "time_elapsed_scanning_total");
            times
                .filter_map(|metric| match metric.value() {
                    MetricValue::Time { time, .. } => Some(time.value()),
                    _ => None,
                })
                .max()
        });
        let nanos =
            time.and_then(|time| u64::try_from(time).ok()).max(scanned.and_then(|time| u64::try_from(time).ok()));
        shown.add_row([
            name,
            rows.map_or_else(String::new, |rows| grouped(rows as u64)),
            nanos.map_or_else(String::new, milliseconds),
            spilled.map_or_else(String::new, |spilled| bytes(spilled as u64)),
            what,
        ]);
    } else {
        shown.add_row([name, what]);
    }
    for child in plan.children() {
        add(shown, child, depth + 1, analyzed, width);
    }
}

fn milliseconds(nanos: u64) -> String {
    format!("{:.1} ms", nanos as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explain_is_taken_off_and_nothing_else() {
        for (sql, expected) in [
            ("SELECT 1", (Explain::No, "SELECT 1")),
            ("explain SELECT 1", (Explain::Plan, " SELECT 1")),
            ("\n EXPLAIN  analyze\nSELECT 1", (Explain::Analyze, "\nSELECT 1")),
            ("explained", (Explain::No, "explained")),
            ("EXPLAIN", (Explain::No, "EXPLAIN")),
        ] {
            assert_eq!(taken_off(sql), expected, "{sql:?}");
        }
    }
}
