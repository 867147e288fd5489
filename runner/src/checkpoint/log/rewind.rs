//! Carries a rewind out. Every step can be interrupted and repeated: what is done is found done.
//!
//! ```text
//! decide   create log/<version>.json       from here on nobody who ran before can commit
//! outputs  set aside what is void          each as it can (see `output`)
//! bases, records   move what is void       the highest version first; with the last one the rewind is finished
//! base     write the job as it goes on
//! ```

use bytes::Bytes;

use crate::checkpoint::decide::{self, SlotDecision};
use crate::checkpoint::log::{LogError, OpenOutput};
use crate::checkpoint::output::SharedOutput;
use crate::checkpoint::record::{self, Record};
use crate::checkpoint::rewind::RewindPlan;
use crate::storage::{Created, SharedStore, StoreError, move_aside, paths};

/// Does what the plan says.
///
/// # Errors
/// [`LogError::Reload`] when somebody wrote the log since it was read; [`LogError::Store`] when a store does not answer:
/// then the rewind is to be called again, with a plan from what is there now.
pub async fn carry_out(store: &SharedStore, open_output: &OpenOutput, plan: &RewindPlan) -> Result<(), LogError> {
    let mut outputs: Vec<SharedOutput> = Vec::new();
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
            if !output.is_empty().await? {
                output.probe().await?;
                output.check_rewind(plan).await?;
            }
        }
        decide(store, plan).await?;
    }
    for output in &outputs {
        output.set_aside(plan).await?;
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
