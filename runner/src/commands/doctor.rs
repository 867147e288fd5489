//! `doctor`: what a job needs of the world around it, looked at before it runs. It changes nothing but for a probe object in
//! each store, which it takes away again.
//!
//! ```text
//! jobs ── checks_of ── checks: brokers | stores | tables | machine ── check::run_all: side by side, each with its time limit
//!                                                                            └── rows ── show: table | JSON, exit code, last message
//! ```
//!
//! A further thing to look at is one more [`Check`] in [`checks_of`].

mod brokers;
mod check;
mod machine;
mod show;
mod stores;
mod tables;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::args::{DoctorArgs, DoctorFormat};
use crate::clock::{Clock, SystemClock};
use crate::commands::error::CommandError;
use crate::commands::print;
use crate::commands::run::last_message::{self, Told};
use crate::commands::run::{Planned, asked, options_of_places, plan};
use crate::config::job::RunOptions;
use crate::config::{Loaded, load, load_one};
use crate::faults::Faults;
use crate::pipeline::error::{JobError, exit_code};

use self::check::{Check, Outcome, Row, run_all};

/// Runs the command.
pub(crate) fn doctor(args: &DoctorArgs, faults: &Arc<dyn Faults>) -> Result<u8, CommandError> {
    let began = SystemClock.instant();
    let ended = examine(args, faults);
    // A person who looks around in a pod leaves its last message alone.
    if let Some(path) = args.termination_message.as_ref().filter(|_| args.config.is_some()) {
        let failed = match &ended {
            Ok(rows) => verdict(rows).map(CommandError::Job),
            Err(error) => Some(CommandError::Other(error.text(), error.code())),
        };
        let error = if let Err(error) = &ended { Some(error) } else { failed.as_ref() };
        last_message::write(path, &Told::default(), error, began);
    }
    let rows = ended?;
    print(&match args.format {
        DoctorFormat::Table => show::text(&rows),
        DoctorFormat::Json => show::json(&rows),
    });
    Ok(verdict(&rows).map_or(0, |error| exit_code(&error)))
}

/// Looks at everything.
fn examine(args: &DoctorArgs, faults: &Arc<dyn Faults>) -> Result<Vec<Row>, CommandError> {
    let (jobs, options) = jobs(args)?;
    let mut checks = machine::checks(&options);
    for job in jobs {
        checks.extend(checks_of(job, &options, faults)?);
    }
    Ok(run_all(checks))
}

/// The jobs, and how they would run.
fn jobs(args: &DoctorArgs) -> Result<(Vec<Loaded>, RunOptions), CommandError> {
    let source = args.job.source();
    let (jobs, mut options) = match &args.config {
        Some(file) => asked::with_options_of_pod(file, &args.place, &source)?,
        None if source.name.is_some() => (vec![load_one(&source)?], options_of_places(&args.place)?),
        None => (load(&source)?, options_of_places(&args.place)?),
    };
    options.bootstrap_servers = args.bootstrap_servers.clone().or(options.bootstrap_servers);
    Ok((jobs, options))
}

/// What is looked at for a job.
fn checks_of(job: Loaded, options: &RunOptions, faults: &Arc<dyn Faults>) -> Result<Vec<Check>, CommandError> {
    let mut checks = machine::checks_of_job(&job, options);
    match plan(job, &options.outputs)? {
        Planned::Streaming(planned) => {
            checks.push(brokers::check(&planned, options));
            checks.extend(brokers::registry(&planned, options));
            checks.extend(stores::of_streaming(&planned, options, faults)?);
            checks.extend(tables::references(&planned, options));
        }
        Planned::Batch(planned) => {
            checks.extend(stores::of_batch(&planned, options, faults)?);
            checks.extend(tables::inputs(&planned, options)?);
        }
    }
    Ok(checks)
}

/// What the command, or the pod, ends with: the first thing that failed and that its user must change, else the first one that
/// may pass; the others are named with it. `None`: nothing failed.
fn verdict(rows: &[Row]) -> Option<JobError> {
    let failed = rows.iter().filter_map(|row| match &row.outcome {
        Outcome::Failed(error) => Some((row, error)),
        _ => None,
    });
    let failed: Vec<_> = failed.collect();
    let needs_user = failed.iter().find(|(_, error)| exit_code(error) == 2);
    let (row, first) = needs_user.or_else(|| failed.first())?;
    let others: Vec<_> = failed.iter().filter(|(other, _)| !std::ptr::eq(*other, *row)).collect();
    let also = match &others[..] {
        [] => String::new(),
        others => {
            let named: Vec<_> = others.iter().map(|(row, error)| format!("{}: {}", row.name, error.message)).collect();
            format!("; also: {}", named.join("; "))
        }
    };
    let message = format!("{}: {}{also}", row.name, first.message);
    Some(JobError { message, ..(*first).clone() })
}
