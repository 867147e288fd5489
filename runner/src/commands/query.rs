//! `query`: one SELECT over the tables of the outputs folder, and over files by their path.
//!
//! ```text
//! text ── EXPLAIN? ── one query ── plan (each table found by its name or path) ── rows ── table | CSV | JSON | Parquet | Markdown | chart
//! ```

mod explain;
mod files;
mod plot;
mod prompt;
mod show;
mod tables;

use std::io::{IsTerminal, stdin, stdout};
use std::sync::Arc;

use data_platform_crds::problem::did_you_mean;
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;

use crate::args::{QueryArgs, QueryFormat};
use crate::clock::{Clock, SystemClock};
use crate::commands::checkpoint::store_failed;
use crate::commands::error::CommandError;
use crate::commands::{align_right, bytes, fit, grouped, list, print};
use crate::pipeline::memory::MemoryBudget;
use crate::storage::location::Location;
use crate::tables::ListedFile;
use crate::transform::{QueryError, SelectRows, TableQuery};

use self::explain::Explain;
use self::plot::Plot;
use self::show::Writer;
use self::tables::Tables;

/// Runs the command.
pub(crate) fn query(args: &QueryArgs) -> Result<u8, CommandError> {
    let outputs = Location::parse(&args.outputs).map_err(store_failed)?;
    let reads_files = !args.tables.is_empty() || args.sql.as_deref().is_some_and(names_a_path);
    let tables = Arc::new(Tables::find(&outputs, reads_files)?.named(&args.tables)?);
    match &args.sql {
        Some(sql) => runtime()?.block_on(say(&tables, sql, args))?,
        None if stdin().is_terminal() && stdout().is_terminal() => prompt::converse(&tables, args)?,
        None => print(&listing(&tables)),
    }
    Ok(0)
}

/// Prints what a SELECT over the tables of an outputs folder gives.
pub(crate) fn run(outputs: &Location, sql: &str, format: QueryFormat) -> Result<(), CommandError> {
    let tables = Arc::new(Tables::find(outputs, false)?);
    runtime()?.block_on(rows(&tables, sql, Writer::new(format)))
}

/// Prints what is asked for: rows, a chart, or a plan.
async fn say(tables: &Arc<Tables>, sql: &str, args: &QueryArgs) -> Result<(), CommandError> {
    let (explain, sql) = explain::taken_off(sql);
    if args.format == QueryFormat::Parquet && explain == Explain::No && stdout().is_terminal() {
        return Err(CommandError::user("Parquet is not for the screen: write it into a file, as in … > rows.parquet"));
    }
    match explain {
        Explain::No if args.plot => plotted(tables, sql).await,
        Explain::No => rows(tables, sql, Writer::new(args.format)).await,
        Explain::Plan => {
            print(&explain::tree(&execute(tables, sql)?.1, None));
            Ok(())
        }
        Explain::Analyze => analyzed(tables, sql).await,
    }
}

async fn rows(tables: &Arc<Tables>, sql: &str, mut writer: Writer) -> Result<(), CommandError> {
    let (mut rows, _) = execute(tables, sql)?;
    writer.begin(&rows.schema())?;
    while let Some(batch) = rows.next().await {
        writer.write(&batch.map_err(|error| refused(QueryError::from_datafusion(&error), tables))?)?;
    }
    writer.finish()
}

async fn plotted(tables: &Arc<Tables>, sql: &str) -> Result<(), CommandError> {
    let (mut rows, _) = execute(tables, sql)?;
    let mut plot = Plot::default();
    while let Some(batch) = rows.next().await {
        plot.add(&batch.map_err(|error| refused(QueryError::from_datafusion(&error), tables))?)?;
    }
    print(&plot.draw());
    Ok(())
}

async fn analyzed(tables: &Arc<Tables>, sql: &str) -> Result<(), CommandError> {
    let began = SystemClock.instant();
    let (mut rows, plan) = execute(tables, sql)?;
    while let Some(batch) = rows.next().await {
        batch.map_err(|error| refused(QueryError::from_datafusion(&error), tables))?;
    }
    print(&explain::tree(&plan, Some(SystemClock.since(began))));
    Ok(())
}

/// Whether a query may read nothing but files: then no outputs folder need be there.
fn names_a_path(sql: &str) -> bool {
    let words: Vec<&str> = sql.split_whitespace().collect();
    let follows = |pair: &[&str]| {
        ["from", "join"].iter().any(|word| pair[0].eq_ignore_ascii_case(word)) && pair[1].starts_with(['\'', '"'])
    };
    words.windows(2).any(follows)
}

/// Partitions of the query run on its threads.
fn runtime() -> Result<tokio::runtime::Runtime, CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| CommandError::failed(format!("cannot start the runtime: {error}")))
}

/// Starts a SELECT; also gives its plan.
fn execute(tables: &Arc<Tables>, sql: &str) -> Result<(SelectRows, Arc<dyn ExecutionPlan>), CommandError> {
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
        _ if tables.has_foreign_text(name) => format!(
            "of the tables only text that a job wrote is read: name the folder by its path, as in FROM './{name}'"
        ),
        Some(similar) => format!("did you mean {similar}?"),
        None if tables.is_empty() => format!("there are no tables below {}", tables.root()),
        None => format!("there are {}", tables.names().collect::<Vec<_>>().join(", ")),
    };
    CommandError::user(format!("the query reads the table {name}, which is not there: {hint}"))
}

fn listing(tables: &Tables) -> String {
    if tables.is_empty() {
        return format!("There are no tables below {}.\n", tables.root());
    }
    let mut shown = list(&["table", "files", "size", "folder"]);
    for (name, table) in tables.iter() {
        let folder = tables.root().way_to(table.place());
        let Ok(files) = table.files() else {
            shown.add_row([name.clone(), "?".to_owned(), "?".to_owned(), folder]);
            continue;
        };
        let size = files.iter().filter_map(ListedFile::length).sum();
        shown.add_row([name.clone(), grouped(files.len() as u64), bytes(size), folder]);
    }
    for (name, place) in tables.iter_named() {
        shown.add_row([name.clone(), String::new(), String::new(), place.to_string()]);
    }
    align_right(&mut shown, &[1, 2]);
    fit(&mut shown, &[3]);
    format!("{shown}\n")
}

#[cfg(test)]
mod tests;
