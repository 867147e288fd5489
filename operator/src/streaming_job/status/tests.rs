//! Every reason from its facts, and when a status is written.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::kind::JobStatus;
use crate::reconcile::{Write, write};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod() -> PodFacts {
    let metadata =
        serde_json::from_value(json!({"name": "a-1", "uid": "p", "creationTimestamp": "1970-01-01T00:15:00Z"}));
    PodFacts { metadata: metadata.unwrap(), running: true, ready: true, ..PodFacts::default() }
}

fn report(value: Value) -> Heard {
    Heard::Report(Arc::new(serde_json::from_value(value).unwrap()))
}

fn running() -> Heard {
    report(json!({"phase": "running", "ready": true, "reason": "Running"}))
}

fn exit(reason: Reason, second: i64) -> Exit {
    Exit { time: at(second), code: 1, reason, message: "it ended".to_owned(), run: None }
}

/// The verdict over a healthy job that a case changes.
fn of(change: impl FnOnce(&mut PodFacts, &mut Heard, &mut Value)) -> Verdict {
    let (mut pod, mut heard, mut deployment) = (pod(), running(), json!({"status": {}}));
    change(&mut pod, &mut heard, &mut deployment);
    let gone = pod.metadata.name.is_none();
    let pods: Vec<Arc<PodFacts>> = if gone { Vec::new() } else { vec![Arc::new(pod)] };
    verdict(&Facts { refusal: None, off: None, deployment: Some(&deployment), pods: &pods, heard, now: at(1000) })
}

#[test]
fn every_fault_has_its_reason_and_its_conditions() {
    use Standing::{NeedsItsUser, Retried, UnderWay, Works, WorksBut};
    let says = |reason: &'static str, phase: &'static str| {
        move |_: &mut PodFacts, heard: &mut Heard, _: &mut Value| {
            *heard = report(json!({"phase": phase, "reason": reason, "message": "what"}));
        }
    };
    let no_pod = |message: &'static str| {
        move |pod: &mut PodFacts, _: &mut Heard, deployment: &mut Value| {
            pod.metadata.name = None;
            if !message.is_empty() {
                deployment["status"]["conditions"] =
                    json!([{"type": "ReplicaFailure", "status": "True", "message": message}]);
            }
        }
    };
    type Change = Box<dyn FnOnce(&mut PodFacts, &mut Heard, &mut Value)>;
    let cases: Vec<(Change, Reason, Standing)> = vec![
        (Box::new(|_, _, _| {}), Reason::Running, Works),
        (Box::new(no_pod("")), Reason::Starting, UnderWay),
        (Box::new(no_pod("pods \"a\" is forbidden: exceeded quota: q")), Reason::QuotaExceeded, NeedsItsUser),
        (Box::new(no_pod("serviceaccount \"x\" not found")), Reason::PodRefused, NeedsItsUser),
        (
            Box::new(|pod, _, _| pod.trouble = Some((Reason::ImageMissing, "i".to_owned()))),
            Reason::ImageMissing,
            NeedsItsUser,
        ),
        (
            Box::new(|pod, _, _| pod.trouble = Some((Reason::Unschedulable, "i".to_owned()))),
            Reason::Unschedulable,
            Retried,
        ),
        (Box::new(|pod, _, _| pod.trouble = Some((Reason::CrashLoop, "i".to_owned()))), Reason::CrashLoop, Retried),
        (Box::new(|pod, _, _| pod.trouble = Some((Reason::OutOfMemory, "i".to_owned()))), Reason::OutOfMemory, Retried),
        (Box::new(|pod, _, _| pod.trouble = Some((Reason::Evicted, "i".to_owned()))), Reason::Evicted, Retried),
        (Box::new(says("KafkaUnreachable", "retrying")), Reason::KafkaUnreachable, Retried),
        (Box::new(says("AuthenticationFailed", "stalled")), Reason::AuthenticationFailed, NeedsItsUser),
        (Box::new(says("TopicNotFound", "retrying")), Reason::TopicNotFound, Retried),
        (Box::new(says("SecretMissing", "stalled")), Reason::SecretMissing, NeedsItsUser),
        (Box::new(says("StorageDenied", "stalled")), Reason::StorageDenied, NeedsItsUser),
        (Box::new(says("CheckpointOfOtherJob", "stalled")), Reason::CheckpointOfOtherJob, NeedsItsUser),
        (Box::new(says("CheckpointMissing", "stalled")), Reason::CheckpointMissing, NeedsItsUser),
        (Box::new(says("QueryChanged", "stalled")), Reason::QueryChanged, NeedsItsUser),
        (Box::new(says("InvalidSpec", "stalled")), Reason::InvalidSpec, NeedsItsUser),
        (Box::new(says("NewerWord", "stalled")), Reason::InternalError, Retried),
        (Box::new(says("", "starting")), Reason::Starting, UnderWay),
        (
            Box::new(|_, heard, _| {
                *heard = report(
                    json!({"ready": true, "totals": {"sources": {"s": {"read": 9, "dead_letter": {"parse": 9}}}}}),
                );
            }),
            Reason::AllDeadLettered,
            WorksBut,
        ),
        (
            Box::new(|_, heard, _| {
                let partition = json!({"topic": "t", "partition": 1, "end": null, "holdsWatermark": true});
                *heard = report(json!({"ready": true, "partitions": [partition]}));
            }),
            Reason::WatermarkHeld,
            WorksBut,
        ),
        (
            Box::new(|_, heard, _| {
                let partitions = json!([
                    {"topic": "t", "partition": 0, "end": 5, "holdsWatermark": true},
                    {"topic": "t", "partition": 1, "end": null},
                ]);
                *heard = report(json!({"ready": true, "partitions": partitions}));
            }),
            Reason::KafkaUnreachable,
            WorksBut,
        ),
        (
            Box::new(|_, heard, _| {
                *heard = report(json!({"ready": true, "partitions": [{"topic": "t", "partition": 1, "end": null}]}));
            }),
            Reason::Running,
            Works,
        ),
        (Box::new(|_, heard, _| *heard = Heard::Nothing), Reason::StatusUnknown, WorksBut),
        (Box::new(|_, heard, _| *heard = Heard::NotYet), Reason::Running, Works),
        (
            Box::new(|pod, heard, _| {
                (pod.ready, pod.metadata.creation_timestamp) = (false, Some(Time(at(500))));
                *heard = Heard::Nothing;
            }),
            Reason::NotReady,
            Retried,
        ),
        (
            Box::new(|pod, heard, _| {
                pod.ready = false;
                *heard = Heard::NotYet;
            }),
            Reason::Starting,
            UnderWay,
        ),
        (
            Box::new(|pod, heard, _| {
                (pod.ready, pod.last_exit) = (false, Some(exit(Reason::StorageFull, 990)));
                *heard = Heard::NotYet;
            }),
            Reason::StorageFull,
            Retried,
        ),
        (Box::new(|pod, _, _| pod.last_exit = Some(exit(Reason::OutOfMemory, 900))), Reason::OutOfMemory, WorksBut),
        (Box::new(|pod, _, _| pod.last_exit = Some(exit(Reason::OutOfMemory, 300))), Reason::Running, Works),
    ];
    for (i, (change, reason, standing)) in cases.into_iter().enumerate() {
        let verdict = of(change);
        assert_eq!((verdict.reason, verdict.standing), (reason, standing), "case {i}: {verdict:?}");
        assert!(!verdict.message.is_empty(), "case {i}");
    }
}

