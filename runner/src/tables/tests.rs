//! Tables as people have them: folders, files of several writers, and columns that come and go.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, DictionaryArray, Float32Array, Float64Array, Int32Array, Int64Array, LargeStringArray, NullArray,
    RecordBatch, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray,
};
use datafusion::arrow::datatypes::Int32Type;
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::schema::TableSchema;
use super::{Kind, Place, Table, TimeRange};

mod int96;
mod remote;

const HOUR: i64 = 3_600_000_000;

/// Writes a file of these columns.
fn write(file: &Path, columns: Vec<(&str, ArrayRef)>) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)));
    let batch = batch.unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(100)).build();
    let mut writer = ArrowWriter::try_new(File::create(file).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn numbers(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn times(micros: &[i64]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(micros.to_vec()).with_timezone("UTC"))
}

fn range(start: i64, end: i64) -> Option<TimeRange> {
    Some(TimeRange { column: "at".to_owned(), start, end, date_column: None })
}

/// The rows of a SELECT over the table `t`, sorted, and its plan.
fn ask(folder: &Path, range: Option<TimeRange>, sql: &str, partitions: usize) -> Result<(Vec<String>, String), String> {
    ask_place(&Place::Folder(folder.to_owned()), range, sql, partitions)
}

fn ask_place(
    place: &Place,
    range: Option<TimeRange>,
    sql: &str,
    partitions: usize,
) -> Result<(Vec<String>, String), String> {
    let table = Table::new(place.clone()).open(range).map_err(|error| error.strip_backtrace())?;
    ask_open(table, sql, partitions)
}

fn ask_open(table: super::OpenTable, sql: &str, partitions: usize) -> Result<(Vec<String>, String), String> {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions));
    context.register_table("t", Arc::new(table)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let frame = context.sql(sql).await.map_err(|error| error.strip_backtrace())?;
        let plan = frame.clone().create_physical_plan().await.map_err(|error| error.strip_backtrace())?;
        let plan = displayable(plan.as_ref()).indent(true).to_string();
        let batches = frame.collect().await.map_err(|error| error.strip_backtrace())?;
        let mut rows: Vec<String> = Vec::new();
        for batch in batches {
            let cell = |array: &ArrayRef, row: usize| {
                if array.is_null(row) { "NULL".to_owned() } else { array_value_to_string(array, row).unwrap() }
            };
            let row = |row| batch.columns().iter().map(|array| cell(array, row)).collect::<Vec<_>>().join(" ");
            rows.extend((0..batch.num_rows()).map(row));
        }
        rows.sort();
        Ok((rows, plan))
    })
}

fn rows(folder: &Path, sql: &str) -> Result<Vec<String>, String> {
    let one = ask(folder, None, sql, 1)?.0;
    let four = ask(folder, None, sql, 4)?.0;
    assert_eq!(one, four, "{sql}");
    Ok(one)
}

#[test]
fn directories_keep_their_text_and_win_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    for (directory, n) in [("+49", 1), ("1", 2), ("2026-01-01", 3), ("-07", 4), ("a%2Fb", 5)] {
        write(&at(&format!("k={directory}/x.parquet")), vec![("n", numbers(&[n])), ("k", numbers(&[7]))]);
    }
    write(&at("k=__HIVE_DEFAULT_PARTITION__/x.parquet"), vec![("n", numbers(&[6])), ("k", numbers(&[7]))]);
    let found = rows(folder.path(), "SELECT n, k FROM t").unwrap();
    assert_eq!(found, ["1 +49", "2 1", "3 2026-01-01", "4 -07", "5 a/b", "6 NULL"]);
    assert_eq!(rows(folder.path(), "SELECT n FROM t WHERE k = '+49'").unwrap(), ["1"]);
    assert_eq!(rows(folder.path(), "SELECT n FROM t WHERE k IS NULL").unwrap(), ["6"]);
    assert_eq!(rows(folder.path(), "SELECT count(*) FROM t").unwrap(), ["6"]);
    assert_eq!(rows(folder.path(), "SELECT max(n) FROM t WHERE k IN ('1', '-07')").unwrap(), ["4"]);
    // Only the file whose directory fits is in the plan.
    let (_, plan) = ask(folder.path(), None, "SELECT n FROM t WHERE k = '+49' AND n > 0", 1).unwrap();
    assert!(plan.contains("k=+49") && !plan.contains("k=1/"), "{plan}");
}

