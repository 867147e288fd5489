//! A world for whole jobs: topics in memory, a clock that a test sets, real checkpoints and tables in a temporary folder.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use data_platform_crds::check::Manifest;
use data_platform_crds::kafka::StartingOffsets;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::file::reader::ChunkReader;

use crate::args::{AuditArgs, CheckpointCommand, PlaceArgs, RewindArgs};
use crate::checkpoint::decide::Candidate;
use crate::checkpoint::record::Rank;
use crate::clock::{Clock, ManualClock};
use crate::commands::error::CommandError;
use crate::config::job::{PlannedJob, RunOptions};
use crate::config::{JobSource, Loaded, load_in_pod};
use crate::faults::{Faults, Guard, Moment, NoSync, Step};
use crate::offsets::{Bounds, Partitions};
use crate::pipeline::error::JobError;
use crate::pipeline::memory::MemoryBudget;
use crate::pipeline::status::{JobStatus, SharedStatus};
use crate::pipeline::streaming::{Ended, Environment, RunMode, StreamingJob};
use crate::sink::topic::memory::MemoryTopics;
use crate::source::kafka::config::Secrets;
use crate::source::memory::{MemoryCluster, MemoryRecord, MemorySource};
use crate::source::record::Record;
use crate::source::{Identity, PartitionRead, Source, SourceError, WithoutLeader};
use crate::stop::StopSignal;
use crate::storage::location::Location;
use crate::storage::{SharedStore, paths};

/// Columns of an order, as most tests have them.
pub(crate) const ORDER_COLUMNS: [&str; 4] = [
    "{name: id, type: bigint, required: true}",
    "{name: shop, type: string, required: true}",
    "{name: amount, type: bigint, required: true}",
    "{name: at, type: timestamp, required: true}",
];

/// The job `orders`: it reads `topic_orders`, and writes each query to the table of its name. `more` is added to its spec.
pub(crate) fn orders_job(columns: &[&str], outputs: &[(&str, &str)], more: &str) -> String {
    let output = |(name, query): &(&str, &str)| {
        serde_json::json!({"name": name, "query": query, "sink": {"path": name}}).to_string()
    };
    let outputs: Vec<_> = outputs.iter().map(output).collect();
    format!(
        "
apiVersion: dataplatform.io/v1alpha1
kind: StreamingJob
metadata: {{name: orders}}
spec:
  kafka: {{maxOffsetsPerTrigger: 30}}
  sources:
    - name: orders
      topics: [topic_orders]
      columns: [{}]
      eventTime: {{column: at, watermarkDelay: 10s}}
  trigger: {{interval: 0s}}
  outputs: [{}]
  {more}
",
        columns.join(", "),
        outputs.join(", ")
    )
}

/// How a run ended, and what the job said last.
pub(crate) struct Run {
    pub(crate) ended: Result<Ended, JobError>,
    pub(crate) status: JobStatus,
}

impl Run {
    /// The status of a run that must have ended well.
    #[track_caller]
    pub(crate) fn good(self) -> JobStatus {
        self.ended.unwrap_or_else(|error| panic!("{}", error.in_full()));
        self.status
    }

    /// The error of a run that must have failed.
    #[track_caller]
    pub(crate) fn error(self) -> JobError {
        self.ended.expect_err("the run was to fail")
    }
}

/// What a process unwinds with that a test kills.
pub(crate) struct Killed;

/// Ends a process at a step that it reaches.
pub(crate) struct KillAt {
    left: AtomicI64,
    exchanged: AtomicBool,
}

impl KillAt {
    pub(crate) fn step(number: i64) -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(number), exchanged: AtomicBool::new(false) })
    }

    /// Whether it had exchanged folders before.
    pub(crate) fn has_exchanged(&self) -> bool {
        self.exchanged.load(Ordering::Relaxed)
    }
}

impl Faults for KillAt {
    fn reached(&self, step: Step, moment: Moment) {
        if (step, moment) == (Step::Exchange, Moment::After) {
            self.exchanged.store(true, Ordering::Relaxed);
        }
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::panic::resume_unwind(Box::new(Killed));
        }
    }

    fn guard(&self, guard: Guard) -> bool {
        NoSync.guard(guard)
    }

    fn disk_delay(&self) -> Duration {
        Duration::ZERO
    }
}

