//! The guides: their resources are valid, and their commands work as they are printed, over a job that has run.
//!
//! Commands of a cluster (`kubectl`, `helm`) are not run here, but on the cluster (`cluster/operations.rs`, `cluster/guide.rs`).

mod pyspark;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use data_platform_tests::cluster::repository;
use data_platform_tests::{
    Broker, Ended, JobFolders, Record, Runner, environment, needs_broker, python_reader, skip, unique_topic,
};
use rustix::process::Signal;
use serde_json::Value;

use crate::events::TIMEOUT;
use crate::sources::numbers;

/// The pages below docs/guides, by their names.
pub(crate) fn guides() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut folders = vec![environment::tests_folder().join("../docs/guides")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path)?;
                found.push((path, text));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The fenced blocks of a language.
pub(crate) fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("\n```{language}\n");
    text.split(&begin).skip(1).filter_map(|rest| rest.split("\n```").next()).collect()
}

#[test]
fn every_resource_of_a_guide_is_valid() -> anyhow::Result<()> {
    let folders = JobFolders::new()?;
    let mut resources = 0;
    for (path, text) in guides()? {
        for block in blocks(&text, "yaml").into_iter().filter(|block| block.starts_with("apiVersion:")) {
            let file = folders.root().join("resource.yaml");
            fs::write(&file, block)?;
            let (ended, runner) = Runner::command(["validate", "-f"]).arg(&file).folders(&folders).run(TIMEOUT)?;
            ensure!(ended == Ended::Code(0), "{}: {}", path.display(), runner.last_lines());
            resources += 1;
        }
    }
    ensure!(resources >= 2, "only {resources} resources in all guides");
    Ok(())
}

/// The pages of the repository, by their paths.
fn pages() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let root = repository();
    let mut found = Vec::new();
    let mut folders = vec![root.join("docs"), root.join("helm")];
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "STYLE.md", "CHANGELOG.md"] {
        found.push((root.join(page), fs::read_to_string(root.join(page))?));
    }
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path)?;
                found.push((path, text));
            }
        }
    }
    Ok(found)
}

/// Links of a page, each with its place in a page.
fn links(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let prose = text.split("```").step_by(2).flat_map(|prose| prose.split("](").skip(1));
    let targets = prose.filter_map(|rest| rest.split([')', ' ']).next());
    targets.filter(|target| !target.contains("://")).map(|target| target.split_once('#').unwrap_or((target, "")))
}

/// What a heading is called in a link.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_of_a_page_leads_somewhere() -> anyhow::Result<()> {
    let mut followed = 0;
    for (path, text) in pages()? {
        let here = path.parent().context("a page lies in a folder")?;
        for (place, part) in links(&text) {
            let target = if place.is_empty() { path.clone() } else { here.join(place) };
            ensure!(target.exists(), "{}: {place} leads nowhere", path.display());
            if !part.is_empty() {
                let text = fs::read_to_string(&target)?;
                let mut headings =
                    text.lines().filter_map(|line| Some(anchor(line.strip_prefix('#')?.trim_start_matches('#'))));
                ensure!(headings.any(|heading| heading == part), "{}: {place} has no part {part}", path.display());
            }
            followed += 1;
        }
    }
    ensure!(followed > 100, "only {followed} links in all pages");
    Ok(())
}

#[test]
fn every_page_is_in_the_list_of_pages() -> anyhow::Result<()> {
    let docs = repository().join("docs");
    let list = fs::read_to_string(docs.join("README.md"))?;
    let listed: Vec<_> = links(&list).map(|(place, _)| docs.join(place)).collect();
    for (path, _) in pages()?.iter().filter(|(path, _)| path.starts_with(&docs)) {
        let is_listed =
            listed.iter().any(|listed| path == listed || (listed.is_dir() && path.parent() == Some(listed)));
        ensure!(is_listed || path.ends_with("docs/README.md"), "{} is not in docs/README.md", path.display());
    }
    Ok(())
}

/// A folder with outputs and checkpoints of event-aggregation, over 20,000 events of which some are bad.
fn world(broker: &Broker) -> anyhow::Result<JobFolders> {
    let folders = JobFolders::new()?;
    // Of the last half hour: other tests write to the topic of the built-in job, too, and at the present time.
    let events = "data-platform generate --topic topic_app_events --count 20000 --rate 0 --messy 0.02 \
                  --start \"$(date -u -d '-30 minutes' +%FT%TZ)\" --span 1700";
    // Several micro-batches: a log with something to lose.
    let job = "data-platform run event-aggregation --drain --starting-offsets earliest --set spec.kafka.maxOffsetsPerTrigger=2500";
    for line in [events, job] {
        let (code, said) = shell(line, &folders, broker)?;
        ensure!(code == 0, "{line}: {said}");
    }
    Ok(folders)
}

