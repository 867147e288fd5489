//! How a job reaches Kafka: brokers, where to begin, limits, security.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pattern;

pub(crate) mod config;
mod starting_offsets;

pub use starting_offsets::{StartOffset, StartingOffsets, StartingOffsetsError};

/// How the job reaches Kafka. Every source of the job uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSpec {
    /// Brokers to ask first, `host:port` separated by commas. The environment variable `KAFKA_BOOTSTRAP_SERVER` wins
    /// over it; without both: `localhost:29092`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub bootstrap_servers: Option<String>,
    /// Consumer group under which the job publishes its positions, for lag tools only; the job itself keeps them in its
    /// log. Default: `processing-<job>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub group_id: Option<String>,
    /// Where a job without a checkpoint begins: `earliest`, `latest`, a time (RFC 3339: the first record at or after
    /// it), or offsets per topic and partition as Spark writes them: `{"topic":{"0":23,"1":-2}}`, with -2 for earliest
    /// and -1 for latest; a partition that is not named begins at earliest. Resolved once, before the first read; a
    /// partition that appears later begins at earliest, too.
    #[serde(default = "latest")]
    #[schemars(length(min = 1, max = 65536))]
    pub starting_offsets: String,
    /// Greatest number of records of one micro-batch, shared over the partitions by their backlog. Larger: fewer and
    /// larger files while catching up; smaller: earlier results and less memory.
    #[serde(default = "default_max_offsets_per_trigger")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub max_offsets_per_trigger: i64,
    /// What to do when Kafka no longer has records that the job has not read yet: stop and name the offsets (true), or
    /// count them and go on (false).
    #[serde(default)]
    pub fail_on_data_loss: bool,
    /// Whether records of open and aborted transactions are read: `ReadCommitted` (no) or `ReadUncommitted` (yes).
    #[serde(default)]
    pub isolation_level: IsolationLevel,
    /// TLS to the brokers. Without it the connection is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// Login with name and password, or with a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<SaslSpec>,
    /// Where the schemas of values are found that have the id of one in front: Avro, Protobuf, JSON with `framing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_registry: Option<SchemaRegistrySpec>,
    /// Further settings of librdkafka, by their own names. Only harmless ones are allowed: time-outs, sizes, intervals,
    /// the client id; nothing that names a file, a program or a URL, and nothing that has its own field here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64, "additionalProperties" = {"type": "string", "maxLength": 1024}))]
    pub config: BTreeMap<String, String>,
}

fn latest() -> String {
    "latest".to_owned()
}

/// As in the layer that this platform replaces (docs of the jobs: 10000 a trigger).
fn default_max_offsets_per_trigger() -> i64 {
    10_000
}

impl Default for KafkaSpec {
    fn default() -> Self {
        Self {
            bootstrap_servers: None,
            group_id: None,
            starting_offsets: latest(),
            max_offsets_per_trigger: default_max_offsets_per_trigger(),
            fail_on_data_loss: false,
            isolation_level: IsolationLevel::default(),
            tls: None,
            sasl: None,
            schema_registry: None,
            config: BTreeMap::new(),
        }
    }
}

/// Which records of transactions are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IsolationLevel {
    /// Only records of committed transactions, and those outside any.
    #[default]
    ReadCommitted,
    /// Every record.
    ReadUncommitted,
}

/// TLS to the brokers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.certificate) == has(self.key)")
        .message("certificate and key stand together: set both or neither"),
    validation = Rule::new("!has(self.keyPassword) || has(self.key)")
        .message("keyPassword is for key: set key, or leave keyPassword out")
        .field_path(".keyPassword")
)]
pub struct TlsSpec {
    /// Certificates (PEM) of the authorities that sign the brokers' certificates. Without it: those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretSource>,
    /// The client's certificate (PEM), where the brokers ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<SecretSource>,
    /// The private key (PEM) of that certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretSource>,
    /// Password of that key, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_password: Option<SecretSource>,
}

