use std::fs::File;
use std::path::Path;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::parquet::arrow::ArrowWriter;

use super::*;

/// Writes a file of rows `(n, name)`.
fn write(file: &Path, rows: &[(i64, Option<&str>)]) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let numbers: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>());
    let names: ArrayRef = Arc::new(rows.iter().map(|row| row.1).collect::<StringArray>());
    let batch = RecordBatch::try_from_iter_with_nullable([("n", numbers, true), ("name", names, true)]).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(file).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn outputs() -> tempfile::TempDir {
    let outputs = tempfile::tempdir().unwrap();
    let at = |path: &str| outputs.path().join(path);
    write(&at("events/date=2026-01-01/hour=07/a.parquet"), &[(1, Some("a")), (2, None)]);
    write(&at("events/date=2026-01-02/hour=12/b.parquet"), &[(3, Some("c"))]);
    write(&at("events/_staging/x.parquet"), &[(100, Some("not to be read"))]);
    write(&at("plain/a.parquet"), &[(7, Some("x"))]);
    write(&at("left/same/a.parquet"), &[(1, None)]);
    write(&at("right/same/a.parquet"), &[(2, None)]);
    outputs
}

/// The rows of a SELECT, its values as text.
fn rows(outputs: &Path, sql: &str) -> Result<Vec<Vec<String>>, String> {
    let tables =
        Arc::new(Tables::find(&Location::Folder(outputs.to_path_buf()), false).map_err(|error| format!("{error:?}"))?);
    let text = |error| match error {
        CommandError::Other(message, code) => format!("{code}: {message}"),
        error => format!("{error:?}"),
    };
    let batches = runtime().map_err(text)?.block_on(async {
        let (stream, _) = execute(&tables, sql)?;
        let batches: Vec<_> = stream.collect().await;
        let whole = |batch: datafusion::error::Result<RecordBatch>| {
            batch.map_err(|error| refused(QueryError::from_datafusion(&error), &tables))
        };
        batches.into_iter().map(whole).collect::<Result<Vec<_>, _>>()
    });
    let batches = batches.map_err(text)?;
    let mut rows = Vec::new();
    for batch in batches {
        rows.extend(show::cells(&batch, "NULL").unwrap());
    }
    Ok(rows)
}

#[test]
fn each_folder_is_a_table_and_its_directories_are_columns() {
    let outputs = outputs();
    let found = rows(outputs.path(), "SELECT n, name, date, hour FROM events ORDER BY n").unwrap();
    assert_eq!(
        found,
        [["1", "a", "2026-01-01", "07"], ["2", "NULL", "2026-01-01", "07"], ["3", "c", "2026-01-02", "12"]]
    );
}

