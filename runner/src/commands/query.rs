//! `query`: SQL over the tables of the outputs folder.
use crate::app::CommandError;
use crate::args::{QueryArgs, QueryFormat};
use crate::checkpoint::store::open::Location;
pub(crate) fn query(_: &QueryArgs) -> Result<u8, CommandError> {
    Err(CommandError::failed("later"))
}
pub(crate) fn run(_: &Location, _: &str, _: QueryFormat) -> Result<(), CommandError> {
    Ok(())
}
