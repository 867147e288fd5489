//! What ARCHITECTURE.md says of the source code: which module stands above which, who reads the clock, who touches files,
//! and how long a file may be. Reads text, and runs nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The longest file of the product, in lines: what a reader still takes in.
const LINES_MAX: usize = 750;

/// Files of the runner that read or write files of their own accord, with the reason.
const TOUCH_FILES: [(&str, &str); 12] = [
    ("storage", "checkpoints and outputs"),
    ("delta/footer", "the end of a file of a Delta table"),
    ("tables", "tables that queries read"),
    ("sink/footer", "the end of a published file"),
    ("source/reference", "references"),
    ("source/kafka/config", "secrets"),
    ("config", "the job"),
    ("commands", "what the command line names"),
    ("source/schemas", "schemas of values"),
    ("pipeline/memory", "/proc"),
    ("telemetry", "the log file"),
    ("generate", "what the command line names"),
];

/// A source file without its comments and without the tests at its end.
struct Source {
    /// Path below `src`, without `.rs`.
    name: String,
    text: String,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a crate that are part of the product.
fn sources(crate_name: &str) -> Result<Vec<Source>> {
    let root = repository().join(crate_name).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root)?.with_extension("").to_string_lossy().into_owned();
                let is_test = |part: &str| matches!(part, "tests" | "simulation" | "model" | "fixture" | "fixtures");
                if !name.split('/').any(is_test) {
                    sources.push(Source { name, text: product_of(&fs::read_to_string(&path)?) });
                }
            }
        }
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(sources.len() > 20, "{crate_name} has {} files", sources.len());
    Ok(sources)
}

fn product_of(text: &str) -> String {
    let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    product.lines().filter(is_code).collect::<Vec<_>>().join("\n")
}

/// The modules of a crate by floor, lowest first, as ARCHITECTURE.md draws them.
fn floors(crate_name: &str) -> Result<BTreeMap<String, usize>> {
    let page = fs::read_to_string(repository().join("ARCHITECTURE.md"))?;
    let drawn = page.split("## Floors").nth(1).and_then(|rest| rest.split("\n## ").next()).context("no floors")?;
    let prefix = format!("{crate_name}  ");
    let line = drawn.lines().find(|line| line.starts_with(&prefix)).with_context(|| format!("no {crate_name}"))?;
    let floors = line[prefix.len()..].split('|').enumerate();
    Ok(floors.flat_map(|(floor, names)| names.split_whitespace().map(move |name| (name.to_owned(), floor))).collect())
}

/// The modules of its own crate that a text names, `use crate::{…}` included.
fn named_modules(text: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut named = Vec::new();
    for rest in text.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => named.push(word(rest)),
            Some(list) => {
                let list = list.split(';').next().unwrap_or_default();
                let mut depth = 0;
                for (index, c) in list.char_indices() {
                    let begins = index == 0 || matches!(list.as_bytes()[index - 1], b',' | b' ' | b'\n');
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        c if begins && depth == 0 && c.is_alphabetic() => named.push(word(&list[index..])),
                        _ => {}
                    }
                }
            }
        }
    }
    named
}

fn imports_that_point_up(crate_name: &str) -> Result<Vec<String>> {
    let floors = floors(crate_name)?;
    let mut wrong = Vec::new();
    for source in sources(crate_name)? {
        let module = source.name.split('/').next().unwrap_or_default().to_owned();
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        let Some(floor) = floors.get(&module) else {
            wrong.push(format!("{crate_name}/{module} stands on no floor"));
            continue;
        };
        for named in named_modules(&source.text).iter().filter(|named| **named != module) {
            if floors.get(named).is_some_and(|other| other >= floor) {
                wrong.push(format!("{crate_name}/{} names {named}, which does not stand below {module}", source.name));
            }
        }
    }
    wrong.dedup();
    Ok(wrong)
}

/// Files outside `allowed` whose text has one of these words.
fn files_with(crate_name: &str, words: &[&str], allowed: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for source in sources(crate_name)?.iter().filter(|source| !allowed(&source.name)) {
        for word in words.iter().filter(|word| source.text.contains(**word)) {
            found.push(format!("{crate_name}/{}: {word}", source.name));
        }
    }
    Ok(found)
}

#[test]
fn no_module_imports_from_above() -> Result<()> {
    let wrong = [imports_that_point_up("runner")?, imports_that_point_up("operator")?].concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn only_the_clock_reads_the_time() -> Result<()> {
    let words =
        ["Instant::now", "SystemTime::now", "Utc::now", "Local::now", "Timestamp::now", "Zoned::now", ".elapsed()"];
    let is_clock = |name: &str| name == "clock";
    let found = [files_with("runner", &words, &is_clock)?, files_with("operator", &words, &is_clock)?].concat();
    let found = [found, files_with("crds", &words, &|_| false)?].concat();
    assert!(found.is_empty(), "{}", found.join("\n"));
    Ok(())
}

#[test]
fn only_named_modules_touch_files() -> Result<()> {
    let words = ["std::fs", "fs::read", "fs::write", "File::open", "OpenOptions"];
    let is_named = |name: &str| {
        TOUCH_FILES
            .iter()
            .any(|(named, _)| name.strip_prefix(named).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    let found = [
        files_with("runner", &words, &is_named)?,
        files_with("operator", &words, &|_| false)?,
        files_with("crds", &words, &|name| name.starts_with("bin/"))?,
    ]
    .concat();
    assert!(found.is_empty(), "{}", found.join("\n"));
    Ok(())
}

#[test]
fn no_file_is_too_long_to_read() -> Result<()> {
    let mut found = Vec::new();
    for crate_name in ["crds", "operator", "runner"] {
        for source in sources(crate_name)? {
            let path = repository().join(crate_name).join("src").join(format!("{}.rs", source.name));
            let lines = fs::read_to_string(&path)?.lines().count();
            if lines > LINES_MAX {
                found.push(format!("{crate_name}/{}: {lines} lines", source.name));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    Ok(())
}

#[test]
fn the_tests_see_what_they_look_for() {
    assert_eq!(
        named_modules("use crate::clock::Clock;\nuse crate::{a, b::{c, d}};\nx(crate::e::f)"),
        ["clock", "a", "b", "e"]
    );
    let product = product_of("// Instant::now\nfn f() {}\n#[cfg(test)]\nmod tests {\n    Instant::now();\n}\n");
    assert_eq!(product, "fn f() {}");
}
