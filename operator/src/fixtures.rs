//! What tests of whole reconciles share: an operator of any kind of jobs over an API server in memory.

use std::marker::PhantomData;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::args::{Args, RunnerSettings};
use crate::child::ChildKind;
use crate::context::{Context, Scope};
use crate::kind::JobResource;
use crate::metrics::Metrics;
use crate::observed::Observed;
use crate::reconcile::{Reconcile, reconcile};

pub(crate) mod api_server;
pub(crate) mod golden;

use api_server::{ApiServer, Fault};

/// What the operator of these tests gives to every pod.
pub(crate) fn settings() -> RunnerSettings {
    let args = [
        "x",
        "--runner-image",
        "localhost/data-platform-runner:test",
        "--storage-claim",
        "data",
        "--check-queries=false",
    ];
    let any = ["--allowed-claims=*", "--allowed-service-accounts=*", "--allowed-priority-classes=*"];
    <Args as clap::Parser>::parse_from(args.into_iter().chain(any)).runner()
}

/// An operator with one scope over an API server in memory.
pub(crate) struct Operator<K> {
    server: ApiServer,
    pub(crate) context: Arc<Context>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Reconcile> Operator<K> {
    pub(crate) fn new(server: &ApiServer) -> Self {
        Self::with(server, settings())
    }

    pub(crate) fn with(server: &ApiServer, settings: RunnerSettings) -> Self {
        let scope = Arc::new(Scope::new(Some("n".to_owned())));
        let context = Context::new(server.client(), settings, "test".to_owned(), Metrics::alone(), scope);
        Self { server: server.clone(), context: Arc::new(context), kind: PhantomData }
    }

    /// What the watches would have brought.
    pub(crate) fn catch_up(&self) {
        let scope = &self.context.scope;
        for kind in ChildKind::ALL {
            self.server.list_into(scope.children.of(kind), kind);
        }
    }

    /// One reconcile of the job `a`; `false`: it is to be tried again.
    pub(crate) async fn reconcile(&self) -> bool {
        let Some(job) = self.server.get(&K::plural(&()), "a") else { return true };
        let observed: Observed<K> = serde_json::from_value(job).unwrap();
        self.context.checkpoints.note(&crate::watch::key(&observed), &observed);
        self.context.dependencies.note(&crate::watch::key(&observed), &observed);
        reconcile(Arc::new(observed), Arc::clone(&self.context)).await.is_ok()
    }

    /// Reconciles until nothing is left to do.
    pub(crate) async fn settle(&self) {
        for _ in 0..20 {
            self.catch_up();
            let before = self.server.writes();
            if self.reconcile().await && self.server.writes() == before {
                return;
            }
        }
        panic!("the operator writes without end: {:#?}", self.server.log());
    }

    pub(crate) fn ready(&self) -> (String, String) {
        let job = self.server.get(&K::plural(&()), "a").unwrap();
        let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready").cloned().unwrap_or_default();
        let text = |name: &str| ready[name].as_str().unwrap_or_default().to_owned();
        (text("reason"), text("message"))
    }
}

/// A server with a claim and the job `a`.
pub(crate) fn server_with<K: JobResource>(job: &K) -> ApiServer {
    let server = ApiServer::default();
    server.put(
        "persistentvolumeclaims",
        json!({"metadata": {"name": "data", "namespace": "n"}, "spec": {"accessModes": ["ReadWriteOnce"]}}),
    );
    server.put(&K::plural(&()), serde_json::to_value(job).unwrap());
    server
}

/// What is in the cluster, without what differs from run to run.
pub(crate) fn children(server: &ApiServer) -> Value {
    let kinds = ["configmaps", "services", "deployments", "cronjobs", "jobs"];
    let mut found = json!({});
    for kind in kinds {
        for name in server.names(kind) {
            let mut object = server.get(kind, &name).unwrap();
            for field in ["uid", "resourceVersion", "generation", "creationTimestamp"] {
                object["metadata"].as_object_mut().unwrap().remove(field);
            }
            found[kind][&name] = object;
        }
    }
    found
}

/// Compares what two servers hold; a difference is told by its place.
pub(crate) fn assert_same(found: &Value, expected: &Value, what: &str) {
    fn differences(found: &Value, expected: &Value, path: &str, told: &mut Vec<String>) {
        match (found, expected) {
            (Value::Object(one), Value::Object(other)) => {
                for name in one.keys().chain(other.keys().filter(|name| !one.contains_key(*name))) {
                    differences(&found[name], &expected[name], &format!("{path}/{name}"), told);
                }
            }
            _ if found != expected => told.push(format!("{path}: {found} instead of {expected}")),
            _ => {}
        }
    }
    let mut told = Vec::new();
    differences(found, expected, "", &mut told);
    assert!(told.is_empty(), "{what}: {told:#?}");
}

/// Each call of the first reconciles fails in each way, one at a time; afterwards the same objects are there.
pub(crate) async fn whatever_fails<K: Reconcile>(job: &K) {
    let reference = server_with(job);
    Operator::<K>::new(&reference).settle().await;
    let (expected, calls) = (children(&reference), reference.log().len());
    assert!(calls >= 4, "{calls}");
    let mut faults = 0;
    for call in 0..calls {
        for fault in Fault::ALL {
            let server = server_with(job);
            server.fail(call, fault);
            let mut operator = Operator::<K>::new(&server);
            for _ in 0..5 {
                operator.catch_up();
                if !operator.reconcile().await && fault == Fault::Crash {
                    // A process that crashed remembers nothing.
                    operator = Operator::new(&server);
                }
            }
            operator.settle().await;
            assert!(server.has_failed(), "call {call} {fault:?} was never made");
            assert_same(&children(&server), &expected, &format!("call {call} {fault:?}"));
            faults += 1;
        }
    }
    assert_eq!(faults, calls * Fault::ALL.len());
}

/// A generator of random numbers, the same for the same seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}
