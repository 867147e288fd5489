//! [`PodFacts`]: what the operator needs to know of a pod of a job, and the reason why it does not run.
//!
//! Pure. The words are the kubelet's and the scheduler's.

use std::borrow::Cow;

use data_platform_crds::condition::{Reason, shortened};
use data_platform_crds::termination::Termination;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::cache::Cached;
use crate::names::{CONTAINER, CONTROLLER_UID, DOCTOR_CONTAINER, LABEL_PREFIX};
use crate::observed::{Observed, resource_version};

/// Longest text of what a runner said when it ended, in bytes of JSON: the message of a condition has room for it and for the
/// hint of its reason, so that what the runner said to do is not cut off there.
const SAID_BYTES_MAX: usize = 1536;

/// How long a pod may take to start on its node before that is odd: a large image comes within it, a volume that is attached
/// elsewhere never does.
const SILENT_SECONDS: i64 = 60;

/// What is known of a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodFacts {
    /// Name, labels, uid, times.
    pub metadata: ObjectMeta,
    /// Its address, once it has one.
    pub ip: Option<String>,
    /// The kubelet finds it ready.
    pub ready: bool,
    /// Its container runs.
    pub running: bool,
    /// How often its container was started again.
    pub restarts: i32,
    /// Image of the container.
    pub image: Option<String>,
    /// Its container ran at least once.
    pub ever_ran: bool,
    /// When it got its node.
    pub placed: Option<Timestamp>,
    /// What keeps it from running, if something does.
    pub trouble: Option<(Reason, String)>,
    /// How its container ended the last time that it did.
    pub last_exit: Option<Exit>,
}

/// How a runner ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    /// When.
    pub time: Timestamp,
    /// Exit code.
    pub code: i32,
    /// Why: the runner's own word, or the kubelet's.
    pub reason: Reason,
    /// What happened.
    pub message: String,
    /// What the runner said of a run.
    pub run: Option<Termination>,
}

/// What is read of a pod.
#[derive(Deserialize)]
struct Read {
    spec: Option<ReadSpec>,
    status: Option<PodStatus>,
}

#[derive(Deserialize)]
struct ReadSpec {
    containers: Vec<ReadContainer>,
}

#[derive(Deserialize)]
struct ReadContainer {
    image: Option<String>,
}

impl Cached for PodFacts {
    fn metadata(&self) -> Cow<'_, ObjectMeta> {
        Cow::Borrowed(&self.metadata)
    }

    fn version(&self) -> u64 {
        resource_version(&self.metadata)
    }

    fn says_the_same_as(&self, other: &Self) -> bool {
        let resource_version = self.metadata.resource_version.clone();
        let other = Self { metadata: ObjectMeta { resource_version, ..other.metadata.clone() }, ..other.clone() };
        *self == other
    }
}

impl PodFacts {
    /// What is known of a pod. One that does not fit its type is as good as one that says nothing.
    pub fn of(observed: &Observed<Pod>) -> Self {
        let mut facts = Self { metadata: trimmed(&observed.metadata), ..Self::default() };
        let Ok(pod) = observed.read::<Read>() else { return facts };
        facts.image = pod.spec.and_then(|spec| spec.containers.into_iter().next()?.image);
        let Some(status) = pod.status else { return facts };
        facts.ip = status.pod_ip.clone().filter(|ip| !ip.is_empty());
        let conditions = status.conditions.unwrap_or_default();
        facts.ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let containers = status.container_statuses.unwrap_or_default();
        let container = containers.iter().find(|container| container.name == CONTAINER);
        let first = status.init_container_statuses.unwrap_or_default();
        let doctor = first.iter().find(|container| container.name == DOCTOR_CONTAINER);
        let refused = doctor.and_then(ended).map(Exit::of).filter(|exit| exit.code != 0);
        if let Some(container) = container {
            facts.restarts = container.restart_count;
            facts.running = container.state.as_ref().is_some_and(|state| state.running.is_some());
            facts.last_exit = ended(container).map(Exit::of).or(refused);
            facts.ever_ran = facts.running || facts.restarts > 0 || facts.last_exit.is_some();
        }
        let placed =
            conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "True");
        facts.placed = placed.and_then(|condition| Some(condition.last_transition_time.as_ref()?.0));
        let unscheduled = conditions.iter().find(|condition| {
            condition.type_ == "PodScheduled"
                && condition.status == "False"
                && condition.reason.as_deref() == Some("Unschedulable")
        });
        facts.trouble = if let Some(condition) = unscheduled {
            Some((Reason::Unschedulable, condition.message.clone().unwrap_or_default()))
        } else if status.reason.as_deref() == Some("Evicted") {
            Some((Reason::Evicted, status.message.unwrap_or_default()))
        } else {
            let exit = facts.last_exit.as_ref();
            container.into_iter().chain(doctor).find_map(|container| waiting(container, exit))
        };
        facts
    }

    /// When somebody should ask the events why it does not start: it has a node, and says nothing.
    pub fn odd_from(&self) -> Option<Timestamp> {
        let is_silent = self.trouble.is_none() && !self.ever_ran && !self.is_leaving();
        self.placed.filter(|_| is_silent).map(|placed| placed + SignedDuration::from_secs(SILENT_SECONDS))
    }

    /// Whether it is on its way out.
    pub fn is_leaving(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Names one life of its container.
    pub fn life(&self) -> String {
        format!("{}/{}", self.metadata.uid.as_deref().unwrap_or_default(), self.restarts)
    }

    /// When it was created.
    pub fn created(&self) -> Option<Timestamp> {
        self.metadata.creation_timestamp.as_ref().map(|time| time.0)
    }
}

