//! What of a query's text the state depends on: where rows come from, their groups, and the aggregates.
//!
//! ```text
//! text -> tokens -> without every WHERE -> one SELECT with a window: aggregates FROM … GROUP BY …
//!                                          anything else: all that is left
//! ```
//!
//! Pure, from tokens alone. Where it cannot tell, it keeps more than is needed: a change is then asked about that would
//! have been harmless.

use std::collections::BTreeSet;

/// The functions that aggregate, in lower case, aliases included. The runner tests that it has no other.
pub const AGGREGATES: &[&str] = &[
    "any_value",
    "approx_count_distinct",
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "approx_percentile_cont_with_weight",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "collect_list",
    "collect_set",
    "corr",
    "count",
    "count_if",
    "covar",
    "covar_pop",
    "covar_samp",
    "every",
    "first",
    "first_value",
    "grouping",
    "last",
    "last_value",
    "listagg",
    "max",
    "max_by",
    "mean",
    "median",
    "min",
    "min_by",
    "mode",
    "nth_value",
    "percentile",
    "percentile_approx",
    "percentile_cont",
    "quantile_cont",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "some",
    "std",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "try_avg",
    "try_sum",
    "var",
    "var_pop",
    "var_population",
    "var_samp",
    "var_sample",
    "variance",
];
/// The functions that make windows.
const WINDOWS: [&str; 3] = ["tumble", "hop", "session"];
/// Words that end a WHERE.
const AFTER_WHERE: [&str; 10] =
    ["group", "having", "qualify", "order", "limit", "offset", "union", "intersect", "except", "window"];

/// The part of a query that the state depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateForm {
    /// Its words, with blanks between them.
    pub text: String,
    words: BTreeSet<String>,
    has_every_column: bool,
}

impl StateForm {
    /// Whether a table or column is named in it.
    pub fn names(&self, name: &str) -> bool {
        self.has_every_column || self.words.contains(&name.to_lowercase())
    }
}

/// The state form of a query. `is_column`: whether a name is one of a source's columns.
pub fn state_form(query: &str, is_column: &dyn Fn(&str) -> bool) -> StateForm {
    let words = without_where(&tokens(query));
    let kept = one_select(&words, is_column).unwrap_or(words);
    let is_all =
        |at: usize| kept[at] == "*" && (at == 0 || matches!(kept[at - 1].as_str(), "select" | "," | "." | "distinct"));
    StateForm {
        text: kept.join(" "),
        has_every_column: (0..kept.len()).any(is_all),
        words: kept.iter().map(|word| word.trim_matches('"').to_lowercase()).collect(),
    }
}

/// Whether a query has a window.
pub fn has_window(query: &str) -> bool {
    calls_window(&tokens(query))
}

fn calls_window(words: &[String]) -> bool {
    words.windows(2).any(|pair| WINDOWS.contains(&pair[0].as_str()) && pair[1] == "(")
}

/// The words of a text: without blanks and comments, unquoted ones in lower case. A quoted name that needs no quotes has
/// none.
fn tokens(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(&c) = characters.get(at) {
        let begin = at;
        at += 1;
        let next = characters.get(at).copied();
        if c.is_whitespace() {
            continue;
        } else if c == '-' && next == Some('-') {
            while characters.get(at).is_some_and(|c| *c != '\n') {
                at += 1;
            }
            continue;
        } else if c == '/' && next == Some('*') {
            at = behind_comment(&characters, at);
            continue;
        } else if matches!(c, '\'' | '"' | '`') {
            at = behind_quote(&characters, begin);
            let quoted: String = characters[begin..at].iter().collect();
            tokens.push(if c == '\'' { quoted } else { name_of(&quoted, c) });
            continue;
        } else if c.is_alphanumeric() || c == '_' {
            // A number with its point and exponent is one word, a name ends at the point.
            let is_number = c.is_ascii_digit();
            while characters.get(at).is_some_and(|c| c.is_alphanumeric() || *c == '_' || *c == '.' && is_number) {
                at += 1;
            }
        }
        tokens.push(characters[begin..at].iter().collect::<String>().to_lowercase());
    }
    while tokens.last().is_some_and(|last| last == ";") {
        tokens.pop();
    }
    tokens
}

