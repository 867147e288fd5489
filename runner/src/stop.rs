//! The order to stop, seen by every thread of a job.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// An order to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct StopSignal {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl StopSignal {
    /// Nobody said stop.
    pub fn new() -> Self {
        Self::default()
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
        let guard = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |(): &mut ()| !self.is_stopped();
        let _waited = self.shared.changed.wait_timeout_while(guard, time, waiting);
        self.is_stopped()
    }
}
