//! What an answer of an object store means for people: what is wrong, and what to do about it. Pure.

use object_store::Error;

use crate::storage::{Refusal, StoreError};

/// How an answer is known, what is wrong then, and what to do.
struct Known {
    /// Codes in answers, and pieces of messages.
    signs: &'static [&'static str],
    problem: &'static str,
    cure: &'static str,
    refusal: Refusal,
}

/// In this order: a more exact sign comes before a vaguer one.
const KNOWN: [Known; 10] = [
    Known {
        signs: &["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"],
        problem: "the bucket does not exist",
        cure: "create the bucket, or correct its name in the URL and the endpoint (AWS_ENDPOINT_URL)",
        refusal: Refusal::Denied,
    },
    Known {
        signs: &[
            "AuthorizationHeaderMalformed",
            "PermanentRedirect",
            "TemporaryRedirect",
            "IllegalLocationConstraintException",
            "incorrectly configured region",
            "301 Moved Permanently",
        ],
        problem: "the bucket is in another region",
        cure: "set AWS_REGION, or spec.storage.region, to the region of the bucket",
        refusal: Refusal::Denied,
    },
    Known {
        signs: &[
            "ExpiredToken",
            "RequestExpired",
            "TokenRefreshRequired",
            "Signature not valid in the specified time frame",
        ],
        problem: "the credentials have expired",
        cure: "renew the credentials: a Secret or file that changes is read again, and the job goes on by itself",
        refusal: Refusal::Expired,
    },
    Known {
        signs: &["RequestTimeTooSkewed"],
        problem: "the clock of this machine and that of the store are too far apart",
        cure: "set the clock of the machine right (NTP); the job goes on by itself",
        refusal: Refusal::Expired,
    },
    Known {
        signs: &[
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "InvalidToken",
            "AuthenticationFailed",
            "InvalidAuthenticationInfo",
            "invalid_grant",
            "invalid_client",
        ],
        problem: "the store does not know these credentials",
        cure: "correct the credentials: key, secret and token belong together; a Secret or file that changes is read again",
        refusal: Refusal::Denied,
    },
    Known {
        signs: &[
            "169.254.169.254",
            "169.254.170.2",
            "metadata.google.internal",
            "AssumeRoleWithWebIdentity",
            "InvalidIdentityToken",
            "IDPRejectedClaim",
            "Failed to read token file",
            "Error performing token request",
            "Error reading pod token file",
        ],
        problem: "no credentials could be had",
        cure: "give credentials: spec.storage.credentialsSecret, the provider's variables, or a service account with an identity",
        refusal: Refusal::Expired,
    },
    Known {
        signs: &[
            "AccessDenied",
            "AllAccessDisabled",
            "AuthorizationPermissionMismatch",
            "AuthorizationFailure",
            "forbidden",
        ],
        problem: "the credentials do not give this right",
        cure: "give the identity of the job the right to read, write, list and remove objects there; docs/guides/object-stores.md \
               has the policy",
        refusal: Refusal::Denied,
    },
    Known {
        signs: &["URL scheme is not allowed"],
        problem: "the endpoint is not encrypted",
        cure: "write https://, or allow it with AWS_ALLOW_HTTP=true",
        refusal: Refusal::Unsuitable,
    },
    Known {
        signs: &["invalid peer certificate", "UnknownIssuer", "certificate verify failed"],
        problem: "the certificate of the store is not trusted",
        cure: "put the certificate of its issuer into the key ca.crt of the Secret with the credentials, or name a file in \
               AWS_CA_BUNDLE",
        refusal: Refusal::Denied,
    },
    Known {
        signs: &["EntityTooLarge", "InvalidRequest: The specified copy source is larger", "InvalidBlobSizeForCopy"],
        problem: "the object is too large for one request",
        cure: "write smaller files: lower sink.targetFileSize",
        refusal: Refusal::Unsuitable,
    },
];

