//! Which topics a job reads, and whose they are: a record is decoded by the source that reads its topic.
//!
//! Pure.

use data_platform_crds::source::SourceSpec;
use regex::Regex;

use crate::source::SourceError;

/// The topics of all sources of a job.
#[derive(Clone, Debug, Default)]
pub struct TopicRoutes(Vec<Route>);

#[derive(Clone, Debug)]
enum Route {
    Topics(Vec<String>),
    Pattern(Regex),
}

impl TopicRoutes {
    /// The topics of these sources.
    ///
    /// # Errors
    /// When a topic pattern is not a regular expression.
    pub fn new(sources: &[SourceSpec]) -> Result<Self, SourceError> {
        let route = |source: &SourceSpec| match &source.topic_pattern {
            None => Ok(Route::Topics(source.topics.clone())),
            Some(pattern) => Regex::new(&format!("^(?:{pattern})$"))
                .map(Route::Pattern)
                .map_err(|error| SourceError::Settings(format!("topicPattern: {error}"))),
        };
        sources.iter().map(route).collect::<Result<_, _>>().map(Self)
    }

    /// One source that reads these topics.
    pub fn of_topics(topics: impl IntoIterator<Item = String>) -> Self {
        Self(vec![Route::Topics(topics.into_iter().collect())])
    }

    /// Index of the source that reads a topic: one that names it, else the first whose pattern matches.
    pub fn source_of(&self, topic: &str) -> Option<usize> {
        let names = |route: &Route| matches!(route, Route::Topics(topics) if topics.iter().any(|name| name == topic));
        let matches = |route: &Route| matches!(route, Route::Pattern(pattern) if pattern.is_match(topic));
        self.0.iter().position(names).or_else(|| self.0.iter().position(matches))
    }

    /// Topics that are named.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .flat_map(|route| match route {
                Route::Topics(topics) => topics.as_slice(),
                Route::Pattern(_) => &[],
            })
            .map(String::as_str)
    }

    /// Patterns of topics.
    pub fn patterns(&self) -> impl Iterator<Item = &Regex> {
        self.0.iter().filter_map(|route| match route {
            Route::Topics(_) => None,
            Route::Pattern(pattern) => Some(pattern),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(sources: serde_json::Value) -> TopicRoutes {
        let sources: Vec<SourceSpec> = serde_json::from_value(sources).unwrap();
        TopicRoutes::new(&sources).unwrap()
    }

    #[test]
    fn a_topic_is_of_the_source_that_names_it_before_one_whose_pattern_matches() {
        let columns = serde_json::json!([{"name": "a", "type": "int"}]);
        let routes = routes(serde_json::json!([
            {"name": "all", "topicPattern": "t.*", "columns": columns},
            {"name": "one", "topics": ["t1", "u"], "columns": columns},
            {"name": "more", "topicPattern": "t2|v", "columns": columns},
        ]));
        let of = |topic| routes.source_of(topic);
        assert_eq!((of("t1"), of("t2"), of("u"), of("v")), (Some(1), Some(0), Some(1), Some(2)));
        assert_eq!(of("at2"), None, "a pattern is of the whole name");
        assert_eq!(routes.named().collect::<Vec<_>>(), ["t1", "u"]);
        assert_eq!(routes.patterns().count(), 2);
    }
}
