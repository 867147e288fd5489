//! What differs in format 1 of the job log: a job had one source, one query and one table.
//!
//! Pure. The present program writes none of it; it is here so that a checkpoint of the version before goes on.
//!
//! | format 1 | now |
//! |---|---|
//! | `plan.sql`, `plan.state_fingerprint` | `plan.queries.<output>` |
//! | `latest_event_time` | `latest_event_times.<source>` |
//! | `replay_from` of the job | with `outputs.<output>` |
//! | state object `window` | `output`, `part` |
//! | one watermark for all outputs | `complete_until` of each |

use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

/// Brings a record into the present format.
pub(super) fn upgrade_record(record: &mut Value) {
    let Some((kind, body)) = record.as_object_mut().and_then(|record| record.iter_mut().next()) else { return };
    match kind.as_str() {
        "start" => upgrade_plan(body.get_mut("plan")),
        "plan" => upgrade_plan(Some(body)),
        "commit" => upgrade_commit(body),
        _ => {}
    }
}

/// Brings a base into the present format.
pub(super) fn upgrade_state(state: &mut Value) {
    let output = state.get("plan").and_then(output_of_plan).unwrap_or_default();
    let sources = names(state.pointer("/totals/sources"));
    let watermark = state.get("watermark").cloned().unwrap_or_default();
    upgrade_plan(state.pointer_mut("/start/plan"));
    upgrade_plan(state.get_mut("plan"));
    upgrade_replay_from(state.get_mut("replay_from"), &output);
    upgrade_objects(state.pointer_mut("/snapshot/objects"), &output);
    complete(state.get_mut("outputs"), &watermark);
    for batch in state.get_mut("replay").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        upgrade_times(batch, &sources);
    }
}

fn upgrade_commit(commit: &mut Value) {
    let written = names(commit.get("outputs"));
    let is_letters = |name: &&String| {
        let of = name.strip_suffix("_dead_letters");
        of.is_some_and(|table| written.iter().any(|other| other == table))
    };
    let output = written.iter().find(|name| !is_letters(name)).cloned().unwrap_or_default();
    let sources = names(commit.pointer("/counters/sources"));
    let watermark = commit.get("watermark").cloned().unwrap_or_default();
    upgrade_replay_from(commit.get_mut("replay_from"), &output);
    upgrade_objects(commit.get_mut("state"), &output);
    complete(commit.get_mut("outputs"), &watermark);
    upgrade_times(commit, &sources);
}

/// The output whose query a plan of format 1 is: the one that is not for dead letters.
fn output_of_plan(plan: &Value) -> Option<String> {
    let letters = plan.get("dead_letters").and_then(Value::as_str);
    names(plan.get("outputs")).into_iter().find(|name| Some(name.as_str()) != letters)
}

fn upgrade_plan(plan: Option<&mut Value>) {
    let Some(plan) = plan else { return };
    let output = output_of_plan(plan);
    let Some(plan) = plan.as_object_mut() else { return };
    let (sql, state) = (plan.remove("sql"), plan.remove("state_fingerprint"));
    let query = json!({"sql": sql.unwrap_or_default(), "state_fingerprint": state.unwrap_or_default()});
    let queries: Object = output.map(|output| (output, query)).into_iter().collect();
    plan.insert("queries".to_owned(), queries.into());
}

fn upgrade_replay_from(from: Option<&mut Value>, output: &str) {
    let Some(from) = from.and_then(Value::as_object_mut) else { return };
    let version = from.get("version").cloned().unwrap_or_default();
    from.insert("outputs".to_owned(), json!({output: version}));
}

fn upgrade_objects(objects: Option<&mut Value>, output: &str) {
    let objects = objects.and_then(Value::as_array_mut).into_iter().flatten();
    for object in objects.filter_map(Value::as_object_mut) {
        let part = object.remove("window").unwrap_or_default();
        object.insert("part".to_owned(), part);
        object.insert("output".to_owned(), output.into());
    }
}

fn upgrade_times(batch: &mut Value, sources: &[String]) {
    let Some(batch) = batch.as_object_mut() else { return };
    let time = batch.remove("latest_event_time").unwrap_or_default();
    let times: Object = sources.iter().map(|source| (source.clone(), time.clone())).collect();
    batch.insert("latest_event_times".to_owned(), times.into());
}

fn complete(outputs: Option<&mut Value>, watermark: &Value) {
    let outputs = outputs.and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut);
    for output in outputs.filter_map(Value::as_object_mut) {
        output.insert("complete_until".to_owned(), watermark.clone());
    }
}

