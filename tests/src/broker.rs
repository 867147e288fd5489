//! A real Kafka broker: the one that all tests share, or a private one that may be killed.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::future::Future;
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use tempfile::TempDir;

use crate::{environment, folders, produce, wait_for};

/// How long a request may take: far above the slowest seen (a topic, 0.1 s), below the patience of a person.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A broker that answers at [`Broker::address`]. A private one is killed when this is dropped.
#[derive(Debug)]
pub struct Broker {
    address: String,
    folder: Option<TempDir>,
}

impl Broker {
    /// The broker that `tests/run` started; `None` under a bare `cargo test`. Never stop it: other tests use it too.
    #[must_use]
    pub fn shared() -> Option<Self> {
        environment::shared_kafka().map(|address| Self { address, folder: None })
    }

    /// A broker of this test alone, on free ports. `options` are those of `kafka.sh up`: `--ssl`, `--sasl-ssl`,
    /// `--sasl-plaintext`, `--user NAME:PASSWORD`, `--set KEY=VALUE`, `--host ADDRESS` (the cluster's node address, for a
    /// broker that pods use). Takes two to four seconds.
    ///
    /// # Errors
    /// When it does not start; the message has what its script said.
    pub fn private(options: &[&str]) -> anyhow::Result<Self> {
        let folder = folders::temporary("broker-")?;
        let path = folder.path().to_str().context("a path that is text")?.to_owned();
        // From here on dropping it kills what `up` may have started.
        let mut broker = Self { address: String::new(), folder: Some(folder) };
        broker.address = script(&[&["up", "0", &path], options].concat())?;
        Ok(broker)
    }

    /// A broker whose folder somebody else prepared: `server.properties`, a formatted log folder, and `addresses`, which says where
    /// its listeners are (`NAME host:port` per line), at least that of `PLAINTEXT`. Otherwise as a private one.
    ///
    /// # Errors
    /// When it does not start; the message has what its script said.
    pub fn prepared(folder: TempDir) -> anyhow::Result<Self> {
        let path = folder.path().to_str().context("a path that is text")?.to_owned();
        let mut broker = Self { address: String::new(), folder: Some(folder) };
        broker.address = script(&["up", "0", &path])?;
        Ok(broker)
    }

    /// A program of Kafka's own, by the name of its class.
    ///
    /// # Errors
    /// When the jars are not there.
    pub fn program(class: &str) -> anyhow::Result<Command> {
        let mut command = Command::new("java");
        command.arg("-cp").arg(format!("{}/*", script(&["jars"])?)).arg(class);
        Ok(command)
    }

    /// A further broker of the cluster of this private one: partitions of new topics are spread over both. It can be killed
    /// while this one goes on; then some partitions have no leader. `options` as in [`Broker::private`].
    ///
    /// # Errors
    /// When this is the shared broker, or the other one does not start.
    pub fn join(&self, options: &[&str]) -> anyhow::Result<Self> {
        let folder = self.folder()?;
        let folder = folder.to_str().context("a path that is text")?;
        let other = Self::private(&[&["--join", folder], options].concat())?;
        // It answers before it is given partitions.
        wait_for("the brokers to know each other", REQUEST_TIMEOUT, || self.number_of(&other).ok())?;
        Ok(other)
    }

    /// The partitions of a topic whose leader is another broker of this cluster.
    ///
    /// # Errors
    /// When this one does not answer or does not know the other one.
    pub fn led_by(&self, other: &Self, topic: &str) -> anyhow::Result<Vec<i32>> {
        let number = self.number_of(other)?;
        let metadata = self.consumer(&[])?.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
        let partitions = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
        Ok(partitions.iter().filter(|partition| partition.leader() == number).map(|partition| partition.id()).collect())
    }

    /// The number under which this broker knows another one.
    fn number_of(&self, other: &Self) -> anyhow::Result<i32> {
        let metadata = self.consumer(&[])?.fetch_metadata(None, REQUEST_TIMEOUT)?;
        let is_other = |host: &str, port: i32| format!("{host}:{port}") == other.address;
        let found = metadata.brokers().iter().find(|broker| is_other(broker.host(), broker.port()));
        found.map(|broker| broker.id()).with_context(|| format!("no broker {}", other.address))
    }

    /// Another handle to this broker; only the first one stops it.
    #[must_use]
    pub fn handle(&self) -> Self {
        Self { address: self.address.clone(), folder: None }
    }

