//! Avro: from the bytes of a record, by its writer's schema, to the builders of columns.
//!
//! For each schema a [`Program`] is made once: how to walk a record, where the declared columns lie in it, and how each is
//! read. A record is walked first, which finds its columns and passes over the rest; then the columns are read in
//! declared order, each from where it lies, as with JSON. A column whose field a writer does not have is null; a type that
//! its column can never take is found when the program is made.
//!
//! ```text
//! schema + columns ──> Program
//! record ── walk ──> where each column lies ── read ──> column
//! ```

mod bytes;
mod json;
mod schema;

use data_platform_crds::column::ColumnType;

use self::bytes::{Cursor, below};
pub(super) use self::schema::AvroSchema;
use self::schema::{FixedKind, Meaning, Node, NodeId, field_named};
use super::bad::{BadReason, Fault};
use super::column::{Column, Scratch, Values};
use super::typed::ScalarKind;

/// Parts of one program, after which the schema is refused: unions of records in unions of records multiply.
const PARTS_MAX: usize = 50_000;

/// A declared column, as far as it is found in a value.
pub(super) struct Wanted<'a> {
    /// Index among the declared columns.
    pub(super) index: usize,
    pub(super) name: &'a str,
    pub(super) path: &'a [String],
    pub(super) column_type: &'a ColumnType,
    pub(super) required: bool,
}

/// How records of one schema are read.
pub(super) struct Program {
    schema: AvroSchema,
    walk: Walk,
    reads: Vec<Read>,
    max_depth: usize,
}

/// How a value is passed over, and which columns are found in it.
enum Walk {
    /// A value that no column wants.
    Skip(NodeId),
    /// A null that these columns want.
    Null(Box<[usize]>),
    /// A value that columns want as a whole, each with its way to read it.
    Whole(NodeId, Box<[(usize, usize)]>),
    Union(Box<[Walk]>),
    Record {
        whole: Box<[(usize, usize)]>,
        fields: Box<[Walk]>,
    },
    Map {
        whole: Box<[(usize, usize)]>,
        value: NodeId,
        keys: Box<[(String, Walk)]>,
    },
    /// A value that is no record although paths lead through it.
    Blocked(NodeId, Box<[usize]>, Box<[(usize, usize)]>),
}

/// How a value becomes one of a column.
#[derive(Debug)]
enum Read {
    Null,
    Scalar(NodeId),
    Json(NodeId),
    Union(Box<[Read]>),
    List(Box<Read>),
    Map(Box<Read>),
    Struct {
        fields: Box<[StructField]>,
        missing: Box<[usize]>,
    },
    /// A value that the column cannot take.
    Unfit(NodeId),
}

#[derive(Debug)]
enum StructField {
    Skip(NodeId),
    Into(usize, Read),
}

/// Where a column lies in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Located {
    Absent,
    Null,
    At {
        position: u32,
        read: u32,
    },
    /// A value on the way to it is no record.
    Blocked {
        position: u32,
    },
}

