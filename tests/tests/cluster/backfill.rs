//! A backfill of many hours beside a schedule: its pod is killed, a run that is due comes between, and it is asked for in
//! another way while it goes on. Each hour is computed once.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use data_platform_tests::{needs_broker, needs_cluster};
use serde_json::{Value, json};

use super::batch::{EVENTS_TABLE, HOURLY, LastHours, hourly_aggregates};
use super::platform::{TIMEOUT, condition};

/// Hours of the backfill. One more is there, for the run that is due.
const HOURS: i64 = 12;
/// Numbers that each query adds up beside its work, so that an hour takes a while: about a second of one processor.
const NUMBERS: u64 = 150_000_000;

struct Filling {
    hours: LastHours,
    job: Value,
}

impl Filling {
    /// The job with a backfill of so many hours at once, and the annotation that asks for it again.
    fn ask(&mut self, parallelism: i64, again: &str) -> anyhow::Result<()> {
        let (from, to) = (self.hours.time_of(0), self.hours.time_of(HOURS));
        self.job["spec"]["backfill"] = json!({"from": from, "to": to, "parallelism": parallelism});
        self.job["metadata"]["annotations"] = json!({"dataplatform.io/restartedAt": again});
        self.hours.platform.apply(&self.job).map(drop)
    }

    /// What was decided for the backfill.
    fn filled(&self) -> anyhow::Result<Vec<Value>> {
        let mut decided = self.hours.replaced(HOURLY).unwrap_or_default();
        decided.retain(|record| record["backfill"].is_object());
        Ok(decided)
    }

    fn wait_for_hours(&self, number: usize) -> anyhow::Result<()> {
        self.hours.platform.namespace.wait_for(&format!("{number} hours of the backfill"), TIMEOUT, || {
            (self.filled().ok()?.len() >= number).then_some(())
        })
    }

    /// Names of its pods.
    fn pods(&self) -> anyhow::Result<BTreeSet<String>> {
        let selector = format!("dataplatform.io/job={HOURLY},dataplatform.io/backfill=true");
        let pods = self.hours.platform.namespace.get_json(&["pods", "--selector", &selector])?;
        let pods = pods["items"].as_array().context("a list of pods")?;
        Ok(pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect())
    }

    fn wait_for_status(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let job =
            self.hours.platform.wait_for_status("batchjob", HOURLY, what, |job| is_so(&job["status"]["backfill"]))?;
        Ok(job["status"].clone())
    }
}

#[test]
fn a_backfill_over_a_kill_a_run_that_is_due_and_another_order_does_each_hour_once() -> anyhow::Result<()> {
    let cluster = needs_cluster!();
    let hours = LastHours::new(cluster, needs_broker!(), "filled", HOURS + 1)?;
    let mut job = hourly_aggregates(EVENTS_TABLE)?;
    let query = job["spec"]["query"].as_str().context("a query")?.trim_end().to_owned();
    job["spec"]["query"] =
        format!("{query} WHERE (SELECT sum(value % 7) FROM generate_series(1, {NUMBERS})) > 0").into();
    // However fast the machine is: half a processor.
    let resources = json!({"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "256Mi"}});
    job["spec"]["pod"] = json!({"resources": resources});
    let mut filling = Filling { hours, job };
    filling.ask(2, "first")?;
    filling.wait_for_hours(1)?;

    // A run that is due now gets its turn, long before the backfill is done.
    let due = filling.hours.name_of_run(HOURLY, HOURS);
    let namespace = &filling.hours.platform.namespace;
    namespace.kubectl(&["create", "job", &due, &format!("--from=cronjob/{HOURLY}")])?;
    let after_run = namespace.wait_for("the run that is due", TIMEOUT, || {
        let decided = filling.hours.replaced(HOURLY).ok()?;
        let place = decided.iter().position(|record| record["due"] == true)?;
        Some(place)
    })?;
    ensure!((1..HOURS as usize).contains(&after_run), "after {after_run} hours of the backfill");

    // Its status says how far it is, and how long it takes.
    let status = filling.wait_for_status("to say how long its backfill takes", |backfill| {
        backfill["secondsLeft"].as_i64() > Some(0) && backfill["finished"].as_i64() > Some(0)
    })?;
    let backfill = &status["backfill"];
    let number = |name: &str| backfill[name].as_i64().unwrap_or(-99);
    ensure!(number("finished") + number("left") == HOURS && number("left") > 0, "{backfill:#}");
    ensure!(backfill["result"].is_null() && backfill["startTime"].is_string(), "{backfill:#}");
    ensure!(number("secondsLeft") < 300, "{backfill:#}");
    let first_job = backfill["name"].as_str().context("a name")?.to_owned();

    // Its pod is gone, and another one goes on.
    let killed = filling.pods()?;
    for pod in &killed {
        namespace.kubectl(&["delete", "pod", pod, "--force", "--grace-period=0"])?;
    }
    let other = namespace.wait_for("another pod of the backfill", TIMEOUT, || {
        let pods = filling.pods().ok()?;
        pods.difference(&killed).next().cloned()
    })?;
    let goes_on = namespace.wait_for("it to go on", TIMEOUT, || {
        let said = namespace.logs(&other).ok()?;
        said.lines().find(|line| line.contains("the backfill goes on with")).map(str::to_owned)
    })?;
    println!("{goes_on}");
    let done = filling.filled()?.len();
    ensure!(done > 0 && done < HOURS as usize, "killed half way: {done} of {HOURS}");
    ensure!(goes_on.contains("what is before it is finished"), "{goes_on}");

    // Asked for in another way meanwhile: another Job, and both do the rest.
    filling.ask(1, "second")?;
    let status = filling.wait_for_status("to have done its backfill", |backfill| {
        backfill["name"] != first_job.as_str() && backfill["result"].is_string()
    })?;
    let backfill = &status["backfill"];
    ensure!(backfill["result"] == "Succeeded" && backfill["secondsLeft"].is_null(), "{backfill:#}");
    ensure!(backfill["finished"] == HOURS && backfill["left"] == 0, "{backfill:#}");
    filling.hours.platform.namespace.wait_for("the first Job to end", TIMEOUT, || {
        // It is removed when it has ended.
        let jobs = filling.hours.platform.namespace.kubectl(&["get", "jobs", "-o", "name"]).ok()?;
        (!jobs.contains(&first_job)).then_some(())
    })?;

    let decided = filling.filled()?;
    let order = decided.iter().map(|record| filling.hours.hour_of(record)).collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(order == (0..HOURS).collect::<Vec<_>>(), "each hour once and in order: {order:?}");
    let last = &status["lastRun"];
    ensure!(last["name"] == due.as_str() && last["result"] == "Succeeded", "{status:#}");
    ensure!(last["interval"]["start"] == filling.hours.time_of(HOURS), "{status:#}");
    let job = filling.hours.platform.job("batchjob", HOURLY)?;
    ensure!(condition(&job, "Ready")["reason"] == "Scheduled", "{:#}", job["status"]);
    filling.hours.check_all()
}
