//! A source that has had nothing to read for a while keeps no client that fetches.
//!
//! A client that is assigned partitions at their end asks each of their leaders for records ten times a second, for as long
//! as the job waits, and keeps a thread for each broker and a queue for each partition (own measurement: four fifths of
//! what a job costs to which nothing comes). What there is to read is known from the questions of every trigger, over the
//! other connection; the first read connects again.

use std::time::{Duration, Instant};

use super::KafkaSource;
use crate::clock::{Clock, SystemClock};
use crate::offsets::{Bounds, Partitions};
use crate::source::SourceError;
use crate::stop::StopSignal;

/// How long nothing comes before the client goes: to connect again takes some milliseconds, which nobody notices once a
/// minute.
pub const REST_AFTER: Duration = Duration::from_secs(60);

/// How soon brokers are tried again that do not answer: each try waits for them itself.
const AGAIN: Duration = Duration::from_millis(100);

/// Since when there is nothing to read.
pub(super) struct Rest {
    after: Option<Duration>,
    busy: Instant,
}

impl Rest {
    pub(super) fn new(after: Option<Duration>) -> Self {
        Self { after, busy: SystemClock.instant() }
    }

    /// Something was read, or will be.
    pub(super) fn over(&mut self) {
        self.busy = SystemClock.instant();
    }
}

impl KafkaSource {
    /// Lets the client go that fetches, if nothing was read for a while and nothing is there to read.
    pub(super) fn rest_if_idle(&mut self, bounds: &Partitions<Bounds>) {
        if self.client.is_none() || self.positions.is_empty() {
            return;
        }
        // A partition that did not answer may have something; one that is behind has.
        let is_read = |(topic, partition, position): (&str, i32, &i64)| {
            bounds.get(topic, partition).is_some_and(|bounds| bounds.end <= *position)
        };
        if !self.positions.iter().all(is_read) {
            self.rest.over();
        } else if self.rest.after.is_some_and(|after| SystemClock.since(self.rest.busy) >= after) {
            self.partitions = Partitions::new();
            self.client = None;
            tracing::info!("nothing comes from Kafka: no longer fetching");
        }
    }

    /// Fetches again what is about to be read. The brokers answered a moment ago; if they are gone since then, waits for them
    /// as a read does.
    pub(super) fn wake(&mut self, ranges: &Partitions<(i64, i64)>, stop: &StopSignal) -> Result<(), SourceError> {
        self.rest.over();
        if !self.partitions.is_empty() || self.positions.is_empty() {
            return Ok(());
        }
        let mut positions = self.positions.clone();
        for (topic, partition, (start, _)) in ranges.iter() {
            positions.insert(topic, partition, *start);
        }
        loop {
            match self.assign_at(&positions) {
                Err(error @ SourceError::Unreachable { .. }) if self.patient => self.trouble.set(Some(error)),
                assigned => return assigned,
            }
            if stop.wait(AGAIN) {
                return Err(SourceError::Stopped);
            }
        }
    }
}
