//! Credentials from files that somebody else changes: looked at before each request, read again when they look different.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use object_store::CredentialProvider;

use super::settings::{Options, Settings};

/// What gives the credentials of a client.
pub(super) type Credentials<C> = Arc<dyn CredentialProvider<Credential = C>>;

/// Makes what gives the credentials, from options.
pub(super) type Again<C> = Box<dyn Fn(&Options) -> object_store::Result<Credentials<C>> + Send + Sync>;

/// Credentials as they stand in files now. New ones that cannot be used leave the old ones in place, and that is said.
pub(super) struct Rotating<C> {
    settings: Settings,
    again: Again<C>,
    seen: Mutex<Seen<C>>,
}

struct Seen<C> {
    look: Vec<Option<(i64, i64, u64, u64)>>,
    credentials: Credentials<C>,
}

impl<C> Rotating<C> {
    pub(super) fn new(settings: Settings, first: Credentials<C>, again: Again<C>) -> Self {
        let look = settings.look();
        Self { settings, again, seen: Mutex::new(Seen { look, credentials: first }) }
    }

    fn current(&self) -> Credentials<C> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let look = self.settings.look();
        if look != seen.look {
            seen.look = look;
            let read = self.settings.read().map_err(|error| error.to_string());
            match read.and_then(|options| (self.again)(&options).map_err(|error| error.to_string())) {
                Ok(credentials) => {
                    tracing::info!("took up new credentials of the object store");
                    seen.credentials = credentials;
                }
                Err(error) => tracing::warn!(error, "new credentials of the object store cannot be used"),
            }
        }
        Arc::clone(&seen.credentials)
    }
}

#[async_trait]
impl<C: std::fmt::Debug + Send + Sync + 'static> CredentialProvider for Rotating<C> {
    type Credential = C;

    async fn get_credential(&self) -> object_store::Result<Arc<C>> {
        let credentials = self.current();
        credentials.get_credential().await
    }
}

impl<C> std::fmt::Debug for Rotating<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rotating").finish_non_exhaustive()
    }
}