/// An error of a store, with the cure if it is known.
pub(crate) fn explain(operation: &'static str, path: String, error: Error) -> StoreError {
    let text = in_full(&error);
    if let Some(known) = KNOWN.iter().find(|known| known.signs.iter().any(|sign| text.contains(sign))) {
        let said = code(&text).map(|code| format!(" ({code})")).unwrap_or_default();
        return StoreError::Refused {
            operation,
            path,
            problem: format!("{}{said}", known.problem),
            cure: known.cure.to_owned(),
            refusal: known.refusal,
        };
    }
    match error {
        // An answer to HEAD has no body, so no reason either.
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreError::Refused {
            operation,
            path,
            problem: "not allowed".to_owned(),
            cure: "look at the credentials and at the rights of their identity; docs/guides/object-stores.md has the policy"
                .to_owned(),
            refusal: Refusal::Denied,
        },
        Error::NotImplemented { .. } | Error::NotSupported { .. } => {
            StoreError::Unsuitable(format!("{operation} {path}: this store cannot do that ({error})"))
        }
        other => StoreError::Failed { operation, path, source: text_of(&other).into() },
    }
}

/// Whether the answer says that the bucket itself is missing, not an object of it.
pub(crate) fn is_missing_bucket(error: &Error) -> bool {
    let text = in_full(error);
    KNOWN[0].signs.iter().any(|sign| text.contains(sign))
}

/// Whether nobody can know if a request was carried out.
pub(crate) fn is_unclear(error: &Error) -> bool {
    match error {
        Error::Generic { .. } | Error::JoinError { .. } => {
            let text = in_full(error);
            // Without a connection nothing was asked; the client's tries before may have been carried out, and whoever cares reads.
            !text.contains("(Connect)") && !KNOWN.iter().any(|known| known.signs.iter().any(|sign| text.contains(sign)))
        }
        _ => false,
    }
}

/// An error with all its causes, each once.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// The message without the markup of answers.
fn text_of(error: &Error) -> String {
    let text = in_full(error);
    match (code(&text), text.find('<')) {
        (Some(code), Some(markup)) => format!("{}{code}", &text[..markup]),
        _ => text,
    }
}

/// The code of an answer in XML.
fn code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    Some(rest.split_once("</Code>")?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> Error {
        Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn an_answer_is_told_with_its_cure() {
        for (text, problem, cure) in [
            ("404 <Error><Code>NoSuchBucket</Code></Error>", "does not exist (NoSuchBucket)", "create the bucket"),
            ("400 <Error><Code>AuthorizationHeaderMalformed</Code></Error>", "another region", "AWS_REGION"),
            (
                "Received redirect without LOCATION, this normally indicates an incorrectly configured region",
                "region",
                "AWS_",
            ),
            ("400 <Error><Code>ExpiredToken</Code></Error>", "expired", "renew"),
            ("403 <Error><Code>RequestTimeTooSkewed</Code></Error>", "clock", "NTP"),
            ("403 <Error><Code>AccessDenied</Code></Error>", "do not give this right", "policy"),
            ("403 <Error><Code>InvalidAccessKeyId</Code></Error>", "does not know", "correct the credentials"),
            ("PUT http://169.254.169.254/latest/api/token: timed out", "no credentials", "credentialsSecret"),
        ] {
            let StoreError::Refused { problem: said, cure: do_this, .. } =
                explain("create", "s3://b/x".into(), generic(text))
            else {
                panic!("{text} is known")
            };
            assert!(said.contains(problem) && do_this.contains(cure), "{text}: {said}: {do_this}");
        }
        let other = explain("read", "s3://b/x".into(), generic("500 <Error><Code>InternalError</Code></Error>"));
        assert_eq!(other.to_string(), "read s3://b/x: Generic S3 error: 500 InternalError");
        assert!(is_unclear(&generic("500 <Error><Code>InternalError</Code></Error>")));
        assert!(!is_unclear(&generic("400 <Error><Code>ExpiredToken</Code></Error>")));
    }
}
