//! Places compared as places, whatever they are called: two spellings, a link or a mount may lead to one folder.
//!
//! Looks at the file system, and writes nothing.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::storage::canonical::canonical;
use crate::storage::location::Location;
use crate::storage::{StoreError, paths};

/// Folders below a table that are looked at for another table's bookkeeping. A table's own directories are not.
const DEPTH_MAX: usize = 8;

/// Where something lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder.
    Folder {
        /// Its one name.
        path: PathBuf,
        /// Device and inode of itself, if it is there, and then of what is above it.
        ids: Vec<Option<(u64, u64)>>,
    },
    /// An object store: scheme, host, and the decoded path with `/` at its end.
    Remote(String),
}

impl Place {
    /// The place of a folder or URL.
    ///
    /// # Errors
    /// When the working directory is gone.
    pub fn of(location: &Location) -> Result<Self, StoreError> {
        match location {
            Location::Folder(folder) => {
                let path = canonical(folder)?;
                let id = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
                let ids = path.ancestors().map(id).collect();
                Ok(Self::Folder { path, ids })
            }
            Location::Remote(url) => {
                let path = object_store::path::Path::from_url_path(url.path());
                let path = path.map_err(|error| StoreError::Unsuitable(format!("{url}: {error}")))?;
                let slash = if path.as_ref().is_empty() { "" } else { "/" };
                Ok(Self::Remote(format!("{}://{}/{path}{slash}", url.scheme(), url.authority())))
            }
        }
    }

    /// Whether two places are one, or one lies in the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.is_in(other) || other.is_in(self)
    }

    fn is_in(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Folder { path, ids }, Self::Folder { path: outer, ids: outer_ids }) => {
                let outer_id = outer_ids.first().copied().flatten();
                path.starts_with(outer) || outer_id.is_some_and(|outer| ids.contains(&Some(outer)))
            }
            (Self::Remote(path), Self::Remote(outer)) => path.starts_with(outer),
            _ => false,
        }
    }
}

/// Another table in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nested {
    /// The folder would lie in this table.
    In(PathBuf),
    /// This table lies in the folder.
    Around(PathBuf),
}

/// The claimed table that a table's folder lies in, or that lies in it.
pub fn nested(folder: &Path) -> Option<Nested> {
    let folder = canonical(folder).ok()?;
    let is_claimed = |table: &Path| {
        let (Some(parent), Some(name)) = (table.parent(), table.file_name()) else { return false };
        has_entries(&parent.join(paths::BESIDE).join(name).join("owner"))
    };
    if let Some(outer) = folder.ancestors().skip(1).find(|outer| is_claimed(outer)) {
        return Some(Nested::In(outer.to_owned()));
    }
    inner(&folder, DEPTH_MAX).map(Nested::Around)
}

fn has_entries(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

fn inner(folder: &Path, depth: usize) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let folders: Vec<_> = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).collect();
    for entry in &folders {
        if entry.file_name() == paths::BESIDE {
            let claimed = fs::read_dir(entry.path()).ok()?.flatten();
            let mut claimed = claimed.filter(|table| has_entries(&table.path().join("owner")));
            if let Some(table) = claimed.next() {
                return Some(folder.join(table.file_name()));
            }
        }
    }
    // A table has as many directories `column=value` as it has days; no other table lies in one of them.
    let others = folders.iter().filter(|entry| {
        let name = entry.file_name();
        name != paths::BESIDE && !name.to_string_lossy().contains('=')
    });
    if depth == 0 { None } else { others.into_iter().find_map(|entry| inner(&entry.path(), depth - 1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        Place::of(&Location::parse(text).unwrap()).unwrap()
    }

    #[test]
    fn two_spellings_of_one_folder_are_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        fs::create_dir_all(base.join("t/x")).unwrap();
        std::os::unix::fs::symlink(base.join("t"), base.join("link")).unwrap();
        let at = |name: &str| base.join(name).to_string_lossy().into_owned();
        let url = |name: &str| format!("file://{}", at(name));
        for (one, other, expected) in [
            (at("t"), url("t"), true),
            (at("t"), at("t/"), true),
            (at("t"), at("link"), true),
            (at("t"), at("t/../t/./"), true),
            (at("t"), at("link/x"), true),
            (at("new"), url("new/inner"), true),
            (url("t%20x"), at("t x"), true),
            (at("t"), at("t2"), false),
            (at("t/x"), at("t/y"), false),
            (at("t"), "s3://b/t".to_owned(), false),
            ("s3://b/t".to_owned(), "s3://b/t/".to_owned(), true),
            ("s3://b/t".to_owned(), "s3://b/t/x".to_owned(), true),
            ("s3://b/t%20x".to_owned(), "s3://b/t x".to_owned(), true),
            ("s3://b/t".to_owned(), "s3://b/t2".to_owned(), false),
            ("s3://b/t".to_owned(), "s3://c/t".to_owned(), false),
            ("s3://b".to_owned(), "s3://b/t".to_owned(), true),
        ] {
            assert_eq!(place(&one).overlaps(&place(&other)), expected, "{one} {other}");
            assert_eq!(place(&other).overlaps(&place(&one)), expected, "{other} {one}");
        }
    }

    #[test]
    fn a_table_in_another_one_is_found_from_both_sides() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        let claim = |table: &str| {
            let table = base.join(table);
            let beside = table.parent().unwrap().join("_dataplatform").join(table.file_name().unwrap()).join("owner");
            fs::create_dir_all(&beside).unwrap();
            fs::write(beside.join("00000000000000000001.json"), "{}").unwrap();
        };
        claim("w/x");
        fs::create_dir_all(base.join("w/x/date=2026-01-01")).unwrap();
        for (table, expected) in [
            ("w/x", None),
            ("w/y", None),
            ("w/xy", None),
            ("v", None),
            ("w/x/y/z", Some(Nested::In(base.join("w/x")))),
            ("w", Some(Nested::Around(base.join("w/x")))),
        ] {
            assert_eq!(nested(&base.join(table)), expected, "{table}");
        }
        fs::create_dir_all(base.join("_dataplatform/empty/owner")).unwrap();
        assert_eq!(nested(&base.join("empty/x")), None, "a folder without an owner is no claim");
    }
}
