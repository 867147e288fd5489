//! Whether an object still has everything that was applied. Pure.

use serde_json::{Map, Value};

use data_platform_crds::amount::billionths;

/// By which field the elements of a list are told apart, in the order in which they are tried: those of Kubernetes'
/// own list types, as far as the operator applies such lists.
const KEYS: [&str; 4] = ["mountPath", "name", "uid", "containerPort"];

/// Whether `live` has everything that `desired` has. What the API server or others added beside it is theirs; lists of
/// named elements may hold others between; quantities are compared as amounts (`1000m` is `1`).
pub fn covers(live: &Value, desired: &Value) -> bool {
    compare(live, desired, false)
}

/// `amounts`: below resource requirements, where every leaf is a quantity.
fn compare(live: &Value, desired: &Value, amounts: bool) -> bool {
    match (live, desired) {
        (_, Value::Null) => true,
        (Value::Null, Value::Object(fields)) => fields.is_empty(),
        (Value::Null, Value::Array(elements)) => elements.is_empty(),
        // The API server drops `false` and 0 where they are the default.
        (Value::Null, Value::Bool(false)) => true,
        (Value::Object(live), Value::Object(desired)) => fields(live, desired, amounts),
        (Value::Array(live), Value::Array(desired)) => elements(live, desired, amounts),
        _ if live == desired => true,
        _ if amounts => quantity(live).is_some_and(|amount| Some(amount) == quantity(desired)),
        _ => false,
    }
}

fn fields(live: &Map<String, Value>, desired: &Map<String, Value>, amounts: bool) -> bool {
    desired.iter().all(|(name, value)| {
        let amounts = amounts || matches!(name.as_str(), "limits" | "requests" | "sizeLimit");
        compare(live.get(name).unwrap_or(&Value::Null), value, amounts)
    })
}

fn elements(live: &[Value], desired: &[Value], amounts: bool) -> bool {
    let key =
        KEYS.into_iter().find(|key| !desired.is_empty() && desired.iter().all(|element| element[*key].is_string()));
    match key {
        Some(key) => desired.iter().all(|element| {
            let same = live.iter().find(|other| other[key] == element[key]);
            same.is_some_and(|other| compare(other, element, amounts))
        }),
        None => {
            live.len() == desired.len()
                && live.iter().zip(desired).all(|(live, desired)| compare(live, desired, amounts))
        }
    }
}

/// A quantity in billionths. `None`: not one.
fn quantity(value: &Value) -> Option<u128> {
    match value {
        Value::String(text) => billionths(text),
        Value::Number(number) => billionths(&number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_added_is_theirs_and_what_is_ours_must_stand() {
        for (live, desired, expected) in [
            (json!({"a": 1, "b": 2}), json!({"a": 1}), true),
            (json!({"a": 2}), json!({"a": 1}), false),
            (json!({}), json!({"a": 1}), false),
            (json!({}), json!({"a": {}, "b": [], "c": null, "d": false}), true),
            (json!({"d": true}), json!({"d": false}), false),
            (json!([{"name": "x", "v": 1}, {"name": "y"}]), json!([{"name": "y"}]), true),
            (json!([{"name": "x", "v": 1}]), json!([{"name": "x", "v": 2}]), false),
            (json!([{"name": "x"}]), json!([{"name": "y"}]), false),
            (json!(["a", "b"]), json!(["a"]), false),
            (json!(["a"]), json!(["a"]), true),
        ] {
            assert_eq!(covers(&live, &desired), expected, "{live} {desired}");
        }
    }

    #[test]
    fn quantities_are_compared_as_amounts() {
        for (live, desired, expected) in [
            (json!("1"), json!("1000m"), true),
            (json!("500m"), json!("0.5"), true),
            (json!("1Gi"), json!("1024Mi"), true),
            (json!("1G"), json!("1Gi"), false),
            (json!("1e3"), json!("1k"), true),
            (json!(2), json!("2"), true),
            (json!("many"), json!("more"), false),
        ] {
            assert_eq!(
                covers(&json!({"limits": {"x": live}}), &json!({"limits": {"x": desired}})),
                expected,
                "{live} {desired}"
            );
        }
        assert!(!covers(&json!({"env": "1"}), &json!({"env": "1000m"})), "elsewhere a text is a text");
    }
}
