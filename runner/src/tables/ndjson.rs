//! Rows of a file with a JSON object in each line, in declared columns. Keys that nobody declared are not looked at, and one
//! that is missing is null. Reads as it goes: memory holds one batch.
//!
//! Every value is taken as the text that stands there, and cast to its type as a cell of CSV is: so no number loses a digit on
//! its way through a floating point number, and what is none of the type is an error.

use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::sync::Arc;

use arrow_json::ReaderBuilder;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray,
};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::arrow::error::ArrowError;

use super::csv::typed;
use super::format::Packing;
use super::place::FileAt;
use super::text::{TextError, unpacked};

/// Bytes of lines that are taken apart at once, but for the last one.
const BATCH_BYTES: usize = 4 << 20;

/// Longest line, in bytes: a record of a topic may have as many, and so nothing that a job wrote is longer. Without a limit a
/// file without line ends would fill the memory.
const LINE_BYTES_MAX: usize = 64 << 20;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A file that is being read.
pub(crate) struct NdjsonFile {
    file: String,
    input: BufReader<Box<dyn Read + Send>>,
    columns: Fields,
    /// The line that was read last, from 1.
    line: u64,
    /// Lines that are taken apart together: their bytes, and where each stands there, with its number.
    text: Vec<u8>,
    lines: Vec<(Range<usize>, u64)>,
}

impl NdjsonFile {
    /// Opens a file for these columns.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn open(at: &FileAt, packing: Packing, columns: Fields) -> Result<Self, TextError> {
        Ok(Self::of(at.to_string(), at.open(packing)?, columns))
    }

    /// The same over bytes of a file that are there.
    ///
    /// # Errors
    /// They cannot be unpacked.
    pub(crate) fn over(
        file: String,
        bytes: Box<dyn Read + Send>,
        packing: Packing,
        columns: Fields,
    ) -> Result<Self, TextError> {
        let bytes = unpacked(&file, bytes, packing)?;
        Ok(Self::of(file, bytes, columns))
    }

    fn of(file: String, bytes: Box<dyn Read + Send>, columns: Fields) -> Self {
        let input = BufReader::with_capacity(1 << 16, bytes);
        Self { file, input, columns, line: 0, text: Vec::new(), lines: Vec::new() }
    }

    /// The next rows, at most so many; `None` at the end.
    ///
    /// # Errors
    /// What is wrong with which line.
    pub(crate) fn next_rows(&mut self, rows_max: usize) -> Result<Option<RecordBatch>, TextError> {
        self.text.clear();
        self.lines.clear();
        while self.lines.len() < rows_max && self.text.len() < BATCH_BYTES && self.next_line()? {}
        if self.lines.is_empty() {
            return Ok(None);
        }
        match self.rows(&self.lines) {
            Ok(rows) => Ok(Some(rows)),
            Err(problem) => Err(self.wrong(&problem)),
        }
    }

    /// The first line that is wrong by itself, and why.
    fn wrong(&self, problem: &str) -> TextError {
        let alone = |line: &(Range<usize>, u64)| Some((line.1, self.rows(std::slice::from_ref(line)).err()?));
        TextError::Wrong(match self.lines.iter().find_map(alone) {
            Some((line, problem)) => format!("{}: line {line}: {problem}", self.file),
            None => format!("{}: {problem}", self.file),
        })
    }

    /// Reads a line that holds something; whether there was one.
    fn next_line(&mut self) -> Result<bool, TextError> {
        loop {
            let begin = self.text.len();
            let mut limited = (&mut self.input).take(LINE_BYTES_MAX as u64 + 1);
            let read = limited.read_until(b'\n', &mut self.text);
            let read = read.map_err(|source| TextError::Read { file: self.file.clone(), source })?;
            if read == 0 {
                return Ok(false);
            }
            self.line += 1;
            if read > LINE_BYTES_MAX {
                let (file, line) = (&self.file, self.line);
                return Err(TextError::Wrong(format!(
                    "{file}: line {line}: it is longer than {LINE_BYTES_MAX} bytes: write an object in each line"
                )));
            }
            let line = &self.text[begin..];
            let line = line.strip_prefix(BYTE_ORDER_MARK).filter(|_| self.line == 1).unwrap_or(line);
            let trimmed = line.trim_ascii();
            if trimmed.is_empty() {
                self.text.truncate(begin);
                continue;
            }
            let skipped = line.len() - line.trim_ascii_start().len() + (self.text.len() - begin - line.len());
            self.lines.push((begin + skipped..begin + skipped + trimmed.len(), self.line));
            return Ok(true);
        }
    }

    /// Some lines as rows.
    fn rows(&self, lines: &[(Range<usize>, u64)]) -> Result<RecordBatch, String> {
        let texts = Arc::new(Schema::new(self.columns.iter().map(as_text).collect::<Fields>()));
        let builder = ReaderBuilder::new(texts).with_batch_size(lines.len()).with_coerce_primitive(true);
        let mut decoder = builder.build_decoder().map_err(|error| in_words(&error))?;
        for (row, (range, _)) in lines.iter().enumerate() {
            let line = &self.text[range.clone()];
            if line.first() != Some(&b'{') {
                return Err("it is no JSON object".to_owned());
            }
            let taken = decoder.decode(line).map_err(|error| format!("it is no JSON: {}", in_words(&error)))?;
            if taken < line.len() || decoder.has_partial_record() || decoder.len() != row + 1 {
                return Err("it is not one whole JSON object".to_owned());
            }
        }
        let texts = decoder.flush().map_err(|error| in_words(&error))?;
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (field, texts) in self.columns.iter().zip(texts.iter().flat_map(RecordBatch::columns)) {
            let column = of_type(texts, field.data_type());
            columns.push(column.map_err(|problem| format!("the column {}: {problem}", field.name()))?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(lines.len()));
        let schema = Arc::new(Schema::new(self.columns.clone()));
        RecordBatch::try_new_with_options(schema, columns, &options).map_err(|error| in_words(&error))
    }
}

