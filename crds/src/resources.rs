//! Pod and storage settings that every kind shares: a short list, no raw pod template, no namespace in any reference.

use std::collections::BTreeMap;

use std::fmt;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::amount::billionths;
use crate::kafka::SecretKeyRef;
use crate::pattern;
use crate::quantity::ByteSize;

/// Settings of the pods that run the job. Image and command are not among them: the operator sets those.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "!has(self.labels) || self.labels.all(k, !(k.startsWith('dataplatform.io/') || k in ['app.kubernetes.io/name', \
         'app.kubernetes.io/instance', 'app.kubernetes.io/managed-by', 'app.kubernetes.io/part-of', 'controller-uid', \
         'job-name', 'pod-template-hash']))"
    )
        .message("labels of the operator and of controllers are among these: leave them out, or choose other names")
        .field_path(".labels"),
    validation = Rule::new("!has(self.annotations) || self.annotations.all(k, !k.startsWith('dataplatform.io/'))")
        .message("annotations of the operator are among these: leave dataplatform.io/ out")
        .field_path(".annotations")
)]
pub struct PodSpec {
    /// CPU and memory of the container, as in a Pod. The runner divides the memory limit over its queues and state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesSpec>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 63}))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that the pods tolerate, as in a Pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<TolerationSpec>,
    /// Rules of placement, as in a Pod. Kept as it comes and checked when the pod is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "preserved_object")]
    pub affinity: Option<Affinity>,
    /// Further labels of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 63}))]
    pub labels: BTreeMap<String, String>,
    /// Further annotations of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 4096}))]
    pub annotations: BTreeMap<String, String>,
    /// Environment variables, such as region and credentials of an object store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub env: Vec<EnvSpec>,
    /// Further volumes, of few kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub volumes: Vec<VolumeSpec>,
    /// ServiceAccount of the pods; it needs no rights in Kubernetes. Default: the chart's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), pattern(pattern::DNS_SUBDOMAIN))]
    pub service_account_name: Option<String>,
    /// Priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), pattern(pattern::DNS_SUBDOMAIN))]
    pub priority_class_name: Option<String>,
    /// Look at brokers, topics, rights, stores, tables, disks and memory before the job starts, as `data-platform doctor` does, in a
    /// container before the job's: it starts when nothing fails. Default: the chart's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doctor: Option<bool>,
}

/// CPU and memory, as in a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.requests) || self.requests.all(k, k in ['cpu', 'memory', 'ephemeral-storage'])")
        .message("the runner has no use for other resources: use cpu, memory and ephemeral-storage")
        .field_path(".requests"),
    validation = Rule::new("!has(self.limits) || self.limits.all(k, k in ['cpu', 'memory', 'ephemeral-storage'])")
        .message("the runner has no use for other resources: use cpu, memory and ephemeral-storage")
        .field_path(".limits")
)]
pub struct ResourcesSpec {
    /// What a node must have free, such as `{cpu: 500m, memory: 256Mi}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: BTreeMap<String, Amount>,
    /// What the container may use at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: BTreeMap<String, Amount>,
}

impl From<&ResourcesSpec> for ResourceRequirements {
    fn from(resources: &ResourcesSpec) -> Self {
        let quantities = |amounts: &BTreeMap<String, Amount>| {
            let quantities = amounts.iter().map(|(name, amount)| (name.clone(), Quantity(amount.0.clone())));
            (!amounts.is_empty()).then(|| quantities.collect())
        };
        Self { requests: quantities(&resources.requests), limits: quantities(&resources.limits), claims: None }
    }
}

/// A quantity of Kubernetes: `500m`, `1Gi`, or a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Amount(String);

impl Amount {
    /// As a whole number of bytes; `None` if it is none that Kubernetes knows.
    pub fn bytes(&self) -> Option<u64> {
        billionths(&self.0).and_then(|amount| u64::try_from(amount / 1_000_000_000).ok())
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AmountVisitor;
        impl Visitor<'_> for AmountVisitor {
            type Value = Amount;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 500m or 1Gi, or a number")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Amount, E> {
                Ok(Amount(text.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Amount, E> {
                Ok(Amount(number.to_string()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Amount, E> {
                Ok(Amount(number.to_string()))
            }
        }
        deserializer.deserialize_any(AmountVisitor)
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Amount".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": true,
            "pattern": pattern::KUBERNETES_QUANTITY,
        })
    }
}

/// A taint that the pods tolerate, as in a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.key) || self.operator == 'Exists'")
        .message("without key every taint is meant: set key, or operator: Exists"),
    validation = Rule::new("!has(self.value) || self.operator == 'Equal'")
        .message("value is compared with operator Equal only: leave value out, or write operator: Equal")
        .field_path(".value"),
    validation = Rule::new("!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')")
        .message("tolerationSeconds counts until eviction: leave it out, or write effect: NoExecute")
        .field_path(".tolerationSeconds")
)]
pub struct TolerationSpec {
    /// Key of the taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 316))]
    pub key: Option<String>,
    /// `Equal`: the taint has this value; `Exists`: it has the key.
    #[serde(default)]
    pub operator: TolerationOperator,
    /// Value of the taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// Effect of the taint: `NoSchedule`, `PreferNoSchedule` or `NoExecute`. Without it: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// How long a pod stays on a node after the taint came. Without it: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub toleration_seconds: Option<i64>,
}

