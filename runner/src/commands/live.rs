//! The live figures of several jobs: a table that is drawn again and again on a terminal, else a line for each job now and then.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::clock::{Clock, SystemClock};
use crate::commands::{align_right, bytes, grouped, list, print, terminal_size};
use crate::http::several::is_well;
use crate::pipeline::memory::resident_bytes;
use crate::pipeline::status::JobStatus;
use crate::terminal;

/// Time between two pictures.
pub(super) const PICTURE: Duration = Duration::from_millis(500);
/// Pictures between two lines of a job where there is no terminal.
const PICTURES_PER_LINE: u128 = 10;
/// From this width on there is room for every column.
const WIDE: u16 = 120;

/// Figures that are shown until nobody wants them any more.
pub(super) struct Live {
    began: Instant,
    pictures: u128,
}

impl Live {
    pub(super) fn begin() -> Self {
        Self { began: SystemClock.instant(), pictures: 0 }
    }

    /// A picture on a terminal; elsewhere a line for each job, one time of ten.
    pub(super) fn show(&mut self, jobs: &[(String, JobStatus)]) {
        let elapsed = SystemClock.since(self.began);
        if is_on_a_terminal() {
            let (columns, rows) = terminal_size().unwrap_or((80, 0));
            terminal::draw(&fitting(&picture(jobs, elapsed, columns), rows));
        } else if self.pictures.is_multiple_of(PICTURES_PER_LINE) {
            jobs.iter().for_each(|(name, status)| print(&line(name, status, elapsed)));
        }
        self.pictures += 1;
    }
}

/// Somebody looks on.
pub(super) fn is_on_a_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// What a job has read, and what it left out.
struct Figures {
    read: u64,
    dead_letters: u64,
    late: u64,
    rows: u64,
    files: u64,
}

impl Figures {
    fn of(status: &JobStatus) -> Self {
        let (sources, outputs) = (status.totals.sources.values(), status.totals.outputs.iter());
        let outputs = outputs.filter(|(name, _)| status.outputs.contains_key(*name)).map(|(_, output)| output);
        Self {
            read: sources.clone().map(|source| source.read).sum(),
            dead_letters: sources.map(|source| source.dead_letters()).sum(),
            late: outputs.clone().map(|output| output.late).max().unwrap_or(0),
            rows: outputs.clone().map(|output| output.rows).sum(),
            files: outputs.map(|output| output.files).sum(),
        }
    }
}

fn line(name: &str, status: &JobStatus, elapsed: Duration) -> String {
    let figures = Figures::of(status);
    format!(
        "{:>4} s  {name:<20}  {:>9} records  {:>6}/s  lag {:>6}  {:>5} windows open  {:>7} rows  {}\n",
        elapsed.as_secs(),
        grouped(figures.read),
        grouped(status.records_per_second),
        grouped(status.lag().unwrap_or_default().unsigned_abs()),
        grouped(status.open_windows),
        grouped(figures.rows),
        status.reason
    )
}

fn picture(jobs: &[(String, JobStatus)], elapsed: Duration, width: u16) -> String {
    let wide = width >= WIDE;
    let mut header = vec!["job", "records/s", "read", "lag", "windows", "rows"];
    if wide {
        header.extend(["files", "dead letters", "late", "watermark", "batch", "state"]);
    }
    let mut table = list(&header);
    for (name, status) in jobs {
        table.add_row(job_row(name, status, wide));
        // With one output the job's own line says it all.
        if status.outputs.len() > 1 {
            for output in status.outputs.keys() {
                table.add_row(output_row(output, status, wide));
            }
        }
    }
    align_right(&mut table, &(1..header.len()).collect::<Vec<_>>());
    let unwell: Vec<_> = jobs.iter().filter(|(_, status)| !is_well(status)).collect();
    let (starting, unwell): (Vec<_>, Vec<_>) = unwell.into_iter().partition(|(_, status)| is_starting(status));
    let state = match (unwell.len(), starting.len()) {
        (0, 0) => "all jobs run".to_owned(),
        (0, 1) => "one job starts".to_owned(),
        (0, several) => format!("{several} jobs start"),
        (1, _) => "one job does not run".to_owned(),
        (several, _) => format!("{several} jobs do not run"),
    };
    // A line that is longer than the screen is two, and the next picture would be drawn in the wrong place.
    let fits = |line: String| line.lines().next().unwrap_or_default().chars().take(width.into()).collect::<String>();
    let why = unwell.iter().map(|(name, status)| fits(format!("{name}: {}: {}", status.reason, status.message)));
    let why: String = why.map(|line| format!("{line}\n")).collect();
    format!(
        "{table}\n\n{:.0} s · {} of memory for all · {state}\n{why}",
        elapsed.as_secs_f64(),
        bytes(resident_bytes())
    )
}

