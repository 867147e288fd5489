//! What a word at the prompt may become. Pure.

/// Words of SQL that are long enough to be completed.
const KEYWORDS: [&str; 30] = [
    "ANALYZE",
    "BETWEEN",
    "CASE",
    "CAST",
    "CROSS",
    "DISTINCT",
    "ELSE",
    "EXPLAIN",
    "FILTER",
    "FROM",
    "GROUP BY",
    "HAVING",
    "INNER",
    "INTERVAL",
    "INTERSECT",
    "JOIN",
    "LEFT",
    "LIMIT",
    "NULLS LAST",
    "OFFSET",
    "ORDER BY",
    "OVER",
    "PARTITION BY",
    "SELECT",
    "THEN",
    "TIMESTAMP",
    "UNION ALL",
    "WHEN",
    "WHERE",
    "WITH",
];

/// Candidates that are told at most: more tell nobody anything.
const SHOWN_MAX: usize = 200;

/// Names that a query may have.
pub(super) struct Words<'a> {
    pub(super) tables: &'a [String],
    /// Columns of the tables that the query names.
    pub(super) columns: &'a [String],
    pub(super) functions: &'a [String],
}

/// Where the word at a place begins, and what it may become: columns first, since there are few.
pub(super) fn complete(line: &str, at: usize, words: &Words<'_>) -> (usize, Vec<String>) {
    let before = &line[..at];
    // A semicolon ended what is before it, and a text is completed by nobody.
    if before.matches('\'').count() % 2 == 1 {
        return (at, Vec::new());
    }
    let is_of_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    let from = before
        .rfind(|letter| !is_of_name(letter))
        .map_or(0, |end| end + before[end..].chars().next().map_or(1, char::len_utf8));
    let (head, word) = before.split_at(from);
    let last = head.trim_end().rsplit(|letter: char| !is_of_name(letter)).next().unwrap_or_default();
    let wants_table = ["from", "join"].iter().any(|keyword| last.eq_ignore_ascii_case(keyword));
    let is_of_table = head.ends_with('.');
    if word.is_empty() && !wants_table && !is_of_table {
        return (at, Vec::new());
    }
    let begins = |candidate: &str| candidate.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word));
    let plain = |names: &[String]| -> Vec<String> {
        names.iter().filter(|name| begins(name)).map(|name| quoted(name)).collect()
    };
    let mut found = if wants_table { plain(words.tables) } else { plain(words.columns) };
    if !wants_table && !is_of_table {
        found.extend(plain(words.tables));
        found.extend(words.functions.iter().filter(|name| begins(name)).map(|name| format!("{name}(")));
        found.extend(KEYWORDS.iter().filter(|keyword| begins(keyword)).map(|keyword| (*keyword).to_owned()));
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|candidate| seen.insert(candidate.clone()));
    found.truncate(SHOWN_MAX);
    (from, found)
}

/// A name as it has to be written.
fn quoted(name: &str) -> String {
    let is_plain = name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
    let begins_well = name.chars().next().is_some_and(|letter| !letter.is_ascii_digit());
    if is_plain && begins_well { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_completed_by_what_may_stand_there() {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let tables = owned(&["hourly_aggregates", "users", "House"]);
        let columns = owned(&["event_type", "events", "deviceType"]);
        let functions = owned(&["date_trunc", "date_bin", "ends_with"]);
        let words = Words { tables: &tables, columns: &columns, functions: &functions };
        for (line, from, expected) in [
            ("SELECT ev", 7, vec!["event_type", "events"]),
            ("SELECT date_", 7, vec!["date_trunc(", "date_bin("]),
            ("SELECT * FROM ho", 14, vec!["hourly_aggregates", "\"House\""]),
            ("SELECT * FROM ", 14, vec!["hourly_aggregates", "users", "\"House\""]),
            ("SELECT * FROM users\nJOIN HOUR", 25, vec!["hourly_aggregates"]),
            ("SELECT users.", 13, vec!["event_type", "events", "\"deviceType\""]),
            ("SELECT DEV", 7, vec!["\"deviceType\""]),
            ("SELECT 1 wh", 9, vec!["WHEN", "WHERE"]),
            ("SELECT ä.ev", 10, vec!["event_type", "events"]),
            ("SELECT 'ev", 10, vec![]),
            ("SELECT ", 7, vec![]),
        ] {
            assert_eq!(complete(line, line.len(), &words), (from, owned(&expected)), "{line}");
        }
        assert_eq!(complete("SELECT ev FROM users", 9, &words).0, 7, "in the middle of a line");
    }
}
