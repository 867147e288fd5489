//! [`Settled`]: a look at the children of a job that found nothing to do, by the fingerprint of everything that it depended on.
//! As long as that is the same another look finds the same, and is passed over: a job that comes up is looked at a dozen
//! times because of its pod. What it depends on and is not here is constant for a process: the settings.

use std::hash::{DefaultHasher, Hash, Hasher};

use data_platform_crds::streaming_job::StreamingJob;

use crate::cache::JobKey;
use crate::child::ChildKind;
use crate::claim;
use crate::context::Context;
use crate::memory::Settled;
use crate::names::{RESTARTED_AT, TAKEOVER};
use crate::observed::Observed;
use crate::streaming_job::dereference;
use crate::streaming_job::given_up::is_fenced;

/// Whether another look would find what this one found.
pub(super) fn holds(settled: &Settled, fingerprint: Option<u64>, key: &JobKey, context: &Context) -> bool {
    let (claim, is_shared) = &settled.claim;
    Some(settled.fingerprint) == fingerprint
        && context.checkpoints.holder(key).is_none()
        && claim.as_ref().is_none_or(|name| claim::known(&key.namespace, name, context) == Some(Some(*is_shared)))
}

/// Of what the children of a job depend on. `None`: also on the time, or on what has no version that could be compared.
pub(super) fn fingerprint(observed: &Observed<StreamingJob>, key: &JobKey, context: &Context) -> Option<u64> {
    let metadata = &observed.metadata;
    let annotation = |name: &str| metadata.annotations.as_ref().and_then(|annotations| annotations.get(name));
    let pods = context.scope.pods.of_job(key);
    if pods.iter().any(|pod| is_fenced(pod)) {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    (&metadata.uid, metadata.generation, annotation(RESTARTED_AT), annotation(TAKEOVER)).hash(&mut hasher);
    dereference::cannot_start(&pods).hash(&mut hasher);
    for kind in ChildKind::ALL {
        for child in context.scope.children.of(kind).of_job(key) {
            // Versions are counted over all objects: one names the object, too.
            let version = Some(child.version()).filter(|version| *version > 0)?;
            (kind, version).hash(&mut hasher);
        }
    }
    Some(hasher.finish())
}
