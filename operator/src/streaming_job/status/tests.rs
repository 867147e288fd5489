//! Every reason from its facts, and when a status is written.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::kind::JobStatus;
use crate::reconcile::{Write, write};
use crate::reports::Silence;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod() -> PodFacts {
    let metadata =
        serde_json::from_value(json!({"name": "a-1", "uid": "p", "creationTimestamp": "1970-01-01T00:15:00Z"}));
    PodFacts { metadata: metadata.unwrap(), running: true, ready: true, ..PodFacts::default() }
}

fn report(value: Value) -> ReportState {
    ReportState::Fresh(Arc::new(serde_json::from_value(value).unwrap()))
}

fn running() -> ReportState {
    report(json!({"phase": "running", "ready": true, "reason": "Running"}))
}

fn exit(reason: Reason, second: i64) -> Exit {
    Exit { time: at(second), code: 1, reason, message: "it ended".to_owned(), run: None }
}

/// The verdict over a healthy job that a case changes.
fn of(change: impl FnOnce(&mut PodFacts, &mut ReportState, &mut Value)) -> Verdict {
    let (mut pod, mut said, mut deployment) = (pod(), running(), json!({"status": {}}));
    change(&mut pod, &mut said, &mut deployment);
    let gone = pod.metadata.name.is_none();
    let pods: Vec<Arc<PodFacts>> = if gone { Vec::new() } else { vec![Arc::new(pod)] };
    verdict(&Facts {
        refusal: None,
        off: None,
        held_back: None,
        drains: false,
        deployment: Some(&deployment),
        pods: &pods,
        report: said,
        now: at(1000),
    })
}

