//! What the writer of a table says of it, in `_dataplatform/<table>/schema.json` beside the table: types of the directory
//! columns, and which of them are the UTC date of which time. What nobody says is not guessed.

use std::io::ErrorKind;
use std::path::Path;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;
use serde::Deserialize;

/// What is declared; nothing, where nobody declared anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Declared {
    columns: Vec<DeclaredColumn>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeclaredColumn {
    name: String,
    /// In Spark's notation.
    #[serde(rename = "type")]
    data_type: String,
    /// Its value stands in the name of a directory.
    #[serde(default)]
    directory: bool,
    /// The times of the same row whose UTC date it is.
    #[serde(default)]
    utc_date_of: Vec<String>,
}

impl Declared {
    /// Reads what lies beside a table.
    ///
    /// # Errors
    /// What is there and cannot be read.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let Some((parent, name)) = std::fs::canonicalize(folder)
            .ok()
            .and_then(|folder| Some((folder.parent()?.to_owned(), folder.file_name()?.to_owned())))
        else {
            return Ok(Self::default());
        };
        let file = parent.join("_dataplatform").join(name).join("schema.json");
        let unreadable = |error: &dyn std::fmt::Display| {
            let cure = "bring it back, or remove it to read what directories say as text";
            exec_datafusion_err!("{} cannot be read: {error}: {cure}", file.display())
        };
        match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| unreadable(&error)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(unreadable(&error)),
        }
    }

    /// Type of a directory column.
    pub(super) fn directory(&self, column: &str) -> Option<DataType> {
        let known = self.columns.iter().find(|known| known.directory && known.name == column)?;
        Some(match known.data_type.as_str() {
            "boolean" => DataType::Boolean,
            "tinyint" => DataType::Int8,
            "smallint" => DataType::Int16,
            "int" => DataType::Int32,
            "bigint" => DataType::Int64,
            "date" => DataType::Date32,
            "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
            _ => DataType::Utf8,
        })
    }

    /// The directory columns that hold the UTC date of a time.
    pub(super) fn utc_dates_of(&self, time: &str) -> impl Iterator<Item = &str> {
        let is_date = move |column: &&DeclaredColumn| {
            column.directory && column.data_type == "date" && column.utc_date_of.iter().any(|of| of == time)
        };
        self.columns.iter().filter(is_date).map(|column| column.name.as_str())
    }
}
