//! The alerts: `promtool` checks and tests them, each has a page, and the chart puts them into a PrometheusRule.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use super::{chart, needs, objects, output_of, repository};

/// The YAML files of a folder.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}

/// Every alert of the files in `rules/`.
fn alerts() -> anyhow::Result<Vec<Value>> {
    let mut alerts = Vec::new();
    for file in files(&chart().join("rules"))? {
        let rules: Value = serde_saphyr::from_str(&fs::read_to_string(file)?)?;
        for group in rules["groups"].as_array().context("groups")? {
            alerts.extend(group["rules"].as_array().context("rules")?.iter().cloned());
        }
    }
    Ok(alerts)
}

#[test]
fn promtool_finds_no_fault_in_the_rules() -> anyhow::Result<()> {
    let promtool = needs!(promtool);
    output_of(Command::new(promtool).args(["check", "rules"]).args(files(&chart().join("rules"))?))?;
    Ok(())
}

#[test]
fn every_alert_fires_and_ends() -> anyhow::Result<()> {
    let promtool = needs!(promtool);
    let tests = files(&repository().join("tests/rules"))?;
    output_of(Command::new(promtool).args(["test", "rules"]).args(&tests))?;
    let mut text = String::new();
    for file in tests {
        text += &fs::read_to_string(file)?;
    }
    for alert in alerts()? {
        let name = alert["alert"].as_str().context("a name")?;
        assert!(text.contains(name), "no test of {name}");
    }
    Ok(())
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_to_do() -> anyhow::Result<()> {
    let runbooks = repository().join("docs/runbooks");
    let alerts = alerts()?;
    for alert in &alerts {
        let name = alert["alert"].as_str().context("a name")?;
        let severity = alert["labels"]["severity"].as_str();
        assert!(severity.is_some_and(|word| ["warning", "critical"].contains(&word)), "{name}");
        for annotation in ["summary", "description"] {
            assert!(
                alert["annotations"][annotation].as_str().is_some_and(|text| text.len() > 10),
                "{name}: {annotation}"
            );
        }
        let url = alert["annotations"]["runbook_url"].as_str().context("a URL")?;
        assert!(url.ends_with(&format!("/docs/runbooks/{name}.md")), "{name}: {url}");
        let page =
            fs::read_to_string(runbooks.join(format!("{name}.md"))).with_context(|| format!("the page of {name}"))?;
        for part in [&format!("# {name}\n")[..], "**Meaning.**", "**Impact.**", "## Diagnosis", "```sh", "## Cure"] {
            assert!(page.contains(part), "{name}: no {part:?}");
        }
    }
    assert_eq!(files(&runbooks)?.len(), alerts.len(), "a page for each alert, and no other");
    Ok(())
}

#[test]
fn the_chart_takes_every_alert_but_those_that_are_turned_off() -> anyhow::Result<()> {
    let helm = needs!(helm);
    let objects = objects(&helm, "everything")?;
    let rule = objects.iter().find(|object| object["kind"] == "PrometheusRule").context("a PrometheusRule")?;
    let groups = rule["spec"]["groups"].as_array().context("groups")?;
    let found: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten()).collect();
    let off = "StreamingJobDeadLetters";
    for alert in alerts()? {
        let same = found.iter().find(|rule| rule["alert"] == alert["alert"]);
        let Some(rule) = same else {
            assert_eq!(alert["alert"], off);
            continue;
        };
        assert_eq!((&rule["expr"], &rule["for"]), (&alert["expr"], &alert["for"]), "{}", alert["alert"]);
        assert_eq!(rule["labels"]["severity"], alert["labels"]["severity"]);
        assert_eq!(rule["labels"]["team"], "data");
        let page = format!("https://runbooks.example.org/{}.md", alert["alert"].as_str().unwrap_or_default());
        assert_eq!(rule["annotations"]["runbook_url"], page);
    }
    assert!(found.iter().all(|rule| rule["alert"] != off));
    Ok(())
}
