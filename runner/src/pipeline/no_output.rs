//! Why a streaming job writes no rows although it runs: the question that people ask first.
//!
//! Pure. Counted is what happened since the last rows were written.

use crate::counters::Counters;
use crate::pipeline::error::Reason;
use crate::pipeline::status::PartitionStatus;

/// Why there is no output. The words are those of `/status`; docs/reasons.md explains them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoOutput {
    /// No record came.
    NoInput,
    /// Every record is too far ahead of the clock.
    AllFuture,
    /// Every record is a dead letter.
    AllDeadLettered,
    /// The query's WHERE refuses every row.
    AllFiltered,
    /// Every row belongs to a window that is closed.
    AllLate,
    /// A partition without new records holds the watermark.
    WatermarkHeldByIdlePartition,
    /// A partition that does not answer, or is behind, holds the watermark.
    WatermarkHeldByLatePartition,
    /// The windows of what came are open.
    WindowsOpen,
    /// What is computed cannot be written.
    SinkBlocked,
}

impl NoOutput {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::NoInput,
        Self::AllFuture,
        Self::AllDeadLettered,
        Self::AllFiltered,
        Self::AllLate,
        Self::WatermarkHeldByIdlePartition,
        Self::WatermarkHeldByLatePartition,
        Self::WindowsOpen,
        Self::SinkBlocked,
    ];

    /// The word in `/status`.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// What happened and what to do, for people who do not know the word.
    pub fn explained(self) -> &'static str {
        match self {
            Self::NoInput => "no record came that counts; look at who writes the topic",
            Self::AllFuture => {
                "every record is further ahead of the clock than eventTime.maxFutureSkew; look at the clocks"
            }
            Self::AllDeadLettered => "every record, or every row of the result, is bad; look at the dead letters",
            Self::AllFiltered => "the WHERE of the query refuses every row; look at the query and at the values",
            Self::AllLate => {
                "every row belongs to a window that is closed; give the source a longer eventTime.watermarkDelay"
            }
            Self::WatermarkHeldByIdlePartition => {
                "a partition has no new records; wait until it counts as idle, or set a shorter eventTime.idleTimeout"
            }
            Self::WatermarkHeldByLatePartition => {
                "a partition does not answer or is behind, and its windows must wait; look at the partitions, and at the broker"
            }
            Self::WindowsOpen => {
                "what came is in windows that no event has closed yet; wait for later events, or close all with --drain"
            }
            Self::SinkBlocked => "what is computed cannot be written; the reason of the job says why",
        }
    }

    /// The reason that an error is, if it is one.
    pub fn of_error(reason: Reason) -> Option<Self> {
        let blocks = [
            Reason::StorageDenied,
            Reason::StorageFull,
            Reason::StorageFailed,
            Reason::StorageUnsuitable,
            Reason::OutputChanged,
            Reason::OutputTopicFailed,
        ];
        blocks.contains(&reason).then_some(Self::SinkBlocked)
    }
}

/// What happened to records and rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Records read.
    pub read: u64,
    /// Those of them that no output saw, but for dead letters: tombstones, control records, too far in the future, duplicates.
    pub passed_over: u64,
    /// Those of them that are too far in the future.
    pub future: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Refused by the WHERE.
    pub filtered: u64,
    /// Late.
    pub late: u64,
    /// Part of a result.
    pub accepted: u64,
    /// Rows of the result that are dead letters.
    pub refused_rows: u64,
    /// Rows written.
    pub rows: u64,
}

impl Seen {
    /// Of the counters of a log, for one output and the sources that it reads.
    pub fn of(totals: &Counters, reads: impl Fn(&str) -> bool, output: &str) -> Self {
        let mut seen = Self::default();
        for (_, source) in totals.sources.iter().filter(|(name, _)| reads(name)) {
            seen.read += source.read;
            seen.passed_over += source.tombstone + source.control + source.future + source.duplicate;
            seen.future += source.future;
            seen.dead_letters += source.dead_letters();
        }
        if let Some(output) = totals.outputs.get(output) {
            (seen.filtered, seen.late) = (output.filtered, output.late);
            (seen.accepted, seen.rows) = (output.accepted, output.rows);
            seen.dead_letters += output.dead_letters();
            seen.refused_rows = output.refused.values().sum();
        }
        seen
    }