fn names(object: Option<&Value>) -> Vec<String> {
    object.and_then(Value::as_object).map(|object| object.keys().cloned().collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::job_state::JobState;
    use crate::checkpoint::record::{Record, decode, seal};

    /// An object as the program before wrote it.
    fn sealed(version: u64, body: &Value) -> Vec<u8> {
        let (text, xxh3) = (body.to_string(), seal(version, &body.to_string()));
        format!("{{\"format\":1,\"version\":{version},\"xxh3\":\"{xxh3}\",\"body\":{text}}}\n").into_bytes()
    }

    fn plan() -> Value {
        let outputs = json!({"t": "file:///o/t", "t_dead_letters": "file:///o/t_dead_letters"});
        json!({
            "fingerprint": "f", "state_fingerprint": "s", "sql": "SELECT 1",
            "outputs": outputs, "dead_letters": "t_dead_letters",
        })
    }

    fn commit() -> Value {
        let object = json!({"window": 60, "first_version": 3, "path": "state/4", "bytes": 1, "xxh3": "x"});
        let output = |name: &str| json!({"root": format!("file:///o/{name}"), "files": []});
        json!({
            "epoch": 1, "owner": "o", "attempt": 1, "clock": 9, "latest_event_time": 309, "published": 3,
            "partitions": {"topic": {"0": {"start": 1, "end": 2, "records": 1, "watermark": 7, "active": 9}}},
            "watermark": 7, "replay_from": {"version": 3, "offsets": {"topic": {"0": 0}}}, "state": [object],
            "outputs": {"t_dead_letters": output("t_dead_letters"), "t": output("t")},
            "counters": {"sources": {"s": {"read": 1, "bytes": 1}}, "outputs": {}},
            "totals": {"sources": {"s": {"read": 2, "bytes": 2}}, "outputs": {}},
        })
    }

    #[test]
    fn a_commit_of_one_output_names_it_everywhere() {
        let Ok(Record::Commit(read)) = decode(4, &sealed(4, &json!({"commit": commit()}))) else { panic!() };
        assert_eq!(read.latest_event_times.into_iter().collect::<Vec<_>>(), [("s".to_owned(), 309)]);
        let from = read.replay_from.unwrap();
        assert_eq!((from.version, from.outputs.into_iter().collect::<Vec<_>>()), (3, vec![("t".to_owned(), 3)]));
        let object = &read.state.unwrap()[0];
        assert_eq!((object.output.as_str(), object.part, object.first_version), ("t", 60, 3));
        assert_eq!(read.outputs["t"].complete_until, Some(7));
    }

    #[test]
    fn a_plan_has_its_query_at_its_output() {
        let Ok(Record::Plan(read)) = decode(2, &sealed(2, &json!({"plan": plan()}))) else { panic!() };
        assert_eq!(read.queries.keys().collect::<Vec<_>>(), ["t"]);
        let query = &read.queries["t"];
        assert_eq!((query.sql.as_str(), query.state_fingerprint.as_str()), ("SELECT 1", "s"));
    }

    #[test]
    fn a_base_is_what_its_records_are() {
        let start = json!({
            "log_id": "l", "namespace": "n", "job": "j", "cluster_id": "c", "topics": {}, "plan": plan(),
            "offsets": {"topic": {"0": 1}}, "clock": 0, "program": "p",
        });
        let own = json!({
            "epoch": 1, "owner": "o", "rank": {"generation": 0, "started": 0}, "place": "here", "clock": 0,
        });
        let records = [json!({"start": start}), json!({"own": own}), json!({"plan": plan()})];
        let mut records: Vec<Record> =
            (0..).zip(&records).map(|(version, body)| decode(version, &sealed(version, body)).unwrap()).collect();
        let Record::Start(start_read) = records.remove(0) else { panic!() };
        let mut folded = JobState::begin(start_read);
        (1..).zip(&records).for_each(|(version, record)| folded.apply(version, record).unwrap());
        let record: Record = decode(3, &sealed(3, &json!({"commit": commit()}))).unwrap();
        folded.apply(3, &record).unwrap();

        let mut base = serde_json::to_value(&folded).unwrap();
        // Back into what the program before wrote.
        (base["start"]["plan"], base["plan"]) = (plan(), plan());
        base["replay_from"].as_object_mut().unwrap().remove("outputs");
        for object in base["snapshot"]["objects"].as_array_mut().unwrap() {
            *object = json!({"window": 60, "first_version": 3, "path": "state/4", "bytes": 1, "xxh3": "x"});
        }
        for output in base["outputs"].as_object_mut().unwrap().values_mut() {
            output.as_object_mut().unwrap().remove("complete_until");
        }
        for batch in base["replay"].as_object_mut().unwrap().values_mut() {
            batch["latest_event_time"] = 309.into();
            batch.as_object_mut().unwrap().remove("latest_event_times");
        }
        assert_eq!(decode::<JobState>(3, &sealed(3, &base)), Ok(folded));
    }
}
