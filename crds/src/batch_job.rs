//! `BatchJob`: a query over tables, for one closed interval at a time, that replaces this interval in its output.

mod status;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::status::{
    ActiveRunStatus, BackfillStatus, BatchJobStatus, CheckStatus, IntervalStatus, RunResult, RunStatus, SchedulerKind,
    SchedulerStatus,
};
use crate::pattern;
use crate::quantity::Period;
use crate::resources::{PodSpec, StorageSpec};
use crate::sink::{OutputSpec, SinkSpec};
use crate::source::ReferenceColumnSpec;
use crate::streaming_job::{CheckpointSpec, LogLevel};

/// What a batch job reads, computes and replaces, and when.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "dataplatform.io",
    version = "v1alpha1",
    kind = "BatchJob",
    namespaced,
    doc = "A query over tables, for one closed interval at a time, that replaces this interval in its output.",
    status = "BatchJobStatus",
    derive = "PartialEq",
    shortname = "bj",
    category = "dataplatform",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "Suspend", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Last Run", type_ = "date", json_path = ".status.lastRun.startTime"),
    printcolumn(name = "Last Result", type_ = "string", json_path = ".status.lastRun.result"),
    // A time that is still to come is no age: kubectl prints a date in the future as <invalid>.
    printcolumn(name = "Next Run", type_ = "string", json_path = ".status.nextScheduleTime"),
    printcolumn(name = "Interval", type_ = "string", json_path = ".status.lastRun.interval.start", priority = 1),
    printcolumn(name = "Rows", type_ = "integer", json_path = ".status.lastRun.rows", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new(pattern::JOB_NAME_RULE).message(pattern::JOB_NAME_MESSAGE).field_path(".metadata.name")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.template) != (has(self.inputs) && size(self.inputs) > 0)")
        .message("template and inputs exclude each other and one is needed: set exactly one of them"),
    validation = Rule::new("has(self.template) || has(self.query) != (has(self.outputs) && size(self.outputs) > 0)")
        .message("query and outputs exclude each other and one is needed: set query and sink, or outputs"),
    validation = Rule::new("has(self.template) || has(self.query) == has(self.sink)")
        .message("query and sink stand together: set both, or outputs instead"),
    validation = Rule::new("!has(self.outputs) || self.outputs.all(o, has(o.query))")
        .message("an output has no query: write one")
        .field_path(".outputs"),
    validation = Rule::new("!has(self.outputs) || self.outputs.all(a, self.outputs.exists_one(b, a.name == b.name))")
        .message("two outputs have the same name: give each its own")
        .field_path(".outputs"),
    validation = Rule::new("!has(self.outputs) || self.outputs.all(o, !(o.sink.format in ['kafka', 'stdout']))")
        .message("a run replaces its interval, and only files of a table can be replaced: write to tables")
        .field_path(".outputs"),
    validation = Rule::new("has(self.template) || has(self.interval)")
        .message("a job without template needs an interval: write interval: hour, day, week or month"),
    validation = Rule::new(
        "!has(self.template) || (!has(self.query) && !has(self.interval) && (!has(self.outputs) || size(self.outputs) == 0))"
    )
        .message("a template brings its own query and interval: leave query, outputs and interval out, or write the job without template"),
    validation = Rule::new("!has(self.inputs) || size(self.inputs) == 0 || self.inputs.exists(i, has(i.timeColumn))")
        .message("no input has a time to choose an interval by: set timeColumn of at least one input")
        .field_path(".inputs"),
    validation = Rule::new("!has(self.sink) || !(self.sink.format in ['kafka', 'stdout'])")
        .message("a run replaces its interval, and only files of a table can be replaced: write to a table")
        .field_path(".sink.format"),
    validation = Rule::new("has(self.schedule) || !has(self.startingDeadlineSeconds)")
        .message("startingDeadlineSeconds is about scheduled runs: set schedule, or leave it out")
        .field_path(".startingDeadlineSeconds"),
    validation = Rule::new("self.timeZone.lowerAscii() != 'local'")
        .message("Local depends on the machine that schedules: name a zone such as Europe/Berlin, or UTC")
        .field_path(".timeZone"),
    validation = Rule::new("!has(self.backfill) || !has(self.replace) || self.replace != 'table'")
        .message("a backfill processes intervals, and this job replaces its whole table: leave backfill or replace out")
        .field_path(".backfill"),
    validation = Rule::new("!has(self.rerunStale) || !self.rerunStale || has(self.schedule)")
        .message("rerunStale is about scheduled runs: set schedule, or leave it out and use data-platform backfill --stale")
        .field_path(".rerunStale")
)]
pub struct BatchJobSpec {
    /// A built-in job to take inputs, query, interval, sink and parameters from: `hourly-aggregates`, `daily-summaries`
    /// or `user-segmentation`. What else stands in this spec wins over it; the schedule is not the template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<BatchTemplate>,
    /// Values of the names that stand as `${name}` in the query and in paths; `$${` is a plain `${`. A template says
    /// which ones it has (`data-platform templates`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64, "additionalProperties" = {"type": "string", "maxLength": 4096}))]
    pub parameters: BTreeMap<String, String>,
    /// When runs start: the five fields of cron (minute, hour, day of the month, month, day of the week), such as
    /// `5 * * * *`, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. Without it the job runs once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 5, max = 128), pattern(pattern::CRON))]
    pub schedule: Option<String>,
    /// Zone of the schedule's clock, by its IANA name, such as `Europe/Berlin`. Intervals are UTC whatever stands here.
    #[serde(default = "default_time_zone")]
    #[schemars(length(min = 1, max = 64), pattern(pattern::TIME_ZONE))]
    pub time_zone: String,
    /// Start no runs; one that is under way goes on. What was missed is caught up later, up to `catchUp`.
    #[serde(default)]
    pub suspend: bool,
    /// What happens when a run is due while one is under way: it is left out and caught up by the next (`Forbid`), it
    /// waits for the other (`Allow`), or the other is stopped (`Replace`). Two never write at once.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// A run that could not start so many seconds after its time is missed, and caught up by the next. Without it, it
    /// starts whenever it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 31_536_000))]
    pub starting_deadline_seconds: Option<i64>,
    /// How many runs that succeeded are kept to look at.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 0, max = 100))]
    pub successful_jobs_history_limit: i32,
    /// How many runs that failed are kept to look at.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 0, max = 100))]
    pub failed_jobs_history_limit: i32,
    /// How often a run is tried again when it fails with what may pass. What its user must change is not tried again.
    #[serde(default = "default_backoff_limit")]
    #[schemars(range(min = 0, max = 100))]
    pub backoff_limit: i32,
    /// A run that takes more seconds, all its attempts together, is stopped. Time that it waits for its inputs counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub active_deadline_seconds: Option<i64>,
    /// What one run covers, in UTC: an `hour`, a `day`, a `week` from Monday on, or a `month`. By default the last one that was
    /// over when the run was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<BatchInterval>,
    /// What a run replaces in the output.
    #[serde(default, skip_serializing_if = "Replaced::is_interval")]
    pub replace: Replaced,
    /// A run reads the rows of so many days before the end of its interval, and not of the interval alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3_650))]
    pub lookback_days: Option<i32>,
    /// The tables that the query reads, each with a name of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub inputs: Vec<InputSpec>,
    /// What a run computes: one SQL query over the inputs. `${name}` stands for a parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub query: Option<String>,
    /// The table in which a run replaces its interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<SinkSpec>,
    /// Several queries over the same inputs, each with its own table, instead of `query` and `sink`. An interval is decided for
    /// all of them at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub outputs: Vec<OutputSpec>,
    /// A run also processes the intervals since the last finished one that no run processed, oldest first: at most so
    /// many intervals in one run.
    #[serde(default = "default_catch_up")]
    #[schemars(range(min = 1, max = 9_000))]
    pub catch_up: i32,
    /// How long a run waits for inputs that are not complete for its interval, up to 1d. Then it fails with
    /// `InputIncomplete` and is tried again.
    #[serde(default = "default_wait")]
    pub wait: Period,
    /// Where the job keeps the log of its finished intervals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointSpec>,
    /// How much the job logs: `error`, `warn`, `info`, `debug` or `trace`. The environment variable `LOG_LEVEL` wins
    /// over it; without both: `info`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
    /// Intervals of the past to process, oldest first: by the one run of a job without schedule, else by a Job beside the
    /// schedule, which takes turns with the scheduled runs. Tried again after a failure it does only the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<BackfillSpec>,
    /// Jobs of the namespace that must have finished an interval before a run begins it, although it reads none of their
    /// tables; for what it reads a run waits by itself. Of a StreamingJob: its watermark is past the interval's end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub depends_on: Vec<DependencySpec>,
    /// A scheduled run also processes finished intervals again whose input was replaced after they had read it, up to
    /// `catchUp`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rerun_stale: bool,
    /// Where inputs, outputs and checkpoints lie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// Settings of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodSpec>,
}

