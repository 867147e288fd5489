//! JSON records to Arrow columns.

pub use self::bad::{BadDetail, BadReason, BadRecord};

mod bad;
mod number;
mod scan;
mod simd;
mod text;
mod time;
