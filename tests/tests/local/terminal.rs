//! The table of `local` on a terminal, which `script` of util-linux makes: what somebody sees who looks at it, and what stays when it is
//! told to stop.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use data_platform_tests::{Broker, environment, needs_broker, skip, wait_for};
use rustix::process::{Pid, Signal, kill_process};

use super::beside::{stream, streaming};
use super::schedule::{ROWS, over_rows};
use super::{Jobs, TIMEOUT};
use crate::shipped::{CHANGES, EVENT_AGGREGATION};

const COLUMNS: usize = 80;
/// Batch jobs beside the two streaming ones.
const BATCH: usize = 14;
const RECORDS: u64 = 2_000;

/// What a terminal makes of what it is sent: lines, of which the last ones are on its screen.
struct Screen {
    rows: usize,
    lines: Vec<Vec<char>>,
    /// Where the cursor is.
    line: usize,
    column: usize,
    /// The first line of the screen: what is above it has left it, and nothing is drawn there any more.
    top: usize,
}

impl Screen {
    fn of(sent: &str, rows: usize) -> Self {
        let mut screen = Self { rows, lines: vec![Vec::new()], line: 0, column: 0, top: 0 };
        let mut sent = sent.chars();
        while let Some(character) = sent.next() {
            match character {
                '\r' => screen.column = 0,
                '\n' => screen.next_line(),
                '\u{1b}' => screen.obey(&mut sent),
                _ => screen.put(character),
            }
        }
        screen
    }

    fn next_line(&mut self) {
        self.line += 1;
        self.lines.resize_with(self.lines.len().max(self.line + 1), Vec::new);
        self.top = self.top.max((self.line + 1).saturating_sub(self.rows));
    }

    fn put(&mut self, character: char) {
        if self.column == COLUMNS {
            self.next_line();
            self.column = 0;
        }
        let line = &mut self.lines[self.line];
        line.resize(line.len().max(self.column + 1), ' ');
        line[self.column] = character;
        self.column += 1;
    }

    /// Colours are left out.
    fn obey(&mut self, sent: &mut impl Iterator<Item = char>) {
        match sequence(sent).split_last() {
            Some(('A', number)) => {
                let up: usize = number.iter().skip(1).collect::<String>().parse().unwrap_or(1);
                self.line = self.line.saturating_sub(up).max(self.top);
            }
            Some(('J', _)) => {
                self.lines.truncate(self.line + 1);
                self.lines[self.line].truncate(self.column);
            }
            _ => {}
        }
    }

    fn text(&self) -> Vec<String> {
        self.lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect()
    }
}

/// `[`, a number, and the letter that says what it means.
fn sequence(sent: &mut impl Iterator<Item = char>) -> Vec<char> {
    let mut sequence = Vec::new();
    for character in sent {
        sequence.push(character);
        if character.is_ascii_alphabetic() {
            break;
        }
    }
    sequence
}

/// `local` on a terminal of so many rows.
struct Terminal {
    script: Child,
    rows: usize,
    sent: PathBuf,
    pid: PathBuf,
}

impl Terminal {
    fn start(jobs: &Jobs, broker: &Broker, rows: usize) -> anyhow::Result<Self> {
        let (root, program) = (jobs.folders.root(), environment::program("data-platform"));
        let (sent, pid) = (root.join(format!("sent-{rows}")), root.join("pid"));
        let command = format!(
            "stty cols {COLUMNS} rows {rows}; echo $$ > pid; exec '{}' local jobs --http off",
            program.display()
        );
        let script = Command::new("script")
            .args(["-q", "-e", "-c", &command, "/dev/null"])
            .current_dir(root)
            .env("TERM", "xterm")
            .env("OUTPUTS_DIR", "outputs")
            .env("CHECKPOINT_DIR", "checkpoints")
            .env("KAFKA_BOOTSTRAP_SERVER", broker.address())
            .env_remove("LOG_LEVEL")
            .stdin(Stdio::null())
            .stdout(File::create(&sent)?)
            .spawn()
            .context("start script")?;
        Ok(Self { script, rows, sent, pid })
    }

    /// What was sent until now, as it looks.
    fn lines(&self) -> Vec<String> {
        let sent = fs::read(&self.sent).unwrap_or_default();
        Screen::of(&String::from_utf8_lossy(&sent), self.rows).text()
    }

