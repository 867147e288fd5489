//! Where the outputs of a log lie now: a log says where they lay when it was written, and folders are moved.
//!
//! A place counts if its owner file names the log. So a guess is safe: what has the same name below the outputs folder of
//! this command, and the folders beside the ones that the log knows. The former comes first: of a table and its copy (a backup,
//! a folder to try something in) the one that the command was given is looked at, and changed.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::checkpoint::log::OpenOutput;
use crate::checkpoint::output::{Listed, SharedOutput};
use crate::commands::error::CommandError;
use crate::sink;
use crate::storage::location::Location;
use crate::storage::{SharedStore, StoreError, paths};

use super::no_faults;

/// Opens outputs by their roots in a log, wherever they lie now. `known` are all roots that the log names; `current` are
/// those of today.
pub(crate) async fn opener(
    log_id: &str,
    known: impl IntoIterator<Item = &String>,
    current: &[String],
    outputs: Option<&Location>,
) -> OpenOutput {
    let mut places = BTreeMap::new();
    for root in known {
        let place = find(log_id, root, current, outputs).await;
        if let Some(place) = place.filter(|place| place != root) {
            places.insert(root.clone(), place);
        }
    }
    Rc::new(move |root: &str| open(places.get(root).map_or(root, String::as_str)))
}

/// Opens an output at its root.
pub(crate) fn open(root: &str) -> Result<SharedOutput, StoreError> {
    sink::open_output(root, &no_faults())
}

/// The files of an output; `None` if it is not made of files.
pub(crate) fn files(open: &OpenOutput, root: &str) -> Result<Option<SharedStore>, StoreError> {
    Ok(open(root)?.files().map(SharedStore::clone))
}

/// What the log of an output says of its files, if it has one of its own.
pub(crate) async fn listed(open: &OpenOutput, root: &str) -> Result<Option<Listed>, StoreError> {
    open(root)?.listed().await
}

/// The files of an output that is a table.
pub(crate) fn table(open: &OpenOutput, root: &str) -> Result<SharedStore, StoreError> {
    files(open, root)?.ok_or_else(|| StoreError::Unsuitable(format!("{root} is not a table of files")))
}

/// Tables of a log that hold files, and where the log says that each lies; and where else to look for them.
pub(crate) struct Tables<'a> {
    /// The log.
    pub(crate) log_id: &'a str,
    /// Roots of today.
    pub(crate) roots: &'a [String],
    /// The outputs folder of this command.
    pub(crate) outputs: Option<&'a Location>,
}

impl Tables<'_> {
    /// Says so when not one of the tables is to be seen: then this command looks at other folders than the job, and each
    /// file would be called missing. One that lacks is damage like any other.
    ///
    /// # Errors
    /// As said.
    pub(crate) async fn are_seen_by(&self, name: &str) -> Result<(), CommandError> {
        for root in self.roots {
            let is_there = Location::of_root(root).ok().and_then(|place| Some(place.folder()?.is_dir()));
            if is_there != Some(false) || find(self.log_id, root, self.roots, self.outputs).await.is_some() {
                return Ok(());
            }
        }
        let Some(first) = self.roots.first() else { return Ok(()) };
        let more = if self.roots.len() > 1 { format!(" and {} more", self.roots.len() - 1) } else { String::new() };
        let below =
            self.outputs.map_or_else(String::new, |outputs| format!(", nor any table of this log below {outputs}"));
        let job = name.rsplit('/').next().unwrap_or_default();
        Err(CommandError::user(format!(
            "this command sees other folders than {name}, so it says nothing of its files: the job writes to {first}{more}, and \
             that folder is not here{below}: say with --outputs or OUTPUTS_DIR where the tables are mounted or were moved to, \
             or run the command where the job runs (in a cluster: `kubectl exec deployment/{job} -- data-platform …`); if the \
             tables were removed, bring them back from a backup"
        )))
    }
}

