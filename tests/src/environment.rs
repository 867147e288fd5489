//! The variables with which `tests/run` tells the tests where things are. This is the only reader of them.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::ensure;

/// `host:port` of the broker that all tests share; absent under a bare `cargo test`.
#[must_use]
pub fn shared_kafka() -> Option<String> {
    env::var("DATA_PLATFORM_TEST_KAFKA").ok()
}

/// `host:port` of the same broker for pods of the test cluster; absent without one.
#[must_use]
pub fn shared_kafka_for_pods() -> Option<String> {
    env::var("DATA_PLATFORM_TEST_KAFKA_FOR_PODS").ok().filter(|address| !address.is_empty())
}

/// `host:port` of the S3 server that all tests share, and the folder of its buckets; absent where there is none.
#[must_use]
pub fn s3() -> Option<(String, PathBuf)> {
    Some((env::var("DATA_PLATFORM_TEST_S3").ok()?, place("S3_BUCKETS")?))
}

/// Where the parts of the test cluster are; `Err` says why there is none.
///
/// # Errors
/// The reason that `tests/run` gave.
pub fn cluster() -> Result<ClusterPlaces, String> {
    let node = || {
        Some(NodePlaces { audit_log: place("KUBE_AUDIT")?, address: env::var("DATA_PLATFORM_TEST_NODE_ADDRESS").ok()? })
    };
    Ok(ClusterPlaces { node: Some(node().ok_or_else(no_cluster)?), ..control_plane()? })
}

/// The same for tests whose pods need not run: a control plane alone will do.
///
/// # Errors
/// The reason that `tests/run` gave.
pub fn control_plane() -> Result<ClusterPlaces, String> {
    let places = || {
        Some(ClusterPlaces {
            kubeconfig: place("KUBECONFIG")?,
            kubectl: place("KUBECTL")?,
            helm: place("HELM")?,
            node: None,
        })
    };
    places().ok_or_else(no_cluster)
}

fn place(name: &str) -> Option<PathBuf> {
    env::var_os(format!("DATA_PLATFORM_TEST_{name}")).map(PathBuf::from)
}

fn no_cluster() -> String {
    env::var("DATA_PLATFORM_TEST_KUBE_MISSING").unwrap_or_else(|_| "no cluster; `make test` starts one".to_owned())
}

/// See [`cluster`].
#[derive(Clone, Debug)]
pub struct ClusterPlaces {
    /// Who one is: an administrator.
    pub kubeconfig: PathBuf,
    /// The program.
    pub kubectl: PathBuf,
    /// The program.
    pub helm: PathBuf,
    /// What there is where pods run.
    pub node: Option<NodePlaces>,
}

/// What there is where pods run.
#[derive(Clone, Debug)]
pub struct NodePlaces {
    /// Every request to the API server, one JSON object a line.
    pub audit_log: PathBuf,
    /// The address at which pods reach this machine.
    pub address: String,
}

/// The interpreter of the independent readers; absent under a bare `cargo test`.
#[must_use]
pub fn python() -> Option<PathBuf> {
    env::var_os("DATA_PLATFORM_TEST_PYTHON").map(PathBuf::from)
}

/// The interpreter of the DuckDB that reads Delta tables; absent under a bare `cargo test`.
#[must_use]
pub fn duckdb() -> Option<PathBuf> {
    place("DUCKDB")
}

/// The interpreter of the Spark that reads and writes Delta tables, and the folder of its jars; only in `make soak`.
#[must_use]
pub fn spark() -> Option<(PathBuf, PathBuf)> {
    Some((place("SPARK")?, place("SPARK_JARS")?))
}

/// The program of Helm; absent under a bare `cargo test`.
#[must_use]
pub fn helm() -> Option<PathBuf> {
    env::var_os("DATA_PLATFORM_TEST_HELM").map(PathBuf::from)
}

/// The program that checks and tests the rules of Prometheus; absent under a bare `cargo test`.
#[must_use]
pub fn promtool() -> Option<PathBuf> {
    env::var_os("DATA_PLATFORM_TEST_PROMTOOL").map(PathBuf::from)
}

/// Prometheus itself, which comes with the program that checks its rules; absent under a bare `cargo test`.
#[must_use]
pub fn prometheus() -> Option<PathBuf> {
    promtool().map(|promtool| promtool.with_file_name("prometheus"))
}

/// Ports of this machine that are free, and stay so while nobody listens at them.
///
/// # Errors
/// When they cannot be found.
pub fn free_ports(number: usize) -> anyhow::Result<Vec<u16>> {
    let find = r#"source "$0/env/process.sh" && free_ports "$1""#;
    let found = Command::new("bash").args(["-euc", find]).arg(tests_folder()).arg(number.to_string()).output()?;
    ensure!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8_lossy(&found.stdout).lines().map(|port| Ok(port.parse()?)).collect()
}

/// An interpreter of Lua 5.2 or newer, for the health scripts of Argo CD; absent under a bare `cargo test`.
#[must_use]
pub fn lua() -> Option<PathBuf> {
    env::var_os("DATA_PLATFORM_TEST_LUA").map(PathBuf::from)
}

/// The file that gets one line for each skipped test; absent under a bare `cargo test`.
#[must_use]
pub fn skipped_tests() -> Option<PathBuf> {
    env::var_os("DATA_PLATFORM_TEST_SKIPPED").map(PathBuf::from)
}

/// Where tests make their folders. `tests/run` kills every broker below it at the end.
#[must_use]
pub fn temporary_folder() -> PathBuf {
    env::var_os("DATA_PLATFORM_TEST_FOLDERS").map_or_else(env::temp_dir, PathBuf::from)
}

/// Whether folders of tests stay for a look afterwards.
#[must_use]
pub fn keeps_folders() -> bool {
    env::var_os("DATA_PLATFORM_TEST_KEEP").is_some()
}

/// The folder `tests` of the repository.
#[must_use]
pub fn tests_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A program of this workspace, built beside the running test: `data-platform`, `data-platform-faults`.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    // The test binary is target/<profile>/deps/main-<hash>.
    let test = env::current_exe().expect("a running program has a path");
    test.ancestors().nth(2).expect("cargo puts test binaries into <profile>/deps").join(name)
}

/// How many rounds a random test makes: few in `make test`, many in `make soak`.
#[must_use]
pub fn rounds(normal: u32, soak: u32) -> u32 {
    if is_soak() { soak } else { normal }
}

/// Whether this is `make soak`: hours are there, and large packages.
#[must_use]
pub fn is_soak() -> bool {
    env::var_os("DATA_PLATFORM_TEST_SOAK").is_some()
}

/// A seed for a random test, from the clock, or `DATA_PLATFORM_TEST_SEED` to repeat a failure. It is printed: libtest
/// shows what a failed test printed.
#[must_use]
pub fn seed() -> u64 {
    let given = env::var("DATA_PLATFORM_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
        now.as_secs() * 1_000_003 + u64::from(now.subsec_nanos())
    });
    println!("to repeat: DATA_PLATFORM_TEST_SEED={seed}");
    seed
}
