//! A pod that another one fenced and that is alone: it would be fenced at each start, since a pod that was superseded does
//! not take its job back (docs/adr/0017). It is given up, and the Deployment makes another one, which comes later and so
//! takes the job over. Pure.
//!
//! It happens when a pod that was evicted wakes up, takes the job from its successor, and dies.

use std::sync::Arc;

use data_platform_crds::condition::Reason;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::names::GIVEN_UP;
use crate::pod::PodFacts;

/// Time between two pods that are given up. A pod that is outranked for another reason is fenced like its predecessor, and a
/// person has to look; meanwhile pods are not made in a row.
const AGAIN_SECONDS: i64 = 600;

/// When a pod of the job was given up: now, or as the Deployment says. `None`: never.
pub(super) fn given_up(deployment: Option<&Value>, pods: &[Arc<PodFacts>], now: Timestamp) -> Option<String> {
    let annotations = &deployment?["spec"]["template"]["metadata"]["annotations"];
    let before = annotations[GIVEN_UP].as_str();
    let is_recent = before
        .and_then(|before| before.parse::<Timestamp>().ok())
        .is_some_and(|before| now.as_second() - before.as_second() < AGAIN_SECONDS);
    match pods {
        [pod] if is_fenced(pod) && !is_recent => {
            Timestamp::from_second(now.as_second()).ok().map(|now| now.to_string())
        }
        // It stays: without it the template would be another one, and the pod would be made anew.
        _ => before.map(str::to_owned),
    }
}

/// Whether a pod was fenced and does not run.
pub(super) fn is_fenced(pod: &PodFacts) -> bool {
    let was_fenced = pod.last_exit.as_ref().is_some_and(|exit| exit.reason == Reason::Fenced);
    was_fenced && !pod.running && !pod.is_leaving()
}

/// The template with a word about it.
pub(super) fn marked(mut template: Value, given_up: Option<&str>) -> Value {
    if let Some(given_up) = given_up {
        template["metadata"]["annotations"][GIVEN_UP] = given_up.into();
    }
    template
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::Exit;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pod(reason: Reason) -> PodFacts {
        let exit = Exit { time: at(5), code: 3, reason, message: String::new(), run: None };
        PodFacts { last_exit: Some(exit), ..PodFacts::default() }
    }

    fn leaving(pod: PodFacts) -> PodFacts {
        let metadata = serde_json::from_value(json!({"deletionTimestamp": "1970-01-01T00:00:09Z"})).unwrap();
        PodFacts { metadata, ..pod }
    }

    #[test]
    fn a_fenced_pod_is_given_up_when_it_is_alone_and_nothing_of_it_runs() {
        let deployment = json!({"spec": {"template": {"metadata": {"annotations": {}}}}});
        let of = |pods: Vec<PodFacts>| {
            let pods: Vec<_> = pods.into_iter().map(Arc::new).collect();
            given_up(Some(&deployment), &pods, at(1_000))
        };
        let fenced = || pod(Reason::Fenced);
        assert_eq!(of(vec![fenced()]).as_deref(), Some("1970-01-01T00:16:40Z"));
        for (what, pods) in [
            ("the one that fenced it may live", vec![fenced(), leaving(pod(Reason::CrashLoop))]),
            ("it goes anyway", vec![leaving(fenced())]),
            ("it has the job again", vec![PodFacts { running: true, ..fenced() }]),
            ("it ended for another reason", vec![pod(Reason::CrashLoop)]),
            ("it never ended", vec![PodFacts::default()]),
            ("there is none", vec![]),
        ] {
            assert_eq!(of(pods), None, "{what}");
        }
        assert_eq!(given_up(None, &[Arc::new(fenced())], at(1_000)), None);
    }

    #[test]
    fn pods_are_not_given_up_in_a_row_and_the_mark_stays() {
        let template = marked(json!({"metadata": {"annotations": {"a": "b"}}}), Some("1970-01-01T00:16:40Z"));
        let deployment = json!({"spec": {"template": template}});
        let of = |pods: &[Arc<PodFacts>], now: i64| given_up(Some(&deployment), pods, at(now)).unwrap();
        let fenced = [Arc::new(pod(Reason::Fenced))];
        assert_eq!(of(&fenced, 1_100), "1970-01-01T00:16:40Z");
        assert_eq!(of(&[], 99_999), "1970-01-01T00:16:40Z");
        assert_eq!(of(&fenced, 1_600), "1970-01-01T00:26:40Z");
        assert_eq!(marked(json!({}), None), json!({}));
    }
}