/// Names, times and the labels by which a pod is found; nobody here reads the rest.
fn trimmed(metadata: &ObjectMeta) -> ObjectMeta {
    let labels = metadata.labels.iter().flatten();
    let labels = labels.filter(|(name, _)| *name == CONTROLLER_UID || name.starts_with(LABEL_PREFIX));
    ObjectMeta {
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        creation_timestamp: metadata.creation_timestamp.clone(),
        deletion_timestamp: metadata.deletion_timestamp.clone(),
        labels: Some(labels.map(|(name, value)| (name.clone(), value.clone())).collect()),
        ..ObjectMeta::default()
    }
}

/// How the container ended: now, or before it was started again.
fn ended(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let now = container.state.as_ref().and_then(|state| state.terminated.as_ref());
    now.or_else(|| container.last_state.as_ref()?.terminated.as_ref())
}

/// Why a container waits.
fn waiting(container: &ContainerStatus, exit: Option<&Exit>) -> Option<(Reason, String)> {
    let state = container.state.as_ref()?;
    if state.terminated.is_some() {
        return exit.filter(|exit| exit.code != 0).map(|exit| (exit.reason, exit.message.clone()));
    }
    let waiting = state.waiting.as_ref()?;
    let message = waiting.message.clone().unwrap_or_default();
    match waiting.reason.as_deref().unwrap_or_default() {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable" => Some((Reason::ImageMissing, format!("{}: {message}", container.image))),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            let reason = if message.contains("secret") { Reason::SecretMissing } else { Reason::ContainerFailed };
            Some((reason, message))
        }
        "CrashLoopBackOff" => {
            Some(exit.map_or((Reason::CrashLoop, message), |exit| (exit.reason, exit.message.clone())))
        }
        _ => None,
    }
}

impl Exit {
    fn of(terminated: &ContainerStateTerminated) -> Self {
        let time = terminated.finished_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let text = terminated.message.as_deref().unwrap_or_default();
        let said = Termination::read(text);
        let code = terminated.exit_code;
        let (reason, message) = match (&said, terminated.reason.as_deref()) {
            // After a kill by the kernel a termination message, if there is one, belongs to an earlier container.
            (_, Some("OOMKilled")) => {
                (Reason::OutOfMemory, format!("{} (exit code {code})", Reason::OutOfMemory.meaning()))
            }
            (Some(said), _) => match Reason::from_name(&said.reason) {
                Some(reason) => (reason, shortened(&said.message, SAID_BYTES_MAX)),
                None => (Reason::CrashLoop, format!("{}: {}", said.reason, shortened(&said.message, SAID_BYTES_MAX))),
            },
            (None, word) => (Reason::CrashLoop, without_last_message(code, word, text)),
        };
        Self { time, code, reason, message, run: said }
    }
}

/// What a runner that left no last message ended with: a signal, and its last words in the log, which are JSON lines.
fn without_last_message(code: i32, word: Option<&str>, log: &str) -> String {
    let how = match code {
        137 => "it was killed (exit code 137)".to_owned(),
        143 => "it was told to stop and did not in time (exit code 143)".to_owned(),
        code => format!("exit code {code}, {}", word.unwrap_or("it ended")),
    };
    let spoken: Vec<String> = log.lines().filter_map(spoken).collect();
    // What the kubelet keeps begins somewhere: the last line is the one that counts.
    match spoken.last() {
        Some(last) => format!("{how}; its last words: {last}"),
        None => how,
    }
}

