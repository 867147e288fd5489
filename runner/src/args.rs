//! The command line. Flags win over environment variables, which win over the file.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use data_platform_crds::validate::kafka::bootstrap_servers;

/// What every command has stands below this, behind its own options.
const LOG: &str = "Log";

/// Spark-grade streaming jobs from one page of YAML: Kafka, SQL, exactly-once tables.
#[derive(Debug, Parser)]
#[command(name = "data-platform", version, about, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Log lines from this level on; info, unless the job of a pod says otherwise.
    #[arg(long, global = true, help_heading = LOG, env = "LOG_LEVEL", ignore_case = true, value_enum)]
    pub log_level: Option<LogLevel>,
    /// Form of log lines; auto is coloured text on a terminal and JSON elsewhere.
    #[arg(long, global = true, help_heading = LOG, env = "LOG_FORMAT", default_value = "auto", value_enum)]
    pub log_format: LogFormat,
    /// Write log lines as JSON into this file as well.
    #[arg(long, global = true, help_heading = LOG, env = "LOG_FILE", value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Level of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Somebody must look.
    #[value(alias = "critical")]
    Error,
    /// Odd, but it goes on.
    #[value(alias = "warning")]
    Warn,
    /// A state changed.
    Info,
    /// Every micro-batch.
    Debug,
    /// Everything, the Kafka client's own lines too.
    Trace,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text.
    Console,
    /// One JSON object per line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one job.
    Run(Box<RunArgs>),
    /// Run every job of some files in one process: streaming jobs always, batch jobs by their schedule.
    Local(LocalArgs),
    /// Try everything with nothing installed: an embedded broker, records, the streaming jobs with live figures, then their rows.
    Demo(DemoArgs),
    /// Check jobs as the API server and the runner would.
    Validate(ValidateArgs),
    /// Look at what jobs need before they run: brokers, topics, rights, stores, tables, disk, memory, clock; and say what to do.
    Doctor(DoctorArgs),
    /// Show a job in full: expanded, how its query runs, where state is kept, what holds output back.
    Explain(ExplainArgs),
    /// Process intervals of the past of a batch job, oldest first; begun again after a stop it does only the rest.
    Backfill(BackfillArgs),
    /// Say what a changed file does to the jobs that run: nothing, a new pod, fresh state, or that it is refused.
    Plan(PlanArgs),
    /// List the built-in jobs, or print one.
    Templates {
        /// Print this one.
        name: Option<String>,
    },
    /// Write seeded, realistic events to a topic.
    Generate(GenerateArgs),
    /// SQL over the tables of the outputs folder, each by its name.
    Query(QueryArgs),
    /// Look at and repair the job log.
    #[command(subcommand)]
    Checkpoint(CheckpointCommand),
    /// Prove from log and files that every offset is covered exactly once.
    Audit(AuditArgs),
    /// Print the custom resource definitions.
    Crds,
    /// Print version and build.
    Version,
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Which job.
#[derive(Clone, Debug, Default, Args)]
pub struct JobArgs {
    /// A built-in job (see `templates`), or the name of a job in the files.
    #[arg(value_name = "JOB")]
    pub job: Option<String>,
    /// A file of jobs, or a folder of such files.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Change a field: --set spec.trigger.interval=1s
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Give a declared parameter another value: --param window='5 seconds'
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub parameters: Vec<(String, String)>,
}

/// Addresses of brokers, by the rule of the job's own field.
fn brokers(text: &str) -> Result<String, String> {
    bootstrap_servers(text).map_err(|(message, cure)| format!("{message}: {cure}"))?;
    Ok(text.to_owned())
}

fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

/// Where outputs and checkpoints lie.
#[derive(Clone, Debug, Default, Args)]
pub struct PlaceArgs {
    /// Folder or URL of the outputs [default: ./outputs].
    #[arg(long, env = "OUTPUTS_DIR", value_name = "DIR")]
    pub outputs: Option<String>,
    /// Folder or URL of the checkpoints [default: ./checkpoints].
    #[arg(long, env = "CHECKPOINT_DIR", value_name = "DIR")]
    pub checkpoints: Option<String>,
    /// Namespace of the job.
    #[arg(long, env = "NAMESPACE", hide = true)]
    pub namespace: Option<String>,
}