/// A picture that is no higher than the screen, if somebody knows how high that is: of one that is, nothing can be drawn over what has
/// left the screen at its top. What is below the table stays, and of the table what there is room for.
fn fitting(picture: &str, rows: u16) -> String {
    // The cursor stands below the last line.
    let room = usize::from(rows).saturating_sub(1);
    let lines: Vec<_> = picture.lines().collect();
    if rows == 0 || lines.len() <= room {
        return picture.to_owned();
    }
    let end = lines.iter().position(|line| line.is_empty()).unwrap_or(lines.len());
    let below: Vec<_> = lines.iter().copied().skip(end + 1).take(room / 2).collect();
    let kept = room.saturating_sub(below.len() + 1).min(end);
    let left_out = format!("… {} more lines", end - kept);
    let shown = lines.into_iter().take(kept).chain([left_out.as_str()]).chain(below);
    shown.map(|line| format!("{line}\n")).collect()
}

/// Nothing is wrong yet.
fn is_starting(status: &JobStatus) -> bool {
    status.reason == "Starting"
}

fn job_row(name: &str, status: &JobStatus, wide: bool) -> Vec<String> {
    let figures = Figures::of(status);
    let several = status.outputs.len() > 1;
    let mut row = vec![
        name.to_owned(),
        grouped(status.records_per_second),
        grouped(figures.read),
        status.lag().map_or_else(|| "-".to_owned(), |lag| grouped(lag.unsigned_abs())),
        if several { String::new() } else { grouped(status.open_windows) },
        if several { String::new() } else { grouped(figures.rows) },
    ];
    if wide {
        let behind = status.watermark.map(|watermark| (SystemClock.now() - watermark) as f64 / 1e6);
        let batch = status.last_commit.as_ref().map(|commit| commit.batch_ms);
        row.extend([
            grouped(figures.files),
            grouped(figures.dead_letters),
            grouped(figures.late),
            behind.map_or_else(|| "-".to_owned(), |behind| format!("{behind:.1} s ago")),
            batch.map_or_else(|| "-".to_owned(), |batch| format!("{batch} ms")),
            bytes(status.state_bytes),
        ]);
    }
    row
}

