//! Runs the reconciles of a scope: the queue of kube's controller over our own watches and caches.
//!
//! Watches run from the beginning, also on an operator that waits for its turn; reconciles only while it leads.

use std::convert::Infallible;
use std::sync::Arc;

use data_platform_crds::streaming_job::StreamingJob;
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use kube::Client;
use kube::runtime::applier;
use kube::runtime::controller::{Config, Error, ReconcileRequest};
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::Writer;

use crate::args::{Args, RunnerSettings};
use crate::context::{Context, Scope, Triggers};
use crate::metrics::Metrics;
use crate::observed::Observed;
use crate::{poll, streaming_job, watch};

/// Reconciles at the same time: enough to keep an API server busy, too few to be throttled by its priority levels.
const CONCURRENCY: u16 = 32;

/// One scope: what it watches, and what it reconciles with.
pub struct Controller {
    context: Arc<Context>,
    triggers: Arc<Triggers>,
    streaming: Store<Observed<StreamingJob>>,
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
        let writer = Writer::default();
        let streaming = writer.as_reader();
        let forget = {
            let context = Arc::clone(&context);
            move |job: &_| context.forget(job)
        };
        tokio::spawn(watch::streaming_jobs(client, scope, writer, Arc::clone(&triggers), forget, metrics));
        Self { context, triggers, streaming }
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
        let (sender, queue) = unbounded();
        let context = &self.context;
        // The writer of the store lives as long as its watch, and that as long as the process.
        let _alive = self.streaming.wait_until_ready().await;
        while !context.scope.is_synced() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        self.triggers.open(sender);
        for job in self.streaming.state() {
            self.triggers.trigger(&watch::key(&job));
        }
        let polls = poll::poll(Arc::clone(&context.scope), Arc::clone(&context.reports), Arc::clone(&self.triggers));
        let polls = tokio::spawn(polls);
        run(Arc::clone(context), self.streaming.clone(), queue).await;
        polls.abort();
    }
}

type Queue = UnboundedReceiver<ReconcileRequest<Observed<StreamingJob>>>;

async fn run(context: Arc<Context>, store: Store<Observed<StreamingJob>>, queue: Queue) {
    let reconcile = |job, context| Box::pin(streaming_job::reconcile(job, context));
    let queue = queue.map(Ok::<_, Infallible>);
    let config = Config::default().concurrency(CONCURRENCY);
    applier(reconcile, streaming_job::after_error, context, store, queue, config)
        .for_each(|done| async move {
            match done {
                // Failures were logged where the wait was decided; a job that is gone needs nothing.
                Ok(_) | Err(Error::ReconcilerFailed(..) | Error::ObjectNotFound(_) | Error::QueueError(_)) => {}
                Err(Error::RunnerError(error)) => tracing::error!(%error, "the queue of reconciles broke"),
            }
        })
        .await;
}
