//! From text to a checked syntax tree: size, one SELECT, the clauses that no stream can have, and the window's names.
//!
//! What is refused here is refused with its place in the text. What needs types or the origin of a column is left to
//! `refuse`. `window_start` and `window_end` become calls of signs (see `window`), so that the planner, which knows no
//! such columns, lets them pass wherever an aggregated SELECT may name its groups.

mod capitals;
mod dialect;
mod edges;
mod elsewhere;
mod joins;
mod keys;
mod names;
mod parts;
mod state_form;
mod visit;
mod walk;

use std::collections::{BTreeMap, HashMap, HashSet};

use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::Query;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use self::elsewhere::Reads;
use super::error::{Position, QueryError, lower_first};
use super::inputs::QueryInputs;
use super::window::{Edge, WindowCall};
use crate::engine::Tables;
use crate::source::record::IDENTITY_COLUMNS;

/// Longest text of a query: four times the longest that we have seen people write; a custom resource holds 1.5 MB.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// Parentheses, brackets, CASEs, signs and types inside each other. Counted before parsing, since the parser takes its
/// own limit in some places for a reason to try something else, and then complains about a wrong word.
const NESTING_MAX: usize = 64;

/// The parser's own limit. It counts several steps for what [`NESTING_MAX`] counts once.
const PARSER_DEPTH_MAX: usize = 1_000;

/// A query as the planner takes it, and where its parts stand in the text.
pub(super) struct Syntax {
    pub(super) query: Box<Query>,
    pub(super) normal_form: String,
    pub(super) places: Places,
    tokens: Vec<TokenWithSpan>,
}

impl Syntax {
    /// What of the text the state depends on, given which names are aggregates.
    pub(super) fn state_form(&self, is_aggregate: &dyn Fn(&str) -> bool) -> String {
        state_form::state_form(&self.tokens, is_aggregate)
    }
}

/// Where names and clauses stand in the text, for errors that are found later.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The one window in GROUP BY, if there is one.
    pub(super) window: Option<WindowCall>,
    columns: HashMap<String, Position>,
    functions: HashMap<String, Position>,
    clauses: BTreeMap<Clause, Vec<Position>>,
}

/// Clauses that are allowed or not depending on where the window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Clause {
    Distinct,
    GroupBy,
    Join,
    OrderBy,
    Over,
}

impl Places {
    /// Where the window stands.
    pub(super) fn window(&self) -> Option<Position> {
        self.window.map(|window| window.place)
    }

    /// Where a column's name stands first, without its table.
    pub(super) fn column(&self, name: &str) -> Option<Position> {
        self.columns.get(&name.to_lowercase()).copied()
    }

    /// Where a function is called first.
    pub(super) fn function(&self, name: &str) -> Option<Position> {
        self.functions.get(&name.to_lowercase()).copied()
    }

    /// Where a clause stands, if there is only one: of several it is not known which one is meant.
    pub(super) fn clause(&self, clause: Clause) -> Option<Position> {
        match self.clauses.get(&clause).map(Vec::as_slice) {
            Some([position]) => Some(*position),
            _ => None,
        }
    }
}

/// Reads the text of a query over the inputs of a job.
pub(super) fn parse(sql: &str, inputs: &QueryInputs) -> Result<Syntax, QueryError> {
    let (mut query, tokens) = read(sql, Reads::Records)?;
    nothing_reserved(&tokens)?;
    let normal_form = normal_form(&tokens);
    let mut walk = walk::Walk::new(inputs, spelling(inputs.schemas().map(AsRef::as_ref)));
    if let std::ops::ControlFlow::Break(error) = walk.walk_query(&mut query) {
        return Err(*error);
    }
    Ok(Syntax { query, normal_form, places: walk.places, tokens })
}

/// Reads the text of a query over tables, which may have every clause. Also its normal form.
pub(super) fn parse_tables(sql: &str) -> Result<(Box<Query>, String), QueryError> {
    let (mut query, tokens) = read(sql, Reads::Tables)?;
    edges::mark(&mut query)?;
    Ok((query, normal_form(&tokens)))
}

/// Gives names of columns that are written without quotes the capitals that they have in the tables. `None`: there are none.
pub(super) fn with_capitals(query: &Query, tables: &dyn Tables) -> Result<Option<Box<Query>>, QueryError> {
    let mut query = Box::new(query.clone());
    Ok(capitals::give(&mut query, tables)?.then_some(query))
}

