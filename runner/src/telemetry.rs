//! Log lines: coloured text on a terminal, JSON elsewhere, and JSON into a file on request, or into one for each job.

mod job_files;

use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::str::FromStr;
use std::sync::Mutex;

use tracing_subscriber::filter::{Directive, EnvFilter, LevelFilter};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::args::{LogFormat, LogLevel};
use crate::clock::{Clock, SystemClock};
use crate::terminal;

use self::job_files::JobFiles;

/// Begins to log to standard error, and into `file` if there is one. What a job says goes into a file of its own below
/// `folder_of_jobs`, if there is one.
///
/// # Errors
/// When the file cannot be opened.
pub fn start(level: LogLevel, format: LogFormat, file: Option<&Path>, folder_of_jobs: Option<&Path>) -> io::Result<()> {
    let filter = || {
        let level = match level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        };
        // What others say is of no use to a job's owner below a warning.
        let quiet = [
            "datafusion",
            "sqlparser",
            "hyper",
            "rdkafka",
            "buoyant_kernel",
            "deltalake",
            "object_store",
            "reqwest",
            "rustls",
        ]
        .map(|name| Directive::from_str(&format!("{name}=warn")));
        let filter = EnvFilter::default().add_directive(level.into());
        quiet.into_iter().flatten().fold(filter, EnvFilter::add_directive)
    };
    let terminal = io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Console => false,
        LogFormat::Json => true,
    };
    let to_stderr: Box<dyn Layer<Registry> + Send + Sync> = if json {
        Box::new(
            fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false)
                .with_writer(|| terminal::Above)
                .with_filter(filter()),
        )
    } else {
        Box::new(
            fmt::layer()
                .with_ansi(terminal)
                .with_timer(TimeOfDay)
                .with_target(false)
                .with_writer(|| terminal::Above)
                .with_filter(filter()),
        )
    };
    let to_file = match file {
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            let layer = fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
            Some(layer.with_writer(Mutex::new(file)).with_filter(filter()))
        }
        None => None,
    };
    let files = folder_of_jobs.map(|folder| JobFiles::new(folder.to_owned()));
    let to_files = files.clone().map(|files| {
        let layer = fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
        layer.with_writer(files).with_filter(filter())
    });
    // First, for then it knows the job of a line before the line is written.
    let jobs = files.map(|files| files.with_filter(filter()));
    tracing_subscriber::registry().with(to_stderr).with(to_file).with(jobs).with(to_files).init();
    Ok(())
}

/// The UTC time of day with milliseconds: enough for somebody who looks on.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        let now = chrono::DateTime::from_timestamp_micros(SystemClock.now()).unwrap_or_default();
        write!(writer, "{}", now.format("%H:%M:%S%.3f"))
    }
}
