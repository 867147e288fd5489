//! `compose.yaml`: what it says fits the Compose Specification, its configurations are read by whoever reads them, its commands do
//! what they should without a container, and the image's root file system needs nothing beside it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use data_platform_tests::{Broker, Ended, JobFolders, Pages, Runner, environment, needs_broker, or_skip, skip};
use rustix::process::Signal;
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(90);

fn repository() -> std::path::PathBuf {
    environment::tests_folder().parent().map(Path::to_owned).unwrap_or_default()
}

/// The file, with what is written once and named again in place.
fn compose() -> anyhow::Result<Value> {
    let text = fs::read_to_string(repository().join("compose.yaml")).context("read compose.yaml")?;
    Ok(serde_saphyr::from_str(&text)?)
}

/// The words of a list of the file.
fn words(list: &Value) -> anyhow::Result<Vec<String>> {
    let words = list.as_array().context("a list of words")?.iter();
    words.map(|word| word.as_str().map(str::to_owned).context("a word")).collect()
}

/// A text of the file with what it means outside of containers.
fn here(text: &str, folders: &JobFolders, broker: &Broker) -> String {
    text.replace("kafka:9092", broker.address()).replace("/data/", &format!("{}/", folders.root().display()))
}

#[test]
fn it_fits_the_specification_and_each_service_has_what_it_names() -> anyhow::Result<()> {
    let python = or_skip!(environment::python().ok_or("no Python; `make test` gets it"));
    let compose = compose()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("compose.json");
    fs::write(&file, compose.to_string())?;
    let checker = environment::tests_folder().join("compose");
    let check = |file: &Path| {
        Command::new(&python).arg(checker.join("check.py")).arg(checker.join("compose-spec.json")).arg(file).output()
    };
    let checked = check(&file)?;
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()));
    // And a mistake is one.
    let mut wrong = compose.clone();
    wrong["services"]["kafka"]["portz"] = "29092".into();
    fs::write(&file, wrong.to_string())?;
    ensure!(!check(&file)?.status.success());

    let services = compose["services"].as_object().context("services")?;
    for (name, service) in services {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().and_then(|volume| volume.split(':').next()).context("a volume")?;
            let is_there = match source.strip_prefix("./") {
                Some(path) => repository().join(path).exists(),
                None => compose["volumes"].get(source).is_some(),
            };
            ensure!(is_there, "{name}: the volume {source}");
        }
        for config in service["configs"].as_array().into_iter().flatten() {
            let source = config["source"].as_str().context("a configuration")?;
            ensure!(compose["configs"][source]["content"].is_string(), "{name}: the configuration {source}");
        }
        let needed = service["depends_on"].as_object().map(|needed| needed.keys().cloned().collect::<Vec<_>>());
        for other in needed.into_iter().flatten() {
            ensure!(services.contains_key(&other), "{name} depends on {other}");
            ensure!(
                services[&other]["healthcheck"].is_object(),
                "{name} waits for {other}, which never says that it is well"
            );
        }
        if let Some(file) = service["build"]["dockerfile"].as_str() {
            ensure!(repository().join(file).exists(), "{name}: {file}");
        }
    }
    Ok(())
}

#[test]
fn prometheus_reads_its_configuration_and_grafana_finds_the_dashboards() -> anyhow::Result<()> {
    let compose = compose()?;
    let content = |name: &str| compose["configs"][name]["content"].as_str().context("a configuration");
    let providers: Value = serde_saphyr::from_str(content("dashboards")?)?;
    let path = providers["providers"][0]["options"]["path"].as_str().context("a path")?;
    let mounts = words(&compose["services"]["grafana"]["volumes"])?;
    let mounted = mounts.iter().find_map(|mount| mount.strip_suffix(":ro")?.strip_suffix(&format!(":{path}")));
    let folder = repository().join(mounted.context("the dashboards are mounted where they are looked for")?);
    let dashboards = fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let dashboards: Vec<_> =
        dashboards.filter(|file| file.extension().is_some_and(|ending| ending == "json")).collect();
    ensure!(dashboards.len() >= 3, "{dashboards:?}");
    let sources: Value = serde_saphyr::from_str(content("datasource")?)?;
    ensure!(sources["datasources"][0]["url"] == "http://prometheus:9090", "{sources}");

    let promtool = or_skip!(environment::promtool().ok_or("no promtool; `make test` gets it"));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("prometheus.yml");
    fs::write(&file, content("prometheus")?)?;
    let checked = Command::new(promtool).args(["check", "config"]).arg(&file).output()?;
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()));
    Ok(())
}

