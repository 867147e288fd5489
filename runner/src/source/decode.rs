//! JSON records to Arrow columns.

pub use self::bad::{BadDetail, BadReason, BadRecord};

mod bad;
mod fields;
mod number;
mod scan;
mod simd;
mod steps;
mod text;
mod time;
