//! `run`: one job, until it is told to stop or, in a bounded run, until what is there is processed.

pub(crate) mod asked;
pub(crate) mod batch;
pub(crate) mod last_message;
mod stalled;
mod summary;

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_platform_crds::kafka::StartingOffsets;
use data_platform_crds::runner_status::{DRAINED, Phase};
use data_platform_page::Authentication;

use crate::args::{PlaceArgs, RunArgs};
use crate::checkpoint::decide::{Candidate, RECORDS_PER_BASE};
use crate::checkpoint::record::Rank;
use crate::clock::{Clock, SystemClock};
use crate::commands::bytes;
use crate::commands::error::CommandError;
use crate::config::Loaded;
use crate::config::batch::PlannedBatch;
use crate::config::job::{PlannedJob, RunOptions};
use crate::faults::Faults;
use crate::http;
use crate::metrics::JobMetrics;
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::memory::{self, MemoryBudget};
use crate::pipeline::status::{JobStatus, SharedStatus};
use crate::pipeline::streaming::{Ended, Environment, MakeSource, RunMode, StreamingJob};
use crate::sink::SinkPlan;
use crate::source::Trouble;
use crate::source::kafka::config::{SecretWatch, Secrets, consumer_settings, secrets_folder, shown};
use crate::source::kafka::consumer::{KafkaSource, KafkaSourceSettings, REST_AFTER};
use crate::source::registry::HttpRegistry;
use crate::source::routes::TopicRoutes;
use crate::source::schemas::{Registry, Schemas};
use crate::stop::StopSignal;
use crate::storage::location::Location;

use self::asked::Asked;
use self::last_message::Told;

/// A job with what it tells and what it listens to.
pub(crate) struct Running {
    pub(crate) status: SharedStatus,
    pub(crate) trouble: Trouble,
    pub(crate) metrics: Arc<JobMetrics>,
    pub(crate) stop: StopSignal,
    /// See [`crate::pipeline::batch::BatchEnvironment::give_way`].
    pub(crate) give_way: StopSignal,
    pub(crate) memory: MemoryBudget,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Running {
    /// A job that has not begun.
    pub(crate) fn new(planned: &PlannedJob, options: &RunOptions) -> Self {
        let running = Self::unplanned(&options.namespace, planned.name(), options.memory);
        running.describe(planned, options);
        running
    }

    /// Shows what the job is.
    pub(crate) fn describe(&self, planned: &PlannedJob, options: &RunOptions) {
        self.status.update(|status| status.configuration = configuration(planned, options));
    }

    /// A job of which only the name is known.
    pub(crate) fn unplanned(namespace: &str, job: &str, memory: MemoryBudget) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let status = SharedStatus::new(JobStatus {
            namespace: namespace.to_owned(),
            job: job.to_owned(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            started: clock.now(),
            reason: "Starting".to_owned(),
            ..JobStatus::default()
        });
        Self {
            status,
            trouble: Trouble::default(),
            metrics: Arc::new(JobMetrics::new(namespace, job)),
            stop: StopSignal::new(),
            give_way: StopSignal::new(),
            memory,
            clock,
        }
    }

    /// Runs the job on this thread.
    pub(crate) fn run(
        &self,
        planned: &PlannedJob,
        options: &RunOptions,
        faults: &Arc<dyn Faults>,
    ) -> Result<Ended, JobError> {
        let settings = planned.settings(options)?;
        let environment = Environment {
            clock: Arc::clone(&self.clock),
            faults: Arc::clone(faults),
            status: self.status.clone(),
            stop: self.stop.clone(),
            make_source: self.source_maker(planned, options, faults.rest_after().unwrap_or(REST_AFTER)),
            observe: Box::new({
                let (metrics, clock) = (Arc::clone(&self.metrics), Arc::clone(&self.clock));
                move |commit, latency| {
                    metrics.commit(commit, latency);
                    memory::after_commit(clock.instant(), commit.records);
                }
            }),
            after_reading: Box::new(memory::after_reading),
            before_pause: Box::new({
                let clock = Arc::clone(&self.clock);
                move |pause| memory::before_pause(clock.instant(), pause)
            }),
            secrets_changed: {
                let watch = SecretWatch::of_all(&planned.kafka(), &options.secrets);
                Box::new(move || watch.is_changed())
            },
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
            JobError::passing(Reason::InternalError, format!("cannot start the runtime: {error}"), "try again")
        })?;
        // What has run until now were plans and checks.
        memory::after_planning();
        runtime.block_on(StreamingJob::new(settings, environment).run())
    }