#[test]
fn directories_have_the_type_that_the_writer_declared() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("t");
    let beside = folder.path().join("_dataplatform/t");
    for (directory, n) in
        [("date=2026-02-15/hour=07", 1), ("date=2026-02-16/hour=+8", 2), ("date=2026-02-17/hour=9", 3)]
    {
        write(&table.join(directory).join("x.parquet"), vec![("n", numbers(&[n])), ("at", times(&[n]))]);
    }
    let text = rows(&table, "SELECT arrow_typeof(date), arrow_typeof(hour), hour FROM t").unwrap();
    assert_eq!(text, ["Utf8 Utf8 +8", "Utf8 Utf8 07", "Utf8 Utf8 9"]);
    std::fs::create_dir_all(&beside).unwrap();
    let declare =
        |columns: &str| std::fs::write(beside.join("schema.json"), format!("{{\"columns\":[{columns}]}}")).unwrap();
    let date = r#"{"name":"date","type":"date","directory":true}"#;
    let hour = r#"{"name":"hour","type":"int","directory":true}"#;
    declare(&format!("{date},{hour}"));
    let typed = rows(&table, "SELECT arrow_typeof(date), arrow_typeof(hour), hour FROM t").unwrap();
    assert_eq!(typed, ["Date32 Int32 7", "Date32 Int32 8", "Date32 Int32 9"]);
    assert_eq!(rows(&table, "SELECT n FROM t WHERE date > DATE '2026-02-15' AND hour < 9").unwrap(), ["2"]);
    // Nothing says that the date is that of a time: rows are found wherever they lie.
    let within = |column: &str| TimeRange { date_column: Some(column.to_owned()), ..range(0, HOUR).unwrap() };
    let found = |range| ask(&table, Some(range), "SELECT n FROM t", 1).unwrap().0;
    assert_eq!(found(within("date")), ["1", "2", "3"]);
    declare(&format!(r#"{},{hour}"#, date.replace("true}", "true,\"utcDateOf\":[\"at\"]}")));
    assert_eq!(found(within("date")), [] as [&str; 0]);
    assert_eq!(found(range(0, HOUR).unwrap()), [] as [&str; 0]);
    assert_eq!(found(within("day")), ["1", "2", "3"], "another directory is to choose by");
    let day = 1_771_200_000_000_000;
    write(&table.join("date=2026-02-16/hour=1/y.parquet"), vec![("n", numbers(&[4])), ("at", times(&[day]))]);
    assert_eq!(found(range(day, day + HOUR).unwrap()), ["4"]);
    // A table is known by any of its files where none may hold rows of the time.
    assert!(Table::from(table.clone()).open(range(9 * day, 10 * day)).unwrap().is_known());
    std::fs::rename(table.join("date=2026-02-17/hour=9"), table.join("date=2026-02-17/hour=nine")).unwrap();
    let error = rows(&table, "SELECT n FROM t").unwrap_err();
    assert!(error.contains("the directory hour=nine is no Int32"), "{error}");
    std::fs::write(beside.join("schema.json"), "{").unwrap();
    let error = rows(&table, "SELECT n FROM t").unwrap_err();
    assert!(error.contains("_dataplatform/t/schema.json cannot be read"), "{error}");
}

#[test]
fn a_table_that_was_partitioned_later_has_the_column_of_both() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    write(&at("old.parquet"), vec![("n", numbers(&[1])), ("day", texts(&["mon"]))]);
    write(&at("older.parquet"), vec![("n", numbers(&[2]))]);
    write(&at("day=tue/new.parquet"), vec![("n", numbers(&[3]))]);
    write(&at("day=wed/hour=07/new.parquet"), vec![("n", numbers(&[4]))]);
    let found = rows(folder.path(), "SELECT n, day, hour FROM t").unwrap();
    assert_eq!(found, ["1 mon NULL", "2 NULL NULL", "3 tue NULL", "4 wed 07"]);
    assert_eq!(rows(folder.path(), "SELECT n FROM t WHERE day <> 'tue'").unwrap(), ["1", "4"]);
    assert_eq!(rows(folder.path(), "SELECT day, count(*) FROM t GROUP BY day HAVING day > 'm'").unwrap().len(), 3);
}

