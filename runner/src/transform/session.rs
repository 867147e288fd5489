//! The session of a stream: the engine's, with the window's functions, and the steps from syntax tree to compiled plan.
//!
//! There is no catalog, no file format and no table function in it: a query can read its source and nothing else.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::Schema;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, internal_err, plan_err};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder};
use datafusion::logical_expr::logical_plan::Projection;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::OptimizerRule;
use datafusion::optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::simplify_expressions::{ExprSimplifier, SimplifyExpressions};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::sqlparser::ast::{self, Query};

use super::inputs::{QueryInputs, Relations};
use super::{event_order, window};
use crate::engine::{self, BatchClock, Profile};

/// Operators and calls inside each other in a compiled expression: somewhat more than a plan may have (`refuse`), since
/// types are coerced.
const EXPRESSION_DEPTH_MAX: usize = 800;

/// Functions of DataFusion that take a closure are compiled anew in every crate that calls them, with all of the syntax
/// tree behind them. Instead there is one state for each set of rules; its methods are compiled already.
pub(super) struct Session {
    /// All rules of DataFusion.
    state: SessionState,
    /// Coerces types and finds the equalities of joins, nothing else.
    analyzing: SessionState,
    /// Only rules that keep a chain of projections and filters: filters stay where they are, since rows are counted
    /// before and after them.
    chaining: SessionState,
}

impl Session {
    pub(super) fn new(inputs: &QueryInputs, clock: &BatchClock) -> Result<Self> {
        let relations = Arc::new(Relations::new(inputs));
        let mut state = engine::finish(engine::builder(Profile::Stream, clock, relations)?)?;
        state.register_udaf(event_order::collect_list())?;
        for function in window::functions() {
            state.register_udf(Arc::new(function))?;
        }
        let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![
            Arc::new(SimplifyExpressions::new()),
            Arc::new(CommonSubexprEliminate::new()),
            Arc::new(OptimizeProjections::new()),
        ];
        let with_rules =
            |rules| SessionStateBuilder::new_from_existing(state.clone()).with_optimizer_rules(rules).build();
        let analyzing = with_rules(vec![Arc::new(ExtractEquijoinPredicate::new())]);
        let chaining = with_rules(rules);
        Ok(Self { state, analyzing, chaining })
    }

    /// The logical plan of a query, as it is written.
    pub(super) fn read(&self, query: Box<Query>) -> Result<LogicalPlan> {
        logical_plan(&self.state, query)
    }

    /// The same plan with types coerced.
    pub(super) fn coerce(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        self.analyzing.optimize(plan)
    }

    /// The same plan with constants computed and columns that nobody reads left out; a chain stays a chain.
    pub(super) fn optimize_chain(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        self.chaining.optimize(plan)
    }

    /// The same plan with all that DataFusion knows.
    pub(super) fn optimize(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        self.state.optimize(plan)
    }

    /// Compiles an optimized plan.
    pub(super) fn physical_plan(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = execution_plan(&self.state, plan)?;
        check_plan_depth(&plan)?;
        Ok(plan)
    }

    /// What a compiled plan runs in.
    pub(super) fn task_context(&self) -> Arc<TaskContext> {
        self.state.task_ctx()
    }

    /// Compiles an expression over the columns of a schema.
    pub(super) fn physical(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        let expr =
            create_physical_expr(expr, schema, self.state.execution_props(), &PhysicalPlanningContext::default())?;
        check_depth(&expr)?;
        Ok(expr)
    }

    /// Computes what is constant in an expression.
    pub(super) fn simplify(&self, expr: Expr, schema: &Arc<DFSchema>) -> Result<Expr> {
        let config = Arc::clone(self.state.config_options());
        let context = SimplifyContext::builder().with_schema(Arc::clone(schema)).with_config_options(config).build();
        ExprSimplifier::new(context).simplify(expr)
    }

    /// Tries to compute a constant expression.
    pub(super) fn evaluate_constant(&self, expr: &Expr) -> Result<()> {
        let one_row = RecordBatchOptions::new().with_row_count(Some(1));
        let one_row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &one_row)?;
        self.physical(expr, &DFSchema::empty())?.evaluate(&one_row).map(|_| ())
    }

    /// Whether a function of this name aggregates.
    pub(super) fn is_aggregate(&self, name: &str) -> bool {
        self.state.aggregate_functions().contains_key(name)
    }

    /// Names that a query may call, for "did you mean".
    pub(super) fn function_names(&self) -> Vec<&str> {
        let state = &self.state;
        let names = state
            .scalar_functions()
            .keys()
            .chain(state.aggregate_functions().keys())
            .chain(state.window_functions().keys());
        let mut names: Vec<&str> = names.map(String::as_str).filter(|name| !name.contains(' ')).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// The logical plan of a query, as it is written.
///
/// DataFusion offers this step only as an async function, whose code the calling crate has to compile: two minutes of
/// CPU in each of our binaries, twelve seconds this way (measured 2026-11). The same planner is reached without it
/// through an expression: a query is planned as the subquery of an EXISTS that nobody evaluates.
pub(crate) fn logical_plan(state: &SessionState, query: Box<Query>) -> Result<LogicalPlan> {
    let exists = ast::ExprWithAlias { expr: ast::Expr::Exists { subquery: query, negated: false }, alias: None };
    let expr = state.create_logical_expr_from_sql_expr(exists, &DFSchema::empty())?;
    let Expr::Exists(exists) = expr else { return internal_err!("EXISTS was planned as {expr}") };
    Ok(exists.subquery.subquery.as_ref().clone())
}

/// Compiles an optimized plan. Nothing in it waits: no table of ours does I/O to be planned.
pub(crate) fn execution_plan(state: &SessionState, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
    futures::executor::block_on(state.query_planner().create_physical_plan(plan, state))
}

/// Computes expressions over a plan.
pub(super) fn project(input: LogicalPlan, exprs: Vec<Expr>) -> Result<LogicalPlan> {
    Projection::try_new(exprs, Arc::new(input)).map(LogicalPlan::Projection)
}

/// Compiled expressions are computed, and dropped, by recursion on the pipeline's ordinary stack. The text limits their
/// depth too, but expressions of nested subqueries are merged.
fn check_depth(expr: &Arc<dyn PhysicalExpr>) -> Result<()> {
    fn depth(expr: &Arc<dyn PhysicalExpr>) -> usize {
        1 + expr.children().into_iter().map(depth).max().unwrap_or(0)
    }
    if depth(expr) > EXPRESSION_DEPTH_MAX {
        return plan_err!("an expression nests deeper than {EXPRESSION_DEPTH_MAX}");
    }
    Ok(())
}

fn check_plan_depth(plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
    plan.apply_expressions(&mut |expr| {
        check_depth(expr)?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    plan.children().into_iter().try_for_each(check_plan_depth)
}
