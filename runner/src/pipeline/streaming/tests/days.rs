//! A table of two days, written in small files and then left behind by the clock: what there is to keep up.

use serde_json::{Value, json};

use super::world::World;

pub(super) const JOB: &str = "orders";
const TOPIC: &str = "topic_orders";
/// 2026-01-01T00:00:00Z, and a day, in seconds.
pub(super) const BEGIN: i64 = 1_767_225_600;
pub(super) const DAY: i64 = 86_400;
pub(super) const RECORDS: i64 = 20;

/// The job that writes the table `rows`.
pub(super) fn job(format: &str, maintenance: Option<Value>) -> String {
    let mut sink = json!({"format": format, "path": "rows", "partitionBy": ["date"]});
    if let Some(maintenance) = maintenance {
        sink["maintenance"] = maintenance;
    }
    json!({
        "apiVersion": "dataplatform.io/v1alpha1",
        "kind": "StreamingJob",
        "metadata": {"name": JOB},
        "spec": {
            "kafka": {"maxOffsetsPerTrigger": 10},
            "sources": [{"name": "orders", "topics": [TOPIC], "columns": [
                {"name": "n", "type": "bigint", "required": true}, {"name": "at", "type": "timestamp", "required": true},
            ]}],
            "trigger": {"interval": "0s"},
            "outputs": [{"name": "rows", "query": "SELECT n, CAST(at AS DATE) AS date FROM orders", "sink": sink}],
        },
    })
    .to_string()
}

/// Records of two days, written in small files; then the clock is turned far behind both.
pub(super) fn world(format: &str) -> World {
    written(World::new(), format)
}

/// The same in an object store.
pub(super) fn world_in_a_store(format: &str) -> World {
    let mut world = World::new();
    world.put_outputs_in_a_store();
    written(world, format)
}

fn written(world: World, format: &str) -> World {
    world.cluster.create(TOPIC, 1);
    world.turn_clock(BEGIN);
    append(&world, 0..RECORDS);
    world.run(&job(format, None)).good();
    world.turn_clock(BEGIN + 10 * DAY);
    world
}

/// Records of both days in turn.
pub(super) fn append(world: &World, records: std::ops::Range<i64>) {
    for n in records {
        let day = 1 + n % 2;
        world.append(TOPIC, 0, Some(&json!({"n": n, "at": format!("2026-01-0{day}T12:00:00Z")}).to_string()));
    }
}
