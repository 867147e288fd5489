//! The objects that a log names beside its records: those of the state, and those of references.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Cursor;

use bytes::Bytes;
use datafusion::arrow::ipc::reader::StreamReader;

use crate::checkpoint::job_state::JobState;
use crate::checkpoint::record::{Record, ReferenceObject, ReferenceVersion, StateObject};
use crate::checkpoint::survey::Survey;
use crate::commands::bytes;
use crate::storage::checksum::checksum;
use crate::storage::{SharedStore, StoreError};

use super::Check;

/// An object as the log names it.
#[derive(Clone, Copy)]
pub(in crate::commands::checkpoint) struct Object<'a> {
    path: &'a str,
    bytes: u64,
    xxh3: &'a str,
    /// What it holds.
    what: &'static str,
}

impl<'a> From<&'a StateObject> for Object<'a> {
    fn from(object: &'a StateObject) -> Self {
        Self { path: &object.path, bytes: object.bytes, xxh3: &object.xxh3, what: "a state" }
    }
}

impl<'a> From<&'a ReferenceObject> for Object<'a> {
    fn from(object: &'a ReferenceObject) -> Self {
        Self { path: &object.path, bytes: object.bytes, xxh3: &object.xxh3, what: "the rows of a reference" }
    }
}

/// Every state object that the kept log names is there and whole.
pub(super) async fn of_state(store: &SharedStore, survey: &Survey) -> Result<Check, StoreError> {
    let mut named: BTreeMap<&str, &StateObject> = BTreeMap::new();
    for (_, record) in survey.readable() {
        let Record::Commit(commit) = record else { continue };
        named.extend(commit.state.iter().flatten().map(|object| (object.path.as_str(), object)));
    }
    let bases = survey.bases.values().filter_map(|slot| slot.content.as_ref().ok()?.snapshot.as_ref());
    named.extend(bases.flat_map(|snapshot| &snapshot.objects).map(|object| (object.path.as_str(), object)));
    let head = survey.head().state;
    let live: BTreeSet<_> = head.iter().flat_map(JobState::live_objects).collect();
    // A rewind leaves the objects of void versions to the garbage collection, also those that records aside name.
    let unnamed = survey.state.iter().filter(|entry| !named.contains_key(entry.path.as_str())).count();
    let size: u64 = survey.state.iter().map(|entry| entry.bytes).sum();
    let mut found = format!("{} objects, {}", named.len(), bytes(size));
    if unnamed > 0 {
        let _ = write!(found, "; {unnamed} more that nothing names, until the next garbage collection");
    }
    let mut check = Check::new("state", found);
    for object in named.values() {
        if let Some(problem) = object_problem(store, *object).await? {
            let cure = if live.contains(object.path.as_str()) {
                "nothing, as long as Kafka has the records: the next start rebuilds the state from them; else `data-platform \
                 checkpoint rewind JOB --to VERSION` goes back to a version whose state is whole"
            } else {
                "nothing: a newer snapshot replaced it"
            };
            check.bad(format!("{}/{}", store.root(), object.path), problem, cure);
        }
    }
    Ok(check)
}

/// Every object of a reference that the kept log names is there and whole. `None`: it names none.
pub(super) async fn of_references(store: &SharedStore, survey: &Survey) -> Result<Option<Check>, StoreError> {
    let mut named: BTreeMap<&str, (&ReferenceVersion, &ReferenceObject)> = BTreeMap::new();
    for (_, record) in survey.readable() {
        let Record::Commit(commit) = record else { continue };
        named.extend(objects_of(&commit.references));
    }
    let head = survey.head().state;
    for state in survey.bases.values().filter_map(|slot| slot.content.as_ref().ok()).chain(&head) {
        named.extend(objects_of(&state.references));
        named.extend(state.replay.values().flat_map(|batch| objects_of(&batch.references)));
    }
    if named.is_empty() {
        return Ok(None);
    }
    let size: u64 = named.values().map(|(_, object)| object.bytes).sum();
    let mut check = Check::new("references", format!("{} objects, {}", named.len(), bytes(size)));
    for (version, object) in named.values() {
        if let Some(problem) = object_problem(store, *object).await? {
            let path = format!("{}/{}", store.root(), object.path);
            check.bad(path, format!("{problem} (reference {})", version.name), cure(head.as_ref(), version, object));
        }
    }
    Ok(Some(check))
}

fn objects_of(versions: &[ReferenceVersion]) -> impl Iterator<Item = (&str, (&ReferenceVersion, &ReferenceObject))> {
    versions.iter().filter_map(|version| {
        let object = version.object.as_ref()?;
        Some((object.path.as_str(), (version, object)))
    })
}

fn cure(head: Option<&JobState>, version: &ReferenceVersion, object: &ReferenceObject) -> String {
    let Some(head) = head.filter(|head| head.live_references().any(|path| path == object.path)) else {
        return "nothing: no window that is open was made with this version".to_owned();
    };
    let name = &version.name;
    if head.references.contains(version) {
        return format!(
            "nothing, as long as the files of {name} are not changed: a start reads them instead; if they were, bring the \
             object back from a backup, or the next start may end with StateLost"
        );
    }
    format!(
        "bring it back from a backup, or give {name} the files of this version before the next start: while windows are open \
         that were made with it, a rebuild that cannot have it ends with StateLost"
    )
}

/// What is wrong with an object; `None` if nothing is.
pub(in crate::commands::checkpoint) async fn object_problem<'a>(
    store: &SharedStore,
    object: impl Into<Object<'a>>,
) -> Result<Option<String>, StoreError> {
    let Object { path, bytes, xxh3, what } = object.into();
    let Some(content) = store.get(path).await? else { return Ok(Some("it is missing".to_owned())) };
    if content.len() as u64 != bytes {
        return Ok(Some(format!("it has {} bytes, {bytes} were written", content.len())));
    }
    let found = checksum(&content);
    if found != xxh3 {
        return Ok(Some(format!("its checksum is {found}, the log says {xxh3}")));
    }
    Ok(decode(content).err().map(|problem| format!("it is not {what}: {problem}")))
}

fn decode(content: Bytes) -> Result<(), String> {
    let reader = StreamReader::try_new(Cursor::new(content), None).map_err(|error| error.to_string())?;
    reader.into_iter().try_for_each(|batch| batch.map(drop)).map_err(|error| error.to_string())
}
