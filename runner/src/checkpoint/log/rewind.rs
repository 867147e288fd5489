//! Carries a rewind out. Every step can be interrupted and repeated: what is done is found done.
//!
//! ```text
//! decide   create log/<version>.json       from here on nobody who ran before can commit
//! progress lower what readers are told     before rows vanish
//! unstage  remove staged files             from here on nobody who slept can publish
//! files    move final files aside          invisible for `**/*.parquet`
//! bases, records   move what is void       the highest version first; with the last one the rewind is finished
//! base     write the job as it goes on
//! ```

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::checkpoint::decide::{self, SlotDecision};
use crate::checkpoint::log::{LogError, OpenOutput};
use crate::checkpoint::owner;
use crate::checkpoint::paths::{self, format1};
use crate::checkpoint::progress::{Progress, read_progress, write_progress};
use crate::checkpoint::record::{self, Record};
use crate::checkpoint::rewind::RewindPlan;
use crate::checkpoint::store::{Created, Published, SharedStore, StoreError};

/// A file of an output that a rewind takes from the readers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VoidFile {
    /// Version of the commit that wrote it.
    pub version: u64,
    /// Path below the output's root.
    pub path: String,
    /// Length.
    pub bytes: u64,
}

/// Files of an output that the void versions wrote, by their names.
///
/// # Errors
/// When the output cannot be listed.
pub async fn void_files(output: &SharedStore, plan: &RewindPlan) -> Result<Vec<VoidFile>, StoreError> {
    let log_id = &plan.after.start.log_id;
    let is_void = |version: &u64| (plan.rewind.to + 1..plan.version).contains(version);
    let listed = output.list("").await?.into_iter();
    let files = listed.filter_map(|entry| {
        let version = paths::final_version(&entry.path, log_id).filter(is_void)?;
        Some(VoidFile { version, path: entry.path, bytes: entry.bytes })
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    Ok(files)
}

/// Does what the plan says.
///
/// # Errors
/// [`LogError::Reload`] when somebody wrote the log since it was read; [`LogError::Store`] when a store does not answer:
/// then the rewind is to be called again, with a plan from what is there now.
pub async fn carry_out(store: &SharedStore, open_output: &OpenOutput, plan: &RewindPlan) -> Result<(), LogError> {
    let mut outputs: Vec<SharedStore> = Vec::new();
    for root in &plan.outputs {
        let output = open_output(root)?;
        // A table that was moved has several roots in the log.
        if !outputs.iter().any(|known| known.root() == output.root()) {
            outputs.push(output);
        }
    }
    if !plan.is_decided {
        // A store that cannot be written is found out before anything is decided.
        for output in &outputs {
            if !output.list("").await?.is_empty() {
                output.probe().await?;
            }
        }
        decide(store, plan).await?;
    }
    for output in &outputs {
        lower_progress(output, plan).await?;
        unstage(output, plan).await?;
        let files: Vec<_> = void_files(output, plan).await?.into_iter().map(|file| file.path).collect();
        let aside = |path: &String| paths::rewound_file(&plan.after.start.log_id, plan.version, path);
        move_aside(output, &files, aside).await?;
    }
    let bases: Vec<_> = plan.bases.iter().map(|version| paths::base(*version)).collect();
    let aside = |path: &String| paths::rewound_object(plan.version, path);
    move_aside(store, &bases, aside).await?;
    let records: Vec<_> = plan.records.iter().rev().map(|version| paths::log_record(*version)).collect();
    move_aside(store, &records, aside).await?;
    let base = record::encode(plan.version, &plan.after);
    store.create(&paths::base(plan.version), base.into()).await?;
    Ok(())
}

async fn decide(store: &SharedStore, plan: &RewindPlan) -> Result<(), LogError> {
    let path = paths::log_record(plan.version);
    let bytes = record::encode(plan.version, &Record::Rewind(Box::new(plan.rewind.clone())));
    let answer = match store.create(&path, Bytes::copy_from_slice(&bytes)).await {
        Ok(Created::Yes) => return Ok(()),
        Ok(Created::AlreadyExists) => Some(Created::AlreadyExists),
        Err(StoreError::Unknown { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let found = store.get(&path).await?;
    match decide::slot(&bytes, answer, found.as_deref()) {
        SlotDecision::Ours => Ok(store.sync_entries(&[path]).await?),
        SlotDecision::TryAgain | SlotDecision::Reload => Err(LogError::Reload { version: plan.version }),
    }
}

async fn lower_progress(output: &SharedStore, plan: &RewindPlan) -> Result<(), LogError> {
    let log_id = &plan.after.start.log_id;
    let told = read_progress(output).await?;
    if told.is_none_or(|told| told.log_id != *log_id || told.published >= plan.version) {
        return Ok(());
    }
    let watermark = plan.visible_watermark;
    let known = plan.after.outputs.values().filter(|known| known.root == output.root());
    let complete_until = known.filter_map(|known| known.complete_until).min().min(watermark);
    let progress =
        Progress { log_id: log_id.clone(), published: plan.version, watermark, complete_until, finished: Vec::new() };
    write_progress(output, &progress).await?;
    // A reader that is older than this program must not read what is void now.
    Ok(output.delete(format1::PROGRESS).await?)
}

/// Staged files of every owner before, except those that the next start has to publish.
async fn unstage(output: &SharedStore, plan: &RewindPlan) -> Result<(), LogError> {
    let named = plan.after.pending.values().flat_map(|outputs| outputs.values()).flat_map(|output| &output.files);
    let pending: BTreeSet<_> = named.map(|file| file.stage.clone()).collect();
    let listed = output.list(paths::STAGING).await?;
    let log_id = &plan.after.start.log_id;
    let mut garbage = decide::garbage_staging(&listed, log_id, plan.rewind.own.epoch, &pending);
    if owner::newest(output).await?.is_none_or(|owned| owned.owner.log_id == *log_id) {
        garbage.extend(decide::garbage_format1(&output.list(format1::STAGING).await?, &pending));
    }
    for path in &garbage {
        output.delete(path).await?;
    }
    Ok(output.sync_entries(&garbage).await?)
}

/// Gives objects another name, durably, and never overwrites or loses one.
async fn move_aside(store: &SharedStore, from: &[String], aside: impl Fn(&String) -> String) -> Result<(), LogError> {
    let mut targets = Vec::with_capacity(from.len());
    for path in from {
        let target = aside(path);
        if store.publish(path, &target).await? == Published::AlreadyExists {
            let (here, there) = (store.facts(path).await?, store.facts(&target).await?);
            if here.is_some() && here != there {
                let path = format!("{}/{target}", store.root());
                return Err(StoreError::Unsuitable(format!(
                    "{path} exists already and is another object: move it away"
                ))
                .into());
            }
        }
        targets.push(target);
    }
    store.sync_entries(&targets).await?;
    for path in from {
        store.delete(path).await?;
    }
    Ok(store.sync_entries(from).await?)
}
