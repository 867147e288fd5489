//! How a query runs, in words: what is computed for each record, where state is kept, what happens to closed windows.

use std::fmt;

use datafusion::common::JoinType;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};

use super::inputs::{QueryInputs, only_references};
use super::operator::Parts;
use super::output::type_name;
use super::split::{Names, WindowIn};
use super::window::Edge;
use super::windows::WindowSpec;
use crate::source::record::IDENTITY_COLUMNS;

/// How a query runs. Each list is in the order in which rows go through it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Declared columns that are decoded.
    pub reads: Vec<String>,
    /// What is done with each record, before any state.
    pub below: Vec<String>,
    /// The window, where all state is kept.
    pub window: Option<WindowExplanation>,
    /// What is done with the rows of a closed window.
    pub above: Vec<String>,
    /// Name and type of each output column.
    pub output: Vec<(String, String)>,
}

/// A window and what is kept for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowExplanation {
    /// The event-time column.
    pub event_time: String,
    /// Its kind and its lengths.
    pub spec: WindowSpec,
    /// What makes a group within a window.
    pub keys: Vec<String>,
    /// What is kept for each group.
    pub aggregates: Vec<String>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "reads   {}", self.reads.join(", "))?;
        for (index, line) in self.below.iter().enumerate() {
            writeln!(f, "{}{line}", if index == 0 { "record  " } else { "        " })?;
        }
        if let Some(window) = &self.window {
            writeln!(f, "window  {} of {}", window.spec, window.event_time)?;
            let keys = if window.keys.is_empty() { "(the window alone)".into() } else { window.keys.join(", ") };
            writeln!(f, "  keys  {keys}")?;
            writeln!(f, "  state {}", window.aggregates.join(", "))?;
        }
        for (index, line) in self.above.iter().enumerate() {
            writeln!(f, "{}{line}", if index == 0 { "closed  " } else { "        " })?;
        }
        for (index, (name, data_type)) in self.output.iter().enumerate() {
            writeln!(f, "{}{name} {data_type}", if index == 0 { "output  " } else { "        " })?;
        }
        Ok(())
    }
}

pub(super) fn rows(plan: &LogicalPlan, parts: &Parts, inputs: &QueryInputs) -> Explanation {
    let mut below = vec![];
    describe(plan, &mut below);
    Explanation { reads: reads(parts, inputs), below, window: None, above: vec![], output: output(parts) }
}

pub(super) fn windowed(
    window: &WindowIn<'_>,
    spec: WindowSpec,
    names: Names,
    parts: &Parts,
    inputs: &QueryInputs,
) -> Explanation {
    let mut below = vec![];
    describe(&window.aggregate.input, &mut below);
    let mut above = vec![];
    window.above.iter().for_each(|node| above.extend(describe_node(node)));
    let event_time = event_times(parts, inputs);
    let kept = WindowExplanation { event_time, spec, keys: names.keys, aggregates: names.aggregates };
    Explanation { reads: reads(parts, inputs), below, window: Some(kept), above, output: output(parts) }
}

/// With several sources each column has the name of its source before it.
fn reads(parts: &Parts, inputs: &QueryInputs) -> Vec<String> {
    let mut columns = vec![];
    for (source, rows) in inputs.sources.iter().zip(&parts.inputs) {
        let declared = source.schema.fields();
        let read = rows.iter().flat_map(|rows| &rows.trunk.columns).filter_map(|column| declared.get(*column));
        columns.extend(read.map(|field| match inputs.sources.len() {
            1 => field.name().clone(),
            _ => format!("{}.{}", source.name, field.name()),
        }));
    }
    columns
}

/// The event times of the sources that are read, each name once.
fn event_times(parts: &Parts, inputs: &QueryInputs) -> String {
    let read = inputs.sources.iter().zip(&parts.inputs).filter(|(_, rows)| rows.is_some());
    let mut names: Vec<&str> = read.filter_map(|(source, _)| source.event_time.as_deref()).collect();
    names.dedup();
    names.join(", ")
}

fn output(parts: &Parts) -> Vec<(String, String)> {
    let fields = parts.output.schema.fields().iter();
    let fields = fields.filter(|field| !IDENTITY_COLUMNS.contains(&field.name().as_str()));
    fields.map(|field| (field.name().clone(), type_name(field.data_type()))).collect()
}

fn describe(plan: &LogicalPlan, lines: &mut Vec<String>) {
    plan.inputs().into_iter().filter(|input| !only_references(input)).for_each(|input| describe(input, lines));
    lines.extend(describe_node(plan));
}

fn describe_node(plan: &LogicalPlan) -> Option<String> {
    match plan {
        LogicalPlan::Projection(projection) => Some(format!("select {}", list(&projection.expr))),
        LogicalPlan::Filter(filter) => Some(format!("keep where {}", filter.predicate.human_display())),
        LogicalPlan::Unnest(unnest) => {
            let columns = unnest.exec_columns.iter().map(|column| column.name.replace("__unnest_placeholder", ""));
            Some(format!("one row for each item of {}", columns.collect::<Vec<_>>().join(", ")))
        }
        LogicalPlan::Union(union) => Some(format!("the rows of {} branches", union.inputs.len())),
        LogicalPlan::Join(join) => {
            let keys =
                join.on.iter().map(|(left, right)| format!("{} = {}", left.human_display(), right.human_display()));
            let found = if join.join_type == JoinType::Inner { "" } else { ", or nulls" };
            Some(format!("look up where {}{found}", keys.collect::<Vec<_>>().join(" and ")))
        }
        LogicalPlan::Sort(sort) => {
            let keys: Vec<String> = sort.expr.iter().map(ToString::to_string).collect();
            Some(format!("sort by {}", keys.join(", ")))
        }
        LogicalPlan::Window(window) => Some(format!("compute {}", list(&window.window_expr))),
        LogicalPlan::Aggregate(aggregate) => {
            Some(format!("group by {} and compute {}", list(&aggregate.group_expr), list(&aggregate.aggr_expr)))
        }
        LogicalPlan::Distinct(Distinct::All(_)) => Some("keep each row once".to_owned()),
        _ => None,
    }
}

fn list(exprs: &[Expr]) -> String {
    let text = exprs.iter().map(|expr| expr.human_display().to_string()).collect::<Vec<_>>().join(", ");
    [Edge::Start, Edge::End]
        .into_iter()
        .fold(text, |text, edge| text.replace(&format!("{}()", edge.sign_name()), edge.name()))
}
