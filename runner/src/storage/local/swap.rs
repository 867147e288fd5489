//! Folders that are staged whole and put in the place of a folder of a table, in one step.
//!
//! ```text
//! make ── stage files, sync each ── link what is kept ── sync ── renameat2(RENAME_EXCHANGE) ── sync both parents ── remove what was there
//! ```
//!
//! A folder is staged below one that its owner made when it began (`<log>-<epoch>`), and never makes that again. So an owner
//! that was superseded, sleeps and wakes up can stage nothing any more, and puts nothing in anybody's place: the next one has
//! taken its folder away before it publishes the first file.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use twox_hash::XxHash3_64;

use super::{LocalFile, LocalStore, is_absent};
use crate::faults::{Faults, Guard, Moment, Step};
use crate::storage::{StagedFile, StagedFolder, StoreError};

/// What is taken away lies in a folder with such a name until it is removed.
const TAKEN: &str = ".taken-";

impl LocalStore {
    /// Takes away what others staged below `root`, and makes the folder `own` there.
    pub(super) fn begin_staging_folders(&self, root: &str, own: Option<&str>) -> Result<(), StoreError> {
        let root = self.path(root)?;
        let error = |source| StoreError::io("prepare", &root.display().to_string(), source);
        for entry in read(&root).map_err(error)? {
            if entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TAKEN)) {
                fs::remove_dir_all(&entry).or_else(gone).map_err(error)?;
            } else {
                take_away(&root, &entry).map_err(error)?;
            }
        }
        let Some(own) = own else { return Ok(()) };
        fs::create_dir_all(&root).map_err(error)?;
        fs::create_dir(root.join(own)).map_err(error)?;
        let parents = [root.as_path(), root.parent().unwrap_or(&root)];
        parents.into_iter().try_for_each(|folder| self.sync_folder(folder)).map_err(error)
    }

    pub(super) fn stage_whole_folder(&self, path: &str) -> Result<LocalFolder, StoreError> {
        let folder = self.path(path)?;
        // Its parent is not made: it may have been taken away.
        fs::create_dir(&folder).map_err(|source| self.error("create", path, source))?;
        Ok(LocalFolder { folder, table: self.root.clone(), faults: Arc::clone(&self.faults) })
    }

    /// Takes a folder of the table from its readers, and removes it.
    pub(super) fn remove_whole_folder(&self, stage: &str, folder: &str) -> Result<(), StoreError> {
        let (to, from) = (self.path(stage)?, self.path(folder)?);
        let error = |source| self.error("remove", folder, source);
        match fs::rename(&from, &to) {
            Err(absent) if is_absent(&absent) && !from.exists() => return Ok(()),
            moved => moved.map_err(error)?,
        }
        let parents = [to.parent(), from.parent()];
        parents.into_iter().flatten().try_for_each(|folder| self.sync_folder(folder)).map_err(error)?;
        fs::remove_dir_all(&to).or_else(gone).map_err(error)
    }
}

