//! What a bounded run says when it has processed everything: sums since the log began.

use serde_json::{Map, Value, json};

use crate::commands::{align_right, grouped, list};
use crate::config::job::{PlannedJob, RunOptions};
use crate::counters::{OutputCounters, SourceCounters};
use crate::pipeline::job_plan::Flow;
use crate::pipeline::status::JobStatus;

/// The sums for a program that reads them. A job of one output has its figures at the top; one of several has them by
/// output, and their sums at the top.
pub(super) fn json(planned: &PlannedJob, options: &RunOptions, status: &JobStatus, seconds: f64) -> Value {
    let source = |of: fn(&SourceCounters) -> u64| status.totals.sources.values().map(of).sum::<u64>();
    let sum = |of: fn(&OutputCounters) -> u64| planned.flows.iter().map(|flow| of(&counted(flow, status))).sum::<u64>();
    let mut summary = json!({
        "job": planned.name(), "records": source(|of| of.read), "tombstones": source(|of| of.tombstone),
        "control": source(|of| of.control),
        "dead_letters": source(SourceCounters::dead_letters), "future": source(|of| of.future),
        "duplicates": source(|of| of.duplicate), "late_kept": source(|of| of.late_kept),
        "filtered": sum(|of| of.filtered), "late": sum(|of| of.late), "partly_late": sum(|of| of.partly_late), "accepted": sum(|of| of.accepted),
        "refused": sum(OutputCounters::letters),
        "rows": sum(|of| of.rows), "files": sum(|of| of.files), "lost_offsets": source(|of| of.lost_offsets),
        "open_windows": status.open_windows, "output": path(planned, planned.first(), options),
        "seconds": (seconds * 1e3).round() / 1e3,
    });
    if planned.flows.len() > 1 {
        let of = |flow: &Flow| {
            let counted = counted(flow, status);
            let figures = json!({
                "filtered": counted.filtered, "late": counted.late, "partly_late": counted.partly_late,
                "accepted": counted.accepted, "refused": counted.letters(), "rows": counted.rows, "files": counted.files, "output": path(planned, flow, options),
            });
            (flow.output.clone(), figures)
        };
        summary["outputs"] = planned.flows.iter().map(of).collect::<Map<_, _>>().into();
    }
    if status.totals.sources.len() > 1 {
        let of = |(name, source): (&String, &SourceCounters)| {
            let figures = json!({
                "records": source.read, "tombstones": source.tombstone, "control": source.control,
                "dead_letters": source.dead_letters(),
                "future": source.future, "duplicates": source.duplicate, "late_kept": source.late_kept,
                "lost_offsets": source.lost_offsets,
            });
            (name.clone(), figures)
        };
        summary["sources"] = status.totals.sources.iter().map(of).collect::<Map<_, _>>().into();
    }
    summary
}

/// The sums for people.
pub(super) fn table(planned: &PlannedJob, options: &RunOptions, status: &JobStatus) -> String {
    let mut table = list(&["since the log began", ""]);
    let (sources, flows) = (&status.totals.sources, &planned.flows);
    for (name, source) in sources {
        let of = if sources.len() > 1 { format!(" of {name}") } else { String::new() };
        table.add_row([format!("records read{of}"), grouped(source.read)]);
        table.add_row([format!("dead letters{of}"), grouped(source.dead_letters())]);
        table.add_row([format!("tombstones{of}"), grouped(source.tombstone)]);
        table.add_row([format!("control records{of}"), grouped(source.control)]);
        table.add_row([format!("too far in the future{of}"), grouped(source.future)]);
        if source.duplicate > 0 {
            table.add_row([format!("duplicates{of}"), grouped(source.duplicate)]);
        }
        if source.late_kept > 0 {
            table.add_row([format!("late and kept{of}"), grouped(source.late_kept)]);
        }
    }
    for flow in flows {
        let counted = counted(flow, status);
        let of = if flows.len() > 1 { format!(", {}", flow.output) } else { String::new() };
        table.add_row([format!("filtered by the query{of}"), grouped(counted.filtered)]);
        table.add_row([format!("late{of}"), grouped(counted.late)]);
        if counted.partly_late > 0 {
            table.add_row([format!("late for some of their windows{of}"), grouped(counted.partly_late)]);
        }
        table.add_row([format!("accepted{of}"), grouped(counted.accepted)]);
        table.add_row([format!("refused{of}"), grouped(counted.letters())]);
        table.add_row([format!("rows written{of}"), grouped(counted.rows)]);
        table.add_row([format!("files written{of}"), grouped(counted.files)]);
    }
    table.add_row(["windows still open".to_owned(), grouped(status.open_windows)]);
    align_right(&mut table, &[1]);
    let paths: Vec<_> = flows.iter().map(|flow| path(planned, flow, options)).collect();
    format!("{table}\n{}", paths.join("\n"))
}

fn counted(flow: &Flow, status: &JobStatus) -> OutputCounters {
    status.totals.outputs.get(&flow.output).cloned().unwrap_or_default()
}

fn path(planned: &PlannedJob, flow: &Flow, options: &RunOptions) -> String {
    planned.place(flow, options).unwrap_or_default()
}
