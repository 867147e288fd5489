//! `explain`: a job in full, how its query runs, where state is kept, and what holds output back.

use std::fmt::Write as _;
use std::time::Duration;

use data_platform_crds::source::SourceSpec;

use crate::args::ExplainArgs;
use crate::commands::error::CommandError;
use crate::commands::print;
use crate::commands::run::Planned;
use crate::config::batch::PlannedBatch;
use crate::config::job::{PlannedJob, RunOptions};
use crate::config::load_one;
use crate::pipeline::job_plan::Flow;
use crate::sink::SinkPlan;

/// Shows a job.
pub(crate) fn explain(args: &ExplainArgs) -> Result<u8, CommandError> {
    let options = super::run::options_of_places(&args.place)?;
    let shown = match super::run::plan(load_one(&args.job.source())?, &options.outputs)? {
        Planned::Streaming(planned) => text(&planned, &options)?,
        Planned::Batch(planned) => batch_text(&planned, &options)?,
    };
    print(&shown);
    Ok(0)
}

fn batch_text(planned: &PlannedBatch, options: &RunOptions) -> Result<String, CommandError> {
    let spec = &planned.loaded.job.spec;
    let mut out = format!("BatchJob {} ({})\n", planned.name(), planned.loaded.file);
    out.push_str("\nReads\n");
    for input in &spec.inputs {
        let rows =
            input.time_column.as_ref().map_or("all rows".to_owned(), |time| format!("rows of the interval by {time}"));
        line(&mut out, &input.name, &format!("{}, {rows}", input.path));
    }
    out.push_str("\nWrites\n");
    for (folder, sink) in planned.written_folders(&options.outputs)?.iter().zip(spec.sinks()) {
        line(&mut out, "table", &folder.location.to_string());
        line(&mut out, "directories", &sink.partition_by.join(", "));
    }
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
    let mut out = String::new();
    let _ = writeln!(out, "StreamingJob {} ({})", planned.name(), planned.loaded.file);

    heading(&mut out, "Reads");
    line(&mut out, "brokers", &planned.bootstrap_servers(options));
    line(&mut out, "first start", &planned.kafka().starting_offsets);
    for (index, source) in spec.sources.iter().enumerate() {
        reads(&mut out, planned, index, source);
    }
    for reference in &planned.references {
        let files = &reference.files.location;
        let interval = Duration::from_micros(reference.reload_interval.unsigned_abs());
        let kept = if reference.kept { "; its versions are kept for rebuilds of windows" } else { "" };
        line(&mut out, "reference", &format!("{}: {files}, looked at every {interval:?}{kept}", reference.files.name));
        let columns = reference.schema.fields().iter().map(|field| field.name().as_str());
        line(&mut out, "its columns", &columns.collect::<Vec<_>>().join(", "));
    }
    if let Some(deduplicate) = &spec.deduplicate {
        let keys = deduplicate.keys.join(", ");
        let within = deduplicate.within;
        let once = format!("records that agree in {keys} within {within} of event time count once: the first one read");
        line(&mut out, "duplicates", &once);
    }
    let several = planned.flows.len() > 1;
    for flow in &planned.flows {
        let of = if several { format!(" {}", flow.output) } else { String::new() };
        heading(&mut out, &format!("Computes{of}"));
        computes(&mut out, flow);
        heading(&mut out, &format!("Writes{of}"));
        writes(&mut out, planned, flow, options)?;
    }
    if several {
        line(&mut out, "together", "one commit decides all outputs");
    }
    line(&mut out, "checkpoint", &planned.checkpoint_location(options).to_string());

    heading(&mut out, "Rows come when");
    line(&mut out, "trigger", &format!("every {}, at once while behind", spec.trigger.interval));
    closes(&mut out, planned);
    heading(&mut out, "The job");
    let yaml = serde_saphyr::to_string(&planned.loaded.job).unwrap_or_default();
    for text in yaml.lines() {
        let _ = writeln!(out, "  {text}");
    }
    Ok(out)
}

