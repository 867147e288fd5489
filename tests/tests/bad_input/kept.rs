//! What must not be harmed: every file below a folder, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// Files as they were.
pub(super) struct Kept {
    root: PathBuf,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Kept {
    /// Remembers every file below `root`, save locks: those belong to the process that runs.
    pub(super) fn of(root: &Path) -> anyhow::Result<Self> {
        let mut files = BTreeMap::new();
        read(root, &mut files)?;
        Ok(Self { root: root.to_owned(), files })
    }

    /// The files with this extension.
    pub(super) fn only(&self, extension: &str) -> Self {
        let has = |path: &PathBuf| path.extension().is_some_and(|found| found == extension);
        let files = self.files.iter().filter(|(path, _)| has(path));
        Self { root: self.root.clone(), files: files.map(|(path, content)| (path.clone(), content.clone())).collect() }
    }

    /// Every file is still there, with its content.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        for (path, content) in &self.files {
            let now = fs::read(path).with_context(|| format!("{} was there before", path.display()))?;
            ensure!(now == *content, "{} was changed", path.display());
        }
        Ok(())
    }

    /// As [`Kept::check`], and nothing came.
    pub(super) fn check_untouched(&self) -> anyhow::Result<()> {
        self.check()?;
        let now = Self::of(&self.root)?;
        let new: Vec<_> = now.files.keys().filter(|path| !self.files.contains_key(*path)).collect();
        ensure!(new.is_empty(), "these files came: {new:?}");
        Ok(())
    }
}

fn read(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            read(&path, files)?;
        } else if path.file_name().is_none_or(|name| name != "lock") {
            let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            files.insert(path, content);
        }
    }
    Ok(())
}
