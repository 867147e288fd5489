//! How a store is reached: the provider's own variables (`AWS_…`, `GOOGLE_…`, `AZURE_…`), a folder of files with the same
//! names (a mounted Secret), and for Amazon the shared files of its tools.
//!
//! A file wins over a variable. Files may change while the program runs. What a job's `spec.storage` says comes as variables,
//! which the operator sets.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use url::Url;

use super::super::{Refusal, StoreError};

/// Options of a client by name: the provider's variables in small letters.
pub(crate) type Options = BTreeMap<String, String>;

/// Variable with the folder of credentials.
pub const CREDENTIALS_DIR: &str = "STORAGE_CREDENTIALS_DIR";
/// Option with the certificates, as PEM, that a server may show beside the public ones. No variable has this name.
pub(super) const CA: &str = "ca";
/// File of the folder with these certificates.
const CA_FILE: &str = "ca.crt";

/// Whose interface a store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Provider {
    /// S3, and everything that speaks it.
    Amazon,
    /// Google Cloud Storage.
    Google,
    /// Azure Blob Storage.
    Azure,
}

impl Provider {
    /// Of a URL; `None` if it names no object store.
    pub(crate) fn of(url: &Url) -> Option<Self> {
        match url.scheme() {
            _ if url.host_str().is_none_or(str::is_empty) => None,
            "s3" => Some(Self::Amazon),
            "gs" => Some(Self::Google),
            "abfss" => Some(Self::Azure),
            _ => None,
        }
    }

    /// How its variables begin.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Amazon => "AWS_",
            Self::Google => "GOOGLE_",
            Self::Azure => "AZURE_",
        }
    }

    /// Variables with the address of another server than the provider's, in small letters.
    fn endpoints(self) -> &'static [&'static str] {
        match self {
            Self::Amazon => &["aws_endpoint_url_s3", "aws_endpoint_url", "aws_endpoint"],
            Self::Google => &["google_base_url"],
            Self::Azure => &["azure_storage_endpoint", "azure_endpoint"],
        }
    }

    /// What a Secret with credentials holds.
    fn keys(self) -> &'static str {
        match self {
            Self::Amazon => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_SESSION_TOKEN if they are temporary",
            Self::Google => "GOOGLE_SERVICE_ACCOUNT_KEY",
            Self::Azure => "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY",
        }
    }
}

/// The variables and files from which the options of a client come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Settings {
    pub(super) provider: Provider,
    /// The provider's variables.
    variables: Options,
    /// A folder of files that are called like variables.
    folder: Option<PathBuf>,
    /// Amazon's shared file of credentials, and the profile in it.
    shared: Option<(PathBuf, String)>,
}

impl Settings {
    /// Of this process and its jobs.
    pub(crate) fn of_process(provider: Provider) -> Result<Self, StoreError> {
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self::of(provider, std::env::vars_os().filter_map(text))
    }

    /// Of variables.
    pub(super) fn of(
        provider: Provider,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, StoreError> {
        let (mut own, mut folder, mut home) = (Options::new(), None, None);
        for (name, value) in variables.filter(|(_, value)| !value.is_empty()) {
            match name.as_str() {
                CREDENTIALS_DIR => folder = Some(PathBuf::from(value)),
                "HOME" => home = Some(PathBuf::from(value)),
                _ if name.starts_with(provider.prefix()) => own.extend([(name.to_ascii_lowercase(), value)]),
                _ => {}
            }
        }
        let shared =
            if provider == Provider::Amazon && folder.is_none() { shared_file(&own, home.as_deref()) } else { None };
        let settings = Self { provider, variables: own, folder, shared };
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), StoreError> {
        let endpoint = self.provider.endpoints().iter().find_map(|name| self.variables.get(*name));
        let allow = format!("{}ALLOW_HTTP", self.provider.prefix());
        let allows =
            self.variables.get(&allow.to_ascii_lowercase()).is_some_and(|value| value == "true" || value == "1");
        match endpoint {
            Some(endpoint) if endpoint.starts_with("http://") && !allows => Err(StoreError::Unsuitable(format!(
                "the endpoint {endpoint} would carry all data unencrypted: write https://, or allow it with {allow}=true"
            ))),
            Some(endpoint) if !endpoint.starts_with("http") => {
                Err(StoreError::Unsuitable(format!("the endpoint {endpoint} is no address: write https:// before it")))
            }
            _ => Ok(()),
        }
    }

    /// Files whose change changes the credentials.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = self.folder.iter().flat_map(|folder| named_files(folder, self.provider)).collect();
        files.extend(self.folder.clone());
        files.extend(self.shared.iter().map(|(file, _)| file.clone()));
        let google = ["google_application_credentials", "google_service_account", "google_service_account_path"];
        files.extend(google.iter().filter_map(|name| self.variables.get(*name)).map(PathBuf::from));
        files
    }

