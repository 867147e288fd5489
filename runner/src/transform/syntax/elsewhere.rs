//! What other engines write for windows and for times of a table, with what is written here.
//!
//! Looked for in the tokens: the parser would complain about a word behind it.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::place;
use crate::transform::error::QueryError;

/// Whose query it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    /// A stream.
    Records,
    /// Whole tables.
    Tables,
}

/// Functions that make windows, here or elsewhere.
const WINDOWS: [&str; 5] = ["tumble", "hop", "cumulate", "session", "session_window"];

/// Refuses what is written otherwise here.
pub(super) fn check(tokens: &[TokenWithSpan], reads: Reads) -> Result<(), QueryError> {
    let words: Vec<&TokenWithSpan> =
        tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)).collect();
    for at in 0..words.len() {
        let word = |ahead: usize| words.get(at + ahead).and_then(|token| word_of(&token.token));
        let opens = |ahead: usize| words.get(at + ahead).is_some_and(|token| token.token == Token::LParen);
        let is_window =
            |ahead: usize| word(ahead).is_some_and(|word| WINDOWS.contains(&word.as_str())) && opens(ahead + 1);
        let here = || place(words[at].span.start);
        match word(0).as_deref() {
            Some("table") if opens(1) && is_window(2) => {
                let name = word(2).unwrap_or_default();
                return Err(window_in_from(&name, reads).at(place(words[at + 2].span.start)));
            }
            Some("from" | "join") if is_window(1) => {
                let name = word(1).unwrap_or_default();
                return Err(window_in_from(&name, reads).at(place(words[at + 1].span.start)));
            }
            Some("descriptor") if opens(1) => {
                return Err(QueryError::new("DESCRIPTOR is not written here")
                    .at(here())
                    .cure(instead("tumble", reads)));
            }
            Some("for") if word(1).is_some_and(|word| ["system_time", "system_version"].contains(&word.as_str())) => {
                let what = word(1).unwrap_or_default().to_uppercase();
                let cure = match reads {
                    Reads::Records => format!("leave it out; for the rows of a time {}", instead("tumble", reads)),
                    Reads::Tables => "leave it out; a batch job has the rows of its interval".to_owned(),
                };
                return Err(QueryError::new(format!("FOR {what}: a table has its present rows")).at(here()).cure(cure));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A window whose first argument is a table.
pub(super) fn table_first(kind: &str, table: &str) -> QueryError {
    let rest = match kind {
        "hop" => ", INTERVAL '1 minute', INTERVAL '5 minutes'",
        "session" => ", INTERVAL '30 minutes'",
        _ => ", INTERVAL '1 minute'",
    };
    QueryError::new(format!("{table} is a table: {kind} begins with the event time"))
        .cure(format!("FROM {table} GROUP BY {kind}(<event time>{rest})"))
}

fn window_in_from(name: &str, reads: Reads) -> QueryError {
    QueryError::new(format!("{name}(…) makes no table in FROM")).cure(instead(name, reads))
}

fn instead(name: &str, reads: Reads) -> String {
    let table = if reads == Reads::Records { "source" } else { "table" };
    let window = match name {
        "hop" | "cumulate" => "hop(<event time>, INTERVAL '1 minute', INTERVAL '5 minutes')",
        "session" | "session_window" => "session(<event time>, INTERVAL '30 minutes')",
        _ => "tumble(<event time>, INTERVAL '1 minute')",
    };
    format!("read the {table}, and write GROUP BY {window}, …")
}

fn word_of(token: &Token) -> Option<String> {
    match token {
        Token::Word(word) if word.quote_style.is_none() || word.keyword == Keyword::NoKeyword => {
            Some(word.value.to_lowercase())
        }
        _ => None,
    }
}
