//! What a file of a table holds, by its name. Pure.

use crate::storage::paths;

/// What a file holds, and how it is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileFormat {
    pub(crate) kind: Kind,
    pub(crate) packing: Packing,
}

/// What the bytes of a file are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Parquet,
    /// CSV with a header.
    Csv,
    /// A JSON object in each line.
    Ndjson,
}

impl Kind {
    /// What people call such files.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Parquet => "Parquet",
            Self::Csv => "CSV",
            Self::Ndjson => "NDJSON",
        }
    }
}

/// How a file of text is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    #[default]
    None,
    Gzip,
    Zstd,
}

impl Packing {
    /// How names of such files end, behind what they hold.
    pub(crate) fn ending(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => "gz",
            Self::Zstd => "zst",
        }
    }

    /// By the end of a name.
    pub(crate) fn of_ending(ending: &str) -> Self {
        [Self::Gzip, Self::Zstd].into_iter().find(|packing| packing.ending() == ending).unwrap_or_default()
    }
}

/// Which files belong to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Formats {
    parquet: bool,
    csv: bool,
    ndjson: bool,
}

impl Formats {
    pub(crate) const PARQUET: Self = Self { parquet: true, csv: false, ndjson: false };
    pub(crate) const ALL: Self = Self { parquet: true, csv: true, ndjson: true };

    /// These, and one more.
    #[must_use]
    pub(crate) fn with(mut self, kind: Kind) -> Self {
        match kind {
            Kind::Parquet => self.parquet = true,
            Kind::Csv => self.csv = true,
            Kind::Ndjson => self.ndjson = true,
        }
        self
    }

    /// One alone.
    pub(crate) fn only(kind: Kind) -> Self {
        Self { parquet: false, csv: false, ndjson: false }.with(kind)
    }

    pub(crate) fn has_ndjson(self) -> bool {
        self.ndjson
    }

    /// What a file holds; `None`: it is none of these.
    pub(crate) fn format_of(self, name: &str) -> Option<FileFormat> {
        let format = FileFormat::of(name)?;
        let is_wanted = match format.kind {
            Kind::Parquet => self.parquet,
            Kind::Csv => self.csv,
            Kind::Ndjson => self.ndjson,
        };
        is_wanted.then_some(format)
    }
}

impl FileFormat {
    /// By the endings of a name; `None`: it says nothing.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let (rest, packing) = match name.rsplit_once('.') {
            Some((rest, ending)) if Packing::of_ending(ending) != Packing::None => (rest, Packing::of_ending(ending)),
            _ => (name, Packing::None),
        };
        let kind = match rest.rsplit_once('.')?.1 {
            // Parquet packs its own columns.
            paths::PARQUET if packing == Packing::None => Kind::Parquet,
            paths::CSV => Kind::Csv,
            paths::NDJSON => Kind::Ndjson,
            _ => return None,
        };
        Some(Self { kind, packing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endings_of_a_name_say_what_is_in_it() {
        let format = |kind, packing| Some(FileFormat { kind, packing });
        for (name, expected) in [
            ("a.parquet", format(Kind::Parquet, Packing::None)),
            ("a.csv", format(Kind::Csv, Packing::None)),
            ("a.b.csv.gz", format(Kind::Csv, Packing::Gzip)),
            ("a.ndjson.zst", format(Kind::Ndjson, Packing::Zstd)),
            ("a.parquet.gz", None),
            ("a.gz", None),
            ("csv", None),
            ("a.json", None),
        ] {
            assert_eq!(FileFormat::of(name), expected, "{name}");
        }
        assert_eq!(Formats::PARQUET.format_of("a.csv"), None);
        assert!(Formats::PARQUET.with(Kind::Csv).format_of("a.csv.gz").is_some());
        assert_eq!(Formats::only(Kind::Ndjson).format_of("a.parquet"), None);
    }
}
