//! The frame of every reconcile: its time, its failures, and the status that it comes to.
//!
//! Level-triggered: a reconcile looks at everything each time, whatever asked for it, and writes only what differs.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use data_platform_crds::condition::{Health, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use serde_json::{Value, json};

use crate::cache::JobKey;
use crate::clock;
use crate::context::Context;
use crate::error::Error;
use crate::events::{Transition, publish};
use crate::kind::{JobResource, JobStatus};
use crate::memory::Written;
use crate::names::{FIELD_MANAGER, hash};
use crate::observed::{Observed, resource_version};
use crate::rate::{EVENTS, STATUS_WRITES};
use crate::validated::Refusal;
use crate::verdict::Verdict;
use crate::watch;

/// Reconciles every job so often even if nothing asks for it: watches can miss something.
pub const FALLBACK_PERIOD: Duration = Duration::from_secs(300);
/// How soon a job is looked at again whose trouble the operator cannot watch: a claim, an object of somebody else.
pub const UNWATCHED_PERIOD: Duration = Duration::from_secs(10);
/// How soon a job is looked at again that does not work: some of what is said of it depends on the time alone.
pub const UNWELL_PERIOD: Duration = Duration::from_secs(30);
/// A reconcile that takes longer waits for an API server that does not answer.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a job that was just created may be without a status while it only begins: what comes of it is there within this
/// time mostly, and a status that is replaced a moment later is a request that tells nobody anything.
const FIRST_WORD_PERIOD: Duration = Duration::from_secs(3);
/// How long a job that was just created may be without a status while many others are new: the API server makes their
/// objects meanwhile, and a write of a status costs it as much as one of those.
const CROWDED_PERIOD: Duration = Duration::from_secs(30);
/// When a job is looked at again whose status waits for others.
const CROWDED_PAUSE: Duration = Duration::from_secs(1);
/// Least time between two writes that only bring new figures: four a minute.
pub const FIGURES_PERIOD: Duration = Duration::from_secs(15);

/// A kind of jobs that can be reconciled.
pub trait Reconcile: JobResource {
    /// Looks at a job, and does what there is to do.
    fn reconcile(observed: &Observed<Self>, context: &Context) -> impl Future<Output = Result<Action, Error>> + Send;
}

/// Reconciles a job.
///
/// # Errors
///
/// What the API server did not do; it is tried again.
pub async fn reconcile<K: Reconcile>(observed: Arc<Observed<K>>, context: Arc<Context>) -> Result<Action, Error> {
    let started = clock::instant();
    let looked = async {
        if observed.metadata.deletion_timestamp.is_some() {
            // Its children go with it; making them again would keep it from going.
            return Ok(Action::requeue(FALLBACK_PERIOD));
        }
        K::reconcile(&observed, &context).await
    };
    let result = match tokio::time::timeout(RECONCILE_TIMEOUT, looked).await {
        Ok(result) => result,
        Err(_) => Err(Error::Timeout(RECONCILE_TIMEOUT)),
    };
    context.metrics.reconciled(K::KIND, clock::since(started), result.as_ref().err().map(Error::reason));
    let (key, uid) = identity(&observed);
    context.looked_at(&key);
    if result.is_ok() {
        context.remember(&key, &uid, |memory| memory.failures = 0);
    }
    result
}

/// When a reconcile that failed is tried again.
pub fn after_error<K: JobResource>(observed: Arc<Observed<K>>, error: &Error, context: Arc<Context>) -> Action {
    let (key, uid) = identity(&observed);
    let failures = context.remember(&key, &uid, |memory| {
        memory.failures = memory.failures.saturating_add(1);
        memory.failures
    });
    let spread = f64::from(u32::from_str_radix(&hash(&format!("{uid}{failures}"))[..4], 16).unwrap_or(0)) / 65_536.0;
    let wait = error.backoff(failures, spread);
    tracing::warn!(namespace = key.namespace, job = key.name, error = %crate::error::chain(error), ?wait, "a reconcile failed");
    Action::requeue(wait)
}

/// Which job it is, and which one of its name.
pub fn identity<K: JobResource>(observed: &Observed<K>) -> (JobKey, String) {
    (watch::key(observed), observed.metadata.uid.clone().unwrap_or_default())
}

