//! Upkeep of tables by the job that writes them, while it has nothing to read: days that are over get few large files for many
//! small ones, and days that are old are removed. docs/adr/0030.
//!
//! ```text
//! folders  look ── decide (pure) ── merge into a staged folder, sync ── exchange the folders ── remove the old one
//! objects  look ── rearrange (pure) ── merge into a staged object ── still ours? ── publish it ── remove the old ones
//! Delta    look ── rearrange (pure) ── merge into files that no version names ── one version that exchanges them
//! ```
//!
//! Nothing of it needs a decision of the log: the rows stay the same, and the exchange is one step, or can be finished by
//! whoever comes next. Only files are touched of which the log says that they are published, since an unpublished one may have
//! to be published again.

mod decide;
mod delta;
mod objects;
mod rearrange;

use data_platform_crds::quantity::ByteSize;

use crate::checkpoint::log::random_attempt;
use crate::pipeline::error::JobError;
use crate::pipeline::job_plan::Flow;
use crate::pipeline::streaming::start::Session;
use crate::sink::SinkPlan;
use crate::sink::table::TableSettings;
use crate::sink::table::merge::{Merged, Merger, Unmerged};
use crate::storage::{SharedStore, paths};

use self::decide::{Upkept, Work};

/// Time between two looks at the tables when nothing is to be done, in microseconds. A look lists the whole table.
const LOOK: i64 = 300_000_000;
/// Time between two counts of files, in microseconds.
const COUNT: i64 = 3_600_000_000;

