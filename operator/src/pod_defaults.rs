//! [`PodDefaults`]: what the administrator gives to the pods of every job. What a job says itself wins. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Toleration, TopologySpreadConstraint};
use serde::Deserialize;
use serde_json::Value;

/// The user of the images.
const USER: i64 = 65532;

/// What the pods of every job have, unless the job says otherwise.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodDefaults {
    /// Labels; a job's own of the same name wins.
    pub labels: BTreeMap<String, String>,
    /// Annotations; a job's own of the same name wins.
    pub annotations: BTreeMap<String, String>,
    /// Labels of the node, of jobs that name none.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated, beside those of the job.
    pub tolerations: Vec<Toleration>,
    /// Variables; a job's own of the same name wins.
    pub env: Vec<Value>,
    /// How the pods of all jobs spread.
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Runtime of the container, such as one that isolates it from the node's kernel.
    pub runtime_class_name: Option<String>,
    /// Numeric user and groups; `None`: the cluster chooses them, as OpenShift does.
    pub security_context: Option<Ids>,
}

/// Numeric user and groups of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ids {
    /// User.
    pub run_as_user: Option<i64>,
    /// Group.
    pub run_as_group: Option<i64>,
    /// Group of what is written to volumes.
    pub fs_group: Option<i64>,
}

impl Default for PodDefaults {
    fn default() -> Self {
        Self {
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            env: Vec::new(),
            topology_spread_constraints: Vec::new(),
            runtime_class_name: None,
            security_context: Some(Ids { run_as_user: Some(USER), run_as_group: Some(USER), fs_group: Some(USER) }),
        }
    }
}
