//! Measures the operator against a real API server: many jobs at once, drift, changes. `bench/operator` runs it.
//!
//! It starts the operator given as its argument, in a namespace of its own, and reads what it does from the API server
//! and from its metrics; its requests from the audit log, if `AUDIT_LOG` names it.

#![allow(clippy::disallowed_methods, reason = "measures how long things take")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use data_platform_crds::crd;
use data_platform_crds::streaming_job::StreamingJob;
use futures::stream::{self, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Config, ResourceExt};
use result::{Result, fail};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

const NAMESPACE: &str = "bench-operator";
const AGENT: &str = "bench-operator";
const PAGES: &str = "127.0.0.1:18080";
/// Longer than anything here should take.
const PATIENCE: Duration = Duration::from_secs(180);
const REPEATS: usize = 200;

/// The errors of this program are for the one who runs it.
mod result {
    pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

    pub(crate) fn fail<T>(text: impl Into<String>) -> Result<T> {
        Err(text.into().into())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut args = std::env::args().skip(1);
    let operator = args.next().ok_or("usage: bench_operator OPERATOR [JOBS]")?;
    let jobs: usize = args.next().map_or(Ok(1000), |text| text.parse())?;
    let mut config = Config::infer().await?;
    // By it the requests of this program are told from those of the operator, which names none.
    config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static(AGENT)));
    let client = Client::try_from(config)?;
    prepare(&client).await?;
    let mut process = Operator::start(&operator)?;
    let measured = measure(&client, jobs, &mut process).await;
    drop(process);
    let namespaces: Api<Namespace> = Api::all(client);
    let _deleted = namespaces.delete(NAMESPACE, &DeleteParams::background()).await;
    measured
}

/// The operator's process; it is killed with this one.
struct Operator(Child);

impl Operator {
    fn start(program: &str) -> Result<Self> {
        let log = std::fs::File::create(std::env::temp_dir().join("bench-operator.log"))?;
        let settings = [
            ("POD_NAMESPACE", NAMESPACE),
            ("HTTP_ADDRESS", PAGES),
            ("STORAGE_CLAIM", "data"),
            ("RUNNER_IMAGE", "localhost/data-platform-runner:test"),
        ];
        Ok(Self(Command::new(program).envs(settings).stderr(Stdio::from(log)).spawn()?))
    }

    /// Its resident memory, in MiB.
    fn memory(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
        Ok(kib / 1024.0)
    }

    /// Processor seconds that it used.
    fn seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _gone = self.0.kill().and_then(|()| self.0.wait());
    }
}

async fn prepare(client: &Client) -> Result<()> {
    let apply = PatchParams::apply("bench").force();
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for (_, crd) in crd::all() {
        crds.patch(&crd.name_any(), &apply, &Patch::Apply(&crd)).await?;
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let deadline = Instant::now() + PATIENCE;
    while namespaces.get_opt(NAMESPACE).await?.is_some_and(|found| found.metadata.deletion_timestamp.is_some()) {
        if Instant::now() > deadline {
            return fail("the namespace of the last run is still there");
        }
        sleep(Duration::from_millis(500)).await;
    }
    namespaces
        .patch(
            NAMESPACE,
            &apply,
            &Patch::Apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})),
        )
        .await?;
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), NAMESPACE);
    claims.patch("data", &apply, &Patch::Apply(claim)).await?;
    Ok(())
}

fn job(i: usize) -> Result<StreamingJob> {
    let columns: Vec<_> = (0..12).map(|i| json!({"name": format!("column_{i}"), "type": "string"})).collect();
    let mut columns = columns;
    columns.push(json!({"name": "t", "type": "timestamp", "required": true}));
    Ok(serde_json::from_value(json!({
        "apiVersion": "dataplatform.io/v1alpha1", "kind": "StreamingJob",
        "metadata": {"name": format!("job-{i:05}")},
        "spec": {
            "kafka": {"bootstrapServers": "kafka:9092"},
            "sources": [{"name": "s", "topics": [format!("topic_{i}")], "columns": columns, "eventTime": {"column": "t"}}],
            "query": "SELECT window_start, column_1, count(*) AS n FROM s GROUP BY tumble(t, INTERVAL '1 minute'), column_1",
            "sink": {"path": format!("table_{i}"), "partitionBy": []},
            "pod": {"resources": {"requests": {"cpu": "1m", "memory": "1Mi"}}},
        },
    }))?)
}

