//! What the engine says, in the words of SQL: its types by their SQL names, and nothing of its own inside.

use super::error::{QueryError, lower_first};

/// Types of the engine that stand as words in its messages, and what SQL calls them. Longer words before their parts.
const TYPES: [(&str, &str); 24] = [
    ("Timestamp(ns, \"UTC\")", "TIMESTAMP"),
    ("Timestamp(µs, \"UTC\")", "TIMESTAMP"),
    ("Timestamp(ns)", "TIMESTAMP"),
    ("Timestamp(µs)", "TIMESTAMP"),
    ("Timestamp(ms)", "TIMESTAMP"),
    ("Timestamp(s)", "TIMESTAMP"),
    ("Interval(MonthDayNano)", "INTERVAL"),
    ("LargeUtf8", "VARCHAR"),
    ("Utf8View", "VARCHAR"),
    ("Utf8", "VARCHAR"),
    ("BinaryView", "BINARY"),
    ("LargeBinary", "BINARY"),
    ("UInt64", "BIGINT UNSIGNED"),
    ("UInt32", "INT UNSIGNED"),
    ("UInt16", "SMALLINT UNSIGNED"),
    ("UInt8", "TINYINT UNSIGNED"),
    ("Int64", "BIGINT"),
    ("Int32", "INT"),
    ("Int16", "SMALLINT"),
    ("Int8", "TINYINT"),
    ("Float64", "DOUBLE"),
    ("Float32", "FLOAT"),
    ("Date32", "DATE"),
    ("Decimal128", "DECIMAL"),
];

/// Words that tell of the engine's inside: a message with one of them says nothing to who wrote the query.
const INSIDE: [&str; 17] = [
    "ExprPlanner",
    "DataFusion",
    "feature",
    "not yet implemented",
    "LogicalPlan",
    "TypeSignature",
    "PhysicalExpr",
    "Coercible",
    "Exact(",
    "ScalarValue",
    "NativeType",
    "Arrow",
    "Utf8",
    "Int64",
    "Float64",
    "Decimal128",
    "+TZ",
];

/// Characters of a message: some list every type that there is.
const LENGTH_MAX: usize = 300;

/// The same error in the words of SQL.
pub(super) fn in_sql(mut error: QueryError) -> QueryError {
    if let Some(better) = known(&error.message) {
        return QueryError { position: error.position, ..better };
    }
    error.message = lower_first(&types_in_sql(&error.message));
    error.cure = error.cure.map(|cure| types_in_sql(&cure));
    if let Some(word) = INSIDE.iter().find(|word| error.message.contains(**word)) {
        let told = error.message.split([':', '.']).find(|part| !part.contains(word)).map(str::trim);
        error.message = match told.filter(|told| !told.is_empty()) {
            Some(told) => format!("a part of the query is not supported: {told}"),
            None => "a part of the query is not supported".to_owned(),
        };
        error.cure = None;
    }
    error.message = within_length(error.message);
    error.cure = error.cure.filter(|cure| INSIDE.iter().all(|word| !cure.contains(word))).map(within_length);
    error
}

