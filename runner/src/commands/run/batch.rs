//! `run` of a batch job: which intervals the command line or the pod asks for, and the run.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use data_platform_crds::batch_job::Replaced;
use tokio::runtime::Runtime;

use crate::args::{IntervalArgs, RunArgs};
use crate::clock::{Clock, SystemClock, show_time};
use crate::commands::error::{CommandError, report};
use crate::commands::run::last_message::{self, Told, rfc3339};
use crate::commands::run::{Running, listen_for_signals, serve};
use crate::commands::{align_right, bytes, grouped, list};
use crate::config::batch::PlannedBatch;
use crate::config::job::RunOptions;
use crate::faults::Faults;
use crate::pipeline::batch::interval::{Grid, Interval, scheduled_minute};
use crate::pipeline::batch::{self, Asked, BatchEnvironment, BatchSettings, Request};
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::memory::{self, guard::Excess};
use crate::pipeline::status::{BatchStatus, Phase};

/// Longest time that a run has to stop: it gives up the interval that it is at.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Most intervals of one `--from --to`: a year of hours.
const INTERVALS_MAX: usize = 9_000;

/// Runs a batch job.
pub(crate) fn run(
    args: &RunArgs,
    planned: &PlannedBatch,
    options: &RunOptions,
    faults: &Arc<dyn Faults>,
    began: Instant,
    told: &mut Told,
) -> Result<(), CommandError> {
    let running = Running::unplanned(&options.namespace, planned.name(), options.memory);
    let span = tracing::info_span!("job", namespace = options.namespace, job = planned.name());
    let _entered = span.enter();
    let request = request(args, planned, running.clock.now())?;
    let job_uid = args.intervals.job_uid.clone().filter(|_| args.config.is_some());
    let mut settings = planned.settings(options, request, job_uid)?;
    settings.lookback_days = args.intervals.lookback_days.or(settings.lookback_days);
    settings.force = args.intervals.force;
    serve(args, &running, false)?;
    listen_for_signals(&running.stop, STOP_TIMEOUT);
    end_when_memory_does(args, &running, began);
    let ended = process(&running, planned, &settings, faults, &runtime()?);
    if let Err(error) = &ended {
        running.status.error(Phase::Stalled, running.clock.now(), error);
    }
    let status = running.status.get().batch.unwrap_or_default();
    *told = told_by(&status);
    ended?;
    say(planned, &settings.places(), &status, began);
    Ok(())
}

/// What runs of batch jobs compute in.
pub(crate) fn runtime() -> Result<Runtime, JobError> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        JobError::passing(Reason::InternalError, format!("cannot start the runtime: {error}"), "try again")
    })
}

/// Runs a job on this thread until its intervals are finished.
pub(crate) fn process(
    running: &Running,
    planned: &PlannedBatch,
    settings: &BatchSettings,
    faults: &Arc<dyn Faults>,
    runtime: &Runtime,
) -> Result<(), JobError> {
    let spec = &planned.loaded.job.spec;
    let queries = spec.query.iter().chain(spec.outputs.iter().filter_map(|output| output.query.as_ref()));
    let query = queries.cloned().collect::<Vec<_>>().join("\n\n");
    running.status.update(|status| {
        status.configuration.insert("query".to_owned(), query);
        status.configuration.insert("checkpoint".to_owned(), settings.checkpoint_location.to_string());
        status.configuration.insert("output".to_owned(), settings.places());
    });
    let metrics = Arc::clone(&running.metrics);
    let environment = BatchEnvironment {
        clock: Arc::clone(&running.clock),
        faults: Arc::clone(faults),
        status: running.status.clone(),
        stop: running.stop.clone(),
        give_way: running.give_way.clone(),
        observe: Box::new(move |commit| metrics.commit(commit, None)),
    };
    runtime.block_on(batch::run(settings, &environment))
}

fn told_by(status: &BatchStatus) -> Told {
    let interval = (status.end > status.start).then_some((status.start, status.end));
    Told { interval, rows: status.rows, files: status.files, stale: status.stale.clone() }
}

/// Where memory ends in spite of all that the query engine counts, the run says so and ends, before the kernel kills it
/// without a word. What it finished stays, and the next run goes on.
fn end_when_memory_does(args: &RunArgs, running: &Running, began: Instant) {
    let (status, path) = (running.status.clone(), args.termination_message.clone());
    memory::guard::watch(move |Excess { used, wanted, limit }| {
        let more = if wanted > 0 { format!(" and wants {} at once", bytes(wanted)) } else { String::new() };
        let error = CommandError::Job(batch::memory_exhausted(format!(
            "the run needs more memory than it may have: it has {}{more}, of {}",
            bytes(used),
            bytes(limit)
        )));
        report(&error);
        if let Some(path) = &path {
            let told = told_by(&status.get().batch.unwrap_or_default());
            last_message::write(path, &told, Some(&error), began);
        }
        std::process::exit(error.code().into());
    });
}

