//! Which files a table has. Names that begin with `_` or `.` are not read, as everywhere (Spark, DuckDB and pyarrow leave
//! them out too): what is not published lies there.

use std::io::{Error, ErrorKind};
use std::path::Path;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{ColumnStatistics, exec_datafusion_err};
use datafusion::error::{DataFusionError, Result};
use futures::TryStreamExt;
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStoreExt};

use crate::storage::{StoreError, paths};
use crate::tables::format::{FileFormat, Formats};
use crate::tables::hive::parse_directory;
use crate::tables::place::{FileAt, Place, Prefix, RemoteFile};
use crate::tables::remote::{store_failed, wait};
use crate::tables::schema::TableSchema;

/// The files of a table, and what is known of them before one is opened: as a folder lists them, or as somebody does who
/// keeps a list of his own.
#[derive(Clone, Debug, Default)]
pub(crate) struct TableFiles {
    /// In order, the newest last.
    pub(crate) files: Vec<ListedFile>,
    /// All columns, also those that are in no file, where the list comes with them: no file is opened then before its rows
    /// are read. A file may lack some.
    pub(crate) schema: Option<SchemaRef>,
}

/// A file of a table.
#[derive(Clone, Debug)]
pub(crate) struct ListedFile {
    pub(crate) at: FileAt,
    pub(crate) format: FileFormat,
    /// Its length; `None`: nobody has looked yet.
    pub(crate) bytes: Option<u64>,
    /// Columns whose value the file itself does not hold, with their text, null without one: what Hive directories
    /// `column=value` say, of a column that stands twice the inner value.
    pub(crate) values: Vec<(String, Option<String>)>,
    /// What the list tells of its rows.
    pub(crate) known: Option<KnownRows>,
}

/// What is known of a file's rows without a look into it.
#[derive(Clone, Debug)]
pub(crate) struct KnownRows {
    pub(crate) rows: u64,
    /// Bounds and nulls of columns in the file, by name.
    pub(crate) columns: Vec<(String, ColumnStatistics)>,
}

/// What lies directly in a folder, as far as it is there for readers, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Children {
    pub(crate) folders: Vec<Place>,
    pub(crate) files: Vec<FileAt>,
}

/// Folders and files that are there for readers, in order.
///
/// # Errors
/// A folder that cannot be listed.
pub(crate) fn children(place: &Place) -> Result<Children> {
    match place {
        Place::Folder(folder) => children_of_folder(folder).map_err(|error| exec_datafusion_err!("{error}")),
        Place::Remote(prefix) => {
            let asked = std::sync::Arc::clone(prefix);
            let listed = wait(async move {
                let listed = asked.store.list_with_delimiter(Some(&asked.key)).await;
                listed.map_err(|error| store_failed("list", Place::Remote(asked).to_string(), error))
            });
            let listed = listed.map_err(external)?;
            let is_visible = |key: &Key| !is_hidden(key.filename().unwrap_or_default());
            let mut folders: Vec<_> = listed.common_prefixes.into_iter().filter(is_visible).collect();
            folders.sort();
            let folders = folders.into_iter().map(|key| Place::Remote(prefix.at(key).into())).collect();
            let mut files: Vec<_> = listed.objects.into_iter().filter(|object| is_visible(&object.location)).collect();
            files.sort_by(|a, b| a.location.cmp(&b.location));
            Ok(Children { folders, files: files.into_iter().map(|object| remote(prefix, object)).collect() })
        }
    }
}

