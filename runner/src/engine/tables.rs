//! The names in FROM: a table of WITH first, as everywhere in SQL, then a table that the caller gives.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::catalog::TableProvider;
use datafusion::common::{TableReference, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::logical_expr::logical_plan::TableScanBuilder;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{LogicalPlan, TableSource};
use datafusion::sql::sqlparser::ast::TableFactor;

/// Tables that a query may read.
pub(crate) trait Tables: Debug + Send + Sync {
    /// The table of this name; `None` if there is none.
    ///
    /// # Errors
    /// It is there and cannot be read.
    fn open(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>>;
}

/// Names are compared without case.
impl Tables for HashMap<String, Arc<dyn TableProvider>> {
    fn open(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let table = self
            .get(name)
            .or_else(|| self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, table)| table));
        Ok(table.cloned())
    }
}

/// Gives the planner the tables.
#[derive(Debug)]
pub(crate) struct TablesInFrom {
    tables: Arc<dyn Tables>,
    /// The planner is asked whether WITH has the name, and asks back for it.
    asks_with: AtomicBool,
}

impl TablesInFrom {
    pub(crate) fn new(tables: Arc<dyn Tables>) -> Self {
        Self { tables, asks_with: AtomicBool::new(false) }
    }
}

impl RelationPlanner for TablesInFrom {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table { name, alias, args: None, version, sample, .. } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        if self.asks_with.swap(false, Ordering::Relaxed) {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        if version.is_some() {
            return plan_err!("FOR SYSTEM_TIME is not supported: a table has its present rows, and no others");
        }
        if sample.is_some() {
            return plan_err!("TABLESAMPLE is not supported: filter, for example by random() < 0.01");
        }
        let [part] = &name.0[..] else {
            return plan_err!("there is no table {name}; write a long name in double quotes");
        };
        let Some(ident) = part.as_ident() else { return plan_err!("there is no table {name}") };
        let normal = context.normalize_ident(ident.clone());
        // Only the planner knows the tables of WITH. It knows no others, so what it finds is one.
        self.asks_with.store(true, Ordering::Relaxed);
        let with = context.plan(relation.clone());
        self.asks_with.store(false, Ordering::Relaxed);
        if let Ok(plan) = with {
            return Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))));
        }
        let Some(table) = self.tables.open(&normal)? else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let plan = scan(TableReference::bare(normal), provider_as_source(table), None)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}

/// Reads columns of a table.
pub(crate) fn scan(
    name: TableReference,
    table: Arc<dyn TableSource>,
    columns: Option<Vec<usize>>,
) -> Result<LogicalPlan> {
    TableScanBuilder::new(name, table).with_projection(columns).build().map(LogicalPlan::TableScan)
}
