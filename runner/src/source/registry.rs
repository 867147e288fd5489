//! [`HttpRegistry`]: a schema registry with Confluent's API (also Apicurio's `/apis/ccompat/v7`, Karapace, Redpanda).

use std::collections::HashSet;

use data_platform_crds::kafka::{KafkaSpec, SchemaRegistrySpec, TlsSpec};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::kafka::config::Secrets;
use super::schemas::{Registry, RegistryError, SchemaKind, WriterSchema};
use super::web::{self, Answer, WebError};

/// Schemas that one may refer to, together with those that they refer to.
const REFERENCES_MAX: usize = 256;

/// A schema registry.
pub struct HttpRegistry {
    spec: SchemaRegistrySpec,
    tls: Option<TlsSpec>,
    secrets: Secrets,
    /// Some source asks under which subjects a schema is registered.
    with_subjects: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registered {
    schema: String,
    /// Absent where it is Avro.
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: i64,
}

/// Where a schema is registered.
#[derive(Deserialize)]
struct Place {
    subject: String,
}

/// What a registered schema is called by.
#[derive(Deserialize)]
struct Given {
    id: u32,
}

#[derive(Deserialize)]
struct Problem {
    error_code: i64,
}

impl HttpRegistry {
    /// The registry of a job, if it has one.
    pub fn of(kafka: &KafkaSpec, secrets: &Secrets, with_subjects: bool) -> Option<Self> {
        let spec = kafka.schema_registry.clone()?;
        let tls = spec.tls.clone().or_else(|| kafka.tls.clone()).filter(|_| spec.url.starts_with("https://"));
        Some(Self { spec, tls, secrets: secrets.clone(), with_subjects })
    }

    /// A registry without a login.
    pub fn open_at(url: &str) -> Self {
        let (username, password, token, tls) = (None, None, None, None);
        let spec = SchemaRegistrySpec { url: url.to_owned(), username, password, token, tls };
        Self { spec, tls: None, secrets: Secrets::new(""), with_subjects: false }
    }

    /// Registers a schema of Avro under a subject, unless it is there; gives its id.
    ///
    /// # Errors
    /// The registry does not answer, or refuses it.
    pub fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let path = format!("/subjects/{}/versions", utf8_percent_encode(subject, NON_ALPHANUMERIC));
        let body = serde_json::json!({"schemaType": "AVRO", "schema": schema}).to_string();
        let given: Option<Given> = self.ask(&path, |client, url| {
            client.post(url).header("Content-Type", "application/vnd.schemaregistry.v1+json").body(body)
        })?;
        let given = given.ok_or_else(|| RegistryError::Passing(format!("{path} is not known to it")))?;
        Ok(given.id)
    }

    /// Asks for a path; `None` where the registry says that there is no such schema.
    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, RegistryError> {
        self.ask(path, |client, url| client.get(url))
    }

    fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        build: impl FnOnce(&reqwest::Client, &str) -> reqwest::RequestBuilder + Send,
    ) -> Result<Option<T>, RegistryError> {
        let url = format!("{}{path}", self.spec.url.trim_end_matches('/'));
        let secret =
            |what, source: &Option<_>| source.as_ref().map(|source| self.secrets.read_line(what, source)).transpose();
        let told = |error: super::kafka::config::SecretError| RegistryError::Secret(error.to_string());
        let username = secret("user name of the schema registry", &self.spec.username).map_err(told)?;
        let password = secret("password of the schema registry", &self.spec.password).map_err(told)?;
        let token = secret("token of the schema registry", &self.spec.token).map_err(told)?;
        let answer = web::send(self.tls.as_ref(), &self.secrets, |client| {
            let request =
                build(client, &url).header("Accept", "application/vnd.schemaregistry.v1+json, application/json");
            match (username, token) {
                (Some(username), _) => request.basic_auth(username, password),
                (None, Some(token)) => request.bearer_auth(token),
                (None, None) => request,
            }
        });
        read(path, &answer.map_err(of_web)?)
    }

    /// Names and texts of what a schema refers to, each before those that refer to it.
    fn references(
        &self,
        wanted: Vec<Reference>,
        seen: &mut HashSet<String>,
        found: &mut Vec<(String, String)>,
    ) -> Result<(), RegistryError> {
        for reference in wanted {
            if !seen.insert(reference.name.clone()) {
                continue;
            }
            if seen.len() > REFERENCES_MAX {
                return Err(RegistryError::Passing(format!("a schema refers to more than {REFERENCES_MAX} others")));
            }
            let subject = utf8_percent_encode(&reference.subject, NON_ALPHANUMERIC);
            let path = format!("/subjects/{subject}/versions/{}", reference.version);
            let registered: Option<Registered> = self.get(&path)?;
            let registered = registered.ok_or_else(|| {
                let Reference { name, subject, version } = &reference;
                RegistryError::Passing(format!("{name} is to be version {version} of {subject}, and there is none"))
            })?;
            self.references(registered.references, seen, found)?;
            found.push((reference.name, registered.schema));
        }
        Ok(())
    }
}

