//! Prometheus metrics of a job, from its status and its commits. Names: docs/metrics.md, which a test compares.
//!
//! Counters show the totals of the job log, so a restart does not set them back.

use std::collections::BTreeMap;

use prometheus::core::{AtomicU64, GenericCounter, GenericCounterVec};
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::clock::Clock;
use crate::pipeline::memory::{MemoryBudget, parts as parts_now, resident_bytes};
use crate::pipeline::status::{CommitStatus, JobStatus};
use crate::storage::client::requests;

/// Bounds of durations in seconds: from a small commit on a local disk to a stuck store.
const DURATION_BUCKETS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Bounds of the time from event to commit in seconds.
const LATENCY_BUCKETS: [f64; 12] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0];

type CounterVec = GenericCounterVec<AtomicU64>;

/// Metrics of one job.
pub struct JobMetrics {
    registry: Registry,
    records_read: CounterVec,
    bytes_read: CounterVec,
    dropped: CounterVec,
    dead_lettered: CounterVec,
    lost_offsets: CounterVec,
    output_records: CounterVec,
    partly_late: CounterVec,
    rows_written: CounterVec,
    files_written: CounterVec,
    bytes_written: CounterVec,
    files: IntGaugeVec,
    file_bytes: IntGaugeVec,
    lag: IntGaugeVec,
    /// Without labels; it has a value only while that is known.
    lag_total: IntGaugeVec,
    lag_seconds: IntGaugeVec,
    watermark: Gauge,
    watermark_lag: Gauge,
    partition_watermark: GaugeVec,
    state_groups: IntGauge,
    state_bytes: IntGauge,
    open_windows: IntGauge,
    reference_rows: IntGaugeVec,
    reference_bytes: IntGaugeVec,
    reference_loaded: GaugeVec,
    reference_broken: IntGaugeVec,
    deduplicate_keys: IntGauge,
    deduplicate_bytes: IntGauge,
    checkpoints: GenericCounter<AtomicU64>,
    last_checkpoint: Gauge,
    checkpoint_version: IntGauge,
    reloads: GenericCounter<AtomicU64>,
    ready: IntGauge,
    memory: IntGaugeVec,
    batch_seconds: Histogram,
    commit_seconds: Histogram,
    latency_seconds: Histogram,
}

struct Maker<'a> {
    registry: &'a Registry,
    namespace: &'a str,
    job: &'a str,
}

impl Maker<'_> {
    fn options(&self, name: &str, help: &str) -> Opts {
        let options = Opts::new(format!("dataplatform_{name}"), help);
        options.const_label("namespace", self.namespace).const_label("job", self.job)
    }

    fn register<M: prometheus::core::Collector + Clone + 'static>(&self, metric: prometheus::Result<M>) -> M {
        let metric = metric.expect("names and labels are valid");
        self.registry.register(Box::new(metric.clone())).expect("each name is registered once");
        metric
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        self.register(CounterVec::new(self.options(name, help), labels))
    }

    fn counter(&self, name: &str, help: &str) -> GenericCounter<AtomicU64> {
        self.register(GenericCounter::with_opts(self.options(name, help)))
    }

    fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::with_opts(self.options(name, help)))
    }

    fn number(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(self.options(name, help)))
    }

    fn numbers(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(self.options(name, help), labels))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts { common_opts: self.options(name, help), buckets: buckets.to_vec() };
        self.register(Histogram::with_opts(options))
    }
}

