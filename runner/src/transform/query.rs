//! A user's query as a streaming query: read, checked, split and compiled once, before the first record.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;

use super::error::{QueryError, Result};
use super::explain::Explanation;
use super::inputs::QueryInputs;
use super::operator::{Operator, Parts, Windowed};
use super::output::Output;
use super::planning_error::Translation;
use super::refuse::Context;
use super::session::Session;
use super::window::{Edge, WindowKind};
use super::windows::{WindowSpec, window_of};
use super::{branches, explain, identity, split, syntax};
use crate::engine::BatchClock;
use crate::engine::refusing::describe;

/// Stack of the planning thread. Parsing and planning recurse over the query; the limits of `syntax` keep them within
/// a few megabytes, but the parser builds chains such as `1 + 1 + …` before anybody can count them, and dropping one
/// recurses too. Only pages that are touched cost memory.
const STACK_BYTES: usize = 256 << 20;

/// A query that can run as a stream.
#[derive(Clone)]
pub struct StreamQuery {
    parts: Arc<Parts>,
    normal_form: String,
    state_form: Option<String>,
    explanation: Explanation,
}

impl StreamQuery {
    /// Plans `sql` over the inputs of a job. `now()` will read `clock`.
    ///
    /// *Errors*: the query cannot run as a stream; the error says why, where, and what would work.
    pub fn plan(sql: &str, inputs: &QueryInputs, clock: BatchClock) -> Result<Self, QueryError> {
        with_room(|| plan_here(sql, inputs, &clock))
    }

    /// Whether the query reads a source.
    pub fn reads(&self, source: usize) -> bool {
        self.parts.inputs.get(source).is_some_and(Option::is_some)
    }

    /// The references that the query joins with, by their position among its inputs.
    pub fn references(&self) -> BTreeSet<usize> {
        self.parts.sides.iter().flat_map(|side| side.references.iter().copied()).collect()
    }

    /// Columns of a source that the query reads, ascending: declared ones, and behind the last of these the identity of
    /// the record ([`IDENTITY_COLUMNS`](crate::source::record::IDENTITY_COLUMNS)). Batches given to
    /// [`Operator::ingest`] have exactly these, in this order. With a window the event time is always among them. None
    /// of a source that is not read.
    pub fn input_columns(&self, source: usize) -> &[usize] {
        self.parts.inputs.get(source).and_then(Option::as_ref).map_or(&[], |rows| &rows.trunk.columns)
    }

    /// Columns of the output: timestamps are `Timestamp(us, "UTC")`; there are no dictionaries, no unsigned numbers, no
    /// intervals; text may be views. Every column is nullable.
    pub fn output_schema(&self) -> SchemaRef {
        self.parts.output.schema.clone()
    }

    /// The query's window, if it has one.
    pub fn window(&self) -> Option<WindowSpec> {
        self.parts.window.as_ref().map(|window| window.spec)
    }

    /// The query's text without blanks, comments and the case of unquoted words; a part of the job's fingerprint.
    pub fn normal_form(&self) -> &str {
        &self.normal_form
    }

    /// The part of the query's text that the state depends on; `None` for a query without a window, which has no state.
    /// Two queries with the same one may go on with each other's state.
    pub fn state_form(&self) -> Option<&str> {
        self.state_form.as_deref()
    }

    /// Columns of a window's state: keys, then what the aggregates keep. One schema for all windows.
    pub fn state_schema(&self) -> Option<SchemaRef> {
        self.parts.window.as_ref().map(Windowed::state_schema)
    }

    /// Whether the query can go on with the state of another one: the same keys and aggregates, in any order.
    pub fn has_state_of(&self, other: &Self) -> bool {
        match (&self.parts.window, &other.parts.window) {
            (Some(own), Some(other)) => {
                own.spec == other.spec && own.aggregation.places_in(&other.aggregation).is_some()
            }
            (own, other) => own.is_none() && other.is_none(),
        }
    }

    /// How the query runs, for people.
    pub fn explain(&self) -> &Explanation {
        &self.explanation
    }

    /// A new operator without state.
    pub fn operator(&self) -> Operator {
        Operator::new(Arc::clone(&self.parts))
    }
}

