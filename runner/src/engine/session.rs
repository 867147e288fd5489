//! A session of DataFusion for each profile: one set of functions and rules, different settings.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder, SessionStateDefaults};
use datafusion::logical_expr::planner::RelationPlanner;
use datafusion::prelude::SessionConfig;

use super::UTC;
use super::functions::{self, BatchClock};
use super::rules::ExactRules;

/// Rows per batch inside plans; micro-batches have the same size.
const BATCH_ROWS: usize = 8192;

/// Memory below which a plan gets no further partition: each sorts and groups in room of its own.
const PARTITION_BYTES_MIN: usize = 64 << 20;

/// Partitions of a plan on a large machine: more are merged again by one thread.
const PARTITIONS_MAX: usize = 16;

/// Where a query runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Over the records of a micro-batch: one partition, no disk, no table functions.
    Stream,
    /// Over whole tables, for a batch run or for `query`: in parallel, within this memory, the rest on disk.
    Tables {
        /// Bytes that all operators may hold together.
        memory_bytes: usize,
    },
}

impl Profile {
    fn partitions(self) -> usize {
        match self {
            Self::Stream => 1,
            Self::Tables { memory_bytes } => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                cores.min(memory_bytes / PARTITION_BYTES_MIN).clamp(1, PARTITIONS_MAX)
            }
        }
    }
}

/// A session whose queries read these tables. `now()` reads `clock`. What the caller adds goes into the builder, which
/// [`finish`] then ends.
///
/// # Errors
/// No runtime could be made.
pub(crate) fn builder(
    profile: Profile,
    clock: &BatchClock,
    tables: Arc<dyn RelationPlanner>,
) -> Result<SessionStateBuilder> {
    let config = SessionConfig::new()
        .with_target_partitions(profile.partitions())
        .with_batch_size(BATCH_ROWS)
        .with_information_schema(false)
        .with_create_default_catalog_and_schema(false)
        // Rows of a file stay in its order where nothing sorts or groups them.
        .with_round_robin_repartition(false)
        .set_str("datafusion.execution.time_zone", UTC);
    let runtime = match profile {
        Profile::Stream => {
            let no_disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
            RuntimeEnvBuilder::new().with_disk_manager_builder(no_disk)
        }
        Profile::Tables { memory_bytes } => {
            // The disk says when it is full.
            let disk = DiskManagerBuilder::default().with_max_temp_directory_size(u64::MAX);
            let pool = Arc::new(FairSpillPool::new(memory_bytes));
            RuntimeEnvBuilder::new().with_memory_pool(pool).with_disk_manager_builder(disk)
        }
    };
    let functions = functions::registry(clock, profile != Profile::Stream);
    let builder = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime.build_arc()?)
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_relation_planners(vec![tables])
        .with_analyzer_rule(Arc::new(ExactRules))
        .with_scalar_functions(functions.scalar)
        .with_higher_order_functions(functions.higher_order)
        .with_aggregate_functions(functions.aggregate)
        .with_window_functions(functions.window);
    Ok(match profile {
        Profile::Stream => builder,
        Profile::Tables { .. } => builder.with_table_function_list(SessionStateDefaults::default_table_functions()),
    })
}

/// The session, with what can only be added to a whole one: the operators on JSON.
///
/// # Errors
/// The operators cannot be registered.
pub(crate) fn finish(builder: SessionStateBuilder) -> Result<SessionState> {
    let mut state = builder.build();
    datafusion_functions_json::register_all(&mut state)?;
    Ok(state)
}