#[test]
fn its_commands_do_without_containers_what_they_do_in_them() -> anyhow::Result<()> {
    needs_broker!();
    let broker = Broker::private(&[])?;
    let compose = compose()?;
    let folders = JobFolders::new()?;
    let arguments = |service: &str, field: &str| -> anyhow::Result<Vec<String>> {
        let words = words(&compose["services"][service][field])?;
        Ok(words.iter().map(|word| here(word, &folders, &broker)).collect())
    };
    let with_variables = |service: &str, mut command: data_platform_tests::process::RunnerCommand| {
        for (name, value) in compose["services"][service]["environment"].as_object().into_iter().flatten() {
            command = command.env(name, here(value.as_str().unwrap_or_default(), &folders, &broker));
        }
        command
    };
    let platform = with_variables("platform", Runner::command(arguments("platform", "command")?));
    let mut platform = platform.env("HTTP_ADDRESS", "127.0.0.1:0").env("LOG_FORMAT", "json").start()?;
    let pages = Pages::of(&mut platform)?;
    platform.wait_for("metrics of all jobs", TIMEOUT, |_| {
        let page = pages.get("/metrics").ok()?.body;
        let jobs = ["event-aggregation", "clickstream-analysis", "cdc-transformation"];
        jobs.iter().all(|job| page.contains(&format!("job=\"{job}\""))).then_some(())
    })?;
    // Jobs begin with what comes from then on.
    let events = Runner::command(arguments("events", "command")?).start()?;
    let table = folders.root().join("outputs/cdc_transformed");
    platform.wait_for("rows of a job", TIMEOUT, |_| has_file(&table).then_some(()))?;
    drop(events);
    platform.signal(Signal::TERM)?;
    ensure!(platform.wait(TIMEOUT)? == Ended::Code(0), "{}", platform.last_lines());
    ensure!(folders.root().join("logs").is_dir(), "each job has its log file");

    let mut query = arguments("query", "entrypoint")?;
    ensure!(query.remove(0) == "/usr/local/bin/data-platform", "the program of the image");
    let query = with_variables("query", Runner::command(query));
    let (ended, query) = query.arg("SELECT count(*) AS changes FROM cdc_transformed").run(TIMEOUT)?;
    ensure!(ended == Ended::Code(0) && query.stdout().contains("changes"), "{}", query.last_lines());
    Ok(())
}

fn has_file(folder: &Path) -> bool {
    let mut entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|entry| entry.path().extension().is_some_and(|ending| ending == "parquet") || has_file(&entry.path()))
}

/// A job runs with nothing but the files of the image and a folder for its data.
#[test]
fn the_root_file_system_of_the_image_needs_nothing_else() -> anyhow::Result<()> {
    let broker = needs_broker!();
    let root = tempfile::tempdir()?;
    let unshare = |arguments: &[&str]| {
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["--user", "--map-root-user", "--mount", "--root"]).arg(root.path()).args(arguments);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin")
            .env("OUTPUTS_DIR", "/data/o")
            .env("CHECKPOINT_DIR", "/data/c");
        command
    };
    let tree = Command::new(repository().join("images/build"))
        .args(["--tree", &root.path().display().to_string(), "runner"])
        .env("CARGO_TARGET_DIR", environment::program("data-platform").ancestors().nth(2).context("the target folder")?)
        .output()?;
    ensure!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    fs::create_dir(root.path().join("data"))?;
    match unshare(&["/usr/local/bin/data-platform", "version"]).output() {
        Ok(said) if said.status.success() => {}
        Ok(said) if String::from_utf8_lossy(&said.stderr).contains("unshare") => {
            skip!("no namespaces here: {}", String::from_utf8_lossy(&said.stderr).trim());
        }
        Ok(said) => anyhow::bail!("{}", String::from_utf8_lossy(&said.stderr)),
        Err(error) => skip!("no unshare (util-linux): {error}"),
    }
    let topic = data_platform_tests::unique_topic("app_events-image");
    let events = ["generate", "--count", "300", "--start", "2026-01-01T00:00:00Z", "--topic"];
    let (ended, runner) = Runner::command(events).arg(&topic).broker(&broker).run(TIMEOUT)?;
    ensure!(ended == Ended::Code(0), "{}", runner.last_lines());
    let set = format!("spec.sources[0].topics[0]={topic}");
    let job = ["run", "event-aggregation", "--drain", "--starting-offsets", "earliest", "--http", "off", "--set", &set];
    let command = [&["/usr/local/bin/data-platform"], &job[..]].concat();
    let ran = unshare(&command).env("KAFKA_BOOTSTRAP_SERVER", broker.address()).output()?;
    ensure!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    ensure!(
        root.path().join("data/o/events_aggregated_realtime").is_dir(),
        "its rows lie in the folder that it was given"
    );
    Ok(())
}
