//! Which job waits for which: an order in which each comes after those that it depends on, or the way round a cycle. Pure.

use std::collections::BTreeMap;

/// Jobs in an order in which each comes after those that it depends on; else in the order that they have. Those that are
/// not among the jobs are passed over.
///
/// # Errors
/// A cycle: the names on the way round, the first one again at the end.
pub fn in_order(jobs: &[(String, Vec<String>)]) -> Result<Vec<String>, Vec<String>> {
    let known: BTreeMap<&str, &[String]> = jobs.iter().map(|(name, on)| (name.as_str(), on.as_slice())).collect();
    let (mut ordered, mut way) = (Vec::new(), Vec::new());
    for (name, _) in jobs {
        visit(name, &known, &mut way, &mut ordered)?;
    }
    Ok(ordered.into_iter().map(str::to_owned).collect())
}

fn visit<'a>(
    name: &'a str,
    known: &BTreeMap<&'a str, &'a [String]>,
    way: &mut Vec<&'a str>,
    ordered: &mut Vec<&'a str>,
) -> Result<(), Vec<String>> {
    if ordered.contains(&name) {
        return Ok(());
    }
    if let Some(at) = way.iter().position(|passed| *passed == name) {
        return Err(way[at..].iter().chain([&name]).map(|name| (*name).to_owned()).collect());
    }
    let Some(on) = known.get(name) else { return Ok(()) };
    way.push(name);
    for other in *on {
        visit(other, known, way, ordered)?;
    }
    way.pop();
    ordered.push(name);
    Ok(())
}

/// A cycle in words, and what to do.
pub fn told(cycle: &[String]) -> (String, &'static str) {
    (format!("each of these jobs waits for the next: {}", cycle.join(" -> ")), "take one dependsOn away")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(text: &str) -> Result<String, String> {
        let job = |job: &str| {
            let (name, on) = job.split_once(':').unwrap_or((job, ""));
            (name.to_owned(), on.split(',').filter(|on| !on.is_empty()).map(str::to_owned).collect())
        };
        let jobs: Vec<_> = text.split(' ').map(job).collect();
        in_order(&jobs).map(|order| order.join(" ")).map_err(|cycle| told(&cycle).0)
    }

    #[test]
    fn jobs_come_after_those_that_they_depend_on_and_a_cycle_is_told_with_its_way() {
        assert_eq!(order("a b c"), Ok("a b c".to_owned()));
        assert_eq!(order("week:day day:hour hour:elsewhere"), Ok("hour day week".to_owned()));
        assert_eq!(order("d:b,c b:a c:a a"), Ok("a b c d".to_owned()));
        for (jobs, way) in [("a:a", "a -> a"), ("x:a a:b b:c c:a", "a -> b -> c -> a"), ("a:b b:a", "a -> b -> a")] {
            let problem = order(jobs).unwrap_err();
            assert!(problem.ends_with(&format!(": {way}")), "{problem}");
        }
    }
}