    /// What the files look like now: another look, other credentials.
    pub(super) fn look(&self) -> Vec<Option<(i64, i64, u64, u64)>> {
        let look = |file: PathBuf| {
            let facts = std::fs::metadata(file).ok()?;
            Some((facts.mtime(), facts.mtime_nsec(), facts.ino(), facts.len()))
        };
        self.files().into_iter().map(look).collect()
    }

    /// The options as of now.
    ///
    /// # Errors
    /// When a file cannot be read, or the folder holds no credentials.
    pub(super) fn read(&self) -> Result<Options, StoreError> {
        let mut options = self.variables.clone();
        if let Some(bundle) = options.remove("aws_ca_bundle") {
            options.insert(CA.to_owned(), read(Path::new(&bundle))?);
        }
        if let Some(folder) = &self.folder {
            let files = named_files(folder, self.provider);
            let is_empty = files.is_empty();
            for file in files {
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let name = if name == CA_FILE { CA.to_owned() } else { name.to_ascii_lowercase() };
                options.insert(name, read(&file)?.trim().to_owned());
            }
            if is_empty {
                return Err(StoreError::Refused {
                    operation: "read",
                    path: folder.display().to_string(),
                    problem: "there are no credentials".to_owned(),
                    cure: format!("let the Secret hold {}", self.provider.keys()),
                    refusal: Refusal::Expired,
                });
            }
        }
        if let Some((file, profile)) = &self.shared {
            options.extend(of_profile(&read(file)?, profile));
        }
        Ok(options)
    }
}

fn read(file: &Path) -> Result<String, StoreError> {
    std::fs::read_to_string(file).map_err(|error| StoreError::io("read", &file.display().to_string(), error))
}

/// Files of a folder that are called like variables of a provider, sorted; what Kubernetes keeps beside them begins with a
/// dot.
fn named_files(folder: &Path, provider: Provider) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_named = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name == CA_FILE || name.starts_with(provider.prefix())
    };
    let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(is_named).collect();
    files.sort();
    files
}

/// Amazon's shared file, if credentials come from nowhere else or a profile was asked for.
fn shared_file(variables: &Options, home: Option<&Path>) -> Option<(PathBuf, String)> {
    let others = [
        "aws_access_key_id",
        "aws_web_identity_token_file",
        "aws_container_credentials_relative_uri",
        "aws_container_credentials_full_uri",
        "aws_skip_signature",
    ];
    let profile = variables.get("aws_profile");
    if profile.is_none() && others.iter().any(|name| variables.contains_key(*name)) {
        return None;
    }
    let file = match variables.get("aws_shared_credentials_file") {
        Some(file) => PathBuf::from(file),
        None => home?.join(".aws/credentials"),
    };
    file.is_file().then(|| (file, profile.map_or("default", String::as_str).to_owned()))
}

