//! How a command ends badly: why, its exit code, and how it is said.

use std::io::IsTerminal;

use crate::config::ConfigError;
use crate::pipeline::error::{JobError, Reason, Retry, exit_code};

/// Exit code of a job or a command line that somebody must change.
pub(crate) const EXIT_USER: u8 = 2;

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

    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Config(_) => EXIT_USER,
            Self::Job(error) => exit_code(error),
            Self::Other(_, code) => *code,
        }
    }

    /// Why, in one word of the closed list.
    pub fn reason(&self) -> &'static str {
        let reason = match self {
            Self::Config(error) if error.is_not_supported() => Reason::NotSupported,
            Self::Config(_) | Self::Other(_, EXIT_USER) => Reason::InvalidSpec,
            Self::Job(error) => error.reason,
            Self::Other(..) => Reason::InternalError,
        };
        reason.name()
    }

    /// The error as one of a job, if its user must change something.
    pub fn for_user(&self) -> Option<JobError> {
        let cure = "correct the job; it is taken up by itself";
        match self {
            Self::Config(error) if error.is_not_supported() => {
                Some(JobError::user(Reason::NotSupported, error.to_string(), cure))
            }
            Self::Config(_) | Self::Other(_, EXIT_USER) => Some(JobError::user(Reason::InvalidSpec, self.text(), cure)),
            Self::Job(error) => (error.retry == Retry::AfterChange).then(|| error.clone()),
            Self::Other(..) => None,
        }
    }

    /// What to do about it, where that is known apart from what went wrong.
    pub fn hint(&self) -> &str {
        match self {
            Self::Job(error) => &error.cure,
            Self::Config(_) | Self::Other(..) => "",
        }
    }

    /// What went wrong, for people.
    pub fn text(&self) -> String {
        match self {
            Self::Config(error) => error.to_string(),
            Self::Job(error) => error.in_full(),
            Self::Other(message, _) => message.clone(),
        }
    }
}

/// Says on standard error what went wrong: in red on a terminal.
pub(crate) fn report(error: &CommandError) {
    let (red, plain) = if std::io::stderr().is_terminal() { ("\u{1b}[1;31m", "\u{1b}[0m") } else { ("", "") };
    eprintln!("{red}error{plain}: {}", error.text());
}