impl Session<'_> {
    /// Takes away what owners before were writing anew, before the first file is published: none of them puts an old folder in
    /// the place of one that has new files.
    pub(super) async fn begin_upkeep(&mut self) -> Result<(), JobError> {
        let state = self.log.state();
        let own = paths::compaction_of(&state.start.log_id, state.epoch());
        for (name, root) in &self.settings.plan.outputs {
            let output = self.log.output(root)?;
            let Some(store) = output.files().filter(|_| output.as_delta().is_none()) else { continue };
            let is_kept_up =
                self.settings.flows.iter().any(|flow| flow.output == *name && flow.sink.maintenance.is_some());
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
            let output = self.log.output(&self.settings.plan.outputs[&flow.output])?;
            let is_done = match (output.as_delta(), output.files()) {
                (Some(delta), _) => self.keep_up_delta(flow, table, delta, now).await?,
                (None, Some(store)) if is_remote(store) => self.keep_up_objects(flow, table, store, now).await?,
                (None, Some(store)) => self.keep_up(flow, table, store, now).await?,
                (None, None) => false,
            };
            if is_done {
                self.counted = None;
                return Ok(true);
            }
        }
        self.kept_up = Some(now);
        self.count_files(now).await?;
        Ok(false)
    }

    /// Counts, from time to time, the files of tables: by their log, or by a list, which also tells what a kill left over.
    async fn count_files(&mut self, now: i64) -> Result<(), JobError> {
        if self.counted.is_some_and(|last| now.saturating_sub(last) < COUNT) {
            return Ok(());
        }
        self.counted = Some(now);
        for flow in &self.settings.flows {
            let SinkPlan::Table(table) = &flow.writes else { continue };
            let output = self.log.output(&self.settings.plan.outputs[&flow.output])?;
            let target = target_bytes(flow, table);
            let sizes = match (output.as_delta(), output.files()) {
                (Some(delta), _) => {
                    let files = delta.table_files().await?.unwrap_or_default();
                    decide::sizes(files.active.iter().map(|file| file.bytes), target)
                }
                (None, Some(store)) => {
                    let mut listed = store.list("").await?;
                    if is_remote(store) {
                        // Also of a table that is not to be kept up any more.
                        let state = self.log.state();
                        let left = objects::left_over(&listed, &state.start.log_id, state.published);
                        store.delete_all(&left).await?;
                        listed.retain(|entry| !left.contains(&entry.path));
                    }
                    let seen = listed.iter().filter(|entry| paths::is_visible(&entry.path));
                    decide::sizes(seen.map(|entry| entry.bytes), target)
                }
                (None, None) => continue,
            };
            let output = flow.output.clone();
            self.environment.status.update(|status| {
                status.tables.insert(output, sizes);
            });
        }
        Ok(())
    }

    /// Does one piece of work on a table; whether there was any.
    async fn keep_up(
        &mut self,
        flow: &Flow,
        table: &TableSettings,
        store: &SharedStore,
        now: i64,
    ) -> Result<bool, JobError> {
        let listed = store.list("").await?;
        let work = self.upkept(flow, table, now).and_then(|upkept| decide::next(&listed, &upkept));
        let merger = self.merger(flow, table, store);
        match work {
            None => return Ok(false),
            Some(Work::Remove { folder, files }) => {
                let place = paths::compaction_of(&merger.log_id, merger.epoch);
                let stage = format!("{}/{place}/{:016x}", paths::COMPACTION, random_attempt());
                store.remove_folder(&stage, &folder).await?;
                let output = &flow.output;
                tracing::info!(output, folder, files, "removed: the day is older than sink.maintenance.retain");
            }
            Some(Work::Merge(merge)) => {
                let answer = merger.merge(&merge).await?;
                self.tell_merged(flow, &merge.folder, answer);
            }
        }
        Ok(true)
    }

    /// A table and what is wanted of it; `None`: nothing is.
    fn upkept<'s>(&'s self, flow: &Flow, table: &'s TableSettings, now: i64) -> Option<Upkept<'s>> {
        let (maintenance, date_column) = (flow.sink.maintenance.as_ref()?, table.date_column()?);
        let state = self.log.state();
        Some(Upkept {
            log_id: &state.start.log_id,
            published: state.published,
            now,
            date_column,
            compact_after: maintenance.compact_after.map(|after| after.as_micros()),
            retain: maintenance.retain.map(|retain| retain.as_micros()),
            target_bytes: target_bytes(flow, table),
            left_alone: &self.left_alone,
        })
    }

    fn merger<'t>(&self, flow: &Flow, table: &'t TableSettings, store: &'t SharedStore) -> Merger<'t> {
        let state = self.log.state();
        Merger {
            store,
            settings: table,
            job: format!("{}/{}", self.settings.namespace, self.settings.job),
            log_id: state.start.log_id.clone(),
            epoch: state.epoch(),
            fingerprint: self.settings.plan.fingerprint.clone(),
            target_bytes: target_bytes(flow, table),
        }
    }

    fn tell_merged(&mut self, flow: &Flow, folder: &str, answer: Result<Merged, Unmerged>) {
        let output = &flow.output;
        match answer {
            Ok(merged) => {
                let Merged { read, written, rows } = merged;
                tracing::info!(output, folder, files = read, into = written, rows, "compacted");
            }
            Err(Unmerged::Gone(path)) => {
                tracing::warn!(
                    output,
                    path,
                    "not compacted: the file is gone, and nobody but this job removes files here"
                );
                self.left_alone.insert(path);
            }
            Err(Unmerged::Overtaken) => tracing::info!(output, folder, "not compacted yet: {}", Unmerged::Overtaken),
            Err(why @ (Unmerged::OtherColumns | Unmerged::NotFewer)) => {
                tracing::info!(output, folder, "not compacted: {why}");
                self.left_alone.insert(folder.to_owned());
            }
        }
    }
}

/// Whether it has objects, and no folders that could be exchanged.
fn is_remote(store: &SharedStore) -> bool {
    store.file("x").is_none()
}

/// About how large a merged file is to be.
fn target_bytes(flow: &Flow, table: &TableSettings) -> u64 {
    let asked = flow.sink.maintenance.as_ref().and_then(|maintenance| maintenance.target_file_size);
    asked.map_or(table.target_file_bytes, ByteSize::as_bytes)
}
