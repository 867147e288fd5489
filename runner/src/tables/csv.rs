//! Rows of a CSV file as text: RFC 4180, and what spreadsheets make of it. An empty cell is null, and `""` is an empty text,
//! as our own sink writes them. Reads as it goes: memory holds one batch.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BinaryBuilder, StringArray, StringBuilder};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::display::FormatOptions;

use super::format::Packing;
use super::place::FileAt;
use super::text::{TextError, unpacked};

/// A value that is none of its type is an error, never null.
const EXACT: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };

/// What spreadsheets put before the first name.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A file that is being read.
pub(crate) struct CsvFile {
    file: String,
    input: BufReader<Box<dyn Read + Send>>,
    header: Vec<String>,
    record: Record,
    /// The rows that were read last: their cells by column, and the line on which each begins.
    cells: Vec<StringArray>,
    lines: Vec<u64>,
}

impl CsvFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn open(at: &FileAt, packing: Packing) -> Result<Self, TextError> {
        Self::of(at.to_string(), at.open(packing)?)
    }

    /// The same over bytes of a file that are there.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn over(file: String, bytes: Box<dyn Read + Send>, packing: Packing) -> Result<Self, TextError> {
        let bytes = unpacked(&file, bytes, packing)?;
        Self::of(file, bytes)
    }

    fn of(file: String, bytes: Box<dyn Read + Send>) -> Result<Self, TextError> {
        let input = BufReader::with_capacity(1 << 16, bytes);
        let record = Record { line: 1, ..Record::default() };
        let (header, cells, lines) = (Vec::new(), Vec::new(), Vec::new());
        let mut file = Self { file, input, header, record, cells, lines };
        file.read_header()?;
        Ok(file)
    }

    fn unreadable(&self, source: std::io::Error) -> TextError {
        TextError::Read { file: self.file.clone(), source }
    }

    fn read_header(&mut self) -> Result<(), TextError> {
        let first = match self.input.fill_buf() {
            Ok(first) => first,
            Err(error) => return Err(self.unreadable(error)),
        };
        if first.starts_with(BYTE_ORDER_MARK) {
            self.input.consume(BYTE_ORDER_MARK.len());
        }
        if self.next_record()? {
            self.header = self.record.cells().map(|cell| cell.unwrap_or_default().to_owned()).collect();
        }
        Ok(())
    }

    /// The names of the columns; none if the file is empty.
    pub(crate) fn header(&self) -> &[String] {
        &self.header
    }

    /// Reads the next rows, at most so many: a column of text for each name. `None` at the end.
    ///
    /// # Errors
    /// What is wrong with which line.
    pub(crate) fn next_rows(&mut self, rows_max: usize) -> Result<Option<&[StringArray]>, TextError> {
        let mut columns: Vec<StringBuilder> = self.header.iter().map(|_| StringBuilder::new()).collect();
        self.lines.clear();
        while self.lines.len() < rows_max && self.next_record()? {
            let (found, expected) = (self.record.ends.len(), columns.len());
            if found != expected {
                return Err(self.wrong(&format!("it has {found} cells, and the header has {expected}")));
            }
            for (column, cell) in columns.iter_mut().zip(self.record.cells()) {
                column.append_option(cell);
            }
            self.lines.push(self.record.begun);
        }
        self.cells = columns.iter_mut().map(StringBuilder::finish).collect();
        Ok((!self.lines.is_empty()).then_some(&self.cells))
    }

    /// How many rows were read last.
    pub(crate) fn rows(&self) -> usize {
        self.lines.len()
    }

    /// A column of the rows that were read last, in its type; `None`: the file has no such column.
    pub(super) fn column(&self, name: &str, data_type: &DataType) -> Option<Result<ArrayRef, TextError>> {
        let at = self.header.iter().position(|known| known == name)?;
        let cells = &self.cells[at];
        Some(typed(cells, data_type).map_err(|problem| {
            let alone = |row: usize| Some((self.lines[row], typed(&cells.slice(row, 1), data_type).err()?));
            let (line, problem) = (0..cells.len()).find_map(alone).unwrap_or((self.lines[0], problem));
            TextError::Wrong(format!("{}: line {line}: the column {name}: {problem}", self.file))
        }))
    }

    /// Reads one record, and whether there was one. Lines without anything are none.
    fn next_record(&mut self) -> Result<bool, TextError> {
        loop {
            self.record.clear();
            let mut has_ended = false;
            while !has_ended {
                let bytes = match self.input.fill_buf() {
                    Ok(bytes) => bytes,
                    Err(error) => return Err(self.unreadable(error)),
                };
                if bytes.is_empty() {
                    if self.record.state == State::Quoted {
                        return Err(self.wrong("a quote is opened there and never closed"));
                    }
                    if !self.record.has_begun() {
                        return Ok(false);
                    }
                    self.record.end_cell();
                    break;
                }
                let taken = bytes.iter().position(|byte| self.record.take(*byte));
                has_ended = taken.is_some();
                let taken = taken.map_or(bytes.len(), |last| last + 1);
                self.input.consume(taken);
            }
            if std::str::from_utf8(&self.record.text).is_err() {
                return Err(self.wrong("it is not UTF-8"));
            }
            if !self.record.is_blank() {
                return Ok(true);
            }
        }
    }

    fn wrong(&self, problem: &str) -> TextError {
        TextError::Wrong(format!("{}: line {}: {problem}", self.file, self.record.begun))
    }
}

