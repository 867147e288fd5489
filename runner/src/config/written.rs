//! Folders that several jobs write to, compared: each is one job's.

use data_platform_crds::field_path::FieldPath;
use data_platform_crds::problem::Problem;

use crate::config::job::{PlannedJob, location};
use crate::config::spec_field;
use crate::pipeline::error::JobError;
use crate::pipeline::streaming::BadRecords;
use crate::sink::SinkPlan;
use crate::storage::location::Location;
use crate::storage::places::Place;

/// A folder that a job writes to.
pub(crate) struct WrittenFolder {
    /// The field that says so, or could say otherwise.
    pub(crate) field: FieldPath,
    /// What lies there: `the table t`.
    pub(crate) what: String,
    pub(crate) location: Location,
}

impl PlannedJob {
    /// The folders that it writes to when its outputs lie at `outputs`.
    ///
    /// # Errors
    /// When a path cannot be read.
    pub(crate) fn written_folders(&self, outputs: &Location) -> Result<Vec<WrittenFolder>, JobError> {
        let mut folders = Vec::new();
        for (index, flow) in self.flows.iter().enumerate().filter(|(_, flow)| flow.writes.root().is_none()) {
            let only = self.loaded.job.spec.sink.is_some();
            let sink = if only { spec_field("sink") } else { spec_field("outputs").index(index).field("sink") };
            let what = format!("the table {}", flow.output);
            folders.push(WrittenFolder { field: sink.field("path"), what, location: location(flow, outputs)? });
        }
        if let BadRecords::Keep(SinkPlan::Table(_)) = self.bad_records() {
            let (field, what) = (spec_field("badRecords").field("path"), "the dead letters".to_owned());
            folders.push(WrittenFolder { field, what, location: self.dead_letters_location(outputs)? });
        }
        Ok(folders)
    }
}

/// Folders of the jobs seen so far.
#[derive(Default)]
pub(crate) struct WrittenFolders(Vec<Known>);

struct Known {
    job: String,
    /// `<namespace>/<job>`: one job in two files is one.
    identity: String,
    namespace: String,
    what: String,
    location: Location,
    place: Place,
}

impl WrittenFolders {
    /// Adds the folders of a job; a problem for each that another job of its namespace writes to.
    ///
    /// # Errors
    /// When the working directory is gone.
    pub(crate) fn add(
        &mut self,
        namespace: Option<&str>,
        job: &str,
        folders: Vec<WrittenFolder>,
    ) -> Result<Vec<Problem>, JobError> {
        let namespace = namespace.unwrap_or_default().to_owned();
        let identity = format!("{namespace}/{job}");
        let mut problems = Vec::new();
        for WrittenFolder { field, what, location } in folders {
            let place = Place::of(&location)?;
            let mut others = self.0.iter().filter(|known| known.namespace == namespace && known.identity != identity);
            if let Some(other) = others.find(|known| known.place.overlaps(&place)) {
                let message = format!(
                    "{what} ({location}) and {} of the job {} ({}) lie at one place, or one in the other",
                    other.what, other.job, other.location
                );
                let cure = "give each a folder of its own, none inside another: correct sink.path or badRecords.path";
                problems.push(Problem::error(field, message, cure));
            }
            let (job, identity, namespace) = (job.to_owned(), identity.clone(), namespace.clone());
            self.0.push(Known { job, identity, namespace, what, location, place });
        }
        Ok(problems)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{JobSource, Loaded, load_one};

    /// A job that writes to `sink`, with more fields.
    fn planned(folder: &tempfile::TempDir, name: &str, namespace: &str, sink: &str, more: &str) -> PlannedJob {
        let file = folder.path().join("job.yaml");
        let source = "{name: s, topics: [t], columns: [{name: a, type: int}]}";
        let text = format!(
            "apiVersion: dataplatform.io/v1alpha1\nkind: StreamingJob\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
             sources: [{source}]\n  query: SELECT a FROM s\n  sink: {sink}\n{more}"
        );
        std::fs::write(&file, text).unwrap();
        let Loaded::Streaming(loaded) = load_one(&JobSource { files: vec![file], ..JobSource::default() }).unwrap()
        else {
            panic!("it is a streaming job")
        };
        PlannedJob::new(*loaded, &Location::Folder(PathBuf::from("/o"))).unwrap()
    }

    #[test]
    fn a_folder_is_one_job_s_and_so_is_that_of_its_dead_letters() {
        let folder = tempfile::tempdir().unwrap();
        let (drop, kafka) = ("  badRecords: {action: drop}\n", "{format: kafka, topic: u}");
        for (first, second, problem) in [
            (("a", "one", "{path: t}", ""), ("b", "one", "{path: u}", ""), None),
            (("a", "one", "{path: t}", ""), ("b", "one", "{path: t/}", ""), Some("the table t")),
            (("a", "one", "{path: t}", ""), ("b", "one", "{path: t_dead_letters}", ""), Some("the dead letters")),
            (
                ("a", "one", "{path: t_dead_letters}", ""),
                ("b", "one", "{path: t}", ""),
                Some("the table t_dead_letters"),
            ),
            (("a", "one", kafka, ""), ("b", "one", "{path: a_dead_letters}", ""), Some("the dead letters")),
            (("a", "one", "{path: t}", drop), ("b", "one", "{path: t_dead_letters}", ""), None),
            (("a", "one", "{path: t}", ""), ("b", "two", "{path: t}", ""), None),
            (("a", "one", "{path: t}", ""), ("a", "one", "{path: t}", ""), None),
        ] {
            let mut written = WrittenFolders::default();
            let mut add = |(name, namespace, sink, more): (&str, &str, &str, &str)| {
                let job = planned(&folder, name, namespace, sink, more);
                let folders = job.written_folders(&Location::Folder(PathBuf::from("/o"))).unwrap();
                written.add(Some(namespace), name, folders).unwrap()
            };
            assert!(add(first).is_empty(), "{first:?}");
            let found: Vec<_> = add(second).iter().map(ToString::to_string).collect();
            match problem {
                None => assert!(found.is_empty(), "{second:?}: {found:?}"),
                Some(other) => {
                    assert!(found[0].contains(other) && found[0].contains("of the job a (/o/"), "{found:?}");
                }
            }
        }
    }
}