#[test]
fn what_the_operator_refuses_comes_before_everything_and_off_before_the_pods() {
    let pods = [Arc::new(pod())];
    let facts =
        Facts { refusal: None, off: Some("suspended"), deployment: None, pods: &pods, heard: running(), now: at(0) };
    assert_eq!(verdict(&facts).reason, Reason::Stopping);
    assert_eq!(verdict(&Facts { pods: &[], ..facts.clone() }).reason, Reason::Suspended);
    for reason in [Reason::NameTaken, Reason::StorageMissing, Reason::InvalidSpec, Reason::QueryChanged] {
        let refused = Facts { refusal: Some((reason, "why".to_owned())), ..facts.clone() };
        let verdict = verdict(&refused);
        assert_eq!((verdict.reason, verdict.standing), (reason, Standing::NeedsItsUser));
        let stalled = &verdict.findings()[3];
        assert!(stalled.holds && stalled.reason == reason, "{stalled:?}");
        assert!(!verdict.findings()[0].holds);
    }
}

#[test]
fn a_runner_that_cannot_be_read_never_makes_a_job_unready() {
    let before = verdict_of(running());
    let after = verdict_of(Heard::Nothing);
    assert!(before.findings()[0].holds && after.findings()[0].holds);
    assert_eq!(after.findings()[2].reason, Reason::StatusUnknown);
}

fn verdict_of(heard: Heard) -> Verdict {
    of(|_, old, _| *old = heard)
}

fn status_of(before: &StreamingJobStatus, heard: &Heard, now: i64) -> StreamingJobStatus {
    let pods = [Arc::new(pod())];
    let deployment = json!({"status": {}});
    let facts = Facts {
        refusal: None,
        off: None,
        deployment: Some(&deployment),
        pods: &pods,
        heard: heard.clone(),
        now: at(now),
    };
    status(before, &verdict(&facts), &facts, "a", Some(1))
}

#[test]
fn the_figures_are_those_of_the_runner_and_stay_when_it_falls_silent() {
    let partition = |partition: i32, end: Option<i64>, seconds: Option<i64>| json!({"topic": "t", "partition": partition, "position": 10, "end": end, "lagSeconds": seconds});
    let heard = report(json!({
        "ready": true, "watermark": 60_000_000, "recordsPerSecond": 7, "rowsPerSecond": 2, "lagSeconds": 41,
        "lastCommit": {"version": 3, "clock": 61_500_000},
        "partitions": [
            partition(0, Some(15), Some(41)), partition(1, Some(10), Some(0)), partition(2, Some(30), Some(6)),
            partition(3, None, None),
        ],
        "totals": {"sources": {"s": {"read": 9, "dead_letter": {"parse": 2, "type": 1}}}},
        "errors": [{"clock": 1_000_000, "reason": "KafkaUnreachable", "message": "m", "cure": "c"}],
    }));
    let status = status_of(&StreamingJobStatus::default(), &heard, 100);
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
    let silent = status_of(&status, &Heard::Nothing, 200);
    assert_eq!((silent.lag, silent.watermark), (status.lag, status.watermark));
}

#[test]
fn a_status_that_says_the_same_is_the_same() {
    let heard =
        report(json!({"ready": true, "watermark": 60_000_000, "lastCommit": {"version": 3, "clock": 61_500_000}}));
    let first = status_of(&StreamingJobStatus::default(), &heard, 100);
    assert_eq!(status_of(&first, &heard, 900), first);
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
            let heard = report(json!({
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
                deployment: Some(&deployment),
                pods: &[Arc::new(pod)],
                heard,
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
