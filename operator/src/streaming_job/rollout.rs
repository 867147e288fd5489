//! Whether the pods of a job get a new template, keep the one that they have, are kept from a change that their state does
//! not allow, or first close their windows. Pure. docs/adr/0011 and 0021 have the reasons.

pub use data_platform_crds::change::HeldBack;
use data_platform_crds::change::QueryChange;

use crate::args::Rollout;
use crate::memory::DeployedRevision;
use crate::streaming_job::validate::{ValidatedJob, replicas};

/// What a rollout depends on.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What the running Deployment was made from; `None`: there is none, or nobody can say.
    pub deployed: Option<&'a DeployedRevision>,
    /// Whether the operator rolls by itself.
    pub mode: Rollout,
    /// Whether another job may be rolled now.
    pub has_turn: bool,
    /// A pod with the old template reads and commits, or tries to.
    pub is_working: bool,
    /// The pod has never run and cannot start: it has nothing to lose.
    pub cannot_start: bool,
    /// The change was held back before.
    pub was_held_back: bool,
    /// The Deployment closes the windows of the old query.
    pub is_draining: bool,
    /// It has closed them.
    pub is_drained: bool,
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
    /// It stays, because the running job would become a stopped one.
    HoldBack(HeldBack),
    /// The old query closes its windows; then the template becomes what is built now.
    Drain,
}

/// Decides about the template of a job.
pub fn plan(job: &ValidatedJob, facts: &Facts<'_>) -> Plan {
    let Some(deployed) = facts.deployed else { return Plan::Roll };
    if deployed.revision == job.revision {
        let has_turn = facts.mode == Rollout::Auto && facts.has_turn;
        return if has_turn || facts.cannot_start { Plan::Roll } else { Plan::Keep };
    }
    // Nobody works: there is nothing to protect, and the runner itself looks at its state before it begins.
    let is_in_use = facts.is_working || facts.was_held_back || facts.is_draining;
    if replicas(&job.job) == 0 || !is_in_use || facts.is_drained {
        return Plan::Roll;
    }
    match QueryChange::of(&deployed.job, &job.job, facts.open_windows) {
        QueryChange::Kept | QueryChange::Rebuilt | QueryChange::NewLog => Plan::Roll,
        QueryChange::Drained => Plan::Drain,
        QueryChange::HeldBack(why) => Plan::HoldBack(why),
    }
}

#[cfg(test)]
mod tests {
    use data_platform_crds::streaming_job::{QueryChangePolicy, StreamingJobSpec};
    use serde_json::json;

    use super::*;
    use crate::names::RESTARTED_AT;
    use crate::streaming_job::tests::{job, validated};

    fn deployed() -> DeployedRevision {
        let validated = validated(&job());
        DeployedRevision {
            revision: validated.revision.clone(),
            config_map: "a-1".to_owned(),
            template: json!({"metadata": {"annotations": {}}}),
            job: validated.job,
        }
    }

    fn facts(deployed: &DeployedRevision) -> Facts<'_> {
        Facts {
            deployed: Some(deployed),
            mode: Rollout::Keep,
            has_turn: true,
            is_working: true,
            cannot_start: false,
            was_held_back: false,
            is_draining: false,
            is_drained: false,
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
        let deployed = deployed();
        let same = validated(&job());
        assert_eq!(plan(&same, &facts(&deployed)), Plan::Keep);
        let auto = Facts { mode: Rollout::Auto, ..facts(&deployed) };
        assert_eq!(plan(&same, &auto), Plan::Roll);
        assert_eq!(plan(&same, &Facts { has_turn: false, ..auto }), Plan::Keep);
        assert_eq!(plan(&same, &Facts { deployed: None, ..facts(&deployed) }), Plan::Roll);
    }

    #[test]
    fn a_change_that_the_state_does_not_allow_is_held_back_while_somebody_works() {
        let deployed = deployed();
        let other = with_query("SELECT 2 FROM s GROUP BY tumble(t, INTERVAL '1 minute')");
        assert_eq!(plan(&other, &facts(&deployed)), Plan::HoldBack(HeldBack::QueryChanged));
        for (what, facts, expected) in [
            ("no open windows", Facts { open_windows: Some(0), ..facts(&deployed) }, Plan::Roll),
            (
                "nobody knows of windows",
                Facts { open_windows: None, ..facts(&deployed) },
                Plan::HoldBack(HeldBack::QueryChanged),
            ),
            ("nobody works", Facts { is_working: false, ..facts(&deployed) }, Plan::Roll),
            (
                "held back, and the pod moves",
                Facts { is_working: false, was_held_back: true, ..facts(&deployed) },
                Plan::HoldBack(HeldBack::QueryChanged),
            ),
        ] {
            assert_eq!(plan(&other, &facts), expected, "{what}");
        }
    }

    #[test]
    fn a_suspended_job_takes_every_change_in_and_the_restart_annotation_none() {
        let deployed = deployed();
        let mut restarted = job();
        restarted.metadata.generation = Some(2);
        restarted.spec.query = Some("SELECT 2 FROM s GROUP BY tumble(t, INTERVAL '1 minute')".to_owned());
        restarted.metadata.annotations = Some([(RESTARTED_AT.to_owned(), "now".to_owned())].into());
        assert_eq!(plan(&validated(&restarted), &facts(&deployed)), Plan::HoldBack(HeldBack::QueryChanged));
        restarted.spec.suspend = true;
        assert_eq!(plan(&validated(&restarted), &facts(&deployed)), Plan::Roll);
    }

