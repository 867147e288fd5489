//! Wrong input: each case ends in one message that says what, where and what to do, with the right exit code, and harms
//! nothing that was written before.

pub(crate) mod case;
mod command_lines;
mod kept;
mod manifests;
pub(crate) mod passing;
mod places;
