//! Where a test may stop the process, slow its disk, or take a guard away.
//!
//! The program calls [`Faults::reached`] at every named step of a commit and asks [`Faults::guard`] before every guard.
//! The release binary passes [`NoFaults`], which does nothing and cannot be configured; the test binary passes one that
//! reads its orders from the environment. So the tests run the very code that users run.

use std::time::Duration;

/// A step of a commit, of a start or of the upkeep. [`Moment`] says on which side of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Record 0 is created.
    Start,
    /// The `own` record is created.
    Own,
    /// An output is claimed.
    Claim,
    /// A micro-batch is planned.
    Plan,
    /// The records of a micro-batch are read and decoded.
    Read,
    /// Closed windows are computed.
    Close,
    /// A staged file is opened and its first bytes are written.
    StageOpen,
    /// A staged file is finished: written and synced.
    StageFinish,
    /// A state object is written.
    State,
    /// The folders of staged files and state objects are synced.
    SyncStaged,
    /// Dead letters are acknowledged by the broker.
    DeadLetters,
    /// Rows are acknowledged by the broker.
    Send,
    /// The commit record is created: the decision. After it the batch counts.
    Decide,
    /// The temporary file of a log record is synced and not yet linked.
    LinkRecord,
    /// The log folder is synced.
    SyncLog,
    /// The newest base is looked for, before publishing.
    CheckBase,
    /// A file gets its final name.
    Publish,
    /// The folders of final files are synced.
    SyncPublished,
    /// The `published` record is created.
    Published,
    /// `_progress.json` is replaced.
    Progress,
    /// A staged file is unlinked.
    Unstage,
    /// Offsets are told to Kafka's group.
    GroupOffsets,
    /// A base is created.
    Base,
    /// The `base` record is created.
    BaseRecord,
    /// Log records below the oldest kept base are removed.
    CollectLog,
    /// State objects that nothing names are removed.
    CollectState,
    /// Staging folders of superseded epochs are removed.
    CollectStaging,
    /// What was written anew takes the place of the old: a folder, or files in the log of a Delta table. Only where the sink
    /// asks for it.
    Exchange,
    /// The state is restored from a snapshot.
    Restore,
    /// A logged batch is executed again.
    Replay,
}

impl Step {
    /// Every step, in the order of a job's life.
    pub const ALL: [Self; 30] = [
        Self::Start,
        Self::Own,
        Self::Claim,
        Self::Restore,
        Self::Replay,
        Self::Plan,
        Self::Read,
        Self::Close,
        Self::StageOpen,
        Self::StageFinish,
        Self::State,
        Self::SyncStaged,
        Self::DeadLetters,
        Self::Send,
        Self::LinkRecord,
        Self::SyncLog,
        Self::Decide,
        Self::CheckBase,
        Self::Publish,
        Self::SyncPublished,
        Self::Published,
        Self::Progress,
        Self::Unstage,
        Self::GroupOffsets,
        Self::Base,
        Self::BaseRecord,
        Self::CollectLog,
        Self::CollectState,
        Self::CollectStaging,
        Self::Exchange,
    ];

    /// Name in tests and messages: `decide`, `stage_open`.
    pub fn name(self) -> String {
        let mut name = String::new();
        for c in format!("{self:?}").chars() {
            if c.is_ascii_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(c.to_ascii_lowercase());
        }
        name
    }
}

/// On which side of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Moment {
    /// Its effect is not there.
    Before,
    /// Its effect is there.
    After,
}

/// A rule that makes the result exact. Tests take one away and must then see a wrong result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Guard {
    /// A lost slot of the log stops the process instead of being tried again behind it.
    Fence,
    /// A table is claimed before the first file is staged there, and nobody publishes into another log's table.
    Claim,
    /// A newer base is looked for before publishing.
    BaseCheck,
    /// Files are written aside and become visible only after the decision.
    Staging,
    /// Everything that a log record names is durable before the record, and final names before `published`.
    DurabilityOrder,
    /// A rebuild repeats the logged cuts, not cuts of its own.
    LoggedCuts,
    /// Late is what the committed watermark has passed, not what the batch at hand has.
    CommittedWatermark,
    /// Start offsets are resolved and logged before the first read.
    RecordZero,
}

impl Guard {
    /// Every guard.
    pub const ALL: [Self; 8] = [
        Self::Fence,
        Self::Claim,
        Self::BaseCheck,
        Self::Staging,
        Self::DurabilityOrder,
        Self::LoggedCuts,
        Self::CommittedWatermark,
        Self::RecordZero,
    ];
}

/// What a test may do to the program.
pub trait Faults: Send + Sync {
    /// The program reached a step. A test may end or stop the process here.
    fn reached(&self, step: Step, moment: Moment);

    /// Whether a guard is on.
    fn guard(&self, guard: Guard) -> bool;

    /// How long every write to a local disk takes in addition.
    fn disk_delay(&self) -> Duration;

    /// How long nothing comes before a source rests, if otherwise than usual.
    fn rest_after(&self) -> Option<Duration> {
        None
    }
}

/// Every guard is on, but nothing waits for the disk: for tests that write many small files and never lose power.
#[cfg(test)]
pub(crate) struct NoSync;

#[cfg(test)]
impl Faults for NoSync {
    fn reached(&self, _: Step, _: Moment) {}

    fn guard(&self, guard: Guard) -> bool {
        guard != Guard::DurabilityOrder
    }

    fn disk_delay(&self) -> Duration {
        Duration::ZERO
    }
}

/// No faults: what users run.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFaults;

impl Faults for NoFaults {
    fn reached(&self, _: Step, _: Moment) {}

    fn guard(&self, _: Guard) -> bool {
        true
    }

    fn disk_delay(&self) -> Duration {
        Duration::ZERO
    }
}

/// Runs one step between its two moments.
pub(crate) async fn step<T, E>(
    faults: &dyn Faults,
    step: Step,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    faults.reached(step, Moment::Before);
    let result = work.await?;
    faults.reached(step, Moment::After);
    Ok(result)
}
