//! What a query may read: sources, whose rows come in micro-batches, and references, small tables to join with.
//!
//! A source's table has three columns more than are declared: the identity of the record that a row came of (topic,
//! partition, offset). No query sees them; `identity` carries them where somebody needs them.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::{TableReference, internal_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{LogicalPlan, TableSource};
use datafusion::sql::sqlparser::ast::TableFactor;

use super::error::QueryError;
use super::suggest;
use crate::engine::scan;
use crate::source::record::IDENTITY_COLUMNS;

/// A table of the query whose rows come from Kafka.
#[derive(Clone, Debug)]
pub struct SourceTable {
    /// Name in the query.
    pub name: String,
    /// All declared columns.
    pub schema: SchemaRef,
    /// The column that windows and the watermark follow: `Timestamp(us, "UTC")`.
    pub event_time: Option<String>,
}

/// A small table that is held in memory for queries to join with.
#[derive(Clone, Debug)]
pub struct ReferenceTable {
    /// Name in the query.
    pub name: String,
    /// Its columns.
    pub schema: SchemaRef,
}

/// Everything that a query may read.
#[derive(Clone, Debug, Default)]
pub struct QueryInputs {
    /// The sources; they are known by their position here.
    pub sources: Vec<SourceTable>,
    /// The references; they are known by their position here.
    pub references: Vec<ReferenceTable>,
    /// Late records are told one by one, as [`Ingested::late_records`](super::Ingested::late_records).
    pub tell_late_records: bool,
    /// Rows of a query without a window are told with the identity of their record, as three more columns behind the others
    /// ([`IDENTITY_COLUMNS`](crate::source::record::IDENTITY_COLUMNS)).
    pub tell_origins: bool,
}

impl From<SourceTable> for QueryInputs {
    fn from(source: SourceTable) -> Self {
        Self { sources: vec![source], ..Self::default() }
    }
}

/// What a table of a logical plan stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The source at this position.
    Source(usize),
    /// The reference at this position.
    Reference(usize),
    /// Rows that another part of the query gives.
    Rows,
}

/// A table of which only the columns are known: enough to plan. Data reaches the compiled steps directly.
#[derive(Debug)]
pub(super) struct Table {
    schema: SchemaRef,
    role: Role,
}

impl Table {
    pub(super) fn new(schema: SchemaRef, role: Role) -> Self {
        Self { schema, role }
    }
}

impl TableSource for Table {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// What the table that a plan reads stands for; `None` for a plan that is no such leaf.
pub(super) fn role(plan: &LogicalPlan) -> Option<Role> {
    let LogicalPlan::TableScan(scan) = plan else { return None };
    let table: &dyn Any = scan.source.as_ref();
    table.downcast_ref::<Table>().map(|table| table.role)
}

/// Whether a plan reads a table of this role.
pub(super) fn reads(plan: &LogicalPlan, wanted: Role) -> bool {
    role(plan) == Some(wanted) || plan.inputs().into_iter().any(|input| reads(input, wanted))
}

/// Whether a plan reads references and nothing else: no rows of micro-batches.
pub(super) fn only_references(plan: &LogicalPlan) -> bool {
    let inputs = plan.inputs();
    match role(plan) {
        Some(role) => matches!(role, Role::Reference(_)),
        None => !inputs.is_empty() && inputs.into_iter().all(only_references),
    }
}

impl QueryInputs {
    /// Names of all tables.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let references = self.references.iter().map(|reference| reference.name.as_str());
        self.sources.iter().map(|source| source.name.as_str()).chain(references)
    }

    /// Columns of all tables.
    pub(super) fn schemas(&self) -> impl Iterator<Item = &SchemaRef> {
        let references = self.references.iter().map(|reference| &reference.schema);
        self.sources.iter().map(|source| &source.schema).chain(references)
    }

    /// The first source, for messages that need an example.
    pub(super) fn first_source(&self) -> &str {
        self.sources.first().map_or("a source", |source| &source.name)
    }

