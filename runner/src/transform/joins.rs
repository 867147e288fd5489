//! Which joins a stream can have: with references, which are small and whole, never with another stream.

use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::JoinType;
use datafusion::logical_expr::{Expr, ExprSchemable, Join, LogicalPlan, Volatility};

use super::error::QueryError;
use super::inputs::only_references;
use super::lookup::sides;
use super::output::type_name;
use super::refuse::{Context, find};
use super::syntax::Clause;

type Refusal = Result<(), QueryError>;

impl Context<'_> {
    /// A join, and all of its side that reads references.
    pub(super) fn check_join(&self, join: &Join) -> Refusal {
        let position = self.places.clause(Clause::Join);
        let Some((records, reference, reference_first)) = sides(join) else {
            let error = QueryError::new("a join would have to keep all rows of the stream, which has no end");
            return Err(error.at(position).cure("compute both sides in one SELECT; only references can be joined"));
        };
        match (join.join_type, reference_first) {
            (JoinType::Inner, _) | (JoinType::Left, false) | (JoinType::Right, true) => {}
            (JoinType::Left | JoinType::Right | JoinType::Full, _) => {
                return Err(QueryError::new("this join keeps rows of the reference that no record finds, and a stream has no end at which these are known")
                    .at(position)
                    .cure(format!("write FROM {} LEFT JOIN …", self.inputs.first_source())));
            }
            (other, _) => {
                return Err(QueryError::new(format!("a {other} join is not supported in a job"))
                    .at(position)
                    .cure("use LEFT JOIN, and test whether a column of the reference IS NULL"));
            }
        }
        if join.on.is_empty() {
            return Err(QueryError::new("the join compares no column of the stream with one of the reference")
                .at(position)
                .cure("write an equality: … JOIN users ON events.user_id = users.user_id"));
        }
        for (left, right) in &join.on {
            let key = if reference_first { right } else { left };
            let data_type = key.get_type(records.schema()).map_err(|error| QueryError::from_datafusion(&error))?;
            if !RowConverter::supports_fields(&[SortField::new(data_type.clone())]) {
                return Err(QueryError::new(format!("a join cannot compare values of type {}", type_name(&data_type)))
                    .at(position)
                    .cure("compare a part of them"));
            }
        }
        self.check_reference_side(reference)
    }

    /// The side of a join that reads only references is computed once for each of their versions.
    fn check_reference_side(&self, plan: &LogicalPlan) -> Refusal {
        for expr in plan.expressions() {
            self.check_any_expr(&expr)?;
            find(&expr, &mut |expr| self.check_constant(expr))?;
        }
        plan.inputs().into_iter().try_for_each(|input| self.check_reference_side(input))
    }

    fn check_constant(&self, expr: &Expr) -> Refusal {
        let Expr::ScalarFunction(call) = expr else { return Ok(()) };
        if call.func.signature().volatility == Volatility::Immutable {
            return Ok(());
        }
        let name = call.func.name();
        Err(QueryError::new(format!("{name}() over a reference would be computed once for each of its versions"))
            .at(self.places.function(name))
            .cure(format!("use {name}() in the SELECT that reads the source")))
    }

    /// Rows that come from references alone never come as the stream does.
    pub(super) fn check_has_source(&self, plan: &LogicalPlan) -> Refusal {
        if !only_references(plan) {
            return Ok(());
        }
        let name = self.inputs.references.first().map_or("", |reference| &reference.name);
        Err(QueryError::new("this SELECT reads references alone: its rows belong to no record")
            .cure(format!("join them: FROM {} LEFT JOIN {name} ON …", self.inputs.first_source())))
    }
}
