//! UNION ALL: its branches must agree in types, and each source runs through its own branches alone.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, Union};

use super::error::QueryError;
use super::inputs::{Role, reads};
use super::output::type_name;
use super::plan::rebuild;
use super::session::project;

/// Checks that all branches give the same kind of value for each column: the planner would make text of a number, or fail
/// on the first text that is no time.
pub(super) fn check(plan: &LogicalPlan) -> Result<(), QueryError> {
    if let LogicalPlan::Union(union) = plan
        && let Some((first, others)) = union.inputs.split_first()
    {
        for other in others {
            let pairs = first.schema().fields().iter().zip(other.schema().fields());
            for (number, (a, b)) in pairs.enumerate() {
                if !agree(a.data_type(), b.data_type()) {
                    let (a_type, b_type) = (type_name(a.data_type()), type_name(b.data_type()));
                    return Err(QueryError::new(format!(
                        "column {} of UNION ALL, {}, is {a_type} in one branch and {b_type} in another",
                        number + 1,
                        a.name()
                    ))
                    .cure(format!("give it one type in all branches, such as CAST({} AS {b_type})", a.name())));
                }
            }
        }
    }
    plan.inputs().into_iter().try_for_each(check)
}

fn agree(a: &DataType, b: &DataType) -> bool {
    let text = |data_type: &DataType| data_type.is_string();
    let time = |data_type: &DataType| matches!(data_type, DataType::Timestamp(..));
    let bytes = |data_type: &DataType| data_type.is_binary();
    match (a, b) {
        (DataType::Null, _) | (_, DataType::Null) => true,
        (DataType::List(a), DataType::List(b)) => agree(a.data_type(), b.data_type()),
        (DataType::Struct(a), DataType::Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| agree(a.data_type(), b.data_type()))
        }
        _ => a.equals_datatype(b) || [text, time, bytes, DataType::is_numeric].iter().any(|kind| kind(a) && kind(b)),
    }
}

/// The plan without the branches that do not read a source.
pub(super) fn only(plan: &LogicalPlan, source: usize) -> Result<LogicalPlan> {
    let replace = |node: &LogicalPlan| {
        let LogicalPlan::Union(union) = node else { return Ok(None) };
        let own = union.inputs.iter().filter(|branch| reads(branch, Role::Source(source)));
        let mut own = own.map(|branch| only(branch, source)).collect::<Result<Vec<_>>>()?;
        match own.len() {
            0 => Ok(None),
            1 => Ok(Some(named_as(own.remove(0), union)?)),
            _ => {
                let inputs = own.into_iter().map(Arc::new).collect();
                Ok(Some(LogicalPlan::Union(Union { inputs, schema: Arc::clone(&union.schema) })))
            }
        }
    };
    rebuild(plan, &replace, &Ok)
}

/// A single branch with the names that its columns have behind UNION ALL.
fn named_as(branch: LogicalPlan, union: &Union) -> Result<LogicalPlan> {
    let columns = branch.schema().columns();
    let names = union.schema.fields().iter().map(|field| field.name().clone());
    let exprs = columns.into_iter().zip(names).map(|(column, name)| Expr::Column(column).alias(name)).collect();
    project(branch, exprs)
}