/// How a toleration is compared with a taint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    /// Key and value are those of the taint.
    #[default]
    Equal,
    /// The key is that of the taint.
    Exists,
}

/// Effect of the taint: `NoSchedule`, `PreferNoSchedule` or `NoExecute`. Without it: any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// New pods do not come.
    NoSchedule,
    /// New pods come only if there is no other place.
    PreferNoSchedule,
    /// Pods that are there go, too.
    NoExecute,
}

impl From<&TolerationSpec> for Toleration {
    fn from(toleration: &TolerationSpec) -> Self {
        let effect = toleration.effect.map(|effect| match effect {
            TaintEffect::NoSchedule => "NoSchedule",
            TaintEffect::PreferNoSchedule => "PreferNoSchedule",
            TaintEffect::NoExecute => "NoExecute",
        });
        let operator = match toleration.operator {
            TolerationOperator::Equal => "Equal",
            TolerationOperator::Exists => "Exists",
        };
        Self {
            key: toleration.key.clone(),
            operator: Some(operator.to_owned()),
            value: toleration.value.clone(),
            effect: effect.map(str::to_owned),
            toleration_seconds: toleration.toleration_seconds,
        }
    }
}

/// An environment variable: a plain value, or a key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.value) != has(self.secretKeyRef)")
        .message("a variable has one value: set exactly one of value and secretKeyRef"),
    validation = Rule::new(
        "!(self.name == 'GLIBC_TUNABLES' || self.name.startsWith('LD_') || self.name.startsWith('GCONV_') || \
         self.name.startsWith('OPENSSL_'))"
    )
        .message("variables by which libraries load code could replace the runner's code: leave LD_, GCONV_ and \
                  OPENSSL_ variables and GLIBC_TUNABLES out")
        .field_path(".name"),
    validation = Rule::new(
        "!(self.name.startsWith('DATA_PLATFORM_') || self.name in ['HTTP_ADDRESS', 'HTTP_TOKEN_FILE', \
         'TERMINATION_MESSAGE_PATH', 'JOB_NAME', 'JOB_UID', 'NAMESPACE', 'SECRETS_DIR', 'LOG_FILE', 'OUTPUTS_DIR', \
         'CHECKPOINT_DIR', 'STORAGE_CREDENTIALS_DIR'])"
    )
        .message("the operator sets this variable: leave it out, or choose another name")
        .field_path(".name")
)]
pub struct EnvSpec {
    /// Name of the variable.
    #[schemars(length(min = 1, max = 128), pattern(pattern::IDENTIFIER))]
    pub name: String,
    /// Its value, when it is no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
    /// Where its value is, when it is a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// A volume: exactly one of claim, secret, configMap and emptyDir.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "[has(self.claimName), has(self.secretName), has(self.configMapName), has(self.emptyDirSize)]\
         .filter(x, x).size() == 1"
    )
        .message("a volume is of one kind: set exactly one of claimName, secretName, configMapName and emptyDirSize"),
    validation = Rule::new("!self.name.startsWith('data-platform-')")
        .message("volumes whose names begin with data-platform- are the operator's: choose another name")
        .field_path(".name"),
    validation = Rule::new(
        "!self.mountPath.matches('^/(bin|boot|data|dev|etc|lib|lib32|lib64|libx32|proc|root|run|sbin|sys|tmp|usr|var)(/.*)?$')"
    )
        .message("this folder has what the runner needs: choose one below /mnt, such as /mnt/reference")
        .field_path(".mountPath")
)]
pub struct VolumeSpec {
    /// Name of the volume.
    #[schemars(length(min = 1, max = 63), pattern(pattern::DNS_LABEL))]
    pub name: String,
    /// Where the container sees it, such as `/mnt/reference`; not in a folder of the system or of the operator.
    #[schemars(length(min = 2, max = 512), pattern(pattern::MOUNT_PATH))]
    pub mount_path: String,
    /// Mounted read-only.
    #[serde(default)]
    pub read_only: bool,
    /// A PersistentVolumeClaim of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), pattern(pattern::DNS_SUBDOMAIN))]
    pub claim_name: Option<String>,
    /// A Secret of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), pattern(pattern::DNS_SUBDOMAIN))]
    pub secret_name: Option<String>,
    /// A ConfigMap of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), pattern(pattern::DNS_SUBDOMAIN))]
    pub config_map_name: Option<String>,
    /// An empty volume of at most this size, gone with the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir_size: Option<ByteSize>,
}