/// The first place that is the log's; `None` if none is.
async fn find(log_id: &str, root: &str, current: &[String], outputs: Option<&Location>) -> Option<String> {
    // Only tables are moved.
    if open(root).is_ok_and(|output| output.files().is_none()) {
        return None;
    }
    let mut candidates = below(root, outputs);
    candidates.push(root.to_owned());
    let name = root.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    // Encoded as a root is; a table of this name that was moved together with the one that is known.
    for there in current {
        candidates.extend(there.rsplit_once('/').map(|(parent, _)| format!("{parent}/{name}")));
    }
    for candidate in candidates {
        // A place that cannot be looked at is none.
        let Ok(output) = open(&candidate) else { continue };
        if matches!(output.owner().await, Ok(Some(owned)) if owned.owner.log_id == log_id) {
            return Some(output.root().to_owned());
        }
    }
    None
}

/// Places below the outputs folder that end as the root does, the longest end first.
fn below(root: &str, outputs: Option<&Location>) -> Vec<String> {
    let (Some(outputs), Ok(location)) = (outputs, Location::of_root(root)) else { return Vec::new() };
    let kind = if root.starts_with(paths::DELTA_ROOT) { paths::DELTA_ROOT } else { "" };
    let Some(folder) = location.folder() else { return Vec::new() };
    let parts: Vec<_> = folder.components().skip(1).map(|part| part.as_os_str().to_string_lossy()).collect();
    let ends = (0..parts.len()).map(|first| outputs.join(&parts[first..].join("/")));
    ends.filter_map(|place| Some(format!("{kind}{}", place.open_table(&no_faults()).ok()?.root()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::owner::{Owner, claim};

    async fn table(folder: &std::path::Path, log_id: &str) -> String {
        let store = Location::Folder(folder.to_owned()).open_table(&no_faults()).unwrap();
        let owner = Owner { log_id: log_id.to_owned(), job: "local/j".to_owned(), checkpoint: String::new() };
        claim(&store, &owner, false).await.unwrap();
        store.root().to_owned()
    }

    #[tokio::test]
    async fn of_a_table_and_its_copy_the_one_below_the_given_outputs_is_meant() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        let old = table(&base.join("outputs/t"), "a").await;
        let copy = table(&base.join("backup/outputs/t"), "a").await;
        let open = opener("a", [&old], &[], Some(&Location::Folder(base.join("backup/outputs")))).await;
        assert_eq!(open(&old).unwrap().root(), copy);
        let open = opener("a", [&old], &[], Some(&Location::Folder(base.join("outputs")))).await;
        assert_eq!(open(&old).unwrap().root(), old);
    }

    #[tokio::test]
    async fn a_topic_is_never_taken_for_a_table_of_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        let current = [table(&base.join("outputs/t"), "a").await, "kafka://t".to_owned()];
        let open = opener("a", &current, &current, Some(&Location::Folder(base.join("outputs")))).await;
        assert_eq!(open("kafka://t").unwrap().root(), "kafka://t");
    }

    #[tokio::test]
    async fn a_table_is_found_where_it_was_moved_to_and_only_if_it_is_the_logs() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        let old = table(&base.join("old/x/t#1"), "a").await;
        let stays = table(&base.join("old/y"), "a").await;
        table(&base.join("new/x/t#1"), "b").await;
        let outputs = Location::Folder(base.join("new"));
        let known = [old.clone(), stays.clone()];
        let open = opener("a", &known, &[], Some(&outputs)).await;
        assert_eq!(open(&old).unwrap().root(), old, "it was not moved");
        std::fs::rename(base.join("old/x"), base.join("gone")).unwrap();
        let open = opener("a", &known, &[], Some(&outputs)).await;
        assert_eq!(open(&old).unwrap().root(), old, "what is there now is another log's");
        std::fs::remove_dir_all(base.join("new")).unwrap();
        std::fs::create_dir(base.join("new")).unwrap();
        std::fs::rename(base.join("gone"), base.join("new/x")).unwrap();
        let open = opener("a", &known, &[], Some(&outputs)).await;
        let moved = Location::Folder(base.join("new/x/t#1"));
        assert_eq!(open(&old).unwrap().root(), moved.open_table(&no_faults()).unwrap().root());
        assert_eq!(open(&stays).unwrap().root(), stays);
    }
}
