//! What a store says no to, and what the job says then: what, where, and what to do.

use anyhow::Context;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{FaultProxy, JobFolders, Runner, needs_s3};

use crate::bad_input::case::{CHANGE, RETRY, expect};

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

const ANSWERS: [Answer; 8] = [
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
