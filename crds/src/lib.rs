//! The API of data-platform (`dataplatform.io/v1alpha1`): the types of its custom resources, and nothing else.
//!
//! Pure: no I/O, no clock, no Kubernetes client. The operator and the runner meet only here. What the API server checks
//! (schema and CEL rules derived from these types) is the same as what `data-platform validate` checks offline.

pub mod column;
pub mod kafka;
pub mod quantity;
pub mod resources;
pub mod sink;
pub mod source;
pub mod streaming_job;

/// API group of every kind.
pub const GROUP: &str = "dataplatform.io";
/// API version of every kind.
pub const VERSION: &str = "v1alpha1";
