//! Queries over whole tables: of a batch job, for one interval, and of `query`.
//!
//! Every clause and function of the engine is allowed that neither reads nor writes anything but the given tables.
//! Partitions run beside each other; memory stays in bounds, and what does not fit is spilled to the folder for
//! temporary files.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::Column;
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{FunctionRegistry, SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::{EmptyRecordBatchStream, ExecutionPlan};
use datafusion::sql::sqlparser::ast::Query;
use futures::StreamExt;

use super::error::{QueryError, full_disk};
use super::output::{Output, check_shown};
use super::query::with_room;
use super::session::{execution_plan, logical_plan};
use super::{dates, distinct_counts, not_in, planning_error, syntax, table_windows, window};
use crate::engine::{self, BatchClock, Profile, Tables, TablesInFrom};
use crate::storage::{StoreError, StoreTold};
use crate::tables::store_error;

/// Memory of a session that computes nothing.
const CHECK_BYTES: usize = 64 << 20;

/// A query over tables whose text is in order.
#[derive(Clone, Debug)]
pub(crate) struct TableQuery {
    query: Box<Query>,
    normal_form: String,
    /// Columns by which rows come sorted, whatever the text says.
    sort_by: Vec<String>,
}

/// Rows of a [`TableQuery`], as they come, in the engine's types.
pub(crate) type SelectRows = SendableRecordBatchStream;

impl TableQuery {
    /// Reads the text of a query.
    ///
    /// # Errors
    /// The text is not one SELECT, or too large to be planned.
    pub(crate) fn parse(sql: &str) -> std::result::Result<Self, QueryError> {
        let (query, normal_form) = with_room(|| syntax::parse_tables(sql))?;
        Ok(Self { query, normal_form, sort_by: Vec::new() })
    }

    /// Judges what can be judged without the tables: functions, and the names of tables.
    ///
    /// # Errors
    /// There is no such function, or no such table.
    fn check_names(&self, tables: &[&str]) -> std::result::Result<(), QueryError> {
        with_room(|| {
            let state = session(Arc::new(InputTables::new()), CHECK_BYTES, 0);
            let state = state.map_err(|error| QueryError::from_datafusion(&error))?;
            syntax::check_names(&self.query, tables, &state)
        })
    }

    /// Plans it over tables of these columns, and computes nothing.
    ///
    /// # Errors
    /// It cannot be planned over such tables.
    fn check_columns(&self, tables: &[(&str, SchemaRef)]) -> std::result::Result<Output, QueryError> {
        let table = |(name, schema): &(&str, SchemaRef)| -> (String, Arc<dyn TableProvider>) {
            ((*name).to_owned(), Arc::new(EmptyTable::new(Arc::clone(schema))))
        };
        let tables: InputTables = tables.iter().map(table).collect();
        with_room(|| {
            let tables = Arc::new(tables);
            let state = session(Arc::clone(&tables) as Arc<dyn Tables>, CHECK_BYTES, 0);
            let state = state.map_err(|error| QueryError::from_datafusion(&error))?;
            let written = self.read(&state, &*tables)?;
            let planned = || execution_plan(&state, &state.optimize(&written)?);
            let plan = planned().map_err(|error| planning_error::of_tables(&error, &state))?;
            Output::of_rows(&plan.schema(), &written)
        })
    }

    /// The plan as it is written, with its windows in place.
    fn read(&self, state: &SessionState, tables: &dyn Tables) -> std::result::Result<LogicalPlan, QueryError> {
        let plan = logical_plan(state, self.query.clone()).or_else(|error| {
            // A column that is not there may be one with capitals; what is said is about the query as it is written.
            let is_column = matches!(error.find_root(), DataFusionError::SchemaError(_, _));
            match syntax::with_capitals(&self.query, tables) {
                Ok(Some(query)) if is_column => logical_plan(state, query).map_err(|_| error),
                _ => Err(error),
            }
        });
        let of_tables = |error: DataFusionError| planning_error::of_tables(&error, state);
        let plan = table_windows::expand(plan.map_err(of_tables)?, state)?;
        let plan = distinct_counts::on_sets(plan).and_then(not_in::over_distinct).map_err(of_tables)?;
        if self.sort_by.is_empty() {
            return Ok(plan);
        }
        let mut order = Vec::new();
        for name in &self.sort_by {
            let found = plan.schema().iter().find(|(_, field)| field.name() == name);
            let unknown = || QueryError::new(format!("the query has no column {name:?} to sort by (sink.sortBy)"));
            order.push(Expr::Column(Column::from(found.ok_or_else(unknown)?)).sort(true, true));
        }
        LogicalPlanBuilder::from(plan).sort(order).and_then(LogicalPlanBuilder::build).map_err(of_tables)
    }

    /// Plans it over these tables, and begins to compute, in the runtime in which it is called: gives its rows, and the plan
    /// that knows what each step of it did. `memory_bytes` bounds what it holds at once; `now()` is `clock`.
    ///
    /// # Errors
    /// It cannot be planned over these tables, or nobody can be shown its rows.
    pub(crate) fn start(
        &self,
        tables: Arc<dyn Tables>,
        memory_bytes: usize,
        clock: i64,
    ) -> std::result::Result<(SelectRows, Arc<dyn ExecutionPlan>), QueryError> {
        let Begun { rows, plan, .. } = self.begin(tables, memory_bytes, clock)?;
        check_shown(&rows.schema())?;
        Ok((rows, plan))
    }

    /// As [`Self::start`], with the plan as it was written.
    fn begin(
        &self,
        tables: Arc<dyn Tables>,
        memory_bytes: usize,
        clock: i64,
    ) -> std::result::Result<Begun, QueryError> {
        with_room(|| {
            let state = session(Arc::clone(&tables), memory_bytes, clock);
            let state = state.map_err(|error| QueryError::from_datafusion(&error))?;
            let written = self.read(&state, &*tables)?;
            let begun = || -> Result<Begun> {
                let plan = dates::by_division(state.optimize(&written)?)?;
                let (plan, context) = engine::plan_within(&state, memory_bytes, |state| execution_plan(state, &plan))?;
                Ok(Begun { rows: engine::execute(Arc::clone(&plan), context)?, plan, written })
            };
            begun().map_err(|error| planning_error::of_tables(&error, &state))
        })
    }
}

/// A query that computes.
struct Begun {
    rows: SelectRows,
    /// What computes them.
    plan: Arc<dyn ExecutionPlan>,
    written: LogicalPlan,
}

/// Names of the functions that a query over tables may call, in their order.
pub(crate) fn functions_of_tables() -> Vec<String> {
    let Ok(state) = session(Arc::new(InputTables::new()), CHECK_BYTES, 0) else { return Vec::new() };
    let aggregates = state.aggregate_functions().keys().chain(state.window_functions().keys());
    let names = state.scalar_functions().keys().chain(aggregates).filter(|name| !name.contains(' '));
    let mut names: Vec<String> = names.cloned().collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn session(tables: Arc<dyn Tables>, memory_bytes: usize, now: i64) -> Result<SessionState> {
    let tables = Arc::new(TablesInFrom::new(tables));
    let mut state = engine::finish(engine::builder(Profile::Tables { memory_bytes }, &BatchClock::new(now), tables)?)?;
    for function in window::functions() {
        state.register_udf(Arc::new(function))?;
    }
    Ok(state)
}

/// The query of a batch job.
#[derive(Clone, Debug)]
pub(crate) struct BatchQuery(TableQuery);

/// The tables of a query, by name.
pub(crate) type InputTables = HashMap<String, Arc<dyn TableProvider>>;

/// Rows of a query, as they come.
pub(crate) struct BatchRows {
    rows: SelectRows,
    output: Output,
}

/// The query needs more memory than it may have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryExhausted {
    /// What DataFusion could not get, and could not spill.
    #[error("the query needs more memory than it may have: {0}")]
    Exhausted(String),
    /// What it would have spilled finds no room on the disk.
    #[error("{}", .0.message)]
    DiskFull(QueryError),
    /// A store does not give the bytes of an input, or not those that the run began with.
    #[error("{0}")]
    Unreadable(StoreTold),
    /// Any other failure.
    #[error("{0}")]
    Failed(String),
}

impl BatchQuery {
    /// Reads the text of a query.
    ///
    /// # Errors
    /// The text is not one SELECT, or too large to be planned.
    pub(crate) fn parse(sql: &str) -> std::result::Result<Self, QueryError> {
        TableQuery::parse(sql).map(Self)
    }

    /// The same with rows that come sorted, ascending, nulls first.
    #[must_use]
    pub(crate) fn sorted_by(mut self, columns: &[String]) -> Self {
        columns.clone_into(&mut self.0.sort_by);
        self
    }

    /// Judges what can be judged before a run: functions and names of tables, and with the columns of every table all of it.
    ///
    /// # Errors
    /// It cannot be planned over the inputs.
    pub(crate) fn check(&self, inputs: &[(&str, Option<SchemaRef>)]) -> std::result::Result<(), QueryError> {
        let names: Vec<&str> = inputs.iter().map(|(name, _)| *name).collect();
        self.0.check_names(&names)?;
        let known = inputs.iter().filter_map(|(name, schema)| Some((*name, schema.clone()?)));
        let tables: Vec<_> = known.collect();
        if tables.len() == inputs.len() { self.0.check_columns(&tables).map(drop) } else { Ok(()) }
    }

    /// Its text without blanks, comments and the case of unquoted words.
    pub(crate) fn normal_form(&self) -> &str {
        &self.0.normal_form
    }

    /// As [`TableQuery::start`], with rows in the types that every sink knows.
    ///
    /// # Errors
    /// It cannot be planned over these tables.
    pub(crate) fn start(
        &self,
        tables: InputTables,
        memory_bytes: usize,
        clock: i64,
    ) -> std::result::Result<BatchRows, QueryError> {
        let mut names: Vec<String> = tables.keys().cloned().collect();
        names.sort();
        let Begun { rows, written: plan, .. } =
            self.0.begin(Arc::new(tables), memory_bytes, clock).map_err(|error| match error.unknown_table() {
                Some(table) => {
                    let cure = format!("the query reads the inputs of the job: {}", names.join(", "));
                    QueryError::new(format!("there is no table {table}")).cure(cure)
                }
                None => error,
            })?;
        let output = Output::of_rows(&rows.schema(), &plan)?;
        Ok(BatchRows { rows, output })
    }
}

impl BatchRows {
    /// No rows, of these columns.
    ///
    /// # Errors
    /// A sink could not write such columns.
    pub(crate) fn none(schema: &SchemaRef) -> std::result::Result<Self, QueryError> {
        let rows = Box::pin(EmptyRecordBatchStream::new(Arc::clone(schema)));
        Ok(Self { rows, output: Output::new(schema)? })
    }

    /// Columns of the output.
    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.output.schema)
    }

    /// The next rows; none at the end.
    ///
    /// # Errors
    /// The query fails on a value, an input cannot be read, or memory does not suffice.
    pub(crate) async fn next(&mut self) -> std::result::Result<Option<Vec<RecordBatch>>, MemoryExhausted> {
        let Some(batch) = self.rows.next().await else { return Ok(None) };
        let mut rows = Vec::new();
        batch.and_then(|batch| self.output.append(&batch, &mut rows)).map_err(|error| failed(&error))?;
        Ok(Some(rows))
    }
}

fn failed(error: &DataFusionError) -> MemoryExhausted {
    let root = error.find_root();
    let said = QueryError::from_datafusion(error);
    if full_disk(error).is_some() {
        return MemoryExhausted::DiskFull(said);
    }
    let message = said.message;
    match root {
        DataFusionError::ResourcesExhausted(_) => MemoryExhausted::Exhausted(message),
        _ => match store_error(error).and_then(StoreError::told) {
            Some(told) => MemoryExhausted::Unreadable(told),
            None => MemoryExhausted::Failed(message),
        },
    }
}
