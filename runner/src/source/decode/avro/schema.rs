//! A schema of Avro as its writer declared it: parsed once, then walked for each record.
//!
//! Follows the specification of Avro 1.12: names with namespaces, aliases, recursive types, logical types. A logical type
//! that is not known or not valid there is ignored, as the specification asks.

use data_platform_crds::column::TimestampUnit;
use hashbrown::HashMap;
use serde_json::{Map, Value};

/// Index of a type in [`AvroSchema::nodes`].
pub(super) type NodeId = u32;

/// Types of one schema, after which it is refused: a bound on what a schema may cost.
const NODES_MAX: usize = 100_000;

/// A schema.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::source::decode) struct AvroSchema {
    pub(super) nodes: Vec<Node>,
    pub(super) root: NodeId,
}

/// A type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Boolean,
    Int(Meaning),
    Long(Meaning),
    Float,
    Double,
    Bytes(Option<u8>),
    Text,
    Fixed { size: usize, kind: FixedKind },
    Enum(Box<[Box<str>]>),
    Array(NodeId),
    Map(NodeId),
    Union(Box<[NodeId]>),
    Record(Box<[Field]>),
}

/// What a whole number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Number,
    Date,
    Instant(TimestampUnit),
}

/// What a fixed number of bytes stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FixedKind {
    Bytes,
    /// Digits behind the point.
    Decimal(u8),
    Uuid,
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub(super) name: Box<str>,
    pub(super) aliases: Box<[Box<str>]>,
    pub(super) node: NodeId,
}

impl AvroSchema {
    /// Reads a schema; `references` are the texts of schemas whose named types it uses, each before those that use it.
    ///
    /// # Errors
    /// A sentence on what is wrong.
    pub(in crate::source::decode) fn parse<'a>(
        text: &str,
        references: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, String> {
        let mut parser = Parser::default();
        for reference in references {
            parser.text(reference)?;
        }
        let root = parser.text(text)?;
        let nodes = parser.nodes.into_iter().map(|node| node.ok_or("a named type has no definition".to_owned()));
        Ok(Self { nodes: nodes.collect::<Result<_, _>>()?, root })
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// The type in a word, for messages.
    pub(super) fn word(&self, id: NodeId) -> String {
        match self.node(id) {
            Node::Null => "null".to_owned(),
            Node::Boolean => "boolean".to_owned(),
            Node::Int(Meaning::Date) => "date".to_owned(),
            Node::Int(_) => "int".to_owned(),
            Node::Long(Meaning::Instant(_)) => "timestamp".to_owned(),
            Node::Long(_) => "long".to_owned(),
            Node::Float => "float".to_owned(),
            Node::Double => "double".to_owned(),
            Node::Bytes(Some(_)) | Node::Fixed { kind: FixedKind::Decimal(_), .. } => "decimal".to_owned(),
            Node::Bytes(None) => "bytes".to_owned(),
            Node::Text => "string".to_owned(),
            Node::Fixed { kind: FixedKind::Uuid, .. } => "uuid".to_owned(),
            Node::Fixed { .. } => "fixed".to_owned(),
            Node::Enum(_) => "enum".to_owned(),
            Node::Array(_) => "array".to_owned(),
            Node::Map(_) => "map".to_owned(),
            Node::Record(_) => "record".to_owned(),
            Node::Union(branches) => {
                let words: Vec<String> = branches.iter().map(|branch| self.word(*branch)).collect();
                format!("union of {}", words.join(", "))
            }
        }
    }
}

/// Which field of a record has a name: the field of that name, else the first with that alias.
pub(super) fn field_named(fields: &[Field], name: &str) -> Option<usize> {
    let is_named = |field: &Field| *field.name == *name;
    let is_alias = |field: &Field| field.aliases.iter().any(|alias| **alias == *name);
    fields.iter().position(is_named).or_else(|| fields.iter().position(is_alias))
}

#[derive(Default)]
struct Parser {
    /// `None` while the type is being read.
    nodes: Vec<Option<Node>>,
    /// Named types by full name.
    names: HashMap<String, NodeId>,
}

impl Parser {
    fn text(&mut self, text: &str) -> Result<NodeId, String> {
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            // The registry gives a primitive type as a bare word now and then.
            Err(_) if primitive(text.trim()).is_some() => Value::from(text.trim()),
            Err(error) => return Err(format!("not JSON: {error}")),
        };
        self.read(&value, "")
    }

    fn push(&mut self, node: Node) -> Result<NodeId, String> {
        self.reserve().inspect(|id| self.nodes[*id as usize] = Some(node))
    }

