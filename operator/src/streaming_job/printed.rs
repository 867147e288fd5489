//! Commands in messages, so that they work in a cluster as they are printed: the runner knows its program, and here it runs
//! in a pod. Pure.

/// How the runner prints a command that looks at the job's log.
const COMMAND: &str = "data-platform checkpoint ";
/// The command that changes something: it asks for a word, which a message about one topic gives.
const REWIND: &str = "rewind";

/// A message of a runner with every command as it is to be typed where kubectl is.
pub(super) fn for_kubectl(message: &str, namespace: &str, job: &str) -> String {
    let mut parts = message.split(COMMAND);
    let mut told = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // It says where already.
        if told.ends_with("-- ") {
            told.push_str(COMMAND);
            told.push_str(part);
            continue;
        }
        let end = part.find(['`', ';', ' ', ',']).unwrap_or(part.len());
        let (subcommand, rest) = part.split_at(end);
        let rest = [format!(" {job}"), " JOB".to_owned()]
            .iter()
            .find_map(|name| rest.strip_prefix(name.as_str()).filter(|rest| !rest.starts_with(char::is_alphanumeric)))
            .unwrap_or(rest);
        let is_sure =
            subcommand == REWIND && rest.trim_start().starts_with("--topic-recreated") && !rest.contains("--yes");
        let yes = if is_sure { " --yes" } else { "" };
        told.push_str(&format!("kubectl exec -n {namespace} deploy/{job} -- {COMMAND}{subcommand} {job}{yes}{rest}"));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_printed_as_it_is_typed() {
        let of = |message: &str| for_kubectl(message, "n", "a");
        let exec = "kubectl exec -n n deploy/a -- data-platform checkpoint";
        for (printed, expected) in [
            ("look with `data-platform checkpoint verify`; so", format!("look with `{exec} verify a`; so")),
            (
                "to go on: data-platform checkpoint rewind a --topic-recreated t",
                format!("to go on: {exec} rewind a --yes --topic-recreated t"),
            ),
            (
                "data-platform checkpoint rewind JOB --topic-recreated t",
                format!("{exec} rewind a --yes --topic-recreated t"),
            ),
            ("`data-platform checkpoint rewind JOB --yes`; it", format!("`{exec} rewind a --yes`; it")),
            ("data-platform checkpoint verify, checkpoint rewind", format!("{exec} verify a, checkpoint rewind")),
            ("go back with `data-platform checkpoint rewind`", format!("go back with `{exec} rewind a`")),
            ("nothing is printed", "nothing is printed".to_owned()),
        ] {
            assert_eq!(of(printed), expected);
            assert_eq!(of(&expected), expected, "it is said once");
        }
    }
}
