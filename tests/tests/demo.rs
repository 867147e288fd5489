//! What a newcomer sees: the demo shows rows and loses nothing, and the commands of the README work as written.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use data_platform_tests::process::expect_code;
use data_platform_tests::{Ended, JobFolders, Runner, environment, needs_broker};

use crate::shipped::{CHANGES, CLICKSTREAM, EVENT_AGGREGATION};

const TIMEOUT: Duration = Duration::from_secs(120);
const README: &str = include_str!("../../README.md");

/// The number before a word: `12 345 events` has 12345 before `events`. Groups of digits are separated by blanks.
fn number_before(text: &str, word: &str) -> anyhow::Result<u64> {
    let (before, _) = text.split_once(word).with_context(|| format!("{word:?} in {text:?}"))?;
    let begins = before.rfind(|c: char| !c.is_ascii_digit() && !c.is_whitespace()).map_or(0, |at| at + 1);
    let digits: String = before[begins..].chars().filter(char::is_ascii_digit).collect();
    digits.parse().with_context(|| format!("a number before {word:?} in {text:?}"))
}

/// The rows of a query over an outputs folder, as CSV without its header.
fn query(outputs: &Path, sql: &str) -> anyhow::Result<Vec<String>> {
    let command = Runner::command(["query", "--format", "csv", "--outputs"]).arg(outputs).arg(sql);
    let (ended, runner) = command.run(TIMEOUT)?;
    expect_code(ended, 0, &runner)?;
    Ok(runner.stdout().lines().skip(1).map(str::to_owned).collect())
}

/// What the demo says at its end of one job: its line and the numbers of its outputs.
struct Account {
    produced: u64,
    read: u64,
    dead_letters: u64,
    aside: u64,
    /// Name, accepted, late, rows.
    outputs: Vec<(String, u64, u64, u64)>,
}

/// The name in a line of the account and the numbers behind it: groups of digits have one blank between them, columns more.
fn figures(line: &str) -> anyhow::Result<(&str, Vec<u64>)> {
    let mut cells = line.trim().split("  ").map(str::trim).filter(|cell| !cell.is_empty());
    let name = cells.next().context("a name")?;
    let number = |cell: &str| cell.replace(' ', "").parse().with_context(|| format!("a number {cell:?} in {line:?}"));
    Ok((name, cells.map(number).collect::<anyhow::Result<_>>()?))
}

fn account(shown: &str, job: &str, tables: &[&str]) -> anyhow::Result<Account> {
    let (_, table) = shown.split_once("What became of every record:\n").context("an account")?;
    let of = |name: &str| -> anyhow::Result<Vec<u64>> {
        let mut lines = table.lines().filter(|line| line.trim().split("  ").next() == Some(name));
        Ok(figures(lines.next().with_context(|| format!("an account of {name} in {shown}"))?)?.1)
    };
    let [produced, read, dead_letters, aside] = of(job)?[..] else { anyhow::bail!("the account of {job} in {shown}") };
    let mut outputs = Vec::new();
    for name in tables {
        let [accepted, late, rows] = of(name)?[..] else { anyhow::bail!("the account of {name} in {shown}") };
        outputs.push(((*name).to_owned(), accepted, late, rows));
    }
    Ok(Account { produced, read, dead_letters, aside, outputs })
}

#[test]
fn the_demo_shows_rows_of_every_job_and_accounts_for_every_record() -> anyhow::Result<()> {
    let folders = JobFolders::new()?;
    let command = Runner::command(["demo", "--for", "20s", "--folder", "demo"]).folders(&folders);
    let (ended, runner) = command.run(TIMEOUT)?;
    expect_code(ended, 0, &runner)?;
    let shown = runner.stdout();
    let outputs = folders.root().join("demo/outputs");
    for (job, least, tables) in [
        ("event-aggregation", 20_000, &["events_aggregated_realtime"][..]),
        ("clickstream-analysis", 5_000, &["clickstream_sessions"]),
        ("cdc-transformation", 2_000, &["cdc_operation_summaries", "cdc_transformed"]),
        ("data-enrichment", 30_000, &["enriched_events"]),
    ] {
        let live: Vec<_> = shown.lines().filter(|line| line.contains(job) && line.contains(" windows open ")).collect();
        let most_rows = live.iter().filter_map(|line| number_before(line, " rows").ok()).max();
        ensure!(most_rows > Some(0), "no rows of {job} were shown while it ran: {live:#?}");
        ensure!(shown.contains(&format!("\n{job}, the first rows:\n")), "no rows of {job} were printed: {shown}");

        let account = account(&shown, job, tables)?;
        ensure!(account.produced > least && account.produced == account.read, "{job} of {shown}");
        ensure!(account.dead_letters > 0, "some of the demo's records are bad: {shown}");
        for (table, accepted, late, rows) in &account.outputs {
            ensure!(
                account.read == account.dead_letters + account.aside + accepted + late,
                "not every record is accounted for: {shown}"
            );
            let found = query(&outputs, &format!("SELECT count(*) AS n FROM {table}"))?;
            ensure!(found == [rows.to_string()] && *rows > 0, "{table}: {found:?} for {rows}");
        }
        let letters = query(&outputs, &format!("SELECT count(*) AS n FROM {}_dead_letters", first_table(job)))?;
        ensure!(letters == [account.dead_letters.to_string()], "{job}: {letters:?} for {}", account.dead_letters);
    }

    // What it wrote is what it said.
    let table = "events_aggregated_realtime";
    let accepted = account(&shown, "event-aggregation", &[table])?.outputs[0].1;
    let sums = query(&outputs, &format!("SELECT sum(event_count) AS events FROM {table}"))?;
    ensure!(sums == [accepted.to_string()], "{sums:?} for {accepted}");
    let keys = "window_start, user_id, event_type, app_type";
    let twice = format!("SELECT {keys} FROM {table} GROUP BY {keys} HAVING count(*) > 1");
    ensure!(query(&outputs, &twice)?.is_empty(), "a row came twice");

    // The commands that it ends with work from where it was started.
    let (_, next) = shown.split_once("\nTry next:\n").context("what to try next")?;
    let commands: Vec<_> = next.lines().filter(|line| line.starts_with("  data-platform ")).collect();
    ensure!(commands.len() >= 4, "{next}");
    for command in commands {
        ensure!(!shell(command, &folders, None)?.is_empty(), "{command} says nothing");
    }
    Ok(())
}