    fn since(self, before: Self) -> Self {
        Self {
            read: self.read.saturating_sub(before.read),
            passed_over: self.passed_over.saturating_sub(before.passed_over),
            future: self.future.saturating_sub(before.future),
            dead_letters: self.dead_letters.saturating_sub(before.dead_letters),
            filtered: self.filtered.saturating_sub(before.filtered),
            late: self.late.saturating_sub(before.late),
            accepted: self.accepted.saturating_sub(before.accepted),
            refused_rows: self.refused_rows.saturating_sub(before.refused_rows),
            rows: self.rows.saturating_sub(before.rows),
        }
    }
}

/// Remembers what was seen when rows were written last, and when that was.
#[derive(Clone, Copy, Debug, Default)]
pub struct SinceOutput {
    before: Option<Seen>,
    written: Option<i64>,
}

/// The time, and how long a job that works may write no rows; both in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    /// Now.
    pub now: i64,
    /// As long as it takes a window to fill and to close: before that the silence needs no explanation.
    pub usual: i64,
}

impl SinceOutput {
    /// Why no rows were written with the last commit. `None`: some were, or it is too soon to ask, since rows were written
    /// a moment ago and those of open windows are still to come.
    pub fn explain(
        &mut self,
        seen: Seen,
        open_windows: u64,
        partitions: &[PartitionStatus],
        silence: Silence,
    ) -> Option<NoOutput> {
        let is_first = self.before.is_none();
        let before = *self.before.get_or_insert(seen);
        let since = seen.since(before);
        if since.rows > 0 || is_first && seen.rows > 0 {
            (self.before, self.written) = (Some(seen), Some(silence.now));
        }
        if self.written.is_some_and(|written| silence.now.saturating_sub(written) < silence.usual) {
            return None;
        }
        no_output(since, open_windows, partitions.iter().find(|partition| partition.holds_watermark))
    }
}

