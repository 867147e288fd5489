//! Which files a table has. Names that begin with `_` or `.` are not read, as everywhere (Spark, DuckDB and pyarrow leave
//! them out too): what is not published lies there.

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use crate::storage::paths;
use crate::tables::hive::parse_directory;
use crate::tables::schema::TableSchema;

/// A file with what its Hive directories `column=value` say; of a column that stands twice the inner value.
#[derive(Clone, Debug)]
pub(super) struct ListedFile {
    pub(super) path: PathBuf,
    pub(super) values: Vec<(String, Option<String>)>,
}

/// Folders and files that are there for readers, in order.
///
/// # Errors
/// A folder that cannot be listed.
pub(crate) fn children(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    let named = |path: &Path| {
        let path = path.display().to_string();
        move |error: Error| Error::new(error.kind(), format!("{path} cannot be read: {error}"))
    };
    for entry in std::fs::read_dir(folder).map_err(named(folder))? {
        let entry = entry.map_err(named(folder))?;
        if entry.file_name().to_string_lossy().starts_with(['_', '.']) {
            continue;
        }
        let path = entry.path();
        let mut kind = entry.file_type().map_err(named(&path))?;
        if kind.is_symlink() {
            kind = std::fs::metadata(&path).map_err(named(&path))?.file_type();
        }
        if kind.is_dir() { folders.push(path) } else { files.push(path) }
    }
    folders.sort();
    files.sort();
    Ok((folders, files))
}

fn is_parquet(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == paths::PARQUET)
}

pub(crate) fn is_csv(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == paths::CSV)
}

/// Whether a folder is a table: it holds files of one, or directories of a partition column.
pub(crate) fn is_table(folder: &Path, folders: &[PathBuf], files: &[PathBuf]) -> bool {
    files.iter().any(|file| is_parquet(file))
        || folders.iter().any(|folder| partition_of(folder).is_some())
        || (files.iter().any(|file| is_csv(file)) && !matches!(TableSchema::of_folder(folder), Ok(None)))
}

/// `column=value` of a Hive directory.
pub(crate) fn partition_of(folder: &Path) -> Option<(String, Option<String>)> {
    parse_directory(&folder.file_name()?.to_string_lossy())
}

/// The files of a table, in order: of a folder, or one that is named itself. A table without a folder has none. CSV belongs
/// to it if a job wrote it, which says of what types the cells are: what else lies there may be anything.
///
/// # Errors
/// A folder that is there and cannot be listed.
pub(super) fn list(folder: &Path, with_csv: bool) -> Result<Vec<ListedFile>> {
    let mut found = Vec::new();
    if let Err(error) = std::fs::symlink_metadata(folder)
        && error.kind() == ErrorKind::NotFound
    {
        return Ok(found);
    }
    if folder.is_file() {
        return Ok(vec![ListedFile { path: folder.to_path_buf(), values: Vec::new() }]);
    }
    below(folder, with_csv, &[], &mut found)?;
    Ok(found)
}

fn below(
    folder: &Path,
    with_csv: bool,
    values: &[(String, Option<String>)],
    found: &mut Vec<ListedFile>,
) -> Result<()> {
    let (folders, files) = children(folder)?;
    let files = files.into_iter().filter(|file| is_parquet(file) || (with_csv && is_csv(file)));
    found.extend(files.map(|path| ListedFile { path, values: values.to_vec() }));
    for folder in folders {
        let mut values = values.to_vec();
        if let Some((column, value)) = partition_of(&folder) {
            values.retain(|(known, _)| *known != column);
            values.push((column, value));
        }
        below(&folder, with_csv, &values, found)?;
    }
    Ok(())
}
