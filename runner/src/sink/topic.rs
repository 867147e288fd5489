//! Topics as outputs: what is sent is acknowledged before the decision, and may come twice after a crash.

pub mod letters;
#[cfg(test)]
pub(crate) mod memory;
pub mod producer;
pub mod rows;

use std::rc::Rc;

use crate::checkpoint::output::{Output, SharedOutput};

const SCHEME: &str = "kafka://";

/// The root of a topic.
pub fn root_of(topic: &str) -> String {
    format!("{SCHEME}{topic}")
}

/// The topic with this root; `None` if it is no topic's.
pub fn of_root(root: &str) -> Option<SharedOutput> {
    root.starts_with(SCHEME).then(|| -> SharedOutput { Rc::new(Topic { root: root.to_owned() }) })
}

/// A topic as the job log sees it: nothing is left to publish, and anybody may write there, so nobody claims it.
struct Topic {
    root: String,
}

impl Output for Topic {
    fn root(&self) -> &str {
        &self.root
    }
}