/// Arguments of `run`.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// Which job.
    #[command(flatten)]
    pub job: JobArgs,
    /// The configuration that the operator writes for a pod, instead of a job's file or name.
    #[arg(long, env = "DATA_PLATFORM_CONFIG", value_name = "FILE", conflicts_with_all = ["files", "job"], hide = true)]
    pub config: Option<PathBuf>,
    /// Where outputs and checkpoints lie.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// What a batch job processes.
    #[command(flatten)]
    pub intervals: IntervalArgs,
    /// Addresses of Kafka brokers; wins over the job's.
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVER", value_name = "HOST:PORT", value_parser = brokers)]
    pub bootstrap_servers: Option<String>,
    /// Process what is there now, from the earliest record, close the windows that the watermark has passed, print a
    /// summary and end.
    #[arg(long, conflicts_with = "drain")]
    pub test_mode: bool,
    /// Process what is there now, close all windows, and end.
    #[arg(long, env = "DATA_PLATFORM_DRAIN", hide_env = true)]
    pub drain: bool,
    /// Where a job without a checkpoint begins: earliest, latest, a time (RFC 3339), or offsets as JSON.
    #[arg(long, value_name = "WHERE")]
    pub starting_offsets: Option<String>,
    /// Begin a new job log although the output was written by another one.
    #[arg(long)]
    pub new_log: bool,
    /// Read again after the circuit breaker stopped the job because too many records were bad.
    #[arg(long, env = "DATA_PLATFORM_RESET_BREAKER")]
    pub reset_breaker: bool,
    /// Address of /health, /livez, /readyz, /metrics and /status; `off` for none.
    #[arg(long, env = "HTTP_ADDRESS", default_value = "0.0.0.0:9999", value_name = "ADDRESS")]
    pub http: String,
    /// File with the token that whoever looks at these pages has to know: as `Authorization: Bearer TOKEN`, or as the
    /// password of any user. /livez and /readyz stay open. Without it the pages are for everybody.
    #[arg(long, env = "HTTP_TOKEN_FILE", value_name = "FILE")]
    pub http_token_file: Option<PathBuf>,
    /// How long --test-mode and --drain wait for what may pass, such as a broker that does not answer, in seconds.
    #[arg(long, env = "PATIENCE_SECONDS", default_value_t = 30, value_name = "SECONDS")]
    pub patience: u64,
    /// Stay up, not ready, with an error that needs its user, and go on when it is mended: for pods.
    #[arg(long, env = "DATA_PLATFORM_STAY_UP", hide = true)]
    pub stay_up: bool,
    /// Take the job over from a runner whose resource is newer, after the job was moved here: a number above that of the
    /// other one, which the message of the refusal names. Stop the other one first.
    #[arg(long, env = "DATA_PLATFORM_TAKEOVER", default_value_t = 0, value_name = "NUMBER", hide_env = true)]
    pub takeover: i64,
    /// The restart annotation of the job: a person looked at what stopped it.
    #[arg(long, env = "DATA_PLATFORM_RESTARTED_AT", hide = true)]
    pub restarted_at: Option<String>,
    /// Identity of the pod, for the order of starters.
    #[arg(long, env = "DATA_PLATFORM_POD_UID", hide = true)]
    pub pod_uid: Option<String>,
    /// Do not lock the checkpoint folder; the job log alone keeps runners apart.
    #[arg(long, env = "DATA_PLATFORM_NO_LOCK", hide = true)]
    pub no_lock: bool,
    /// Log records between two bases.
    #[arg(long, env = "DATA_PLATFORM_RECORDS_PER_BASE", default_value_t = crate::checkpoint::decide::RECORDS_PER_BASE, hide = true)]
    pub records_per_base: u64,
    /// File for a last message when the process ends.
    #[arg(long, env = "TERMINATION_MESSAGE_PATH", hide = true)]
    pub termination_message: Option<PathBuf>,
}

/// Arguments of `local`.
#[derive(Clone, Debug, Args)]
pub struct LocalArgs {
    /// Files of jobs, or folders of such files; without any, the built-in seven. A changed file is taken up.
    #[arg(value_name = "FILE or DIR")]
    pub files: Vec<PathBuf>,
    /// Whether streaming jobs run.
    #[arg(long, action = ArgAction::Set, default_value = "true", value_name = "true or false", value_parser = truth)]
    pub streaming: bool,
    /// Whether batch jobs run.
    #[arg(long, action = ArgAction::Set, default_value = "true", value_name = "true or false", value_parser = truth)]
    pub batch: bool,
    /// Run every job once over what is there, each after those whose output it reads, and end: streaming jobs from the earliest
    /// record, batch jobs for every interval that is complete and not finished.
    #[arg(long)]
    pub test_mode: bool,
    /// Where outputs and checkpoints lie.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Folder of the log files, one for each job.
    #[arg(long, env = "LOGS_DIR", default_value = "./logs", value_name = "DIR")]
    pub logs: PathBuf,
    /// Addresses of Kafka brokers; wins over those of the jobs.
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVER", value_name = "HOST:PORT", value_parser = brokers)]
    pub bootstrap_servers: Option<String>,
    /// Address of /health, /livez, /readyz, /metrics and /status, each of all jobs; `off` for none.
    #[arg(long, env = "HTTP_ADDRESS", default_value = "0.0.0.0:9999", value_name = "ADDRESS")]
    pub http: String,
    /// File with the token that whoever looks at these pages has to know, as of `run`.
    #[arg(long, env = "HTTP_TOKEN_FILE", value_name = "FILE")]
    pub http_token_file: Option<PathBuf>,
    /// How long --test-mode waits for what may pass, such as a broker that does not answer, in seconds.
    #[arg(long, env = "PATIENCE_SECONDS", default_value_t = 30, value_name = "SECONDS")]
    pub patience: u64,
}

