//! [`Problem`]: one thing that is wrong with a manifest: where, what, and how to cure it.

use std::fmt;

use crate::field_path::FieldPath;

/// Whether a job can run in spite of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The job does not run.
    Error,
    /// The job runs, but probably not as meant.
    Warning,
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

/// One thing that is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether the job can run in spite of it.
    pub severity: Severity,
    /// The field that is wrong. The whole document for what has no field, such as a syntax error.
    pub path: FieldPath,
    /// Where it stands in the file. `None` where nothing stands there, as for a value from the command line.
    pub location: Option<Location>,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub cure: String,
}

impl Problem {
    /// A problem that keeps the job from running.
    pub fn error(path: FieldPath, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { severity: Severity::Error, path, location: None, message: message.into(), cure: cure.into() }
    }

    /// A problem that the job runs in spite of.
    pub fn warning(path: FieldPath, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(path, message, cure) }
    }

    /// Whether it keeps the job from running.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The problem as one line for people: `job.yaml:12:7: spec.sink.format: …`, a form that editors can jump to.
    pub fn in_file(&self, file: &str) -> String {
        let place = self.location.map(|at| format!(":{}:{}", at.line, at.column)).unwrap_or_default();
        let path = self.path.to_string();
        let separator = if path.is_empty() { "" } else { ": " };
        let warning = if self.is_error() { "" } else { "warning: " };
        format!("{file}{place}: {warning}{path}{separator}{}: {}", self.message, self.cure)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_error() {
            f.write_str("warning: ")?;
        }
        let path = self.path.to_string();
        match (path.is_empty(), self.location) {
            (true, None) => {}
            (true, Some(at)) => write!(f, "line {}, column {}: ", at.line, at.column)?,
            (false, None) => write!(f, "{path}: ")?,
            (false, Some(at)) => write!(f, "{path} (line {}, column {}): ", at.line, at.column)?,
        }
        write!(f, "{}: {}", self.message, self.cure)
    }
}

/// The candidate that was probably meant: the nearest one by edits, when it is near enough. Case, dots, dashes and
/// underscores count for nothing, so that `bootstrap.servers` finds `bootstrapServers`.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = plain_letters(word);
    // A third of the letters may differ: `parqet` and `fromat` are found, `path` is not taken for `topic`.
    let edits_max = (plain.chars().count() / 3).max(1);
    // Insertions, deletions, replacements and swaps of neighbours.
    let edits = |candidate: &str| strsim::osa_distance(&plain, &plain_letters(candidate));
    let nearest = candidates.into_iter().map(|candidate| (edits(candidate), candidate));
    let (distance, candidate) = nearest.min_by_key(|(distance, _)| *distance)?;
    (distance <= edits_max && candidate != word).then_some(candidate)
}

fn plain_letters(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '.' | '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
}

/// The words of a list as a sentence has them: `a`, `a or b`, `a, b or c`.
pub(crate) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_was_meant_is_found() {
        let fields = ["bootstrapServers", "groupId", "startingOffsets", "path", "topic", "format"];
        for (word, meant) in [
            ("bootstrap.servers", Some("bootstrapServers")),
            ("bootstrapServer", Some("bootstrapServers")),
            ("startingOffset", Some("startingOffsets")),
            ("group-id", Some("groupId")),
            ("fromat", Some("format")),
            ("pth", Some("path")),
            ("window", None),
            ("x", None),
            ("topic", None),
        ] {
            assert_eq!(did_you_mean(word, fields), meant, "{word}");
        }
    }

    #[test]
    fn a_problem_names_place_field_and_cure() {
        let path: FieldPath = "spec.sink.format".parse().unwrap();
        let mut problem = Problem::error(path, "parqet is not a format", "did you mean parquet?");
        assert_eq!(problem.to_string(), "spec.sink.format: parqet is not a format: did you mean parquet?");
        problem.location = Some(Location { line: 12, column: 7 });
        assert_eq!(
            problem.to_string(),
            "spec.sink.format (line 12, column 7): parqet is not a format: did you mean parquet?"
        );
        assert_eq!(
            problem.in_file("a.yaml"),
            "a.yaml:12:7: spec.sink.format: parqet is not a format: did you mean parquet?"
        );
    }
}
