//! Tables below a folder, found by their names, and files by their paths.
//!
//! A table is a folder that holds Parquet files, CSV files of a job, or Hive directories `column=value` that do. Names that
//! begin with `_` or `.` are not read, as everywhere (Spark, DuckDB and pyarrow leave them out too).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;

use crate::commands::checkpoint::store_failed;
use crate::commands::error::CommandError;
use crate::commands::query::files;
use crate::engine;
use crate::pipeline::error::JobError;
use crate::storage::StoreError;
use crate::storage::location::Location;
use crate::tables::{Children, Formats, Kind, Place, Table, children, is_table, store_error};

/// The tables of an outputs folder, and those that the command line names.
#[derive(Debug)]
pub(super) struct Tables {
    root: Place,
    tables: BTreeMap<String, Table>,
    named: BTreeMap<String, Place>,
}

impl Tables {
    /// Looks for tables below a folder or URL. A table is known by the name of its folder, or, when several have the same, by
    /// the whole way to it. `may_be_missing`: there may be no such folder.
    pub(super) fn find(outputs: &Location, may_be_missing: bool) -> Result<Self, CommandError> {
        let root = Place::of(outputs).map_err(store_failed)?;
        let is_missing = matches!(&root, Place::Folder(folder) if !folder.is_dir());
        if is_missing && !may_be_missing {
            let cure = "give the folder of the outputs with --outputs";
            return Err(CommandError::user(format!("there is no folder {root}: {cure}")));
        }
        let mut folders = Vec::new();
        if !is_missing {
            let below = children(&root);
            // A store that says no has no tables to choose from.
            let refused = below.as_ref().err().and_then(|error| store_error(error)).map(JobError::from);
            if let Some(error) = refused {
                return Err(error.into());
            }
            collect(&root, below, &mut folders);
        }
        let tables = folders.iter().map(|folder| {
            let is_alone = folders.iter().filter(|other| other.name() == folder.name()).count() == 1;
            let path = root.way_to(folder);
            let known_as = if is_alone || path.is_empty() { folder.name().into_owned() } else { path };
            (known_as, Table::new(folder.clone()))
        });
        let tables = tables.collect();
        Ok(Self { root, tables, named: BTreeMap::new() })
    }

    /// The same, with files and folders that are called so.
    pub(super) fn named(mut self, named: &[(String, String)]) -> Result<Self, CommandError> {
        for (name, path) in named {
            let place = self.place(path).map_err(store_failed)?;
            if matches!(&place, Place::Folder(path) if !path.exists()) {
                return Err(CommandError::user(format!("--table {name}: there is no file or folder {place}")));
            }
            self.tables.retain(|known, _| !known.eq_ignore_ascii_case(name));
            self.named.insert(name.clone(), place);
        }
        Ok(self)
    }

    pub(super) fn root(&self) -> &Place {
        &self.root
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.named.keys().chain(self.tables.keys()).map(String::as_str)
    }

    /// Whether a folder of this name has text of which nobody told the types.
    pub(super) fn has_foreign_text(&self, name: &str) -> bool {
        let Ok(children) = children(&self.root.join(name)) else { return false };
        let text = Formats::only(Kind::Csv).with(Kind::Ndjson);
        children.files.iter().any(|file| text.format_of(&file.name()).is_some())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.named.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Table)> {
        self.tables.iter()
    }

    /// What the command line names.
    pub(super) fn iter_named(&self) -> impl Iterator<Item = (&String, &Place)> {
        self.named.iter()
    }

    /// A URL, or a path as it stands, or below the outputs folder if it is there alone.
    fn place(&self, text: &str) -> Result<Place, StoreError> {
        let path = Path::new(text.strip_prefix("file://").unwrap_or(text));
        match (Location::parse(text)?, &self.root) {
            (location @ Location::Remote(_), _) => Place::of(&location),
            (Location::Folder(_), Place::Folder(root)) if !path.exists() && root.join(path).exists() => {
                Ok(Place::Folder(root.join(path)))
            }
            (Location::Folder(_), Place::Remote(_)) if !path.exists() => Ok(self.root.join(text)),
            (Location::Folder(_), _) => Ok(Place::Folder(path.to_path_buf())),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Table> {
        self.tables
            .get(name)
            .or_else(|| self.tables.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|t| t.1))
    }
}

/// Adds every folder at or below `folder` that is a table. One that cannot be listed may be one: who asks for it is told why
/// it cannot be read, and nobody else is kept from theirs.
fn collect(folder: &Place, below: Result<Children>, tables: &mut Vec<Place>) {
    let Ok(below) = below else {
        tables.push(folder.clone());
        return;
    };
    if is_table(folder, &below) {
        tables.push(folder.clone());
    } else {
        below.folders.iter().for_each(|folder| collect(folder, children(folder), tables));
    }
}

impl engine::Tables for Tables {
    fn open(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let named = self.named.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        if let Some((_, place)) = named {
            return files::open(place).map(Some);
        }
        if let Some(table) = self.get(name) {
            return Ok(Some(Arc::new(table.open(None)?)));
        }
        if !files::is_path(name) {
            return Ok(None);
        }
        let place = self.place(name).map_err(|error| exec_datafusion_err!("{error}"))?;
        files::open(&place).map(Some)
    }
}