    fn reserve(&mut self) -> Result<NodeId, String> {
        if self.nodes.len() >= NODES_MAX {
            return Err(format!("more than {NODES_MAX} types"));
        }
        self.nodes.push(None);
        Ok((self.nodes.len() - 1) as NodeId)
    }

    fn read(&mut self, value: &Value, namespace: &str) -> Result<NodeId, String> {
        match value {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.read(branch, namespace));
                let branches: Box<[NodeId]> = branches.collect::<Result<_, _>>()?;
                let is_union = |id: &NodeId| matches!(self.nodes[*id as usize], Some(Node::Union(_)));
                if branches.iter().any(is_union) {
                    return Err("a union in a union".to_owned());
                }
                self.push(Node::Union(branches))
            }
            Value::Object(object) => self.object(object, namespace),
            _ => Err(format!("{value} is no type")),
        }
    }

    fn named(&mut self, name: &str, namespace: &str) -> Result<NodeId, String> {
        if let Some(node) = primitive(name) {
            return self.push(node);
        }
        let full = full_name(name, namespace);
        let known = self.names.get(&full).or_else(|| self.names.get(name));
        known.copied().ok_or_else(|| format!("the type {name:?} is not defined"))
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<NodeId, String> {
        let kind = object.get("type").ok_or("a type without \"type\"")?;
        let Value::String(kind) = kind else { return self.read(kind, namespace) };
        let part = |name: &str| object.get(name).ok_or_else(|| format!("a type {kind} without {name:?}"));
        match kind.as_str() {
            "array" => {
                let items = self.read(part("items")?, namespace)?;
                self.push(Node::Array(items))
            }
            "map" => {
                let values = self.read(part("values")?, namespace)?;
                self.push(Node::Map(values))
            }
            "record" | "error" => {
                let (id, inside) = self.define(object, namespace)?;
                let fields = part("fields")?.as_array().ok_or("\"fields\" is no list")?;
                let fields = fields.iter().map(|field| self.field(field, &inside));
                let fields: Box<[Field]> = fields.collect::<Result<_, _>>()?;
                if let Some(twice) = twice(fields.iter().map(|field| &*field.name)) {
                    return Err(format!("the field {twice:?} stands twice in a record"));
                }
                self.nodes[id as usize] = Some(Node::Record(fields));
                Ok(id)
            }
            "enum" => {
                let (id, _) = self.define(object, namespace)?;
                let symbols = part("symbols")?.as_array().ok_or("\"symbols\" is no list")?;
                let symbols =
                    symbols.iter().map(|symbol| symbol.as_str().map(Box::from).ok_or("a symbol that is no text"));
                self.nodes[id as usize] = Some(Node::Enum(symbols.collect::<Result<_, _>>()?));
                Ok(id)
            }
            "fixed" => {
                let (id, _) = self.define(object, namespace)?;
                let size = part("size")?.as_u64().and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or("the size of a fixed is no whole number")?;
                let kind = match object.get("logicalType").and_then(Value::as_str) {
                    Some("decimal") => decimal_scale(object).map_or(FixedKind::Bytes, FixedKind::Decimal),
                    Some("uuid") if size == 16 => FixedKind::Uuid,
                    _ => FixedKind::Bytes,
                };
                self.nodes[id as usize] = Some(Node::Fixed { size, kind });
                Ok(id)
            }
            _ => match primitive(kind) {
                Some(node) => self.push(with_logical_type(node, object)),
                None => self.named(kind, namespace),
            },
        }
    }

    fn field(&mut self, field: &Value, namespace: &str) -> Result<Field, String> {
        let name = field.get("name").and_then(Value::as_str).ok_or("a field without a name")?;
        let kind = field.get("type").ok_or_else(|| format!("the field {name:?} has no type"))?;
        let node = self.read(kind, namespace).map_err(|problem| format!("field {name:?}: {problem}"))?;
        Ok(Field { name: name.into(), aliases: texts(field.get("aliases")), node })
    }

    /// Makes room for a named type, so that it can be named inside of itself; gives the namespace inside.
    fn define(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<(NodeId, String), String> {
        let name = object.get("name").and_then(Value::as_str).ok_or("a named type without a name")?;
        let own = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
        let full = full_name(name, own);
        let inside = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        let id = self.reserve()?;
        if self.names.insert(full.clone(), id).is_some() {
            return Err(format!("the type {full:?} is defined twice"));
        }
        for alias in texts(object.get("aliases")) {
            self.names.entry(full_name(&alias, &inside)).or_insert(id);
        }
        Ok((id, inside))
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn texts(value: Option<&Value>) -> Box<[Box<str>]> {
    let list = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(Box::from).collect()
}

fn twice<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = hashbrown::HashSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

fn primitive(name: &str) -> Option<Node> {
    Some(match name {
        "null" => Node::Null,
        "boolean" => Node::Boolean,
        "int" => Node::Int(Meaning::Number),
        "long" => Node::Long(Meaning::Number),
        "float" => Node::Float,
        "double" => Node::Double,
        "bytes" => Node::Bytes(None),
        "string" => Node::Text,
        _ => return None,
    })
}

fn with_logical_type(node: Node, object: &Map<String, Value>) -> Node {
    let logical = object.get("logicalType").and_then(Value::as_str).unwrap_or_default();
    match (node, logical.strip_prefix("local-").unwrap_or(logical)) {
        (Node::Int(_), "date") => Node::Int(Meaning::Date),
        (Node::Long(_), "timestamp-millis") => Node::Long(Meaning::Instant(TimestampUnit::Milliseconds)),
        (Node::Long(_), "timestamp-micros") => Node::Long(Meaning::Instant(TimestampUnit::Microseconds)),
        (Node::Long(_), "timestamp-nanos") => Node::Long(Meaning::Instant(TimestampUnit::Nanoseconds)),
        (Node::Bytes(_), "decimal") => Node::Bytes(decimal_scale(object)),
        (node, _) => node,
    }
}

/// Digits behind the point; `None` where the decimal is not valid, and so none.
fn decimal_scale(object: &Map<String, Value>) -> Option<u8> {
    let precision = object.get("precision")?.as_u64()?;
    let scale = object.get("scale").map_or(Some(0), Value::as_u64)?;
    (precision > 0 && scale <= precision).then(|| u8::try_from(scale).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_their_namespace_and_types_may_name_themselves() {
        let text = r#"{"type": "record", "name": "a.b.Tree", "fields": [
            {"name": "left", "type": ["null", "Tree"]},
            {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["X"], "namespace": "c"}},
            {"name": "again", "type": "c.Kind"},
            {"name": "old", "type": {"type": "long", "logicalType": "local-timestamp-micros"}, "aliases": ["older"]},
            {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 9}}
        ]}"#;
        let schema = AvroSchema::parse(text, []).unwrap();
        let Node::Record(fields) = schema.node(schema.root) else { panic!("a record") };
        assert_eq!(*schema.node(fields[0].node), Node::Union([1, schema.root].into()));
        assert_eq!(fields[1].node, fields[2].node);
        assert_eq!(*schema.node(fields[3].node), Node::Long(Meaning::Instant(TimestampUnit::Microseconds)));
        assert_eq!(*schema.node(fields[4].node), Node::Bytes(None), "a decimal that is not valid is none");
        assert_eq!(
            (field_named(fields, "older"), field_named(fields, "kind"), field_named(fields, "x")),
            (Some(3), Some(1), None)
        );
    }

    #[test]
    fn types_of_other_schemas_are_known() {
        let other = r#"{"type": "fixed", "name": "n.Id", "size": 16, "logicalType": "uuid"}"#;
        let schema = AvroSchema::parse(r#"["null", "n.Id"]"#, [other]).unwrap();
        assert_eq!(schema.word(schema.root), "union of null, uuid");
    }

    #[test]
    fn what_is_no_schema_is_refused_with_a_sentence() {
        for (text, problem) in [
            ("{", "not JSON"),
            ("3", "3 is no type"),
            (r#""Order""#, "the type \"Order\" is not defined"),
            (r#"{"name": "a"}"#, "a type without \"type\""),
            (r#"{"type": "record", "name": "a"}"#, "without \"fields\""),
            (r#"{"type": "record", "name": "a", "fields": [{"name": "b"}]}"#, "the field \"b\" has no type"),
            (
                r#"{"type": "record", "name": "a", "fields": [{"name": "b", "type": "int"}, {"name": "b", "type": "int"}]}"#,
                "stands twice",
            ),
            (r#"["null", ["int"]]"#, "a union in a union"),
            (
                r#"[{"type": "fixed", "name": "a", "size": 1}, {"type": "enum", "name": "a", "symbols": []}]"#,
                "defined twice",
            ),
        ] {
            let found = AvroSchema::parse(text, []).expect_err(text);
            assert!(found.contains(problem), "{text}: {found}");
        }
        let deep = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(10_000), "}".repeat(10_000));
        assert!(AvroSchema::parse(&deep, []).is_err());
    }
}
