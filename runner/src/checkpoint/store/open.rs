//! Opens stores by URL or path: the only place that knows which kind of store a URL means.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use url::Url;

use super::local::LocalStore;
use super::object::RemoteStore;
use super::{SharedStore, StoreError};
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
        if url.scheme() == "file" {
            let path =
                url.to_file_path().map_err(|()| unreadable("a file URL has the form file:///folder".to_owned()))?;
            return Ok(Self::Folder(path));
        }
        Ok(Self::Remote(url))
    }

    /// A place below this one.
    #[must_use]
    pub fn join(&self, relative: &str) -> Self {
        match self {
            Self::Folder(path) => Self::Folder(path.join(relative)),
            Self::Remote(url) => {
                let mut url = url.clone();
                url.set_path(&format!("{}/{relative}", url.path().trim_end_matches('/')));
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
                url.set_path(&format!("{parent}/{name}"));
                Self::Remote(url)
            }
        }
    }

    /// Opens the store there. Nothing is made or written before the first write.
    ///
    /// # Errors
    /// When the program cannot open such a store.
    pub fn open(&self, faults: &Arc<dyn Faults>) -> Result<SharedStore, StoreError> {
        match self {
            Self::Folder(path) => Ok(Rc::new(LocalStore::open(path, Arc::clone(faults))?)),
            Self::Remote(url) => self.open_remote(url),
        }
    }

    fn open_remote(&self, url: &Url) -> Result<SharedStore, StoreError> {
        #[cfg(test)]
        if let ("simulated", Some(store)) = (url.scheme(), super::simulated::SimulatedStore::mounted(url.as_str())) {
            return Ok(store);
        }
        let environment = std::env::vars().map(|(key, value)| (key.to_ascii_lowercase(), value));
        let (store, prefix) = object_store::parse_url_opts(url, environment).map_err(|error| {
            StoreError::Unsuitable(format!("{url}: this program cannot open such a store ({error}); use a folder"))
        })?;
        Ok(Rc::new(RemoteStore::new(Arc::from(store), prefix, url.to_string())))
    }

    /// The folder, if it is one.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) => Some(path),
            Self::Remote(_) => None,
        }
    }
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
        assert_eq!(bucket.join("t").beside("t_dead_letters").to_string(), "s3://b/p/t_dead_letters");
        assert_eq!(base.join("t").beside("u").to_string(), "/data/u");
    }

    #[test]
    fn a_scheme_that_is_not_built_in_says_so() {
        let faults: Arc<dyn Faults> = Arc::new(crate::faults::NoFaults);
        let error = Location::parse("s3://bucket/t").unwrap().open(&faults).err().unwrap();
        assert!(error.to_string().contains("cannot open such a store"), "{error}");
    }
}
