//! The aggregates of a window, compiled: keys, accumulators, and the state they keep.
//!
//! Everything an aggregate needs is computed below it, once for all aggregates, as columns of a *prepared* batch: the
//! event time first, then keys and arguments. Only constants stay in the aggregates, since some read them when they are
//! built (`percentile_cont(x, 0.9)`, the separator of `string_agg`).

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::NullTreatment;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, GroupsAccumulator, LogicalPlan};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::{GroupsAccumulatorAdapter, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::session::{Session, project};
use super::steps::nullable;
use super::window::{Edge, edge_of, edge_sign, window_sign};
use super::windows::Tumble;
use crate::engine::collect_set;

/// Position of the event time in a prepared batch.
pub(super) const EVENT_TIME: usize = 0;

/// The aggregates of a query's window.
#[derive(Clone)]
pub(super) struct Aggregation {
    /// Schema of prepared batches.
    prepared: SchemaRef,
    /// Columns of the prepared batch that make a group, beside the window.
    keys: Vec<usize>,
    key_schema: SchemaRef,
    aggregates: Vec<AggregateOf>,
    /// Keys, then the states of all accumulators.
    pub(super) state_schema: SchemaRef,
    /// Keys, then the answers of all accumulators; window edges are put before them.
    pub(super) answer_schema: SchemaRef,
}

#[derive(Clone)]
struct AggregateOf {
    expr: Arc<AggregateFunctionExpr>,
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    /// Column of the prepared batch that says which rows count (`FILTER (WHERE …)`).
    filter: Option<usize>,
    state_columns: usize,
}

/// What the window's aggregate of a logical plan becomes.
pub(super) struct Prepared {
    /// Computes prepared batches from the rows below the window.
    pub(super) below: LogicalPlan,
    pub(super) aggregation: Aggregation,
    /// Columns that the part above the window reads: edges, keys, answers, named as the aggregate named them.
    pub(super) above: DFSchema,
    /// Keys and aggregates in SQL's words, for people.
    pub(super) key_names: Vec<String>,
    pub(super) aggregate_names: Vec<String>,
}

/// Collects the expressions that the prepared batch has to compute, each once.
#[derive(Default)]
struct Columns {
    exprs: Vec<Expr>,
    texts: Vec<String>,
}

impl Columns {
    fn column(&mut self, expr: &Expr) -> usize {
        let expr = expr.clone().unalias();
        // By its text: comparing expressions would compile the comparison of every kind of SQL statement.
        let text = expr.to_string();
        match self.texts.iter().position(|other| *other == text) {
            Some(column) => column,
            None => {
                self.exprs.push(expr);
                self.texts.push(text);
                self.texts.len() - 1
            }
        }
    }

    /// The expression over the prepared batch: constants as they are, everything else as a column.
    fn over_prepared(&mut self, expr: &Expr) -> Expr {
        match expr {
            Expr::Literal(..) => expr.clone(),
            other => Expr::Column(Column::new_unqualified(name_of(self.column(other)))),
        }
    }
}

fn name_of(column: usize) -> String {
    format!("prepared {column}")
}

impl Prepared {
    /// Splits `aggregate`, which groups by `window` over the event time `time`. `rewrite` replaces the window's edges
    /// in arguments and makes constants of constant expressions.
    pub(super) fn new(
        aggregate: &Aggregate,
        time: &Expr,
        session: &Session,
        rewrite: &dyn Fn(Expr) -> Result<Expr>,
    ) -> Result<Self> {
        let mut columns = Columns::default();
        columns.column(time);
        let mut above = vec![];
        for edge in [Edge::Start, Edge::End] {
            above.push((None, Arc::new(Field::new(edge.name(), super::window::timestamp_type(), true))));
        }

        let mut keys = vec![];
        let mut key_names = vec![];
        for (index, key) in aggregate.group_expr.iter().enumerate() {
            let plain = key.clone().unalias();
            if window_sign(&plain).is_some() || edge_sign(&plain).is_some() {
                continue;
            }
            keys.push(columns.column(&rewrite(plain)?));
            key_names.push(key.human_display().to_string());
            let (qualifier, field) = aggregate.schema.qualified_field(index);
            above.push((qualifier.cloned(), field.clone()));
        }

        let mut lowered = vec![];
        let mut aggregate_names = vec![];
        for (index, expr) in aggregate.aggr_expr.iter().enumerate() {
            let (qualifier, field) = aggregate.schema.qualified_field(aggregate.group_expr.len() + index);
            above.push((qualifier.cloned(), field.clone()));
            aggregate_names.push(expr.human_display().to_string());
            let Expr::AggregateFunction(function) = expr.clone().unalias() else {
                return internal_err!("{expr} is not an aggregate");
            };
            let mut function = function;
            let counts_distinct = function.func.name() == "count" && function.params.distinct;
            if counts_distinct && function.params.args.len() == 1 {
                let data_type = function.params.args[0].get_type(aggregate.input.schema())?;
                if collect_set::supports(&data_type) {
                    function.func = collect_set::count_distinct();
                    function.params.distinct = false;
                }
            }
            let params = &mut function.params;
            for argument in &mut params.args {
                *argument = columns.over_prepared(&rewrite(argument.clone())?);
            }
            for sort in &mut params.order_by {
                sort.expr = columns.over_prepared(&rewrite(sort.expr.clone())?);
            }
            let filter = params.filter.take().map(|filter| rewrite(*filter)).transpose()?;
            let filter = filter.map(|filter| columns.column(&filter));
            lowered.push((function, filter, field.name().clone()));
        }

        let named = columns.exprs.into_iter().enumerate().map(|(index, expr)| expr.alias(name_of(index)));
        let below = project(aggregate.input.as_ref().clone(), named.collect())?;
        let schema = below.schema();
        let prepared = nullable(schema.as_arrow());

        let mut aggregates = vec![];
        for (function, filter, name) in lowered {
            let params = function.params;
            let arguments = params.args.iter().map(|arg| session.physical(arg, schema)).collect::<Result<Vec<_>>>()?;
            let order_by = params.order_by.iter().map(|sort| {
                let options =
                    datafusion::arrow::compute::SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
                Ok(PhysicalSortExpr::new(session.physical(&sort.expr, schema)?, options))
            });
            let expr = AggregateExprBuilder::new(function.func, arguments)
                .order_by(order_by.collect::<Result<Vec<_>>>()?)
                .schema(prepared.clone())
                .alias(name)
                .with_distinct(params.distinct)
                .with_ignore_nulls(params.null_treatment == Some(NullTreatment::IgnoreNulls))
                .build()?;
            let mut arguments = expr.expressions();
            arguments.extend(expr.order_bys().iter().map(|sort| sort.expr.clone()));
            let state_columns = expr.state_fields()?.len();
            aggregates.push(AggregateOf { expr: Arc::new(expr), arguments, filter, state_columns });
        }
        let aggregation = Aggregation::new(prepared, keys, aggregates)?;
        let above = DFSchema::new_with_metadata(above, Default::default())?;
        Ok(Self { below, aggregation, above, key_names, aggregate_names })
    }
}

impl Aggregation {
    fn new(prepared: SchemaRef, keys: Vec<usize>, aggregates: Vec<AggregateOf>) -> Result<Self> {
        let key_schema = Arc::new(prepared.project(&keys)?);
        let mut state: Vec<Field> = vec![];
        let mut answers: Vec<Field> = vec![];
        for (index, field) in key_schema.fields().iter().enumerate() {
            let field = Field::new(format!("key {index}"), field.data_type().clone(), true);
            state.push(field.clone());
            answers.push(field);
        }
        for (index, aggregate) in aggregates.iter().enumerate() {
            for (part, field) in aggregate.expr.state_fields()?.iter().enumerate() {
                state.push(Field::new(format!("state {index}.{part}"), field.data_type().clone(), true));
            }
            answers.push(Field::new(format!("answer {index}"), aggregate.expr.field().data_type().clone(), true));
        }
        let (state_schema, answer_schema) = (Arc::new(Schema::new(state)), Arc::new(Schema::new(answers)));
        let aggregation = Self { prepared, keys, key_schema, aggregates, state_schema, answer_schema };
        // Fails here, when the query is planned, and not at the first row.
        aggregation.group_values()?;
        aggregation.accumulators()?;
        Ok(aggregation)
    }

    /// Empty groups, or `None` for a query that groups by its window alone.
    pub(super) fn group_values(&self) -> Result<Option<Box<dyn GroupValues>>> {
        if self.keys.is_empty() {
            return Ok(None);
        }
        new_group_values(self.key_schema.clone(), &GroupOrdering::None).map(Some)
    }

    /// Empty accumulators, one for each aggregate.
    pub(super) fn accumulators(&self) -> Result<Vec<Box<dyn GroupsAccumulator>>> {
        let accumulators = self.aggregates.iter().map(|aggregate| -> Result<Box<dyn GroupsAccumulator>> {
            let expr = aggregate.expr.clone();
            if expr.groups_accumulator_supported() {
                return expr.create_groups_accumulator();
            }
            // Its errors would otherwise come with the first row.
            expr.create_accumulator()?;
            Ok(Box::new(GroupsAccumulatorAdapter::new(move || expr.create_accumulator())))
        });
        accumulators.collect()
    }

    /// Number of key columns.
    pub(super) fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// The key columns of a prepared batch.
    pub(super) fn keys(&self, prepared: &RecordBatch) -> Vec<ArrayRef> {
        self.keys.iter().map(|key| prepared.column(*key).clone()).collect()
    }

    /// Adds the rows of a prepared batch to the accumulators; `groups` has the group of each row.
    pub(super) fn update(
        &self,
        accumulators: &mut [Box<dyn GroupsAccumulator>],
        prepared: &RecordBatch,
        groups: &[usize],
        group_count: usize,
    ) -> Result<()> {
        let rows = prepared.num_rows();
        for (aggregate, accumulator) in self.aggregates.iter().zip(accumulators) {
            let arguments = aggregate.arguments.iter().map(|argument| argument.evaluate(prepared)?.into_array(rows));
            let arguments = arguments.collect::<Result<Vec<_>>>()?;
            let filter = aggregate.filter.map(|column| prepared.column(column));
            let filter: Option<&BooleanArray> = filter.map(datafusion::arrow::array::AsArray::as_boolean);
            accumulator.update_batch(&arguments, groups, filter, group_count)?;
        }
        Ok(())
    }

    /// Adds rows of state, without their keys, to the accumulators.
    pub(super) fn merge(
        &self,
        accumulators: &mut [Box<dyn GroupsAccumulator>],
        mut state: &[ArrayRef],
        groups: &[usize],
        group_count: usize,
    ) -> Result<()> {
        for (aggregate, accumulator) in self.aggregates.iter().zip(accumulators) {
            let (own, others) = state.split_at(aggregate.state_columns);
            accumulator.merge_batch(own, groups, group_count)?;
            state = others;
        }
        Ok(())
    }

    /// Schema of prepared batches.
    pub(super) fn prepared_schema(&self) -> &SchemaRef {
        &self.prepared
    }
}

/// Replaces the signs of a window's edges by functions of the event time.
pub(super) fn edges_of(window: Tumble, time: &Expr, expr: Expr) -> Expr {
    match edge_sign(&expr) {
        Some(edge) => edge_of(window, edge).call(vec![time.clone()]),
        None => expr,
    }
}