fn heading(out: &mut String, title: &str) {
    let _ = writeln!(out, "\n{title}");
}

fn line(out: &mut String, name: &str, value: &str) {
    let _ = writeln!(out, "  {name:<18} {value}");
}

fn reads(out: &mut String, planned: &PlannedJob, index: usize, source: &SourceSpec) {
    if planned.sources.len() > 1 {
        line(out, "source", &source.name);
    }
    line(out, "topics", &source.topic_pattern.clone().unwrap_or_else(|| source.topics.join(", ")));
    // Behind the declared columns there may be hidden ones: where the record came from.
    let declared = planned.sources[index].decode.columns.iter().take(source.columns.len());
    let decoded = declared.filter(|column| column.built);
    line(out, "decoded columns", &decoded.map(|column| &*column.name).collect::<Vec<_>>().join(", "));
    if let Some(time) = &source.event_time {
        line(out, "event time", &time.column);
        let least = format!("latest event - {}, per partition; the least of them counts", time.watermark_delay);
        line(out, "watermark", &least);
    }
}

fn computes(out: &mut String, flow: &Flow) {
    let explanation = flow.query.explain();
    for step in &explanation.below {
        line(out, "each record", step);
    }
    if let Some(window) = &explanation.window {
        line(out, "window", &format!("{} of {}", window.spec, window.event_time));
        line(out, "state per group", &window.keys.join(", "));
        for aggregate in &window.aggregates {
            line(out, "", aggregate);
        }
    }
    for step in &explanation.above {
        line(out, "closed windows", step);
    }
}

fn writes(out: &mut String, planned: &PlannedJob, flow: &Flow, options: &RunOptions) -> Result<(), CommandError> {
    let place = planned.place(flow, options)?;
    match &flow.writes {
        SinkPlan::Table(_) => {
            line(out, "table", &place);
            line(out, "directories", &flow.sink.partition_by.join(", "));
        }
        SinkPlan::Topic(settings) => {
            line(out, "topic", &settings.topic);
            line(out, "key", settings.key_column.as_deref().unwrap_or("none"));
            line(out, "value", "one JSON object for each row");
        }
        SinkPlan::DeadLetterTopic { topic, .. } => line(out, "topic", topic),
        SinkPlan::Stdout { .. } => line(out, "screen", "a table on a terminal, else one JSON object for each row"),
    }
    for (name, data_type) in &flow.query.explain().output {
        line(out, name, data_type);
    }
    line(out, "guarantee", flow.writes.promise().in_words());
    Ok(())
}

/// What holds the rows of windows back.
fn closes(out: &mut String, planned: &PlannedJob) {
    let several = planned.flows.len() > 1;
    let mut windows = false;
    for flow in &planned.flows {
        let Some(window) = &flow.query.explain().window else { continue };
        windows = true;
        let of = if several { format!(" of {}", flow.output) } else { String::new() };
        let delays = planned.sources.iter().enumerate().filter(|(source, _)| flow.reads(*source));
        let delays = delays.filter_map(|(_, source)| source.event_time.as_ref()).map(|time| time.watermark_delay);
        let delay = delays.max().map(|delay| delay.to_string()).unwrap_or_default();
        let wait =
            format!("every active partition has an event {delay} or more after the window's end ({}{of})", window.spec);
        line(out, "a window closes", &wait);
    }
    if !windows {
        return;
    }
    for source in &planned.sources {
        let Some(time) = &source.event_time else { continue };
        let of = if planned.sources.len() > 1 { format!(" of {}", source.name) } else { String::new() };
        let idle = format!(
            "a partition{of} without backlog counts as idle after {} and no longer holds windows open",
            time.idle_timeout
        );
        line(out, "idle partitions", &idle);
    }
    line(out, "the last window", "stays open until later events come, or --drain closes it");
}
