//! Tokens for the login by SASL OAUTHBEARER: from the token endpoint of an OpenID Connect provider, by client id and secret.
//!
//! librdkafka asks for a token when a client is made and again when four fifths of its life are over; it calls from wherever the
//! client is polled. Id and secret are read at each request, so that a rotated secret is taken up by the next token.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use data_platform_crds::kafka::OauthSpec;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rdkafka::client::OAuthToken;
use serde::Deserialize;
use serde_json::Value;

use super::config::Secrets;
use crate::clock::{Clock, SystemClock};
use crate::source::web::{self, Answer, WebError};

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It may pass.
    #[error("the token endpoint {url} does not answer as it should: {detail}")]
    Passing {
        /// The endpoint.
        url: String,
        /// What happened.
        detail: String,
    },
    /// Somebody must change something.
    #[error("the token endpoint {url} refuses us: {detail}")]
    Refused {
        /// The endpoint.
        url: String,
        /// What happened.
        detail: String,
    },
    /// A secret cannot be read.
    #[error("{0}")]
    Secret(String),
}

/// Where tokens come from.
#[derive(Clone, Debug)]
pub struct Tokens {
    spec: OauthSpec,
    secrets: Secrets,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Option<i64>,
}

impl Tokens {
    /// Tokens of this endpoint.
    pub fn new(spec: OauthSpec, secrets: Secrets) -> Self {
        Self { spec, secrets }
    }

    /// A new token.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn fetch(&self) -> Result<OAuthToken, TokenError> {
        let url = &self.spec.token_url;
        let secret =
            |what, source| self.secrets.read_line(what, source).map_err(|error| TokenError::Secret(error.to_string()));
        let id = secret("client id", &self.spec.client_id)?;
        let password = secret("client secret", &self.spec.client_secret)?;
        let mut form = "grant_type=client_credentials".to_owned();
        if let Some(scope) = &self.spec.scope {
            write!(form, "&scope={}", encoded(scope)).expect("a text takes what is written to it");
        }
        let tls = self.spec.tls.as_ref().filter(|_| url.starts_with("https://"));
        let answer = web::send(tls, &self.secrets, |client| {
            let request = client.post(url).header("Accept", "application/json");
            let request = request.header("Content-Type", "application/x-www-form-urlencoded").body(form);
            // Encoded before they are joined, as RFC 6749 (2.3.1) says.
            request.basic_auth(encoded(&id), Some(encoded(&password)))
        });
        let answer = answer.map_err(|error| self.of_web(error))?;
        let now_ms = SystemClock.now() / 1_000;
        let (token, lifetime_ms) = self.read(&answer, now_ms)?;
        Ok(OAuthToken { token, principal_name: id, lifetime_ms })
    }

    fn of_web(&self, error: WebError) -> TokenError {
        let url = self.spec.token_url.clone();
        match error {
            WebError::Secret(error) => TokenError::Secret(error.to_string()),
            WebError::Tls(detail) => TokenError::Refused { url, detail },
            WebError::NoAnswer(detail) => TokenError::Passing { url, detail },
        }
    }

    /// The token and the time at which it ends, in milliseconds since 1970.
    fn read(&self, answer: &Answer, now_ms: i64) -> Result<(String, i64), TokenError> {
        let url = self.spec.token_url.clone();
        match answer.status {
            200 => {}
            // What RFC 6749 (5.2) has for a wrong client, scope or request, and what providers make of it.
            400 | 401 | 403 => {
                return Err(TokenError::Refused { url, detail: format!("{}: {}", answer.status, answer.shown()) });
            }
            status => return Err(TokenError::Passing { url, detail: format!("{status}: {}", answer.shown()) }),
        }
        // What was granted is secret: nothing of it is told.
        let passing = |detail: &str| TokenError::Passing { url: url.clone(), detail: detail.to_owned() };
        let granted: Granted =
            serde_json::from_slice(&answer.body).map_err(|_| passing("an answer without access_token"))?;
        let lifetime = granted.expires_in.map(|seconds| now_ms.saturating_add(seconds.saturating_mul(1_000)));
        let lifetime = lifetime.or_else(|| end_of(&granted.access_token));
        let lifetime = lifetime.ok_or_else(|| passing("an answer that does not say how long the token lives"))?;
        if lifetime <= now_ms {
            return Err(passing("a token whose life is over"));
        }
        Ok((granted.access_token, lifetime))
    }
}

/// The end that a JSON Web Token says itself, in milliseconds since 1970.
fn end_of(token: &str) -> Option<i64> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    claims["exp"].as_i64()?.checked_mul(1_000)
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use data_platform_crds::kafka::SecretSource;

    use super::*;

    fn said(status: u16, body: &str) -> String {
        let file = SecretSource { secret_key_ref: None, file: Some("/none".to_owned()) };
        let (client_id, client_secret, scope, tls) = (file.clone(), file, None, None);
        let spec = OauthSpec { token_url: "http://t".to_owned(), client_id, client_secret, scope, tls };
        let tokens = Tokens::new(spec, Secrets::new("/none"));
        let answer = Answer { status, body: body.as_bytes().to_vec() };
        match tokens.read(&answer, 1_000_000) {
            Ok((token, lifetime)) => format!("{token} until {lifetime}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_a_token_endpoint_answers_is_told_apart_and_no_token_is_shown() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"sub": "x", "exp": 2000}"#);
        let jwt = format!("e30.{payload}.c2ln");
        for (status, body, expected) in [
            (200, r#"{"access_token": "t", "expires_in": 60}"#.to_owned(), "t until 1060000".to_owned()),
            (200, format!(r#"{{"access_token": "{jwt}"}}"#), format!("{jwt} until 2000000")),
            (
                200,
                r#"{"access_token": "s3cret"}"#.to_owned(),
                "the token endpoint http://t does not answer as it should: an answer that does not say how long the token lives".to_owned(),
            ),
            (
                200,
                r#"{"access_token": "s3cret", "expires_in": 0}"#.to_owned(),
                "the token endpoint http://t does not answer as it should: a token whose life is over".to_owned(),
            ),
            (
                200,
                "s3cret".to_owned(),
                "the token endpoint http://t does not answer as it should: an answer without access_token".to_owned(),
            ),
            (
                401,
                r#"{"error":"invalid_client"}"#.to_owned(),
                "the token endpoint http://t refuses us: 401: {\"error\":\"invalid_client\"}".to_owned(),
            ),
            (503, String::new(), "the token endpoint http://t does not answer as it should: 503: ".to_owned()),
        ] {
            assert_eq!(said(status, &body), expected);
        }
    }

    #[test]
    fn an_id_is_encoded_before_it_is_joined_with_the_secret() {
        assert_eq!(encoded("a:b c"), "a%3Ab%20c");
    }
}
