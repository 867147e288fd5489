//! Leader election by a Lease: one operator reconciles, the others wait and watch.
//!
//! ```text
//! Lease + what was seen of it and when -> decide (pure) -> Renew | Take | Wait
//! ```
//!
//! As other controllers do it: the holder renews; whoever sees no renewal for the whole duration, by its own clock, takes
//! over; every write carries the resource version, so that one of two wins. Unlike them, those who wait watch the Lease:
//! one that is released is taken at once. Two that lead for a moment do no harm, since every write of a reconcile is an
//! apply of the same content, bound to an uid; the Lease only saves the work.

use std::time::Duration;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::runtime::watcher::watch_object;
use kube::{Client, ResourceExt};
use tokio::time::{Instant, sleep, timeout};

use crate::args::Args;
use crate::clock;

/// Why an operator no longer leads.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// It could not say in time that it is there.
    #[error("the Lease {name} was not renewed within {deadline:?}: another operator may lead")]
    NotRenewed {
        /// Name of the Lease.
        name: String,
        /// Within which time.
        deadline: Duration,
    },
    /// Another one has it.
    #[error("the Lease {name} was taken by {holder}")]
    Taken {
        /// Name of the Lease.
        name: String,
        /// Who has it.
        holder: String,
    },
}

/// What to do about the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is ours: say that we are still there.
    Renew,
    /// It is nobody's, or its holder gave no sign for too long.
    Take,
    /// Another one has it; look again after this time at the latest.
    Wait(Duration),
}

/// Decides about the Lease as it is now. `unchanged`: for how long it has been seen as it is, by our own clock, since
/// the holder's clock may be any.
pub fn decide(lease: Option<&Lease>, identity: &str, unchanged: Duration) -> Decision {
    let Some(spec) = lease.and_then(|lease| lease.spec.as_ref()) else { return Decision::Take };
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    if holder == identity {
        return Decision::Renew;
    }
    // The holder's own promise counts, not ours: the two may be configured differently.
    let duration = Duration::from_secs(u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0));
    if holder.is_empty() || unchanged >= duration {
        return Decision::Take;
    }
    Decision::Wait(duration - unchanged)
}

/// The Lease after `identity` took or renewed it.
pub fn held(before: Option<&Lease>, name: &str, identity: &str, duration: Duration, now: Timestamp) -> Lease {
    let old = before.and_then(|lease| lease.spec.clone()).unwrap_or_default();
    let is_ours = old.holder_identity.as_deref() == Some(identity);
    let spec = LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(i32::try_from(duration.as_secs().max(1)).unwrap_or(i32::MAX)),
        acquire_time: old.acquire_time.filter(|_| is_ours).or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(old.lease_transitions.unwrap_or(0) + i32::from(!is_ours && before.is_some())),
        ..old
    };
    let metadata = before.map_or_else(
        || ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        |lease| lease.metadata.clone(),
    );
    Lease { metadata, spec: Some(spec) }
}

/// The Lease after its holder let go: nobody's, and free at once.
pub fn released(lease: &Lease, now: Timestamp) -> Lease {
    let old = lease.spec.clone().unwrap_or_default();
    let spec = LeaseSpec { holder_identity: Some(String::new()), renew_time: Some(MicroTime(now)), ..old };
    Lease { metadata: lease.metadata.clone(), spec: Some(spec) }
}

/// Takes part in an election.
pub struct Election {
    api: Api<Lease>,
    name: String,
    identity: String,
    duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
    /// As it was last read or written by us.
    lease: Option<Lease>,
    /// Since when it is as it is.
    seen: Instant,
}

impl Election {
    /// Takes part in the election that the settings name.
    pub fn new(client: Client, args: &Args) -> Self {
        Self {
            api: Api::namespaced(client, &args.namespace),
            name: args.lease_name.clone(),
            // A pod that is restarted under its old name is another process: it waits for its own Lease to expire only
            // if it was killed, and then nobody can know that the old one is gone.
            identity: format!("{}_{:x}", args.pod_name, clock::now().as_nanosecond()),
            duration: args.lease_duration,
            renew_deadline: args.renew_deadline.min(args.lease_duration),
            retry_period: args.retry_period.max(Duration::from_millis(100)),
            lease: None,
            seen: clock::instant(),
        }
    }

    /// Returns when this operator leads.
    pub async fn acquire(&mut self) {
        loop {
            let wait = match self.read().await {
                Ok(()) => match decide(self.lease.as_ref(), &self.identity, clock::since(self.seen)) {
                    Decision::Wait(left) => left,
                    Decision::Take | Decision::Renew => match self.write().await {
                        Ok(()) => return tracing::info!(lease = self.name, identity = self.identity, "leading"),
                        // Somebody else was faster, or the API server has trouble: look again.
                        Err(error) => {
                            tracing::debug!(error = %error, "the Lease was not taken");
                            self.retry_period
                        }
                    },
                },
                Err(error) => {
                    tracing::warn!(%error, lease = self.name, "the Lease cannot be read");
                    self.retry_period
                }
            };
            self.changed(wait).await;
        }
    }

