//! The API of data-platform (`dataplatform.io/v1alpha1`): the types of its custom resources, and nothing else.
//!
//! Pure: no I/O, no clock, no Kubernetes client. The operator and the runner meet only here. What the API server checks
//! (schema and CEL rules derived from these types) is the same as what `data-platform validate` checks offline.

pub mod amount;
// Where `unreachable_pub` is allowed, KubeSchema repeats each struct, `pub` and all, inside a function.
#[allow(unreachable_pub)]
pub mod batch_job;
pub mod change;
pub mod check;
#[allow(unreachable_pub)]
pub mod column;
pub mod condition;
pub mod crd;
pub mod dependencies;
pub mod field_path;
pub mod job;
#[allow(unreachable_pub)]
pub mod kafka;
pub mod parameters;
mod pattern;
pub mod problem;
pub mod quantity;
#[allow(unreachable_pub)]
pub mod resources;
pub mod runner_config;
pub mod runner_status;
pub mod schedule;
pub mod set_field;
#[allow(unreachable_pub)]
pub mod sink;
#[allow(unreachable_pub)]
pub mod source;
pub mod state_relevant;
#[allow(unreachable_pub)]
pub mod streaming_job;
pub mod template;
pub mod termination;
pub mod validate;

/// API group of every kind.
pub const GROUP: &str = "dataplatform.io";
/// API version of every kind.
pub const VERSION: &str = "v1alpha1";
