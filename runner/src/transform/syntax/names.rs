//! The functions and tables that a query over tables names, judged without the tables: which columns they have is known when the
//! query runs, but a function that is not there never will be.

use std::collections::HashSet;

use data_platform_crds::problem::did_you_mean;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{Function, Ident, ObjectName, Query, Spanned};

use super::place;
use super::visit::{self, Visited, Visitor};
use crate::transform::error::QueryError;
use crate::transform::planning_error::instead_of;

/// Functions that the planner itself knows.
const OF_THE_PLANNER: [&str; 2] = ["unnest", "unnest_outer"];

/// Refuses functions and tables that are not there. `tables` are those that the query may read.
pub(super) fn check(query: &mut Query, tables: &[&str], state: &SessionState) -> Result<(), QueryError> {
    visit::query(&mut Names { tables, state, with: HashSet::new() }, query)
}

struct Names<'a> {
    tables: &'a [&'a str],
    state: &'a SessionState,
    /// Every name of a WITH, wherever it is known: rather too many than a name that is refused by mistake.
    with: HashSet<String>,
}

impl Visitor for Names<'_> {
    fn with(&mut self, name: &Ident) {
        self.with.insert(normal(name));
    }

    fn table(&mut self, name: &ObjectName) -> Visited {
        let [part] = &name.0[..] else { return Ok(()) };
        let Some(ident) = part.as_ident() else { return Ok(()) };
        let wanted = normal(ident);
        if self.with.contains(&wanted) || self.tables.iter().any(|table| table.eq_ignore_ascii_case(&wanted)) {
            return Ok(());
        }
        let error = QueryError::new(format!("there is no table {wanted}")).at(place(name.span().start));
        Err(match did_you_mean(&wanted, self.tables.iter().copied()) {
            Some(nearest) => error.cure(format!("did you mean {nearest}?")),
            None => error.cure(format!("the query reads the inputs of the job: {}", self.tables.join(", "))),
        })
    }

    fn function(&mut self, function: &Function) -> Visited {
        let [part] = &function.name.0[..] else { return Ok(()) };
        let Some(ident) = part.as_ident() else { return Ok(()) };
        let name = normal(ident);
        let known = self.state.scalar_functions().contains_key(&name)
            || self.state.aggregate_functions().contains_key(&name)
            || self.state.window_functions().contains_key(&name)
            || self.state.higher_order_functions().contains_key(&name)
            || OF_THE_PLANNER.contains(&name.as_str());
        if known {
            return Ok(());
        }
        let functions = self.state.scalar_functions().keys().chain(self.state.aggregate_functions().keys());
        let functions = functions.chain(self.state.window_functions().keys()).map(String::as_str);
        let error = QueryError::new(format!("there is no function {name}")).at(place(function.name.span().start));
        Err(error.cure(instead_of(&name, functions.filter(|name| !name.contains(' ')))))
    }
}

/// A name as it is looked up.
fn normal(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}
