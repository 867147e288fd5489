//! Where tables and their files lie: in folders of this machine, or below prefixes of object stores.

use std::borrow::Cow;
use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path as Key;

use crate::storage::StoreError;
use crate::storage::location::{Location, open_remote};

/// Where a table lies, or a folder of tables.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A folder of this machine, or one file.
    Folder(PathBuf),
    /// A prefix of an object store, or one object.
    Remote(Arc<Prefix>),
}

/// A prefix of an object store.
#[derive(Debug)]
pub(crate) struct Prefix {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) key: Key,
    /// How messages call what is above all keys, without a slash at its end.
    root: Arc<str>,
}

/// Where a file of a table lies.
#[derive(Clone, Debug)]
pub(crate) enum FileAt {
    Local(PathBuf),
    Remote(RemoteFile),
}

/// An object, as it was when it was listed.
#[derive(Clone, Debug)]
pub(crate) struct RemoteFile {
    /// The table that it belongs to.
    pub(super) prefix: Arc<Prefix>,
    pub(super) key: Key,
    pub(super) bytes: u64,
    /// Its version, where the store tells one: what is read of it is of no other.
    pub(super) etag: Option<String>,
}

impl Place {
    /// The place of a location. Sends no request.
    ///
    /// # Errors
    /// The program cannot open such a store.
    pub(crate) fn of(location: &Location) -> Result<Self, StoreError> {
        match location {
            Location::Folder(folder) => Ok(Self::Folder(folder.clone())),
            Location::Remote(url) => {
                let (store, key) = open_remote(url)?;
                let path = percent_encoding::percent_decode_str(url.path()).decode_utf8_lossy();
                let above = path.trim_matches('/').strip_suffix(key.as_ref()).unwrap_or_default();
                let root = format!("{}://{}/{above}", url.scheme(), url.authority());
                Ok(Self::Remote(Arc::new(Prefix { store, key, root: root.trim_end_matches('/').into() })))
            }
        }
    }

    /// Its last name; empty for the whole of a store.
    pub(crate) fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Folder(folder) => folder.file_name().unwrap_or_default().to_string_lossy(),
            Self::Remote(prefix) => prefix.key.filename().unwrap_or_default().into(),
        }
    }

    /// A place below it. Names of a path are separated by `/`.
    pub(crate) fn join(&self, path: &str) -> Self {
        match self {
            Self::Folder(folder) => Self::Folder(folder.join(path)),
            Self::Remote(prefix) => {
                let key = format!("{}/{path}", prefix.key);
                Self::Remote(Arc::new(prefix.at(Key::parse(&key).unwrap_or_else(|_| Key::from(key)))))
            }
        }
    }

    /// The way from here to a place below, as people read it; all of it for a place elsewhere.
    pub(crate) fn way_to(&self, below: &Self) -> String {
        match (self, below) {
            (Self::Folder(folder), Self::Folder(below)) => {
                below.strip_prefix(folder).unwrap_or(below).to_string_lossy().into_owned()
            }
            (Self::Remote(prefix), Self::Remote(below)) => prefix.way_to(&below.key),
            _ => below.to_string(),
        }
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Remote(prefix) => f.write_str(&prefix.url_of(&prefix.key)),
        }
    }
}

impl Prefix {
    /// Another place of the same store.
    pub(super) fn at(&self, key: Key) -> Self {
        Self { store: Arc::clone(&self.store), key, root: Arc::clone(&self.root) }
    }

    fn url_of(&self, key: &Key) -> String {
        let slash = if key.as_ref().is_empty() { "" } else { "/" };
        format!("{}{slash}{key}", self.root)
    }

    fn way_to(&self, key: &Key) -> String {
        let below = key.as_ref().strip_prefix(self.key.as_ref()).map(|rest| rest.trim_start_matches('/'));
        below.filter(|rest| !rest.is_empty()).map_or_else(|| self.url_of(key), str::to_owned)
    }
}

impl FileAt {
    /// Its last name.
    pub(crate) fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Local(path) => path.file_name().unwrap_or_default().to_string_lossy(),
            Self::Remote(file) => file.key.filename().unwrap_or_default().into(),
        }
    }

    /// The way to it from its table.
    pub(super) fn below(&self, place: &Place) -> String {
        match (self, place) {
            (Self::Local(path), Place::Folder(folder)) => {
                path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned()
            }
            (Self::Remote(file), Place::Remote(prefix)) => prefix.way_to(&file.key),
            _ => self.to_string(),
        }
    }

    /// Its length, if it is known without a look.
    pub(super) fn known_bytes(&self) -> Option<u64> {
        match self {
            Self::Local(_) => None,
            Self::Remote(file) => Some(file.bytes),
        }
    }
}

impl From<&Path> for FileAt {
    fn from(path: &Path) -> Self {
        Self::Local(path.to_owned())
    }
}

impl Display for FileAt {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Remote(file) => f.write_str(&file.prefix.url_of(&file.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_files_have_the_names_that_people_wrote() {
        for (text, below, way) in [
            ("/data/outputs", "/data/outputs/a b/t", "a b/t"),
            ("memory://names/p", "memory://names/p/a/t", "a/t"),
            ("memory://names/p/", "memory://names/p/a/t", "a/t"),
            ("memory://names/a%20b", "memory://names/a b/c=1%3A0/t", "c=1%3A0/t"),
            ("memory://names", "memory://names/a/t", "a/t"),
        ] {
            let place = Place::of(&Location::parse(text).unwrap()).unwrap();
            let table = place.join(way);
            assert_eq!(table.to_string(), below, "{text}");
            assert_eq!(place.way_to(&table), way, "{text}");
            assert_eq!(table.name(), "t");
            let Place::Remote(prefix) = &table else { continue };
            let key = prefix.key.clone().join("date=2026-01-01").join("x.parquet");
            let file = FileAt::Remote(RemoteFile { prefix: prefix.clone(), key, bytes: 1, etag: None });
            assert_eq!(file.to_string(), format!("{below}/date=2026-01-01/x.parquet"));
            assert_eq!((file.below(&table).as_str(), &*file.name()), ("date=2026-01-01/x.parquet", "x.parquet"));
        }
    }
}
