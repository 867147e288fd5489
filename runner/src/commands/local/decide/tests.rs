//! Laws of the decisions, and years of schedules that are lived through.

use std::collections::BTreeMap;

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::pipeline::batch::interval::{Covered, Grid, Interval, Wanted as Times, work};
use crate::random::Random;

const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn micros(text: &str) -> i64 {
    text.parse::<chrono::DateTime<chrono::Utc>>().unwrap().timestamp_micros()
}

fn cron(fields: &str, zone: &str) -> Cron {
    Cron {
        schedule: Schedule::new(fields, zone).unwrap(),
        concurrency: ConcurrencyPolicy::Forbid,
        starting_deadline: None,
    }
}

fn wanted(timing: Timing) -> Wanted {
    Wanted { version: "1".to_owned(), timing, suspended: false, retries: 3, deadline: None, backfill: None }
}

fn hourly() -> Wanted {
    wanted(Timing::By(Box::new(cron("5 * * * *", "UTC"))))
}

/// A world in which time is a number.
struct At {
    clock: ManualClock,
    past: Past,
    trouble: Option<Trouble>,
    trouble_of_backfill: Option<Trouble>,
    run: Option<Run>,
}

impl At {
    fn new(now: i64) -> Self {
        let past = Past { since: now, ..Past::default() };
        Self { clock: ManualClock::at(now), past, trouble: None, trouble_of_backfill: None, run: None }
    }

    fn decide(&self, wanted: Option<&Wanted>) -> Decision {
        decide(Facts {
            wanted,
            run: self.run.as_ref(),
            trouble: self.trouble.as_ref(),
            trouble_of_backfill: self.trouble_of_backfill.as_ref(),
            past: &self.past,
            now: self.clock.now(),
            instant: self.clock.instant(),
        })
    }

    fn wait(&self, micros: i64) {
        self.clock.advance(Duration::from_micros(micros.unsigned_abs()));
    }

    fn begin(&mut self, wanted: &Wanted) -> Purpose {
        let Decision::Start(purpose) = self.decide(Some(wanted)) else { panic!("{:?}", self.decide(Some(wanted))) };
        let (version, backfill) = (wanted.version.clone(), wanted.backfill.clone());
        self.run = Some(Run { version, purpose, backfill, began: self.clock.instant(), stopped: None });
        purpose
    }

    fn end(&mut self, wanted: &Wanted, outcome: Outcome) {
        let run = self.run.take().unwrap();
        let instant = self.clock.instant();
        let trouble = if run.purpose == Purpose::Backfill { &mut self.trouble_of_backfill } else { &mut self.trouble };
        (self.past, *trouble) = ended(&run, outcome, &self.past, trouble.as_ref(), wanted.retries, instant);
    }

    /// The run does what it is told.
    fn stop(&mut self, wanted: &Wanted) -> Why {
        let Decision::Stop(why) = self.decide(Some(wanted)) else { panic!("{:?}", self.decide(Some(wanted))) };
        self.run.as_mut().unwrap().stopped = Some(why);
        assert_eq!(self.decide(Some(wanted)), Decision::Wait, "it has been told");
        self.end(wanted, Outcome::Stopped);
        why
    }
}

#[test]
fn a_streaming_job_runs_unless_it_is_suspended_and_runs_anew_when_it_changes() {
    let mut at = At::new(0);
    let mut job = wanted(Timing::Always);
    assert_eq!(at.begin(&job), Purpose::Stream);
    assert_eq!(at.decide(Some(&job)), Decision::Wait);
    assert_eq!(at.decide(None), Decision::Stop(Why::Removed));
    job.version = "2".to_owned();
    assert_eq!(at.decide(Some(&job)), Decision::Stop(Why::Changed));
    at.run.as_mut().unwrap().stopped = Some(Why::Changed);
    assert_eq!(at.decide(Some(&job)), Decision::Wait, "it has been told");
    at.end(&job, Outcome::Stopped);
    at.begin(&job);
    job.suspended = true;
    assert_eq!(at.decide(Some(&job)), Decision::Stop(Why::Suspended));
    at.end(&job, Outcome::Stopped);
    assert_eq!(at.decide(Some(&job)), Decision::Wait);
    job.suspended = false;
    at.begin(&job);
}

#[test]
fn what_may_pass_is_tried_again_after_longer_and_longer_pauses_and_a_fenced_job_never() {
    let mut at = At::new(0);
    let job = wanted(Timing::Always);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        at.begin(&job);
        at.end(&job, Outcome::Failed(Retry::Backoff));
        let again = at.trouble.as_ref().unwrap().again.unwrap();
        assert_eq!(at.decide(Some(&job)), Decision::Wait);
        let pause = again.saturating_duration_since(at.clock.instant());
        pauses.push(pause.as_millis());
        at.clock.advance(pause);
    }
    assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    at.begin(&job);
    at.end(&job, Outcome::Failed(Retry::Fenced));
    at.wait(DAY);
    assert_eq!(at.decide(Some(&job)), Decision::Wait);
}

