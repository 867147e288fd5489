//! `explain`: a job in full, how its query runs, where state is kept, and what holds output back.

use std::fmt::Write as _;

use crate::app::{CommandError, print};
use crate::args::ExplainArgs;
use crate::commands::run::Planned;
use crate::config::batch::PlannedBatch;
use crate::config::job::{PlannedJob, RunOptions};
use crate::config::load_one;

/// Shows a job.
pub(crate) fn explain(args: &ExplainArgs) -> Result<u8, CommandError> {
    let options = super::run::options_of_places(&args.place)?;
    let shown = match super::run::plan(load_one(&args.job.source())?)? {
        Planned::Streaming(planned) => text(&planned, &options)?,
        Planned::Batch(planned) => batch_text(&planned, &options)?,
    };
    print(&shown);
    Ok(0)
}

fn batch_text(planned: &PlannedBatch, options: &RunOptions) -> Result<String, CommandError> {
    let spec = &planned.loaded.job.spec;
    let mut out = format!("BatchJob {} ({})\n", planned.name(), planned.loaded.file);
    let line = |out: &mut String, name: &str, value: &str| {
        let _ = writeln!(out, "  {name:<18} {value}");
    };
    out.push_str("\nReads\n");
    for input in &spec.inputs {
        let rows =
            input.time_column.as_ref().map_or("all rows".to_owned(), |time| format!("rows of the interval by {time}"));
        line(&mut out, &input.name, &format!("{}, {rows}", input.path));
    }
    out.push_str("\nWrites\n");
    line(&mut out, "table", &planned.table_location(options)?.to_string());
    line(&mut out, "directories", &spec.sink.as_ref().map(|sink| sink.partition_by.join(", ")).unwrap_or_default());
    line(&mut out, "guarantee", "an interval is replaced as a whole: run again, it is there once");
    out.push_str("\nRuns\n");
    line(
        &mut out,
        "schedule",
        &spec.schedule.as_ref().map_or("once".to_owned(), |at| format!("{at} ({})", spec.time_zone)),
    );
    line(&mut out, "interval", &format!("the last {} that is over", planned.grid().word()));
    line(&mut out, "waits for inputs", &format!("at most {}", spec.wait));
    line(&mut out, "catches up", &format!("at most {} intervals in one run", spec.catch_up));
    out.push_str("\nThe job\n");
    for text in serde_saphyr::to_string(&planned.loaded.job).unwrap_or_default().lines() {
        let _ = writeln!(out, "  {text}");
    }
    Ok(out)
}

fn text(planned: &PlannedJob, options: &RunOptions) -> Result<String, CommandError> {
    let spec = &planned.loaded.job.spec;
    let explanation = planned.query.explain();
    let mut out = String::new();
    let heading = |out: &mut String, title: &str| {
        let _ = writeln!(out, "\n{title}");
    };
    let line = |out: &mut String, name: &str, value: &str| {
        let _ = writeln!(out, "  {name:<18} {value}");
    };
    let _ = writeln!(out, "StreamingJob {} ({})", planned.name(), planned.loaded.file);

    heading(&mut out, "Reads");
    line(&mut out, "brokers", &planned.bootstrap_servers(options));
    let topics = planned.source.topic_pattern.clone().unwrap_or_else(|| planned.source.topics.join(", "));
    line(&mut out, "topics", &topics);
    line(&mut out, "first start", &planned.kafka().starting_offsets);
    line(&mut out, "decoded columns", &explanation.reads.join(", "));
    if let Some(time) = &planned.source.event_time {
        line(&mut out, "event time", &time.column);
        line(
            &mut out,
            "watermark",
            &format!("latest event - {}, per partition; the least of them counts", time.watermark_delay),
        );
    }

    heading(&mut out, "Computes");
    for step in &explanation.below {
        line(&mut out, "each record", step);
    }
    if let Some(window) = &explanation.window {
        line(&mut out, "window", &format!("{} of {}", window.spec, window.event_time));
        line(&mut out, "state per group", &window.keys.join(", "));
        for aggregate in &window.aggregates {
            line(&mut out, "", aggregate);
        }
    }
    for step in &explanation.above {
        line(&mut out, "closed windows", step);
    }

    heading(&mut out, "Writes");
    line(&mut out, "table", &planned.table_location(options)?.to_string());
    line(&mut out, "directories", &spec.sink.as_ref().map(|sink| sink.partition_by.join(", ")).unwrap_or_default());
    for (name, data_type) in &explanation.output {
        line(&mut out, name, data_type);
    }
    line(&mut out, "checkpoint", &planned.checkpoint_location(options).to_string());
    line(&mut out, "guarantee", "exactly once, for any reader of the files");

    heading(&mut out, "Rows come when");
    line(&mut out, "trigger", &format!("every {}, at once while behind", spec.trigger.interval));
    if let (Some(window), Some(time)) = (&explanation.window, &planned.source.event_time) {
        let wait = format!(
            "every active partition has an event {} or more after the window's end ({})",
            time.watermark_delay, window.spec
        );
        line(&mut out, "a window closes", &wait);
        let idle = format!(
            "a partition without backlog counts as idle after {} and no longer holds windows open",
            time.idle_timeout
        );
        line(&mut out, "idle partitions", &idle);
        line(&mut out, "the last window", "stays open until later events come, or --drain closes it");
    }
    heading(&mut out, "The job");
    let yaml = serde_saphyr::to_string(&planned.loaded.job).unwrap_or_default();
    for text in yaml.lines() {
        let _ = writeln!(out, "  {text}");
    }
    Ok(out)
}
