//! Transforms: the user's SQL, split at the window into what runs on every micro-batch and what runs on closed windows.

mod collect_set;
mod sets;
