//! The settings of the operator: flags, which win over environment variables.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use data_platform_crds::quantity::Period;
use data_platform_crds::resources::StorageSpec;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::allowed::Allowed;
use crate::pod_defaults::PodDefaults;
use data_platform_crds::amount::billionths;

/// Turns StreamingJob and BatchJob resources into Deployments, CronJobs and Jobs of the runner, and tells the truth about them.
#[derive(Clone, Debug, Parser)]
#[command(name = "data-platform-operator", version, max_term_width = 100)]
pub struct Args {
    /// Namespace of the operator, where its Lease lies.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// Name of the operator's pod, its identity in the Lease.
    #[arg(long, env = "POD_NAME", default_value = "data-platform-operator")]
    pub pod_name: String,
    /// Namespaces whose jobs are looked after, with commas between; empty: the operator's own; *: all.
    #[arg(long, env = "WATCH_NAMESPACES", default_value = "", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Image of the runner.
    #[arg(long, env = "RUNNER_IMAGE", default_value = concat!("data-platform-runner:", env!("CARGO_PKG_VERSION")))]
    pub runner_image: String,
    /// Pull policy of that image; empty: Kubernetes' own.
    #[arg(long, env = "RUNNER_IMAGE_PULL_POLICY", default_value = "")]
    pub runner_image_pull_policy: String,
    /// Secrets with credentials for that image's registry, with commas between.
    #[arg(long, env = "RUNNER_IMAGE_PULL_SECRETS", default_value = "", value_delimiter = ',')]
    pub runner_image_pull_secrets: Vec<String>,
    /// Whether an upgrade of the operator restarts running jobs with the new image.
    #[arg(long, env = "RUNNER_ROLLOUT", default_value = "keep", value_enum)]
    pub runner_rollout: Rollout,
    /// ServiceAccount of jobs that name none; it needs no rights. Empty: the namespace's default.
    #[arg(long, env = "RUNNER_SERVICE_ACCOUNT", default_value = "")]
    pub runner_service_account: String,
    /// Resource requirements of jobs that set none, as JSON.
    #[arg(long, env = "RUNNER_RESOURCES", default_value = "{}", value_parser = resources)]
    pub runner_resources: ResourceRequirements,
    /// What the pods of every job have, unless the job says otherwise, as JSON: labels, annotations, nodeSelector,
    /// tolerations, env, topologySpreadConstraints, runtimeClassName, securityContext (runAsUser, runAsGroup, fsGroup; null:
    /// the cluster chooses the ids).
    #[arg(long, env = "RUNNER_POD", default_value = "{}", value_parser = pod_defaults)]
    pub runner_pod: PodDefaults,
    /// Let the runner judge the SQL of batch jobs with a schedule as soon as they are there, in a Job of a few seconds.
    #[arg(long, env = "CHECK_QUERIES", default_value_t = true, action = clap::ArgAction::Set)]
    pub check_queries: bool,
    /// Look at what a job needs before it starts, in a container before the job's, unless the job says otherwise.
    #[arg(long, env = "RUNNER_DOCTOR", default_value_t = false, action = clap::ArgAction::Set)]
    pub runner_doctor: bool,
    /// Further ServiceAccounts that jobs may name, with commas between; *: any of the namespace.
    #[arg(long, env = "ALLOWED_SERVICE_ACCOUNTS", default_value = "", value_delimiter = ',')]
    pub allowed_service_accounts: Vec<String>,
    /// Further PersistentVolumeClaims that jobs may name, with commas between; *: any of the namespace.
    #[arg(long, env = "ALLOWED_CLAIMS", default_value = "", value_delimiter = ',')]
    pub allowed_claims: Vec<String>,
    /// Priority classes that jobs may name, with commas between; *: any.
    #[arg(long, env = "ALLOWED_PRIORITY_CLASSES", default_value = "", value_delimiter = ',')]
    pub allowed_priority_classes: Vec<String>,
    /// The most that a pod may request and use, as JSON, such as {"cpu": "8", "memory": "32Gi"}.
    #[arg(long, env = "ALLOWED_RESOURCES", default_value = "{}", value_parser = amounts)]
    pub allowed_resources: Amounts,
    /// Kafka brokers of streaming jobs that name none, as host:port with commas between.
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS_DEFAULT", default_value = "")]
    pub kafka_bootstrap_servers: String,
    /// PersistentVolumeClaim, in each job's namespace, that holds outputs and checkpoints of jobs without storage.
    #[arg(long, env = "STORAGE_CLAIM", default_value = "")]
    pub storage_claim: String,
    /// URL of the outputs of jobs without storage, instead of the claim.
    #[arg(long, env = "STORAGE_OUTPUTS", default_value = "")]
    pub storage_outputs: String,
    /// URL of the checkpoints of jobs without storage, instead of the claim.
    #[arg(long, env = "STORAGE_CHECKPOINTS", default_value = "")]
    pub storage_checkpoints: String,
    /// Address of the server behind s3:// of jobs that name none, if it is not Amazon's.
    #[arg(long, env = "STORAGE_ENDPOINT", default_value = "")]
    pub storage_endpoint: String,
    /// Region of the buckets behind s3:// of jobs that name none.
    #[arg(long, env = "STORAGE_REGION", default_value = "")]
    pub storage_region: String,
    /// Whether the name of a bucket stands in the path of a request (true) or in its host (false), of jobs that do not say.
    #[arg(long, env = "STORAGE_PATH_STYLE", default_value_t = true, action = clap::ArgAction::Set)]
    pub storage_path_style: bool,
    /// Secret, in each job's namespace, with the credentials of object stores of jobs that name neither Secret nor endpoint.
    #[arg(long, env = "STORAGE_CREDENTIALS_SECRET", default_value = "")]
    pub storage_credentials_secret: String,
    /// Take turns with other operators by a Lease. Without it run one operator only.
    #[arg(long, env = "LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_election: bool,
    /// Name of the Lease.
    #[arg(long, env = "LEASE_NAME", default_value = "data-platform-operator")]
    pub lease_name: String,
    /// After this time without a sign of the leader another one takes over.
    #[arg(long, env = "LEASE_DURATION", default_value = "15s", value_parser = period)]
    pub lease_duration: Duration,
    /// After this time without a renewal the leader stops; shorter than the duration.
    #[arg(long, env = "RENEW_DEADLINE", default_value = "10s", value_parser = period)]
    pub renew_deadline: Duration,
    /// Time between two renewals.
    #[arg(long, env = "RETRY_PERIOD", default_value = "2s", value_parser = period)]
    pub retry_period: Duration,
    /// Address of the page, /status, /livez, /readyz and /metrics.
    #[arg(long = "http", env = "HTTP_ADDRESS", default_value = "0.0.0.0:8080")]
    pub http_address: String,
    /// File with the token that whoever looks at these pages has to know, and with which runners are asked for their
    /// status; /livez and /readyz stay open. Without it the pages are for everybody.
    #[arg(long, env = "HTTP_TOKEN_FILE", value_name = "FILE")]
    pub http_token_file: Option<PathBuf>,
    /// Secret, in each job's namespace, with the token of the pages of jobs. Empty: they are for everybody.
    #[arg(long, env = "RUNNER_HTTP_TOKEN_SECRET", default_value = "")]
    pub runner_http_token_secret: String,
    /// Key of that Secret.
    #[arg(long, env = "RUNNER_HTTP_TOKEN_KEY", default_value = "token")]
    pub runner_http_token_key: String,
    /// Log lines from this level on: error, warn, info, debug or trace.
    #[arg(long, env = "LOG_LEVEL", default_value = "info", ignore_case = true)]
    pub log_level: tracing::Level,
    /// Form of log lines.
    #[arg(long, env = "LOG_FORMAT", default_value = "json", value_enum)]
    pub log_format: LogFormat,
}

