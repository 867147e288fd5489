//! The golden list of rights: `charts/rights.txt` says every right that the chart gives, and to whom.
//!
//! `UPDATE_GOLDEN=1` writes it; a person reads the difference.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use data_platform_tests::environment;
use serde_json::Value;

use super::{needs, objects, sets_of_values};

fn words(list: &Value) -> String {
    let words = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    words.map(|word| if word.is_empty() { "core" } else { word }).collect::<Vec<_>>().join(",")
}

/// One line for each rule: the object, groups, resources, names, verbs.
fn rights(objects: &[Value]) -> String {
    let mut subjects: BTreeMap<String, String> = BTreeMap::new();
    for binding in objects.iter().filter(|object| object["roleRef"].is_object()) {
        let subject = &binding["subjects"][0];
        assert_eq!(binding["subjects"].as_array().map(Vec::len), Some(1));
        let role = format!(
            "{}{}",
            binding["roleRef"]["kind"],
            [&binding["roleRef"]["name"], &binding["metadata"]["namespace"]].map(Value::to_string).concat()
        );
        subjects
            .insert(role, format!("{} {}/{}", subject["kind"], subject["namespace"], subject["name"]).replace('"', ""));
    }
    let mut text = String::new();
    for role in objects.iter().filter(|object| object["rules"].is_array()) {
        let metadata = &role["metadata"];
        let key = format!("{}{}{}", role["kind"], metadata["name"], metadata["namespace"]);
        let aggregated = metadata["labels"].as_object().into_iter().flatten();
        let aggregated =
            aggregated.filter_map(|(label, _)| label.strip_prefix("rbac.authorization.k8s.io/aggregate-to-"));
        let aggregated = format!("whoever has {}", aggregated.collect::<Vec<_>>().join(", "));
        let to = subjects.get(&key).cloned().unwrap_or(aggregated);
        let place = metadata["namespace"].as_str().map_or(String::new(), |namespace| format!("{namespace}/"));
        writeln!(text, "{} {place}{} to {to}", role["kind"], metadata["name"]).expect("a string takes every text");
        for rule in role["rules"].as_array().into_iter().flatten() {
            let only = rule["resourceNames"].is_array().then(|| format!(" only {}", words(&rule["resourceNames"])));
            let (groups, resources, verbs) =
                (words(&rule["apiGroups"]), words(&rule["resources"]), words(&rule["verbs"]));
            writeln!(text, "  {groups}: {resources}{}: {verbs}", only.unwrap_or_default())
                .expect("a string takes every text");
        }
    }
    text.replace('"', "")
}

#[test]
fn the_rights_are_those_of_the_golden_list() -> anyhow::Result<()> {
    let helm = needs!(helm);
    let mut text =
        "# Every right that the chart gives, for each file in values/. UPDATE_GOLDEN=1 writes this list.\n".to_owned();
    for values in sets_of_values()? {
        write!(text, "\n## {values}\n{}", rights(&objects(&helm, &values)?))?;
    }
    let path = environment::tests_folder().join("charts/rights.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text)?;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "{} is out of date: run with UPDATE_GOLDEN=1 and read the difference:\n{text}",
        path.display()
    );
    Ok(())
}

/// What no list may ever allow, whatever is written into it.
#[test]
fn nobody_may_read_secrets_write_definitions_or_give_rights() -> anyhow::Result<()> {
    let helm = needs!(helm);
    for values in sets_of_values()? {
        for object in objects(&helm, &values)? {
            for rule in object["rules"].as_array().into_iter().flatten() {
                let text = rule.to_string();
                for forbidden in
                    ["secrets", "\"*\"", "customresourcedefinitions", "rbac.authorization", "escalate", "impersonate"]
                {
                    assert!(!text.contains(forbidden), "{values}: {text}");
                }
            }
        }
    }
    Ok(())
}
