//! `audit`: proves from the log and the files that every offset is covered exactly once, and that every record is counted.
//!
//! ```text
//! record 0 ── (removed records: footers of the files) ── oldest base ── records ── last version
//! ```
//!
//! The records are followed from the oldest base that is kept (or record 0); what lies before it is proved by the footers
//! of the files, each of which says which offsets it and its siblings cover. Reads only.

mod chain;
mod counting;
mod log;
mod tables;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::args::AuditArgs;
use crate::checkpoint::survey::Survey;
use crate::commands::checkpoint::{JobPlace, Retention, block_on, output_opener, sees_tables, store_failed};
use crate::commands::error::CommandError;
use crate::commands::{align_right, bytes, fit, grouped, list, print};
use crate::storage::StoreError;
use crate::storage::location::Location;

use self::log::AuditedLog;
use self::tables::AuditedTable;

/// How often everything is read again when the job went on meanwhile.
const READS_MAX: u32 = 5;
/// Problems that are printed; more would hide the first.
const PROBLEMS_SHOWN: usize = 40;

/// Runs the command.
pub(crate) fn audit(args: &AuditArgs) -> Result<u8, CommandError> {
    let place = JobPlace::find(&args.job, &args.place)?;
    let retention = Retention { since: args.retained_since };
    block_on(sees_tables(&place))??;
    let audit = block_on(stable_audit(&place, retention))?.map_err(store_failed)?;
    print(&audit.text(&place));
    Ok(u8::from(!audit.problems.is_empty()))
}

/// What was found.
struct Audit {
    log: Option<AuditedLog>,
    tables: BTreeMap<String, AuditedTable>,
    problems: Vec<String>,
    retention: Retention,
}

/// Audits until nothing is wrong, or the log stands still: a job that runs meanwhile removes garbage.
async fn stable_audit(place: &JobPlace, retention: Retention) -> Result<Audit, StoreError> {
    let outputs = place.outputs.as_ref();
    let mut survey = Survey::read(&place.store).await?;
    for _ in 0..READS_MAX {
        let audit = run(&survey, outputs, retention).await?;
        let now = Survey::read(&place.store).await?;
        let stands_still = now.last_version() == survey.last_version() && now.bases.len() == survey.bases.len();
        if audit.problems.is_empty() || stands_still {
            return Ok(audit);
        }
        survey = now;
    }
    run(&survey, outputs, retention).await
}

/// The whole audit of what was read of a log.
async fn run(survey: &Survey, outputs: Option<&Location>, retention: Retention) -> Result<Audit, StoreError> {
    let open = output_opener(survey, outputs).await;
    let (log, mut problems) = log::follow(survey);
    let mut tables = BTreeMap::new();
    if let Some(log) = &log {
        let mut roots: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (root, name) in survey.outputs() {
            roots.entry(name).or_default().push(root);
        }
        for (name, roots) in roots {
            let places = tables::places(log, &name, &roots, &open).await?;
            if places.is_empty() {
                // Of a topic nobody can tell which of its records are whose.
                continue;
            }
            let (table, table_problems) = tables::look(log, &name, &places, retention).await?;
            problems.extend(table_problems);
            tables.insert(name, table);
        }
        problems.extend(tables::rows_in_total(log, &tables, retention));
    }
    Ok(Audit { log, tables, problems, retention })
}

impl Audit {
    fn text(&self, place: &JobPlace) -> String {
        let mut out = String::new();
        let Some(log) = &self.log else {
            let _ = writeln!(out, "{}: NOT PROVED: {}", place.name, self.problems.join("; "));
            return out;
        };
        let (begin, end) = (&log.begin, &log.end);
        let _ = writeln!(out, "{}, log {}, versions 0 to {}", place.name, end.start.log_id, end.version);
        let how = match begin.version {
            0 => "every record of the log was followed, from record 0 on".to_owned(),
            base => format!("records were followed from base {base} on; before it the footers of the files tell"),
        };
        let _ = writeln!(out, "{how}\n\n{}\n", self.offsets(log));
        let _ = writeln!(out, "{}\n", self.files());
        for (name, root) in end.plan.outputs.iter().filter(|(name, _)| !self.tables.contains_key(*name)) {
            let rows = end.totals.outputs.get(name).map_or(0, |output| output.rows);
            let rows = grouped(rows);
            let _ =
                writeln!(out, "{name:<12} {rows} rows were acknowledged by {root}, which may have some of them twice");
        }
        out.push_str(&self.records(log));
        for rewound in &end.rewinds {
            let _ = writeln!(out, "rewind       version {} went back to version {}", rewound.version, rewound.to);
            for topic in rewound.lost.topics() {
                let lost = &rewound.lost[topic];
                let lost = crate::checkpoint::rewind::ranges_text(topic, lost);
                let _ = writeln!(out, "             windows that were open then miss, as was accepted: {lost}");
            }
        }
        self.verdict(&mut out, log);
        out
    }

