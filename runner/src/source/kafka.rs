//! Kafka: settings, the consumer, and the native calls below it.

pub mod config;
pub mod consumer;
mod context;
mod native;
pub mod token;
