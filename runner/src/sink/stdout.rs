//! Rows on standard output, to try a query: a table on a terminal, else JSON lines. Keeps nothing.
//!
//! A terminal shows the first rows of each micro-batch, so that a busy job stays readable; a pipe gets every row. They are
//! shown before the decision: after a crash some come again.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::rc::Rc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::util::pretty::pretty_format_batches;

use crate::checkpoint::output::{Output, SharedOutput};
use crate::checkpoint::record::{OutputCommit, Sent};
use crate::sink::{Batch, Sink, SinkError, Stage, json};
use crate::storage::StoreError;

/// The root of the screen, as it stands in the job log.
pub const ROOT: &str = "stdout:";

/// Rows of a micro-batch that a terminal has room for.
const ROWS_SHOWN: usize = 20;

/// The screen, if the root is its.
pub fn of_root(root: &str) -> Option<SharedOutput> {
    (root == ROOT).then(|| -> SharedOutput { Rc::new(Screen) })
}

struct Screen;

impl Output for Screen {
    fn root(&self) -> &str {
        ROOT
    }
}

/// Shows rows.
pub struct StdoutSink {
    output: String,
    is_terminal: bool,
}

impl StdoutSink {
    /// The output of this name.
    pub fn new(output: &str) -> Self {
        Self { output: output.to_owned(), is_terminal: std::io::stdout().is_terminal() }
    }
}

#[async_trait(?Send)]
impl Sink for StdoutSink {
    fn name(&self) -> &str {
        &self.output
    }

    async fn probe(&self) -> Result<(), SinkError> {
        tracing::info!(output = self.output, "rows are shown on standard output and kept nowhere");
        Ok(())
    }

    fn begin(&self, _: Batch) -> Result<Box<dyn Stage>, SinkError> {
        let shown = self.is_terminal.then(Vec::new);
        Ok(Box::new(Shown { output: self.output.clone(), first: shown, sent: Sent::default() }))
    }
}

/// The rows of one attempt.
struct Shown {
    output: String,
    /// On a terminal: the first rows.
    first: Option<Vec<RecordBatch>>,
    sent: Sent,
}

#[async_trait(?Send)]
impl Stage for Shown {
    async fn write(&mut self, rows: &RecordBatch) -> Result<(), SinkError> {
        let before = self.sent.rows;
        self.sent.rows += rows.num_rows() as u64;
        match &mut self.first {
            Some(first) => {
                let room = ROWS_SHOWN.saturating_sub(usize::try_from(before).unwrap_or(ROWS_SHOWN));
                if room > 0 && rows.num_rows() > 0 {
                    first.push(rows.slice(0, rows.num_rows().min(room)));
                }
                Ok(())
            }
            None => {
                let lines = json::lines(rows).map_err(|error| failed(&self.output, &error))?;
                self.sent.bytes += lines.len() as u64;
                show(&lines)
            }
        }
    }

    async fn finish(&mut self) -> Result<OutputCommit, SinkError> {
        if let Some(first) = self.first.as_ref().filter(|first| !first.is_empty()) {
            let text = table(first, self.sent.rows).map_err(|error| failed(&self.output, &error))?;
            self.sent.bytes += text.len() as u64;
            show(text.as_bytes())?;
        }
        Ok(OutputCommit { root: ROOT.to_owned(), sent: Some(self.sent), ..OutputCommit::default() })
    }

    /// What was shown was seen.
    async fn abandon(self: Box<Self>) {}
}

fn failed(output: &str, error: &ArrowError) -> SinkError {
    SinkError::Encode { output: output.to_owned(), problem: error.to_string() }
}

/// The first rows as a table, and how many there are beside them.
fn table(first: &[RecordBatch], rows: u64) -> Result<String, ArrowError> {
    let shown: u64 = first.iter().map(|batch| batch.num_rows() as u64).sum();
    let more = rows.saturating_sub(shown);
    let more = if more > 0 { format!("… and {more} more rows\n") } else { String::new() };
    Ok(format!("{}\n{more}", pretty_format_batches(first)?))
}

fn show(bytes: &[u8]) -> Result<(), SinkError> {
    let mut screen = std::io::stdout().lock();
    let written = screen.write_all(bytes).and_then(|()| screen.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => SinkError::ScreenClosed,
        _ => StoreError::io("write to", "standard output", error).into(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array};

    use super::*;

    #[tokio::test]
    async fn a_terminal_shows_the_first_rows_and_says_how_many_more_there_are() {
        let numbers = |range: std::ops::Range<i64>| -> RecordBatch {
            let column: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
            RecordBatch::try_from_iter([("n", column)]).unwrap()
        };
        let mut stage = Shown { output: "o".to_owned(), first: Some(Vec::new()), sent: Sent::default() };
        for range in [0..15, 15..15, 15..30, 30..40] {
            stage.write(&numbers(range)).await.unwrap();
        }
        let text = table(stage.first.as_ref().unwrap(), stage.sent.rows).unwrap();
        assert!(text.contains("| 19 |") && !text.contains("| 20 |"), "{text}");
        assert!(text.ends_with("… and 20 more rows\n"), "{text}");
        let written = stage.finish().await.unwrap();
        assert_eq!((written.rows(), written.is_to_publish()), (40, false));
    }

    #[test]
    fn only_its_own_root_is_the_screen() {
        assert!(of_root(ROOT).is_some() && of_root("stdout").is_none() && of_root("file:///stdout:").is_none());
    }
}
