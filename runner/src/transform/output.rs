//! The shape of output rows: types that every sink and reader knows.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::LogicalPlan;

use super::error::QueryError;
use super::utc_dates::utc_dates;
use super::window::timestamp_type;
use crate::tables::schema::UTC_DATE_OF;

/// Most rows of an emitted batch: list offsets have 32 bits, and writers buffer whole batches.
pub(super) const BATCH_ROWS_MAX: usize = 65_536;

/// A value that does not fit its output type is an error, never silently null.
const EXACT: CastOptions<'static> =
    CastOptions { safe: false, format_options: datafusion::arrow::util::display::FormatOptions::new() };

/// Columns of the output, and the casts that lead to them.
#[derive(Clone)]
pub(super) struct Output {
    pub(super) schema: SchemaRef,
}

impl Output {
    /// The output of a query that gives the columns of `schema`.
    pub(super) fn new(schema: &Schema) -> Result<Self, QueryError> {
        let mut fields: Vec<Field> = Vec::new();
        for field in schema.fields() {
            let name = field.name();
            if fields.iter().any(|other| other.name().eq_ignore_ascii_case(name)) {
                let message = format!("the output has two columns {name}, case aside");
                return Err(QueryError::new(message).cure("give one of them another name: … AS name"));
            }
            let data_type = normal_type(field.data_type()).map_err(|unfit| {
                QueryError::new(format!("the output column {name} {}", unfit.problem)).cure(unfit.cure)
            })?;
            fields.push(Field::new(name, data_type, true));
        }
        Ok(Self { schema: Arc::new(Schema::new(fields)) })
    }

    /// The output of a plan.
    pub(super) fn of_plan(plan: &LogicalPlan) -> Result<Self, QueryError> {
        Self::of_rows(plan.schema().as_arrow(), plan)
    }