#[test]
fn a_run_starts_at_its_time_and_not_before_the_job_was_known() {
    let mut at = At::new(micros("2026-02-16T14:05:00Z"));
    let job = hourly();
    assert_eq!(at.decide(Some(&job)), Decision::Wait);
    at.wait(HOUR - 1);
    assert_eq!(at.decide(Some(&job)), Decision::Wait);
    at.wait(1);
    assert_eq!(at.begin(&job), Purpose::Due(micros("2026-02-16T15:05:00Z")));
    assert_eq!(at.decide(Some(&job)), Decision::Wait);
    at.end(&job, Outcome::Done);
    assert_eq!(at.decide(Some(&job)), Decision::Wait);
    assert_eq!(next(&job.timing, at.clock.now()), Some(micros("2026-02-16T16:05:00Z")));
}

#[test]
fn after_an_outage_the_newest_time_is_run_and_before_the_first_good_run_the_oldest() {
    let mut at = At::new(micros("2026-02-16T14:10:00Z"));
    let job = hourly();
    at.wait(5 * HOUR);
    assert_eq!(at.begin(&job), Purpose::Due(micros("2026-02-16T15:05:00Z")), "else nobody would process 14:00");
    at.end(&job, Outcome::Done);
    assert_eq!(at.begin(&job), Purpose::Due(micros("2026-02-16T19:05:00Z")));
    at.end(&job, Outcome::Done);
    at.wait(30 * HOUR);
    assert_eq!(at.begin(&job), Purpose::Due(micros("2026-02-18T01:05:00Z")));
    // Killed: nobody hears of its end, and the next process runs it again.
    at.run = None;
    assert_eq!(at.begin(&job), Purpose::Due(micros("2026-02-18T01:05:00Z")));
}

#[test]
fn a_run_that_fails_is_tried_again_so_often_and_then_left_to_the_next_time() {
    let mut at = At::new(micros("2026-02-16T14:04:00Z"));
    let job = hourly();
    at.wait(MINUTE);
    for pause in [10, 20, 40] {
        at.begin(&job);
        at.end(&job, Outcome::Failed(Retry::Backoff));
        at.wait(pause * SECOND - 1);
        assert_eq!(at.decide(Some(&job)), Decision::Wait);
        at.wait(1);
    }
    at.begin(&job);
    at.end(&job, Outcome::Failed(Retry::Backoff));
    at.wait(50 * MINUTE);
    assert_eq!(at.decide(Some(&job)), Decision::Wait);
    at.wait(10 * MINUTE);
    assert_eq!(at.begin(&job), Purpose::Due(micros("2026-02-16T15:05:00Z")));
    at.end(&job, Outcome::Failed(Retry::AfterChange));
    assert_eq!(at.trouble.as_ref().map(|trouble| (trouble.times, trouble.again)), Some((1, None)));
    at.wait(3 * HOUR);
    assert_eq!(at.begin(&job), Purpose::Due(micros("2026-02-16T18:05:00Z")));
}

#[test]
fn a_batch_job_without_a_schedule_runs_once_for_what_it_says() {
    let mut at = At::new(0);
    let mut job = wanted(Timing::Once);
    assert_eq!(at.begin(&job), Purpose::Once);
    at.end(&job, Outcome::Done);
    at.wait(DAY);
    assert_eq!(at.decide(Some(&job)), Decision::Wait);
    job.version = "2".to_owned();
    at.begin(&job);
}

#[test]
fn policies_of_a_schedule_mean_what_they_mean_in_kubernetes() {
    let begin = || {
        let mut at = At::new(micros("2026-02-16T14:04:00Z"));
        at.wait(MINUTE);
        at.begin(&hourly());
        at
    };
    let by = |change: fn(&mut Cron)| {
        let mut cron = cron("5 * * * *", "UTC");
        change(&mut cron);
        wanted(Timing::By(Box::new(cron)))
    };
    let forbid = hourly();
    let mut at = begin();
    at.wait(2 * HOUR);
    assert_eq!(at.decide(Some(&forbid)), Decision::Wait);
    let replace = by(|cron| cron.concurrency = ConcurrencyPolicy::Replace);
    assert_eq!(at.decide(Some(&replace)), Decision::Stop(Why::Replaced));
    // It goes on when the job is suspended, or changes; not when it is gone, or takes too long.
    let suspended = Wanted { suspended: true, version: "2".to_owned(), ..hourly() };
    assert_eq!(at.decide(Some(&suspended)), Decision::Wait);
    assert_eq!(at.decide(None), Decision::Stop(Why::Removed));
    let short = Wanted { deadline: Some(Duration::from_secs(7_200)), ..hourly() };
    assert_eq!(at.decide(Some(&short)), Decision::Stop(Why::TooLong));
    at.run.as_mut().unwrap().stopped = Some(Why::TooLong);
    at.end(&short, Outcome::Failed(Retry::Backoff));
    assert_eq!(at.trouble.as_ref().unwrap().again, None, "another attempt would take as long");

    let deadline = by(|cron| cron.starting_deadline = Some(600));
    let mut at = begin();
    at.end(&deadline, Outcome::Done);
    at.wait(HOUR + 11 * MINUTE);
    assert_eq!(at.decide(Some(&deadline)), Decision::Wait, "15:05 is missed");
    assert_eq!(at.begin(&hourly()), Purpose::Due(micros("2026-02-16T15:05:00Z")));
}

