//! Opens stores by URL or path: the only place that knows which kind of store a URL means.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use url::Url;

use super::client;
use super::local::LocalStore;
use super::object::RemoteStore;
use super::{SharedStore, StoreError, paths};
use crate::faults::Faults;

/// Where a table or a checkpoint lies: a folder or the URL of an object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A folder.
    Folder(PathBuf),
    /// An object store.
    Remote(Url),
}

impl Location {
    /// Reads a path or URL; a relative path lies below `base`.
    ///
    /// # Errors
    /// When the URL cannot be read.
    pub fn resolve(text: &str, base: &Self) -> Result<Self, StoreError> {
        match Self::parse(text)? {
            Self::Folder(path) if path.is_relative() => Ok(base.join(&path.to_string_lossy())),
            location => Ok(location),
        }
    }

    /// Reads a path or URL.
    ///
    /// # Errors
    /// When the URL cannot be read.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let unreadable = |problem: String| StoreError::Unsuitable(format!("{text:?} is not a path or URL: {problem}"));
        if !text.contains("://") {
            return Ok(Self::Folder(PathBuf::from(text)));
        }
        let url = Url::parse(text).map_err(|error| unreadable(error.to_string()))?;
        if url.query().is_some() || url.fragment().is_some() {
            let problem = "it has a query or a fragment; write %3F for a question mark of a name, and %23 for a hash";
            return Err(unreadable(problem.to_owned()));
        }
        Self::of_url(&url, unreadable)
    }

    /// The place of a root as it stands in a log. Logs of format 1 held paths that were not encoded, and what looked like
    /// a query or a fragment was never a part of the place.
    ///
    /// # Errors
    /// When the URL cannot be read.
    pub fn of_root(root: &str) -> Result<Self, StoreError> {
        let unreadable = |problem: String| StoreError::Unsuitable(format!("{root:?} is no place: {problem}"));
        let root = root.strip_prefix(paths::DELTA_ROOT).unwrap_or(root);
        if !root.contains("://") {
            return Ok(Self::Folder(PathBuf::from(root)));
        }
        let mut url = Url::parse(root).map_err(|error| unreadable(error.to_string()))?;
        url.set_query(None);
        url.set_fragment(None);
        Self::of_url(&url, unreadable)
    }

    fn of_url(url: &Url, unreadable: impl Fn(String) -> StoreError) -> Result<Self, StoreError> {
        if url.scheme() == "file" {
            let path =
                url.to_file_path().map_err(|()| unreadable("a file URL has the form file:///folder".to_owned()))?;
            return Ok(Self::Folder(path));
        }
        // A slash at the end names the same place.
        let mut place = url.clone();
        place.set_path(url.path().trim_end_matches('/'));
        Ok(Self::Remote(place))
    }

    /// A place below this one; the text is taken literally.
    #[must_use]
    pub fn join(&self, relative: &str) -> Self {
        match self {
            Self::Folder(path) => Self::Folder(path.join(relative)),
            Self::Remote(url) => {
                let mut url = url.clone();
                url.set_path(&format!("{}/{}", url.path().trim_end_matches('/'), literal(relative)));
                Self::Remote(url)
            }
        }
    }

    /// A place beside this one, with another name.
    #[must_use]
    pub fn beside(&self, name: &str) -> Self {
        match self {
            Self::Folder(path) => Self::Folder(path.with_file_name(name)),
            Self::Remote(url) => {
                let mut url = url.clone();
                let parent =
                    url.path().trim_end_matches('/').rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
                url.set_path(&format!("{parent}/{}", literal(name)));
                Self::Remote(url)
            }
        }
    }

    /// Opens the store of a checkpoint. Nothing is made or written before the first write.
    ///
    /// # Errors
    /// When the program cannot open such a store.
    pub fn open(&self, faults: &Arc<dyn Faults>) -> Result<SharedStore, StoreError> {
        match self {
            Self::Folder(path) => Ok(Rc::new(LocalStore::open(path, Arc::clone(faults))?)),
            #[cfg(test)]
            Self::Remote(url) if let Some(store) = simulated(url) => Ok(store),
            Self::Remote(url) => {
                let (store, prefix) = open_remote(url)?;
                Ok(Rc::new(RemoteStore::new(store, prefix, url.to_string())))
            }
        }
    }

    /// Opens the store of a table, with its bookkeeping beside it. Nothing is made or written before the first write.
    ///
    /// # Errors
    /// When the program cannot open such a store, or there is no place beside the table.
    pub fn open_table(&self, faults: &Arc<dyn Faults>) -> Result<SharedStore, StoreError> {
        match self {
            Self::Folder(path) => Ok(Rc::new(LocalStore::open_table(path, Arc::clone(faults))?)),
            #[cfg(test)]
            Self::Remote(url) if let Some(store) = simulated(url) => Ok(store),
            Self::Remote(url) => {
                let (store, prefix) = open_remote(url)?;
                Ok(Rc::new(RemoteStore::table(store, prefix, url.to_string())?))
            }
        }
    }
    /// Whether it lies in an object store, where each request is paid for.
    pub(crate) fn is_object_store(&self) -> bool {
        matches!(self, Self::Remote(url) if client::settings::Provider::of(url).is_some())
    }

    /// The folder, if it is one.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) => Some(path),
            Self::Remote(_) => None,
        }
    }
}

