//! The runner of data-platform: reads Kafka, computes SQL on Arrow, writes tables exactly once.
//!
//! A record walks in one direction: `source` (poll, decode) -> `transform` (SQL, windows) -> `sink` (staged files) ->
//! `checkpoint` (decide, publish). `pipeline` drives the four, `app` wires them to the command line. Only `source::kafka`,
//! `sink`, `storage`, `tables` and `http` touch the outside; what they are told to do is decided by pure functions.

pub mod app;
pub mod args;
pub mod checkpoint;
pub mod clock;
pub mod commands;
pub mod config;
pub mod counters;
pub mod delta;
pub mod engine;
pub mod faults;
pub mod generate;
pub mod http;
pub mod metrics;
pub mod offsets;
pub mod pipeline;
pub mod random;
pub mod sink;
pub mod source;
pub mod stop;
pub mod storage;
pub mod tables;
pub mod telemetry;
mod terminal;
pub mod transform;
