//! `audit`.
use crate::app::CommandError;
use crate::args::AuditArgs;
pub(crate) fn audit(_: &AuditArgs) -> Result<u8, CommandError> {
    Err(CommandError::failed("later"))
}
