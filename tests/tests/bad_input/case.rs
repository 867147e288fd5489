//! One case: a command line that must fail, and what its one message must say.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use data_platform_tests::process::RunnerCommand;
use data_platform_tests::{Ended, Runner};

/// Longest time of a case: two requests to a broker that does not answer, on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);
/// Cases that run side by side. Most of them wait for a process to start, and some for a broker that never answers.
const WORKERS: usize = 6;

/// The exit code that says: worth a retry.
pub(crate) const RETRY: i32 = 1;
/// The exit code that says: somebody must change something.
pub(crate) const CHANGE: i32 = 2;
/// The exit code that says: another runner has the job.
pub(crate) const FENCED: i32 = 3;

/// Runs it, and checks how it ends: this exit code, and one message with these parts.
pub(crate) fn expect(command: RunnerCommand, code: i32, says: &[impl AsRef<str>]) -> anyhow::Result<()> {
    let (ended, runner) = command.run(TIMEOUT)?;
    check(ended, &runner, code, says).with_context(|| runner.last_lines())
}

fn check(ended: Ended, runner: &Runner, code: i32, says: &[impl AsRef<str>]) -> anyhow::Result<()> {
    ensure!(ended == Ended::Code(code), "expected exit code {code}, found {ended:?}");
    let errors = runner.stderr();
    ensure!(!errors.contains("panicked"), "it panicked");
    let messages: Vec<_> = errors.match_indices("error: ").filter(|(at, _)| begins_a_line(&errors, *at)).collect();
    ensure!(messages.len() == 1, "expected one message, found {}", messages.len());
    let message = &errors[messages[0].0..];
    for part in says {
        ensure!(message.contains(part.as_ref()), "the message does not say {:?}", part.as_ref());
    }
    // What may pass was told at every attempt; anything else is told once.
    let first = says[0].as_ref();
    let times = errors.matches(first).count();
    ensure!(code == RETRY || times == 1, "{first:?} is said {times} times");
    ensure!(code == RETRY || !errors.contains("retry_in_ms"), "it tried again what no retry can cure");
    Ok(())
}

fn begins_a_line(text: &str, at: usize) -> bool {
    at == 0 || text.as_bytes()[at - 1] == b'\n'
}

/// Runs every case, several side by side. Gives the number of cases.
///
/// # Errors
/// Every case that went wrong.
pub(crate) fn run_all<C: Sync>(
    cases: &[C],
    name: impl Fn(&C) -> &str + Sync,
    run: impl Fn(&C) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<usize> {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = run(case) {
                        failures.lock().expect("no case panics").push(format!("{}: {error:#}", name(case)));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no case panics");
    ensure!(failures.is_empty(), "{} of {} cases:\n\n{}", failures.len(), cases.len(), failures.join("\n\n"));
    Ok(cases.len())
}