impl Program {
    /// How records of a schema are read into these columns.
    ///
    /// # Errors
    /// What no record of this schema can have, in a sentence for each column.
    pub(super) fn new(schema: AvroSchema, columns: &[Wanted<'_>], max_depth: usize) -> Result<Self, String> {
        let mut compiler = Compiler { schema: &schema, columns, reads: Vec::new(), parts: 0, found: Vec::new() };
        compiler.found.resize_with(columns.len(), Found::default);
        let paths = columns.iter().enumerate().map(|(number, column)| (number, column.path)).collect();
        let walk = compiler.walk(schema.root, paths)?;
        let problems: Vec<String> =
            columns.iter().zip(&compiler.found).filter_map(|(column, found)| found.problem(column)).collect();
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        let reads = compiler.reads;
        Ok(Self { walk, reads, schema, max_depth })
    }

    /// Finds the columns of a record; those that it does not have stay as they are.
    ///
    /// # Errors
    /// Bytes that are no record of this schema.
    pub(super) fn locate(&self, record: &[u8], located: &mut [Located]) -> Result<(), Fault> {
        let mut cursor = Cursor::new(record);
        self.walk_over(&self.walk, &mut cursor, self.max_depth, located)?;
        cursor.end()
    }

    /// Appends a column that was found.
    ///
    /// # Errors
    /// A value that the column does not take.
    pub(super) fn read(
        &self,
        record: &[u8],
        position: u32,
        read: u32,
        column: &mut Column,
        scratch: &mut Scratch,
    ) -> Result<(), Fault> {
        let mut cursor = Cursor::new(record).at(position as usize);
        self.read_value(&self.reads[read as usize], column, &mut cursor, self.max_depth, scratch)
    }

    /// Appends a whole record as JSON. It was walked before.
    ///
    /// # Errors
    /// As [`Self::locate`].
    pub(super) fn write_json(&self, record: &[u8], out: &mut String) -> Result<(), Fault> {
        let mut cursor = Cursor::new(record);
        self.schema.write_json(self.schema.root, &mut cursor, self.max_depth, out)?;
        cursor.end()
    }

    fn walk_over(
        &self,
        walk: &Walk,
        cursor: &mut Cursor<'_>,
        depth: usize,
        located: &mut [Located],
    ) -> Result<(), Fault> {
        let position = cursor.position() as u32;
        let mut note = |whole: &[(usize, usize)]| {
            for &(column, read) in whole {
                located[column] = Located::At { position, read: read as u32 };
            }
        };
        match walk {
            Walk::Skip(node) => self.schema.skip(*node, cursor, depth),
            Walk::Null(columns) => {
                columns.iter().for_each(|column| located[*column] = Located::Null);
                cursor.step()
            }
            Walk::Whole(node, whole) => {
                note(whole);
                self.schema.skip(*node, cursor, depth)
            }
            Walk::Union(branches) => {
                let branch = cursor.branch(branches.len())?;
                self.walk_over(&branches[branch], cursor, depth, located)
            }
            Walk::Record { whole, fields } => {
                note(whole);
                cursor.step()?;
                let depth = below(cursor, depth)?;
                fields.iter().try_for_each(|field| self.walk_over(field, cursor, depth, located))
            }
            Walk::Map { whole, value, keys } => {
                note(whole);
                let depth = below(cursor, depth)?;
                while let Some(block) = cursor.block()? {
                    for _ in 0..block.items {
                        let key = cursor.text()?;
                        match keys.iter().find(|(name, _)| name == key) {
                            Some((_, walk)) => self.walk_over(walk, cursor, depth, located)?,
                            None => self.schema.skip(*value, cursor, depth)?,
                        }
                    }
                }
                Ok(())
            }
            Walk::Blocked(node, columns, whole) => {
                note(whole);
                columns.iter().for_each(|column| located[*column] = Located::Blocked { position });
                self.schema.skip(*node, cursor, depth)
            }
        }
    }

    fn read_value<'a>(
        &'a self,
        read: &Read,
        column: &mut Column,
        cursor: &mut Cursor<'a>,
        depth: usize,
        scratch: &mut Scratch,
    ) -> Result<(), Fault> {
        match read {
            Read::Null => {
                cursor.step()?;
                column.push_null();
                return Ok(());
            }
            Read::Scalar(node) => {
                let at = cursor.position();
                let value = self.schema.scalar(*node, cursor)?;
                return column.append_scalar(value, &mut scratch.text).map_err(|fault| fault.at_byte(at));
            }
            Read::Json(node) => {
                scratch.text.clear();
                self.schema.write_json(*node, cursor, depth, &mut scratch.text)?;
                column.append_json_text(&scratch.text);
                return Ok(());
            }
            Read::Union(branches) => {
                let branch = cursor.branch(branches.len())?;
                return self.read_value(&branches[branch], column, cursor, depth, scratch);
            }
            Read::Unfit(_) => {
                return Err(cursor.fault(BadReason::WrongType, "a value of another type than the column"));
            }
            Read::List(_) | Read::Map(_) | Read::Struct { .. } => {}
        }
        let depth = below(cursor, depth)?;
        match (read, &mut column.values) {
            (Read::List(item), Values::List(list)) => {
                while let Some(block) = cursor.block()? {
                    for _ in 0..block.items {
                        self.read_value(item, list.items(), cursor, depth, scratch)?;
                    }
                }
                list.end();
            }
            (Read::Map(value), Values::Map(map)) => {
                for (key, at) in self.entries(value, cursor, depth)? {
                    self.read_value(value, map.entry(key), &mut cursor.at(at), depth, scratch)?;
                }
                map.end();
            }
            (Read::Struct { fields, missing }, Values::Struct(column)) => {
                cursor.step()?;
                for field in fields {
                    match field {
                        StructField::Skip(node) => self.schema.skip(*node, cursor, depth)?,
                        StructField::Into(index, read) => {
                            self.read_value(read, column.field(*index), cursor, depth, scratch)?;
                        }
                    }
                }
                missing.iter().for_each(|index| column.field(*index).push_null());
            }
            _ => unreachable!("a way to read was made for the type of its column"),
        }
        column.nulls.append_non_null();
        Ok(())
    }