/// The table beside which a job's dead letters lie.
fn first_table(job: &str) -> &'static str {
    if job == "data-enrichment" {
        return "enriched_events";
    }
    let shipped = [&EVENT_AGGREGATION, &CLICKSTREAM, &CHANGES].into_iter().find(|shipped| shipped.name == job);
    shipped.expect("a shipped job").tables[0].0
}

/// The commands of a fenced block of the quick start, without comments.
fn quick_start() -> anyhow::Result<Vec<String>> {
    let (_, section) = README.split_once("\n## Quick start\n").context("a quick start")?;
    let section = section.split("\n## ").next().unwrap_or(section);
    let blocks = section.split("```sh\n").skip(1).filter_map(|block| block.split("\n```").next());
    let commands = blocks.flat_map(str::lines).map(|line| line.split("  #").next().unwrap_or(line).trim().to_owned());
    Ok(commands.filter(|line| !line.is_empty()).collect())
}

/// Runs a line as a person would, in the job's root, with `data-platform` on the path.
pub(crate) fn shell(line: &str, folders: &JobFolders, broker: Option<&str>) -> anyhow::Result<String> {
    let program = environment::program("data-platform");
    let programs = program.parent().context("a program lies in a folder")?.display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command.arg("-c").arg(line).current_dir(folders.root()).env("PATH", format!("{programs}:{path}"));
    // Not the settings of who runs the tests; the pages of other jobs may have the usual port.
    for name in ["OUTPUTS_DIR", "CHECKPOINT_DIR", "LOG_LEVEL"] {
        command.env_remove(name);
    }
    command.env("HTTP_ADDRESS", "127.0.0.1:0");
    if let Some(broker) = broker {
        command.env("KAFKA_BOOTSTRAP_SERVER", broker);
    }
    let output = command.output().with_context(|| format!("run {line}"))?;
    let (shown, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{line}: {}\n{shown}\n{errors}", output.status);
    Ok(shown.into_owned())
}

#[test]
fn the_commands_of_the_quick_start_work_as_they_are_written() -> anyhow::Result<()> {
    let broker = needs_broker!();
    let folders = JobFolders::new()?;
    let commands = quick_start()?;
    let (make, mut ours): (Vec<_>, Vec<_>) = commands.into_iter().partition(|line| line.starts_with("make"));
    assert_eq!(make, ["make run"]);
    assert_eq!(ours.len(), 3, "{ours:?}");
    // What it would do; the demo itself has its own test.
    let repository = environment::tests_folder().join("..");
    let mut make = Command::new("make");
    make.args(["--dry-run", "--no-print-directory", "run", "ARGS=--for 5s"]).current_dir(repository);
    // The tests may be run by make themselves, which hands its own options down.
    for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL"] {
        make.env_remove(name);
    }
    let planned = String::from_utf8_lossy(&make.output()?.stdout).into_owned();
    assert!(planned.lines().any(|line| line.ends_with("release/data-platform demo --for 5s")), "{planned}");

    // As it is written, but for the number of events: 100,000 at this rate take 20 s.
    assert!(ours[0].contains("--count 100000"), "{ours:?}");
    ours[0] = ours[0].replace("--count 100000", "--count 20000");
    let mut answers = Vec::new();
    for line in &ours {
        answers.push(shell(line, &folders, Some(broker.address()))?);
    }
    let summary: serde_json::Value = serde_json::from_str(&answers[1])?;
    ensure!(summary["accepted"].as_u64() >= Some(20_000), "{summary}");
    ensure!(summary["rows"].as_u64() > Some(0), "{summary}");
    ensure!(["page_view", "click", "purchase"].iter().all(|kind| answers[2].contains(kind)), "{}", answers[2]);

    // And the job that a person begins with is the template.
    let (_, text) =
        README.split_once("`data-platform templates event-aggregation > job.yaml`").context("the beginning")?;
    ensure!(!text.is_empty());
    shell(
        "data-platform templates event-aggregation > job.yaml && data-platform validate -f job.yaml",
        &folders,
        None,
    )?;
    let (ended, runner) = Runner::command(["run", "-f", "job.yaml", "--drain"])
        .broker(&broker)
        .folders(&folders)
        .arg("--http")
        .arg("off")
        .run(TIMEOUT)?;
    ensure!(ended == Ended::Code(0), "{}", runner.last_lines());
    Ok(())
}
