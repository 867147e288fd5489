//! What neither schema nor rules can express, and needs no SQL engine: names that must fit each other, texts with a
//! grammar of their own, places where a table may lie.
//!
//! Pure. The offline check calls it on what a file says, the runner once more on the expanded job. It does not know
//! what the runner can do: that is the runner's to say.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::batch_job::{BackfillSpec, BatchInterval, BatchJobSpec};
use crate::column::{ColumnOrigin, ColumnSpec, ColumnType};
use crate::field_path::FieldPath;
use crate::pattern;
use crate::problem::{Problem, did_you_mean};
use crate::quantity::{ByteSize, Period};
use crate::resources::StorageSpec;
use crate::schedule::{Schedule, ScheduleError};
use crate::sink::{OutputSpec, SinkFormat, SinkSpec};
use crate::source::{BadRecordAction, LateRowAction, ReferenceSpec, SourceSpec};
use crate::streaming_job::StreamingJobSpec;

pub mod kafka;
mod places;
pub mod pod;

/// Longest time that a job may wait for late events or remember keys: a month of state is a mistake in the unit.
const STATE_PERIOD_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longest time between two micro-batches; what is rarer is a batch job.
const TRIGGER_INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);
/// Longest time that Kubernetes is asked to wait for a stopping pod.
const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// Longest time that a run waits for its inputs; what takes longer is broken.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// A file of less is not worth its name.
const FILE_SIZE_MIN: ByteSize = ByteSize::from_bytes(64 << 10);
/// Object stores copy at most 5 GB in one call, and publishing copies.
const FILE_SIZE_MAX: ByteSize = ByteSize::from_mebibytes(4 << 10);
/// Less than an event.
const RECORD_SIZE_MIN: ByteSize = ByteSize::from_bytes(1 << 10);
/// Far above what brokers take; a record is held in memory whole.
const RECORD_SIZE_MAX: ByteSize = ByteSize::from_mebibytes(128);

/// Checks a job that fits its schema and rules. Parameters should be expanded; what still holds `${` is not looked
/// into. Paths of the problems begin at `spec`.
pub fn validate(spec: &StreamingJobSpec) -> Vec<Problem> {
    let mut validation = Validation { problems: Vec::new() };
    validation.job(&FieldPath::root().field("spec"), spec);
    validation.problems
}

/// As [`validate`], for a batch job.
pub fn validate_batch(spec: &BatchJobSpec) -> Vec<Problem> {
    let mut validation = Validation { problems: Vec::new() };
    validation.batch_job(&FieldPath::root().field("spec"), spec);
    validation.problems
}

struct Validation {
    problems: Vec<Problem>,
}

impl Validation {
    fn error(&mut self, path: FieldPath, message: impl Into<String>, cure: impl Into<String>) {
        self.problems.push(Problem::error(path, message, cure));
    }

    fn warning(&mut self, path: FieldPath, message: impl Into<String>, cure: impl Into<String>) {
        self.problems.push(Problem::warning(path, message, cure));
    }

    fn job(&mut self, path: &FieldPath, spec: &StreamingJobSpec) {
        self.parameters(&path.field("parameters"), &spec.parameters);
        if let Some(kafka) = &spec.kafka {
            self.kafka(&path.field("kafka"), kafka, &spec.sources);
        }
        for (i, source) in spec.sources.iter().enumerate() {
            let here = path.field("sources").index(i);
            self.source(&here, source);
            self.read_once(&here, source, &spec.sources[..i]);
        }
        for (i, reference) in spec.references.iter().enumerate() {
            self.reference(&path.field("references").index(i), reference, &spec.sources);
        }
        self.deduplicate(path, spec);
        self.period(
            &path.field("trigger").field("interval"),
            spec.trigger.interval,
            Duration::ZERO,
            TRIGGER_INTERVAL_MAX,
        );
        self.period(&path.field("stopTimeout"), spec.stop_timeout, Duration::from_secs(1), STOP_TIMEOUT_MAX);
        self.sinks(path, spec);
        self.bad_records(path, spec);
        if let Some(storage) = &spec.storage {
            self.storage(&path.field("storage"), storage);
        }
        if let Some(pod) = &spec.pod {
            self.problems.extend(pod::problems(&path.field("pod"), pod));
        }
    }

