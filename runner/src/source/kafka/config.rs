//! The client's settings: from the job's `kafka` section, secrets in files, and a memory budget.
//!
//! Pure but for reading secret files, which the caller does through [`Secrets`].

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use data_platform_crds::kafka::{IsolationLevel, KafkaSpec, SaslMechanism, SecretSource, TlsSpec};
use rdkafka::ClientConfig;

use super::token::Tokens;

/// Where the operator mounts Secrets: `<folder>/<secret>/<key>`.
pub const SECRETS_FOLDER: &str = "/etc/data-platform/secrets";

/// Messages that are fetched ahead per partition, beside those of the last answer. The client has half a kilobyte for each
/// beside its bytes: 5,000 cost 13 MB more with 6 partitions and gain nothing, 1,000 save 3 MB more. Partitions at their end
/// are not asked for while others have a backlog (`consumer/pausing`): a broker lets a fetch of those wait for
/// `fetch.wait.max.ms`, and so long what is here would have to last.
const QUEUED_MESSAGES_MIN: &str = "2000";

/// First pause before a lost connection is made again; each is twice as long as the one before. The client also waits half of
/// it, at least 11 ms, between the connection that finds the brokers and the one to them: with 50 ms each of the two clients
/// of a job was there 14 ms later.
const RECONNECT_BACKOFF_MS: &str = "20";

/// What one partition asks for in one fetch. Partitions times this must fit the queue, or partitions starve each other,
/// run apart in time and pile up open windows (own measurement: 3.5 times the groups at a quarter of it).
const PARTITION_FETCH_BYTES: usize = 256 << 10;

/// Pause of a partition whose queue is full. The default of 1,000 ms makes every full queue sleep a second: 3 million
/// records took 15 s instead of 2.4 s.
const QUEUE_BACKOFF_MS: &str = "10";

/// A secret that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the {what} from {path}: {source}")]
pub struct SecretError {
    /// Which setting needs it.
    pub what: &'static str,
    /// Where it was looked for.
    pub path: String,
    /// Why not.
    #[source]
    pub source: std::io::Error,
}

/// Reads secrets where they are mounted.
#[derive(Clone, Debug)]
pub struct Secrets {
    folder: PathBuf,
}

impl Secrets {
    /// Secrets below a folder, [`SECRETS_FOLDER`] in a pod.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn path(&self, source: &SecretSource) -> PathBuf {
        match (&source.file, &source.secret_key_ref) {
            (Some(file), _) => PathBuf::from(file),
            (None, Some(key)) => self.folder.join(&key.name).join(&key.key),
            (None, None) => self.folder.clone(),
        }
    }

    /// The whole content.
    pub(in crate::source) fn read(&self, what: &'static str, source: &SecretSource) -> Result<String, SecretError> {
        let path = self.path(source);
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|source| SecretError { what, path: path.display().to_string(), source })?;
        Ok(text)
    }

    /// The content without the line break at its end.
    pub(in crate::source) fn read_line(
        &self,
        what: &'static str,
        source: &SecretSource,
    ) -> Result<String, SecretError> {
        Ok(self.read(what, source)?.trim_end_matches(['\n', '\r']).to_owned())
    }
}

/// What the client is for: it decides its memory and its group.
#[derive(Clone, Debug)]
pub struct ClientPurpose<'a> {
    /// Name of the job, for the brokers' logs.
    pub job: &'a str,
    /// Addresses that win over those of the job.
    pub bootstrap_servers: &'a str,
    /// Bytes that all partitions together may hold fetched.
    pub queue_bytes: usize,
    /// Number of partitions, as far as it is known.
    pub partitions: usize,
}

