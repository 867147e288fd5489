//! What a store says no to, and what the job says then: what, where, and what to do.

use anyhow::Context;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{FaultProxy, JobFolders, Runner, needs_s3};

use crate::bad_input::case::{CHANGE, RETRY, expect, run_all};

/// A job that needs no broker until its stores are known to work.
fn job(folders: &JobFolders) -> RunnerCommand {
    let job = Runner::command(["run", "event-aggregation", "--test-mode", "--patience", "0"]).folders(folders);
    job.env("KAFKA_BOOTSTRAP_SERVER", "127.0.0.1:1")
}

/// What a server answers to everything, and what the job must say.
struct Answer {
    status: &'static str,
    body: &'static str,
    code: i32,
    says: &'static [&'static str],
}

const ANSWERS: [Answer; 9] = [
    Answer {
        status: "404 Not Found",
        body: "<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>",
        code: CHANGE,
        says: &["create s3://", "the bucket does not exist (NoSuchBucket)", "create the bucket"],
    },
    Answer {
        status: "400 Bad Request",
        body: "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>",
        code: CHANGE,
        says: &["the bucket is in another region", "AWS_REGION"],
    },
    Answer {
        status: "301 Moved Permanently",
        body: "<Error><Code>PermanentRedirect</Code></Error>",
        code: CHANGE,
        says: &["the bucket is in another region", "spec.storage.region"],
    },
    Answer {
        status: "400 Bad Request",
        body: "<Error><Code>ExpiredToken</Code></Error>",
        code: RETRY,
        says: &["the credentials have expired (ExpiredToken)", "renew the credentials"],
    },
    Answer {
        status: "403 Forbidden",
        body: "<Error><Code>InvalidAccessKeyId</Code></Error>",
        code: CHANGE,
        says: &["the store does not know these credentials", "correct the credentials"],
    },
    Answer {
        status: "403 Forbidden",
        body: "<Error><Code>AccessDenied</Code></Error>",
        code: CHANGE,
        says: &["create s3://", "do not give this right (AccessDenied)", "docs/guides/object-stores.md"],
    },
    Answer {
        status: "403 Forbidden",
        body: "<Error><Code>RequestTimeTooSkewed</Code></Error>",
        code: RETRY,
        says: &["the clock of this machine", "NTP"],
    },
    Answer {
        status: "400 Bad Request",
        body: "{\"message\": \"no such interface\"}",
        code: RETRY,
        says: &["create s3://", "400 Bad Request", "no such interface"],
    },
    Answer {
        status: "200 OK\r\nETag: \"1\"",
        body: "",
        code: CHANGE,
        says: &["overwrites an object although it was told to create it only if absent", "use another store"],
    },
];

#[test]
fn a_store_that_says_no_is_quoted_with_what_to_do() -> anyhow::Result<()> {
    let s3 = needs_s3!();
    for answer in &ANSWERS {
        let proxy = FaultProxy::start(s3.address())?;
        proxy.answer(answer.status, answer.body);
        let mut folders = s3.folders()?;
        folders.reach_at(proxy.endpoint());
        expect(job(&folders), answer.code, answer.says).with_context(|| answer.says[0].to_owned())?;
    }
    Ok(())
}

/// A streaming job whose reference lies in a bucket, and a batch job whose input does.
const JOBS: [(&str, &str); 2] = [
    (
        "reference",
        "
kind: StreamingJob
apiVersion: dataplatform.io/v1alpha1
metadata: {name: names}
spec:
  sources: [{name: events, topics: [t], columns: [{name: id, type: string}]}]
  references: [{name: users, format: parquet, path: 's3://bucket/users'}]
  query: SELECT id, name FROM events JOIN users USING (id)
  sink: {format: parquet, path: names}
",
    ),
    (
        "input",
        "
kind: BatchJob
apiVersion: dataplatform.io/v1alpha1
metadata: {name: names}
spec:
  interval: hour
  inputs: [{name: users, path: 's3://bucket/users', timeColumn: at, completeBy: clock}]
  query: SELECT count(*) AS users FROM users
  sink: {path: names}
",
    ),
];

/// Who reads tables of a bucket.
const READERS: [&str; 4] = ["query", "query of a path", "reference", "input"];