#[test]
fn columns_that_changed_are_one_column_or_an_error_that_names_both_files() {
    let v = |array: ArrayRef| vec![("id", texts(&["a"])), ("v", array)];
    let dictionary: DictionaryArray<Int32Type> = vec!["a"].into_iter().collect();
    let berlin = TimestampMicrosecondArray::from(vec![HOUR]).with_timezone("Europe/Berlin");
    let millis = TimestampMillisecondArray::from(vec![HOUR / 1000]).with_timezone("UTC");
    type Case = (&'static str, ArrayRef, ArrayRef, Result<[&'static str; 2], &'static str>);
    let cases: Vec<Case> = vec![
        ("widened", Arc::new(Int32Array::from(vec![1])), numbers(&[1 << 40]), Ok(["1", "1099511627776"])),
        ("narrowed", numbers(&[1 << 40]), Arc::new(Int32Array::from(vec![1])), Ok(["1", "1099511627776"])),
        ("float", Arc::new(Float32Array::from(vec![0.5])), Arc::new(Float64Array::from(vec![0.1])), Ok(["0.1", "0.5"])),
        ("millis", Arc::new(millis), times(&[1]), Ok(["1970-01-01T00:00:00.000001Z", "1970-01-01T01:00:00Z"])),
        ("zones", Arc::new(berlin), times(&[1]), Ok(["1970-01-01T00:00:00.000001Z", "1970-01-01T01:00:00Z"])),
        ("long texts", Arc::new(LargeStringArray::from(vec!["a"])), texts(&["b"]), Ok(["a", "b"])),
        ("dictionary", Arc::new(dictionary), texts(&["b"]), Ok(["a", "b"])),
        ("nulls", Arc::new(NullArray::new(1)), numbers(&[2]), Ok(["2", "NULL"])),
        (
            "to double",
            numbers(&[1]),
            Arc::new(Float64Array::from(vec![2.5])),
            Err("v is Int64 in 0.parquet and Float64"),
        ),
        (
            "without zone",
            Arc::new(TimestampMicrosecondArray::from(vec![1])),
            times(&[1]),
            Err("the column v is Timestamp(µs) in 0.parquet and Timestamp(µs, \"UTC\") in 1.parquet"),
        ),
    ];
    for (name, first, second, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("0.parquet"), v(first));
        write(&folder.path().join("1.parquet"), v(second));
        match (rows(folder.path(), "SELECT v FROM t"), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{name}"),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{name}: {error}"),
            (found, expected) => panic!("{name}: {found:?}, not {expected:?}"),
        }
    }
    // A later column is null in older files, one that went is null in newer ones, and the order does not matter.
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("0.parquet"), vec![("id", texts(&["a"])), ("w", numbers(&[1]))]);
    write(&folder.path().join("1.parquet"), vec![("v", numbers(&[2])), ("id", texts(&["b"]))]);
    assert_eq!(rows(folder.path(), "SELECT id, v, w FROM t").unwrap(), ["a NULL 1", "b 2 NULL"]);
    assert_eq!(rows(folder.path(), "SELECT id FROM t WHERE v IS NULL").unwrap(), ["a"]);
}

