//! YAML to JSON values with the place of every field, as kubectl reads it.
//!
//! kubectl keeps to YAML 1.1 for plain words: `yes`, `on` and `n` are booleans there. The API server never sees the
//! text, so a manifest means what kubectl makes of it, and the same is done here. A name of a field that is sent as another
//! one than stands there is a problem: nobody means that.

mod plain;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{DuplicateKeyPolicy, NonFiniteFloatPolicy, Spanned};

use crate::field_path::FieldPath;
use crate::problem::{Location, Problem};

use self::plain::Plain;

/// One document of a file.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) value: Value,
    pub(crate) places: Places,
    /// Keys that stand twice, that are no text, or that kubectl makes others of; numbers that cannot be sent.
    pub(crate) problems: Vec<Problem>,
}

/// Where each field of a document stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(BTreeMap<FieldPath, Place>);

#[derive(Clone, Debug)]
struct Place {
    /// The name of a field, or the item of a list itself.
    key: Location,
    value: Location,
    /// The text of a plain word that YAML makes a number, a boolean or null of.
    word: Option<String>,
}

impl Places {
    /// Where the value of a field stands, or of the nearest object around it.
    pub(crate) fn value(&self, path: &FieldPath) -> Option<Location> {
        self.nearest(path, |place| place.value)
    }

    /// Where the name of a field stands, or of the nearest object around it.
    pub(crate) fn key(&self, path: &FieldPath) -> Option<Location> {
        self.nearest(path, |place| place.key)
    }

    /// What is written where YAML sees a number, a boolean or null.
    pub(crate) fn word(&self, path: &FieldPath) -> Option<&str> {
        self.0.get(path)?.word.as_deref()
    }

    /// Forgets a field and all below it, since its value no longer comes from the file.
    pub(crate) fn forget(&mut self, path: &FieldPath) {
        self.0.retain(|other, _| !path.contains(other));
    }

    fn nearest(&self, path: &FieldPath, location: impl Fn(&Place) -> Location) -> Option<Location> {
        let mut path = path.clone();
        loop {
            if let Some(place) = self.0.get(&path) {
                return Some(location(place));
            }
            path = path.parent()?;
        }
    }
}

/// Lists and objects within each other. Placement, the deepest part of a job, has ten; 64 overflow the 2 MiB stack of a
/// thread where nothing is inlined.
const DEPTH_MAX: usize = 32;

/// Reads every document of a file; empty ones are left out.
///
/// # Errors
///
/// Text that is not YAML, with its place.
pub(crate) fn read(text: &str) -> Result<Vec<Document>, Problem> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    };
    let nodes: Vec<Node> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| syntax_error(&error))?;
    let documents = nodes.into_iter().filter(|node| !matches!(node.value, Content::Null)).map(|node| {
        let mut reader = Reader { text, places: Places::default(), problems: Vec::new() };
        let at = location(&node);
        let value = reader.value(&FieldPath::root(), at, node);
        Document { value, places: reader.places, problems: reader.problems }
    });
    Ok(documents.collect())
}

fn syntax_error(error: &serde_saphyr::Error) -> Problem {
    let error = error.without_snippet();
    let message = error.to_string();
    // The parser's text carries its place in many forms; ours stands beside the message.
    let message = message.split(" at line ").next().unwrap_or(&message).trim_end_matches(['.', ',', ':', ' ']);
    let cure = "check indentation, quotes and brackets of this line and the one before it";
    let mut problem = Problem::error(FieldPath::root(), format!("this is not YAML ({message})"), cure);
    problem.location = error.location().map(|at| place_of(&at));
    problem
}

fn place_of(at: &serde_saphyr::Location) -> Location {
    Location { line: usize::try_from(at.line()).unwrap_or(0), column: usize::try_from(at.column()).unwrap_or(0) }
}

fn location(node: &Node) -> Location {
    place_of(&node.referenced)
}

type Node = Spanned<Content>;

