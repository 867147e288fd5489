//! [`StateRelevant`]: what the state of one output of a streaming job depends on. The runner hashes it into the job's log, and
//! the operator compares it before it gives a job new pods.
//!
//! Pure, and the same in every version: its fields are named one by one, so that a new field of the API changes nothing
//! here, and the query is read by [`sql`], which knows tokens and no grammar, so that neither a newer parser nor a newer
//! engine changes it. What is not named here may change while windows are open: descriptions, columns that the query does
//! not use, limits of columns, aliases, every WHERE and HAVING, what is computed from closed windows, delays, sinks, triggers.

use serde::Serialize;

use crate::column::{ColumnOrigin, ColumnSpec, TimestampUnit};
use crate::source::{SourceFormat, SourceSpec};
use crate::streaming_job::StreamingJobSpec;

pub mod sql;

/// The version of this form: part of it, so that another one never looks like this one.
const FORM: u32 = 2;

/// What the state of an output depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateRelevant {
    /// [`FORM`].
    form: u32,
    /// The query up to the aggregates.
    query: String,
    /// The sources that it reads, in the order of the job.
    sources: Vec<Source>,
    /// What makes two events one.
    deduplicate: Option<Vec<String>>,
}

/// A source, as far as the state depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Source {
    name: String,
    format: SourceFormat,
    event_time: Option<String>,
    columns: Vec<Column>,
}

/// A column, as far as the state depends on it: what its values are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Column {
    name: String,
    column_type: String,
    required: bool,
    path: Option<String>,
    from: ColumnOrigin,
    timestamp_unit: Option<TimestampUnit>,
}

impl StateRelevant {
    /// The same for equal ones, and for no others: what is hashed.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("names and texts are always JSON")
    }
}

impl StreamingJobSpec {
    /// What the state of one of the job's queries depends on. Parameters are expanded before.
    pub fn state_relevant(&self, query: &str) -> StateRelevant {
        let is_column = |name: &str| {
            self.sources.iter().flat_map(|source| &source.columns).any(|column| column.name.eq_ignore_ascii_case(name))
        };
        let form = sql::state_form(query, &is_column);
        let keys = self.deduplicate.as_ref().map(|deduplicate| &deduplicate.keys);
        let is_used = |source: &SourceSpec, column: &ColumnSpec| {
            let is_time = source.event_time.as_ref().is_some_and(|time| time.column == column.name);
            is_time || form.names(&column.name) || keys.is_some_and(|keys| keys.contains(&column.name))
        };
        let sources = self.sources.iter().filter(|source| form.names(&source.name));
        let sources = sources.map(|source| Source {
            name: source.name.clone(),
            format: source.format,
            event_time: source.event_time.as_ref().map(|time| time.column.clone()),
            columns: source.columns.iter().filter(|column| is_used(source, column)).map(Column::of).collect(),
        });
        StateRelevant { form: FORM, sources: sources.collect(), deduplicate: keys.cloned(), query: form.text }
    }

    /// The queries of the job by output; one that is not among `outputs` has no name.
    pub fn queries(&self) -> Vec<(Option<&str>, &str)> {
        let only = self.query.iter().map(|query| (None, query.as_str()));
        let several = self.outputs.iter();
        only.chain(several.filter_map(|output| Some((Some(output.name.as_str()), output.query.as_deref()?)))).collect()
    }
}

