//! Watches what the operator caches and asks for reconciles. One task for each kind and scope; a watch that breaks is
//! begun again with growing waits and is told by a metric.

use std::fmt::Debug;
use std::sync::Arc;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::reflector::Lookup;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, reflector::ObjectRef};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use crate::cache::{Cache, Cached, JobKey};
use crate::child::{Child, ChildKind, ObservedChild};
use crate::context::{Context, Scope, Triggers};
use crate::kind::JobResource;
use crate::metrics::Metrics;
use crate::names::{KIND_LABEL, MANAGED_BY, RESTARTED_AT, TAKEOVER};
use crate::observed::Observed;
use crate::pod::PodFacts;

/// Objects in one answer of a list: parsing them takes far more memory than keeping them.
const PAGE_SIZE: u32 = 50;

/// The objects of a kind in a scope.
pub fn api<K>(client: &Client, scope: &Scope) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    match &scope.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Watches everything that jobs are made of.
pub fn children(client: &Client, scope: &Arc<Scope>, triggers: &Arc<Triggers>, metrics: &Metrics) {
    let ours = watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1)).page_size(PAGE_SIZE);
    let pods = watcher::Config::default().labels(KIND_LABEL).page_size(PAGE_SIZE);
    let watches = Watches { scope, triggers, metrics };
    for kind in ChildKind::ALL {
        let api = match &scope.namespace {
            Some(namespace) => Api::<ObservedChild>::namespaced_with(client.clone(), namespace, &kind.resource()),
            None => Api::all_with(client.clone(), &kind.resource()),
        };
        let keep = move |found| Child::of(kind, found);
        watches.spawn(api, &ours, kind.name(), move |scope| scope.children.of(kind), keep);
    }
    watches.spawn(api(client, scope), &pods, "Pod", |scope| &scope.pods, |found: Observed<Pod>| PodFacts::of(&found));
}

/// What every watch of children works with.
struct Watches<'a> {
    scope: &'a Arc<Scope>,
    triggers: &'a Arc<Triggers>,
    metrics: &'a Metrics,
}

impl Watches<'_> {
    /// Begins a watch in a task of its own: of objects `W`, of which the cache `of` the scope keeps `T`.
    fn spawn<W, T>(
        &self,
        api: Api<W>,
        config: &watcher::Config,
        kind: &'static str,
        of: impl Fn(&Scope) -> &Cache<T> + Send + 'static,
        keep: impl Fn(W) -> T + Send + Sync + 'static,
    ) where
        W: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
        T: Cached + Send + Sync + 'static,
    {
        let (scope, triggers, metrics) = (Arc::clone(self.scope), Arc::clone(self.triggers), self.metrics.clone());
        let config = config.clone();
        tokio::spawn(async move { watch(api, config, kind, of(&scope), keep, &triggers, &metrics).await });
    }
}

/// Keeps a cache of children, and asks for the reconcile of the jobs whose children changed: also of one that was deleted,
/// so that it is there again a moment later.
async fn watch<W, T>(
    api: Api<W>,
    config: watcher::Config,
    kind: &str,
    cache: &Cache<T>,
    keep: impl Fn(W) -> T,
    triggers: &Triggers,
    metrics: &Metrics,
) where
    W: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
    T: Cached,
{
    let events = watcher(api, config).default_backoff();
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                for job in cache.apply(mapped(event, &keep)) {
                    triggers.trigger(&job);
                }
            }
            Err(error) => broke(kind, &error, metrics),
        }
    }
}

fn mapped<W, T>(event: Event<W>, keep: &impl Fn(W) -> T) -> Event<T> {
    match event {
        Event::Apply(found) => Event::Apply(keep(found)),
        Event::Delete(found) => Event::Delete(keep(found)),
        Event::Init => Event::Init,
        Event::InitApply(found) => Event::InitApply(keep(found)),
        Event::InitDone => Event::InitDone,
    }
}

fn broke(kind: &str, error: &watcher::Error, metrics: &Metrics) {
    metrics.watch_restarted(kind);
    tracing::warn!(kind, error = %crate::error::chain(error), "a watch broke and is begun again");
}

/// Keeps the store of the jobs of a kind, and asks for the reconcile of those of which something changed that matters: what
/// the operator itself writes into their status does not.
pub async fn jobs<K: JobResource>(
    client: Client,
    scope: Arc<Scope>,
    mut store: Writer<Observed<K>>,
    triggers: Arc<Triggers>,
    context: Arc<Context>,
    metrics: Metrics,
) {
    let config = watcher::Config::default().page_size(PAGE_SIZE);
    let events = watcher(api::<Observed<K>>(&client, &scope), config).default_backoff();
    pin_mut!(events);
    let known = store.as_reader();
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                broke(K::KIND.name(), &error, &metrics);
                continue;
            }
        };
        match &event {
            Event::Apply(job) => {
                let before = known.get(&ObjectRef::from_obj(job));
                let matters = before.as_ref().is_none_or(|before| what_matters(before) != what_matters(job));
                if before.is_none() {
                    context.appeared(key(job));
                }
                if matters {
                    context.checkpoints.note(&key(job), job);
                    context.dependencies.note(&key(job), job);
                }
                store.apply_watcher_event(&event);
                if matters {
                    triggers.trigger(&key(job));
                }
            }
            Event::Delete(job) => {
                store.apply_watcher_event(&event);
                context.forget(&key(job));
            }
            Event::InitDone => {
                store.apply_watcher_event(&event);
                let jobs = known.state();
                context.checkpoints.note_all(jobs.iter().map(|job| (key(job), &**job)));
                jobs.iter().for_each(|job| context.dependencies.note(&key(job), job));
                for job in jobs {
                    triggers.trigger(&key(&job));
                }
            }
            Event::Init | Event::InitApply(_) => store.apply_watcher_event(&event),
        }
    }
}

/// The job of a resource.
pub fn key<K: JobResource>(job: &Observed<K>) -> JobKey {
    JobKey {
        kind: K::KIND,
        namespace: Lookup::namespace(job).unwrap_or_default().into_owned(),
        name: Lookup::name(job).unwrap_or_default().into_owned(),
    }
}

/// What a reconcile reads of a resource, beside its status.
fn what_matters<K>(job: &Observed<K>) -> (Option<&str>, Option<i64>, [Option<&str>; 2], bool) {
    let metadata = &job.metadata;
    let annotation = |name: &str| Some(metadata.annotations.as_ref()?.get(name)?.as_str());
    (
        metadata.uid.as_deref(),
        metadata.generation,
        [RESTARTED_AT, TAKEOVER].map(annotation),
        metadata.deletion_timestamp.is_some(),
    )
}
