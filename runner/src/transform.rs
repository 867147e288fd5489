//! Transforms: the user's SQL, split at the window into what runs on every micro-batch and what runs on closed windows.
//!
//! A query is planned once ([`StreamQuery::plan`]) and runs as an [`Operator`], which takes decoded micro-batches and
//! holds the open windows. Pure: no I/O and no clock of its own; `now()` reads the [`BatchClock`] that the caller sets.
//!
//! ```text
//! text -> syntax -> session -> refuse -> split -> steps, plan, aggregation
//!         tree      logical    what no   at the   compiled: trunk -> fan-out -> window -> above
//!                   plan       stream    window
//!                              can do
//! ```
//!
//! `GROUP BY tumble(event_time, INTERVAL '1 minute'), key…` makes the window. In the SELECT that has it, `window_start`
//! and `window_end` are known in the SELECT list, HAVING and ORDER BY. Below the window rows are computed one by one;
//! above it rows of one window may be sorted, ranked and aggregated again. The rest is refused by `refuse`.

mod aggregation;
mod batch;
mod branches;
mod closed;
mod dates;
mod deduplicate;
mod distinct_counts;
mod error;
mod event_order;
mod explain;
mod halves;
mod held_window;
mod identity;
mod inputs;
mod joins;
mod lookup;
mod not_in;
mod operator;
mod output;
mod plan;
mod planning_error;
mod query;
mod refuse;
mod row_program;
mod session;
mod slots;
mod split;
mod sql_words;
mod steps;
mod suggest;
mod syntax;
mod table_windows;
mod utc_dates;
mod values;
mod window;
mod windows;

pub use crate::engine::BatchClock;
pub(crate) use batch::{
    BatchQuery, BatchRows, InputTables, MemoryExhausted, SelectRows, TableQuery, functions_of_tables,
};
pub use closed::{ClosedRows, RefusedGroups};
pub use deduplicate::{Deduplication, Deduplicator, OpenBucket};
pub use error::{Error, Position, QueryError, Result};
pub use explain::{Explanation, WindowExplanation};
pub use halves::RefusedRow;
pub use inputs::{QueryInputs, ReferenceTable, SourceTable};
pub use operator::{Ingested, Operator};
pub use query::StreamQuery;
pub use window::WindowKind;
pub use windows::{Hop, OpenPart, Session as SessionWindow, Tumble, WindowSpec};

#[cfg(test)]
mod tests;
