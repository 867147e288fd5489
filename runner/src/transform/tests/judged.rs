//! Batch queries judged before their run: with the names of their tables alone, and with their columns.

use super::super::BatchQuery;
use super::*;

const INPUTS: [&str; 2] = ["sales", "shops"];

fn sales() -> SchemaRef {
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    let at = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![field("shop", DataType::Utf8View), field("n", DataType::Int64), field("at", at)]))
}

/// What is said with the names of the tables, and with their columns too.
fn judged(sql: &str) -> (Option<String>, Option<String>) {
    let query = BatchQuery::parse(sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
    let say = |columns: bool| {
        let inputs = INPUTS.map(|name| (name, columns.then(sales)));
        query.check(&inputs).err().map(|error| error.to_string())
    };
    (say(false), say(true))
}

#[test]
fn functions_and_tables_that_are_not_there_are_refused_before_the_run() {
    for (sql, parts) in [
        ("SELECT frob(n) AS x FROM sales", &["no function frob", "docs/sql.md", "line 1, column 8"][..]),
        ("SELECT cuont(*) AS x FROM sales", &["no function cuont", "did you mean count?"]),
        ("SELECT n FROM sales WHERE frob(n) > 1", &["no function frob", "column 27"]),
        ("SELECT n FROM sales ORDER BY frob(n)", &["no function frob"]),
        ("SELECT shop FROM sales GROUP BY shop HAVING frob(shop) > 1", &["no function frob"]),
        ("SELECT sum(frob(n)) OVER (PARTITION BY shop ORDER BY blub(n)) AS x FROM sales", &["no function"]),
        ("SELECT a.n FROM sales AS a JOIN shops AS b ON frob(a.n) = b.n", &["no function frob"]),
        ("SELECT a.n FROM (SELECT frob(n) AS n FROM sales) AS a", &["no function frob"]),
        ("WITH w AS (SELECT frob(n) AS n FROM sales) SELECT n FROM w", &["no function frob"]),
        ("SELECT n FROM sales UNION ALL SELECT frob(n) FROM shops", &["no function frob"]),
        ("SELECT n FROM sales WHERE n IN (SELECT frob(n) FROM shops)", &["no function frob"]),
        ("SELECT n FROM sales WHERE EXISTS (SELECT frob(1) FROM shops)", &["no function frob"]),
        ("SELECT (SELECT frob(max(n)) FROM shops) AS x FROM sales", &["no function frob"]),
        ("SELECT CASE WHEN n > 1 THEN frob(n) END AS x FROM sales", &["no function frob"]),
        ("SELECT unix_timestamp(at) AS x FROM sales", &["no function unix_timestamp", "to_unixtime"]),
        ("SELECT n FROM sale", &["no table sale", "did you mean sales?", "column 15"]),
        ("SELECT n FROM users", &["no table users", "the inputs of the job: sales, shops"]),
        ("WITH w AS (SELECT n FROM users) SELECT n FROM w", &["no table users"]),
    ] {
        let (by_name, by_columns) = judged(sql);
        for said in [by_name, by_columns] {
            let said = said.unwrap_or_else(|| panic!("this passed: {sql}"));
            for part in parts {
                assert!(said.contains(part), "{part:?} is not in {said:?}: {sql}");
            }
        }
    }
}

#[test]
fn columns_and_types_are_judged_where_the_columns_are_known() {
    for (sql, parts) in [
        ("SELECT nn FROM sales", &["nn"][..]),
        ("SELECT shop, sum(n) AS s FROM sales", &["shop"]),
        ("SELECT sum(shop) AS s FROM sales", &["sum"]),
        ("SELECT shop + 'x' AS s FROM sales", &["||"]),
        ("SELECT CAST(n AS TIMESTAMP) AS s FROM sales", &["to_timestamp_seconds"]),
        ("SELECT INTERVAL '1 day' AS s FROM sales", &["interval"]),
        ("SELECT n, n FROM sales", &["n"]),
        ("SELECT a.n FROM sales AS a JOIN shops AS b ON a.n = b.nothing", &["nothing"]),
    ] {
        let (by_name, by_columns) = judged(sql);
        assert_eq!(by_name, None, "{sql}");
        let said = by_columns.unwrap_or_else(|| panic!("this passed: {sql}"));
        for part in parts {
            assert!(said.contains(part), "{part:?} is not in {said:?}: {sql}");
        }
    }
}

#[test]
fn what_can_run_passes() {
    for sql in [
        "SELECT * FROM sales",
        "SELECT shop, count(*) AS n, sum(n) AS s FROM sales GROUP BY shop HAVING count(*) > 1 ORDER BY s DESC LIMIT 3",
        "SELECT a.shop, b.n FROM sales a LEFT JOIN shops AS b USING (shop)",
        "WITH x (k, m) AS (SELECT shop, n FROM sales), y AS (SELECT k FROM x) SELECT k FROM y",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT n FROM r",
        "SELECT t.k FROM (SELECT shop AS k FROM sales) AS t(k)",
        "SELECT value FROM generate_series(1, 3)",
        "SELECT v.a FROM (VALUES (1), (2)) AS v(a)",
        "SELECT shop, row_number() OVER (PARTITION BY shop ORDER BY at) AS r FROM sales",
        "SELECT shop, n FROM sales WHERE n IN (1, 2) AND shop LIKE 'a%'",
        "SELECT CAST(n AS DECIMAL(10, 2)) AS d, n::VARCHAR(3) AS t FROM sales",
        "SELECT extract(hour FROM at) AS h, substring(shop FROM 1 FOR 2) AS s, trim(shop) AS t, position('a' IN shop) AS p FROM sales",
        "SELECT array_transform(collect_list(n), x -> x + 1) AS a FROM sales",
        "SELECT unnest(make_array(n, 1)) AS u FROM sales",
        "SELECT \"SALES\".n FROM sales AS \"SALES\"",
        "SELECT count(*) FILTER (WHERE n > 1) AS c, max_by(shop, n) AS m, now() AS t, current_date AS d FROM sales",
        "SELECT shop, grouping(shop) AS g FROM sales GROUP BY ROLLUP (shop)",
        "SELECT json_get_str(shop, 'a') AS j, shop ->> 'b' AS k FROM sales",
    ] {
        assert_eq!(judged(sql), (None, None), "{sql}");
    }
}
