//! `demo`: an embedded broker, a generator, the event-aggregation job, live figures, then the rows. Nothing is installed.
//!
//! The broker is librdkafka's own mock cluster. It keeps 5 MiB or 100,000 messages per partition and drops the oldest
//! without a word, so the job runs with `failOnDataLoss: true` and the demo ends by comparing what was written to Kafka
//! with what the job counted.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use data_platform_crds::quantity::Period;
use rdkafka::mocking::MockCluster;

use crate::app::{CommandError, print};
use crate::args::{DemoArgs, PlaceArgs, QueryFormat};
use crate::clock::{Clock, SystemClock};
use crate::commands::generate::{EventProducer, pace};
use crate::commands::run::{Running, listen_for_signals, options_of_places};
use crate::commands::{bytes, grouped, query};
use crate::config::job::{PlannedJob, RunOptions};
use crate::config::{JobSource, load_streaming};
use crate::faults::Faults;
use crate::generate::{EventGenerator, EventSettings};
use crate::pipeline::memory::resident_bytes;
use crate::pipeline::status::JobStatus;
use crate::pipeline::streaming::RunMode;
use crate::stop::StopSignal;

const TOPIC: &str = "topic_app_events";
const PARTITIONS: i32 = 6;
/// Fewest rows of the end of the demo.
const ROWS_SHOWN: usize = 12;
/// The mock broker drops silently above this; at 250 bytes an event 5 MiB are gone after about 20,000 events a partition.
const RATE_MAX: u64 = 20_000;
/// Time between two pictures of the live figures.
const PICTURE: Duration = Duration::from_millis(500);

/// Runs the demo.
pub(crate) fn demo(args: &DemoArgs, faults: &Arc<dyn Faults>) -> Result<u8, CommandError> {
    let time = args.time.as_deref().map(str::parse::<Period>).transpose();
    let time = time.map_err(|error| CommandError::user(format!("--for: {error}")))?.map(Period::as_duration);
    if args.rate > RATE_MAX || args.rate == 0 {
        return Err(CommandError::user(format!(
            "--rate {}: the embedded broker takes 1 to {RATE_MAX} events a second; for more use a real one, \
             `data-platform generate` and `data-platform run event-aggregation`",
            args.rate
        )));
    }
    let cluster = MockCluster::new(1).map_err(|error| CommandError::failed(format!("no embedded broker: {error}")))?;
    let created = cluster.create_topic(TOPIC, PARTITIONS, 1);
    created.map_err(|error| CommandError::failed(format!("no topic in the embedded broker: {error}")))?;
    let folder = folder(args);
    let (planned, mut options) = plan(&cluster.bootstrap_servers(), &folder)?;
    let running = Running::new(&planned, &options);
    listen_for_signals(&running.stop, Duration::from_secs(10));

    let stop_generator = StopSignal::new();
    let produced = Arc::new(AtomicU64::new(0));
    let generator = {
        let (servers, stop, produced, rate) =
            (cluster.bootstrap_servers(), stop_generator.clone(), Arc::clone(&produced), args.rate);
        std::thread::spawn(move || generate(&servers, rate, &stop, &produced))
    };
    print(&format!(
        "event-aggregation: {TOPIC} -> {}\n{} events a second from an embedded broker, 5 second windows{}\n\n",
        planned.location(planned.first(), &options)?,
        grouped(args.rate),
        if time.is_none() { "; Ctrl-C ends it" } else { "" },
    ));
    let watcher = {
        let (status, stop, produced) = (running.status.clone(), running.stop.clone(), Arc::clone(&produced));
        std::thread::spawn(move || watch(&|| status.get(), &stop, &produced, time))
    };
    let ended = running.run(&planned, &options, faults);
    running.stop.stop();
    let _ = watcher.join();
    stop_generator.stop();
    generator.join().map_err(|_| CommandError::failed("the generator failed"))??;
    ended?;
    // The rest of the topic, and every window that is still open.
    options.mode = RunMode::Drain;
    let last = Running::new(&planned, &options);
    last.run(&planned, &options, faults)?;
    finish(&planned, &options, &last.status.get(), produced.load(Ordering::Relaxed))
}

fn folder(args: &DemoArgs) -> PathBuf {
    let name = || format!("demo-{}", chrono::Utc::now().format("%Y%m%d-%H%M%S"));
    args.folder.clone().unwrap_or_else(|| PathBuf::from(name()))
}

/// The built-in job with a trigger and windows short enough to see rows soon.
fn plan(servers: &str, folder: &std::path::Path) -> Result<(PlannedJob, RunOptions), CommandError> {
    let set = [
        "spec.trigger.interval=1s",
        "spec.kafka.failOnDataLoss=true",
        "spec.kafka.startingOffsets=earliest",
        "spec.kafka.maxOffsetsPerTrigger=100000",
        "spec.sources[0].eventTime.watermarkDelay=2s",
        "spec.sources[0].eventTime.idleTimeout=5s",
    ];
    let source = JobSource {
        name: Some("event-aggregation".to_owned()),
        set: set.map(str::to_owned).into(),
        parameters: [("window".to_owned(), "5 seconds".to_owned())].into(),
        files: Vec::new(),
    };
    let planned = PlannedJob::new(load_streaming(&source)?)?;
    let place = |name: &str| folder.join(name).display().to_string();
    let places =
        PlaceArgs { outputs: Some(place("outputs")), checkpoints: Some(place("checkpoints")), namespace: None };
    let mut options = options_of_places(&places)?;
    options.bootstrap_servers = Some(servers.to_owned());
    Ok((planned, options))
}

