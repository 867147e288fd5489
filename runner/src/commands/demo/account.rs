//! The end of the demo: some rows of each job, whether every record is accounted for, and what to try next.

use std::path::Path;

use super::jobs::Done;
use crate::app::{CommandError, print};
use crate::args::QueryFormat;
use crate::checkpoint::counters::SourceCounters;
use crate::commands::{grouped, query};

/// Shows it all; an error if a record is lost.
pub(super) fn show(jobs: &[Done], folder: &Path) -> Result<u8, CommandError> {
    for done in jobs {
        print(&format!("\n{}, the first rows:\n", done.job.name));
        query::run(&done.outputs, done.job.look, QueryFormat::Table)?;
    }
    print("\n");
    jobs.iter().for_each(|done| print(&account(done)));
    print(&next(folder));
    jobs.iter().try_for_each(check)?;
    Ok(0)
}

/// Where every record of a job's topic went.
fn account(done: &Done) -> String {
    let sources = done.status.totals.sources.values();
    let sum = |of: fn(&SourceCounters) -> u64| sources.clone().map(of).sum::<u64>();
    let mut text = format!(
        "{}: {} records were written to the broker, {} were read; {} dead letters, {} tombstones, {} control records, \
         {} too far in the future\n",
        done.job.name,
        grouped(done.produced),
        grouped(sum(|of| of.read)),
        grouped(sum(|of| of.dead_letters())),
        grouped(sum(|of| of.tombstone)),
        grouped(sum(|of| of.control)),
        grouped(sum(|of| of.future)),
    );
    for name in done.status.outputs.keys() {
        let output = done.status.totals.outputs.get(name).cloned().unwrap_or_default();
        text.push_str(&format!(
            "  {name}: {} accepted, {} late, {} rows in {} files\n",
            grouped(output.accepted),
            grouped(output.late),
            grouped(output.rows),
            grouped(output.files)
        ));
    }
    text
}

/// Every record that was written was read, and has one fate in each output.
fn check(done: &Done) -> Result<(), CommandError> {
    let totals = &done.status.totals;
    let read: u64 = totals.sources.values().map(|source| source.read).sum();
    let lost = |what: String| Err(CommandError::failed(format!("{}: {what}: some are lost", done.job.name)));
    if done.produced != read {
        return lost(format!("{} records were written and {read} were read", done.produced));
    }
    match done.status.outputs.keys().find(|output| !totals.is_conserved(output, |_| true)) {
        Some(output) => lost(format!("not every record is accounted for in {output}")),
        None => Ok(()),
    }
}

fn next(folder: &Path) -> String {
    let place = |name: &str| folder.join(name).display().to_string();
    let (outputs, checkpoints) = (place("outputs"), place("checkpoints"));
    format!(
        "\nTry next:\n  \
         data-platform query --outputs {outputs}\n  \
         data-platform query --outputs {outputs} \"SELECT event_type, sum(event_count) AS events FROM \
         events_aggregated_realtime GROUP BY event_type ORDER BY events DESC\"\n  \
         data-platform audit event-aggregation --outputs {outputs} --checkpoints {checkpoints}\n  \
         data-platform explain clickstream-analysis\n  \
         data-platform templates cdc-transformation\n\
         A job of your own: docs/guides/add-a-streaming-job.md\n"
    )
}
