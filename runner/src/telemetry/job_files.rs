//! A file of log lines for each job: the lines that are written within its span, `job`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The span of a job, and its field with the job's name.
const SPAN: &str = "job";

thread_local! {
    /// The files of the spans that this thread is in, the innermost last.
    static ENTERED: RefCell<Vec<JobFile>> = const { RefCell::new(Vec::new()) };
}

type JobFile = Arc<Mutex<File>>;

/// Files below a folder, one for each job, made with its first span.
#[derive(Clone)]
pub(super) struct JobFiles {
    folder: PathBuf,
    open: Arc<Mutex<BTreeMap<String, Option<JobFile>>>>,
}

impl JobFiles {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, open: Arc::default() }
    }

    /// The file of a job. `None`: there can be none, which is said once.
    fn of(&self, job: &str) -> Option<JobFile> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(job) {
            return file.clone();
        }
        let path = self.folder.join(format!("{job}.json"));
        let file = std::fs::create_dir_all(&self.folder)
            .and_then(|()| OpenOptions::new().create(true).append(true).open(&path))
            .map(|file| Arc::new(Mutex::new(file)));
        let file = match file {
            Ok(file) => Some(file),
            Err(error) => {
                eprintln!("cannot write the log file {}: {error}: choose another folder with --logs", path.display());
                None
            }
        };
        open.insert(job.to_owned(), file.clone());
        file
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JobFiles {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().name() != SPAN {
            return;
        }
        let mut job = JobName::default();
        attributes.record(&mut job);
        if let (Some(file), Some(span)) = (self.of(&job.0), context.span(id)) {
            span.extensions_mut().insert(file);
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let file = context.span(id).and_then(|span| span.extensions().get::<JobFile>().cloned());
        ENTERED.with_borrow_mut(|entered| entered.extend(file));
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        if context.span(id).is_some_and(|span| span.extensions().get::<JobFile>().is_some()) {
            ENTERED.with_borrow_mut(Vec::pop);
        }
    }
}

impl<'a> MakeWriter<'a> for JobFiles {
    type Writer = JobWriter;

    fn make_writer(&'a self) -> JobWriter {
        JobWriter(ENTERED.with_borrow(|entered| entered.last().cloned()))
    }
}

/// Writes into the file of the job that this thread works on; what belongs to none goes nowhere.
pub(super) struct JobWriter(Option<JobFile>);

impl Write for JobWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Some(file) => file.lock().unwrap_or_else(PoisonError::into_inner).write(line),
            None => Ok(line.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The value of the field with the job's name.
#[derive(Default)]
struct JobName(String);

impl Visit for JobName {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == SPAN {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == SPAN && self.0.is_empty() {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn lines_of_a_job_are_in_its_file_and_others_in_none() {
        let folder = tempfile::tempdir().unwrap();
        let files = JobFiles::new(folder.path().join("logs"));
        let lines = tracing_subscriber::fmt::layer().json().with_writer(files.clone());
        let subscriber = tracing_subscriber::registry().with(files).with(lines);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("nobody's");
            let [one, other] = ["one", "other"].map(|job| tracing::info_span!("job", namespace = "local", job));
            one.in_scope(|| {
                tracing::info!("first");
                other.in_scope(|| tracing::info!("second"));
                tracing::info_span!("inner").in_scope(|| tracing::info!("third"));
            });
            tracing::info!("nobody's again");
        });
        let said = |job: &str| -> Vec<String> {
            let text = std::fs::read_to_string(folder.path().join(format!("logs/{job}.json"))).unwrap();
            let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
            text.lines().map(|text| line(text)["fields"]["message"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!((said("one"), said("other")), (vec!["first".into(), "third".into()], vec!["second".into()]));
        assert_eq!(std::fs::read_dir(folder.path().join("logs")).unwrap().count(), 2);
    }
}
