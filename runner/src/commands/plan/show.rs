//! Judgements for people, like a diff, and for programs.

use std::fmt::Write as _;
use std::io::IsTerminal;

use data_platform_crds::change::QueryChange;
use serde_json::{Value, json};

use crate::commands::plan::code;
use crate::commands::plan::judge::{Change, Judgement, Outcome};

/// Longest text of a value that stands in one line.
const LINE_MAX: usize = 60;

/// Colours, where there is a terminal.
struct Paint {
    is_on: bool,
}

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.is_on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// For people.
pub(super) fn text(judged: &[Judgement]) -> String {
    let paint = Paint { is_on: std::io::stdout().is_terminal() };
    let shown = judged.iter().map(|judged| {
        let mut out = String::new();
        let title = format!("{} {}", judged.kind, judged.name);
        let _ = writeln!(out, "{}  ({})", paint.with("1", &title), judged.compared);
        if let Some(open) = &judged.open_outputs {
            let _ = match &open[..] {
                [] => writeln!(out, "  no windows are open"),
                open => writeln!(out, "  windows are open: {}", open.join(", ")),
            };
        }
        for change in &judged.changes {
            field(&mut out, &paint, change);
        }
        let (word, why, hint) = said(judged);
        let color = match code(&judged.outcome) {
            0 => "32",
            super::EXIT_FRESH_STATE => "33",
            _ => "31",
        };
        let _ = writeln!(out, "{}{why}", paint.with(color, word));
        if !hint.is_empty() {
            let _ = writeln!(out, "  {hint}");
        }
        out
    });
    shown.collect::<Vec<_>>().join("\n")
}

/// What becomes of a job: the word, why, and what to do.
fn said(judged: &Judgement) -> (&'static str, String, String) {
    let plain = |word| (word, String::new(), String::new());
    let changed_by = || {
        let state = judged.changes.iter().filter(|change| change.effect == "freshState");
        let fields: Vec<_> = state.map(|change| change.field.name()).collect();
        if fields.is_empty() { String::new() } else { format!(" ({})", fields.join(", ")) }
    };
    match &judged.outcome {
        Outcome::Nothing => plain("nothing"),
        Outcome::New(begins) => {
            let hint =
                "if it runs elsewhere, say where with --checkpoints and --namespace, or give the old file: --against";
            ("a new job", format!(": {begins}"), hint.to_owned())
        }
        Outcome::Gone => {
            let why =
                ": it is not in the new file; deleting it keeps outputs and checkpoint, and creating it again goes on";
            ("gone", why.to_owned(), String::new())
        }
        Outcome::NewPod if !changed_by().is_empty() => (
            "new pod, state kept",
            ": no windows are open, so there is nothing that the change could spoil".to_owned(),
            String::new(),
        ),
        Outcome::NewPod => plain("new pod, state kept"),
        Outcome::Stops => plain("stops, state kept"),
        Outcome::Starts => plain("starts, state kept"),
        Outcome::NextRun if judged.changes.is_empty() => (
            "the next run has it",
            ": query, inputs or sink are others than those of the newest interval".to_owned(),
            String::new(),
        ),
        Outcome::NextRun => plain("the next run has it"),
        Outcome::RunsAgain => plain("the job runs once more"),
        Outcome::Refused { why, hint } => ("refused", format!(": {why}"), hint.clone()),
        Outcome::FreshState(change) => {
            let (why, hint) = way_out(*change, judged.open_outputs.is_none());
            ("needs fresh state", format!("{}: {why}", changed_by()), hint)
        }
    }
}

fn way_out(change: QueryChange, is_unknown: bool) -> (&'static str, String) {
    let if_open = if is_unknown { "a job without open windows takes the change in as it is" } else { "" };
    match change {
        QueryChange::HeldBack(why) => (why.message(), why.hint().to_owned()),
        QueryChange::Rebuilt => {
            ("the new query computes the windows that are open anew from Kafka", if_open.to_owned())
        }
        QueryChange::Drained => {
            ("the old query closes its windows as they are, then the new one begins", if_open.to_owned())
        }
        QueryChange::NewLog => {
            ("a new log begins where kafka.startingOffsets says; the old one stays where it is", String::new())
        }
        QueryChange::Kept => ("", String::new()),
    }
}

