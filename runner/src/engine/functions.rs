//! The registry: every function that a query may call, in streams, batch runs and `query` alike.

mod aggregates;
mod avg;
mod clock;
pub(crate) mod collect_set;
mod durations;
#[cfg(test)]
mod edge_values;
mod guarded;
mod limits;
mod lost;
mod nth_value;
mod own;
mod same;
pub(crate) mod sets;
mod sum;

use std::sync::Arc;

use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};

pub(crate) use aggregates::stands_for;
pub use clock::BatchClock;
pub(crate) use guarded::{constant_call, guarded};
#[cfg(test)]
pub(crate) use own::Described;
pub(crate) use own::{over_arrays, with_key};
pub(crate) use same::SAME;

/// Functions of the libraries that no query may call, and why.
pub(crate) const REMOVED: [(&str, &str); 6] = [
    ("arrow_cast", "takes a type as text, of any depth, in the words of the engine: CAST does the same"),
    ("arrow_metadata", "tells of the engine's inside, not of values"),
    ("arrow_try_cast", "as arrow_cast: TRY_CAST does the same"),
    ("file_row_index", "rows of a stream come from no file"),
    ("input_file_name", "rows of a stream come from no file"),
    ("with_metadata", "changes the engine's inside, not values"),
];

/// Functions by kind.
pub(crate) struct Functions {
    pub(crate) scalar: Vec<Arc<ScalarUDF>>,
    pub(crate) higher_order: Vec<Arc<HigherOrderUDF>>,
    pub(crate) aggregate: Vec<Arc<AggregateUDF>>,
    pub(crate) window: Vec<Arc<WindowUDF>>,
}

/// All functions; a later one replaces an earlier one of the same name. `now()` reads `clock`. Over whole tables there
/// are those besides that have no meaning on a stream.
pub(crate) fn registry(clock: &BatchClock, over_tables: bool) -> Functions {
    let mut scalar = SessionStateDefaults::default_scalar_functions();
    scalar.retain(|function| REMOVED.iter().all(|(name, _)| *name != function.name()));
    scalar.extend(datafusion_spark::function::url::functions());
    scalar.extend(datafusion_spark::function::hash::functions());
    scalar.push(Arc::new(same::same()));
    scalar.extend(own::functions().into_iter().map(|(_, function)| Arc::new(function)));
    scalar.extend(clock::functions(clock).into_iter().map(Arc::new));
    let mut aggregate = SessionStateDefaults::default_aggregate_functions();
    aggregate.extend([sum::sum(), avg::avg(), collect_set::collect_set(), nth_value::nth_value()]);
    aggregate.extend(aggregates::functions().into_iter().map(|(_, function)| function));
    if over_tables {
        aggregate.push(aggregates::collect_list().1);
    }
    Functions {
        scalar,
        higher_order: SessionStateDefaults::default_higher_order_functions(),
        aggregate,
        window: SessionStateDefaults::default_window_functions(),
    }
}

/// Functions of ours, and those of libraries beside the engine's: how they are called and what they give, by kind.
#[cfg(test)]
pub(crate) struct Pages {
    pub(crate) scalar: Vec<Described>,
    pub(crate) aggregate: Vec<Described>,
    pub(crate) over_tables: Vec<Described>,
}

#[cfg(test)]
pub(crate) fn described() -> Pages {
    let mut scalar: Vec<_> = own::functions().into_iter().map(|(described, _)| described).collect();
    scalar.extend(own::of_libraries());
    scalar.sort_by_key(|described| described.form);
    Pages {
        scalar,
        aggregate: aggregates::functions().into_iter().map(|(described, _)| described).collect(),
        over_tables: vec![aggregates::collect_list().0],
    }
}
