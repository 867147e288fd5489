//! The prompt: one query after the other, over several lines up to a semicolon, each of which Ctrl-C ends without ending
//! the prompt. Lines are edited as the terminal does it.

use std::io::{BufRead, Write};
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::args::QueryArgs;
use crate::commands::error::{CommandError, report};
use crate::commands::print;
use crate::commands::query::tables::Tables;
use crate::commands::query::{listing, runtime, say};

/// What a person may say beside queries.
const HELP: &str = "SELECT …;         ends with a semicolon, and may have several lines
EXPLAIN SELECT …; how it is computed; EXPLAIN ANALYZE runs it and tells what each step did
\\d                the tables
\\q                ends, as does Ctrl-D; Ctrl-C ends the query that runs
";

/// Asks for queries and answers them, until nothing more comes.
pub(super) fn converse(tables: &Arc<Tables>, args: &QueryArgs) -> Result<(), CommandError> {
    print(&listing(tables));
    print("A query ends with a semicolon; \\? tells what else there is.\n");
    runtime()?.block_on(async {
        let mut lines = lines();
        let mut asked = String::new();
        loop {
            prompt(asked.is_empty());
            let line = tokio::select! {
                line = lines.recv() => line,
                _ = tokio::signal::ctrl_c() => {
                    // What was written so far is dropped.
                    print("\n");
                    asked.clear();
                    continue;
                }
            };
            let Some(line) = line else { break };
            match heard(&mut asked, &line) {
                Heard::More => {}
                Heard::End => return Ok(()),
                Heard::Tables => print(&listing(tables)),
                Heard::Help => print(HELP),
                Heard::Query(sql) => {
                    let ended = tokio::select! {
                        ended = say(tables, &sql, args) => ended,
                        _ = tokio::signal::ctrl_c() => {
                            print("\n");
                            eprintln!("the query was ended");
                            Ok(())
                        }
                    };
                    if let Err(error) = ended {
                        report(&error);
                    }
                }
            }
        }
        print("\n");
        Ok(())
    })
}

fn prompt(is_first: bool) {
    print(if is_first { "sql> " } else { "  -> " });
    let _ = std::io::stdout().flush();
}

/// The lines of standard input, read on a thread of their own: it cannot be waited for beside anything else.
fn lines() -> UnboundedReceiver<String> {
    let (sender, lines) = unbounded_channel();
    let read = move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    };
    // Without the thread the prompt ends at once.
    let _ = std::thread::Builder::new().name("lines".to_owned()).spawn(read);
    lines
}

/// What a line means.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// The query goes on.
    More,
    Query(String),
    Tables,
    Help,
    End,
}

/// Takes a line to what was asked so far.
fn heard(asked: &mut String, line: &str) -> Heard {
    if asked.is_empty() {
        match line.trim().trim_end_matches(';') {
            "" => return Heard::More,
            "\\q" | "exit" | "quit" => return Heard::End,
            "\\d" => return Heard::Tables,
            "\\?" | "help" => return Heard::Help,
            _ => {}
        }
    }
    if !asked.is_empty() {
        asked.push('\n');
    }
    asked.push_str(line);
    // A semicolon in a text does not end a query.
    let is_whole = asked.trim_end().ends_with(';') && asked.matches('\'').count().is_multiple_of(2);
    if is_whole { Heard::Query(std::mem::take(asked).trim().trim_end_matches(';').to_owned()) } else { Heard::More }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_ends_with_a_semicolon_that_is_no_part_of_a_text() {
        let mut asked = String::new();
        let mut hear = |line: &str| heard(&mut asked, line);
        assert_eq!(hear("  "), Heard::More);
        assert_eq!(hear("\\d"), Heard::Tables);
        assert_eq!(hear("help;"), Heard::Help);
        assert_eq!(hear("SELECT 1;"), Heard::Query("SELECT 1".to_owned()));
        assert_eq!(hear("SELECT 'a;"), Heard::More);
        assert_eq!(hear("\\q' AS x"), Heard::More);
        assert_eq!(hear("; "), Heard::Query("SELECT 'a;\n\\q' AS x\n".to_owned()));
        assert_eq!(hear("quit"), Heard::End);
    }
}