/// Settings that every client of a job shares: addresses, security, the user's own.
///
/// # Errors
/// [`SecretError`] when a secret cannot be read.
pub fn client_settings(
    spec: &KafkaSpec,
    purpose: &ClientPurpose<'_>,
    secrets: &Secrets,
) -> Result<ClientConfig, SecretError> {
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", purpose.bootstrap_servers)
        .set("client.id", format!("data-platform/{}", purpose.job))
        .set("socket.keepalive.enable", "true")
        .set("log.connection.close", "false")
        .set("reconnect.backoff.ms", RECONNECT_BACKOFF_MS)
        .set("reconnect.backoff.max.ms", "2000")
        .set("allow.auto.create.topics", "false");
    for (name, value) in &spec.config {
        settings.set(name, value);
    }
    let protocol = match (spec.tls.is_some(), spec.sasl.is_some()) {
        (false, false) => "plaintext",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (true, true) => "sasl_ssl",
    };
    settings.set("security.protocol", protocol);
    if let Some(tls) = &spec.tls {
        match &tls.ca {
            Some(ca) => settings.set("ssl.ca.pem", secrets.read("certificate authority", ca)?),
            // OpenSSL is linked in and does not know the system's folders.
            None => settings.set("ssl.ca.location", "probe"),
        };
        if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) {
            settings.set("ssl.certificate.pem", secrets.read("client certificate", certificate)?);
            settings.set("ssl.key.pem", secrets.read("client key", key)?);
        }
        if let Some(password) = &tls.key_password {
            settings.set("ssl.key.password", secrets.read_line("password of the client key", password)?);
        }
    }
    if let Some(sasl) = &spec.sasl {
        let mechanism = match sasl.mechanism {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
            SaslMechanism::OauthBearer => "OAUTHBEARER",
        };
        settings.set("sasl.mechanism", mechanism);
        if let Some((username, password)) = login(spec, secrets)? {
            settings.set("sasl.username", username);
            settings.set("sasl.password", password);
        }
    }
    Ok(settings)
}

/// User name and password, where the job logs in with them.
///
/// # Errors
/// [`SecretError`] when one cannot be read.
pub(super) fn login(spec: &KafkaSpec, secrets: &Secrets) -> Result<Option<(String, String)>, SecretError> {
    let Some(sasl) = &spec.sasl else { return Ok(None) };
    let (Some(username), Some(password)) = (&sasl.username, &sasl.password) else { return Ok(None) };
    Ok(Some((secrets.read_line("user name", username)?, secrets.read_line("password", password)?)))
}

/// Where the job's tokens come from, if it logs in with them.
pub fn tokens(spec: &KafkaSpec, secrets: &Secrets) -> Option<Tokens> {
    let oauth = spec.sasl.as_ref()?.oauth.clone()?;
    Some(Tokens::new(oauth, secrets.clone()))
}

/// Settings of the consumer. What exactly-once needs is set last and cannot be changed by the job.
///
/// # Errors
/// [`SecretError`] when a secret cannot be read.
pub fn consumer_settings(
    spec: &KafkaSpec,
    purpose: &ClientPurpose<'_>,
    secrets: &Secrets,
) -> Result<ClientConfig, SecretError> {
    let mut settings = client_settings(spec, purpose, secrets)?;
    let per_partition = purpose.queue_bytes / purpose.partitions.max(1);
    let fetch = PARTITION_FETCH_BYTES.min(per_partition).max(64 << 10);
    let default = |settings: &mut ClientConfig, name: &str, value: String| {
        if !spec.config.contains_key(name) {
            settings.set(name, value);
        }
    };
    // With queues of their own the limit counts per partition.
    default(&mut settings, "queued.max.messages.kbytes", (per_partition >> 10).max(64).to_string());
    default(&mut settings, "queued.min.messages", QUEUED_MESSAGES_MIN.to_owned());
    default(&mut settings, "max.partition.fetch.bytes", fetch.to_string());
    default(&mut settings, "fetch.queue.backoff.ms", QUEUE_BACKOFF_MS.to_owned());
    default(&mut settings, "fetch.error.backoff.ms", "100".to_owned());
    // A broker answers one fetch after the other: one that waits at the end of some partitions holds up the others.
    default(&mut settings, "fetch.wait.max.ms", "100".to_owned());
    let group = group_of(spec, purpose.job);
    let isolation = match spec.isolation_level {
        IsolationLevel::ReadCommitted => "read_committed",
        IsolationLevel::ReadUncommitted => "read_uncommitted",
    };
    settings
        .set("group.id", group)
        .set("isolation.level", isolation)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Every jump of a position is our decision, and counted.
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("check.crcs", "true");
    Ok(settings)
}