impl Registry for HttpRegistry {
    fn address(&self) -> &str {
        &self.spec.url
    }

    fn schema(&self, id: u32) -> Result<Option<WriterSchema>, RegistryError> {
        let Some(registered) = self.get::<Registered>(&format!("/schemas/ids/{id}"))? else { return Ok(None) };
        let kind = match registered.schema_type.as_deref().unwrap_or("AVRO") {
            "AVRO" => SchemaKind::Avro,
            "JSON" => SchemaKind::Json,
            "PROTOBUF" => SchemaKind::Protobuf,
            other => return Err(RegistryError::Passing(format!("schema {id} is of the unknown type {other:?}"))),
        };
        let mut references = Vec::new();
        self.references(registered.references, &mut HashSet::new(), &mut references)?;
        let mut subjects = Vec::new();
        if self.with_subjects {
            // Not `/subjects`, which says the same and which Apicurio 3.0 does not have.
            let places: Option<Vec<Place>> = self.get(&format!("/schemas/ids/{id}/versions"))?;
            subjects.extend(places.unwrap_or_default().into_iter().map(|place| place.subject));
        }
        let (text, descriptors) = (registered.schema, None);
        Ok(Some(WriterSchema { id: Some(id), kind, text, descriptors, references, subjects }))
    }
}

fn of_web(error: WebError) -> RegistryError {
    match error {
        WebError::Secret(error) => RegistryError::Secret(error.to_string()),
        WebError::Tls(problem) => RegistryError::Refused(problem),
        WebError::NoAnswer(problem) => RegistryError::Passing(problem),
    }
}

/// What an answer says. A 404 that is not the registry's own says nothing of the schema: the address may be wrong.
fn read<T: DeserializeOwned>(path: &str, answer: &Answer) -> Result<Option<T>, RegistryError> {
    /// No such subject, version, schema.
    const NOT_FOUND: std::ops::RangeInclusive<i64> = 40_401..=40_403;
    let Answer { status, body } = answer;
    match status {
        200 => serde_json::from_slice(body)
            .map(Some)
            .map_err(|error| RegistryError::Passing(format!("{path} gave no schema ({error}): {}", answer.shown()))),
        404 => match serde_json::from_slice::<Problem>(body) {
            Ok(problem) if NOT_FOUND.contains(&problem.error_code) => Ok(None),
            _ => Err(RegistryError::Passing(format!(
                "404 at {path}, and not by a registry (is there a path in its address, as Apicurio's /apis/ccompat/v7?): {}",
                answer.shown()
            ))),
        },
        401 | 403 => Err(RegistryError::Refused(format!("{status} at {path}: {}", answer.shown()))),
        _ => Err(RegistryError::Passing(format!("{status} at {path}: {}", answer.shown()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &str) -> String {
        let answer = Answer { status, body: body.as_bytes().to_vec() };
        match read::<Registered>("/schemas/ids/1", &answer) {
            Ok(None) => "none".to_owned(),
            Ok(Some(registered)) => registered.schema,
            Err(RegistryError::Passing(text)) => format!("passing: {text}"),
            Err(RegistryError::Refused(text)) => format!("refused: {text}"),
            Err(RegistryError::Secret(text)) => text,
        }
    }

    #[test]
    fn what_a_registry_answers_is_told_apart() {
        for (status, body, expected) in [
            (200, r#"{"schema": "\"int\""}"#, "\"int\""),
            (200, r#"{"schema": "x", "schemaType": "JSON", "references": [], "id": 1, "guid": "g"}"#, "x"),
            (200, "<html>login</html>", "passing: /schemas/ids/1 gave no schema"),
            (200, "{}", "passing: /schemas/ids/1 gave no schema"),
            (404, r#"{"error_code": 40403, "message": "Schema 1 not found"}"#, "none"),
            (
                404,
                r#"{"error_code": 404, "message": "HTTP 404 Not Found"}"#,
                "passing: 404 at /schemas/ids/1, and not by",
            ),
            (404, "not here", "passing: 404 at /schemas/ids/1, and not by"),
            (401, "", "refused: 401"),
            (403, "no", "refused: 403 at /schemas/ids/1: no"),
            (500, r#"{"error_code": 50001}"#, "passing: 500"),
            (301, "", "passing: 301"),
        ] {
            let said = said(status, body);
            assert!(said.starts_with(expected), "{status} {body}: {said}");
        }
    }
}
