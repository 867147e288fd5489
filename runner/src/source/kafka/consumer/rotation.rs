//! Secrets that are rotated while the job runs. A password is told to the clients, whose next connection uses it; a certificate
//! cannot be told to a client, so new clients take the place of the old ones between two micro-batches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use data_platform_crds::kafka::KafkaSpec;

use super::KafkaSource;
use crate::clock::{Clock, SystemClock};
use crate::source::SourceError;
use crate::source::kafka::config::{SecretWatch, Secrets, login};
use crate::source::kafka::native;

/// How often the files are looked at: a few small files, and the kubelet takes up to a minute to bring a changed Secret.
const LOOK: Duration = Duration::from_secs(2);

/// What was in the secrets for the brokers.
pub(super) struct Rotation {
    tls: SecretWatch,
    login: SecretWatch,
    looked: Instant,
    /// New certificates that no client could be made of.
    is_due: bool,
}

impl Rotation {
    pub(super) fn new(spec: &KafkaSpec, secrets: &Secrets) -> Self {
        let (tls, login) = (SecretWatch::of_tls(spec, secrets), SecretWatch::of_login(spec, secrets));
        Self { tls, login, looked: SystemClock.instant(), is_due: false }
    }
}

impl KafkaSource {
    /// Takes up secrets that were rotated. What cannot be used is said, and the connections stay as they are.
    pub(super) fn take_up_secrets(&mut self) -> Result<(), SourceError> {
        if SystemClock.since(self.rotation.looked) < LOOK {
            return Ok(());
        }
        self.rotation.looked = SystemClock.instant();
        if self.rotation.login.is_changed() {
            self.take_up_login();
        }
        if self.rotation.tls.is_changed() || self.rotation.is_due {
            self.take_up_certificates()?;
        }
        Ok(())
    }

    fn take_up_login(&self) {
        match login(&self.spec, &self.secrets) {
            Ok(Some((username, password))) => {
                let clients = self.client.iter().chain(&self.asking);
                clients.for_each(|client| native::set_login(Self::native(client), &username, &password));
                tracing::info!("user name or password for Kafka was changed: new connections use it");
            }
            Ok(None) => {}
            Err(error) => tracing::warn!("the login for Kafka was changed, and cannot be read: {error}"),
        }
    }

    fn take_up_certificates(&mut self) -> Result<(), SourceError> {
        let fresh = match self.connect() {
            Ok(fresh) => fresh,
            Err(error) => {
                if !std::mem::replace(&mut self.rotation.is_due, true) {
                    tracing::warn!("certificates for Kafka were changed, and cannot be used: {error}");
                }
                return Ok(());
            }
        };
        self.rotation.is_due = false;
        let positions = self.positions.clone();
        self.disconnect();
        self.client = Some(Arc::clone(&fresh));
        if !positions.is_empty() {
            self.assign_at(&positions)?;
        }
        tracing::info!("certificates for Kafka were changed: connected anew");
        Ok(())
    }
}
