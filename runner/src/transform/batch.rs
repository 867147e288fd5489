//! A query over whole tables, for one interval: read once, then planned and run for each interval over what is there.
//!
//! Every clause and function of DataFusion is allowed that neither reads nor writes anything but the given tables. One
//! partition: memory stays in bounds, and what does not fit is spilled to the folder for temporary files.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::{TableReference, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder, SessionStateDefaults};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::ast::{Query, TableFactor};
use futures::StreamExt;

use super::error::QueryError;
use super::output::Output;
use super::query::with_room;
use super::session::{REMOVED, execution_plan, logical_plan, scan};
use super::{BatchClock, clock, collect_set, guard, syntax, window};

/// A query whose text is in order.
#[derive(Clone, Debug)]
pub(crate) struct BatchQuery {
    query: Box<Query>,
    normal_form: String,
}

/// The tables of a query, by name.
pub(crate) type InputTables = HashMap<String, Arc<dyn TableProvider>>;

/// Rows of a query, as they come.
pub(crate) struct BatchRows {
    rows: SendableRecordBatchStream,
    output: Output,
}

/// The query needs more memory than it may have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryExhausted {
    /// What DataFusion could not get, and could not spill.
    #[error("the query needs more memory than it may have: {0}")]
    Exhausted(String),
    /// Any other failure.
    #[error("{0}")]
    Failed(String),
}

impl BatchQuery {
    /// Reads the text of a query over tables of these names.
    ///
    /// # Errors
    /// The text is not one SELECT, or too large to be planned.
    pub(crate) fn parse(sql: &str, tables: &[&str]) -> std::result::Result<Self, QueryError> {
        let (query, normal_form) = with_room(|| syntax::parse_batch(sql, tables))?;
        Ok(Self { query, normal_form })
    }

    /// Its text without blanks, comments and the case of unquoted words.
    pub(crate) fn normal_form(&self) -> &str {
        &self.normal_form
    }

    /// Plans it over these tables, and begins to compute. `memory_bytes` bounds what it holds at once; `now()`
    /// is `clock`.
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
        let plan = || {
            let state = session(tables, memory_bytes, clock)?;
            let plan = state.optimize(&logical_plan(&state, self.query.clone())?)?;
            let plan = execution_plan(&state, &plan)?;
            plan.execute(0, state.task_ctx())
        };
        let rows = with_room(|| plan().map_err(|error| planning_error(&error, &names)))?;
        let output = Output::new(&rows.schema())?;
        Ok(BatchRows { rows, output })
    }
}

impl BatchRows {
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

fn planning_error(error: &DataFusionError, inputs: &[String]) -> QueryError {
    let error = QueryError::from_datafusion(error);
    let unknown =
        error.message.strip_prefix("table 'datafusion.public.").and_then(|rest| rest.strip_suffix("' not found"));
    match unknown {
        Some(table) => {
            let cure = format!("the query reads the inputs of the job: {}", inputs.join(", "));
            QueryError::new(format!("there is no table {table}")).cure(cure)
        }
        None => error,
    }
}

fn failed(error: &DataFusionError) -> MemoryExhausted {
    let root = error.find_root();
    let message = QueryError::from_datafusion(error).message;
    match root {
        DataFusionError::ResourcesExhausted(_) => MemoryExhausted::Exhausted(message),
        _ => MemoryExhausted::Failed(message),
    }
}

fn session(tables: InputTables, memory_bytes: usize, now: i64) -> Result<SessionState> {
    let mut scalar: Vec<Arc<ScalarUDF>> = SessionStateDefaults::default_scalar_functions();
    scalar.retain(|function| !REMOVED.contains(&function.name()));
    let mut scalar: Vec<Arc<ScalarUDF>> = scalar.into_iter().map(guard::guarded).collect();
    scalar.extend(clock::functions(&BatchClock::new(now)).into_iter().map(Arc::new));
    let mut aggregates: Vec<Arc<AggregateUDF>> = SessionStateDefaults::default_aggregate_functions();
    aggregates.push(collect_set::collect_set());
    let config = SessionConfig::new()
        .with_target_partitions(1)
        .with_information_schema(false)
        .with_create_default_catalog_and_schema(false)
        .set_str("datafusion.execution.time_zone", window::UTC);
    let pool = Arc::new(GreedyMemoryPool::new(memory_bytes));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc()?;
    Ok(SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_relation_planners(vec![Arc::new(Inputs(tables))])
        .with_scalar_functions(scalar)
        .with_higher_order_functions(SessionStateDefaults::default_higher_order_functions())
        .with_aggregate_functions(aggregates)
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .build())
}

/// Gives the planner the inputs.
#[derive(Debug)]
struct Inputs(InputTables);

impl RelationPlanner for Inputs {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table { name, alias, .. } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let [part] = &name.0[..] else { return plan_err!("there is no table {name}") };
        let Some(ident) = part.as_ident() else { return plan_err!("there is no table {name}") };
        let normal = context.normalize_ident(ident.clone());
        let table = self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(&normal));
        // Another name may be one of WITH, which only the planner knows.
        let Some((_, table)) = table else { return Ok(RelationPlanning::Original(Box::new(relation))) };
        let plan = scan(TableReference::bare(normal), provider_as_source(Arc::clone(table)), None)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}