fn within_length(text: String) -> String {
    match text.char_indices().nth(LENGTH_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn types_in_sql(text: &str) -> String {
    TYPES.iter().fold(text.to_owned(), |text, (engine, sql)| text.replace(engine, sql))
}

/// Beginnings of messages, in small letters, what to say instead, and what would work.
const REWORDED: [(&str, &str, &str); 15] = [
    (
        "invalid escape character in like",
        "ESCAPE takes one character",
        "write one, such as LIKE '50!%' ESCAPE '!'; without ESCAPE it is the backslash",
    ),
    (
        "physical plan does not support logical expression exists",
        "EXISTS stands in WHERE, not here",
        "filter by it, or join with the subquery in FROM",
    ),
    (
        "physical plan does not support logical expression outerreferencecolumn",
        "what stands in FROM reads no column of the table beside it",
        "for a list: SELECT id, unnest(list) AS x FROM t; else write a join with ON",
    ),
    (
        "physical plan does not support logical expression",
        "a subquery of this form stands in WHERE, not here",
        "filter by it, or join with the subquery in FROM",
    ),
    ("unsupported ast node pivot", "PIVOT is not supported", "write sum(x) FILTER (WHERE key = 'a') AS a, …"),
    (
        "unsupported ast node unpivot",
        "UNPIVOT is not supported",
        "write SELECT 'a' AS key, a AS value FROM t UNION ALL …",
    ),
    ("unsupported ast node matchrecognize", "MATCH_RECOGNIZE is not supported", "use window functions, lag and lead"),
    ("unsupported ast node", "a part of FROM is not supported", "name tables, and subqueries in parentheses"),
    (
        "unsupported logical plan: creatememorytable",
        "SELECT … INTO is not supported",
        "leave INTO out: the sink says where rows go",
    ),
    ("fetch clause", "FETCH FIRST is not supported", "write LIMIT"),
    (
        "lateral views",
        "LATERAL VIEW is not supported",
        "unnest in the SELECT list: SELECT id, unnest(list) AS x FROM t",
    ),
    (
        "count distinct with multiple arguments",
        "count(DISTINCT …) takes one value",
        "make one of them: count(DISTINCT struct(a, b))",
    ),
    (
        "min/max accumulator not implemented",
        "min and max do not compare values of this type",
        "take a part of it that has an order, such as a field",
    ),
    (
        "aggregate function calls cannot be nested",
        "aggregates cannot be nested",
        "aggregate in a subquery first, and again above it",
    ),
    (
        "aggregate functions are not allowed in the where clause",
        "WHERE has an aggregate",
        "write it in HAVING, or filter a subquery's result",
    ),
];

/// Messages that have a better wording, with what would work.
fn known(message: &str) -> Option<QueryError> {
    let small = message.to_lowercase();
    if let Some((_, said, cure)) = REWORDED.iter().find(|(begin, ..)| small.starts_with(begin)) {
        return Some(QueryError::new(*said).cure(*cure));
    }
    if message.contains("to grouping function is not in grouping columns") {
        return Some(QueryError::new("grouping(x) takes an x of GROUP BY").cure("group by it, or leave grouping out"));
    }
    if message.starts_with("unnest should be rewritten") {
        let error = QueryError::new("unnest stands in the SELECT list, nowhere else");
        return Some(error.cure("unnest in a subquery, and use its column in the outer SELECT"));
    }
    if let Some((_, rest)) = message.split_once("to satisfy a call to '")
        && let Some((function, rest)) = rest.split_once('\'')
    {
        let given = rest.split_once("oercion from ").and_then(|(_, types)| types.split_once(" to the signature"));
        let given = given.map_or_else(|| "these values".to_owned(), |(types, _)| types_in_sql(types));
        let error = QueryError::new(format!("{function} does not take {given}"));
        return Some(error.cure("look at what it takes in docs/sql.md, and CAST the value"));
    }
    if let Some((array, call)) = message.split_once("Array overflow on ") {
        return Some(QueryError::new(format!("the result of {call} does not fit {}", types_in_sql(array))));
    }
    if message.contains("unexpected argument type to 'json_") && message.contains("got Struct(") {
        let error = QueryError::new("-> reads JSON text, not a struct");
        return Some(error.cure("a field of a struct is column['field']"));
    }
    if let Some(rest) = small.find("cannot coerce arithmetic expression ").map(|at| &message[at + 36..]) {
        let operands = rest.split(" to valid types").next().unwrap_or(rest);
        let mut words = operands.split(' ');
        let operator = words.find(|word| ["+", "-", "*", "/", "%"].contains(word)).unwrap_or("+");
        let (left, right) = operands.split_once(&format!(" {operator} ")).unwrap_or((operands, ""));
        let (left, right) = (types_in_sql(left), types_in_sql(right));
        let error = QueryError::new(format!("{operator} does not take {left} and {right}"));
        let text = operator == "+" && (left == "VARCHAR" || right == "VARCHAR");
        return Some(error.cure(if text { "write || to join texts" } else { "CAST one of them" }));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_their_names_in_sql_and_nothing_is_told_of_the_engine() {
        let text = |message: &str| in_sql(QueryError::new(message)).to_string();
        assert_eq!(text("Cannot cast Utf8View to Int64"), "cannot cast VARCHAR to BIGINT");
        assert_eq!(
            text("Cannot coerce arithmetic expression Utf8View + Utf8 to valid types"),
            "+ does not take VARCHAR and VARCHAR: write || to join texts"
        );
        assert_eq!(text("Int8Array overflow on abs(-128)"), "the result of abs(-128) does not fit TINYINT");
        assert_eq!(
            text("Physical plan does not support logical expression Exists(Exists { subquery: <subquery> })"),
            "EXISTS stands in WHERE, not here: filter by it, or join with the subquery in FROM"
        );
        assert_eq!(
            text("Extract not supported by ExprPlanner: EXTRACT(x)"),
            "a part of the query is not supported: EXTRACT(x)"
        );
    }
}
