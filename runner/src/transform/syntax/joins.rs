//! The kinds of joins, and what each says of the rows that go together.

use datafusion::sql::sqlparser::ast::{JoinConstraint, JoinOperator};

/// Whose columns a join gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sides {
    /// Those of both tables.
    Both,
    /// Those of one: the other one only decides which rows stay.
    One,
}

/// What a join says of its rows; `None` for one that compares nothing.
pub(super) fn constraint(join: &mut JoinOperator) -> Option<(Sides, &mut JoinConstraint)> {
    match join {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint) => Some((Sides::Both, constraint)),
        JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint) => Some((Sides::One, constraint)),
        _ => None,
    }
}
