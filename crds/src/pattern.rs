//! The regular expressions that the schema uses, each with the words that explain it to people.
//!
//! They stand here once, so that the offline checker can say what a pattern means instead of showing it. All keep to
//! the common ground of Go's RE2 (API server), Rust's `regex` (offline) and ECMAScript (editors that know the schema).

use std::sync::LazyLock;

use kube::core::cel::cel::{Context, Program, Value};

/// Name of a table in SQL, or of an environment variable.
pub(crate) const IDENTIFIER: &str = "^[a-zA-Z_][a-zA-Z0-9_]*$";
/// Name of a Kubernetes object that names others after it, and of a checkpoint.
pub(crate) const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Name of a Kubernetes object.
pub(crate) const DNS_SUBDOMAIN: &str = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
/// Name of an output.
pub(crate) const OUTPUT_NAME: &str = "^[a-z0-9]([-a-z0-9_]*[a-z0-9])?$";
/// Key inside a Secret or a ConfigMap. It is also the name of a file: neither `.` nor anything that begins with `..`.
pub(crate) const SECRET_KEY: &str = r"^(\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*)$";
/// Folder inside a container, by its plain name: nothing that leads elsewhere.
pub(crate) const MOUNT_PATH: &str = "^(/[a-zA-Z0-9_][-._a-zA-Z0-9]*)+/?$";
/// [`crate::quantity::Period`].
pub(crate) const PERIOD: &str = "^([0-9]{1,9}(ms|s|m|h|d)){1,5}$";
/// [`crate::quantity::ByteSize`].
pub(crate) const BYTE_SIZE: &str = "^[0-9]{1,12}(Ki|Mi|Gi)?$";
/// [`crate::column::ColumnType`]; what stands inside the angle brackets is left to its parser.
pub(crate) const COLUMN_TYPE: &str = concat!(
    "^(string|boolean|int|integer|bigint|long|double|date|timestamp|binary|json",
    r"|decimal *\([^)]+\)|(array|map|struct) *<[\s\S]+>)$"
);
/// A quantity of Kubernetes, such as `500m` or `1Gi`.
pub(crate) const KUBERNETES_QUANTITY: &str = r"^[0-9]{1,12}(\.[0-9]{1,9})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$";
/// Five fields of a cron schedule, or a word for one. What the fields mean is left to their parser.
pub(crate) const CRON: &str =
    r"^(@(hourly|daily|midnight|weekly|monthly|yearly|annually)|[-0-9*,/?]+( [-0-9*,/?]+){2}( [-0-9a-zA-Z*,/?]+){2})$";
/// Name of a time zone. Whether there is such a zone is left to who knows them all.
pub(crate) const TIME_ZONE: &str = "^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$";
/// Region of an object store.
pub(crate) const REGION: &str = "^[a-zA-Z0-9][a-zA-Z0-9-]*$";
/// Address over HTTP, without a login in it.
pub(crate) const HTTP_URL: &str = "^https?://[^/?#@]+[^?#]*$";

/// What a pattern of this crate asks for, and an example. `None` for a pattern that is not ours.
pub(crate) fn in_words(pattern: &str) -> Option<(&'static str, &'static str)> {
    Some(match pattern {
        IDENTIFIER => ("letters, digits and _, not beginning with a digit", "app_events"),
        DNS_LABEL => {
            ("lower-case letters, digits and -, beginning and ending with a letter or digit", "event-aggregation")
        }
        DNS_SUBDOMAIN => {
            ("lower-case letters, digits, - and ., beginning and ending with a letter or digit", "kafka-credentials")
        }
        OUTPUT_NAME => ("lower-case letters, digits, - and _, beginning and ending with a letter or digit", "changes"),
        SECRET_KEY => ("letters, digits, -, _ and ., not beginning with two dots", "user.password"),
        MOUNT_PATH => {
            ("an absolute path whose names have letters, digits, -, _ and . and begin with no dot", "/mnt/reference")
        }
        PERIOD => ("whole numbers with the units ms, s, m, h or d", "90s or 1h30m"),
        BYTE_SIZE => ("a whole number of bytes, alone or with Ki, Mi or Gi", "128Mi"),
        COLUMN_TYPE => (
            "string, boolean, int, bigint, double, decimal(p,s), date, timestamp, binary, json, array<…>, \
             map<string,…> or struct<name:…>, in lower case",
            "array<string>",
        ),
        KUBERNETES_QUANTITY => ("a number, alone or with m, k, M, G, T, Ki, Mi, Gi or Ti", "500m or 1Gi"),
        CRON => ("five fields (minute, hour, day of the month, month, day of the week)", "5 * * * * or @hourly"),
        TIME_ZONE => ("names of the IANA time zone database", "Europe/Berlin or UTC"),
        REGION => ("letters, digits and -", "eu-central-1"),
        HTTP_URL => ("an address that begins with http:// or https://", "https://registry:8081"),
        _ => return None,
    })
}

/// Whether a text matches a regular expression. `None`: it is not a valid one.
///
/// The engine is the one that evaluates the CEL rules: it is there, and a second one would only differ from it.
pub(crate) fn matches(pattern: &str, text: &str) -> Option<bool> {
    static PROGRAM: LazyLock<Program> =
        LazyLock::new(|| Program::compile("text.matches(pattern)").expect("a constant expression"));
    let mut context = Context::default();
    context.add_variable_from_value("text", text.to_owned());
    context.add_variable_from_value("pattern", pattern.to_owned());
    match PROGRAM.execute(&context) {
        Ok(Value::Bool(matches)) => Some(matches),
        _ => None,
    }
}

/// Rule of the name of every kind of jobs: 52 characters leave room for what Kubernetes appends to the names of pods, and
/// the name of a Service begins with a letter.
pub(crate) const JOB_NAME_RULE: &str =
    "self.metadata.name.size() <= 52 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')";
/// What a name that breaks [`JOB_NAME_RULE`] is told.
pub(crate) const JOB_NAME_MESSAGE: &str = "the name of a job also names its pods and files: use at most 52 lower-case letters, \
     digits and -, beginning with a letter and ending with a letter or digit";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_matches_its_own_example() {
        for pattern in [
            IDENTIFIER,
            DNS_LABEL,
            DNS_SUBDOMAIN,
            OUTPUT_NAME,
            SECRET_KEY,
            MOUNT_PATH,
            PERIOD,
            BYTE_SIZE,
            COLUMN_TYPE,
            KUBERNETES_QUANTITY,
            CRON,
            TIME_ZONE,
            REGION,
            HTTP_URL,
        ] {
            let (_, examples) = in_words(pattern).unwrap();
            for example in examples.split(" or ") {
                assert_eq!(matches(pattern, example), Some(true), "{example} {pattern}");
            }
            assert_eq!(matches(pattern, "\n?"), Some(false), "{pattern}");
        }
        assert_eq!(matches("(", "x"), None);
    }
}
