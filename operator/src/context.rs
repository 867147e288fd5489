//! What every reconcile works with: the caches of its scope, and what this process remembers of each job.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::channel::mpsc::UnboundedSender;
use kube::Client;
use serde_json::Value;
use tokio::time::Instant;

use crate::apply::Writer;
use crate::args::RunnerSettings;
use crate::cache::{Cache, JobKey, JobKind};
use crate::checkpoints::Checkpoints;
use crate::child::Children;
use crate::clock;
use crate::dependencies::Dependencies;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::pod::{PodFacts, current};
use crate::reports::{ReportState, Reports};

/// Jobs that an operator with `runner.rollout: auto` restarts at the same time: a few, so that a bad image shows before
/// it is everywhere.
const ROLLING_MAX: usize = 5;
/// After this time a job that was rolled no longer counts, ready or not: one that never gets ready must not stop the others.
const ROLLING_SECONDS: u64 = 120;
/// So many jobs that nobody has looked at yet are many.
const CROWD: usize = 8;

/// The caches of one watched namespace, or of all.
#[derive(Debug, Default)]
pub struct Scope {
    /// The namespace; `None`: all.
    pub namespace: Option<String>,
    /// What jobs are made of.
    pub children: Children,
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
        self.children.is_synced() && self.pods.is_synced()
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
    /// Which batch job waits for which.
    pub dependencies: Dependencies,
    memory: Mutex<HashMap<JobKey, Memory>>,
    /// Jobs that appeared and were not looked at yet.
    newcomers: Mutex<HashSet<JobKey>>,
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
            dependencies: Dependencies::default(),
            memory: Mutex::default(),
            newcomers: Mutex::default(),
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
            ReportState::Unknown | ReportState::Silent(_) => None,
        }
    }

    /// Takes up a job that was not there before.
    pub fn appeared(&self, job: JobKey) {
        lock(&self.newcomers).insert(job);
    }

    /// Takes up that a job was looked at: what it is made of is there, as far as it can be.
    pub fn looked_at(&self, job: &JobKey) {
        lock(&self.newcomers).remove(job);
    }

    /// Whether many jobs wait for their first look: what they are made of goes before what is said of others.
    pub fn is_crowded(&self) -> bool {
        lock(&self.newcomers).len() >= CROWD
    }

    /// Forgets a job that is gone.
    pub fn forget(&self, job: &JobKey) {
        self.checkpoints.forget(job);
        self.dependencies.forget(job);
        lock(&self.memory).remove(job);
        self.looked_at(job);
    }

    /// Reads what is remembered of every job.
    pub fn remembered<R>(&self, read: impl Fn(&JobKey, &Memory) -> Option<R>) -> Vec<R> {
        lock(&self.memory).iter().filter_map(|(job, memory)| read(job, memory)).collect()
    }

    /// Whether one more job may be rolled without its user having asked.
    pub fn may_roll(&self, job: &JobKey) -> bool {
        let rolling =
            |memory: &Memory| memory.rolled.is_some_and(|since| clock::since(since).as_secs() < ROLLING_SECONDS);
        let memories = lock(&self.memory);
        memories.get(job).is_some_and(rolling)
            || memories.values().filter(|memory| rolling(memory)).count() < ROLLING_MAX
    }

    /// Takes up what is known of a claim: `Some(is shared)`, or `None` for one that is not there.
    pub fn note_claim(&self, namespace: &str, claim: &str, found: Option<bool>) {
        lock(&self.claims).insert((namespace.to_owned(), claim.to_owned()), (clock::instant(), found));
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
