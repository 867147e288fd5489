//! Joins with references: the side of a join that reads only references is computed and indexed once for each of their
//! versions, and the rows of a micro-batch only look it up.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{concat_batches, filter, prep_null_mask_filter, take};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::{JoinType, NullEquality, internal_err, resources_err};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, Join, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::inputs::{Role, only_references, role};
use super::plan::Plan;
use super::session::{Session, project};
use super::steps::nullable;

/// Rows that one micro-batch may become through a join: keys that repeat in a reference multiply its rows, and 8,192 of
/// them must not fill the memory.
const ROWS_MAX: usize = 1 << 22;

/// How an error about too many rows begins, behind the name of the reference.
pub(super) const TOO_MANY_ROWS: &str = "the join with the reference ";

/// End of a list of rows with one key.
const LAST: u32 = u32::MAX;

/// The rows of the references that an operator has, by their position among the query's inputs.
pub(super) type ReferenceRows = Vec<Option<Arc<[RecordBatch]>>>;

/// The side of a join that reads only references, compiled: its columns, and behind them the keys.
#[derive(Clone)]
pub(super) struct Side {
    plan: Plan,
    /// References that it reads.
    pub(super) references: BTreeSet<usize>,
    /// What the job calls them.
    names: String,
    schema: SchemaRef,
    keys: usize,
    nulls_are_equal: bool,
}

/// A compiled join with a [`Side`].
#[derive(Clone)]
pub(super) struct Lookup {
    /// Position of its side, and so of its index.
    side: usize,
    /// Keys, over the rows of records.
    keys: Vec<Arc<dyn PhysicalExpr>>,
    /// What else must hold, over the columns of both sides.
    condition: Option<Arc<dyn PhysicalExpr>>,
    /// Rows that find nothing stay, with nulls.
    outer: bool,
    /// The columns of the reference stand before those of the record.
    reference_first: bool,
    schema: SchemaRef,
}

/// Both sides of a join: that of the records, that of the references, and whether the latter is the left one. `None` if it
/// is no join of a stream with references.
pub(super) fn sides(join: &Join) -> Option<(&LogicalPlan, &LogicalPlan, bool)> {
    match (only_references(&join.left), only_references(&join.right)) {
        (false, true) => Some((&join.left, &join.right, false)),
        (true, false) => Some((&join.right, &join.left, true)),
        _ => None,
    }
}

impl Lookup {
    /// Compiles a join. Its side is added to `all`, unless it is there already.
    pub(super) fn compile(join: &Join, session: &Session, all: &mut Vec<Side>) -> Result<Self> {
        let Some((records, reference, reference_first)) = sides(join) else {
            return internal_err!("a join of two streams was compiled");
        };
        let outer = match (join.join_type, reference_first) {
            (JoinType::Inner, _) => false,
            (JoinType::Left, false) | (JoinType::Right, true) => true,
            (other, _) => return internal_err!("a {other} join was compiled"),
        };
        let (of_left, of_right): (Vec<&Expr>, Vec<&Expr>) = join.on.iter().map(|(left, right)| (left, right)).unzip();
        let (record_keys, reference_keys) = if reference_first { (of_right, of_left) } else { (of_left, of_right) };
        let keys = record_keys.iter().map(|key| session.physical(key, records.schema())).collect::<Result<Vec<_>>>()?;
        let condition = join.filter.as_ref().map(|filter| session.physical(filter, &join.schema)).transpose()?;
        let nulls_are_equal = join.null_equality == NullEquality::NullEqualsNull;
        let side = Side::compile(reference, &reference_keys, nulls_are_equal, session)?;
        all.push(side);
        let schema = nullable(join.schema.as_arrow());
        Ok(Self { side: all.len() - 1, keys, condition, outer, reference_first, schema })
    }

    /// Joins rows of records with what they find.
    pub(super) fn run(&self, records: &RecordBatch, indexes: &[Option<Arc<Index>>]) -> Result<RecordBatch> {
        let Some(Some(index)) = indexes.get(self.side) else { return internal_err!("a reference is not loaded") };
        let rows = records.num_rows();
        let keys = self.keys.iter().map(|key| key.evaluate(records)?.into_array(rows)).collect::<Result<Vec<_>>>()?;
        let mut found = index.find(&keys, rows)?;
        if let Some(condition) = &self.condition {
            let pairs = self.join(records, index, &found)?;
            let holds = condition.evaluate(&pairs)?.into_array(pairs.num_rows())?;
            found = found.only(holds.as_boolean())?;
        }
        if self.outer {
            found = found.with_unmatched(rows);
        }
        self.join(records, index, &found)
    }

