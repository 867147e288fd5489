//! Which settings of librdkafka a job may give in `kafka.config`: an allow-list, with the reason for what is not on it.
//!
//! Some settings load a file or run a program (`plugin.library.paths`, `sasl.kerberos.kinit.cmd`), some call an address
//! (`sasl.oauthbearer.token.endpoint.url`), some break what the runner promises (`enable.auto.commit`,
//! `isolation.level`) or its memory limit (`queued.max.messages.kbytes`). So a job names only what is known to be
//! harmless. Source: librdkafka 2.12, CONFIGURATION.md.

use crate::problem::did_you_mean;

/// What a value of an allowed setting looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Integer,
    Number,
    Boolean,
    Text,
}

/// Settings that change time-outs, sizes and intervals, or say who is asking.
const ALLOWED: &[(&str, Form)] = &[
    ("api.version.request.timeout.ms", Form::Integer),
    ("batch.num.messages", Form::Integer),
    ("batch.size", Form::Integer),
    ("broker.address.family", Form::Text),
    ("broker.address.ttl", Form::Integer),
    ("check.crcs", Form::Boolean),
    ("client.dns.lookup", Form::Text),
    ("client.id", Form::Text),
    ("client.rack", Form::Text),
    ("compression.codec", Form::Text),
    ("compression.level", Form::Integer),
    ("compression.type", Form::Text),
    ("connections.max.idle.ms", Form::Integer),
    ("debug", Form::Text),
    ("delivery.timeout.ms", Form::Integer),
    ("fetch.error.backoff.ms", Form::Integer),
    ("fetch.max.bytes", Form::Integer),
    ("fetch.message.max.bytes", Form::Integer),
    ("fetch.min.bytes", Form::Integer),
    ("fetch.queue.backoff.ms", Form::Integer),
    ("fetch.wait.max.ms", Form::Integer),
    ("heartbeat.interval.ms", Form::Integer),
    ("linger.ms", Form::Number),
    ("log.connection.close", Form::Boolean),
    ("max.in.flight.requests.per.connection", Form::Integer),
    ("max.partition.fetch.bytes", Form::Integer),
    ("max.poll.interval.ms", Form::Integer),
    ("message.max.bytes", Form::Integer),
    ("message.timeout.ms", Form::Integer),
    ("metadata.max.age.ms", Form::Integer),
    ("partitioner", Form::Text),
    ("queue.buffering.max.ms", Form::Number),
    ("receive.message.max.bytes", Form::Integer),
    ("reconnect.backoff.max.ms", Form::Integer),
    ("reconnect.backoff.ms", Form::Integer),
    ("request.timeout.ms", Form::Integer),
    ("retry.backoff.max.ms", Form::Integer),
    ("retry.backoff.ms", Form::Integer),
    ("session.timeout.ms", Form::Integer),
    ("socket.connection.setup.timeout.ms", Form::Integer),
    ("socket.keepalive.enable", Form::Boolean),
    ("socket.max.fails", Form::Integer),
    ("socket.nagle.disable", Form::Boolean),
    ("socket.receive.buffer.bytes", Form::Integer),
    ("socket.send.buffer.bytes", Form::Integer),
    ("socket.timeout.ms", Form::Integer),
    ("ssl.cipher.suites", Form::Text),
    ("ssl.curves.list", Form::Text),
    ("ssl.endpoint.identification.algorithm", Form::Text),
    ("ssl.sigalgs.list", Form::Text),
    ("sticky.partitioning.linger.ms", Form::Integer),
    ("topic.metadata.propagation.max.ms", Form::Integer),
    ("topic.metadata.refresh.fast.interval.ms", Form::Integer),
    ("topic.metadata.refresh.interval.ms", Form::Integer),
    ("topic.metadata.refresh.sparse", Form::Boolean),
];