fn external(error: StoreError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn is_hidden(name: &str) -> bool {
    name.starts_with(['_', '.'])
}

fn remote(prefix: &std::sync::Arc<Prefix>, object: ObjectMeta) -> FileAt {
    let ObjectMeta { location: key, size: bytes, e_tag: etag, .. } = object;
    FileAt::Remote(RemoteFile { prefix: std::sync::Arc::clone(prefix), key, bytes, etag })
}

fn children_of_folder(folder: &Path) -> std::io::Result<Children> {
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    let named = |path: &Path| {
        let path = path.display().to_string();
        move |error: Error| Error::new(error.kind(), format!("{path} cannot be read: {error}"))
    };
    for entry in std::fs::read_dir(folder).map_err(named(folder))? {
        let entry = entry.map_err(named(folder))?;
        if is_hidden(&entry.file_name().to_string_lossy()) {
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
    Ok(Children {
        folders: folders.into_iter().map(Place::Folder).collect(),
        files: files.into_iter().map(FileAt::Local).collect(),
    })
}

/// Whether a folder is a table: it holds files of one, or directories of a partition column.
pub(crate) fn is_table(place: &Place, children: &Children) -> bool {
    let has = |formats: Formats| children.files.iter().any(|file| formats.format_of(&file.name()).is_some());
    has(Formats::PARQUET)
        || children.folders.iter().any(|folder| partition_of(folder).is_some())
        || (has(Formats::ALL) && !matches!(TableSchema::of_place(place), Ok(None)))
        || super::is_delta(place).unwrap_or_default()
}

/// `column=value` of a Hive directory.
pub(crate) fn partition_of(folder: &Place) -> Option<(String, Option<String>)> {
    parse_directory(&folder.name())
}

/// The files of a table, in order: of a folder, or one that is named itself. A table without a folder has none. Text belongs
/// to it only in the formats that were asked for: what else lies there may be anything. A file whose rows are in another one is
/// none: the job that merges them is about to remove it.
///
/// # Errors
/// A folder that is there and cannot be listed.
pub(crate) fn list(place: &Place, formats: Formats) -> Result<Vec<ListedFile>> {
    let mut files = match place {
        Place::Folder(folder) => list_folder(place, folder, formats)?,
        Place::Remote(prefix) => list_prefix(prefix, formats).map_err(external)?,
    };
    let names: Vec<_> = files.iter().map(|file| file.at.below(place)).collect();
    let covered = paths::covered(names.iter().map(String::as_str));
    if !covered.is_empty() {
        let mut seen = names.iter();
        files.retain(|_| seen.next().is_some_and(|name| !covered.contains(name.as_str())));
    }
    Ok(files)
}

fn list_folder(place: &Place, folder: &Path, formats: Formats) -> Result<Vec<ListedFile>> {
    let mut found = Vec::new();
    if let Err(error) = std::fs::symlink_metadata(folder)
        && error.kind() == ErrorKind::NotFound
    {
        return Ok(found);
    }
    if folder.is_file() {
        return Ok(vec![alone(FileAt::from(folder), formats)]);
    }
    below(place, formats, &[], &mut found)?;
    Ok(found)
}

/// A file that is named itself: one whose name says nothing is Parquet.
fn alone(at: FileAt, formats: Formats) -> ListedFile {
    let format = formats.format_of(&at.name()).unwrap_or_default();
    listed(at, format, Vec::new())
}

fn listed(at: FileAt, format: FileFormat, values: Vec<(String, Option<String>)>) -> ListedFile {
    ListedFile { bytes: at.known_bytes(), at, format, values, known: None }
}

fn below(
    place: &Place,
    formats: Formats,
    values: &[(String, Option<String>)],
    found: &mut Vec<ListedFile>,
) -> Result<()> {
    let Children { folders, files } = children(place)?;
    for at in files {
        if let Some(format) = formats.format_of(&at.name()) {
            found.push(listed(at, format, values.to_vec()));
        }
    }
    for folder in folders {
        let mut values = values.to_vec();
        if let Some((column, value)) = partition_of(&folder) {
            add(&mut values, column, value);
        }
        below(&folder, formats, &values, found)?;
    }
    Ok(())
}

fn add(values: &mut Vec<(String, Option<String>)>, column: String, value: Option<String>) {
    values.retain(|(known, _)| *known != column);
    values.push((column, value));
}

/// All objects below a prefix in as few requests as the store allows, or the object that has this very name.
fn list_prefix(prefix: &std::sync::Arc<Prefix>, formats: Formats) -> std::result::Result<Vec<ListedFile>, StoreError> {
    let asked = std::sync::Arc::clone(prefix);
    let is_file = Formats::ALL.format_of(asked.key.filename().unwrap_or_default()).is_some();
    let mut objects = wait(async move {
        let failed = |error| store_failed("list", Place::Remote(std::sync::Arc::clone(&asked)).to_string(), error);
        let alone = async || match asked.store.head(&asked.key).await {
            Ok(object) => Ok(Some(object)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        };
        if is_file && let Some(object) = alone().await? {
            return Ok(vec![object]);
        }
        let listed: Vec<_> = asked.store.list(Some(&asked.key)).try_collect().await.map_err(failed)?;
        // A file whose name says nothing.
        if listed.is_empty() && !is_file && !asked.key.as_ref().is_empty() {
            return Ok(alone().await?.into_iter().collect());
        }
        Ok(listed)
    })?;
    if let [object] = &objects[..]
        && object.location == prefix.key
    {
        return Ok(vec![alone(remote(prefix, objects.remove(0)), formats)]);
    }
    let mut found = Vec::with_capacity(objects.len());
    for object in objects {
        let Some(way) = object.location.as_ref().strip_prefix(prefix.key.as_ref()) else { continue };
        let way = way.trim_start_matches('/').to_owned();
        let (folders, name) = way.rsplit_once('/').unwrap_or(("", &way));
        let Some(format) = formats.format_of(name) else { continue };
        if is_hidden(name) || folders.split('/').any(is_hidden) {
            continue;
        }
        let mut values = Vec::new();
        for (column, value) in folders.split('/').filter_map(parse_directory) {
            add(&mut values, column, value);
        }
        found.push((in_order(&way), listed(remote(prefix, object), format, values)));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found.into_iter().map(|(_, file)| file).collect())
}

/// What ways are sorted by, so that objects have the order of files: those of a folder before those of its folders.
fn in_order(way: &str) -> Vec<(bool, String)> {
    let last = way.matches('/').count();
    way.split('/').enumerate().map(|(index, name)| (index < last, name.to_owned())).collect()
}
