//! The aggregates of a window, compiled: keys, accumulators, and the state they keep.
//!
//! Everything an aggregate needs is computed below it, once for all aggregates, as columns of a *prepared* batch: the
//! event time first, then keys and arguments. Only constants stay in the aggregates, since some read them when they are
//! built (`percentile_cont(x, 0.9)`, the separator of `string_agg`).

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, internal_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, Sort};
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, GroupsAccumulator, LogicalPlan};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::event_order::{self, COLLECT_LIST, InOrder};
use super::identity;
use super::session::{Session, project};
use super::slots::{each_group, slots_of};
use super::steps::{is_chain, nullable};
use super::values::ValueCodec;
use super::window::{Edge, WindowKind, edge_of, edge_sign, window_sign};
use super::windows::Tumble;
use crate::engine::collect_set;
use crate::engine::refusing::{ByState, Refusing};
use crate::engine::slots::SlotAccumulator;
use crate::source::record::IDENTITY_COLUMNS;

/// Position of the event time in a prepared batch.
pub(super) const EVENT_TIME: usize = 0;

/// Aggregates with a tie where their own ORDER BY leaves one.
const ORDERED: [&str; 5] = ["array_agg", "string_agg", "first_value", "last_value", "nth_value"];

/// The aggregates of a query's window.
#[derive(Clone)]
pub(super) struct Aggregation {
    /// Schema of prepared batches.
    prepared: SchemaRef,
    /// Columns of the prepared batch that make a group, beside the window.
    keys: Vec<usize>,
    key_schema: SchemaRef,
    aggregates: Vec<AggregateOf>,
    /// What each aggregate is, whatever its table is called.
    names: Vec<String>,
    /// Columns of the prepared batch that tell records apart, if it has them.
    pub(super) identity: Option<Vec<usize>>,
    /// Keys, what a session is if the window is one, then the states of all accumulators.
    pub(super) state_schema: SchemaRef,
    /// Keys, then the answers of all accumulators; window edges are put before them.
    pub(super) answer_schema: SchemaRef,
    /// Window edges, keys and answers in SQL's words, for people.
    pub(super) labels: Vec<String>,
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
    /// Splits `aggregate`, which groups by `kind` over the event time `time`. `rewrite` replaces the window's edges in
    /// arguments and makes constants of constant expressions.
    pub(super) fn new(
        aggregate: &Aggregate,
        (kind, time): (WindowKind, &Expr),
        tell_late: bool,
        session: &Session,
        rewrite: &dyn Fn(Expr) -> Result<Expr>,
    ) -> Result<Self> {
        let sessions = kind == WindowKind::Session;
        let mut columns = Columns::default();
        columns.column(time);
        let mut input = aggregate.input.as_ref().clone();
        let mut identity = vec![];
        // Of sessions it is known after any fan-out which rows are late; records are counted.
        if aggregate.aggr_expr.iter().any(follows_records) || (sessions && (tell_late || !is_chain(&input))) {
            input = identity::carry(&input)?;
            identity = identity::identity_of(&input);
        }
        let mut above = vec![];
        for edge in [Edge::Start, Edge::End] {
            above.push((None, Arc::new(Field::new(edge.name(), super::window::timestamp_type(), true))));
        }

        let mut keys = vec![];
        let mut key_names = vec![];
        let mut labels = [Edge::Start, Edge::End].map(|edge| edge.name().to_owned()).to_vec();
        for (index, key) in aggregate.group_expr.iter().enumerate() {
            let plain = key.clone().unalias();
            if window_sign(&plain).is_some() || edge_sign(&plain).is_some() {
                continue;
            }
            keys.push(columns.column(&rewrite(plain)?));
            key_names.push(key.human_display().to_string());
            labels.push(without_tables(key.clone().unalias())?.human_display().to_string());
            let (qualifier, field) = aggregate.schema.qualified_field(index);
            above.push((qualifier.cloned(), field.clone()));
        }

        // The user's expressions know nothing of the identity.
        let over_input = |expr: Expr| if is_identity(&expr) { Ok(expr) } else { rewrite(expr) };
        let mut lowered = vec![];
        let mut aggregate_names = vec![];
        let mut names = vec![];
        for (index, expr) in aggregate.aggr_expr.iter().enumerate() {
            let (qualifier, field) = aggregate.schema.qualified_field(aggregate.group_expr.len() + index);
            above.push((qualifier.cloned(), field.clone()));
            aggregate_names.push(expr.human_display().to_string());
            let plain = without_tables(expr.clone().unalias())?;
            names.push(plain.to_string());
            labels.push(plain.human_display().to_string());
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
            follow_records(&mut function, time, &identity, aggregate.input.schema())?;
            let params = &mut function.params;
            for argument in &mut params.args {
                *argument = columns.over_prepared(&over_input(argument.clone())?);
            }
            for sort in &mut params.order_by {
                sort.expr = columns.over_prepared(&over_input(sort.expr.clone())?);
            }
            let filter = params.filter.take().map(|filter| rewrite(*filter)).transpose()?;
            let filter = filter.map(|filter| columns.column(&filter));
            lowered.push((function, filter, field.name().clone()));
        }

        let identity: Vec<usize> = identity.iter().map(|column| columns.column(column)).collect();
        let named = columns.exprs.into_iter().enumerate().map(|(index, expr)| expr.alias(name_of(index)));
        let below = project(input, named.collect())?;
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
        let aggregation = Aggregation::new(prepared, keys, aggregates, sessions)?;
        let identity = (!identity.is_empty()).then_some(identity);
        let aggregation = Aggregation { identity, names, labels, ..aggregation };
        let above = DFSchema::new_with_metadata(above, Default::default())?;
        Ok(Self { below, aggregation, above, key_names, aggregate_names })
    }
}

