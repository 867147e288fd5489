//! The pipeline: a job from its log to its end. `streaming` is the loop; the other modules are the decisions it asks for.

pub mod error;
pub mod memory;
pub mod plan;
pub mod snapshot;
pub mod status;
pub mod streaming;
pub mod watermark;
