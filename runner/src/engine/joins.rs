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
/// Most room that a sort keeps aside to merge in: more than the engine's own is of no use.
const MERGE_MAX: usize = 10 << 20;
/// Files that a sort is to merge at once: with few of them rows come from the disk many times.
const FILES: usize = 8;
const FILES_MAX: usize = 64;
/// A file that is merged takes so many times a piece of it: two are read ahead, and each counts twice.
const PIECES: usize = 4;
/// Rows of a piece: fewer cost more than they hold.
const BATCH_ROWS_MIN: usize = 256;
const BATCH_ROWS_MAX: usize = 8_192;
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
    // The planner sorts and merges only partitions beside each other.
    let partitions = config.target_partitions().max(2);
    let mut sides = Vec::new();
    row_bytes_of_sides(&hashed, &mut sides);
    let widest = sides.iter().copied().max().unwrap_or(ROW_BYTES);
    let merging = Merging::of(memory_bytes, sides.len() * partitions, widest);
    // Each sort keeps room aside to merge what it spilled.
    config.options_mut().execution.sort_spill_reservation_bytes = merging.bytes;
    state.runtime_env().disk_manager.set_max_spill_merge_fan_in(merging.files);
    let batch_rows = merging.batch_rows.min(config.batch_size());
    let config = config.with_target_partitions(partitions).with_batch_size(batch_rows);
    let state = SessionStateBuilder::new_from_existing(state.clone()).with_config(config).build();
    Ok((plan(&state)?, state.task_ctx()))
}

/// How sorts that share a memory merge what they spilled. One that merges holds a piece of each of its files until its last row
/// is read, and all sorts of a plan may merge at once: without bounds the first ones take what the others need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Merging {
    /// Rows of a piece.
    batch_rows: usize,
    /// Files that are merged at once.
    files: usize,
    /// What they take together.
    bytes: usize,
}

impl Merging {
    /// Of so many sorts with rows of so many bytes. Half of the memory is for merging; the rest is what they sort, and what joins
    /// hold of rows with one key.
    fn of(memory_bytes: usize, sorts: usize, row_bytes: usize) -> Self {
        let bytes = memory_bytes / 2 / sorts.max(1);
        let batch_rows = (bytes / (FILES * PIECES * row_bytes.max(1))).clamp(BATCH_ROWS_MIN, BATCH_ROWS_MAX);
        let files = (bytes / (batch_rows * PIECES * row_bytes.max(1))).clamp(2, FILES_MAX);
        Self { batch_rows, files, bytes: bytes.min(MERGE_MAX) }
    }
}

/// What a row of each side of each join takes; each is sorted.
fn row_bytes_of_sides(plan: &Arc<dyn ExecutionPlan>, sides: &mut Vec<usize>) {
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        // Wide text is known by the files that it comes from, whose columns are counted together.
        sides.extend([join.left(), join.right()].map(|side| row_bytes(side).max(row_bytes_read(side) + ROW_BYTES)));
    }
    for child in plan.children() {
        row_bytes_of_sides(child, sides);
    }
}

fn row_bytes(plan: &Arc<dyn ExecutionPlan>) -> usize {
    plan.schema().fields().iter().map(|field| width(field.data_type())).sum::<usize>() + ROW_BYTES
}

/// Bytes of one row of everything that is read below, as far as somebody counted them.
fn row_bytes_read(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let children = plan.children();
    if !children.is_empty() {
        return children.into_iter().map(row_bytes_read).fold(0, usize::saturating_add);
    }
    let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new()).ok();
    let counted = statistics
        .and_then(|statistics| statistics.total_byte_size.get_value()?.checked_div(*statistics.num_rows.get_value()?));
    counted.unwrap_or_default()
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
        Some(rows.saturating_mul(row_bytes(plan)))
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
        let (plan, _) = planned(sql, memory_bytes);
        let shown = displayable(plan.as_ref()).indent(false).to_string();
        (shown.contains("HashJoin"), shown.contains("SortMergeJoin"))
    }

    fn planned(sql: &str, memory_bytes: usize) -> (Arc<dyn ExecutionPlan>, Arc<TaskContext>) {
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
        plan_within(&context.state(), memory_bytes, plan).unwrap()
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

    #[test]
    fn a_query_without_a_large_join_runs_as_it_was_set_and_sorts_of_a_large_one_share_the_memory() {
        let set = |sql: &str, memory_bytes: usize| {
            let (_, context) = planned(sql, memory_bytes);
            let options = context.session_config().options().execution.clone();
            let fan_in = context.runtime_env().disk_manager.max_spill_merge_fan_in();
            (options.batch_size, options.sort_spill_reservation_bytes, fan_in)
        };
        let untouched = set("SELECT k FROM l", 1);
        assert_eq!(set("SELECT * FROM l JOIN r ON l.k = r.k ORDER BY l.k", 8 << 20), untouched);
        let (rows, bytes, files) = set("SELECT * FROM l JOIN l AS m ON l.k = m.k", 1 << 20);
        assert!(rows < untouched.0 && bytes < untouched.1, "{rows} rows, {bytes} bytes");
        assert!((2..=FILES_MAX).contains(&files), "{files} files");
    }

    #[test]
    fn what_is_merged_at_once_takes_at_most_half_of_the_memory() {
        for memory_bytes in [4 << 20, 30 << 20, 366 << 20, 4 << 30] {
            for sorts in [1, 4, 8, 24] {
                for row_bytes in [24, 96, 700, 5_000] {
                    let merging = Merging::of(memory_bytes, sorts, row_bytes);
                    let piece = merging.batch_rows * row_bytes * PIECES;
                    let least = BATCH_ROWS_MIN * row_bytes * PIECES * 2;
                    let together = sorts * merging.files * piece;
                    assert!(together <= (memory_bytes / 2).max(sorts * least), "{merging:?} of {memory_bytes}");
                    assert!(merging.bytes * sorts <= memory_bytes / 2, "{merging:?} of {memory_bytes}");
                }
            }
        }
    }
}