/// What reads a table of a bucket; nothing of its own is written there.
fn reader(name: &str, folders: &JobFolders) -> anyhow::Result<RunnerCommand> {
    let bucket = folders.bucket().context("folders in a bucket")?;
    let command = match JOBS.iter().find(|(job, _)| *job == name) {
        Some((_, text)) => {
            let file = folders.root().join(format!("{name}.yaml"));
            std::fs::write(&file, text)?;
            let job = Runner::command(["run", "--patience", "0", "-f"]).arg(&file);
            job.env("KAFKA_BOOTSTRAP_SERVER", "127.0.0.1:1").folders_on_disk(folders)
        }
        None if name == "query" => {
            Runner::command(["query", "SELECT * FROM users", "--outputs", "s3://bucket/outputs"])
        }
        None => Runner::command(["query", "SELECT * FROM 's3://bucket/users'"]).folders_on_disk(folders),
    };
    Ok(bucket.variables().into_iter().fold(command, |command, (name, value)| command.env(name, value)))
}

/// A reader, and what the store answers it; `None`: nobody answers.
struct Read {
    name: String,
    reader: &'static str,
    answer: Option<&'static Answer>,
}

#[test]
fn who_reads_a_table_is_told_what_writers_are_told() -> anyhow::Result<()> {
    let s3 = needs_s3!();
    // What a writer is told of the object that it wrote is not for readers.
    let answers = ANSWERS.iter().filter(|answer| !answer.body.is_empty()).map(Some);
    let mut cases = Vec::new();
    for answer in answers.chain([None]) {
        let problem = answer.map_or("nobody answers", |answer| answer.status);
        cases.extend(READERS.map(|reader| Read { name: format!("{reader}: {problem}"), reader, answer }));
    }
    let run = |case: &Read| {
        let mut folders = s3.folders()?;
        let Some(answer) = case.answer else {
            // A port that was free a moment ago.
            let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
            folders.reach_at(format!("http://{free}"));
            let code = if case.reader.starts_with("query of") || case.reader == "reference" { CHANGE } else { RETRY };
            let says = ["s3://bucket/", "if it stays, look at the disk or the store"];
            return expect(reader(case.reader, &folders)?, code, &says);
        };
        let proxy = FaultProxy::start(s3.address())?;
        proxy.answer(answer.status, answer.body);
        folders.reach_at(proxy.endpoint());
        let says: Vec<_> = answer.says.iter().copied().filter(|part| *part != "create s3://").collect();
        // What may pass is waited for by a run, and by nobody who plans.
        let is_planned = case.reader.starts_with("query of") || case.reader == "reference";
        expect(reader(case.reader, &folders)?, if is_planned { CHANGE } else { answer.code }, &says)
    };
    run_all(&cases, |case| &case.name, run).map(drop)
}

#[test]
fn settings_that_cannot_be_right_are_refused_before_anything_is_asked() -> anyhow::Result<()> {
    let s3 = needs_s3!();
    let folders = s3.folders()?;
    let bucket = |name: &str| format!("s3://{name}/checkpoints");
    let real = || job(&folders).env("CHECKPOINT_DIR", bucket("no-such-bucket"));
    expect(real(), CHANGE, &["the bucket does not exist", "s3://no-such-bucket/checkpoints", "create the bucket"])?;
    let open = job(&folders).env("AWS_ALLOW_HTTP", "false");
    expect(open, CHANGE, &["would carry all data unencrypted", "AWS_ALLOW_HTTP=true"])?;
    let wrong = job(&folders).env("AWS_SECRET_ACCESS_KEY", "wrong");
    expect(wrong, CHANGE, &["does not know these credentials", "correct the credentials"])?;
    let scheme = job(&folders).env("CHECKPOINT_DIR", "ftp://host/x");
    expect(scheme, CHANGE, &["cannot open such a store (ftp://)", "s3://, gs:// or abfss://"])?;
    let missing = job(&folders).env("STORAGE_CREDENTIALS_DIR", "/nowhere");
    expect(missing, RETRY, &["/nowhere: there are no credentials", "AWS_ACCESS_KEY_ID"])?;
    Ok(())
}
