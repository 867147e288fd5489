//! What a run over all that is there processes: every interval from the day of the oldest row on that is complete and that no
//! run has finished. Of a whole table the newest one.

use datafusion::arrow::array::cast::AsArray;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};

use crate::checkpoint::progress::{Progress, read_progress};
use crate::pipeline::batch::Session;
use crate::pipeline::batch::compute::query_failed;
use crate::pipeline::batch::inputs::{self, Input, Tables};
use crate::pipeline::batch::interval::{Covered, Grid, Interval};
use crate::pipeline::error::{JobError, Reason};
use crate::transform::{BatchQuery, InputTables};

/// The newest ones of so many: a single row with a time of long ago would make an interval of every hour since.
const INTERVALS_MAX: usize = 9_000;

impl Session<'_> {
    /// The intervals, oldest first.
    pub(super) async fn available(&self) -> Result<Vec<Interval>, JobError> {
        let (settings, environment) = (self.settings, self.environment);
        let now = environment.clock.now();
        let (mut told, mut oldest) = (Vec::new(), None::<i64>);
        for input in &settings.inputs {
            if input.is_told() {
                let progress = read_progress(&input.location.open_table(&environment.faults)?).await?;
                match progress {
                    Some(progress) => told.push(progress),
                    None if input.is_empty(None)? => {}
                    None => return Ok(Vec::new()),
                }
            }
            match inputs::open(std::slice::from_ref(input), Interval { start: 0, end: now })? {
                Tables::Known(tables) if input.time_column.is_some() => {
                    let first = self.oldest_row(input, tables, now).await?;
                    oldest = oldest.into_iter().chain(first).min();
                }
                Tables::Known(_) | Tables::WithoutColumns => {}
                Tables::Missing(why) => {
                    tracing::warn!("nothing is processed: {why}");
                    return Ok(Vec::new());
                }
            }
        }
        let Some(oldest) = oldest else { return Ok(Vec::new()) };
        let mut intervals =
            complete(settings.grid, oldest, now, |interval| is_told(&told, settings.looked_back(interval)));
        if settings.whole {
            let holds = self.log.state.finished.stretches().last().map(|last| last.end);
            let newest = intervals.last().copied().filter(|newest| holds.is_none_or(|holds| holds < newest.end));
            return Ok(newest.map(|newest| self.times(newest)).into_iter().collect());
        }
        let left = unfinished(&mut intervals, &self.log.state.finished);
        if left > 0 {
            tracing::warn!(
                left,
                "only the newest {INTERVALS_MAX} intervals are processed; run the others with --from --to"
            );
        }
        Ok(intervals)
    }

    /// The time of the oldest row since 1970 of an input.
    async fn oldest_row(&self, input: &Input, tables: InputTables, now: i64) -> Result<Option<i64>, JobError> {
        let refused = |message: String| JobError::user(Reason::QueryFailed, message, "correct inputs, or the table");
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let column = quoted(input.time_column.as_deref().unwrap_or_default());
        let sql = format!("SELECT min({column}) AS oldest FROM {}", quoted(&input.name));
        let query = BatchQuery::parse(&sql).map_err(|error| refused(error.to_string()))?;
        let memory = usize::try_from(self.settings.memory.run).unwrap_or(usize::MAX);
        let mut rows = query.start(tables, memory, now).map_err(|error| refused(error.to_string()))?;
        let mut oldest = None;
        while let Some(batches) = rows.next().await.map_err(query_failed)? {
            for batch in batches {
                let times = cast(batch.column(0), &DataType::Timestamp(TimeUnit::Microsecond, None))
                    .map_err(|error| refused(format!("{column} of {} is no time: {error}", input.name)))?;
                oldest =
                    oldest.into_iter().chain(times.as_primitive::<TimestampMicrosecondType>().iter().flatten()).min();
            }
        }
        Ok(oldest)
    }
}

fn is_told(told: &[Progress], read: Interval) -> bool {
    told.iter().all(|progress| progress.covers(read.start, read.end))
}

/// The intervals that are over, from the beginning of the day of the oldest row on, as far as they are complete. The day
/// belongs to it: what reads the result by days waits for all of its hours.
fn complete(grid: Grid, oldest: i64, now: i64, is_complete: impl Fn(Interval) -> bool) -> Vec<Interval> {
    let first = grid.around(Grid::Day.around(oldest).start).start;
    grid.between(first, grid.around(now).start).filter(|interval| is_complete(*interval)).collect()
}

/// Leaves those that are not finished, the newest of them; tells how many are too many.
fn unfinished(intervals: &mut Vec<Interval>, finished: &Covered) -> usize {
    intervals.retain(|interval| !finished.contains(*interval));
    let left = intervals.len().saturating_sub(INTERVALS_MAX);
    intervals.drain(..left);
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn starts(intervals: &[Interval]) -> Vec<i64> {
        intervals.iter().map(|interval| interval.start / HOUR).collect()
    }

    #[test]
    fn hours_begin_with_the_day_of_the_oldest_row_and_end_where_the_input_does() {
        let until = |end: i64| move |interval: Interval| interval.end <= end * HOUR;
        let found = complete(Grid::Hour, 26 * HOUR + 5, 99 * HOUR + 7, until(28));
        assert_eq!(starts(&found), [24, 25, 26, 27]);
        assert_eq!(starts(&complete(Grid::Hour, 26 * HOUR, 27 * HOUR + 7, until(99))), [24, 25, 26]);
        assert_eq!(starts(&complete(Grid::Day, 26 * HOUR, 99 * HOUR, until(60))), [24]);
        assert!(complete(Grid::Day, 26 * HOUR, 30 * HOUR, until(60)).is_empty());
    }

    #[test]
    fn what_is_finished_is_not_processed_again_and_of_too_many_the_oldest_are_left_out() {
        let hour = |number: i64| Interval { start: number * HOUR, end: (number + 1) * HOUR };
        let mut finished = Covered::default();
        finished.insert(hour(2));
        let mut intervals: Vec<_> = (0..4).map(hour).collect();
        assert_eq!(unfinished(&mut intervals, &finished), 0);
        assert_eq!(starts(&intervals), [0, 1, 3]);
        let mut intervals: Vec<_> = (0..9_003).map(hour).collect();
        assert_eq!(unfinished(&mut intervals, &finished), 2);
        assert_eq!(intervals[0], hour(3));
    }

    #[test]
    fn every_input_has_to_be_complete() {
        let progress = |until: i64| Progress {
            log_id: String::new(),
            published: 1,
            watermark: None,
            complete_until: Some(until),
            finished: Vec::new(),
        };
        assert!(is_told(&[progress(10), progress(20)], Interval { start: 0, end: 10 }));
        assert!(!is_told(&[progress(10), progress(20)], Interval { start: 0, end: 11 }));
        assert!(is_told(&[], Interval { start: 0, end: 11 }), "those that are complete by the clock");
    }
}
