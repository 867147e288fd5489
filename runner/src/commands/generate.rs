//! `generate`: events to a topic, at a rate or as fast as the broker takes them.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;

use crate::args::GenerateArgs;
use crate::clock::{Clock, SystemClock};
use crate::commands::error::CommandError;
use crate::commands::grouped;
use crate::generate::{EventGenerator, EventKind, EventSettings, GeneratedEvent, avro};
use crate::source::registry::HttpRegistry;
use crate::source::schemas::RegistryError;

/// Events between two looks at the clock.
const STEP: u64 = 100;

/// Writes events to a topic.
pub(crate) struct EventProducer {
    producer: BaseProducer,
    topic: String,
    partitions: i32,
}

impl EventProducer {
    /// A producer that waits for every acknowledgement.
    pub(crate) fn new(servers: &str, topic: &str, partitions: i32) -> Result<Self, CommandError> {
        let mut settings = ClientConfig::new();
        settings
            .set("bootstrap.servers", servers)
            .set("linger.ms", "20")
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("message.timeout.ms", "60000");
        let producer =
            settings.create().map_err(|error| CommandError::failed(format!("cannot make a producer: {error}")))?;
        Ok(Self { producer, topic: topic.to_owned(), partitions })
    }

    /// Hands an event over; waits while the client's queue is full.
    pub(crate) fn send(&self, event: &GeneratedEvent) -> Result<(), CommandError> {
        let partition = (event.user % u64::from(self.partitions.unsigned_abs().max(1))) as i32;
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic)
            .key(&event.key)
            .partition(partition)
            .timestamp(event.time_ms.max(0));
        record.payload = event.value.as_deref();
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(Duration::from_millis(20));
                    record = back;
                }
                Err((error, _)) => {
                    return Err(CommandError::failed(format!("cannot write to {}: {error}", self.topic)));
                }
            }
        }
    }

    /// Serves acknowledgements.
    pub(crate) fn poll(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Waits until everything is acknowledged.
    pub(crate) fn finish(&self) -> Result<(), CommandError> {
        let flushed = self.producer.flush(Duration::from_secs(60));
        flushed.map_err(|error| CommandError::failed(format!("the broker did not acknowledge every event: {error}")))
    }
}

/// Creates a topic if it is not there; gives how many partitions it has.
pub(crate) fn create_topic(servers: &str, topic: &str, partitions: i32) -> Result<i32, CommandError> {
    let failed = |error: String| CommandError::failed(format!("cannot create the topic {topic} at {servers}: {error}"));
    let client: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", servers).create().map_err(|error| failed(error.to_string()))?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    let created = futures::executor::block_on(client.create_topics([&new], &options))
        .map_err(|error| failed(error.to_string()))?;
    match created.into_iter().next() {
        None | Some(Ok(_)) => Ok(partitions),
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
            let known = client.inner().fetch_metadata(Some(topic), Duration::from_secs(30));
            let known = known.map_err(|error| failed(error.to_string()))?;
            let known = known.topics().first().map_or(0, |topic| topic.partitions().len());
            Ok(i32::try_from(known).ok().filter(|known| *known > 0).unwrap_or(partitions))
        }
        Some(Err((_, code))) => Err(failed(code.to_string())),
    }
}

fn settings(args: &GenerateArgs, kind: EventKind) -> Result<EventSettings, CommandError> {
    for (name, share) in [("--messy", args.messy), ("--late", args.late)] {
        if !(0.0..=1.0).contains(&share) {
            return Err(CommandError::user(format!("{name} {share} is not a share: write a number from 0 to 1")));
        }
    }
    Ok(EventSettings {
        kind,
        seed: args.seed,
        users: args.users,
        disorder_ms: (args.disorder.max(0.0) * 1e3) as u64,
        messy: args.messy,
        late: args.late,
        every_timestamp_form: args.messy > 0.0,
        ..EventSettings::default()
    })
}

/// The topics to write to, and which records each gets.
fn topics(args: &GenerateArgs) -> Result<Vec<(String, EventKind)>, CommandError> {
    if args.topics.iter().any(|topic| topic == "all") {
        return Ok(EventKind::ALL.into_iter().map(|kind| (kind.topic().to_owned(), kind)).collect());
    }
    let named = if args.topics.is_empty() { std::slice::from_ref(&args.topic) } else { &args.topics };
    let kind = |topic: &String| {
        let kind = EventKind::of_topic(topic).ok_or_else(|| {
            let known = EventKind::ALL.map(|kind| kind.topic().trim_start_matches("topic_")).join(", ");
            CommandError::user(format!(
                "the topic {topic}: nobody knows which records it gets; choose a name that contains one of {known}"
            ))
        })?;
        Ok((topic.clone(), kind))
    };
    named.iter().map(kind).collect()
}

