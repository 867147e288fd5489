//! Values of any type as byte strings, for structures that hold many of them: text as it is, anything else in arrow's row
//! format. Equal values have equal bytes.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, LargeStringArray, StringArray, StringViewArray, new_empty_array,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use datafusion::common::{internal_err, resources_datafusion_err};
use datafusion::error::Result;

/// Encodes and decodes values of one type.
pub(super) struct ValueCodec {
    data_type: DataType,
    /// `None` for text.
    rows: Option<RowFormat>,
}

struct RowFormat {
    converter: RowConverter,
    null: OwnedRow,
}

/// The encoded values of an array.
pub(super) enum Encoded<'a> {
    Views(&'a StringViewArray),
    Text(&'a StringArray),
    LargeText(&'a LargeStringArray),
    Rows(Rows, Option<NullBuffer>),
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

impl ValueCodec {
    /// Whether values of a type can be encoded.
    pub(super) fn supports(data_type: &DataType) -> bool {
        is_text(data_type) || RowConverter::supports_fields(&[SortField::new(data_type.clone())])
    }

    pub(super) fn new(data_type: &DataType) -> Result<Self> {
        let rows = if is_text(data_type) { None } else { Some(RowFormat::new(data_type)?) };
        Ok(Self { data_type: data_type.clone(), rows })
    }

    /// Encodes values; text may be in any of its forms.
    pub(super) fn encode<'a>(&self, values: &'a ArrayRef) -> Result<Encoded<'a>> {
        if let Some(format) = &self.rows {
            let rows = format.converter.convert_columns(std::slice::from_ref(values))?;
            return Ok(Encoded::Rows(rows, values.logical_nulls().filter(|nulls| nulls.null_count() > 0)));
        }
        match values.data_type() {
            DataType::Utf8View => Ok(Encoded::Views(values.as_string_view())),
            DataType::Utf8 => Ok(Encoded::Text(values.as_string())),
            DataType::LargeUtf8 => Ok(Encoded::LargeText(values.as_string())),
            other => internal_err!("text was expected, not {other}"),
        }
    }

    /// The values again.
    pub(super) fn decode(&self, values: &[Option<&[u8]>]) -> Result<ArrayRef> {
        if values.is_empty() {
            return Ok(new_empty_array(&self.data_type));
        }
        if let Some(format) = &self.rows {
            let parser = format.converter.parser();
            let rows = values.iter().map(|value| match value {
                Some(bytes) => parser.parse(bytes),
                None => format.null.row(),
            });
            let column = format.converter.convert_rows(rows)?.swap_remove(0);
            // Dictionaries come back as their values.
            return if *column.data_type() == self.data_type {
                Ok(column)
            } else {
                Ok(cast(&column, &self.data_type)?)
            };
        }
        let bytes = values.iter().flatten().map(|value| value.len()).sum::<usize>();
        if i32::try_from(bytes).is_err() {
            return Err(resources_datafusion_err!("the values of some closed windows have more than 2 GiB"));
        }
        // Checked as UTF-8 once for all: they were text when they came.
        let bytes = BinaryArray::from_iter(values.iter().copied());
        let text = StringArray::try_from_binary(bytes)?;
        Ok(match self.data_type {
            DataType::Utf8View => Arc::new(StringViewArray::from(&text)),
            DataType::LargeUtf8 => cast(&text, &DataType::LargeUtf8)?,
            _ => Arc::new(text),
        })
    }
}

impl RowFormat {
    fn new(data_type: &DataType) -> Result<Self> {
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        let nothing = datafusion::arrow::array::new_null_array(data_type, 1);
        let null = converter.convert_columns(&[nothing])?.row(0).owned();
        Ok(Self { converter, null })
    }
}

impl Encoded<'_> {
    /// The value of a row; `None` if it is null.
    #[inline]
    pub(super) fn value(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::Views(text) => text.is_valid(row).then(|| text.value(row).as_bytes()),
            Self::Text(text) => text.is_valid(row).then(|| text.value(row).as_bytes()),
            Self::LargeText(text) => text.is_valid(row).then(|| text.value(row).as_bytes()),
            Self::Rows(rows, nulls) => {
                let valid = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
                valid.then(|| rows.row(row).data())
            }
        }
    }
}
