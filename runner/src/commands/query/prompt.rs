//! The prompt: one query after the other, over several lines up to a semicolon, each of which Ctrl-C ends without ending
//! the prompt. What was asked is kept in a file, and Tab completes.

mod complete;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use crate::args::QueryArgs;
use crate::commands::error::{CommandError, report};
use crate::commands::print;
use crate::commands::query::tables::Tables;
use crate::commands::query::{listing, runtime, say};
use crate::engine::Tables as _;
use crate::transform::functions_of_tables;

use self::complete::{Words, complete};

/// What a person may say beside queries.
const HELP: &str = "SELECT …;         ends with a semicolon, and may have several lines
EXPLAIN SELECT …; how it is computed; EXPLAIN ANALYZE runs it and tells what each step did
\\d                the tables
\\q                ends, as does Ctrl-D; Ctrl-C ends the query that runs, or drops what is written
Tab               completes names of tables, columns and functions; the arrows go through what was asked before
";

/// Queries that are kept: months of somebody's work, and a file that is read in a moment.
const HISTORY_MAX: usize = 2_000;

/// Asks for queries and answers them, until nothing more comes.
pub(super) fn converse(tables: &Arc<Tables>, args: &QueryArgs) -> Result<(), CommandError> {
    print(&listing(tables));
    print("A query ends with a semicolon; \\? tells what else there is.\n");
    let failed = |error: ReadlineError| CommandError::failed(format!("the terminal cannot be read: {error}"));
    let mut editor = editor(tables).map_err(failed)?;
    let history = history_file();
    if let Some(file) = &history
        && let Err(error) = editor.load_history(file)
    {
        tracing::debug!(%error, file = %file.display(), "nothing was asked before, as far as one can see");
    }
    let runtime = runtime()?;
    // From here on Ctrl-C does not end the process, whenever it comes.
    let _heard = {
        let _entered = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
    };
    loop {
        match editor.readline("sql> ") {
            Ok(text) => match heard(&text) {
                Heard::Nothing => {}
                Heard::End => return Ok(()),
                Heard::Tables => print(&listing(tables)),
                Heard::Help => print(HELP),
                Heard::Query(sql) => {
                    remember(&mut editor, text.trim(), history.as_ref());
                    runtime.block_on(answer(tables, &sql, args));
                }
            },
            // What was written so far is dropped.
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Answers a query, unless Ctrl-C comes before the answer.
async fn answer(tables: &Arc<Tables>, sql: &str, args: &QueryArgs) {
    let ended = tokio::select! {
        // Listened to before the query is planned, which may take a while.
        biased;
        _ = tokio::signal::ctrl_c() => {
            print("\n");
            eprintln!("the query was ended");
            Ok(())
        }
        ended = say(tables, sql, args) => ended,
    };
    if let Err(error) = ended {
        report(&error);
    }
}

fn editor(tables: &Arc<Tables>) -> rustyline::Result<Editor<Asker, FileHistory>> {
    let config = Config::builder()
        .max_history_size(HISTORY_MAX)?
        .history_ignore_dups(true)?
        .history_ignore_space(true)
        .completion_type(CompletionType::List)
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Asker {
        tables: Arc::clone(tables),
        known: RefCell::default(),
        functions: functions_of_tables(),
    }));
    Ok(editor)
}

/// Where queries are kept: in the folder for what programs remember of their users.
fn history_file() -> Option<PathBuf> {
    let of_variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = of_variable("XDG_STATE_HOME").or_else(|| Some(of_variable("HOME")?.join(".local/state")))?;
    Some(state.join("data-platform").join("query-history"))
}

/// Keeps a query. A file that cannot be written is no reason to answer nothing.
fn remember(editor: &mut Editor<Asker, FileHistory>, text: &str, file: Option<&PathBuf>) {
    let mut keep = || -> rustyline::Result<()> {
        editor.add_history_entry(text)?;
        let Some(file) = file else { return Ok(()) };
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        editor.append_history(file)
    };
    if let Err(error) = keep() {
        tracing::debug!(%error, "the query is not kept");
    }
}

/// Knows when a query is whole, and what may stand in it.
struct Asker {
    tables: Arc<Tables>,
    /// Columns of the tables that were named so far.
    known: RefCell<BTreeMap<String, Vec<String>>>,
    functions: Vec<String>,
}

impl Asker {
    /// Columns of the tables that a text names.
    fn columns(&self, text: &str) -> Vec<String> {
        let mut known = self.known.borrow_mut();
        let lower = text.to_lowercase();
        let named = self.tables.names().filter(|name| lower.contains(&name.to_lowercase()));
        let mut columns = Vec::new();
        for name in named {
            let of_table = known.entry(name.to_owned()).or_insert_with(|| {
                let table = self.tables.open(name).ok().flatten();
                let fields = table.map(|table| table.schema().fields().clone()).unwrap_or_default();
                fields.iter().map(|field| field.name().clone()).collect()
            });
            columns.extend(of_table.iter().cloned());
        }
        columns
    }
}

impl Completer for Asker {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let tables: Vec<String> = self.tables.names().map(str::to_owned).collect();
        let columns = self.columns(line);
        let words = Words { tables: &tables, columns: &columns, functions: &self.functions };
        let (from, found) = complete(line, at, &words);
        let pair = |found: String| Pair { display: found.clone(), replacement: found };
        Ok((from, found.into_iter().map(pair).collect()))
    }
}

impl Validator for Asker {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_whole(context.input()) { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Hinter for Asker {
    type Hint = String;
}

impl Highlighter for Asker {}

impl Helper for Asker {}

/// Whether nothing more has to come: a semicolon in a text does not end a query.
fn is_whole(text: &str) -> bool {
    let is_query = matches!(heard(text), Heard::Query(_));
    !is_query || text.trim_end().ends_with(';') && text.matches('\'').count().is_multiple_of(2)
}

/// What a text means.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    Query(String),
    Tables,
    Help,
    End,
}

fn heard(text: &str) -> Heard {
    let text = text.trim().trim_end_matches(';').trim_end();
    match text {
        "" => Heard::Nothing,
        "\\q" | "exit" | "quit" => Heard::End,
        "\\d" => Heard::Tables,
        "\\?" | "help" => Heard::Help,
        query => Heard::Query(query.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_ends_with_a_semicolon_that_is_no_part_of_a_text() {
        for (text, expected) in [
            ("  ", Some(Heard::Nothing)),
            ("\\d", Some(Heard::Tables)),
            ("help;", Some(Heard::Help)),
            ("quit", Some(Heard::End)),
            ("SELECT 1;", Some(Heard::Query("SELECT 1".to_owned()))),
            ("SELECT 1", None),
            ("SELECT 'a;", None),
            ("SELECT 'a;\n\\q' AS x", None),
            ("SELECT 'a;\n\\q' AS x\n; ", Some(Heard::Query("SELECT 'a;\n\\q' AS x".to_owned()))),
        ] {
            assert_eq!(is_whole(text).then(|| heard(text)), expected, "{text}");
        }
    }
}