    fn batch_job(&mut self, path: &FieldPath, spec: &BatchJobSpec) {
        self.parameters(&path.field("parameters"), &spec.parameters);
        // Without a schedule the zone is checked alone.
        match Schedule::new(spec.schedule.as_deref().unwrap_or("@hourly"), &spec.time_zone) {
            Ok(_) => {}
            Err(ScheduleError::Fields(message, cure)) => self.error(path.field("schedule"), message, cure),
            Err(ScheduleError::Zone(message, cure)) => self.error(path.field("timeZone"), message, cure),
        }
        for (i, input) in spec.inputs.iter().enumerate() {
            self.table_path(path.field("inputs").index(i).field("path"), &input.path);
        }
        self.period(&path.field("wait"), spec.wait, Duration::ZERO, WAIT_MAX);
        if let Some(backfill) = &spec.backfill {
            self.backfill(&path.field("backfill"), backfill, spec.interval);
        }
        let sinks = sinks(path, spec.sink.as_ref(), &spec.outputs);
        for (here, sink) in &sinks {
            self.sink(here, sink, &[]);
            let table = sink.path.as_deref().unwrap_or_default();
            if let Some(input) = spec.inputs.iter().find(|input| places::overlap(table, &input.path)) {
                let message = format!("{table} and the input {} lie at one place", input.name);
                self.error(here.field("path"), message, "give each table a folder of its own, none inside another");
            }
        }
        let tables = sinks.iter().filter_map(|(path, sink)| Some((path.field("path"), sink.path.as_deref()?)));
        self.apart(&tables.collect::<Vec<_>>());
        if let Some(storage) = &spec.storage {
            self.storage(&path.field("storage"), storage);
        }
        if let Some(pod) = &spec.pod {
            self.problems.extend(pod::problems(&path.field("pod"), pod));
        }
    }

    fn backfill(&mut self, path: &FieldPath, backfill: &BackfillSpec, interval: Option<BatchInterval>) {
        if backfill.from.0 >= backfill.to.0 {
            self.error(path.field("to"), "to is not after from", "write the end of the last interval");
        }
        // The interval of a template is known to the runner.
        let Some(interval) = interval else { return };
        for (field, time) in [("from", &backfill.from), ("to", &backfill.to)] {
            let second = time.0.as_second();
            if interval.around(second).0 != second || time.0.subsec_nanosecond() != 0 {
                let message = format!("{} is not where one {} begins in UTC", time.0, interval.word());
                self.error(
                    path.field(field),
                    message,
                    "write the begin of the first interval, and the end of the last one",
                );
            }
        }
    }

    fn parameters(&mut self, path: &FieldPath, parameters: &BTreeMap<String, String>) {
        for name in parameters.keys() {
            if pattern::matches(pattern::IDENTIFIER, name) != Some(true) {
                let message = format!("{name:?} cannot be named in a query");
                self.error(path.field(name), message, "use letters, digits and _, not beginning with a digit");
            }
        }
    }

