//! [`FieldPath`]: where in a manifest something stands, such as `spec.sources[0].columns[2].type`.

use std::fmt;
use std::str::FromStr;

/// One step of a [`FieldPath`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// A field of an object, or a key of a map.
    Field(String),
    /// An item of a list, from 0.
    Index(usize),
}

/// The way from the top of a manifest to a field: names joined by dots, list items as `[0]`. A key that is not a plain
/// name is quoted: `spec.kafka.config["client.id"]`. The empty path is the whole document.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(Vec<Segment>);

/// A text that is not a [`FieldPath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a field: {problem} at character {position}")]
pub struct FieldPathError {
    /// The whole text.
    pub text: String,
    /// What is wrong.
    pub problem: &'static str,
    /// Where, from 1.
    pub position: usize,
}

impl FieldPath {
    /// The whole document.
    pub fn root() -> Self {
        Self::default()
    }

    /// A field of what stands here.
    pub fn field(&self, name: impl Into<String>) -> Self {
        self.with(Segment::Field(name.into()))
    }

    /// An item of the list that stands here, from 0.
    pub fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    fn with(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }

    /// The steps from the top.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The path without its last step. `None` for the whole document.
    pub fn parent(&self) -> Option<Self> {
        let (_, parent) = self.0.split_last()?;
        Some(Self(parent.to_vec()))
    }

    /// Whether `other` is this field or lies below it.
    pub fn contains(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Field(name) if is_plain(name) => {
                    let dot = if i == 0 { "" } else { "." };
                    write!(f, "{dot}{name}")?;
                }
                Segment::Field(name) => write!(f, "[{name:?}]")?,
            }
        }
        Ok(())
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

impl FromStr for FieldPath {
    type Err = FieldPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |rest: &str, problem| {
            let position = text[..text.len() - rest.len()].chars().count() + 1;
            FieldPathError { text: text.to_owned(), problem, position }
        };
        let mut segments = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(bracketed) = rest.strip_prefix('[') {
                let (segment, after) = bracket(bracketed).map_err(|problem| error(bracketed, problem))?;
                segments.push(segment);
                rest = after;
                continue;
            }
            if !segments.is_empty() {
                rest = rest.strip_prefix('.').ok_or_else(|| error(rest, "expected . or ["))?;
            }
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if end == 0 {
                return Err(error(rest, "expected a name"));
            }
            segments.push(Segment::Field(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        Ok(Self(segments))
    }
}

/// What stands between brackets, after the opening one: a number, or a name in double quotes. Also what follows.
fn bracket(text: &str) -> Result<(Segment, &str), &'static str> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (name, after) = quoted.split_once("\"]").ok_or("expected a name in quotes and ]")?;
        return Ok((Segment::Field(name.to_owned()), after));
    }
    let (index, after) = text.split_once(']').ok_or("expected a number and ]")?;
    let index = index.parse().map_err(|_| "expected a number, or a name in double quotes")?;
    Ok((Segment::Index(index), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_prints_as_it_is_read() {
        for text in ["", "spec", "spec.sources[0].columns[2].type", "spec.kafka.config[\"client.id\"]", "items[0][1]"] {
            assert_eq!(text.parse::<FieldPath>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_wrong_path_says_what_and_where() {
        for (text, problem, position) in [
            (".spec", "expected a name", 1),
            ("spec..query", "expected a name", 6),
            ("spec.", "expected a name", 6),
            ("spec.sources[x]", "expected a number, or", 14),
            ("spec.sources[0", "expected a number and ]", 14),
            ("spec.sources[0]x", "expected . or [", 16),
        ] {
            let error = text.parse::<FieldPath>().unwrap_err();
            assert!(error.problem.starts_with(problem), "{text}: {error}");
            assert_eq!(error.position, position, "{text}: {error}");
        }
    }

    #[test]
    fn a_path_contains_itself_and_what_lies_below() {
        let path = |text: &str| text.parse::<FieldPath>().unwrap();
        assert!(path("spec.sink").contains(&path("spec.sink")));
        assert!(path("spec.sink").contains(&path("spec.sink.path")));
        assert!(!path("spec.sink").contains(&path("spec.sinks")));
        assert!(!path("spec.sink.path").contains(&path("spec.sink")));
    }
}
