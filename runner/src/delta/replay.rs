//! What the objects of a log add up to, by delta-rs, which sees a copy of them in memory.
//!
//! Pure: bytes in, facts out. The futures of delta-rs run on a thread of their own, so that it does not matter which runtime
//! the caller has; a panic in there is a log that cannot be read.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::SchemaRef;
use deltalake_core::DeltaTable;
use deltalake_core::checkpoints::create_checkpoint;
use deltalake_core::kernel::{EagerSnapshot, Snapshot};
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake_core::table::config::TablePropertiesExt;
use deltalake_core::table::state::DeltaTableState;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::de::DeserializeOwned;
use url::Url;

use crate::delta::action::Line;
use crate::delta::protocol::Protocol;
use crate::delta::{LAST_CHECKPOINT, LOG, Metadata, version_path};

/// Stack of the thread: schemas may be nested.
const STACK_BYTES: usize = 8 << 20;

/// The objects of a log that make a table: the newest checkpoint, and every version behind it.
#[derive(Clone, Debug, Default)]
pub struct LogFiles {
    /// Version and objects of the checkpoint.
    checkpoint: Option<(u64, Vec<(String, Bytes)>)>,
    /// The versions behind it.
    pub(super) tail: BTreeMap<u64, Bytes>,
}

/// Which objects those are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needed {
    checkpoint: Option<(u64, Vec<String>)>,
    versions: Vec<u64>,
}

/// What they say.
pub(super) struct State {
    pub(super) version: u64,
    pub(super) protocol: Protocol,
    pub(super) metadata: Metadata,
}

/// A file that readers see.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActiveFile {
    /// Its path as it stands in the log, encoded: what names it when it is removed.
    pub logged: String,
    /// Its path below the table's folder, or an URL.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// Values of the partition columns, as the log has them.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Rows; `None` if nobody counted them.
    pub rows: Option<u64>,
    /// What is said of its columns, as the log has it.
    pub statistics: Option<String>,
    /// Which of its rows are removed, as the log has it.
    pub deletion_vector: Option<serde_json::Value>,
}

/// A checkpoint that was made.
pub(super) struct MadeCheckpoint {
    pub(super) path: String,
    pub(super) content: Bytes,
    /// What `_last_checkpoint` is to say.
    pub(super) hint: Bytes,
}

/// What the name of an object of the log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Version(u64),
    Checkpoint {
        version: u64,
        part: u32,
        parts: u32,
    },
    /// A checkpoint of the newer kind.
    Newer(u64),
    /// What some writers say of a version beside it.
    Beside(u64),
}

fn named(path: &str) -> Option<Named> {
    let name = path.strip_prefix(LOG)?.strip_prefix('/')?;
    let (version, rest) = name.split_at_checked(20)?;
    let version = version.bytes().all(|byte| byte.is_ascii_digit()).then(|| version.parse().ok())??;
    match rest {
        ".json" => Some(Named::Version(version)),
        ".crc" => Some(Named::Beside(version)),
        ".checkpoint.parquet" => Some(Named::Checkpoint { version, part: 1, parts: 1 }),
        _ => {
            let of = rest.strip_prefix(".checkpoint.")?;
            let Some(numbers) = of.strip_suffix(".parquet").and_then(|of| of.split_once('.')) else {
                return Some(Named::Newer(version));
            };
            match (numbers.0.parse(), numbers.1.parse()) {
                (Ok(part), Ok(parts)) => Some(Named::Checkpoint { version, part, parts }),
                _ => Some(Named::Newer(version)),
            }
        }
    }
}

