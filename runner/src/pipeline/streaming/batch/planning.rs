//! What the next micro-batch reads: where the partitions end now, who answers, and how much memory is left.

use crate::offsets::Partitions;
use crate::pipeline::error::{JobError, Reason, Retry};
use crate::pipeline::lag;
use crate::pipeline::memory::resident_bytes;
use crate::pipeline::plan;
use crate::pipeline::status::Phase;
use crate::pipeline::streaming::batch::{BOUNDS_AGE_MAX, BatchPlan};
use crate::pipeline::streaming::start::Session;
use crate::pipeline::streaming::{BACKOFF, RunMode};
use crate::source::{Identity, SourceError};

impl Session<'_> {
    /// What the next micro-batch reads; `None` if Kafka does not answer now.
    pub(super) fn plan(&mut self) -> Result<Option<BatchPlan>, JobError> {
        let clock = self.environment.clock.now();
        match self.look_at_bounds() {
            Err(error) if self.can_wait(&error) => {
                self.say_unanswered(&error);
                return Ok(None);
            }
            looked => looked?,
        }
        let mut lost = Partitions::new();
        let mut starts = self.positions.clone();
        let mut assign_again = false;
        for (topic, partition, bounds) in self.bounds.iter() {
            let known = starts.at(topic, partition);
            // A partition that the log does not know begins at earliest: it is new, nothing of it was read.
            let position = known.unwrap_or(bounds.earliest);
            if known.is_none() {
                tracing::info!(topic, partition, position, "a new partition");
                starts.insert(topic, partition, position);
                self.positions.insert(topic, partition, position);
                self.activity.insert(topic, partition, clock);
                assign_again = true;
            }
            if position > bounds.end {
                let (topic, end) = (topic.to_owned(), bounds.end);
                return Err(SourceError::BehindEnd { topic, partition, position, end }.into());
            }
            if position < bounds.earliest {
                self.may_lose(topic, partition, position, bounds.earliest)?;
                lost.insert(topic, partition, bounds.earliest);
                starts.insert(topic, partition, bounds.earliest);
                assign_again = true;
            }
        }
        if assign_again {
            self.reader.assign(&starts)?;
            self.reader.tell_group(&self.positions);
        }
        self.limit_activity(clock);
        let mut ends = self.bounds.map(|bounds| bounds.end);
        if let Some(target) = &self.target {
            limit(&mut ends, target);
        }
        let records_max = self.settings.memory.records(self.settings.records_max, self.memory_used());
        let ranges = plan::micro_batch(&starts, &ends, records_max);
        let mut batch = BatchPlan { clock, ranges, lost, backlog_left: false };
        let backlog: i64 = total_backlog(&starts, &ends);
        batch.backlog_left = backlog > batch.records();
        Ok(Some(batch))
    }

    /// Whether an error of a question to Kafka can be waited for: the answer changes nothing of what the job knows, and a
    /// new start would have to ask for it as well, after it has read the records of its open windows again. A bounded
    /// run does not wait for ever.
    fn can_wait(&self, error: &JobError) -> bool {
        let passes = (error.reason, error.retry) == (Reason::KafkaUnreachable, Retry::Backoff);
        passes && self.settings.mode == RunMode::Continuous
    }

    /// Tells that the job waits for an answer of Kafka, once for each trouble.
    fn say_unanswered(&self, error: &JobError) {
        let status = &self.environment.status;
        let told = status.get();
        if told.phase != Phase::Retrying || told.message != error.message {
            status.error(Phase::Retrying, self.environment.clock.now(), error);
            tracing::warn!(reason = error.reason.name(), "{}", error.in_full());
        }
    }

    /// Asks for the ends of the partitions, and for new ones, unless what is known is fresh and enough to read.
    fn look_at_bounds(&mut self) -> Result<(), JobError> {
        let fresh = self.bounds_age.is_some_and(|age| self.environment.clock.since(age) < BOUNDS_AGE_MAX);
        let ends = self.bounds.map(|bounds| bounds.end);
        if fresh && total_backlog(&self.positions, &ends) >= self.settings.records_max {
            return Ok(());
        }
        if self.target.is_some() {
            // A bounded run: its ends are fixed.
            return Ok(());
        }
        if self.bounds_age.is_some() {
            let identity = self.reader.identity()?;
            self.take_identity(identity)?;
        }
        self.bounds_clock = self.environment.clock.now();
        self.bounds = self.reader.bounds()?;
        self.bounds_age = Some(self.environment.clock.instant());
        lag::looked(&mut self.read_up_to, &self.positions, &self.bounds, self.bounds_clock);
        self.say_ends();
        if self.settings.mode != RunMode::Continuous {
            self.check_complete()?;
            self.target = Some(self.bounds.map(|bounds| bounds.end));
        }
        Ok(())
    }

    /// A bounded run promises all that is there: every partition must have told its end.
    fn check_complete(&self) -> Result<(), JobError> {
        for (topic, known) in &self.identity.topics {
            let told = self.bounds.topic(topic).count();
            if told < known.partitions as usize {
                let detail = format!("{topic}: {told} of {} partitions answered", known.partitions);
                return Err(SourceError::Failed { operation: "ask for offsets", detail }.into());
            }
        }
        Ok(())
    }

    /// Takes note of who answers now.
    pub(super) fn take_identity(&mut self, identity: Identity) -> Result<(), JobError> {
        say_topics_gone(self.identity.topics.keys(), &identity);
        self.identity = identity;
        self.check_identity()
    }

    /// The same after a question that may have failed: what was read stays good, so it is asked until somebody answers.
    pub(super) fn take_identity_in_time(&mut self, told: Result<Identity, SourceError>) -> Result<(), JobError> {
        let mut told = told;
        loop {
            match told.map_err(JobError::from) {
                Ok(identity) => return self.take_identity(identity),
                Err(error) if self.can_wait(&error) => self.say_unanswered(&error),
                Err(error) => return Err(error),
            }
            if self.environment.stop.wait(BACKOFF.0) {
                return Err(SourceError::Stopped.into());
            }
            told = self.reader.identity();
        }
    }

    fn check_identity(&self) -> Result<(), JobError> {
        let topics = self.identity.topics.iter().map(|(name, topic)| (name.clone(), topic.id.clone())).collect();
        let check = crate::checkpoint::decide::cluster_check(self.log.state(), &self.identity.cluster_id, &topics);
        JobError::cluster(&check, &self.settings.job).map_or(Ok(()), Err)
    }

    fn may_lose(&self, topic: &str, partition: i32, position: i64, earliest: i64) -> Result<(), JobError> {
        if self.settings.fail_on_data_loss {
            let topic = topic.to_owned();
            return Err(SourceError::OffsetsGone { topic, partition, position, earliest }.into());
        }
        tracing::warn!(
            topic,
            partition,
            from = position,
            to = earliest,
            "offsets are gone from Kafka; going on behind them"
        );
        Ok(())
    }

    /// What the process uses, or what its state uses relative to its share, whichever is scarcer.
    fn memory_used(&self) -> u64 {
        let memory = &self.settings.memory;
        let windows: u64 = self.flows.iter().map(|flow| flow.operator.size_bytes() as u64).sum();
        let state = windows + self.deduplicator.as_ref().map_or(0, |running| running.status().bytes);
        let by_state =
            u64::try_from(u128::from(memory.limit) * 7 / 10 * u128::from(state) / u128::from(memory.state.max(1)));
        resident_bytes().max(by_state.unwrap_or(u64::MAX))
    }
}