    #[test]
    fn the_job_says_what_becomes_of_its_windows() {
        use QueryChangePolicy::{Drain, NewLog, Rebuild, Wait};
        let deployed = deployed();
        let windowed = "SELECT 2 FROM s GROUP BY tumble(t, INTERVAL '1 minute')";
        let of = |policy: QueryChangePolicy, query: &str, checkpoint: Option<&str>, path: &str| {
            let mut changed = job();
            changed.metadata.generation = Some(2);
            (changed.spec.query, changed.spec.on_query_change) = (Some(query.to_owned()), policy);
            changed.spec.checkpoint = checkpoint
                .map(|name| data_platform_crds::streaming_job::CheckpointSpec { name: Some(name.to_owned()) });
            changed.spec.sink.as_mut().unwrap().path = Some(path.to_owned());
            plan(&validated(&changed), &facts(&deployed))
        };
        let held_back = |why| Plan::HoldBack(why);
        for (policy, query, checkpoint, path, expected) in [
            (Wait, windowed, None, "counts", held_back(HeldBack::QueryChanged)),
            (Rebuild, windowed, None, "counts", Plan::Roll),
            (Rebuild, "SELECT t FROM s", None, "counts", held_back(HeldBack::NothingToRebuild)),
            (Drain, windowed, None, "counts", Plan::Drain),
            (Drain, "SELECT t FROM s", None, "counts", Plan::Drain),
            (NewLog, windowed, None, "counts", held_back(HeldBack::NewLogWithoutName)),
            (NewLog, windowed, Some("b"), "counts", Plan::Roll),
            (Wait, windowed, Some("b"), "counts", held_back(HeldBack::CheckpointRenamed)),
            (Rebuild, windowed, Some("b"), "counts", held_back(HeldBack::CheckpointRenamed)),
            (Wait, windowed, Some("b"), "other", Plan::Roll),
            (Wait, windowed, Some("a"), "other", held_back(HeldBack::QueryChanged)),
        ] {
            assert_eq!(of(policy, query, checkpoint, path), expected, "{policy:?} {query} {checkpoint:?} {path}");
        }
        let drains = with_query(windowed);
        let drained = Facts { is_working: false, is_draining: true, is_drained: true, ..facts(&deployed) };
        assert_eq!(plan(&drains, &drained), Plan::Roll);
    }

    #[test]
    fn a_pod_that_never_ran_gets_the_template_that_is_right_now() {
        let deployed = deployed();
        let cannot = Facts { cannot_start: true, is_working: false, ..facts(&deployed) };
        assert_eq!(plan(&validated(&job()), &cannot), Plan::Roll);
    }

    #[test]
    fn what_the_state_does_not_depend_on_rolls() {
        let deployed = deployed();
        let rolls = |change: &dyn Fn(&mut StreamingJobSpec)| {
            let mut changed = job();
            changed.metadata.generation = Some(2);
            change(&mut changed.spec);
            plan(&validated(&changed), &facts(&deployed))
        };
        let where_ = |query: &str| query.replace(" GROUP BY", " WHERE t IS NOT NULL GROUP BY");
        assert_eq!(
            rolls(&|spec| spec.trigger.interval = data_platform_crds::quantity::Period::from_secs(99)),
            Plan::Roll
        );
        assert_eq!(
            rolls(&|spec| spec.query = spec.query.as_ref().map(|query| query.replace(", ", ",\n   "))),
            Plan::Roll
        );
        assert_eq!(
            rolls(&|spec| spec.query = spec.query.as_ref().map(|query| query.replace("AS n", "AS m"))),
            Plan::Roll
        );
        assert_eq!(rolls(&|spec| spec.query = spec.query.as_deref().map(where_)), Plan::Roll);
        assert_eq!(rolls(&|spec| spec.sources[0].columns[0].description = Some("when".to_owned())), Plan::Roll);
        let parameter = |spec: &mut StreamingJobSpec| {
            spec.parameters = [("size".to_owned(), "1 minute".to_owned())].into();
            spec.query = spec.query.as_ref().map(|query| query.replace("1 minute", "${size}"));
        };
        assert_eq!(rolls(&parameter), Plan::Roll);
    }

    #[test]
    fn keys_that_change_are_told_from_a_query_that_does() {
        let deployed = deployed();
        let mut changed = job();
        changed.metadata.generation = Some(2);
        let keys = json!({"keys": ["t"], "within": "1m"});
        changed.spec.deduplicate = Some(serde_json::from_value(keys).unwrap());
        assert_eq!(plan(&validated(&changed), &facts(&deployed)), Plan::HoldBack(HeldBack::KeysChanged));
        changed.spec.query = Some("SELECT 2 FROM s GROUP BY tumble(t, INTERVAL '1 minute')".to_owned());
        assert_eq!(plan(&validated(&changed), &facts(&deployed)), Plan::HoldBack(HeldBack::QueryChanged));
    }
}
