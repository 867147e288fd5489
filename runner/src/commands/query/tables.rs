//! Tables below a folder, found by their names, and read file by file.
//!
//! A table is a folder that holds Parquet files, or Hive directories `column=value` that do. Names that begin with `_` or
//! `.` are not read, as everywhere (Spark, DuckDB and pyarrow leave them out too).

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{TableReference, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::sql::sqlparser::ast::TableFactor;

use crate::app::CommandError;
use crate::checkpoint::store::open::Location;
use crate::sink::hive::parse_directory;
use crate::transform::scan;

/// The tables of an outputs folder.
#[derive(Debug)]
pub(super) struct Tables {
    root: PathBuf,
    tables: BTreeMap<String, Table>,
}

/// One of them: a folder, not yet opened.
#[derive(Clone, Debug)]
pub(super) struct Table {
    folder: PathBuf,
}

impl Tables {
    /// Looks for tables below a folder. A table is known by the name of its folder, or, when several have the same, by
    /// the whole way to it.
    pub(super) fn find(outputs: &Location) -> Result<Self, CommandError> {
        let Some(root) = outputs.folder() else {
            return Err(CommandError::user(format!("query reads folders; {outputs} is none: copy it, or ask DuckDB")));
        };
        if !root.is_dir() {
            let cure = "give the folder of the outputs with --outputs";
            return Err(CommandError::user(format!("there is no folder {}: {cure}", root.display())));
        }
        let mut folders = Vec::new();
        collect(root, &mut folders);
        let name =
            |folder: &Path| folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let tables = folders.iter().map(|folder| {
            let is_alone = folders.iter().filter(|other| name(other) == name(folder)).count() == 1;
            let path = folder.strip_prefix(root).unwrap_or(folder).to_string_lossy().into_owned();
            let known_as = if is_alone || path.is_empty() { name(folder) } else { path };
            (known_as, Table { folder: folder.clone() })
        });
        Ok(Self { root: root.to_path_buf(), tables: tables.collect() })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Table)> {
        self.tables.iter()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Table> {
        self.tables
            .get(name)
            .or_else(|| self.tables.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|t| t.1))
    }
}

/// Adds every folder at or below `folder` that is a table.
fn collect(folder: &Path, tables: &mut Vec<PathBuf>) {
    let (folders, files) = children(folder);
    if files.iter().any(|file| is_parquet(file)) || folders.iter().any(|folder| partition_of(folder).is_some()) {
        tables.push(folder.to_path_buf());
    } else {
        folders.iter().for_each(|folder| collect(folder, tables));
    }
}

/// Folders and files that are there for readers, in order. What cannot be listed has none.
fn children(folder: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut entries: Vec<_> = entries
        .filter(|path| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with(['_', '.'])))
        .collect();
    entries.sort();
    entries.into_iter().partition(|path| path.is_dir())
}

fn is_parquet(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "parquet")
}

/// `column=value` of a Hive directory.
fn partition_of(folder: &Path) -> Option<(String, Option<String>)> {
    parse_directory(&folder.file_name()?.to_string_lossy())
}

impl Table {
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its Parquet files.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        fn below(folder: &Path, found: &mut Vec<PathBuf>) {
            let (folders, files) = children(folder);
            found.extend(files.into_iter().filter(|file| is_parquet(file)));
            folders.iter().for_each(|folder| below(folder, found));
        }
        let mut found = Vec::new();
        below(&self.folder, &mut found);
        found
    }

    fn open(&self) -> Result<OpenTable> {
        let files: Vec<TableFile> =
            self.files().into_iter().map(|path| TableFile { values: self.partition_values(&path), path }).collect();
        let mut schemas = Vec::with_capacity(files.len());
        for file in &files {
            let reader =
                ParquetRecordBatchReaderBuilder::try_new(file.open()?).map_err(|error| file.damaged(&error))?;
            schemas.push(reader.schema().as_ref().clone().with_metadata(std::collections::HashMap::new()));
        }
        let schema = Schema::try_merge(schemas)?;
        let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
        let columns = files.iter().flat_map(|file| &file.values).map(|(column, _)| column.clone());
        for column in columns.collect::<std::collections::BTreeSet<_>>() {
            if schema.field_with_name(&column).is_err() {
                let values = files.iter().flat_map(|file| &file.values).filter(|(name, _)| *name == column);
                let values: Vec<_> = values.filter_map(|(_, value)| value.as_deref()).collect();
                fields.push(Arc::new(Field::new(column, partition_type(&values), true)));
            }
        }
        let schema = Arc::new(Schema::new(
            fields.into_iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>(),
        ));
        Ok(OpenTable { schema, files: files.into() })
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
    fn read(&self, schema: &SchemaRef) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(self.open()?).map_err(|error| self.damaged(&error))?;
        let wanted: Vec<usize> = builder
            .schema()
            .fields()
            .iter()
            .enumerate()
            .filter_map(|(index, field)| schema.field_with_name(field.name()).is_ok().then_some(index))
            .collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
        let reader = builder.with_projection(mask).build().map_err(|error| self.damaged(&error))?;
        let (file, schema) = (self.clone(), Arc::clone(schema));
        Ok(reader.map(move |batch| {
            let batch = batch.map_err(|error| file.damaged(&error))?;
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
struct OpenTable {
    schema: SchemaRef,
    files: Arc<[TableFile]>,
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
        let files = Files { schema: Arc::clone(&schema), files: Arc::clone(&self.files) };
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(files)], None, [], false, limit)?))
    }
}

/// The chosen columns of all files, one file after the other.
#[derive(Debug)]
struct Files {
    schema: SchemaRef,
    files: Arc<[TableFile]>,
}

impl PartitionStream for Files {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        type Rows = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;
        let (files, schema) = (Arc::clone(&self.files), Arc::clone(&self.schema));
        let rows = (0..files.len()).flat_map(move |file| -> Rows {
            match files[file].read(&schema) {
                Ok(rows) => Box::new(rows),
                Err(error) => Box::new(std::iter::once(Err(error))),
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::iter(rows)))
    }
}

/// Gives the planner the tables that were found.
#[derive(Debug)]
pub(super) struct FoundTables(pub(super) Arc<Tables>);

impl RelationPlanner for FoundTables {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table { name, alias, .. } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let [part] = &name.0[..] else {
            return plan_err!("there is no table {name}; write a long name in double quotes");
        };
        let Some(ident) = part.as_ident() else { return plan_err!("there is no table {name}") };
        // Another name may be one of WITH, which only the planner knows.
        let Some(table) = self.0.get(&ident.value) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let source = provider_as_source(Arc::new(table.open()?));
        let reference = TableReference::bare(context.normalize_ident(ident.clone()));
        let plan = scan(reference, source, None)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}
