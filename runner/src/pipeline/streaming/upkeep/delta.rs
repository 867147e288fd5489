//! Upkeep of a Delta table: its log exchanges files in one version, in folders and in object stores.

use crate::checkpoint::output::delta::DeltaTable;
use crate::pipeline::error::JobError;
use crate::pipeline::job_plan::Flow;
use crate::pipeline::streaming::start::Session;
use crate::pipeline::streaming::upkeep::rearrange::{self, Rearranged};
use crate::sink::SinkError;
use crate::sink::table::TableSettings;
use crate::sink::table::merge::{Merged, Merger, Unmerged};

/// Time between two looks for files that nobody wants any more, in microseconds: each reads the log of the table.
const CLEAR: i64 = 3_600_000_000;

impl Session<'_> {
    /// Does one piece of work on a Delta table; whether there was any.
    pub(super) async fn keep_up_delta(
        &mut self,
        flow: &Flow,
        table: &TableSettings,
        delta: &DeltaTable,
        now: i64,
    ) -> Result<bool, JobError> {
        let Some(files) = delta.table_files().await? else { return Ok(false) };
        let Some(upkept) = self.upkept(flow, table, now) else { return Ok(false) };
        let output = &flow.output;
        if files.active.iter().any(|file| rearrange::is_old(file, &upkept)) {
            let why = "sink.maintenance.retain removes days that are old";
            let files = delta.remove(|file| rearrange::is_old(file, &upkept), why, now).await?;
            tracing::info!(output, files, "removed: their days are older than sink.maintenance.retain");
            return Ok(true);
        }
        let Some(work) = rearrange::next(&files, &upkept) else {
            return self.clear(flow, delta, now).await.map(|()| false);
        };
        let answer = rearranged(&self.merger(flow, table, delta.store()), delta, &work, now).await?;
        self.tell_merged(flow, &work.merge.folder, answer);
        Ok(true)
    }

    /// Deletes, from time to time, what was removed from the table so long ago that nobody may want it any more.
    async fn clear(&mut self, flow: &Flow, delta: &DeltaTable, now: i64) -> Result<(), JobError> {
        if self.cleared.get(&flow.output).is_some_and(|last| now.saturating_sub(*last) < CLEAR) {
            return Ok(());
        }
        let files = delta.clear(&self.log.state().start.log_id, now).await?;
        if files > 0 {
            tracing::info!(
                output = flow.output,
                files,
                "deleted: removed longer ago than delta.deletedFileRetentionDuration"
            );
        }
        self.cleared.insert(flow.output.clone(), now);
        Ok(())
    }
}

/// Writes rows into fewer files and exchanges them.
async fn rearranged(
    merger: &Merger<'_>,
    delta: &DeltaTable,
    work: &Rearranged,
    now: i64,
) -> Result<Result<Merged, Unmerged>, SinkError> {
    let written = match merger.rewrite(&work.merge, work.versions).await? {
        Ok(written) => written,
        Err(why) => return Ok(Err(why)),
    };
    let new: Vec<_> = written.iter().map(|written| (&written.file, written.statistics.as_str())).collect();
    // After an error nobody knows whether the table has them: they stay, and VACUUM knows.
    if delta.exchange(&work.files, &new, now).await? {
        let rows = written.iter().map(|written| written.file.rows).sum();
        return Ok(Ok(Merged { read: work.files.len(), written: written.len(), rows }));
    }
    let paths: Vec<_> = written.into_iter().map(|written| written.file.path).collect();
    merger.store.delete_all(&paths).await?;
    Ok(Err(Unmerged::Overtaken))
}
