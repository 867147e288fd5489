//! A file of log lines for each job: the lines that are written within its span, `job`. A file that is large becomes the older
//! one, `<job>.json.1`, and takes the place of the older one before it, so that lines never fill the disk.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
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

/// Bytes of a file before it becomes the older one: some 60,000 lines, weeks of a job at level info, minutes of a search with trace.
/// Twice as much for seven jobs is 280 MB.
const FILE_BYTES: u64 = 20 << 20;

thread_local! {
    /// The files of the spans that this thread is in, the innermost last.
    static ENTERED: RefCell<Vec<JobFile>> = const { RefCell::new(Vec::new()) };
}

type JobFile = Arc<Mutex<LogFile>>;

/// The file of a job.
struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// From so many bytes on it becomes the older one.
    bytes_max: u64,
}

impl LogFile {
    fn open(path: PathBuf, bytes_max: u64) -> io::Result<Self> {
        let file = opened(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes, bytes_max })
    }

    /// Writes a line, into a new file if this one is full. Where there can be none the old one goes on growing: lines are
    /// worth more than their order.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.bytes_max {
            // Somebody may have cut or moved it: then this is no longer what it was.
            let older = self.path.with_extension("json.1");
            if std::fs::rename(&self.path, older).is_ok() || !self.path.exists() {
                self.file = opened(&self.path)?;
            }
            self.bytes = 0;
        }
        let written = self.file.write(line)?;
        self.bytes += written as u64;
        Ok(written)
    }
}

fn opened(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Files below a folder, one for each job, made with its first span.
#[derive(Clone)]
pub(super) struct JobFiles {
    folder: PathBuf,
    bytes_max: u64,
    open: Arc<Mutex<BTreeMap<String, Option<JobFile>>>>,
}

impl JobFiles {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, bytes_max: FILE_BYTES, open: Arc::default() }
    }

    /// The file of a job. `None`: there can be none, which is said once.
    fn of(&self, job: &str) -> Option<JobFile> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(job) {
            return file.clone();
        }
        let path = self.folder.join(format!("{job}.json"));
        let file = std::fs::create_dir_all(&self.folder)
            .and_then(|()| LogFile::open(path.clone(), self.bytes_max))
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

    #[test]
    fn a_large_file_becomes_the_older_one_and_no_line_is_torn() {
        let folder = tempfile::tempdir().unwrap();
        let files = JobFiles { bytes_max: 2_000, ..JobFiles::new(folder.path().join("logs")) };
        let lines = tracing_subscriber::fmt::layer().json().with_writer(files.clone());
        let subscriber = tracing_subscriber::registry().with(files.clone()).with(lines);
        let read = |file: &str| std::fs::read_to_string(folder.path().join("logs").join(file)).unwrap_or_default();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error_span!("job", job = "a")
                .in_scope(|| (0..100).for_each(|number| tracing::info!(number, "a line")));
            tracing::error_span!("job", job = "b").in_scope(|| tracing::info!("of another job"));
            tracing::info!("of none");
        });
        let (now, before) = (read("a.json"), read("a.json.1"));
        assert!((1..=2_000).contains(&now.len()) && (1_000..=2_000).contains(&before.len()), "{before}{now}");
        let numbers: Vec<u64> = (before + &now)
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["fields"]["number"].as_u64().unwrap())
            .collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]) && numbers.last() == Some(&99), "{numbers:?}");
        assert_eq!(read("b.json").lines().count(), 1);

        // The next process goes on with it, and with its size.
        let files = JobFiles { bytes_max: 2_000, ..JobFiles::new(folder.path().join("logs")) };
        let file = files.of("a").unwrap();
        assert_eq!(file.lock().unwrap().bytes, now.len() as u64);
        // Somebody took it away: the next file is a new one.
        std::fs::remove_file(folder.path().join("logs/a.json")).unwrap();
        for _ in 0..3 {
            JobWriter(Some(Arc::clone(&file))).write_all(&[b'x'; 1_500]).unwrap();
        }
        assert_eq!(read("a.json").len(), 1_500);
    }
}
