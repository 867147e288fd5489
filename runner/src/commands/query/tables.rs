//! Tables below a folder, found by their names, and files by their paths.
//!
//! A table is a folder that holds Parquet files, CSV files of a job, or Hive directories `column=value` that do. Names that
//! begin with `_` or `.` are not read, as everywhere (Spark, DuckDB and pyarrow leave them out too).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::plan_err;
use datafusion::error::Result;

use crate::commands::error::CommandError;
use crate::commands::query::files;
use crate::engine;
use crate::storage::location::Location;
use crate::tables::{Table, children, is_csv, is_table};

/// The tables of an outputs folder, and those that the command line names.
#[derive(Debug)]
pub(super) struct Tables {
    root: PathBuf,
    tables: BTreeMap<String, Table>,
    named: BTreeMap<String, PathBuf>,
}

impl Tables {
    /// Looks for tables below a folder. A table is known by the name of its folder, or, when several have the same, by
    /// the whole way to it. `may_be_missing`: there may be no such folder.
    pub(super) fn find(outputs: &Location, may_be_missing: bool) -> Result<Self, CommandError> {
        let Some(root) = outputs.folder() else {
            return Err(CommandError::user(format!("query reads folders; {outputs} is none: copy it, or ask DuckDB")));
        };
        if !root.is_dir() && !may_be_missing {
            let cure = "give the folder of the outputs with --outputs";
            return Err(CommandError::user(format!("there is no folder {}: {cure}", root.display())));
        }
        let mut folders = Vec::new();
        if root.is_dir() {
            collect(root, &mut folders);
        }
        let name =
            |folder: &Path| folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let tables = folders.iter().map(|folder| {
            let is_alone = folders.iter().filter(|other| name(other) == name(folder)).count() == 1;
            let path = folder.strip_prefix(root).unwrap_or(folder).to_string_lossy().into_owned();
            let known_as = if is_alone || path.is_empty() { name(folder) } else { path };
            (known_as, Table::new(folder.clone()))
        });
        Ok(Self { root: root.to_path_buf(), tables: tables.collect(), named: BTreeMap::new() })
    }

    /// The same, with files and folders that are called so.
    pub(super) fn named(mut self, named: &[(String, String)]) -> Result<Self, CommandError> {
        for (name, path) in named {
            let path = self.path(path);
            if !path.exists() {
                let message = format!("--table {name}: there is no file or folder {}", path.display());
                return Err(CommandError::user(message));
            }
            self.tables.retain(|known, _| !known.eq_ignore_ascii_case(name));
            self.named.insert(name.clone(), path);
        }
        Ok(self)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().chain(self.tables.keys()).map(String::as_str)
    }

    /// Whether a folder of this name has CSV of which nobody told the types.
    pub(super) fn has_foreign_csv(&self, name: &str) -> bool {
        let Ok((_, files)) = children(&self.root.join(name)) else { return false };
        files.iter().any(|file| is_csv(file))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.named.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Table)> {
        self.tables.iter()
    }

    /// What the command line names.
    pub(super) fn iter_named(&self) -> impl Iterator<Item = (&String, &PathBuf)> {
        self.named.iter()
    }

    /// A path as it stands, or below the outputs folder if it is there alone.
    fn path(&self, path: &str) -> PathBuf {
        let path = Path::new(path.strip_prefix("file://").unwrap_or(path));
        let below = self.root.join(path);
        if !path.exists() && below.exists() { below } else { path.to_path_buf() }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Table> {
        self.tables
            .get(name)
            .or_else(|| self.tables.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|t| t.1))
    }
}

/// Adds every folder at or below `folder` that is a table. One that cannot be listed may be one: who asks for it is told why
/// it cannot be read, and nobody else is kept from theirs.
fn collect(folder: &Path, tables: &mut Vec<PathBuf>) {
    let Ok((folders, files)) = children(folder) else {
        tables.push(folder.to_path_buf());
        return;
    };
    if is_table(folder, &folders, &files) {
        tables.push(folder.to_path_buf());
    } else {
        folders.iter().for_each(|folder| collect(folder, tables));
    }
}

impl engine::Tables for Tables {
    fn open(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let named = self.named.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        if let Some((_, path)) = named {
            return files::open(path).map(Some);
        }
        if let Some(table) = self.get(name) {
            return Ok(Some(Arc::new(table.open(None)?)));
        }
        if let Some((scheme, _)) = name.split_once("://").filter(|(scheme, _)| *scheme != "file") {
            return plan_err!(
                "query reads files and folders, and {name} is in {scheme}://: copy it here, or ask DuckDB"
            );
        }
        if files::is_path(name) { files::open(&self.path(name)).map(Some) } else { Ok(None) }
    }
}