/// What is asked for: by flags, else by the name of the Job, else the last interval that is over.
fn request(args: &RunArgs, planned: &PlannedBatch, now: i64) -> Result<Request, CommandError> {
    let (asked, grid) = (&args.intervals, planned.grid());
    let wait = i64::try_from(planned.wait().as_micros()).unwrap_or(i64::MAX);
    if asked.stale {
        return Ok(Request::Stale);
    }
    if asked.backfill.is_some() && asked.from.is_none() {
        let backfill = of_spec(planned)
            .ok_or_else(|| CommandError::user("say which time: --from and --to, or backfill in the job's spec"))?;
        is_over_in_time(&[backfill.times], grid, now, 0)?;
        return Ok(Request::Backfill(backfill));
    }
    if let Some(intervals) = exactly(asked, grid)? {
        is_over_in_time(&intervals, grid, now, if asked.backfill.is_some() { 0 } else { wait })?;
        if let Some(parallelism) = asked.backfill {
            return backfill(planned, &intervals, parallelism);
        }
        return Ok(match (intervals.first(), intervals.last()) {
            (Some(first), Some(last)) if asked.from.is_some() && replaces_table(planned) => {
                Request::Times(Interval { start: first.start, end: last.end })
            }
            _ => Request::Exactly(intervals),
        });
    }
    if let Some(time) = &asked.scheduled {
        let due = time_of("--scheduled", time)?;
        is_over_in_time(&[grid.last_over(due)], grid, now, wait)?;
        return Ok(Request::Due(due));
    }
    if args.config.is_none() {
        if planned.loaded.job.spec.backfill.is_some() {
            let name = planned.name();
            tracing::info!(
                "this run is one of the last interval; `data-platform backfill {name}` does the backfill of the spec"
            );
        }
        return Ok(Request::Now { job_uid: None });
    }
    if (asked.spec_backfill || planned.loaded.job.spec.schedule.is_none())
        && let Some(backfill) = of_spec(planned)
    {
        let run = asked.job_uid.clone().unwrap_or_else(|| backfill.run.clone());
        return backfill_of(backfill, run, grid, now);
    }
    // Only the CronJob of a schedule puts a time into names; the hash in another name may look like one.
    let job_name = asked.job_name.as_deref().filter(|_| planned.loaded.job.spec.schedule.is_some());
    match job_name.and_then(|name| scheduled_minute(name, planned.name(), now)) {
        Some(due) => Ok(Request::Due(due)),
        None => Ok(Request::Now { job_uid: asked.job_uid.clone() }),
    }
}

/// The backfill that the job's spec asks for, if it does, for who asks.
pub(crate) fn backfill_of_spec(planned: &PlannedBatch, run: String, now: i64) -> Result<Request, CommandError> {
    let backfill = of_spec(planned).ok_or_else(|| CommandError::user("the job's spec has no backfill"))?;
    backfill_of(backfill, run, planned.grid(), now)
}

fn backfill_of(asked: Asked, run: String, grid: Grid, now: i64) -> Result<Request, CommandError> {
    is_over_in_time(&[asked.times], grid, now, 0)?;
    Ok(Request::Backfill(Asked { run, ..asked }))
}

/// The backfill that the job's spec asks for.
fn of_spec(planned: &PlannedBatch) -> Option<Asked> {
    let backfill = planned.loaded.job.spec.backfill.as_ref()?;
    let times = Interval { start: backfill.from.0.as_microsecond(), end: backfill.to.0.as_microsecond() };
    let id = format!("{}/{}", show_time(times.start), show_time(times.end));
    Some(Asked { id, times, parallelism: usize::try_from(backfill.parallelism).unwrap_or(1), run: by_hand() })
}

/// A backfill of these intervals.
fn backfill(planned: &PlannedBatch, intervals: &[Interval], parallelism: usize) -> Result<Request, CommandError> {
    if replaces_table(planned) {
        let message =
            "the job replaces its whole table, and of several times only the newest would stay: use run --target-date";
        return Err(CommandError::user(message));
    }
    let (Some(first), Some(last)) = (intervals.first(), intervals.last()) else {
        return Err(CommandError::user("a backfill needs --from and --to"));
    };
    let times = Interval { start: first.start, end: last.end };
    let id = format!("{}/{}", show_time(times.start), show_time(times.end));
    Ok(Request::Backfill(Asked { id, times, parallelism, run: by_hand() }))
}