/// The objects of every checkpoint that is whole, by version.
fn checkpoints(named: &[(Named, &String)]) -> BTreeMap<u64, Vec<String>> {
    let mut checkpoints: BTreeMap<u64, BTreeMap<(u32, u32), String>> = BTreeMap::new();
    for (name, path) in named {
        if let Named::Checkpoint { version, part, parts } = name {
            checkpoints.entry(*version).or_default().insert((*parts, *part), (*path).clone());
        }
    }
    // One that lacks a part is none.
    let whole = |parts: &BTreeMap<(u32, u32), String>| {
        let counts: BTreeSet<u32> = parts.keys().map(|(count, _)| *count).collect();
        counts.into_iter().find_map(|count| {
            let of: Vec<_> = (1..=count).filter_map(|part| parts.get(&(count, part)).cloned()).collect();
            (u32::try_from(of.len()) == Ok(count)).then_some(of)
        })
    };
    checkpoints.into_iter().filter_map(|(version, parts)| Some((version, whole(&parts)?))).collect()
}

fn all_named(listed: &[String]) -> Vec<(Named, &String)> {
    listed.iter().filter_map(|path| Some((named(path)?, path))).collect()
}

/// Versions of the checkpoints that are whole, ascending.
pub(super) fn whole_checkpoints(listed: &[String]) -> Vec<u64> {
    checkpoints(&all_named(listed)).into_keys().collect()
}

/// The version of an object of the log that goes with it when it is too old.
pub(super) fn removable(path: &str) -> Option<u64> {
    match named(path)? {
        Named::Version(version) | Named::Checkpoint { version, .. } | Named::Beside(version) => Some(version),
        Named::Newer(_) => None,
    }
}

/// Which of the objects of a log make the table; `None` if they make none.
pub(super) fn needed(listed: &[String]) -> Result<Option<Needed>, String> {
    let named = all_named(listed);
    let checkpoint = checkpoints(&named).pop_last();
    let base = checkpoint.as_ref().map(|(version, _)| *version);
    let mut versions: Vec<_> = named.iter().filter_map(|(name, _)| version_of(*name)).collect();
    versions.retain(|version| base.is_none_or(|base| *version > base));
    versions.sort_unstable();
    let newer = named.iter().any(|(name, _)| matches!(name, Named::Newer(_)));
    if checkpoint.is_none() && versions.is_empty() && !newer {
        return Ok(None);
    }
    let first = base.map_or(0, |base| base + 1);
    if newer && versions.first() != Some(&first) {
        return Err("it begins at a checkpoint of the kind v2Checkpoint".to_owned());
    }
    if let Some((expected, _)) = (first..).zip(&versions).find(|(expected, version)| expected != *version) {
        return Err(format!("{} is missing", version_path(expected)));
    }
    Ok(Some(Needed { checkpoint, versions }))
}

fn version_of(name: Named) -> Option<u64> {
    match name {
        Named::Version(version) => Some(version),
        Named::Checkpoint { .. } | Named::Newer(_) | Named::Beside(_) => None,
    }
}

impl Needed {
    /// Their paths.
    pub(super) fn objects(&self) -> Vec<String> {
        let checkpoint = self.checkpoint.iter().flat_map(|(_, parts)| parts.iter().cloned());
        checkpoint.chain(self.versions.iter().map(|version| version_path(*version))).collect()
    }

    /// With their contents, in the same order.
    pub(super) fn with(self, contents: Vec<(String, Bytes)>) -> LogFiles {
        let mut contents = contents.into_iter();
        let checkpoint =
            self.checkpoint.map(|(version, parts)| (version, contents.by_ref().take(parts.len()).collect()));
        LogFiles { checkpoint, tail: self.versions.into_iter().zip(contents.map(|(_, content)| content)).collect() }
    }
}

impl LogFiles {
    /// Whether an object is a part of a log.
    pub(super) fn is_part(path: &str) -> bool {
        named(path).is_some_and(|name| !matches!(name, Named::Beside(_)))
    }

    /// Version of the checkpoint.
    pub(super) fn checkpoint_version(&self) -> Option<u64> {
        self.checkpoint.as_ref().map(|(version, _)| *version)
    }

    /// From now on it begins at a checkpoint of its last version.
    pub(super) fn begin_at(&mut self, version: u64, object: (String, Bytes)) {
        self.checkpoint = Some((version, vec![object]));
        self.tail.clear();
    }

    /// The checkpoint without what came behind it.
    fn checkpoint_alone(&self) -> Option<Self> {
        self.checkpoint.clone().map(|checkpoint| Self { checkpoint: Some(checkpoint), tail: BTreeMap::new() })
    }

