//! The plan that reads a table: files that cannot hold a wanted row are not opened, row groups and pages that cannot are not
//! read, and several files, or parts of a large one, are read at once.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, ScalarValue, Statistics, exec_datafusion_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::union::UnionExec;

use super::format::Kind;
use super::reader::{Counted, TableFilesReader, int96_options};
use super::text_scan::read_text;
use super::{TableFile, TimeRange};

/// A table of which the schema is known.
#[derive(Debug)]
pub(crate) struct OpenTable {
    schema: SchemaRef,
    files: Vec<TableFile>,
    range: Option<TimeRange>,
    is_known: bool,
}

impl OpenTable {
    pub(super) fn new(schema: SchemaRef, files: Vec<TableFile>, range: Option<TimeRange>, is_known: bool) -> Self {
        Self { schema, files, range, is_known }
    }

    /// Whether somebody knows its columns: a file that it has or had, or the job that writes it.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known
    }

    /// The files whose directories do not rule out a row that fits.
    fn chosen(&self, state: &dyn Session, filters: &[Expr]) -> Vec<&TableFile> {
        let mut chosen: Vec<&TableFile> = self.files.iter().collect();
        for names in directory_sets(&self.files) {
            let about = |filter: &&Expr| {
                let columns = filter.column_refs();
                !columns.is_empty()
                    && !filter.is_volatile()
                    && columns.iter().all(|column| names.contains(&column.name.as_str()))
            };
            let Some(condition) = conjunction(filters.iter().filter(about).map(without_relation)) else { continue };
            let files: Vec<&TableFile> = self.files.iter().filter(|file| file.directories() == names).collect();
            // What fails here fails above, where the rows are; there it is said.
            let Ok(fits) = self.evaluate(state, condition, &names, &files) else { continue };
            let mut fits = fits.iter();
            chosen.retain(|file| file.directories() != names || fits.next().flatten() == Some(true));
        }
        chosen
    }

    /// A condition over the directories of files.
    fn evaluate(
        &self,
        state: &dyn Session,
        condition: Expr,
        names: &[&str],
        files: &[&TableFile],
    ) -> Result<BooleanArray> {
        let fields = names.iter().map(|name| self.schema.field_with_name(name).cloned());
        let schema = Arc::new(Schema::new(fields.collect::<std::result::Result<Vec<Field>, _>>()?));
        let column = |index: usize| -> Result<ArrayRef> {
            ScalarValue::iter_to_array(files.iter().map(|file| file.values[index].1.clone()))
        };
        let columns = (0..names.len()).map(column).collect::<Result<Vec<_>>>()?;
        let values = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        let condition = state.create_physical_expr(condition, &DFSchema::try_from(schema)?)?;
        let fits = condition.evaluate(&values)?.into_array(files.len())?;
        fits.as_boolean_opt().cloned().ok_or_else(|| exec_datafusion_err!("a condition is no truth value"))
    }

    /// Reads these columns of Parquet files that have the same directories.
    fn read_parquet(
        &self,
        files: &[&TableFile],
        names: &[&str],
        columns: &[&str],
        partitions: usize,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let is_directory = |field: &&FieldRef| names.contains(&field.name().as_str());
        let of_files: Vec<FieldRef> =
            self.schema.fields().iter().filter(|field| !is_directory(field)).cloned().collect();
        let directories = names.iter().map(|name| self.schema.field_with_name(name).cloned().map(Arc::new));
        let directories = directories.collect::<std::result::Result<Vec<FieldRef>, _>>()?;
        let schema =
            TableSchema::builder(Arc::new(Schema::new(of_files))).with_table_partition_cols(directories).build();
        let whole = Arc::clone(schema.table_schema());
        let mut source = ParquetSource::new(schema)
            .with_table_parquet_options(int96_options())
            .with_parquet_file_reader_factory(Arc::new(TableFilesReader));
        if let Some(range) = &self.range {
            // It rules out row groups and pages; rows are chosen above. A short one also within a row group, or all of its columns
            // would be decoded for a few of its rows.
            source = source.with_predicate(range.condition(&whole)?).with_pushdown_filters(range.is_part_of_a_day());
        }
        let columns = columns.iter().map(|name| whole.index_of(name)).collect::<std::result::Result<Vec<_>, _>>()?;
        let planned = |file: &TableFile| {
            let mut planned = PartitionedFile::new(file.at.to_string(), file.footer.bytes)
                .with_partition_values(file.values.iter().map(|(_, value)| value.clone()).collect())
                .with_extension(file.at.clone());
            let mut statistics = counted(&whole, file.footer.counted);
            for (name, known) in file.known.iter().flat_map(|known| &known.columns) {
                if let Ok(index) = whole.index_of(name) {
                    statistics.column_statistics[index] = known.clone();
                }
            }
            planned.statistics = Some(Arc::new(statistics));
            match file.footer.identity {
                Some(identity) => planned.with_extension(identity),
                None => planned,
            }
        };
        let together = files.iter().map(|file| file.footer.counted).try_fold(Counted::default(), |sum, counted| {
            let counted = counted?;
            Some(Counted { rows: sum.rows + counted.rows, size: sum.size + counted.size })
        });
        let groups = in_groups(files, partitions);
        let groups = groups.map(|files| FileGroup::new(files.iter().map(|file| planned(file)).collect())).collect();
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(counted(&whole, together))
            .with_projection_indices(Some(columns))?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// What is known of the rows of files; nothing, if nobody counted those of one of them.
fn counted(schema: &SchemaRef, counted: Option<Counted>) -> Statistics {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let mut statistics = Statistics::new_unknown(schema);
    if let Some(Counted { rows, size }) = counted {
        statistics.num_rows = Precision::Exact(number(rows));
        statistics.total_byte_size = Precision::Inexact(number(size));
    }
    statistics
}

impl TableFile {
    /// The value of a column that its directories name.
    pub(super) fn value(&self, column: &str) -> Option<&ScalarValue> {
        self.values.iter().find(|(name, _)| name == column).map(|(_, value)| value)
    }

    /// Columns that its directories name, in their order.
    fn directories(&self) -> Vec<&str> {
        self.values.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// The sets of directories that files have: one, but for a table that was partitioned later, or in another way.
fn directory_sets(files: &[TableFile]) -> Vec<Vec<&str>> {
    let mut sets: Vec<Vec<&str>> = Vec::new();
    for file in files {
        let names = file.directories();
        if !sets.contains(&names) {
            sets.push(names);
        }
    }
    sets
}

/// Splits files into so many neighbouring groups of about the same size.
pub(super) fn in_groups<'a, 'b>(
    files: &'b [&'a TableFile],
    groups: usize,
) -> impl Iterator<Item = &'b [&'a TableFile]> {
    let whole: u64 = files.iter().map(|file| file.footer.bytes).sum();
    let share = whole.div_ceil(groups.max(1) as u64).max(1);
    let mut rest = files;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let full = rest.iter().position(|file| {
            bytes += file.footer.bytes;
            bytes >= share
        });
        let (group, left) = rest.split_at(full.map_or(rest.len(), |last| last + 1));
        rest = left;
        (!group.is_empty()).then_some(group)
    })
}