/// Who asks for a backfill that is no Job: another one each time.
fn by_hand() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Whether a run replaces the whole table.
fn replaces_table(planned: &PlannedBatch) -> bool {
    planned.loaded.job.spec.replace == Replaced::Table
}

/// Refuses what no run can do: an interval that has not begun, or that is not over when the run has waited as long as it may.
fn is_over_in_time(intervals: &[Interval], grid: Grid, now: i64, wait: i64) -> Result<(), CommandError> {
    let Some(last) = intervals.iter().max() else { return Ok(()) };
    if last.start <= now && last.end <= now.saturating_add(wait) {
        return Ok(());
    }
    Err(CommandError::user(format!(
        "the {} from {} to {} is not over: it is {} now; take one that is, or run it then",
        grid.word(),
        show_time(last.start),
        show_time(last.end),
        show_time(now)
    )))
}

fn exactly(asked: &IntervalArgs, grid: Grid) -> Result<Option<Vec<Interval>>, CommandError> {
    let (flag, other) = match grid {
        Grid::Hour => (("--target-hour", &asked.target_hour), &asked.target_date),
        _ => (("--target-date", &asked.target_date), &asked.target_hour),
    };
    if other.is_some() {
        let message = format!("the job's intervals are {}s: use {} or --from", grid.word(), flag.0);
        return Err(CommandError::user(message));
    }
    if let (flag, Some(text)) = flag {
        let time = time_of(flag, text)?;
        let day = Grid::Day.at(time).filter(|_| matches!(grid, Grid::Week | Grid::Month));
        // A week or a month is named by any of its days.
        let interval = day.map(|day| grid.around(day.start)).or_else(|| grid.at(time));
        return Ok(Some(vec![interval.ok_or_else(|| begins(flag, text, grid))?]));
    }
    let (Some(from), Some(to)) = (&asked.from, &asked.to) else { return Ok(None) };
    let first = grid.at(time_of("--from", from)?).ok_or_else(|| begins("--from", from, grid))?;
    let end = grid.at(time_of("--to", to)?).ok_or_else(|| begins("--to", to, grid))?;
    let intervals: Vec<_> = grid.between(first.start, end.start).take(INTERVALS_MAX + 1).collect();
    match intervals.len() {
        0 => {
            Err(CommandError::user(format!("there is no {} from {from} to {to}: --to comes after --from", grid.word())))
        }
        count if count > INTERVALS_MAX => {
            let message =
                format!("--from {from} --to {to} are more than {INTERVALS_MAX} {}s: take a shorter time", grid.word());
            Err(CommandError::user(message))
        }
        _ => Ok(Some(intervals)),
    }
}

fn begins(flag: &str, text: &str, grid: Grid) -> CommandError {
    let example = match grid {
        Grid::Hour => "\"2026-02-16 14:00:00\"",
        Grid::Day | Grid::Week => "2026-02-16",
        Grid::Month => "2026-02-01",
    };
    CommandError::user(format!(
        "{flag} {text:?} is not where {} {} begins in UTC: write one such as {example}",
        if grid == Grid::Hour { "an" } else { "a" },
        grid.word()
    ))
}

/// Reads a time: a date, date and time, or RFC 3339; without a zone it is UTC.
fn time_of(flag: &str, text: &str) -> Result<i64, CommandError> {
    let text = text.trim();
    let plain = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
    let plain = || plain.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let date = || text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0);
    let zoned = DateTime::parse_from_rfc3339(text).ok().map(|time| time.naive_utc());
    let time = zoned.or_else(plain).or_else(date).ok_or_else(|| {
        CommandError::user(format!("{flag} {text:?} is not a time: write one such as \"2026-02-16 14:00:00\", in UTC"))
    })?;
    Ok(time.and_utc().timestamp_micros())
}

