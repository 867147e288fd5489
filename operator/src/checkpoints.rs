//! [`Checkpoints`]: which job keeps its log where, so that of two jobs with one checkpoint the second is refused: their
//! runners would fence each other out.
//!
//! No I/O: the watch of the jobs brings them. Who came first has the place; of those that are there when the operator
//! starts, one that was refused before comes last, then the younger one. A job that names another place keeps the old one
//! until its pods have left it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use data_platform_crds::condition::Reason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use crate::cache::JobKey;
use crate::observed::Observed;

/// A place for a log: kind, namespace, storage and name.
type Place = (&'static str, String, String, String);

/// Which job keeps its log where.
#[derive(Debug, Default)]
pub struct Checkpoints {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    places: HashMap<Place, Vec<JobKey>>,
    /// The place that each job names, and behind it those that its pods may still use.
    jobs: HashMap<JobKey, Vec<Place>>,
}

impl Checkpoints {
    /// Takes up a job as it is now.
    pub fn note<K>(&self, key: &JobKey, job: &Observed<K>) {
        let place = place(key, &job.field("spec"));
        let mut known = self.lock();
        let Known { places, jobs } = &mut *known;
        let own = jobs.entry(key.clone()).or_default();
        own.retain(|known| *known != place);
        own.insert(0, place.clone());
        let there = places.entry(place).or_default();
        if !there.contains(key) {
            there.push(key.clone());
        }
    }

    /// The pods of a job use the place that it names, and no other one.
    pub fn settled(&self, key: &JobKey) {
        let mut known = self.lock();
        let former = known.jobs.get_mut(key).map(|own| own.split_off(1.min(own.len()))).unwrap_or_default();
        former.iter().for_each(|place| known.leave(key, place));
    }

    /// Takes up all jobs of a kind that are there.
    pub fn note_all<'a, K: 'a>(&self, jobs: impl Iterator<Item = (JobKey, &'a Observed<K>)>) {
        let mut jobs: Vec<_> = jobs.collect();
        let order = |(key, job): &(JobKey, &Observed<K>)| {
            let created: Option<Time> = job.metadata.creation_timestamp.clone();
            (was_refused(&job.field("status")), created.map(|time| time.0), key.clone())
        };
        jobs.sort_by_key(order);
        for (key, job) in jobs {
            self.note(&key, job);
        }
    }

    /// Forgets a job that is gone.
    pub fn forget(&self, key: &JobKey) {
        self.lock().forget(key);
    }

    /// The job that has the place of this one, if it is another one.
    pub fn holder(&self, key: &JobKey) -> Option<String> {
        let known = self.lock();
        let first = known.places.get(known.jobs.get(key)?.first()?)?.first()?;
        (first != key).then(|| first.name.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn forget(&mut self, key: &JobKey) {
        for place in self.jobs.remove(key).unwrap_or_default() {
            self.leave(key, &place);
        }
    }

    fn leave(&mut self, key: &JobKey, place: &Place) {
        if let Some(there) = self.places.get_mut(place) {
            there.retain(|job| job != key);
            if there.is_empty() {
                self.places.remove(place);
            }
        }
    }
}

fn place(key: &JobKey, spec: &Value) -> Place {
    let storage = ["claimName", "checkpoints"].map(|field| spec["storage"][field].as_str().unwrap_or_default());
    let name = spec["checkpoint"]["name"].as_str().unwrap_or(&key.name);
    (key.kind.name(), key.namespace.clone(), storage.join(" "), name.to_owned())
}

fn was_refused(status: &Value) -> bool {
    status["conditions"].as_array().into_iter().flatten().any(|condition| {
        condition["type"] == "Stalled"
            && condition["status"] == "True"
            && condition["reason"] == Reason::CheckpointOfOtherJob.name()
    })
}

#[cfg(test)]
mod tests {
    use data_platform_crds::streaming_job::StreamingJob;
    use serde_json::json;

    use super::*;
    use crate::cache::JobKind;

    fn key(name: &str) -> JobKey {
        JobKey { kind: JobKind::Streaming, namespace: "n".to_owned(), name: name.to_owned() }
    }

    fn job(name: &str, spec: Value, second: u8, refused: bool) -> Observed<StreamingJob> {
        let created = format!("2026-01-01T00:00:{second:02}Z");
        let condition = json!({"type": "Stalled", "status": "True", "reason": "CheckpointOfOtherJob"});
        let conditions = if refused { json!([condition]) } else { json!([]) };
        let job = json!({"metadata": {"name": name, "creationTimestamp": created}, "spec": spec, "status": {"conditions": conditions}});
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn the_second_job_with_a_checkpoint_is_refused_until_the_first_one_leaves_it() {
        let checkpoints = Checkpoints::default();
        checkpoints.note(&key("a"), &job("a", json!({}), 9, false));
        let takes = job("b", json!({"checkpoint": {"name": "a"}}), 1, false);
        checkpoints.note(&key("b"), &takes);
        assert_eq!((checkpoints.holder(&key("a")), checkpoints.holder(&key("b"))), (None, Some("a".to_owned())));
        // On another claim it is another one.
        let elsewhere = job("b", json!({"checkpoint": {"name": "a"}, "storage": {"claimName": "own"}}), 1, false);
        checkpoints.note(&key("b"), &elsewhere);
        assert_eq!(checkpoints.holder(&key("b")), None);
        checkpoints.settled(&key("b"));
        checkpoints.note(&key("b"), &takes);
        // The change of its name may be held back: its pods are where they were.
        let renamed = job("a", json!({"checkpoint": {"name": "c"}}), 9, false);
        checkpoints.note(&key("a"), &renamed);
        assert_eq!(checkpoints.holder(&key("b")), Some("a".to_owned()));
        checkpoints.settled(&key("a"));
        assert_eq!((checkpoints.holder(&key("a")), checkpoints.holder(&key("b"))), (None, None));
        checkpoints.note(&key("a"), &job("a", json!({}), 9, false));
        assert_eq!(checkpoints.holder(&key("a")), Some("b".to_owned()), "the place is taken now");
        checkpoints.forget(&key("b"));
        assert_eq!(checkpoints.holder(&key("a")), None);
        checkpoints.note(&key("b"), &takes);
        checkpoints.forget(&key("a"));
        assert_eq!(checkpoints.holder(&key("b")), None);
    }

    #[test]
    fn an_operator_that_starts_takes_the_side_of_the_one_before() {
        let on_a = json!({"checkpoint": {"name": "a"}});
        for (b_is_refused, holder) in [(true, "a"), (false, "b")] {
            let checkpoints = Checkpoints::default();
            let (a, b) = (job("a", json!({}), 9, false), job("b", on_a.clone(), 1, b_is_refused));
            checkpoints.note_all([(key("a"), &a), (key("b"), &b)].into_iter());
            let other = if holder == "a" { "b" } else { "a" };
            assert_eq!(checkpoints.holder(&key(other)).as_deref(), Some(holder));
            assert_eq!(checkpoints.holder(&key(holder)), None);
        }
    }
}