/// Where outputs and checkpoints lie: a claim of the namespace or URLs. Never owned by a job: deleting one keeps its
/// data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.claimName) || (!has(self.outputs) && !has(self.checkpoints))")
    .message("a claim holds both outputs and checkpoints: set claimName alone, or URLs without it"))]
pub struct StorageSpec {
    /// PersistentVolumeClaim that holds both. Default: the chart's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), pattern(pattern::DNS_SUBDOMAIN))]
    pub claim_name: Option<String>,
    /// URL below which relative output paths lie, such as `s3://bucket/outputs`. `OUTPUTS_DIR` wins over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub outputs: Option<String>,
    /// URL below which checkpoints lie, such as `s3://bucket/checkpoints`. `CHECKPOINT_DIR` wins over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub checkpoints: Option<String>,
    /// Address of the server behind the URLs, if it is not the provider's, such as `https://minio.example:9000`. One that begins
    /// with `http://` is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), pattern(pattern::HTTP_URL))]
    pub endpoint: Option<String>,
    /// Region of the buckets behind `s3://`. Default: `us-east-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), pattern(pattern::REGION))]
    pub region: Option<String>,
    /// Whether the name of a bucket behind `s3://` stands in the path of a request, or in its host. Default: in the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// Secret of the namespace whose keys are called like the variables of the provider: `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`; `GOOGLE_SERVICE_ACCOUNT_KEY`; `AZURE_STORAGE_ACCOUNT_NAME`,
    /// `AZURE_STORAGE_ACCOUNT_KEY`, `AZURE_STORAGE_SAS_KEY`; and `ca.crt`, the issuer of a server that no public one knows. A
    /// change is taken up without a restart. Without it: the identity of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), pattern(pattern::DNS_SUBDOMAIN))]
    pub credentials_secret: Option<String>,
}

impl StorageSpec {
    /// The variables by which the runner reaches object stores, but for their credentials. The endpoint is that of the stores
    /// in which outputs and checkpoints lie; of S3, if they lie in none.
    pub fn variables(&self, outputs: &str, checkpoints: &str) -> Vec<(&'static str, String)> {
        let is_open = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let is_in = |scheme: &str| outputs.starts_with(scheme) || checkpoints.starts_with(scheme);
        let (google, azure) = (is_in("gs://"), is_in("abfss://"));
        let amazon = is_in("s3://") || !(google || azure);
        let endpoint = |is_its: bool| self.endpoint.clone().filter(|_| is_its);
        let allow = |is_its: bool| (is_open && is_its).then(|| "true".to_owned());
        let in_host = self.path_style == Some(false);
        let set = |name, value: Option<String>| value.map(|value| (name, value));
        let variables = [
            set("AWS_ENDPOINT_URL", endpoint(amazon)),
            set("AWS_REGION", self.region.clone()),
            set("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", in_host.then(|| "true".to_owned())),
            set("AWS_ALLOW_HTTP", allow(amazon)),
            set("GOOGLE_BASE_URL", endpoint(google)),
            set("GOOGLE_ALLOW_HTTP", allow(google)),
            set("AZURE_STORAGE_ENDPOINT", endpoint(azure)),
            set("AZURE_ALLOW_HTTP", allow(azure)),
        ];
        variables.into_iter().flatten().collect()
    }

    /// The same, where what is not said is what somebody else says for all. Credentials go to the endpoint that they were
    /// given for, and to no other.
    #[must_use]
    pub fn or_stores_of(&self, all: &Self) -> Self {
        let credentials = all.credentials_secret.clone().filter(|_| self.endpoint.is_none());
        Self {
            endpoint: self.endpoint.clone().or_else(|| all.endpoint.clone()),
            region: self.region.clone().or_else(|| all.region.clone()),
            path_style: self.path_style.or(all.path_style),
            credentials_secret: self.credentials_secret.clone().or(credentials),
            ..self.clone()
        }
    }
}

/// Placement is the longest of Kubernetes' own types by far: it is kept as it comes, so that the CRD stays small.
fn preserved_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
