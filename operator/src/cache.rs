//! [`Cache`]: what the operator has seen of one kind of children in one scope, found by name and by job.
//!
//! Fed by a watch and by the answers to the operator's own writes; whichever is newer wins, also where one of them tells
//! of a deletion. No I/O: `watch` brings the events.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::Event;

use crate::names::{JOB_LABEL, KIND_LABEL};

/// Deletions that are remembered, so that an answer that was under way does not bring the object back. More than fit
/// into the seconds that an answer takes.
const DELETIONS_KEPT: usize = 1024;

/// The kinds of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobKind {
    /// `StreamingJob`.
    Streaming,
    /// `BatchJob`.
    Batch,
}

impl JobKind {
    /// The word in resources, labels and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Streaming => "StreamingJob",
            Self::Batch => "BatchJob",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Streaming, Self::Batch].into_iter().find(|kind| kind.name() == name)
    }
}

/// A job, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobKey {
    /// Its kind.
    pub kind: JobKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl JobKey {
    /// The job that an object says it belongs to.
    pub fn of_child(metadata: &ObjectMeta) -> Option<Self> {
        let label = |name: &str| metadata.labels.as_ref()?.get(name).map(String::as_str);
        Some(Self {
            kind: JobKind::from_name(label(KIND_LABEL)?)?,
            namespace: metadata.namespace.clone()?,
            name: label(JOB_LABEL)?.to_owned(),
        })
    }
}

/// What can be kept in a cache.
pub trait Cached: Clone {
    /// Name, namespace and labels are read.
    fn metadata(&self) -> Cow<'_, ObjectMeta>;

    /// Its resource version.
    fn version(&self) -> u64;

    /// Whether a reconcile sees no difference between the two.
    fn says_the_same_as(&self, other: &Self) -> bool;
}

/// Namespace and name.
type ObjectKey = (String, String);

/// What was seen of one kind of objects.
#[derive(Debug)]
pub struct Cache<T> {
    seen: RwLock<Seen<T>>,
}

#[derive(Debug)]
struct Seen<T> {
    objects: HashMap<ObjectKey, Arc<T>>,
    /// The names of the objects of each job, sorted; they are in its namespace.
    by_job: HashMap<JobKey, Vec<String>>,
    /// The list that is being read anew; `None`: none is.
    listing: Option<HashMap<ObjectKey, Arc<T>>>,
    deleted: HashMap<ObjectKey, u64>,
    is_synced: bool,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        let seen = Seen {
            objects: HashMap::new(),
            by_job: HashMap::new(),
            listing: None,
            deleted: HashMap::new(),
            is_synced: false,
        };
        Self { seen: RwLock::new(seen) }
    }
}

fn key(metadata: &ObjectMeta) -> ObjectKey {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

impl<T: Cached> Cache<T> {
    /// The object of this name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        seen.objects.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The objects that say they belong to a job, by name.
    pub fn of_job(&self, job: &JobKey) -> Vec<Arc<T>> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let names = seen.by_job.get(job).into_iter().flatten();
        names.filter_map(|name| seen.objects.get(&(job.namespace.clone(), name.clone())).cloned()).collect()
    }

    /// Every object.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).objects.values().cloned().collect()
    }

    /// Whether the first list was read whole.
    pub fn is_synced(&self) -> bool {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).is_synced
    }

    /// Takes up the answer to a write, unless something newer is known.
    pub fn note(&self, object: T) {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        let key = key(&object.metadata());
        let is_older = seen.objects.get(&key).is_some_and(|known| known.version() > object.version());
        let is_gone = seen.deleted.get(&key).is_some_and(|deleted| *deleted > object.version());
        if !is_older && !is_gone {
            seen.insert(key, Arc::new(object));
        }
    }

    /// Takes up an event of the watch. Gives the jobs for which something is not as it was.
    pub fn apply(&self, event: Event<T>) -> Vec<JobKey> {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => {
                seen.listing = Some(HashMap::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                let key = key(&object.metadata());
                seen.listing.get_or_insert_default().insert(key, Arc::new(object));
                Vec::new()
            }
            Event::InitDone => seen.replace_all(),
            Event::Apply(object) => {
                let key = key(&object.metadata());
                let mut is_news = true;
                if let Some(known) = seen.objects.get(&key) {
                    // The answer to the write that made this event came first.
                    if known.version() >= object.version() && known.version() > 0 {
                        return Vec::new();
                    }
                    is_news = !known.says_the_same_as(&object);
                }
                let jobs = seen.insert(key, Arc::new(object));
                if is_news { jobs } else { Vec::new() }
            }
            Event::Delete(object) => {
                let metadata = object.metadata();
                let key = key(&metadata);
                if seen.deleted.len() >= DELETIONS_KEPT {
                    seen.deleted.clear();
                }
                seen.deleted.insert(key.clone(), object.version());
                seen.remove(&key);
                JobKey::of_child(&metadata).into_iter().collect()
            }
        }
    }
}