    fn source_maker(&self, planned: &PlannedJob, options: &RunOptions, rest_after: Duration) -> MakeSource {
        let (job, kafka) = (planned.name().to_owned(), planned.kafka());
        let routes = TopicRoutes::new(&planned.loaded.job.spec.sources);
        let (servers, secrets) = (planned.bootstrap_servers(options), options.secrets.clone());
        let (queue_bytes, patient) = (options.memory.queue as usize, options.mode == RunMode::Continuous);
        let trouble = self.trouble.clone();
        let sources = &planned.loaded.job.spec.sources;
        let with_subjects =
            sources.iter().filter_map(|source| source.schema.as_ref()).any(|schema| schema.subject.is_some());
        let registry =
            HttpRegistry::of(&kafka, &secrets, with_subjects).map(|registry| Box::new(registry) as Box<dyn Registry>);
        // Kept for as long as the process: an id never means another schema.
        let schemas = Arc::new(Schemas::new(registry, patient, trouble.clone()));
        Box::new(move || {
            let settings = KafkaSourceSettings {
                job: &job,
                kafka: &kafka,
                routes: routes.clone()?,
                bootstrap_servers: &servers,
                secrets: secrets.clone(),
                queue_bytes,
                patient,
                rest_after: patient.then_some(rest_after),
                trouble: trouble.clone(),
                schemas: Arc::clone(&schemas),
            };
            Ok(Box::new(KafkaSource::new(settings)))
        })
    }

    /// Begins to serve `/health` and the other pages.
    pub(crate) fn serve(
        &self,
        address: &str,
        authentication: Option<Authentication>,
    ) -> std::io::Result<std::net::SocketAddr> {
        http::start(
            address,
            http::Pages {
                status: self.status.clone(),
                trouble: self.trouble.clone(),
                metrics: Arc::clone(&self.metrics),
                memory: self.memory,
                clock: Arc::clone(&self.clock),
                authentication,
            },
        )
    }
}

/// The job as it runs, for `/status`, with secrets masked.
fn configuration(planned: &PlannedJob, options: &RunOptions) -> std::collections::BTreeMap<String, String> {
    let kafka = planned.kafka();
    let servers = planned.bootstrap_servers(options);
    let purpose = crate::source::kafka::config::ClientPurpose {
        job: planned.name(),
        bootstrap_servers: &servers,
        queue_bytes: options.memory.queue as usize,
        partitions: 1,
    };
    let mut all = std::collections::BTreeMap::new();
    if let Ok(settings) = consumer_settings(&kafka, &purpose, &options.secrets) {
        all.extend(shown(&settings).into_iter().map(|(name, value)| (format!("kafka.{name}"), value)));
    }
    for flow in &planned.flows {
        let name = if planned.flows.len() == 1 { "query".to_owned() } else { format!("query.{}", flow.output) };
        all.insert(name, flow.sql.clone());
    }
    all.insert("checkpoint".to_owned(), planned.checkpoint_location(options).to_string());
    all.insert("trigger".to_owned(), planned.loaded.job.spec.trigger.interval.to_string());
    all
}

/// Options of a run, from the command line and the environment.
pub(crate) fn options(args: &RunArgs) -> Result<RunOptions, CommandError> {
    let starting_offsets = args.starting_offsets.as_deref().map(str::parse::<StartingOffsets>).transpose();
    let starting_offsets =
        starting_offsets.map_err(|error| CommandError::user(format!("--starting-offsets: {error}")))?;
    let mode = match (args.test_mode, args.drain) {
        (true, _) => RunMode::TestMode,
        (_, true) => RunMode::Drain,
        _ => RunMode::Continuous,
    };
    Ok(RunOptions {
        bootstrap_servers: args.bootstrap_servers.clone().filter(|servers| !servers.is_empty()),
        starting_offsets,
        mode,
        new_log: args.new_log,
        reset_breaker: args.reset_breaker,
        candidate: candidate(Rank { takeover: args.takeover, ..Rank::default() }, args.pod_uid.clone()),
        restart: args.restarted_at.clone().filter(|text| !text.is_empty()),
        stay_up: args.stay_up,
        patience: Duration::from_secs(args.patience),
        lock: !args.no_lock,
        records_per_base: args.records_per_base,
        ..options_of_places(&args.place)?
    })
}

