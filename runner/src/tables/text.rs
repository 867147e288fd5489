//! Bytes of files of text, unpacked as they are read: `.gz` of several members and `.zst` of several frames, too.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};

use bytes::Bytes;
use datafusion::common::exec_datafusion_err;
use datafusion::error::DataFusionError;

use super::format::Packing;
use super::place::FileAt;
use super::remote::RemoteBytes;
use crate::storage::StoreError;

/// Why rows of a file of text cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TextError {
    /// Its bytes do not come.
    #[error("{file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// What happened.
        source: Error,
    },
    /// What stands there is not what it should be; where and what.
    #[error("{0}")]
    Wrong(String),
}

impl From<TextError> for DataFusionError {
    fn from(error: TextError) -> Self {
        match &error {
            TextError::Read { source, .. } if of_store(source) => Self::External(Box::new(error)),
            _ => exec_datafusion_err!("{error}"),
        }
    }
}

impl From<TextError> for String {
    fn from(error: TextError) -> Self {
        error.to_string()
    }
}

fn of_store(error: &Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<StoreError>())
}

impl FileAt {
    /// Its bytes from the beginning, unpacked. Blocks.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn open(&self, packing: Packing) -> std::result::Result<Box<dyn Read + Send>, TextError> {
        let bytes: Box<dyn Read + Send> = match self {
            Self::Local(path) => {
                let opened = File::open(path);
                Box::new(opened.map_err(|source| TextError::Read { file: self.to_string(), source })?)
            }
            Self::Remote(file) => Box::new(RemoteBytes::new(file)),
        };
        unpacked(&self.to_string(), bytes, packing)
    }

    /// All its bytes, as they are. Blocks.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn content(&self) -> std::result::Result<Bytes, TextError> {
        let failed = |source| TextError::Read { file: self.to_string(), source };
        match self {
            Self::Local(path) => std::fs::read(path).map(Bytes::from).map_err(failed),
            Self::Remote(file) => file.whole().map_err(|error| failed(Error::other(error))),
        }
    }
}

/// Bytes of a file, unpacked as they are read.
pub(crate) fn unpacked(
    file: &str,
    bytes: Box<dyn Read + Send>,
    packing: Packing,
) -> std::result::Result<Box<dyn Read + Send>, TextError> {
    Ok(match packing {
        Packing::None => bytes,
        Packing::Gzip => Box::new(Unpacked { bytes: flate2::read::MultiGzDecoder::new(bytes), what: "gzip" }),
        Packing::Zstd => {
            let opened = zstd::stream::read::Decoder::new(bytes);
            let bytes = opened.map_err(|source| TextError::Read { file: file.to_owned(), source })?;
            Box::new(Unpacked { bytes, what: "zstd" })
        }
    })
}

/// Bytes that are unpacked, with words for what may be wrong with them.
struct Unpacked<R> {
    bytes: R,
    what: &'static str,
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let what = self.what;
        self.bytes.read(into).map_err(|error| match error.kind() {
            _ if of_store(&error) => error,
            ErrorKind::UnexpectedEof => Error::new(
                ErrorKind::UnexpectedEof,
                format!("its {what} data are cut off: the file was not written or copied to its end; bring it anew"),
            ),
            kind => Error::new(kind, format!("its {what} data are damaged ({error}): bring the file anew")),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(text).unwrap();
        packed.finish().unwrap()
    }

    fn read(bytes: &[u8], packing: Packing) -> std::result::Result<Vec<u8>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut text = Vec::new();
        let mut opened = FileAt::from(file.path()).open(packing)?;
        opened.read_to_end(&mut text).map_err(|error| error.to_string())?;
        Ok(text)
    }

    #[test]
    fn several_members_and_frames_are_one_text() {
        let zstd = |text: &[u8]| zstd::encode_all(text, 1).unwrap();
        let text = vec![b'x'; 300_000];
        assert_eq!(read(&[gzip(&text), gzip(b"y")].concat(), Packing::Gzip).unwrap().len(), 300_001);
        assert_eq!(read(&[zstd(&text), zstd(b"y")].concat(), Packing::Zstd).unwrap().len(), 300_001);
        assert_eq!(read(b"plain", Packing::None).unwrap(), b"plain");
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_never_the_end() {
        let text: Vec<u8> = (0..100_000_u32).flat_map(|number| number.to_le_bytes()).collect();
        for (packed, packing, word) in
            [(gzip(&text), Packing::Gzip, "gzip"), (zstd::encode_all(&text[..], 1).unwrap(), Packing::Zstd, "zstd")]
        {
            let error = read(&packed[..packed.len() - 3], packing).unwrap_err();
            assert!(error.contains(&format!("its {word} data are cut off")), "{error}");
            let error = read(b"n,name\n1,a\n", packing).unwrap_err();
            assert!(error.contains(&format!("its {word} data are damaged")), "{error}");
        }
    }
}