/// Why nothing was written, of what happened since something was. `held_by` holds the watermark back.
pub fn no_output(since: Seen, open_windows: u64, held_by: Option<&PartitionStatus>) -> Option<NoOutput> {
    if since.rows > 0 {
        return None;
    }
    if open_windows > 0
        && let Some(held_by) = held_by
    {
        let is_late = held_by.end.is_none_or(|end| end > held_by.position);
        return Some(if is_late {
            NoOutput::WatermarkHeldByLatePartition
        } else {
            NoOutput::WatermarkHeldByIdlePartition
        });
    }
    let judged = since.read.saturating_sub(since.passed_over);
    Some(match since {
        _ if judged == 0 && since.future > 0 => NoOutput::AllFuture,
        _ if judged > 0 && since.dead_letters == judged => NoOutput::AllDeadLettered,
        _ if since.accepted == 0 && since.late > 0 && since.late >= since.filtered => NoOutput::AllLate,
        _ if since.accepted == 0 && since.filtered > 0 => NoOutput::AllFiltered,
        _ if since.refused_rows > 0 => NoOutput::AllDeadLettered,
        _ if open_windows > 0 => NoOutput::WindowsOpen,
        _ => NoOutput::NoInput,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(position: i64, end: Option<i64>) -> PartitionStatus {
        PartitionStatus { position, end, holds_watermark: true, ..PartitionStatus::default() }
    }

    #[test]
    fn every_reason_is_found() {
        let seen = |read, passed_over, dead_letters, filtered, late, accepted| Seen {
            read,
            passed_over,
            dead_letters,
            filtered,
            late,
            accepted,
            ..Seen::default()
        };
        let future = Seen { read: 5, passed_over: 5, future: 4, ..Seen::default() };
        let (idle, late, silent) = (partition(9, Some(9)), partition(5, Some(9)), partition(5, None));
        for (since, open, held, expected) in [
            (seen(0, 0, 0, 0, 0, 0), 0, None, NoOutput::NoInput),
            (seen(5, 5, 0, 0, 0, 0), 0, None, NoOutput::NoInput),
            (future, 0, None, NoOutput::AllFuture),
            (Seen { read: 6, accepted: 1, ..future }, 1, None, NoOutput::WindowsOpen),
            (seen(9, 1, 8, 0, 0, 0), 0, None, NoOutput::AllDeadLettered),
            (seen(9, 0, 8, 1, 0, 0), 0, None, NoOutput::AllFiltered),
            (Seen { refused_rows: 2, ..seen(9, 0, 0, 0, 0, 9) }, 1, None, NoOutput::AllDeadLettered),
            (seen(9, 0, 0, 9, 0, 0), 3, None, NoOutput::AllFiltered),
            (seen(9, 0, 0, 0, 9, 0), 0, None, NoOutput::AllLate),
            (seen(9, 0, 0, 4, 5, 0), 0, None, NoOutput::AllLate),
            (seen(9, 0, 0, 0, 0, 9), 2, None, NoOutput::WindowsOpen),
            (seen(9, 0, 0, 0, 0, 9), 2, Some(&idle), NoOutput::WatermarkHeldByIdlePartition),
            (seen(9, 0, 0, 0, 0, 9), 2, Some(&late), NoOutput::WatermarkHeldByLatePartition),
            (seen(0, 0, 0, 0, 0, 0), 2, Some(&silent), NoOutput::WatermarkHeldByLatePartition),
            (seen(0, 0, 0, 0, 0, 0), 0, Some(&silent), NoOutput::NoInput),
        ] {
            assert_eq!(no_output(since, open, held), Some(expected), "{since:?} {open} {held:?}");
        }
        assert_eq!(no_output(Seen { rows: 1, ..Seen::default() }, 2, Some(&late)), None);
        assert_eq!(NoOutput::of_error(Reason::StorageFull), Some(NoOutput::SinkBlocked));
        assert_eq!(NoOutput::of_error(Reason::KafkaUnreachable), None);
    }

    #[test]
    fn what_was_before_the_last_rows_does_not_count() {
        let at = |now: i64| Silence { now, usual: 0 };
        let mut since = SinceOutput::default();
        let first = Seen { read: 10, accepted: 10, ..Seen::default() };
        assert_eq!(since.explain(first, 1, &[], at(0)), Some(NoOutput::WindowsOpen));
        let rows = Seen { rows: 3, ..first };
        assert_eq!(since.explain(rows, 0, &[], Silence { now: 1, usual: 1 }), None);
        let bad = Seen { read: 15, dead_letters: 5, ..rows };
        assert_eq!(since.explain(bad, 0, &[], at(2)), Some(NoOutput::AllDeadLettered));
    }

    /// Rows once a minute, a commit each second, one idle partition: nothing is to be explained.
    #[test]
    fn a_job_that_writes_its_windows_is_never_without_output() {
        let idle = partition(9, Some(9));
        let (mut since, mut seen) = (SinceOutput::default(), Seen { rows: 4, ..Seen::default() });
        for second in 0..600_i64 {
            (seen.read, seen.accepted) = (seen.read + 5, seen.accepted + 5);
            seen.rows += u64::from(second % 60 == 30);
            let silence = Silence { now: second * 1_000_000, usual: 150_000_000 };
            assert_eq!(since.explain(seen, 2, std::slice::from_ref(&idle), silence), None, "{second}");
        }
        let later = Silence { now: 750_000_000, usual: 150_000_000 };
        assert_eq!(since.explain(seen, 2, &[idle], later), Some(NoOutput::WatermarkHeldByIdlePartition));
    }

    #[test]
    fn every_reason_is_explained() {
        let page = include_str!("../../../docs/reasons.md");
        for reason in NoOutput::ALL {
            let line = page.lines().find(|line| line.starts_with(&format!("| {} |", reason.name())));
            let line = line.unwrap_or_else(|| panic!("docs/reasons.md does not explain {}", reason.name()));
            assert_eq!(line.matches('|').count(), 4, "{line}");
            assert!(reason.explained().contains("; "), "what happened; what to do: {reason:?}");
        }
    }
}