    fn source(&mut self, path: &FieldPath, source: &SourceSpec) {
        for (i, topic) in source.topics.iter().enumerate() {
            self.topic(path.field("topics").index(i), topic);
        }
        if let Some(topics) = &source.topic_pattern
            && pattern::matches(topics, "").is_none()
        {
            let message = format!("{topics:?} is not a regular expression");
            self.error(path.field("topicPattern"), message, "write one such as topic_events_.*");
        }
        for (i, column) in source.columns.iter().enumerate() {
            self.column(&path.field("columns").index(i), column);
        }
        if let Some(event_time) = &source.event_time {
            let path = path.field("eventTime");
            self.period(&path.field("watermarkDelay"), event_time.watermark_delay, Duration::ZERO, STATE_PERIOD_MAX);
            self.period(&path.field("idleTimeout"), event_time.idle_timeout, Duration::ZERO, STATE_PERIOD_MAX);
            self.period(&path.field("maxFutureSkew"), event_time.max_future_skew, Duration::ZERO, STATE_PERIOD_MAX);
            self.period(&path.field("maxHold"), event_time.max_hold, Duration::ZERO, STATE_PERIOD_MAX);
        }
        self.size(path.field("maxRecordBytes"), source.max_record_bytes, RECORD_SIZE_MIN, RECORD_SIZE_MAX);
    }

    /// A record is decoded by the one source that names its topic.
    fn read_once(&mut self, path: &FieldPath, source: &SourceSpec, before: &[SourceSpec]) {
        for (i, topic) in source.topics.iter().enumerate() {
            if let Some(other) = before.iter().find(|other| other.topics.contains(topic)) {
                let message = format!("the source {} reads {topic} too", other.name);
                let cure = "name a topic in one source; several queries, or branches of UNION ALL, may read that one";
                self.error(path.field("topics").index(i), message, cure);
            }
        }
    }

    fn column(&mut self, path: &FieldPath, column: &ColumnSpec) {
        if let Err(problem) = column.path_names() {
            let (message, cure) = problem.split_once(": ").unwrap_or((&problem, "write names separated by dots"));
            self.error(path.field("path"), message, cure);
        }
        if column.from == ColumnOrigin::Headers && column.column_type != headers_type() {
            let cure = format!("declare the column as {}", headers_type());
            self.error(path.field("type"), "the headers have another type", cure);
        }
    }

    fn reference(&mut self, path: &FieldPath, reference: &ReferenceSpec, sources: &[SourceSpec]) {
        if sources.iter().any(|source| source.name == reference.name) {
            let message = format!("{} is also the name of a source", reference.name);
            self.error(path.field("name"), message, "give each table of the query its own name");
        }
        self.table_path(path.field("path"), &reference.path);
        self.period(&path.field("reloadInterval"), reference.reload_interval, Duration::from_secs(1), STATE_PERIOD_MAX);
    }

    fn deduplicate(&mut self, path: &FieldPath, spec: &StreamingJobSpec) {
        let Some(deduplicate) = &spec.deduplicate else { return };
        let here = path.field("deduplicate");
        self.period(&here.field("within"), deduplicate.within, Duration::from_millis(1), STATE_PERIOD_MAX);
        for (i, source) in spec.sources.iter().enumerate() {
            if source.event_time.is_none() {
                let message = format!("{} has no eventTime, which deduplicate counts by", source.name);
                self.error(path.field("sources").index(i), message, "add eventTime, or leave deduplicate out");
            }
            for (j, key) in deduplicate.keys.iter().enumerate() {
                let names = || source.columns.iter().map(|column| column.name.as_str());
                if !names().any(|name| name == key) {
                    let message = format!("{key} is not a column of {}", source.name);
                    let cure = did_you_mean(key, names()).map_or_else(
                        || "name columns that every source has".to_owned(),
                        |meant| format!("did you mean {meant}?"),
                    );
                    self.error(here.field("keys").index(j), message, cure);
                }
            }
        }
    }

    /// Every sink by itself, and no two at one place.
    fn sinks(&mut self, path: &FieldPath, spec: &StreamingJobSpec) {
        let mut tables: Vec<(FieldPath, &str)> = Vec::new();
        for (path, sink) in sinks(path, spec.sink.as_ref(), &spec.outputs) {
            self.sink(&path, sink, &spec.sources);
            if sink.max_files.is_some() {
                let message = "maxFiles is for batch jobs: a streaming job writes new files with each commit";
                self.error(path.field("maxFiles"), message, "leave it out; maintenance makes few files of many");
            }
            if let Some(table) = &sink.path {
                tables.push((path.field("path"), table));
            }
        }
        if let Some(table) = &spec.bad_records.path {
            tables.push((path.field("badRecords").field("path"), table));
        }
        self.apart(&tables);
        self.default_dead_letters(spec, &tables);
    }

