//! What computed a batch: queries and sources of the plan that it was committed under.
//!
//! Pure. A change that the state allows (a WHERE, a limit of a column) changes which rows count from that moment on. A rebuild
//! repeats what was committed before it as it was, so the log keeps the words of earlier plans as long as it may repeat
//! batches of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::JobState;
use crate::checkpoint::record::Plan;

/// The part of a plan that says what becomes of a record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Computed {
    /// The SQL of each output with state, by the name that the output has now.
    pub queries: BTreeMap<String, String>,
    /// The sources, in the words of the API; null where the log does not have them.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub sources: serde_json::Value,
}

impl Computed {
    /// What a plan computes.
    pub fn of(plan: &Plan) -> Self {
        let with_state = plan.queries.iter().filter(|(_, query)| !query.state_fingerprint.is_empty());
        let queries = with_state.map(|(output, query)| (output.clone(), query.sql.clone())).collect();
        Self { queries, sources: plan.sources.clone() }
    }

    /// Whether both say the same of every record. A log that does not have the sources is believed.
    pub fn is_same(&self, other: &Self) -> bool {
        let sources_are = self.sources == other.sources || self.sources.is_null() || other.sources.is_null();
        self.queries == other.queries && sources_are
    }

    /// The same under the names that outputs have after a change.
    pub fn renamed(&self, name: impl Fn(&String) -> String) -> Self {
        let queries = self.queries.iter().map(|(output, sql)| (name(output), sql.clone())).collect();
        Self { queries, sources: self.sources.clone() }
    }
}

impl JobState {
    /// What computed the batch of a version, if the present plan did not, with the version of the plan that followed.
    pub fn computed_at(&self, version: u64) -> Option<(u64, &Computed)> {
        self.computed.range(version..).next().map(|(until, computed)| (*until, computed))
    }
}

/// Forgets what neither the snapshot nor a batch that may be repeated needs.
pub(super) fn forget(state: &mut JobState) {
    let snapshot = state.usable_snapshot().map(|snapshot| snapshot.version);
    let first = state.replay.keys().next().copied().into_iter().chain(snapshot).min();
    state.computed = first.map_or_else(BTreeMap::new, |first| state.computed.split_off(&first));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::record::{Commit, Own, QueryPlan, Record, ReplayFrom, Start};
    use crate::offsets::{Partitions, Range};

    fn plan(sql: &str) -> Plan {
        let query = QueryPlan { sql: sql.to_owned(), state_fingerprint: "f".to_owned(), ..QueryPlan::default() };
        Plan { queries: BTreeMap::from([("t".to_owned(), query)]), ..Plan::default() }
    }

    fn one<T>(value: T) -> Partitions<T> {
        Partitions::of("t", [(0, value)])
    }

    /// A commit of one record that leaves the window open that `since` opened.
    fn commit(offset: i64, since: Option<u64>) -> Record {
        let range = Range { start: offset, end: offset + 1, records: 1, ..Range::default() };
        let outputs = since.map(|since| BTreeMap::from([("t".to_owned(), since)])).unwrap_or_default();
        let replay_from = since.map(|version| ReplayFrom { version, outputs, ..ReplayFrom::default() });
        Record::Commit(Box::new(Commit { epoch: 1, partitions: one(range), replay_from, ..Commit::default() }))
    }

    fn state() -> JobState {
        let start = Start {
            log_id: "l".to_owned(),
            namespace: "local".to_owned(),
            job: "j".to_owned(),
            cluster_id: "c".to_owned(),
            topics: BTreeMap::new(),
            offsets: one(0),
            plan: plan("a"),
            clock: 0,
            program: "p".to_owned(),
        };
        let mut state = JobState::begin(start);
        let own = Own {
            epoch: 1,
            owner: "o".to_owned(),
            rank: crate::checkpoint::record::Rank::default(),
            place: "p".to_owned(),
            pod: None,
            partitions: None,
            clock: 0,
        };
        state.apply(1, &Record::Own(own)).unwrap();
        state
    }

    fn sql(state: &JobState, version: u64) -> Option<&str> {
        state.computed_at(version).map(|(_, computed)| computed.queries["t"].as_str())
    }

    #[test]
    fn a_batch_is_known_with_its_query_as_long_as_it_may_be_repeated() {
        let mut state = state();
        state.apply(2, &commit(0, Some(2))).unwrap();
        state.apply(3, &Record::Plan(plan("b"))).unwrap();
        state.apply(4, &commit(1, Some(2))).unwrap();
        state.apply(5, &Record::Plan(plan("c"))).unwrap();
        state.apply(6, &commit(2, Some(2))).unwrap();
        assert_eq!([2, 4, 6].map(|version| sql(&state, version)), [Some("a"), Some("b"), None]);
        state.apply(7, &commit(3, Some(4))).unwrap();
        assert_eq!([4, 6].map(|version| sql(&state, version)), [Some("b"), None]);
        assert_eq!(state.computed.len(), 1);
        state.apply(8, &commit(4, None)).unwrap();
        assert!(state.computed.is_empty());
    }

    #[test]
    fn a_plan_that_computes_the_same_or_all_anew_keeps_nothing() {
        let mut state = state();
        state.apply(2, &commit(0, Some(2))).unwrap();
        state.apply(3, &Record::Plan(Plan { fingerprint: "other".to_owned(), ..plan("a") })).unwrap();
        assert!(state.computed.is_empty());
        state.apply(4, &Record::Plan(plan("b"))).unwrap();
        assert_eq!(sql(&state, 2), Some("a"));
        state.apply(5, &Record::Plan(Plan { rebuild: true, ..plan("c") })).unwrap();
        assert!(state.computed.is_empty());
    }

    #[test]
    fn batches_of_two_plans_are_never_one() {
        let mut state = state();
        let ends = Some(crate::checkpoint::record::WindowEnds { step: 1_000_000, offset: 0 });
        let with_ends = |sql: &str| Plan { window_ends: ends, ..plan(sql) };
        state.apply(2, &Record::Plan(with_ends("a"))).unwrap();
        for (version, offset) in [(3, 0), (4, 1)] {
            state.apply(version, &commit(offset, Some(3))).unwrap();
        }
        state.apply(5, &Record::Plan(with_ends("b"))).unwrap();
        for (version, offset) in [(6, 2), (7, 3)] {
            state.apply(version, &commit(offset, Some(3))).unwrap();
        }
        assert_eq!(state.replay.keys().copied().collect::<Vec<_>>(), [3, 6]);
    }
}
