//! Skipping a test aloud: libtest has no such result, so the reason goes into a file that `tests/run` counts.

use std::fs::OpenOptions;
use std::io::Write;

use crate::environment;

/// What a test may return, and what a skipped one returns.
pub trait TestOutcome {
    /// The value of a test that was skipped.
    fn skipped() -> Self;
}

impl TestOutcome for () {
    fn skipped() -> Self {}
}

impl<E> TestOutcome for Result<(), E> {
    fn skipped() -> Self {
        Ok(())
    }
}

/// Notes that the test `here` (the name of a function inside it, as [`std::any::type_name`] gives it) was skipped. Used
/// by [`skip!`](crate::skip!).
pub fn record(here: &str, reason: &str) {
    // crate::module::test::here, and {{closure}} where the test is one.
    let path = here.trim_end_matches("::here").trim_end_matches("::{{closure}}");
    let test = path.split_once("::").map_or(path, |(_, test)| test);
    println!("skipped {test}: {reason}");
    let Some(file) = environment::skipped_tests() else { return };
    // One write of one short line: lines of tests that run side by side do not mix.
    let line = format!("{test}\t{}\n", reason.replace(['\n', '\t'], " "));
    let written =
        OpenOptions::new().create(true).append(true).open(&file).and_then(|mut file| file.write_all(line.as_bytes()));
    written.expect("a skipped test must be counted");
}

/// Ends the test here, as skipped, with a reason: `skip!("no {tool} on this machine")`.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)+) => {{
        fn here() {}
        $crate::skip::record(std::any::type_name_of_val(&here), &format!($($reason)+));
        return $crate::skip::TestOutcome::skipped();
    }};
}

/// What a test needs, or the reason for which the test ends here as skipped.
#[macro_export]
macro_rules! or_skip {
    ($needed:expr) => {
        match $needed {
            Ok(needed) => needed,
            Err(reason) => $crate::skip!("{reason}"),
        }
    };
}

/// The shared [`Broker`](crate::Broker); ends the test as skipped where `tests/run` did not start one.
#[macro_export]
macro_rules! needs_broker {
    () => {
        $crate::or_skip!($crate::Broker::shared().ok_or("no broker; `make test` starts one"))
    };
}

/// The [`Cluster`](crate::Cluster); ends the test as skipped where none can run.
#[macro_export]
macro_rules! needs_cluster {
    () => {
        $crate::or_skip!($crate::Cluster::shared())
    };
}

/// The same for a test that breaks parts of the cluster: no other one uses it meanwhile.
#[macro_export]
macro_rules! needs_cluster_alone {
    () => {
        $crate::or_skip!($crate::Cluster::alone())
    };
}

/// The API server of the [`Cluster`](crate::Cluster), or of a control plane without a node; ends the test as skipped
/// where neither can run.
#[macro_export]
macro_rules! needs_control_plane {
    () => {
        $crate::or_skip!($crate::Cluster::control_plane())
    };
}