/// Names the topics that were read and are not there now. A topic of a pattern may go away; one that is named is an error
/// of the source.
pub(in crate::pipeline::streaming) fn say_topics_gone<'a>(known: impl Iterator<Item = &'a String>, now: &Identity) {
    for topic in known.filter(|topic| !now.topics.contains_key(*topic)) {
        tracing::warn!(topic, "a topic that the job read is gone; what it had that was not read is lost");
    }
}

/// Cuts ends down to where a bounded run ends.
fn limit(ends: &mut Partitions<i64>, target: &Partitions<i64>) {
    for (topic, partition, end) in ends.iter_mut() {
        *end = (*end).min(target.at(topic, partition).unwrap_or(0));
    }
}

fn total_backlog(positions: &Partitions<i64>, ends: &Partitions<i64>) -> i64 {
    let left =
        |(topic, partition, end): (_, _, &i64)| (end - positions.at(topic, partition).unwrap_or_default()).max(0);
    ends.iter().map(left).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one<T>(value: T) -> Partitions<T> {
        Partitions::of("t", [(0, value)])
    }

    #[test]
    fn the_backlog_counts_only_what_is_left() {
        assert_eq!(total_backlog(&one(5), &one(8)), 3);
        assert_eq!(total_backlog(&one(9), &one(8)), 0);
        assert_eq!(total_backlog(&Partitions::new(), &one(8)), 8);
    }

    #[test]
    fn a_bounded_run_ends_where_it_was_told() {
        let mut ends = one(100);
        limit(&mut ends, &one(50));
        assert_eq!(ends, one(50));
    }
}