/// Whether an upgrade of the operator restarts running jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rollout {
    /// No: a job keeps its pod template until its spec or restart annotation changes.
    Keep,
    /// Yes, a few at a time.
    Auto,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text.
    Text,
}

/// Amounts of resources, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amounts(pub BTreeMap<String, Quantity>);

fn amounts(text: &str) -> Result<Amounts, String> {
    let amounts: BTreeMap<String, Quantity> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match amounts.iter().find(|(_, quantity)| billionths(&quantity.0).is_none()) {
        Some((name, quantity)) => Err(format!("{:?} is no amount of {name}: write one such as 8 or 32Gi", quantity.0)),
        None => Ok(Amounts(amounts)),
    }
}

fn pod_defaults(text: &str) -> Result<PodDefaults, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn resources(text: &str) -> Result<ResourceRequirements, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn period(text: &str) -> Result<Duration, String> {
    text.parse::<Period>().map(Period::as_duration).map_err(|error| error.to_string())
}

/// Which namespaces are looked after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Every one.
    All,
    /// These.
    Some(Vec<String>),
}

impl Args {
    /// Which namespaces are looked after.
    pub fn watched(&self) -> Watched {
        let mut names: Vec<String> = filled(&self.watch_namespaces);
        if names.iter().any(|name| name == "*") {
            return Watched::All;
        }
        if names.is_empty() {
            names.push(self.namespace.clone());
        }
        names.sort();
        names.dedup();
        Watched::Some(names)
    }

