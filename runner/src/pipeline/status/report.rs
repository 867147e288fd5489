//! What a job says about itself, in the form that the operator and the page read.

use std::collections::BTreeMap;

use data_platform_crds::runner_status::{
    OutputStatus as OutputReport, OutputTotals, PartitionStatus as PartitionReport, RunnerStatus, STATUS_VERSION,
    SourceTotals, Totals,
};

use crate::counters::{Counters, OutputCounters, SourceCounters};
use crate::pipeline::no_output::NoOutput;
use crate::pipeline::status::{JobStatus, OutputStatus, PartitionStatus};

impl JobStatus {
    /// The answer of `/status`. Every field is named here, so that a new one is not forgotten.
    pub fn report(self) -> RunnerStatus {
        let lag = self.lag();
        let Self {
            namespace,
            job,
            program,
            phase,
            ready,
            reason,
            message,
            log_id,
            started,
            partitions,
            watermark,
            freshness,
            open_windows,
            state_groups,
            state_bytes,
            deduplicate,
            references,
            last_commit,
            last_commits,
            commits,
            totals,
            outputs,
            // A metric alone.
            tables: _,
            records_per_second,
            rows_per_second,
            lag_seconds,
            no_output,
            snapshot,
            errors,
            reloads,
            batch,
            configuration,
        } = self;
        RunnerStatus {
            status_version: STATUS_VERSION,
            namespace,
            job,
            program,
            phase,
            ready,
            reason,
            message,
            log_id,
            started,
            partitions: partitions.into_iter().map(partition).collect(),
            watermark,
            freshness,
            open_windows,
            state_groups,
            state_bytes,
            deduplicate,
            references,
            last_commit,
            last_commits: last_commits.into(),
            commits,
            totals: sums(&totals),
            outputs: outputs.into_iter().map(|(name, status)| (name, output_now(status))).collect(),
            records_per_second,
            rows_per_second,
            lag,
            lag_seconds,
            no_output: no_output.map(NoOutput::name),
            no_output_message: no_output.map(|why| why.explained().to_owned()),
            snapshot,
            errors: errors.into(),
            reloads,
            batch,
            configuration,
        }
    }
}

fn output_now(status: OutputStatus) -> OutputReport {
    let OutputStatus { open_windows, state_groups, state_bytes, no_output } = status;
    OutputReport { open_windows, state_groups, state_bytes, no_output: no_output.map(NoOutput::name) }
}

fn partition(status: PartitionStatus) -> PartitionReport {
    let PartitionStatus {
        topic,
        partition,
        position,
        end,
        watermark,
        holds_watermark,
        left_behind,
        unread_since: _,
        lag_seconds,
    } = status;
    PartitionReport { topic, partition, position, end, watermark, holds_watermark, left_behind, lag_seconds }
}

fn sums(counters: &Counters) -> Totals {
    let Counters { sources, outputs } = counters;
    let named = |(name, counters): (&String, &SourceCounters)| (name.clone(), source(counters));
    let sources: BTreeMap<_, _> = sources.iter().map(named).collect();
    let named = |(name, counters): (&String, &OutputCounters)| (name.clone(), output(counters));
    Totals { sources, outputs: outputs.iter().map(named).collect() }
}

fn source(counters: &SourceCounters) -> SourceTotals {
    let SourceCounters { read, bytes, tombstone, control, dead_letter, future, duplicate, late_kept, lost_offsets } =
        counters.clone();
    SourceTotals { read, bytes, tombstone, control, dead_letter, future, duplicate, late_kept, lost_offsets }
}

fn output(counters: &OutputCounters) -> OutputTotals {
    let OutputCounters { filtered, late, partly_late, accepted, dead_letter, refused, rows, files, bytes } =
        counters.clone();
    OutputTotals { filtered, late, partly_late, accepted, dead_letter, refused, rows, files, bytes }
}
