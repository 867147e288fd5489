//! The fields in which two specs differ. Things with names are the same ones by their names, wherever they stand in a list.

use std::collections::BTreeMap;

use serde_json::Value;

/// A field that has another value. Absent on one side: it is new, or gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// Where it is.
    pub path: Vec<Step>,
    /// Its value before.
    pub before: Option<Value>,
    /// Its value after.
    pub after: Option<Value>,
}

/// A step on the way to a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// To a field of this name.
    Field(String),
    /// To the thing of this name in a list.
    Named(String),
}

impl FieldChange {
    /// The field as people write it: `sources[events].columns[user_id].type`.
    pub fn name(&self) -> String {
        let mut name = String::new();
        for step in &self.path {
            match step {
                Step::Field(field) if name.is_empty() => name.push_str(field),
                Step::Field(field) => name = format!("{name}.{field}"),
                Step::Named(thing) => name = format!("{name}[{thing}]"),
            }
        }
        name
    }

    /// The fields on the way, without the names of things: `sources columns type`.
    pub fn fields(&self) -> Vec<&str> {
        let fields = self.path.iter().filter_map(|step| match step {
            Step::Field(field) => Some(field.as_str()),
            Step::Named(_) => None,
        });
        fields.collect()
    }

    /// A spec in which this field, and no other, has its new value.
    pub fn alone_in(&self, before: &Value) -> Value {
        let mut changed = before.clone();
        put(&mut changed, &self.path, self.after.clone());
        changed
    }
}

/// The fields in which two specs differ, in the order of their names.
pub fn between(before: &Value, after: &Value) -> Vec<FieldChange> {
    let mut found = Vec::new();
    compare(before, after, &mut Vec::new(), &mut found);
    found
}

fn compare(before: &Value, after: &Value, path: &mut Vec<Step>, found: &mut Vec<FieldChange>) {
    if before == after {
        return;
    }
    let parts = match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            let of = |object: &serde_json::Map<String, Value>| -> BTreeMap<String, Value> {
                object.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
            };
            Some((of(one), of(other), Step::Field as fn(String) -> Step))
        }
        (Value::Array(one), Value::Array(other)) => {
            named(one).zip(named(other)).map(|(one, other)| (one, other, Step::Named as fn(String) -> Step))
        }
        _ => None,
    };
    let Some((one, other, step)) = parts else {
        let (before, after) = (Some(before.clone()), Some(after.clone()));
        found.push(FieldChange { path: path.clone(), before, after });
        return;
    };
    let has_found = found.len();
    let gone_or_there = one.keys();
    let new = other.keys().filter(|name| !one.contains_key(*name));
    for name in gone_or_there.chain(new) {
        path.push(step(name.clone()));
        match (one.get(name), other.get(name)) {
            (Some(before), Some(after)) => compare(before, after, path, found),
            (None, Some(Value::Object(object))) if has_fields_alone(object) => {
                compare(&Value::Object(serde_json::Map::new()), &other[name], path, found);
            }
            (Some(Value::Object(object)), None) if has_fields_alone(object) => {
                compare(&one[name], &Value::Object(serde_json::Map::new()), path, found);
            }
            (before, after) => {
                let (before, after) = (before.cloned(), after.cloned());
                found.push(FieldChange { path: path.clone(), before, after });
            }
        }
        path.pop();
    }
    if found.len() == has_found {
        // The same things in another order.
        let (before, after) = (Some(before.clone()), Some(after.clone()));
        found.push(FieldChange { path: path.clone(), before, after });
    }
}

/// Whether it is told field by field when it comes or goes: not a thing with a name, and not an empty one.
fn has_fields_alone(object: &serde_json::Map<String, Value>) -> bool {
    !object.is_empty() && !object.contains_key("name")
}

/// The things of a list by their names; `None`: they have none, or two have one.
fn named(list: &[Value]) -> Option<BTreeMap<String, Value>> {
    let mut things = BTreeMap::new();
    for thing in list {
        let name = thing.get("name")?.as_str()?.to_owned();
        if things.insert(name, thing.clone()).is_some() {
            return None;
        }
    }
    Some(things)
}

fn put(place: &mut Value, path: &[Step], value: Option<Value>) {
    let Some((step, rest)) = path.split_first() else {
        *place = value.unwrap_or_default();
        return;
    };
    match step {
        Step::Field(field) => {
            if place.is_null() {
                *place = Value::Object(serde_json::Map::new());
            }
            let Value::Object(object) = place else { return };
            match (rest, value) {
                ([], None) => {
                    object.remove(field);
                }
                (rest, value) => put(object.entry(field).or_insert(Value::Null), rest, value),
            }
        }
        Step::Named(name) => {
            let Value::Array(list) = place else { return };
            let at = list.iter().position(|thing| thing["name"] == name.as_str());
            match (at, rest, value) {
                (Some(at), [], None) => {
                    list.remove(at);
                }
                (Some(at), rest, value) => put(&mut list[at], rest, value),
                (None, [], Some(value)) => list.push(value),
                (None, ..) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn things_with_names_are_compared_by_them() {
        let before = json!({"a": 1, "s": [{"name": "x", "t": 1}, {"name": "y", "t": 1}], "l": [1], "o": {"p": 1}});
        let after = json!({"a": 2, "s": [{"name": "y", "t": 2}, {"name": "z", "t": 1}], "l": [1, 2], "q": {"r": 1}});
        let found: Vec<_> = between(&before, &after).iter().map(FieldChange::name).collect();
        assert_eq!(found, ["a", "l", "o.p", "s[x]", "s[y].t", "s[z]", "q.r"]);
        assert!(between(&before, &before).is_empty());
        let order =
            between(&json!({"s": [{"name": "x"}, {"name": "y"}]}), &json!({"s": [{"name": "y"}, {"name": "x"}]}));
        assert_eq!(order.iter().map(FieldChange::name).collect::<Vec<_>>(), ["s"]);
    }

    #[test]
    fn every_change_alone_and_all_together_lead_from_one_to_the_other() {
        let before = json!({"a": 1, "s": [{"name": "x", "t": 1}, {"name": "y", "t": 1}], "o": {"p": 1}});
        let after = json!({"a": 2, "s": [{"name": "x", "t": 3}, {"name": "z", "t": 1}], "q": {"r": 1}});
        let mut now = before.clone();
        for change in between(&before, &after) {
            assert_ne!(change.alone_in(&before), before, "{}", change.name());
            now = change.alone_in(&now);
        }
        assert_eq!(between(&now, &after).iter().map(FieldChange::name).collect::<Vec<_>>(), ["o"]);
    }
}