/// Lives through a time, from event to event, with runs of some length and outages; gives the times that runs were started for
/// and how often each interval was processed.
fn live(
    cron: Cron,
    grid: Grid,
    from: i64,
    to: i64,
    random: &mut Random,
    has_outages: bool,
) -> (Vec<i64>, BTreeMap<Interval, u32>) {
    let (job, mut at) = (wanted(Timing::By(Box::new(cron))), At::new(from));
    let (mut finished, mut first_due) = (Covered::default(), None);
    let (mut times, mut processed) = (Vec::new(), BTreeMap::new());
    while at.clock.now() < to {
        match at.decide(Some(&job)) {
            Decision::Start(Purpose::Due(time)) => {
                at.begin(&job);
                at.wait((random.below(20 * MINUTE as u64) + 1) as i64);
                if has_outages && random.one_in(30) {
                    // The process dies in the middle of the run, and comes back after up to three days.
                    at.run = None;
                    at.wait(random.below(3 * DAY as u64) as i64);
                    continue;
                }
                if has_outages && random.one_in(20) {
                    at.end(&job, Outcome::Failed(Retry::Backoff));
                    continue;
                }
                let last = grid.last_over(time);
                for interval in work(&Times::Due(time), grid, &finished, first_due, 24, &[]) {
                    *processed.entry(interval).or_insert(0) += 1;
                    finished.insert(interval);
                    first_due = Some(first_due.map_or(interval.start, |first: i64| first.min(interval.start)));
                }
                assert!(finished.contains(last) || has_outages, "{last:?}");
                times.push(time);
                at.end(&job, Outcome::Done);
            }
            Decision::Wait => {
                let next = next(&job.timing, at.clock.now()).unwrap();
                let again = at.trouble.as_ref().and_then(|trouble| trouble.again);
                let until = again.map(|again| again.saturating_duration_since(at.clock.instant()).as_micros() as i64);
                at.wait(until.map_or(next - at.clock.now(), |until| until.min(next - at.clock.now())).max(1));
            }
            other => panic!("{other:?}"),
        }
    }
    (times, processed)
}

const ZONES: [&str; 3] = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"];

#[test]
fn a_year_without_an_outage_runs_at_every_time_that_kubernetes_predicts() {
    let (from, to) = (micros("2026-01-01T00:00:30Z"), micros("2027-01-01T00:00:00Z"));
    for zone in ZONES {
        for (fields, grid) in [("5 * * * *", Grid::Hour), ("30 2 * * *", Grid::Day)] {
            // What the operator says at any moment: the next time of the schedule.
            let schedule = Schedule::new(fields, zone).unwrap();
            let next = |time: i64| schedule.after_second(time.div_euclid(SECOND)).map(|second| second * SECOND);
            let predicted: Vec<_> =
                std::iter::successors(next(from), |time| next(*time)).take_while(|time| *time < to).collect();
            let (times, processed) = live(cron(fields, zone), grid, from, to, &mut Random::new(7), false);
            assert_eq!(times, predicted, "{fields} in {zone}");
            assert!(processed.values().all(|times| *times == 1), "{fields} in {zone}");
        }
    }
}

#[test]
fn over_a_year_of_outages_no_interval_is_missed_and_none_is_doubled() {
    let (from, to) = (micros("2026-01-01T00:00:30Z"), micros("2027-01-01T00:00:00Z"));
    for (seed, zone) in (1..).zip(ZONES) {
        for (fields, grid) in [("5 * * * *", Grid::Hour), ("30 2 * * *", Grid::Day), ("0 12 * * 1", Grid::Week)] {
            let schedule = Schedule::new(fields, zone).unwrap();
            let (times, processed) = live(cron(fields, zone), grid, from, to, &mut Random::new(seed), true);
            let is_due = |time: &i64| schedule.after_second(time / SECOND - 1) == Some(time / SECOND);
            assert!(times.iter().all(is_due), "seed {seed}: {fields} in {zone}: a run at a time of its own");
            assert!(times.is_sorted_by(|one, other| one < other), "seed {seed}: {fields} in {zone}: a time came twice");
            let first = schedule.after_second(from / SECOND).unwrap() * SECOND;
            // An outage may just have ended: 24 intervals a run leave some for the next.
            let all: Vec<_> = grid.between(grid.last_over(first).start, to - 20 * DAY).collect();
            let missed: Vec<_> = all.iter().filter(|interval| !processed.contains_key(interval)).collect();
            assert!(missed.is_empty() && all.len() > 40, "seed {seed}: {fields} in {zone}: {missed:?}");
            assert!(processed.values().all(|times| *times == 1), "seed {seed}: {fields} in {zone}: doubled");
        }
    }
}

