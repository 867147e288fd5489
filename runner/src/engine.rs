//! One engine for all SQL of the program: the same functions and the same arithmetic in streams, batch runs and `query`.
//!
//! ```text
//! functions   the registry: which names a query may call, each kept from panics and from making too much
//! refusing    aggregates of which single groups have no answer
//! rules       what every plan gets: exact arithmetic, one NaN and one zero, refused casts
//! tables      the names in FROM
//! joins       plans whose joins fit into memory, or can be spilled
//! session     registry, rules and settings of one profile as a session of DataFusion
//! rows        a compiled plan as one stream of rows, whatever its number of partitions
//! ```
//!
//! Pure but for the tables that a caller gives. Used by `transform` and `commands::query`; it knows neither.

mod canonical;
mod checked;
mod decimals;
mod functions;
mod joins;
mod like;
mod maps;
mod panics;
pub(crate) mod refusing;
mod rows;
mod rules;
pub(crate) mod runs;
mod session;
pub(crate) mod slots;
mod tables;

pub(crate) use canonical::one_form;
pub use functions::BatchClock;
#[cfg(test)]
pub(crate) use functions::{Described, REMOVED, described, registry};
pub(crate) use functions::{SAME, collect_set, constant_call, over_arrays, sets};
pub(crate) use joins::plan_within;
pub(crate) use rows::execute;
pub(crate) use session::{Profile, builder, finish};
pub(crate) use tables::{Tables, TablesInFrom, scan};

/// Time zone of every timestamp in the engine.
pub(crate) const UTC: &str = "UTC";
