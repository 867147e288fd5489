//! What the job log asks of an output, whatever lies behind it. Nothing here, and nothing in the log, knows what a path means.
//!
//! ```text
//! at start   claim ── publish what is pending ── sweep
//! a commit   (stage: write, finish) ── settle ── DECIDE ── publish ── tell ── release
//! a rewind   set_aside
//! ```
//!
//! What rows become is a `sink`'s: its stage says what it wrote, the log keeps that, and hands it back here. An output is
//! opened by its root alone, since a log is also finished, rewound and proved without the job that wrote it. Whoever has
//! nothing to publish, since its rows are out before the decision, has only a root: every other answer has a default.

pub mod delta;
pub mod files;
pub mod kind;

use std::collections::BTreeSet;
use std::rc::Rc;

use async_trait::async_trait;

use self::delta::DeltaTable;
use crate::checkpoint::log::LogError;
use crate::checkpoint::owner::{Claim, Owned, Owner};
use crate::checkpoint::progress::Progress;
use crate::checkpoint::record::OutputCommit;
use crate::checkpoint::rewind::RewindPlan;
use crate::delta::columns::Columns;
use crate::storage::{SharedStore, StoreError};

/// An output that several parts of one job share.
pub type SharedOutput = Rc<dyn Output>;

/// What a decided commit wrote to an output.
#[derive(Clone, Copy, Debug)]
pub struct Decided<'a> {
    /// Identity of the log.
    pub log_id: &'a str,
    /// Name of the output.
    pub output: &'a str,
    /// Version of the commit.
    pub version: u64,
    /// What the stage said.
    pub written: &'a OutputCommit,
    /// This process has just written it, under names that nobody else has.
    pub is_ours: bool,
}

/// What an owner that starts may remove.
#[derive(Clone, Copy, Debug)]
pub struct Sweep<'a> {
    /// Identity of the log.
    pub log_id: &'a str,
    /// Its present epoch: what epochs before it left may go.
    pub epoch: u64,
    /// The output is this log's: what other logs left may go as well.
    pub is_owned: bool,
    /// What commits that are not published yet need.
    pub pending: &'a BTreeSet<String>,
}

/// What the log of a table says of its files, which other writers may add, too, and put together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Paths of those that readers see.
    pub active: BTreeSet<String>,
    /// Paths of those that readers saw, and whose rows other writers have put into other files, or taken away.
    pub replaced: BTreeSet<String>,
}

/// Where rows of a job become visible.
///
/// Used by one thread. A future that is dropped may or may not have had its effect, like a crash: everything here may be
/// done again.
#[async_trait(?Send)]
pub trait Output {
    /// The place as an URL, as it stands in the log and in messages.
    fn root(&self) -> &str;

    /// The files that it is made of, for those who read or prove them; `None` if it is not made of files.
    fn files(&self) -> Option<&SharedStore> {
        None
    }

    /// It, if it is a Delta table, for whoever keeps it up.
    fn as_delta(&self) -> Option<&DeltaTable> {
        None
    }

    /// Checks that it can be written and keeps its promises.
    async fn probe(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Looks, without writing, whether a table of another kind lies there.
    async fn check_kind(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Looks, without writing, whether rows with these columns fit to what is there.
    async fn check_columns(&self, _columns: &Columns) -> Result<(), StoreError> {
        Ok(())
    }

    /// Takes up which columns the rows have that are written from now on.
    async fn describe(&self, _columns: &Columns) -> Result<(), StoreError> {
        Ok(())
    }

    /// Takes what a stage knows of the columns of a file that it has just finished, so that it need not be read again.
    fn note(&self, _path: &str, _statistics: String) {}

    /// The files of a table that has a log of its own; `None` where readers see every file in its place.
    async fn listed(&self) -> Result<Option<Listed>, StoreError> {
        Ok(None)
    }

    /// Whether nobody has written there yet.
    async fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Whose it is; `None` for one that is nobody's, or that anybody may write.
    async fn owner(&self) -> Result<Option<Owned>, StoreError> {
        Ok(None)
    }

    /// Looks, without writing, whether it lies where an output may lie.
    fn check_place(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Claims it for a log. `take_over`: also from another log.
    async fn claim(&self, _us: &Owner, _take_over: bool) -> Result<Claim, StoreError> {
        Ok(Claim::Ours { number: 0, before: None })
    }

    /// Whether the claim with this number still stands.
    async fn is_still_ours(&self, _claim: u64) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Makes durable what a commit is about to name.
    async fn settle(&self, _written: &OutputCommit) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether all that a commit wrote is here, visible or not yet.
    async fn holds(&self, _written: &OutputCommit, _is_owned: bool) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Makes visible what was decided. Done again, it changes nothing.
    async fn publish(&self, _decided: Decided<'_>) -> Result<(), LogError> {
        Ok(())
    }

    /// Removes what publishing needed, once the log says that it is published.
    async fn release(&self, _written: &OutputCommit) -> Result<(), StoreError> {
        Ok(())
    }

    /// Tells those who wait for complete input.
    async fn tell(&self, _progress: &Progress) -> Result<(), StoreError> {
        Ok(())
    }

    /// Removes what owners before left behind.
    async fn sweep(&self, _sweep: Sweep<'_>) -> Result<(), LogError> {
        Ok(())
    }

    /// Looks, without writing, whether a rewind can take from the readers what it makes void.
    async fn check_rewind(&self, _plan: &RewindPlan) -> Result<(), StoreError> {
        Ok(())
    }

    /// Takes from the readers what a rewind made void, and removes what nobody may publish any more.
    async fn set_aside(&self, _plan: &RewindPlan) -> Result<(), LogError> {
        Ok(())
    }
}