/// Where in a record the reader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the first byte of a cell.
    #[default]
    Begin,
    /// In a cell without quotes, or behind them.
    Plain,
    /// Between quotes.
    Quoted,
    /// At a quote between quotes: the end of them, or half of a quote.
    Quote,
}

/// One record: the cells' text, one behind the other.
#[derive(Debug, Default)]
struct Record {
    text: Vec<u8>,
    /// Where each cell ends, and whether it stood in quotes.
    ends: Vec<(usize, bool)>,
    state: State,
    is_quoted: bool,
    /// The line that is read, from 1, and that on which the record began.
    line: u64,
    begun: u64,
}

impl Record {
    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        (self.state, self.is_quoted, self.begun) = (State::Begin, false, self.line);
    }

    /// Takes a byte; whether it ends the record.
    fn take(&mut self, byte: u8) -> bool {
        self.line += u64::from(byte == b'\n');
        match (self.state, byte) {
            (State::Quoted, b'"') => self.state = State::Quote,
            (State::Quoted, _) => self.text.push(byte),
            (_, b'\n' | b'\r') => {
                self.end_cell();
                return true;
            }
            (_, b',') => self.end_cell(),
            (State::Begin, b'"') => (self.state, self.is_quoted) = (State::Quoted, true),
            (State::Quote, b'"') => {
                self.text.push(byte);
                self.state = State::Quoted;
            }
            _ => {
                self.text.push(byte);
                self.state = State::Plain;
            }
        }
        false
    }

    fn end_cell(&mut self) {
        self.ends.push((self.text.len(), self.is_quoted));
        (self.state, self.is_quoted) = (State::Begin, false);
    }

    fn has_begun(&self) -> bool {
        self.state != State::Begin || !self.ends.is_empty()
    }

    fn is_blank(&self) -> bool {
        self.ends == [(0, false)]
    }

    /// The cells; an empty one without quotes is null.
    fn cells(&self) -> impl Iterator<Item = Option<&str>> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(end, _)| *end));
        starts.zip(&self.ends).map(|(start, (end, is_quoted))| {
            // The whole record is UTF-8, and cells end where an ASCII character stood.
            let text = std::str::from_utf8(&self.text[start..*end]).unwrap_or_default();
            (*is_quoted || !text.is_empty()).then_some(text)
        })
    }
}

