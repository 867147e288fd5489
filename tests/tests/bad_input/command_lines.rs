//! Wrong command lines and environment variables: refused before anything is opened, except for what Kafka must say.

use std::fs;
use std::net::TcpListener;

use data_platform_tests::process::expect_code;
use data_platform_tests::{JobFolders, Runner};

use super::case::{CHANGE, RETRY, TIMEOUT, expect, run_all};
use super::kept::Kept;

/// Arguments, variables, exit code, and what the message must say.
struct Wrong {
    name: &'static str,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
    code: i32,
    says: Vec<String>,
}

fn wrong(name: &'static str, line: &str, says: &[&str]) -> Wrong {
    // A quoted argument is the last one.
    let (words, quoted) = line.split_once(" '").map_or((line, None), |(words, rest)| (words, rest.strip_suffix('\'')));
    let arguments = words.split(' ').chain(quoted).map(str::to_owned).collect();
    Wrong {
        name,
        arguments,
        variables: Vec::new(),
        code: CHANGE,
        says: says.iter().map(|part| (*part).to_owned()).collect(),
    }
}

impl Wrong {
    fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    fn code(self, code: i32) -> Self {
        Self { code, ..self }
    }
}

const RUN: &str = "run event-aggregation --drain --http 127.0.0.1:0";

fn wrong_jobs() -> Vec<Wrong> {
    let set = |assignment: &str| format!("validate event-aggregation --set {assignment}");
    vec![
        wrong("no job", "run", &["say which job", "-f FILE", "event-aggregation"]),
        wrong(
            "an unknown job",
            "run event-agregation",
            &["there is no built-in job \"event-agregation\"", "did you mean event-aggregation?", "-f FILE"],
        ),
        wrong(
            "a file that is not there",
            "run -f nowhere.yaml",
            &["cannot read nowhere.yaml", "No such file", "give the file of a job after -f"],
        ),
        wrong(
            "a folder without a job",
            "run -f outputs",
            &["there is no job in outputs", "data-platform templates event-aggregation"],
        ),
        wrong(
            "a job that the file does not have",
            "run ome -f jobs",
            &["there is no job \"ome\" in jobs", "did you mean one?"],
        ),
        wrong(
            "a job that the file does not have, only checked",
            "validate two -f jobs",
            &["there is no job \"two\" in jobs", "there is one"],
        ),
        wrong("several jobs", "run -f several", &["there are several jobs in several", "say which one", "one, other"]),
        wrong(
            "a field that is not there",
            &set("spec.trigr.interval=1s"),
            &["spec.trigr: unknown field trigr", "the fields there are"],
        ),
        wrong(
            "a value without a field",
            &set("spec.trigger.interval"),
            &["\"spec.trigger.interval\" has no =", "write path=value"],
        ),
        wrong(
            "an entry that is not there",
            &set("spec.sources[7].topics[0]=x"),
            &["spec.sources has 1 entries and no [7]", "use [0] to [0]"],
        ),
        wrong(
            "a path that cannot be read",
            &set("spec..x=1"),
            &["\"spec..x\" is not a field", "character 6", "write it like"],
        ),
        wrong(
            "a value that does not fit",
            &set("spec.trigger.interval=soon"),
            &["spec.trigger.interval: \"soon\" does not fit", "event-aggregation (built in):", "write it like 90s"],
        ),
        wrong(
            "a parameter without a value",
            "validate event-aggregation --param window",
            &["'window' for '--param <NAME=VALUE>'", "write NAME=VALUE"],
        ),
        wrong(
            "an unknown parameter",
            "validate event-aggregation --param windw=1",
            &["spec.parameters.windw: windw is not a parameter", "did you mean window?"],
        ),
        wrong(
            "a parameter that spoils the query",
            "validate event-aggregation --param 'window=1 furlong'",
            &["spec.query", "\"1 furlong\"", "correct the query"],
        ),
    ]
}