#[test]
fn every_fault_has_its_reason_and_its_conditions() {
    let says = |reason: &'static str, phase: &'static str| {
        move |_: &mut PodFacts, said: &mut ReportState, _: &mut Value| {
            *said = report(json!({"phase": phase, "reason": reason, "message": "what"}));
        }
    };
    let no_pod = |message: &'static str| {
        move |pod: &mut PodFacts, _: &mut ReportState, deployment: &mut Value| {
            pod.metadata.name = None;
            if !message.is_empty() {
                deployment["status"]["conditions"] =
                    json!([{"type": "ReplicaFailure", "status": "True", "message": message}]);
            }
        }
    };
    type Change = Box<dyn FnOnce(&mut PodFacts, &mut ReportState, &mut Value)>;
    let cases: Vec<(Change, Reason, Health)> = vec![
        (Box::new(|_, _, _| {}), Reason::Running, Health::Healthy),
        (Box::new(no_pod("")), Reason::Starting, Health::Progressing),
        (Box::new(no_pod("pods \"a\" is forbidden: exceeded quota: q")), Reason::QuotaExceeded, Health::Stalled),
        (Box::new(no_pod("serviceaccount \"x\" not found")), Reason::PodRefused, Health::Stalled),
        (
            Box::new(|pod, _, _| pod.trouble = Some((Reason::ImageMissing, "i".to_owned()))),
            Reason::ImageMissing,
            Health::Stalled,
        ),
        (
            Box::new(|pod, _, _| pod.trouble = Some((Reason::Unschedulable, "i".to_owned()))),
            Reason::Unschedulable,
            Health::Retrying,
        ),
        (
            Box::new(|pod, _, _| pod.trouble = Some((Reason::CrashLoop, "i".to_owned()))),
            Reason::CrashLoop,
            Health::Retrying,
        ),
        (
            Box::new(|pod, _, _| pod.trouble = Some((Reason::OutOfMemory, "i".to_owned()))),
            Reason::OutOfMemory,
            Health::Retrying,
        ),
        (
            Box::new(|pod, _, _| pod.trouble = Some((Reason::Evicted, "i".to_owned()))),
            Reason::Evicted,
            Health::Retrying,
        ),
        (Box::new(says("KafkaUnreachable", "retrying")), Reason::KafkaUnreachable, Health::Retrying),
        (Box::new(says("AuthenticationFailed", "stalled")), Reason::AuthenticationFailed, Health::Stalled),
        (Box::new(says("TopicNotFound", "retrying")), Reason::TopicNotFound, Health::Retrying),
        (Box::new(says("SecretMissing", "stalled")), Reason::SecretMissing, Health::Stalled),
        (Box::new(says("StorageDenied", "stalled")), Reason::StorageDenied, Health::Stalled),
        (Box::new(says("CheckpointOfOtherJob", "stalled")), Reason::CheckpointOfOtherJob, Health::Stalled),
        (Box::new(says("CheckpointMissing", "stalled")), Reason::CheckpointMissing, Health::Stalled),
        (Box::new(says("QueryChanged", "stalled")), Reason::QueryChanged, Health::Stalled),
        (Box::new(says("InvalidSpec", "stalled")), Reason::InvalidSpec, Health::Stalled),
        (Box::new(says("NewerWord", "stalled")), Reason::InternalError, Health::Retrying),
        (Box::new(says("", "starting")), Reason::Starting, Health::Progressing),
        (
            Box::new(|_, said, _| {
                *said = report(json!({"ready": true, "noOutput": "AllDeadLettered"}));
            }),
            Reason::AllDeadLettered,
            Health::Degraded,
        ),
        (
            Box::new(|_, said, _| *said = report(json!({"ready": true, "noOutput": "AllFiltered"}))),
            Reason::AllFiltered,
            Health::Degraded,
        ),
        (
            Box::new(|_, said, _| *said = report(json!({"ready": true, "noOutput": "AllLate"}))),
            Reason::AllLate,
            Health::Degraded,
        ),
        (
            Box::new(|_, said, _| *said = report(json!({"ready": true, "noOutput": "AllFuture"}))),
            Reason::AllFuture,
            Health::Degraded,
        ),
        (
            Box::new(|_, said, _| *said = report(json!({"ready": true, "noOutput": "WindowsOpen"}))),
            Reason::Running,
            Health::Healthy,
        ),
        (
            Box::new(|_, said, _| {
                let partition = json!({"topic": "t", "partition": 1, "end": null, "holdsWatermark": true});
                *said = report(json!({"ready": true, "partitions": [partition]}));
            }),
            Reason::WatermarkHeld,
            Health::Degraded,
        ),
        (
            Box::new(|_, said, _| {
                let partitions = json!([
                    {"topic": "t", "partition": 0, "end": 5, "holdsWatermark": true},
                    {"topic": "t", "partition": 1, "end": null},
                ]);
                *said = report(json!({"ready": true, "partitions": partitions}));
            }),
            Reason::KafkaUnreachable,
            Health::Degraded,
        ),
        (
            Box::new(|_, said, _| {
                *said = report(json!({"ready": true, "partitions": [{"topic": "t", "partition": 1, "end": null}]}));
            }),
            Reason::Running,
            Health::Healthy,
        ),
        (
            Box::new(|_, said, _| *said = ReportState::Silent(Silence::NoAnswer)),
            Reason::StatusUnknown,
            Health::Degraded,
        ),
        (Box::new(|_, said, _| *said = ReportState::Unknown), Reason::Running, Health::Healthy),
        (
            Box::new(|pod, said, _| {
                (pod.ready, pod.metadata.creation_timestamp) = (false, Some(Time(at(500))));
                *said = ReportState::Silent(Silence::NoAnswer);
            }),
            Reason::NotReady,
            Health::Retrying,
        ),
        (
            Box::new(|pod, said, _| {
                pod.ready = false;
                *said = ReportState::Unknown;
            }),
            Reason::Starting,
            Health::Progressing,
        ),
        (
            Box::new(|pod, said, _| {
                (pod.ready, pod.last_exit) = (false, Some(exit(Reason::StorageFull, 990)));
                *said = ReportState::Unknown;
            }),
            Reason::StorageFull,
            Health::Retrying,
        ),
        (
            Box::new(|_, said, _| {
                let trouble = json!({"reason": "ReferenceUnusable", "message": "no footer", "cure": "write it anew"});
                *said = report(json!({"ready": true, "references": {"users": {"version": "a", "trouble": trouble}}}));
            }),
            Reason::ReferenceUnusable,
            Health::Degraded,
        ),
        (
            Box::new(|pod, _, _| pod.last_exit = Some(exit(Reason::OutOfMemory, 900))),
            Reason::OutOfMemory,
            Health::Degraded,
        ),
        (Box::new(|pod, _, _| pod.last_exit = Some(exit(Reason::OutOfMemory, 300))), Reason::Running, Health::Healthy),
    ];
    for (i, (change, reason, health)) in cases.into_iter().enumerate() {
        let verdict = of(change);
        assert_eq!((verdict.reason, verdict.health), (reason, health), "case {i}: {verdict:?}");
        assert!(!verdict.message.is_empty(), "case {i}");
    }
}

#[test]
fn what_the_operator_refuses_comes_before_everything_and_off_before_the_pods() {
    let pods = [Arc::new(pod())];
    let facts = Facts {
        refusal: None,
        off: Some("suspended"),
        held_back: None,
        drains: false,
        deployment: None,
        pods: &pods,
        report: running(),
        now: at(0),
    };
    assert_eq!(verdict(&facts).reason, Reason::Stopping);
    assert_eq!(verdict(&Facts { pods: &[], ..facts.clone() }).reason, Reason::Suspended);
    for reason in [Reason::NameTaken, Reason::StorageMissing, Reason::InvalidSpec, Reason::QueryChanged] {
        let refused = Facts { refusal: Some((reason, "why".to_owned())), ..facts.clone() };
        let verdict = verdict(&refused);
        assert_eq!((verdict.reason, verdict.health), (reason, Health::Stalled));
        let stalled = &verdict.findings()[3];
        assert!(stalled.holds && stalled.reason == reason, "{stalled:?}");
        assert!(!verdict.findings()[0].holds);
    }
}