    /// What the operator gives to the pods of every job.
    pub fn runner(&self) -> RunnerSettings {
        let set = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        RunnerSettings {
            image: self.runner_image.clone(),
            image_pull_policy: set(&self.runner_image_pull_policy),
            image_pull_secrets: filled(&self.runner_image_pull_secrets),
            rollout: self.runner_rollout,
            service_account: set(&self.runner_service_account),
            resources: self.runner_resources.clone(),
            pod: self.runner_pod.clone(),
            checks: self.check_queries,
            doctor: self.runner_doctor,
            allowed: Allowed {
                service_accounts: filled(&self.allowed_service_accounts),
                claims: filled(&self.allowed_claims),
                priority_classes: filled(&self.allowed_priority_classes),
                resources: self.allowed_resources.0.clone(),
            },
            bootstrap_servers: set(&self.kafka_bootstrap_servers),
            claim: set(&self.storage_claim),
            outputs: set(&self.storage_outputs),
            checkpoints: set(&self.storage_checkpoints),
            stores: StorageSpec {
                endpoint: set(&self.storage_endpoint),
                region: set(&self.storage_region),
                path_style: (!self.storage_path_style).then_some(false),
                credentials_secret: set(&self.storage_credentials_secret),
                ..StorageSpec::default()
            },
            http_token: set(&self.runner_http_token_secret)
                .map(|secret| HttpToken { secret, key: self.runner_http_token_key.clone() }),
        }
    }
}

fn filled(names: &[String]) -> Vec<String> {
    names.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

/// What the operator gives to the pods of every job.
#[derive(Clone, Debug, PartialEq)]
pub struct RunnerSettings {
    /// Image.
    pub image: String,
    /// Pull policy.
    pub image_pull_policy: Option<String>,
    /// Secrets of the image's registry.
    pub image_pull_secrets: Vec<String>,
    /// Whether an upgrade restarts running jobs.
    pub rollout: Rollout,
    /// ServiceAccount of jobs that name none.
    pub service_account: Option<String>,
    /// Resources of jobs that set none.
    pub resources: ResourceRequirements,
    /// What else their pods have.
    pub pod: PodDefaults,
    /// The SQL of batch jobs is judged before their first run.
    pub checks: bool,
    /// What a job needs is looked at before it starts, unless it says otherwise.
    pub doctor: bool,
    /// What jobs may ask for beside what is given here.
    pub allowed: Allowed,
    /// Kafka brokers of streaming jobs that name none.
    pub bootstrap_servers: Option<String>,
    /// Claim of jobs without storage.
    pub claim: Option<String>,
    /// URL of outputs of jobs without storage.
    pub outputs: Option<String>,
    /// URL of checkpoints of jobs without storage.
    pub checkpoints: Option<String>,
    /// How jobs that do not say it reach object stores: endpoint, region, style and Secret.
    pub stores: StorageSpec,
    /// Where the token of their pages is; `None`: they are for everybody.
    pub http_token: Option<HttpToken>,
}

/// The Secret with the token of the pages of jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpToken {
    /// Its name, in each job's namespace.
    pub secret: String,
    /// Its key.
    pub key: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watched_namespaces_are_those_that_were_named() {
        let watched = |text: &str| Args::parse_from(["x", "--namespace", "own", "--watch-namespaces", text]).watched();
        assert_eq!(watched(""), Watched::Some(vec!["own".to_owned()]));
        assert_eq!(watched("b, a,b"), Watched::Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(watched("a,*"), Watched::All);
    }

    #[test]
    fn resources_are_read_as_json() {
        let args = Args::parse_from(["x", "--runner-resources", r#"{"limits": {"memory": "1Gi"}}"#]);
        assert_eq!(args.runner().resources.limits.unwrap()["memory"].0, "1Gi");
        assert!(Args::try_parse_from(["x", "--runner-resources", "1Gi"]).is_err());
    }

    #[test]
    fn what_every_pod_has_is_read_as_json_and_a_word_that_is_unknown_is_named() {
        let of = |text: &str| Args::try_parse_from(["x", "--runner-pod", text]).map(|args| args.runner().pod);
        let pod = of(r#"{"nodeSelector": {"disk": "fast"}, "env": [{"name": "A", "value": "b"}]}"#).unwrap();
        assert_eq!(
            (pod.node_selector["disk"].as_str(), pod.security_context.unwrap().run_as_user),
            ("fast", Some(65532))
        );
        assert_eq!(of(r#"{"securityContext": null}"#).unwrap().security_context, None);
        assert!(of(r#"{"nodeselector": {}}"#).unwrap_err().to_string().contains("nodeselector"));
    }

    #[test]
    fn what_jobs_may_ask_for_is_nothing_unless_it_is_named() {
        let allowed = |more: &[&str]| Args::try_parse_from([&["x"], more].concat()).map(|args| args.runner().allowed);
        assert_eq!(allowed(&[]).unwrap(), Allowed::default());
        let some = allowed(&["--allowed-claims", "a, b", "--allowed-resources", r#"{"memory": "32Gi"}"#]).unwrap();
        assert_eq!(some.claims, ["a", "b"]);
        assert_eq!(some.resources["memory"].0, "32Gi");
        // An amount that cannot be compared would allow everything.
        assert!(allowed(&["--allowed-resources", r#"{"memory": "lots"}"#]).is_err());
    }
}