    /// No two tables lie at one place.
    fn apart(&mut self, tables: &[(FieldPath, &str)]) {
        for (i, (path, table)) in tables.iter().enumerate() {
            if let Some((_, other)) = tables[..i].iter().find(|(_, other)| places::overlap(table, other)) {
                let message = format!("{table} and {other} lie at one place");
                self.error(path.clone(), message, "give each table a folder of its own, none inside another");
            }
        }
    }

    /// No table where the dead letters lie of which nobody said where.
    fn default_dead_letters(&mut self, spec: &StreamingJobSpec, tables: &[(FieldPath, &str)]) {
        let bad = &spec.bad_records;
        let Some((_, first)) = tables.first() else { return };
        if bad.action != BadRecordAction::DeadLetter || bad.path.is_some() || bad.topic.is_some() {
            return;
        }
        let letters = format!("{}_dead_letters", first.trim_end_matches('/'));
        for (path, table) in tables.iter().filter(|(_, table)| places::overlap(table, &letters)) {
            let message = format!("{table} lies where the job's dead letters lie, {letters}");
            self.error(path.clone(), message, "give the table another folder, or set badRecords.path");
        }
    }

    fn sink(&mut self, path: &FieldPath, sink: &SinkSpec, sources: &[SourceSpec]) {
        if let Some(table) = &sink.path {
            self.table_path(path.field("path"), table);
        }
        if let Some(topic) = &sink.topic {
            self.topic(path.field("topic"), topic);
            if reads(sources, topic) {
                let message = format!("the job reads {topic} and writes to it: it may feed itself for ever");
                self.warning(path.field("topic"), message, "write to another topic, or filter the job's own records");
            }
        }
        for (i, column) in sink.partition_by.iter().enumerate().filter(|(_, column)| column.starts_with(['_', '.'])) {
            let message = format!(
                "readers skip directories whose names begin with _ or a dot: nobody would see the rows of {column:?}"
            );
            let cure =
                format!("name the column differently in the query, such as {}", column.trim_start_matches(['_', '.']));
            self.error(path.field("partitionBy").index(i), message, cure);
        }
        if sink.format == SinkFormat::Stdout {
            let message = "rows are shown and kept nowhere, and a cluster does not run such a job";
            self.warning(path.field("format"), message, "write a table or a topic when the query is right");
        }
        if !matches!(sink.format, SinkFormat::Kafka | SinkFormat::Stdout) {
            self.size(path.field("targetFileSize"), sink.target_file_size, FILE_SIZE_MIN, FILE_SIZE_MAX);
        }
        if let Some(maintenance) = &sink.maintenance {
            let here = path.field("maintenance");
            let hours = |hours: u64| Duration::from_secs(hours * 3_600);
            if let Some(after) = maintenance.compact_after {
                self.period(&here.field("compactAfter"), after, hours(1), hours(10_000));
            }
            if let Some(size) = maintenance.target_file_size {
                self.size(here.field("targetFileSize"), size, FILE_SIZE_MIN, FILE_SIZE_MAX);
            }
            if let Some(retain) = maintenance.retain {
                self.period(&here.field("retain"), retain, hours(24), hours(1_000_000));
            }
        }
    }