/// Cells in the type of their column. Binary is hexadecimal, as our sink writes it; a cell that cannot hold a list, struct or
/// map stays text.
///
/// # Errors
/// A value that is none of the type.
pub(super) fn typed(cells: &StringArray, data_type: &DataType) -> Result<ArrayRef, String> {
    if *data_type != DataType::Binary {
        return cast_with_options(cells, data_type, &EXACT).map_err(|error| {
            let text = error.to_string();
            text.strip_prefix("Cast error: ").unwrap_or(&text).to_owned()
        });
    }
    let mut bytes = BinaryBuilder::new();
    for cell in cells {
        match cell {
            None => bytes.append_null(),
            Some(text) => bytes.append_value(from_hex(text).ok_or_else(|| format!("{text:?} is not hexadecimal"))?),
        }
    }
    Ok(Arc::new(bytes.finish()))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Array;

    use super::*;

    /// The cells of a row; null is `None`.
    type Row = Vec<Option<String>>;

    /// Header and rows of a text, read in batches of two rows.
    fn read(text: &[u8]) -> Result<(Vec<String>, Vec<Row>), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        let mut file = CsvFile::open(&FileAt::from(path.as_path()), Packing::None)?;
        // As a slow disk gives it.
        file.input = BufReader::with_capacity(3, Box::new(std::fs::File::open(&path).unwrap()));
        file.record.line = 1;
        file.read_header()?;
        let mut rows = Vec::new();
        while let Some(columns) = file.next_rows(2)? {
            let cell = |column: &StringArray, row| column.iter().nth(row).flatten().map(str::to_owned);
            rows.extend((0..columns[0].len()).map(|row| columns.iter().map(|column| cell(column, row)).collect()));
        }
        Ok((file.header, rows))
    }

    #[test]
    fn an_empty_cell_is_null_and_an_empty_text_stands_in_quotes() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["\u{feff}\"a\",b", ",\"\"", "\"\",", "x,\"\"\"y\"\", z\"", "", "last,5\" wide"].join(end);
            let (header, rows) = read(text.as_bytes()).unwrap();
            assert_eq!(header, ["a", "b"]);
            let expected: [[Option<&str>; 2]; 4] =
                [[None, Some("")], [Some(""), None], [Some("x"), Some("\"y\", z")], [Some("last"), Some("5\" wide")]];
            assert_eq!(rows, expected.map(|row| row.map(|cell| cell.map(str::to_owned)).to_vec()), "{end:?}");
        }
    }

    #[test]
    fn a_text_may_have_several_lines_and_the_last_may_lack_its_end() {
        let (_, rows) = read(b"a,b\n\"one\r\ntwo,\n\",1\n3,").unwrap();
        let rows: Vec<Vec<_>> = rows.iter().map(|row| row.iter().map(Option::as_deref).collect()).collect();
        assert_eq!(rows, [[Some("one\r\ntwo,\n"), Some("1")], [Some("3"), None]]);
        assert_eq!(read(b"").unwrap(), (vec![], vec![]));
        assert_eq!(read(b"a,b\n").unwrap().1.len(), 0);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, part) in [
            (&b"a,b\n1,2\n\"x\ny\",2\n1,2,3\n"[..], "line 5: it has 3 cells, and the header has 2"),
            (b"a,b\n1\n", "line 2: it has 1 cells"),
            (b"a,b\n1,\"2\n3,4\n", "line 2: a quote is opened there and never closed"),
            (b"a,b\n1,2\n\xff,2\n", "line 3: it is not UTF-8"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part) && error.contains("t.csv: "), "{error}");
        }
    }

    #[test]
    fn a_value_of_another_type_is_said_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, "n,s\n1,\"two\nlines\"\n2,\0\nx,b\n3,\ny,c\n").unwrap();
        let mut file = CsvFile::open(&FileAt::from(path.as_path()), Packing::None).unwrap();
        file.next_rows(10).unwrap().unwrap();
        let error = file.column("n", &DataType::Int64).unwrap().unwrap_err().to_string();
        assert!(error.contains("t.csv: line 5: the column n: ") && error.contains('x'), "{error}");
        let texts = file.column("s", &DataType::Utf8).unwrap().unwrap();
        let texts: Vec<_> = datafusion::arrow::array::AsArray::as_string::<i32>(&texts).iter().collect();
        assert_eq!(texts[..2], [Some("two\nlines"), Some("\0")], "NUL is a character like others");
        assert!(file.column("none", &DataType::Utf8).is_none());
    }

    #[test]
    fn binary_is_hexadecimal() {
        let cells = StringArray::from(vec![Some("00ff"), Some(""), None]);
        let bytes = typed(&cells, &DataType::Binary).unwrap();
        let bytes: Vec<_> =
            datafusion::arrow::array::AsArray::as_binary::<i32>(&bytes).iter().map(|b| b.map(<[u8]>::to_vec)).collect();
        assert_eq!(bytes, [Some(vec![0, 255]), Some(vec![]), None]);
        for text in ["0", "0g"] {
            assert!(typed(&StringArray::from(vec![text]), &DataType::Binary).unwrap_err().contains("hexadecimal"));
        }
    }
}
