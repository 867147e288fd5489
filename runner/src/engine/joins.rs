//! Joins that fit into memory: a hash table of one side cannot be spilled, sorted rows can.
//!
//! A plan is made with hash joins, which are the fastest. Where the side that one of them holds may not fit, by what is known
//! of the rows below it, the plan is made again with joins that sort both sides and merge them.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::execution::{SessionState, SessionStateBuilder, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};

/// A side is taken to fit up to this part of a query's memory: what is known are guesses, and it is not held alone.
const PART: usize = 4;
/// Room of a sort to merge in: less makes many small passes, more than the engine's own is of no use.
const MERGE_MIN: usize = 1 << 20;
const MERGE_MAX: usize = 10 << 20;
/// Bytes of a value of text or of a nested type; unknown, and mostly less.
const VALUE_BYTES: usize = 48;
/// Bytes of a row in a hash table beside its values.
const ROW_BYTES: usize = 16;
/// What an operator of which nothing is known makes of its input, at most, is taken to be so many times as large.
const GROWTH: usize = 4;

/// A plan whose joins fit into the memory of a query, or can be spilled, and what it runs in.
///
/// # Errors
/// Those of `plan`.
pub(crate) fn plan_within(
    state: &SessionState,
    memory_bytes: usize,
    plan: impl Fn(&SessionState) -> Result<Arc<dyn ExecutionPlan>>,
) -> Result<(Arc<dyn ExecutionPlan>, Arc<TaskContext>)> {
    let hashed = plan(state)?;
    if fits(&hashed, memory_bytes / PART) {
        return Ok((hashed, state.task_ctx()));
    }
    let mut config = state.config().clone();
    config.options_mut().optimizer.prefer_hash_join = false;
    // Each sort keeps room aside to merge what it spilled; there are two for each join and partition.
    config.options_mut().execution.sort_spill_reservation_bytes = (memory_bytes / 32).clamp(MERGE_MIN, MERGE_MAX);
    // The planner sorts and merges only partitions beside each other.
    let partitions = config.target_partitions().max(2);
    let config = config.with_target_partitions(partitions);
    let state = SessionStateBuilder::new_from_existing(state.clone()).with_config(config).build();
    Ok((plan(&state)?, state.task_ctx()))
}

/// Whether the side that each hash join holds has at most so many bytes. One of which nothing is known is held: the rows of
/// files, which are what may be large, are known.
fn fits(plan: &Arc<dyn ExecutionPlan>, most: usize) -> bool {
    let held = plan.downcast_ref::<HashJoinExec>().map(HashJoinExec::left);
    held.is_none_or(|held| bytes(held).is_none_or(|bytes| bytes <= most))
        && plan.children().into_iter().all(|child| fits(child, most))
}

/// What the rows of a plan may take in memory. `None`: nobody knows.
fn bytes(plan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    let known = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new()).ok().and_then(|statistics| {
        let rows = *statistics.num_rows.get_value()?;
        let row: usize = plan.schema().fields().iter().map(|field| width(field.data_type())).sum();
        Some(rows.saturating_mul(row + ROW_BYTES))
    });
    if known.is_some() {
        return known;
    }
    let children = plan.children();
    let below = children.iter().map(|child| bytes(child)).sum::<Option<usize>>()?;
    (!children.is_empty()).then(|| below.saturating_mul(GROWTH))
}

fn width(data_type: &DataType) -> usize {
    data_type.primitive_width().unwrap_or(if *data_type == DataType::Boolean { 1 } else { VALUE_BYTES })
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use datafusion::datasource::MemTable;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    /// The plan of a query over `l` of 100,000 rows and `r` of ten, by the joins in it.
    fn joins(sql: &str, memory_bytes: usize) -> (bool, bool) {
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        for (name, rows) in [("l", 100_000_i64), ("r", 10)] {
            let keys: ArrayRef = Arc::new((0..rows).collect::<Int64Array>());
            let batch = RecordBatch::try_from_iter([("k", keys)]).unwrap();
            let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
            context.register_table(name, Arc::new(table)).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let logical = runtime.block_on(context.sql(sql)).unwrap().into_optimized_plan().unwrap();
        let plan = |state: &SessionState| runtime.block_on(state.query_planner().create_physical_plan(&logical, state));
        let (plan, _) = plan_within(&context.state(), memory_bytes, plan).unwrap();
        let shown = displayable(plan.as_ref()).indent(false).to_string();
        (shown.contains("HashJoin"), shown.contains("SortMergeJoin"))
    }

    #[test]
    fn only_what_is_known_to_fit_is_held() {
        let (held, sorted) = ((true, false), (false, true));
        let one = "SELECT * FROM l JOIN l AS m ON l.k = m.k";
        assert_eq!(joins(one, 64 << 20), held);
        assert_eq!(joins(one, 8 << 20), sorted, "2.4 MB of 8");
        assert_eq!(joins("SELECT * FROM l JOIN r ON l.k = r.k", 8 << 20), held, "the small side");
        assert_eq!(joins("SELECT * FROM l FULL JOIN l AS m ON l.k = m.k", 8 << 20), sorted);
        assert_eq!(joins("SELECT k FROM l", 1), (false, false));
    }
}
