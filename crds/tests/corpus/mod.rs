//! Manifests that are wrong in one way each, with what the check must say to them, and manifests that are right.
//!
//! Each is `valid.yaml` of its kind with some lines changed, written as a difference:
//!
//! ```text
//! # name of the case
//! -  a line of valid.yaml
//! +  what stands there instead
//! ! path | part of the message | part of the cure
//! server refuses
//! ```
//!
//! Lines with `=` are the whole manifest instead. There is one `!` for each problem, in the order of the file. The last
//! line is what a real API server says (`kubectl apply --dry-run=server --validate=strict`): what schema and rules
//! express it refuses, too; what only we can know it accepts.

/// What stands in the problems of a case.
pub(crate) struct Expected {
    pub(crate) path: &'static str,
    pub(crate) message: &'static str,
    pub(crate) cure: &'static str,
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) text: String,
    pub(crate) problems: Vec<Expected>,
    pub(crate) server_accepts: bool,
}

pub(crate) const VALID: &str = include_str!("valid.yaml");

const VALID_BATCH: &str = include_str!("batch/valid.yaml");

/// Manifests with at least one problem.
pub(crate) fn wrong() -> Vec<Case> {
    let files = [include_str!("schema.txt"), include_str!("rules.txt"), include_str!("meaning.txt")];
    let batch = cases(VALID_BATCH, include_str!("batch/wrong.txt"));
    files.into_iter().flat_map(|file| cases(VALID, file)).chain(batch).collect()
}

/// Manifests without one.
pub(crate) fn right() -> Vec<Case> {
    let batch = cases(VALID_BATCH, include_str!("batch/right.txt"));
    cases(VALID, include_str!("right.txt")).into_iter().chain(batch).collect()
}

fn cases(valid: &'static str, file: &'static str) -> Vec<Case> {
    file.split("\n\n").filter(|text| !text.trim().is_empty()).map(|text| case(valid, text)).collect()
}

fn case(valid: &'static str, text: &'static str) -> Case {
    let mut case = Case { name: "", text: valid.to_owned(), problems: Vec::new(), server_accepts: true };
    let (mut whole, mut before, mut after) = (String::new(), String::new(), String::new());
    for line in text.lines().chain(["end"]) {
        let (mark, rest) = line.split_at(1);
        if mark != "+" && !after.is_empty() || matches!(mark, "!" | "s") && !before.is_empty() {
            assert_eq!(case.text.matches(&before).count(), 1, "{}: not once in valid.yaml:\n{before}", case.name);
            case.text = case.text.replacen(&before, &after, 1);
            (before, after) = (String::new(), String::new());
        }
        match mark {
            "#" => case.name = rest.trim(),
            "-" => before = format!("{before}{rest}\n"),
            "+" => after = format!("{after}{rest}\n"),
            "=" => whole = format!("{whole}{rest}\n"),
            "!" => {
                let parts: Vec<&str> = rest.splitn(3, " | ").map(str::trim).collect();
                let [path, message, cure] = parts[..].try_into().expect("a problem is `path | message | cure`");
                case.problems.push(Expected { path, message, cure });
            }
            "s" => case.server_accepts = line == "server accepts",
            _ => assert_eq!(line, "end", "{}", case.name),
        }
    }
    if !whole.is_empty() {
        case.text = whole;
    }
    case
}