/// The position behind a comment whose beginning ends at `at`; comments nest.
fn behind_comment(characters: &[char], mut at: usize) -> usize {
    let mut depth = 1;
    at += 1;
    while depth > 0 && at < characters.len() {
        match (characters[at], characters.get(at + 1)) {
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

/// The position behind a quoted text that begins at `begin`; a doubled quote is part of it.
fn behind_quote(characters: &[char], begin: usize) -> usize {
    let quote = characters[begin];
    let mut at = begin + 1;
    while let Some(&c) = characters.get(at) {
        at += 1;
        if c == quote {
            if characters.get(at) != Some(&quote) {
                break;
            }
            at += 1;
        }
    }
    at
}

/// A quoted name: without its quotes where they change nothing.
fn name_of(quoted: &str, quote: char) -> String {
    let name = quoted.trim_matches(quote);
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.to_owned() } else { format!("\"{name}\"") }
}

/// Without every WHERE, at whatever depth, but for that of a FILTER: which rows are counted may change from one moment to
/// the next.
fn without_where(words: &[String]) -> Vec<String> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < words.len() {
        let is_filter = at >= 2 && words[at - 1] == "(" && words[at - 2] == "filter";
        if words[at] == "where" && !is_filter {
            at = end_of_where(words, at + 1);
        } else {
            kept.push(words[at].clone());
            at += 1;
        }
    }
    kept
}

fn end_of_where(words: &[String], from: usize) -> usize {
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate().skip(from) {
        match word.as_str() {
            "(" => depth += 1,
            ")" if depth == 0 => return at,
            ")" => depth -= 1,
            word if depth == 0 && AFTER_WHERE.contains(&word) => return at,
            _ => {}
        }
    }
    words.len()
}

/// Position of the first of these words outside parentheses, from `from` on.
fn find(words: &[String], from: usize, wanted: &[&str]) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate().skip(from) {
        match word.as_str() {
            "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            word if depth == 0 && wanted.contains(&word) => return Some(at),
            _ => {}
        }
    }
    None
}

/// The parts between commas outside parentheses.
fn parts(words: &[String]) -> Vec<&[String]> {
    let (mut parts, mut from) = (Vec::new(), 0);
    while let Some(comma) = find(words, from, &[","]) {
        parts.push(&words[from..comma]);
        from = comma + 1;
    }
    parts.push(&words[from..]);
    parts
}

