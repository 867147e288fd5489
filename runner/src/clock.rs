//! The only reader of time: of the wall clock, and of the one that only goes forward.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Reads time.
pub trait Clock: Send + Sync {
    /// Microseconds since 1970 UTC, of the wall clock: it may be wrong, and may be set back.
    fn now(&self) -> i64;

    /// This moment, to measure by how long something takes: never before an earlier one.
    fn instant(&self) -> Instant;

    /// How long ago a moment was.
    fn since(&self, began: Instant) -> Duration {
        self.instant().saturating_duration_since(began)
    }
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[allow(clippy::disallowed_methods, reason = "the one place")]
impl Clock for SystemClock {
    fn now(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
        }
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that goes on only when somebody turns it.
#[derive(Debug)]
pub struct ManualClock {
    began: i64,
    made: Instant,
    /// Microseconds that it was turned.
    turned: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at a time in microseconds since 1970 UTC.
    pub fn at(micros: i64) -> Self {
        Self { began: micros, made: SystemClock.instant(), turned: AtomicI64::new(0) }
    }

    /// Turns it forward.
    pub fn advance(&self, time: Duration) {
        self.turned.fetch_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> i64 {
        self.began.saturating_add(self.turned.load(Ordering::SeqCst))
    }

    fn instant(&self) -> Instant {
        let turned = u64::try_from(self.turned.load(Ordering::SeqCst)).unwrap_or_default();
        self.made + Duration::from_micros(turned)
    }
}

/// A time in microseconds as RFC 3339 text with milliseconds.
pub fn show_time(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros)
        .map_or_else(|| format!("{micros} µs"), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}
