//! What the tests need from the world: a real broker, a real Kubernetes, child processes, independent readers, and
//! folders that go away.
//!
//! The tests themselves are in `tests/` (one binary, `main.rs`). `tests/run` starts a broker and a cluster, says in
//! environment variables where everything is ([`environment`]), and counts. A test that needs more than `cargo test` gives
//! begins with [`needs_broker!`], [`needs_s3!`] or [`needs_cluster!`] and is counted as skipped where there is none; nothing passes
//! silently.

pub mod broker;
pub mod cluster;
pub mod consume;
pub mod environment;
pub mod fault_proxy;
pub mod folders;
pub mod pages;
pub mod process;
pub mod produce;
pub mod readers;
pub mod registry;
pub mod rights;
pub mod s3;
pub mod skip;
pub mod stores;
pub mod tls;
pub mod wait;

pub use broker::{Broker, unique_topic};
pub use cluster::{Cluster, Namespace};
pub use fault_proxy::{Fault, FaultProxy};
pub use folders::JobFolders;
pub use pages::Pages;
pub use process::{Ended, Runner};
pub use produce::{Producer, Record};
pub use readers::{Reading, Watcher, python_reader};
pub use registry::{Registry, StubRegistry};
pub use rights::{Right, WITH_RIGHTS};
pub use s3::S3;
pub use stores::OtherStore;
pub use wait::wait_for;