impl JobMetrics {
    /// Metrics of a job, in a registry of their own: a process may have several jobs.
    pub fn new(namespace: &str, job: &str) -> Self {
        let registry = Registry::new();
        let make = Maker { registry: &registry, namespace, job };
        let metrics = Self {
            records_read: make.counters("records_read_total", "Records read from Kafka.", &["source"]),
            bytes_read: make.counters("read_bytes_total", "Bytes of the values of these records.", &["source"]),
            dropped: make.counters(
                "records_dropped_total",
                "Records that are not part of the result: late, future, duplicate, filtered, tombstone, control.",
                &["reason"],
            ),
            dead_lettered: make.counters(
                "records_dead_lettered_total",
                "Bad records, and rows that an output does not take, by reason.",
                &["reason"],
            ),
            lost_offsets: make.counters("lost_offsets_total", "Offsets that were gone from Kafka unread.", &["source"]),
            output_records: make.counters(
                "output_records_total",
                "What an output did with the records that reached its query: filtered, late, accepted.",
                &["output", "fate"],
            ),
            partly_late: make.counters(
                "output_partly_late_records_total",
                "Records of several windows, some of which were closed; accepted, since they count in the others.",
                &["output"],
            ),
            rows_written: make.counters("rows_written_total", "Rows written to an output.", &["output"]),
            files_written: make.counters("files_written_total", "Files written to an output.", &["output"]),
            bytes_written: make.counters("written_bytes_total", "Bytes of these files.", &["output"]),
            files: make.numbers(
                "output_files",
                "Files of a table that its readers see, small and large, as last counted.",
                &["output", "size"],
            ),
            file_bytes: make.numbers("output_file_bytes", "Bytes of these files.", &["output", "size"]),
            lag: make.numbers(
                "consumer_lag_records",
                "Records that Kafka has and the job has not committed.",
                &["topic", "partition"],
            ),
            lag_total: make.numbers("consumer_lag_records_sum", "The same over all partitions.", &[]),
            lag_seconds: make.numbers(
                "consumer_lag_seconds",
                "Greatest age of the first of these records; 0 if there is none.",
                &["topic", "partition"],
            ),
            watermark: make.gauge("watermark_timestamp_seconds", "The job's watermark: older events are late."),
            watermark_lag: make.gauge("watermark_lag_seconds", "How far the watermark is behind the clock."),
            partition_watermark: make.register(GaugeVec::new(
                make.options("partition_watermark_timestamp_seconds", "Watermark of a partition."),
                &["topic", "partition"],
            )),
            state_groups: make.number("state_groups", "Groups in open windows."),
            state_bytes: make.number("state_bytes", "Memory of open windows."),
            open_windows: make.number("open_windows", "Windows that are open."),
            reference_rows: make.numbers("reference_rows", "Rows of a reference.", &["reference"]),
            reference_bytes: make.numbers(
                "reference_bytes",
                "Memory of a reference and of what its rows are looked up by.",
                &["reference"],
            ),
            reference_loaded: make.register(GaugeVec::new(
                make.options("reference_loaded_timestamp_seconds", "When the version that is used was loaded."),
                &["reference"],
            )),
            reference_broken: make.numbers(
                "reference_broken",
                "1 while a newer version of a reference cannot be used.",
                &["reference"],
            ),
            deduplicate_keys: make.number("deduplicate_keys", "Records that are remembered to recognise duplicates."),
            deduplicate_bytes: make.number("deduplicate_bytes", "Memory of these."),
            checkpoints: make.counter("checkpoints_total", "Commits since the job log began."),
            last_checkpoint: make.gauge("last_checkpoint_timestamp_seconds", "Batch clock of the last commit."),
            checkpoint_version: make.number("checkpoint_version", "Version of the last commit in the job log."),
            reloads: make.counter("reloads_total", "Restarts from the job log inside this process, after an error."),
            ready: make.number("job_ready", "1 while the job reads and commits."),
            memory: make.numbers("memory_bytes", "Memory: rss, limit, state, queue.", &["kind"]),
            batch_seconds: make.histogram(
                "batch_duration_seconds",
                "From planning a micro-batch to its publication.",
                &DURATION_BUCKETS,
            ),
            commit_seconds: make.histogram(
                "checkpoint_duration_seconds",
                "From staging a micro-batch to its publication.",
                &DURATION_BUCKETS,
            ),
            latency_seconds: make.histogram(
                "event_latency_seconds",
                "From the latest event of a micro-batch to its commit.",
                &LATENCY_BUCKETS,
            ),
            registry: registry.clone(),
        };
        let info = make.options("job_info", "Always 1; the version of the program is a label.");
        let info = make.register(IntGauge::with_opts(info.const_label("version", env!("CARGO_PKG_VERSION"))));
        info.set(1);
        metrics
    }

    /// Notes a commit.
    pub fn commit(&self, commit: &CommitStatus, latency_micros: Option<i64>) {
        self.batch_seconds.observe(commit.batch_ms as f64 / 1e3);
        self.commit_seconds.observe(commit.commit_ms as f64 / 1e3);
        if let Some(micros) = latency_micros {
            self.latency_seconds.observe(micros.max(0) as f64 / 1e6);
        }
    }

    /// The metrics as of this status.
    pub fn as_of(&self, status: &JobStatus, memory: &MemoryBudget, clock: &dyn Clock) -> Vec<MetricFamily> {
        self.set_counters(status);
        self.set_gauges(status, memory, clock);
        self.registry.gather()
    }

