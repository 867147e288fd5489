//! The operator's metrics, in a registry that is passed in. Labels come from closed sets; no name of a job is one here.

use std::sync::Arc;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::cache::JobKind;

/// Buckets of a reconcile, in seconds: from one that finds nothing to do to one that waits for a slow API server.
const DURATION_BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// The operator's metrics. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    reconciles: IntCounterVec,
    durations: HistogramVec,
    errors: IntCounterVec,
    leader: IntGauge,
    watch_restarts: IntCounterVec,
    writes: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    ///
    /// The registry has metrics of these names already.
    pub fn new(registry: Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            reconciles: counter(
                "dataplatform_operator_reconcile_total",
                "Reconciles by kind and result.",
                &["kind", "result"],
            )?,
            durations: HistogramVec::new(
                HistogramOpts::new("dataplatform_operator_reconcile_duration_seconds", "Time of a reconcile.")
                    .buckets(DURATION_BUCKETS.to_vec()),
                &["kind"],
            )?,
            errors: counter(
                "dataplatform_operator_reconcile_errors_total",
                "Reconciles that failed and are tried again, by kind and reason.",
                &["kind", "reason"],
            )?,
            leader: IntGauge::new("dataplatform_operator_leader", "1 on the operator that reconciles.")?,
            watch_restarts: counter(
                "dataplatform_operator_watch_restarts_total",
                "Watches that broke and were begun again, by kind.",
                &["kind"],
            )?,
            writes: counter(
                "dataplatform_operator_api_writes_total",
                "Requests that change something, by resource.",
                &["resource"],
            )?,
            registry,
        };
        let build_info =
            IntGaugeVec::new(Opts::new("dataplatform_operator_build_info", "1, with the version."), &["version"])?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        // Series that are there from the beginning: a rate over something that first appears with its first error is blind.
        for kind in [JobKind::Streaming, JobKind::Batch] {
            for result in ["ok", "error"] {
                metrics.reconciles.with_label_values(&[kind.name(), result]);
            }
            for reason in crate::error::Error::REASONS {
                metrics.errors.with_label_values(&[kind.name(), reason]);
            }
            metrics.durations.with_label_values(&[kind.name()]);
        }
        let collectors: [Box<dyn Collector>; 7] = [
            Box::new(metrics.reconciles.clone()),
            Box::new(metrics.durations.clone()),
            Box::new(metrics.errors.clone()),
            Box::new(metrics.leader.clone()),
            Box::new(metrics.watch_restarts.clone()),
            Box::new(metrics.writes.clone()),
            Box::new(build_info),
        ];
        for collector in collectors {
            metrics.registry.register(collector)?;
        }
        Ok(metrics)
    }

    /// Metrics in a registry of their own, for tests.
    pub fn alone() -> Self {
        Self::new(Registry::new()).expect("an empty registry takes every name")
    }

    /// Adds gauges that are computed when somebody asks.
    ///
    /// # Errors
    ///
    /// A name that is there already.
    pub fn computed(
        &self,
        computed: impl Fn() -> Vec<MetricFamily> + Send + Sync + 'static,
    ) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(Computed { families: Arc::new(computed) }))
    }

    /// A reconcile is over.
    pub fn reconciled(&self, kind: JobKind, time: Duration, error: Option<&str>) {
        let result = if error.is_some() { "error" } else { "ok" };
        self.reconciles.with_label_values(&[kind.name(), result]).inc();
        self.durations.with_label_values(&[kind.name()]).observe(time.as_secs_f64());
        if let Some(reason) = error {
            self.errors.with_label_values(&[kind.name(), reason]).inc();
        }
    }

    /// Whether this operator leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// A watch broke.
    pub fn watch_restarted(&self, kind: &str) {
        self.watch_restarts.with_label_values(&[kind]).inc();
    }

    /// A request that changes something goes out.
    pub fn write(&self, resource: &str) {
        self.writes.with_label_values(&[resource]).inc();
    }

    /// Requests that changed something, of this resource.
    pub fn writes(&self, resource: &str) -> u64 {
        self.writes.with_label_values(&[resource]).get()
    }

    /// All metrics as text.
    ///
    /// # Errors
    ///
    /// The encoder's, which well-formed metrics do not meet.
    pub fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Gauges that are computed when somebody asks.
struct Computed {
    families: Arc<dyn Fn() -> Vec<MetricFamily> + Send + Sync>,
}

impl Collector for Computed {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        (self.families)()
    }
}
