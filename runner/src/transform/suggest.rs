//! What a query may have meant by a name that is not known.

use data_platform_crds::problem::did_you_mean;

/// "did you mean x?", or the first names that are known.
pub(super) fn hint<'a>(name: &str, candidates: &[&'a str], known_as: &str) -> String {
    const SHOWN_MAX: usize = 20;
    let mut sorted = candidates.to_vec();
    sorted.sort_unstable();
    match did_you_mean(name, sorted) {
        Some(candidate) => format!("did you mean {candidate}?"),
        None => {
            let more = if candidates.len() > SHOWN_MAX { ", …" } else { "" };
            let shown: Vec<&'a str> = candidates.iter().copied().take(SHOWN_MAX).collect();
            format!("{known_as}: {}{more}", shown.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_wins_and_far_ones_are_not_offered() {
        let names = ["user_id", "event_type", "timestamp"];
        assert_eq!(did_you_mean("usre_id", names), Some("user_id"));
        assert_eq!(did_you_mean("Timestmap", names), Some("timestamp"));
        assert_eq!(did_you_mean("price", names), None);
        assert_eq!(hint("x", &["a", "b"], "the columns are"), "did you mean a?");
        assert_eq!(hint("price", &names, "the columns are"), "the columns are: user_id, event_type, timestamp");
    }
}
