//! Tables below a folder, found by their names.
//!
//! A table is a folder that holds Parquet files, CSV files of a job, or Hive directories `column=value` that do. Names that
//! begin with `_` or `.` are not read, as everywhere (Spark, DuckDB and pyarrow leave them out too).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::error::Result;

use crate::commands::error::CommandError;
use crate::engine;
use crate::storage::location::Location;
use crate::tables::{Table, children, is_csv, is_table};

/// The tables of an outputs folder.
#[derive(Debug)]
pub(super) struct Tables {
    root: PathBuf,
    tables: BTreeMap<String, Table>,
}

impl Tables {
    /// Looks for tables below a folder. A table is known by the name of its folder, or, when several have the same, by
    /// the whole way to it.
    pub(super) fn find(outputs: &Location) -> Result<Self, CommandError> {
        let Some(root) = outputs.folder() else {
            return Err(CommandError::user(format!("query reads folders; {outputs} is none: copy it, or ask DuckDB")));
        };
        if !root.is_dir() {
            let cure = "give the folder of the outputs with --outputs";
            return Err(CommandError::user(format!("there is no folder {}: {cure}", root.display())));
        }
        let mut folders = Vec::new();
        collect(root, &mut folders);
        let name =
            |folder: &Path| folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let tables = folders.iter().map(|folder| {
            let is_alone = folders.iter().filter(|other| name(other) == name(folder)).count() == 1;
            let path = folder.strip_prefix(root).unwrap_or(folder).to_string_lossy().into_owned();
            let known_as = if is_alone || path.is_empty() { name(folder) } else { path };
            (known_as, Table::new(folder.clone()))
        });
        Ok(Self { root: root.to_path_buf(), tables: tables.collect() })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }

    /// Whether a folder of this name has CSV of which nobody told the types.
    pub(super) fn has_foreign_csv(&self, name: &str) -> bool {
        let Ok((_, files)) = children(&self.root.join(name)) else { return false };
        files.iter().any(|file| is_csv(file))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Table)> {
        self.tables.iter()
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
        let Some(table) = self.get(name) else { return Ok(None) };
        Ok(Some(Arc::new(table.open(None)?)))
    }
}