#[test]
fn a_runner_that_cannot_be_read_never_makes_a_job_unready() {
    let before = verdict_of(running());
    let after = verdict_of(ReportState::Silent(Silence::NoAnswer));
    assert!(before.findings()[0].holds && after.findings()[0].holds);
    assert_eq!(after.findings()[2].reason, Reason::StatusUnknown);
    let refused = verdict_of(ReportState::Silent(Silence::Refused));
    assert_eq!((refused.reason, refused.health), (after.reason, after.health));
    assert!(refused.message.contains("token") && refused.hint.contains("Secret"), "{refused:?}");
}

fn verdict_of(said: ReportState) -> Verdict {
    of(|_, old, _| *old = said)
}

fn status_of(before: &StreamingJobStatus, said: &ReportState, now: i64) -> StreamingJobStatus {
    let pods = [Arc::new(pod())];
    let deployment = json!({"status": {}});
    let facts = Facts {
        refusal: None,
        off: None,
        held_back: None,
        drains: false,
        deployment: Some(&deployment),
        pods: &pods,
        report: said.clone(),
        now: at(now),
    };
    status(before, &verdict(&facts), &facts, "a", Some(1))
}

#[test]
fn the_figures_are_those_of_the_runner() {
    let partition = |partition: i32, end: Option<i64>, seconds: Option<i64>| json!({"topic": "t", "partition": partition, "position": 10, "end": end, "lagSeconds": seconds});
    let said = report(json!({
        "ready": true, "watermark": 60_000_000, "recordsPerSecond": 7, "rowsPerSecond": 2, "lagSeconds": 41,
        "lastCommit": {"version": 3, "clock": 61_500_000},
        "partitions": [
            partition(0, Some(15), Some(41)), partition(1, Some(10), Some(0)), partition(2, Some(30), Some(6)),
            partition(3, None, None),
        ],
        "totals": {"sources": {"s": {"read": 9, "dead_letter": {"parse": 2, "type": 1}}}},
        "errors": [{"clock": 1_000_000, "reason": "KafkaUnreachable", "message": "m", "cure": "c"}],
    }));
    let status = status_of(&StreamingJobStatus::default(), &said, 100);
    let lag = status.lag.as_ref().unwrap();
    assert_eq!(lag.total_records, 25);
    assert_eq!(lag.max_seconds, Some(41));
    let worst: Vec<_> =
        lag.worst_partitions.iter().map(|worst| (worst.partition, worst.records, worst.seconds)).collect();
    let expected = [(3, None, None), (2, Some(20), Some(6)), (0, Some(5), Some(41))];
    assert_eq!(worst, expected, "one that does not answer is the worst, one without lag is none");
    let throughput = status.throughput.as_ref().unwrap();
    assert_eq!((throughput.records_in_per_second, throughput.rows_out_per_second), (7, 2));
    assert_eq!(status.last_checkpoint.as_ref().unwrap().time.0, at(61));
    assert_eq!(status.dead_letters.as_ref().unwrap().total_records, 3);
    assert_eq!(status.selector.as_deref(), Some("dataplatform.io/job=a,dataplatform.io/kind=StreamingJob"));
    assert_eq!((status.replicas, status.ready_replicas), (Some(1), Some(1)));
    let silent = status_of(&status, &ReportState::Silent(Silence::NoAnswer), 200);
    assert_eq!((silent.watermark, silent.last_checkpoint), (status.watermark, status.last_checkpoint));
    assert_eq!((silent.lag, silent.throughput), (None, None), "unknown is absent");
}

#[test]
fn a_job_that_does_not_read_has_no_lag_rather_than_none_of_it() {
    let partitions = json!([{"topic": "t", "partition": 0, "position": 1, "end": 9}]);
    let known = report(json!({"ready": true, "partitions": partitions, "lastCommit": {"version": 1, "clock": 1}}));
    let known = status_of(&StreamingJobStatus::default(), &known, 100);
    assert_eq!(known.lag.as_ref().unwrap().total_records, 8);
    for said in [
        report(json!({"phase": "retrying", "reason": "KafkaUnreachable", "partitions": partitions})),
        report(json!({"phase": "stalled", "reason": "InvalidSpec"})),
        ReportState::Unknown,
    ] {
        let status = status_of(&known, &said, 200);
        assert_eq!((status.lag, status.throughput), (None, None));
    }
}

