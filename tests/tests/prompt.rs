//! The prompt of `query`, on a terminal that `script` of util-linux makes.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use data_platform_tests::{environment, skip, wait_for};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A person at the prompt.
struct Person {
    child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<String>>,
}

impl Person {
    fn sit_down(folder: &std::path::Path) -> anyhow::Result<Self> {
        let program = environment::program("data-platform");
        let outputs = folder.join("outputs");
        let command = format!("'{}' query --outputs '{}'", program.display(), outputs.display());
        let mut child = Command::new("script")
            .args(["-q", "-f", "-e", "-c", &command, "/dev/null"])
            .env("TERM", "xterm")
            .env("XDG_STATE_HOME", folder.join("state"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start script")?;
        let keys = child.stdin.take().context("no keyboard")?;
        let mut shown = child.stdout.take().context("no screen")?;
        let screen = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(number) = shown.read(&mut bytes) {
                if number == 0 {
                    return;
                }
                if let Ok(mut seen) = seen.lock() {
                    seen.push_str(&String::from_utf8_lossy(&bytes[..number]));
                }
            }
        });
        Ok(Self { child, keys, screen })
    }

    fn types(&mut self, keys: &str) -> anyhow::Result<()> {
        self.keys.write_all(keys.as_bytes())?;
        Ok(self.keys.flush()?)
    }

    /// Waits until the screen shows a text that was not there before, and forgets what it shows.
    fn sees(&self, text: &str) -> anyhow::Result<()> {
        let found = wait_for(text, TIMEOUT, || {
            let mut screen = self.screen.lock().ok()?;
            let at = screen.find(text)?;
            let rest = screen.split_off(at + text.len());
            *screen = rest;
            Some(())
        });
        found.with_context(|| format!("the screen shows {:?}", self.screen.lock().map(|screen| screen.clone())))
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_query_is_written_over_several_lines_completed_ended_and_remembered() -> anyhow::Result<()> {
    if Command::new("script").arg("--version").output().is_err() {
        skip!("there is no program `script` (util-linux), which makes a terminal");
    }
    let folder = tempfile::tempdir()?;
    std::fs::create_dir_all(folder.path().join("outputs"))?;
    let mut person = Person::sit_down(folder.path())?;
    person.sees("sql> ")?;
    person.types("SELECT 40 + 2\rAS answer;\r")?;
    person.sees("answer")?;
    person.sees("42")?;
    // Tab completes a function, where only one begins so.
    person.sees("sql> ")?;
    person.types("SELECT is_valid_uu\t'x') AS right_so;\r")?;
    person.sees("right_so")?;
    person.sees("false")?;
    // Ctrl-C ends a query, and not the prompt.
    person.sees("sql> ")?;
    person.types("SELECT sum(value % 7) AS never FROM generate_series(1, 900000000000);\r")?;
    // The terminal is no longer the editor's then.
    person.sees("\u{1b}[?2004l")?;
    let mut pressed: Option<Instant> = None;
    wait_for("the end of the query", TIMEOUT, || {
        if pressed.is_none_or(|pressed| pressed.elapsed() > Duration::from_secs(2)) {
            person.types("\u{3}").ok()?;
            pressed = Some(Instant::now());
        }
        person.screen.lock().ok()?.contains("the query was ended").then_some(())
    })?;
    person.sees("sql> ")?;
    person.types("SELECT 7 * 6 AS after_it;\r")?;
    person.sees("after_it")?;
    person.sees("42")?;
    person.types("\\q\r")?;
    wait_for("the end of the prompt", TIMEOUT, || person.child.try_wait().ok().flatten())?;

    // Another day: the arrow up brings back what was asked last.
    let mut person = Person::sit_down(folder.path())?;
    person.sees("sql> ")?;
    person.types("\u{1b}[A\r")?;
    person.sees("after_it")?;
    person.sees("42")?;
    let history = std::fs::read_to_string(folder.path().join("state/data-platform/query-history"))?;
    anyhow::ensure!(history.contains("AS answer") && history.contains("is_valid_uuid("), "{history}");
    Ok(())
}
