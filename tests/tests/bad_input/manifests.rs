//! Wrong files of jobs and wrong queries: `validate` and `run` refuse them in the same words, before anything is opened.

use std::fs;
use std::path::Path;

use anyhow::Context;
use data_platform_tests::{JobFolders, Runner};

use super::case::{CHANGE, TIMEOUT, expect, run_all};
use super::kept::Kept;

/// A job that is valid; each case spoils one thing.
const GOOD: &str = r#"apiVersion: dataplatform.io/v1alpha1
kind: StreamingJob
metadata: {name: counts}
spec:
  kafka: {bootstrapServers: "127.0.0.1:1", startingOffsets: earliest}
  sources:
    - name: events
      topics: [some_events]
      columns:
        - {name: team, type: string, required: true}
        - {name: amount, type: double}
        - {name: at, type: timestamp, required: true}
      eventTime: {column: at, watermarkDelay: 30s}
  trigger: {interval: 1s}
  query: |
    SELECT window_start, team, count(*) AS n
    FROM events
    GROUP BY tumble(at, INTERVAL '1 minute'), team
  sink: {format: parquet, path: counts}
"#;

/// The query of [`GOOD`].
const QUERY: &str = "SELECT window_start, team, count(*) AS n\n    FROM events\n    GROUP BY tumble(at, INTERVAL '1 \
                     minute'), team\n";

/// What is wrong, and what the message must say: where first, then what, then what to do.
struct Wrong {
    name: &'static str,
    text: String,
    says: &'static [&'static str],
}

