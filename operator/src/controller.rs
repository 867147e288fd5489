//! Runs the reconciles of a scope: the queue of kube's controller over our own watches and caches.
//!
//! Watches run from the beginning, also on an operator that waits for its turn; reconciles only while it leads.

use std::convert::Infallible;
use std::sync::Arc;

use data_platform_crds::batch_job::BatchJob;
use data_platform_crds::streaming_job::StreamingJob;
use data_platform_page::Authentication;
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use futures::stream::FuturesUnordered;
use kube::Client;
use kube::runtime::applier;
use kube::runtime::controller::{Config, Error, ReconcileRequest};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};

use crate::args::{Args, RunnerSettings};
use crate::cache::JobKey;
use crate::context::{Context, Scope, Triggers};
use crate::kind::JobResource;
use crate::metrics::Metrics;
use crate::observed::Observed;
use crate::reconcile::Reconcile;
use crate::{poll, reconcile, watch};

/// Reconciles at the same time: enough to keep an API server busy, too few to be throttled by its priority levels.
const CONCURRENCY: u16 = 32;

/// One scope: what it watches, and what it reconciles with.
pub struct Controller {
    context: Arc<Context>,
    triggers: Arc<Triggers>,
    /// The token with which runners are asked.
    authentication: Option<Authentication>,
    streaming: Store<Observed<StreamingJob>>,
    batch: Store<Observed<BatchJob>>,
}

impl Controller {
    /// Begins to watch a scope.
    pub fn watch(
        client: &Client,
        namespace: Option<String>,
        settings: RunnerSettings,
        args: &Args,
        metrics: &Metrics,
    ) -> Self {
        let scope = Arc::new(Scope::new(namespace));
        let triggers = Arc::new(Triggers::default());
        let (client, metrics) = (client.clone(), metrics.clone());
        let context = Arc::new(Context::new(
            client.clone(),
            settings,
            args.pod_name.clone(),
            metrics.clone(),
            Arc::clone(&scope),
        ));
        watch::children(&client, &scope, &triggers, &metrics);
        let streaming = keep(&client, &context, &triggers);
        let batch = keep(&client, &context, &triggers);
        let authentication = args.http_token_file.as_deref().map(Authentication::by_token_file);
        Self { context, triggers, authentication, streaming, batch }
    }

    /// The streaming jobs as they are now.
    pub fn streaming_jobs(&self) -> Vec<Arc<Observed<StreamingJob>>> {
        self.streaming.state()
    }

    /// The batch jobs as they are now.
    pub fn batch_jobs(&self) -> Vec<Arc<Observed<BatchJob>>> {
        self.batch.state()
    }

    /// What the reconciles work with.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Ends the reconciles: those that run are finished, no more begin.
    pub fn stop(&self) {
        self.triggers.close();
    }

    /// Reconciles until [`Self::stop`]. The first look at every job comes once the caches are whole: before that a child
    /// that was not read yet would look like one that is missing.
    pub async fn lead(&self) {
        let context = &self.context;
        // The writers of the stores live as long as their watches, and those as long as the process.
        let _alive = self.streaming.wait_until_ready().await;
        let _alive = self.batch.wait_until_ready().await;
        while !context.scope.is_synced() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let (scope, reports) = (Arc::clone(&context.scope), Arc::clone(&context.reports));
        let polls = poll::poll(scope, reports, Arc::clone(&self.triggers), self.authentication.clone());
        let polls = tokio::spawn(polls);
        tokio::join!(self.run(&self.streaming), self.run(&self.batch));
        polls.abort();
    }

    /// Reconciles the jobs of a kind.
    async fn run<K: Reconcile>(&self, store: &Store<Observed<K>>) {
        let (sender, queue) = unbounded();
        self.triggers.open(K::KIND, sender);
        for job in store.state() {
            self.triggers.trigger(&watch::key(&job));
        }
        run(Arc::clone(&self.context), store.clone(), queue).await;
    }
}

/// Begins to watch the jobs of a kind.
fn keep<K: JobResource>(client: &Client, context: &Arc<Context>, triggers: &Arc<Triggers>) -> Store<Observed<K>> {
    let writer = Writer::default();
    let store = writer.as_reader();
    let (scope, metrics) = (Arc::clone(&context.scope), context.metrics.clone());
    let (triggers, context) = (Arc::clone(triggers), Arc::clone(context));
    tokio::spawn(watch::jobs::<K>(client.clone(), scope, writer, triggers, context, metrics));
    store
}

async fn run<K: Reconcile>(context: Arc<Context>, store: Store<Observed<K>>, queue: UnboundedReceiver<JobKey>) {
    // kube polls every reconcile when one of them wakes up; a set of one looks first whether it was meant.
    let look = |job, context| {
        let mut alone: FuturesUnordered<_> = [reconcile::reconcile::<K>(job, context)].into_iter().collect();
        Box::pin(async move { alone.next().await.expect("a set of one gives one result") })
    };
    let queue = queue.map(|job| {
        let reference = ObjectRef::<Observed<K>>::new(&job.name).within(&job.namespace);
        Ok::<_, Infallible>(ReconcileRequest::from(reference))
    });
    let config = Config::default().concurrency(CONCURRENCY);
    applier(look, reconcile::after_error, context, store, queue, config)
        .for_each(|done| async move {
            match done {
                // Failures were logged where the wait was decided; a job that is gone needs nothing.
                Ok(_) | Err(Error::ReconcilerFailed(..) | Error::ObjectNotFound(_) | Error::QueueError(_)) => {}
                Err(Error::RunnerError(error)) => tracing::error!(%error, "the queue of reconciles broke"),
            }
        })
        .await;
}
