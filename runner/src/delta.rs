//! Delta tables: what the log of one says, and how a version is added to it.
//!
//! ```text
//! read    list _delta_log ─ get the newest checkpoint and the versions behind it ─ replay (delta-rs, in memory) ─ Head
//! append  create _delta_log/<version + 1>.json if absent ─ ours, or somebody else's: take that up and decide again
//! ```
//!
//! Storage alone touches files: a version of a table becomes visible by the same create-if-absent that decides in a job log,
//! with the same fsyncs, lost replies and faults. delta-rs reads and writes a copy of the log in memory (docs/adr/0029). What
//! belongs into a version is decided by whoever calls; a caller that lost a version has to decide again.

pub mod action;
mod cleanup;
pub mod columns;
pub mod footer;
pub mod partition;
pub mod protocol;
pub mod replay;
pub mod statistics;
#[cfg(test)]
pub(crate) mod tests;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use datafusion::arrow::datatypes::SchemaRef;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::delta::action::Line;
use crate::delta::columns::{ColumnRefused, Misfit};
use crate::delta::protocol::Protocol;
use crate::delta::replay::{ActiveFile, LogFiles, TableFiles};
use crate::storage::paths::DELTA_LOG as LOG;
use crate::storage::{Created, SharedStore, StoreError};

/// Says which checkpoint is the newest.
const LAST_CHECKPOINT: &str = "_delta_log/_last_checkpoint";
/// Objects of a log that are read side by side.
const READ_AT_ONCE: usize = 16;
/// How often a version is tried again that others were faster to take.
pub const ATTEMPTS_MAX: u32 = 100;
/// Versions between two checkpoints, where the table says nothing: readers begin at the last one.
const CHECKPOINT_INTERVAL: u64 = 100;

/// What a table is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Identity of the table.
    pub id: String,
    /// Its columns, as JSON in a text.
    pub schema_string: String,
    /// Columns whose values stand in the log.
    #[serde(default)]
    pub partition_columns: Vec<String>,
    /// Its properties.
    #[serde(default)]
    pub configuration: BTreeMap<String, Option<String>>,
    /// What else is said of it.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

impl Metadata {
    /// A property.
    pub fn property(&self, key: &str) -> Option<&str> {
        self.configuration.get(key)?.as_deref()
    }

    /// What stands behind a beginning of the keys of its properties.
    fn configuration_keys<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.configuration.keys().filter_map(move |key| key.strip_prefix(prefix))
    }

    fn maps_columns(&self) -> bool {
        self.property("delta.columnMapping.mode").is_some_and(|mode| mode != "none")
    }

    /// Rows may only be added.
    pub fn is_append_only(&self) -> bool {
        self.property("delta.appendOnly").is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    fn checkpoint_interval(&self) -> u64 {
        let interval = self.property("delta.checkpointInterval").and_then(|text| text.parse().ok());
        interval.filter(|interval| *interval > 0).unwrap_or(CHECKPOINT_INTERVAL)
    }
}

/// A table as of a version.
#[derive(Clone, Debug)]
pub struct Head {
    /// The version.
    pub version: u64,
    /// Who may read and write it.
    pub protocol: Protocol,
    /// What it is.
    pub metadata: Metadata,
    /// Versions of the writers that were asked for.
    writers: BTreeMap<String, Option<i64>>,
    files: LogFiles,
}

impl Head {
    /// The version of a writer: what it has written, by its own count.
    ///
    /// # Errors
    /// When the log is damaged.
    pub fn writer(&mut self, root: &str, id: &str) -> Result<Option<i64>, DeltaError> {
        if let Some(known) = self.writers.get(id) {
            return Ok(*known);
        }
        let version = replay::writer(&self.files, id).map_err(|problem| damaged(root, problem))?;
        self.writers.insert(id.to_owned(), version);
        Ok(version)
    }