    fn objects(&self) -> impl Iterator<Item = (String, Bytes)> {
        let checkpoint = self.checkpoint.iter().flat_map(|(_, parts)| parts.iter().cloned());
        checkpoint.chain(self.tail.iter().map(|(version, content)| (version_path(*version), content.clone())))
    }

    /// The table, as delta-rs sees it.
    async fn open(&self) -> Result<(LogStoreRef, Arc<InMemory>), String> {
        let memory = Arc::new(InMemory::new());
        for (path, content) in self.objects() {
            memory.put(&Path::from(path), content.into()).await.map_err(in_words)?;
        }
        let location = Url::parse("memory:///").map_err(in_words)?;
        let store: Arc<dyn ObjectStore> = memory.clone();
        Ok((default_logstore(Arc::clone(&store), store, &location, &StorageConfig::default()), memory))
    }
}

fn in_words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Runs a future of delta-rs.
fn run<T: Send, F: Future<Output = Result<T, String>>>(work: impl FnOnce() -> F + Send) -> Result<T, String> {
    let in_thread = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(in_words)?;
        runtime.block_on(work())
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("delta".to_owned()).stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, in_thread).map_err(in_words)?;
        thread.join().unwrap_or_else(|_| Err("delta-rs stopped in the middle of it".to_owned()))
    })
}

/// An action of delta-rs as ours.
fn ours<T: DeserializeOwned>(action: &impl serde::Serialize) -> Result<T, String> {
    serde_json::from_value(serde_json::to_value(action).map_err(in_words)?).map_err(in_words)
}

/// What the objects say of the table. What stands in the versions behind the checkpoint is newer than what that says, and
/// needs no reading of all of it.
pub(super) fn state(files: &LogFiles) -> Result<State, String> {
    let at_checkpoint = files.checkpoint_alone().map(|files| {
        run(|| async move {
            let (log, _) = files.open().await?;
            let snapshot = Snapshot::try_new(log.as_ref(), None).await.map_err(in_words)?;
            let (protocol, metadata) = (Some(ours(snapshot.protocol())?), Some(ours(snapshot.metadata())?));
            Ok((snapshot.version(), protocol, metadata))
        })
    });
    let (mut version, mut protocol, mut metadata) = at_checkpoint.transpose()?.unwrap_or_default();
    for (number, content) in &files.tail {
        for line in Line::read_all(content)? {
            protocol = line.protocol.or(protocol);
            metadata = line.meta_data.or(metadata);
        }
        version = *number;
    }
    let missing = |what| format!("no version says {what}");
    Ok(State {
        version,
        protocol: protocol.ok_or_else(|| missing("who may read it (protocol)"))?,
        metadata: metadata.ok_or_else(|| missing("what its columns are (metaData)"))?,
    })
}

/// The version of a writer, by its own count.
pub(super) fn writer(files: &LogFiles, id: &str) -> Result<Option<i64>, String> {
    for content in files.tail.values().rev() {
        let last = Line::read_all(content)?.into_iter().filter_map(|line| line.txn).rfind(|txn| txn.app_id == id);
        if let Some(txn) = last {
            return Ok(Some(txn.version));
        }
    }
    let Some(files) = files.checkpoint_alone() else { return Ok(None) };
    run(|| async move {
        let (log, _) = files.open().await?;
        let snapshot = EagerSnapshot::try_new(log.as_ref(), None).await.map_err(in_words)?;
        snapshot.transaction_version(log.as_ref(), id).await.map_err(in_words)
    })
}

/// Which of these paths the table has, or had.
pub(super) fn known(files: &LogFiles, paths: &BTreeSet<String>) -> Result<BTreeSet<String>, String> {
    let mut known = BTreeSet::new();
    for content in files.tail.values() {
        let added = Line::read_all(content)?.into_iter().filter_map(|line| line.add);
        let added = added.map(|add| percent_encoding::percent_decode_str(&add.path).decode_utf8_lossy().into_owned());
        known.extend(added.filter(|path| paths.contains(path)));
    }
    match files.checkpoint_alone() {
        Some(files) if known.len() < paths.len() => {
            let (active, had) = known_paths(&files)?;
            known.extend(active.into_iter().chain(had).filter(|path| paths.contains(path)));
        }
        _ => {}
    }
    Ok(known)
}