/// Refuses functions and tables that a query over tables names and that are not there.
pub(super) fn check_names(query: &Query, tables: &[&str], state: &SessionState) -> Result<(), QueryError> {
    names::check(&mut query.clone(), tables, state)
}

/// One SELECT of a size that can be planned.
fn read(sql: &str, reads: Reads) -> Result<(Box<Query>, Vec<TokenWithSpan>), QueryError> {
    if sql.len() > TEXT_BYTES_MAX {
        let message = format!("the query has {} bytes, at most {TEXT_BYTES_MAX} are read", sql.len());
        return Err(QueryError::new(message).cure("move repeated parts into a WITH clause"));
    }
    let dialect = dialect::Sql;
    let tokens = Tokenizer::new(&dialect, sql).tokenize_with_location().map_err(|error| {
        QueryError::new(format!("the query's text is broken: {}", lower_first(&error.message)))
            .at(place(error.location))
    })?;
    only_one_select(&tokens)?;
    no_signs(&tokens)?;
    check_nesting(&tokens)?;
    elsewhere::check(&tokens, reads)?;

    let read = dialect::keys_of_json(tokens.clone());
    let mut parser = Parser::new(&dialect).with_recursion_limit(PARSER_DEPTH_MAX).with_tokens_with_locations(read);
    let mut query = parser.parse_query().map_err(syntax_error)?;
    while parser.consume_token(&Token::SemiColon) {}
    let next = parser.peek_token();
    if next.token != Token::EOF {
        let message = format!("unexpected {} after the end of the query", next.token);
        return Err(QueryError::new(message).at(place(next.span.start)));
    }
    keys::tell_apart(&mut query);
    Ok((query, tokens))
}

/// The first word says what a statement does; only a query may run.
fn only_one_select(tokens: &[TokenWithSpan]) -> Result<(), QueryError> {
    let mut tokens = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
    let first = tokens.next();
    match first.map(|first| &first.token) {
        None | Some(Token::EOF | Token::SemiColon) => {
            return Err(QueryError::new("the query is empty").cure("write SELECT … FROM a source"));
        }
        Some(Token::LParen) => {}
        Some(Token::Word(word)) if matches!(word.keyword, Keyword::SELECT | Keyword::WITH) => {}
        Some(token) => {
            let statement = token.to_string().to_uppercase();
            let place = first.and_then(|first| place(first.span.start));
            return Err(QueryError::new(format!("{statement} does not run in a job")).at(place).cure(
                "a job has one query that begins with SELECT or WITH; sources and sink stand in the job's spec",
            ));
        }
    }
    let mut ended = None;
    for token in tokens {
        match (&token.token, ended) {
            (Token::EOF, _) | (Token::SemiColon, Some(_)) => {}
            (Token::SemiColon, None) => ended = Some(token.span.start),
            (_, Some(end)) => {
                return Err(QueryError::new("there are several statements").at(place(end)).cure("a job has one query"));
            }
            (_, None) => {}
        }
    }
    Ok(())
}

/// The signs of the window's edges are put in later, and only where they are known.
fn no_signs(tokens: &[TokenWithSpan]) -> Result<(), QueryError> {
    let is_sign = |word: &str| [Edge::Start, Edge::End].iter().any(|edge| edge.sign_name() == word);
    let sign = tokens.iter().find(|token| matches!(&token.token, Token::Word(word) if is_sign(&word.value)));
    let Some(sign) = sign else { return Ok(()) };
    Err(QueryError::new(format!("there is no function {}", sign.token)).at(place(sign.span.start)))
}

/// The identity of the record goes through the whole query under names of its own.
fn nothing_reserved(tokens: &[TokenWithSpan]) -> Result<(), QueryError> {
    let is_reserved = |word: &str| IDENTITY_COLUMNS.iter().any(|name| name.eq_ignore_ascii_case(word));
    let found = tokens.iter().find(|token| matches!(&token.token, Token::Word(word) if is_reserved(&word.value)));
    let Some(token) = found else { return Ok(()) };
    Err(QueryError::new(format!("the name {} is reserved", token.token))
        .at(place(token.span.start))
        .cure("declare a column with from: topic, partition or offset, and use its name"))
}