    /// `host:port` of its listener without TLS and login.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `host:port` of its listener without TLS and login, as pods of the test cluster reach it.
    ///
    /// # Errors
    /// When there is no cluster, or this is a private broker without `--host`.
    pub fn address_for_pods(&self) -> anyhow::Result<String> {
        if self.folder.is_some() {
            anyhow::ensure!(!self.address.starts_with("127."), "this broker was started without --host");
            return Ok(self.address.clone());
        }
        environment::shared_kafka_for_pods().context("the shared broker has no listener for pods")
    }

    /// `host:port` of another listener of a private broker: `SSL`, `SASL_SSL`, `SASL_PLAINTEXT`.
    ///
    /// # Errors
    /// When it has no such listener.
    pub fn listener(&self, name: &str) -> anyhow::Result<String> {
        let addresses =
            std::fs::read_to_string(self.folder()?.join("addresses")).context("read the broker's addresses")?;
        let found = addresses.lines().filter_map(|line| line.split_once(' ')).find(|(listener, _)| *listener == name);
        found.map(|(_, address)| address.to_owned()).with_context(|| format!("the broker has no listener {name}"))
    }

    /// The folder with the certificates of a private broker that has a TLS listener (`certificates.sh` names them).
    ///
    /// # Errors
    /// When it is the shared broker.
    pub fn certificates(&self) -> anyhow::Result<PathBuf> {
        Ok(self.folder()?.join("certificates"))
    }

    /// Kills a private broker with SIGKILL. Its data stay.
    ///
    /// # Errors
    /// When it is the shared broker, or does not end.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.command("kill")
    }

    /// Stops a private broker in good order. Its data stay.
    ///
    /// # Errors
    /// When it is the shared broker, or does not end.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.command("down")
    }

    /// Starts a private broker again after [`Broker::kill`] or [`Broker::stop`], at the same address, with its data.
    ///
    /// # Errors
    /// When it is the shared broker, or does not start.
    pub fn restart(&self) -> anyhow::Result<()> {
        let folder = self.folder()?;
        script(&["up", "0", folder.to_str().context("a path that is text")?]).map(drop)
    }

    fn command(&self, name: &str) -> anyhow::Result<()> {
        let folder = self.folder()?;
        script(&[name, folder.to_str().context("a path that is text")?]).map(drop)
    }

    fn folder(&self) -> anyhow::Result<PathBuf> {
        match &self.folder {
            Some(folder) => Ok(folder.path().to_owned()),
            None => bail!("this is the shared broker: take Broker::private for that"),
        }
    }

    /// Creates a topic with its own settings and waits until every partition has a leader.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn create_topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in config {
            topic = topic.set(key, value);
        }
        self.admin(async |admin, options| admin.create_topics([&topic], options).await.map(topic_results))
            .with_context(|| format!("create topic {name}"))?;
        self.await_partitions(name, usize::try_from(partitions)?)
    }

    /// Deletes a topic and waits until the broker no longer names it.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn delete_topic(&self, name: &str) -> anyhow::Result<()> {
        self.admin(async |admin, options| admin.delete_topics(&[name], options).await.map(topic_results))
            .with_context(|| format!("delete topic {name}"))?;
        // All topics, since asking for one by its name could create it.
        wait_for(&format!("topic {name} to be gone"), REQUEST_TIMEOUT, || {
            let metadata = self.consumer(&[]).ok()?.fetch_metadata(None, REQUEST_TIMEOUT).ok()?;
            metadata.topics().iter().all(|topic| topic.name() != name).then_some(())
        })
    }

    /// Raises the number of partitions to `total`.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn add_partitions(&self, name: &str, total: usize) -> anyhow::Result<()> {
        let partitions = NewPartitions::new(name, total);
        self.admin(async |admin, options| admin.create_partitions([&partitions], options).await.map(topic_results))
            .with_context(|| format!("give topic {name} {total} partitions"))?;
        self.await_partitions(name, total)
    }

    /// Replaces all settings of a topic.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn configure_topic(&self, name: &str, config: &[(&str, &str)]) -> anyhow::Result<()> {
        let entries = config.iter().copied().collect::<HashMap<_, _>>();
        let change = AlterConfig { specifier: ResourceSpecifier::Topic(name), entries };
        self.admin(async |admin, options| {
            let results = admin.alter_configs([&change], options).await?;
            Ok(results.into_iter().map(|result| result.map(drop).map_err(|(_, code)| code)).collect())
        })
        .with_context(|| format!("configure topic {name}"))
    }

    /// What the broker of this number is set to, by the names of its properties.
    ///
    /// # Errors
    /// When it does not say.
    pub fn settings(&self, number: i32) -> anyhow::Result<BTreeMap<String, String>> {
        let admin = self.client(&[]).create::<AdminClient<DefaultClientContext>>()?;
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
        let described = block_on(admin.describe_configs([&ResourceSpecifier::Broker(number)], &options))?;
        let described = described.into_iter().next().context("an answer")?;
        let described = described.map_err(|code| anyhow::anyhow!("the broker answered: {code}"))?;
        Ok(described.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect())
    }

    /// Deletes the records of a partition before the offset `before`, as retention does.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) -> anyhow::Result<()> {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::Offset(before))?;
        self.admin(async |admin, options| {
            let done = admin.delete_records(&offsets, options).await?;
            // A failure of one partition is told in its element of the list.
            let failed = done.elements().iter().find_map(|element| element.error().err());
            failed.map_or(Ok(Vec::new()), Err)
        })
        .with_context(|| format!("delete the records of {topic}/{partition} before {before}"))
    }

    /// First offset and the one after the last, of every partition in order.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn offsets(&self, topic: &str) -> anyhow::Result<Vec<(i64, i64)>> {
        let consumer = self.consumer(&[])?;
        let partitions = partition_count(&consumer, topic)?.with_context(|| format!("there is no topic {topic}"))?;
        (0..i32::try_from(partitions)?)
            .map(|partition| Ok(consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT)?))
            .collect()
    }

    /// Produces records and waits until each is acknowledged. For settings, errors and transactions see
    /// [`produce::Producer`].
    ///
    /// # Errors
    /// The first record that was not acknowledged.
    pub fn produce(&self, topic: &str, records: impl IntoIterator<Item = produce::Record>) -> anyhow::Result<()> {
        let producer = produce::Producer::new(self, &[])?;
        for record in records {
            producer.send(topic, &record)?;
        }
        producer.flush()
    }

    /// The settings with which every client of the tests begins. The log of the library is quiet: while a broker is
    /// down it would fill the screen.
    pub(crate) fn client(&self, settings: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address).set_log_level(RDKafkaLogLevel::Critical);
        for (key, value) in settings {
            config.set(*key, *value);
        }
        config
    }

    pub(crate) fn consumer(&self, settings: &[(&str, &str)]) -> anyhow::Result<BaseConsumer> {
        self.client(settings).create().context("make a consumer")
    }

    fn await_partitions(&self, topic: &str, expected: usize) -> anyhow::Result<()> {
        let consumer = self.consumer(&[])?;
        wait_for(&format!("topic {topic} to have {expected} partitions with a leader"), REQUEST_TIMEOUT, || {
            (partition_count(&consumer, topic).ok()?? == expected).then_some(())
        })
    }

    fn admin<F>(&self, request: F) -> anyhow::Result<()>
    where
        F: AsyncFnOnce(
            &AdminClient<DefaultClientContext>,
            &AdminOptions,
        ) -> Result<Vec<Result<(), RDKafkaErrorCode>>, KafkaError>,
    {
        let admin = self.client(&[]).create::<AdminClient<DefaultClientContext>>()?;
        let options =
            AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
        let results = block_on(request(&admin, &options))?;
        results.into_iter().try_for_each(|result| result.map_err(|code| anyhow::anyhow!("the broker answered: {code}")))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.folder.is_some()
            && let Err(error) = self.kill()
        {
            eprintln!("{error:#}");
        }
    }
}