#[test]
fn a_job_says_that_it_commits_once_it_has() {
    let message = |value: Value| verdict_of(report(value)).message;
    assert!(message(json!({"ready": true})).contains("committed nothing yet"));
    assert_eq!(message(json!({"ready": true, "commits": 1})), Reason::Running.meaning());
}

#[test]
fn a_change_that_waits_and_one_that_drains_are_said() {
    let pods = [Arc::new(pod())];
    let deployment = json!({"status": {}});
    let facts = Facts {
        refusal: None,
        held_back: Some(HeldBack::QueryChanged),
        drains: false,
        off: None,
        deployment: Some(&deployment),
        pods: &pods,
        report: running(),
        now: at(0),
    };
    let held = verdict(&facts);
    assert_eq!((held.reason, held.health), (Reason::QueryChanged, Health::Stalled));
    assert!(held.in_full().contains("spec.onQueryChange: rebuild"), "{}", held.in_full());
    let drains = verdict(&Facts { held_back: None, drains: true, ..facts });
    assert_eq!((drains.reason, drains.health), (Reason::Draining, Health::Progressing));
}

#[test]
fn a_status_that_says_the_same_is_the_same() {
    let said =
        report(json!({"ready": true, "watermark": 60_000_000, "lastCommit": {"version": 3, "clock": 61_500_000}}));
    let first = status_of(&StreamingJobStatus::default(), &said, 100);
    assert_eq!(status_of(&first, &said, 900), first);
    let read_back: StreamingJobStatus = serde_json::from_value(serde_json::to_value(&first).unwrap()).unwrap();
    assert_eq!(read_back, first, "what the API server keeps of it is the same, too");
}

#[test]
fn figures_are_written_rarely_and_transitions_at_once() {
    let seconds = Duration::from_secs;
    let before = status_of(&StreamingJobStatus::default(), &running(), 100);
    let counted = StreamingJobStatus { watermark: time(7), ..before.clone() };
    let flipped = status_of(&before, &report(json!({"phase": "stalled", "reason": "QueryFailed"})), 101);
    assert_eq!(write(&before, &before, None), Write::No);
    assert_eq!(write(&before, &counted, None), Write::Now);
    assert_eq!(write(&before, &counted, Some(seconds(5))), Write::Later(seconds(10)));
    assert_eq!(write(&before, &counted, Some(seconds(15))), Write::Now);
    assert_eq!(write(&before, &flipped, Some(seconds(1))), Write::Now);
    assert_eq!(flipped.ready(), Some(("False", "QueryFailed")));
}

#[test]
fn a_status_stays_below_16_kb_whatever_a_runner_says() {
    let long = |text: &str| text.repeat(100_000 / text.len());
    let partitions: Vec<Value> = (0..1_000)
        .map(|i| json!({"topic": long("\\t"), "partition": i32::MAX - i, "position": i64::MIN, "end": i64::MAX, "holdsWatermark": true}))
        .collect();
    let reasons: serde_json::Map<String, Value> =
        (0..1_000).map(|i| (format!("{i}{}", long("r")), u64::MAX.into())).collect();
    for text in ["\"", "\u{1}", "\u{1b}[31m", "ä", "x\n"].map(long) {
        for phase in ["retrying", "stalled", "running"] {
            let said = report(json!({
                "phase": phase, "ready": phase == "running", "reason": "KafkaUnreachable", "message": text,
                "partitions": partitions, "watermark": i64::MAX, "lastCommit": {"version": u64::MAX, "clock": 1},
                "recordsPerSecond": u64::MAX, "rowsPerSecond": u64::MAX, "lagSeconds": i64::MAX,
                "noOutput": text, "noOutputMessage": text,
                "totals": {"sources": {"s": {"read": 1, "dead_letter": reasons}}},
                "errors": [{"clock": 1, "reason": text, "message": text, "cure": text}],
            }));
            let mut pod = pod();
            pod.last_exit = Some(Exit { message: text.clone(), ..exit(Reason::CrashLoop, 1) });
            let deployment =
                json!({"spec": {"template": {"spec": {"containers": [{"image": long("i")}]}}}, "status": {}});
            let facts = Facts {
                refusal: None,
                off: None,
                held_back: None,
                drains: false,
                deployment: Some(&deployment),
                pods: &[Arc::new(pod)],
                report: said,
                now: at(1000),
            };
            let name = "n".repeat(52);
            let status = status(&StreamingJobStatus::default(), &verdict(&facts), &facts, &name, Some(i64::MAX));
            let bytes = serde_json::to_string(&status).unwrap().len();
            assert!((6_000..16_000).contains(&bytes), "{bytes} bytes, {phase}");
            assert!(status.dead_letters.unwrap().by_reason.len() <= 16);
        }
    }
}