    fn set_counters(&self, status: &JobStatus) {
        let drop = |reason: &str, total: u64| raise(&self.dropped.with_label_values(&[reason]), total);
        let mut dropped =
            [("tombstone", 0), ("control", 0), ("future", 0), ("duplicate", 0), ("filtered", 0), ("late", 0)];
        let mut count = |index: usize, number: u64| dropped[index].1 += number;
        let mut letters: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, source) in &status.totals.sources {
            raise(&self.records_read.with_label_values(&[name]), source.read);
            raise(&self.bytes_read.with_label_values(&[name]), source.bytes);
            raise(&self.lost_offsets.with_label_values(&[name]), source.lost_offsets);
            for (reason, number) in &source.dead_letter {
                *letters.entry(reason).or_default() += number;
            }
            count(0, source.tombstone);
            count(1, source.control);
            count(2, source.future);
            count(3, source.duplicate);
        }
        for (name, output) in &status.totals.outputs {
            raise(&self.rows_written.with_label_values(&[name]), output.rows);
            raise(&self.files_written.with_label_values(&[name]), output.files);
            raise(&self.bytes_written.with_label_values(&[name]), output.bytes);
            for (reason, number) in output.dead_letter.iter().chain(&output.refused) {
                *letters.entry(reason).or_default() += number;
            }
            for (fate, number) in [
                ("filtered", output.filtered),
                ("late", output.late),
                ("accepted", output.accepted),
                ("dead_letter", output.dead_letters()),
            ] {
                raise(&self.output_records.with_label_values(&[name.as_str(), fate]), number);
            }
            raise(&self.partly_late.with_label_values(&[name]), output.partly_late);
            count(4, output.filtered);
            count(5, output.late);
        }
        for (reason, total) in dropped {
            drop(reason, total);
        }
        for (reason, total) in letters {
            raise(&self.dead_lettered.with_label_values(&[reason]), total);
        }
        raise(&self.checkpoints, status.commits);
        raise(&self.reloads, status.reloads);
    }

    fn set_gauges(&self, status: &JobStatus, memory: &MemoryBudget, clock: &dyn Clock) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        // Unknown is absent: a value that is kept would say that nothing changes.
        for known in [&self.lag, &self.lag_seconds, &self.lag_total] {
            known.reset();
        }
        for partition in status.partitions.iter().filter(|_| status.lag().is_some()) {
            let labels = [partition.topic.as_str(), &partition.partition.to_string()];
            if let Some(lag) = partition.lag() {
                self.lag.with_label_values(&labels).set(lag);
            }
            if let Some(seconds) = partition.lag_seconds {
                self.lag_seconds.with_label_values(&labels).set(seconds);
            }
        }
        for partition in &status.partitions {
            let labels = [partition.topic.as_str(), &partition.partition.to_string()];
            if let Some(watermark) = partition.watermark {
                self.partition_watermark.with_label_values(&labels).set(watermark as f64 / 1e6);
            }
        }
        if let Some(lag) = status.lag() {
            self.lag_total.with_label_values::<&str>(&[]).set(lag);
        }
        if let Some(watermark) = status.watermark {
            self.watermark.set(watermark as f64 / 1e6);
            self.watermark_lag.set((clock.now() - watermark) as f64 / 1e6);
        }
        for (output, sizes) in &status.tables {
            for (size, (files, bytes)) in [("small", sizes.small), ("large", sizes.large)] {
                self.files.with_label_values(&[output.as_str(), size]).set(number(files));
                self.file_bytes.with_label_values(&[output.as_str(), size]).set(number(bytes));
            }
        }
        self.state_groups.set(number(status.state_groups));
        self.state_bytes.set(number(status.state_bytes));
        self.open_windows.set(number(status.open_windows));
        for (name, reference) in &status.references {
            self.reference_rows.with_label_values(&[name]).set(number(reference.rows));
            self.reference_bytes.with_label_values(&[name]).set(number(reference.bytes));
            self.reference_loaded.with_label_values(&[name]).set(reference.loaded as f64 / 1e6);
            self.reference_broken.with_label_values(&[name]).set(i64::from(reference.trouble.is_some()));
        }
        let remembered = status.deduplicate.unwrap_or_default();
        self.deduplicate_keys.set(number(remembered.keys));
        self.deduplicate_bytes.set(number(remembered.bytes));
        if let Some(commit) = &status.last_commit {
            self.last_checkpoint.set(commit.clock as f64 / 1e6);
            self.checkpoint_version.set(number(commit.version));
        }
        self.ready.set(i64::from(status.ready));
        let kinds = [
            ("rss", resident_bytes()),
            ("limit", memory.limit),
            ("state", status.state_bytes + remembered.bytes),
            ("queue", memory.queue),
        ];
        for (kind, bytes) in kinds {
            self.memory.with_label_values(&[kind]).set(number(bytes));
        }
    }
}