    fn join(&self, records: &RecordBatch, index: &Index, found: &Found) -> Result<RecordBatch> {
        let rows = found.records.len();
        let of_records = if found.is_each_once(records.num_rows()) {
            records.columns().to_vec()
        } else {
            let taken = records.columns().iter().map(|column| Ok(take(column, &found.records, None)?));
            taken.collect::<Result<Vec<_>>>()?
        };
        let of_reference = index.take(&found.references)?;
        let columns =
            if self.reference_first { [of_reference, of_records] } else { [of_records, of_reference] }.concat();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

impl Side {
    fn compile(plan: &LogicalPlan, keys: &[&Expr], nulls_are_equal: bool, session: &Session) -> Result<Self> {
        let (mut references, mut names) = (BTreeSet::new(), BTreeSet::new());
        read(plan, &mut references, &mut names);
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        let columns = plan.schema().columns().into_iter().map(Expr::Column);
        let named = keys.iter().enumerate().map(|(index, key)| (*key).clone().alias(format!("key {index}")));
        let side = project(plan.clone(), columns.chain(named).collect())?;
        let schema = nullable(side.schema().as_arrow());
        let fields = schema.fields()[schema.fields().len() - keys.len()..].iter();
        let fields: Vec<SortField> = fields.map(|field| SortField::new(field.data_type().clone())).collect();
        if !RowConverter::supports_fields(&fields) {
            return internal_err!("a join compares values that have no order");
        }
        let plan = Plan::over_references(&side, session)?;
        Ok(Self { plan, references, names, schema, keys: keys.len(), nulls_are_equal })
    }

    /// Computes the side of these rows, and its index.
    pub(super) fn index(&self, rows: &ReferenceRows) -> Result<Index> {
        let inputs = rows.iter().map(|rows| rows.as_deref().unwrap_or_default().to_vec()).collect();
        let batches = self.plan.run_over(inputs)?;
        let batches = batches.into_iter().map(|batch| {
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), batch.columns().to_vec(), &options)
        });
        let batches = batches.collect::<std::result::Result<Vec<_>, _>>()?;
        Index::new(&concat_batches(&self.schema, &batches)?, self)
    }
}

fn read(plan: &LogicalPlan, references: &mut BTreeSet<usize>, names: &mut BTreeSet<String>) {
    if let (Some(Role::Reference(index)), LogicalPlan::TableScan(scan)) = (role(plan), plan) {
        references.insert(index);
        names.insert(scan.table_name.table().to_owned());
    }
    plan.inputs().into_iter().for_each(|input| read(input, references, names));
}

/// The rows of a side, and where those with a key are.
pub(super) struct Index {
    columns: Vec<ArrayRef>,
    converter: RowConverter,
    keys: Rows,
    /// The first row with each key.
    first: HashTable<u32>,
    /// The next row with the same key.
    next: Vec<u32>,
    hasher: DefaultHashBuilder,
    nulls_are_equal: bool,
    names: String,
}

/// Pairs of a record's row and a row of a side, in the order of the records.
struct Found {
    records: UInt32Array,
    /// Null where a row found nothing.
    references: UInt32Array,
}

