//! Sources: where records come from, and how their bytes become Arrow columns.

pub mod decode;
pub mod record;