/// What a line of a log says, for people; `None`: nothing, such as a line whose beginning is cut off.
fn spoken(line: &str) -> Option<String> {
    let line = line.trim();
    if !line.starts_with('{') {
        let is_rest = line.ends_with('}') && line.contains("\":");
        return (!line.is_empty() && !is_rest).then(|| line.to_owned());
    }
    let line: Value = serde_json::from_str(line).ok()?;
    let text = |field: &str| line[field].as_str().or_else(|| line["fields"][field].as_str());
    let message = text("message")?;
    Some(text("error").map_or_else(|| message.to_owned(), |error| format!("{message}: {error}")))
}

/// The pod that speaks for a job: one that is not leaving before one that is, the newest among equals.
pub fn current<'a>(pods: impl IntoIterator<Item = &'a PodFacts>) -> Option<&'a PodFacts> {
    pods.into_iter().max_by_key(|pod| (!pod.is_leaving(), pod.created(), pod.metadata.uid.clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn facts(status: Value) -> PodFacts {
        let pod = json!({"metadata": {"name": "a-1"}, "spec": {"containers": [{"name": "runner", "image": "i"}]}, "status": status});
        PodFacts::of(&serde_json::from_value(pod).unwrap())
    }

    fn container(state: Value, last: Value) -> PodFacts {
        facts(json!({"containerStatuses": [{
            "name": "runner", "image": "i", "imageID": "", "ready": false, "restartCount": 3, "state": state, "lastState": last,
        }]}))
    }

    fn terminated(code: i32, reason: &str, message: &str) -> Value {
        json!({"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": "2026-01-01T00:00:00Z"}})
    }

    #[test]
    fn every_fault_of_a_pod_has_its_reason() {
        let waits = |reason: &str, message: &str| json!({"waiting": {"reason": reason, "message": message}});
        for (state, last, expected) in [
            (waits("ErrImagePull", "not found"), json!({}), Some(Reason::ImageMissing)),
            (waits("ImagePullBackOff", ""), json!({}), Some(Reason::ImageMissing)),
            (waits("InvalidImageName", ""), json!({}), Some(Reason::ImageMissing)),
            (waits("ErrImageNeverPull", ""), json!({}), Some(Reason::ImageMissing)),
            (waits("CreateContainerConfigError", "secret \"s\" not found"), json!({}), Some(Reason::SecretMissing)),
            (
                waits("CreateContainerConfigError", "configmap \"c\" not found"),
                json!({}),
                Some(Reason::ContainerFailed),
            ),
            (waits("ContainerCreating", ""), json!({}), None),
            (waits("CrashLoopBackOff", ""), terminated(1, "Error", "boom"), Some(Reason::CrashLoop)),
            (waits("CrashLoopBackOff", ""), terminated(137, "OOMKilled", ""), Some(Reason::OutOfMemory)),
            (
                waits("CrashLoopBackOff", ""),
                terminated(1, "Error", r#"{"reason": "StorageFull", "message": "no space"}"#),
                Some(Reason::StorageFull),
            ),
            (terminated(137, "OOMKilled", ""), json!({}), Some(Reason::OutOfMemory)),
            (terminated(0, "Completed", ""), json!({}), None),
            (json!({"running": {}}), terminated(1, "Error", ""), None),
        ] {
            let found = container(state.clone(), last).trouble.map(|(reason, _)| reason);
            assert_eq!(found, expected, "{state}");
        }
    }

    #[test]
    fn a_job_that_the_doctor_does_not_let_start_has_the_reasons_that_it_found() {
        let of = |doctor: Value, last: Value, runner: Value| {
            let status = |name: &str, state: &Value, last: &Value| json!({"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state, "lastState": last});
            facts(json!({
                "initContainerStatuses": [status("doctor", &doctor, &last)],
                "containerStatuses": [status("runner", &runner, &json!({}))],
            }))
        };
        let waits = json!({"waiting": {"reason": "PodInitializing"}});
        let said = terminated(2, "Error", r#"{"reason": "NotAuthorized", "message": "topic t: no right"}"#);
        let found = Some((Reason::NotAuthorized, "topic t: no right".to_owned()));
        // It is tried again, and meanwhile the reason stands.
        assert_eq!(of(json!({"waiting": {"reason": "CrashLoopBackOff"}}), said.clone(), waits.clone()).trouble, found);
        let ended = of(said.clone(), json!({}), waits.clone());
        assert_eq!((ended.trouble, ended.last_exit.unwrap().code), (found, 2));
        let missing = json!({"waiting": {"reason": "ErrImagePull", "message": "not found"}});
        assert_eq!(of(missing, json!({}), waits).trouble.unwrap().0, Reason::ImageMissing);
        // It found nothing this time.
        let well = of(terminated(0, "Completed", ""), said, json!({"running": {}}));
        assert_eq!((well.trouble, well.last_exit, well.running), (None, None, true));
    }

    #[test]
    fn a_runner_that_was_killed_leaves_words_and_no_json() {
        let log = "rds\":5}\n{\"timestamp\":\"t\",\"level\":\"INFO\",\"message\":\"starting\",\"span\":{}}\n\
                   {\"level\":\"ERROR\",\"message\":\"a store failed\",\"error\":\"no disk\"}\n{\"level\":\"IN";
        let message =
            |code, text: &str| container(terminated(code, "Error", text), json!({})).last_exit.unwrap().message;
        assert_eq!(message(137, log), "it was killed (exit code 137); its last words: a store failed: no disk");
        assert_eq!(message(139, ""), "exit code 139, Error");
        assert_eq!(message(1, "thread 'main' panicked"), "exit code 1, Error; its last words: thread 'main' panicked");
        assert_eq!(message(137, "tail of\":\"json\"}"), "it was killed (exit code 137)");
    }

    #[test]
    fn what_a_runner_said_to_do_reaches_the_condition_however_long_its_message_is() {
        let said = data_platform_crds::termination::Termination {
            reason: "StorageDenied".to_owned(),
            message: "\"ü".repeat(4_000),
            ..Default::default()
        };
        let message = said.text("let the user 65532 write there");
        let pod = container(json!({"waiting": {"reason": "CrashLoopBackOff"}}), terminated(2, "Error", &message));
        let (reason, message) = pod.trouble.unwrap();
        let verdict = crate::verdict::Verdict::new(reason, format!("{message}; it is tried again"));
        let conditions =
            data_platform_crds::condition::conditions(&[], &verdict.findings(), None, Timestamp::UNIX_EPOCH);
        assert!(conditions[0].message.contains("let the user 65532 write there"), "{}", conditions[0].message);
        assert!(conditions[0].message.ends_with(reason.hint()), "{}", conditions[0].message);
    }

    #[test]
    fn a_pod_without_a_node_says_what_the_scheduler_said() {
        let condition =
            json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"});
        assert_eq!(
            facts(json!({"conditions": [condition]})).trouble,
            Some((Reason::Unschedulable, "0/1 nodes".to_owned()))
        );
        assert_eq!(facts(json!({"reason": "Evicted", "message": "disk"})).trouble.unwrap().0, Reason::Evicted);
    }

    #[test]
    fn a_pod_that_has_a_node_and_does_not_start_is_asked_about_after_a_while() {
        let placed = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let with = |state: Value| {
            facts(json!({"conditions": [placed], "containerStatuses": [{
                "name": "runner", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state,
            }]}))
        };
        let silent = with(json!({"waiting": {"reason": "ContainerCreating"}}));
        assert_eq!(silent.odd_from().unwrap().to_string(), "2026-01-01T00:01:00Z");
        assert_eq!(with(json!({"waiting": {"reason": "ErrImagePull"}})).odd_from(), None);
        assert_eq!(with(json!({"running": {}})).odd_from(), None);
        assert_eq!(facts(json!({})).odd_from(), None);
    }

    #[test]
    fn a_pod_that_nobody_can_read_is_one_that_says_nothing() {
        assert_eq!(facts(json!({"conditions": 7})).trouble, None);
    }

    #[test]
    fn the_newest_pod_that_stays_speaks_for_the_job() {
        let pod = |uid: &str, created: i64, leaving: bool| {
            let time = |second| {
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::from_second(second).unwrap()))
            };
            let metadata = ObjectMeta {
                uid: Some(uid.to_owned()),
                creation_timestamp: time(created),
                deletion_timestamp: leaving.then(|| time(99)).flatten(),
                ..ObjectMeta::default()
            };
            PodFacts { metadata, ..PodFacts::default() }
        };
        let pods = [pod("a", 1, false), pod("b", 2, false), pod("c", 3, true)];
        assert_eq!(current(&pods).unwrap().metadata.uid.as_deref(), Some("b"));
        assert_eq!(current(&pods[2..]).unwrap().metadata.uid.as_deref(), Some("c"));
        assert_eq!(current(&[]), None);
    }
}