/// One cluster, one clock, one folder.
pub(crate) struct World {
    folder: tempfile::TempDir,
    /// Where outputs lie.
    pub(crate) outputs: Location,
    pub(crate) cluster: MemoryCluster,
    pub(crate) clock: Arc<ManualClock>,
    /// Later than those of any checkpoint that is kept with the tests.
    starts: Cell<i64>,
    /// What the cluster and its topics are called, if otherwise: a checkpoint that is kept knows them.
    pub(crate) called: Option<Identity>,
    /// Log records between two bases.
    pub(crate) records_per_base: u64,
    /// What happens after the first commit of a run.
    happens: RefCell<Option<Rc<dyn Fn()>>>,
    /// Topics that jobs write to.
    pub(crate) topics: MemoryTopics,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (cluster, clock) = (MemoryCluster::default(), Arc::new(ManualClock::at(0)));
        Self {
            outputs: Location::Folder(folder.path().join("outputs")),
            folder,
            cluster,
            clock,
            starts: Cell::new(100),
            called: None,
            records_per_base: 500,
            happens: RefCell::new(None),
            topics: MemoryTopics::default(),
        }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// From now on outputs lie in an object store of their own.
    pub(crate) fn put_outputs_in_a_store(&mut self) {
        self.outputs = Location::parse(&format!("memory://{}/outputs", uuid::Uuid::new_v4())).unwrap();
    }

    /// Its folders, as the command line names them.
    pub(crate) fn place(&self) -> PlaceArgs {
        let checkpoints = self.path("checkpoints").display().to_string();
        PlaceArgs { outputs: Some(self.outputs.to_string()), checkpoints: Some(checkpoints), namespace: None }
    }

    /// `checkpoint rewind` to a version, without a question.
    pub(crate) fn rewind(&self, job: &str, to: u64) -> Result<u8, CommandError> {
        let rewind = RewindArgs {
            job: job.to_owned(),
            to: Some(to),
            topic_recreated: Vec::new(),
            accept_loss: false,
            yes: true,
            files: Vec::new(),
            bootstrap_servers: None,
            place: self.place(),
        };
        crate::commands::checkpoint::checkpoint(&CheckpointCommand::Rewind(rewind))
    }

    /// `audit` proves the job; of older directories than a date it is said that they were removed.
    #[track_caller]
    pub(crate) fn is_proved(&self, job: &str, retained_since: Option<&str>, when: &str) {
        let retained_since = retained_since.map(|date| date.parse().unwrap());
        let args = AuditArgs { job: job.to_owned(), place: self.place(), retained_since };
        let code = crate::commands::audit::audit(&args).unwrap_or_else(|_| panic!("{when}"));
        assert_eq!(code, 0, "{when}: not proved");
    }

    fn options(&self, mode: RunMode) -> RunOptions {
        self.starts.set(self.starts.get() + 1);
        let number = self.starts.get();
        let (owner, pod, place) = (format!("owner-{number}"), format!("process-{number}"), "a test".to_owned());
        RunOptions {
            namespace: "local".to_owned(),
            outputs: self.outputs.clone(),
            checkpoints: Location::Folder(self.path("checkpoints")),
            bootstrap_servers: None,
            starting_offsets: Some(StartingOffsets::Earliest),
            mode,
            new_log: false,
            reset_breaker: false,
            candidate: Candidate { owner, rank: Rank::default(), pod, place },
            restart: None,
            memory: MemoryBudget::of(1 << 30),
            stay_up: false,
            patience: Duration::ZERO,
            lock: false,
            records_per_base: self.records_per_base,
            secrets: Secrets::new(self.path("secrets")),
        }
    }

