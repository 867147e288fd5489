//! [`Dependencies`]: which batch job waits for which, so that jobs that wait for each other are refused: each of them would wait
//! for ever. No I/O: the watch of the jobs brings them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use data_platform_crds::dependencies::in_order;

use crate::cache::{JobKey, JobKind};
use crate::observed::Observed;

/// The jobs that each job of a namespace depends on.
type Graph = BTreeMap<String, Vec<String>>;

/// Which batch job waits for which.
#[derive(Debug, Default)]
pub struct Dependencies {
    namespaces: Mutex<BTreeMap<String, Graph>>,
}

impl Dependencies {
    /// Takes up a job as it is now.
    pub fn note<K>(&self, key: &JobKey, job: &Observed<K>) {
        if key.kind != JobKind::Batch {
            return;
        }
        let spec = job.field("spec");
        let named = spec["dependsOn"].as_array().into_iter().flatten();
        // Of a StreamingJob it is the watermark that is waited for, and it waits for nobody.
        let on_batch = named.filter(|named| named["kind"].as_str().is_none_or(|kind| kind == "BatchJob"));
        let on: Vec<String> = on_batch.filter_map(|named| named["name"].as_str().map(str::to_owned)).collect();
        self.lock().entry(key.namespace.clone()).or_default().insert(key.name.clone(), on);
    }

    /// Forgets a job that is gone.
    pub fn forget(&self, key: &JobKey) {
        if key.kind == JobKind::Batch
            && let Some(graph) = self.lock().get_mut(&key.namespace)
        {
            graph.remove(&key.name);
        }
    }

    /// The way round a cycle that a job is in, or waits for.
    pub fn cycle(&self, key: &JobKey) -> Option<Vec<String>> {
        let namespaces = self.lock();
        let graph = namespaces.get(&key.namespace)?;
        let (mut reached, mut open) = (BTreeSet::new(), vec![&key.name]);
        while let Some(name) = open.pop() {
            if reached.insert(name) {
                open.extend(graph.get(name).into_iter().flatten());
            }
        }
        let own = graph.iter().filter(|(name, _)| reached.contains(name));
        let own: Vec<_> = own.map(|(name, on)| (name.clone(), on.clone())).collect();
        in_order(&own).err()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Graph>> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use data_platform_crds::batch_job::BatchJob;
    use serde_json::{Value, json};

    use super::*;

    fn key(name: &str) -> JobKey {
        JobKey { kind: JobKind::Batch, namespace: "n".to_owned(), name: name.to_owned() }
    }

    fn note(dependencies: &Dependencies, name: &str, on: Value) {
        let job = json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"dependsOn": on}});
        let job: Observed<BatchJob> = serde_json::from_value(job).unwrap();
        dependencies.note(&key(name), &job);
    }

    #[test]
    fn jobs_that_wait_for_each_other_are_told_the_way_round_until_one_of_them_does_not() {
        let dependencies = Dependencies::default();
        let on = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Value>();
        note(&dependencies, "a", on(&["b"]));
        note(&dependencies, "b", on(&["c", "elsewhere"]));
        note(&dependencies, "c", json!([{"name": "a", "kind": "StreamingJob"}]));
        note(&dependencies, "free", on(&["d"]));
        assert_eq!(dependencies.cycle(&key("a")), None, "a streaming job waits for nobody");
        note(&dependencies, "c", on(&["a"]));
        note(&dependencies, "waits", on(&["b"]));
        let way = |name: &str| dependencies.cycle(&key(name)).map(|way| way.join(" -> "));
        assert_eq!(way("a").as_deref(), Some("a -> b -> c -> a"));
        assert_eq!(way("waits").as_deref(), Some("a -> b -> c -> a"), "it would wait for ever, too");
        assert_eq!(way("free"), None);
        dependencies.forget(&key("b"));
        assert_eq!(way("a"), None);
        note(&dependencies, "b", on(&["b"]));
        assert_eq!(way("b").as_deref(), Some("b -> b"));
        // Another namespace has jobs of its own.
        assert_eq!(dependencies.cycle(&JobKey { namespace: "m".to_owned(), ..key("a") }), None);
    }
}
