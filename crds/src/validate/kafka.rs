//! Brokers, starting offsets and librdkafka's own settings.

use super::Validation;
use crate::field_path::FieldPath;
use crate::kafka::{KafkaSpec, SaslMechanism, StartingOffsets, config};
use crate::problem::did_you_mean;
use crate::source::SourceSpec;

impl Validation {
    pub(super) fn kafka(&mut self, path: &FieldPath, kafka: &KafkaSpec, sources: &[SourceSpec]) {
        if let Some(servers) = &kafka.bootstrap_servers
            && let Err((message, cure)) = bootstrap_servers(servers)
        {
            self.error(path.field("bootstrapServers"), message, cure);
        }
        self.starting_offsets(path.field("startingOffsets"), &kafka.starting_offsets, sources);
        for (name, value) in &kafka.config {
            let here = path.field("config").field(name);
            if let Some((message, cure)) = config::refusal(name, value) {
                self.error(here, message, cure);
            } else if name == "ssl.endpoint.identification.algorithm" && value == "none" {
                let message =
                    "the name in a broker's certificate is not checked: anybody with a certificate can play the broker";
                self.warning(here, message, "give the brokers certificates with their names, and leave this out");
            }
        }
        let sends_password = kafka.sasl.as_ref().is_some_and(|sasl| sasl.mechanism == SaslMechanism::Plain);
        let oauth = kafka.sasl.as_ref().and_then(|sasl| sasl.oauth.as_ref());
        if oauth.is_some() && kafka.tls.is_none() {
            let message = "OAUTHBEARER sends the token unencrypted where there is no tls";
            self.warning(path.field("sasl").field("mechanism"), message, "set tls: {}");
        }
        if oauth.is_some_and(|oauth| oauth.token_url.starts_with("http://")) {
            let message = "the client's secret is sent unencrypted to an address that begins with http://";
            self.warning(path.field("sasl").field("oauth").field("tokenUrl"), message, "use https://");
        }
        if let Some(registry) = &kafka.schema_registry
            && registry.url.starts_with("http://")
            && (registry.password.is_some() || registry.token.is_some())
        {
            let message = "the login is sent unencrypted to an address that begins with http://";
            self.warning(path.field("schemaRegistry").field("url"), message, "use https://");
        }
        if sends_password && kafka.tls.is_none() {
            let message = "PLAIN sends the password unencrypted where there is no tls";
            self.warning(path.field("sasl").field("mechanism"), message, "set tls: {}, or use SCRAM-SHA-512");
        }
    }

    fn starting_offsets(&mut self, path: FieldPath, text: &str, sources: &[SourceSpec]) {
        let topics = match text.parse() {
            Ok(StartingOffsets::Explicit(topics)) => topics,
            Ok(_) => return,
            Err(error) => return self.error(path, format!("{error}"), "write one of these forms"),
        };
        let reads_pattern = sources.iter().any(|source| source.topic_pattern.is_some());
        let read = || sources.iter().flat_map(|source| &source.topics).map(String::as_str);
        for topic in topics.keys().filter(|topic| !read().any(|read| read == *topic)) {
            // A template brings topics that are not known here, and a pattern may match any.
            if reads_pattern || sources.is_empty() {
                continue;
            }
            let cure = did_you_mean(topic, read())
                .map_or_else(|| "name topics of the sources".to_owned(), |meant| format!("did you mean {meant}?"));
            self.error(path.clone(), format!("no source reads the topic {topic}"), cure);
        }
    }
}

/// Checks `host:port` separated by commas.
///
/// # Errors
/// What is wrong, and what to do about it.
pub fn bootstrap_servers(text: &str) -> Result<(), (String, String)> {
    for server in text.split(',').map(str::trim) {
        let example = "write host:port separated by commas, such as kafka-0:9092,kafka-1:9092".to_owned();
        if server.contains("://") {
            return Err((
                format!("{server:?} has a protocol"),
                "write host:port; tls and sasl have their own fields".to_owned(),
            ));
        }
        let Some((host, port)) = server.rsplit_once(':') else {
            let what =
                if server.is_empty() { "an empty entry".to_owned() } else { format!("{server:?} without a port") };
            return Err((format!("the brokers have {what}"), example));
        };
        let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
        let is_address = host.starts_with('[') && host.ends_with(']');
        let is_host = is_address
            || (!host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')));
        if !is_port || !is_host {
            let what = if is_port { "host" } else { "port" };
            return Err((format!("{server:?} has no valid {what}"), example));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_hosts_with_ports() {
        for text in ["kafka:9092", "a:1, b:65535", "10.0.0.1:9092", "[::1]:9092", "kafka_1.x-y:9092"] {
            assert_eq!(bootstrap_servers(text), Ok(()), "{text}");
        }
        for (text, message) in [
            ("kafka", "\"kafka\" without a port"),
            ("a:1,", "an empty entry"),
            ("a:x", "no valid port"),
            ("a:0", "no valid port"),
            ("a:70000", "no valid port"),
            (":9092", "no valid host"),
            ("a b:9092", "no valid host"),
            ("SSL://a:9092", "has a protocol"),
        ] {
            let (found, _) = bootstrap_servers(text).expect_err(text);
            assert!(found.contains(message), "{text}: {found}");
        }
    }
}
