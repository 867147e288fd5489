//! The identity of the record that a row came of: topic, partition and offset, as columns that no query sees.

use std::sync::Arc;

use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, Filter, Join, LogicalPlan, SubqueryAlias, Union, Unnest};

use super::inputs::{Role, role};
use super::lookup::sides;
use super::session::project;
use crate::engine::scan;
use crate::source::record::IDENTITY_COLUMNS;

/// The same rows below a window, with the identity of their record as three more columns behind the others.
pub(super) fn carry(plan: &LogicalPlan) -> Result<LogicalPlan> {
    if carries(plan) {
        return Ok(plan.clone());
    }
    match plan {
        LogicalPlan::TableScan(leaf) if matches!(role(plan), Some(Role::Source(_))) => {
            let columns = leaf.source.schema().fields().len();
            let declared = columns - IDENTITY_COLUMNS.len();
            let mut read = leaf.projection.clone().unwrap_or_else(|| (0..declared).collect());
            read.extend(declared..columns);
            scan(leaf.table_name.clone(), Arc::clone(&leaf.source), Some(read))
        }
        LogicalPlan::Projection(projection) => {
            let input = carry(&projection.input)?;
            let exprs = projection.expr.iter().cloned().chain(identity_of(&input)).collect();
            project(input, exprs)
        }
        LogicalPlan::Filter(filter) => {
            let input = Arc::new(carry(&filter.input)?);
            Filter::try_new(filter.predicate.clone(), input).map(LogicalPlan::Filter)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let input = Arc::new(carry(&alias.input)?);
            SubqueryAlias::try_new(input, alias.alias.clone()).map(LogicalPlan::SubqueryAlias)
        }
        LogicalPlan::Unnest(unnest) => {
            let input = Arc::new(carry(&unnest.input)?);
            Unnest::try_new(input, unnest.exec_columns.clone(), unnest.options.clone()).map(LogicalPlan::Unnest)
        }
        LogicalPlan::Union(union) => {
            let inputs = union.inputs.iter().map(|input| carry(input).map(Arc::new)).collect::<Result<Vec<_>>>()?;
            Union::try_new(inputs).map(LogicalPlan::Union)
        }
        LogicalPlan::Join(join) => {
            let Some((records, _, reference_first)) = sides(join) else {
                return internal_err!("a join of two streams");
            };
            let records = carry(records)?;
            let identity = identity_of(&records);
            let mut carried = join.clone();
            *(if reference_first { &mut carried.right } else { &mut carried.left }) = Arc::new(records);
            let Join { left, right, on, filter, join_type, join_constraint, null_equality, null_aware, .. } = carried;
            let carried =
                Join::try_new(left, right, on, filter, join_type, join_constraint, null_equality, null_aware)?;
            // Behind all other columns, not only behind those of its side.
            let others = join.schema.columns().into_iter().map(Expr::Column);
            project(LogicalPlan::Join(carried), others.chain(identity).collect())
        }
        other => internal_err!("{} has no rows of records", other.display()),
    }
}

/// Whether the columns are there: no query gives these names to others.
fn carries(plan: &LogicalPlan) -> bool {
    let names = plan.schema().fields().iter().rev().map(|field| field.name().as_str());
    plan.schema().fields().len() >= IDENTITY_COLUMNS.len()
        && names.zip(IDENTITY_COLUMNS.iter().rev()).all(|(a, b)| a == *b)
}

/// The columns that [`carry`] has put behind the others.
pub(super) fn identity_of(plan: &LogicalPlan) -> Vec<Expr> {
    let columns = plan.schema().columns();
    columns[columns.len() - IDENTITY_COLUMNS.len()..].iter().cloned().map(Expr::Column).collect()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::engine::BatchClock;
    use crate::transform::inputs::{QueryInputs, SourceTable};
    use crate::transform::session::Session;
    use crate::transform::{steps::Steps, syntax};

    fn inputs() -> QueryInputs {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)));
        let fields = vec![Field::new("a", DataType::Utf8View, true), Field::new("list", list, true)];
        let schema = Arc::new(Schema::new(fields));
        let table = |name: &str| SourceTable { name: name.into(), schema: Arc::clone(&schema), event_time: None };
        QueryInputs { sources: vec![table("s"), table("t")], ..QueryInputs::default() }
    }

    fn carried(sql: &str) -> LogicalPlan {
        let inputs = inputs();
        let session = Session::new(&inputs, &BatchClock::default()).unwrap();
        let query = syntax::parse(sql, &inputs).unwrap_or_else(|error| panic!("{error}")).query;
        let plan = session.coerce(&session.read(query).unwrap()).unwrap();
        let with_identity = carry(&plan).unwrap();
        let (before, after) = (plan.schema().fields().len(), with_identity.schema().fields().len());
        assert_eq!(before + IDENTITY_COLUMNS.len(), after, "{sql}");
        with_identity
    }

    #[test]
    fn the_identity_goes_through_everything_below_a_window() {
        for sql in [
            "SELECT * FROM s",
            "SELECT a AS b FROM (SELECT upper(a) AS a FROM s WHERE a <> 'x') AS inner_rows WHERE a > 'b'",
            "SELECT unnest(list) AS item, a FROM s",
            "SELECT a FROM s UNION ALL SELECT a FROM t UNION ALL SELECT upper(a) FROM (SELECT a FROM t) AS u",
            "WITH w AS (SELECT a, unnest(list) AS item FROM s) SELECT item, a FROM w WHERE item > 1",
        ] {
            let plan = carried(sql);
            let names: Vec<&str> = plan.schema().fields().iter().map(|field| field.name().as_str()).collect();
            assert!(names.ends_with(&IDENTITY_COLUMNS), "{sql}: {names:?}");
        }
    }

    #[test]
    fn the_columns_lie_behind_the_declared_ones() {
        let inputs = inputs();
        let session = Session::new(&inputs, &BatchClock::default()).unwrap();
        let steps = Steps::compile(&carried("SELECT upper(a) AS b FROM s"), &session).unwrap();
        assert_eq!(steps.columns, [0, 2, 3, 4]);
    }
}