/// Login with name and password, or with a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.mechanism == 'OAUTHBEARER' || (has(self.username) && has(self.password))")
        .message("this mechanism needs a name and a password: set username and password"),
    validation = Rule::new("self.mechanism == 'OAUTHBEARER' || !has(self.oauth)")
        .message("oauth is for OAUTHBEARER: leave it out, or write mechanism: OAUTHBEARER")
        .field_path(".oauth"),
    validation = Rule::new("self.mechanism != 'OAUTHBEARER' || has(self.oauth)")
        .message("OAUTHBEARER needs a place where tokens come from: set oauth"),
    validation = Rule::new("self.mechanism != 'OAUTHBEARER' || (!has(self.username) && !has(self.password))")
        .message("OAUTHBEARER has no user name and password: leave them out, and set oauth.clientId and oauth.clientSecret")
)]
pub struct SaslSpec {
    /// How a password travels: `PLAIN` (as it is; use it with tls only), `SCRAM-SHA-256` or `SCRAM-SHA-512`; or
    /// `OAUTHBEARER`: a token instead of a password.
    pub mechanism: SaslMechanism,
    /// User name. Another one is taken up by new connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<SecretSource>,
    /// Password. Another one is taken up by new connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretSource>,
    /// Where the tokens of `OAUTHBEARER` come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<OauthSpec>,
}

/// Tokens of an OpenID Connect provider, for a client id and its secret (the grant `client_credentials`). A token is
/// asked for again when four fifths of its life are over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.tls) || self.tokenUrl.startsWith('https://')")
    .message("tls is for an address that begins with https://: correct tokenUrl, or leave tls out")
    .field_path(".tls"))]
pub struct OauthSpec {
    /// Token endpoint, such as `https://login.example.com/realms/kafka/protocol/openid-connect/token`.
    #[schemars(length(min = 8, max = 1024), pattern(pattern::HTTP_URL))]
    pub token_url: String,
    /// Id of the client. Read at each request.
    pub client_id: SecretSource,
    /// Secret of the client. Read at each request.
    pub client_secret: SecretSource,
    /// Scope to ask for, if the provider wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub scope: Option<String>,
    /// Certificates for https. Without it: those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
}

/// How a job proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    /// As it is; use it with TLS only.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Salted challenge and response over SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Salted challenge and response over SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// A token.
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

/// A schema registry with Confluent's API. Secrets are read at each request, so another password or certificate is taken
/// up by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.username) == has(self.password)")
        .message("username and password stand together: set both or neither"),
    validation = Rule::new("!has(self.token) || !has(self.username)")
        .message("token and username exclude each other: the registry takes one of them, leave the other one out")
        .field_path(".token"),
    validation = Rule::new("!has(self.tls) || self.url.startsWith('https://')")
        .message("tls is for an address that begins with https://: correct url, or leave tls out")
        .field_path(".tls")
)]
pub struct SchemaRegistrySpec {
    /// Address, such as `https://registry:8081`; of Apicurio with its path, `https://registry:8080/apis/ccompat/v7`.
    #[schemars(length(min = 8, max = 1024), pattern(pattern::HTTP_URL))]
    pub url: String,
    /// User name for HTTP basic authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<SecretSource>,
    /// Password for HTTP basic authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretSource>,
    /// Token for bearer authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretSource>,
    /// Certificates for https. Without it: those of `kafka.tls`; without that, too, those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
}

/// A secret value: a key of a Secret in the job's namespace, or a file where the runner runs. Never the value itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretKeyRef) != has(self.file)")
    .message("a secret comes from one place: set exactly one of secretKeyRef and file"))]
pub struct SecretSource {
    /// A key of a Secret in the job's own namespace; mounted as a file and taken up again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
    /// Path of a file that holds the value, for runs without a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub file: Option<String>,
}

/// A key of a Secret in the job's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), pattern(pattern::DNS_SUBDOMAIN))]
    pub name: String,
    /// Key inside it.
    #[schemars(length(min = 1, max = 253), pattern(pattern::SECRET_KEY))]
    pub key: String,
}
