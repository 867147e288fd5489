//! What runs on a real Kubernetes.

mod admission;
mod backfill;
mod batch;
mod changes;
mod chaos;
mod faults;
mod guide;
mod hostile;
mod keyboard;
mod kind_up;
mod leader;
mod monitoring;
mod operations;
mod pages;
mod platform;
mod readme;
mod rights;
mod runner_pod;
mod schedule;
mod shipped;
mod streaming;
