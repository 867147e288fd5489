//! [`Allowed`]: what the administrator lets jobs ask for. Pure.
//!
//! Whoever may edit jobs of a namespace gets through them no account, claim or priority that the namespace has for others,
//! and no more of a node than was meant.

use std::collections::BTreeMap;

use data_platform_crds::field_path::FieldPath;
use data_platform_crds::problem::Problem;
use data_platform_crds::resources::ResourcesSpec;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::kind::JobResource;
use data_platform_crds::amount::billionths;

/// Any name.
const ANY: &str = "*";

/// What jobs may ask for beside what the operator gives to all of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allowed {
    /// ServiceAccounts; `*`: any of the namespace.
    pub service_accounts: Vec<String>,
    /// Claims; `*`: any of the namespace.
    pub claims: Vec<String>,
    /// Priority classes; `*`: any of the cluster.
    pub priority_classes: Vec<String>,
    /// The most that a pod may request, and use; by name. A job must limit what is named here.
    pub resources: BTreeMap<String, Quantity>,
}

/// What the operator gives to every job, so that a job may name it, too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// The claim.
    pub claim: Option<&'a String>,
    /// The ServiceAccount.
    pub service_account: Option<&'a String>,
}

impl Allowed {
    /// What a job asks for and may not have.
    pub fn problems<K: JobResource>(&self, job: &K, given: Given<'_>) -> Vec<Problem> {
        let spec = FieldPath::root().field("spec");
        let pod = spec.field("pod");
        let mut problems = Vec::new();
        let mut ask =
            |names: &[String], given: Option<&String>, asked: Option<&String>, what: &Asked, path: FieldPath| {
                let Some(name) = asked.filter(|name| Some(*name) != given) else { return };
                if !names.iter().any(|allowed| allowed == name || allowed == ANY) {
                    let cure = format!("leave it out, or ask for {name} in {} of the chart", what.value);
                    problems.push(Problem::error(path, format!("jobs may not use the {} {name}", what.noun), cure));
                }
            };
        let claim = Asked { noun: "claim", value: "runner.allowed.claims" };
        let storage = job.storage().and_then(|storage| storage.claim_name.as_ref());
        ask(&self.claims, given.claim, storage, &claim, spec.field("storage").field("claimName"));
        if let Some(asked) = job.pod() {
            let account = Asked { noun: "ServiceAccount", value: "runner.allowed.serviceAccounts" };
            let (own, path) = (given.service_account, pod.field("serviceAccountName"));
            ask(&self.service_accounts, own, asked.service_account_name.as_ref(), &account, path);
            let class = Asked { noun: "priority class", value: "runner.allowed.priorityClasses" };
            let path = pod.field("priorityClassName");
            ask(&self.priority_classes, None, asked.priority_class_name.as_ref(), &class, path);
            for (i, volume) in asked.volumes.iter().enumerate() {
                let path = pod.field("volumes").index(i).field("claimName");
                ask(&self.claims, given.claim, volume.claim_name.as_ref(), &claim, path);
            }
            if let Some(resources) = &asked.resources {
                problems.extend(self.too_much(resources, &pod.field("resources")));
            }
        }
        problems
    }

    /// Where a job asks for more of a node than it may.
    fn too_much(&self, resources: &ResourcesSpec, path: &FieldPath) -> Vec<Problem> {
        let resources = ResourceRequirements::from(resources);
        let mut problems = Vec::new();
        for (name, most) in &self.resources {
            let Some(bound) = billionths(&most.0) else { continue };
            for (field, amounts) in [("requests", &resources.requests), ("limits", &resources.limits)] {
                let asked = amounts.as_ref().and_then(|amounts| amounts.get(name));
                let path = path.field(field).field(name);
                match asked {
                    Some(asked) if billionths(&asked.0).is_none_or(|asked| asked > bound) => {
                        let message = format!("{} is more than a job may have", asked.0);
                        problems.push(Problem::error(path, message, format!("write at most {}", most.0)));
                    }
                    None if field == "limits" => {
                        let message = format!("a job must limit its {name} here");
                        problems.push(Problem::error(path, message, format!("write at most {}", most.0)));
                    }
                    _ => {}
                }
            }
        }
        problems
    }
}