    /// Checks what the declarations say among each other, and gives the position of each source's event time.
    pub(super) fn check(&self) -> Result<Vec<Option<usize>>, QueryError> {
        let names: Vec<&str> = self.names().collect();
        for (index, name) in names.iter().enumerate() {
            if names[..index].iter().any(|other| other.eq_ignore_ascii_case(name)) {
                return Err(QueryError::new(format!("two tables of the job are called {name}, case aside"))
                    .cure("give each source and each reference its own name"));
            }
        }
        for (name, schema) in names.iter().zip(self.schemas()) {
            if let Some(reserved) = IDENTITY_COLUMNS.into_iter().find(|column| has_column(schema, column)) {
                return Err(QueryError::new(format!("a column of {name} is called {reserved}, which is reserved"))
                    .cure("give it another name; path says which field of the record it holds"));
            }
        }
        self.sources.iter().map(SourceTable::event_time_index).collect()
    }
}

fn has_column(schema: &Schema, name: &str) -> bool {
    schema.fields().iter().any(|field| field.name().eq_ignore_ascii_case(name))
}

impl SourceTable {
    /// Declared columns, then the identity of the record.
    pub(super) fn full_schema(&self) -> SchemaRef {
        let [topic, partition, offset] = IDENTITY_COLUMNS;
        let identity = [
            Arc::new(Field::new(topic, DataType::Utf8View, false)),
            Arc::new(Field::new(partition, DataType::Int32, false)),
            Arc::new(Field::new(offset, DataType::Int64, false)),
        ];
        Arc::new(Schema::new(self.schema.fields().iter().cloned().chain(identity).collect::<Vec<_>>()))
    }

    /// Position of the event time among the declared columns.
    fn event_time_index(&self) -> Result<Option<usize>, QueryError> {
        let Some(name) = &self.event_time else { return Ok(None) };
        let Some((index, field)) = self.schema.column_with_name(name) else {
            let columns: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
            let message = format!("the event time {name} is no column of source {}", self.name);
            return Err(QueryError::new(message).cure(suggest::hint(name, &columns, "its columns are")));
        };
        match field.data_type() {
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Ok(Some(index)),
            other => {
                let message = format!("the event time {name} of source {} is of type {other}", self.name);
                Err(QueryError::new(message).cure("declare it as timestamp"))
            }
        }
    }
}

/// Gives the planner the inputs. It is asked before the query's own WITH tables, hence `syntax` refuses a WITH table of
/// the same name.
#[derive(Debug)]
pub(super) struct Relations(Vec<Relation>);

#[derive(Debug)]
struct Relation {
    name: String,
    table: Arc<Table>,
    /// Number of the columns that a query sees: the first ones.
    columns: usize,
}

impl Relations {
    pub(super) fn new(inputs: &QueryInputs) -> Self {
        let sources = inputs.sources.iter().enumerate().map(|(index, source)| Relation {
            name: source.name.clone(),
            table: Arc::new(Table::new(source.full_schema(), Role::Source(index))),
            columns: source.schema.fields().len(),
        });
        let references = inputs.references.iter().enumerate().map(|(index, reference)| Relation {
            name: reference.name.clone(),
            table: Arc::new(Table::new(Arc::clone(&reference.schema), Role::Reference(index))),
            columns: reference.schema.fields().len(),
        });
        Self(sources.chain(references).collect())
    }
}

impl RelationPlanner for Relations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table { name, .. } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let [part] = &name.0[..] else { return plan_err!("there is no table {name}") };
        let Some(ident) = part.as_ident() else { return plan_err!("there is no table {name}") };
        let Some(known) = self.0.iter().find(|known| known.name.eq_ignore_ascii_case(&ident.value)) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let table = TableReference::bare(context.normalize_ident(ident.clone()));
        let source: Arc<dyn TableSource> = known.table.clone();
        let plan = scan(table, source, Some((0..known.columns).collect()))?;
        let TableFactor::Table { alias, .. } = relation else { return internal_err!("a table is no table") };
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}
