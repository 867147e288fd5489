//! The backfill that a spec asks for: oldest first, over a restart, with a run that is due in between; and the one of a job without a
//! schedule.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use data_platform_runner::checkpoint::record::encode;
use data_platform_runner::clock::show_time;
use data_platform_tests::process::expect_code;
use data_platform_tests::{Ended, Pages, Runner};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Jobs, TIMEOUT, ready, wait_for_job};
use crate::batch::backfill::replaced;

const NAME: &str = "sums";
const HOUR: i64 = 3_600_000_000;
/// Hours of the backfill. One more is there, for the run that is due.
const HOURS: i64 = 12;
/// Numbers that each query adds up beside its work, so that an hour takes a while.
const NUMBERS: u64 = 20_000_000;

/// The hours before this one, with three rows in each.
struct World {
    jobs: Jobs,
    begin: i64,
}

impl World {
    fn new() -> anyhow::Result<Self> {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
        let world = Self { jobs: Jobs::new()?, begin: now - now % HOUR - (HOURS + 1) * HOUR };
        let mut rows = "at,amount\n".to_owned();
        for row in 0..(HOURS + 1) * 3 {
            rows.push_str(&format!("{},{}\n", show_time(world.begin + row * HOUR / 3), row * row));
        }
        fs::create_dir_all(world.jobs.output("rows"))?;
        fs::write(world.jobs.output("rows").join("rows.csv"), rows)?;
        Ok(world)
    }

    fn time(&self, hour: i64) -> String {
        show_time(self.begin + hour * HOUR)
    }

    /// Writes the job: its backfill is over all hours but the last one.
    fn write(&self, schedule: Option<&str>, factor: u64) -> anyhow::Result<()> {
        let slow = format!("(SELECT sum(value % 7) FROM generate_series(1, {NUMBERS})) > 0");
        let query = format!(
            "SELECT date_trunc('hour', at) AS hour, sum(amount) * {factor} AS amount FROM t WHERE {slow} GROUP BY 1"
        );
        let columns = json!([{"name": "at", "type": "timestamp"}, {"name": "amount", "type": "bigint"}]);
        let input = json!({
            "name": "t", "path": "rows", "format": "csv", "timeColumn": "at", "completeBy": "clock", "columns": columns,
        });
        let mut spec = json!({
            "interval": "hour", "inputs": [input], "query": query, "sink": {"path": NAME},
            "backfill": {"from": self.time(0), "to": self.time(HOURS), "parallelism": 1},
        });
        if let Some(schedule) = schedule {
            spec["schedule"] = schedule.into();
        }
        let job = json!({
            "apiVersion": "dataplatform.io/v1alpha1", "kind": "BatchJob", "metadata": {"name": NAME}, "spec": spec,
        });
        self.jobs.write(NAME, &job.to_string())
    }

    /// What was decided, in order: the hour, and whether it was one of the backfill.
    fn decided(&self) -> anyhow::Result<Vec<(i64, bool)>> {
        let records = replaced(&self.jobs.folders.checkpoints().join("local").join(NAME)).unwrap_or_default();
        let of = |record: &Value| {
            let start = record["interval"]["start"].as_i64()?;
            Some(((start - self.begin) / HOUR, record["backfill"].is_object()))
        };
        records.iter().map(|record| of(record).context("an interval")).collect()
    }

    fn wait_for_hours(&self, runner: &mut Runner, hours: usize) -> anyhow::Result<()> {
        runner.wait_for(&format!("{hours} hours"), TIMEOUT, |_| (self.decided().ok()?.len() >= hours).then_some(()))
    }

    /// The table holds these hours, each once, with what the rows add up to.
    fn check(&self, hours: i64, factor: i64) -> anyhow::Result<()> {
        let sql = format!("SELECT hour, amount FROM {NAME} ORDER BY hour");
        let (ended, asked) =
            Runner::command(["query", "--format", "csv", &sql]).folders(&self.jobs.folders).run(TIMEOUT)?;
        ensure!(ended == Ended::Code(0), "{}", asked.last_lines());
        let mut expected = "hour,amount\r\n".to_owned();
        for hour in 0..hours {
            let sum: i64 = (hour * 3..hour * 3 + 3).map(|row| row * row * factor).sum();
            expected.push_str(&format!("{}Z,{sum}\r\n", self.time(hour)[..19].replace('T', " ")));
        }
        ensure!(asked.stdout() == expected, "{}\nand not\n{expected}", asked.stdout());
        Ok(())
    }
}