    /// The entries of a map, each key once: the last of several stays, at the place of the first, as in JSON.
    fn entries<'a>(&self, value: &Read, cursor: &mut Cursor<'a>, depth: usize) -> Result<Vec<(&'a str, usize)>, Fault> {
        let mut entries: Vec<(&str, usize)> = Vec::new();
        let mut places = hashbrown::HashMap::new();
        while let Some(block) = cursor.block()? {
            for _ in 0..block.items {
                let key = cursor.text()?;
                let place = *places.entry(key).or_insert(entries.len());
                match entries.get_mut(place) {
                    Some((_, at)) => *at = cursor.position(),
                    None => entries.push((key, cursor.position())),
                }
                self.skip_read(value, cursor, depth)?;
            }
        }
        Ok(entries)
    }

    /// Passes over a value by the way in which it is read.
    fn skip_read(&self, read: &Read, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Fault> {
        match read {
            Read::Null => cursor.step(),
            Read::Scalar(node) | Read::Json(node) | Read::Unfit(node) => self.schema.skip(*node, cursor, depth),
            Read::Union(branches) => {
                let branch = cursor.branch(branches.len())?;
                self.skip_read(&branches[branch], cursor, depth)
            }
            Read::List(item) => {
                let depth = below(cursor, depth)?;
                while let Some(block) = cursor.block()? {
                    (0..block.items).try_for_each(|_| self.skip_read(item, cursor, depth))?;
                }
                Ok(())
            }
            Read::Map(value) => {
                let depth = below(cursor, depth)?;
                while let Some(block) = cursor.block()? {
                    for _ in 0..block.items {
                        cursor.sized()?;
                        self.skip_read(value, cursor, depth)?;
                    }
                }
                Ok(())
            }
            Read::Struct { fields, .. } => {
                cursor.step()?;
                let depth = below(cursor, depth)?;
                fields.iter().try_for_each(|field| match field {
                    StructField::Skip(node) => self.schema.skip(*node, cursor, depth),
                    StructField::Into(_, read) => self.skip_read(read, cursor, depth),
                })
            }
        }
    }
}

/// What is found of a column in a schema.
#[derive(Default)]
struct Found {
    /// Some record can have a value that fits, or none.
    fits: bool,
    absent: bool,
    /// The types that do not fit, in words.
    unfit: Vec<String>,
}

impl Found {
    /// Why no record of the schema can have the column, if so.
    fn problem(&self, column: &Wanted<'_>) -> Option<String> {
        let (name, column_type) = (column.name, column.column_type);
        match self.unfit.as_slice() {
            _ if self.fits => None,
            [] if column.required => {
                Some(format!("it has no field {} for the required column {name:?}", column.path.join(".")))
            }
            [] => None,
            unfit => Some(format!(
                "its field {} is {}, and the column {name:?} is {column_type}",
                column.path.join("."),
                unfit.join(" or ")
            )),
        }
    }
}

struct Compiler<'a> {
    schema: &'a AvroSchema,
    columns: &'a [Wanted<'a>],
    reads: Vec<Read>,
    parts: usize,
    found: Vec<Found>,
}

/// Columns by their number among those wanted, each with what is left of its path.
type Paths<'a> = Vec<(usize, &'a [String])>;

impl<'a> Compiler<'a> {
    fn count(&mut self) -> Result<(), String> {
        self.parts += 1;
        if self.parts > PARTS_MAX { Err(format!("it has more than {PARTS_MAX} ways to be read")) } else { Ok(()) }
    }