/// The group that a job tells its offsets: only tools that show the lag look at it.
pub fn group_of(spec: &KafkaSpec, job: &str) -> String {
    spec.group_id.clone().unwrap_or_else(|| format!("processing-{job}"))
}

/// The settings as they may be shown: without secrets.
pub fn shown(settings: &ClientConfig) -> BTreeMap<String, String> {
    let secret = |name: &str| ["password", ".pem", "username", "key"].iter().any(|part| name.contains(part));
    let mask = |(name, value): (&str, &str)| {
        let value = if secret(name) { "***".to_owned() } else { value.to_owned() };
        (name.to_owned(), value)
    };
    settings.config_map().into_iter().map(mask).collect()
}

/// The files of one kind of secrets, and what was in them: tells when one was rotated.
#[derive(Debug)]
pub struct SecretWatch {
    files: Vec<PathBuf>,
    seen: Mutex<u64>,
}

impl SecretWatch {
    fn new<'a>(secrets: &Secrets, sources: impl IntoIterator<Item = &'a SecretSource>) -> Self {
        let watch =
            Self { files: sources.into_iter().map(|source| secrets.path(source)).collect(), seen: Mutex::new(0) };
        watch.is_changed();
        watch
    }

    /// Every secret with which the job logs in anywhere.
    pub fn of_all(spec: &KafkaSpec, secrets: &Secrets) -> Self {
        let registry = spec.schema_registry.iter();
        let logins = registry.clone().flat_map(|registry| [&registry.username, &registry.password, &registry.token]);
        let oauth = spec.sasl.iter().filter_map(|sasl| sasl.oauth.as_ref());
        let tls = registry.filter_map(|registry| registry.tls.as_ref());
        let tls = tls.chain(oauth.clone().filter_map(|oauth| oauth.tls.as_ref())).chain(&spec.tls);
        let clients = oauth.flat_map(|oauth| [&oauth.client_id, &oauth.client_secret]);
        let sources = tls.flat_map(of_tls).chain(logins.flatten()).chain(clients).chain(of_sasl(spec));
        Self::new(secrets, sources)
    }

    /// The certificates and keys for the brokers.
    pub fn of_tls(spec: &KafkaSpec, secrets: &Secrets) -> Self {
        Self::new(secrets, spec.tls.iter().flat_map(of_tls))
    }

    /// User name and password for the brokers.
    pub fn of_login(spec: &KafkaSpec, secrets: &Secrets) -> Self {
        Self::new(secrets, of_sasl(spec))
    }

    /// Whether something else is in them than when this was asked last. A file that cannot be read now is as it was.
    pub fn is_changed(&self) -> bool {
        let mut now = DefaultHasher::new();
        for file in &self.files {
            match std::fs::read(file) {
                Ok(content) => content.hash(&mut now),
                // A Secret that is being replaced is not there for a moment; a job that lacks one says so itself.
                Err(_) => 0_u8.hash(&mut now),
            }
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *seen, now.finish()) != now.finish()
    }
}

fn of_tls(tls: &TlsSpec) -> impl Iterator<Item = &SecretSource> {
    [&tls.ca, &tls.certificate, &tls.key, &tls.key_password].into_iter().flatten()
}

fn of_sasl(spec: &KafkaSpec) -> impl Iterator<Item = &SecretSource> {
    spec.sasl.iter().flat_map(|sasl| [&sasl.username, &sasl.password]).flatten()
}

