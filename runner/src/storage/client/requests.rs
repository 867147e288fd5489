//! Requests of this process to object stores, by what they do and how they end: providers charge for them one by one.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Reads an object or a part of it.
    Get,
    /// Asks whether there is an object.
    Head,
    /// Lists objects.
    List,
    /// Writes an object.
    Put,
    /// Copies an object inside the store.
    Copy,
    /// Begins, continues, completes or abandons an object that is written in parts.
    Multipart,
    /// Removes objects.
    Delete,
    /// Gets credentials, from the provider's token service.
    Credentials,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was done.
    Ok,
    /// There is no such object.
    Missing,
    /// There is such an object already: a condition was not met.
    Exists,
    /// Not allowed.
    Denied,
    /// Too many requests.
    Throttled,
    /// Another error of the store.
    Failed,
    /// No answer came.
    NoAnswer,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 8] =
        [Self::Get, Self::Head, Self::List, Self::Put, Self::Copy, Self::Multipart, Self::Delete, Self::Credentials];

    /// Value of the label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Put => "put",
            Self::Copy => "copy",
            Self::Multipart => "multipart",
            Self::Delete => "delete",
            Self::Credentials => "credentials",
        }
    }

    /// Of a request.
    pub(super) fn of(request: Request<'_>) -> Self {
        let Request { method, host, path, query, is_copy } = request;
        let asks = |name: &str| query.split('&').any(|part| part.split('=').next() == Some(name));
        let is_comp = |name: &str| query.split('&').any(|part| part.strip_prefix("comp=") == Some(name));
        if asks("uploads") || asks("uploadId") || is_comp("block") || is_comp("blocklist") {
            return Self::Multipart;
        }
        let is_token_service = TOKEN_SERVICES.iter().any(|service| host.starts_with(service));
        match method {
            _ if is_token_service => Self::Credentials,
            "GET" if asks("list-type") || is_comp("list") || asks("prefix") => Self::List,
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "PUT" if is_copy => Self::Copy,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "POST" if asks("delete") || is_comp("batch") || path.starts_with("/batch/") => Self::Delete,
            _ => Self::Credentials,
        }
    }
}

/// How the hosts are called that hand out credentials: of nodes, pods and providers.
const TOKEN_SERVICES: [&str; 7] =
    ["169.254.", "metadata.", "sts.", "oauth2.", "login.microsoftonline.", "iamcredentials.", "accounts.google."];

/// What tells the operation of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    /// It names an object to copy from.
    pub(super) is_copy: bool,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 7] =
        [Self::Ok, Self::Missing, Self::Exists, Self::Denied, Self::Throttled, Self::Failed, Self::NoAnswer];

    /// Value of the label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missing => "missing",
            Self::Exists => "exists",
            Self::Denied => "denied",
            Self::Throttled => "throttled",
            Self::Failed => "failed",
            Self::NoAnswer => "no_answer",
        }
    }

    /// Of a status; `None`: there is no answer.
    pub(super) fn of(status: Option<u16>) -> Self {
        match status {
            None => Self::NoAnswer,
            Some(200..300) => Self::Ok,
            Some(404) => Self::Missing,
            Some(304 | 409 | 412) => Self::Exists,
            Some(401 | 403) => Self::Denied,
            Some(429 | 503) => Self::Throttled,
            Some(_) => Self::Failed,
        }
    }
}

static TOTALS: [[AtomicU64; Outcome::ALL.len()]; Operation::ALL.len()] =
    [const { [const { AtomicU64::new(0) }; Outcome::ALL.len()] }; Operation::ALL.len()];

pub(super) fn count(operation: Operation, outcome: Outcome) {
    TOTALS[operation as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
}

/// Requests since the process began: how many, by operation and outcome.
pub fn totals() -> impl Iterator<Item = (Operation, Outcome, u64)> {
    let of = |operation: Operation| {
        let count = move |outcome| TOTALS[operation as usize][outcome as usize].load(Ordering::Relaxed);
        Outcome::ALL.into_iter().map(move |outcome| (operation, outcome, count(outcome)))
    };
    Operation::ALL.into_iter().flat_map(of).filter(|(_, _, number)| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_by_its_form_at_each_provider() {
        for (method, host, path, query, operation) in [
            ("GET", "s3.eu-west-1.amazonaws.com", "/b/k", "", Operation::Get),
            ("GET", "s3.eu-west-1.amazonaws.com", "/b", "list-type=2&prefix=t%2F", Operation::List),
            ("PUT", "s3.eu-west-1.amazonaws.com", "/b/k", "", Operation::Put),
            ("PUT", "s3.eu-west-1.amazonaws.com", "/b/k", "partNumber=1&uploadId=u", Operation::Multipart),
            ("POST", "s3.eu-west-1.amazonaws.com", "/b/k", "uploads", Operation::Multipart),
            ("POST", "s3.eu-west-1.amazonaws.com", "/b", "delete", Operation::Delete),
            ("DELETE", "s3.eu-west-1.amazonaws.com", "/b/k", "", Operation::Delete),
            ("HEAD", "s3.eu-west-1.amazonaws.com", "/b/k", "", Operation::Head),
            ("GET", "sts.eu-west-1.amazonaws.com", "/", "Action=AssumeRoleWithWebIdentity", Operation::Credentials),
            ("PUT", "169.254.169.254", "/latest/api/token", "", Operation::Credentials),
            ("POST", "storage.googleapis.com", "/batch/storage/v1", "", Operation::Delete),
            ("POST", "oauth2.googleapis.com", "/token", "", Operation::Credentials),
            ("GET", "a.blob.core.windows.net", "/c", "restype=container&comp=list", Operation::List),
            ("PUT", "a.blob.core.windows.net", "/c/k", "comp=block&blockid=1", Operation::Multipart),
            ("PUT", "a.blob.core.windows.net", "/c/k", "comp=blocklist", Operation::Multipart),
            ("POST", "login.microsoftonline.com", "/t/oauth2/v2.0/token", "", Operation::Credentials),
        ] {
            let of = |is_copy| Operation::of(Request { method, host, path, query, is_copy });
            assert_eq!(of(false), operation, "{method} {host}{path}?{query}");
            if operation == Operation::Put {
                assert_eq!(of(true), Operation::Copy);
            }
        }
        let counted =
            |outcome| totals().find(|(o, is, _)| (*o, *is) == (Operation::Copy, outcome)).map_or(0, |(_, _, n)| n);
        let before = counted(Outcome::Throttled);
        count(Operation::Copy, Outcome::of(Some(503)));
        assert_eq!(counted(Outcome::Throttled), before + 1);
    }
}
