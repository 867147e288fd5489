//! Transforms: the user's SQL, split at the window into what runs on every micro-batch and what runs on closed windows.

mod collect_set;
mod error;
mod sets;
mod suggest;
mod syntax;
mod window;

pub use error::{Error, Position, QueryError, Result};
pub use window::WindowSpec;