/// The ids of the schemas by which each topic is written; none: as JSON.
fn registered(args: &GenerateArgs, topics: &[(String, EventKind)]) -> Result<Vec<u32>, CommandError> {
    let Some(url) = &args.schema_registry else { return Ok(Vec::new()) };
    if let Some((topic, _)) = topics.iter().find(|(_, kind)| *kind != EventKind::AppEvents) {
        return Err(CommandError::user(format!(
            "--schema-registry: the records of {topic} are JSON alone; choose a topic of app_events"
        )));
    }
    let registry = HttpRegistry::open_at(url);
    let register = |(topic, _): &(String, EventKind)| {
        let given = registry.register(&format!("{topic}-value"), avro::SCHEMA);
        given.map_err(|error| {
            let (RegistryError::Passing(problem) | RegistryError::Refused(problem) | RegistryError::Secret(problem)) =
                error;
            CommandError::failed(format!("the schema registry at {url} took no schema: {problem}"))
        })
    };
    topics.iter().map(register).collect()
}

/// Generates events until their number is reached or somebody stops it.
pub(crate) fn generate(args: &GenerateArgs) -> Result<u8, CommandError> {
    let topics = topics(args)?;
    let generators = topics.iter().map(|(_, kind)| Ok(EventGenerator::new(settings(args, *kind)?)));
    let mut generators = generators.collect::<Result<Vec<_>, CommandError>>()?;
    let start = match &args.start {
        Some(text) => Some(chrono::DateTime::parse_from_rfc3339(text).map_err(|error| {
            CommandError::user(format!("--start {text:?} is not a time such as 2026-01-01T00:00:00Z: {error}"))
        })?),
        None => None,
    };
    let start_ms = start.map(|time| time.timestamp_millis());
    let time_of = |number: u64| match start_ms {
        Some(start) => {
            start
                + (number as i128 * i128::from(args.span) * 1_000 / i128::from(args.count.unwrap_or(1_000_000))) as i64
        }
        None => SystemClock.now() / 1_000 - (args.disorder.max(0.0) * 1e3) as i64,
    };
    if args.stdout {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        for number in 0..args.count.unwrap_or(u64::MAX) {
            for generator in &mut generators {
                let value = generator.event(time_of(number)).value.unwrap_or_default();
                if out.write_all(&value).and_then(|()| out.write_all(b"\n")).is_err() {
                    return Ok(0);
                }
            }
        }
        return Ok(0);
    }
    let schemas = registered(args, &topics)?;
    let mut producers = Vec::new();
    for (topic, kind) in &topics {
        let partitions = args.partitions.unwrap_or(kind.partitions());
        let partitions = create_topic(&args.bootstrap_servers, topic, partitions)?;
        producers.push(EventProducer::new(&args.bootstrap_servers, topic, partitions)?);
    }
    let began = SystemClock.instant();
    let mut number = 0;
    while args.count.is_none_or(|count| number < count) {
        for (index, (generator, producer)) in generators.iter_mut().zip(&producers).enumerate() {
            let mut event = generator.event(time_of(number));
            if let Some(id) = schemas.get(index) {
                event.value = event.value.and_then(|json| avro::framed(*id, &json));
            }
            producer.send(&event)?;
        }
        number += 1;
        if number % STEP == 0 {
            producers.iter().for_each(EventProducer::poll);
            pace(began, number, args.rate);
        }
        if number % 100_000 == 0 && std::io::stderr().is_terminal() {
            eprint!("\r{} events", grouped(number));
        }
    }
    for producer in &producers {
        producer.finish()?;
    }
    let seconds = SystemClock.since(began).as_secs_f64();
    let names: Vec<_> = topics.iter().map(|(topic, _)| topic.as_str()).collect();
    let each = if names.len() > 1 { " each" } else { "" };
    eprintln!("\rwrote {} events{each} to {} in {seconds:.1} s", grouped(number), names.join(", "));
    Ok(0)
}

/// Waits until `number` events are due.
pub(crate) fn pace(began: Instant, number: u64, rate: u64) {
    if rate == 0 {
        return;
    }
    let due = Duration::from_secs_f64(number as f64 / rate as f64);
    std::thread::sleep(due.saturating_sub(SystemClock.since(began)));
}