/// A filter as it reads over columns without the name of the table.
fn without_relation(filter: &Expr) -> Expr {
    datafusion::logical_expr::expr_rewriter::unnormalize_col(filter.clone())
}

#[async_trait]
impl TableProvider for OpenTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // They rule out files; rows are chosen above.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wanted = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let mut columns: Vec<&str> = wanted.fields().iter().map(|field| field.name().as_str()).collect();
        let time = self.range.as_ref().map(|range| range.column.as_str());
        columns.extend(time.filter(|time| !columns.contains(time)));
        let limit = limit.filter(|_| time.is_none());
        let partitions = state.config().target_partitions();
        let chosen = self.chosen(state, filters);
        let mut parts = Vec::new();
        for names in directory_sets(&self.files) {
            let files = chosen.iter().copied().filter(|file| file.directories() == names);
            let (parquet, text): (Vec<_>, Vec<_>) = files.partition(|file| file.format.kind == Kind::Parquet);
            if !parquet.is_empty() {
                parts.push(self.read_parquet(&parquet, &names, &columns, partitions, limit)?);
            }
            if !text.is_empty() {
                parts.push(read_text(&self.schema, &text, &columns, partitions, limit)?);
            }
        }
        let rows = match parts.len() {
            0 => return Ok(Arc::new(EmptyExec::new(wanted))),
            1 => parts.remove(0),
            _ => UnionExec::try_new(parts)?,
        };
        let Some(range) = &self.range else { return Ok(rows) };
        let condition = range.condition(&rows.schema())?;
        let kept = (0..wanted.fields().len()).collect();
        Ok(Arc::new(FilterExecBuilder::new(condition, rows).apply_projection(Some(kept))?.build()?))
    }
}