fn in_words(error: &ArrowError) -> String {
    let text = error.to_string();
    text.strip_prefix("Json error: ").unwrap_or(&text).to_owned()
}

/// A field whose innermost values are text.
fn as_text(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::List(item) => DataType::List(as_text(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(as_text).collect()),
        DataType::Map(entries, sorted) => DataType::Map(as_text(entries), *sorted),
        _ => DataType::Utf8,
    };
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()))
}

/// Values whose innermost are text, in their type.
fn of_type(texts: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, String> {
    let said = |error: ArrowError| error.to_string();
    Ok(match data_type {
        DataType::List(item) => {
            let texts = texts.as_list::<i32>();
            let values = of_type(texts.values(), item.data_type())?;
            let (offsets, nulls) = (texts.offsets().clone(), texts.nulls().cloned());
            Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, nulls).map_err(said)?)
        }
        DataType::Struct(fields) => Arc::new(struct_of(texts.as_struct(), fields)?),
        DataType::Map(entries, sorted) => {
            let texts = texts.as_map();
            let DataType::Struct(fields) = entries.data_type() else { return Err("a map without entries".to_owned()) };
            let (offsets, nulls) = (texts.offsets().clone(), texts.nulls().cloned());
            let values = struct_of(texts.entries(), fields)?;
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, values, nulls, *sorted).map_err(said)?)
        }
        _ => typed(texts.as_string::<i32>(), data_type)?,
    })
}