    /// The files that readers see.
    ///
    /// # Errors
    /// When the log is damaged.
    pub fn active_files(&self, root: &str) -> Result<Vec<ActiveFile>, DeltaError> {
        replay::active_files(&self.files).map_err(|problem| damaged(root, problem))
    }

    /// The columns of the table, and the files that readers see.
    ///
    /// # Errors
    /// When the log is damaged.
    pub fn table(&self, root: &str) -> Result<(SchemaRef, Vec<ActiveFile>), DeltaError> {
        replay::table(&self.files).map_err(|problem| damaged(root, problem))
    }

    /// Which of these paths the table has, or had.
    ///
    /// # Errors
    /// When the log is damaged.
    pub fn known(&self, root: &str, paths: &BTreeSet<String>) -> Result<BTreeSet<String>, DeltaError> {
        replay::known(&self.files, paths).map_err(|problem| damaged(root, problem))
    }

    /// Paths of the files that readers see, and of those that the table had, as far as its log still says so.
    ///
    /// # Errors
    /// When the log is damaged.
    pub fn paths(&self, root: &str) -> Result<(BTreeSet<String>, BTreeSet<String>), DeltaError> {
        replay::known_paths(&self.files).map_err(|problem| damaged(root, problem))
    }

    /// The files that the table has and had.
    ///
    /// # Errors
    /// When the log is damaged.
    pub fn files(&self, root: &str) -> Result<TableFiles, DeltaError> {
        replay::table_files(&self.files).map_err(|problem| damaged(root, problem))
    }

    fn apply(&mut self, version: u64, content: &Bytes) -> Result<(), String> {
        for line in Line::read_all(content)? {
            self.protocol = line.protocol.unwrap_or_else(|| std::mem::take(&mut self.protocol));
            self.metadata = line.meta_data.unwrap_or_else(|| std::mem::take(&mut self.metadata));
            if let Some(txn) = line.txn
                && let Some(known) = self.writers.get_mut(&txn.app_id)
            {
                *known = Some(txn.version);
            }
        }
        self.version = version;
        self.files.tail.insert(version, content.clone());
        Ok(())
    }
}

/// Why a table cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// The store did not do what was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its log makes no table.
    #[error("the log of the Delta table {root} cannot be read: {problem}")]
    Damaged {
        /// The table.
        root: String,
        /// What is wrong.
        problem: String,
    },
    /// It needs what this program does not know.
    #[error("the Delta table {root} needs {}, which this program does not know", features.join(", "))]
    Features {
        /// The table.
        root: String,
        /// Their names.
        features: Vec<String>,
    },
    /// Its columns are others.
    #[error("the Delta table {root} does not fit to the job: {misfit}")]
    Columns {
        /// The table.
        root: String,
        /// What does not fit.
        misfit: Misfit,
    },
    /// A column that no Delta table has.
    #[error("{root}: {refused}")]
    Column {
        /// The table.
        root: String,
        /// Which, and why.
        refused: ColumnRefused,
    },
    /// Nothing may be removed from it.
    #[error("the Delta table {root} only takes new rows (delta.appendOnly), and {what}")]
    AppendOnly {
        /// The table.
        root: String,
        /// What would have to be removed.
        what: String,
    },
    /// Its log and the job's contradict each other.
    #[error("the Delta table {root} and the log of the job contradict each other: {problem}")]
    Contradiction {
        /// The table.
        root: String,
        /// How.
        problem: String,
    },
    /// Others were always faster.
    #[error("the Delta table {root}: other writers were faster {ATTEMPTS_MAX} times in a row")]
    Contended {
        /// The table.
        root: String,
    },
}

