//! A table of Parquet files below a folder, read file by file, for SQL.
//!
//! Hive directories `column=value` are columns. Names that begin with `_` or `.` are not read, as everywhere (Spark,
//! DuckDB and pyarrow leave them out too): what is not published lies there.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StringArray, new_null_array,
};
use datafusion::arrow::compute::{cast, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::file::metadata::RowGroupMetaData;
use datafusion::parquet::file::statistics::Statistics;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use crate::sink::hive::parse_directory;

/// A folder, not yet opened.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    folder: PathBuf,
}

/// Rows of a time: `start <= column < end`, in microseconds since 1970 UTC. The column is a timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimeRange {
    pub(crate) column: String,
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// Hive directory that holds the UTC date of the column.
    pub(crate) date_column: String,
}

impl TimeRange {
    /// Whether a directory `column=value` may hold such rows.
    fn may_be_in(&self, column: &str, value: Option<&str>) -> bool {
        if column != self.date_column {
            return true;
        }
        // What is no date is read: it is not for us to say what it means.
        let Some(date) = value.and_then(|value| value.parse::<chrono::NaiveDate>().ok()) else { return true };
        let day = |micros: i64| chrono::DateTime::from_timestamp_micros(micros).map(|time| time.date_naive());
        let (first, last) = (day(self.start), day(self.end - 1));
        first.is_none_or(|first| date >= first) && last.is_none_or(|last| date <= last)
    }

    /// Whether the statistics of a row group rule such rows out.
    fn rules_out(&self, group: &RowGroupMetaData) -> bool {
        let of_column = |column: &&datafusion::parquet::file::metadata::ColumnChunkMetaData| {
            column.column_path().parts() == [self.column.clone()]
        };
        let Some(Statistics::Int64(found)) =
            group.columns().iter().find(of_column).and_then(|column| column.statistics())
        else {
            return false;
        };
        // Only files of ours are known to count in microseconds; others are filtered row by row.
        let is_micros = group.columns().iter().find(of_column).is_some_and(|column| {
            use datafusion::parquet::basic::{LogicalType, TimeUnit};
            matches!(
                column.column_descr().logical_type_ref(),
                Some(LogicalType::Timestamp(time)) if time.unit == TimeUnit::MICROS
            )
        });
        let (min, max) = (found.min_opt().copied(), found.max_opt().copied());
        is_micros && (min.is_some_and(|min| min >= self.end) || max.is_some_and(|max| max < self.start))
    }

    /// Which rows are such.
    fn mask(&self, times: &ArrayRef) -> Result<BooleanArray> {
        if !matches!(times.data_type(), DataType::Timestamp(..)) {
            return exec_err!("the column {} is of type {}, not a timestamp", self.column, times.data_type());
        }
        let times = cast(times, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        Ok(times.iter().map(|time| time.map(|time| self.start <= time && time < self.end)).collect())
    }
}

/// Folders and files that are there for readers, in order. What cannot be listed has none.
pub(crate) fn children(folder: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut entries: Vec<_> = entries
        .filter(|path| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with(['_', '.'])))
        .collect();
    entries.sort();
    entries.into_iter().partition(|path| path.is_dir())
}

pub(crate) fn is_parquet(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "parquet")
}

/// `column=value` of a Hive directory.
pub(crate) fn partition_of(folder: &Path) -> Option<(String, Option<String>)> {
    parse_directory(&folder.file_name()?.to_string_lossy())
}

impl Table {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its Parquet files.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        fn below(folder: &Path, found: &mut Vec<PathBuf>) {
            let (folders, files) = children(folder);
            found.extend(files.into_iter().filter(|file| is_parquet(file)));
            folders.iter().for_each(|folder| below(folder, found));
        }
        let mut found = Vec::new();
        below(&self.folder, &mut found);
        found
    }

    /// Opens it: the files that are there now. With a range only those that may hold its rows, and of these only its
    /// rows; its columns are known all the same when no file is left.
    ///
    /// # Errors
    /// A file that is not whole, or files whose columns contradict each other.
    pub(crate) fn open(&self, range: Option<TimeRange>) -> Result<OpenTable> {
        let files: Vec<TableFile> =
            self.files().into_iter().map(|path| TableFile { values: self.partition_values(&path), path }).collect();
        let newest = files.last().cloned();
        let mut files = files;
        if let Some(range) = &range {
            let may_be = |(column, value): &(String, Option<String>)| range.may_be_in(column, value.as_deref());
            files.retain(|file| file.values.iter().all(may_be));
        }
        let columns_of: Vec<&TableFile> =
            if files.is_empty() { newest.iter().collect() } else { files.iter().collect() };
        let mut schemas = Vec::with_capacity(columns_of.len());
        for file in &columns_of {
            let reader =
                ParquetRecordBatchReaderBuilder::try_new(file.open()?).map_err(|error| file.damaged(&error))?;
            schemas.push(reader.schema().as_ref().clone().with_metadata(HashMap::new()));
        }
        let schema = Schema::try_merge(schemas)?;
        let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
        let columns = columns_of.iter().flat_map(|file| &file.values).map(|(column, _)| column.clone());
        for column in columns.collect::<BTreeSet<_>>() {
            if schema.field_with_name(&column).is_err() {
                let values = columns_of.iter().flat_map(|file| &file.values).filter(|(name, _)| *name == column);
                let values: Vec<_> = values.filter_map(|(_, value)| value.as_deref()).collect();
                fields.push(Arc::new(Field::new(column, partition_type(&values), true)));
            }
        }
        let schema = Arc::new(Schema::new(
            fields.into_iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>(),
        ));
        if let Some(range) = range.as_ref().filter(|_| !columns_of.is_empty())
            && schema.field_with_name(&range.column).is_err()
        {
            let columns = schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
            return exec_err!("{} has no column {}; it has {columns}", self.folder.display(), range.column);
        }
        let is_known = !columns_of.is_empty();
        Ok(OpenTable { schema, files: files.into(), range, is_known })
    }

    fn partition_values(&self, file: &Path) -> Vec<(String, Option<String>)> {
        let within = file.strip_prefix(&self.folder).unwrap_or(file);
        within.iter().filter_map(|part| partition_of(Path::new(part))).collect()
    }
}

