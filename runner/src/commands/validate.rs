//! `validate` and `templates`: jobs as files, without running them.

use std::sync::Arc;

use data_platform_crds::sink::SinkFormat;

use crate::args::ValidateArgs;
use crate::commands::error::CommandError;
use crate::commands::run::places;
use crate::commands::{print, table};
use crate::config::batch::{KnownTables, PlannedBatch};
use crate::config::job::PlannedJob;
use crate::config::written::WrittenFolders;
use crate::config::{ConfigError, Loaded, job_problems, load, load_one, templates};
use crate::tables::schema::cells_of;

/// Checks every job of the files, as the API server and the runner would.
pub(crate) fn validate(args: &ValidateArgs) -> Result<u8, CommandError> {
    let source = args.job.source();
    let (outputs, _) = places(&args.place)?;
    let jobs = if source.name.is_some() { vec![load_one(&source)?] } else { load(&source)? };
    let mut problems = Vec::new();
    let mut lines = String::new();
    // Those that write tables come first: then the columns that batch jobs read are known.
    let (streaming, batch): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| matches!(job, Loaded::Streaming(_)));
    let mut known = KnownTables::new();
    let mut written = WrittenFolders::default();
    for job in streaming.into_iter().chain(batch) {
        let file = job.file().to_owned();
        for warning in job.warnings() {
            eprintln!("{}", warning.in_file(&file));
        }
        let streaming = match job {
            Loaded::Streaming(job) => job,
            Loaded::Batch(job) => {
                match PlannedBatch::over(*job, &known) {
                    Ok(planned) => {
                        let folder = planned.written_folder(&outputs).map_err(CommandError::from)?;
                        let namespace = planned.loaded.job.metadata.namespace.as_deref();
                        let found = written.add(namespace, planned.name(), vec![folder])?;
                        match found.is_empty() {
                            true => lines += &format!("{file}: BatchJob {} is valid\n", planned.name()),
                            false => problems.extend(job_problems(&planned.loaded, found).into_problems()),
                        }
                    }
                    Err(ConfigError::Problems(found)) => problems.extend(found),
                    Err(error) => return Err(error.into()),
                }
                continue;
            }
        };
        match PlannedJob::new(*streaming, &outputs) {
            Ok(planned) => {
                for warning in planned.unread_sources() {
                    eprintln!("{}", warning.in_file(&file));
                }
                let namespace = planned.loaded.job.metadata.namespace.as_deref();
                let found = written.add(namespace, planned.name(), planned.written_folders(&outputs)?)?;
                match found.is_empty() {
                    true => lines += &format!("{file}: StreamingJob {} is valid\n", planned.name()),
                    false => problems.extend(job_problems(&planned.loaded, found).into_problems()),
                }
                let tables = planned.flows.iter().filter_map(|flow| {
                    let path = flow.sink.path.as_deref()?;
                    let schema = match flow.sink.format {
                        SinkFormat::Csv => Arc::new(cells_of(&flow.query.output_schema())),
                        _ => flow.query.output_schema(),
                    };
                    Some((path.trim_end_matches('/').to_owned(), schema))
                });
                known.extend(tables);
            }
            Err(ConfigError::Problems(found)) => problems.extend(found),
            Err(error) => return Err(error.into()),
        }
    }
    print(&lines);
    if problems.is_empty() { Ok(0) } else { Err(ConfigError::Problems(problems).into()) }
}

/// Lists the built-in jobs, or prints one.
pub(crate) fn templates(name: Option<&str>) -> Result<u8, CommandError> {
    if let Some(name) = name {
        print(templates::find(name).map_err(CommandError::user)?);
        return Ok(0);
    }
    let mut table = table(&["template", "what it does"]);
    for (name, what, _) in templates::TEMPLATES {
        table.add_row([name, what]);
    }
    print(&format!("{table}\n"));
    Ok(0)
}