/// Metrics of the process itself, whatever number of jobs it has.
pub fn of_process() -> Vec<MetricFamily> {
    let mut families = of_system();
    families.extend(object_store_requests());
    families.extend(memory_parts());
    families
}

/// Where the memory of the process is.
fn memory_parts() -> Vec<MetricFamily> {
    use prometheus::core::Collector;
    let options = Opts::new("dataplatform_memory_part_bytes", "Resident memory of the process, by what it is.");
    let Ok(parts) = IntGaugeVec::new(options, &["part"]) else { return Vec::new() };
    let now = parts_now();
    for (part, bytes) in [("program", now.program), ("in_use", now.in_use), ("kept", now.kept)] {
        parts.with_label_values(&[part]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
    parts.collect()
}

/// Requests to object stores: the clients are the process's, not a job's. Without one there is no such metric.
fn object_store_requests() -> Vec<MetricFamily> {
    use prometheus::core::Collector;
    let options = Opts::new("dataplatform_object_store_requests_total", "Requests to object stores.");
    let Ok(counters) = CounterVec::new(options, &["operation", "outcome"]) else { return Vec::new() };
    for (operation, outcome, number) in requests::totals() {
        counters.with_label_values(&[operation.name(), outcome.name()]).inc_by(number);
    }
    counters.collect().into_iter().filter(|family| !family.get_metric().is_empty()).collect()
}

fn of_system() -> Vec<MetricFamily> {
    #[cfg(target_os = "linux")]
    {
        use prometheus::core::Collector;
        prometheus::process_collector::ProcessCollector::for_self().collect()
    }
    #[cfg(not(target_os = "linux"))]
    Vec::new()
}

/// The page of metrics: what several have is one family.
///
/// # Errors
/// Never in practice: the text encoder fails only on metrics without a name.
pub fn text(all: impl IntoIterator<Item = MetricFamily>) -> prometheus::Result<String> {
    let mut families: BTreeMap<String, MetricFamily> = BTreeMap::new();
    for mut family in all {
        match families.get_mut(family.name()) {
            Some(known) => known.mut_metric().extend(family.take_metric()),
            None => drop(families.insert(family.name().to_owned(), family)),
        }
    }
    let families: Vec<_> = families.into_values().collect();
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Raises a counter to a total that only grows.
fn raise(counter: &GenericCounter<AtomicU64>, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::counters::{Counters, OutputCounters, SourceCounters};
    use crate::pipeline::status::{DeduplicateStatus, PartitionStatus, ReferenceStatus, TableSizes};
    use std::collections::{BTreeMap, BTreeSet};

    fn busy() -> JobStatus {
        let source = SourceCounters {
            read: 10,
            tombstone: 1,
            dead_letter: BTreeMap::from([("syntax".to_owned(), 2)]),
            ..SourceCounters::default()
        };
        let output =
            OutputCounters { late: 3, partly_late: 2, accepted: 4, rows: 2, files: 1, ..OutputCounters::default() };
        let totals = Counters {
            sources: BTreeMap::from([("s".to_owned(), source)]),
            outputs: BTreeMap::from([("o".to_owned(), output)]),
        };
        let (topic, end, watermark, lag_seconds) = ("t".to_owned(), Some(12), Some(1_000_000), Some(3));
        let partition =
            PartitionStatus { topic, position: 7, end, watermark, lag_seconds, ..PartitionStatus::default() };
        let last_commit = Some(CommitStatus { version: 9, clock: 2_000_000, ..CommitStatus::default() });
        let partitions = vec![partition];
        let reference = ReferenceStatus { rows: 6, ..ReferenceStatus::default() };
        let references = BTreeMap::from([("r".to_owned(), reference)]);
        let deduplicate = Some(DeduplicateStatus { keys: 8, bytes: 256 });
        let sizes = TableSizes { small: (7, 70), large: (1, 500) };
        let tables = BTreeMap::from([("o".to_owned(), sizes)]);
        let known = JobStatus { references, deduplicate, tables, ..JobStatus::default() };
        JobStatus { ready: true, totals, partitions, watermark, last_commit, commits: 5, ..known }
    }

    fn shown(metrics: &JobMetrics, status: &JobStatus) -> String {
        text(metrics.as_of(status, &MemoryBudget::of(1 << 30), &SystemClock)).unwrap()
    }

    #[test]
    fn metrics_of_several_jobs_are_one_page() {
        let jobs = ["a", "b"].map(|job| JobMetrics::new("n", job));
        let of_jobs = jobs.iter().flat_map(|job| job.as_of(&busy(), &MemoryBudget::of(1 << 30), &SystemClock));
        let page = text(of_jobs.chain(of_process())).unwrap();
        for job in ["a", "b"] {
            let line = format!("dataplatform_records_read_total{{job=\"{job}\",namespace=\"n\",source=\"s\"}} 10");
            assert!(page.contains(&line), "{page}");
        }
        for name in ["dataplatform_records_read_total", "process_cpu_seconds_total", "dataplatform_memory_part_bytes"] {
            assert_eq!(page.matches(&format!("# TYPE {name} ")).count(), 1, "{page}");
        }
    }

    #[test]
    fn the_page_of_metrics_and_the_program_agree() {
        let metrics = JobMetrics::new("n", "j");
        let commit = CommitStatus { batch_ms: 5, commit_ms: 3, ..CommitStatus::default() };
        metrics.commit(&commit, Some(1));
        let of_job = metrics.as_of(&busy(), &MemoryBudget::of(1 << 30), &SystemClock);
        let text = text(of_job.into_iter().chain(memory_parts())).unwrap();
        let shown = text.lines().filter_map(|line| line.strip_prefix("# TYPE dataplatform_")?.split(' ').next());
        let shown: BTreeSet<_> = shown.map(|name| format!("dataplatform_{name}")).collect();
        let page = include_str!("../../docs/metrics.md");
        let listed = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let listed: BTreeSet<_> = listed.map(str::to_owned).collect();
        assert_eq!(shown, listed);
        for line in [
            "dataplatform_records_read_total{job=\"j\",namespace=\"n\",source=\"s\"} 10",
            "dataplatform_records_dropped_total{job=\"j\",namespace=\"n\",reason=\"late\"} 3",
            "dataplatform_output_partly_late_records_total{job=\"j\",namespace=\"n\",output=\"o\"} 2",
            "dataplatform_output_records_total{fate=\"late\",job=\"j\",namespace=\"n\",output=\"o\"} 3",
            "dataplatform_consumer_lag_records{job=\"j\",namespace=\"n\",partition=\"0\",topic=\"t\"} 5",
            "dataplatform_consumer_lag_seconds{job=\"j\",namespace=\"n\",partition=\"0\",topic=\"t\"} 3",
            "dataplatform_reference_rows{job=\"j\",namespace=\"n\",reference=\"r\"} 6",
            "dataplatform_output_files{job=\"j\",namespace=\"n\",output=\"o\",size=\"small\"} 7",
            "dataplatform_output_file_bytes{job=\"j\",namespace=\"n\",output=\"o\",size=\"large\"} 500",
            "dataplatform_deduplicate_keys{job=\"j\",namespace=\"n\"} 8",
            "dataplatform_checkpoint_version{job=\"j\",namespace=\"n\"} 9",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_lag_that_nobody_knows_is_absent() {
        let metrics = JobMetrics::new("n", "j");
        let read = |status: &JobStatus| shown(&metrics, status);
        assert!(read(&busy()).contains("dataplatform_consumer_lag_records_sum{job=\"j\",namespace=\"n\"} 5"));
        let down = read(&JobStatus { ready: false, ..busy() });
        assert!(!down.contains("dataplatform_consumer_lag"), "{down}");
        assert!(!read(&JobStatus { ready: true, ..JobStatus::default() }).contains("dataplatform_consumer_lag"));
    }

    #[test]
    fn counters_follow_the_totals_and_never_fall() {
        let metrics = JobMetrics::new("n", "j");
        let read = |status: &JobStatus| shown(&metrics, status);
        assert!(read(&busy()).contains("dataplatform_checkpoints_total{job=\"j\",namespace=\"n\"} 5"));
        assert!(read(&JobStatus::default()).contains("dataplatform_checkpoints_total{job=\"j\",namespace=\"n\"} 5"));
        assert!(read(&JobStatus { commits: 8, ..busy() }).contains("checkpoints_total{job=\"j\",namespace=\"n\"} 8"));
    }
}
