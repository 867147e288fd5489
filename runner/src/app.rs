//! From the command line to an exit code: 0 done, 1 failed (worth a retry), 2 somebody must change something, 3 fenced;
//! `plan` alone ends with 4 where a job needs fresh state.

use std::ffi::OsStr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, CommandFactory, FromArgMatches};

use crate::args::{Cli, Command, LogLevel};
use crate::commands::error::{CommandError, EXIT_USER, report};
use crate::commands::{self, print};
use crate::faults::Faults;
use crate::telemetry;

/// Runs the command line.
pub fn main(faults: Arc<dyn Faults>) -> ExitCode {
    // Fewer arenas: threads share what they free, which halves the memory that stays with the allocator.
    commands::limit_arenas();
    // Libraries bring two; the one that is chosen here needs no C compiler of its own. An error says that one is there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too.
            let _ = error.print();
            if let Some(variable) = variable_of(&error) {
                eprintln!("The value comes from the environment variable {variable}.");
            }
            return ExitCode::from(if error.use_stderr() { EXIT_USER } else { 0 });
        }
    };
    let folder_of_jobs = match &cli.command {
        Command::Local(args) => Some(args.logs.as_path()),
        _ => None,
    };
    if let Err(error) = telemetry::start(log_level(&cli), cli.log_format, cli.log_file.as_deref(), folder_of_jobs) {
        let file = cli.log_file.unwrap_or_default();
        let cure = "name a file in a folder that is there with --log-file or LOG_FILE";
        report(&CommandError::user(format!("cannot write the log file {}: {error}: {cure}", file.display())));
        return ExitCode::from(EXIT_USER);
    }
    match dispatch(cli.command, faults) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report(&error);
            ExitCode::from(error.code())
        }
    }
}

/// The level that was asked for, or that of the job.
fn log_level(cli: &Cli) -> LogLevel {
    let of_job = || match &cli.command {
        Command::Run(args) => commands::run::asked::glance(args).2,
        _ => None,
    };
    cli.log_level.or_else(of_job).unwrap_or(LogLevel::Info)
}

/// Reads the command line and the environment. An empty variable counts as one that is not set: it is how scripts and
/// manifests pass on what they do not have.
fn parse() -> Result<Cli, clap::Error> {
    let mut command = without_empty_variables(Cli::command());
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let forget = |argument: Arg| {
        if argument.get_env().is_some_and(is_empty) { argument.env(Resettable::Reset) } else { argument }
    };
    command.mut_args(forget).mut_subcommands(without_empty_variables)
}

/// The variable that a refused value came from, since clap only names the flag. `None` if the flag was typed.
fn variable_of(error: &clap::Error) -> Option<String> {
    fn find(command: &clap::Command, flag: &str) -> Option<String> {
        let argument = command.get_arguments().find(|argument| argument.get_long() == Some(flag));
        let variable = argument.and_then(|argument| Some(argument.get_env()?.to_string_lossy().into_owned()));
        variable.or_else(|| command.get_subcommands().find_map(|command| find(command, flag)))
    }
    let ContextValue::String(refused) = error.get(ContextKind::InvalidArg)? else { return None };
    let flag = refused.split([' ', '=']).next()?.strip_prefix("--")?;
    let is_typed =
        |argument: &str| argument.strip_prefix("--").is_some_and(|typed| typed.split('=').next() == Some(flag));
    if std::env::args_os().any(|argument| is_typed(&argument.to_string_lossy())) {
        return None;
    }
    find(&Cli::command(), flag)
}

fn dispatch(command: Command, faults: Arc<dyn Faults>) -> Result<u8, CommandError> {
    match command {
        Command::Run(args) => commands::run::run(&args, &faults),
        Command::Local(args) => commands::local::local(&args, &faults),
        Command::Demo(args) => commands::demo::demo(&args, &faults),
        Command::Validate(args) => commands::validate::validate(&args),
        Command::Doctor(args) => commands::doctor::doctor(&args, &faults),
        Command::Explain(args) => commands::explain::explain(&args),
        Command::Backfill(args) => commands::backfill::backfill(&args, &faults),
        Command::Plan(args) => commands::plan::plan(&args),
        Command::Templates { name } => commands::validate::templates(name.as_deref()),
        Command::Generate(args) => commands::generate::generate(&args),
        Command::Query(args) => commands::query::query(&args),
        Command::Checkpoint(command) => commands::checkpoint::checkpoint(&command),
        Command::Audit(args) => commands::audit::audit(&args),
        Command::Crds => {
            for (_, crd) in data_platform_crds::crd::all() {
                let yaml =
                    data_platform_crds::crd::to_yaml(&crd).map_err(|error| CommandError::failed(error.to_string()))?;
                print(&format!("---\n{yaml}"));
            }
            Ok(0)
        }
        Command::Version => {
            println!("data-platform {} ({})", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
            Ok(0)
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "data-platform", &mut std::io::stdout());
            Ok(0)
        }
    }
}