enum Content {
    Null,
    Bool(bool),
    Number(Number),
    /// Infinite, or not a number.
    Unsaid,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(number(value).map_or(Content::Unsaid, Content::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Content, E> {
        Ok(Content::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = items.next_element()? {
            nodes.push(node);
        }
        Ok(Content::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Content, A::Error> {
        let mut nodes = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            nodes.push(entry);
        }
        Ok(Content::Map(nodes))
    }
}

/// A number without a fraction is an integer, however it is written. `None`: infinite, or not a number.
fn number(value: f64) -> Option<Number> {
    let number = Number::from_f64(value)?;
    Some(integer(&number).map_or(number, Number::from))
}

/// The integer that a number is. `None`: it has a fraction, or is out of range.
pub(crate) fn integer(number: &Number) -> Option<i64> {
    // Up to 2^53 every integer is exact in a double.
    let is_exact = |value: &f64| value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0;
    number.as_i64().or_else(|| number.as_f64().filter(is_exact).map(|value| value as i64))
}

struct Reader<'a> {
    text: &'a str,
    places: Places,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn value(&mut self, path: &FieldPath, key: Location, node: Node) -> Value {
        let at = location(&node);
        let plain = self.plain_word(&node).map(str::to_owned);
        let read = plain.as_deref().map(plain::read);
        let (value, word) = match (node.value, read) {
            (Content::List(nodes), _) => {
                let items = nodes.into_iter().enumerate();
                let items = items.map(|(i, node)| self.value(&path.index(i), location(&node), node));
                (Value::Array(items.collect()), None)
            }
            (Content::Map(entries), _) => (Value::Object(self.object(path, entries)), None),
            (_, Some(Plain::Null)) => (Value::Null, plain),
            (_, Some(Plain::Bool(value))) => (Value::Bool(value), plain),
            (_, Some(Plain::Number(number))) => (Value::Number(number), plain),
            (_, Some(Plain::Unsaid)) | (Content::Unsaid, None) => {
                let word = plain.unwrap_or_else(|| "an infinite number".to_owned());
                let message = format!("{word} cannot be sent to the API server, which knows no such number");
                self.problem(path.clone(), at, message, "write a number, or the word in quotes");
                (Value::String(word), None)
            }
            (Content::Text(text), _) => (Value::String(text), None),
            // The parser sees a number where kubectl sees none.
            (_, Some(Plain::Text)) => (Value::String(plain.unwrap_or_default()), None),
            (Content::Null, None) => (Value::Null, plain),
            (Content::Bool(value), None) => (Value::Bool(value), plain),
            (Content::Number(number), None) => (Value::Number(number), plain),
        };
        self.places.0.insert(path.clone(), Place { key, value: at, word });
        value
    }

    fn object(&mut self, path: &FieldPath, entries: Vec<(Node, Node)>) -> Map<String, Value> {
        let mut object = Map::new();
        for (key, node) in entries {
            let at = location(&key);
            let name = match (&key.value, self.plain_word(&key).map(str::to_owned)) {
                (Content::List(_) | Content::Map(_), _)
                | (Content::Null | Content::Bool(_) | Content::Number(_) | Content::Unsaid, None) => {
                    self.problem(path.clone(), at, "a name is not a text", "write names as plain words or in quotes");
                    continue;
                }
                (Content::Text(text), None) => text.clone(),
                (_, Some(word)) => {
                    let sent = plain::as_name(&word);
                    if sent.as_ref() != Some(&word) {
                        let meant = sent.map_or("not a text".to_owned(), |sent| sent);
                        let message = format!("the name {word} is {meant} for kubectl, which reads it as YAML 1.1");
                        self.problem(path.field(&word), at, message, "write it in quotes");
                    }
                    word
                }
            };
            let path = path.field(&name);
            if object.contains_key(&name) {
                self.problem(path, at, format!("{name} stands twice"), "keep one of the two");
                continue;
            }
            let value = self.value(&path, at, node);
            object.insert(name, value);
        }
        object
    }

    fn problem(&mut self, path: FieldPath, at: Location, message: impl Into<String>, cure: &str) {
        let mut problem = Problem::error(path, message, cure);
        problem.location = Some(at);
        self.problems.push(problem);
    }

    /// The text of a scalar that stands there as a plain word: not in quotes, not in a block, not with a tag.
    fn plain_word(&self, node: &Node) -> Option<&str> {
        let span = node.defined.span();
        let start = usize::try_from(span.byte_offset()?).ok()?;
        let length = usize::try_from(span.byte_len()?).ok()?;
        let word = self.text.get(start..start.checked_add(length)?)?.trim();
        let is_quoted = word.starts_with(['"', '\'']);
        let before = self.text[..start].lines().rev().map(without_comment).find(|line| !line.trim().is_empty());
        // A block begins below its `|` or `>`; a tag stands before its scalar.
        let token_before = before.and_then(|line| line.split_whitespace().rfind(|token| !token.starts_with('&')));
        let is_marked = token_before.is_some_and(|token| token.starts_with(['|', '>', '!']));
        (!is_quoted && !is_marked && !word.contains('\n')).then_some(word)
    }
}

fn without_comment(line: &str) -> &str {
    let end = if line.starts_with('#') { 0 } else { line.find(" #").unwrap_or(line.len()) };
    &line[..end]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(text: &str) -> FieldPath {
        text.parse().unwrap()
    }

    #[test]
    fn every_field_knows_its_place() {
        let text = "# a comment\na:\n  - {b: 1}\n  - c: text\n    'd e': |\n      block\n---\n---\nx: [1, 2]\n";
        let documents = read(text).unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0].value, json!({"a": [{"b": 1}, {"c": "text", "d e": "block\n"}]}));
        let places = &documents[0].places;
        for (field, line, column) in
            [("a", 3, 3), ("a[0].b", 3, 9), ("a[1].c", 4, 8), ("a[1].missing", 4, 5), ("a[1][\"d e\"]", 6, 7)]
        {
            assert_eq!(places.value(&path(field)), Some(Location { line, column }), "{field}");
        }
        assert_eq!(places.key(&path("a[1].c")), Some(Location { line: 4, column: 5 }));
        assert_eq!(documents[1].places.value(&path("x[1]")), Some(Location { line: 9, column: 8 }));
    }

    #[test]
    fn plain_words_mean_what_kubectl_makes_of_them() {
        let text = "a: yes\nb: 'yes'\nc: n\nd: 5.0\ne: 1.5\nf: ~\ng:\nh: 2026-01-01\ni: on\nj: true\nk: \"5\"\nl: y1\n";
        let text = format!("{text}m: |\n  yes\nn1: >-\n  no\no: |-\n  5\np: !!str yes\nq: | # why\n  on\nr: &x no\n");
        let text = &format!("{text}s: &z !!str no\nt:\n  off\nu: True\nv: [yes, 'no', \"on\", off]\n");
        let documents = read(text).unwrap();
        let expected = json!({"a": true, "b": "yes", "c": false, "d": 5, "e": 1.5, "f": null, "g": null,
            "h": "2026-01-01",
            "i": true, "j": true, "k": "5", "l": "y1", "m": "yes\n", "n1": "no", "o": "5", "p": "yes", "q": "on\n",
            "r": false, "s": "no", "t": false, "u": true, "v": [true, "no", "on", false]});
        assert_eq!(documents[0].value, expected);
        assert_eq!(documents[0].places.word(&path("a")), Some("yes"));
        assert_eq!(documents[0].places.word(&path("d")), Some("5.0"));
        assert_eq!(documents[0].places.word(&path("b")), None);
    }

    #[test]
    fn words_are_what_kubectls_own_library_makes_of_them() {
        fn is_same(found: &Value, expected: &Value) -> bool {
            let numbers = (found.as_f64(), expected.as_f64());
            found == expected || matches!(numbers, (Some(found), Some(expected)) if found == expected)
        }
        let table = include_str!("../../tests/yaml_words.tsv");
        let mut wrong = Vec::new();
        for line in table.lines() {
            let [word, value, name] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let as_value = read(&format!("a: {word}\n"));
            match (as_value, serde_json::from_str::<Value>(value)) {
                (Ok(documents), Ok(expected)) if documents.iter().all(|document| document.problems.is_empty()) => {
                    if !is_same(&documents[0].value["a"], &expected) {
                        wrong.push(format!("{word} is {value}, not {}", documents[0].value["a"]));
                    }
                }
                (Ok(documents), Err(_)) if documents.iter().all(|document| !document.problems.is_empty()) => {}
                (Err(_), Err(_)) => {}
                (found, _) => wrong.push(format!("{word} is {value}: {found:?}")),
            }
            let Ok(documents) = read(&format!("{word}: x\n")) else {
                if name != "-" {
                    wrong.push(format!("{word} is a name"));
                }
                continue;
            };
            let Some(document) = documents.first() else { continue };
            let stays = serde_json::from_str::<String>(name).is_ok_and(|name| name == word);
            let is_fraction = matches!(plain::read(word), Plain::Number(_)) && plain::as_name(word).is_none();
            let is_refused = document.problems.iter().any(|problem| problem.to_string().contains("in quotes"));
            if is_refused == stays && !(stays && is_fraction) || stays && !is_refused && document.value[word] != "x" {
                wrong.push(format!("the name {word} is sent as {name}: {document:?}"));
            }
        }
        assert!(table.lines().count() > 200);
        assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    }

    #[test]
    fn a_name_that_kubectl_makes_another_of_is_a_problem_with_its_place() {
        let documents = read("parameters: {n: 1, 'y': 2, on: 3}\n010: x\n10: y\ntrue: z\n~: w\n").unwrap();
        let problems: Vec<String> = documents[0].problems.iter().map(Problem::to_string).collect();
        let by = "for kubectl, which reads it as YAML 1.1: write it in quotes";
        assert_eq!(
            problems,
            [
                format!("parameters.n (line 1, column 14): the name n is false {by}"),
                format!("parameters.on (line 1, column 28): the name on is true {by}"),
                format!("010 (line 2, column 1): the name 010 is 8 {by}"),
                format!("[\"~\"] (line 5, column 1): the name ~ is not a text {by}"),
            ]
        );
        assert_eq!(documents[0].value["parameters"], json!({"n": 1, "y": 2, "on": 3}));
    }

    #[test]
    fn a_name_that_stands_twice_is_a_problem() {
        let documents = read("a: 1\nb: {c: 1, c: 2}\na: 3\n").unwrap();
        let problems: Vec<String> = documents[0].problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            problems,
            [
                "b.c (line 2, column 11): c stands twice: keep one of the two",
                "a (line 3, column 1): a stands twice: keep one of the two",
            ]
        );
    }

