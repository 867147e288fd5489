//! The general path: a physical plan that runs over given batches, for what is no chain of projections and filters.
//!
//! Used below a window for UNNEST and UNION ALL, above it for sorting, window functions and further aggregates.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::{Column, DFSchema, TableReference, internal_err};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, TableSource};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::StreamExt;

use super::inputs::{Role, Table, role};
use super::session::{Session, project};
use crate::engine::scan;

/// Name of the table that stands for the batches given to a plan; with blanks, so that no query has it by chance.
const LEAF: &str = "rows of the batch";

/// A compiled plan. It holds no rows: they come and go with each run.
#[derive(Clone)]
pub(super) struct Plan {
    /// Columns of the leaf that are read, ascending; batches have exactly these.
    pub(super) columns: Vec<usize>,
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
}

impl Plan {
    /// Compiles a plan over [`leaf`]s, which all stand for the same batches.
    pub(super) fn compile(plan: &LogicalPlan, session: &Session) -> Result<Self> {
        let plan = session.optimize(plan)?;
        let mut columns = vec![];
        columns_read(&plan, &mut columns);
        columns.sort_unstable();
        columns.dedup();
        let plan = session.physical_plan(&bind(&plan, &columns)?)?;
        Ok(Self { columns, plan, context: session.task_context() })
    }

    /// Compiles a plan that reads only references. Its input is the rows of all of them, by their position.
    pub(super) fn over_references(plan: &LogicalPlan, session: &Session) -> Result<Self> {
        let plan = bind_references(&session.optimize(plan)?)?;
        Ok(Self { columns: vec![], plan: session.physical_plan(&plan)?, context: session.task_context() })
    }

    /// Runs the plan over batches that have [`Self::columns`].
    pub(super) fn run(&self, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        self.run_over(vec![batches])
    }

    /// Runs the plan over the batches of each of its inputs.
    pub(super) fn run_over(&self, inputs: Vec<Vec<RecordBatch>>) -> Result<Vec<RecordBatch>> {
        let config = self.context.session_config().clone().with_extension(Arc::new(Given(inputs)));
        let context = TaskContext::default().with_session_config(config).with_runtime(self.context.runtime_env());
        let context = Arc::new(context);
        // A plan keeps the metrics of every execution: over months that would be a leak. A reset one starts without.
        let plan = reset_plan_states(self.plan.clone())?;
        let mut rows = vec![];
        for partition in 0..plan.properties().output_partitioning().partition_count() {
            let stream = plan.execute(partition, context.clone())?;
            // Nothing in these plans waits for anything. Without `unconstrained`, a caller inside a tokio task whose
            // budget is used up would wait here for ever.
            futures::executor::block_on(tokio::task::coop::unconstrained(drain(stream, &mut rows)))?;
        }
        Ok(rows)
    }
}

async fn drain(mut stream: SendableRecordBatchStream, rows: &mut Vec<RecordBatch>) -> Result<()> {
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        if batch.num_rows() > 0 {
            rows.push(batch);
        }
    }
    Ok(())
}

/// A table with the columns of a schema, names and qualifiers included, that can stand in the place of any plan.
pub(super) fn leaf(schema: &DFSchema) -> Result<LogicalPlan> {
    let fields = schema.fields().iter().enumerate();
    let fields = fields.map(|(index, field)| Field::new(index.to_string(), field.data_type().clone(), true));
    let table: Arc<dyn TableSource> =
        Arc::new(Table::new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), Role::Rows));
    let named = schema.iter().enumerate().map(|(index, (qualifier, field))| {
        let column = Expr::Column(Column::new(Some(LEAF), index.to_string()));
        column.alias_qualified(qualifier.cloned(), field.name())
    });
    project(scan(TableReference::bare(LEAF), table, None)?, named.collect())
}