#[test]
fn rows_of_a_time_are_chosen_by_the_time_whatever_the_directories_say() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    let late: Vec<i64> = (0..1_000).map(|i| i * HOUR / 100).collect();
    write(&at("date=1970-01-02/late.parquet"), vec![("at", times(&late)), ("n", numbers(&late))]);
    write(&at("date=1970-01-01/same.parquet"), vec![("at", times(&[HOUR, 2 * HOUR])), ("n", numbers(&[1, 2]))]);
    let millis = TimestampMillisecondArray::from(vec![HOUR / 1000, HOUR / 500]);
    write(&at("date=1969-12-31/zoneless.parquet"), vec![("n", numbers(&[3, 4]))]);
    let count = |start, end| {
        let one = ask(folder.path(), range(start, end), "SELECT count(*), min(n), max(n) FROM t", 1).unwrap();
        let four = ask(folder.path(), range(start, end), "SELECT count(*), min(n), max(n) FROM t", 4).unwrap();
        assert_eq!(one.0, four.0);
        one
    };
    let (found, plan) = count(HOUR, 2 * HOUR);
    assert_eq!(found, [format!("101 1 {}", 2 * HOUR - HOUR / 100)]);
    assert!(plan.contains("pruning_predicate=at_null_count"), "{plan}");
    assert_eq!(count(100 * HOUR, 101 * HOUR).0, ["0 NULL NULL"]);
    assert_eq!(count(-HOUR, 0).0, ["0 NULL NULL"]);
    // Only the column that is asked for comes out, also where the time is not.
    let (found, _) = ask(folder.path(), range(2 * HOUR, 2 * HOUR + 1), "SELECT * FROM (SELECT n FROM t)", 1).unwrap();
    assert_eq!(found, ["2", &(2 * HOUR).to_string()]);
    // Without a zone it is UTC; one table has one kind.
    let other = tempfile::tempdir().unwrap();
    write(&other.path().join("a.parquet"), vec![("at", Arc::new(millis)), ("n", numbers(&[5, 6]))]);
    assert_eq!(ask(other.path(), range(2 * HOUR, 3 * HOUR), "SELECT n FROM t", 1).unwrap().0, ["6"]);
    let text = tempfile::tempdir().unwrap();
    write(&text.path().join("a.parquet"), vec![("at", texts(&["1970"]))]);
    assert!(ask(text.path(), range(0, 1), "SELECT 1 FROM t", 1).unwrap_err().contains("not a timestamp"));
    let error = Table::from(folder.path().to_owned()).open(Some(TimeRange {
        column: "when".to_owned(),
        start: 0,
        end: 1,
        date_column: None,
    }));
    assert!(error.unwrap_err().to_string().contains("has no column when; it has n, at, date"));
}

#[test]
fn conditions_of_a_query_see_only_the_rows_of_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let hours: Vec<i64> = (0..240).map(|i| i * HOUR / 10).collect();
    let words: Vec<String> =
        (0..240).map(|i| if i / 10 == 7 { i.to_string() } else { "no number".to_owned() }).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    write(
        &folder.path().join("day.parquet"),
        vec![("at", times(&hours)), ("word", texts(&words)), ("n", numbers(&hours))],
    );
    for partitions in [1, 4] {
        for sql in [
            "SELECT word FROM t WHERE CAST(word AS BIGINT) > 75",
            "SELECT word FROM t WHERE 76 <= CAST(word AS BIGINT) AND n > 0",
            "SELECT word FROM (SELECT word, CAST(word AS BIGINT) AS number FROM t WHERE at IS NOT NULL) WHERE number > 75",
            "SELECT a.word FROM t AS a JOIN t AS b ON a.n = b.n WHERE CAST(b.word AS BIGINT) > 75",
        ] {
            let (found, plan) = ask(folder.path(), range(7 * HOUR, 8 * HOUR), sql, partitions).unwrap();
            assert_eq!(found, ["76", "77", "78", "79"], "{sql}: {plan}");
        }
        let whole = ask(folder.path(), range(0, 24 * HOUR), "SELECT count(*) FROM t", partitions).unwrap().0;
        assert_eq!(whole, ["240"]);
    }
}

