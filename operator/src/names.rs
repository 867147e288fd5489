//! The names by which the operator knows its objects: labels, annotations, ports, folders. A contract with the chart, the
//! dashboards and everybody's `kubectl -l`; pure.

use std::collections::BTreeMap;

pub use data_platform_crds::validate::pod::VOLUME_PREFIX;
use serde::Serialize;
use serde_json::Value;

/// The field manager of everything that the operator applies.
pub const FIELD_MANAGER: &str = "data-platform-operator";
/// Label with the name of the job, on every child and pod.
pub const JOB_LABEL: &str = "dataplatform.io/job";
/// Label with the kind of the job, on every child and pod.
pub const KIND_LABEL: &str = "dataplatform.io/kind";
/// Label with the claim that a pod uses, by which pods of one claim find to each other.
pub const CLAIM_LABEL: &str = "dataplatform.io/claim";
/// Label of the Job, and of its pod, that judges a batch job's SQL before its first run.
pub const CHECK_LABEL: &str = "dataplatform.io/check";
/// Label of the Job of a backfill beside a schedule, and of the pods of a backfill.
pub const BACKFILL_LABEL: &str = "dataplatform.io/backfill";
/// With what the labels and annotations of the operator begin.
pub const LABEL_PREFIX: &str = "dataplatform.io/";
/// Label of a pod with the identity of its Job, from Kubernetes.
pub const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
/// The label that selects what the operator caches.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "data-platform");
/// Annotation of a resource whose change restarts its pods.
pub const RESTARTED_AT: &str = "dataplatform.io/restartedAt";
/// Annotation of a resource: a number above that of the runner that has the job's log, to take it over.
pub const TAKEOVER: &str = "dataplatform.io/takeover";
/// Annotation of a pod template: when a pod was given up that another one had fenced.
pub const GIVEN_UP: &str = "dataplatform.io/given-up";
/// Annotation of a child: hash of what the operator applied.
pub const APPLIED: &str = "dataplatform.io/applied";
/// Annotation of a child: names the generation and restart annotation of the resource that it was made from.
pub const REVISION: &str = "dataplatform.io/revision";
/// Name of the runner's container.
pub const CONTAINER: &str = "runner";
/// Name of the container that looks before it starts.
pub const DOCTOR_CONTAINER: &str = "doctor";
/// Port of the runner's pages.
pub const HTTP_PORT: u16 = 9999;
/// Where the runner's configuration is mounted.
pub const JOB_FOLDER: &str = "/etc/data-platform/job";
/// Key of the ConfigMap and name of the file.
pub const JOB_FILE: &str = "job.json";
/// Key of the ConfigMap with the pod template that was made with it; not mounted.
pub const TEMPLATE_FILE: &str = "template.json";
/// Where Secrets are mounted, each in a folder of its name.
pub const SECRETS_FOLDER: &str = "/etc/data-platform/secrets";
/// Where the Secret with the token of the pages is mounted.
pub const PAGES_FOLDER: &str = "/etc/data-platform/pages";
/// Name of the file with the token.
pub const TOKEN_FILE: &str = "token";
/// Where the claim is mounted.
pub const DATA_FOLDER: &str = "/data";

/// The labels of every child and pod of a job.
pub fn labels(kind: &str, job: &str) -> BTreeMap<String, String> {
    let fixed = [
        ("app.kubernetes.io/name", "data-platform-runner"),
        ("app.kubernetes.io/instance", job),
        (MANAGED_BY.0, MANAGED_BY.1),
        ("app.kubernetes.io/part-of", "data-platform"),
        (JOB_LABEL, job),
        (KIND_LABEL, kind),
    ];
    fixed.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The labels that select the pods of a job.
pub fn selector(kind: &str, job: &str) -> BTreeMap<String, String> {
    labels(kind, job).into_iter().filter(|(name, _)| name == JOB_LABEL || name == KIND_LABEL).collect()
}

/// A short hash for names and annotations, the same on every machine and in every version.
pub fn hash(text: &str) -> String {
    format!("{:016x}", twox_hash::XxHash3_64::oneshot(text.as_bytes()))
}

/// A value as text, the same whatever order its fields came in: an order is not kept by every build of the JSON library.
pub fn canonical(value: &Value) -> String {
    let mut text = Vec::new();
    write_canonical(value, &mut text);
    String::from_utf8(text).expect("JSON is text")
}

fn write_canonical(value: &Value, text: &mut Vec<u8>) {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            text.push(b'{');
            for (i, (name, value)) in sorted.into_iter().enumerate() {
                text.extend(if i > 0 { b",".as_slice() } else { b"" });
                write_leaf(name, text);
                text.push(b':');
                write_canonical(value, text);
            }
            text.push(b'}');
        }
        Value::Array(elements) => {
            text.push(b'[');
            for (i, element) in elements.iter().enumerate() {
                text.extend(if i > 0 { b",".as_slice() } else { b"" });
                write_canonical(element, text);
            }
            text.push(b']');
        }
        leaf => write_leaf(leaf, text),
    }
}

fn write_leaf(leaf: &impl Serialize, text: &mut Vec<u8>) {
    serde_json::to_writer(text, leaf).expect("memory takes every text and number");
}

/// Name of the ConfigMap, or of the one-off Job, of this content. A job's name has at most 52 characters, and a label or
/// the name of a pod's owner at most 63: ten digits fit.
pub fn hashed_name(job: &str, text: &str) -> String {
    format!("{job}-{}", &hash(text)[..10])
}

/// The value of a label: names that are too long for it are replaced by their hash.
pub fn label_value(name: &str) -> String {
    if name.len() <= 63 { name.to_owned() } else { hash(name) }
}

#[cfg(test)]
mod tests {
    use data_platform_crds::validate::pod::is_reserved;

    use super::*;

    #[test]
    fn a_hash_never_changes() {
        // Another value would restart every job of every cluster at the next upgrade.
        assert_eq!(hash("data-platform"), "3c1c0eb20ef3e7bf");
        assert_eq!(hash("").len(), 16);
        assert_eq!(hashed_name("a", "x").len(), 12);
    }

    #[test]
    fn a_canonical_text_does_not_depend_on_the_order_of_fields() {
        let text = r#"{"b":[1,{"d":null,"c":1.5}],"a":{"\"":"ü\n"},"e":{},"f":[]}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(canonical(&value), r#"{"a":{"\"":"ü\n"},"b":[1,{"c":1.5,"d":null}],"e":{},"f":[]}"#);
    }

    #[test]
    fn a_job_may_set_no_label_or_annotation_of_the_operator() {
        let labels = labels("StreamingJob", "a");
        for name in labels.keys().map(String::as_str).chain([
            CLAIM_LABEL,
            CHECK_LABEL,
            RESTARTED_AT,
            TAKEOVER,
            GIVEN_UP,
            APPLIED,
            REVISION,
        ]) {
            assert!(is_reserved(name), "{name}");
        }
    }
}
