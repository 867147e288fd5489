//! The order to stop, seen by every thread of a job.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// An order to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct StopSignal {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
    /// What happens instead of waiting, in a world with a clock of its own.
    instead: Option<Box<dyn Fn(Duration) + Send + Sync>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("stopped", &self.stopped).finish_non_exhaustive()
    }
}

impl StopSignal {
    /// Nobody said stop.
    pub fn new() -> Self {
        Self::default()
    }

    /// A signal on which nobody waits: whoever would is told how long, and it is over at once.
    pub fn with_wait(instead: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        Self { shared: Arc::new(Shared { instead: Some(Box::new(instead)), ..Shared::default() }) }
    }

    /// Says stop, once and for all.
    pub fn stop(&self) {
        let _guard = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.changed.notify_all();
    }

    /// Whether somebody said stop.
    pub fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::SeqCst)
    }

    /// Waits for `time`, or until somebody says stop. Tells whether somebody did.
    pub fn wait(&self, time: Duration) -> bool {
        if let Some(instead) = &self.shared.instead {
            instead(time);
            return self.is_stopped();
        }
        let guard = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |(): &mut ()| !self.is_stopped();
        let _waited = self.shared.changed.wait_timeout_while(guard, time, waiting);
        self.is_stopped()
    }
}
