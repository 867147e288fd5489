//! What every reconcile works with: the caches of its scope, and what this process remembers of each job.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use data_platform_crds::condition::{Health, Reason};
use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::Client;
use serde_json::Value;

use crate::apply::Writer;
use crate::args::RunnerSettings;
use crate::batch_job::memory::BatchMemory;
use crate::cache::{Cache, JobKey, JobKind};
use crate::checkpoints::Checkpoints;
use crate::metrics::Metrics;
use crate::observed::Observed;
use crate::pod::{PodFacts, current};
use crate::rate::Spent;
use crate::reports::{ReportState, Reports};
use crate::streaming_job::rollout::DeployedRevision;
use crate::validated::Refusal;

/// Jobs that an operator with `runner.rollout: auto` restarts at the same time: a few, so that a bad image shows before
/// it is everywhere.
const ROLLING_MAX: usize = 5;
/// After this time a job that was rolled no longer counts, ready or not: one that never gets ready must not stop the others.
const ROLLING_SECONDS: u64 = 120;

/// The caches of one watched namespace, or of all.
#[derive(Debug, Default)]
pub struct Scope {
    /// The namespace; `None`: all.
    pub namespace: Option<String>,
    /// Deployments of ours.
    pub deployments: Cache<Observed<Deployment>>,
    /// Services of ours.
    pub services: Cache<Observed<Service>>,
    /// ConfigMaps of ours, their metadata only: what is in them never changes.
    pub config_maps: Cache<Observed<ConfigMap>>,
    /// CronJobs of ours.
    pub cron_jobs: Cache<Observed<CronJob>>,
    /// Jobs of ours and of our CronJobs.
    pub jobs: Cache<Observed<Job>>,
    /// Pods of jobs.
    pub pods: Cache<PodFacts>,
}

impl Scope {
    /// The scope of a namespace, or of all.
    pub fn new(namespace: Option<String>) -> Self {
        Self { namespace, ..Self::default() }
    }

    /// Whether every cache was read whole once.
    pub fn is_synced(&self) -> bool {
        self.deployments.is_synced()
            && self.services.is_synced()
            && self.config_maps.is_synced()
            && self.cron_jobs.is_synced()
            && self.jobs.is_synced()
            && self.pods.is_synced()
    }
}

/// Asks for reconciles. While nobody leads it asks for nothing: who begins to lead looks at every job.
#[derive(Default)]
pub struct Triggers {
    queues: Mutex<HashMap<JobKind, UnboundedSender<JobKey>>>,
}

impl Triggers {
    /// Begins to ask for jobs of a kind.
    pub fn open(&self, kind: JobKind, queue: UnboundedSender<JobKey>) {
        lock(&self.queues).insert(kind, queue);
    }

    /// Asks for nothing more; what was asked for is still done.
    pub fn close(&self) {
        lock(&self.queues).clear();
    }

    /// Asks for the reconcile of a job.
    pub fn trigger(&self, job: &JobKey) {
        if let Some(queue) = lock(&self.queues).get(&job.kind) {
            // The receiver is gone only when the process ends.
            let _closed = queue.unbounded_send(job.clone());
        }
    }
}

/// What this process remembers of a job. Nothing of it is needed: another process finds out again.
#[derive(Debug, Default)]
pub struct Memory {
    /// Which job of the name is meant.
    pub uid: String,
    /// The answer of the slow checks, for this generation of the spec.
    pub checked: Option<(Option<i64>, Result<(), Refusal>)>,
    /// The status that was written last.
    pub written: Option<Written>,
    /// What the kept ConfigMap says.
    pub deployed: Option<Arc<DeployedRevision>>,
    /// The last change was held back.
    pub held_back: bool,
    /// When the job was rolled without its user having asked.
    pub rolled: Option<Instant>,
    /// What came of the runs of a batch job.
    pub batch: BatchMemory,
    /// Failures in a row.
    pub failures: u32,
    /// Reason of the condition Ready, and what it means for the conditions.
    pub reason: Option<(Reason, Health)>,
    /// Writes of its status.
    pub status_writes: Spent,
    /// Its events.
    pub events: Spent,
    /// Transitions that had no event since the last one that had.
    pub untold: u32,
}

