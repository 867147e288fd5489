//! Exactly once: the job log, what it decides, where it lies, and how it is kept small.
//!
//! ```text
//! record (formats)   job_state (fold of the records)   decide (pure decisions)   paths (names)
//!         \                  |                          /
//!          log (reads facts, carries decisions out)  ->  output (what becomes visible: files, or nothing to do)
//!                                        \              /
//!                                         store (file system, object store)
//! ```
//!
//! docs/job-log.md has the rules and the formats with an example.

pub mod counters;
pub mod decide;
pub mod duplicates;
pub mod job_state;
pub mod lock;
pub mod log;
pub mod output;
pub mod owner;
pub mod paths;
pub mod places;
pub mod progress;
pub mod record;
pub mod rewind;
pub mod store;
pub mod survey;

#[cfg(test)]
mod model;
#[cfg(test)]
mod simulation;
