//! The life of the operator: watch, wait for the turn, reconcile, let go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use data_platform_page::Authentication;
use futures::future::join_all;
use kube::{Client, Config};
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts, Registry};
use tokio::signal::unix::{SignalKind, signal};

use crate::allocator;
use crate::args::{Args, Watched};
use crate::batch_job::figures;
use crate::context::Context;
use crate::controller::Controller;
use crate::http::{self, Pages};
use crate::lease::{Election, LeaseError};
use crate::metrics::Metrics;

/// How long reconciles that run may take to end once the operator is told to stop; shorter than a pod's time to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Neither a cluster around it nor a kubeconfig.
    #[error("there is no way to the API server")]
    Config(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The client cannot be made.
    #[error("the client of the API server cannot be made")]
    Client(#[source] kube::Error),
    /// The pages cannot be served.
    #[error("{address} cannot be listened on")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Signals cannot be received.
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
    /// Metrics cannot be registered.
    #[error("the metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
    /// It no longer leads.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The reconciles ended by themselves.
    #[error("the reconciles ended")]
    Ended,
}

/// Runs the operator until it is told to stop.
///
/// # Errors
///
/// It cannot begin, or it no longer leads: then another one may, and this process has to end.
pub async fn run(args: Args) -> Result<(), AppError> {
    // Where the whole workspace is built at once, libraries of the runner bring a second one, and rustls chooses none.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = Config::infer().await.map_err(|error| AppError::Config(Box::new(error)))?;
    // Watches end by themselves before that; anything else that takes so long is lost.
    config.connect_timeout = Some(Duration::from_secs(5));
    let client = Client::try_from(config).map_err(AppError::Client)?;
    let metrics = Metrics::new(Registry::new())?;
    let namespaces = match args.watched() {
        Watched::All => vec![None],
        Watched::Some(names) => names.into_iter().map(Some).collect(),
    };
    let watch = |namespace| Controller::watch(&client, namespace, args.runner(), &args, &metrics);
    let controllers: Arc<Vec<Controller>> = Arc::new(namespaces.into_iter().map(watch).collect());
    let leads = Arc::new(AtomicBool::new(false));
    serve(&args, &metrics, &controllers, Arc::clone(&leads)).await?;

    tokio::spawn(allocator::give_back());
    let mut terminate = signal(SignalKind::terminate()).map_err(AppError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AppError::Signals)?;
    let stopped = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::pin!(stopped);

    let mut election = args.leader_election.then(|| Election::new(client.clone(), &args));
    if let Some(election) = &mut election {
        tokio::select! {
            () = election.acquire() => {}
            () = &mut stopped => return Ok(()),
        }
    }
    leads.store(true, Ordering::SeqCst);
    metrics.leads(true);
    let result = {
        let leading = join_all(controllers.iter().map(Controller::lead));
        tokio::pin!(leading);
        let lost = async {
            match &mut election {
                Some(election) => election.keep().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = &mut leading => Err(AppError::Ended),
            error = lost => Err(error.into()),
            () = &mut stopped => {
                controllers.iter().for_each(Controller::stop);
                if tokio::time::timeout(STOP_TIMEOUT, leading).await.is_err() {
                    tracing::warn!("some reconciles did not end in time");
                }
                Ok(())
            }
        }
    };
    metrics.leads(false);
    // Only after the last write: the next one begins at once.
    if let (Ok(()), Some(election)) = (&result, election) {
        election.release().await;
    }
    result
}

async fn serve(
    args: &Args,
    metrics: &Metrics,
    controllers: &Arc<Vec<Controller>>,
    leads: Arc<AtomicBool>,
) -> Result<(), AppError> {
    let contexts: Vec<Arc<Context>> = controllers.iter().map(|controller| Arc::clone(controller.context())).collect();
    let scopes: Vec<_> = contexts.iter().map(|context| Arc::clone(&context.scope)).collect();
    // One operator counts the jobs: the one that leads.
    let counts = Arc::clone(&leads);
    metrics.computed(move || {
        if !counts.load(Ordering::SeqCst) {
            return Vec::new();
        }
        jobs(&contexts).into_iter().chain(figures::families(&contexts)).collect()
    })?;
    let shown = Arc::clone(controllers);
    let asked = Arc::clone(controllers);
    let report = move |namespace: &str, name: &str| {
        asked.iter().find_map(|controller| controller.context().report(namespace, name))
    };
    let pages = Pages {
        metrics: metrics.clone(),
        is_synced: Arc::new(move || scopes.iter().all(|scope| scope.is_synced())),
        status: Arc::new(move || http::status(leads.load(Ordering::SeqCst), &shown)),
        report: Arc::new(report),
        authentication: args.http_token_file.as_deref().map(Authentication::by_token_file),
    };
    let listen = |source| AppError::Listen { address: args.http_address.clone(), source };
    http::serve(&args.http_address, pages).await.map_err(listen)
}

/// Jobs by kind and reason, counted when somebody asks: a gauge that is kept would remember jobs that are gone.
fn jobs(contexts: &[Arc<Context>]) -> Vec<MetricFamily> {
    let options = Opts::new("dataplatform_operator_jobs", "Jobs by kind, reason of their condition Ready, and health.");
    let Ok(gauge) = IntGaugeVec::new(options, &["kind", "reason", "health"]) else { return Vec::new() };
    let mut counts = BTreeMap::new();
    for (kind, reason) in
        contexts.iter().flat_map(|context| context.remembered(|job, memory| Some((job.kind, memory.reason?))))
    {
        *counts.entry((kind, reason)).or_insert(0) += 1;
    }
    for ((kind, (reason, health)), count) in counts {
        gauge.with_label_values(&[kind.name(), reason.name(), health.name()]).set(count);
    }
    gauge.collect()
}
