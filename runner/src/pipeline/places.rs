//! Places that a job uses, which must not be one, nor lie in each other.

use crate::pipeline::error::{JobError, Reason};
use crate::storage::location::Location;
use crate::storage::places::Place;

/// Refuses two places that are one, whatever they are called, and one that lies in another.
///
/// # Errors
/// The first two, by what they are for.
pub(crate) fn refuse_overlaps(all: &[(String, Location)]) -> Result<(), JobError> {
    let mut known: Vec<(&str, &Location, Place)> = Vec::new();
    for (what, location) in all {
        let place = Place::of(location)?;
        if let Some((other, there, _)) = known.iter().find(|(_, _, known)| known.overlaps(&place)) {
            return Err(JobError::user(
                Reason::InvalidSpec,
                format!("{other} ({there}) and {what} ({location}) lie at one place, or one in the other"),
                "give each a folder of its own, none inside another: correct sink.path, badRecords.path, inputs[].path or \
                 CHECKPOINT_DIR",
            ));
        }
        known.push((what, location, place));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_compared_and_not_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| Location::Folder(folder.path().join(name));
        let url = |name: &str| Location::parse(&format!("file://{}/{name}", folder.path().display())).unwrap();
        let all = |one: Location, other: Location| [("the table t".to_owned(), one), ("the table u".to_owned(), other)];
        assert!(refuse_overlaps(&all(at("t"), at("t#letters"))).is_ok());
        for (one, other) in [(at("t"), url("t")), (at("w/x"), url("w")), (at("t"), at("./t"))] {
            let error = refuse_overlaps(&all(one, other)).unwrap_err();
            assert!(error.message.contains("the table t (") && error.message.contains("at one place"), "{error}");
        }
    }
}
