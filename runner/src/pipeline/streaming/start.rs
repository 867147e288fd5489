//! The start of a job: its log, who may commit, what is decided and not visible yet, and the state.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::checkpoint::decide::{self, ClusterCheck, PlanChange};
use crate::checkpoint::job_state::PartitionState;
use crate::checkpoint::log::{JobLog, LogAccess, read};
use crate::checkpoint::record::{Plan, Start};
use crate::faults::Guard;
use crate::offsets::{Bounds, Partitions};
use crate::pipeline::error::{JobError, Reason, Retry};
use crate::pipeline::job_plan::{Flow, decoders};
use crate::pipeline::lag::ReadUpTo;
use crate::pipeline::no_output::{NoOutput, Seen, Silence};
use crate::pipeline::status::{OutputStatus, PartitionStatus, Phase};
use crate::pipeline::streaming::batch::planning::say_topics_gone;
use crate::pipeline::streaming::deduplicate::RunningDeduplicator;
use crate::pipeline::streaming::flows::RunningFlow;
use crate::pipeline::streaming::outputs::{self, Sinks};
use crate::pipeline::streaming::rebuild::earlier::Earlier;
use crate::pipeline::streaming::references::RunningReference;
use crate::pipeline::streaming::{Environment, StreamingJob, StreamingSettings};
use crate::sink;
use crate::source::Identity;
use crate::source::reader::Reader;
use crate::storage::lock::FolderLock;
use crate::storage::paths;

/// A job from one reading of its log to the next error or end.
pub(super) struct Session<'a> {
    pub(super) settings: &'a StreamingSettings,
    pub(super) environment: &'a Environment,
    pub(super) log: JobLog,
    pub(super) reader: Reader,
    /// In the order of the job's flows.
    pub(super) flows: Vec<RunningFlow>,
    /// As they are loaded; in the order of the job's references.
    pub(super) references: Vec<RunningReference>,
    /// Versions of the references that batches are repeated with.
    pub(super) repeated_with: Vec<String>,
    /// If the job counts some records once.
    pub(super) deduplicator: Option<RunningDeduplicator>,
    pub(super) identity: Identity,
    /// Next offset of every partition, also of those that the log does not know yet.
    pub(super) positions: Partitions<i64>,
    pub(super) bounds: Partitions<Bounds>,
    pub(super) bounds_age: Option<Instant>,
    /// Where a bounded run ends.
    pub(super) target: Option<Partitions<i64>>,
    pub(super) sinks: Sinks,
    pub(super) records_since_snapshot: u64,
    pub(super) snapshot_clock: i64,
    /// When the ends in `bounds` were asked for, in microseconds.
    pub(super) bounds_clock: i64,
    /// How far every partition is read, in time.
    pub(super) read_up_to: Partitions<ReadUpTo>,
    /// When the log was last known to be ours.
    pub(super) owner_seen: Instant,
    /// Version of the log at the last rest.
    pub(super) rested_at: u64,
    /// Records came since the start.
    pub(super) has_read: bool,
    /// When each partition was last active; never later than now.
    pub(super) activity: Partitions<i64>,
    /// The runner's clock was doubted for so long that its future is taken for the future.
    pub(super) trusts_clock: bool,
    /// Partitions that nobody waits for, as they were named.
    pub(super) left_behind: Vec<(String, i32)>,
    /// While the state is rebuilt: the earlier job whose batches are repeated.
    pub(super) computes: Option<Earlier>,
    /// When the tables were last seen to need no upkeep.
    pub(super) kept_up: Option<i64>,
    /// When the files of tables were last counted.
    pub(super) counted: Option<i64>,
    /// Folders whose files cannot be merged, and files that are gone.
    pub(super) left_alone: BTreeSet<String>,
    /// When files that nobody wants any more were last looked for, by output.
    pub(super) cleared: BTreeMap<String, i64>,
}

