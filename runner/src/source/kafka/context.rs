//! What librdkafka says of its connections, and what of it means that trying again does not help.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::TopicPartitionList;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::token::{TokenError, Tokens};

/// Errors of the client that say why nothing works; newest last.
#[derive(Clone, Debug, Default)]
pub(super) struct ClientErrors {
    pub(super) refused: Option<String>,
    pub(super) unreachable: Option<String>,
    /// There is no token to log in with: no broker can answer before the client asks for one again, in ten seconds.
    pub(super) no_token: bool,
}

/// Takes the client's log and errors.
#[derive(Clone, Default)]
pub(super) struct Context {
    errors: Arc<Mutex<ClientErrors>>,
    tokens: Option<Arc<Tokens>>,
}

impl Context {
    /// With tokens, where the job logs in with them.
    pub(super) fn new(tokens: Option<Tokens>) -> Self {
        Self { errors: Arc::default(), tokens: tokens.map(Arc::new) }
    }

    /// The same without what went wrong.
    pub(super) fn anew(&self) -> Self {
        Self { errors: Arc::default(), tokens: self.tokens.clone() }
    }

    pub(super) fn errors(&self) -> ClientErrors {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets what was wrong: brokers answer again.
    pub(super) fn forget(&self) {
        self.note(|errors| *errors = ClientErrors::default());
    }

    fn note(&self, change: impl FnOnce(&mut ClientErrors)) {
        change(&mut self.errors.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// How the client says that it was given no token.
const NO_TOKEN: &str = "Failed to acquire SASL OAUTHBEARER token";

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let tokens = self.tokens.as_ref().ok_or("no tokens were asked for")?;
        let fetched = tokens.fetch();
        match &fetched {
            Ok(token) => {
                tracing::debug!(ends_ms = token.lifetime_ms, "a new token for the brokers");
                self.note(|errors| errors.no_token = false);
            }
            Err(error @ TokenError::Passing { .. }) => {
                tracing::warn!("{error}");
                self.note(|errors| (errors.unreachable, errors.no_token) = (Some(error.to_string()), true));
            }
            Err(error @ (TokenError::Refused { .. } | TokenError::Secret(_))) => {
                tracing::warn!("{error}");
                self.note(|errors| errors.refused = Some(error.to_string()));
            }
        }
        Ok(fetched?)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters comes as an error event as well; the client's own lines are for a closer look.
        match level {
            RDKafkaLogLevel::Debug | RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => {
                tracing::trace!(target: "librdkafka", facility, "{message}");
            }
            _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        tracing::debug!(target: "librdkafka", %code, "{reason}");
        match code {
            // It follows the error that says why.
            RDKafkaErrorCode::AllBrokersDown => {}
            // Why there is no token was noted when there was none.
            RDKafkaErrorCode::Authentication if self.tokens.is_some() && reason.contains(NO_TOKEN) => {}
            _ => match refusal(code, reason) {
                Some(refusal) => self.note(|errors| errors.refused = Some(refusal)),
                None => self.note(|errors| errors.unreachable = Some(without_circumstances(reason).to_owned())),
            },
        }
    }
}

/// How a handshake of SASL ends that says nothing of the login: the broker wants none now, or there was no answer (whatever
/// this side makes of that: a lost connection, a request that timed out).
const HANDSHAKE_CUT_SHORT: [&str; 2] =
    ["Request not valid in current SASL state", "mechanism handshake failed: Local: "];

/// Why a broker refuses the connection, if this error says that it does: trying again does not help.
fn refusal(code: RDKafkaErrorCode, reason: &str) -> Option<String> {
    let reason = without_circumstances(reason);
    match code {
        // A connection whose token is nearly over logs in again. A broker without `connections.max.reauth.ms` does not take
        // that (seen with librdkafka 2.12 and Kafka 4.4): the client connects anew, with its new token.
        RDKafkaErrorCode::Authentication if HANDSHAKE_CUT_SHORT.iter().any(|word| reason.contains(word)) => None,
        RDKafkaErrorCode::Authentication
        | RDKafkaErrorCode::SaslAuthenticationFailed
        | RDKafkaErrorCode::SSL
        | RDKafkaErrorCode::UnsupportedSASLMechanism
        | RDKafkaErrorCode::ClusterAuthorizationFailed => Some(reason.to_owned()),
        // Since TLS 1.3 a broker judges the client's certificate after the handshake: to the client an alert on an open
        // connection, which librdkafka reports like a lost one.
        _ => {
            let (_, alert) = reason.split_once("tls alert ").or_else(|| reason.split_once("tlsv1 alert "))?;
            let alert = alert.split(':').next().unwrap_or(alert);
            Some(format!(
                "the broker wants a client certificate that it knows, or does not accept ours (TLS alert {alert:?})"
            ))
        }
    }
}

/// An error of the client without what only a developer of it wants to know: `(after 3ms in state AUTH_REQ)`.
fn without_circumstances(reason: &str) -> &str {
    reason.rsplit_once(" (after ").map_or(reason, |(what, _)| what)
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: rdkafka::error::KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "could not tell Kafka's group the offsets; only lag tools need them");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_apart_from_a_lost_connection() {
        use RDKafkaErrorCode::{Authentication, BrokerTransportFailure, SSL};
        let login = "sasl://b:1/bootstrap: SASL authentication error: no (after 352ms in state AUTH_REQ)";
        let told = refusal(Authentication, login);
        assert_eq!(told.as_deref(), Some("sasl://b:1/bootstrap: SASL authentication error: no"));
        assert!(refusal(SSL, "certificate verify failed").is_some());
        let again = "sasl://b:1/1: SASL OAUTHBEARER mechanism handshake failed: Broker: Request not valid in current SASL state: \
                     broker's supported mechanisms:  (after 3ms in state AUTH_HANDSHAKE)";
        assert_eq!(refusal(Authentication, again), None, "it connects anew");
        for local in ["Broker transport failure", "Timed out", "Timed out in queue"] {
            let cut_short = format!(
                "sasl_plaintext://b:1/1: SASL OAUTHBEARER mechanism handshake failed: Local: {local}: broker's supported \
                 mechanisms: (n/a)"
            );
            assert_eq!(refusal(Authentication, &cut_short), None, "nobody refused anything");
        }
        let alert = "ssl://b:1: Receive failed: x.c:918:read error:0A00045C:SSL routines::ssl/tls alert bad certificate: \
                     SSL alert number 42 (after 3ms in state APIVERSION_QUERY)";
        let told = refusal(BrokerTransportFailure, alert).unwrap();
        assert!(told.ends_with("(TLS alert \"bad certificate\")"), "{told}");
        assert_eq!(refusal(BrokerTransportFailure, "b:1: Connection refused (after 0ms in state CONNECT)"), None);
    }
}