impl DeltaError {
    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::Store(_) | Self::Contended { .. } => "it is tried again; if it stays, look at the store".to_owned(),
            Self::Damaged { .. } => {
                "bring the objects of _delta_log back from a backup (a damaged checkpoint may be removed as long as the versions \
                 before it are there); or choose another sink.path"
            }
            .to_owned(),
            Self::Features { .. } => {
                "remove what is named from the table (ALTER TABLE … DROP FEATURE, SET TBLPROPERTIES), or choose another table"
            }
            .to_owned(),
            Self::Columns { .. } => {
                "change the query so that its columns fit (CAST, AS), or choose another sink.path; what is decided is published \
                 as soon as the table fits"
            }
            .to_owned(),
            Self::Column { .. } => "correct the query".to_owned(),
            Self::AppendOnly { .. } => {
                "set delta.appendOnly to false (ALTER TABLE … SET TBLPROPERTIES), or choose another sink.path".to_owned()
            }
            Self::Contradiction { .. } => {
                "bring the table or the checkpoint back to what it was (RESTORE TABLE, a backup), or go back with \
                 `data-platform checkpoint rewind`; `data-platform audit` says what is where"
            }
            .to_owned(),
        }
    }
}

impl From<DeltaError> for StoreError {
    fn from(error: DeltaError) -> Self {
        match error {
            DeltaError::Store(error) => error,
            DeltaError::Contended { ref root } => {
                Self::Failed { operation: "commit to", path: root.clone(), source: Box::new(error) }
            }
            other => Self::Table { cure: other.cure(), message: other.to_string() },
        }
    }
}

fn damaged(root: &str, problem: impl Into<String>) -> DeltaError {
    DeltaError::Damaged { root: root.to_owned(), problem: problem.into() }
}

/// Whether a name in the folder of the log is that of a version or of a checkpoint.
pub fn is_of_log(name: &str) -> bool {
    LogFiles::is_part(&format!("{LOG}/{name}"))
}

/// Path of the object of a version.
pub fn version_path(version: u64) -> String {
    format!("{LOG}/{version:020}.json")
}

/// What came of an attempt to add a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is ours.
    Yes,
    /// Somebody else has it, and it is taken up.
    Lost,
}

/// The log of a table.
pub struct DeltaLog {
    store: SharedStore,
    /// When old versions were last looked for, in microseconds since 1970.
    cleaned: Cell<Option<i64>>,
}

impl DeltaLog {
    /// The log of the table in a store.
    pub fn new(store: SharedStore) -> Self {
        Self { store, cleaned: Cell::default() }
    }

    /// The store.
    pub fn store(&self) -> &SharedStore {
        &self.store
    }

    fn root(&self) -> &str {
        self.store.root()
    }

