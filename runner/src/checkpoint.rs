//! Exactly once: the job log, what it decides, where it lies, and how it is kept small.
//!
//! ```text
//! record (formats)   job_state (fold of the records)   decide (pure decisions)
//!         \                  |                          /
//!          log (reads facts, carries decisions out)  ->  output (what becomes visible: files, or nothing to do)
//!                                        \              /
//!                                         storage (names, file system, object store)
//! ```
//!
//! docs/job-log.md has the rules and the formats with an example.

pub mod decide;
pub mod duplicates;
pub mod job_state;
pub mod log;
pub mod output;
pub mod owner;
pub mod progress;
pub mod record;
pub mod rewind;
pub mod slot_log;
pub mod survey;

#[cfg(test)]
mod model;
#[cfg(test)]
mod simulation;
