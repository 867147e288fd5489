//! Where tables may lie: a folder below the outputs folder, or a URL.

/// What is wrong with a text, and what to do about it.
type Refusal = (String, String);

/// Stores that a URL may name.
const SCHEMES: [&str; 4] = ["file", "s3", "gs", "abfss"];

/// Longest name of a folder, in bytes. File systems take 255; `_dead_letters` and the like come behind.
const NAME_BYTES_MAX: usize = 200;

/// Checks the folder of a table: relative to the outputs folder, or a URL. A text that still holds `${` passes.
pub(super) fn table(text: &str) -> Result<(), Refusal> {
    if text.contains("${") {
        return Ok(());
    }
    if text.contains("://") {
        return url(text);
    }
    if text.starts_with('/') {
        return Err((
            format!("{text:?} is absolute"),
            format!("write file://{text}, or a path below the outputs folder"),
        ));
    }
    if text.starts_with('~') {
        return Err((format!("{text:?} names a home folder"), "write file:// and the whole path".to_owned()));
    }
    names(text, text)
}

/// Checks a URL below which files may lie.
pub(super) fn url(text: &str) -> Result<(), Refusal> {
    if text.contains("${") {
        return Ok(());
    }
    let example =
        "write file:///data/t, s3://bucket/t, gs://bucket/t or abfss://container@account.dfs.core.windows.net/t";
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err((format!("{text:?} is not a URL"), example.to_owned()));
    };
    if !SCHEMES.contains(&scheme) {
        let cure = match scheme {
            "s3a" | "s3n" => format!("write s3://{rest}"),
            "gcs" => format!("write gs://{rest}"),
            "abfs" | "wasbs" | "wasb" | "az" | "azure" => format!("write abfss://{rest}"),
            _ => example.to_owned(),
        };
        return Err((format!("{scheme}:// is not a store of this version"), cure));
    }
    if text.contains(['?', '#']) {
        return Err((format!("{text:?} has a query or a fragment"), "write scheme, place and path only".to_owned()));
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if scheme == "file" {
        let is_local = host.is_empty() && !path.is_empty();
        let cure = format!("write three slashes: file:///{}", rest.trim_start_matches('/'));
        return if is_local { names(text, path) } else { Err((format!("{text:?} names a host or no folder"), cure)) };
    }
    if host.is_empty() {
        return Err((format!("{text:?} names no bucket"), example.to_owned()));
    }
    let has_secret = if scheme == "abfss" { host.contains(':') } else { host.contains(['@', ':']) };
    if has_secret {
        return Err((
            "a URL with a user or a password would show it to everybody".to_owned(),
            "give credentials in storage.credentialsSecret or pod.env".to_owned(),
        ));
    }
    if path.is_empty() { Ok(()) } else { names(text, path) }
}

/// Checks the names between the slashes. One slash at the end is fine.
fn names(text: &str, path: &str) -> Result<(), Refusal> {
    let path = path.strip_suffix('/').unwrap_or(path);
    for name in path.split('/') {
        let (what, cure) = match name {
            "" => ("an empty name between two slashes", "write single slashes"),
            "." => (". as a name", "leave it out"),
            ".." => (".. in it", "write the folder itself: a table lies below the outputs folder, or at a URL"),
            _ if name.starts_with(['_', '.']) => ("a name that readers skip", "begin names with neither _ nor ."),
            _ if name.contains('\\') => ("a backslash", "write slashes"),
            _ if name.chars().any(char::is_control) => ("a control character", "leave it out"),
            _ if name.len() > NAME_BYTES_MAX => (
                "a name of more than 200 bytes",
                "shorten it: file systems take 255, and \
                 the tables beside it have longer names",
            ),
            _ if name.trim() != name => ("a blank at the end of a name", "leave it out"),
            _ => continue,
        };
        return Err((format!("{text:?} has {what}"), cure.to_owned()));
    }
    Ok(())
}

/// Whether two tables are at one place, or one inside the other.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    let folder = |text: &str| format!("{}/", text.trim_end_matches('/'));
    let (one, other) = (folder(one), folder(other));
    one.starts_with(&other) || other.starts_with(&one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_urls_pass() {
        for text in [
            "events",
            "a/b",
            "a/b/",
            "date=2026/x",
            "a.b-c_d",
            "file:///data/t",
            "s3://bucket/t/u",
            "s3://bucket",
            "gs://b/t",
            "abfss://c@account.dfs.core.windows.net/t",
            "${root}/../x",
        ] {
            assert_eq!(table(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn other_places_are_refused_with_a_cure() {
        for (text, message, cure) in [
            ("/data/t", "is absolute", "write file:///data/t"),
            ("~/t", "home folder", "write file://"),
            ("../t", "has ..", "below the outputs folder"),
            ("a/../../t", "has ..", "below the outputs folder"),
            ("a//b", "an empty name", "single slashes"),
            ("./a", ". as a name", "leave it out"),
            ("_a", "readers skip", "neither _ nor ."),
            ("a/.b", "readers skip", "neither _ nor ."),
            ("a\\b", "a backslash", "write slashes"),
            ("a\nb", "a control character", "leave it out"),
            ("s3a://bucket/t", "not a store", "write s3://bucket/t"),
            ("http://host/t", "not a store", "file:///data/t"),
            ("s3:///t", "names no bucket", "s3://bucket/t"),
            ("s3://key:secret@bucket/t", "would show it", "pod.env"),
            ("s3://bucket/../t", "has ..", "write the folder itself"),
            ("s3://bucket/t?x=1", "a query", "only"),
            ("file://data/t", "names a host", "file:///data/t"),
            ("file:///", "no folder", "three slashes"),
        ] {
            let (found, instead) = table(text).expect_err(text);
            assert!(found.contains(message), "{text}: {found}");
            assert!(instead.contains(cure), "{text}: {instead}");
        }
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        assert!(table(&long).unwrap_err().0.contains("more than 200 bytes"));
        for literal in ["t#1", "u%41", "v?x"] {
            assert_eq!(table(literal), Ok(()), "{literal}");
        }
        assert!(url("events").unwrap_err().0.contains("not a URL"));
    }

    #[test]
    fn tables_inside_each_other_overlap() {
        for (one, other, expected) in
            [("a", "a", true), ("a", "a/", true), ("a", "a/b", true), ("a", "ab", false), ("a/b", "a/c", false)]
        {
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }
}
