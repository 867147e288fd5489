//! Batches that were committed under an earlier plan are repeated with its queries and its sources.
//!
//! A change that the state allows takes effect at a batch: a WHERE, a limit of a column. What came before it stays as it was, in
//! a rebuild too.

use std::collections::BTreeMap;

use crate::checkpoint::decide;
use crate::checkpoint::job_state::Computed;
use crate::checkpoint::record::Plan;
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::job_plan::{EarlierJob, Flow, SourcePlan, decoders};
use crate::pipeline::streaming::StreamingSettings;
use crate::pipeline::streaming::deduplicate::RunningDeduplicator;
use crate::pipeline::streaming::flows::RunningFlow;
use crate::pipeline::streaming::start::Session;
use crate::source::reader::Decoders;

/// An earlier job, while its batches are repeated.
pub(in crate::pipeline::streaming) struct Earlier {
    /// Version of the plan that followed it.
    until: u64,
    /// As they were declared then.
    sources: Vec<SourcePlan>,
    /// In the order of the job's flows; `None` for one that had no state then.
    flows: Vec<Option<Flow>>,
}

/// What cannot be repeated as it was.
#[derive(Default)]
pub(in crate::pipeline::streaming) struct CannotRepeat {
    pub(in crate::pipeline::streaming) outputs: Vec<String>,
    /// Why, to be put behind a message.
    pub(in crate::pipeline::streaming) why: String,
}

impl Session<'_> {
    /// Which outputs have open windows of earlier queries that this program cannot compute any more, once `plan` is the plan.
    pub(in crate::pipeline::streaming) fn cannot_repeat(&self, plan: &Plan) -> CannotRepeat {
        let state = self.log.state();
        let Some(from) = &state.replay_from else { return CannotRepeat::default() };
        let name = |output: &String| decide::successor(&state.plan, plan, output).unwrap_or(output).to_owned();
        let present = Computed::of(&state.plan).renamed(name);
        let changes = !present.is_same(&Computed::of(plan));
        let earlier = state.computed.values().map(|computed| computed.renamed(name));
        for computed in earlier.chain(changes.then_some(present)) {
            let is_open = |output: &&String| from.outputs.keys().any(|open| name(open) == **output);
            let open: BTreeMap<_, _> = computed
                .queries
                .iter()
                .filter(|(output, _)| is_open(output))
                .map(|(o, sql)| (o.clone(), sql.clone()))
                .collect();
            let outputs = open.keys().cloned().collect();
            match (self.settings.compile_earlier)(&Computed { queries: open, ..computed }) {
                Err(problem) => {
                    let why = format!("; what the earlier query computed cannot be repeated: {problem}");
                    return CannotRepeat { outputs, why };
                }
                Ok(job) => {
                    let outputs: Vec<_> = other_state(self.settings, &job).collect();
                    if !outputs.is_empty() {
                        return CannotRepeat { outputs, why: String::new() };
                    }
                }
            }
        }
        CannotRepeat::default()
    }

    /// From here on the queries and sources of the plan of a version take what is read, and have the state.
    pub(in crate::pipeline::streaming) fn compute_as_of(&mut self, version: u64) -> Result<(), JobError> {
        let wanted = self.log.state().computed_at(version);
        if wanted.map(|(until, _)| until) == self.computes.as_ref().map(|earlier| earlier.until) {
            return Ok(());
        }
        let Some((until, computed)) = wanted else {
            return self.compute_with(None, decoders(&self.settings.sources, &self.settings.routes));
        };
        let job = (self.settings.compile_earlier)(computed).map_err(|problem| not_repeatable(&problem))?;
        let decoders = decoders(&job.sources, &job.routes);
        let mut flows = job.flows;
        let mut flow_of = |output: &str| {
            let index = flows.iter().position(|flow| flow.output == output)?;
            Some(flows.swap_remove(index))
        };
        let flows = self.settings.flows.iter().map(|flow| flow_of(&flow.output)).collect();
        self.compute_with(Some(Earlier { until, sources: job.sources, flows }), decoders)
    }

    fn compute_with(&mut self, job: Option<Earlier>, decoders: Decoders) -> Result<(), JobError> {
        self.computes = job;
        // Other operators have no references yet.
        self.repeated_with.clear();
        for (index, running) in self.flows.iter_mut().enumerate() {
            if let Some(flow) = flow_at(self.settings, self.computes.as_ref(), index) {
                turn_to(running, flow)?;
            }
        }
        Ok(self.reader.decode_with(decoders)?)
    }

    /// Every flow without state, and computed as the job is now.
    pub(super) fn forget_state(&mut self) -> Result<(), JobError> {
        self.flows = self.settings.flows.iter().map(RunningFlow::new).collect();
        self.deduplicator = RunningDeduplicator::new(self.settings);
        if self.computes.take().is_some() {
            self.reader.decode_with(decoders(&self.settings.sources, &self.settings.routes))?;
        }
        Ok(())
    }

    /// The sources, in the words of those whose batches are repeated.
    pub(in crate::pipeline::streaming) fn repeated_sources(&self) -> &[SourcePlan] {
        self.computes.as_ref().map_or(&self.settings.sources, |earlier| &earlier.sources)
    }
}

/// The flow that computes at a place among the job's flows; `None` if an earlier job had none there.
pub(super) fn flow_at<'a>(
    settings: &'a StreamingSettings,
    computes: Option<&'a Earlier>,
    index: usize,
) -> Option<&'a Flow> {
    match computes {
        Some(earlier) => earlier.flows[index].as_ref(),
        None => settings.flows.get(index),
    }
}

/// Outputs whose present query has other keys or aggregates.
fn other_state(settings: &StreamingSettings, job: &EarlierJob) -> impl Iterator<Item = String> {
    let differs = |earlier: &&Flow| {
        let now = settings.flows.iter().find(|flow| flow.output == earlier.output);
        now.is_some_and(|flow| !flow.query.has_state_of(&earlier.query))
    };
    job.flows.iter().filter(differs).map(|flow| flow.output.clone())
}

/// Moves the state into the operator of another query. Objects hold it as they did, where nothing came to it since.
fn turn_to(running: &mut RunningFlow, flow: &Flow) -> Result<(), JobError> {
    let mut operator = flow.query.operator();
    for part in running.operator.parts().iter().filter(|part| part.changed_since_snapshot) {
        running.objects.remove(&part.part);
    }
    running.operator.hand_over(&mut operator)?;
    running.operator = operator;
    Ok(())
}

fn not_repeatable(problem: &str) -> JobError {
    JobError::user(
        Reason::QueryChanged,
        format!("windows are open that an earlier query computed, and it cannot be repeated: {problem}"),
        "set spec.onQueryChange: rebuild, and the present query computes these windows anew from Kafka",
    )
}