/// Rebuilds a plan. `replace` may give another plan for a node, whose inputs are then not looked at.
pub(super) fn rebuild(
    plan: &LogicalPlan,
    replace: &dyn Fn(&LogicalPlan) -> Result<Option<LogicalPlan>>,
    rewrite: &dyn Fn(Expr) -> Result<Expr>,
) -> Result<LogicalPlan> {
    if let Some(other) = replace(plan)? {
        return Ok(other);
    }
    let inputs = plan.inputs().into_iter().map(|input| rebuild(input, replace, rewrite)).collect::<Result<Vec<_>>>()?;
    let exprs = plan.expressions().into_iter().map(rewrite).collect::<Result<Vec<_>>>()?;
    plan.with_new_exprs(exprs, inputs)
}

fn columns_read(plan: &LogicalPlan, columns: &mut Vec<usize>) {
    if let LogicalPlan::TableScan(scan) = plan {
        match &scan.projection {
            Some(projection) => columns.extend(projection),
            None => columns.extend(0..scan.source.schema().fields().len()),
        }
    }
    plan.inputs().into_iter().for_each(|input| columns_read(input, columns));
}

/// Gives each leaf its data: the columns that any leaf reads.
fn bind(plan: &LogicalPlan, columns: &[usize]) -> Result<LogicalPlan> {
    let replace = |node: &LogicalPlan| -> Result<Option<LogicalPlan>> {
        let LogicalPlan::TableScan(leaf) = node else { return Ok(None) };
        let schema = Arc::new(leaf.source.schema().project(columns)?);
        let table = given(schema, 0)?;
        let positions = match &leaf.projection {
            None => None,
            Some(read) => Some(
                read.iter()
                    .map(|column| match columns.binary_search(column) {
                        Ok(position) => Ok(position),
                        Err(_) => internal_err!("column {column} is read but was not found"),
                    })
                    .collect::<Result<Vec<_>>>()?,
            ),
        };
        scan(leaf.table_name.clone(), table, positions).map(Some)
    };
    rebuild(plan, &replace, &Ok)
}

/// Gives each reference its data.
fn bind_references(plan: &LogicalPlan) -> Result<LogicalPlan> {
    let replace = |node: &LogicalPlan| -> Result<Option<LogicalPlan>> {
        let LogicalPlan::TableScan(leaf) = node else { return Ok(None) };
        let Some(Role::Reference(index)) = role(node) else { return internal_err!("a reference is no reference") };
        scan(leaf.table_name.clone(), given(leaf.source.schema(), index)?, leaf.projection.clone()).map(Some)
    };
    rebuild(plan, &replace, &Ok)
}

/// A table of what a run is given for an input.
fn given(schema: SchemaRef, input: usize) -> Result<Arc<dyn TableSource>> {
    let batches = Batches { schema: Arc::clone(&schema), input };
    Ok(provider_as_source(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(batches)])?)))
}

/// The batches of one run, for each input, handed to the leaves through the task's context, so that plans can be shared.
struct Given(Vec<Vec<RecordBatch>>);

#[derive(Debug)]
struct Batches {
    schema: SchemaRef,
    input: usize,
}

impl PartitionStream for Batches {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let given = context.session_config().get_extension::<Given>();
        let given = given.and_then(|given| given.0.get(self.input).cloned()).unwrap_or_default();
        // Columns come by position: their names differ from those of the leaf.
        let renamed = given.into_iter().map(|batch| {
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            RecordBatch::try_new_with_options(self.schema.clone(), batch.columns().to_vec(), &options)
                .map_err(Into::into)
        });
        match renamed
            .collect::<Result<Vec<_>>>()
            .and_then(|batches| MemoryStream::try_new(batches, self.schema.clone(), None))
        {
            Ok(stream) => Box::pin(stream),
            Err(error) => {
                let failed = futures::stream::once(futures::future::ready(Err(error)));
                Box::pin(datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(self.schema.clone(), failed))
            }
        }
    }
}
