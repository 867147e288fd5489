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
            "outputs in a store that nobody knows",
            RUN,
            &[
                "hdfs://name/x/events_aggregated_realtime: this program cannot open such a store",
                "s3://, gs:// or abfss://",
            ],
        )
        .variable("OUTPUTS_DIR", "hdfs://name/x"),
        wrong(
            "checkpoints in a store that nobody knows",
            RUN,
            &[
                "hdfs://name/x/local/event-aggregation: this program cannot open such a store",
                "s3://, gs:// or abfss://",
            ],
        )
        .variable("CHECKPOINT_DIR", "hdfs://name/x"),
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
        wrong(
            "a backfill without a time",
            "backfill hourly-aggregates",
            &["say which time: --from and --to", "backfill in the job's spec"],
        ),
        wrong(
            "a backfill that does not begin with an interval",
            "backfill hourly-aggregates --from 2026-01-01T00:30:00 --to 2026-01-02",
            &["--from \"2026-01-01T00:30:00\" is not where an hour begins"],
        ),
        wrong(
            "a backfill of the future",
            "backfill hourly-aggregates --from 2999-01-01 --to 2999-01-02",
            &["is not over"],
        ),
        wrong(
            "a backfill of a streaming job",
            "backfill event-aggregation --from 2026-01-01 --to 2026-01-02",
            &["this is a StreamingJob", "name a BatchJob"],
        ),
        wrong(
            "a backfill of a job that replaces its table",
            "backfill user-segmentation --from 2026-01-01 --to 2026-01-02",
            &["replaces its whole table", "--target-date"],
        ),
        wrong(
            "too many intervals at once",
            "backfill hourly-aggregates --from 2026-01-01 --to 2026-01-02 --parallelism 0",
            &["--parallelism", "from 1 to 100"],
        ),
        wrong(
            "a file by a path where none is",
            "query 'SELECT * FROM \"nowhere.csv\"'",
            &["nowhere.csv cannot be read", "No such file"],
        ),
        wrong(
            "a name for a file that is not there",
            "query --table x=nowhere.csv 'SELECT 1'",
            &["--table x: there is no file or folder nowhere.csv"],
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

fn wrong_folders() -> Vec<Wrong> {
    let local = |folder: &str| format!("local {folder} --http off");
    vec![
        wrong(
            "a folder that is not there",
            &local("nowhere"),
            &["there is no file or folder nowhere", "name files of jobs"],
        ),
        wrong(
            "a folder without jobs",
            &local("outputs"),
            &["there is no job to run in outputs", "templates event-aggregation"],
        ),
        wrong(
            "a folder with a file that is no job",
            &local("mixed"),
            &["ConfigMap is not a kind of", "mixed/other.yaml", "leave only files of jobs in the folder"],
        ),
        wrong(
            "a folder with an empty file",
            &local("empty"),
            &["empty/a.yaml", "the file holds no job", "leave only files"],
        ),
        wrong(
            "two jobs of one name",
            &local("twice"),
            &["twice/b.yaml", "another job is called one too: twice/a.yaml", "give each job a name of its own"],
        ),
        wrong(
            "two jobs with one checkpoint",
            &local("checkpoints-twice"),
            &["spec.checkpoint.name", "the job one has the checkpoint shared too", "a checkpoint of its own"],
        ),
        wrong(
            "jobs that wait for each other",
            &local("circle"),
            &["a -> b -> a", "each of these jobs reads what the next one writes", "correct inputs"],
        ),
        wrong(
            "a zone that is not there",
            &local("zone"),
            &["spec.timeZone", "there is no time zone Mars/Olympus", "IANA name"],
        ),
        wrong(
            "a schedule without a time",
            &local("never"),
            &["spec.schedule", "no time fits \"0 0 30 2 *\"", "correct the day of the month"],
        ),
        wrong(
            "neither kind",
            &local("jobs --streaming False --batch FALSE"),
            &["there is no job to run in jobs", "--streaming"],
        ),
        wrong("a kind that is no answer", &local("jobs --batch yes"), &["'yes' for '--batch", "write true or false"]),
        wrong(
            "a job that names its storage",
            &local("stored"),
            &["spec.storage", "storage of one job is for the operator", "OUTPUTS_DIR and CHECKPOINT_DIR"],
        ),
    ]
}

/// A batch job that reads and writes these tables.
fn batch(name: &str, reads: &str, writes: &str, more: &str) -> String {
    format!(
        "apiVersion: dataplatform.io/v1alpha1\nkind: BatchJob\nmetadata: {{name: {name}}}\nspec:\n  interval: hour\n{more}  inputs: \
         [{{name: t, path: {reads}, timeColumn: at}}]\n  query: SELECT count(*) AS n FROM t\n  sink: {{path: {writes}}}\n"
    )
}

/// Folders with files of jobs; what a case opens before it is refused lies in its own ones.
fn folders() -> anyhow::Result<JobFolders> {
    let folders = JobFolders::new()?;
    let job = include_str!("../../../manifests/event-aggregation.yaml");
    let called = |name: &str| job.replace("\n  name: event-aggregation\n", &format!("\n  name: {name}\n"));
    let own = |checkpoint: &str, name: &str| {
        called(name).replace("\nspec:\n", &format!("\nspec:\n  checkpoint: {{name: {checkpoint}}}\n"))
    };
    for (file, text) in [
        ("jobs/a.yaml", called("one")),
        ("several/a.yaml", called("one")),
        ("several/b.yml", called("other")),
        ("mixed/job.yaml", called("one")),
        ("mixed/other.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n".to_owned()),
        ("empty/a.yaml", "# nothing\n".to_owned()),
        ("twice/a.yaml", called("one")),
        ("twice/b.yaml", called("one")),
        ("checkpoints-twice/a.yaml", own("shared", "one")),
        ("checkpoints-twice/b.yaml", own("shared", "other")),
        ("circle/a.yaml", batch("a", "from_b", "from_a", "")),
        ("circle/b.yaml", batch("b", "from_a", "from_b", "")),
        ("zone/a.yaml", batch("a", "in", "out", "  schedule: '@daily'\n  timeZone: Mars/Olympus\n")),
        ("never/a.yaml", batch("a", "in", "out", "  schedule: 0 0 30 2 *\n")),
        ("stored/a.yaml", called("one").replace("\nspec:\n", "\nspec:\n  storage: {outputs: 'file:///x'}\n")),
    ] {
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
    let mut cases: Vec<_> =
        [wrong_jobs(), wrong_runs(), wrong_looks(), wrong_folders()].into_iter().flatten().collect();
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
fn a_second_local_on_one_folder_is_told_who_is_there() -> anyhow::Result<()> {
    let folders = folders()?;
    let local = || Runner::command(["local", "jobs", "--http", "127.0.0.1:0"]).folders(&folders);
    let mut first = local().env("KAFKA_BOOTSTRAP_SERVER", "127.0.0.1:1").start()?;
    data_platform_tests::Pages::of(&mut first)?;
    let holder = format!("process {}", first.id());
    expect(local(), RETRY, &["another `data-platform local` works with the checkpoints in", &holder, "--checkpoints"])?;
    first.signal(rustix::process::Signal::TERM)?;
    let ended = first.wait(TIMEOUT)?;
    expect_code(ended, 0, &first)
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
