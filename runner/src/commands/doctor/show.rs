//! What was found, for people and for programs.

use std::io::IsTerminal;

use comfy_table::ColumnConstraint;
use serde_json::json;

use crate::commands::doctor::check::{Outcome, Row};
use crate::commands::list;

/// How an outcome is called, in one word.
fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Ok(_) => "ok",
        Outcome::Warning { .. } => "warning",
        Outcome::Failed(_) => "failed",
        Outcome::Skipped(_) => "skipped",
    }
}

/// What was found, and what to do about it.
fn told(outcome: &Outcome) -> (&str, &str) {
    match outcome {
        Outcome::Ok(message) | Outcome::Skipped(message) => (message, ""),
        Outcome::Warning { message, cure } => (message, cure),
        Outcome::Failed(error) => (&error.message, &error.cure),
    }
}

/// A table, and a line that sums it up.
pub(super) fn text(rows: &[Row]) -> String {
    let is_terminal = std::io::stdout().is_terminal();
    // Every cell of the column has a colour, so that all are as wide as they seem.
    let paint = |color: &str, word: &str| {
        if is_terminal { format!("\u{1b}[{color}m{word}\u{1b}[0m") } else { word.to_owned() }
    };
    let mut table = list(&["job", "check", &paint("39", ""), "found"]);
    if let Some(column) = table.column_mut(2) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    for row in rows {
        let (message, cure) = told(&row.outcome);
        let found = if cure.is_empty() { message.to_owned() } else { format!("{message}\nwhat to do: {cure}") };
        let color = match &row.outcome {
            Outcome::Ok(_) => "32",
            Outcome::Warning { .. } => "33",
            Outcome::Failed(_) => "31",
            Outcome::Skipped(_) => "90",
        };
        let job = if row.job.is_empty() { "all" } else { &row.job };
        table.add_row([job, &row.name, &paint(color, word(&row.outcome)), &found]);
    }
    format!("{table}\n{}\n", summary(rows))
}

/// How many of each.
fn summary(rows: &[Row]) -> String {
    let count = |wanted: &str| rows.iter().filter(|row| word(&row.outcome) == wanted).count();
    let counts = ["ok", "warning", "failed", "skipped"].map(|word| (count(word), word));
    let told: Vec<_> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    told.join(", ")
}

/// One object.
pub(super) fn json(rows: &[Row]) -> String {
    let checks: Vec<_> = rows
        .iter()
        .map(|row| {
            let (message, cure) = told(&row.outcome);
            let reason = match &row.outcome {
                Outcome::Failed(error) => error.reason.name(),
                _ => "",
            };
            json!({
                "job": row.job, "check": row.name, "outcome": word(&row.outcome), "reason": reason, "message": message,
                "whatToDo": cure, "milliseconds": u64::try_from(row.took.as_millis()).unwrap_or(u64::MAX),
            })
        })
        .collect();
    format!("{}\n", serde_json::to_string_pretty(&json!({"checks": checks})).unwrap_or_default())
}