    fn walk(&mut self, node: NodeId, paths: Paths<'a>) -> Result<Walk, String> {
        self.count()?;
        if paths.is_empty() {
            return Ok(Walk::Skip(node));
        }
        let index = |(number, _): &(usize, &[String])| self.columns[*number].index;
        match self.schema.node(node) {
            Node::Null => return Ok(Walk::Null(paths.iter().map(index).collect())),
            Node::Union(branches) => {
                let branches = branches.iter().map(|branch| self.walk(*branch, paths.clone()));
                return Ok(Walk::Union(branches.collect::<Result<_, _>>()?));
            }
            _ => {}
        }
        let (whole, inside): (Paths<'_>, Paths<'_>) = paths.into_iter().partition(|(_, path)| path.is_empty());
        let whole = whole.into_iter().map(|(number, _)| self.whole(node, number)).collect::<Result<Box<[_]>, _>>()?;
        if inside.is_empty() {
            return Ok(Walk::Whole(node, whole));
        }
        match self.schema.node(node) {
            Node::Record(fields) => {
                let mut of_fields: Vec<Paths<'_>> = vec![Vec::new(); fields.len()];
                for (number, path) in inside {
                    match field_named(fields, &path[0]) {
                        Some(field) => of_fields[field].push((number, &path[1..])),
                        None => self.found[number].absent = true,
                    }
                }
                let fields = fields.iter().zip(of_fields).map(|(field, paths)| self.walk(field.node, paths));
                Ok(Walk::Record { whole, fields: fields.collect::<Result<_, _>>()? })
            }
            Node::Map(value) => {
                let mut keys: Vec<(String, Paths<'_>)> = Vec::new();
                for (number, path) in inside {
                    match keys.iter_mut().find(|(key, _)| *key == path[0]) {
                        Some((_, paths)) => paths.push((number, &path[1..])),
                        None => keys.push((path[0].clone(), vec![(number, &path[1..])])),
                    }
                }
                let keys = keys.into_iter().map(|(key, paths)| Ok((key, self.walk(*value, paths)?)));
                Ok(Walk::Map { whole, value: *value, keys: keys.collect::<Result<_, String>>()? })
            }
            _ => {
                let word = self.schema.word(node);
                inside.iter().for_each(|(number, _)| self.found[*number].unfit.push(format!("inside of a {word}")));
                let inside = inside.iter().map(|(number, _)| self.columns[*number].index).collect();
                Ok(Walk::Blocked(node, inside, whole))
            }
        }
    }

    /// A way to read a value as a whole into a column.
    fn whole(&mut self, node: NodeId, number: usize) -> Result<(usize, usize), String> {
        let column = &self.columns[number];
        let read = self.read(node, column.column_type)?;
        match &read {
            Read::Unfit(node) => self.found[number].unfit.push(self.schema.word(*node)),
            _ => self.found[number].fits = true,
        }
        self.reads.push(read);
        Ok((column.index, self.reads.len() - 1))
    }

    fn read(&mut self, node: NodeId, column_type: &ColumnType) -> Result<Read, String> {
        self.count()?;
        Ok(match (self.schema.node(node), column_type) {
            (Node::Null, _) => Read::Null,
            (Node::Union(branches), _) => {
                let reads = branches.iter().map(|branch| self.read(*branch, column_type));
                let reads: Box<[Read]> = reads.collect::<Result<_, _>>()?;
                let fits = |read: &Read| !matches!(read, Read::Unfit(_) | Read::Null);
                if !reads.iter().any(fits) && reads.iter().any(|read| matches!(read, Read::Unfit(_))) {
                    return Ok(Read::Unfit(node));
                }
                Read::Union(reads)
            }
            (_, ColumnType::Json) => Read::Json(node),
            (Node::Array(item), ColumnType::Array(column)) => match self.read(*item, column)? {
                Read::Unfit(_) => Read::Unfit(node),
                read => Read::List(Box::new(read)),
            },
            (Node::Map(value), ColumnType::Map(column)) => match self.read(*value, column)? {
                Read::Unfit(_) => Read::Unfit(node),
                read => Read::Map(Box::new(read)),
            },
            (Node::Record(fields), ColumnType::Struct(columns)) => {
                let mut taken: Vec<Option<usize>> = vec![None; fields.len()];
                let mut missing = Vec::new();
                for (index, (name, _)) in columns.iter().enumerate() {
                    match field_named(fields, name).filter(|field| taken[*field].is_none()) {
                        Some(field) => taken[field] = Some(index),
                        None => missing.push(index),
                    }
                }
                let mut reads = Vec::with_capacity(fields.len());
                for (field, taken) in fields.iter().zip(taken) {
                    reads.push(match taken {
                        None => StructField::Skip(field.node),
                        Some(index) => match self.read(field.node, &columns[index].1)? {
                            Read::Unfit(_) => return Ok(Read::Unfit(node)),
                            read => StructField::Into(index, read),
                        },
                    });
                }
                Read::Struct { fields: reads.into(), missing: missing.into() }
            }
            (other, column_type) => match kind(other) {
                Some(kind) if kind.fits(column_type) => Read::Scalar(node),
                _ => Read::Unfit(node),
            },
        })
    }
}

fn kind(node: &Node) -> Option<ScalarKind> {
    Some(match node {
        Node::Boolean => ScalarKind::Boolean,
        Node::Int(Meaning::Date) => ScalarKind::Date,
        Node::Long(Meaning::Instant(_)) => ScalarKind::Instant,
        Node::Int(_) | Node::Long(_) => ScalarKind::Integer,
        Node::Float | Node::Double => ScalarKind::Fraction,
        Node::Bytes(Some(_)) | Node::Fixed { kind: FixedKind::Decimal(_), .. } => ScalarKind::Decimal,
        Node::Bytes(None) | Node::Fixed { kind: FixedKind::Bytes, .. } => ScalarKind::Bytes,
        Node::Fixed { kind: FixedKind::Uuid, .. } => ScalarKind::Uuid,
        Node::Text | Node::Enum(_) => ScalarKind::Text,
        Node::Null | Node::Array(_) | Node::Map(_) | Node::Union(_) | Node::Record(_) => return None,
    })
}
