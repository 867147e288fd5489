//! Clients of object stores: one for each bucket and its settings in a process, with connections, retries and credentials of
//! its own. Everybody who opens a URL comes here.
//!
//! ```text
//! open(url) ── settings (environment, files) ── AmazonS3 | GoogleCloudStorage | MicrosoftAzure
//!                                                    └── wire: one thread for I/O, every request counted
//! ```

pub(crate) mod explain;
pub mod requests;
mod rotating;
pub mod settings;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};
use object_store::azure::{AzureConfigKey, AzureCredential, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredential, GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use self::rotating::{Credentials, Rotating};
use self::settings::{CA, Options, Provider, Settings};
use self::wire::Wire;
use super::StoreError;

pub(crate) use self::wire::runtime;

/// A request that has no answer by then is given up: a part of 8 MiB takes less over a slow line.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection is there by then, or the store is not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that nobody uses are closed before a load balancer forgets them silently.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Tries behind the first one. A store that stumbles for some seconds is waited for here; one that stays away is waited for
/// by the job, which says so.
const RETRIES: usize = 5;
/// No try begins later than this after the first one.
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);

/// A bucket, and how it is reached.
type Key = (String, Settings);

static CLIENTS: Mutex<BTreeMap<Key, Arc<dyn ObjectStore>>> = Mutex::new(BTreeMap::new());

/// Opens the store of a URL; the path is the place in it that the URL names. Nothing is asked of the store yet.
///
/// # Errors
/// When this program knows no such store, or its settings are wrong.
pub(crate) fn open(url: &Url) -> Result<(Arc<dyn ObjectStore>, Path), StoreError> {
    let Some(provider) = Provider::of(url) else {
        return Err(StoreError::Unsuitable(format!(
            "{url}: this program cannot open such a store ({}://): write s3://, gs:// or abfss://, or a folder",
            url.scheme()
        )));
    };
    let path = Path::from_url_path(url.path()).map_err(|error| StoreError::Unsuitable(format!("{url}: {error}")))?;
    let user = if url.username().is_empty() { String::new() } else { format!("{}@", url.username()) };
    let bucket = format!("{}://{user}{}", url.scheme(), url.host_str().unwrap_or_default());
    let key = (bucket, Settings::of_process(provider)?);
    if let Some(store) = clients().get(&key) {
        return Ok((Arc::clone(store), path));
    }
    let (bucket, settings) = &key;
    let store = match provider {
        Provider::Amazon => assembled(settings, bucket, amazon, AmazonS3::credentials),
        Provider::Google => assembled(settings, bucket, google, GoogleCloudStorage::credentials),
        Provider::Azure => assembled(settings, bucket, azure, MicrosoftAzure::credentials),
    }?;
    Ok((Arc::clone(clients().entry(key).or_insert(store)), path))
}

fn clients() -> MutexGuard<'static, BTreeMap<Key, Arc<dyn ObjectStore>>> {
    CLIENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a client of a bucket by its options, with other credentials than theirs if some are given.
type Make<S, C> = fn(&str, &Options, Option<Credentials<C>>) -> object_store::Result<S>;

/// A client whose credentials are those of its settings; of files that change, those that stand there now.
fn assembled<S: ObjectStore, C: std::fmt::Debug + Send + Sync + 'static>(
    settings: &Settings,
    bucket: &str,
    make: Make<S, C>,
    credentials: fn(&S) -> &Credentials<C>,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let wrong = |error: object_store::Error| {
        let names = settings.provider.prefix();
        StoreError::Unsuitable(format!("{bucket}: {error}: correct the variables {names}…, or the Secret with them"))
    };
    let options = settings.read()?;
    let store = make(bucket, &options, None).map_err(wrong)?;
    if settings.files().is_empty() {
        return Ok(Arc::new(store));
    }
    let (first, bucket_again) = (Arc::clone(credentials(&store)), bucket.to_owned());
    let again = move |options: &Options| Ok(Arc::clone(credentials(&make(&bucket_again, options, None)?)));
    let rotating = Rotating::new(settings.clone(), first, Box::new(again));
    Ok(Arc::new(make(bucket, &options, Some(Arc::new(rotating))).map_err(wrong)?))
}

/// The functions that make clients. Which bucket is the URL's to say, and no option's.
macro_rules! makers {
    ($($name:ident: $builder:ident, $bucket:pat, $credential:ty => $store:ty;)*) => {$(
        fn $name(
            bucket: &str,
            options: &Options,
            credentials: Option<Credentials<$credential>>,
        ) -> object_store::Result<$store> {
            let builder = $builder::new().with_client_options(client_options(options)?).with_retry(retries());
            let known = options.iter().filter_map(|(name, value)| Some((name.parse().ok()?, value)));
            let builder = known
                .filter(|(key, _)| !matches!(key, $bucket))
                .fold(builder, |builder, (key, value)| builder.with_config(key, value));
            let builder = builder.with_url(bucket).with_http_connector(Wire);
            match credentials {
                Some(credentials) => builder.with_credentials(credentials).build(),
                None => builder.build(),
            }
        }
    )*};
}

makers! {
    amazon: AmazonS3Builder, AmazonS3ConfigKey::Bucket, AwsCredential => AmazonS3;
    google: GoogleCloudStorageBuilder, GoogleConfigKey::Bucket, GcpCredential => GoogleCloudStorage;
    azure: MicrosoftAzureBuilder, AzureConfigKey::ContainerName, AzureCredential => MicrosoftAzure;
}

/// A conditional PUT is tried again like any other request: whoever is told that the object exists compares it, since it
/// may be that of the first try.
fn retries() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 };
    RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT }
}

fn client_options(options: &Options) -> object_store::Result<ClientOptions> {
    let client = ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_pool_idle_timeout(IDLE_TIMEOUT);
    let Some(pem) = options.get(CA) else { return Ok(client) };
    let certificates = Certificate::from_pem_bundle(pem.as_bytes())?;
    Ok(certificates.into_iter().fold(client, ClientOptions::with_root_certificate))
}

#[cfg(test)]
mod tests;
