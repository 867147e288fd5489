//! What the tables of both kinds share.

use serde_json::Value;

/// A spec with another value at a place, such as `sources/0/columns/1/type`.
pub(super) fn changed(spec: &Value, pointer: &str, value: Value) -> Value {
    let mut changed = spec.clone();
    let mut place = &mut changed;
    for step in pointer.split('/') {
        place = match step.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[step],
        };
    }
    *place = value;
    changed
}

/// The fields of a kind's spec that hold a value, such as `sources.columns.type`.
fn leaves(kind: &str) -> Vec<String> {
    fn walk(schema: &Value, path: &str, found: &mut Vec<String>) {
        let below = if schema["items"].is_object() { &schema["items"] } else { schema };
        match below["properties"].as_object() {
            Some(fields) => {
                for (name, schema) in fields {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    walk(schema, &path, found);
                }
            }
            None => found.push(path.to_owned()),
        }
    }
    let crds = crate::crd::all();
    let (_, crd) = crds.iter().find(|(_, crd)| crd.spec.names.kind == kind).unwrap();
    let crd = serde_json::to_value(crd).unwrap();
    let mut found = Vec::new();
    walk(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], "", &mut found);
    assert!(found.len() > 50, "{found:?}");
    found
}

/// The fields of a kind's spec that no entry of a test's table speaks of, by the entries' pointers.
pub(super) fn not_covered<'a>(kind: &str, pointers: impl Iterator<Item = &'a str>) -> Vec<String> {
    let field = |pointer: &str| -> String {
        let steps = pointer.split('/').filter(|step| step.parse::<usize>().is_err());
        steps.collect::<Vec<_>>().join(".")
    };
    let known: Vec<_> = pointers.map(field).collect();
    let covered = |leaf: &str| {
        known.iter().any(|field| {
            let below = leaf.strip_prefix(field.as_str());
            below.is_some_and(|below| below.is_empty() || below.starts_with('.'))
                // Of a map the table has an entry.
                || field.strip_prefix(leaf).is_some_and(|entry| entry.starts_with('.'))
        })
    };
    leaves(kind).into_iter().filter(|leaf| !covered(leaf)).collect()
}
