//! `plan`: what a changed file does to the jobs that run, before somebody applies it. Reads only.
//!
//! ```text
//! new file ── load, check ──────────────────────────┐
//! job log, or the old file ── before::Running ──────┴── judge ── one Judgement for each job ── show: text | JSON
//! ```

mod before;
mod judge;
mod show;
#[cfg(test)]
mod tests;

use crate::args::{PlanArgs, PlanFormat};
use crate::commands::error::{CommandError, EXIT_USER};
use crate::commands::print;
use crate::commands::run::options_of_places;
use crate::config::{JobSource, Loaded, load, load_one};

use self::before::Running;
use self::judge::{Judgement, Outcome};

/// Exit code when the state of a job does not go on as it is.
const EXIT_FRESH_STATE: u8 = 4;

/// Runs the command.
pub(crate) fn plan(args: &PlanArgs) -> Result<u8, CommandError> {
    let source = args.job.source();
    let jobs = if source.name.is_some() { vec![load_one(&source)?] } else { load(&source)? };
    let mut old = match &args.against {
        Some(file) => Some(load(&JobSource { files: vec![file.clone()], ..JobSource::default() })?),
        None => None,
    };
    let options = options_of_places(&args.place)?;
    let mut judged = Vec::with_capacity(jobs.len());
    for job in jobs {
        let before = match &mut old {
            Some(old) => take(old, &job)?,
            None => None,
        };
        let place = (args.against.is_none() || args.place.checkpoints.is_some()).then_some(&args.place);
        judged.push(Running::find(before, &job, place)?.judge(job, &options)?);
    }
    // Asked about one job, the others of the old file are not its affair.
    let gone = old.unwrap_or_default().into_iter().filter(|_| source.name.is_none());
    judged.extend(gone.map(|job| Judgement::gone(&job)));
    print(&match args.output {
        PlanFormat::Text => show::text(&judged),
        PlanFormat::Json => show::json(&judged),
    });
    Ok(judged.iter().map(|judged| code(&judged.outcome)).max_by_key(|code| severity(*code)).unwrap_or(0))
}

/// The job of the same name among those of the old file.
fn take(old: &mut Vec<Loaded>, job: &Loaded) -> Result<Option<Loaded>, CommandError> {
    let Some(at) = old.iter().position(|old| old.name() == job.name()) else { return Ok(None) };
    let before = old.remove(at);
    let kind = |job: &Loaded| matches!(job, Loaded::Batch(_));
    if kind(&before) != kind(job) {
        let message = format!("{} is another kind of job in {} than in {}", job.name(), before.file(), job.file());
        return Err(CommandError::user(format!("{message}: give the new one a name of its own")));
    }
    Ok(Some(before))
}

/// What the shell is told of one job.
fn code(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::FreshState(_) => EXIT_FRESH_STATE,
        Outcome::Refused { .. } => EXIT_USER,
        _ => 0,
    }
}

/// What is refused is told before what needs fresh state.
fn severity(code: u8) -> u8 {
    match code {
        0 => 0,
        EXIT_FRESH_STATE => 1,
        _ => 2,
    }
}
