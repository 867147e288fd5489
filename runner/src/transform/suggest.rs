//! "Did you mean": the known name that is nearest to a misspelt one.

/// The candidate with the fewest edits, if that is at most a third of the name (at least one): farther ones mislead.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let allowed = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (edits(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(edits, _)| *edits <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// "did you mean x?", or the first names that are known.
pub(super) fn hint<'a>(name: &str, candidates: &[&'a str], known_as: &str) -> String {
    const SHOWN_MAX: usize = 20;
    match nearest(name, candidates.iter().copied()) {
        Some(candidate) => format!("did you mean {candidate}?"),
        None => {
            let more = if candidates.len() > SHOWN_MAX { ", …" } else { "" };
            let shown: Vec<&'a str> = candidates.iter().copied().take(SHOWN_MAX).collect();
            format!("{known_as}: {}{more}", shown.join(", "))
        }
    }
}

/// Insertions, deletions, substitutions and swaps of neighbours between two words.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substitute = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = substitute.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = above;
        above = row;
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_wins_and_far_ones_are_not_offered() {
        let names = ["user_id", "event_type", "timestamp"];
        assert_eq!(nearest("usre_id", names), Some("user_id"));
        assert_eq!(nearest("Timestmap", names), Some("timestamp"));
        assert_eq!(nearest("price", names), None);
        assert_eq!(hint("x", &["a", "b"], "the columns are"), "did you mean a?");
        assert_eq!(hint("price", &names, "the columns are"), "the columns are: user_id, event_type, timestamp");
    }
}