/// Where secrets lie: `SECRETS_DIR`, or where the operator mounts them.
pub fn secrets_folder() -> PathBuf {
    std::env::var_os("SECRETS_DIR").map_or_else(|| Path::new(SECRETS_FOLDER).to_owned(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_platform_crds::kafka::{SaslSpec, SecretKeyRef};

    fn purpose(partitions: usize) -> ClientPurpose<'static> {
        ClientPurpose { job: "j", bootstrap_servers: "b:1", queue_bytes: 16 << 20, partitions }
    }

    fn file(path: &Path) -> SecretSource {
        SecretSource { secret_key_ref: None, file: Some(path.display().to_string()) }
    }

    #[test]
    fn what_exactly_once_needs_cannot_be_changed_and_the_rest_can() {
        let config = [("auto.offset.reset", "latest"), ("queued.min.messages", "5"), ("socket.timeout.ms", "7")];
        let config = config.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let spec = KafkaSpec { config, ..KafkaSpec::default() };
        let settings = consumer_settings(&spec, &purpose(6), &Secrets::new("/none")).unwrap();
        assert_eq!(settings.get("auto.offset.reset"), Some("error"));
        assert_eq!(settings.get("queued.min.messages"), Some("5"));
        assert_eq!(settings.get("socket.timeout.ms"), Some("7"));
        assert_eq!(settings.get("group.id"), Some("processing-j"));
        assert_eq!(settings.get("isolation.level"), Some("read_committed"));
    }

    #[test]
    fn the_queue_is_shared_by_the_partitions() {
        for (partitions, kbytes, fetch) in [(1, "16384", 256 << 10), (6, "2730", 256 << 10), (128, "128", 128 << 10)] {
            let settings = consumer_settings(&KafkaSpec::default(), &purpose(partitions), &Secrets::new("/")).unwrap();
            assert_eq!(settings.get("queued.max.messages.kbytes"), Some(kbytes));
            assert_eq!(settings.get("max.partition.fetch.bytes"), Some(fetch.to_string().as_str()));
        }
    }

    #[test]
    fn secrets_come_from_files_and_are_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("login")).unwrap();
        std::fs::write(folder.path().join("login/user"), "alice\n").unwrap();
        std::fs::write(folder.path().join("password"), "s3cret\r\n").unwrap();
        let user = SecretKeyRef { name: "login".to_owned(), key: "user".to_owned() };
        let sasl = SaslSpec {
            mechanism: SaslMechanism::ScramSha512,
            username: Some(SecretSource { secret_key_ref: Some(user), file: None }),
            password: Some(file(&folder.path().join("password"))),
            oauth: None,
        };
        let spec = KafkaSpec { sasl: Some(sasl), ..KafkaSpec::default() };
        let secrets = Secrets::new(folder.path());
        let settings = consumer_settings(&spec, &purpose(1), &secrets).unwrap();
        assert_eq!(settings.get("security.protocol"), Some("sasl_plaintext"));
        assert_eq!((settings.get("sasl.username"), settings.get("sasl.password")), (Some("alice"), Some("s3cret")));
        let shown = format!("{:?}", shown(&settings));
        assert!(!shown.contains("alice") && !shown.contains("s3cret"), "{shown}");
        let watches = [
            SecretWatch::of_all(&spec, &secrets),
            SecretWatch::of_login(&spec, &secrets),
            SecretWatch::of_tls(&spec, &secrets),
        ];
        std::fs::write(folder.path().join("password"), "another").unwrap();
        assert_eq!([0, 1, 2].map(|watch: usize| watches[watch].is_changed()), [true, true, false]);
        assert_eq!([0, 1, 2].map(|watch: usize| watches[watch].is_changed()), [false; 3], "once");
        std::fs::remove_file(folder.path().join("password")).unwrap();
        let error = consumer_settings(&spec, &purpose(1), &secrets).unwrap_err();
        assert!(error.to_string().starts_with("cannot read the password from /"), "{error}");
    }
}