fn check_nesting(tokens: &[TokenWithSpan]) -> Result<(), QueryError> {
    let (mut open, mut signs, mut types) = (0_usize, 0_usize, 0_usize);
    let mut before = &Token::EOF;
    for token in tokens {
        match &token.token {
            Token::Whitespace(_) => continue,
            // ARRAY<…> and INT[]: all of a query are counted, since a comparison also has the sign <.
            Token::Lt if opens_type(before) => types += 1,
            Token::RBracket if *before == Token::LBracket => {
                types += 1;
                open = open.saturating_sub(1);
            }
            Token::LParen | Token::LBracket | Token::LBrace => open += 1,
            Token::RParen | Token::RBracket | Token::RBrace => open = open.saturating_sub(1),
            Token::Word(word) if word.keyword == Keyword::CASE => open += 1,
            Token::Word(word) if word.keyword == Keyword::END => open = open.saturating_sub(1),
            _ => {}
        }
        signs = match &token.token {
            Token::Minus | Token::Plus | Token::Tilde | Token::ExclamationMark => signs + 1,
            Token::Word(word) if word.keyword == Keyword::NOT => signs + 1,
            _ => 0,
        };
        before = &token.token;
        if open > NESTING_MAX || signs > NESTING_MAX || types > NESTING_MAX {
            let message = format!("the query nests deeper than {NESTING_MAX}");
            return Err(QueryError::new(message).at(place(token.span.start)).cure("split it with a WITH clause"));
        }
    }
    Ok(())
}

fn opens_type(token: &Token) -> bool {
    matches!(token, Token::Word(word) if matches!(word.keyword, Keyword::ARRAY | Keyword::STRUCT | Keyword::MAP))
}

/// The text without blanks, comments and the case of unquoted words: equal for queries that differ only in these. Made
/// from the tokens and not from the syntax tree, so that a newer parser does not change it.
fn normal_form(tokens: &[TokenWithSpan]) -> String {
    tokens.iter().filter_map(|token| word_of(&token.token)).collect::<Vec<_>>().join(" ")
}

/// A token in the normal form; `None` for what is no part of it.
fn word_of(token: &Token) -> Option<String> {
    match token {
        Token::Whitespace(_) | Token::EOF | Token::SemiColon => None,
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_lowercase()),
        Token::SingleQuotedString(text) => Some(format!("'{}'", text.replace('\'', "''"))),
        other => {
            let text = other.to_string();
            // Quoted text may hold what looks like the end of its quotes: its length makes it unmistakable.
            let is_quoted = text.contains(['\'', '"', '`', '$']);
            Some(if is_quoted { format!("{}:{text}", text.len()) } else { text })
        }
    }
}

/// Declared names that have capitals, by their lower case: SQL lowers unquoted names, JSON events are often camelCase.
/// A name that also occurs in lower case, or with other capitals, is left out: it needs quotes.
fn spelling<'a>(tables: impl Iterator<Item = &'a Schema>) -> HashMap<String, String> {
    fn add<'a>(name: &'a str, data_type: &'a DataType, names: &mut HashSet<&'a str>) {
        names.insert(name);
        match data_type {
            DataType::Struct(fields) => fields.iter().for_each(|field| add(field.name(), field.data_type(), names)),
            DataType::List(item) => {
                if let DataType::Struct(fields) = item.data_type() {
                    fields.iter().for_each(|field| add(field.name(), field.data_type(), names));
                }
            }
            _ => {}
        }
    }
    let mut names = HashSet::new();
    for field in tables.flat_map(|columns| columns.fields()) {
        add(field.name(), field.data_type(), &mut names);
    }
    let mut by_lower: HashMap<String, Vec<&str>> = HashMap::new();
    for name in names {
        by_lower.entry(name.to_lowercase()).or_default().push(name);
    }
    by_lower
        .into_iter()
        .filter_map(|(lower, spellings)| match spellings[..] {
            [one] if one != lower => Some((lower, one.to_owned())),
            _ => None,
        })
        .collect()
}

fn place(location: Location) -> Option<Position> {
    (location.line > 0).then_some(Position { line: location.line, column: location.column })
}

fn syntax_error(error: ParserError) -> QueryError {
    let (ParserError::ParserError(text) | ParserError::TokenizerError(text)) = error else {
        return QueryError::new("the query nests deeper than the parser goes").cure("split it with a WITH clause");
    };
    // The parser writes the place into the text, as " at Line: 1, Column: 8".
    let mut parts = text.rsplitn(2, " at Line: ");
    let place = parts.next().and_then(|place| {
        let (line, column) = place.split_once(", Column: ")?;
        Some(Position { line: line.parse().ok()?, column: column.parse().ok()? })
    });
    match (place, parts.next()) {
        (Some(place), Some(message)) => QueryError::new(lower_first(message)).at(place),
        _ => QueryError::new(lower_first(&text)),
    }
}

#[cfg(test)]
mod tests;