    /// The output of a plan whose rows have this schema. A date column that is the UTC date of times of its row says so in
    /// its metadata.
    pub(super) fn of_rows(schema: &Schema, plan: &LogicalPlan) -> Result<Self, QueryError> {
        let output = Self::new(schema)?;
        let dates = utc_dates(plan);
        let fields = output.schema.fields().iter().map(|field| {
            let of = dates.iter().find(|(date, _)| date == field.name());
            match of.and_then(|(_, times)| serde_json::to_string(times).ok()) {
                Some(times) => field.as_ref().clone().with_metadata([(UTC_DATE_OF.to_owned(), times)].into()),
                None => field.as_ref().clone(),
            }
        });
        Ok(Self { schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())) })
    }

    /// Rows of the query as output rows, in batches of at most [`BATCH_ROWS_MAX`].
    pub(super) fn append(&self, batch: &RecordBatch, output: &mut Vec<RecordBatch>) -> Result<()> {
        let columns = batch.columns().iter().zip(self.schema.fields()).map(|(column, field)| {
            if column.data_type() == field.data_type() {
                return Ok(column.clone());
            }
            cast_with_options(column, field.data_type(), &EXACT)
                .map_err(|error| DataFusionError::from(error).context(format!("output column {}", field.name())))
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let mut start = 0;
        while start < batch.num_rows() {
            let rows = BATCH_ROWS_MAX.min(batch.num_rows() - start);
            output.push(batch.slice(start, rows));
            start += rows;
        }
        Ok(())
    }
}

/// Refuses rows that nobody can be shown: JSON of any type. What no sink takes otherwise, such as an interval, can be.
///
/// # Errors
/// The column, and what would work.
pub(super) fn check_shown(schema: &Schema) -> Result<(), QueryError> {
    let is_any = |data_type: &DataType| match data_type {
        DataType::Union(..) => true,
        DataType::List(item) => matches!(item.data_type(), DataType::Union(..)),
        _ => false,
    };
    let fields = schema.fields().iter().filter(|field| is_any(field.data_type()));
    let columns: Vec<FieldRef> = fields.cloned().collect();
    if columns.is_empty() { Ok(()) } else { Output::new(&Schema::new(columns)).map(drop) }
}

struct Unfit {
    problem: String,
    cure: &'static str,
}

fn normal_type(data_type: &DataType) -> Result<DataType, Unfit> {
    let unfit = |problem: &str, cure| Err(Unfit { problem: problem.to_owned(), cure });
    Ok(match data_type {
        DataType::Timestamp(..) => timestamp_type(),
        DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Dictionary(_, values) => normal_type(values)?,
        DataType::RunEndEncoded(_, values) => normal_type(values.data_type())?,
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::LargeUtf8 => DataType::Utf8View,
        DataType::LargeBinary => DataType::BinaryView,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => {
            DataType::List(Arc::new(Field::new_list_field(normal_type(item.data_type())?, true)))
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(normal_field).collect::<Result<Fields, _>>()?),
        DataType::Map(entries, sorted) => {
            let DataType::Struct(fields) = entries.data_type() else { return Ok(data_type.clone()) };
            let fields = fields.iter().map(|field| {
                let data_type = normal_type(field.data_type())?;
                Ok(Arc::new(Field::new(field.name(), data_type, field.is_nullable())))
            });
            let fields = DataType::Struct(fields.collect::<Result<Fields, _>>()?);
            DataType::Map(Arc::new(Field::new(entries.name(), fields, false)), *sorted)
        }
        DataType::Interval(_) => {
            return unfit(
                "is an interval, which Parquet readers do not agree on",
                "add it to a timestamp, or take a number out of it",
            );
        }
        DataType::Duration(_) => {
            return unfit(
                "is a difference of times, which Parquet readers do not agree on",
                "make seconds of it: to_unixtime(b) - to_unixtime(a), or date_part('epoch', b) - date_part('epoch', a)",
            );
        }
        DataType::Null => return unfit("is always null and has no type", "give it one: CAST(NULL AS VARCHAR) AS name"),
        DataType::Union(..) => {
            return unfit(
                "is JSON of any type",
                "take one: json_get_str(j, 'key') or j ->> 'key' for text, json_get_int(j, 'key')",
            );
        }
        DataType::Decimal256(..) => return unfit("has more than 38 digits", "cast it: CAST(… AS DECIMAL(38, 10))"),
        other => other.clone(),
    })
}

fn normal_field(field: &FieldRef) -> Result<FieldRef, Unfit> {
    Ok(Arc::new(Field::new(field.name(), normal_type(field.data_type())?, true)))
}

/// A type as people write it in SQL.
pub(super) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "string".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => "int".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(..) => "timestamp".into(),
        DataType::Time64(_) => "time".into(),
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            "binary".into()
        }
        DataType::List(item) => format!("array<{}>", type_name(item.data_type())),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| format!("{}:{}", field.name(), type_name(field.data_type())));
            format!("struct<{}>", fields.collect::<Vec<_>>().join(","))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!("map<{},{}>", type_name(fields[0].data_type()), type_name(fields[1].data_type()))
            }
            other => format!("map<{other}>"),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, TimestampNanosecondArray, UInt64Array};
    use datafusion::arrow::datatypes::{Int64Type, TimestampMicrosecondType};

    use super::*;

    #[test]
    fn rows_get_types_that_every_reader_knows() {
        let schema = Schema::new(vec![
            Field::new("at", DataType::Timestamp(TimeUnit::Nanosecond, None), false),
            Field::new("rank", DataType::UInt64, false),
        ]);
        let at = TimestampNanosecondArray::from(vec![1_999, 2_000]);
        let batch =
            RecordBatch::try_new(Arc::new(schema.clone()), vec![Arc::new(at), Arc::new(UInt64Array::from(vec![7, 8]))])
                .unwrap();
        let output = Output::new(&schema).unwrap();
        let mut batches = vec![];
        output.append(&batch, &mut batches).unwrap();
        let types: Vec<String> =
            batches[0].schema().fields().iter().map(|field| type_name(field.data_type())).collect();
        assert_eq!(types, ["timestamp", "bigint"]);
        assert_eq!(batches[0].column(0).as_primitive::<TimestampMicrosecondType>().values(), &[1, 2]);
        assert_eq!(batches[0].column(1).as_primitive::<Int64Type>().values(), &[7, 8]);
    }

    #[test]
    fn a_number_that_does_not_fit_is_an_error_not_a_null() {
        let schema = Schema::new(vec![Field::new("n", DataType::UInt64, true)]);
        let batch =
            RecordBatch::try_new(Arc::new(schema.clone()), vec![Arc::new(UInt64Array::from(vec![u64::MAX]))]).unwrap();
        assert!(Output::new(&schema).unwrap().append(&batch, &mut vec![]).is_err());
    }

    #[test]
    fn large_batches_are_cut() {
        let schema = Schema::new(vec![Field::new("n", DataType::UInt64, true)]);
        let column = UInt64Array::from_iter_values(0..150_000);
        let batch = RecordBatch::try_new(Arc::new(schema.clone()), vec![Arc::new(column)]).unwrap();
        let mut batches = vec![];
        Output::new(&schema).unwrap().append(&batch, &mut batches).unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [65_536, 65_536, 18_928]);
    }

    #[test]
    fn columns_without_a_type_for_readers_are_refused() {
        for (data_type, part) in [
            (DataType::Null, "always null"),
            (DataType::Interval(datafusion::arrow::datatypes::IntervalUnit::DayTime), "interval"),
            (DataType::Duration(TimeUnit::Second), "difference of times"),
            (DataType::Decimal256(60, 2), "38 digits"),
        ] {
            let list = DataType::List(Arc::new(Field::new_list_field(data_type.clone(), true)));
            for data_type in [data_type, list] {
                let error = Output::new(&Schema::new(vec![Field::new("x", data_type, true)])).err().unwrap();
                assert!(error.to_string().contains(part), "{error}");
            }
        }
        let twice = Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("A", DataType::Int64, true)]);
        assert!(Output::new(&twice).err().unwrap().message.contains("two columns"));
    }
}