impl<'a> Session<'a> {
    pub(super) async fn start(job: &'a mut StreamingJob) -> Result<Self, JobError> {
        job.environment.status.starting("reading the job log");
        let access = open_checkpoint(job).await?;
        let StreamingJob { settings, environment, .. } = job;
        let (settings, environment): (&StreamingSettings, &Environment) = (settings, environment);
        outputs::check_places(settings, &access)?;
        outputs::check_kinds(settings, &access).await?;
        // It connects while the log is read.
        let source = (environment.make_source)()?;
        let decoders = decoders(&settings.sources, &settings.routes);
        let reader = Reader::start(source, decoders, environment.stop.clone());
        let mut recovered = read::read(&access.store).await?;
        if !environment.faults.guard(Guard::RecordZero) {
            recovered = forget_start(&access, recovered).await?;
        }
        if let Some(recovered) = &recovered {
            check_owner(settings, recovered)?;
            for (path, problem) in &recovered.damaged_bases {
                tracing::warn!(path, problem, "a base is damaged; the one before it and the records after it are used");
            }
        }
        environment.status.starting("connecting to Kafka");
        let identity = reader.identity()?;
        for (topic, _) in identity.topics.iter().filter(|(_, topic)| !decide::topic_id_is_known(&topic.id)) {
            tracing::warn!(
                topic,
                "the brokers tell no id of it: if it is deleted and created again, only offsets that end before the job's \
                 show it; stop the job first, then data-platform checkpoint rewind JOB --topic-recreated TOPIC"
            );
        }
        let log = match recovered {
            Some(recovered) => {
                let check = check_cluster(&recovered.state, &identity);
                if let Some(error) = JobError::cluster(&check, &settings.job) {
                    return Err(error);
                }
                // It may have gone while the job did not look, or in the middle of a read that failed for it.
                say_topics_gone(recovered.state.partitions.topics(), &identity);
                JobLog::resume(access, recovered)
            }
            None => {
                if let Err(error) = outputs::check_free(settings, &access).await {
                    // Between the look at the log and the look at the output another process may have begun both.
                    let begun = read::read(&access.store).await?.is_some();
                    return Err(if begun { JobError { retry: Retry::Reload, ..error } } else { error });
                }
                let offsets = reader.resolve(&settings.starting_offsets)?;
                JobLog::begin(access, start_record(settings, environment, &identity, offsets)).await?
            }
        };
        let mut session = Self::over(settings, environment, log, reader, identity)?;
        session.take_over().await?;
        session.restore().await?;
        session.load_references().await?;
        session.reader.assign(&session.positions)?;
        // Lag tools know the job from its first moment, with all of its partitions.
        session.reader.tell_group(&session.positions);
        Ok(session)
    }

    fn over(
        settings: &'a StreamingSettings,
        environment: &'a Environment,
        mut log: JobLog,
        reader: Reader,
        identity: Identity,
    ) -> Result<Self, JobError> {
        let positions = log.state().positions();
        let start_clock = log.state().start.clock;
        let activity = log.state().partitions.map(|known| known.active.unwrap_or(start_clock));
        let sinks = Sinks::open(settings, environment, &mut log)?;
        Ok(Self {
            settings,
            environment,
            flows: settings.flows.iter().map(RunningFlow::new).collect(),
            references: Vec::new(),
            repeated_with: Vec::new(),
            deduplicator: RunningDeduplicator::new(settings),
            log,
            reader,
            identity,
            positions,
            bounds: Partitions::new(),
            bounds_age: None,
            target: None,
            sinks,
            records_since_snapshot: 0,
            snapshot_clock: environment.clock.now(),
            bounds_clock: i64::MIN,
            read_up_to: Partitions::new(),
            owner_seen: environment.clock.instant(),
            rested_at: 0,
            has_read: false,
            activity,
            trusts_clock: false,
            left_behind: Vec::new(),
            computes: None,
            kept_up: None,
            counted: None,
            left_alone: BTreeSet::new(),
            cleared: BTreeMap::new(),
        })
    }

    /// From here on nobody else commits, and everything that was decided is visible.
    async fn take_over(&mut self) -> Result<(), JobError> {
        let plan = &self.settings.plan;
        let change = decide::plan_change(self.log.state(), plan, &self.settings.state_fingerprints_1);
        let changed = match &change {
            PlanChange::StopChanged { outputs } => outputs.as_slice(),
            PlanChange::Same | PlanChange::Compatible => &[],
        };
        let lost = self.cannot_repeat(plan);
        let changed = if changed.is_empty() { lost.outputs.as_slice() } else { changed };
        let rebuild = !changed.is_empty() && self.settings.rebuilds_windows(changed);
        if !changed.is_empty() && !rebuild {
            let what = what_changed(&self.log.state().plan, plan, changed);
            return Err(JobError::user(
                Reason::QueryChanged,
                format!(
                    "{what} changed since the state in {} was made, and windows are open{}",
                    self.settings.checkpoint_location, lost.why
                ),
                "set spec.onQueryChange: rebuild, and these windows are computed anew from Kafka; or bring back what it was and \
                 run it once with --drain to close them; or begin anew: set another checkpoint.name and spec.onQueryChange: \
                 newLog",
            ));
        }
        self.log.place_outputs(plan.outputs.clone());
        let take_over_outputs = self.settings.new_log && self.log.state().commits == 0;
        if !take_over_outputs {
            // Nobody is fenced for a job that then cannot run.
            self.log
                .check_outputs()
                .await
                .map_err(|error| outputs::owned(&self.settings.checkpoint_location, error))?;
        }
        self.sinks.probe().await?;
        let is_same_plan = change == PlanChange::Same && changed.is_empty();
        self.log.take_over(self.environment.clock.now(), is_same_plan).await?;
        let claimed = self.log.claim_outputs(take_over_outputs).await;
        claimed.map_err(|error| outputs::owned(&self.settings.checkpoint_location, error))?;
        self.begin_upkeep().await?;
        self.log.publish_pending().await?;
        self.log.note_published().await?;
        if change == PlanChange::Compatible {
            tracing::info!("the job changed in a way that its state allows");
            self.log.change_plan(plan.clone()).await?;
        }
        if rebuild {
            tracing::warn!("another query made the windows that are open: the new one computes them anew from Kafka");
            self.log.change_plan(Plan { rebuild, ..plan.clone() }).await?;
        }
        self.log.collect_staging().await?;
        self.sinks.describe().await?;
        if self.log.state().breaker.open && change == PlanChange::Same && !self.settings.reset_breaker {
            return Err(too_many_bad(self.log.state().breaker));
        }
        self.log.write_progress().await?;
        Ok(())
    }