    fn offsets(&self, log: &AuditedLog) -> comfy_table::Table {
        let mut shown = list(&["topic", "partition", "from offset", "to before", "offsets", "records read"]);
        for (topic, partition, covered) in log.covered.iter() {
            shown.add_row([
                topic.to_owned(),
                partition.to_string(),
                grouped(covered.first.unsigned_abs()),
                grouped(covered.next.unsigned_abs()),
                grouped((covered.next - covered.first).unsigned_abs()),
                log.records_of(topic, partition).map_or_else(|| "-".to_owned(), grouped),
            ]);
        }
        align_right(&mut shown, &[1, 2, 3, 4, 5]);
        fit(&mut shown, &[4]);
        shown
    }

    fn files(&self) -> comfy_table::Table {
        let mut shown = list(&["output", "files", "size", "rows", "counted", "staged", "foreign"]);
        for (name, found) in &self.tables {
            let counted =
                self.log.as_ref().and_then(|log| log.end.totals.outputs.get(name)).map_or(0, |output| output.rows);
            shown.add_row([
                name.clone(),
                grouped(found.files),
                bytes(found.bytes),
                grouped(found.rows),
                grouped(counted),
                grouped(found.staged),
                grouped(found.foreign),
            ]);
        }
        align_right(&mut shown, &[1, 2, 3, 4, 5, 6]);
        // What there is none of is left out first.
        let none = |of: fn(&AuditedTable) -> u64| self.tables.values().all(|table| of(table) == 0);
        let none = [(5, none(|table| table.staged)), (6, none(|table| table.foreign))];
        let least: Vec<_> = none.iter().filter(|(_, is_none)| *is_none).map(|(column, _)| *column).chain([2]).collect();
        fit(&mut shown, &least);
        shown
    }

    /// The sum in which every record has one fate.
    fn records(&self, log: &AuditedLog) -> String {
        let mut out = String::new();
        let totals = &log.end.totals;
        for (name, source) in &totals.sources {
            let fates = [
                ("tombstones", source.tombstone),
                ("control records", source.control),
                ("dead letters", source.dead_letters()),
                ("in the future", source.future),
                ("duplicates", source.duplicate),
            ];
            let aside: Vec<_> = fates
                .iter()
                .filter(|(_, number)| *number > 0)
                .map(|(fate, number)| format!("{} {fate}", grouped(*number)))
                .collect();
            let passed = source.read.saturating_sub(source.aside());
            let mut sum = aside;
            sum.push(format!("{} for the query", grouped(passed)));
            let _ = writeln!(out, "{name:<12} {} read = {}", grouped(source.read), sum.join(" + "));
        }
        for name in counting::query_outputs(&log.end.plan) {
            let output = totals.outputs.get(name).cloned().unwrap_or_default();
            let passed = counting::reached(totals, &log.end.plan, name);
            let refused = match output.dead_letters() {
                0 => String::new(),
                refused => format!(" + {} refused", grouped(refused)),
            };
            let _ = writeln!(
                out,
                "{name:<12} {} for the query = {} filtered + {} late + {} accepted{refused}",
                grouped(passed),
                grouped(output.filtered),
                grouped(output.late),
                grouped(output.accepted)
            );
        }
        out
    }

    fn verdict(&self, out: &mut String, log: &AuditedLog) {
        if self.problems.is_empty() {
            let partitions = log.covered.len();
            let offsets: i64 = log.covered.values().map(|covered| covered.next - covered.first).sum();
            let _ = writeln!(
                out,
                "\nPROVED: {} offsets of {partitions} partitions are covered exactly once, and every record is counted",
                grouped(offsets.unsigned_abs())
            );
            let removed: u64 = self.tables.values().map(|table| table.removed).sum();
            if let Some(since) = self.retention.since {
                let before = match log.begin.version {
                    0 => String::new(),
                    version => format!("; of files up to version {version} those that are there were looked at"),
                };
                let _ = writeln!(
                    out,
                    "        but for files of days before {since}, which were removed on purpose: {} that the log names{before}",
                    grouped(removed)
                );
            }
            return;
        }
        let _ = writeln!(out, "\nNOT PROVED: {} problems", self.problems.len());
        for problem in self.problems.iter().take(PROBLEMS_SHOWN) {
            let _ = writeln!(out, "- {problem}");
        }
        if self.problems.len() > PROBLEMS_SHOWN {
            let _ = writeln!(out, "… and {} more", self.problems.len() - PROBLEMS_SHOWN);
        }
        if self.retention.since.is_none() && self.problems.iter().any(|problem| problem.contains("it is missing")) {
            let _ = writeln!(out, "if files were removed on purpose because they were old: --retained-since DATE");
        }
    }
}
