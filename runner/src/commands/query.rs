//! `query`: one SELECT over the tables of the outputs folder.
//!
//! ```text
//! text ── one query ── plan (each table found by its name) ── rows ── table | CSV | JSON
//! ```

mod show;
mod tables;

use std::sync::Arc;

use data_platform_crds::problem::did_you_mean;
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder, SessionStateDefaults};
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::ast::{Query, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use futures::StreamExt;

use crate::app::{CommandError, print};
use crate::args::{QueryArgs, QueryFormat};
use crate::checkpoint::store::open::Location;
use crate::commands::checkpoint::{block_on, store_failed};
use crate::commands::{align_right, bytes, grouped, list};
use crate::transform;

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
    block_on(async {
        let mut rows = execute(&tables, sql)?;
        let mut writer = Writer::new(rows.schema(), format)?;
        while let Some(batch) = rows.next().await {
            writer.write(&batch.map_err(|error| refused(&error, &tables))?)?;
        }
        writer.finish()
    })?
}

/// Starts a SELECT.
fn execute(tables: &Arc<Tables>, sql: &str) -> Result<SendableRecordBatchStream, CommandError> {
    let query = parse(sql, tables)?;
    let state = session(tables);
    let stream = || -> PlanResult<SendableRecordBatchStream> {
        let plan = state.optimize(&transform::logical_plan(&state, query)?)?;
        let plan = transform::execution_plan(&state, &plan)?;
        plan.execute(0, state.task_ctx())
    };
    stream().map_err(|error| refused(&error, tables))
}

/// One query, nothing else.
fn parse(sql: &str, tables: &Tables) -> Result<Box<Query>, CommandError> {
    let statements = Parser::parse_sql(&GenericDialect {}, sql).map_err(|error| {
        let found = error.to_string().replace("sql parser error: ", "");
        CommandError::user(format!("the query cannot be read: {found}: write one SELECT"))
    })?;
    let [Statement::Query(query)] = &statements[..] else {
        return Err(CommandError::user("query takes one SELECT; it reads and changes nothing"));
    };
    let with = query.with.iter().flat_map(|with| &with.cte_tables);
    if let Some(table) = with.map(|table| &table.alias.name.value).find(|name| tables.get(name).is_some()) {
        return Err(CommandError::user(format!("WITH names {table}, which is a table already: take another name")));
    }
    Ok(query.clone())
}

/// Functions of DataFusion, and no way to files but the tables that were found. One partition: rows come in order.
fn session(tables: &Arc<Tables>) -> SessionState {
    let config = SessionConfig::new()
        .with_target_partitions(1)
        .with_create_default_catalog_and_schema(false)
        .set_str("datafusion.execution.time_zone", "UTC");
    SessionStateBuilder::new()
        .with_config(config)
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_relation_planners(vec![Arc::new(tables::FoundTables(Arc::clone(tables)))])
        .with_scalar_functions(SessionStateDefaults::default_scalar_functions())
        .with_higher_order_functions(SessionStateDefaults::default_higher_order_functions())
        .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .build()
}

fn refused(error: &DataFusionError, tables: &Tables) -> CommandError {
    let message = error.find_root().strip_backtrace();
    let unknown = message
        .split_once("table '")
        .filter(|_| message.contains("not found"))
        .and_then(|(_, rest)| rest.split_once('\''));
    let Some((name, _)) = unknown else { return CommandError::user(format!("the query cannot run: {message}")) };
    let name = name.rsplit('.').next().unwrap_or(name);
    let hint = match did_you_mean(name, tables.names()) {
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