/// Position behind the parenthesis that closes the one at `open`.
fn behind_close(words: &[String], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate().skip(open) {
        match word.as_str() {
            "(" => depth += 1,
            ")" if depth == 1 => return at + 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    words.len()
}

/// What counts of one SELECT with a window; `None`: it is something else.
fn one_select(words: &[String], is_column: &dyn Fn(&str) -> bool) -> Option<Vec<String>> {
    if words.first()? != "select" || find(words, 0, &["union", "intersect", "except"]).is_some() {
        return None;
    }
    let from = find(words, 1, &["from"])?;
    let group = find(words, from, &["group"])?;
    let end = find(words, group, &["having", "qualify", "order", "limit", "window"]).unwrap_or(words.len());
    let (items, keys) = (&words[1..from], words.get(group + 2..end)?);
    if !calls_window(keys) || keys == ["all"] {
        return None;
    }
    let items: Vec<Item<'_>> = parts(items).into_iter().map(Item::of).collect();
    let mut expanded: Vec<Vec<String>> = Vec::new();
    for key in parts(keys) {
        expanded.push(match key {
            [word] => resolved(word, &items, is_column)?,
            words => words.to_vec(),
        });
    }
    let (table, prefixes) = table(&words[from + 1..group]);
    let plain = |words: &[String]| without_prefixes(words, &prefixes);
    let mut aggregates = BTreeSet::new();
    for item in &items {
        collect_aggregates(&plain(item.expression), &mut aggregates);
    }
    collect_aggregates(&plain(&words[end..]), &mut aggregates);
    let mut kept: Vec<String> = Vec::new();
    for (i, aggregate) in aggregates.into_iter().enumerate() {
        kept.extend((i > 0).then(|| ",".to_owned()));
        kept.extend(aggregate);
    }
    kept.push("from".to_owned());
    kept.extend(table);
    kept.extend(["group".to_owned(), "by".to_owned()]);
    for (i, key) in expanded.iter().enumerate() {
        kept.extend((i > 0).then(|| ",".to_owned()));
        kept.extend(plain(key));
    }
    Some(kept)
}

/// An expression of the SELECT list.
struct Item<'a> {
    expression: &'a [String],
    alias: Option<&'a str>,
}

impl<'a> Item<'a> {
    fn of(words: &'a [String]) -> Self {
        let words = match words.first().map(String::as_str) {
            Some("distinct" | "all") => &words[1..],
            _ => words,
        };
        if let [.., as_, alias] = words
            && as_ == "as"
        {
            return Self { expression: &words[..words.len() - 2], alias: Some(alias) };
        }
        // An alias without AS: a name behind something that ends an expression.
        if let [.., before, alias] = words
            && (before == ")" || is_name(before))
            && is_name(alias)
            && !["end", "null", "true", "false"].contains(&alias.as_str())
        {
            return Self { expression: &words[..words.len() - 1], alias: Some(alias) };
        }
        Self { expression: words, alias: None }
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '"')
}

/// The key that one word stands for: the number or the alias of an expression of the list. `None`: nobody can say.
fn resolved(word: &String, items: &[Item<'_>], is_column: &dyn Fn(&str) -> bool) -> Option<Vec<String>> {
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        let number: usize = word.parse().ok()?;
        return items.get(number.checked_sub(1)?).map(|item| item.expression.to_vec());
    }
    let of_alias = items.iter().find(|item| item.alias == Some(word));
    match of_alias {
        Some(item) if !is_column(word.trim_matches('"')) => Some(item.expression.to_vec()),
        // Both mean the same where the alias is the column itself.
        Some(item) if item.expression.last() != Some(word) => None,
        _ => Some(vec![word.clone()]),
    }
}

/// The tables, and where it is one table alone the names that may stand before its columns: then its alias is left out.
fn table(words: &[String]) -> (Vec<String>, Vec<String>) {
    match words {
        [name] => (vec![name.clone()], vec![name.clone()]),
        [name, alias] => (vec![name.clone()], vec![name.clone(), alias.clone()]),
        [name, as_, alias] if as_ == "as" => (vec![name.clone()], vec![name.clone(), alias.clone()]),
        _ => (words.to_vec(), Vec::new()),
    }
}

fn without_prefixes(words: &[String], prefixes: &[String]) -> Vec<String> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < words.len() {
        let is_prefix = prefixes.contains(&words[at])
            && words.get(at + 1).is_some_and(|next| next == ".")
            && (at == 0 || words[at - 1] != ".");
        if is_prefix {
            at += 2;
        } else {
            kept.push(words[at].clone());
            at += 1;
        }
    }
    kept
}