    #[test]
    fn anchors_and_merges_are_followed() {
        let documents = read("base: &base {x: 1, z: 2}\nother:\n  <<: *base\n  x: 3\nsame: *base\n").unwrap();
        assert!(documents[0].problems.is_empty(), "{:?}", documents[0].problems);
        let expected = json!({"base": {"x": 1, "z": 2}, "other": {"x": 3, "z": 2}, "same": {"x": 1, "z": 2}});
        assert_eq!(documents[0].value, expected);
    }

    #[test]
    fn text_that_nests_without_end_is_refused() {
        let block: String = (0..5_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000), block] {
            assert!(read(&text).is_err());
        }
    }

    #[test]
    fn text_that_is_not_yaml_has_a_place() {
        for (text, line) in
            [("a: [1, 2\nb: 3\n", 2), ("a: 1\n b: 2\n", 2), ("a: 'x\n", 2), ("a:\n\t- b\n", 2), ("a: *nothing\n", 1)]
        {
            let problem = read(text).unwrap_err();
            assert!(problem.message.starts_with("this is not YAML ("), "{problem}");
            let at = problem.location.unwrap_or_else(|| panic!("{text:?}: {problem}"));
            assert!(at.line.abs_diff(line) <= 1, "{text:?}: {problem}");
        }
    }
}
