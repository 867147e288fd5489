//! What is made from something else is up to date: CRDs, dashboards and table of values in the chart, install.yaml.

use std::process::Command;

use data_platform_tests::environment;

use super::{needs, objects, output_of, repository};

#[test]
fn definitions_dashboards_and_the_table_of_values_are_up_to_date() -> anyhow::Result<()> {
    let python = needs!(python);
    output_of(Command::new(python).arg(repository().join("helm/sync")).arg("--check"))?;
    Ok(())
}

#[test]
fn install_yaml_is_up_to_date() -> anyhow::Result<()> {
    let (helm, python) = (needs!(helm), needs!(python));
    let script = repository().join("helm/install-yaml");
    output_of(Command::new(python).arg(script).arg("--check").env("DATA_PLATFORM_TEST_HELM", helm))?;
    Ok(())
}

/// Without a Prometheus: their form, and that every metric in them is one of ours.
#[test]
fn dashboards_have_the_right_form_and_name_metrics_that_exist() -> anyhow::Result<()> {
    let python = needs!(python);
    let script = environment::tests_folder().join("dashboards/check.py");
    output_of(Command::new(python).arg(script).env("PYTHONDONTWRITEBYTECODE", "1"))?;
    Ok(())
}

/// Helm must not take Grafana's braces for its own.
#[test]
fn dashboards_arrive_unchanged() -> anyhow::Result<()> {
    let helm = needs!(helm);
    let mut checked = 0;
    for object in objects(&helm, "everything")? {
        for (file, text) in object["data"].as_object().into_iter().flatten() {
            let Some(name) = file.strip_prefix("data-platform-") else { continue };
            let path = repository().join("helm/data-platform/dashboards").join(name);
            let expected: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
            let found: serde_json::Value = serde_json::from_str(text.as_str().unwrap_or_default())?;
            assert_eq!(found, expected, "{file}");
            assert_eq!(object["metadata"]["labels"]["grafana_dashboard"], "1");
            checked += 1;
        }
    }
    assert_eq!(checked, 3);
    Ok(())
}