/// The same over a table that has any name.
fn without_tables(expr: Expr) -> Result<Expr> {
    let plain = |expr| match expr {
        Expr::Column(column) => Transformed::yes(Expr::Column(Column::new_unqualified(column.name))),
        other => Transformed::no(other),
    };
    expr.transform(|expr| Ok(plain(expr))).map(|transformed| transformed.data)
}

fn is_identity(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(column) if IDENTITY_COLUMNS.contains(&column.name.as_str()))
}

/// Whether an aggregate's answer follows the order of records, of itself or where its ORDER BY leaves a tie.
fn follows_records(expr: &Expr) -> bool {
    let Expr::AggregateFunction(function) = expr.clone().unalias() else { return false };
    function.func.name() == COLLECT_LIST || has_ties(&function)
}

/// ORDER BY of a DISTINCT aggregate names its values: equal ones are one.
fn has_ties(function: &AggregateFunction) -> bool {
    let params = &function.params;
    !params.distinct && !params.order_by.is_empty() && ORDERED.contains(&function.func.name())
}

/// Makes an aggregate follow the order of records: event time, then their identity.
fn follow_records(function: &mut AggregateFunction, time: &Expr, identity: &[Expr], schema: &DFSchema) -> Result<()> {
    let by_time = |order: &[Sort]| match order {
        [sort] => sort.asc && sort.expr.clone().unalias().to_string() == time.to_string(),
        _ => false,
    };
    let is_list = function.func.name() == COLLECT_LIST;
    if !is_list && !has_ties(function) {
        return Ok(());
    }
    let params = &mut function.params;
    let own = match event_order::by_name(function.func.name()) {
        _ if is_list => Some(InOrder::Collect),
        Some(own) if by_time(&params.order_by) && event_order::supports(&params.args[0].get_type(schema)?) => Some(own),
        _ => None,
    };
    let Some(own) = own else {
        params.order_by.extend(identity.iter().map(|column| Sort::new(column.clone(), true, false)));
        return Ok(());
    };
    let ignores_nulls = own == InOrder::Collect || params.null_treatment.take() == Some(NullTreatment::IgnoreNulls);
    params.order_by.clear();
    params.args.push(time.clone());
    params.args.extend(identity.iter().cloned());
    function.func = event_order::in_event_order(own, ignores_nulls);
    Ok(())
}