/// The typed job after its slow checks, which are done once for a spec.
///
/// # Errors
///
/// It cannot be read, or does not pass.
pub fn checked<K: JobResource>(
    observed: &Observed<K>,
    context: &Context,
    check: impl FnOnce(&K) -> Result<(), Refusal>,
) -> Result<K, Refusal> {
    let (key, uid) = identity(observed);
    let unreadable = |error| (Reason::InvalidSpec, format!("this version cannot read the resource: {error}"));
    let job = observed.typed().map_err(unreadable)?;
    // The API server counts the changes of a spec.
    let generation = observed.metadata.generation;
    let known = context.remember(&key, &uid, |memory| {
        memory.checked.as_ref().filter(|(checked, _)| *checked == generation).map(|(_, answer)| answer.clone())
    });
    let answer = known.unwrap_or_else(|| {
        let answer = check(&job);
        context.remember(&key, &uid, |memory| memory.checked = Some((generation, answer.clone())));
        answer
    });
    answer.map(|()| job)
}

/// Writes the status if it is another one, and the event of a transition. `later`: when to look again at the latest.
/// Gives when to look again.
///
/// # Errors
///
/// The API server's.
pub async fn report_status<K: JobResource>(
    observed: &Observed<K>,
    last: &LastStatus<K::Status>,
    after: &K::Status,
    verdict: &Verdict,
    later: Duration,
    context: &Context,
) -> Result<Duration, Error> {
    let (key, uid) = identity(observed);
    context.looked_at(&key);
    context.remember(&key, &uid, |memory| memory.reason = Some((verdict.reason, verdict.health)));
    let begins = last.status.ready().is_none() && verdict.health == Health::Progressing;
    match write(&last.status, after, last.since) {
        Write::No => Ok(later),
        Write::Later(wait) => Ok(later.min(wait)),
        Write::Now => {
            let age = age(&observed.metadata, clock::now());
            if let Some(wait) = age.and_then(|age| word_after(age, begins, context.is_crowded())) {
                return Ok(later.min(wait));
            }
            let now = clock::instant();
            if let Err(wait) = context.remember(&key, &uid, |memory| STATUS_WRITES.take(&mut memory.status_writes, now))
            {
                return Ok(later.min(wait));
            }
            write_status(observed, &key, &uid, after, context).await?;
            // That a new job begins is no event: it was created.
            if last.status.ready() != after.ready() && !begins {
                announce(observed, verdict, context).await;
            }
            Ok(later)
        }
    }
}

/// How old an object is; `None`: the clock is behind that of the API server, and nobody knows.
fn age(metadata: &ObjectMeta, now: Timestamp) -> Option<Duration> {
    Duration::try_from(now.duration_since(metadata.creation_timestamp.as_ref()?.0)).ok()
}

/// How long the status of a young job waits; `None`: no longer. `begins`: it would say only that the job begins.
/// `is_crowded`: many others are new.
fn word_after(age: Duration, begins: bool, is_crowded: bool) -> Option<Duration> {
    let rest = |period: Duration| period.checked_sub(age).filter(|rest| !rest.is_zero());
    let first = rest(FIRST_WORD_PERIOD).filter(|_| begins);
    first.or_else(|| rest(CROWDED_PERIOD).filter(|_| is_crowded).map(|rest| rest.min(CROWDED_PAUSE)))
}

/// A status as it is now.
#[derive(Clone, Debug, Default)]
pub struct LastStatus<S> {
    /// The status.
    pub status: S,
    /// How long ago this process wrote it; `None`: it did not.
    pub since: Option<Duration>,
}

/// The status as it is now: what this process wrote last, unless the watch brought something newer.
pub fn last_status<K: JobResource>(observed: &Observed<K>, context: &Context) -> LastStatus<K::Status> {
    let (key, uid) = identity(observed);
    let version = resource_version(&observed.metadata);
    let written = context.remember(&key, &uid, |memory| {
        let written = memory.written.as_mut()?;
        if version >= written.version {
            written.status = None;
        }
        Some(written.clone())
    });
    let since = written.as_ref().map(|written| clock::since(written.at));
    let own = written.and_then(|written| serde_json::from_str(&written.status?).ok());
    // A status of a wrong shape, such as one of another version, is written anew.
    let theirs = || serde_json::from_value(observed.field("status")).unwrap_or_default();
    LastStatus { status: own.unwrap_or_else(theirs), since }
}

