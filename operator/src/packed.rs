//! [`Packed`]: text that is much like other text, in little memory. The objects of a thousand jobs differ in a name here and a
//! time there: each is kept as what it differs by from the first one of its kind (LZ4 with that one as its dictionary).

use std::sync::OnceLock;

use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};

/// The first text of a kind, by which the others are told. It stays as long as the process.
#[derive(Debug, Default)]
pub struct Dictionary(OnceLock<Box<str>>);

/// A text, as what it differs by from the one in a [`Dictionary`]: equal ones are equal texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed(Box<[u8]>);

impl Dictionary {
    /// One without a text: the first that is packed becomes it.
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Packs a text.
    pub fn pack(&self, text: &str) -> Packed {
        let first = self.0.get_or_init(|| text.into());
        Packed(compress_prepend_size_with_dict(text.as_bytes(), first.as_bytes()).into_boxed_slice())
    }

    /// The text that was packed here.
    pub fn unpack(&self, packed: &Packed) -> String {
        let first = self.0.get().map_or("", |first| first);
        let bytes = decompress_size_prepended_with_dict(&packed.0, first.as_bytes());
        bytes
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .expect("it was packed from a text by this dictionary")
    }
}

impl Packed {
    /// How much it takes, in bytes.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_and_what_is_like_the_first_takes_little() {
        let dictionary = Dictionary::new();
        let object = |i: usize| {
            let columns: Vec<String> = (0..100).map(|column| format!(r#"{{"name":"column-{column}"}}"#)).collect();
            format!(r#"{{"metadata":{{"name":"job-{i:05}","uid":"{i:x}"}},"spec":[{}]}}"#, columns.join(","))
        };
        for i in 0..100 {
            let packed = dictionary.pack(&object(i));
            assert_eq!(dictionary.unpack(&packed), object(i));
            assert!(packed.len() * 10 < object(i).len(), "{} of {}", packed.len(), object(i).len());
            assert_eq!(packed, dictionary.pack(&object(i)));
            assert_ne!(packed, dictionary.pack(&object(i + 1)));
        }
        for text in ["", "x", "{}", "ä€🙂", &"y".repeat(1 << 20)] {
            assert_eq!(dictionary.unpack(&dictionary.pack(text)), text);
        }
        let empty = Dictionary::new();
        assert_eq!(empty.unpack(&empty.pack("")), "");
        assert_eq!(empty.unpack(&empty.pack("text")), "text");
    }
}
