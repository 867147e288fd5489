//! `data-platform-operator`: turns `StreamingJob` resources into Deployments of the runner and `BatchJob` resources into
//! CronJobs and Jobs, keeps them so, and tells the truth about them in their status.
//!
//! No Kafka client and no SQL engine: what a job computes is the runner's. ARCHITECTURE.md has the map.

pub mod allocator;
pub mod allowed;
pub mod app;
pub mod apply;
pub mod args;
pub mod batch_job;
pub mod build;
pub mod cache;
pub mod checkpoints;
pub mod child;
pub mod children;
pub mod claim;
mod clock;
pub mod context;
pub mod controller;
pub mod dependencies;
pub mod error;
pub mod events;
#[cfg(test)]
mod fixtures;
pub mod http;
pub mod kind;
pub mod lease;
pub mod memory;
pub mod metrics;
pub mod names;
pub mod observed;
pub mod packed;
pub mod pod;
pub mod pod_defaults;
pub mod poll;
pub mod rate;
pub mod reconcile;
pub mod reports;
pub mod streaming_job;
pub mod telemetry;
pub mod validated;
pub mod verdict;
pub mod volumes;
pub mod watch;
