//! What a changed field does to a streaming job that works.

use serde::Deserialize;
use serde_json::Value;

use crate::change::fields::FieldChange;
use crate::change::state_of;
use crate::state_relevant::sql::state_form;
use crate::streaming_job::StreamingJobSpec;

/// What a field does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// New pods that go on with the state.
    NewPod {
        /// What else there is to know; empty: nothing.
        note: &'static str,
    },
    /// The pods go; the state stays.
    Stops,
    /// Pods come, and go on with the state.
    Starts,
    /// The windows that are open mean something else.
    FreshState {
        /// Why.
        why: String,
    },
    /// Another log.
    NewLog,
}

/// What a field does by itself. `before`: the spec that runs, expanded.
pub fn effect(change: &FieldChange, before: &Value) -> Effect {
    let is_on = |value: &Option<Value>| value.as_ref().and_then(Value::as_bool) == Some(true);
    let is_none = |value: &Option<Value>| value.as_ref().and_then(Value::as_i64) == Some(0);
    match change.fields()[..] {
        ["suspend"] if is_on(&change.after) => return Effect::Stops,
        ["replicas"] if is_none(&change.after) => return Effect::Stops,
        ["suspend"] => return Effect::Starts,
        ["replicas"] if is_none(&change.before) => return Effect::Starts,
        ["checkpoint", ..] => return Effect::NewLog,
        ["template"] => return Effect::NewPod { note: "what it changes stands at the fields that it fills" },
        _ => {}
    }
    if let Some(why) = state_change(change, before) {
        return Effect::FreshState { why };
    }
    Effect::NewPod { note: note(change) }
}

/// Why the state of open windows does not fit this change. `None`: it does.
fn state_change(change: &FieldChange, before: &Value) -> Option<String> {
    let read = |spec: &Value| StreamingJobSpec::deserialize(spec).ok();
    let (one, other) = (read(before)?, read(&change.alone_in(before)));
    let Some(other) = other else {
        // Alone it would be no job: a source that is new, for example, with a query that reads it.
        return None;
    };
    if state_of(&one) == state_of(&other) {
        return None;
    }
    Some(match change.fields()[..] {
        ["query"] | ["outputs", "query"] => query(&one, change),
        ["outputs"] | ["outputs", "name"] => {
            "the windows of an output that is not there any more would be lost".to_owned()
        }
        ["sources", "columns", ..] => "open windows hold values of this column as it was".to_owned(),
        ["sources", "eventTime", ..] => "open windows were made by another time".to_owned(),
        ["deduplicate", ..] => "what is remembered to recognise duplicates has other keys".to_owned(),
        _ => "open windows were filled from it as it was".to_owned(),
    })
}

/// Which part of the query.
fn query(spec: &StreamingJobSpec, change: &FieldChange) -> String {
    let is_column = |name: &str| {
        spec.sources.iter().flat_map(|source| &source.columns).any(|column| column.name.eq_ignore_ascii_case(name))
    };
    let form = |value: &Option<Value>| {
        let text = value.as_ref().and_then(Value::as_str).unwrap_or_default();
        state_form(text, &is_column).text
    };
    let (one, other) = (form(&change.before), form(&change.after));
    let split = |form: &str| {
        let (aggregates, keys) = form.split_once(" group by ").unwrap_or((form, ""));
        let (aggregates, tables) = aggregates.split_once(" from ").unwrap_or((aggregates, ""));
        [aggregates.to_owned(), tables.to_owned(), keys.to_owned()]
    };
    let (one, other) = (split(&one), split(&other));
    let names = ["aggregates", "tables", "window or keys"];
    let changed: Vec<_> = (0..3).filter(|part| one[*part] != other[*part]).map(|part| names[part]).collect();
    format!("open windows were made with other {}", changed.join(", "))
}

fn note(change: &FieldChange) -> &'static str {
    match change.fields()[..] {
        ["parameters", ..] => "what it changes stands at the fields that use it",
        ["kafka", "startingOffsets"] => "it counts where a log begins; this one has begun",
        ["kafka", "groupId"] => "lag tools see another group; positions are in the job log",
        ["sink" | "outputs", .., "path" | "topic"] | ["sink" | "outputs", .., "format"] => {
            "rows from now on go there; what is written stays where it is"
        }
        ["storage", "region" | "pathStyle" | "credentialsSecret"] => "",
        ["storage", ..] => "a log that is not there is no log: move outputs and checkpoints first",
        ["sources", "topics" | "topicPattern"] => "a topic that is new to the log is read from its beginning",
        ["deduplicate", "within"] => "records that were forgotten already are not remembered again",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