async fn measure(client: &Client, jobs: usize, process: &mut Operator) -> Result<()> {
    let api: Api<StreamingJob> = Api::namespaced(client.clone(), NAMESPACE);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    wait("the operator to be ready", async || Ok(page("/readyz").await.is_ok_and(|text| text.contains("ok")))).await?;
    println!("memory idle: {:.1} MiB", process.memory()?);

    let begin = Instant::now();
    let created = stream::iter((0..jobs).map(|i| {
        let api = api.clone();
        async move { api.create(&PostParams::default(), &job(i)?).await.map_err(Into::into) }
    }));
    let created: Vec<Result<StreamingJob>> = created.buffer_unordered(32).collect().await;
    created.into_iter().collect::<Result<Vec<_>>>()?;
    let last_create = Instant::now();
    println!("{jobs} jobs applied: {:.1} s", begin.elapsed().as_secs_f64());
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=data-platform");
    // By the operator's own count first: a list of three thousand objects every moment would keep the API server busy.
    let kinds = ["ConfigMap", "Service", "Deployment"];
    wait("all writes", async || {
        let writes = writes().await?;
        Ok(kinds.iter().all(|kind| writes.get(*kind).is_some_and(|count| *count >= jobs as f64)))
    })
    .await?;
    println!("last child written: {:.1} s after the last create", last_create.elapsed().as_secs_f64());
    wait("all children", async || {
        let deployments = deployments.list_metadata(&ours).await?.items.len();
        let services = services.list_metadata(&ours).await?.items.len();
        Ok(deployments == jobs && services == jobs && config_maps.list_metadata(&ours).await?.items.len() == jobs)
    })
    .await?;
    println!("all children there: {:.1} s, memory {:.1} MiB", begin.elapsed().as_secs_f64(), process.memory()?);
    let settled = settle().await?;
    let per_job = |resource: &str| settled.get(resource).copied().unwrap_or(0.0) / jobs as f64;
    println!(
        "writes per job until settled: children {:.2}, status {:.2}, events {:.2}; memory {:.1} MiB, {:.1} ms of processor",
        per_job("ConfigMap") + per_job("Service") + per_job("Deployment"),
        per_job("StreamingJob/status"),
        per_job("Event"),
        process.memory()?,
        process.seconds()? * 1000.0 / jobs as f64,
    );
    if let Some(requests) = requests()? {
        println!("requests per job until settled: {:.2}", requests as f64 / jobs as f64);
    }
    sleep(Duration::from_secs(60)).await;
    let after = writes().await?;
    println!("writes in a minute without a change: {}", after.values().sum::<f64>() - settled.values().sum::<f64>());

    changes(&api, &deployments, jobs).await?;
    drift(&deployments, &services, jobs).await?;
    println!("at the end: memory {:.1} MiB, {:.1} s of processor", process.memory()?, process.seconds()?);
    Ok(())
}

/// Time from a changed spec to the changed Deployment.
async fn changes(api: &Api<StreamingJob>, deployments: &Api<Deployment>, jobs: usize) -> Result<()> {
    let mut times = Vec::new();
    let mut events = Box::pin(watcher(deployments.clone(), watcher::Config::default().page_size(100)));
    while !matches!(events.next().await, Some(Ok(Event::InitDone))) {}
    for i in 0..REPEATS {
        let name = format!("job-{:05}", i % jobs);
        let before = deployments.get(&name).await?.metadata.generation;
        let begin = Instant::now();
        let patch = json!({"spec": {"trigger": {"interval": format!("{}s", 11 + i)}}});
        api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        let is_changed = |found: &Deployment| found.name_any() == name && found.metadata.generation > before;
        let changed = async {
            while let Some(event) = events.next().await {
                if matches!(event, Ok(Event::Apply(found)) if is_changed(&found)) {
                    return;
                }
            }
        };
        timeout(PATIENCE, changed).await?;
        times.push(begin.elapsed());
    }
    report("spec change to patched Deployment", times);
    Ok(())
}