fn collect_aggregates(words: &[String], found: &mut BTreeSet<Vec<String>>) {
    for (at, word) in words.iter().enumerate() {
        if words.get(at + 1).is_none_or(|next| next != "(") || !AGGREGATES.contains(&word.as_str()) {
            continue;
        }
        let mut end = behind_close(words, at + 1);
        while words.get(end).is_some_and(|word| matches!(word.as_str(), "filter" | "within")) {
            let open = (end..words.len()).find(|at| words[*at] == "(").unwrap_or(words.len());
            end = behind_close(words, open);
        }
        // A window function above the window keeps no state.
        if words.get(end).is_none_or(|word| word != "over") {
            found.insert(words[at..end].to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(sql: &str) -> String {
        state_form(sql, &|name| ["t", "k", "a", "b"].contains(&name)).text
    }

    const QUERY: &str =
        "SELECT window_start, k, count(*) AS n FROM s WHERE a > 1 GROUP BY tumble(t, INTERVAL '1 minute'), k";

    #[test]
    fn what_is_computed_from_closed_windows_and_which_rows_count_may_change() {
        for same in [
            "SELECT k, window_end, count(*) * 2 AS twice FROM s WHERE a > 1 GROUP BY tumble(t, INTERVAL '1 minute'), k",
            "select K, Count(*) from S where A > 1 group by tumble(t, INTERVAL '1 minute'), k having count(*) > 5;",
            "SELECT k, count(*), row_number() OVER (PARTITION BY window_start ORDER BY count(*)) \
             FROM s GROUP BY tumble(t, INTERVAL '1 minute'), k",
            "SELECT k AS key_of_it, count(*) c FROM s -- a comment\n /* and /* another */ one */ \
             WHERE (a > 2 OR b IN (1, 2)) AND a IS NOT NULL GROUP BY tumble(t, INTERVAL '1 minute'), k",
            "SELECT x.k, count(*) FROM s AS x WHERE x.a = 'group by' GROUP BY tumble(x.t, INTERVAL '1 minute'), x.k",
            "SELECT \"k\", count(*) FROM s y GROUP BY tumble(y.\"t\", INTERVAL '1 minute'), y.k",
            "SELECT k AS j, count(*) FROM s GROUP BY tumble(t, INTERVAL '1 minute'), j",
            "SELECT k, count(*) FROM s GROUP BY tumble(t, INTERVAL '1 minute'), 1",
            "SELECT upper(k), concat(k, 'count(*)') FROM s GROUP BY tumble(t, INTERVAL '1 minute'), k ORDER BY count(*)",
        ] {
            assert_eq!(form(same), form(QUERY), "{same}");
        }
    }

    #[test]
    fn what_the_state_holds_may_not() {
        for other in [
            "SELECT k, count(*) FROM s WHERE a > 1 GROUP BY tumble(t, INTERVAL '2 minutes'), k",
            "SELECT k, count(*) FROM s WHERE a > 1 GROUP BY hop(t, INTERVAL '1 minute', INTERVAL '1 minute'), k",
            "SELECT k, count(*) FROM s WHERE a > 1 GROUP BY tumble(t, INTERVAL '1 minute'), k, b",
            "SELECT lower(k) AS k2, count(*) FROM s GROUP BY tumble(t, INTERVAL '1 minute'), k2",
            "SELECT k, count(*), sum(b) FROM s WHERE a > 1 GROUP BY tumble(t, INTERVAL '1 minute'), k",
            "SELECT k, count(*) FILTER (WHERE b > 1) FROM s WHERE a > 1 GROUP BY tumble(t, INTERVAL '1 minute'), k",
            "SELECT k, min(b) FROM s WHERE a > 1 GROUP BY tumble(t, INTERVAL '1 minute'), k HAVING count(*) > 1",
            "SELECT k, count(*) FROM other GROUP BY tumble(t, INTERVAL '1 minute'), k",
            "SELECT k, count(*) FROM s GROUP BY tumble(t, INTERVAL '1 minute'), \"K\"",
        ] {
            assert_ne!(form(other), form(QUERY), "{other}");
        }
    }

    #[test]
    fn a_query_that_is_more_than_one_select_counts_but_for_its_where() {
        let nested = |condition: &str| {
            format!(
                "WITH a AS (SELECT k, t FROM s{condition}) SELECT k, count(*) FROM a{condition} GROUP BY tumble(t, INTERVAL '1 minute'), k"
            )
        };
        assert_eq!(form(&nested(" WHERE a > 1")), form(&nested("")));
        assert!(form(&nested("")).starts_with("with a as ( select k"));
        let union = "SELECT k FROM s WHERE a = 1 UNION ALL SELECT k FROM s WHERE a = 2";
        assert_eq!(form(union), "select k from s union all select k from s");
    }

    #[test]
    fn every_name_that_counts_is_known() {
        let form = state_form(
            "SELECT count(*), max(userId) FROM s WHERE z > 1 GROUP BY tumble(t, INTERVAL '1 minute')",
            &|_| true,
        );
        assert!(form.names("userId") && form.names("t") && form.names("s"));
        assert!(!form.names("z") && !form.names("k"));
        let all = state_form("SELECT * FROM (SELECT k FROM s) GROUP BY x", &|_| true);
        assert!(all.names("anything"));
    }

    #[test]
    fn nothing_that_is_no_query_is_too_much() {
        for text in [
            "",
            ";",
            "'",
            "\"",
            "/*",
            "--",
            "select",
            "select from",
            "SELECT FROM GROUP",
            "((((",
            "))))",
            "where",
            "SELECT a FROM s GROUP BY tumble(",
            "SELECT 1 AS FROM s GROUP BY tumble(), 99999999999999999999, 0",
            "/* /* */",
            "ä''ß\"\"",
        ] {
            let _read = form(text);
        }
    }
}
