//! A pod whose job is not valid: it stays up, not ready, and says why, since a pod that ends and starts again says nothing.

use std::time::Duration;

use crate::args::RunArgs;
use crate::commands::error::CommandError;
use crate::commands::run::asked::{Asked, glance};
use crate::commands::run::{Running, listen_for_signals, plan, serve};
use crate::pipeline::error::JobError;
use crate::pipeline::memory::MemoryBudget;
use crate::pipeline::status::Phase;

/// How often the job is read again.
const AGAIN: Duration = Duration::from_secs(5);
/// Nothing is under way that would take time to stop.
const STOP: Duration = Duration::from_secs(1);

/// Shows the error until the job is valid or the process is to stop.
///
/// # Errors
/// `error` itself when it is not one that its user can mend; that the pages cannot be served; that the job is valid now,
/// which is worth a new start.
pub(crate) fn stay(args: &RunArgs, error: CommandError) -> Result<(), CommandError> {
    let Some(shown) = error.for_user() else { return Err(error) };
    let (namespace, name, _) = glance(args);
    let running = Running::unplanned(&namespace, &name, MemoryBudget::detect());
    running.status.error(Phase::Stalled, running.clock.now(), &shown);
    tracing::error!(reason = shown.reason.name(), "{}", error.text());
    serve(args, &running, true)?;
    listen_for_signals(&running.stop, STOP);
    loop {
        running.stop.wait(AGAIN);
        if running.stop.is_stopped() {
            return Ok(());
        }
        match Asked::read(args).and_then(|asked| plan(asked.loaded, &asked.options.outputs).map(drop)) {
            Ok(()) => return Err(CommandError::failed("the job is valid now: starting again")),
            Err(again) => {
                let again: JobError = again.for_user().unwrap_or_else(|| shown.clone());
                if running.status.get().message != again.message {
                    running.status.error(Phase::Stalled, running.clock.now(), &again);
                }
            }
        }
    }
}
