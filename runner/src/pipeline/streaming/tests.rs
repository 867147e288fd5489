//! Whole jobs over topics in memory: what they write, whatever the cuts, restarts and changes between.

mod changes;
mod days;
mod delta;
mod flows;
mod format_1;
mod outputs;
mod references;
mod refused;
mod sorted;
mod sources;
mod upkeep;
mod upkeep_delta;
mod upkeep_objects;
pub(crate) mod world;
