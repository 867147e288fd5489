//! Kafka as a source, on a real broker: which topics and partitions are read, from where to where, what a gap is and
//! what a loss, and what becomes of records that cannot be read.

mod bad_records;
mod changes;
mod clocks;
mod columns;
mod gaps;
pub(crate) mod numbers;
mod offsets;
mod partitions;
mod resting;
mod topics;
