//! Whose table it is: a log claims an output before it stages the first file there, and looks before it publishes.
//!
//! ```text
//! owner/1.json   the first log; nobody else can create it again
//! owner/2.json   a log that took the table over (`--new-log`): the newest number counts
//! ```
//!
//! A table of format 1 has no owner file: the log that its `_progress.json` names is its owner.

use serde::{Deserialize, Serialize};

use crate::checkpoint::progress::read_progress;
use crate::storage::{Created, SharedStore, StoreError, paths};

/// How often a claim is tried again because somebody else was faster.
const ATTEMPTS_MAX: u32 = 16;

/// A log that owns a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Identity of the log.
    pub log_id: String,
    /// `<namespace>/<checkpoint>`, for people; empty where format 1 did not tell.
    pub job: String,
    /// Where the log lay when it claimed the table, so that whoever takes the table over can close it.
    #[serde(default)]
    pub checkpoint: String,
}

/// An owner with its number; 0 is that of format 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Number of the owner file.
    pub number: u64,
    /// What it says.
    pub owner: Owner,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The table is ours.
    Ours {
        /// Number of our owner file.
        number: u64,
        /// The log that we took it from.
        before: Option<Owner>,
    },
    /// It is another log's.
    Other(Owned),
}

/// The newest owner of a table; `None` if it was never claimed.
///
/// # Errors
/// When the store does not answer, or the file cannot be read.
pub async fn newest(store: &SharedStore) -> Result<Option<Owned>, StoreError> {
    let listed = store.list(paths::OWNER).await?;
    let Some(number) = listed.iter().filter_map(|entry| paths::version_of(&entry.path)).max() else {
        let told = read_progress(store).await?;
        let owner = |log_id| Owner { log_id, job: String::new(), checkpoint: String::new() };
        return Ok(told.map(|told| Owned { number: 0, owner: owner(told.log_id) }));
    };
    let path = paths::owner(number);
    let bytes = store.get(&path).await?.unwrap_or_default();
    match serde_json::from_slice(&bytes) {
        Ok(owner) => Ok(Some(Owned { number, owner })),
        Err(error) => Err(StoreError::Unsuitable(format!(
            "{}/{path} does not say whose table it is ({error}): bring the file back from a backup, or remove it if no job \
             writes this table",
            store.root()
        ))),
    }
}

/// Claims a table. `take_over`: also from another log.
///
/// # Errors
/// When the store does not answer; the claim may stand all the same, and is found then.
pub async fn claim(store: &SharedStore, us: &Owner, take_over: bool) -> Result<Claim, StoreError> {
    for _ in 0..ATTEMPTS_MAX {
        let known = newest(store).await?;
        match &known {
            Some(owned) if owned.owner.log_id == us.log_id && owned.number > 0 => {
                // It may have been linked by a process that died before it could sync the folder.
                store.sync_entries(&[paths::owner(owned.number)]).await?;
                return Ok(Claim::Ours { number: owned.number, before: None });
            }
            Some(owned) if owned.owner.log_id != us.log_id && !take_over => return Ok(Claim::Other(owned.clone())),
            _ => {}
        }
        let number = known.as_ref().map_or(0, |owned| owned.number) + 1;
        let mut bytes = serde_json::to_vec(us).expect("plain fields are always JSON");
        bytes.push(b'\n');
        if store.create(&paths::owner(number), bytes.into()).await? == Created::Yes {
            let before = known.map(|owned| owned.owner).filter(|owner| owner.log_id != us.log_id);
            return Ok(Claim::Ours { number, before });
        }
    }
    Err(StoreError::Unsuitable(format!(
        "{}: several jobs claim this table at once, again and again: give each its own sink.path",
        store.root()
    )))
}

/// Whether a table is still ours, given the number of our owner file.
///
/// # Errors
/// When the store does not answer.
pub async fn is_still_ours(store: &SharedStore, number: u64) -> Result<bool, StoreError> {
    Ok(store.length(&paths::owner(number + 1)).await?.is_none())
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;

    use super::*;
    use crate::faults::NoSync;
    use crate::storage::local::LocalStore;

    fn owner(log_id: &str) -> Owner {
        Owner { log_id: log_id.to_owned(), job: format!("local/{log_id}"), checkpoint: String::new() }
    }

    fn store(folder: &tempfile::TempDir) -> SharedStore {
        Rc::new(LocalStore::open_table(&folder.path().join("t"), Arc::new(NoSync)).unwrap())
    }

    #[tokio::test]
    async fn the_first_log_has_the_table_and_another_one_learns_whose_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        assert_eq!(newest(&store).await.unwrap(), None);
        let first = Claim::Ours { number: 1, before: None };
        assert_eq!(claim(&store, &owner("a"), false).await.unwrap(), first);
        assert_eq!(claim(&store, &owner("a"), false).await.unwrap(), first, "again");
        let theirs = Claim::Other(Owned { number: 1, owner: owner("a") });
        assert_eq!(claim(&store, &owner("b"), false).await.unwrap(), theirs);
        assert!(is_still_ours(&store, 1).await.unwrap());
        let taken = Claim::Ours { number: 2, before: Some(owner("a")) };
        assert_eq!(claim(&store, &owner("b"), true).await.unwrap(), taken);
        assert!(!is_still_ours(&store, 1).await.unwrap() && is_still_ours(&store, 2).await.unwrap());
        assert!(!folder.path().join("t").exists(), "the table's folder comes with its first file");
    }

    #[tokio::test]
    async fn a_table_of_format_1_belongs_to_the_log_that_its_progress_names() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let told = "{\"log_id\":\"a\",\"published\":3,\"watermark\":null,\"complete_until\":null}";
        store.replace(paths::format1::PROGRESS, told.into()).await.unwrap();
        let Claim::Other(owned) = claim(&store, &owner("b"), false).await.unwrap() else { panic!("it is a's") };
        assert_eq!((owned.number, owned.owner.log_id.as_str()), (0, "a"));
        assert_eq!(claim(&store, &owner("a"), false).await.unwrap(), Claim::Ours { number: 1, before: None });
    }

    #[tokio::test]
    async fn an_owner_file_that_cannot_be_read_is_a_clear_stop() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        store.create(&paths::owner(1), "{".into()).await.unwrap();
        let error = claim(&store, &owner("a"), true).await.unwrap_err().to_string();
        assert!(error.contains("owner/00000000000000000001.json") && error.contains("whose table"), "{error}");
    }
}