impl Column {
    fn of(column: &ColumnSpec) -> Self {
        Self {
            name: column.name.clone(),
            column_type: column.column_type.to_string(),
            required: column.required,
            path: column.path.clone(),
            from: column.from,
            timestamp_unit: column.timestamp_unit,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const QUERY: &str = "SELECT window_start, k, count(*) AS n, sum(v) AS total FROM s WHERE v > 1 \
                         GROUP BY tumble(at, INTERVAL '1 minute'), k";

    fn spec() -> Value {
        json!({
            "sources": [{
                "name": "s", "topics": ["t"], "eventTime": {"column": "at"},
                "columns": [
                    {"name": "at", "type": "timestamp"}, {"name": "k", "type": "string", "required": true},
                    {"name": "v", "type": "bigint", "path": "a.v"}, {"name": "unused", "type": "string"},
                ],
            }],
            "query": QUERY, "sink": {"path": "counts"},
        })
    }

    fn text(spec: &Value) -> String {
        let spec: StreamingJobSpec = serde_json::from_value(spec.clone()).unwrap();
        let (_, query) = spec.queries()[0];
        spec.state_relevant(query).text()
    }

    fn changed(pointer: &str, value: Value) -> String {
        let mut changed = spec();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        match changed.pointer_mut(parent).unwrap() {
            Value::Array(list) => list.push(value),
            object => object[name] = value,
        }
        text(&changed)
    }

    /// Another text would keep every job with open windows from going on after an upgrade.
    #[test]
    fn the_text_never_changes() {
        assert_eq!(
            text(&spec()),
            r#"{"form":2,"query":"count ( * ) , sum ( v ) from s group by tumble ( at , interval '1 minute' ) , k","#
                .to_owned()
                + r#""sources":[{"name":"s","format":"json","event_time":"at","columns":["#
                + r#"{"name":"at","column_type":"timestamp","required":false,"path":null,"from":"field","timestamp_unit":null},"#
                + r#"{"name":"k","column_type":"string","required":true,"path":null,"from":"field","timestamp_unit":null},"#
                + r#"{"name":"v","column_type":"bigint","required":false,"path":"a.v","from":"field","timestamp_unit":null}"#
                + r#"]}],"deduplicate":null}"#
        );
    }

    #[test]
    fn what_is_no_part_of_the_meaning_of_the_state_changes_nothing() {
        let before = text(&spec());
        for (pointer, value) in [
            ("/sources/0/columns/1/description", json!("who")),
            ("/sources/0/columns/1/maxLength", json!(9)),
            ("/sources/0/columns/1/minLength", json!(1)),
            ("/sources/0/columns/3/type", json!("bigint")),
            ("/sources/0/columns/-", json!({"name": "new", "type": "double", "required": true})),
            ("/sources/0/maxRecordBytes", json!("2Mi")),
            ("/sources/0/maxDepth", json!(9)),
            ("/sources/0/topics", json!(["t", "u"])),
            ("/sources/0/eventTime", json!({"column": "at", "watermarkDelay": "9s", "idleTimeout": "1s"})),
            ("/sink", json!({"path": "counts", "partitionBy": ["k"], "compression": "snappy"})),
            ("/trigger", json!({"interval": "1s"})),
            ("/badRecords", json!({"action": "drop"})),
            ("/lateRows", json!({"action": "drop"})),
            ("/kafka", json!({"bootstrapServers": "b:1"})),
            ("/pod", json!({"labels": {"a": "b"}})),
            ("/query", json!(QUERY.replace("AS n", "AS number_of_events"))),
            ("/query", json!(QUERY.replace("WHERE v > 1", ""))),
            ("/query", json!(QUERY.replace("v > 1", "v > 2 AND unused IS NOT NULL"))),
            ("/query", json!(format!("{QUERY} HAVING count(*) > 1"))),
        ] {
            assert_eq!(changed(pointer, value.clone()), before, "{pointer} {value}");
        }
    }

    #[test]
    fn what_the_state_holds_changes_it() {
        let before = text(&spec());
        for (pointer, value) in [
            ("/sources/0/columns/2/type", json!("double")),
            ("/sources/0/columns/2/path", json!("b.v")),
            ("/sources/0/columns/0/timestampUnit", json!("seconds")),
            ("/sources/0/columns/1/required", json!(false)),
            ("/sources/0/format", json!("cdc")),
            ("/deduplicate", json!({"keys": ["k"], "within": "1h"})),
            ("/query", json!(QUERY.replace("1 minute", "2 minutes"))),
            ("/query", json!(QUERY.replace("sum(v)", "sum(v + 1)"))),
            ("/query", json!(QUERY.replace("count(*)", "count(*), max(v)"))),
            ("/query", json!(format!("{QUERY}, v"))),
        ] {
            assert_ne!(changed(pointer, value.clone()), before, "{pointer} {value}");
        }
    }
}