/// What lies in a folder; nothing, if it is not there.
fn read(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if is_absent(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn gone(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Takes away what an owner staged, and then the place where it could stage more. Each folder is moved in one step, so that
/// nobody can put a half removed one into a table.
fn take_away(root: &Path, owned: &Path) -> std::io::Result<()> {
    let taken = root.join(format!("{TAKEN}{}", uuid::Uuid::new_v4()));
    fs::create_dir(&taken)?;
    let mut number = 0;
    loop {
        for staged in read(owned)? {
            number += 1;
            match fs::rename(&staged, taken.join(number.to_string())) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                moved => moved?,
            }
        }
        match fs::remove_dir(owned) {
            // It was just staging another one.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() == ErrorKind::NotADirectory => break fs::remove_file(owned)?,
            removed => break removed.or_else(gone)?,
        }
    }
    fs::remove_dir_all(&taken)
}

/// A folder that nobody looks at yet.
pub(super) struct LocalFolder {
    folder: PathBuf,
    /// The folder of the table.
    table: PathBuf,
    faults: Arc<dyn Faults>,
}

impl LocalFolder {
    fn sync(&self, folder: &Path) -> std::io::Result<()> {
        let is_needed = self.faults.guard(Guard::DurabilityOrder);
        if is_needed { fs::File::open(folder)?.sync_all() } else { Ok(()) }
    }

    fn put(&self, target: &Path, merged: &[String], kept: &[String]) -> std::io::Result<()> {
        for name in kept {
            fs::hard_link(target.join(name), self.folder.join(name))?;
        }
        self.sync(&self.folder)?;
        self.faults.reached(Step::Exchange, Moment::Before);
        renameat_with(CWD, &self.folder, CWD, target, RenameFlags::EXCHANGE)?;
        let parents = [self.folder.parent(), target.parent()];
        parents.into_iter().flatten().try_for_each(|folder| self.sync(folder))?;
        self.faults.reached(Step::Exchange, Moment::After);
        // What somebody else put there meanwhile stays in the table.
        for left in read(&self.folder)? {
            let name = left.file_name().unwrap_or_default();
            let is_known = |known: &String| name == known.as_str();
            if !merged.iter().chain(kept).any(is_known) && !target.join(name).exists() {
                fs::rename(&left, target.join(name))?;
            }
        }
        Ok(())
    }
}

#[async_trait(?Send)]
impl StagedFolder for LocalFolder {
    async fn stage(&self, name: &str) -> Result<Box<dyn StagedFile>, StoreError> {
        let path = self.folder.join(name);
        let shown = path.display().to_string();
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|source| StoreError::io("create", &shown, source))?;
        let faults = Arc::clone(&self.faults);
        Ok(Box::new(LocalFile { file, shown, hash: XxHash3_64::new(), bytes: 0, faults }))
    }

    async fn replace(self: Box<Self>, folder: &str, merged: &[String], kept: &[String]) -> Result<(), StoreError> {
        let target = self.table.join(folder);
        let shown = target.display().to_string();
        if let Err(source) = self.put(&target, merged, kept) {
            let cannot = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::XDEV].map(|errno| errno.raw_os_error());
            let cannot = source.raw_os_error().is_some_and(|number| cannot.contains(&number));
            // Whatever is left of it is removed by the next start.
            let _ = fs::remove_dir_all(&self.folder);
            return Err(match cannot {
                true => StoreError::Unsuitable(format!(
                    "{shown}: this file system cannot exchange two folders in one step ({source}), which compaction needs: leave \
                     sink.maintenance.compactAfter out, or use another file system"
                )),
                false => StoreError::io("compact", &shown, source),
            });
        }
        // What was there before.
        match fs::remove_dir_all(&self.folder) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(StoreError::io("remove", &self.folder.display().to_string(), source))
            }
            _ => Ok(()),
        }
    }

    async fn abandon(self: Box<Self>) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::faults::NoSync;
    use crate::storage::Store;

    const ROOT: &str = "_dataplatform/compaction";

    struct World(tempfile::TempDir);

    impl World {
        fn new() -> Self {
            let world = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(world.0.path().join("t/d=1")).unwrap();
            for name in ["a", "b", "c"] {
                fs::write(world.0.path().join("t/d=1").join(name), name).unwrap();
            }
            world
        }

        fn store(&self) -> LocalStore {
            LocalStore::open_table(&self.0.path().join("t"), Arc::new(NoSync)).unwrap()
        }

        fn names(&self, folder: &str) -> Vec<String> {
            let mut names: Vec<_> = read(&self.0.path().join(folder)).unwrap();
            names.sort();
            names.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
        }
    }

    async fn staged(store: &LocalStore, epoch: &str) -> Result<Box<dyn StagedFolder>, StoreError> {
        let folder = store.stage_folder(&format!("{ROOT}/{epoch}/x")).await?;
        let mut file = folder.stage("ab").await?;
        file.write(Bytes::from_static(b"ab")).await?;
        file.finish().await?;
        Ok(folder)
    }

    #[tokio::test]
    async fn a_folder_takes_the_place_of_another_with_what_is_kept() {
        let world = World::new();
        let store = world.store();
        store.begin_folders(ROOT, Some("1")).await.unwrap();
        let folder = staged(&store, "1").await.unwrap();
        assert_eq!(world.names("t/d=1"), ["a", "b", "c"]);
        fs::write(world.0.path().join("t/d=1/foreign"), "put there by somebody else").unwrap();
        folder.replace("d=1", &["a".to_owned(), "b".to_owned()], &["c".to_owned()]).await.unwrap();
        assert_eq!(world.names("t/d=1"), ["ab", "c", "foreign"]);
        assert_eq!(world.names("_dataplatform/t/compaction/1"), Vec::<String>::new());
        store.remove_folder(&format!("{ROOT}/1/y"), "d=1").await.unwrap();
        store.remove_folder(&format!("{ROOT}/1/y"), "d=1").await.unwrap();
        assert_eq!(world.names("t"), Vec::<String>::new());
    }

    #[tokio::test]
    async fn who_was_superseded_puts_nothing_in_anybodys_place() {
        let world = World::new();
        let (old, new) = (world.store(), world.store());
        old.begin_folders(ROOT, Some("1")).await.unwrap();
        let ready = staged(&old, "1").await.unwrap();
        let half = old.stage_folder(&format!("{ROOT}/1/half")).await.unwrap();
        new.begin_folders(ROOT, Some("2")).await.unwrap();
        fs::write(world.0.path().join("t/d=1/d"), "published since").unwrap();
        assert!(ready.replace("d=1", &[], &[]).await.is_err());
        assert!(half.stage("late").await.is_err());
        assert!(staged(&old, "1").await.is_err(), "nor does it stage more");
        assert!(old.remove_folder(&format!("{ROOT}/1/y"), "d=1").await.is_err());
        assert_eq!(world.names("t/d=1"), ["a", "b", "c", "d"]);
        assert_eq!(world.names("_dataplatform/t/compaction"), ["2"]);
        // One that is not wanted any more.
        new.begin_folders(ROOT, None).await.unwrap();
        assert_eq!(world.names("_dataplatform/t/compaction"), Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_a_kill_left_is_removed() {
        let world = World::new();
        let store = world.store();
        store.begin_folders(ROOT, Some("1")).await.unwrap();
        staged(&store, "1").await.unwrap();
        fs::create_dir_all(world.0.path().join("_dataplatform/t/compaction/.taken-x/1")).unwrap();
        store.begin_folders(ROOT, Some("2")).await.unwrap();
        assert_eq!(world.names("_dataplatform/t/compaction"), ["2"]);
        assert_eq!(world.names("t/d=1"), ["a", "b", "c"]);
    }
}
