//! Projections and filters compiled to expressions over batches, without running a plan for every micro-batch.
//!
//! A physical plan adds metrics at each execution and costs microseconds to start; the query of an ordinary job is a
//! chain of projections and filters on both sides of its window.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{filter_record_batch, prep_null_mask_filter};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use super::lookup::{self, Index, Lookup, Side};
use super::session::Session;

#[derive(Clone)]
enum Step {
    Filter(Arc<dyn PhysicalExpr>),
    Project { exprs: Vec<Arc<dyn PhysicalExpr>>, schema: SchemaRef },
    Lookup(Lookup),
}

/// A chain of projections, filters and joins with references over the columns of one table.
#[derive(Clone)]
pub(super) struct Steps {
    /// Columns of the table that are read, ascending; batches have exactly these.
    pub(super) columns: Vec<usize>,
    steps: Vec<Step>,
}

impl Steps {
    /// Compiles a plan for which [`is_chain`] holds.
    pub(super) fn compile(plan: &LogicalPlan, session: &Session) -> Result<Self> {
        Self::with_lookups(plan, session, &mut vec![])
    }

    /// Compiles a chain with joins. Their sides are added to `sides`, by whose positions they find their indexes.
    pub(super) fn with_lookups(plan: &LogicalPlan, session: &Session, sides: &mut Vec<Side>) -> Result<Self> {
        let plan = session.optimize_chain(plan)?;
        let mut steps = Self { columns: vec![], steps: vec![] };
        steps.add(&plan, session, sides)?;
        Ok(steps)
    }

    fn add(&mut self, plan: &LogicalPlan, session: &Session, sides: &mut Vec<Side>) -> Result<()> {
        match plan {
            LogicalPlan::TableScan(scan) if scan.filters.is_empty() && scan.fetch.is_none() => {
                let all = || (0..scan.source.schema().fields().len()).collect();
                self.columns = scan.projection.clone().unwrap_or_else(all);
                Ok(())
            }
            LogicalPlan::SubqueryAlias(alias) => self.add(&alias.input, session, sides),
            LogicalPlan::Filter(filter) => {
                self.add(&filter.input, session, sides)?;
                self.steps.push(Step::Filter(session.physical(&filter.predicate, filter.input.schema())?));
                Ok(())
            }
            LogicalPlan::Projection(projection) => {
                self.add(&projection.input, session, sides)?;
                let input = projection.input.schema();
                let exprs =
                    projection.expr.iter().map(|expr| session.physical(expr, input)).collect::<Result<Vec<_>>>()?;
                if !is_identity(&exprs, input.fields().len()) {
                    self.steps.push(Step::Project { exprs, schema: nullable(projection.schema.as_arrow()) });
                }
                Ok(())
            }
            LogicalPlan::Join(join) => {
                let Some((records, ..)) = lookup::sides(join) else { return internal_err!("a join of two streams") };
                self.add(records, session, sides)?;
                self.steps.push(Step::Lookup(Lookup::compile(join, session, sides)?));
                Ok(())
            }
            other => internal_err!("{} is not a step of a chain", other.display()),
        }
    }

    /// Runs the steps over a batch that has [`Self::columns`]. Gives the rows left, and how many the filters removed.
    /// `indexes` are those of the sides that joins were compiled with.
    pub(super) fn run(&self, batch: &RecordBatch, indexes: &[Option<Arc<Index>>]) -> Result<(RecordBatch, usize)> {
        let mut batch = batch.clone();
        let mut removed = 0;
        for step in &self.steps {
            match step {
                Step::Filter(predicate) => {
                    let passed = predicate.evaluate(&batch)?.into_array(batch.num_rows())?;
                    let passed = passed.as_boolean();
                    let left = passed.true_count();
                    if left < batch.num_rows() {
                        removed += batch.num_rows() - left;
                        let rows = batch.num_rows();
                        batch = filter_record_batch(&batch, &without_nulls(passed))?;
                        if left < rows / 2 {
                            batch = compact(batch)?;
                        }
                    }
                }
                Step::Lookup(lookup) => batch = lookup.run(&batch, indexes)?,
                Step::Project { exprs, schema } => {
                    let rows = batch.num_rows();
                    let columns = exprs.iter().map(|expr| expr.evaluate(&batch)?.into_array(rows));
                    let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
                    let options = RecordBatchOptions::new().with_row_count(Some(rows));
                    batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
                }
            }
        }
        Ok((batch, removed))
    }
}

/// Copies text that is a view of a larger buffer: the few rows that a filter leaves would otherwise keep the text of
/// all rows in memory, for as long as a sink holds them.
fn compact(batch: RecordBatch) -> Result<RecordBatch> {
    let (schema, columns, rows) = batch.into_parts();
    let columns = columns.into_iter().map(|column| -> ArrayRef {
        match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()),
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
            _ => column,
        }
    });
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns.collect(), &options)?)
}

/// Whether a plan is projections and filters over one table.
pub(super) fn is_chain(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(_) => true,
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {
            plan.inputs().into_iter().all(is_chain)
        }
        _ => false,
    }
}

/// The same columns, each of them nullable: a promise that a column has no nulls is of no use here, and a broken one
/// would be an error.
pub(super) fn nullable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| Field::new(field.name(), field.data_type().clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A filter that keeps the rows which are true.
pub(super) fn without_nulls(filter: &BooleanArray) -> BooleanArray {
    if filter.null_count() == 0 { filter.clone() } else { prep_null_mask_filter(filter) }
}

fn is_identity(exprs: &[Arc<dyn PhysicalExpr>], columns: usize) -> bool {
    let keeps = |(index, expr): (usize, &Arc<dyn PhysicalExpr>)| {
        expr.downcast_ref::<Column>().is_some_and(|column| column.index() == index)
    };
    exprs.len() == columns && exprs.iter().enumerate().all(keeps)
}