/// A topic name that no other test of this run has.
#[must_use]
pub fn unique_topic(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Number of partitions that have a leader; `None` if there is no such topic (yet).
fn partition_count(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Option<usize>> {
    let metadata =
        consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT).with_context(|| format!("ask for topic {topic}"))?;
    let found = metadata.topics().iter().find(|candidate| candidate.name() == topic && candidate.error().is_none());
    Ok(found.map(|topic| topic.partitions().iter().filter(|partition| partition.leader() >= 0).count()))
}

fn topic_results(results: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Vec<Result<(), RDKafkaErrorCode>> {
    results.into_iter().map(|result| result.map(drop).map_err(|(_, code)| code)).collect()
}

/// The admin client answers from a thread of its own, so any executor will do.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers needs nothing")
        .block_on(future)
}

/// Runs `kafka.sh` and returns what it printed.
fn script(arguments: &[&str]) -> anyhow::Result<String> {
    let path = environment::tests_folder().join("env/kafka/kafka.sh");
    let output = Command::new(&path)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {}", path.display()))?;
    if !output.status.success() {
        let mut message = format!("kafka.sh {}: {}", arguments.join(" "), output.status);
        write!(message, "\n{}", String::from_utf8_lossy(&output.stderr)).expect("a String takes everything");
        bail!(message);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