/// The narrowest type that all values of a partition column have, as DuckDB and Spark guess too.
fn partition_type(values: &[&str]) -> DataType {
    let all = |is: fn(&str) -> bool| !values.is_empty() && values.iter().all(|value| is(value));
    // A leading zero is part of a text such as an hour's 07: as a number it would be lost.
    if all(|value| value.parse::<i64>().is_ok() && (value.len() == 1 || !value.starts_with('0'))) {
        DataType::Int64
    } else if all(|value| value.len() == 10 && value.parse::<chrono::NaiveDate>().is_ok()) {
        DataType::Date32
    } else {
        DataType::Utf8
    }
}

/// A file with the values of its directories.
#[derive(Clone, Debug)]
struct TableFile {
    path: PathBuf,
    values: Vec<(String, Option<String>)>,
}

impl TableFile {
    fn open(&self) -> Result<File> {
        File::open(&self.path).map_err(|error| DataFusionError::Execution(format!("{}: {error}", self.path.display())))
    }

    fn damaged(&self, error: &dyn std::fmt::Display) -> DataFusionError {
        DataFusionError::Execution(format!("{} is not a whole Parquet file: {error}", self.path.display()))
    }

    /// Its rows, with these columns.
    fn read(
        &self,
        schema: &SchemaRef,
        range: Option<&TimeRange>,
    ) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(self.open()?).map_err(|error| self.damaged(&error))?;
        let is_wanted =
            |name: &str| schema.field_with_name(name).is_ok() || range.is_some_and(|range| range.column == name);
        let wanted: Vec<usize> = builder
            .schema()
            .fields()
            .iter()
            .enumerate()
            .filter_map(|(index, field)| is_wanted(field.name()).then_some(index))
            .collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
        let builder = match range {
            Some(range) => {
                let groups = builder.metadata().row_groups().iter().enumerate();
                let groups = groups.filter(|(_, group)| !range.rules_out(group)).map(|(index, _)| index).collect();
                builder.with_row_groups(groups)
            }
            None => builder,
        };
        let reader = builder.with_projection(mask).build().map_err(|error| self.damaged(&error))?;
        let (file, schema, range) = (self.clone(), Arc::clone(schema), range.cloned());
        Ok(reader.map(move |batch| {
            let mut batch = batch.map_err(|error| file.damaged(&error))?;
            if let Some(range) = &range {
                batch = match batch.column_by_name(&range.column) {
                    Some(times) => filter_record_batch(&batch, &range.mask(times)?)?,
                    // Without a time a row belongs to no interval.
                    None => batch.slice(0, 0),
                };
            }
            let column = |field: &Arc<Field>| file.column(&batch, field);
            let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?)
        }))
    }

    fn column(&self, batch: &RecordBatch, field: &Field) -> Result<ArrayRef> {
        if let Some(column) = batch.column_by_name(field.name()) {
            return Ok(cast(column, field.data_type())?);
        }
        let value = self.values.iter().find(|(name, _)| name == field.name()).and_then(|(_, value)| value.as_ref());
        match value {
            Some(value) => {
                let values: ArrayRef =
                    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, batch.num_rows())));
                Ok(cast(&values, field.data_type())?)
            }
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        }
    }
}

/// A table of which the schema is known.
#[derive(Debug)]
pub(crate) struct OpenTable {
    schema: SchemaRef,
    files: Arc<[TableFile]>,
    range: Option<TimeRange>,
    is_known: bool,
}

impl OpenTable {
    /// Whether it has ever had a file: without one nobody knows its columns.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known
    }
}

#[async_trait]
impl TableProvider for OpenTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let (files, range) = (Arc::clone(&self.files), self.range.clone());
        let files = Files { schema: Arc::clone(&schema), files, range };
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(files)], None, [], false, limit)?))
    }
}

/// The chosen columns of all files, one file after the other.
#[derive(Debug)]
struct Files {
    schema: SchemaRef,
    files: Arc<[TableFile]>,
    range: Option<TimeRange>,
}

impl PartitionStream for Files {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        type Rows = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;
        let (files, schema, range) = (Arc::clone(&self.files), Arc::clone(&self.schema), self.range.clone());
        let rows = (0..files.len()).flat_map(move |file| -> Rows {
            match files[file].read(&schema, range.as_ref()) {
                Ok(rows) => Box::new(rows),
                Err(error) => Box::new(std::iter::once(Err(error))),
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::iter(rows)))
    }
}
