//! Values of partition columns: taken from the directories that a file lies in, written as the log has them.
//!
//! Pure. Directories are named as those of other tables (`date=2026-02-17/`), and nobody but us reads them there: readers take
//! the values out of the log. A time is written with its zone, since without one Spark takes it for a time of the session.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::delta::columns::Columns;
use crate::storage::paths;

/// The values of the partition columns of a file.
///
/// # Errors
/// When its directories are not those of the columns.
pub fn values(path: &str, columns: &Columns) -> Result<BTreeMap<String, Option<String>>, String> {
    let directories: BTreeMap<_, _> = path.split('/').filter_map(paths::parse_directory).collect();
    let mut values = BTreeMap::new();
    for column in columns.partition_by() {
        let value = directories.get(column).ok_or_else(|| format!("{path} does not say what its {column} is"))?;
        let is_utc = columns.type_of(column).and_then(Value::as_str) == Some("timestamp");
        let value = value.as_ref().map(|value| if is_utc { with_zone(value) } else { value.clone() });
        values.insert(column.clone(), value);
    }
    Ok(values)
}

/// `2026-02-17 14:00:00.5` as `2026-02-17T14:00:00.500000Z`.
fn with_zone(time: &str) -> String {
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    format!("{}.{fraction:0<6}Z", seconds.replacen(' ', "T", 1))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};

    use super::*;

    #[test]
    fn the_directories_of_a_file_say_what_its_partition_columns_are() {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let local = DataType::Timestamp(TimeUnit::Microsecond, None);
        let fields = [("code", DataType::Utf8), ("at", utc), ("local", local), ("n", DataType::Int64)];
        let schema = Schema::new(fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec());
        let by: Vec<_> = ["code", "at", "local"].map(str::to_owned).to_vec();
        let columns = Columns::of(&schema, &by).unwrap();
        let of = |path: &str| {
            let values = values(path, &columns)?;
            Ok::<_, String>(
                by.iter().map(|column| values[column].clone().unwrap_or("NULL".to_owned())).collect::<Vec<_>>(),
            )
        };
        let path = "code=a%2Fb%3D/at=2026-02-17 14%3A00%3A00.5/local=2026-02-17 14%3A00%3A00/x.parquet";
        assert_eq!(of(path).unwrap(), ["a/b=", "2026-02-17T14:00:00.500000Z", "2026-02-17 14:00:00"]);
        let nulls =
            "code=__HIVE_DEFAULT_PARTITION__/at=2026-02-17 14%3A00%3A00/local=__HIVE_DEFAULT_PARTITION__/x.parquet";
        assert_eq!(of(nulls).unwrap(), ["NULL", "2026-02-17T14:00:00.000000Z", "NULL"]);
        assert!(of("code=a/x.parquet").unwrap_err().contains("what its at is"));
    }
}