/// Runs a line as a person would, in the job's root, with `data-platform` on the path; gives exit code and what was said.
fn shell(line: &str, folders: &JobFolders, broker: &Broker) -> anyhow::Result<(i32, String)> {
    let program = environment::program("data-platform");
    let programs = program.parent().context("a program lies in a folder")?.display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    command.arg("-c").arg(line).current_dir(folders.root()).env("PATH", path);
    for name in ["OUTPUTS_DIR", "CHECKPOINT_DIR", "LOG_LEVEL"] {
        command.env_remove(name);
    }
    command.env("HTTP_ADDRESS", "127.0.0.1:0").env("KAFKA_BOOTSTRAP_SERVER", broker.address());
    let output = command.output().with_context(|| format!("run {line}"))?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok((output.status.code().context("it was killed")?, said))
}

/// What a page needs to be true before its commands make sense.
fn prepare(page: &str, folders: &JobFolders) -> anyhow::Result<()> {
    match page {
        "corrupt-checkpoint.md" => damage(&folders.checkpoints().join("local/event-aggregation/log")),
        "migrate-from-pyspark.md" => new_job(folders).map(drop),
        _ => Ok(()),
    }
}

/// The job of the page about PySpark, as a file.
fn new_job(folders: &JobFolders) -> anyhow::Result<PathBuf> {
    let page = environment::tests_folder().join("../docs/guides/migrate-from-pyspark.md");
    let text = fs::read_to_string(page)?;
    let job = blocks(&text, "yaml").into_iter().next().context("its job")?.to_owned();
    let file = folders.root().join("events-aggregated.yaml");
    fs::write(&file, job).context("write the job")?;
    Ok(file)
}

/// Cuts the newest commit of a log short.
fn damage(log: &Path) -> anyhow::Result<()> {
    let mut records: Vec<_> = fs::read_dir(log)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    records.sort();
    let is_commit = |path: &&PathBuf| fs::read_to_string(path).is_ok_and(|text| text.contains("{\"commit\":"));
    let newest = records.iter().rev().find(is_commit).context("a commit")?;
    let bytes = fs::read(newest)?;
    fs::write(newest, &bytes[..bytes.len() / 2]).context("damage a record")
}

/// One line of a page: run, asked of the job that runs, or left to the tests on the cluster.
fn follow(line: &str, folders: &JobFolders, broker: &Broker, running: &Runner) -> anyhow::Result<()> {
    if let Some(path) = line.strip_prefix("curl -s localhost:9999") {
        let (code, body) = numbers::page(running, path).with_context(|| format!("{line}: no answer"))?;
        ensure!(code == 200 && !body.is_empty(), "{line}: {code} {body}");
        return Ok(());
    }
    if line.starts_with("kubectl ") || line.starts_with("helm ") {
        return Ok(());
    }
    let expected = i32::from(line.contains("# ends with 1"));
    let (code, said) = shell(line, folders, broker)?;
    ensure!(code == expected, "{line}: exit code {code}, expected {expected}: {said}");
    Ok(())
}