#[test]
fn a_backfill_lets_a_run_that_is_due_go_first_and_goes_on_over_a_restart() -> anyhow::Result<()> {
    let world = World::new()?;
    let jobs = &world.jobs;
    // The job was known two hours ago; no time of its schedule has come since.
    world.write(Some("0 0 29 2 *"), 1)?;
    let since = world.begin + (HOURS - 1) * HOUR;
    let past = jobs.folders.checkpoints().join("local/local.json");
    fs::create_dir_all(past.parent().context("a folder")?)?;
    fs::write(&past, encode(0, &json!({"jobs": {NAME: {"since": since}}})))?;
    let mut runner = jobs.command(None).env("LOG_LEVEL", "info").start()?;
    let pages = Pages::of(&mut runner)?;
    let told = wait_for_job(&mut runner, &pages, NAME, "on its way", |job| {
        job["status"]["backfill"]["finished"].as_i64() > Some(0)
    })?;
    let backfill = &told["status"]["backfill"];
    let number = |name: &str| backfill[name].as_i64().unwrap_or(-99);
    ensure!(number("finished") + number("left") == HOURS && backfill["secondsLeft"].is_number(), "{backfill:#}");
    ensure!(backfill["result"].is_null() && told["status"]["lastRun"].is_null(), "{told:#}");

    // A time that has come: the run is about the hour behind the backfill.
    let hour_of_day = ((world.begin + (HOURS + 1) * HOUR) / HOUR).rem_euclid(24);
    world.write(Some(&format!("0 {hour_of_day} * * *")), 1)?;
    let told = wait_for_job(&mut runner, &pages, NAME, "run", |job| job["status"]["lastRun"]["result"] == "Succeeded")?;
    ensure!(told["status"]["lastRun"]["rows"] == 1, "{told:#}");
    let (due, all) = (world.decided()?.iter().position(|decided| *decided == (HOURS, false)), HOURS as usize);
    ensure!(
        due.is_some_and(|due| (1..all).contains(&due)),
        "the run that is due comes between: {:?}",
        world.decided()?
    );

    // It dies half way, and the next process does the rest.
    let done = world.decided()?.len();
    world.wait_for_hours(&mut runner, (done + 2).min(all))?;
    runner.kill()?;
    ensure!(world.decided()?.len() < all, "killed half way: {:?}", world.decided()?);
    let mut runner = jobs.command(None).env("LOG_LEVEL", "info").start()?;
    let pages = Pages::of(&mut runner)?;
    let is_done = |job: &Value| job["status"]["backfill"]["result"] == "Succeeded" && ready(job).1 == "Scheduled";
    let told = wait_for_job(&mut runner, &pages, NAME, "done", is_done)?;
    let backfill = &told["status"]["backfill"];
    ensure!(backfill["finished"] == HOURS && backfill["left"] == 0, "{backfill:#}");
    ensure!(ready(&told).0 == "True" && pages.get("/health")?.code == 200, "{told:#}");
    let said = runner.stderr();
    ensure!(said.contains("the backfill goes on with"), "{said}");
    let mut filled = world.decided()?;
    ensure!(filled.len() == all + 1, "each hour once: {filled:?}");
    filled.retain(|(_, is_of_the_backfill)| *is_of_the_backfill);
    ensure!(filled == (0..HOURS).map(|hour| (hour, true)).collect::<Vec<_>>(), "oldest first: {filled:?}");
    runner.signal(Signal::TERM)?;
    expect_code(runner.wait(TIMEOUT)?, 0, &runner)?;
    world.check(HOURS + 1, 1)?;

    // It is done, also for the next process, whatever the schedule is.
    world.write(Some("0 0 29 2 *"), 1)?;
    let mut runner = jobs.command(None).start()?;
    let pages = Pages::of(&mut runner)?;
    wait_for_job(&mut runner, &pages, NAME, "done before", is_done)?;
    runner.signal(Signal::TERM)?;
    expect_code(runner.wait(TIMEOUT)?, 0, &runner)?;
    ensure!(world.decided()?.len() == all + 1, "{:?}", world.decided()?);
    Ok(())
}

#[test]
fn the_one_run_of_a_job_without_a_schedule_is_its_backfill() -> anyhow::Result<()> {
    let world = World::new()?;
    world.write(None, 1)?;
    let mut runner = world.jobs.command(None).env("LOG_LEVEL", "info").start()?;
    let pages = Pages::of(&mut runner)?;
    let is_done = |job: &Value| ready(job) == ("True".to_owned(), "Completed".to_owned());
    let told = wait_for_job(&mut runner, &pages, NAME, "done", is_done)?;
    ensure!(told["status"]["lastRun"]["rows"] == HOURS, "{told:#}");
    ensure!(told["status"]["backfill"]["result"] == "Succeeded", "{told:#}");
    world.check(HOURS, 1)?;
    // With another query it begins anew, in the same process.
    world.write(None, 5)?;
    world.wait_for_hours(&mut runner, 2 * HOURS as usize)?;
    wait_for_job(&mut runner, &pages, NAME, "done again", is_done)?;
    runner.signal(Signal::TERM)?;
    expect_code(runner.wait(TIMEOUT)?, 0, &runner)?;
    let hours: Vec<_> = (0..HOURS).chain(0..HOURS).map(|hour| (hour, true)).collect();
    ensure!(world.decided()? == hours, "{:?}", world.decided()?);
    world.check(HOURS, 5)
}