/// What a batch job processes. Without any of these: the last hour, day, week or month that is over.
#[derive(Clone, Debug, Default, Args)]
pub struct IntervalArgs {
    /// Batch: the hour that begins then, in UTC, such as "2026-02-16 14:00:00".
    #[arg(long, value_name = "TIME", conflicts_with_all = ["target_date", "from", "to"])]
    pub target_hour: Option<String>,
    /// Batch: this day, in UTC, such as 2026-02-16, or the week or month that it is in.
    #[arg(long, value_name = "DATE", conflicts_with_all = ["from", "to"])]
    pub target_date: Option<String>,
    /// Batch: all intervals from this time on, in UTC; of a job that replaces its whole table the rows from then on.
    #[arg(long, value_name = "TIME", requires = "to")]
    pub from: Option<String>,
    /// Batch: up to this time, in UTC.
    #[arg(long, value_name = "TIME", requires = "from")]
    pub to: Option<String>,
    /// Batch: read the rows of so many days before the end of the interval, instead of spec.lookbackDays.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..=3_650))]
    pub lookback_days: Option<u16>,
    /// Batch: the finished intervals whose input was replaced after they had read it.
    #[arg(long, conflicts_with_all = ["target_hour", "target_date", "from", "to"])]
    pub stale: bool,
    /// Of a backfill: how many intervals are computed at once.
    #[arg(skip)]
    pub backfill: Option<usize>,
    /// The backfill that the job's spec asks for.
    #[arg(long, conflicts_with_all = ["target_hour", "target_date", "from", "to", "stale"], hide = true)]
    pub spec_backfill: bool,
    /// Batch: replace a whole table also by what is older than what it holds.
    #[arg(long)]
    pub force: bool,
    /// Time at which a scheduled run was due: it also processes what earlier runs left.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["target_hour", "target_date", "from"], hide = true)]
    pub scheduled: Option<String>,
    /// Name of the Job that the pod belongs to; read with --config only.
    #[arg(long, env = "JOB_NAME", hide = true)]
    pub job_name: Option<String>,
    /// Identity of that Job; read with --config only.
    #[arg(long, env = "JOB_UID", hide = true)]
    pub job_uid: Option<String>,
}

/// Arguments of `backfill`.
#[derive(Clone, Debug, Args)]
pub struct BackfillArgs {
    /// Which job; with --stale all batch jobs of the files, if none is named.
    #[command(flatten)]
    pub job: JobArgs,
    /// Begin of the first interval, in UTC; without it the job's own backfill.
    #[arg(long, value_name = "TIME", requires = "to")]
    pub from: Option<String>,
    /// End of the last interval, in UTC.
    #[arg(long, value_name = "TIME", requires = "from")]
    pub to: Option<String>,
    /// How many intervals are computed at once; they share the memory, and are decided in order.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = parallelism)]
    pub parallelism: usize,
    /// Instead: the finished intervals whose input was replaced after they had read it.
    #[arg(long, conflicts_with_all = ["from", "to", "parallelism"])]
    pub stale: bool,
    /// Read the rows of so many days before the end of each interval, instead of spec.lookbackDays.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..=3_650))]
    pub lookback_days: Option<u16>,
    /// Where outputs and checkpoints lie.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Address of /health, /metrics and /status; `off` for none.
    #[arg(long, env = "HTTP_ADDRESS", default_value = "off", value_name = "ADDRESS")]
    pub http: String,
    /// Do not lock the checkpoint folder; the job log alone keeps runs apart.
    #[arg(long, env = "DATA_PLATFORM_NO_LOCK", hide = true)]
    pub no_lock: bool,
}