/// What a profile of a shared file says, as options.
fn of_profile(text: &str, profile: &str) -> Options {
    let mut is_ours = false;
    let mut options = Options::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_ours = name.trim() == profile;
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_ours && !line.starts_with(['#', ';'])) {
            let name = name.trim().to_ascii_lowercase();
            let name = if name.starts_with("aws_") { name } else { format!("aws_{name}") };
            options.insert(name, value.trim().to_owned());
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, StoreError> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::of(Provider::Amazon, variables)
    }

    #[test]
    fn only_the_provider_s_own_variables_count() {
        let options = settings(&[("BUCKET", "other"), ("AWS_REGION", "eu-west-1"), ("TOKEN", "x"), ("AWS_TOKEN", "")]);
        let options = options.unwrap().read().unwrap();
        assert_eq!(options, Options::from([("aws_region".to_owned(), "eu-west-1".to_owned())]));
    }

    #[test]
    fn a_folder_without_credentials_says_what_belongs_there() {
        let error = settings(&[(CREDENTIALS_DIR, "/nowhere")]).unwrap().read().unwrap_err();
        assert!(error.to_string().contains("/nowhere: there are no credentials"), "{error}");
    }

    #[test]
    fn an_endpoint_without_encryption_is_allowed_in_so_many_words() {
        let error = settings(&[("AWS_ENDPOINT_URL", "http://s3:9000")]).unwrap_err().to_string();
        assert!(error.contains("http://s3:9000") && error.contains("AWS_ALLOW_HTTP=true"), "{error}");
        settings(&[("AWS_ENDPOINT_URL", "http://s3:9000"), ("AWS_ALLOW_HTTP", "true")]).unwrap();
        let error = settings(&[("AWS_ENDPOINT_URL", "s3:9000")]).unwrap_err().to_string();
        assert!(error.contains("write https:// before it"), "{error}");
        for (provider, endpoint, allow) in [
            (Provider::Google, "GOOGLE_BASE_URL", "GOOGLE_ALLOW_HTTP=true"),
            (Provider::Azure, "AZURE_STORAGE_ENDPOINT", "AZURE_ALLOW_HTTP=true"),
        ] {
            let own = [(endpoint.to_owned(), "http://store:9000".to_owned())];
            let error = Settings::of(provider, own.into_iter()).unwrap_err().to_string();
            assert!(error.contains(allow), "{error}");
        }
    }

    #[test]
    fn files_of_a_folder_win_and_their_change_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("AWS_ACCESS_KEY_ID", "new\n");
        write("AZURE_STORAGE_ACCOUNT_KEY", "not ours");
        write("ca.crt", "PEM");
        let place = folder.path().to_str().unwrap().to_owned();
        std::fs::remove_file(folder.path().join("ca.crt")).unwrap();
        let settings = settings(&[("AWS_ACCESS_KEY_ID", "old"), (CREDENTIALS_DIR, &place)]).unwrap();
        assert_eq!(settings.read().unwrap()["aws_access_key_id"], "new", "nothing but what a variable says, too");
        write("ca.crt", "PEM");
        let options = settings.read().unwrap();
        assert_eq!((options["aws_access_key_id"].as_str(), options[CA].as_str(), options.len()), ("new", "PEM", 2));
        let before = settings.look();
        assert_eq!(before, settings.look());
        write("AWS_ACCESS_KEY_ID", "newer");
        assert_ne!(before, settings.look());
    }

    #[test]
    fn amazon_s_shared_file_has_profiles() {
        let text = "[default]\naws_access_key_id = a\n# aws_x = y\n\n[ other ]\naws_access_key_id=b\nregion = r\n";
        assert_eq!(of_profile(text, "default"), Options::from([("aws_access_key_id".to_owned(), "a".to_owned())]));
        assert_eq!(of_profile(text, "other")["aws_region"], "r");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let shared = settings(&[("AWS_SHARED_CREDENTIALS_FILE", file), ("AWS_PROFILE", "other")]).unwrap();
        assert_eq!(shared.read().unwrap()["aws_access_key_id"], "b");
        let own = settings(&[("AWS_SHARED_CREDENTIALS_FILE", file), ("AWS_ACCESS_KEY_ID", "c")]).unwrap();
        assert_eq!(own.read().unwrap()["aws_access_key_id"], "c");
    }
}