/// Beginnings of names that are refused for a known reason: why, and what to do. The first that fits counts.
const REFUSED: &[(&str, &str, &str)] = &[
    ("bootstrap.servers", "it has its own field", "use kafka.bootstrapServers"),
    ("metadata.broker.list", "it has its own field", "use kafka.bootstrapServers"),
    ("group.id", "it has its own field", "use kafka.groupId"),
    (
        "auto.offset.reset",
        "where a job begins has its own field, and later it never jumps by itself",
        "use kafka.startingOffsets",
    ),
    ("isolation.level", "it has its own field", "use kafka.isolationLevel"),
    ("security.protocol", "it follows from tls and sasl", "use kafka.tls and kafka.sasl"),
    ("sasl.kerberos", "it may run a program, and Kerberos is not supported", "use kafka.sasl with SCRAM-SHA-512"),
    ("sasl.oauthbearer", "it may call any address, and has its own field", "use kafka.sasl.oauth"),
    ("enable.sasl.oauthbearer", "it has its own field", "use kafka.sasl.oauth"),
    ("sasl.", "it has its own field, and a secret never stands in a job", "use kafka.sasl"),
    (
        "enable.ssl.certificate.verification",
        "without it anybody can play the broker",
        "give the broker's CA in kafka.tls.ca",
    ),
    ("ssl.engine", "it loads a program", "leave it out"),
    ("ssl.providers", "it loads a program", "leave it out"),
    ("ssl.", "it has its own field, and a secret or a file name never stands in a job", "use kafka.tls"),
    ("https.", "it names a file", "use kafka.tls"),
    ("plugin.", "it loads a program", "leave it out"),
    ("enable.auto.commit", "the job keeps its positions in its own log", "leave it out"),
    ("auto.commit", "the job keeps its positions in its own log", "leave it out"),
    ("enable.auto.offset.store", "the job keeps its positions in its own log", "leave it out"),
    ("offset.store", "the job keeps its positions in its own log", "leave it out"),
    ("enable.partition.eof", "the runner needs its own value", "leave it out"),
    ("enable.idempotence", "the runner needs its own value, else records could come twice", "leave it out"),
    ("enable.gapless", "the runner needs its own value", "leave it out"),
    ("transactional.id", "the runner needs its own value", "leave it out"),
    ("transaction.timeout", "the runner needs its own value", "leave it out"),
    ("acks", "the runner waits for every replica, else records could be lost", "leave it out"),
    ("request.required.acks", "the runner waits for every replica, else records could be lost", "leave it out"),
    ("retries", "the runner needs its own value, else records could be lost", "use delivery.timeout.ms"),
    (
        "message.send.max.retries",
        "the runner needs its own value, else records could be lost",
        "use delivery.timeout.ms",
    ),
    ("queued.", "the runner sets it from the memory limit", "change the memory limit instead"),
    ("queue.buffering.max.kbytes", "the runner sets it from the memory limit", "change the memory limit instead"),
    ("queue.buffering.max.messages", "the runner sets it from the memory limit", "change the memory limit instead"),
    ("partition.assignment.strategy", "the runner assigns partitions itself", "leave it out"),
    ("group.", "the runner assigns partitions itself", "leave it out"),
    ("statistics.interval.ms", "the runner reads the statistics itself", "leave it out"),
    ("log", "the runner sets it from the log level", "use logLevel, or debug for one area of librdkafka"),
    ("allow.auto.create.topics", "a topic that is missing must be noticed, not made", "leave it out"),
    ("topic.blacklist", "topics have their own fields", "use topics or topicPattern of the source"),
];

/// Why a setting may not stand in `kafka.config`, and what to do. `None`: it may.
pub(crate) fn refusal(name: &str, value: &str) -> Option<(String, String)> {
    if let Some((_, form)) = ALLOWED.iter().find(|(allowed, _)| *allowed == name) {
        return misfit(*form, value).map(|(expected, example)| {
            (format!("{value:?} is not {expected}"), format!("write {expected}, such as \"{example}\""))
        });
    }
    if let Some((_, reason, cure)) = REFUSED.iter().find(|(beginning, ..)| name.starts_with(beginning)) {
        return Some((format!("{name} cannot be set here: {reason}"), (*cure).to_owned()));
    }
    let cure = did_you_mean(name, ALLOWED.iter().map(|(name, _)| *name))
        .map_or_else(|| "leave it out".to_owned(), |meant| format!("did you mean {meant}?"));
    Some((
        format!("{name} is not among the settings that a job may give: time-outs, sizes, intervals, client.id"),
        cure,
    ))
}

fn misfit(form: Form, value: &str) -> Option<(&'static str, &'static str)> {
    match form {
        Form::Integer if value.parse::<i64>().is_err() => Some(("a whole number", "1000")),
        Form::Number if value.parse::<f64>().is_err() => Some(("a number", "5")),
        Form::Boolean if !matches!(value, "true" | "false") => Some(("true or false", "true")),
        Form::Text if value.is_empty() => Some(("a text", "my-client")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_do_not_contradict_each_other() {
        for pair in ALLOWED.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{} is out of order or stands twice", pair[1].0);
        }
        for (beginning, ..) in REFUSED {
            assert!(!ALLOWED.iter().any(|(name, _)| name == beginning), "{beginning} is on both lists");
        }
    }

    #[test]
    fn a_refused_setting_says_why_and_what_instead() {
        for (name, value, reason, cure) in [
            ("group.id", "x", "its own field", "use kafka.groupId"),
            ("group.instance.id", "x", "assigns partitions itself", "leave it out"),
            ("plugin.library.paths", "/x.so", "loads a program", "leave it out"),
            ("ssl.ca.location", "/x", "a file name never stands", "use kafka.tls"),
            ("ssl.engine.location", "/x", "loads a program", "leave it out"),
            ("sasl.password", "x", "a secret never stands", "use kafka.sasl"),
            ("sasl.kerberos.kinit.cmd", "x", "run a program", "use kafka.sasl with SCRAM-SHA-512"),
            ("auto.offset.reset", "earliest", "never jumps by itself", "use kafka.startingOffsets"),
            ("socket.timeout.sm", "1", "not among the settings", "did you mean socket.timeout.ms?"),
            ("nonsense", "1", "not among the settings", "leave it out"),
            ("socket.timeout.ms", "1s", "\"1s\" is not a whole number", "write a whole number, such as \"1000\""),
            ("check.crcs", "yes", "\"yes\" is not true or false", "write true or false, such as \"true\""),
        ] {
            let (message, found) = refusal(name, value).unwrap_or_else(|| panic!("{name} is allowed"));
            assert!(message.contains(reason), "{name}: {message}");
            assert_eq!(found, cure, "{name}");
        }
        for (name, value) in
            [("client.id", "me"), ("socket.timeout.ms", "5000"), ("linger.ms", "0.5"), ("check.crcs", "true")]
        {
            assert_eq!(refusal(name, value), None, "{name}");
        }
    }
}
