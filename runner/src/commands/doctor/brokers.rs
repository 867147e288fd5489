//! Kafka: brokers, topics with the rights that the job needs, its group, and the newest record beside our clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use data_platform_crds::kafka::KafkaSpec;

use crate::clock::{Clock, SystemClock};
use crate::commands::doctor::check::{Check, Finding, Outcome};
use crate::config::job::{PlannedJob, RunOptions};
use crate::pipeline::error::{JobError, Reason};
use crate::pipeline::streaming::BadRecords;
use crate::sink::SinkPlan;
use crate::source::kafka::config::Secrets;
use crate::source::kafka::consumer::{InspectedTopic, KafkaSource, KafkaSourceSettings};
use crate::source::registry::HttpRegistry;
use crate::source::routes::TopicRoutes;
use crate::source::schemas::{Registry as _, RegistryError, Schemas};
use crate::source::{SourceError, Trouble};

/// A record may be stamped this much later than our clock says: clocks of machines that are set by a time server differ by
/// milliseconds, and a producer stamps before it sends.
const AHEAD_MICROS_MAX: i64 = 2_000_000;
/// Bytes of the queue of a client that reads nothing.
const QUEUE_BYTES: usize = 1 << 20;

/// What the job needs of Kafka.
struct Needs {
    job: String,
    servers: String,
    kafka: KafkaSpec,
    secrets: Secrets,
    routes: Result<TopicRoutes, SourceError>,
    /// Topics that rows, dead letters or late rows go to.
    written: BTreeSet<String>,
}

/// The check.
pub(super) fn check(planned: &PlannedJob, options: &RunOptions) -> Check {
    let topic = |plan: &SinkPlan| match plan {
        SinkPlan::Topic(settings) => Some(settings.topic.clone()),
        SinkPlan::DeadLetterTopic { topic, .. } => Some(topic.clone()),
        SinkPlan::Table(_) | SinkPlan::Stdout { .. } => None,
    };
    let mut written: BTreeSet<String> = planned.flows.iter().filter_map(|flow| topic(&flow.writes)).collect();
    if let BadRecords::Keep(plan) = planned.bad_records() {
        written.extend(topic(&plan));
    }
    let needs = Needs {
        job: planned.name().to_owned(),
        servers: planned.bootstrap_servers(options),
        kafka: planned.kafka(),
        secrets: options.secrets.clone(),
        routes: TopicRoutes::new(&planned.loaded.job.spec.sources),
        written,
    };
    Check::new(planned.name(), "brokers", Reason::KafkaUnreachable, move || async move { needs.examine() })
}

/// The schema registry of a job that has one: asked for a schema, whether there is one of this number or not.
pub(super) fn registry(planned: &PlannedJob, options: &RunOptions) -> Option<Check> {
    let registry = HttpRegistry::of(&planned.kafka(), &options.secrets, false)?;
    Some(Check::one(planned.name(), "schema registry", Reason::SchemaRegistryUnreachable, move || async move {
        let url = registry.address().to_owned();
        let answered = registry.schema(1).map(|_| format!("{url} answers")).map_err(|error| {
            JobError::from(match error {
                RegistryError::Passing(detail) => SourceError::RegistryUnreachable { url, detail },
                RegistryError::Refused(detail) => SourceError::RegistryRefused { url, detail },
                RegistryError::Secret(problem) => SourceError::Secret(problem),
            })
        });
        Outcome::from(answered)
    }))
}

fn finding(name: impl Into<String>, outcome: Outcome) -> Finding {
    Finding { name: name.into(), outcome }
}

impl Needs {
    fn examine(self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let asked = self.ask(&mut findings);
        if let Err(error) = asked {
            findings.push(finding("brokers", Outcome::Failed(error.into())));
            let why = || Outcome::Skipped("the brokers do not answer".to_owned());
            findings.extend(["topics", "group", "clock and Kafka"].map(|name| finding(name, why())));
        }
        findings
    }

