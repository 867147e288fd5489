//! A check: what it is called, what it does, how long it may take; and how checks run side by side.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::commands::error::CommandError;
use crate::pipeline::error::{JobError, Reason};

/// How long a check may take, unless it says otherwise: what answers later is of no use to a job either.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// What a check does. It may block: it has a thread of its own.
type Examine = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = Vec<Finding>>>> + Send>;

/// Something to look at.
pub(super) struct Check {
    /// The job that needs it; empty: all of them.
    pub(super) job: String,
    /// What is looked at.
    pub(super) name: String,
    /// How long that may take.
    pub(super) limit: Duration,
    /// What it means when there is no answer within the limit.
    silence: Reason,
    examine: Examine,
}

/// What came of one look. A check may look at several things that are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) name: String,
    pub(super) outcome: Outcome,
}

/// How it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As it should be: what was found.
    Ok(String),
    /// The job would run, and somebody should look.
    Warning {
        /// What was found.
        message: String,
        /// What to do.
        cure: String,
    },
    /// The job would not run so.
    Failed(JobError),
    /// Not looked at: why.
    Skipped(String),
}

/// A finding, with whose it is and how long it took.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) job: String,
    pub(super) name: String,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
}

impl Check {
    /// A check of several things.
    pub(super) fn new<F>(
        job: &str,
        name: impl Into<String>,
        silence: Reason,
        examine: impl FnOnce() -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Vec<Finding>> + 'static,
    {
        let examine: Examine = Box::new(move || Box::pin(examine()));
        Self { job: job.to_owned(), name: name.into(), limit: LIMIT, silence, examine }
    }

    /// A check of one thing.
    pub(super) fn one<F>(
        job: &str,
        name: impl Into<String>,
        silence: Reason,
        examine: impl FnOnce() -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Outcome> + 'static,
    {
        let name = name.into();
        let called = name.clone();
        Self::new(job, name, silence, move || {
            let outcome = examine();
            async move { vec![Finding { name: called, outcome: outcome.await }] }
        })
    }

    /// What is said when there is no answer.
    fn silent(&self) -> Vec<Finding> {
        let message = format!("no answer within {} s", self.limit.as_secs());
        let cure = "look whether it can be reached from here, and whether it is overloaded";
        let outcome = Outcome::Failed(JobError::passing(self.silence, message, cure));
        vec![Finding { name: self.name.clone(), outcome }]
    }
}

impl From<Result<String, JobError>> for Outcome {
    fn from(result: Result<String, JobError>) -> Self {
        match result {
            Ok(found) => Self::Ok(found),
            Err(error) => Self::Failed(error),
        }
    }
}

impl From<Result<String, CommandError>> for Outcome {
    fn from(result: Result<String, CommandError>) -> Self {
        let of = |error: CommandError| match error {
            CommandError::Job(error) => error,
            other => JobError::user(Reason::InvalidSpec, other.text(), "correct the job"),
        };
        Self::from(result.map_err(of))
    }
}

/// Runs checks side by side, and gives what they found in the order of the checks. A check that has not answered when its time
/// is over is left alone: the process is about to end.
pub(super) fn run_all(checks: Vec<Check>) -> Vec<Row> {
    let began = SystemClock.instant();
    let (tell, told) = mpsc::channel();
    let mut rows: Vec<Option<Vec<Row>>> = Vec::with_capacity(checks.len());
    let mut waits = Vec::with_capacity(checks.len());
    for (index, check) in checks.into_iter().enumerate() {
        let row =
            |finding: Finding, took| Row { job: check.job.clone(), name: finding.name, outcome: finding.outcome, took };
        let silent: Vec<_> = check.silent().into_iter().map(|finding| row(finding, check.limit)).collect();
        let (job, limit, tell) = (check.job.clone(), check.limit, tell.clone());
        let thread = std::thread::Builder::new().name(format!("check {index}")).spawn(move || {
            let findings = alone(check.examine);
            let took = SystemClock.since(began);
            let row = |finding: Finding| Row { job: job.clone(), name: finding.name, outcome: finding.outcome, took };
            // Nobody waits any more: it was too late.
            let _ = tell.send((index, findings.into_iter().map(row).collect::<Vec<_>>()));
        });
        rows.push(None);
        waits.push((limit, silent, thread.is_ok()));
    }
    loop {
        let open = waits.iter().zip(&rows).filter(|((.., is_running), rows)| *is_running && rows.is_none());
        let left = open.map(|((limit, ..), _)| limit.saturating_sub(SystemClock.since(began))).max();
        let Some(left) = left else { break };
        match told.recv_timeout(left) {
            Ok((index, found)) => rows[index] = Some(found),
            Err(_) => break,
        }
    }
    rows.into_iter().zip(waits).flat_map(|(rows, (_, silent, _))| rows.unwrap_or(silent)).collect()
}

/// Runs a check on this thread. One that panics has found a fault of this program.
fn alone(examine: Examine) -> Vec<Finding> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(examine()),
        Err(error) => {
            let message = format!("cannot start the runtime: {error}");
            let outcome = Outcome::Failed(JobError::passing(Reason::InternalError, message, "try again"));
            vec![Finding { name: "this program".to_owned(), outcome }]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_run_side_by_side_and_one_that_does_not_answer_keeps_nobody() {
        let barrier = std::sync::Arc::new(std::sync::Barrier::new(3));
        let mut checks: Vec<_> = (0..3)
            .map(|number| {
                let barrier = std::sync::Arc::clone(&barrier);
                // One after the other they would wait for ever.
                Check::one("job", format!("c{number}"), Reason::InternalError, move || async move {
                    barrier.wait();
                    Outcome::Ok(number.to_string())
                })
            })
            .collect();
        let silent = Check::one("job", "silent", Reason::StorageFailed, || async {
            std::future::pending::<()>().await;
            Outcome::Ok(String::new())
        });
        checks.insert(1, Check { limit: Duration::from_millis(200), ..silent });
        let rows = run_all(checks);
        let found: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(found, ["c0", "silent", "c1", "c2"]);
        let Outcome::Failed(error) = &rows[1].outcome else { panic!("{:?}", rows[1]) };
        assert_eq!(error.reason, Reason::StorageFailed);
        assert_eq!(rows[3].outcome, Outcome::Ok("2".to_owned()));
    }
}