/// The questions of the page about analytics: their rows are those that DuckDB gives for the same text.
fn compare_analyses(page: &str, folders: &JobFolders) -> anyhow::Result<()> {
    const TABLE: &str = "events_aggregated_realtime";
    let mut compared = 0;
    for line in blocks(page, "sh").into_iter().flat_map(str::lines) {
        let Some(sql) = line.split('"').nth(1).filter(|sql| sql.contains(TABLE) && !sql.starts_with("EXPLAIN")) else {
            continue;
        };
        let query = Runner::command(["query", sql, "--format", "json"]).folders(folders);
        let (ended, runner) = query.run(TIMEOUT)?;
        ensure!(ended == Ended::Code(0), "{sql}: {}", runner.last_lines());
        // A time as DuckDB writes it.
        let plain = |value: &Value| match value.as_str() {
            Some(text) if text.len() >= 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T' => {
                Value::from(text[..19].replace('T', " "))
            }
            _ => value.clone(),
        };
        let known = |row: BTreeMap<String, Value>| -> BTreeMap<String, Value> {
            let known = row.into_iter().filter(|(_, value)| !value.is_null());
            known.map(|(name, value)| (name, plain(&value))).collect()
        };
        let row = |line: &str| Ok(known(serde_json::from_str(line)?));
        let stdout = runner.stdout();
        let ours = stdout.lines().map(row).collect::<anyhow::Result<Vec<_>>>()?;
        let table = folders.outputs().join(TABLE).into_os_string();
        let theirs = python_reader("ask.py", [table, TABLE.into(), sql.into()])?.expect_success()?;
        let theirs: Vec<BTreeMap<String, Value>> = serde_json::from_value(theirs["rows"].clone())?;
        let theirs: Vec<_> = theirs.into_iter().map(known).collect();
        ensure!(!ours.is_empty() && ours == theirs, "{sql}:\n{ours:?}\nDuckDB:\n{theirs:?}");
        if sql.contains("then_bought") {
            let steps = ["viewed", "then_clicked", "then_bought"].map(|step| ours[0][step].as_i64());
            ensure!(steps[0] > steps[1] && steps[1] > steps[2] && steps[2] > Some(0), "{ours:?}");
        }
        compared += 1;
    }
    ensure!(compared >= 5, "only {compared} questions");
    Ok(())
}

#[test]
fn every_command_of_a_guide_works_as_it_is_printed() -> anyhow::Result<()> {
    let broker = needs_broker!();
    let made = world(&broker)?;
    let job = ["run", "event-aggregation", "--http", "127.0.0.1:0"];
    let other = JobFolders::new()?;
    let mut running = Runner::command(job).env("LOG_LEVEL", "debug").broker(&broker).folders(&other).start()?;
    running.wait_for("its pages", TIMEOUT, |runner| numbers::page(runner, "/status"))?;
    let mut followed = 0;
    for (path, text) in guides()? {
        let page = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // It has a test of its own.
        if page == "add-a-streaming-job.md" {
            continue;
        }
        let folders = JobFolders::new()?;
        for folder in [made.outputs(), made.checkpoints()] {
            let copied = Command::new("cp").arg("-a").arg(&folder).arg(folders.root()).status()?;
            ensure!(copied.success(), "copy {}", folder.display());
        }
        prepare(&page, &folders)?;
        for line in blocks(&text, "sh").into_iter().flat_map(str::lines).filter(|line| !line.is_empty()) {
            follow(line, &folders, &broker, &running).with_context(|| page.clone())?;
            followed += 1;
        }
        if page == "analytics.md" {
            compare_analyses(&text, &folders).with_context(|| page.clone())?;
        }
    }
    ensure!(followed > 30, "only {followed} commands in all guides");
    running.signal(Signal::TERM)?;
    if running.wait(TIMEOUT)? != Ended::Code(0) {
        bail!("{}", running.last_lines());
    }
    Ok(())
}

#[test]
fn the_old_job_on_spark_and_the_new_one_give_the_same_rows() -> anyhow::Result<()> {
    let broker = needs_broker!();
    if !environment::is_soak() {
        skip!("PySpark takes 530 MB; make soak has it");
    }
    let folders = JobFolders::new()?;
    let topic = unique_topic("spark-app_events");
    // Spark's watermark is over all partitions: with one of them both mean the same.
    broker.create_topic(&topic, 1, &[])?;
    let generate = ["generate", "--stdout", "--count", "5000", "--users", "50", "--start", "2026-02-16T14:00:00Z"];
    let (_, events) = Runner::command(generate).arg("--span").arg("900").folders(&folders).run(TIMEOUT)?;
    let values = events.stdout();
    let records = folders.root().join("records");
    fs::create_dir(&records)?;
    fs::write(records.join("values.txt"), &values)?;
    broker.produce(&topic, values.lines().map(Record::new))?;
    let job = Runner::command(["run", "--test-mode", "--http", "off", "-f"]).arg(new_job(&folders)?);
    let job = job.arg("--set").arg(format!("spec.sources[0].topics[0]={topic}")).broker(&broker).folders(&folders);
    let (ended, runner) = job.run(TIMEOUT)?;
    ensure!(ended == Ended::Code(0), "{}", runner.last_lines());
    python_reader("spark_job.py", [folders.root()])?.expect_success().map(drop)
}
