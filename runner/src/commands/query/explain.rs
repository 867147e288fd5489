//! `EXPLAIN` and `EXPLAIN ANALYZE`: the plan of a query for people, an operator in a line, with what each of them did.

use std::sync::Arc;
use std::time::Duration;

use datafusion::physical_plan::metrics::MetricValue;
use datafusion::physical_plan::{ExecutionPlan, displayable};

use crate::commands::{PADDING, align_right, bytes, grouped, list, terminal_width};

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

/// A step of a plan.
struct Step {
    name: String,
    rows: String,
    time: String,
    spilled: String,
    what: String,
}

/// The plan as a tree, the last step first.
pub(super) fn tree(plan: &Arc<dyn ExecutionPlan>, ran: Option<Duration>) -> String {
    let mut steps = Vec::new();
    add(&mut steps, plan, 0);
    // Spilling is rare, and its column is room for what is seen more often.
    let spills = steps.iter().any(|step| !step.spilled.is_empty());
    let header: &[&str] = match ran {
        Some(_) if spills => &["step", "rows", "time", "spilled", "what"],
        Some(_) => &["step", "rows", "time", "what"],
        None => &["step", "what"],
    };
    let rows: Vec<Vec<String>> = steps
        .into_iter()
        .map(|Step { name, rows, time, spilled, what }| match ran {
            Some(_) if spills => vec![name, rows, time, spilled, what],
            Some(_) => vec![name, rows, time, what],
            None => vec![name, what],
        })
        .collect();
    let figures = header.len() - 1;
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).chain([header[column].len()]).max();
    let taken: usize = (0..figures).filter_map(width).map(|width| width + PADDING).sum();
    let room = terminal_width().map_or(DETAIL_MAX, |width| usize::from(width).saturating_sub(taken + PADDING).max(16));
    let mut shown = list(header);
    for mut row in rows {
        row[figures] = shortened(&row[figures], room);
        shown.add_row(row);
    }
    if ran.is_some() {
        align_right(&mut shown, &(1..figures).collect::<Vec<_>>());
    }
    let total = ran.map_or_else(String::new, |ran| {
        format!("{:.3} s in all; times are of all threads together\n", ran.as_secs_f64())
    });
    format!("{shown}\n{total}")
}

/// The first of a text that has room.
fn shortened(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room - 1).chain(['…']).collect()
}

/// What a step does, without what nobody can read: lists of files, and where columns stand.
fn plain(what: &str) -> String {
    let what = match (what.find("file_groups={"), what.find("]}, ")) {
        (Some(0), Some(end)) => &what[end + 4..],
        _ => what,
    };
    // `user_id@0`: the column's place is the engine's business.
    let mut out = String::with_capacity(what.len());
    let mut rest = what;
    while let Some(at) = rest.find('@') {
        out.push_str(&rest[..at]);
        let digits = rest[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
        let is_place = digits > 0 && out.ends_with(|before: char| before.is_alphanumeric() || "_)".contains(before));
        if !is_place {
            out.push('@');
        }
        rest = &rest[at + 1 + if is_place { digits } else { 0 }..];
    }
    out.push_str(rest);
    out
}

fn add(steps: &mut Vec<Step>, plan: &Arc<dyn ExecutionPlan>, depth: usize) {
    let line = displayable(plan.as_ref()).one_line().to_string();
    let line = line.trim();
    let (name, what) = line.split_once(": ").unwrap_or((line, ""));
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
    let nanos = time.and_then(|time| u64::try_from(time).ok()).max(scanned.and_then(|time| u64::try_from(time).ok()));
    steps.push(Step {
        name: format!("{}{}", "  ".repeat(depth), name.trim_end_matches("Exec")),
        rows: rows.map_or_else(String::new, |rows| grouped(rows as u64)),
        time: nanos.map_or_else(String::new, milliseconds),
        spilled: spilled.map_or_else(String::new, |spilled| bytes(spilled as u64)),
        what: plain(what),
    });
    for child in plan.children() {
        add(steps, child, depth + 1);
    }
}

fn milliseconds(nanos: u64) -> String {
    format!("{:.1} ms", nanos as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_step_does_is_said_without_files_and_places() {
        for (what, expected) in [
            (
                "mode=Partial, gby=[user_id@0 as user_id], aggr=[sum(n)]",
                "mode=Partial, gby=[user_id as user_id], aggr=[sum(n)]",
            ),
            (
                "file_groups={2 groups: [[a/b@1.parquet, c], [d]]}, projection=[n], file_type=parquet",
                "projection=[n], file_type=parquet",
            ),
            ("mail = 'a@b.ch' AND n@12 > 3", "mail = 'a@b.ch' AND n > 3"),
            ("", ""),
        ] {
            assert_eq!(plain(what), expected);
        }
        assert_eq!([shortened("abcdef", 6), shortened("abcdefg", 6)], ["abcdef", "abcde…"]);
    }

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
