//! Whether the pods of a job get a new template, keep the one that they have, or are kept from a change that their state
//! does not allow. Pure. docs/adr/0006 has the reasons.

use data_platform_crds::streaming_job::{StreamingJob, StreamingJobSpec};
use serde_json::{Value, json};

use crate::args::Rollout;
use crate::names::RESTARTED_AT;
use crate::streaming_job::validate::{ValidatedJob, replicas};

/// What the running Deployment was made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// Its revision.
    pub revision: String,
    /// Its ConfigMap.
    pub config_map: String,
    /// The pod template as it was applied, without the name of the ConfigMap.
    pub template: Value,
    /// The job that runs.
    pub job: StreamingJob,
}

/// What a rollout depends on.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What the running Deployment was made from; `None`: there is none, or nobody can say.
    pub made: Option<&'a Made>,
    /// Whether the operator rolls by itself.
    pub mode: Rollout,
    /// Whether another job may be rolled now.
    pub has_turn: bool,
    /// A pod reads and commits with the old template.
    pub is_working: bool,
    /// The change was held back before.
    pub was_held_back: bool,
    /// Windows that the running job has open, if it says so.
    pub open_windows: Option<u64>,
}

/// What happens to the pod template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// It becomes what is built now.
    Roll,
    /// It stays: nothing that a user changes has changed.
    Keep,
    /// It stays, because the state of the old one does not fit the new one.
    HoldBack,
}

/// Decides about the template of a job.
pub fn plan(job: &ValidatedJob, facts: &Facts<'_>) -> Plan {
    let Some(made) = facts.made else { return Plan::Roll };
    if made.revision == job.revision {
        return if facts.mode == Rollout::Auto && facts.has_turn { Plan::Roll } else { Plan::Keep };
    }
    // Nobody works: there is nothing to protect, and the runner itself looks at its state before it begins.
    if replicas(&job.job) == 0 || !(facts.is_working || facts.was_held_back) {
        return Plan::Roll;
    }
    let restarted_before = made.template["metadata"]["annotations"][RESTARTED_AT].as_str();
    let is_ordered = restarted_before != job.restarted_at.as_deref();
    if is_ordered || facts.open_windows == Some(0) || state_of(&made.job.spec) == state_of(&job.job.spec) {
        return Plan::Roll;
    }
    Plan::HoldBack
}

/// What the state of a job depends on, as far as it can be told without a SQL engine: which records are good, and the
/// text of the queries, blanks aside. The runner compares more finely; what it would allow and this does not is brought
/// in by the restart annotation.
fn state_of(spec: &StreamingJobSpec) -> Value {
    let sources: Vec<Value> = spec
        .sources
        .iter()
        .map(|source| {
            let event_time = source.event_time.as_ref().map(|time| &time.column);
            json!([source.name, source.columns, source.format, source.max_record_bytes, source.max_depth, event_time])
        })
        .collect();
    let folded = |query: &str| query.split_whitespace().collect::<Vec<_>>().join(" ");
    let outputs: Vec<Value> = spec.outputs.iter().map(|output| json!([output.name, folded(&output.query)])).collect();
    json!([spec.template, spec.parameters, sources, spec.query.as_deref().map(folded), outputs, spec.deduplicate])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streaming_job::tests::{job, validated};

    fn made() -> Made {
        let validated = validated(&job());
        Made {
            revision: validated.revision.clone(),
            config_map: "a-1".to_owned(),
            template: json!({"metadata": {"annotations": {}}}),
            job: validated.job,
        }
    }

    fn facts(made: &Made) -> Facts<'_> {
        Facts {
            made: Some(made),
            mode: Rollout::Keep,
            has_turn: true,
            is_working: true,
            was_held_back: false,
            open_windows: Some(3),
        }
    }

    fn with_query(query: &str) -> ValidatedJob {
        let mut changed = job();
        changed.spec.query = Some(query.to_owned());
        changed.metadata.generation = Some(2);
        validated(&changed)
    }

    #[test]
    fn an_upgrade_of_the_operator_rolls_only_where_it_is_told_to() {
        let made = made();
        let same = validated(&job());
        assert_eq!(plan(&same, &facts(&made)), Plan::Keep);
        let auto = Facts { mode: Rollout::Auto, ..facts(&made) };
        assert_eq!(plan(&same, &auto), Plan::Roll);
        assert_eq!(plan(&same, &Facts { has_turn: false, ..auto }), Plan::Keep);
        assert_eq!(plan(&same, &Facts { made: None, ..facts(&made) }), Plan::Roll);
    }

    #[test]
    fn a_change_that_the_state_does_not_allow_is_held_back_while_somebody_works() {
        let made = made();
        let other = with_query("SELECT 2 FROM s GROUP BY tumble(t, INTERVAL '1 minute')");
        assert_eq!(plan(&other, &facts(&made)), Plan::HoldBack);
        for (what, facts, expected) in [
            ("no open windows", Facts { open_windows: Some(0), ..facts(&made) }, Plan::Roll),
            ("nobody knows of windows", Facts { open_windows: None, ..facts(&made) }, Plan::HoldBack),
            ("nobody works", Facts { is_working: false, ..facts(&made) }, Plan::Roll),
            (
                "held back, and the pod moves",
                Facts { is_working: false, was_held_back: true, ..facts(&made) },
                Plan::HoldBack,
            ),
        ] {
            assert_eq!(plan(&other, &facts), expected, "{what}");
        }
    }

    #[test]
    fn the_restart_annotation_and_a_suspended_job_let_every_change_in() {
        let made = made();
        let mut restarted = job();
        restarted.spec.query = Some("SELECT 2".to_owned());
        restarted.metadata.annotations = Some([(RESTARTED_AT.to_owned(), "now".to_owned())].into());
        assert_eq!(plan(&validated(&restarted), &facts(&made)), Plan::Roll);
        let mut suspended = job();
        suspended.metadata.generation = Some(2);
        suspended.spec.query = Some("SELECT 2".to_owned());
        suspended.spec.suspend = true;
        assert_eq!(plan(&validated(&suspended), &facts(&made)), Plan::Roll);
    }

    #[test]
    fn what_the_state_does_not_depend_on_rolls() {
        let made = made();
        let mut changed = job();
        changed.metadata.generation = Some(2);
        changed.spec.trigger.interval = data_platform_crds::quantity::Period::from_secs(99);
        changed.spec.query = changed.spec.query.map(|query| query.replace(' ', "\n   "));
        assert_eq!(plan(&validated(&changed), &facts(&made)), Plan::Roll);
    }
}
