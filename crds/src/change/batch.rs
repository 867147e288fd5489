//! What a changed field does to a batch job.

use serde_json::Value;

use crate::change::fields::FieldChange;

/// Fields that say when a job runs and what is kept of its runs: changing them is no reason to run a job again that has
/// run.
pub const FIELDS_OF_RUNS: [&str; 9] = [
    "schedule",
    "timeZone",
    "suspend",
    "concurrencyPolicy",
    "startingDeadlineSeconds",
    "successfulJobsHistoryLimit",
    "failedJobsHistoryLimit",
    "catchUp",
    "rerunStale",
];

/// What a field does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing that has to do with runs.
    Nothing,
    /// The next run has it; one that is under way is not touched.
    NextRun {
        /// What else there is to know; empty: nothing.
        note: &'static str,
    },
    /// No runs any more.
    Stops,
    /// Runs again.
    Starts,
    /// A job without schedule runs once more.
    RunsAgain {
        /// What else there is to know; empty: nothing.
        note: &'static str,
    },
    /// No run would go on with the log and the output that are there.
    Refused {
        /// Why.
        why: &'static str,
        /// What to do.
        hint: &'static str,
    },
}

/// Intervals of another length.
pub const OTHER_INTERVALS: Effect = Effect::Refused {
    why: "the log and the files of the output are of intervals of another length",
    hint: "give the job another name or checkpoint.name, and another sink.path",
};

/// What a field does by itself. `after`: the new spec.
pub fn effect(change: &FieldChange, after: &Value) -> Effect {
    let is_scheduled = !after["schedule"].is_null();
    let fields = change.fields();
    match fields[..] {
        ["suspend"] if change.after.as_ref().and_then(Value::as_bool) == Some(true) => return Effect::Stops,
        ["suspend"] => return Effect::Starts,
        ["interval"] => return OTHER_INTERVALS,
        ["checkpoint", ..] => {
            return Effect::Refused {
                why: "the output belongs to the log of the old name",
                hint: "bring the old name back, choose another sink.path, or run once with --new-log: the new log takes the \
                       output over, and knows no finished interval",
            };
        }
        ["replace"] => {
            return Effect::Refused {
                why: "files of intervals and files of a whole table would lie in one folder",
                hint: "give the job another sink.path and another checkpoint.name",
            };
        }
        _ => {}
    }
    let is_of_runs = fields.first().is_some_and(|field| FIELDS_OF_RUNS.contains(field));
    let note = note(&fields);
    match (is_scheduled, is_of_runs) {
        (true, _) => Effect::NextRun { note },
        (false, true) => Effect::Nothing,
        (false, false) => Effect::RunsAgain { note },
    }
}

fn note(fields: &[&str]) -> &'static str {
    match fields {
        ["parameters", ..] => "what it changes stands at the fields that use it",
        ["query" | "inputs" | "lookbackDays", ..] | ["outputs", "query"] => {
            "intervals that are finished stay as they are: process them again with --from and --to"
        }
        ["outputs"] => "what is finished counts for an output that is new, too: process it again with --from and --to",
        ["sink" | "outputs", .., "path"] | ["sink" | "outputs", .., "format"] => {
            "what is written stays where it is, and counts as finished: process it again with --from and --to"
        }
        ["sink" | "outputs", .., "partitionBy"] => {
            "files of finished intervals keep their directories until they are processed again"
        }
        ["storage", "region" | "pathStyle" | "credentialsSecret"] => "",
        ["storage", ..] => "a log that is not there is no log: move outputs and checkpoints first",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