/// Not the zone of the machine that happens to schedule.
fn default_time_zone() -> String {
    "UTC".to_owned()
}

/// As a CronJob keeps of its successes.
fn default_history_limit() -> i32 {
    3
}

/// A broken store is back after a few tries, or needs a person.
fn default_backoff_limit() -> i32 {
    3
}

/// A day of hours.
fn default_catch_up() -> i32 {
    24
}

/// Far longer than a streaming job is behind when all is well, and well below an hour.
fn default_wait() -> Period {
    Period::from_secs(1_800)
}

impl Default for BatchJobSpec {
    /// An empty spec with every default in place. Not valid by itself: inputs and query are missing.
    fn default() -> Self {
        Self {
            template: None,
            parameters: BTreeMap::new(),
            schedule: None,
            time_zone: default_time_zone(),
            suspend: false,
            concurrency_policy: ConcurrencyPolicy::default(),
            starting_deadline_seconds: None,
            successful_jobs_history_limit: default_history_limit(),
            failed_jobs_history_limit: default_history_limit(),
            backoff_limit: default_backoff_limit(),
            active_deadline_seconds: None,
            interval: None,
            replace: Replaced::default(),
            lookback_days: None,
            inputs: Vec::new(),
            query: None,
            sink: None,
            outputs: Vec::new(),
            catch_up: default_catch_up(),
            wait: default_wait(),
            checkpoint: None,
            log_level: None,
            backfill: None,
            depends_on: Vec::new(),
            rerun_stale: false,
            storage: None,
            pod: None,
        }
    }
}