impl Index {
    fn new(side: &RecordBatch, of: &Side) -> Result<Self> {
        let nulls_are_equal = of.nulls_are_equal;
        let (columns, keys) = side.columns().split_at(side.num_columns() - of.keys);
        if side.num_rows() >= LAST as usize {
            return resources_err!("the reference {} has more than {LAST} rows", of.names);
        }
        let fields = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        let usable = if nulls_are_equal { None } else { without_null_keys(keys) };
        let keys = converter.convert_columns(keys)?;
        let hasher = DefaultHashBuilder::default();
        let mut first: HashTable<u32> = HashTable::with_capacity(side.num_rows());
        let mut next = vec![LAST; side.num_rows()];
        // From the last to the first, so that a list has its rows in their order.
        for row in (0..side.num_rows()).rev().filter(|row| usable.as_ref().is_none_or(|usable| usable.is_valid(*row))) {
            let key = keys.row(row);
            let hash = hasher.hash_one(key.data());
            let entry = first.entry(
                hash,
                |other| keys.row(*other as usize) == key,
                |row| hasher.hash_one(keys.row(*row as usize).data()),
            );
            match entry {
                hashbrown::hash_table::Entry::Occupied(mut known) => {
                    next[row] = std::mem::replace(known.get_mut(), row as u32);
                }
                hashbrown::hash_table::Entry::Vacant(new) => {
                    new.insert(row as u32);
                }
            }
        }
        let (columns, names) = (columns.to_vec(), of.names.clone());
        Ok(Self { columns, converter, keys, first, next, hasher, nulls_are_equal, names })
    }

    /// Finds the rows of each key, given as columns.
    fn find(&self, keys: &[ArrayRef], rows: usize) -> Result<Found> {
        let usable = if self.nulls_are_equal { None } else { without_null_keys(keys) };
        let keys = self.converter.convert_columns(keys)?;
        let (mut records, mut references) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for row in (0..rows).filter(|row| usable.as_ref().is_none_or(|usable| usable.is_valid(*row))) {
            let key = keys.row(row);
            let hash = self.hasher.hash_one(key.data());
            let mut at = self.first.find(hash, |known| self.keys.row(*known as usize).data() == key.data()).copied();
            while let Some(reference) = at.filter(|at| *at != LAST) {
                records.push(row as u32);
                references.push(reference);
                at = Some(self.next[reference as usize]);
            }
            if records.len() > ROWS_MAX {
                return resources_err!(
                    "{TOO_MANY_ROWS}{} makes more than {ROWS_MAX} rows of a batch of {rows}",
                    self.names
                );
            }
        }
        Ok(Found { records: records.into(), references: references.into() })
    }

    /// Rows of the side by position.
    fn take(&self, rows: &UInt32Array) -> Result<Vec<ArrayRef>> {
        let nothing = rows.null_count() == rows.len();
        let columns = self.columns.iter().map(|column| match nothing {
            true => Ok(new_null_array(column.data_type(), rows.len())),
            false => Ok(take(column, rows, None)?),
        });
        columns.collect()
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        let columns: usize = self.columns.iter().map(|column| column.get_array_memory_size()).sum();
        columns + self.keys.size() + self.first.allocation_size() + self.next.capacity() * size_of::<u32>()
    }
}

impl Found {
    /// Only the pairs for which something holds.
    fn only(&self, holds: &BooleanArray) -> Result<Self> {
        let holds = if holds.null_count() == 0 { holds.clone() } else { prep_null_mask_filter(holds) };
        Ok(Self {
            records: filter(&self.records, &holds)?.as_primitive().clone(),
            references: filter(&self.references, &holds)?.as_primitive().clone(),
        })
    }

    /// Also the rows that found nothing, each once and in its place.
    fn with_unmatched(self, rows: usize) -> Self {
        if self.is_each_once(rows) {
            return self;
        }
        let (mut records, mut references) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let mut pairs = self.records.values().iter().zip(self.references.values()).peekable();
        for row in 0..rows as u32 {
            let before = records.len();
            while let Some((_, reference)) = pairs.next_if(|(record, _)| **record == row) {
                records.push(row);
                references.push(Some(*reference));
            }
            if records.len() == before {
                records.push(row);
                references.push(None);
            }
        }
        Self { records: records.into(), references: references.into() }
    }

    /// Whether each row stands in one pair: then nothing has to be moved.
    fn is_each_once(&self, rows: usize) -> bool {
        self.records.len() == rows && self.records.values().iter().zip(0..).all(|(record, row)| *record == row)
    }
}

/// Rows of which no key is null; `None` if that is each: null is equal to nothing.
fn without_null_keys(keys: &[ArrayRef]) -> Option<NullBuffer> {
    keys.iter().fold(None, |nulls, key| NullBuffer::union(nulls.as_ref(), key.logical_nulls().as_ref()))
}