    /// Waits until it may be this operator's turn, `at_most` this long. The holder's renewals are seen and waited over.
    async fn changed(&mut self, at_most: Duration) {
        let changes = watch_object(self.api.clone(), &self.name);
        pin_mut!(changes);
        let mut until = clock::instant() + at_most;
        // Whatever ends this is only a reason to read the Lease.
        while let Ok(Some(change)) = timeout(until.saturating_duration_since(clock::instant()), changes.next()).await {
            match change {
                Ok(lease) => self.see(lease),
                Err(_) => return sleep(self.retry_period).await,
            }
            match decide(self.lease.as_ref(), &self.identity, clock::since(self.seen)) {
                Decision::Wait(left) => until = clock::instant() + left,
                Decision::Take | Decision::Renew => return,
            }
        }
    }

    /// Renews until that fails for too long or another one has the Lease.
    pub async fn keep(&mut self) -> LeaseError {
        let mut renewed = clock::instant();
        loop {
            sleep(self.retry_period).await;
            let left = self.renew_deadline.saturating_sub(clock::since(renewed));
            match timeout(left, self.write()).await {
                Ok(Ok(())) => {
                    renewed = clock::instant();
                    continue;
                }
                Ok(Err(error)) => tracing::warn!(%error, lease = self.name, "the Lease was not renewed"),
                Err(_) => {}
            }
            if let Ok(Ok(())) = timeout(self.retry_period, self.read()).await {
                let holder = self.lease.as_ref().and_then(|lease| lease.spec.as_ref()?.holder_identity.clone());
                if let Some(holder) = holder.filter(|holder| !holder.is_empty() && *holder != self.identity) {
                    return LeaseError::Taken { name: self.name.clone(), holder };
                }
            }
            if clock::since(renewed) >= self.renew_deadline {
                return LeaseError::NotRenewed { name: self.name.clone(), deadline: self.renew_deadline };
            }
        }
    }

    /// Lets go, so that another one need not wait. What fails here costs the others the duration, nothing else.
    pub async fn release(mut self) {
        if self.read().await.is_err() {
            return;
        }
        let holder = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
        let is_ours = |lease: &Lease| holder(lease).as_deref() == Some(self.identity.as_str());
        if let Some(lease) = self.lease.as_ref().filter(|lease| is_ours(lease)) {
            let free = released(lease, clock::now());
            match self.api.replace(&self.name, &PostParams::default(), &free).await {
                Ok(_) => tracing::info!(lease = self.name, "the Lease is released"),
                Err(error) => tracing::warn!(%error, lease = self.name, "the Lease was not released"),
            }
        }
    }

    async fn read(&mut self) -> Result<(), kube::Error> {
        let lease = self.api.get_opt(&self.name).await?;
        self.see(lease);
        Ok(())
    }

    fn see(&mut self, lease: Option<Lease>) {
        let version = |lease: &Option<Lease>| lease.as_ref().and_then(ResourceExt::resource_version);
        if version(&lease) != version(&self.lease) {
            self.seen = clock::instant();
        }
        self.lease = lease;
    }

    async fn write(&mut self) -> Result<(), kube::Error> {
        let lease = held(self.lease.as_ref(), &self.name, &self.identity, self.duration, clock::now());
        let written = match &self.lease {
            // The resource version that it carries makes the API server refuse it if anybody else wrote meanwhile.
            Some(_) => self.api.replace(&self.name, &PostParams::default(), &lease).await?,
            None => self.api.create(&PostParams::default(), &lease).await?,
        };
        self.lease = Some(written);
        self.seen = clock::instant();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATION: Duration = Duration::from_secs(15);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn lease_of(holder: &str) -> Lease {
        held(None, "lease", holder, DURATION, at(100))
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_or_expired_and_never_before() {
        let lease = lease_of("a");
        let seconds = Duration::from_secs;
        assert_eq!(decide(None, "b", seconds(0)), Decision::Take);
        assert_eq!(decide(Some(&lease), "b", seconds(0)), Decision::Wait(seconds(15)));
        assert_eq!(decide(Some(&lease), "b", seconds(14)), Decision::Wait(seconds(1)));
        assert_eq!(decide(Some(&lease), "b", seconds(15)), Decision::Take);
        assert_eq!(decide(Some(&lease), "a", seconds(99)), Decision::Renew);
        assert_eq!(decide(Some(&released(&lease, at(101))), "b", seconds(0)), Decision::Take);
    }

    #[test]
    fn transitions_count_changes_of_the_holder_only() {
        let first = lease_of("a");
        assert_eq!(first.spec.as_ref().unwrap().lease_transitions, Some(0));
        let renewed = held(Some(&first), "lease", "a", DURATION, at(110)).spec.unwrap();
        assert_eq!((renewed.lease_transitions, renewed.acquire_time), (Some(0), Some(MicroTime(at(100)))));
        let taken = held(Some(&first), "lease", "b", DURATION, at(120)).spec.unwrap();
        assert_eq!((taken.lease_transitions, taken.acquire_time), (Some(1), Some(MicroTime(at(120)))));
    }
}
