//! `compose.yaml`: what it says fits the Compose Specification, its configurations are read by whoever reads them, its commands do
//! what they should without a container, and the image's root file system needs nothing beside it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use data_platform_tests::folders::temporary;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{
    Broker, Ended, JobFolders, Pages, Producer, Record, Runner, environment, needs_broker, or_skip, skip,
};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

const TIMEOUT: Duration = Duration::from_secs(90);
/// What gives a program a root of its own, also without being root.
const UNSHARE: &str = "/usr/bin/unshare";
const APART: [&str; 3] = ["--user", "--map-root-user", "--mount"];

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

/// The port of a text of the file on this machine, where others may have those of the file.
fn with_ports(text: &str, ports: &[u16]) -> String {
    let text = text.replace("kafka:9092", "127.0.0.1:9092");
    // Each number once: the new ones may look like those of the file.
    let parts = text.split(':').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let (number, rest) = part.split_at(digits);
        let new = ["9092", "9093", "29092"].iter().position(|port| *port == number).and_then(|index| ports.get(index));
        new.map_or_else(|| part.to_owned(), |new| format!("{new}{rest}"))
    });
    parts.collect::<Vec<_>>().join(":")
}

/// What the image of Kafka does with its variables is done by Kafka's own program, of a newer version than the image has.
#[test]
fn kafka_starts_with_the_variables_of_its_service_and_its_health_check_tells_whether_it_is_there() -> anyhow::Result<()>
{
    needs_broker!();
    let compose = compose()?;
    let service = &compose["services"]["kafka"];
    let folder = temporary("kafka-")?;
    let ports = environment::free_ports(3)?;
    let log = folder.path().join("log");
    let here = |text: &str| with_ports(text, &ports).replace("/var/lib/kafka/data", &log.display().to_string());
    let variables = service["environment"].as_object().context("variables")?;
    let stands = |text: &str| service["volumes"][0].as_str().is_some_and(|volume| volume.ends_with(text));
    ensure!(variables["KAFKA_LOG_DIRS"].as_str().is_some_and(stands), "its records lie in the volume: {service}");

    // As the start script of the image does it, with the identity that it gives the cluster.
    let mut set_up = Broker::program("kafka.docker.KafkaDockerWrapper")?;
    set_up.arg("setup").env("CLUSTER_ID", "5L6g3nShT-eMCtK--X86sw");
    for (option, name) in
        [("--default-configs-dir", "default"), ("--mounted-configs-dir", "mounted"), ("--final-configs-dir", "final")]
    {
        let configurations = folder.path().join(name);
        fs::create_dir(&configurations)?;
        set_up.arg(option).arg(configurations);
    }
    for (name, value) in variables {
        set_up.env(name, here(value.as_str().with_context(|| format!("{name} is a text"))?));
    }
    let set_up = set_up.output().context("start java")?;
    ensure!(set_up.status.success(), "{}", String::from_utf8_lossy(&[set_up.stdout, set_up.stderr].concat()));
    let properties = folder.path().join("server.properties");
    fs::copy(folder.path().join("final/server.properties"), &properties)?;
    let properties = fs::read_to_string(properties)?;
    fs::write(folder.path().join("addresses"), format!("PLAINTEXT 127.0.0.1:{}\n", ports[0]))?;

    let health = words(&service["healthcheck"]["test"])?;
    ensure!(health[..2] == ["CMD", "/opt/kafka/bin/kafka-broker-api-versions.sh"], "{health:?}");
    let is_healthy = || -> anyhow::Result<(bool, String)> {
        let mut check = Broker::program("org.apache.kafka.tools.BrokerApiVersionsCommand")?;
        let said = check.args(health[2..].iter().map(|word| here(word))).output().context("start java")?;
        Ok((said.status.success(), String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned()))
    };
    ensure!(!is_healthy()?.0, "nobody is there yet");
    let broker = Broker::prepared(folder)?;
    let (is_well, said) = is_healthy()?;
    ensure!(is_well && said.contains("(id: 1 "), "{said}");

    // Each variable is a property that the broker knows.
    let known = broker.settings(1)?;
    let properties: Vec<_> = properties.lines().filter_map(|line| line.split_once('=')).collect();
    ensure!(properties.len() == variables.len(), "{properties:?}");
    for (name, value) in properties {
        ensure!(known.get(name).map(String::as_str) == Some(value), "{name}={value}, and not {:?}", known.get(name));
    }
    // One broker is enough for a transaction and for a group.
    broker.create_topic("changes", 2, &[])?;
    let producer = Producer::new(&broker, &[("transactional.id", "t")])?;
    producer.begin()?;
    producer.send("changes", &Record::new("one"))?;
    producer.commit()?;
    ensure!(broker.count_records("changes")? == 1);
    broker.stop()?;
    ensure!(!is_healthy()?.0, "it is gone");
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
    let with_variables = |service: &str, mut command: RunnerCommand| {
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
    if let Some(program) = environment::prometheus() {
        scrape(&program, &compose, &pages)?;
    }
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

/// Prometheus with the command and the configuration of its service reads the pages, once a second.
fn scrape(program: &Path, compose: &Value, pages: &Pages) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let configuration = compose["configs"]["prometheus"]["content"].as_str().context("its configuration")?;
    let configuration =
        configuration.replace("platform:9999", pages.address()).replace("scrape_interval: 15s", "scrape_interval: 1s");
    ensure!(configuration.contains("interval: 1s") && configuration.contains(pages.address()), "{configuration}");
    fs::write(folder.path().join("prometheus.yml"), configuration)?;
    let place = &compose["services"]["prometheus"]["configs"][0]["target"];
    let place = place.as_str().context("where its configuration lies")?;
    let address = format!("127.0.0.1:{}", environment::free_ports(1)?[0]);
    let words = words(&compose["services"]["prometheus"]["command"])?;
    ensure!(words.iter().any(|word| word.contains(place)), "its command names its configuration: {words:?}");
    let words = words.iter().map(|word| word.replace(place, "prometheus.yml"));
    // As in the image it works in the folder that the volume is mounted at, and keeps everything there.
    let command = Runner::program(program, words).arg(format!("--web.listen-address={address}"));
    let mut prometheus = command.current_dir(folder.path()).start()?;
    let asked = Pages::at(address);
    // The jobs have the labels of the jobs, and none of Prometheus.
    let of_jobs = "count(dataplatform_job_ready%7Bnamespace=%22local%22,job=~%22.%2B%22%7D)";
    for (query, least) in [("up%7Bjob=%22data-platform%22%7D", 1.0), (of_jobs, 7.0)] {
        prometheus.wait_for(&format!("the answer to {query}"), TIMEOUT, |_| {
            let found = asked.get(&format!("/api/v1/query?query={query}")).ok()?.json().ok()?;
            let value: f64 = found["data"]["result"][0]["value"][1].as_str()?.parse().ok()?;
            (value >= least).then_some(())
        })?;
    }
    prometheus.signal(Signal::TERM)?;
    ensure!(prometheus.wait(TIMEOUT)? == Ended::Code(0), "{}", prometheus.last_lines());
    Ok(())
}

fn has_file(folder: &Path) -> bool {
    let mut entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.any(|entry| entry.path().extension().is_some_and(|ending| ending == "parquet") || has_file(&entry.path()))
}

/// The files of an image, and nothing else.
struct Image(TempDir);

impl Image {
    fn of(name: &str) -> anyhow::Result<Self> {
        let root = temporary("image-")?;
        let target = environment::program("data-platform");
        let tree = Command::new(repository().join("images/build"))
            .args(["--tree", &root.path().display().to_string(), name])
            .env("CARGO_TARGET_DIR", target.ancestors().nth(2).context("the target folder")?)
            .output()?;
        ensure!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
        // The place of the volume, which Docker makes.
        fs::create_dir(root.path().join("data"))?;
        Ok(Self(root))
    }

    /// Why no program can have these files alone here; `None`: it can.
    fn is_refused(&self, program: &str) -> anyhow::Result<Option<String>> {
        let tried = Runner::program(Path::new(UNSHARE), APART).arg("--root").arg(self.0.path()).arg(program);
        let Ok(mut tried) = tried.arg("--version").start() else {
            return Ok(Some("no unshare (util-linux)".to_owned()));
        };
        let ended = tried.wait(TIMEOUT)?;
        if ended != Ended::Code(0) && tried.stderr().contains("unshare:") {
            return Ok(Some(format!("no namespaces here: {}", tried.stderr().trim())));
        }
        ensure!(ended == Ended::Code(0), "{}", tried.last_lines());
        Ok(None)
    }

    /// A program with these files alone, as compose runs it: nothing below `/` can be changed but `/tmp`, which is in memory, and
    /// what lies in `/data`.
    fn container(&self, data: &Path, options: &str, variables: &[(String, String)], words: &[String]) -> RunnerCommand {
        let script = "set -eu
            root=$0 data=$1 options=$2
            shift 2
            mount --bind \"$root\" \"$root\"
            mount -t tmpfs tmpfs \"$root/tmp\"
            mount --bind \"$data\" \"$root/data\"
            mount -o \"remount,bind,$options\" \"$root/data\"
            mount -o remount,bind,ro \"$root\"
            exec env -i \"$@\"";
        let of_the_image = ["PATH=/usr/local/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"];
        let chroot = ["/usr/sbin/chroot", "/usr/bin/chroot"].into_iter().find(|path| Path::new(path).exists());
        let mut command = Runner::program(Path::new(UNSHARE), APART).arg("sh").arg("-c").arg(script);
        command = command.arg(self.0.path()).arg(data).arg(options);
        command = of_the_image.into_iter().fold(command, |command, variable| command.arg(variable));
        for (name, value) in variables {
            command = command.arg(format!("{name}={value}"));
        }
        command = command.arg(chroot.unwrap_or("chroot")).arg(self.0.path());
        words.iter().fold(command, |command, word| command.arg(word))
    }
}

#[test]
fn the_image_of_the_runner_needs_nothing_but_its_files() -> anyhow::Result<()> {
    needs_broker!();
    let broker = Broker::private(&[])?;
    let image = Image::of("runner")?;
    if let Some(reason) = image.is_refused("/usr/local/bin/data-platform")? {
        skip!("{reason}");
    }
    let compose = compose()?;
    let data = tempfile::tempdir()?;
    let variables = |service: &str, more: &[(&str, &str)]| -> Vec<(String, String)> {
        let of_service = compose["services"][service]["environment"].as_object().into_iter().flatten();
        let of_service = of_service.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        of_service.chain(more).map(|(name, value)| (name, value.replace("kafka:9092", broker.address()))).collect()
    };
    let words = |service: &str, field: &str| -> anyhow::Result<Vec<String>> {
        let words = words(&compose["services"][service][field])?;
        Ok(words.into_iter().map(|word| word.replace("kafka:9092", broker.address())).collect())
    };
    let program = || vec!["/usr/local/bin/data-platform".to_owned()];
    for service in ["platform", "query"] {
        let service = &compose["services"][service];
        ensure!(service["read_only"] == true && service["tmpfs"][0] == "/tmp", "{service}");
    }

    // All jobs, which find their records in the topics that the generator makes.
    let local = [program(), words("platform", "command")?].concat();
    let more = [("HTTP_ADDRESS", "127.0.0.1:0"), ("LOG_FORMAT", "json")];
    let mut local = image.container(data.path(), "rw", &variables("platform", &more), &local).start()?;
    let pages = Pages::of(&mut local)?;
    local.wait_for("metrics of all jobs", TIMEOUT, |_| {
        let page = pages.get("/metrics").ok()?.body;
        let jobs = ["event-aggregation", "clickstream-analysis", "cdc-transformation"];
        jobs.iter().all(|job| page.contains(&format!("job=\"{job}\""))).then_some(())
    })?;
    let events = [program(), words("events", "command")?].concat();
    let mut events = image.container(data.path(), "ro", &variables("events", &[]), &events).start()?;
    let table = data.path().join("outputs/cdc_transformed");
    local.wait_for("rows of a job", TIMEOUT, |_| has_file(&table).then_some(()))?;
    ensure!(events.has_ended()?.is_none(), "{}", events.last_lines());
    drop(events);
    local.signal(Signal::TERM)?;
    ensure!(local.wait(TIMEOUT)? == Ended::Code(0), "{}", local.last_lines());
    ensure!(data.path().join("logs/cdc-transformation.json").is_file(), "each job has its log file");

    // Somebody asks, who may change nothing.
    let mut query = words("query", "entrypoint")?;
    query.push("SELECT count(*) AS changes FROM cdc_transformed".to_owned());
    let query = image.container(data.path(), "ro", &variables("query", &[]), &query);
    let (ended, query) = query.run(TIMEOUT)?;
    ensure!(ended == Ended::Code(0) && query.stdout().contains("changes"), "{}", query.last_lines());

    // One job to its end, as `docker run` would.
    let job = ["run", "event-aggregation", "--drain", "--starting-offsets", "earliest", "--http", "off"];
    let job = [program(), job.map(str::to_owned).to_vec()].concat();
    let (ended, job) = image.container(data.path(), "rw", &variables("platform", &[]), &job).run(TIMEOUT)?;
    ensure!(ended == Ended::Code(0), "{}", job.last_lines());
    ensure!(has_file(&data.path().join("outputs/events_aggregated_realtime")), "its rows lie in the volume");

    // Without a volume there is no place for them, and it says so.
    let nowhere =
        [("OUTPUTS_DIR".to_owned(), "/outputs".to_owned()), ("CHECKPOINT_DIR".to_owned(), "/data/c".to_owned())];
    let local = [program(), vec!["local".to_owned(), "--test-mode".to_owned()]].concat();
    let broker = ("KAFKA_BOOTSTRAP_SERVER".to_owned(), broker.address().to_owned());
    let local = image.container(data.path(), "rw", &[&nowhere[..], &[broker]].concat(), &local);
    let (ended, local) = local.run(TIMEOUT)?;
    ensure!(matches!(ended, Ended::Code(1..)) && local.stderr().contains("/outputs"), "{}", local.last_lines());
    Ok(())
}

#[test]
fn the_image_of_the_operator_needs_nothing_but_its_files() -> anyhow::Result<()> {
    let image = Image::of("operator")?;
    let program = "/usr/local/bin/data-platform-operator".to_owned();
    if let Some(reason) = image.is_refused(&program)? {
        skip!("{reason}");
    }
    let data = tempfile::tempdir()?;
    let run = |argument: &str| {
        let (ended, operator) =
            image.container(data.path(), "ro", &[], &[program.clone(), argument.to_owned()]).run(TIMEOUT)?;
        ensure!(ended == Ended::Code(0), "{}", operator.last_lines());
        Ok(operator.stdout())
    };
    let version = run("--version")?;
    ensure!(version.trim() == format!("data-platform-operator {}", env!("CARGO_PKG_VERSION")), "{version}");
    let help = run("--help")?;
    ensure!(help.contains("Usage: data-platform-operator"), "{help}");
    // It starts as a program, and ends where it finds no cluster.
    let (ended, operator) = image.container(data.path(), "ro", &[], &[program]).run(TIMEOUT)?;
    ensure!(matches!(ended, Ended::Code(1..)) && !operator.stderr().is_empty(), "{}", operator.last_lines());
    Ok(())
}
