//! `query`: one SELECT over the tables of the outputs folder.
//!
//! ```text
//! text ── one query ── plan (each table found by its name) ── rows ── table | CSV | JSON
//! ```

mod show;
mod tables;

use std::sync::Arc;

use data_platform_crds::problem::did_you_mean;
use futures::StreamExt;

use crate::args::{QueryArgs, QueryFormat};
use crate::clock::{Clock, SystemClock};
use crate::commands::checkpoint::store_failed;
use crate::commands::error::CommandError;
use crate::commands::{align_right, bytes, grouped, list, print};
use crate::pipeline::memory::MemoryBudget;
use crate::storage::location::Location;
use crate::transform::{QueryError, SelectRows, TableQuery};

use self::show::Writer;
use self::tables::Tables;

/// Runs the command.
pub(crate) fn query(args: &QueryArgs) -> Result<u8, CommandError> {
    let outputs = Location::parse(&args.outputs).map_err(store_failed)?;
    match &args.sql {
        Some(sql) => run(&outputs, sql, args.format)?,
        None => print(&listing(&Tables::find(&outputs)?)),
    }
    Ok(0)
}

/// Prints what a SELECT gives.
pub(crate) fn run(outputs: &Location, sql: &str, format: QueryFormat) -> Result<(), CommandError> {
    let tables = Arc::new(Tables::find(outputs)?);
    runtime()?.block_on(async {
        let mut rows = execute(&tables, sql)?;
        let mut writer = Writer::new(rows.schema(), format)?;
        while let Some(batch) = rows.next().await {
            writer.write(&batch.map_err(|error| refused(QueryError::from_datafusion(&error), &tables))?)?;
        }
        writer.finish()
    })
}

/// Partitions of the query run on its threads.
fn runtime() -> Result<tokio::runtime::Runtime, CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| CommandError::failed(format!("cannot start the runtime: {error}")))
}

/// Starts a SELECT.
fn execute(tables: &Arc<Tables>, sql: &str) -> Result<SelectRows, CommandError> {
    let memory = usize::try_from(MemoryBudget::detect().state).unwrap_or(usize::MAX);
    let query = TableQuery::parse(sql).map_err(unreadable)?;
    query.start(tables.clone(), memory, SystemClock.now()).map_err(|error| refused(error, tables))
}

/// One query, nothing else.
fn unreadable(error: QueryError) -> CommandError {
    let other = ["does not run in a job", "there are several statements"];
    if other.iter().any(|other| error.message.ends_with(other)) {
        return CommandError::user("query takes one SELECT; it reads and changes nothing");
    }
    CommandError::user(format!("the query cannot be read: {error}: write one SELECT"))
}

fn refused(error: QueryError, tables: &Tables) -> CommandError {
    let Some(name) = error.unknown_table() else {
        return CommandError::user(format!("the query cannot run: {error}"));
    };
    let hint = match did_you_mean(name, tables.names()) {
        _ if tables.has_foreign_csv(name) => "the folder has CSV, and only CSV that a job wrote is read: read it as a \
                                              reference of a job, or with DuckDB"
            .to_owned(),
        Some(similar) => format!("did you mean {similar}?"),
        None if tables.is_empty() => format!("there are no tables below {}", tables.root().display()),
        None => format!("there are {}", tables.names().collect::<Vec<_>>().join(", ")),
    };
    CommandError::user(format!("the query reads the table {name}, which is not there: {hint}"))
}

fn listing(tables: &Tables) -> String {
    if tables.is_empty() {
        return format!("There are no tables below {}.\n", tables.root().display());
    }
    let mut shown = list(&["table", "files", "size", "folder"]);
    for (name, table) in tables.iter() {
        let folder = table.folder().strip_prefix(tables.root()).unwrap_or(table.folder());
        let Ok(files) = table.files() else {
            shown.add_row([name.clone(), "?".to_owned(), "?".to_owned(), folder.display().to_string()]);
            continue;
        };
        let size = files.iter().filter_map(|file| std::fs::metadata(file).ok()).map(|file| file.len()).sum();
        shown.add_row([name.clone(), grouped(files.len() as u64), bytes(size), folder.display().to_string()]);
    }
    align_right(&mut shown, &[1, 2]);
    format!("{shown}\n")
}

#[cfg(test)]
mod tests;
