//! Upkeep of tables by the job that writes them, while it has nothing to read: days that are over get few large files for many
//! small ones, and days that are old are removed. docs/adr/0030.
//!
//! ```text
//! look ── decide (pure) ── merge into a staged folder, sync ── exchange the folders ── remove the old one
//! ```
//!
//! Nothing of it needs a decision of the log: the rows stay the same, and the exchange is one step. Only files are touched of
//! which the log says that they are published, since an unpublished one may have to be published again.

mod decide;

use crate::checkpoint::log::random_attempt;
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::job_plan::Flow;
use crate::pipeline::streaming::start::Session;
use crate::sink::SinkPlan;
use crate::sink::table::TableSettings;
use crate::sink::table::merge::Merger;
use crate::storage::{SharedStore, paths};

use self::decide::{Upkept, Work};

/// Time between two looks at the tables when nothing is to be done, in microseconds. A look lists the whole table.
const LOOK: i64 = 300_000_000;

impl Session<'_> {
    /// Takes away what owners before were writing anew, before the first file is published: none of them puts an old folder in
    /// the place of one that has new files.
    pub(super) async fn begin_upkeep(&mut self) -> Result<(), JobError> {
        let state = self.log.state();
        let own = paths::compaction_of(&state.start.log_id, state.epoch());
        for (name, root) in &self.settings.plan.outputs {
            let Some(store) = self.log.output(root)?.files().map(SharedStore::clone) else { continue };
            let is_kept_up =
                self.settings.flows.iter().any(|flow| flow.output == *name && flow.sink.maintenance.is_some());
            if is_kept_up && store.file("x").is_none() {
                return Err(JobError::user(
                    Reason::NotSupported,
                    format!(
                        "the table {name} lies in {root}, and maintenance exchanges folders, which an object store has not"
                    ),
                    "leave sink.maintenance out, or write to a folder",
                ));
            }
            store.begin_folders(paths::COMPACTION, is_kept_up.then_some(own.as_str())).await?;
        }
        Ok(())
    }

    /// Does one piece of work; whether there was any.
    pub(super) async fn upkeep(&mut self) -> Result<bool, JobError> {
        let now = self.environment.clock.now();
        if self.kept_up.is_some_and(|last| now.saturating_sub(last) < LOOK) {
            return Ok(false);
        }
        for index in 0..self.settings.flows.len() {
            let flow = &self.settings.flows[index];
            let (Some(_), SinkPlan::Table(table)) = (&flow.sink.maintenance, &flow.writes) else { continue };
            let root = &self.settings.plan.outputs[&flow.output];
            let Some(store) = self.log.output(root)?.files().map(SharedStore::clone) else { continue };
            if self.keep_up(flow, table, &store, now).await? {
                return Ok(true);
            }
        }
        self.kept_up = Some(now);
        Ok(false)
    }

    /// Does one piece of work on a table; whether there was any.
    async fn keep_up(
        &mut self,
        flow: &Flow,
        table: &TableSettings,
        store: &SharedStore,
        now: i64,
    ) -> Result<bool, JobError> {
        let (Some(maintenance), Some(date_column)) = (&flow.sink.maintenance, table.date_column()) else {
            return Ok(false);
        };
        let listed = store.list("").await?;
        let state = self.log.state();
        let upkept = Upkept {
            log_id: &state.start.log_id,
            published: state.published,
            now,
            date_column,
            compact_after: maintenance.compact_after.map(|after| after.as_micros()),
            retain: maintenance.retain.map(|retain| retain.as_micros()),
            target_bytes: table.target_file_bytes,
            left_alone: &self.left_alone,
        };
        let Some(work) = decide::next(&listed, &upkept) else { return Ok(false) };
        let (log_id, epoch) = (state.start.log_id.clone(), state.epoch());
        match work {
            Work::Remove { folder, files } => {
                let place = paths::compaction_of(&log_id, epoch);
                let stage = format!("{}/{place}/{:016x}", paths::COMPACTION, random_attempt());
                store.remove_folder(&stage, &folder).await?;
                tracing::info!(
                    output = flow.output,
                    folder,
                    files,
                    "removed: the day is older than sink.maintenance.retain"
                );
            }
            Work::Merge(merge) => {
                let job = format!("{}/{}", self.settings.namespace, self.settings.job);
                let fingerprint = &self.settings.plan.fingerprint;
                let merger = Merger { store, settings: table, job: &job, log_id: &log_id, epoch, fingerprint };
                match merger.merge(&merge).await? {
                    Some(merged) => tracing::info!(
                        output = flow.output,
                        folder = merge.folder,
                        files = merged.read,
                        into = merged.written,
                        rows = merged.rows,
                        "compacted"
                    ),
                    None => {
                        tracing::info!(
                            output = flow.output,
                            folder = merge.folder,
                            "not compacted: its files have other columns"
                        );
                        self.left_alone.insert(merge.folder);
                    }
                }
            }
        }
        Ok(true)
    }
}