    /// The store of a job's log.
    pub(crate) fn checkpoint(&self, job: &str) -> SharedStore {
        let faults: Arc<dyn Faults> = Arc::new(NoSync);
        Location::Folder(self.path("checkpoints/local").join(job)).open(&faults).unwrap()
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    /// Runs a job until it has read what is there; `None` if it was killed before.
    pub(crate) fn run_with(&self, yaml: &str, faults: Arc<dyn Faults>) -> Option<Run> {
        let run = || self.run_as(yaml, RunMode::TestMode, None, faults);
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
            Ok(run) => Some(run),
            Err(payload) if payload.is::<Killed>() => None,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }

    /// Runs a job until it has read what is there.
    pub(crate) fn run(&self, yaml: &str) -> Run {
        self.run_as(yaml, RunMode::TestMode, None, Arc::new(NoSync))
    }

    /// The same, and closes all windows.
    pub(crate) fn drain(&self, yaml: &str) -> Run {
        self.run_as(yaml, RunMode::Drain, None, Arc::new(NoSync))
    }

    /// Runs a job until it has made so many commits, and then tells it to stop.
    pub(crate) fn run_for(&self, yaml: &str, commits: u64) -> Run {
        self.run_as(yaml, RunMode::Continuous, Some(commits), Arc::new(NoSync))
    }

    /// Runs a job for three commits; after the first one something happens.
    pub(crate) fn run_while(&self, yaml: &str, happens: impl Fn() + 'static) -> Run {
        *self.happens.borrow_mut() = Some(Rc::new(happens));
        let run = self.run_for(yaml, 3);
        *self.happens.borrow_mut() = None;
        run
    }

    fn run_as(&self, yaml: &str, mode: RunMode, stop_after: Option<u64>, faults: Arc<dyn Faults>) -> Run {
        let planned = planned_at(yaml, &self.outputs);
        let options = self.options(mode);
        let mut settings = planned.settings(&options).unwrap();
        settings.producers = self.topics.producers();
        let (status, stop) = (SharedStatus::default(), StopSignal::new());
        let topics: Vec<String> =
            planned.loaded.job.spec.sources.iter().flat_map(|source| source.topics.clone()).collect();
        let (cluster, stopper, made) = (self.cluster.clone(), stop.clone(), Rc::new(Cell::new(0)));
        let happens = self.happens.borrow().clone();
        let (called, seed) = (self.called.clone(), self.starts.get().unsigned_abs());
        let environment = Environment {
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            faults,
            status: status.clone(),
            stop,
            make_source: Box::new(move || {
                let source = cluster.source(&topics.iter().map(String::as_str).collect::<Vec<_>>(), seed);
                Ok(match called.clone() {
                    Some(identity) => Box::new(Called { source, identity }) as Box<dyn Source>,
                    None => Box::new(source),
                })
            }),
            observe: Box::new(move |_, _| {
                made.set(made.get() + 1);
                if let Some(happens) = happens.as_ref().filter(|_| made.get() == 1) {
                    happens();
                }
                if stop_after == Some(made.get()) {
                    stopper.stop();
                }
            }),
            after_reading: Box::new(|_| ()),
            before_pause: Box::new(|_| ()),
            secrets_changed: Box::new(|| false),
        };
        let ended = self.block_on(StreamingJob::new(settings, environment).run());
        Run { ended, status: status.get() }
    }

    /// Turns the clock to a time in seconds since 1970; it never goes back.
    pub(crate) fn turn_clock(&self, second: i64) {
        let micros = (second * 1_000_000 - self.clock.now()).max(0).unsigned_abs();
        self.clock.advance(Duration::from_micros(micros));
    }

    /// Appends a record; `None` is a tombstone.
    pub(crate) fn append(&self, topic: &str, partition: i32, value: Option<&str>) {
        let record = MemoryRecord { value: value.map(|value| value.as_bytes().to_vec()), ..MemoryRecord::default() };
        self.cluster.append(topic, partition, record).expect("the topic was created");
    }

    /// The store of a table.
    pub(crate) fn table(&self, table: &str) -> SharedStore {
        let faults: Arc<dyn Faults> = Arc::new(NoSync);
        self.outputs.join(table).open_table(&faults).unwrap()
    }

    /// The rows of a Delta table, wherever it lies.
    pub(crate) fn delta_rows(&self, table: &str) -> Vec<String> {
        let store = self.table(table);
        let head = self.block_on(crate::delta::DeltaLog::new(SharedStore::clone(&store)).read()).unwrap();
        let files = head.map(|head| head.active_files("t").unwrap()).unwrap_or_default();
        self.rows_in(&store, files.into_iter().map(|file| file.path))
    }

    /// The rows of the files of a table that readers see, wherever it lies.
    pub(crate) fn visible_rows(&self, table: &str) -> Vec<String> {
        let store = self.table(table);
        let listed = self.block_on(store.list("")).unwrap().into_iter().map(|entry| entry.path);
        self.rows_in(&store, listed.filter(|path| paths::is_visible(path)))
    }

    pub(crate) fn rows_in(&self, store: &SharedStore, files: impl Iterator<Item = String>) -> Vec<String> {
        let content = |path: String| self.block_on(store.get(&path)).unwrap().unwrap();
        let mut rows: Vec<_> = files.flat_map(|path| rows_of(content(path))).collect();
        rows.sort();
        rows
    }

    /// The rows of a table as JSON texts, in their own order; directory columns are not among them.
    pub(crate) fn rows(&self, table: &str) -> Vec<String> {
        rows(&self.path("outputs").join(table))
    }
}

/// A source whose cluster and topics are called otherwise.
struct Called {
    source: MemorySource,
    identity: Identity,
}

impl Source for Called {
    fn identity(&mut self) -> Result<Identity, SourceError> {
        self.source.identity().map(|_| self.identity.clone())
    }