#[test]
fn csv_that_a_job_wrote_is_a_table_with_the_types_that_it_told() {
    let outputs = outputs();
    let put = |path: &str, text: &str| {
        let path = outputs.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put("foreign/a.csv", "n\r\n1\r\n");
    let failed = rows(outputs.path(), "SELECT n FROM foreign").unwrap_err();
    assert!(failed.contains("only text that a job wrote is read"), "{failed}");
    let columns = [
        ("n", "bigint"),
        ("price", "decimal(10,2)"),
        ("at", "timestamp"),
        ("note", "string"),
        ("tags", "array<string>"),
        ("bytes", "binary"),
    ];
    let columns = columns.map(|(name, data_type)| serde_json::json!({"name": name, "type": data_type}));
    let date = serde_json::json!({"name": "date", "type": "date", "directory": true});
    let told = serde_json::json!({"columns": columns.into_iter().chain([date]).collect::<Vec<_>>()});
    put("_dataplatform/sales/schema.json", &told.to_string());
    let header = "n,price,at,note,tags,bytes\r\n";
    let first = "1,10.50,2026-01-01T00:00:00.000001Z,\"\",\"[\"\"x\"\",null]\",00ff\r\n2,,,,,\r\n";
    put("sales/date=2026-01-01/a.csv", &format!("{header}{first}"));
    put("sales/date=2026-01-02/b.csv", "note,n\r\n\"a, \"\"b\"\"\",3\r\n");
    let found = rows(outputs.path(), "SELECT n, price, at, note, tags, bytes, date FROM sales ORDER BY n").unwrap();
    let first = ["1", "10.50", "2026-01-01 00:00:00.000001Z", "", "[\"x\",null]", "00ff", "2026-01-01"];
    let second = ["2", "NULL", "NULL", "NULL", "NULL", "NULL", "2026-01-01"];
    let third = ["3", "NULL", "NULL", "a, \"b\"", "NULL", "NULL", "2026-01-02"];
    assert_eq!(found, [first, second, third]);
    let total = "SELECT count(*), sum(n), sum(price) FROM sales WHERE date = DATE '2026-01-01'";
    assert_eq!(rows(outputs.path(), total).unwrap(), [["2", "3", "10.50"]]);
    assert_eq!(rows(outputs.path(), "SELECT count(*) FROM sales").unwrap(), [["3"]]);
    assert_eq!(rows(outputs.path(), "SELECT n FROM sales ORDER BY n LIMIT 1").unwrap(), [["1"]]);
    let listed = listing(&Tables::find(&Location::Folder(outputs.path().to_path_buf()), false).unwrap());
    assert!(listed.contains("sales") && !listed.contains("foreign"), "{listed}");
    put("sales/date=2026-01-02/c.csv", &format!("{header}seven,,,,,\r\n"));
    let failed = rows(outputs.path(), "SELECT sum(n) FROM sales").unwrap_err();
    assert!(failed.contains("c.csv: line 2: the column n: ") && failed.contains("seven"), "{failed}");
}

#[test]
fn a_select_may_join_group_and_name_parts() {
    let outputs = outputs();
    let sql = "WITH days AS (SELECT date, sum(n) AS total FROM events GROUP BY date) \
               SELECT days.date, total + p.n AS everything FROM days CROSS JOIN plain p WHERE total > 1 ORDER BY 1 DESC LIMIT 1";
    assert_eq!(rows(outputs.path(), sql).unwrap(), [["2026-01-02", "10"]]);
    assert_eq!(rows(outputs.path(), "SELECT count(*) FROM events").unwrap(), [["3"]]);
}

#[test]
fn a_name_of_with_comes_before_a_table() {
    let outputs = outputs();
    for sql in [
        "WITH events AS (SELECT 'x' AS n) SELECT n FROM events",
        "SELECT n FROM (WITH events AS (SELECT 'x' AS n) SELECT n FROM events)",
        "WITH plain AS (SELECT n FROM plain), events AS (SELECT 'x' AS n FROM plain) SELECT n FROM events",
    ] {
        assert_eq!(rows(outputs.path(), sql).unwrap(), [["x"]], "{sql}");
    }
    let outside = "SELECT n FROM plain WHERE n IN (WITH events AS (SELECT 7 AS n) SELECT n FROM events) \
                   UNION ALL SELECT n FROM events WHERE n = 3 ORDER BY n";
    assert_eq!(rows(outputs.path(), outside).unwrap(), [["3"], ["7"]]);
}

#[test]
fn the_clock_can_be_asked() {
    let outputs = outputs();
    let sql = "SELECT now() > TIMESTAMP '2026-01-01' AS a, current_date > DATE '2026-01-01' AS b, \
               current_time IS NOT NULL AS c, current_timestamp = now() AS d";
    assert_eq!(rows(outputs.path(), sql).unwrap(), [["true", "true", "true", "true"]]);
}

#[test]
fn tables_of_one_name_are_told_apart_by_their_way() {
    let outputs = outputs();
    assert_eq!(rows(outputs.path(), "SELECT n FROM \"right/same\"").unwrap(), [["2"]]);
    let listed = listing(&Tables::find(&Location::Folder(outputs.path().to_path_buf()), false).unwrap());
    for name in ["events", "plain", "left/same", "right/same"] {
        assert!(listed.contains(name), "{listed}");
    }
}

#[test]
fn files_of_different_columns_are_read_together() {
    let outputs = outputs();
    let more: ArrayRef = Arc::new(Int64Array::from(vec![5]));
    let batch = RecordBatch::try_from_iter([("n", more.clone()), ("more", more)]).unwrap();
    let file = outputs.path().join("plain/b.parquet");
    let mut writer = ArrowWriter::try_new(File::create(file).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let found = rows(outputs.path(), "SELECT n, name, more FROM plain ORDER BY n").unwrap();
    assert_eq!(found, [["5", "NULL", "5"], ["7", "x", "NULL"]]);
}

#[test]
fn what_cannot_be_asked_is_said_with_a_cure() {
    let outputs = outputs();
    std::fs::write(outputs.path().join("left/same/bad.parquet"), b"no parquet").unwrap();
    let cases = [
        ("SELECT * FROM event", "2: the query reads the table event, which is not there: did you mean events?"),
        ("SELECT nn FROM events", "nn"),
        ("SELECT * FROM", "2: the query cannot be read: expected"),
        ("DROP TABLE events", "2: query takes one SELECT"),
        ("SELECT 1; SELECT 2", "2: query takes one SELECT"),
        ("COPY events TO '/tmp/x'", "2: query takes one SELECT"),
        ("SELECT * FROM '/etc/passwd'", "/etc/passwd is no file of rows"),
        ("SELECT * FROM \"left/same\"", "bad.parquet is not a whole Parquet file"),
    ];
    for (sql, expected) in cases {
        let error = rows(outputs.path(), sql).unwrap_err();
        assert!(error.contains(expected), "{sql}: {error}");
    }
    let nowhere = rows(&outputs.path().join("nowhere"), "SELECT 1").unwrap_err();
    assert!(nowhere.contains("--outputs"), "{nowhere}");
}

#[test]
fn files_are_read_by_their_path_whatever_they_hold() {
    let outputs = outputs();
    let at = |path: &str| outputs.path().join(path);
    std::fs::write(at("users.csv"), "id,name,since\n1,a,2026-01-01\n2,\"b, c\",\n").unwrap();
    std::fs::write(at("clicks.ndjson"), "{\"id\": 1, \"at\": \"x\", \"tags\": [\"p\"]}\n{\"id\": 2}\n").unwrap();
    std::fs::create_dir_all(at("days/date=2026-01-01")).unwrap();
    std::fs::create_dir_all(at("days/date=2026-01-02")).unwrap();
    std::fs::write(at("days/date=2026-01-01/a.csv"), "n,m\n1,x\n").unwrap();
    std::fs::write(at("days/date=2026-01-02/b.csv"), "m,n,later\ny,2,3.5\n").unwrap();
    let ids = "{\"id\":18446744073709551614,\"none\":null}\n{\"id\":18446744073709551615}\n";
    std::fs::write(at("ids.ndjson.zst"), zstd::encode_all(ids.as_bytes(), 1).unwrap()).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut packed, b"n\n1\n2\n").unwrap();
    std::fs::write(at("packed.csv.gz"), packed.finish().unwrap()).unwrap();
    let file = |path: &str| at(path).display().to_string();
    for (sql, expected) in [
        (format!("SELECT id + 1, name, since FROM '{}' ORDER BY id", file("users.csv")), "2,a,2026-01-01;3,b, c,NULL"),
        (format!("SELECT id, at, tags[1] FROM '{}' ORDER BY id", file("clicks.ndjson")), "1,x,p;2,NULL,NULL"),
        (format!("SELECT sum(n) FROM '{}'", file("plain/a.parquet")), "7"),
        (format!("SELECT count(*), max(date) FROM \"{}\"", file("events")), "3,2026-01-02"),
        // A folder with directories and a column that came later.
        ("SELECT n, m, later, date FROM './days' ORDER BY n".to_owned(), "1,x,NULL,2026-01-01;2,y,3.5,2026-01-02"),
        // No two ids become one number.
        ("SELECT count(DISTINCT id), max(id) FROM './ids.ndjson.zst'".to_owned(), "2,18446744073709551615"),
        ("SELECT sum(n) FROM './packed.csv.gz'".to_owned(), "3"),
        // Below the outputs folder a short path will do.
        ("SELECT u.name FROM 'users.csv' u JOIN events e ON e.n = u.id ORDER BY 1".to_owned(), "a;b, c"),
    ] {
        let found = rows(outputs.path(), &sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let found: Vec<_> = found.iter().map(|row| row.join(",")).collect();
        assert_eq!(found.join(";"), expected, "{sql}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_what_is_wrong() {
    let outputs = outputs();
    let at = |path: &str| outputs.path().join(path);
    std::fs::write(at("array.json"), "[{\"a\": 1}]").unwrap();
    std::fs::write(at("broken.ndjson"), "{\"a\": 1}\n{\"a\": ").unwrap();
    std::fs::write(at("short.csv"), "a,b\n1\n").unwrap();
    std::fs::write(at("cut.parquet"), "PAR1").unwrap();
    std::fs::write(at("notes.txt"), "hello").unwrap();
    std::fs::write(at("cut.csv.gz"), "a,b\n1,2\n3,4\n").unwrap();
    // What is guessed of the first rows is no reason to change the others.
    let late: String = (0..10_001).map(|n| format!("{{\"n\":{n}}}\n")).chain(["{\"n\":1.5}\n".to_owned()]).collect();
    std::fs::write(at("late.ndjson"), late).unwrap();
    for (table, says) in [
        ("nowhere.csv", "nowhere.csv cannot be read: No such file"),
        ("array.json", "one object in each line"),
        ("broken.ndjson", "broken.ndjson cannot be read"),
        ("short.csv", "short.csv cannot be read"),
        ("cut.parquet", "cut.parquet"),
        ("./notes.txt", "no file of rows"),
        ("cut.csv.gz", "cut.csv.gz cannot be read: its gzip data are damaged"),
        ("late.ndjson", "late.ndjson cannot be read: line 10002: the column n: "),
        ("memory://query/none.csv", "memory://query/none.csv cannot be read: there is no object"),
        ("ftp://bucket/x.csv", "this program cannot open such a store"),
    ] {
        let error = rows(outputs.path(), &format!("SELECT * FROM '{table}'")).unwrap_err();
        assert!(error.contains(says), "{table}: {error}");
    }
}

#[test]
fn a_file_gets_a_name_and_hides_a_table_of_that_name() {
    let outputs = outputs();
    let place = Location::Folder(outputs.path().to_path_buf());
    let named = |name: &str, path: &str| {
        let named = [(name.to_owned(), outputs.path().join(path).display().to_string())];
        Tables::find(&place, false).and_then(|tables| tables.named(&named)).map(Arc::new)
    };
    let tables = named("plain", "left/same/a.parquet").unwrap();
    let rows = runtime().unwrap().block_on(async {
        let (rows, plan) = execute(&tables, "SELECT n FROM plain").unwrap();
        let batches: Vec<_> = rows.map(Result::unwrap).collect().await;
        assert!(explain::tree(&plan, Some(std::time::Duration::ZERO)).contains("DataSource"));
        show::cells(&batches[0], "NULL").unwrap()
    });
    assert_eq!(rows, [["1"]]);
    let error = named("x", "nowhere").unwrap_err().text();
    assert!(error.contains("--table x: there is no file or folder"), "{error}");
}
