//! From the command line to an exit code: 0 done, 1 failed (worth a retry), 2 somebody must change something, 3 fenced.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser};

use crate::args::{Cli, Command};
use crate::commands;
use crate::config::ConfigError;
use crate::faults::Faults;
use crate::pipeline::error::{JobError, exit_code};
use crate::telemetry;

/// Exit code of a job or a command line that somebody must change.
const EXIT_USER: u8 = 2;

/// Why a command ends badly.
#[derive(Debug)]
pub enum CommandError {
    /// The job or the command line is not valid.
    Config(ConfigError),
    /// A job ended with an error.
    Job(JobError),
    /// Anything else: what, and an exit code.
    Other(String, u8),
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<JobError> for CommandError {
    fn from(error: JobError) -> Self {
        Self::Job(error)
    }
}

impl CommandError {
    /// What somebody must change.
    pub fn user(message: impl Into<String>) -> Self {
        Self::Other(message.into(), EXIT_USER)
    }

    /// What failed and may work another time.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Other(message.into(), 1)
    }

    fn code(&self) -> u8 {
        match self {
            Self::Config(_) => EXIT_USER,
            Self::Job(error) => exit_code(error),
            Self::Other(_, code) => *code,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Config(error) => error.to_string(),
            Self::Job(error) => error.in_full(),
            Self::Other(message, _) => message.clone(),
        }
    }
}

/// Runs the command line.
pub fn main(faults: Arc<dyn Faults>) -> ExitCode {
    // Fewer arenas: threads share what they free, which halves the memory that stays with the allocator.
    commands::limit_arenas();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USER } else { 0 });
        }
    };
    if let Err(error) = telemetry::start(cli.log_level, cli.log_format, cli.log_file.as_deref()) {
        eprintln!("error: cannot write the log file: {error}");
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

fn dispatch(command: Command, faults: Arc<dyn Faults>) -> Result<u8, CommandError> {
    match command {
        Command::Run(args) => commands::run::run(&args, &faults),
        Command::Demo(args) => commands::demo::demo(&args, &faults),
        Command::Validate(args) => commands::validate::validate(&args),
        Command::Explain(args) => commands::explain::explain(&args),
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

/// Prints to standard output; somebody who stopped reading (`| head`) is no error.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Says on standard error what went wrong: in red on a terminal.
fn report(error: &CommandError) {
    let (red, plain) = if std::io::stderr().is_terminal() { ("\u{1b}[1;31m", "\u{1b}[0m") } else { ("", "") };
    eprintln!("{red}error{plain}: {}", error.text());
}
