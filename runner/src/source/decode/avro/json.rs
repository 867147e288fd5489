//! A value of Avro as JSON text, for columns of type json: records and maps are objects, a union is the value in it.

use super::bytes::{Cursor, below};
use super::schema::{AvroSchema, Node, NodeId};
use crate::source::decode::bad::Fault;
use crate::source::decode::typed::write_quoted;

impl AvroSchema {
    /// Appends a value; `depth` levels may be below.
    pub(super) fn write_json<'a>(
        &'a self,
        id: NodeId,
        cursor: &mut Cursor<'a>,
        depth: usize,
        out: &mut String,
    ) -> Result<(), Fault> {
        match self.node(id) {
            Node::Union(branches) => {
                let branch = cursor.branch(branches.len())?;
                self.write_json(branches[branch], cursor, depth, out)
            }
            Node::Record(fields) => {
                cursor.step()?;
                let depth = below(cursor, depth)?;
                out.push('{');
                for (index, field) in fields.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write_quoted(&field.name, out);
                    out.push(':');
                    self.write_json(field.node, cursor, depth, out)?;
                }
                out.push('}');
                Ok(())
            }
            Node::Array(item) => self.write_blocks(*item, ['[', ']'], cursor, below(cursor, depth)?, out),
            Node::Map(value) => self.write_blocks(*value, ['{', '}'], cursor, below(cursor, depth)?, out),
            _ => {
                self.scalar(id, cursor)?.write_json(out);
                Ok(())
            }
        }
    }

    fn write_blocks<'a>(
        &'a self,
        item: NodeId,
        brackets: [char; 2],
        cursor: &mut Cursor<'a>,
        depth: usize,
        out: &mut String,
    ) -> Result<(), Fault> {
        out.push(brackets[0]);
        let mut is_first = true;
        while let Some(block) = cursor.block()? {
            for _ in 0..block.items {
                if !std::mem::take(&mut is_first) {
                    out.push(',');
                }
                if brackets[0] == '{' {
                    write_quoted(cursor.text()?, out);
                    out.push(':');
                }
                self.write_json(item, cursor, depth, out)?;
            }
        }
        out.push(brackets[1]);
        Ok(())
    }
}