/// Plans on a thread with room for recursion.
pub(super) fn with_room<T: Send>(plan: impl FnOnce() -> Result<T, QueryError> + Send) -> Result<T, QueryError> {
    let runtime = tokio::runtime::Handle::try_current().ok();
    let planned = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("plan".into()).stack_size(STACK_BYTES);
        let plan = move || {
            // What begins to run while it is planned runs as tasks of the caller's runtime.
            let _runtime = runtime.as_ref().map(tokio::runtime::Handle::enter);
            plan()
        };
        thread.spawn_scoped(scope, plan).map(|thread| thread.join())
    });
    match planned {
        Ok(Ok(planned)) => planned,
        Ok(Err(_)) => Err(QueryError::new("planning the query failed, which is a fault of the planner")
            .cure("write it in another way, and report it")),
        Err(error) => Err(QueryError::new(format!("no thread could be started to plan the query: {error}"))),
    }
}

fn plan_here(sql: &str, inputs: &QueryInputs, clock: &BatchClock) -> Result<StreamQuery, QueryError> {
    let event_times = inputs.check()?;
    let syntax = syntax::parse(sql, inputs)?;
    let places = &syntax.places;
    let session = Session::new(inputs, clock)
        .map_err(|error| QueryError::new(format!("no session could be made: {}", describe(&error))))?;
    let translation = Translation::of_stream(places, &session, inputs);
    let failed = |error| translation.of(&error);
    let state_form = syntax.state_form(&|name| session.is_aggregate(name));
    let context = Context { places, inputs };
    let plan = session.read(syntax.query).map_err(failed)?;
    branches::check(&plan)?;
    let plan = session.coerce(&plan).map_err(failed)?;
    context.check_types(&plan)?;
    let evaluate = |expr: &_| session.evaluate_constant(expr);

    let Some(window) = split::find_window(&plan).map_err(|error| error.at(places.window()))? else {
        if places.window.is_some() {
            return Err(QueryError::new("the table that has the window is not read")
                .at(places.window())
                .cure("select from it"));
        }
        context.check_rows(&plan, false)?;
        context.check_uses(&plan, None)?;
        context.check_made(&plan, &evaluate)?;
        let with_origin = if inputs.tell_origins { identity::carry(&plan).map_err(failed)? } else { plan.clone() };
        let output = Output::of_plan(&with_origin)?;
        let parts = split::compile_rows(&with_origin, inputs, output, &session).map_err(failed)?;
        let explanation = explain::rows(&plan, &parts, inputs);
        let (normal_form, state_form) = (syntax.normal_form, None);
        return Ok(StreamQuery { parts: Arc::new(parts), normal_form, state_form, explanation });
    };
    let input: &LogicalPlan = &window.aggregate.input;
    context.check_rows(input, true)?;
    let kind = places.window.map_or(WindowKind::Tumble, |window| window.kind);
    context.check_window_aggregate(window.aggregate, kind)?;
    context.check_above(&window.above, window.node, kind)?;
    context.check_uses(input, None)?;
    context.check_uses(&plan, Some(window.aggregate))?;
    context.check_made(&plan, &evaluate)?;
    check_edge_names(input, inputs).map_err(|error| error.at(places.window()))?;
    let over =
        window_of(window.aggregate, inputs, &event_times, &session).map_err(|error| error.at(places.window()))?;
    let spec = over.0;
    let output = Output::of_plan(&plan)?;
    let (parts, names) =
        split::compile_window(&plan, &window, over, (inputs, &event_times), output, &session).map_err(failed)?;
    let explanation = explain::windowed(&window, spec, names, &parts, inputs);
    let (normal_form, state_form) = (syntax.normal_form, Some(state_form));
    Ok(StreamQuery { parts: Arc::new(parts), normal_form, state_form, explanation })
}

/// A column of these names could not be told from the window's edges.
fn check_edge_names(input: &LogicalPlan, inputs: &QueryInputs) -> Result<(), QueryError> {
    for edge in [Edge::Start, Edge::End] {
        let name = edge.name();
        if input.schema().fields().iter().any(|field| field.name() == name) {
            return Err(QueryError::new(format!(
                "a column below the window is called {name}, as the window's edge is"
            ))
            .cure(format!(
                "read what you need under other names: FROM (SELECT {name} AS other_name, … FROM {}) AS renamed",
                inputs.first_source()
            )));
        }
    }
    Ok(())
}
