//! What the log says of a job: its hashes, which tell what changed and what the state depends on.

use std::collections::BTreeMap;

use data_platform_crds::column::ColumnSpec;
use data_platform_crds::source::SourceSpec;
use serde::Serialize;

use super::places::{root_url, two_at_one_place};
use super::{PlannedJob, RunOptions};
use crate::checkpoint::record::{Plan, QueryPlan, WindowEnds};
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::job_plan::Flow;
use crate::pipeline::streaming::BadRecords;
use crate::storage::checksum::checksum;

impl PlannedJob {
    /// Hashes of the job, its queries, and its outputs.
    ///
    /// # Errors
    /// When a path cannot be read, or two outputs lie at one place.
    pub fn plan(&self, options: &RunOptions) -> Result<Plan, JobError> {
        let mut outputs = BTreeMap::new();
        for flow in &self.flows {
            outputs.insert(flow.output.clone(), self.root(flow, options)?);
        }
        let mut dead_letters = None;
        if let BadRecords::Keep(plan) = self.bad_records() {
            let name = self.dead_letters_name();
            if outputs.contains_key(&name) {
                let problem = format!("the output {name} has the name of the job's dead letters");
                return Err(JobError::user(Reason::InvalidSpec, problem, "give the output another name"));
            }
            let root = plan.root().map_or_else(|| root_url(&self.dead_letters_location(&options.outputs)?), Ok)?;
            outputs.insert(name.clone(), root);
            dead_letters = Some(name);
        }
        two_at_one_place(&outputs)?;
        let query = |flow: &Flow| QueryPlan {
            sql: flow.sql.clone(),
            state_fingerprint: self.state_fingerprint(flow),
            sources: self.sources_of(flow).map(|source| source.name.clone()).collect(),
        };
        let queries = self.flows.iter().map(|flow| (flow.output.clone(), query(flow))).collect();
        Ok(Plan {
            fingerprint: self.fingerprint(),
            queries,
            sources: serde_json::to_value(&self.loaded.job.spec.sources).expect("a spec is always JSON"),
            outputs,
            dead_letters,
            deduplicate: self.deduplication.as_ref().map(|_| self.deduplicate_fingerprint()),
            rebuild: false,
            restart: options.restart.clone(),
            window_ends: self.window_ends(),
        })
    }

    fn sources_of(&self, flow: &Flow) -> impl Iterator<Item = &SourceSpec> {
        let reads: Vec<bool> = (0..self.sources.len()).map(|source| flow.reads(source)).collect();
        self.loaded.job.spec.sources.iter().zip(reads).filter_map(|(source, reads)| reads.then_some(source))
    }

    /// Where windows end, as far as the only query with windows says it. Batches of a job with several, or with duplicates to
    /// remember, are not merged: each takes part in a rebuild from a version of its own on.
    fn window_ends(&self) -> Option<WindowEnds> {
        if self.deduplication.is_some() {
            return None;
        }
        let mut windows = self.flows.iter().filter_map(|flow| flow.query.window());
        let only = windows.next().filter(|_| windows.next().is_none())?;
        only.ends().map(|(offset, step)| WindowEnds { step, offset })
    }

    /// Hash of what the job computes: an image upgrade does not change it, since no plan of the engine is part of it.
    fn fingerprint(&self) -> String {
        let of = |flow: &Flow| (flow.output.clone(), flow.query.normal_form().to_owned(), flow.sink.clone());
        let flows: Vec<_> = self.flows.iter().map(of).collect();
        let spec = &self.loaded.job.spec;
        let always = (&spec.sources, flows, &spec.bad_records);
        match (&spec.deduplicate, &spec.references[..]) {
            // What other jobs were called before there were these.
            (None, []) => hash(&always),
            others => hash(&(always, others)),
        }
    }

    /// Hash of what makes two records one.
    fn deduplicate_fingerprint(&self) -> String {
        let spec = &self.loaded.job.spec;
        let keys = |source: &SourceSpec| -> Vec<ColumnSpec> {
            let is_key = |name: &String| spec.deduplicate.as_ref().is_some_and(|keys| keys.keys.contains(name));
            source.columns.iter().filter(|column| is_key(&column.name)).cloned().collect()
        };
        let time = |source: &SourceSpec| source.event_time.as_ref().map(|time| time.column.clone());
        let sources = spec.sources.iter().map(|source| (source.name.clone(), time(source), keys(source)));
        hash(&(&spec.deduplicate, sources.collect::<Vec<_>>()))
    }

    /// Hash of what the state of an output depends on; empty for a query without a window, which has no state.
    pub(super) fn state_fingerprint(&self, flow: &Flow) -> String {
        if flow.query.state_form().is_none() {
            return String::new();
        }
        checksum(self.loaded.job.spec.state_relevant(&flow.sql).text().as_bytes())
    }

    /// The same as logs of format 1 have it: a job goes on with a log that an earlier version wrote. Then a job had one source.
    pub(super) fn state_fingerprint_1(&self, flow: &Flow) -> String {
        let (Some(form), [source]) = (flow.query.state_form(), &self.loaded.job.spec.sources[..]) else {
            return String::new();
        };
        let event_time = source.event_time.as_ref().map(|time| &time.column);
        let good = (&source.columns, source.format, source.max_record_bytes, source.max_depth, event_time);
        hash(&(good, form))
    }
}

fn hash(value: &impl Serialize) -> String {
    checksum(&serde_json::to_vec(value).expect("specs and texts are always JSON"))
}
