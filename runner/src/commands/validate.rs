//! `validate` and `templates`: jobs without running them, as files, or in a pod as the operator gives them.

use std::sync::Arc;

use data_platform_crds::batch_job::{BatchJob, InputFormat, InputSpec};
use data_platform_crds::problem::Problem;
use data_platform_crds::sink::SinkFormat;
use datafusion::arrow::datatypes::SchemaRef;

use crate::args::ValidateArgs;
use crate::clock::{Clock, SystemClock};
use crate::commands::error::CommandError;
use crate::commands::run::last_message::{self, Told};
use crate::commands::run::{asked, places};
use crate::commands::{list, print};
use crate::config::batch::{KnownTables, PlannedBatch, declared, text_of};
use crate::config::job::PlannedJob;
use crate::config::written::WrittenFolders;
use crate::config::{ConfigError, Loaded, LoadedJob, job_problems, load, load_one, spec_field, templates};
use crate::storage::location::Location;
use crate::tables::schema::cells_of;
use crate::tables::{Table, check_time_column};

/// Checks every job of the files, as the API server and the runner would; in a pod the one that the operator gives, and says
/// it in the last message.
pub(crate) fn validate(args: &ValidateArgs) -> Result<u8, CommandError> {
    let began = SystemClock.instant();
    let ended = jobs(args).and_then(|(jobs, outputs)| judge(jobs, &outputs));
    // A person who looks around in a pod leaves its last message alone.
    if let Some(path) = args.termination_message.as_ref().filter(|_| args.config.is_some()) {
        last_message::write(path, &Told::default(), ended.as_ref().err(), began);
    }
    ended.map(|()| 0)
}

/// The jobs, and where tables with relative paths lie.
fn jobs(args: &ValidateArgs) -> Result<(Vec<Loaded>, Location), CommandError> {
    let source = args.job.source();
    if let Some(file) = &args.config {
        let (job, place) = asked::of_pod(file, &args.place, &source)?;
        return Ok((vec![job], places(&place)?.0));
    }
    let jobs = if source.name.is_some() { vec![load_one(&source)?] } else { load(&source)? };
    Ok((jobs, places(&args.place)?.0))
}

fn judge(jobs: Vec<Loaded>, outputs: &Location) -> Result<(), CommandError> {
    let mut problems = Vec::new();
    let mut lines = String::new();
    // Those that write tables come first: then the columns that batch jobs read are known.
    let (streaming, batch): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| matches!(job, Loaded::Streaming(_)));
    let mut judged = Judged::default();
    for job in streaming.into_iter().chain(batch) {
        let file = job.file().to_owned();
        for warning in job.warnings() {
            eprintln!("{}", warning.in_file(&file));
        }
        let found = match job {
            Loaded::Batch(job) => judged.batch(*job, outputs),
            Loaded::Streaming(job) => judged.streaming(*job, outputs),
        };
        match found {
            Ok(line) => lines += &format!("{file}: {line}\n"),
            Err(CommandError::Config(ConfigError::Problems(found))) => problems.extend(found),
            Err(error) => return Err(error),
        }
    }
    print(&lines);
    if problems.is_empty() { Ok(()) } else { Err(ConfigError::Problems(problems).into()) }
}

/// What the jobs before tell of a job.
#[derive(Default)]
struct Judged {
    known: KnownTables,
    written: WrittenFolders,
}

impl Judged {
    fn streaming(&mut self, job: LoadedJob, outputs: &Location) -> Result<String, CommandError> {
        let planned = PlannedJob::new(job, outputs)?;
        for warning in planned.unread_sources() {
            eprintln!("{}", warning.in_file(&planned.loaded.file));
        }
        let namespace = planned.loaded.job.metadata.namespace.as_deref();
        let found = self.written.add(namespace, planned.name(), planned.written_folders(outputs)?)?;
        self.known.extend(planned.flows.iter().filter_map(|flow| {
            let path = flow.sink.path.as_deref()?;
            let schema = match flow.sink.format {
                SinkFormat::Csv => Arc::new(cells_of(&flow.query.output_schema())),
                _ => flow.query.output_schema(),
            };
            Some((path.trim_end_matches('/').to_owned(), schema))
        }));
        if !found.is_empty() {
            return Err(job_problems(&planned.loaded, found).into());
        }
        Ok(format!("StreamingJob {} is valid", planned.name()))
    }

    fn batch(&mut self, job: LoadedJob<BatchJob>, outputs: &Location) -> Result<String, CommandError> {
        let mut problems = Vec::new();
        for (index, input) in job.job.spec.inputs.iter().enumerate() {
            let path = input.path.trim_end_matches('/');
            if !self.known.contains_key(path)
                && let Some(schema) = columns_there(input, outputs)
            {
                self.known.insert(path.to_owned(), schema);
            }
            let (Some(column), Some(schema)) = (&input.time_column, self.known.get(path)) else { continue };
            if let Err(error) = check_time_column(&path, schema, column) {
                let message = error.strip_backtrace();
                let message = message.strip_prefix("Execution error: ").unwrap_or(&message).to_owned();
                let field = spec_field("inputs").index(index).field("timeColumn");
                problems.push(Problem::error(field, message, "name a column of type timestamp"));
            }
        }
        if !problems.is_empty() {
            return Err(job_problems(&job, problems).into());
        }
        let planned = PlannedBatch::over(job, &self.known)?;
        let folders = planned.written_folders(outputs).map_err(CommandError::from)?;
        let namespace = planned.loaded.job.metadata.namespace.as_deref();
        let found = self.written.add(namespace, planned.name(), folders)?;
        if !found.is_empty() {
            return Err(job_problems(&planned.loaded, found).into());
        }
        Ok(format!("BatchJob {} is valid", planned.name()))
    }
}

/// The columns of a table that is there, in a folder: nobody waits here for an object store that does not answer. Of one that
/// cannot be read the run says why: it is not the spec that is wrong.
fn columns_there(input: &InputSpec, outputs: &Location) -> Option<SchemaRef> {
    let location = Location::resolve(&input.path, outputs).ok()?;
    let table = Table::from(location.folder()?.to_owned()).with_columns(declared(&input.columns));
    let table = if input.format == InputFormat::Delta { table.by_log() } else { table };
    text_of(input.format).into_iter().fold(table, Table::with_text).newest_columns().ok()?
}

/// Lists the built-in jobs, or prints one.
pub(crate) fn templates(name: Option<&str>) -> Result<u8, CommandError> {
    if let Some(name) = name {
        print(templates::find(name).map_err(CommandError::user)?);
        return Ok(0);
    }
    let mut table = list(&["template", "what it does"]);
    for (name, what, _) in templates::TEMPLATES {
        table.add_row([name, what]);
    }
    print(&format!("{table}\n"));
    Ok(0)
}