async fn write_status<K: JobResource>(
    observed: &Observed<K>,
    key: &JobKey,
    uid: &str,
    status: &K::Status,
    context: &Context,
) -> Result<(), Error> {
    let api: Api<Observed<K>> = Api::namespaced(context.client.clone(), &key.namespace);
    let patch: Value = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        // Another job that took the name meanwhile gets no status of this one.
        "metadata": {"name": key.name, "uid": observed.metadata.uid},
        "status": status,
    });
    context.metrics.write(&format!("{}/status", K::KIND.name()));
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(&key.name, &parameters, &Patch::Apply(&patch)).await {
        Ok(answer) => {
            let status = Some(patch["status"].to_string().into_boxed_str());
            let written = Written { status, version: resource_version(&answer.metadata), at: clock::instant() };
            context.remember(key, uid, |memory| memory.written = Some(written));
            Ok(())
        }
        // The job is gone, or another one has its name: the watch will say so.
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        Err(error) => Err(Error::api(format!("write the status of {}", key.name))(error)),
    }
}

async fn announce<K: JobResource>(observed: &Observed<K>, verdict: &Verdict, context: &Context) {
    let (key, uid) = identity(observed);
    let now = clock::instant();
    let untold = context.remember(&key, &uid, |memory| match EVENTS.take(&mut memory.events, now) {
        Ok(()) => Some(std::mem::take(&mut memory.untold)),
        Err(_) => {
            memory.untold = memory.untold.saturating_add(1);
            None
        }
    });
    let Some(untold) = untold else { return };
    let transition = Transition {
        job: kube::Resource::object_ref(observed, &()),
        reason: verdict.reason.name(),
        health: verdict.health,
        message: verdict.message.clone(),
        hint: verdict.hint.clone(),
        untold,
    };
    tracing::info!(
        namespace = transition.job.namespace,
        job = transition.job.name,
        reason = transition.reason,
        message = verdict.in_full(),
        "the job changed"
    );
    context.metrics.write("Event");
    publish(&context.client, &context.instance, &transition).await;
}

/// When a status is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// It is there already.
    No,
    /// At once.
    Now,
    /// Only its figures are new, and some were written a moment ago: after this time.
    Later(Duration),
}

/// Decides when a status is written. `since`: how long ago the last one was; `None`: not in this process.
pub fn write<S: JobStatus>(before: &S, after: &S, since: Option<Duration>) -> Write {
    if before == after {
        return Write::No;
    }
    let flipped = words(before.conditions()) != words(after.conditions())
        || before.observed_generation() != after.observed_generation();
    match since {
        Some(since) if !flipped && since < FIGURES_PERIOD => Write::Later(FIGURES_PERIOD - since),
        _ => Write::Now,
    }
}

fn words(conditions: &[Condition]) -> Vec<(&str, &str, &str)> {
    conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn the_age_of_an_object_is_known_unless_a_clock_is_behind() {
        let now = Timestamp::from_second(1_000).unwrap();
        let of = |created: i64| {
            let creation_timestamp = Some(Time(Timestamp::from_second(created).unwrap()));
            age(&ObjectMeta { creation_timestamp, ..ObjectMeta::default() }, now)
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!((of(1_000), of(998), of(1_001)), (seconds(0), seconds(2), None));
        assert_eq!(age(&ObjectMeta::default(), now), None);
    }

    #[test]
    fn the_first_words_of_a_job_wait_a_moment_and_those_of_many_for_the_objects_of_others() {
        let wait = |millis, begins, is_crowded| word_after(Duration::from_millis(millis), begins, is_crowded);
        let millis = |millis| Some(Duration::from_millis(millis));
        assert_eq!(
            (wait(0, true, false), wait(2_500, true, false), wait(3_000, true, false)),
            (millis(3_000), millis(500), None)
        );
        assert_eq!(wait(0, false, false), None, "it says more than that it begins");
        assert_eq!((wait(1_000, true, true), wait(1_000, false, true)), (millis(2_000), millis(1_000)));
        assert_eq!((wait(29_800, false, true), wait(30_000, true, true)), (millis(200), None));
    }
}
