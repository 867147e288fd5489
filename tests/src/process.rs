//! A program of this workspace as a child process: started, signalled, waited for, with its output kept in files.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Broker, JobFolders, environment, folders, wait_for};

/// Lines of each output that a failure shows: enough for an error and what led to it.
const LINES_SHOWN: usize = 40;

/// Settings of the person at the keyboard that must not reach a test.
const FOREIGN_SETTINGS: [&str; 17] = [
    "STORAGE_CREDENTIALS_DIR",
    "KAFKA_BOOTSTRAP_SERVER",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "LOG_FILE",
    "LOGS_DIR",
    "CHECKPOINT_DIR",
    "OUTPUTS_DIR",
    "NAMESPACE",
    "SECRETS_DIR",
    "HTTP_ADDRESS",
    "HTTP_TOKEN_FILE",
    "PATIENCE_SECONDS",
    "NO_COLOR",
    "JOB_NAME",
    "JOB_UID",
    "DATA_PLATFORM_CONFIG",
];

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// What to start; see [`Runner::command`].
#[derive(Debug)]
pub struct RunnerCommand {
    command: Command,
    name: String,
}

impl RunnerCommand {
    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// The folder in which it works.
    #[must_use]
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// `KAFKA_BOOTSTRAP_SERVER` for this broker.
    #[must_use]
    pub fn broker(self, broker: &Broker) -> Self {
        self.env("KAFKA_BOOTSTRAP_SERVER", broker.address())
    }

    /// `OUTPUTS_DIR`, `CHECKPOINT_DIR` and the working directory; of folders in a bucket their URLs, and how it is reached.
    #[must_use]
    pub fn folders(mut self, folders: &JobFolders) -> Self {
        let Some(bucket) = folders.bucket() else { return self.folders_on_disk(folders) };
        self.command.current_dir(folders.root()).envs(bucket.variables());
        self.env("OUTPUTS_DIR", bucket.url("outputs")).env("CHECKPOINT_DIR", bucket.url("checkpoints"))
    }

    /// The same as a reader sees them that knows nothing of buckets.
    #[must_use]
    pub fn folders_on_disk(mut self, folders: &JobFolders) -> Self {
        self.command.current_dir(folders.root());
        self.env("OUTPUTS_DIR", folders.outputs()).env("CHECKPOINT_DIR", folders.checkpoints())
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the program is not there.
    pub fn start(mut self) -> anyhow::Result<Runner> {
        let output = folders::temporary("process-")?;
        for (name, direction) in
            [("stdout", Command::stdout as fn(&mut Command, File) -> &mut Command), ("stderr", Command::stderr)]
        {
            let path = output.path().join(name);
            direction(&mut self.command, File::create(&path).with_context(|| format!("create {}", path.display()))?);
        }
        let child = self.command.stdin(Stdio::null()).spawn().with_context(|| format!("start {}", self.name))?;
        Ok(Runner { child, name: self.name, output })
    }

    /// Starts it and waits for its end.
    ///
    /// # Errors
    /// As [`RunnerCommand::start`] and [`Runner::wait`].
    pub fn run(self, timeout: Duration) -> anyhow::Result<(Ended, Runner)> {
        let mut runner = self.start()?;
        Ok((runner.wait(timeout)?, runner))
    }
}

/// A running (or ended) `data-platform`. Dropping it kills the process.
#[derive(Debug)]
pub struct Runner {
    child: Child,
    name: String,
    output: TempDir,
}

impl Runner {
    /// `data-platform` with these arguments, without the settings of who runs the tests.
    pub fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> RunnerCommand {
        Self::program(&environment::program("data-platform"), arguments)
    }

    /// Another program, such as the runner with faults.
    pub fn program<S: AsRef<OsStr>>(program: &Path, arguments: impl IntoIterator<Item = S>) -> RunnerCommand {
        let mut command = Command::new(program);
        command.args(arguments);
        for name in FOREIGN_SETTINGS {
            command.env_remove(name);
        }
        for (name, _) in std::env::vars_os() {
            let is_of_a_provider = |text: &str| ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|own| text.starts_with(own));
            if name.to_str().is_some_and(is_of_a_provider) {
                command.env_remove(name);
            }
        }
        RunnerCommand { command, name: program.file_name().unwrap_or_default().to_string_lossy().into_owned() }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal. A process that has ended is no error: a test cannot know.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        // A pid that was waited for may belong to somebody else by now.
        if self.has_ended()?.is_none() {
            let pid = Pid::from_child(&self.child);
            kill_process(pid, signal).with_context(|| format!("send {signal:?} to {}", self.name))?;
        }
        Ok(())
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().with_context(|| format!("kill {}", self.name))?;
        self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn has_ended(&mut self) -> anyhow::Result<Option<Ended>> {
        let status = self.child.try_wait().with_context(|| format!("wait for {}", self.name))?;
        Ok(status.map(|status| match (status.code(), status.signal()) {
            (Some(code), _) => Ended::Code(code),
            (None, signal) => Ended::Signal(signal.expect("what did not exit was ended by a signal")),
        }))
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// After `timeout`; the message has the last lines of its output. The process goes on.
    pub fn wait(&mut self, timeout: Duration) -> anyhow::Result<Ended> {
        let what = format!("the end of {}", self.name);
        let ended = wait_for(&what, timeout, || self.has_ended().transpose());
        ended.with_context(|| self.last_lines())?
    }

    /// Asks `attempt` (of this process) until it gives something, while the process runs.
    ///
    /// # Errors
    /// When the process ends first, or after `timeout`; the message has the last lines of its output.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        timeout: Duration,
        mut attempt: impl FnMut(&Self) -> Option<T>,
    ) -> anyhow::Result<T> {
        let started = Instant::now();
        let found = wait_for(what, timeout, || {
            // In this order: what is there when it ended counts.
            let ended = self.has_ended();
            match (attempt(self), ended) {
                (Some(found), _) => Some(Ok(found)),
                (None, Ok(None)) => None,
                (None, Ok(Some(ended))) => Some(Err(anyhow::anyhow!(
                    "{} ended ({ended:?}) after {:.1} s, before {what}",
                    self.name,
                    started.elapsed().as_secs_f32()
                ))),
                (None, Err(error)) => Some(Err(error)),
            }
        });
        found.flatten().with_context(|| self.last_lines())
    }

    /// What it wrote to standard output until now.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.read("stdout")
    }

    /// What it wrote to standard error until now.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.read("stderr")
    }

    /// The last lines of both outputs, for the message of a failed test.
    #[must_use]
    pub fn last_lines(&self) -> String {
        let mut text = format!("{} (pid {}) wrote last", self.name, self.id());
        for name in ["stdout", "stderr"] {
            let output = self.read(name);
            let skipped = output.lines().count().saturating_sub(LINES_SHOWN);
            for line in output.lines().skip(skipped) {
                text.push_str(&format!("\n  {name}: {line}"));
            }
        }
        text
    }

    fn read(&self, name: &str) -> String {
        let path: PathBuf = self.output.path().join(name);
        // Not UTF-8, or gone: a test shows what there is.
        fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.last_lines());
        }
        if let Err(error) = self.kill() {
            eprintln!("{error:#}");
        }
    }
}

/// Fails unless the process ended by itself with `code`; the message has its last lines.
///
/// # Errors
/// As said.
pub fn expect_code(ended: Ended, code: i32, runner: &Runner) -> anyhow::Result<()> {
    if ended != Ended::Code(code) {
        bail!("expected exit code {code}, found {ended:?}; {}", runner.last_lines());
    }
    Ok(())
}