#[test]
fn what_cannot_be_listed_or_read_is_an_error_and_never_empty() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("t");
    let opened = |path: &Path| Table::from(path.to_owned()).open(None);
    // Nobody has written it.
    assert!(!opened(&table).unwrap().is_known());
    write(&table.join("a.parquet"), vec![("n", numbers(&[1]))]);
    assert!(opened(&table).unwrap().is_known());
    for (name, target) in [("gone", "nowhere"), ("circle", "circle")] {
        std::os::unix::fs::symlink(target, table.join(name)).unwrap();
        let error = opened(&table).unwrap_err().strip_backtrace();
        assert!(error.contains(&format!("t/{name} cannot be read")), "{error}");
        assert!(Table::from(table.clone()).files().is_err());
        std::fs::remove_file(table.join(name)).unwrap();
    }
    std::fs::write(folder.path().join("file"), b"").unwrap();
    let error = opened(&folder.path().join("file")).unwrap_err().strip_backtrace();
    assert!(error.contains("/file is not a whole Parquet file"), "{error}");
    // A link to a folder is a folder, and what begins with a dot or an underscore is not looked at.
    std::os::unix::fs::symlink("nowhere", table.join("_gone")).unwrap();
    std::os::unix::fs::symlink("nowhere", table.join(".gone")).unwrap();
    write(&folder.path().join("other/b.parquet"), vec![("n", numbers(&[2]))]);
    std::os::unix::fs::symlink("../other", table.join("linked")).unwrap();
    assert_eq!(rows(&table, "SELECT n FROM t").unwrap(), ["1", "2"]);
    let whole = std::fs::read(table.join("a.parquet")).unwrap();
    std::fs::write(table.join("half.parquet"), &whole[..whole.len() / 2]).unwrap();
    let error = opened(&table).unwrap_err().strip_backtrace();
    assert!(error.contains("half.parquet is not a whole Parquet file"), "{error}");
}

#[test]
fn names_that_mean_something_in_a_url_are_names() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("a b#1?x=%41");
    for (number, name) in ["x#1.parquet", "x?.parquet", "x%2F.parquet", "x+ .parquet", "é.parquet"].iter().enumerate()
    {
        write(&table.join(name), vec![("n", numbers(&[i64::try_from(number).unwrap()]))]);
    }
    assert_eq!(rows(&table, "SELECT n FROM t").unwrap(), ["0", "1", "2", "3", "4"]);
}

#[test]
fn a_file_of_a_folder_that_another_one_took_the_place_of_is_never_read_as_half_of_both() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.parquet");
    let both = "SELECT (SELECT count(*) FROM t), (SELECT sum(n) FROM t)";
    let said = format!("read {}: it was replaced or removed while it was read", file.display());
    let open = || Table::new(Place::Folder(folder.path().to_owned())).open(None).unwrap();
    // Another file, of another and of the same length; the same one, written anew.
    let renamed = |values: &[i64]| {
        let other = folder.path().join("_other");
        write(&other, vec![("n", numbers(values))]);
        std::fs::rename(other, &file).unwrap();
    };
    write(&file, vec![("n", numbers(&[1, 2]))]);
    let changes: [&dyn Fn(); 3] = [&|| renamed(&[100, 200, 300]), &|| renamed(&[101, 200, 300]), &|| {
        write(&file, vec![("n", numbers(&[7, 8, 9, 10]))])
    }];
    for (number, change) in changes.into_iter().enumerate() {
        for partitions in [1, 4] {
            assert!(ask_open(open(), both, partitions).is_ok());
        }
        let table = open();
        // What the file system notes of times is no finer than some milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(20));
        change();
        let asked = ask_open(table, both, 2).unwrap_err();
        assert!(asked.contains(&said), "{number}: {asked}");
    }
    let table = open();
    std::fs::remove_file(&file).unwrap();
    let asked = ask_open(table, both, 2).unwrap_err();
    assert!(asked.contains(&said), "{asked}");
}

#[test]
fn many_files_are_read_as_one_table() {
    let folder = tempfile::tempdir().unwrap();
    for file in 0..300 {
        write(&folder.path().join(format!("{file:03}.parquet")), vec![("n", numbers(&[file]))]);
    }
    assert_eq!(rows(folder.path(), "SELECT count(*), sum(n), count(DISTINCT n) FROM t").unwrap(), ["300 44850 300"]);
    let (_, plan) = ask(folder.path(), None, "SELECT n + 1 FROM t", 4).unwrap();
    assert!(plan.contains("file_groups={4 groups"), "{plan}");
}