impl BatchJobSpec {
    /// The sink, or those of its outputs.
    pub fn sinks(&self) -> impl Iterator<Item = &SinkSpec> {
        self.sink.iter().chain(self.outputs.iter().map(|output| &output.sink))
    }

    /// What decides which rows its backfill computes, and where they go: as long as it is the same, a backfill that was done need not
    /// be done again.
    pub fn backfilled(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.retain(|name, _| OF_A_BACKFILL.contains(&name.as_str()));
        }
        value
    }
}

/// The fields of [`BatchJobSpec::backfilled`].
pub(crate) const OF_A_BACKFILL: [&str; 13] = [
    "template",
    "parameters",
    "interval",
    "replace",
    "lookbackDays",
    "inputs",
    "query",
    "sink",
    "outputs",
    "backfill",
    "checkpoint",
    "storage",
    "dependsOn",
];

/// A built-in job to take inputs, query, interval, sink and parameters from: `hourly-aggregates`, `daily-summaries` or
/// `user-segmentation`. What else stands in the job's spec wins over it; the schedule is not the template's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BatchTemplate {
    /// Hourly counts from the one-minute ones.
    HourlyAggregates,
    /// Daily totals, sessions and bounce rate.
    DailySummaries,
    /// Segments of users over the last days.
    UserSegmentation,
}

/// What happens when a run is due while one is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// It is left out; the next one catches up.
    #[default]
    Forbid,
    /// It starts, and waits until the other has ended.
    Allow,
    /// The other is stopped.
    Replace,
}

/// What one run covers, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BatchInterval {
    /// From one full hour to the next.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday.
    Week,
    /// From the first day of a month to that of the next.
    Month,
}

/// What a run replaces in the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Replaced {
    /// Its interval.
    #[default]
    Interval,
    /// The whole table: it is what the newest run computed. Runs for older times are refused.
    Table,
}

impl Replaced {
    fn is_interval(&self) -> bool {
        *self == Self::Interval
    }
}

/// Seconds of a day.
const DAY: i64 = 86_400;

impl BatchInterval {
    /// The one that holds a moment: `[start, end)`, in seconds since 1970 UTC.
    pub fn around(self, second: i64) -> (i64, i64) {
        let from = |length: i64, first: i64| {
            let start = second - (second - first).rem_euclid(length);
            (start, start + length)
        };
        match self {
            Self::Hour => from(3_600, 0),
            Self::Day => from(DAY, 0),
            // 1970 began on a Thursday.
            Self::Week => from(7 * DAY, -3 * DAY),
            Self::Month => {
                let (first, days) = month_around(second.div_euclid(DAY));
                (first * DAY, (first + days) * DAY)
            }
        }
    }

