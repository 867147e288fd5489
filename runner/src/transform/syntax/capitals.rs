//! Names with capitals in a query over tables: a column `deviceType` may be written without quotes, as in a stream.

use std::collections::{HashMap, HashSet};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, Query};

use super::spelling;
use super::visit::{self, Visited, Visitor};
use crate::engine::Tables;
use crate::transform::error::QueryError;

/// Gives the names of columns of the tables that the query reads their capitals. Tells whether there was one to change.
pub(super) fn give(query: &mut Query, tables: &dyn Tables) -> Result<bool, QueryError> {
    let mut read = Read { tables, schemas: Vec::new(), names: HashSet::new() };
    visit::query(&mut read, query)?;
    let Read { schemas, names, .. } = read;
    let mut capitals = Capitals { spelling: spelling(schemas.iter().map(AsRef::as_ref)), names, changed: false };
    visit::query(&mut capitals, query)?;
    Ok(capitals.changed)
}

struct Read<'a> {
    tables: &'a dyn Tables,
    schemas: Vec<SchemaRef>,
    /// Names of tables.
    names: HashSet<String>,
}

impl Visitor for Read<'_> {
    fn table(&mut self, name: &ObjectName) -> Visited {
        let Some(ident) = name.0.last().and_then(|part| part.as_ident()) else { return Ok(()) };
        let name = ident.value.to_lowercase();
        // What cannot be opened is told when it is planned.
        if let Ok(Some(table)) = self.tables.open(&name) {
            self.schemas.push(table.schema());
        }
        self.names.insert(name);
        Ok(())
    }
}

struct Capitals {
    spelling: HashMap<String, String>,
    names: HashSet<String>,
    changed: bool,
}

impl Visitor for Capitals {
    fn column(&mut self, parts: &mut [Ident]) {
        let is_table = parts.len() > 1 && self.names.contains(&parts[0].value.to_lowercase());
        for ident in parts.iter_mut().skip(usize::from(is_table)).filter(|ident| ident.quote_style.is_none()) {
            if let Some(exact) = self.spelling.get(&ident.value.to_lowercase()) {
                ident.value.clone_from(exact);
                ident.quote_style = Some('"');
                self.changed = true;
            }
        }
    }
}
