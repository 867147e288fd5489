//! The pipeline: a job from its log to its end. `streaming` is the loop of a streaming job and `batch` the run of a batch
//! job; the other modules are the decisions that they ask for.

pub mod batch;
pub mod error;
pub mod job_plan;
pub mod lag;
pub mod memory;
pub mod no_output;
pub(crate) mod places;
pub mod plan;
pub mod rates;
pub mod snapshot;
pub mod status;
pub mod streaming;
pub mod watermark;
