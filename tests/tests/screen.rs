//! What the commands show on a terminal of 80 columns, that `script` of util-linux makes: tables fit, names are whole; and what they
//! give to programs in other forms.

use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use data_platform_runner::generate::EventSettings;
use data_platform_tests::{Broker, Ended, JobFolders, Runner, environment, needs_broker, skip};

use crate::events::{Stream, TIMEOUT, finish};

const COLUMNS: usize = 80;
/// The longest name of all.
const LETTERS: &str = "events_aggregated_realtime_dead_letters";

/// What a command shows on the terminal, without colours.
fn screen(folders: &JobFolders, line: &str) -> anyhow::Result<String> {
    let program = environment::program("data-platform");
    let command = format!("stty cols {COLUMNS} rows 40; '{}' {line}", program.display());
    let shown = Command::new("script")
        .args(["-q", "-e", "-c", &command, "/dev/null"])
        .current_dir(folders.root())
        .env("TERM", "xterm")
        .env("OUTPUTS_DIR", "outputs")
        .env("CHECKPOINT_DIR", "checkpoints")
        .env("HTTP_ADDRESS", "off")
        .env_remove("LOG_LEVEL")
        .env_remove("KAFKA_BOOTSTRAP_SERVER")
        .stdin(Stdio::null())
        .output()
        .context("start script")?;
    let text = String::from_utf8_lossy(&shown.stdout).replace('\r', "");
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("\u{1b}[") {
        plain.push_str(&rest[..at]);
        let end = rest[at + 2..].find(|c: char| c.is_ascii_alphabetic()).map_or(rest.len(), |end| at + 3 + end);
        rest = &rest[end..];
    }
    Ok(plain + rest)
}

/// Lines of tables are those that begin with a blank or a line.
fn fits(line: &str, shown: &str, says: &[&str], never: &[&str]) -> anyhow::Result<()> {
    let is_of_a_table = |line: &&str| line.starts_with([' ', '─']);
    let widest = shown.lines().filter(is_of_a_table).max_by_key(|line| line.chars().count()).unwrap_or_default();
    ensure!(widest.chars().count() <= COLUMNS, "{line}: {widest:?} in\n{shown}");
    for text in says {
        ensure!(shown.contains(text), "{line}: no {text:?} in\n{shown}");
    }
    for text in never {
        ensure!(!shown.contains(text), "{line}: {text:?} in\n{shown}");
    }
    Ok(())
}

/// An hour of events, of which some are bad, and its aggregates.
fn world(broker: Broker) -> anyhow::Result<Stream> {
    let settings = EventSettings { messy: 0.03, ..EventSettings::default() };
    let mut stream = Stream::new(broker, "screen", 3, settings, 1_200.0)?;
    stream.produce(4_000)?;
    let job = stream.job().arg("--starting-offsets").arg("earliest");
    finish(job.arg("--set").arg("spec.kafka.maxOffsetsPerTrigger=500").arg("--test-mode"))?;
    let hour = ["backfill", "hourly-aggregates", "--from", "2026-01-01", "--to", "2026-01-01 01:00:00"];
    let (ended, runner) = Runner::command(hour).folders(&stream.folders).run(TIMEOUT)?;
    ensure!(ended == Ended::Code(0), "{}", runner.last_lines());
    Ok(stream)
}