impl Aggregation {
    fn new(prepared: SchemaRef, keys: Vec<usize>, aggregates: Vec<AggregateOf>, sessions: bool) -> Result<Self> {
        let key_schema = Arc::new(prepared.project(&keys)?);
        let mut state: Vec<Field> = vec![];
        let mut answers: Vec<Field> = vec![];
        for (index, field) in key_schema.fields().iter().enumerate() {
            let field = Field::new(format!("key {index}"), field.data_type().clone(), true);
            state.push(field.clone());
            answers.push(field);
        }
        if sessions {
            for field in key_schema.fields() {
                if !ValueCodec::supports(field.data_type()) {
                    return plan_err!("sessions have no keys of type {}", field.data_type());
                }
            }
            let piece = ["first", "last", "version", "version before"];
            state.extend(piece.map(|name| Field::new(name, DataType::Int64, true)));
        }
        for (index, aggregate) in aggregates.iter().enumerate() {
            for (part, field) in aggregate.expr.state_fields()?.iter().enumerate() {
                state.push(Field::new(format!("state {index}.{part}"), field.data_type().clone(), true));
            }
            answers.push(Field::new(format!("answer {index}"), aggregate.expr.field().data_type().clone(), true));
        }
        let (state_schema, answer_schema) = (Arc::new(Schema::new(state)), Arc::new(Schema::new(answers)));
        let (identity, names, labels) = (None, Vec::new(), Vec::new());
        let aggregation =
            Self { prepared, keys, key_schema, aggregates, names, identity, state_schema, answer_schema, labels };
        // Fails here, when the query is planned, and not at the first row.
        if sessions {
            aggregation.slots()?;
        } else {
            aggregation.group_values()?;
            aggregation.accumulators()?;
        }
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
            let expr = &aggregate.expr;
            if !expr.groups_accumulator_supported() {
                return each_group(expr);
            }
            // An average of decimals has more digits than its values.
            if expr.fun().name() == "avg" && expr.field().data_type().is_decimal() {
                return Ok(Box::new(Refusing(Box::new(ByState::new(Arc::clone(expr))?))));
            }
            expr.create_groups_accumulator()
        });
        accumulators.collect()
    }

    /// Empty accumulators of sessions, one for each aggregate.
    pub(super) fn slots(&self) -> Result<Vec<Box<dyn SlotAccumulator>>> {
        let slots = self.aggregates.iter().map(|aggregate| {
            let types = aggregate.arguments.iter().map(|argument| argument.data_type(&self.prepared));
            slots_of(&aggregate.expr, &types.collect::<Result<Vec<_>>>()?)
        });
        slots.collect()
    }

    /// Where each column of the state lies in that of another query with the same keys and aggregates, which may name the
    /// aggregates in another order; `None` if they are not the same.
    pub(super) fn places_in(&self, other: &Self) -> Option<Vec<usize>> {
        let before = |of: &Self| of.state_schema.fields().len() - of.widths().sum::<usize>();
        if before(self) != before(other) || self.names.len() != other.names.len() {
            return None;
        }
        let mut places: Vec<usize> = (0..before(self)).collect();
        for name in &self.names {
            let index = other.names.iter().position(|known| known == name)?;
            let first = before(other) + other.widths().take(index).sum::<usize>();
            places.extend(first..first + other.aggregates[index].state_columns);
        }
        let types = |schema: &SchemaRef| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
        let theirs = other.state_schema.project(&places).ok()?;
        (types(&self.state_schema) == types(&Arc::new(theirs))).then_some(places)
    }

    /// How many columns of state each aggregate has.
    fn widths(&self) -> impl Iterator<Item = usize> {
        self.aggregates.iter().map(|aggregate| aggregate.state_columns)
    }

    /// Types of the key columns.
    pub(super) fn key_types(&self) -> Vec<DataType> {
        self.key_schema.fields().iter().map(|field| field.data_type().clone()).collect()
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

    /// Adds the rows of a prepared batch to the accumulators of sessions, each to its slot.
    pub(super) fn update_slots(
        &self,
        accumulators: &mut [Box<dyn SlotAccumulator>],
        prepared: &RecordBatch,
        slots: &[usize],
        slot_count: usize,
    ) -> Result<()> {
        let rows = prepared.num_rows();
        for (aggregate, accumulator) in self.aggregates.iter().zip(accumulators) {
            let arguments = aggregate.arguments.iter().map(|argument| argument.evaluate(prepared)?.into_array(rows));
            let arguments = arguments.collect::<Result<Vec<_>>>()?;
            let filter = aggregate.filter.map(|column| prepared.column(column));
            let filter: Option<&BooleanArray> = filter.map(datafusion::arrow::array::AsArray::as_boolean);
            accumulator.grow(slot_count)?;
            accumulator.update(&arguments, slots, filter)?;
        }
        Ok(())
    }

    /// Adds rows of state, without what comes before them, to the accumulators of sessions.
    pub(super) fn merge_slots(
        &self,
        accumulators: &mut [Box<dyn SlotAccumulator>],
        mut state: &[ArrayRef],
        slots: &[usize],
        slot_count: usize,
    ) -> Result<()> {
        for (aggregate, accumulator) in self.aggregates.iter().zip(accumulators) {
            let (own, others) = state.split_at(aggregate.state_columns);
            accumulator.grow(slot_count)?;
            accumulator.merge(own, slots)?;
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