    /// Tells the status what the log says.
    pub(super) fn say_running(&self) {
        let state = self.log.state();
        let partitions = self.partition_statuses();
        let outputs = self.output_statuses(&partitions);
        let sum = |of: fn(&OutputStatus) -> u64| outputs.values().map(of).sum();
        let (groups, bytes) = (sum(|output| output.state_groups), sum(|output| output.state_bytes));
        let windows = sum(|output| output.open_windows);
        let references = self.reference_statuses().collect();
        let no_output = of_all(outputs.values().map(|output| output.no_output));
        self.environment.status.update(|status| {
            status.phase = Phase::Running;
            status.ready = true;
            "Running".clone_into(&mut status.reason);
            status.message.clear();
            status.log_id = Some(state.start.log_id.clone());
            status.partitions = partitions;
            status.no_output = no_output;
            status.watermark = state.watermark;
            status.freshness = self.freshness();
            status.open_windows = windows;
            status.state_groups = groups;
            status.state_bytes = bytes;
            status.references = references;
            status.deduplicate = self.deduplicator.as_ref().map(RunningDeduplicator::status);
            status.commits = state.commits;
            status.totals = state.totals.clone();
            status.outputs = outputs;
            status.snapshot = state.snapshot.as_ref().map(|snapshot| snapshot.version);
        });
    }

    fn output_statuses(&self, partitions: &[PartitionStatus]) -> BTreeMap<String, OutputStatus> {
        let totals = &self.log.state().totals;
        let now = self.environment.clock.now();
        let of = |(flow, running): (&Flow, &RunningFlow)| {
            let open_windows = running.operator.open_windows() as u64;
            let mut since = running.since_output.get();
            let reads = |name: &str| self.settings.plan.reads(&flow.output, name);
            let silence = Silence { now, usual: self.settings.usual_silence(flow) };
            let seen = Seen::of(totals, reads, &flow.output);
            let no_output = since.explain(seen, open_windows, partitions, silence);
            running.since_output.set(since);
            let (state_groups, state_bytes) = (running.operator.groups() as u64, running.operator.size_bytes() as u64);
            (flow.output.clone(), OutputStatus { open_windows, state_groups, state_bytes, no_output })
        };
        self.settings.flows.iter().zip(&self.flows).map(of).collect()
    }

    /// Event time up to which the rows of the outputs go.
    fn freshness(&self) -> Option<i64> {
        let state = self.log.state();
        if self.settings.has_windows() {
            return state.watermark;
        }
        let newest = |(topic, _, known): (&str, _, &PartitionState)| {
            Some(known.watermark?.saturating_add(self.settings.source_of(topic).watermark_delay()))
        };
        state.partitions.iter().filter_map(newest).max()
    }

    /// Tells the status where the partitions end now: while a micro-batch is computed what it reads is not committed.
    pub(super) fn say_ends(&self) {
        let partitions = self.partition_statuses();
        self.environment.status.update(|status| status.partitions = partitions);
    }

    fn partition_statuses(&self) -> Vec<PartitionStatus> {
        let state = self.log.state();
        let of = |(topic, partition, position): (&str, i32, &i64)| {
            let watermark = state.partitions.get(topic, partition).and_then(|known| known.watermark);
            let end = self.bounds.get(topic, partition).map(|bounds| bounds.end);
            let unread_since = self.read_up_to.get(topic, partition).and_then(ReadUpTo::unread_since);
            let (topic, position) = (topic.to_owned(), *position);
            PartitionStatus { topic, partition, position, end, watermark, unread_since, ..Default::default() }
        };
        let mut statuses: Vec<_> = self.positions.iter().map(of).collect();
        let (holder, left_behind) = self.holders();
        if let Some(holder) = holder {
            statuses[holder].holds_watermark = true;
        }
        for index in left_behind {
            statuses[index].left_behind = true;
        }
        statuses
    }
}