    /// Whether there is a table.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn exists(&self) -> Result<bool, StoreError> {
        Ok(self.store.list(LOG).await?.iter().any(|entry| LogFiles::is_part(&entry.path)))
    }

    /// Reads the table as of its newest version; `None` if there is none.
    ///
    /// # Errors
    /// When the store does not answer, the log is damaged, or the table needs what readers of this program do not know.
    pub async fn read(&self) -> Result<Option<Head>, DeltaError> {
        let listed: Vec<_> = self.store.list(LOG).await?.into_iter().map(|entry| entry.path).collect();
        let Some(names) = replay::needed(&listed).map_err(|problem| damaged(self.root(), problem))? else {
            return Ok(None);
        };
        let get = |path: String| async move {
            let content = self.store.get(&path).await?;
            let gone = || damaged(self.root(), format!("{path} is gone"));
            content.map(|content| (path.clone(), content)).ok_or_else(gone)
        };
        let mut contents = Vec::new();
        for paths in names.objects().chunks(READ_AT_ONCE) {
            contents.extend(try_join_all(paths.iter().cloned().map(get)).await?);
        }
        let files = names.with(contents);
        self.check_readable(&files)?;
        let state = replay::state(&files).map_err(|problem| damaged(self.root(), problem))?;
        let unknown = state.protocol.unread(&state.metadata);
        if !unknown.is_empty() {
            return Err(DeltaError::Features { root: self.root().to_owned(), features: unknown });
        }
        let writers = BTreeMap::new();
        Ok(Some(Head { version: state.version, protocol: state.protocol, metadata: state.metadata, writers, files }))
    }

    /// The newest protocol that stands in the versions behind the checkpoint is looked at first, since delta-rs does not name
    /// what it does not know.
    fn check_readable(&self, files: &LogFiles) -> Result<(), DeltaError> {
        for content in files.tail.values().rev() {
            let lines = Line::read_all(content).map_err(|problem| damaged(self.root(), problem))?;
            let Some(protocol) = lines.into_iter().find_map(|line| line.protocol) else { continue };
            let unknown = protocol.unread(&Metadata::default());
            return match unknown.is_empty() {
                true => Ok(()),
                false => Err(DeltaError::Features { root: self.root().to_owned(), features: unknown }),
            };
        }
        Ok(())
    }

    /// Whether this program may write to the table.
    ///
    /// # Errors
    /// [`DeltaError::Features`].
    pub fn check_writable(&self, head: &Head) -> Result<(), DeltaError> {
        let features = head.protocol.unwritten(&head.metadata);
        if features.is_empty() {
            return Ok(());
        }
        Err(DeltaError::Features { root: self.root().to_owned(), features })
    }

    /// Adds a version. Lost: the head is that of whoever was faster, and everything is to be decided again.
    ///
    /// # Errors
    /// When the store does not answer, or the log was damaged or removed meanwhile.
    pub async fn append(&self, head: &mut Option<Head>, content: Bytes) -> Result<Appended, DeltaError> {
        let version = head.as_ref().map_or(0, |head| head.version + 1);
        if let Some(head) = head.as_ref() {
            let newest = version_path(head.version);
            if self.store.length(&newest).await?.is_none() {
                return Err(damaged(self.root(), format!("{newest} is gone")));
            }
        }
        let path = version_path(version);
        let mut answer = self.store.create(&path, content.clone()).await;
        if matches!(answer, Err(StoreError::Unknown { .. })) {
            // Either it is there now, or it may be tried once more.
            answer = match self.store.get(&path).await? {
                Some(_) => Ok(Created::AlreadyExists),
                None => self.store.create(&path, content.clone()).await,
            };
        }
        let (found, is_ours) = match answer? {
            Created::Yes => (content, true),
            Created::AlreadyExists => {
                let found = self.store.get(&path).await?;
                let found = found.ok_or_else(|| damaged(self.root(), format!("{path} is gone")))?;
                let is_ours = found == content;
                if is_ours {
                    self.store.sync_entries(std::slice::from_ref(&path)).await?;
                }
                (found, is_ours)
            }
        };
        match head {
            Some(head) => head.apply(version, &found).map_err(|problem| damaged(self.root(), problem))?,
            None => *head = self.read().await?,
        }
        Ok(if is_ours { Appended::Yes } else { Appended::Lost })
    }

    /// Writes a checkpoint of the head, if one is due. Readers need none: what goes wrong is told and tried again later.
    pub async fn checkpoint_if_due(&self, head: &mut Head) {
        let since = head.version.saturating_sub(head.files.checkpoint_version().unwrap_or_default());
        if since < head.metadata.checkpoint_interval() {
            return;
        }
        match self.checkpoint(head).await {
            Ok(()) => {
                tracing::debug!(table = self.root(), version = head.version, "wrote a checkpoint of the table");
                self.clean_if_due(head).await;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot write a checkpoint of the table; readers read more versions until the next");
            }
        }
    }

    async fn checkpoint(&self, head: &mut Head) -> Result<(), DeltaError> {
        let made = replay::checkpoint(&head.files).map_err(|problem| damaged(self.root(), problem))?;
        if self.store.create(&made.path, made.content.clone()).await? == Created::Yes {
            self.store.replace(LAST_CHECKPOINT, made.hint).await?;
        }
        head.files.begin_at(head.version, (made.path, made.content));
        Ok(())
    }
}