fn generate(servers: &str, rate: u64, stop: &StopSignal, produced: &AtomicU64) -> Result<(), CommandError> {
    let producer = EventProducer::new(servers, TOPIC, PARTITIONS)?;
    let settings = EventSettings { users: 200, disorder_ms: 1_000, messy: 0.005, ..EventSettings::default() };
    let mut generator = EventGenerator::new(settings);
    let step = (rate / 50).max(1);
    let (began, mut number) = (Instant::now(), 0);
    while !stop.is_stopped() {
        let now_ms = SystemClock.now() / 1_000 - settings.disorder_ms as i64;
        for _ in 0..step {
            producer.send(&generator.event(now_ms))?;
            number += 1;
        }
        producer.poll();
        pace(began, number, rate);
    }
    producer.finish()?;
    produced.store(number, Ordering::Relaxed);
    Ok(())
}

/// Draws the live figures until somebody stops the job, or the time is over.
fn watch(status: &dyn Fn() -> JobStatus, stop: &StopSignal, _: &AtomicU64, time: Option<Duration>) {
    let terminal = std::io::stdout().is_terminal();
    let began = Instant::now();
    let mut lines_before = 0;
    loop {
        let picture = picture(&status(), began.elapsed());
        if terminal {
            let up = if lines_before > 0 { format!("\u{1b}[{lines_before}A\u{1b}[J") } else { String::new() };
            print(&format!("{up}{picture}"));
            lines_before = picture.lines().count();
        } else if (began.elapsed().as_millis() / PICTURE.as_millis()).is_multiple_of(10) {
            print(&one_line(&status(), began.elapsed()));
        }
        let over = time.is_some_and(|time| began.elapsed() >= time);
        if over {
            stop.stop();
        }
        if over || stop.wait(PICTURE) {
            return;
        }
    }
}

fn one_line(status: &JobStatus, elapsed: Duration) -> String {
    let rows: u64 = status.totals.outputs.values().map(|output| output.rows).max().unwrap_or(0);
    let read: u64 = status.totals.sources.values().map(|source| source.read).sum();
    format!(
        "{:>4} s  {:>10} records  {:>6}/s  lag {:>6}  {:>3} windows open  {:>7} rows  {}\n",
        elapsed.as_secs(),
        grouped(read),
        grouped(status.records_per_second),
        grouped(status.lag().unwrap_or_default().unsigned_abs()),
        status.open_windows,
        grouped(rows),
        status.reason
    )
}

fn picture(status: &JobStatus, elapsed: Duration) -> String {
    let mut table = super::table(&["", "now", "", "so far"]);
    let read: u64 = status.totals.sources.values().map(|source| source.read).sum();
    let letters: u64 = status.totals.sources.values().map(|source| source.dead_letters()).sum();
    let output = status.totals.outputs.get("events_aggregated_realtime").cloned().unwrap_or_default();
    let watermark = status.watermark.map_or("-".to_owned(), |watermark| {
        let behind = (SystemClock.now() - watermark) as f64 / 1e6;
        format!("{behind:.1} s behind the clock")
    });
    let batch = status.last_commit.as_ref().map_or("-".to_owned(), |commit| format!("{} ms", commit.batch_ms));
    let number = |number: u64| grouped(number);
    let rows: [[String; 4]; 5] = [
        ["records/s".into(), number(status.records_per_second), "records read".into(), number(read)],
        ["lag".into(), number(status.lag().unwrap_or_default().unsigned_abs()), "dead letters".into(), number(letters)],
        ["watermark".into(), watermark, "rows written".into(), number(output.rows)],
        [
            "open windows".into(),
            format!("{} with {} groups", status.open_windows, number(status.state_groups)),
            "files".into(),
            number(output.files),
        ],
        ["last batch".into(), batch, "memory".into(), bytes(resident_bytes())],
    ];
    for row in rows {
        table.add_row(row);
    }
    format!("{table}\n{} · {:.0} s\n", status.reason, elapsed.as_secs_f64())
}

/// The rows and where they lie, and whether every event is accounted for.
fn finish(planned: &PlannedJob, options: &RunOptions, status: &JobStatus, produced: u64) -> Result<u8, CommandError> {
    let source = status.totals.sources.values().next().cloned().unwrap_or_default();
    let flow = planned.first();
    let output = status.totals.outputs.get(&flow.output).cloned().unwrap_or_default();
    let location = planned.location(flow, options)?;
    let sql = format!(
        "SELECT window_start, user_id, event_type, app_type, event_count, session_ids FROM {} \
         ORDER BY window_start, event_count DESC, user_id, event_type, app_type LIMIT {ROWS_SHOWN}",
        flow.output
    );
    print("\nThe first rows:\n");
    query::run(&options.outputs, &sql, QueryFormat::Table)?;
    print(&format!(
        "\n{} events were written to the broker; the job read {}: {} counted in {} rows, {} late, {} dead letters, \
         {} tombstones, {} too far in the future\n\nThey lie in {location}\n  data-platform query --outputs {} \
         \"SELECT event_type, sum(event_count) AS events FROM {} GROUP BY event_type ORDER BY events DESC\"\n",
        grouped(produced),
        grouped(source.read),
        grouped(output.accepted),
        grouped(output.rows),
        grouped(output.late),
        grouped(source.dead_letters()),
        grouped(source.tombstone),
        grouped(source.future),
        options.outputs,
        flow.output,
    ));
    let counted = output.accepted + output.late + output.filtered + source.aside();
    if produced != source.read || counted != source.read {
        return Err(CommandError::failed(format!(
            "{produced} events were written, {} were read and {counted} are accounted for: some are lost",
            source.read
        )));
    }
    Ok(0)
}
