//! What of a query's text the state depends on: where rows come from, which ones, their groups, and the aggregates.
//!
//! Part of the job's fingerprint: a query whose state form is the same may go on with the state of the one before, also
//! when it computes something else from the closed windows. Made from tokens, as the normal form is, so that neither a
//! newer parser nor a newer engine changes it. A query that is more than one SELECT is taken as a whole.

use std::collections::BTreeSet;

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::super::window::WindowKind;
use super::word_of;

/// The state form, given which names are aggregates; the normal form where the query is more than one plain SELECT.
pub(super) fn state_form(tokens: &[TokenWithSpan], is_aggregate: &dyn Fn(&str) -> bool) -> String {
    let tokens: Vec<&Token> = tokens.iter().map(|token| &token.token).filter(|token| !is_blank(token)).collect();
    let words: Vec<String> = tokens.iter().map(|token| word_of(token).unwrap_or_default()).collect();
    plain_select(&words, is_aggregate).unwrap_or_else(|| words.join(" "))
}

fn is_blank(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_) | Token::EOF | Token::SemiColon)
}

/// Position of the first of these words outside parentheses, from `from` on.
fn find(words: &[String], from: usize, wanted: &[&str]) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, word) in words.iter().enumerate().skip(from) {
        match word.as_str() {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            word if depth == 0 && wanted.contains(&word) => return Some(index),
            _ => {}
        }
    }
    None
}

/// Index behind the parenthesis that closes the one at `open`.
fn behind_close(words: &[String], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, word) in words.iter().enumerate().skip(open) {
        match word.as_str() {
            "(" => depth += 1,
            ")" if depth == 1 => return index + 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    words.len()
}

fn plain_select(words: &[String], is_aggregate: &dyn Fn(&str) -> bool) -> Option<String> {
    if words.first()? != "select" || find(words, 0, &["union"]).is_some() {
        return None;
    }
    let from = find(words, 0, &["from"])?;
    let group = find(words, from, &["group"])?;
    let end = find(words, group, &["having", "qualify", "order", "limit"]).unwrap_or(words.len());
    let keys = &words[group..end];
    if !keys.iter().any(|word| WindowKind::from_name(word).is_some()) || names_the_select_list(&words[..from], keys) {
        return None;
    }
    let mut aggregates = BTreeSet::new();
    for part in [1..from, end..words.len()] {
        collect_aggregates(&words[part], is_aggregate, &mut aggregates);
    }
    let aggregates = aggregates.into_iter().collect::<Vec<_>>().join(" , ");
    Some(format!("{aggregates} {}", words[from..end].join(" ")))
}

/// GROUP BY 1, ALL, or the alias of an expression: then the groups depend on the SELECT list.
fn names_the_select_list(list: &[String], keys: &[String]) -> bool {
    let mut depth = 0_usize;
    let aliases: BTreeSet<&String> = list.windows(2).filter(|pair| pair[0] == "as").map(|pair| &pair[1]).collect();
    for key in keys.iter().skip(2) {
        match key.as_str() {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            key if depth == 0 && (key == "all" || key.starts_with(|c: char| c.is_ascii_digit())) => return true,
            _ if aliases.contains(key) => return true,
            _ => {}
        }
    }
    false
}

fn collect_aggregates(words: &[String], is_aggregate: &dyn Fn(&str) -> bool, found: &mut BTreeSet<String>) {
    for (index, word) in words.iter().enumerate() {
        if words.get(index + 1).is_none_or(|next| next != "(") || !is_aggregate(word) {
            continue;
        }
        let mut end = behind_close(words, index + 1);
        while words.get(end).is_some_and(|word| word == "filter" || word == "within") {
            let open = (end..words.len()).find(|at| words[*at] == "(").unwrap_or(words.len());
            end = behind_close(words, open);
        }
        // A window function above the window keeps no state.
        if words.get(end).is_none_or(|word| word != "over") {
            found.insert(words[index..end].join(" "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    fn form(sql: &str) -> String {
        let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().unwrap();
        state_form(&tokens, &|name| ["count", "sum", "min", "row_number"].contains(&name))
    }

    const QUERY: &str =
        "SELECT window_start, k, count(*) AS n FROM s WHERE a > 1 GROUP BY tumble(t, INTERVAL '1 minute'), k";

    #[test]
    fn what_is_computed_from_closed_windows_may_change() {
        for same in [
            "SELECT k, window_end, count(*) * 2 AS twice FROM s WHERE a > 1 GROUP BY tumble(t, INTERVAL '1 minute'), k",
            "select K, Count(*) from S where A > 1 group by tumble(t, INTERVAL '1 minute'), k having count(*) > 5",
            "SELECT k, count(*), row_number() OVER (PARTITION BY window_start ORDER BY count(*)) \
             FROM s WHERE a > 1 GROUP BY tumble(t, INTERVAL '1 minute'), k",
        ] {
            assert_eq!(form(same), form(QUERY), "{same}");
        }
    }

    #[test]
    fn what_the_state_holds_may_not() {
        for other in [
            "SELECT k, count(*) FROM s WHERE a > 2 GROUP BY tumble(t, INTERVAL '1 minute'), k",
            "SELECT k, count(*) FROM s GROUP BY tumble(t, INTERVAL '1 minute'), k",
            "SELECT k, count(*) FROM s WHERE a > 1 GROUP BY tumble(t, INTERVAL '2 minutes'), k",
            "SELECT k, count(*) FROM s WHERE a > 1 GROUP BY tumble(t, INTERVAL '1 minute'), k, b",
            "SELECT k, count(*), sum(b) FROM s WHERE a > 1 GROUP BY tumble(t, INTERVAL '1 minute'), k",
            "SELECT k, count(*) FILTER (WHERE b > 1) FROM s WHERE a > 1 GROUP BY tumble(t, INTERVAL '1 minute'), k",
            "SELECT k, min(b) FROM s WHERE a > 1 GROUP BY tumble(t, INTERVAL '1 minute'), k HAVING count(*) > 1",
        ] {
            assert_ne!(form(other), form(QUERY), "{other}");
        }
    }

    #[test]
    fn a_query_whose_groups_depend_on_its_list_is_taken_whole() {
        for whole in [
            "SELECT lower(k) AS l, count(*) FROM s GROUP BY tumble(t, INTERVAL '1 minute'), l",
            "SELECT lower(k), count(*) FROM s GROUP BY tumble(t, INTERVAL '1 minute'), 1",
            "SELECT k FROM (SELECT k, count(*) AS n FROM s GROUP BY tumble(t, INTERVAL '1 minute'), k) AS inner_one",
            "WITH a AS (SELECT k FROM s) SELECT k, count(*) FROM a GROUP BY tumble(t, INTERVAL '1 minute'), k",
        ] {
            assert!(form(whole).starts_with(&whole[..4].to_lowercase()), "{}", form(whole));
        }
    }
}