/// The good job with `find` replaced.
fn with(name: &'static str, find: &str, write: &str, says: &'static [&'static str]) -> Wrong {
    assert!(GOOD.contains(find), "{name}: {find:?} is not in the job");
    Wrong { name, text: GOOD.replacen(find, write, 1), says }
}

/// The good job with another query.
fn query(name: &'static str, sql: &str, says: &'static [&'static str]) -> Wrong {
    with(name, QUERY, &format!("{sql}\n"), says)
}

/// Another file.
fn file(name: &'static str, text: impl Into<String>, says: &'static [&'static str]) -> Wrong {
    Wrong { name, text: text.into(), says }
}

fn wrong_files() -> Vec<Wrong> {
    let template = |name: &str| {
        format!(
            "apiVersion: dataplatform.io/v1alpha1\nkind: StreamingJob\nmetadata: {{name: a}}\n\
             spec: {{template: {name}}}\n"
        )
    };
    vec![
        with(
            "a bracket that is not closed",
            "{name: counts}",
            "{name: counts",
            &["job.yaml:4:5: this is not YAML", "check indentation, quotes and brackets"],
        ),
        with("a tab", "  trigger:", "\ttrigger:", &["job.yaml:14:2: this is not YAML", "tabs", "check indentation"]),
        file("not text", "\0\u{1}", &["job.yaml:1:1: this is not YAML", "unexpected character"]),
        file("an empty file", "", &["job.yaml: the file holds no job", "data-platform templates event-aggregation"]),
        file("a list instead of a job", "- 1\n- 2\n", &["job.yaml:1:1: the document is not an object", "write fields"]),
        file(
            "two jobs of one name",
            format!("{GOOD}---\n{GOOD}"),
            &["job.yaml:23:18: metadata.name: another job is called counts too", "job.yaml:3", "a name of its own"],
        ),
        with(
            "another kind",
            "StreamingJob",
            "StreamingJbo",
            &["job.yaml:2:7: kind: StreamingJbo is not a kind", "did you mean StreamingJob?"],
        ),
        with(
            "another version of the API",
            "v1alpha1",
            "v2",
            &["job.yaml:1:13: apiVersion", "write dataplatform.io/v1alpha1"],
        ),
        with("no name", "{name: counts}", "{}", &["metadata.name: name is missing", "add name"]),
        with(
            "a name that no pod can have",
            "{name: counts}",
            "{name: My_Counts}",
            &["job.yaml:3:18: metadata.name", "lower-case letters, digits and -"],
        ),
        with(
            "an unknown field",
            "startingOffsets:",
            "startingOffset:",
            &["job.yaml:5:44: spec.kafka.startingOffset: unknown field", "did you mean startingOffsets?"],
        ),
        with(
            "a field that stands twice",
            "  trigger: {interval: 1s}",
            "  trigger: {interval: 1s}\n  trigger: {interval: 2s}",
            &["job.yaml:15:3: spec.trigger: trigger stands twice", "keep one of the two"],
        ),
        with(
            "no sink",
            "\n  sink: {format: parquet, path: counts}",
            "",
            &["job.yaml:5:3: spec: query and sink stand together", "set both"],
        ),
        with(
            "a column of an unknown type",
            "type: double",
            "type: dubble",
            &[
                "spec.sources[0].columns[1].type: \"dubble\" is not a column type",
                "job.yaml:11:32",
                "expected string, boolean, int",
            ],
        ),
        with(
            "a column that is declared twice",
            "name: amount",
            "name: team",
            &["job.yaml:11:18: spec.sources[0].columns[1].name: \"team\" stands twice", "a name of its own"],
        ),
        with(
            "text where yes or no belongs",
            "required: true",
            "required: maybe",
            &["job.yaml:10:48: spec.sources[0].columns[0].required", "write true or false"],
        ),
        with(
            "a period without a unit",
            "watermarkDelay: 30s",
            "watermarkDelay: 30 parsecs",
            &[
                "job.yaml:13:47: spec.sources[0].eventTime.watermarkDelay: \"30 parsecs\" does not fit",
                "ms, s, m, h or d",
            ],
        ),
        with(
            "an event time that is no column",
            "{column: at,",
            "{column: att,",
            &["job.yaml:13:27: spec.sources[0].eventTime.column", "declare it in columns"],
        ),
        with(
            "an event time that is no time",
            "{column: at,",
            "{column: team,",
            &["job.yaml:13:27: spec.sources[0].eventTime.column", "type timestamp"],
        ),
        with(
            "starting offsets of no form",
            "startingOffsets: earliest",
            "startingOffsets: first",
            &["job.yaml:5:61: spec.kafka.startingOffsets: \"first\"", "earliest, latest, a time"],
        ),
        with(
            "brokers without a port",
            "127.0.0.1:1",
            "kafka",
            &["job.yaml:5:29: spec.kafka.bootstrapServers", "without a port", "write host:port"],
        ),
        with(
            "brokers with a protocol",
            "127.0.0.1:1",
            "http://kafka:9092",
            &["job.yaml:5:29: spec.kafka.bootstrapServers", "has a protocol", "write host:port"],
        ),
        with(
            "a name that no topic has",
            "some_events",
            "'some events'",
            &["job.yaml:8:16: spec.sources[0].topics[0]: \"some events\" is not the name of a topic", "use letters"],
        ),
        with(
            "a pattern that cannot be read",
            "topics: [some_events]",
            "topicPattern: '['",
            &["job.yaml:8:21: spec.sources[0].topicPattern", "not a regular expression", "write one such as"],
        ),
        with(
            "a setting of Kafka that would break a promise",
            "startingOffsets: earliest",
            "config: {auto.offset.reset: latest}",
            &["spec.kafka.config[\"auto.offset.reset\"]", "cannot be set here", "use kafka.startingOffsets"],
        ),
        with(
            "a setting of Kafka of another type",
            "startingOffsets: earliest",
            "config: {socket.timeout.ms: lots}",
            &[
                "spec.kafka.config[\"socket.timeout.ms\"]: \"lots\" is not a whole number",
                "job.yaml:5:72",
                "write a whole number",
            ],
        ),
        with(
            "a size out of bounds",
            "path: counts}",
            "path: counts, targetFileSize: 1Ki}",
            &["job.yaml:19:57: spec.sink.targetFileSize", "too small", "write a size from"],
        ),
        with(
            "a path out of the outputs",
            "path: counts",
            "path: ../counts",
            &["job.yaml:19:33: spec.sink.path: \"../counts\" has ..", "a table lies below the outputs folder"],
        ),
        with(
            "an absolute path",
            "path: counts",
            "path: /data/counts",
            &["job.yaml:19:33: spec.sink.path: \"/data/counts\" is absolute", "write file:///data/counts"],
        ),
        with(
            "directories of a column that is not there",
            "path: counts}",
            "path: counts, partitionBy: [day]}",
            &["spec.sink.partitionBy", "gives no column \"day\"", "window_start, team, n"],
        ),
        with(
            "a key that the query does not give",
            "{format: parquet, path: counts}",
            "{format: kafka, topic: out, keyColumn: id}",
            &["spec.sink.keyColumn", "gives no column \"id\"; it gives window_start, team, n"],
        ),
        with(
            "a folder for what is only shown",
            "{format: parquet, path: counts}",
            "{format: stdout, path: counts}",
            &["stdout keeps nothing", "leave path and topic out"],
        ),
        with(
            "a parameter that is not declared",
            "'1 minute'",
            "'${window}'",
            &["job.yaml:16:5: spec.query: window is not a parameter of this job", "declare window in spec.parameters"],
        ),
        file(
            "an unknown template",
            template("event-agregation"),
            &["job.yaml:4:18: spec.template", "did you mean event-aggregation?"],
        ),
    ]
}

/// Valid, but this version cannot do it: one message each, never silence.
fn later_files() -> Vec<Wrong> {
    vec![
        with(
            "a store that nobody knows as output",
            "path: counts",
            "path: 'hdfs://name/counts'",
            &["job.yaml:19:33: spec.sink.path: hdfs:// is not a store of this version", "s3://bucket/t"],
        ),
        with(
            "two replicas",
            "  trigger:",
            "  replicas: 2\n  trigger:",
            &["job.yaml:14:13: spec.replicas: 2 is too large", "0 to 1"],
        ),
        with(
            "a key of duplicates that is not there",
            "  trigger:",
            "  deduplicate: {keys: [tem], within: 1m}\n  trigger:",
            &["spec.deduplicate.keys[0]: tem is not a column of", "did you mean team?"],
        ),
        with(
            "a reference whose columns nobody knows",
            "  trigger:",
            "  references: [{name: r, format: csv, path: p}]\n  trigger:",
            &["spec.references[0].path: the reference r is not there", "has no CSV files", "name its columns"],
        ),
        with(
            "a reference that is a Delta table, and is not there",
            "  trigger:",
            "  references: [{name: r, format: delta, path: p}]\n  trigger:",
            &[
                "spec.references[0].path: the reference r is not there",
                "has no version of a Delta table",
                "name its columns",
            ],
        ),
        with(
            "a hop window with gaps between",
            "tumble(at, INTERVAL '1 minute')",
            "hop(at, INTERVAL '2 minutes', INTERVAL '1 minute')",
            &[
                "job.yaml:18:14: spec.query: the slide of the window is longer than its length",
                "hop takes the slide first",
            ],
        ),
        with(
            "sessions that are too short",
            "tumble(at, INTERVAL '1 minute')",
            "session(at, INTERVAL '1 minute', INTERVAL '2 minutes')",
            &[
                "job.yaml:18:14: spec.query: the greatest length of the session is less than 3 of its gaps",
                "or leave it out",
            ],
        ),
    ]
}

fn wrong_queries() -> Vec<Wrong> {
    vec![
        with(
            "a word that is misspelt",
            "GROUP BY",
            "GROPU BY",
            &["job.yaml:18:11: spec.query: unexpected BY", "correct the query"],
        ),
        with(
            "an unknown column",
            "window_start, team,",
            "window_start, tem,",
            &["job.yaml:16:26: spec.query: there is no column tem", "did you mean team?"],
        ),
        with(
            "an unknown table",
            "FROM events",
            "FROM event",
            &["job.yaml:17:10: spec.query: there is no table event", "did you mean events?"],
        ),
        with(
            "an unknown function",
            "count(*)",
            "conut(*)",
            &["job.yaml:16:32: spec.query: there is no function conut", "did you mean count?"],
        ),
        with(
            "a type that a function does not take",
            "count(*)",
            "sum(team)",
            &["job.yaml:16:32: spec.query: sum does not take VARCHAR", "CAST the value"],
        ),
        query(
            "a condition that is no condition",
            "SELECT team FROM events WHERE amount",
            &["job.yaml:16:35: spec.query", "amount", "non-boolean"],
        ),
        query(
            "a table that is created",
            "CREATE TABLE t AS SELECT team FROM events",
            &["job.yaml:16:5: spec.query: CREATE does not run in a job", "begins with SELECT or WITH"],
        ),
        query(
            "a file that is written",
            "COPY events TO '/tmp/x.csv'",
            &["job.yaml:16:5: spec.query: COPY does not run in a job", "SELECT or WITH"],
        ),
        query(
            "a setting of the engine",
            "SET datafusion.execution.batch_size = 1",
            &["job.yaml:16:5: spec.query: SET does not run in a job", "SELECT or WITH"],
        ),
        query(
            "rows that are inserted",
            "INSERT INTO events VALUES ('a')",
            &["job.yaml:16:5: spec.query: INSERT does not run in a job", "SELECT or WITH"],
        ),
        query(
            "two statements",
            "SELECT team FROM events; SELECT team FROM events",
            &["job.yaml:16:28: spec.query", "several statements"],
        ),
        query(
            "a file that is read",
            "SELECT * FROM '/etc/passwd'",
            &["spec.query: there is no table '/etc/passwd'", "job.yaml:16", "the tables of this job are: events"],
        ),
        query(
            "a function that reads a file",
            "SELECT * FROM read_csv('/etc/passwd')",
            &["job.yaml:16:19: spec.query: read_csv(…) is a table function", "FROM events"],
        ),
        query(
            "an order without an end",
            "SELECT team FROM events ORDER BY team",
            &["job.yaml:16:38: spec.query: ORDER BY without a window", "no end", "leave it out"],
        ),
        query(
            "a limit",
            "SELECT team FROM events LIMIT 3",
            &["job.yaml:16:35: spec.query: LIMIT", "no end", "ROW_NUMBER"],
        ),
        query(
            "a join",
            "SELECT a.team FROM events a JOIN events b ON a.team = b.team",
            &["job.yaml:16:38: spec.query: a join", "no end", "compute both sides in one SELECT"],
        ),
        query(
            "an aggregate without a window",
            "SELECT count(*) AS n FROM events",
            &[
                "job.yaml:16:12: spec.query: count() without a window",
                "no end",
                "GROUP BY tumble(at, INTERVAL '1 minute')",
            ],
        ),
        with(
            "a column outside the groups",
            "), team\n",
            ")\n",
            &[
                "job.yaml:16:26: spec.query: the column team is neither in GROUP BY nor inside an aggregate",
                "add it to GROUP BY",
            ],
        ),
        with(
            "the clock below a window",
            "FROM events",
            "FROM events WHERE at < now()",
            &["job.yaml:17:28: spec.query: now() below the window"],
        ),
        query(
            "two output columns of one name",
            "SELECT team, amount AS TEAM FROM events",
            &["job.yaml:16:12: spec.query: two columns are called team", "AS name"],
        ),
    ]
}

/// Folders as an earlier run left them: nothing may come near them.
fn earlier_run() -> anyhow::Result<JobFolders> {
    let folders = JobFolders::new()?;
    for file in ["outputs/counts/_progress.json", "outputs/counts/a.parquet", "checkpoints/local/counts/log/0.json"] {
        let path = folders.root().join(file);
        fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
        fs::write(path, format!("{file} as it was"))?;
    }
    Ok(folders)
}

/// What is right in a cluster, where the operator sees to it.
fn files_for_the_operator() -> Vec<Wrong> {
    vec![
        with(
            "a job that waits",
            "  trigger:",
            "  suspend: true\n  trigger:",
            &["job.yaml:14:12: spec.suspend: a job that waits is for the operator", "leave it out"],
        ),
        with(
            "storage of its own",
            "  trigger:",
            "  storage: {outputs: 'file:///data'}\n  trigger:",
            &["spec.storage: storage of one job is for the operator", "OUTPUTS_DIR"],
        ),
    ]
}

fn refused(folders: &JobFolders, file: &Path, says: &[&str]) -> anyhow::Result<()> {
    let shown = file.file_name().and_then(|name| name.to_str()).context("a name that is text")?;
    let says: Vec<_> = says.iter().map(|part| part.replace("job.yaml", shown)).collect();
    let file = || file.display().to_string();
    expect(Runner::command(["validate".to_owned(), "-f".to_owned(), file()]).folders(folders), CHANGE, &says)?;
    let run = Runner::command(["run", "--drain", "--http", "127.0.0.1:0", "-f"]).arg(file());
    expect(run.folders(folders), CHANGE, &says)
}

#[test]
fn a_wrong_job_is_refused_with_its_place_and_a_cure() -> anyhow::Result<()> {
    let folders = earlier_run()?;
    let jobs = JobFolders::new()?;
    let good = jobs.root().join("good.yaml");
    fs::write(&good, GOOD)?;
    let (ended, runner) = Runner::command(["validate", "-f"]).arg(&good).run(TIMEOUT)?;
    data_platform_tests::process::expect_code(ended, 0, &runner)?;

    let kept = Kept::of(folders.root())?;
    let cases: Vec<_> = [wrong_files(), later_files(), wrong_queries()].into_iter().flatten().collect();
    let numbered: Vec<_> = cases.iter().enumerate().collect();
    let ran = run_all(
        &numbered,
        |(_, wrong)| wrong.name,
        |(number, wrong)| {
            let file = jobs.root().join(format!("{number}.yaml"));
            fs::write(&file, &wrong.text)?;
            refused(&folders, &file, wrong.says)
        },
    )?;
    kept.check_untouched()?;
    println!("{ran} wrong jobs were refused");
    assert!(ran >= 30, "only {ran} cases ran");
    Ok(())
}

#[test]
fn what_the_operator_sees_to_is_valid_and_refused_where_there_is_none() -> anyhow::Result<()> {
    let jobs = JobFolders::new()?;
    for wrong in files_for_the_operator() {
        let file = jobs.root().join("job.yaml");
        fs::write(&file, &wrong.text)?;
        let (ended, runner) = Runner::command(["validate", "-f"]).arg(&file).run(TIMEOUT)?;
        data_platform_tests::process::expect_code(ended, 0, &runner)?;
        let run = Runner::command(["run", "--drain", "--http", "127.0.0.1:0", "-f"]).arg(&file);
        expect(run.folders(&jobs), CHANGE, wrong.says).with_context(|| wrong.name)?;
    }
    Ok(())
}
