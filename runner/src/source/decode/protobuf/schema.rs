//! Descriptors: compiled from the text of a schema and of what it imports, or read from a descriptor set.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, FileDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use crate::source::schemas::WriterSchema;

/// Name of the schema itself among the files that it imports.
const MAIN: &str = "schema.proto";

/// Texts of imports by their names.
struct Texts(HashMap<String, String>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(text) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// The descriptors of a schema, and the file that is the schema itself, unless it came as a set.
///
/// # Errors
/// A sentence on what is wrong.
pub(in crate::source::decode) fn pool(
    schema: &WriterSchema,
) -> Result<(DescriptorPool, Option<FileDescriptor>), String> {
    if let Some(set) = &schema.descriptors {
        let pool = DescriptorPool::decode(set.as_slice()).map_err(|error| format!("no descriptor set: {error}"))?;
        return Ok((pool, None));
    }
    let mut texts: HashMap<String, String> = schema.references.iter().cloned().collect();
    texts.insert(MAIN.to_owned(), schema.text.clone());
    let mut resolver = ChainFileResolver::new();
    resolver.add(Texts(texts));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    compiler.open_file(MAIN).map_err(|error| error.to_string())?;
    let pool = compiler.descriptor_pool();
    let file = pool.get_file_by_name(MAIN);
    Ok((pool, file))
}
