//! Credentials by web identity, as pods of EKS have them: a token in a file that rotates, given to a service that hands out
//! keys for a while. The service here is a STUB of ours; the store behind the keys is a real one.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::registry::Answer;
use data_platform_tests::tls::TlsFront;
use data_platform_tests::{StubRegistry, needs_broker, needs_s3, s3};

use super::behind_proxy;
use crate::events::TIMEOUT;
use crate::sources::numbers::{last_error, stop};

const ROLE: &str = "arn:aws:iam::111122223333:role/data-platform";

/// Hands out the key of the store that belongs to a token, to whoever shows the one that stands in the file now. Clients renew
/// what ends within five minutes: this ends soon after.
fn grants(token: PathBuf) -> Answer {
    Box::new(move |line, _| {
        let shown = std::fs::read_to_string(&token).unwrap_or_default();
        let is_asked = |part: &str| line.contains(part);
        if !is_asked("Action=AssumeRoleWithWebIdentity") || !is_asked("role%2Fdata-platform") {
            return (400, "<ErrorResponse><Error><Code>InvalidAction</Code></Error></ErrorResponse>".to_owned());
        }
        if !is_asked(&format!("WebIdentityToken={shown}")) || shown.is_empty() {
            return (400, "<ErrorResponse><Error><Code>InvalidIdentityToken</Code></Error></ErrorResponse>".to_owned());
        }
        let until = SystemTime::now() + Duration::from_secs(302);
        let until = until.duration_since(UNIX_EPOCH).map_or(0, |until| until.as_secs());
        let (secret, until) = (s3::SECRET, iso(until));
        (
            200,
            format!(
                "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
                 <AccessKeyId>identity-{shown}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
                 <SessionToken></SessionToken><Expiration>{until}</Expiration>\
                 </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
            ),
        )
    })
}

/// Seconds since 1970 as a time.
fn iso(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (mut year, mut day) = (1970, days);
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", month + 1, day + 1)
}

/// A job with an identity and no key of its own.
fn with_identity(command: RunnerCommand, front: &TlsFront, token: &Path) -> RunnerCommand {
    let command = command.env("AWS_ACCESS_KEY_ID", "").env("AWS_SECRET_ACCESS_KEY", "");
    let command = command.env("AWS_ENDPOINT_URL_STS", front.url()).env("AWS_CA_BUNDLE", front.certificate("ca.pem"));
    command.env("AWS_ROLE_ARN", ROLE).env("AWS_WEB_IDENTITY_TOKEN_FILE", token)
}

#[test]
fn a_role_by_web_identity_gives_credentials_that_are_renewed() -> anyhow::Result<()> {
    let (job, proxy) = behind_proxy(needs_broker!(), &needs_s3!(), "s3-identity")?;
    let folder = tempfile::tempdir()?;
    let token = folder.path().join("token");
    std::fs::write(&token, "first")?;
    let service = StubRegistry::start(grants(token.clone()))?;
    let front = TlsFront::start(service.url())?;
    job.produce(0, 0..10)?;
    let mut runner = with_identity(job.job()?, &front, &token).start()?;
    job.wait_for_committed(&mut runner, 10)?;
    ensure!(proxy.keys() == ["identity-first"], "{:?}", proxy.keys());
    // Kubernetes writes another token into the file, and the old one is worth nothing.
    std::fs::write(&token, "second")?;
    let mut produced = 10;
    runner.wait_for("requests with the key of the second token", TIMEOUT, |_| {
        job.produce(0, produced..produced + 1).ok()?;
        produced += 1;
        (proxy.keys() == ["identity-first", "identity-second"]).then_some(())
    })?;
    job.wait_for_committed(&mut runner, produced)?;
    stop(runner)?;
    ensure!(job.numbers()? == (0..produced).collect::<Vec<_>>());

    // An identity that is not taken, and none.
    let says = |command: RunnerCommand| -> anyhow::Result<String> {
        let (_, runner) = command.arg("--drain").arg("--patience").arg("0").run(TIMEOUT)?;
        Ok(last_error(&runner))
    };
    let other = folder.path().join("other");
    std::fs::write(&other, "of somebody else")?;
    for token in [other, folder.path().join("none")] {
        let said = says(with_identity(job.job()?, &front, &token))?;
        ensure!(said.contains("no credentials could be had") && said.contains("a service account"), "{said}");
    }
    let stranger = front.certificate("stranger-ca.pem");
    let said = says(with_identity(job.job()?, &front, &token).env("AWS_CA_BUNDLE", stranger))?;
    ensure!(said.contains("is not trusted") && said.contains("AWS_CA_BUNDLE"), "{said}");
    Ok(())
}
