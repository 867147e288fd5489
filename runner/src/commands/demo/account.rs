//! The end of the demo: some rows of each job, whether every record is accounted for, and what to try next.

use std::path::Path;

use comfy_table::Table;

use super::jobs::Done;
use crate::args::QueryFormat;
use crate::commands::error::CommandError;
use crate::commands::{align_right, grouped, list, print, query};
use crate::counters::SourceCounters;
use crate::storage::location::Location;

/// Shows it all; an error if a record is lost.
pub(super) fn show(jobs: &[Done], folder: &Path, tables: &Location) -> Result<u8, CommandError> {
    for done in jobs {
        print(&format!("\n{}, the first rows:\n", done.job.name));
        query::run(tables, done.job.look, QueryFormat::Table)?;
    }
    print(&format!("\nWhat became of every record:\n{}\n\n{}\n", sources(jobs), outputs(jobs)));
    print(&next(folder));
    jobs.iter().try_for_each(check)?;
    Ok(0)
}

/// Where the records of every topic went: a line for each job.
fn sources(jobs: &[Done]) -> Table {
    let mut table = list(&["job", "written", "read", "bad", "aside"]);
    for done in jobs {
        let sum = |of: fn(&SourceCounters) -> u64| done.status.totals.sources.values().map(of).sum::<u64>();
        // Tombstones, records about the stream of changes, events ahead of the clock.
        let aside = sum(|of| of.aside() - of.dead_letters());
        let figures = [done.produced, sum(|of| of.read), sum(SourceCounters::dead_letters), aside].map(grouped);
        table.add_row(std::iter::once(done.job.name.to_owned()).chain(figures));
    }
    align_right(&mut table, &[1, 2, 3, 4]);
    table
}

/// What became of the rest: a line for each output.
fn outputs(jobs: &[Done]) -> Table {
    let mut table = list(&["output", "accepted", "late", "rows"]);
    for done in jobs {
        for name in done.status.outputs.keys() {
            let output = done.status.totals.outputs.get(name).cloned().unwrap_or_default();
            let figures = [output.accepted, output.late, output.rows].map(grouped);
            table.add_row(std::iter::once(name.clone()).chain(figures));
        }
    }
    align_right(&mut table, &[1, 2, 3]);
    table
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
