//! JSON records to Arrow columns.

pub use self::bad::{BadDetail, BadReason, BadRecord};
pub use self::plan::{DecodeColumn, DecodePlan, PlanError, ValueFormat, arrow_type, declared_schema};

mod bad;
mod column;
mod fields;
mod nested;
mod number;
mod plan;
mod scan;
mod simd;
mod steps;
mod text;
mod time;
mod views;