impl<T: Cached> Seen<T> {
    /// Gives the job of the object, and the one that the object of this name belonged to, if that is another one.
    fn insert(&mut self, key: ObjectKey, object: Arc<T>) -> Vec<JobKey> {
        let job = JobKey::of_child(&object.metadata());
        let before = self.remove(&key).filter(|before| job.as_ref() != Some(before));
        if let Some(job) = &job {
            let names = self.by_job.entry(job.clone()).or_default();
            let at = names.binary_search(&key.1).unwrap_or_else(|at| at);
            names.insert(at, key.1.clone());
        }
        self.objects.insert(key, object);
        job.into_iter().chain(before).collect()
    }

    fn remove(&mut self, key: &ObjectKey) -> Option<JobKey> {
        let job = JobKey::of_child(&self.objects.remove(key)?.metadata())?;
        if let Some(names) = self.by_job.get_mut(&job) {
            names.retain(|name| *name != key.1);
            if names.is_empty() {
                self.by_job.remove(&job);
            }
        }
        Some(job)
    }

    /// The list is whole: what is not in it is gone. Gives the jobs for which something is not as it was.
    fn replace_all(&mut self) -> Vec<JobKey> {
        let listed = self.listing.take().unwrap_or_default();
        let mut changed = BTreeSet::new();
        for (key, known) in &self.objects {
            if !listed.contains_key(key) {
                changed.extend(JobKey::of_child(&known.metadata()));
            }
        }
        for (key, object) in &listed {
            if self.objects.get(key).is_none_or(|known| known.version() != object.version()) {
                changed.extend(JobKey::of_child(&object.metadata()));
            }
        }
        self.objects.clear();
        self.by_job.clear();
        for (key, object) in listed {
            self.insert(key, object);
        }
        self.is_synced = true;
        changed.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::child::{Child, ChildKind};

    fn object(name: &str, job: &str, version: u64) -> Child {
        changed(name, job, version, 1)
    }

    fn changed(name: &str, job: &str, version: u64, replicas: u32) -> Child {
        let object = json!({
            "metadata": {
                "name": name, "namespace": "n", "resourceVersion": version.to_string(),
                "labels": {JOB_LABEL: job, KIND_LABEL: "StreamingJob"},
            },
            "spec": {"replicas": replicas},
            "status": {"observedGeneration": version},
        });
        Child::of(ChildKind::Deployment, serde_json::from_value(object).unwrap())
    }

    fn job(name: &str) -> JobKey {
        JobKey { kind: JobKind::Streaming, namespace: "n".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn objects_are_found_by_name_and_by_job() {
        let cache = Cache::default();
        assert_eq!(cache.apply(Event::Apply(object("a-1", "a", 1))), [job("a")]);
        cache.apply(Event::Apply(object("a-2", "a", 2)));
        cache.apply(Event::Apply(object("b-1", "b", 3)));
        assert_eq!(cache.of_job(&job("a")).len(), 2);
        assert!(cache.get("n", "b-1").is_some());
        assert!(cache.get("other", "b-1").is_none());
        assert_eq!(cache.apply(Event::Apply(object("b-1", "a", 4))), [job("a"), job("b")]);
        assert!(cache.of_job(&job("b")).is_empty());
    }

    #[test]
    fn what_is_older_never_replaces_what_is_newer() {
        let cache = Cache::default();
        cache.note(object("a", "a", 10));
        assert!(cache.apply(Event::Apply(object("a", "a", 9))).is_empty());
        assert_eq!(cache.get("n", "a").unwrap().version(), 10);
        cache.apply(Event::Delete(object("a", "a", 12)));
        cache.note(object("a", "a", 11));
        assert!(cache.get("n", "a").is_none(), "the answer to a write came after the deletion");
        cache.note(object("a", "a", 13));
        assert!(cache.get("n", "a").is_some());
    }

    #[test]
    fn only_what_a_reconcile_would_see_is_news() {
        let cache = Cache::default();
        cache.note(object("a", "a", 10));
        assert!(cache.apply(Event::Apply(object("a", "a", 10))).is_empty(), "the write itself");
        assert!(cache.apply(Event::Apply(object("a", "a", 11))).is_empty(), "its status says nothing of a pod");
        assert_eq!(cache.get("n", "a").unwrap().version(), 11);
        assert_eq!(cache.apply(Event::Apply(changed("a", "a", 12, 7))), [job("a")]);
        assert_eq!(cache.apply(Event::Apply(changed("a", "b", 13, 7))), [job("b"), job("a")]);
        assert_eq!(cache.apply(Event::Delete(changed("a", "b", 14, 7))), [job("b")]);
    }

    #[test]
    fn a_list_that_is_read_again_tells_what_vanished_meanwhile() {
        let cache = Cache::default();
        for name in ["a", "b", "c"] {
            cache.apply(Event::Apply(object(name, name, 1)));
        }
        assert!(!cache.is_synced());
        cache.apply(Event::Init);
        cache.apply(Event::InitApply(object("a", "a", 1)));
        cache.apply(Event::InitApply(object("c", "c", 2)));
        assert_eq!(cache.all().len(), 3, "until the list is whole the old one stands");
        assert_eq!(cache.apply(Event::InitDone), [job("b"), job("c")]);
        assert_eq!(cache.all().len(), 2);
        assert!(cache.is_synced());
    }
}