/// Options of a command that only looks: as `run` would have them.
pub(crate) fn options_of_places(args: &PlaceArgs) -> Result<RunOptions, CommandError> {
    let (outputs, checkpoints) = places(args)?;
    Ok(RunOptions {
        namespace: namespace(args),
        outputs,
        checkpoints,
        bootstrap_servers: std::env::var("KAFKA_BOOTSTRAP_SERVER").ok().filter(|servers| !servers.is_empty()),
        starting_offsets: None,
        mode: RunMode::Continuous,
        new_log: false,
        reset_breaker: false,
        candidate: candidate(Rank::default(), None),
        restart: None,
        memory: MemoryBudget::detect(),
        stay_up: false,
        patience: Duration::from_secs(30),
        lock: true,
        records_per_base: RECORDS_PER_BASE,
        secrets: Secrets::new(secrets_folder()),
    })
}

/// Where outputs and checkpoints lie.
pub(crate) fn places(args: &PlaceArgs) -> Result<(Location, Location), CommandError> {
    let place = |text: &str| Location::parse(text).map_err(|error| CommandError::user(error.to_string()));
    let outputs = args.outputs.as_deref().unwrap_or("./outputs");
    let checkpoints = args.checkpoints.as_deref().unwrap_or("./checkpoints");
    Ok((place(outputs)?, place(checkpoints)?))
}

/// Namespace of the job; without a cluster it is `local`.
pub(crate) fn namespace(args: &PlaceArgs) -> String {
    args.namespace.clone().unwrap_or_else(|| "local".to_owned())
}

/// This process among starters.
pub(crate) fn candidate(rank: Rank, pod_uid: Option<String>) -> Candidate {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let place = format!("process {} on {}", std::process::id(), host.trim());
    let owner = uuid::Uuid::new_v4().to_string();
    let pod = pod_uid.filter(|uid| !uid.is_empty()).unwrap_or_else(|| owner.clone());
    Candidate { owner, rank, pod, place }
}

/// Runs one job. However it ends, the last message says how.
pub(crate) fn run(args: &RunArgs, faults: &Arc<dyn Faults>) -> Result<u8, CommandError> {
    let began = SystemClock.instant();
    let mut told = Told::default();
    let ended = match ready(args) {
        Ok((Planned::Streaming(planned), options)) => stream(args, &planned, &options, faults, began, &mut told),
        Ok((Planned::Batch(planned), options)) => batch::run(args, &planned, &options, faults, began, &mut told),
        Err(error) if args.stay_up => stalled::stay(args, error),
        Err(error) => Err(error),
    };
    if let Some(path) = &args.termination_message {
        last_message::write(path, &told, ended.as_ref().err(), began);
    }
    ended.map(|()| 0)
}

/// A job of either kind that can begin.
pub(crate) enum Planned {
    /// A streaming job.
    Streaming(Box<PlannedJob>),
    /// A batch job.
    Batch(Box<PlannedBatch>),
}

/// Plans a job.
pub(crate) fn plan(loaded: Loaded, outputs: &Location) -> Result<Planned, CommandError> {
    Ok(match loaded {
        Loaded::Streaming(loaded) => Planned::Streaming(Box::new(PlannedJob::new(*loaded, outputs)?)),
        Loaded::Batch(loaded) => Planned::Batch(Box::new(PlannedBatch::new(*loaded)?)),
    })
}

/// Everything that can be known before the job begins.
fn ready(args: &RunArgs) -> Result<(Planned, RunOptions), CommandError> {
    let Asked { loaded, options } = Asked::read(args)?;
    for warning in loaded.warnings() {
        tracing::warn!("{}", warning.in_file(loaded.file()));
    }
    let planned = plan(loaded, &options.outputs)?;
    if let Planned::Streaming(job) = &planned {
        for warning in job.unread_sources() {
            tracing::warn!("{}", warning.in_file(&job.loaded.file));
        }
    }
    Ok((planned, options))
}

fn stream(
    args: &RunArgs,
    planned: &PlannedJob,
    options: &RunOptions,
    faults: &Arc<dyn Faults>,
    began: Instant,
    told: &mut Told,
) -> Result<(), CommandError> {
    let running = Running::new(planned, options);
    let span = tracing::info_span!("job", namespace = options.namespace, job = planned.name());
    let _entered = span.enter();
    serve(args, &running, options.mode == RunMode::Continuous && args.stay_up)?;
    listen_for_signals(&running.stop, planned.loaded.job.spec.stop_timeout.as_duration());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), memory = %bytes(options.memory.limit), "starting");
    let ended = running.run(planned, options, faults);
    let status = running.status.get();
    told.rows = status.totals.outputs.values().map(|output| output.rows).sum();
    told.files = status.totals.outputs.values().map(|output| output.files).sum();
    let ended = ended?;
    say_goodbye(planned, options, &status, ended, began);
    if args.stay_up && options.mode == RunMode::Drain && ended == Ended::Complete {
        stay_drained(&running);
    }
    Ok(())
}