/// The files that readers see.
pub(super) fn active_files(files: &LogFiles) -> Result<Vec<ActiveFile>, String> {
    run(|| async {
        let (log, _) = files.open().await?;
        active_of(&EagerSnapshot::try_new(log.as_ref(), None).await.map_err(in_words)?)
    })
}

/// Its columns, and the files that readers see.
pub(super) fn table(files: &LogFiles) -> Result<(SchemaRef, Vec<ActiveFile>), String> {
    run(|| async {
        let (log, _) = files.open().await?;
        let snapshot = EagerSnapshot::try_new(log.as_ref(), None).await.map_err(in_words)?;
        Ok((snapshot.arrow_schema(), active_of(&snapshot)?))
    })
}

fn active_of(snapshot: &EagerSnapshot) -> Result<Vec<ActiveFile>, String> {
    // The views decode paths, and a file is removed by the path that stands in the log.
    let logged = logged_paths(snapshot)?;
    let views = snapshot.try_log_data().map_err(in_words)?;
    let mut active = Vec::with_capacity(logged.len());
    for (view, logged) in views.iter().zip(logged) {
        let path = view.path().into_owned();
        if path != percent_encoding::percent_decode_str(&logged).decode_utf8_lossy() {
            return Err(format!("{path} and {logged} are not the same file"));
        }
        let vector = view.deletion_vector_descriptor();
        active.push(ActiveFile {
            logged,
            path,
            bytes: u64::try_from(view.size()).unwrap_or_default(),
            partition_values: view.partition_values_map().into_iter().collect(),
            statistics: view.stats(),
            rows: view.num_records().and_then(|rows| u64::try_from(rows).ok()),
            deletion_vector: vector.map(|vector| serde_json::to_value(vector).map_err(in_words)).transpose()?,
        });
    }
    active.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(active)
}

fn logged_paths(snapshot: &EagerSnapshot) -> Result<Vec<String>, String> {
    let mut paths = Vec::new();
    let batches = DeltaTableState::new(snapshot.clone()).add_actions_batches(false);
    for batch in batches.map_err(in_words)? {
        let column = batch.column_by_name("path").ok_or("the list of files has no paths")?;
        let column = datafusion::arrow::compute::cast(column, &datafusion::arrow::datatypes::DataType::Utf8);
        let column = column.map_err(in_words)?;
        let texts = column.as_string::<i32>();
        paths.extend((0..texts.len()).map(|row| texts.value(row).to_owned()));
    }
    Ok(paths)
}

/// Paths of the files that readers see, and of those that the table had, as far as its log still says so.
pub(super) fn known_paths(files: &LogFiles) -> Result<(BTreeSet<String>, BTreeSet<String>), String> {
    run(|| async {
        let (log, _) = files.open().await?;
        let snapshot = EagerSnapshot::try_new(log.as_ref(), None).await.map_err(in_words)?;
        let active: BTreeSet<_> = active_of(&snapshot)?.into_iter().map(|file| file.path).collect();
        let state = DeltaTableState::new(snapshot);
        let removed = state.all_tombstones(log.as_ref()).map_ok(|removed| removed.path().into_owned());
        let removed: BTreeSet<_> = removed.try_collect().await.map_err(in_words)?;
        let had = removed.difference(&active).cloned().collect();
        Ok((active, had))
    })
}

/// What a table has and had.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableFiles {
    /// The files that readers see, by path.
    pub active: Vec<ActiveFile>,
    /// Paths of those that were removed, as far as the log still says so, and from when on nobody may want them any more, in
    /// milliseconds since 1970: the time for which the table keeps removed files is over then
    /// (`delta.deletedFileRetentionDuration`, a week by default).
    pub removed: BTreeMap<String, i64>,
}

