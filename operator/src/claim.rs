//! The claim that holds a job's data: whether it is there, and whether pods on several nodes may use it at once.

use std::time::Duration;

use data_platform_crds::condition::Reason;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::Api;

use crate::clock;
use crate::context::Context;
use crate::error::Error;
use crate::kind::JobResource;
use crate::validated::{Refusal, ValidatedJob};

/// How long what is known of a claim is believed: its access modes never change, and one that vanished keeps its pods.
const CLAIM_PERIOD: Duration = Duration::from_secs(300);
/// How long a claim that is not there is believed not to be.
const CLAIM_MISSING_PERIOD: Duration = Duration::from_secs(5);

/// Why a job whose claim is not there is not carried out.
pub fn missing<K: JobResource>(job: &ValidatedJob<K>) -> Refusal {
    let name = job.storage.claim.as_deref().unwrap_or_default();
    (Reason::StorageMissing, format!("there is no PersistentVolumeClaim {name} in {}", job.namespace))
}

/// What is known of a claim and still believed: `Some(is shared)`, or `None` for one that is not there.
pub fn known(namespace: &str, name: &str, context: &Context) -> Option<Option<bool>> {
    let (since, found) = context.claim(namespace, name)?;
    let period = if found.is_some() { CLAIM_PERIOD } else { CLAIM_MISSING_PERIOD };
    (clock::since(since) < period).then_some(found)
}

/// Whether pods on any node may use the job's claim at once; `None`: there is no such claim. A job without one shares
/// nothing. A thousand jobs of one namespace ask once.
///
/// # Errors
///
/// The API server's.
pub async fn is_shared<K: JobResource>(job: &ValidatedJob<K>, context: &Context) -> Result<Option<bool>, Error> {
    let Some(name) = &job.storage.claim else { return Ok(Some(true)) };
    if let Some(found) = known(&job.namespace, name, context) {
        return Ok(found);
    }
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &job.namespace);
    let found = api.get_opt(name).await.map_err(Error::api(format!("read the PersistentVolumeClaim {name}")))?;
    let is_shared = found.map(|claim| {
        let modes = claim.spec.and_then(|spec| spec.access_modes).unwrap_or_default();
        modes.iter().any(|mode| mode == "ReadWriteMany")
    });
    context.note_claim(&job.namespace, name, is_shared);
    Ok(is_shared)
}