/// Time from a deleted or edited child to the restored one.
async fn drift(deployments: &Api<Deployment>, services: &Api<Service>, jobs: usize) -> Result<()> {
    let (mut deleted, mut edited) = (Vec::new(), Vec::new());
    let mut events = Box::pin(watcher(services.clone(), watcher::Config::default()));
    while !matches!(events.next().await, Some(Ok(Event::InitDone))) {}
    for i in 0..REPEATS {
        let name = format!("job-{:05}", i % jobs);
        let uid = services.get(&name).await?.uid();
        let begin = Instant::now();
        services.delete(&name, &DeleteParams::default()).await?;
        let is_back = |found: &Service| found.name_any() == name && found.uid() != uid;
        let back = async {
            while let Some(event) = events.next().await {
                if matches!(event, Ok(Event::Apply(found)) if is_back(&found)) {
                    return;
                }
            }
        };
        timeout(PATIENCE, back).await?;
        deleted.push(begin.elapsed());
    }
    report("deleted Service restored", deleted);
    let mut events = Box::pin(watcher(deployments.clone(), watcher::Config::default().page_size(100)));
    while !matches!(events.next().await, Some(Ok(Event::InitDone))) {}
    for i in 0..REPEATS {
        let name = format!("job-{:05}", i % jobs);
        let begin = Instant::now();
        let patch = json!({"spec": {"revisionHistoryLimit": 7}});
        deployments.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        let mut was_edited = false;
        let back = async {
            while let Some(event) = events.next().await {
                let Ok(Event::Apply(found)) = event else { continue };
                if found.name_any() == name {
                    let limit = found.spec.as_ref().and_then(|spec| spec.revision_history_limit);
                    was_edited |= limit == Some(7);
                    if was_edited && limit == Some(2) {
                        return;
                    }
                }
            }
        };
        timeout(PATIENCE, back).await?;
        edited.push(begin.elapsed());
    }
    report("edited Deployment restored", edited);
    Ok(())
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    println!("{what}: p50 {:.0} ms, p99 {:.0} ms, worst {:.0} ms of {}", at(0.5), at(0.99), at(1.0), times.len());
}

/// Waits until the operator writes nothing more for ten seconds. Gives its writes by resource.
async fn settle() -> Result<HashMap<String, f64>> {
    let (mut before, mut since) = (writes().await?, Instant::now());
    let deadline = Instant::now() + PATIENCE;
    while since.elapsed() < Duration::from_secs(10) {
        if Instant::now() > deadline {
            return fail("the operator does not settle");
        }
        sleep(Duration::from_millis(500)).await;
        let now = writes().await?;
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
    Ok(before)
}

/// Requests of the operator by the audit log, since the API server began.
fn requests() -> Result<Option<usize>> {
    let Ok(log) = std::env::var("AUDIT_LOG") else { return Ok(None) };
    let log = BufReader::new(std::fs::File::open(log)?);
    let mut requests = 0;
    for line in log.lines() {
        let line = line?;
        // Parts of the cluster have names; the operator has none.
        requests += usize::from(!line.contains("\"userAgent\"") && line.contains("\"stage\":\"ResponseComplete\""));
    }
    Ok(Some(requests))
}

async fn writes() -> Result<HashMap<String, f64>> {
    let text = page("/metrics").await?;
    let mut found = HashMap::new();
    for line in text.lines().filter(|line| line.starts_with("dataplatform_operator_api_writes_total{")) {
        let resource = line.split('"').nth(1).unwrap_or_default().to_owned();
        found.insert(resource, line.rsplit(' ').next().unwrap_or_default().parse()?);
    }
    Ok(found)
}

async fn page(path: &str) -> Result<String> {
    use http_body_util::{BodyExt, Empty};
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<&'static [u8]>>();
    let answer = client.get(format!("http://{PAGES}{path}").parse()?).await?;
    Ok(String::from_utf8(answer.into_body().collect().await?.to_bytes().to_vec())?)
}

async fn wait(what: &str, is_so: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await? {
        if Instant::now() > deadline {
            return fail(format!("waited in vain for {what}"));
        }
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