fn wrong_runs() -> Vec<Wrong> {
    let run = |more: &str| format!("{RUN} {more}");
    vec![
        wrong(
            "starting offsets of no form",
            &run("--starting-offsets soon"),
            &["--starting-offsets: \"soon\"", "earliest, latest, a time"],
        ),
        wrong(
            "starting offsets without partitions",
            &run("--starting-offsets {\"a\":1}"),
            &["--starting-offsets: a is not an object of offsets", "such as"],
        ),
        wrong("two ways to end", &run("--test-mode"), &["'--test-mode'", "'--drain'", "--help"]),
        wrong(
            "patience that is no number",
            RUN,
            &["'soon' for '--patience <SECONDS>'", "environment variable PATIENCE_SECONDS"],
        )
        .variable("PATIENCE_SECONDS", "soon"),
        wrong("patience on the command line", &run("--patience soon"), &["'soon' for '--patience <SECONDS>'"]),
        wrong(
            "an unknown log level",
            RUN,
            &["'loud' for '--log-level", "error, warn, info, debug, trace", "environment variable LOG_LEVEL"],
        )
        .variable("LOG_LEVEL", "loud"),
        wrong(
            "a log file in no folder",
            RUN,
            &["cannot write the log file nowhere/log.json", "No such file", "LOG_FILE"],
        )
        .variable("LOG_FILE", "nowhere/log.json"),
        wrong(
            "brokers without a port",
            RUN,
            &["\"kafka\" without a port", "write host:port", "environment variable KAFKA_BOOTSTRAP_SERVER"],
        )
        .variable("KAFKA_BOOTSTRAP_SERVER", "kafka"),
        wrong(
            "brokers with a protocol",
            &run("--bootstrap-servers http://kafka:9092"),
            &["\"http://kafka:9092\" has a protocol", "write host:port"],
        ),
        wrong("outputs at a host", RUN, &["\"file://host/x\" is not a path or URL", "file:///folder"])
            .variable("OUTPUTS_DIR", "file://host/x"),
        wrong(
            "outputs in a bucket",
            RUN,
            &["s3://bucket/x/events_aggregated_realtime: this program cannot open such a store", "use a folder"],
        )
        .variable("OUTPUTS_DIR", "s3://bucket/x"),
        wrong(
            "checkpoints in a bucket",
            RUN,
            &["s3://bucket/x/local/event-aggregation: this program cannot open such a store", "use a folder"],
        )
        .variable("CHECKPOINT_DIR", "s3://bucket/x"),
        wrong(
            "an address that cannot be listened on",
            "run event-aggregation --drain",
            &["cannot listen on here", "write host:port"],
        )
        .variable("HTTP_ADDRESS", "here"),
        wrong(
            "a secret that is not there",
            &run("--set 'spec.kafka.sasl={mechanism: SCRAM-SHA-512, username: {file: /nowhere/user}, \
                 password: {file: /nowhere/password}}'"),
            &["cannot read the user name from /nowhere/user", "No such file", "create the file or the Secret"],
        ),
        wrong(
            "a Secret that is not mounted",
            &run("--set 'spec.kafka.tls={ca: {secretKeyRef: {name: kafka, key: ca.crt}}}'"),
            &["cannot read the certificate authority from nowhere/kafka/ca.crt", "create the file or the Secret"],
        )
        .variable("SECRETS_DIR", "nowhere"),
        wrong(
            "no broker for patience that ends",
            &run("--patience 1"),
            &["no Kafka broker answers at 127.0.0.1:1", "and that the brokers run"],
        )
        .variable("KAFKA_BOOTSTRAP_SERVER", "127.0.0.1:1")
        .code(RETRY),
    ]
}