fn struct_of(texts: &StructArray, fields: &Fields) -> Result<StructArray, String> {
    let inner = fields.iter().zip(texts.columns()).map(|(field, texts)| of_type(texts, field.data_type()));
    let inner = inner.collect::<Result<Vec<_>, _>>()?;
    StructArray::try_new_with_length(fields.clone(), inner, texts.nulls().cloned(), texts.len())
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::util::display::array_value_to_string;

    use super::*;
    use crate::tables::schema::value_type;

    /// Rows of a text in columns of these types, each as text.
    fn read(text: &[u8], columns: &[(&str, &str)]) -> Result<Vec<Vec<String>>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.ndjson");
        std::fs::write(&path, text).unwrap();
        let fields = columns.iter().map(|(name, of)| Field::new(*name, value_type(of).unwrap(), true));
        let mut file = NdjsonFile::open(&FileAt::from(path.as_path()), Packing::None, fields.collect())?;
        let mut rows = Vec::new();
        while let Some(batch) = file.next_rows(2)? {
            for row in 0..batch.num_rows() {
                let value = |column: &ArrayRef| match column.is_null(row) {
                    true => "null".to_owned(),
                    false => array_value_to_string(column, row).unwrap(),
                };
                rows.push(batch.columns().iter().map(value).collect());
            }
        }
        Ok(rows)
    }

    #[test]
    fn values_are_exact_in_their_types() {
        let text = concat!(
            "\u{feff}{\"n\": 9007199254740993, \"d\": 1234567890123456789.01, \"at\": \"2026-01-01T00:00:00.000001Z\"}\r\n",
            "\n",
            "  {\"b\": true, \"n\": \"-7\", \"s\": 1.10, \"x\": {\"unknown\": []}, \"bytes\": \"00ff\"}  \n",
            "{\"s\": \"\\u0000\\n\\\"é\\ud83d\\ude00\", \"n\": null, \"n2\": 1}",
        );
        let columns = [
            ("n", "bigint"),
            ("d", "decimal(21,2)"),
            ("at", "timestamp"),
            ("b", "boolean"),
            ("s", "string"),
            ("bytes", "binary"),
        ];
        let rows = read(text.as_bytes(), &columns).unwrap();
        let expected = [
            ["9007199254740993", "1234567890123456789.01", "2026-01-01T00:00:00.000001Z", "null", "null", "null"],
            ["-7", "null", "null", "true", "1.10", "00ff"],
            ["null", "null", "null", "null", "\u{0}\n\"é😀", "null"],
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn lists_structs_and_maps_have_their_types_inside() {
        let text = concat!(
            "{\"l\": [9007199254740993, null], \"s\": {\"a\": 1, \"at\": \"2026-01-01\"}, \"m\": {\"k\": 2.5}}\n",
            "{\"l\": [], \"s\": null, \"m\": {}}\n{}\n"
        );
        let columns = [("l", "array<bigint>"), ("s", "struct<a:int,at:date>"), ("m", "map<string,double>")];
        let rows = read(text.as_bytes(), &columns).unwrap();
        assert_eq!(
            rows,
            [
                ["[9007199254740993, ]", "{a: 1, at: 2026-01-01}", "{k: 2.5}"],
                ["[]", "null", "{}"],
                ["null", "null", "null"],
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, part) in [
            (&b"{\"n\":1}\n\n{\"n\":1.5}\n"[..], "line 3: the column n: "),
            (b"{\"n\":1}\n{\"n\":9223372036854775808}\n", "line 2: the column n: "),
            (b"{\"n\":1}\n{\"n\":2}\n{\"n\":\"x\"}\n", "line 3: the column n: "),
            (b"{\"n\":1}\nn,1\n", "line 2: it is no JSON object"),
            (b"[{\"n\":1}]\n", "line 1: it is no JSON object"),
            (b"{\"n\":1}{\"n\":2}\n", "line 1: it is not one whole JSON object"),
            (b"{\"n\":1}\n{\"n\":\n1}\n", "line 2: it is not one whole JSON object"),
            (b"{\"n\":1}\n{\"n\":2", "line 2: it is not one whole JSON object"),
            (b"{\"n\":1}\n{n:2}\n", "line 2: it is no JSON: "),
            (b"{\"n\":1}\n\0\0\0\0\n", "line 2: it is no JSON object"),
            (b"{\"n\":1}\n{\"n\":{\"a\":1}}\n", "line 2: "),
            (b"{\"n\":1}\n{\"s\":\"\xff\"}\n", "line 2: "),
        ] {
            let error = read(text, &[("n", "bigint"), ("s", "string")]).unwrap_err();
            assert!(error.contains(part) && error.contains("t.ndjson: "), "{error}, not {part}");
        }
        assert_eq!(read(b"\n\n", &[("n", "bigint")]).unwrap().len(), 0);
    }
}
