//! What a decoder knows of its writers' schemas: how each is read, or why none of its records can be.

use std::sync::Arc;

use data_platform_crds::column::ColumnOrigin;
use hashbrown::HashMap;

use super::avro::{AvroSchema, Program, Wanted};
use super::bad::{BadReason, Fault};
use super::plan::{DecodeColumn, SchemaPlan, ValueFormat};
use super::protobuf::{self, Messages};
use crate::source::schemas::{SchemaKind, WriterSchema};

/// What a decoder knows of schemas.
pub(super) struct Known {
    plan: SchemaPlan,
    format: ValueFormat,
    columns: Vec<DecodeColumn>,
    max_depth: usize,
    by_id: HashMap<u32, Entry>,
    /// That of the file, if the values have no id.
    of_file: Option<Entry>,
}

/// How records of a schema are read.
pub(super) enum Entry {
    /// As the JSON that they are.
    Text,
    /// By their schema.
    Avro(Program),
    /// By their descriptors.
    Protobuf(Messages),
    /// Not at all.
    Bad(BadReason, Arc<str>),
}

impl Known {
    pub(super) fn new(plan: SchemaPlan, format: ValueFormat, columns: &[DecodeColumn], max_depth: usize) -> Self {
        Self { plan, format, columns: columns.to_vec(), max_depth, by_id: HashMap::new(), of_file: None }
    }

    /// The file whose schema is needed before the first record.
    pub(super) fn file_needed(&self) -> Option<(&str, SchemaKind)> {
        let file = self.plan.file.as_deref().filter(|_| self.of_file.is_none())?;
        Some((file, if self.format == ValueFormat::Protobuf { SchemaKind::Protobuf } else { SchemaKind::Avro }))
    }

    /// The id of a value's schema, if it is not known.
    #[inline]
    pub(super) fn id_needed(&self, value: &[u8]) -> Option<u32> {
        if self.plan.file.is_some() {
            return None;
        }
        let (id, _) = frame(value).ok()?;
        (!self.by_id.contains_key(&id)).then_some(id)
    }

    /// How a value is read, and the value without what stands before it.
    #[inline]
    pub(super) fn entry<'a>(&self, value: &'a [u8]) -> Result<(&Entry, &'a [u8]), Fault> {
        if let Some(entry) = &self.of_file {
            return Ok((entry, value));
        }
        let (id, body) = frame(value)?;
        match self.by_id.get(&id) {
            Some(entry) => Ok((entry, body)),
            None => {
                Err(Fault::at(BadReason::UnknownSchema, 1, "the schema registry knows no schema of the value's id"))
            }
        }
    }

    /// What is to be said of a value's schema, for a fault that is about it.
    #[cold]
    pub(super) fn about(&self, value: &[u8]) -> Option<Arc<str>> {
        let (id, _) = frame(value).ok()?;
        match self.by_id.get(&id) {
            Some(Entry::Bad(_, problem)) => Some(Arc::clone(problem)),
            Some(_) => None,
            None => Some(format!("id {id}").into()),
        }
    }

    /// Takes up a schema, by its id or as that of the file. Gives what is wrong with it: then its records are bad.
    pub(super) fn learn(&mut self, schema: &WriterSchema) -> Option<Arc<str>> {
        let entry = self.entry_of(schema);
        let problem = match &entry {
            Entry::Bad(_, problem) => Some(Arc::clone(problem)),
            Entry::Text | Entry::Avro(_) | Entry::Protobuf(_) => None,
        };
        match schema.id {
            Some(id) => drop(self.by_id.insert(id, entry)),
            None => self.of_file = Some(entry),
        }
        problem
    }

    fn entry_of(&self, schema: &WriterSchema) -> Entry {
        let named = schema.id.map_or_else(|| "the schema of the file".to_owned(), |id| format!("schema {id}"));
        let bad = |reason, problem: String| Entry::Bad(reason, format!("{named}: {problem}").into());
        if let Some(subject) = &self.plan.subject
            && schema.id.is_some()
            && !schema.subjects.iter().any(|found| **found == **subject)
        {
            let subjects = schema.subjects.join(", ");
            return bad(BadReason::ForeignSchema, format!("it is one of {subjects}, not of {subject}"));
        }
        let expected = match (self.format, schema.kind) {
            (ValueFormat::JsonObject | ValueFormat::Change, SchemaKind::Json) => return Entry::Text,
            (ValueFormat::Change, SchemaKind::Avro) => Vec::new(),
            (ValueFormat::Avro, SchemaKind::Avro) => self.wanted(),
            (ValueFormat::Protobuf, SchemaKind::Protobuf) => {
                return match self.messages(schema) {
                    Ok(messages) => Entry::Protobuf(messages),
                    Err(problem) => bad(BadReason::IncompatibleSchema, problem),
                };
            }
            (format, kind) => {
                let problem = format!("it is {kind}, and the source's format is {}", format.as_str());
                return bad(BadReason::IncompatibleSchema, problem);
            }
        };
        let parsed = AvroSchema::parse(&schema.text, schema.references.iter().map(|(_, text)| text.as_str()));
        let program = parsed.map_err(|problem| format!("it cannot be read: {problem}"));
        match program.and_then(|schema| Program::new(schema, &expected, self.max_depth)) {
            Ok(program) => Entry::Avro(program),
            Err(problem) => bad(BadReason::IncompatibleSchema, problem),
        }
    }

    fn messages(&self, schema: &WriterSchema) -> Result<Messages, String> {
        let (wanted, columns) = (self.wanted(), self.columns.len());
        let (pool, file) = protobuf::pool(schema).map_err(|problem| format!("it cannot be read: {problem}"))?;
        let messages = match (&self.plan.message, file) {
            (Some(name), _) if schema.id.is_none() => {
                let message = pool.get_message_by_name(name).ok_or_else(|| format!("it has no message {name}"))?;
                Messages::of_message(message, &wanted, columns)?
            }
            (_, Some(file)) => Messages::of_file(&file, &wanted, columns)?,
            (_, None) => return Err("it does not say which message the values are".to_owned()),
        };
        messages.problem().map_or(Ok(messages), |problem| Err(problem.to_string()))
    }

    /// The declared columns in words.
    pub(super) fn declared(&self) -> String {
        let fields = self.columns.iter().filter(|column| column.origin == ColumnOrigin::Field);
        let word = |column: &DecodeColumn| {
            let required = if column.required { ", required" } else { "" };
            format!("{} {}{required}", column.name, column.column_type)
        };
        fields.map(word).collect::<Vec<_>>().join("; ")
    }

    fn wanted(&self) -> Vec<Wanted<'_>> {
        let fields = self.columns.iter().enumerate().filter(|(_, column)| column.origin == ColumnOrigin::Field);
        let wanted = fields.map(|(index, column)| Wanted {
            index,
            name: &column.name,
            path: &column.path,
            column_type: &column.column_type,
            required: column.required,
        });
        wanted.collect()
    }
}

/// The id of a value's schema, and the value without the five bytes before it: 0, and the id, the greatest byte first.
fn frame(value: &[u8]) -> Result<(u32, &[u8]), Fault> {
    match value {
        [0, a, b, c, d, body @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), body)),
        [] => Err(Fault::new(BadReason::Empty, "the value is empty")),
        _ => Err(Fault::at(
            BadReason::Framing,
            0,
            "the value does not begin with 0x00 and the four bytes of a schema's id: let the producer use the serializer of a schema \
             registry",
        )),
    }
}
