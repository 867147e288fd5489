//! Waiting for a condition, never for a time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::bail;

/// Pause between two looks: short beside anything that is waited for, long enough to cost nothing.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks `attempt` until it gives something.
///
/// # Errors
/// After `timeout`; the message says what was waited for.
pub fn wait_for<T>(what: &str, timeout: Duration, attempt: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    wait_with_pause(what, timeout, PAUSE, attempt)
}

/// The same where a look costs something: `pause` lies between two.
pub(crate) fn wait_with_pause<T>(
    what: &str,
    timeout: Duration,
    pause: Duration,
    mut attempt: impl FnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(found) = attempt() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s in vain for {what}", timeout.as_secs_f32());
        }
        sleep(pause);
    }
}
