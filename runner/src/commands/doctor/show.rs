//! What was found, for people and for programs.

use std::io::IsTerminal;

use serde_json::json;

use crate::commands::doctor::check::{Outcome, Row};

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

/// Columns of a terminal that the names of checks get at most.
const NAME_MAX: usize = 36;

/// The checks of each job, a line for each, and a line that sums it up.
pub(super) fn text(rows: &[Row]) -> String {
    lines(rows, std::io::stdout().is_terminal())
}

fn lines(rows: &[Row], has_colours: bool) -> String {
    let paint = |color: &str, word: String| {
        if has_colours { format!("\u{1b}[{color}m{word}\u{1b}[0m") } else { word }
    };
    let margin = rows.iter().map(|row| row.name.chars().count()).filter(|width| *width <= NAME_MAX).max().unwrap_or(0);
    let mut out = String::new();
    let mut last = None;
    for row in rows {
        if last != Some(&row.job) {
            let separator = if last.is_some() { "\n" } else { "" };
            let job = if row.job.is_empty() { "all jobs" } else { &row.job };
            out.push_str(&format!("{separator}{}\n", paint("1", job.to_owned())));
            last = Some(&row.job);
        }
        let color = match &row.outcome {
            Outcome::Ok(_) => "32",
            Outcome::Warning { .. } => "33",
            Outcome::Failed(_) => "31",
            Outcome::Skipped(_) => "90",
        };
        let (message, cure) = told(&row.outcome);
        out.push_str(&format!(
            "  {} {:<margin$}  {message}\n",
            paint(color, format!("{:<8}", word(&row.outcome))),
            row.name
        ));
        if !cure.is_empty() {
            out.push_str(&format!("           what to do: {cure}\n"));
        }
    }
    format!("{out}\n{}\n", summary(rows))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_checks_of_each_job_stand_below_its_name_and_no_path_is_broken() {
        let row = |job: &str, name: &str, outcome: Outcome| Row {
            job: job.to_owned(),
            name: name.to_owned(),
            outcome,
            took: Duration::ZERO,
        };
        let path = "/a/long/way/to/the/outputs/of/somebody/events_aggregated_realtime_dead_letters: 1 GB free";
        let cure = "make room".to_owned();
        let shown = lines(
            &[
                row("", "clock", Outcome::Ok("now".to_owned())),
                row("", "room", Outcome::Warning { message: path.to_owned(), cure }),
                row("a", "topics", Outcome::Skipped("no broker".to_owned())),
            ],
            false,
        );
        let expected = format!(
            "all jobs\n  ok       clock   now\n  warning  room    {path}\n           what to do: make room\n\na\n  skipped  topics  no broker\n\n\
             1 ok, 1 warning, 1 skipped\n"
        );
        assert_eq!(shown, expected);
        let coloured = lines(&[row("a", "clock", Outcome::Ok("now".to_owned()))], true);
        assert_eq!(coloured, "\u{1b}[1ma\u{1b}[0m\n  \u{1b}[32mok      \u{1b}[0m clock  now\n\n1 ok\n");
    }
}