/// The files of a table.
pub(super) fn table_files(files: &LogFiles) -> Result<TableFiles, String> {
    run(|| async {
        let (log, _) = files.open().await?;
        let snapshot = EagerSnapshot::try_new(log.as_ref(), None).await.map_err(in_words)?;
        let active = active_of(&snapshot)?;
        let kept = snapshot.table_properties().deleted_file_retention_duration().as_millis();
        let kept = i64::try_from(kept).unwrap_or(i64::MAX);
        let state = DeltaTableState::new(snapshot);
        let removed = state.all_tombstones(log.as_ref()).map_ok(|removed| {
            let at = removed.deletion_timestamp().unwrap_or_default();
            (removed.path().into_owned(), at.saturating_add(kept))
        });
        let mut removed: BTreeMap<_, _> = removed.try_collect().await.map_err(in_words)?;
        for file in &active {
            removed.remove(&file.path);
        }
        Ok(TableFiles { active, removed })
    })
}

/// Makes a checkpoint of the last version.
pub(super) fn checkpoint(files: &LogFiles) -> Result<MadeCheckpoint, String> {
    run(|| async {
        let (log, memory) = files.open().await?;
        let mut table = DeltaTable::new(log);
        table.load().await.map_err(in_words)?;
        let version = table.version().ok_or("it has no version")?;
        create_checkpoint(&table, None).await.map_err(in_words)?;
        let path = format!("{LOG}/{version:020}.checkpoint.parquet");
        let content = memory.get(&Path::from(path.as_str())).await.map_err(in_words)?;
        let content = content.bytes().await.map_err(in_words)?;
        let hint = memory.get(&Path::from(LAST_CHECKPOINT)).await.map_err(in_words)?;
        let hint = hint.bytes().await.map_err(in_words)?;
        Ok(MadeCheckpoint { path, content, hint })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed_of(names: &[&str]) -> Result<Option<Vec<String>>, String> {
        let listed: Vec<_> = names.iter().map(|name| format!("_delta_log/{name}")).collect();
        let objects = needed(&listed)?.map(|needed| needed.objects());
        Ok(objects.map(|objects| objects.into_iter().map(|path| path["_delta_log/".len()..].to_owned()).collect()))
    }

    #[test]
    fn a_table_begins_at_its_newest_whole_checkpoint() {
        let (zero, one, two, three) = (
            "00000000000000000000.json",
            "00000000000000000001.json",
            "00000000000000000002.json",
            "00000000000000000003.json",
        );
        let whole = "00000000000000000001.checkpoint.parquet";
        let parts = |part: u32| format!("00000000000000000002.checkpoint.{part:010}.0000000002.parquet");
        let (part_1, part_2) = (parts(1), parts(2));
        assert_eq!(needed_of(&[]), Ok(None));
        assert_eq!(needed_of(&["_last_checkpoint", "x.json", ".tmp-1"]), Ok(None));
        assert_eq!(needed_of(&[zero, one]), Ok(Some(vec![zero.to_owned(), one.to_owned()])));
        assert_eq!(needed_of(&[one, whole, two, three]), Ok(Some([whole, two, three].map(str::to_owned).to_vec())));
        assert_eq!(
            needed_of(&[one, whole, two, &part_1, three]),
            Ok(Some([whole, two, three].map(str::to_owned).to_vec())),
            "a part is missing"
        );
        assert_eq!(
            needed_of(&[one, whole, two, &part_1, &part_2, three]),
            Ok(Some([part_1.as_str(), &part_2, three].map(str::to_owned).to_vec()))
        );
        assert!(needed_of(&[zero, two]).unwrap_err().contains("00000000000000000001.json is missing"));
        assert!(needed_of(&[one]).unwrap_err().contains("00000000000000000000.json is missing"));
        let newer = "00000000000000000005.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.parquet";
        for behind in [&[newer][..], &[newer, "00000000000000000006.json"]] {
            assert!(needed_of(behind).unwrap_err().contains("v2Checkpoint"), "{behind:?}");
        }
    }
}