/// What is asked for, in words, and the value of the chart that allows it.
struct Asked {
    noun: &'static str,
    value: &'static str,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::streaming_job::tests::job;

    fn quantity(text: &str) -> Quantity {
        Quantity(text.to_owned())
    }

    fn refused(allowed: &Allowed, field: &str, value: Value) -> Vec<String> {
        let mut changed = serde_json::to_value(job()).unwrap();
        changed["spec"][field] = value;
        let job: data_platform_crds::streaming_job::StreamingJob = serde_json::from_value(changed).unwrap();
        let (claim, account) = ("data".to_owned(), "runner".to_owned());
        allowed
            .problems(&job, Given { claim: Some(&claim), service_account: Some(&account) })
            .iter()
            .map(Problem::to_string)
            .collect()
    }

    #[test]
    fn a_job_gets_what_the_operator_gives_and_what_is_allowed_beside() {
        let nothing = Allowed::default();
        let some = Allowed {
            service_accounts: vec!["reader".to_owned()],
            claims: vec!["*".to_owned()],
            priority_classes: vec!["high".to_owned()],
            ..Allowed::default()
        };
        let volume = json!({"volumes": [{"name": "v", "mountPath": "/v", "claimName": "other"}]});
        for (field, value, says) in [
            ("storage", json!({"claimName": "other"}), "spec.storage.claimName: jobs may not use the claim other"),
            ("pod", volume, "spec.pod.volumes[0].claimName: jobs may not use the claim other"),
            ("pod", json!({"serviceAccountName": "reader"}), "the ServiceAccount reader: leave it out, or ask"),
            ("pod", json!({"priorityClassName": "high"}), "runner.allowed.priorityClasses"),
        ] {
            let found = refused(&nothing, field, value.clone());
            assert!(found.len() == 1 && found[0].contains(says), "{value}: {found:?}");
            assert_eq!(refused(&some, field, value), Vec::<String>::new());
        }
        let own =
            json!({"serviceAccountName": "runner", "volumes": [{"name": "v", "mountPath": "/v", "claimName": "data"}]});
        assert_eq!(refused(&nothing, "pod", own), Vec::<String>::new());
        assert_eq!(refused(&some, "pod", json!({"serviceAccountName": "admin"})).len(), 1);
    }

    #[test]
    fn a_job_gets_no_more_of_a_node_than_is_allowed() {
        let most = [("cpu".to_owned(), quantity("2")), ("memory".to_owned(), quantity("4Gi"))];
        let allowed = Allowed { resources: most.into(), ..Allowed::default() };
        let resources = |requests: Value, limits: Value| json!({"resources": {"requests": requests, "limits": limits}});
        for (pod, says) in [
            (resources(json!({"cpu": "2001m"}), json!({"cpu": 2, "memory": "4Gi"})), "requests.cpu: 2001m is more"),
            (resources(json!({}), json!({"cpu": 2, "memory": "4.1Gi"})), "limits.memory: 4.1Gi is more"),
            (resources(json!({}), json!({"cpu": 1_000_000_000, "memory": "1Gi"})), "limits.cpu: 1000000000 is more"),
            (resources(json!({"cpu": 1}), json!({"memory": "1Gi"})), "limits.cpu: a job must limit its cpu here"),
        ] {
            let found = refused(&allowed, "pod", pod.clone());
            assert!(found.len() == 1 && found[0].contains(says), "{pod}: {found:?}");
        }
        assert!(refused(&allowed, "pod", resources(json!({}), json!({"cpu": "2", "memory": "4096Mi"}))).is_empty());
        // A job that sets nothing has what the operator gives.
        assert!(refused(&allowed, "pod", json!({})).is_empty());
    }
}