fn wrong_looks() -> Vec<Wrong> {
    vec![
        wrong(
            "a table that is not there",
            "query 'SELECT * FROM nothing'",
            &["the query reads the table nothing, which is not there", "there are no tables below"],
        ),
        wrong(
            "a query that cannot be read",
            "query 'SELEC 1'",
            &["query takes one SELECT", "reads and changes nothing"],
        ),
        wrong("a query that changes something", "query 'DROP TABLE x'", &["query takes one SELECT", "changes nothing"]),
        wrong("outputs that are not there", "query --outputs nowhere", &["there is no folder nowhere", "--outputs"]),
        wrong(
            "a log that is not there",
            "checkpoint show nothing",
            &["there is no job log in", "check CHECKPOINT_DIR"],
        ),
        wrong(
            "a log that is not there, to verify",
            "checkpoint verify nothing",
            &["there is no job log in", "check CHECKPOINT_DIR"],
        ),
        wrong(
            "a log that is not there, to rewind",
            "checkpoint rewind nothing --yes",
            &["there is no job log in", "check CHECKPOINT_DIR"],
        ),
        wrong(
            "a plan of a file that is not there",
            "plan -f nowhere.yaml",
            &["cannot read nowhere.yaml", "give the file of a job after -f"],
        ),
        wrong(
            "a plan beside a file without a job",
            "plan -f jobs --against nowhere.yaml",
            &["cannot read nowhere.yaml", "No such file"],
        ),
        wrong(
            "a plan of what is not valid",
            "plan event-aggregation --set spec.sink.path=/x/../y",
            &["spec.sink.path", "/x/../y"],
        ),
        wrong("an audit of nothing", "audit nothing", &["there is no job log in", "check CHECKPOINT_DIR"]),
        wrong("a demo of no time", "demo --for soon", &["--for: \"soon\" is not a period", "such as 10s"]),
        wrong(
            "a demo that is too fast",
            "demo --rate 1000000",
            &["--rate 1000000: the embedded broker takes 1 to 20000", "use a real one"],
        ),
        wrong(
            "events that are not made",
            "generate --topic other",
            &[
                "the topic other: nobody knows which records it gets",
                "app_events, clickstream, cdc_changes, external_data",
            ],
        ),
        wrong("more than all events", "generate --messy 2", &["--messy 2 is not a share", "from 0 to 1"]),
        wrong(
            "a template that is not there",
            "templates nothing",
            &["there is no built-in job \"nothing\"", "event-aggregation"],
        ),
        wrong("a command that is not there", "quer", &["unrecognized subcommand 'quer'", "'query'"]),
    ]
}

/// Folders with files of jobs; what a case opens before it is refused lies in its own ones.
fn folders() -> anyhow::Result<JobFolders> {
    let folders = JobFolders::new()?;
    let job = include_str!("../../../manifests/event-aggregation.yaml");
    let called = |name: &str| job.replace("\n  name: event-aggregation\n", &format!("\n  name: {name}\n"));
    for (file, text) in
        [("jobs/a.yaml", called("one")), ("several/a.yaml", called("one")), ("several/b.yml", called("other"))]
    {
        let path = folders.root().join(file);
        fs::create_dir_all(path.parent().expect("a file lies in a folder"))?;
        fs::write(path, text)?;
    }
    Ok(folders)
}

fn refused(wrong: &Wrong) -> anyhow::Result<()> {
    let folders = folders()?;
    let kept = Kept::of(folders.root())?;
    let mut command = Runner::command(&wrong.arguments).folders(&folders);
    for (name, value) in &wrong.variables {
        command = command.env(name, value);
    }
    expect(command, wrong.code, &wrong.says)?;
    kept.check()
}

#[test]
fn a_wrong_command_line_is_refused_with_a_cure() -> anyhow::Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let mut cases: Vec<_> = [wrong_jobs(), wrong_runs(), wrong_looks()].into_iter().flatten().collect();
    // In a pod the pages are what tells whether the job lives; on a laptop the job runs without them (see `http`).
    let pod = format!("run event-aggregation --http {address}");
    let says = [format!("cannot listen on {address}"), "choose another address".to_owned()];
    let says = says.each_ref().map(String::as_str);
    cases.push(wrong("an address that is taken", &pod, &says).variable("DATA_PLATFORM_STAY_UP", "true").code(RETRY));
    let ran = run_all(&cases, |wrong| wrong.name, refused)?;
    println!("{ran} wrong command lines were refused");
    assert!(ran >= 30, "only {ran} cases ran");
    Ok(())
}

#[test]
fn an_empty_variable_counts_as_one_that_is_not_set() -> anyhow::Result<()> {
    let folders = JobFolders::new()?;
    let mut command = Runner::command(["explain", "event-aggregation"]).folders(&folders);
    for name in ["KAFKA_BOOTSTRAP_SERVER", "LOG_LEVEL", "LOG_FILE", "OUTPUTS_DIR", "CHECKPOINT_DIR", "NAMESPACE"] {
        command = command.env(name, "");
    }
    let (ended, runner) = command.run(TIMEOUT)?;
    expect_code(ended, 0, &runner)?;
    let shown = runner.stdout();
    for default in ["localhost:29092", "./outputs/events_aggregated_realtime", "./checkpoints/local/event-aggregation"]
    {
        assert!(shown.contains(default), "{default} in {shown}");
    }
    Ok(())
}