/// A status that this process wrote.
#[derive(Clone, Debug)]
pub struct Written {
    /// The status, as compact JSON.
    pub status: Box<str>,
    /// The resource version that the write made.
    pub resource_version: String,
    /// The watch has brought it back: what it brings after it is newer.
    pub was_seen: bool,
    /// When.
    pub at: Instant,
}

/// Since when something is known of a claim, and what: `Some(is shared)`, or `None` for one that is not there.
pub type KnownClaim = (Instant, Option<bool>);

/// What every reconcile of a scope works with.
pub struct Context {
    /// The client.
    pub client: Client,
    /// Writes, and counts them.
    pub writer: Writer,
    /// What the operator gives to every pod.
    pub settings: RunnerSettings,
    /// Who reports events.
    pub instance: String,
    /// Metrics.
    pub metrics: Metrics,
    /// Caches.
    pub scope: Arc<Scope>,
    /// What runners say.
    pub reports: Arc<Reports>,
    /// Which job keeps its log where.
    pub checkpoints: Checkpoints,
    memory: Mutex<HashMap<JobKey, Memory>>,
    /// By namespace and name.
    claims: Mutex<HashMap<(String, String), KnownClaim>>,
}

impl Context {
    /// A context without memories.
    pub fn new(
        client: Client,
        settings: RunnerSettings,
        instance: String,
        metrics: Metrics,
        scope: Arc<Scope>,
    ) -> Self {
        Self {
            writer: Writer::new(client.clone(), metrics.clone()),
            client,
            settings,
            instance,
            metrics,
            scope,
            reports: Arc::default(),
            checkpoints: Checkpoints::default(),
            memory: Mutex::default(),
            claims: Mutex::default(),
        }
    }

    /// Works on what is remembered of a job. Another job of the same name begins anew.
    pub fn remember<R>(&self, job: &JobKey, uid: &str, work: impl FnOnce(&mut Memory) -> R) -> R {
        let mut memories = lock(&self.memory);
        let memory = memories.entry(job.clone()).or_default();
        if memory.uid != uid {
            *memory = Memory { uid: uid.to_owned(), ..Memory::default() };
        }
        work(memory)
    }

    /// What the runner of a streaming job said last.
    pub fn report(&self, namespace: &str, name: &str) -> Option<Value> {
        let key = JobKey { kind: JobKind::Streaming, namespace: namespace.to_owned(), name: name.to_owned() };
        let pods = self.scope.pods.of_job(&key);
        match self.reports.state(current(pods.iter().map(Arc::as_ref))?) {
            ReportState::Fresh(report) => serde_json::to_value(&*report).ok(),
            ReportState::Unknown | ReportState::Silent => None,
        }
    }

    /// Forgets a job that is gone.
    pub fn forget(&self, job: &JobKey) {
        self.checkpoints.forget(job);
        lock(&self.memory).remove(job);
    }

    /// Reads what is remembered of every job.
    pub fn remembered<R>(&self, read: impl Fn(&JobKey, &Memory) -> Option<R>) -> Vec<R> {
        lock(&self.memory).iter().filter_map(|(job, memory)| read(job, memory)).collect()
    }

    /// Whether one more job may be rolled without its user having asked.
    pub fn may_roll(&self, job: &JobKey) -> bool {
        let rolling = |memory: &Memory| memory.rolled.is_some_and(|since| since.elapsed().as_secs() < ROLLING_SECONDS);
        let memories = lock(&self.memory);
        memories.get(job).is_some_and(rolling)
            || memories.values().filter(|memory| rolling(memory)).count() < ROLLING_MAX
    }

    /// Takes up what is known of a claim: `Some(is shared)`, or `None` for one that is not there.
    pub fn note_claim(&self, namespace: &str, claim: &str, found: Option<bool>) {
        lock(&self.claims).insert((namespace.to_owned(), claim.to_owned()), (Instant::now(), found));
    }

    /// What is known of a claim, and since when.
    pub fn claim(&self, namespace: &str, claim: &str) -> Option<KnownClaim> {
        lock(&self.claims).get(&(namespace.to_owned(), claim.to_owned())).copied()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is replaced whole; a panic between leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
