//! What can go wrong: a query that cannot run as a stream ([`QueryError`]), and rows it cannot compute ([`Error`]).

use std::error::Error as _;
use std::fmt;
use std::io;

use datafusion::error::DataFusionError;

use super::lookup::TOO_MANY_ROWS;
use super::sql_words;
use crate::engine::refusing::is_of_a_value;

/// A place in the query's text; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: u64,
    /// Column.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why a query is refused. The job's author must change something; trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct QueryError {
    /// What is wrong, naming the clause, function, table or column.
    pub message: String,
    /// Where in the text, if known.
    pub position: Option<Position>,
    /// What would work instead, if anything does.
    pub cure: Option<String>,
}

/// Words of the engine before what a value did.
const VALUE_ERRORS: [&str; 8] = [
    "Execution error: ",
    "External error: ",
    "Schema error: ",
    "Arrow error: ",
    "Compute error: ",
    "Cast error: ",
    "Invalid argument error: ",
    "Parser error: ",
];

impl QueryError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), position: None, cure: None }
    }

    pub(super) fn at(mut self, position: impl Into<Option<Position>>) -> Self {
        self.position = position.into();
        self
    }

    pub(super) fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    /// What DataFusion says, without the words that tell its own modules apart.
    pub(crate) fn from_datafusion(error: &DataFusionError) -> Self {
        if let Some(error) = crate::tables::store_error(error) {
            return Self::new(error.to_string()).cure(error.cure());
        }
        if let Some(full) = full_disk(error) {
            let folder = std::env::temp_dir();
            let message = format!("what does not fit into memory finds no room in {}: {full}", folder.display());
            return Self::new(message)
                .cure("make room there, name a folder on a larger disk by TMPDIR, or give it more memory");
        }
        let text = error.find_root().strip_backtrace();
        let mut text = text.split("\nThis issue was likely caused by a bug").next().unwrap_or(&text).trim();
        let own = ["Error during planning: ", "This feature is not implemented: ", "Internal error: ", "SQL error: "];
        for prefix in own.into_iter().chain(VALUE_ERRORS) {
            text = text.strip_prefix(prefix).unwrap_or(text);
        }
        let mut lines = text.lines();
        let message = lines.next().unwrap_or(text).trim_end_matches('.').to_owned();
        let rest = lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        sql_words::in_sql(Self {
            message: lower_first(&message),
            position: None,
            cure: (!rest.is_empty()).then_some(rest),
        })
    }

    /// The table that the query reads and that is not there, if that is what is wrong.
    pub(crate) fn unknown_table(&self) -> Option<&str> {
        self.message.strip_prefix("there is no table ")
    }

    fn text(&self) -> String {
        let mut text = self.message.clone();
        if let Some(position) = self.position {
            text += &format!(" ({position})");
        }
        if let Some(cure) = &self.cure {
            text += &format!(": {cure}");
        }
        text
    }
}

/// What the system said when a sort, a group or a join found no room on the disk. Inputs are only read, and rows are written
/// elsewhere.
pub(crate) fn full_disk(error: &DataFusionError) -> Option<&io::Error> {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    let mut failures = causes.filter_map(|cause| cause.downcast_ref::<io::Error>());
    failures.find(|failure| matches!(failure.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

/// Messages begin with a small letter, unless with a word of SQL.
pub(super) fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    if letters.clone().nth(1).is_some_and(char::is_uppercase) {
        return text.to_owned();
    }
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Why rows could not be computed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An expression of the query failed on a value, such as a cast of text that is no number.
    #[error("could not compute the query's {part}")]
    Evaluate {
        /// Which part of the query.
        part: &'static str,
        /// DataFusion's reason.
        #[source]
        source: Box<DataFusionError>,
    },
    /// The batch does not have the columns of [`StreamQuery::input_columns`](super::StreamQuery::input_columns).
    #[error("the batch has the columns ({found}), the query reads ({expected})")]
    Input {
        /// Types that the query reads.
        expected: String,
        /// Types of the batch.
        found: String,
    },
    /// A row without event time reached a windowed query; the decoder must have rejected it.
    #[error("the event time is null in row {row} of the batch")]
    NullEventTime {
        /// Row in the batch as the WHERE left it, from 0.
        row: usize,
    },
    /// Kept state has another shape than this query's state: it was written by another version and is to be rebuilt.
    #[error("the state has the columns ({found}), the query keeps ({expected})")]
    State {
        /// Types of the query's state.
        expected: String,
        /// Types of the rows given.
        found: String,
    },
    /// A snapshot was asked of a part of the state that holds nothing.
    #[error("the part {part} of the state holds nothing")]
    NotOpen {
        /// Number of the part.
        part: i64,
    },
}

impl Error {
    /// For `map_err`: names the part of the query in which DataFusion failed.
    pub(super) fn in_part(part: &'static str) -> impl Fn(DataFusionError) -> Self {
        move |source| Self::Evaluate { part, source: Box::new(source) }
    }

    /// What a query says that makes too much of a batch, and whether a join does; `None` if the error is of another kind. It
    /// has no value of a record.
    pub fn of_resources(&self) -> Option<(String, bool)> {
        let Self::Evaluate { source, .. } = self else { return None };
        let DataFusionError::ResourcesExhausted(message) = source.find_root() else { return None };
        Some((message.clone(), message.starts_with(TOO_MANY_ROWS)))
    }

    /// What an expression says of a value that it refuses; `None` if the error is of another kind.
    pub(super) fn of_a_value(&self) -> Option<String> {
        match self {
            Self::Evaluate { source, .. } if is_of_a_value(source) => Some(QueryError::from_datafusion(source).message),
            _ => None,
        }
    }
}

/// Result of computing rows.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_what_where_and_what_to_do() {
        let error = QueryError::new("no column usr").at(Position { line: 2, column: 7 }).cure("did you mean user?");
        assert_eq!(error.to_string(), "no column usr (line 2, column 7): did you mean user?");
        assert_eq!(QueryError::new("too long").to_string(), "too long");
    }

    #[test]
    fn a_disk_that_is_full_is_found_behind_the_errors_of_those_who_write_to_it() {
        use datafusion::arrow::error::ArrowError;
        let full = || DataFusionError::IoError(io::Error::from(io::ErrorKind::StorageFull));
        let by_writer = DataFusionError::ArrowError(Box::new(ArrowError::from(io::Error::other(full()))), None);
        for error in [full(), by_writer.context("while it sorts")] {
            let said = QueryError::from_datafusion(&error);
            assert!(said.message.starts_with("what does not fit into memory finds no room in /"), "{said}");
            assert!(said.cure.is_some_and(|cure| cure.contains("TMPDIR")));
        }
        assert!(full_disk(&DataFusionError::IoError(io::Error::other("broken"))).is_none());
    }

    #[test]
    fn the_words_of_datafusion_lose_their_prefix() {
        let error = QueryError::from_datafusion(&DataFusionError::Plan(
            "Invalid function 'cont'.\nDid you mean 'count'?".into(),
        ));
        assert_eq!(error.message, "invalid function 'cont'");
        assert_eq!(error.cure.as_deref(), Some("Did you mean 'count'?"));
        let cast = DataFusionError::Plan("CAST of INT to TIMESTAMP".into());
        assert_eq!(QueryError::from_datafusion(&cast).message, "CAST of INT to TIMESTAMP");
        let arrow = datafusion::arrow::error::ArrowError::ParseError("Invalid input: 1 furlong".into());
        assert_eq!(QueryError::from_datafusion(&arrow.into()).message, "invalid input: 1 furlong");
    }
}
