//! What runs on a real Kubernetes.

mod admission;
mod faults;
mod leader;
mod platform;
mod runner_pod;
mod streaming;
