//! Files that change while jobs run.

use std::fs;

use super::*;
use crate::args::PlaceArgs;
use crate::commands::run::options_of_places;

struct Files {
    root: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir(files.root.path().join("jobs")).unwrap();
        files
    }

    fn folder(&self) -> Folder {
        let place = |name: &str| Some(self.root.path().join(name).display().to_string());
        let places = PlaceArgs { outputs: place("outputs"), checkpoints: place("checkpoints"), namespace: None };
        let kinds = Kinds { streaming: true, batch: true };
        Folder::new(vec![self.root.path().join("jobs")], kinds, options_of_places(&places).unwrap())
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.root.path().join("jobs").join(file), text).unwrap();
    }

    fn remove(&self, file: &str) {
        fs::remove_file(self.root.path().join("jobs").join(file)).unwrap();
    }
}

fn batch(name: &str, reads: &str, writes: &str, more: &str) -> String {
    format!(
        "apiVersion: dataplatform.io/v1alpha1\nkind: BatchJob\nmetadata: {{name: {name}}}\nspec:\n  interval: hour\n{more}  inputs: \
         [{{name: t, path: {reads}, timeColumn: at}}]\n  query: SELECT count(*) AS n FROM t\n  sink: {{path: {writes}}}\n"
    )
}

fn names(jobs: &Jobs) -> Vec<&str> {
    jobs.known.keys().map(String::as_str).collect()
}

#[test]
fn the_built_in_jobs_are_seven_and_each_comes_after_what_it_reads() {
    let files = Files::new();
    let mut folder = Folder { files: Vec::new(), ..files.folder() };
    let jobs = folder.read().unwrap();
    assert_eq!(jobs.known.len(), 7);
    let before = |job: &str| jobs.before[job].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(before("hourly-aggregates"), ["event-aggregation"]);
    assert_eq!(before("daily-summaries"), ["clickstream-analysis", "hourly-aggregates"]);
    assert_eq!(before("user-segmentation"), ["clickstream-analysis", "event-aggregation"]);
    assert!(before("data-enrichment").is_empty() && folder.read_again(&jobs).is_none());
    assert_eq!(jobs.known["daily-summaries"].schedule, Some(("0 2 * * *".to_owned(), "UTC".to_owned())));
}

#[test]
fn a_change_is_taken_up_and_a_broken_file_keeps_what_it_described() {
    let files = Files::new();
    files.write("a.yaml", &batch("a", "in", "out", ""));
    files.write("b.yaml", &batch("b", "out", "sums", ""));
    let mut folder = files.folder();
    let first = folder.read().unwrap();
    assert_eq!(names(&first), ["a", "b"]);
    assert!(folder.read_again(&first).is_none());

    files.write("a.yaml", &batch("a", "in", "out", "  catchUp: 7\n"));
    files.write("b.yaml", "kind: BatchJob\nspec: [");
    files.write("c.yaml", &batch("c", "sums", "last", "  suspend: true\n"));
    let (second, problem) = folder.read_again(&first).unwrap();
    assert_eq!(names(&second), ["a", "b", "c"]);
    assert_ne!(first.known["a"].wanted.version, second.known["a"].wanted.version);
    assert_eq!(first.known["b"].wanted.version, second.known["b"].wanted.version);
    assert!(second.known["c"].wanted.suspended);
    assert!(problem.unwrap().to_string().contains("b.yaml"), "the file is named");
    assert!(folder.read_again(&second).is_none(), "it is said once");

    // Whether a job is suspended does not make it another one.
    files.write("c.yaml", &batch("c", "sums", "last", ""));
    files.remove("b.yaml");
    let (third, problem) = folder.read_again(&second).unwrap();
    assert_eq!((names(&third), problem.is_none()), (vec!["a", "c"], true));
    assert_eq!(second.known["c"].wanted.version, third.known["c"].wanted.version);
}

#[test]
fn what_cannot_be_together_leaves_all_as_they_were() {
    let files = Files::new();
    files.write("b.yaml", &batch("one", "in", "out", ""));
    let mut folder = files.folder();
    let first = folder.read().unwrap();
    // The job that is there is the job; the file that comes before it in the folder is the broken one.
    files.write("a.yaml", &batch("one", "in", "other", ""));
    let (second, problem) = folder.read_again(&first).unwrap();
    assert_eq!(first.known["one"].wanted.version, second.known["one"].wanted.version);
    assert!(problem.unwrap().to_string().contains("another job is called one too"));

    files.write("a.yaml", &batch("two", "out", "in", ""));
    let (third, problem) = folder.read_again(&second).unwrap();
    assert_eq!(names(&third), ["one"]);
    assert!(problem.unwrap().to_string().contains("one -> two -> one"));

    fs::rename(files.root.path().join("jobs"), files.root.path().join("elsewhere")).unwrap();
    let (fourth, problem) = folder.read_again(&third).unwrap();
    assert_eq!((names(&fourth), problem.is_some()), (vec!["one"], true));
    assert!(folder.read_again(&fourth).is_none(), "it is said once");
    fs::rename(files.root.path().join("elsewhere"), files.root.path().join("jobs")).unwrap();
    files.remove("a.yaml");
    let (fifth, problem) = folder.read_again(&fourth).unwrap();
    assert_eq!((names(&fifth), problem.is_none()), (vec!["one"], true));
}
