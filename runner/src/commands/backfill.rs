//! `backfill`: intervals of the past, oldest first; or those that are stale, of all batch jobs of the files.

use std::collections::BTreeMap;
use std::sync::Arc;

use data_platform_crds::dependencies;

use crate::args::{BackfillArgs, IntervalArgs, RunArgs};
use crate::commands::error::CommandError;
use crate::commands::run;
use crate::config::{JobSource, Loaded, load, load_one};
use crate::faults::Faults;

/// Runs the command.
pub(crate) fn backfill(args: &BackfillArgs, faults: &Arc<dyn Faults>) -> Result<u8, CommandError> {
    let source = args.job.source();
    if !args.stale {
        refuse_streaming(&load_one(&source)?)?;
        return run::run(&as_run(args, args.job.job.clone()), faults);
    }
    if source.name.is_some() {
        refuse_streaming(&load_one(&source)?)?;
        return run::run(&as_run(args, source.name), faults);
    }
    for name in in_order(&source)? {
        run::run(&as_run(args, Some(name)), faults)?;
    }
    Ok(0)
}

fn refuse_streaming(job: &Loaded) -> Result<(), CommandError> {
    match job {
        Loaded::Batch(_) => Ok(()),
        Loaded::Streaming(job) => {
            let message = format!("{}: this is a StreamingJob, which has no intervals: name a BatchJob", job.file);
            Err(CommandError::user(message))
        }
    }
}

/// The batch jobs of the files: those that write what others read come first.
fn in_order(source: &JobSource) -> Result<Vec<String>, CommandError> {
    let jobs = load(source)?;
    let batch: Vec<_> = jobs
        .iter()
        .filter_map(|job| match job {
            Loaded::Batch(job) => Some(&job.job),
            Loaded::Streaming(_) => None,
        })
        .collect();
    if batch.is_empty() {
        return Err(CommandError::user("there is no BatchJob in these files: streaming jobs have no intervals"));
    }
    // What they read of each other counts as what they say.
    let path = |path: Option<&str>| path.unwrap_or_default().trim_end_matches('/').to_owned();
    let name = |job: &data_platform_crds::batch_job::BatchJob| job.metadata.name.clone().unwrap_or_default();
    let writers: BTreeMap<String, String> = batch
        .iter()
        .flat_map(|job| job.spec.sinks().map(move |sink| (path(sink.path.as_deref()), name(job))))
        .collect();
    let graph: Vec<_> = batch
        .iter()
        .map(|job| {
            let read = job.spec.inputs.iter().filter_map(|input| writers.get(&path(Some(&input.path))).cloned());
            let said = job.spec.depends_on.iter().map(|dependency| dependency.name.clone());
            let own = name(job);
            (own.clone(), read.chain(said).filter(|other| *other != own).collect::<Vec<_>>())
        })
        .collect();
    dependencies::in_order(&graph).map_err(|cycle| {
        let (message, cure) = dependencies::told(&cycle);
        CommandError::user(format!("{message}: {cure}, or process them one by one"))
    })
}

/// The same as a run.
fn as_run(args: &BackfillArgs, job: Option<String>) -> RunArgs {
    let job = crate::args::JobArgs { job, ..args.job.clone() };
    let intervals = IntervalArgs {
        from: args.from.clone(),
        to: args.to.clone(),
        lookback_days: args.lookback_days,
        backfill: (!args.stale).then_some(args.parallelism),
        stale: args.stale,
        ..IntervalArgs::default()
    };
    RunArgs {
        job,
        intervals,
        place: args.place.clone(),
        http: args.http.clone(),
        no_lock: args.no_lock,
        patience: 30,
        records_per_base: crate::checkpoint::decide::RECORDS_PER_BASE,
        ..RunArgs::default()
    }
}