fn field(out: &mut String, paint: &Paint, change: &Change) {
    let name = change.field.name();
    let (before, after) = (&change.field.before, &change.field.after);
    let sign = match (before, after) {
        (None, _) => paint.with("32", "+"),
        (_, None) => paint.with("31", "-"),
        _ => paint.with("33", "~"),
    };
    let short = |value: &Option<Value>| value.as_ref().map(plain).filter(|text| is_short(text));
    let values = match (before, after) {
        (None, Some(_)) => short(after),
        (Some(_), None) => short(before),
        _ => short(before).zip(short(after)).map(|(before, after)| format!("{before} -> {after}")),
    };
    let shown = values.as_ref().map_or_else(|| name.clone(), |values| format!("{name}: {values}"));
    let _ = writeln!(out, "  {sign} {shown}");
    if values.is_none() {
        let lines = |value: &Option<Value>| -> Vec<String> {
            value.as_ref().map(plain).unwrap_or_default().lines().map(str::to_owned).collect()
        };
        for (sign, line) in difference(&lines(before), &lines(after)) {
            let line = format!("{sign} {line}");
            let line = match sign {
                '+' => paint.with("32", &line),
                '-' => paint.with("31", &line),
                _ => line,
            };
            let _ = writeln!(out, "      {line}");
        }
    }
    let _ = writeln!(out, "    {}", change.words);
}

fn is_short(text: &str) -> bool {
    !text.contains('\n') && text.chars().count() <= LINE_MAX
}

/// A value as it stands in a file.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(_) | Value::Array(_) => {
            let line = value.to_string();
            if is_short(&line) { line } else { serde_saphyr::to_string(value).unwrap_or(line) }
        }
        other => other.to_string(),
    }
}

/// Lines that are gone, new and the same, in order. Lists of a thousand lines are told as gone and new.
fn difference(before: &[String], after: &[String]) -> Vec<(char, String)> {
    const LINES_MAX: usize = 1_000;
    let whole = |sign: char, lines: &[String]| -> Vec<(char, String)> {
        lines.iter().map(|line| (sign, line.clone())).collect()
    };
    if before.len() > LINES_MAX || after.len() > LINES_MAX {
        return [whole('-', before), whole('+', after)].concat();
    }
    // Length of the longest common list of lines from each place on.
    let mut common = vec![vec![0_usize; after.len() + 1]; before.len() + 1];
    for one in (0..before.len()).rev() {
        for other in (0..after.len()).rev() {
            common[one][other] = if before[one] == after[other] {
                common[one + 1][other + 1] + 1
            } else {
                common[one + 1][other].max(common[one][other + 1])
            };
        }
    }
    let (mut one, mut other) = (0, 0);
    let mut lines = Vec::new();
    while one < before.len() || other < after.len() {
        if one < before.len() && other < after.len() && before[one] == after[other] {
            lines.push((' ', before[one].clone()));
            (one, other) = (one + 1, other + 1);
        } else if one < before.len() && (other == after.len() || common[one + 1][other] >= common[one][other + 1]) {
            lines.push(('-', before[one].clone()));
            one += 1;
        } else {
            lines.push(('+', after[other].clone()));
            other += 1;
        }
    }
    lines
}

/// One word for what becomes of a job.
fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Nothing => "nothing",
        Outcome::New(_) => "new",
        Outcome::Gone => "gone",
        Outcome::NewPod => "newPod",
        Outcome::Stops => "stops",
        Outcome::Starts => "starts",
        Outcome::NextRun => "nextRun",
        Outcome::RunsAgain => "runsAgain",
        Outcome::FreshState(_) => "freshState",
        Outcome::Refused { .. } => "refused",
    }
}

/// For programs.
pub(super) fn json(judged: &[Judgement]) -> String {
    let jobs: Vec<_> = judged
        .iter()
        .map(|judged| {
            let (short, why, hint) = said(judged);
            let changes: Vec<_> = judged
                .changes
                .iter()
                .map(|change| {
                    json!({
                        "field": change.field.name(), "before": change.field.before, "after": change.field.after,
                        "effect": change.effect, "message": change.words,
                    })
                })
                .collect();
            json!({
                "kind": judged.kind, "name": judged.name, "compared": judged.compared, "effect": word(&judged.outcome),
                "message": format!("{short}{why}"), "hint": hint, "exitCode": code(&judged.outcome),
                "openOutputs": judged.open_outputs, "changes": changes,
            })
        })
        .collect();
    format!("{}\n", serde_json::to_string_pretty(&json!({"jobs": jobs})).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_compared_as_a_diff_does() {
        let lines = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        let shown: Vec<_> = difference(&lines("a b c d"), &lines("a x c d e"))
            .iter()
            .map(|(sign, line)| format!("{sign}{line}"))
            .collect();
        assert_eq!(shown, [" a", "-b", "+x", " c", " d", "+e"]);
        assert!(difference(&lines("a"), &lines("a")).iter().all(|(sign, _)| *sign == ' '));
    }
}
