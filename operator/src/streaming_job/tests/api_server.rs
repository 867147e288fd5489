//! An API server in memory: objects by plural and name, server-side apply with one applier, uids, resource versions,
//! preconditions; and calls that fail in a chosen way.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::names::APPLIED;
use crate::observed::Observed;

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process dies before the call.
    Crash,
    /// Somebody else was faster.
    Conflict,
    /// Too old.
    Gone,
    /// Too many requests.
    TooMany,
    /// The server is broken.
    Broken,
    /// The call is carried out, but its answer is lost.
    LostAnswer,
}

impl Fault {
    pub(super) const ALL: [Self; 6] =
        [Self::Crash, Self::Conflict, Self::Gone, Self::TooMany, Self::Broken, Self::LostAnswer];
}

#[derive(Default)]
struct State {
    /// By plural and name.
    objects: BTreeMap<(String, String), Value>,
    version: u64,
    log: Vec<String>,
    writes: usize,
    fault: Option<(usize, Fault)>,
    has_failed: bool,
}

/// An API server in memory. Clones share it.
#[derive(Clone, Default)]
pub(super) struct ApiServer {
    state: Arc<Mutex<State>>,
}

impl ApiServer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "n")
    }

    pub(super) fn put(&self, plural: &str, mut object: Value) {
        let mut state = self.lock();
        state.version += 1;
        let version = state.version;
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = format!("uid-{version}").into();
        }
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        state.objects.insert((plural.to_owned(), name), object);
    }

    pub(super) fn edit(&self, plural: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(plural, name).unwrap();
        change(&mut object);
        self.put(plural, object);
    }

    pub(super) fn remove(&self, plural: &str, name: &str) {
        self.lock().objects.remove(&(plural.to_owned(), name.to_owned()));
    }

    pub(super) fn get(&self, plural: &str, name: &str) -> Option<Value> {
        self.lock().objects.get(&(plural.to_owned(), name.to_owned())).cloned()
    }

    pub(super) fn names(&self, plural: &str) -> Vec<String> {
        self.lock().objects.keys().filter(|(found, _)| found == plural).map(|(_, name)| name.clone()).collect()
    }

    /// What was asked.
    pub(super) fn log(&self) -> Vec<String> {
        self.lock().log.clone()
    }

    /// Calls that changed something, or tried to.
    pub(super) fn writes(&self) -> usize {
        self.lock().writes
    }

    /// Lets a call fail, counted from 0.
    pub(super) fn fail(&self, call: usize, fault: Fault) {
        self.lock().fault = Some((call, fault));
    }

    pub(super) fn has_failed(&self) -> bool {
        self.lock().has_failed
    }

    /// Brings a cache to what is there, as a list does. Only what carries the operator's label.
    pub(super) fn list_into<K>(&self, cache: &Cache<Observed<K>>, plural: &str) {
        cache.apply(Event::Init);
        for name in self.names(plural) {
            let object = self.get(plural, &name).unwrap();
            if object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "data-platform" {
                cache.apply(Event::InitApply(serde_json::from_value(object).unwrap()));
            }
        }
        cache.apply(Event::InitDone);
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap_or_default();
        let fault = {
            let mut state = self.lock();
            state.log.push(format!("{} {}", parts.method, parts.uri));
            let call = state.log.len() - 1;
            let fault = state.fault.filter(|(at, _)| *at == call).map(|(_, fault)| fault);
            state.has_failed |= fault.is_some();
            fault
        };
        let error = match fault {
            None | Some(Fault::LostAnswer) => None,
            Some(Fault::Crash) => Some((StatusCode::BAD_GATEWAY, "Crash")),
            Some(Fault::Conflict) => Some((StatusCode::CONFLICT, "Conflict")),
            Some(Fault::Gone) => Some((StatusCode::GONE, "Expired")),
            Some(Fault::TooMany) => Some((StatusCode::TOO_MANY_REQUESTS, "TooManyRequests")),
            Some(Fault::Broken) => Some((StatusCode::INTERNAL_SERVER_ERROR, "InternalError")),
        };
        let (code, answer) = match error {
            Some((code, reason)) => (code, status(code, reason)),
            None => self.carry_out(&parts.method, &parts.uri, &body),
        };
        let (code, answer) = match fault {
            Some(Fault::LostAnswer) => (StatusCode::GATEWAY_TIMEOUT, status(StatusCode::GATEWAY_TIMEOUT, "Timeout")),
            _ => (code, answer),
        };
        Response::builder().status(code).body(Body::from(answer.to_string().into_bytes())).unwrap()
    }

    fn carry_out(&self, method: &Method, uri: &http::Uri, body: &Value) -> (StatusCode, Value) {
        let path: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let namespaces = path.iter().position(|part| *part == "namespaces").unwrap();
        let (plural, name) = (path[namespaces + 2], path.get(namespaces + 3).copied());
        let is_status = path.get(namespaces + 4) == Some(&"status");
        if *method != Method::GET {
            self.lock().writes += 1;
        }
        let Some(name) = name else {
            if *method == Method::POST {
                return (StatusCode::CREATED, body.clone());
            }
            return (StatusCode::OK, json!({"metadata": {}, "items": []}));
        };
        let not_found = || (StatusCode::NOT_FOUND, status(StatusCode::NOT_FOUND, "NotFound"));
        let conflict = || (StatusCode::CONFLICT, status(StatusCode::CONFLICT, "Conflict"));
        let found = self.get(plural, name);
        match *method {
            Method::GET => found.map_or_else(not_found, |object| (StatusCode::OK, object)),
            Method::DELETE => match found {
                None => not_found(),
                Some(object) if body["preconditions"]["uid"] != object["metadata"]["uid"] => conflict(),
                Some(object) => {
                    self.remove(plural, name);
                    (StatusCode::OK, object)
                }
            },
            Method::PATCH => {
                let uid = &body["metadata"]["uid"];
                if !uid.is_null() && found.as_ref().is_none_or(|object| object["metadata"]["uid"] != *uid) {
                    return conflict();
                }
                let applied = match (found, is_status) {
                    (None, true) => return not_found(),
                    (Some(mut object), true) => {
                        object["status"] = body["status"].clone();
                        object
                    }
                    // Without force somebody else's fields are a conflict.
                    (Some(_), false) if !uri.query().unwrap_or_default().contains("force=true") => return conflict(),
                    (Some(object), false) => merged(&object, body),
                    (None, false) => body.clone(),
                };
                self.put(plural, applied);
                (StatusCode::OK, self.get(plural, name).unwrap())
            }
            _ => (StatusCode::METHOD_NOT_ALLOWED, status(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed")),
        }
    }
}

/// What an apply makes of an object: what was applied, and of the rest the labels and annotations of others.
fn merged(object: &Value, applied: &Value) -> Value {
    let mut merged = applied.clone();
    for field in ["labels", "annotations"] {
        for (name, value) in object["metadata"][field].as_object().into_iter().flatten() {
            let is_ours = name == APPLIED || name.contains("dataplatform.io") || name.starts_with("app.kubernetes.io");
            if !is_ours && merged["metadata"][field][name].is_null() {
                merged["metadata"][field][name] = value.clone();
            }
        }
    }
    merged["metadata"]["uid"] = object["metadata"]["uid"].clone();
    if !object["status"].is_null() {
        merged["status"] = object["status"].clone();
    }
    merged
}

fn status(code: StatusCode, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code.as_u16()})
}