/// Why no output has rows; `None` as long as one has.
fn of_all(mut reasons: impl Iterator<Item = Option<NoOutput>>) -> Option<NoOutput> {
    let first = reasons.next()??;
    reasons.all(|reason| reason.is_some()).then_some(first)
}

pub(super) fn too_many_bad(breaker: crate::checkpoint::record::Breaker) -> JobError {
    JobError::user(
        Reason::TooManyBadRecords,
        format!(
            "{} of the last {} records could not be read: probably their schema changed",
            breaker.bad, breaker.records
        ),
        "look at the dead letters; correct the producer or the declared columns: a changed job reads again. An unchanged one \
         does so with --reset-breaker, in a cluster when its annotation dataplatform.io/restartedAt changes",
    )
}

/// Opens the checkpoint and takes its lock, once per process.
async fn open_checkpoint(job: &mut StreamingJob) -> Result<LogAccess, JobError> {
    if let Some(access) = &job.access {
        return Ok(access.clone());
    }
    let faults = Arc::clone(&job.environment.faults);
    let store = job.settings.checkpoint_location.open(&faults)?;
    store.probe().await?;
    if let (Some(folder), None, true) = (job.settings.checkpoint_location.folder(), &job.lock, job.settings.lock) {
        job.lock = Some(FolderLock::take(folder)?);
    }
    let opener = Arc::clone(&faults);
    let open_output = move |root: &str| sink::open_output(root, &opener);
    let access = LogAccess::new(store, Rc::new(open_output), job.settings.candidate.clone(), faults);
    job.access = Some(access.clone());
    Ok(access)
}

fn check_owner(settings: &StreamingSettings, recovered: &read::Recovered) -> Result<(), JobError> {
    let start = &recovered.state.start;
    if (start.namespace.as_str(), start.job.as_str()) == (&settings.namespace, &settings.checkpoint) {
        return Ok(());
    }
    Err(JobError::user(
        Reason::CheckpointOfOtherJob,
        format!(
            "the checkpoint in {} belongs to {}/{}, not to {}/{}",
            settings.checkpoint_location, start.namespace, start.job, settings.namespace, settings.checkpoint
        ),
        "give the job its own CHECKPOINT_DIR; to let a job go on under another name, set checkpoint.name to the old one",
    ))
}

fn check_cluster(state: &crate::checkpoint::job_state::JobState, identity: &Identity) -> ClusterCheck {
    let topics = identity.topics.iter().map(|(name, topic)| (name.clone(), topic.id.clone())).collect();
    decide::cluster_check(state, &identity.cluster_id, &topics)
}

fn start_record(
    settings: &StreamingSettings,
    environment: &Environment,
    identity: &Identity,
    offsets: Partitions<i64>,
) -> Start {
    Start {
        log_id: uuid::Uuid::new_v4().to_string(),
        namespace: settings.namespace.clone(),
        job: settings.checkpoint.clone(),
        cluster_id: identity.cluster_id.clone(),
        topics: identity.topics.iter().map(|(name, topic)| (name.clone(), topic.id.clone())).collect(),
        offsets,
        plan: settings.plan.clone(),
        clock: environment.clock.now(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// A negative control: without record 0 a start before the first commit resolves its offsets again.
async fn forget_start(
    access: &LogAccess,
    recovered: Option<read::Recovered>,
) -> Result<Option<read::Recovered>, JobError> {
    let Some(last) = recovered.as_ref().filter(|r| r.state.commits == 0).map(|r| r.state.version) else {
        return Ok(recovered);
    };
    for version in 0..=last {
        access.store.delete(&paths::log_record(version)).await?;
    }
    Ok(None)
}

/// What of a job changed on which the open windows of these outputs depend, in words.
fn what_changed(before: &Plan, now: &Plan, outputs: &[String]) -> String {
    let several = before.queries.len() > 1 || now.queries.len() > 1;
    let of = if several { format!(" of the output {}", outputs.join(", ")) } else { String::new() };
    let sql = |plan: &Plan, output: &String| plan.queries.get(output).map(|query| query.sql.clone());
    let mut changed = Vec::new();
    if outputs.iter().any(|output| sql(before, output) != sql(now, output)) {
        changed.push(format!("the query{of}"));
    }
    if before.sources != now.sources {
        changed.push("the columns of a source".to_owned());
    }
    if before.deduplicate != now.deduplicate {
        changed.push("deduplicate".to_owned());
    }
    match changed.len() {
        0 => format!("the query{of}, or the columns of its source,"),
        _ => changed.join(" and "),
    }
}