    fn resolve(&mut self, starting: &StartingOffsets) -> Result<Partitions<i64>, SourceError> {
        self.source.resolve(starting)
    }

    fn bounds(&mut self) -> Result<Partitions<Bounds>, SourceError> {
        self.source.bounds()
    }

    fn assign(&mut self, positions: &Partitions<i64>) -> Result<(), SourceError> {
        self.source.assign(positions)
    }

    fn read(
        &mut self,
        ranges: &Partitions<(i64, i64)>,
        without_leader: WithoutLeader,
        stop: &StopSignal,
        visit: &mut dyn FnMut(&Record<'_>) -> Result<(), SourceError>,
    ) -> Result<Partitions<PartitionRead>, SourceError> {
        self.source.read(ranges, without_leader, stop, visit)
    }

    fn tell_group(&mut self, positions: &Partitions<i64>) {
        self.source.tell_group(positions);
    }
}

/// A job of these words, planned.
#[track_caller]
pub(crate) fn planned(yaml: &str) -> PlannedJob {
    planned_at(yaml, &Location::Folder(PathBuf::new()))
}

#[track_caller]
fn planned_at(yaml: &str, outputs: &Location) -> PlannedJob {
    let manifest = Manifest::read(yaml).unwrap_or_else(|problems| panic!("{problems:?}")).remove(0);
    let loaded = match load_in_pod("job.yaml", manifest, &JobSource::default()) {
        Ok(Loaded::Streaming(loaded)) => *loaded,
        Ok(Loaded::Batch(_)) => panic!("a batch job"),
        Err(error) => panic!("{error}"),
    };
    PlannedJob::new(loaded, outputs).unwrap_or_else(|error| panic!("{error}"))
}

/// The rows of the files that a Delta table has.
pub(crate) fn delta_rows(folder: &Path) -> Vec<String> {
    let mut rows = Vec::new();
    for file in crate::delta::tests::active_files(folder) {
        rows.extend(rows_of(std::fs::File::open(folder.join(file.path)).unwrap()));
    }
    rows.sort();
    rows
}

/// The rows of a file.
fn rows_of(file: impl ChunkReader + 'static) -> Vec<String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let mut text = arrow_json::LineDelimitedWriter::new(Vec::new());
    for batch in reader.build().unwrap() {
        text.write(&batch.unwrap()).unwrap();
    }
    text.finish().unwrap();
    String::from_utf8(text.into_inner()).unwrap().lines().map(str::to_owned).collect()
}

/// The rows of the published files of a folder.
pub(crate) fn rows(folder: &Path) -> Vec<String> {
    let mut rows = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(listed) = std::fs::read_dir(&folder) else { continue };
        for entry in listed.map(|entry| entry.unwrap().path()) {
            let name = entry.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with(['_', '.']) {
                continue;
            }
            if entry.is_dir() {
                folders.push(entry);
            } else if name.ends_with(".parquet") {
                rows.extend(rows_of(std::fs::File::open(&entry).unwrap()));
            }
        }
    }
    rows.sort();
    rows
}
