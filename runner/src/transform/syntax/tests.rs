//! Places of syntax errors, spelling of declared names.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Fields};

use super::super::inputs::SourceTable;
use super::*;

fn parsed(sql: &str) -> Result<Syntax, QueryError> {
    let text = DataType::Utf8View;
    let nested = Fields::from(vec![Field::new("pageUrl", text.clone(), true)]);
    let columns = ["userId", "Plain", "plain", "x"].map(|name| Field::new(name, text.clone(), true));
    let mut columns = columns.to_vec();
    columns.push(Field::new("Props", DataType::Struct(nested), true));
    let table = SourceTable { name: "events".into(), schema: Arc::new(Schema::new(columns)), event_time: None };
    parse(sql, &table.into())
}

#[test]
fn syntax_errors_have_their_place() {
    for (sql, message, line, column) in [
        ("SELECT x,\n  FROM events FROM events", "unexpected from", 2, 15),
        ("SELECT x FROM events\nWHERE x = 'abc", "unterminated string", 2, 11),
        ("SELECT x FROM events GRUP BY x", "unexpected by", 1, 27),
        ("SELECT (x FROM events", "expected", 1, 11),
    ] {
        let error = parsed(sql).err().unwrap();
        assert!(error.message.to_lowercase().contains(message), "{sql}: {error}");
        assert_eq!(error.position, Some(Position { line, column }), "{sql}: {error}");
    }
}

#[test]
fn declared_names_get_their_capitals_unless_two_differ_only_by_them() {
    let query = parsed("SELECT USERID, e.userid AS userid, props.pageurl, plain FROM events AS e WHERE userid = 'x'")
        .ok()
        .unwrap()
        .query;
    assert_eq!(
        query.to_string(),
        r#"SELECT "userId", e."userId" AS "userId", "Props"."pageUrl", plain FROM events AS e WHERE "userId" = 'x'"#
    );
}

#[test]
fn the_names_of_the_window_are_marked_only_where_it_is_grouped() {
    let sql =
        "SELECT window_start, window_end + x FROM (SELECT window_start FROM events) GROUP BY tumble(t, x), window_end
               HAVING window_start > x ORDER BY window_end";
    let query = parsed(sql).ok().unwrap().query.to_string();
    for part in [
        r#""window_start of the window"() AS window_start"#,
        r#""window_end of the window"() + x"#,
        "(SELECT window_start FROM events)",
        r#"GROUP BY tumble(t, x), "window_end of the window"()"#,
        r#"HAVING "window_start of the window"() > x"#,
        r#"ORDER BY "window_end of the window"()"#,
    ] {
        assert!(query.contains(part), "{part} is not in {query}");
    }
}