#[test]
fn tables_fit_80_columns_and_names_are_whole() -> anyhow::Result<()> {
    if Command::new("script").arg("--version").output().is_err() {
        skip!("there is no script of util-linux, which makes terminals");
    }
    let stream = world(needs_broker!())?;
    let events = "FROM events_aggregated_realtime";
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("checkpoint ls", &["local/event-aggregation", "local/hourly-aggregates", "last commit"], &[]),
        ("checkpoint show event-aggregation", &[LETTERS, "  dead letter: ", "next offset", "windows open"], &[]),
        ("checkpoint show hourly-aggregates", &["2026-01-01 00:00", "are they there?"], &[]),
        ("checkpoint verify event-aggregation", &["log records", "nothing left over"], &[]),
        ("audit event-aggregation", &[LETTERS, "records read", "PROVED"], &[]),
        ("templates", &["clickstream-analysis", "segments of users over the last days"], &[]),
        (
            &format!("query \"SELECT event_type, sum(event_count) AS events {events} GROUP BY 1\""),
            &["page_view", "rows"],
            &[],
        ),
        // Nine columns do not fit.
        (&format!("query \"SELECT * {events} LIMIT 2\""), &["── 1 ──", "── 2 ──", " window_start     2026-01-01"], &[]),
        (
            &format!("query \"EXPLAIN ANALYZE SELECT user_id, sum(event_count) {events} GROUP BY 1\""),
            &["Aggregate", "  DataSource", "mode=Partial", "in all"],
            &["file_groups", "@0"],
        ),
        (
            &format!("query --plot \"SELECT window_start, sum(event_count) AS events {events} GROUP BY 1 ORDER BY 1\""),
            &["events", "│", "└──", "2026-01-01 00:00:00Z"],
            &[],
        ),
        (&format!("query --plot \"SELECT event_type, count(*) AS n {events} GROUP BY 1\""), &["page_view │██"], &[]),
    ];
    for (line, says, never) in cases {
        let shown = screen(&stream.folders, line)?;
        println!("$ data-platform {line}\n{shown}");
        fits(line, &shown, says, never)?;
    }
    // Of these the lines of a check are as long as what was found.
    let shown = screen(&stream.folders, "doctor event-aggregation --bootstrap-servers 127.0.0.1:1")?;
    for text in [
        "all jobs\n  ok       clock ",
        "\nevent-aggregation\n",
        "  failed   brokers ",
        "           what to do: check kafka",
    ] {
        ensure!(shown.contains(text), "no {text:?} in\n{shown}");
    }
    Ok(())
}

#[test]
fn programs_get_rows_in_every_form_and_a_plan_as_an_exit_code() -> anyhow::Result<()> {
    let stream = world(needs_broker!())?;
    let answer = |arguments: &[&str]| -> anyhow::Result<(Ended, Runner)> {
        Runner::command(arguments).folders(&stream.folders).run(TIMEOUT)
    };
    let sum = "SELECT sum(event_count) AS events, min(window_start) AS first FROM events_aggregated_realtime";
    let said = |format: &str| -> anyhow::Result<String> {
        let (ended, runner) = answer(&["query", "--format", format, sum])?;
        ensure!(ended == Ended::Code(0), "{}", runner.last_lines());
        Ok(runner.stdout())
    };
    let csv = said("csv")?;
    let events = csv.lines().nth(1).and_then(|row| row.split(',').next()).context("a number")?.to_owned();
    ensure!(events.parse::<u64>()? > 1_000, "{csv}");
    assert_eq!(csv, format!("events,first\r\n{events},2026-01-01 00:00:00Z\r\n"));
    assert_eq!(said("json")?, format!("{{\"events\":{events},\"first\":\"2026-01-01T00:00:00Z\"}}\n"));
    assert_eq!(said("markdown")?, format!("| events | first |\n| ---: | --- |\n| {events} | 2026-01-01 00:00:00Z |\n"));
    // Parquet is bytes: it goes where standard output goes, and is read again.
    let program = environment::program("data-platform");
    let parquet = Command::new(program)
        .args(["query", "--outputs", "outputs", "--format", "parquet", sum])
        .current_dir(stream.folders.root())
        .output()?;
    std::fs::write(stream.folders.root().join("sum.parquet"), &parquet.stdout)?;
    let (_, again) = answer(&["query", "--format", "csv", "SELECT events FROM 'sum.parquet'"])?;
    assert_eq!(again.stdout(), format!("events\r\n{events}\r\n"), "{}", again.last_lines());

    // Windows are open.
    let topic = format!("spec.sources[0].topics[0]={}", stream.topic);
    let plan = |set: &str| -> anyhow::Result<(Ended, String)> {
        let (ended, runner) = answer(&["plan", "event-aggregation", "--set", &topic, "--set", set])?;
        Ok((ended, format!("{}{}", runner.stdout(), runner.stderr())))
    };
    for (set, code, says) in [
        ("spec.sink.path=events_aggregated_realtime", 0, "nothing"),
        ("spec.sources[0].eventTime.watermarkDelay=40s", 0, "new pod, state kept"),
        ("spec.parameters.window=2 minutes", 4, "needs fresh state"),
        ("spec.trigger.interval=never", 2, "spec.trigger.interval"),
    ] {
        let (ended, said) = plan(set)?;
        ensure!(ended == Ended::Code(code) && said.contains(says), "{set}: {ended:?}: {said}");
    }
    Ok(())
}
