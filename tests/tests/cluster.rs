//! What runs on a real Kubernetes.

mod admission;
mod runner_pod;