/// Says what a run did: in one line for a program, or in a table.
pub(crate) fn say(planned: &PlannedBatch, output: &str, status: &BatchStatus, began: Instant) {
    let seconds = SystemClock.since(began).as_secs_f64();
    if !std::io::stdout().is_terminal() {
        // Without an interval there is no time.
        let time = |micros| (status.end > status.start).then(|| rfc3339(micros));
        let summary = serde_json::json!({
            "job": planned.name(), "start": time(status.start), "end": time(status.end),
            "intervals": status.finished, "stale": status.stale, "rows": status.rows, "files": status.files, "output": output,
            "seconds": (seconds * 1e3).round() / 1e3,
        });
        println!("{summary}");
        return;
    }
    let mut table = list(&["run", ""]);
    if status.end > status.start {
        table.add_row(["from".to_owned(), show_time(status.start)]);
        table.add_row(["to".to_owned(), show_time(status.end)]);
    }
    for (name, number) in
        [("intervals", status.finished), ("rows written", status.rows), ("files written", status.files)]
    {
        table.add_row([name.to_owned(), grouped(number)]);
    }
    align_right(&mut table, &[1]);
    println!("{table}\n{output}  ({seconds:.1} s)");
    if !status.stale.is_empty() {
        let repair = format!("data-platform backfill {} --stale", planned.name());
        println!("stale, since an input was replaced later: {}; `{repair}` repairs them", status.stale.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)], grid: Grid) -> Result<Vec<i64>, String> {
        let value = |flag: &str| pairs.iter().find(|(name, _)| *name == flag).map(|(_, value)| (*value).to_owned());
        let args = IntervalArgs {
            target_hour: value("hour"),
            target_date: value("date"),
            from: value("from"),
            to: value("to"),
            ..IntervalArgs::default()
        };
        let intervals = exactly(&args, grid).map_err(|error| error.text())?;
        Ok(intervals.unwrap_or_default().iter().map(|interval| interval.start / 1_000_000).collect())
    }

    #[test]
    fn times_are_read_in_every_common_form() {
        for text in [
            "2026-02-16 14:00:00",
            "2026-02-16T14:00:00",
            "2026-02-16 14:00",
            "2026-02-16T14:00:00Z",
            "2026-02-16T15:00:00+01:00",
        ] {
            assert_eq!(asked(&[("hour", text)], Grid::Hour), Ok(vec![1_771_250_400]), "{text}");
        }
        assert_eq!(asked(&[("date", "2026-02-16")], Grid::Day), Ok(vec![1_771_200_000]));
        let hours = asked(&[("from", "2026-02-16"), ("to", "2026-02-16 03:00")], Grid::Hour).unwrap();
        assert_eq!(hours, [1_771_200_000, 1_771_203_600, 1_771_207_200]);
    }

    #[test]
    fn what_is_not_over_is_refused_at_once_unless_a_run_would_wait_for_it() {
        let hour = 3_600_000_000;
        let at = |number: i64| Interval { start: number * hour, end: (number + 1) * hour };
        let minutes = |minutes: i64| minutes * 60_000_000;
        for (intervals, now, wait, is_refused) in [
            (vec![at(3)], 4 * hour, 0, false),
            (vec![at(3)], 4 * hour - minutes(10), minutes(30), false),
            (vec![at(3)], 4 * hour - minutes(40), minutes(30), true),
            (vec![at(3)], 3 * hour - minutes(1), minutes(600), true),
            (vec![at(900)], 4 * hour, minutes(30), true),
            (vec![at(2), at(4), at(3)], 4 * hour, 0, true),
        ] {
            let refused = is_over_in_time(&intervals, Grid::Hour, now, wait);
            assert_eq!(refused.is_err(), is_refused, "{intervals:?}");
        }
        let text = is_over_in_time(&[at(9)], Grid::Hour, hour, 0).unwrap_err().text();
        assert!(
            text.contains("the hour from 1970-01-01T09:00:00.000Z to 1970-01-01T10:00:00.000Z is not over"),
            "{text}"
        );
    }

    #[test]
    fn what_is_no_interval_is_refused_with_an_example() {
        for (pairs, grid, expected) in [
            (vec![("hour", "2026-02-16 14:30:00")], Grid::Hour, "is not where an hour begins"),
            (vec![("hour", "noon")], Grid::Hour, "is not a time"),
            (vec![("hour", "2026-02-16 14:00:00")], Grid::Day, "use --target-date"),
            (vec![("date", "2026-02-16")], Grid::Hour, "use --target-hour"),
            (vec![("from", "2026-02-16"), ("to", "2026-02-16")], Grid::Hour, "comes after --from"),
            (vec![("from", "1990-01-01"), ("to", "2026-02-16")], Grid::Hour, "more than 9000 hours"),
        ] {
            let error = asked(&pairs, grid).unwrap_err();
            assert!(error.contains(expected), "{pairs:?}: {error}");
        }
    }
}
