//! The one name of a folder.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::StoreError;

/// Links that are followed to what is not there yet; one that leads to itself is taken as it is written.
const LINKS_MAX: u32 = 16;

/// A folder without `.`, `..` and symbolic links, so that each place has one name, also before it is there.
///
/// # Errors
/// When the working directory is gone.
pub fn canonical(path: &Path) -> Result<PathBuf, StoreError> {
    let absolute = std::path::absolute(path)
        .map_err(|source| StoreError::io("find the working directory for", "a relative path", source))?;
    Ok(resolved(&absolute, LINKS_MAX))
}

/// An absolute path without links, as far as it is there; what is not there yet is taken as it is written.
fn resolved(absolute: &Path, links: u32) -> PathBuf {
    let mut rest = Vec::new();
    let mut there = absolute;
    loop {
        if let Ok(mut found) = fs::canonicalize(there) {
            for part in rest.iter().rev() {
                if *part == Component::ParentDir {
                    found.pop();
                } else {
                    found.push(part);
                }
            }
            return found;
        }
        let (Some(last), Some(parent)) = (there.components().next_back(), there.parent()) else {
            return absolute.to_owned();
        };
        // A link to what is not there yet.
        if let Some(target) = fs::read_link(there).ok().filter(|_| links > 0) {
            let target = rest.iter().rev().fold(parent.join(target), |path: PathBuf, part| path.join(part));
            return resolved(&target, links - 1);
        }
        rest.push(last);
        there = parent;
    }
}
