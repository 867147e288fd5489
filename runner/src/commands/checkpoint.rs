//! `checkpoint`.
use crate::app::CommandError;
use crate::args::CheckpointCommand;
pub(crate) fn checkpoint(_: &CheckpointCommand) -> Result<u8, CommandError> {
    Err(CommandError::failed("later"))
}
