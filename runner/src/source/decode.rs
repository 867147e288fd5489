//! JSON records to Arrow columns.

pub use self::bad::{BadDetail, BadReason, BadRecord};

mod bad;
mod scan;
mod simd;