/// A pod whose windows are closed says so until it is stopped: one that ends would be started again.
fn stay_drained(running: &Running) {
    running.status.enter(Phase::Ended, DRAINED, "every window is closed; nothing more is read");
    while !running.stop.wait(Duration::from_secs(60)) {}
}

/// Serves the health pages, unless they are off. `must`: somebody watches the job by them.
fn serve(args: &RunArgs, running: &Running, must: bool) -> Result<(), CommandError> {
    if args.http == "off" {
        return Ok(());
    }
    let authentication = authentication(args.http_token_file.as_deref(), args.config.is_some())?;
    say_where(&args.http, running.serve(&args.http, authentication), must)
}

/// Says where the pages are, or why there are none.
pub(crate) fn say_where(
    wanted: &str,
    got: std::io::Result<std::net::SocketAddr>,
    must: bool,
) -> Result<(), CommandError> {
    match got {
        Ok(address) => tracing::info!(%address, "health pages"),
        Err(error) if must => {
            let cure = "stop what listens there, or choose another address with --http or HTTP_ADDRESS";
            return Err(CommandError::failed(format!("cannot listen on {wanted}: {error}: {cure}")));
        }
        Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
            let cure = "write host:port with --http or HTTP_ADDRESS, such as 127.0.0.1:9999, or off";
            return Err(CommandError::user(format!("cannot listen on {wanted}: {error}: {cure}")));
        }
        // On a laptop several jobs may run side by side.
        Err(error) => tracing::warn!(address = wanted, %error, "no health pages: choose another --http address"),
    }
    Ok(())
}

/// Who may see the pages. A job in a pod does not wait for a token, whose Secret may come later: its pages do.
pub(crate) fn authentication(
    token_file: Option<&Path>,
    is_in_pod: bool,
) -> Result<Option<Authentication>, CommandError> {
    let Some(file) = token_file else { return Ok(None) };
    let authentication = Authentication::by_token_file(file);
    match authentication.token() {
        Err(problem) if !is_in_pod => return Err(CommandError::user(problem)),
        Err(problem) => tracing::warn!("nobody sees the pages: {problem}"),
        Ok(_) => {}
    }
    Ok(Some(authentication))
}

/// The first SIGTERM or SIGINT asks the job to stop, the second ends the process at once (143, 130), and so does
/// `timeout` (1). Signals are heard when this returns.
pub(crate) fn listen_for_signals(stop: &StopSignal, timeout: Duration) {
    let stop = stop.clone();
    let (listens, listening) = std::sync::mpsc::channel();
    let listen = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async move {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut terminate), Ok(mut interrupt)) =
                (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                return;
            };
            let _ = listens.send(());
            let first = async {
                tokio::select! { _ = terminate.recv() => 143, _ = interrupt.recv() => 130 }
            };
            let _code = first.await;
            tracing::info!("stopping: the micro-batch is finished or given up, what is decided is published");
            stop.stop();
            let second = async {
                tokio::select! { _ = terminate.recv() => 143, _ = interrupt.recv() => 130 }
            };
            let code = tokio::time::timeout(timeout, second).await.unwrap_or(1);
            tracing::warn!("ending at once; the next start finishes what is decided");
            std::process::exit(code);
        });
    };
    // Without this thread signals have their usual effect.
    let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(listen);
    // From here on a signal is heard; the thread that cannot listen hangs up.
    let _ = listening.recv();
}

/// Says what a bounded run did: in one line for a program, or in a table.
pub(crate) fn say_goodbye(
    planned: &PlannedJob,
    options: &RunOptions,
    status: &JobStatus,
    ended: Ended,
    began: Instant,
) {
    if ended == Ended::Stopped {
        tracing::info!("stopped; windows stay open, and the next start goes on where this one ended");
        return;
    }
    let seconds = SystemClock.since(began).as_secs_f64();
    let is_terminal = std::io::stdout().is_terminal();
    let text = match is_terminal {
        true => format!("{}\n({seconds:.1} s)", summary::table(planned, options, status)),
        false => summary::json(planned, options, status, seconds).to_string(),
    };
    // Where rows are shown, nothing else is.
    match planned.flows.iter().any(|flow| matches!(flow.writes, SinkPlan::Stdout { .. })) {
        true => eprintln!("{text}"),
        false => println!("{text}"),
    }
}