    /// Asks one thing after the other; an error is one of the connection, and nothing was found then.
    fn ask(self, findings: &mut Vec<Finding>) -> Result<(), SourceError> {
        let mut source = KafkaSource::new(KafkaSourceSettings {
            job: &self.job,
            kafka: &self.kafka,
            routes: self.routes?,
            bootstrap_servers: &self.servers,
            secrets: self.secrets,
            queue_bytes: QUEUE_BYTES,
            patient: false,
            rest_after: None,
            trouble: Trouble::default(),
            schemas: Arc::new(Schemas::none()),
        });
        let (brokers, cluster) = source.brokers()?;
        let found = format!("{} of the cluster {cluster}: {}", counted(brokers.len(), "broker"), brokers.join(", "));
        findings.push(finding("brokers", Outcome::Ok(found)));
        let read = match source.source_topics() {
            Ok(read) => read,
            Err(error) => {
                findings.push(finding("topics", Outcome::Failed(error.into())));
                Vec::new()
            }
        };
        let all: Vec<_> = read.iter().chain(&self.written).cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let mut partitions = BTreeMap::new();
        match source.inspect_topics(&all) {
            Ok(topics) => {
                for (name, topic) in topics {
                    if let Some(topic) = topic.as_ref().ok().filter(|_| read.contains(&name)) {
                        partitions.insert(name.clone(), topic.partitions);
                    }
                    let uses = Uses { reads: read.contains(&name), writes: self.written.contains(&name) };
                    findings.push(finding(format!("topic {name}"), of_topic(&name, topic, uses)));
                }
            }
            Err(error) => findings.push(finding("topics", Outcome::Failed(error.into()))),
        }
        findings.push(finding("group", of_group(source.inspect_group())));
        let newest = source.newest_time(&partitions);
        findings.push(finding("clock and Kafka", of_newest(newest, SystemClock.now())));
        Ok(())
    }
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// What a job does with a topic.
#[derive(Clone, Copy, Debug)]
struct Uses {
    reads: bool,
    writes: bool,
}

fn of_topic(name: &str, topic: Result<InspectedTopic, SourceError>, uses: Uses) -> Outcome {
    let topic = match topic {
        Ok(topic) => topic,
        Err(error) => return Outcome::Failed(error.into()),
    };
    let mut missing = Vec::new();
    if uses.reads && topic.may_read == Some(false) {
        missing.push("READ");
    }
    if uses.writes && topic.may_write == Some(false) {
        missing.push("WRITE");
    }
    if !missing.is_empty() {
        let rights = missing.join(" and ");
        let message = format!("Kafka does not give this job the right to {rights} the topic {name:?}");
        let cure = format!("allow the user of this job to {rights} and DESCRIBE the topic {name}");
        return Outcome::Failed(JobError::user(Reason::NotAuthorized, message, cure));
    }
    let may = match (uses.reads, uses.writes) {
        (true, true) => "may be read and written",
        (true, false) => "may be read",
        _ => "may be written",
    };
    let is_told = topic.may_read.is_some();
    let rights = if is_told { may.to_owned() } else { format!("the brokers do not tell whether it {may}") };
    Outcome::Ok(format!("{}, {rights}", counted(usize::try_from(topic.partitions).unwrap_or(0), "partition")))
}

/// The job runs without: only tools that show the lag of the group see nothing of it.
fn of_group(group: Result<(String, Option<bool>), SourceError>) -> Outcome {
    match group {
        Ok((group, Some(true))) => Outcome::Ok(format!("{group}: its offsets may be told")),
        Ok((group, None)) => Outcome::Ok(format!("{group}: the brokers do not tell the rights")),
        Ok((group, Some(false))) => Outcome::Warning {
            message: format!("{group}: the job may not tell its offsets, so that lag tools see none"),
            cure: format!("allow the user of this job to READ and DESCRIBE the group {group}, or set kafka.groupId"),
        },
        Err(error) => {
            let error = JobError::from(error);
            Outcome::Warning { message: error.message, cure: error.cure }
        }
    }
}

fn of_newest(newest: Result<Option<i64>, SourceError>, now: i64) -> Outcome {
    match newest {
        Ok(None) => Outcome::Skipped("there is no record whose time could be compared".to_owned()),
        Ok(Some(newest)) if newest > now + AHEAD_MICROS_MAX => {
            let seconds = (newest - now) / 1_000_000;
            Outcome::Warning {
                message: format!("the newest record is of {seconds} s after the time of this machine's clock"),
                cure:
                    "set the clock of this machine, or that of the producer, by a time server; records too far in the \
                       future are dropped and counted (eventTime.maxFutureSkew)"
                        .to_owned(),
            }
        }
        Ok(Some(newest)) => {
            let newest = crate::commands::ago(newest, now);
            Outcome::Ok(format!("the newest record is of {newest}, so this clock is not behind"))
        }
        Err(error) => {
            let error = JobError::from(error);
            Outcome::Warning { message: error.message, cure: error.cure }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(outcome: &Outcome) -> Option<Reason> {
        match outcome {
            Outcome::Failed(error) => Some(error.reason),
            _ => None,
        }
    }

    #[test]
    fn a_topic_needs_the_rights_that_its_use_asks_for() {
        let topic = |may_read, may_write| Ok(InspectedTopic { partitions: 6, may_read, may_write });
        let (reads, writes) = (Uses { reads: true, writes: false }, Uses { reads: false, writes: true });
        let both = Uses { reads: true, writes: true };
        let (yes, no) = (Some(true), Some(false));
        for (topic, uses, expected) in [
            (topic(yes, no), reads, Ok("6 partitions, may be read")),
            (topic(no, yes), reads, Err("READ the topic")),
            (topic(yes, no), writes, Err("WRITE the topic")),
            (topic(no, yes), writes, Ok("6 partitions, may be written")),
            (topic(no, no), both, Err("READ and WRITE the topic")),
            (topic(yes, yes), both, Ok("6 partitions, may be read and written")),
            (topic(None, None), reads, Ok("6 partitions, the brokers do not tell whether it may be read")),
        ] {
            match (of_topic("t", topic, uses), expected) {
                (Outcome::Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Outcome::Failed(error), Err(part)) => {
                    assert_eq!(error.reason, Reason::NotAuthorized);
                    assert!(error.message.contains(part), "{error}");
                }
                (found, expected) => panic!("{found:?} instead of {expected:?}"),
            }
        }
        let missing = SourceError::TopicMissing { topic: "t".into(), servers: "b:1".into(), hint: String::new() };
        assert_eq!(failed(&of_topic("t", Err(missing), reads)), Some(Reason::TopicNotFound));
    }

    #[test]
    fn a_group_without_rights_and_a_clock_that_is_behind_are_warnings() {
        let is_warning = |outcome: Outcome| matches!(outcome, Outcome::Warning { .. });
        assert!(is_warning(of_group(Ok(("g".to_owned(), Some(false))))));
        assert!(!is_warning(of_group(Ok(("g".to_owned(), Some(true))))));
        assert!(!is_warning(of_group(Ok(("g".to_owned(), None)))));
        let second = 1_000_000;
        assert!(is_warning(of_newest(Ok(Some(100 * second)), 50 * second)));
        assert!(!is_warning(of_newest(Ok(Some(100 * second)), 99 * second)));
        assert!(matches!(of_newest(Ok(None), 0), Outcome::Skipped(_)));
    }
}