    fn bad_records(&mut self, path: &FieldPath, spec: &StreamingJobSpec) {
        let bad_records = &spec.bad_records;
        let here = path.field("badRecords");
        if let Some(table) = &bad_records.path {
            self.table_path(here.field("path"), table);
        }
        if let Some(topic) = &bad_records.topic {
            self.topic(here.field("topic"), topic);
            if reads(&spec.sources, topic) {
                let message = format!("the job reads {topic}: it would read every bad record again for ever");
                self.error(here.field("topic"), message, "use a topic that no source of the job reads");
            }
        }
        if spec.late_rows.action == LateRowAction::DeadLetter && bad_records.action != BadRecordAction::DeadLetter {
            let message = "late rows are kept where bad records are kept, and those are not";
            self.error(
                path.field("lateRows").field("action"),
                message,
                "write badRecords: {action: deadLetter}, or action: drop",
            );
        }
    }

    fn storage(&mut self, path: &FieldPath, storage: &StorageSpec) {
        for (name, url) in [("outputs", &storage.outputs), ("checkpoints", &storage.checkpoints)] {
            if let Some(url) = url
                && let Err((message, cure)) = places::url(url)
            {
                self.error(path.field(name), message, cure);
            }
        }
    }

    fn table_path(&mut self, path: FieldPath, text: &str) {
        if let Err((message, cure)) = places::table(text) {
            self.error(path, message, cure);
        }
    }

    fn topic(&mut self, path: FieldPath, topic: &str) {
        let is_named = topic.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        let is_open = topic.contains("${");
        if !is_open && (!is_named || matches!(topic, "." | "..")) {
            let message = format!("{topic:?} is not the name of a topic");
            self.error(path, message, "use letters, digits, ., _ and -");
        }
    }

    fn period(&mut self, path: &FieldPath, period: Period, min: Duration, max: Duration) {
        let (least, greatest) = (Period::from(min), Period::from(max));
        if period < least {
            self.error(path.clone(), format!("{period} is too short"), format!("write at least {least}"));
        } else if period > greatest {
            self.error(path.clone(), format!("{period} is too long"), format!("write at most {greatest}"));
        }
    }

    fn size(&mut self, path: FieldPath, size: ByteSize, min: ByteSize, max: ByteSize) {
        if size < min || size > max {
            let word = if size < min { "small" } else { "large" };
            self.error(path, format!("{size} is too {word}"), format!("write a size from {min} to {max}"));
        }
    }
}

/// What a cluster does not run, though a laptop does.
pub fn for_a_cluster(spec: &StreamingJobSpec) -> Vec<Problem> {
    let on_screen = sinks(&FieldPath::root().field("spec"), spec.sink.as_ref(), &spec.outputs);
    let on_screen = on_screen.into_iter().filter(|(_, sink)| sink.format == SinkFormat::Stdout);
    let refuse = |(path, _): (FieldPath, _)| {
        let message = "nobody looks at the standard output of a pod: the rows would be in its log, and lost with it";
        Problem::error(
            path.field("format"),
            message,
            "write a table or a topic; data-platform run shows rows on a laptop",
        )
    };
    on_screen.map(refuse).collect()
}

/// `sink`, or those of `outputs`, with their paths.
fn sinks<'a>(
    path: &FieldPath,
    sink: Option<&'a SinkSpec>,
    outputs: &'a [OutputSpec],
) -> Vec<(FieldPath, &'a SinkSpec)> {
    let outputs = outputs.iter().enumerate();
    let outputs = outputs.map(|(i, output)| (path.field("outputs").index(i).field("sink"), &output.sink));
    sink.into_iter().map(|sink| (path.field("sink"), sink)).chain(outputs).collect()
}

fn reads(sources: &[SourceSpec], topic: &str) -> bool {
    sources.iter().any(|source| {
        let by_pattern = source.topic_pattern.as_ref().map(|topics| format!("^(?:{topics})$"));
        source.topics.iter().any(|other| other == topic)
            || by_pattern.is_some_and(|pattern| pattern::matches(&pattern, topic) == Some(true))
    })
}

/// The type of a column with `from: headers`.
fn headers_type() -> ColumnType {
    let fields = vec![("key".to_owned(), ColumnType::String), ("value".to_owned(), ColumnType::Binary)];
    ColumnType::Array(Box::new(ColumnType::Struct(fields)))
}