/// How many intervals a backfill may compute at once, as in the job's own field.
fn parallelism(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=100).contains(number));
    number.ok_or_else(|| "write a number from 1 to 100".to_owned())
}

/// Arguments of `demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// End by itself after this time.
    #[arg(long = "for", value_name = "TIME")]
    pub time: Option<String>,
    /// Events per second of the busiest topic; the others get a part of it.
    #[arg(long, default_value_t = 2_000)]
    pub rate: u64,
    /// Where jobs, outputs and checkpoints lie; default: a new folder ./demo-<time>.
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

/// Arguments of `validate`.
#[derive(Clone, Debug, Args)]
pub struct ValidateArgs {
    /// Which job.
    #[command(flatten)]
    pub job: JobArgs,
    /// Where the tables that jobs read lie, as far as they are there.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// The configuration that the operator writes for a pod, instead of a job's file or name.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["files", "job"], hide = true)]
    pub config: Option<PathBuf>,
    /// File for a last message when the process ends.
    #[arg(long, env = "TERMINATION_MESSAGE_PATH", hide = true)]
    pub termination_message: Option<PathBuf>,
}

/// Arguments of `doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Which job; without a name every job of the files.
    #[command(flatten)]
    pub job: JobArgs,
    /// Where outputs and checkpoints lie.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Addresses of Kafka brokers; wins over those of the jobs.
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVER", value_name = "HOST:PORT", value_parser = brokers)]
    pub bootstrap_servers: Option<String>,
    /// Form of what is said.
    #[arg(long, default_value = "table", value_enum)]
    pub format: DoctorFormat,
    /// The configuration that the operator writes for a pod, instead of a job's file or name.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["files", "job"], hide = true)]
    pub config: Option<PathBuf>,
    /// File for a last message when the process ends.
    #[arg(long, env = "TERMINATION_MESSAGE_PATH", hide = true)]
    pub termination_message: Option<PathBuf>,
}

/// Form of what `doctor` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DoctorFormat {
    /// For people.
    Table,
    /// One JSON object.
    Json,
}

/// Arguments of `explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// Which job.
    #[command(flatten)]
    pub job: JobArgs,
    /// Where outputs and checkpoints lie.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Arguments of `plan`.
#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// Which jobs: the new file.
    #[command(flatten)]
    pub job: JobArgs,
    /// The file, or folder of files, that the running jobs were made from. Without it the new file is compared with what
    /// the jobs' logs keep: sources, queries and places.
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// Form of what is said.
    #[arg(short = 'o', long, default_value = "text", value_enum)]
    pub output: PlanFormat,
    /// Where outputs and checkpoints lie.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Form of what `plan` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// For people: like a diff.
    Text,
    /// One JSON object.
    Json,
}

/// Arguments of `generate`.
#[derive(Clone, Debug, Args)]
pub struct GenerateArgs {
    /// Topic to write to; its name says which records it gets (app_events, clickstream, cdc_changes, external_data).
    #[arg(long, default_value = "topic_app_events")]
    pub topic: String,
    /// Topics to write to instead, separated by commas; `all` are topic_app_events, topic_clickstream, topic_cdc_changes
    /// and topic_external_data.
    #[arg(long, value_delimiter = ',', conflicts_with = "topic", value_name = "TOPICS")]
    pub topics: Vec<String>,
    /// Addresses of Kafka brokers.
    #[arg(
        long,
        env = "KAFKA_BOOTSTRAP_SERVER",
        default_value = "localhost:29092",
        value_name = "HOST:PORT",
        value_parser = brokers
    )]
    pub bootstrap_servers: String,
    /// Create a topic with this many partitions if it is not there; default: as many as it has in production (6, 8, 4, 3).
    #[arg(long)]
    pub partitions: Option<i32>,
    /// Number of events for each topic; without it, until stopped.
    #[arg(long)]
    pub count: Option<u64>,
    /// Events per second for each topic; 0 is as fast as possible.
    #[arg(long, default_value_t = 1_000)]
    pub rate: u64,
    /// Share of bad records, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub messy: f64,
    /// Share of late events, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub late: f64,
    /// Number of users.
    #[arg(long, default_value_t = 2_000)]
    pub users: u64,
    /// The same seed gives the same events.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Event time of the first event (RFC 3339); default: now, and later events follow the clock.
    #[arg(long, value_name = "TIME")]
    pub start: Option<String>,
    /// Event time that --count events are spread over, in seconds, when --start is given.
    #[arg(long, default_value_t = 1_800)]
    pub span: u64,
    /// Greatest disorder of event times, in seconds.
    #[arg(long, default_value_t = 5.0)]
    pub disorder: f64,
    /// Write events of applications as Avro, behind the id that the schema registry at this address gives for the subject
    /// TOPIC-value.
    #[arg(long, value_name = "URL", conflicts_with_all = ["messy", "stdout"])]
    pub schema_registry: Option<String>,
    /// Print to standard output, one JSON object per line, instead of writing to Kafka.
    #[arg(long)]
    pub stdout: bool,
}