#[test]
fn csv_of_a_job_is_read_beside_parquet_and_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("t");
    write(&table.join("b.parquet"), vec![("n", numbers(&[3])), ("at", times(&[HOUR]))]);
    let csv = "at,n\r\n1970-01-01T00:00:00Z,1\r\n1970-01-01T01:00:00Z,2\r\n";
    std::fs::write(table.join("a.csv"), csv).unwrap();
    let sql = "SELECT n, at FROM t";
    let (rows, _) = ask(&table, None, sql, 2).unwrap();
    assert_eq!(rows.len(), 1, "CSV that nobody told of may be anything: {rows:?}");
    let beside = folder.path().join("_dataplatform/t");
    std::fs::create_dir_all(&beside).unwrap();
    let told = r#"{"columns":[{"name":"n","type":"bigint"},{"name":"at","type":"timestamp"}]}"#;
    std::fs::write(beside.join("schema.json"), told).unwrap();
    for partitions in [1, 4] {
        assert_eq!(ask(&table, None, sql, partitions).unwrap().0.len(), 3);
        let (rows, _) = ask(&table, range(HOUR, 2 * HOUR), "SELECT n FROM t", partitions).unwrap();
        assert_eq!(rows, ["2", "3"]);
        assert_eq!(ask(&table, range(HOUR, 2 * HOUR), "SELECT count(*) FROM t", partitions).unwrap().0, ["2"]);
    }
}

#[test]
fn csv_of_somebody_else_is_text_where_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.csv"), "n,note\n07,\n").unwrap();
    let table = || Table::from(folder.path().to_owned());
    assert!(!table().open(None).unwrap().is_known());
    let opened = table().with_text(Kind::Csv).open(None).unwrap();
    assert!(opened.is_known());
    let schema = datafusion::catalog::TableProvider::schema(&opened);
    assert_eq!(*schema.field(0).data_type(), datafusion::arrow::datatypes::DataType::Utf8);
    let error =
        table().with_text(Kind::Csv).open(Some(TimeRange { column: "n".to_owned(), ..range(0, HOUR).unwrap() }));
    assert!(error.unwrap_err().to_string().contains("the column n is of type Utf8, not a timestamp"));
}

#[test]
fn a_table_without_a_file_has_the_columns_that_its_writer_tells() {
    let folder = tempfile::tempdir().unwrap();
    let (table, beside) = (folder.path().join("t"), folder.path().join("_dataplatform/t"));
    std::fs::create_dir_all(&beside).unwrap();
    let tell =
        |columns: &str| std::fs::write(beside.join("schema.json"), format!("{{\"columns\":[{columns}]}}")).unwrap();
    let columns = r#"{"name":"n","type":"bigint"},{"name":"at","type":"timestamp"},{"name":"tags","type":"array<string>"},
        {"name":"date","type":"date","directory":true}"#;
    tell(columns);
    let opened = Table::from(table.clone()).open(range(0, HOUR)).unwrap();
    assert!(opened.is_known());
    let sql = "SELECT count(*), count(n), count(tags[1]), max(date) FROM t";
    assert_eq!(ask(&table, range(0, HOUR), sql, 2).unwrap().0, ["0 0 0 NULL"]);
    let error =
        Table::from(table.clone()).open(range(0, HOUR).map(|range| TimeRange { column: "n".to_owned(), ..range }));
    assert!(error.unwrap_err().to_string().contains("not a timestamp"));
    // A type without a name in our notation: nobody knows the columns.
    tell(&columns.replace("array<string>", "Interval(DayTime)"));
    assert!(!Table::from(table.clone()).open(None).unwrap().is_known());
    // Once there is a file, it says what it has.
    tell(columns);
    write(&table.join("date=1970-01-01/a.parquet"), vec![("n", numbers(&[1])), ("at", times(&[5]))]);
    assert!(ask(&table, None, "SELECT tags FROM t", 1).unwrap_err().contains("tags"));
    assert_eq!(ask(&table, range(0, HOUR), "SELECT n FROM t", 1).unwrap().0, ["1"]);
}

#[test]
fn ndjson_has_the_columns_that_its_reader_declares_also_without_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let columns = TableSchema::declared([("n", "bigint".to_owned())]);
    let table = |kind| Table::from(folder.path().join("none")).with_text(kind).with_columns(columns.clone());
    assert!(table(Kind::Ndjson).open(None).unwrap().is_known());
    assert!(!table(Kind::Csv).open(None).unwrap().is_known(), "a file may have more");
}