fn output_row(name: &str, status: &JobStatus, wide: bool) -> Vec<String> {
    let (now, total) = (status.outputs.get(name), status.totals.outputs.get(name).cloned().unwrap_or_default());
    let open = now.map_or(0, |now| now.open_windows);
    let open = if open > 0 { grouped(open) } else { String::new() };
    let mut row = vec![format!("  {name}"), String::new(), String::new(), String::new(), open, grouped(total.rows)];
    if wide {
        let state = now.filter(|now| now.state_bytes > 0).map_or_else(String::new, |now| bytes(now.state_bytes));
        row.extend([grouped(total.files), String::new(), grouped(total.late), String::new(), String::new(), state]);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::{Counters, OutputCounters, SourceCounters};
    use crate::pipeline::status::OutputStatus;

    fn status(outputs: &[&str]) -> JobStatus {
        let source = SourceCounters { read: 12_345_678, ..SourceCounters::default() };
        let counted = OutputCounters { rows: 1_234_567, files: 7_654, late: 12, ..OutputCounters::default() };
        let now = OutputStatus { open_windows: 1_234, state_bytes: 9_000_000, ..OutputStatus::default() };
        JobStatus {
            ready: true,
            watermark: Some(SystemClock.now()),
            totals: Counters {
                sources: [("s".to_owned(), source)].into(),
                outputs: outputs.iter().map(|name| ((*name).to_owned(), counted.clone())).collect(),
            },
            outputs: outputs.iter().map(|name| ((*name).to_owned(), now.clone())).collect(),
            records_per_second: 20_000,
            open_windows: 1_234,
            ..JobStatus::default()
        }
    }

    #[test]
    fn a_job_that_does_not_run_is_named_in_one_line_that_fits() {
        let broken = JobStatus {
            reason: "KafkaUnreachable".to_owned(),
            message: format!("no broker answers{}\nat all", " at 127.0.0.1:1".repeat(9)),
            ..JobStatus::default()
        };
        let picture = picture(&[("a".to_owned(), broken), ("b".to_owned(), status(&["t"]))], Duration::ZERO, 80);
        let last = picture.lines().last().unwrap();
        assert!(last.starts_with("a: KafkaUnreachable: no broker answers at") && last.chars().count() == 80, "{last}");
        assert!(picture.contains("one job does not run"), "{picture}");
        let starting = || JobStatus { reason: "Starting".to_owned(), ..JobStatus::default() };
        let jobs = [("a".to_owned(), starting()), ("b".to_owned(), starting()), ("c".to_owned(), status(&["t"]))];
        let picture = super::picture(&jobs, Duration::ZERO, 80);
        assert!(picture.ends_with("2 jobs start\n"), "{picture}");
    }

    #[test]
    fn a_table_that_is_higher_than_the_screen_is_cut_and_what_is_wrong_stays() {
        let mut jobs: Vec<_> = (0..30).map(|number| (format!("job-{number:02}"), status(&["t"]))).collect();
        jobs[20].1 = JobStatus { reason: "QueryFailed".to_owned(), ..JobStatus::default() };
        let whole = picture(&jobs, Duration::ZERO, 80);
        for rows in [0, 36, 200] {
            assert_eq!(fitting(&whole, rows), whole, "{rows} rows");
        }
        for (rows, last) in [(35, 29), (24, 18), (10, 4)] {
            let cut = fitting(&whole, rows);
            assert_eq!(cut.lines().count(), usize::from(rows) - 1, "{rows} rows:\n{cut}");
            assert!(cut.starts_with(whole.lines().next().unwrap()), "{cut}");
            let more = format!("job-{last:02} ");
            assert!(!cut.contains(&more) && cut.contains(&format!("\n… {} more lines\n", 30 - last)), "{cut}");
            assert!(cut.ends_with("one job does not run\njob-20: QueryFailed: \n"), "{cut}");
        }
        for rows in 1..5 {
            assert!(fitting(&whole, rows).lines().count() <= usize::from(rows), "{rows} rows");
        }
    }

    #[test]
    fn the_table_fits_80_columns_and_uses_160() {
        let jobs = [
            ("clickstream-analysis".to_owned(), status(&["clickstream_sessions"])),
            ("cdc-transformation".to_owned(), status(&["cdc_operation_summaries", "cdc_transformed"])),
        ];
        for (width, column) in [(80, "rows"), (160, "dead letters")] {
            let picture = picture(&jobs, Duration::from_secs(7), width);
            let widest = picture.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= usize::from(width), "{widest} columns:\n{picture}");
            assert!(picture.contains(column), "{picture}");
            for shown in ["clickstream-analysis", "  cdc_operation_summaries", "1 234 567", "all jobs run"] {
                assert!(picture.contains(shown), "{shown} is not in:\n{picture}");
            }
        }
    }
}