    fn wait_for(&self, what: &str, is: impl Fn(&[String]) -> bool) -> anyhow::Result<()> {
        let seen = wait_for(what, TIMEOUT, || is(&self.lines()).then_some(()));
        seen.with_context(|| self.lines().join("\n"))
    }

    /// As `kill` and systemd do it; gives everything that was to be seen, and what still is.
    fn stop(mut self) -> anyhow::Result<Vec<String>> {
        let pid: i32 = read(&self.pid)?.trim().parse()?;
        kill_process(Pid::from_raw(pid).context("a process")?, Signal::TERM)?;
        let ended = wait_for("the end", TIMEOUT, || self.script.try_wait().ok().flatten())?;
        ensure!(ended.code() == Some(0), "{ended:?}: {}", self.lines().join("\n"));
        Ok(self.lines())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Its terminal goes with it, and that ends the program.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
}

/// The lines of the table, and those below it.
fn table(lines: &[String]) -> anyhow::Result<Vec<String>> {
    let header = |line: &String| line.starts_with(" job ") && line.contains("records/s");
    let headers = lines.iter().filter(|line| header(line)).count();
    ensure!(headers == 1, "{headers} tables are to be seen:\n{}", lines.join("\n"));
    let first = lines.iter().position(header).context("a table")?;
    Ok(lines[first..].to_vec())
}

#[test]
fn the_table_has_each_job_fits_the_screen_and_stays_when_the_process_is_told_to_stop() -> anyhow::Result<()> {
    if Command::new("script").arg("--version").output().is_err() {
        skip!("there is no script of util-linux, which makes terminals");
    }
    let broker = needs_broker!();
    let jobs = Jobs::new()?;
    let (mut events, mut changes) = (stream(&EVENT_AGGREGATION, &broker)?, stream(&CHANGES, &broker)?);
    jobs.write("event-aggregation", &streaming(&events, "300ms")?)?;
    jobs.write("cdc-transformation", &streaming(&changes, "300ms")?)?;
    fs::create_dir_all(jobs.output("rows"))?;
    fs::write(jobs.output("rows").join("rows.csv"), ROWS)?;
    let batch: Vec<_> = (0..BATCH).map(|number| format!("batch-{number:02}")).collect();
    for name in &batch {
        jobs.write(name, &over_rows(name, "schedule: 0 0 29 2 *"))?;
    }
    events.produce(RECORDS)?;
    changes.produce(RECORDS)?;
    let counts = |lines: &[String], job: &str| {
        let row = format!(" {job} ");
        lines.iter().any(|line| line.starts_with(&row) && line.contains(" 2 000 "))
    };

    let high = Terminal::start(&jobs, &broker, 60)?;
    high.wait_for("both jobs to have read all", |lines| {
        counts(lines, "event-aggregation")
            && counts(lines, "cdc-transformation")
            && lines.iter().any(|line| line.contains("all jobs run"))
    })?;
    let lines = high.stop()?;
    let shown = table(&lines)?;
    let tables = ["  cdc_operation_summaries", "  cdc_transformed"].map(str::to_owned);
    for row in ["event-aggregation", "cdc-transformation"].map(str::to_owned).iter().chain(&batch).chain(&tables) {
        let rows = shown.iter().filter(|line| line.starts_with(&format!(" {row} "))).count();
        ensure!(rows == 1, "{row}: {rows} lines of\n{}", shown.join("\n"));
    }
    ensure!(counts(&shown, "event-aggregation"), "{}", shown.join("\n"));
    ensure!(shown.iter().any(|line| line.contains("of memory for all")), "{}", shown.join("\n"));

    // On one that is too low nothing is drawn twice, and the table says that there is more.
    let low = Terminal::start(&jobs, &broker, 12)?;
    low.wait_for("the jobs to run", |lines| lines.iter().any(|line| line.contains("all jobs run")))?;
    let (of_start, sent) = (fs::metadata(&low.sent)?.len(), low.sent.clone());
    wait_for("some more pictures", TIMEOUT, || (fs::metadata(&sent).ok()?.len() > of_start + 3_000).then_some(()))?;
    let lines = low.stop()?;
    let shown = table(&lines)?;
    ensure!(shown.iter().any(|line| line.starts_with("… ") && line.ends_with(" more lines")), "{}", shown.join("\n"));
    ensure!(shown.iter().filter(|line| !line.is_empty()).count() < 12, "{}", shown.join("\n"));
    println!("{}", shown.join("\n"));
    Ok(())
}