    /// The last one that is over at a moment, as [`Self::around`] gives it.
    pub fn last_over(self, second: i64) -> (i64, i64) {
        self.around(self.around(second).0 - 1)
    }

    /// What one is called.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }
}

/// The first day of the month that holds a day, and the number of its days. Days count from 1970-01-01; the calendar is
/// the Gregorian one, whose days repeat every 400 years.
fn month_around(day: i64) -> (i64, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    /// Years are counted from March on: the day that a leap year has more is then their last one.
    const MARCH_FIRST_OF_YEAR_0: i64 = -719_468;
    let in_era = (day - MARCH_FIRST_OF_YEAR_0).rem_euclid(DAYS_OF_400_YEARS);
    let year = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let year_begins = 365 * year + year / 4 - year / 100;
    let in_year = in_era - year_begins;
    let month = (5 * in_year + 2) / 153;
    let begins = |month: i64| (153 * month + 2) / 5;
    let next_year = year + 1;
    let is_leap = next_year % 4 == 0 && (next_year % 100 != 0 || next_year % 400 == 0);
    let days = if month == 11 { 28 + i64::from(is_leap) } else { begins(month + 1) - begins(month) };
    (day - in_year + begins(month), days)
}

/// A table that the query reads: what is published of it, and of that only the rows of the run's interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.timeColumn) || !has(self.dateColumn)")
        .message("dateColumn is the date of timeColumn: set timeColumn, or leave dateColumn out")
        .field_path(".dateColumn"),
    validation = Rule::new("!has(self.columns) || size(self.columns) == 0 || self.format in ['csv', 'ndjson']")
        .message("columns declares the types of text, and other files know theirs: leave it out, or write format: csv or ndjson")
        .field_path(".columns")
)]
pub struct InputSpec {
    /// Name of the table in the query.
    #[schemars(length(min = 1, max = 63), pattern(pattern::IDENTIFIER))]
    pub name: String,
    /// Folder of the table: relative to the outputs folder, or a URL such as `s3://bucket/t`. `${name}` stands for a
    /// parameter.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// Format of the files.
    #[serde(default)]
    pub format: InputFormat,
    /// Columns with their types, for format csv and ndjson. Of CSV a column that is not named here is text; of NDJSON only these
    /// are read. What a job of this platform wrote knows its types, and needs none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub columns: Vec<ReferenceColumnSpec>,
    /// Column of type timestamp that says to which interval a row belongs; the query sees no other rows. Without it the
    /// whole table is read, as it is when the run begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub time_column: Option<String>,
    /// Hive directory to choose dates by: the only one, if several hold the UTC date of `timeColumn`. A directory rules
    /// rows out only where the job that writes the table says that it holds this date; else every file is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub date_column: Option<String>,
    /// How it is known that no more rows of an interval come: the job that writes the table says so (`progress`), or
    /// it counts as complete when the interval is over (`clock`), for tables that another program writes.
    #[serde(default)]
    pub complete_by: CompleteBy,
    /// A table that nobody has written yet counts as one without rows. Without it a run waits for the first file, and then fails
    /// with `InputIncomplete`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_empty: bool,
}

/// Format of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum InputFormat {
    /// Parquet files.
    #[default]
    Parquet,
    /// A Delta table.
    Delta,
    /// CSV files with a header, packed (`.csv.gz`, `.csv.zst`) or not.
    Csv,
    /// Files with a JSON object in each line (`.ndjson`), packed or not.
    Ndjson,
}

/// How it is known that no more rows of an interval come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CompleteBy {
    /// The job that writes the table notes how far it is, beside the table.
    #[default]
    Progress,
    /// When the interval is over.
    Clock,
}

/// Intervals of the past to process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackfillSpec {
    /// Begin of the first interval.
    pub from: Time,
    /// End of the last one.
    pub to: Time,
    /// How many intervals are processed at once.
    #[serde(default = "default_parallelism")]
    #[schemars(range(min = 1, max = 100))]
    pub parallelism: i32,
}

fn default_parallelism() -> i32 {
    1
}

/// A job whose interval must be finished first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DependencySpec {
    /// Its kind.
    #[serde(default)]
    pub kind: DependencyKind,
    /// Its name, in the same namespace.
    #[schemars(length(min = 1, max = 52), pattern(pattern::DNS_LABEL))]
    pub name: String,
}

/// Kind of a job that another one depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DependencyKind {
    /// A batch job.
    #[default]
    BatchJob,
    /// A streaming job.
    StreamingJob,
}