#[test]
fn a_backfill_is_done_once_and_a_run_that_is_due_comes_between() {
    let mut at = At::new(micros("2026-02-16T14:00:00Z"));
    let job = Wanted { backfill: Some("a".to_owned()), ..hourly() };
    assert_eq!(at.begin(&job), Purpose::Backfill);
    at.wait(5 * MINUTE - 1);
    assert_eq!(at.decide(Some(&job)), Decision::Wait);
    at.wait(1);
    let why = at.stop(&job);
    assert!(why == Why::Due && why.gives_way());
    assert_eq!(at.begin(&job), Purpose::Due(micros("2026-02-16T14:05:00Z")));
    at.end(&job, Outcome::Done);
    assert_eq!(at.begin(&job), Purpose::Backfill, "it goes on");
    // The process ends in the middle.
    at.end(&job, Outcome::Stopped);
    assert_eq!(at.begin(&job), Purpose::Backfill);
    at.end(&job, Outcome::Done);
    assert_eq!((at.past.filled.as_deref(), at.decide(Some(&job))), (Some("a"), Decision::Wait));
    // What computes the same need not be done again; something else is.
    let schedule = Wanted { version: "2".to_owned(), ..job.clone() };
    assert_eq!(at.decide(Some(&schedule)), Decision::Wait);
    let other = Wanted { version: "3".to_owned(), backfill: Some("b".to_owned()), ..job };
    assert_eq!(at.begin(&other), Purpose::Backfill);
    let third = Wanted { version: "4".to_owned(), backfill: Some("c".to_owned()), ..other.clone() };
    assert_eq!(at.stop(&third), Why::Changed);
    assert_eq!(at.begin(&third), Purpose::Backfill);
    let suspended = Wanted { suspended: true, ..third.clone() };
    assert_eq!(at.stop(&suspended), Why::Suspended);
    assert_eq!(at.decide(Some(&suspended)), Decision::Wait);
    at.begin(&third);
    assert_eq!(at.decide(None), Decision::Stop(Why::Removed));
    assert!(!Why::Removed.gives_way() && !Why::Shutdown.gives_way() && !Why::TooLong.gives_way());
}

#[test]
fn without_a_schedule_the_one_run_is_the_backfill() {
    let mut at = At::new(0);
    let job = Wanted { backfill: Some("a".to_owned()), ..wanted(Timing::Once) };
    assert_eq!(at.begin(&job), Purpose::Backfill);
    at.end(&job, Outcome::Done);
    assert_eq!((at.decide(Some(&job)), at.past.once.as_ref()), (Decision::Wait, None));
    // Without it the job runs as any other.
    assert_eq!(at.begin(&wanted(Timing::Once)), Purpose::Once);
}

#[test]
fn a_backfill_that_fails_is_tried_again_so_often_and_keeps_no_run_from_its_time() {
    let mut at = At::new(micros("2026-02-16T14:06:00Z"));
    let job = Wanted { backfill: Some("a".to_owned()), ..hourly() };
    for _ in 0..4 {
        assert_eq!(at.begin(&job), Purpose::Backfill);
        at.end(&job, Outcome::Failed(Retry::Backoff));
        assert_eq!(at.decide(Some(&job)), Decision::Wait);
        at.wait(6 * MINUTE);
    }
    assert_eq!(at.decide(Some(&job)), Decision::Wait, "it was tried four times");
    at.wait(HOUR);
    assert!(matches!(at.begin(&job), Purpose::Due(_)));
    at.end(&job, Outcome::Done);
    assert_eq!((at.decide(Some(&job)), at.trouble.as_ref()), (Decision::Wait, None));
    assert!(at.trouble_of_backfill.is_some());
    // A run that fails keeps no backfill from its turn.
    at.trouble_of_backfill = None;
    at.wait(HOUR);
    assert!(matches!(at.begin(&job), Purpose::Due(_)));
    at.end(&job, Outcome::Failed(Retry::AfterChange));
    assert_eq!(at.begin(&job), Purpose::Backfill);
    at.end(&job, Outcome::Done);
    assert_eq!(at.decide(Some(&job)), Decision::Wait, "what was given up waits for its next time");
}