/// Arguments of `query`.
#[derive(Clone, Debug, Args)]
pub struct QueryArgs {
    /// One SELECT, or EXPLAIN or EXPLAIN ANALYZE before one. Each folder of the outputs is a table, and FROM 'path' reads
    /// Parquet, CSV, NDJSON or Delta. Without it a terminal gets a prompt, and everybody else a list of the tables.
    pub sql: Option<String>,
    /// Call a file or folder by a name: --table users=/data/users.csv
    #[arg(long = "table", value_name = "NAME=PATH", value_parser = name_and_value)]
    pub tables: Vec<(String, String)>,
    /// Draw the numbers over the first column, in the terminal.
    #[arg(long, conflicts_with = "format")]
    pub plot: bool,
    /// Folder or URL of the outputs.
    #[arg(long, env = "OUTPUTS_DIR", default_value = "./outputs", value_name = "DIR")]
    pub outputs: String,
    /// Form of the result.
    #[arg(long, default_value = "table", value_enum)]
    pub format: QueryFormat,
}

/// Form of a query's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum QueryFormat {
    /// For people.
    Table,
    /// RFC 4180 with a header.
    Csv,
    /// One JSON object per line.
    Json,
    /// One Parquet file, to be written into a file.
    Parquet,
    /// A table of Markdown.
    Markdown,
}

/// What to do with a job log.
#[derive(Clone, Debug, Subcommand)]
pub enum CheckpointCommand {
    /// List the job logs below the checkpoints folder.
    Ls {
        /// Where outputs and checkpoints lie.
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Show what a job log says: position, watermark, state, the last records; of a batch job its intervals.
    Show {
        /// The job.
        job: String,
        /// Print this record of the log as JSON.
        #[arg(long, value_name = "VERSION")]
        record: Option<u64>,
        /// Where outputs and checkpoints lie.
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Read everything of a job log and check it: records, bases, state, files. Ends with 1 when something is bad.
    Verify {
        /// The job.
        job: String,
        /// Files of older days (by the date of a directory, else by when they were written) were removed on purpose.
        #[arg(long, value_name = "DATE")]
        retained_since: Option<chrono::NaiveDate>,
        /// Where outputs and checkpoints lie.
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Go back: after a damaged record, or when a topic was created again. Shows what it will do; does it with --yes.
    Rewind(RewindArgs),
}

/// Arguments of `checkpoint rewind`.
#[derive(Clone, Debug, Args)]
pub struct RewindArgs {
    /// The job.
    pub job: String,
    /// Go back to the state after this version; default: the last one before the damage.
    #[arg(long, value_name = "VERSION")]
    pub to: Option<u64>,
    /// Go on with a topic that was deleted and created again, from its first offset; or with one that lost records which
    /// were read, from its end.
    #[arg(long, value_name = "TOPIC")]
    pub topic_recreated: Vec<String>,
    /// Windows that are open may miss records that nobody can read again.
    #[arg(long)]
    pub accept_loss: bool,
    /// Do it.
    #[arg(long)]
    pub yes: bool,
    /// The job's file, for its Kafka settings; a built-in job needs none.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Addresses of Kafka brokers. With them the offsets that the job needs are looked for.
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVER", value_name = "HOST:PORT", value_parser = brokers)]
    pub bootstrap_servers: Option<String>,
    /// Where outputs and checkpoints lie.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Arguments of `audit`.
#[derive(Clone, Debug, Args)]
pub struct AuditArgs {
    /// The job.
    pub job: String,
    /// Files of older days (by the date of a directory, else by when they were written) were removed on purpose.
    #[arg(long, value_name = "DATE")]
    pub retained_since: Option<chrono::NaiveDate>,
    /// Where outputs and checkpoints lie.
    #[command(flatten)]
    pub place: PlaceArgs,
}

impl JobArgs {
    /// What the command line asks for.
    pub fn source(&self) -> crate::config::JobSource {
        crate::config::JobSource {
            files: self.files.clone(),
            name: self.job.clone(),
            set: self.set.clone(),
            parameters: self.parameters.iter().cloned().collect(),
        }
    }
}