#[cfg(test)]
fn simulated(url: &Url) -> Option<SharedStore> {
    if url.scheme() != "simulated" {
        return None;
    }
    let store: SharedStore = super::simulated::SimulatedStore::mounted(url.as_str())?;
    Some(store)
}

/// The store `memory://NAME` of this process, for tests.
#[cfg(test)]
fn in_memory(url: &Url) -> Option<(Arc<dyn object_store::ObjectStore>, object_store::path::Path)> {
    use std::collections::HashMap;
    use std::sync::{LazyLock, Mutex};
    type Stores = HashMap<String, Arc<object_store::memory::InMemory>>;
    static STORES: LazyLock<Mutex<Stores>> = LazyLock::new(Mutex::default);
    let name = url.host_str().filter(|_| url.scheme() == "memory")?;
    let store = Arc::clone(STORES.lock().unwrap().entry(name.to_owned()).or_default());
    Some((store, object_store::path::Path::from_url_path(url.path()).unwrap()))
}

/// The client of an object store, and the prefix that a URL names. Sends no request. All who open one bucket share its client.
///
/// # Errors
/// When the program knows no such store, or its settings are wrong.
pub(crate) fn open_remote(
    url: &Url,
) -> Result<(Arc<dyn object_store::ObjectStore>, object_store::path::Path), StoreError> {
    #[cfg(test)]
    if let Some(mounted) = in_memory(url) {
        return Ok(mounted);
    }
    client::open(url)
}

/// A text that an URL decodes to itself.
fn literal(text: &str) -> String {
    text.replace('%', "%25")
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Remote(url) => f.write_str(url.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_lie_below_the_base_and_urls_stand_alone() {
        let base = Location::parse("/data").unwrap();
        assert_eq!(Location::resolve("t", &base).unwrap().to_string(), "/data/t");
        assert_eq!(Location::resolve("/x/t", &base).unwrap().to_string(), "/x/t");
        assert_eq!(Location::resolve("file:///y/t", &base).unwrap().to_string(), "/y/t");
        let bucket = Location::parse("s3://b/p").unwrap();
        assert_eq!(Location::resolve("t", &bucket).unwrap().to_string(), "s3://b/p/t");
        assert!(Location::parse("file://host/x").is_err());
        assert_eq!(Location::parse("s3://b/p/").unwrap(), bucket);
        assert_eq!(bucket.join("t").beside("t_dead_letters").to_string(), "s3://b/p/t_dead_letters");
        assert_eq!(base.join("t").beside("u").to_string(), "/data/u");
        for name in ["t#1", "u%41", "v?x", "a b"] {
            assert_eq!(Location::resolve(name, &base).unwrap().folder(), Some(Path::new(&format!("/data/{name}"))));
            let Location::Remote(url) = bucket.join(name).beside(name) else { panic!("a bucket is remote") };
            let decoded = object_store::path::Path::from_url_path(url.path()).unwrap();
            assert_eq!(decoded, object_store::path::Path::parse(format!("p/{name}")).unwrap(), "{url}");
        }
        for text in ["file:///x/t#1", "s3://b/t?x=1"] {
            let error = Location::parse(text).unwrap_err().to_string();
            assert!(error.contains("a query or a fragment"), "{error}");
        }
        assert_eq!(Location::of_root("file:///x/t#1").unwrap().to_string(), "/x/t");
    }

    #[test]
    fn a_scheme_that_is_not_built_in_says_so() {
        let faults: Arc<dyn Faults> = Arc::new(crate::faults::NoFaults);
        let error = Location::parse("ftp://bucket/t").unwrap().open(&faults).err().unwrap();
        assert!(error.to_string().contains("cannot open such a store"), "{error}");
    }
}
