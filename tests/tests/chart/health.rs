//! The health scripts for Argo CD on their fixtures, in a plain Lua.

use std::fs;
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use super::{needs, output_of, repository};

/// A value as Lua writes it.
fn lua_value(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Array(items) => format!("{{{}}}", items.iter().map(lua_value).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| format!("[{}] = {}", lua_value(&name.as_str().into()), lua_value(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        // JSON's escapes of what the fixtures have (quotes, line feeds) are Lua's, too.
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

#[test]
fn argo_cd_shows_what_the_conditions_say() -> anyhow::Result<()> {
    let lua = needs!(lua);
    let folder = repository().join("deploy/argocd");
    for kind in ["StreamingJob", "BatchJob"] {
        let scripts = folder.join("dataplatform.io").join(kind);
        let listed: Value = serde_saphyr::from_str(&fs::read_to_string(scripts.join("health_test.yaml"))?)?;
        let mut fixtures = Vec::new();
        for test in listed["tests"].as_array().context("tests")? {
            let path = test["inputPath"].as_str().context("a path")?;
            let object: Value = serde_saphyr::from_str(&fs::read_to_string(scripts.join(path))?)?;
            assert_eq!(object["kind"], kind, "{path}");
            let health = &test["healthStatus"];
            fixtures.push(serde_json::json!({
                "name": path, "object": object, "status": health["status"], "message": health["message"],
            }));
        }
        assert!(fixtures.len() >= 6);
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), format!("return {}", lua_value(&Value::Array(fixtures))))?;
        output_of(Command::new(&lua).arg(folder.join("check.lua")).arg(scripts.join("health.lua")).arg(file.path()))?;
    }
    Ok(())
}
