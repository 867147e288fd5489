//! `demo`: an embedded broker, generators, every streaming job side by side with live figures, then their rows and what to
//! try next. Nothing is installed. The jobs are files below its folder, which `local` runs.
//!
//! ```text
//! one thread for all topics ── mock cluster of librdkafka ── the supervisor of `local` ── tables
//!                                                              └── figures, drawn twice a second
//! ```
//!
//! The broker keeps 5 MiB or 100,000 messages per partition and drops the oldest without a word, so the jobs run with
//! `failOnDataLoss: true` and the demo ends by comparing what was written to Kafka with what each job counted.

mod account;
mod jobs;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use data_platform_crds::quantity::Period;
use rdkafka::mocking::MockCluster;

use crate::args::DemoArgs;
use crate::clock::{Clock, SystemClock};
use crate::commands::error::CommandError;
use crate::commands::generate::{EventProducer, pace};
use crate::commands::local::{Figures, Kinds, Pages, Supervisor, Together};
use crate::commands::{grouped, print};
use crate::faults::Faults;
use crate::generate::{EventGenerator, EventSettings};
use crate::http::several;
use crate::stop::StopSignal;

use self::jobs::{DemoJob, Done, JOBS};

/// The mock broker drops silently above this; at 250 bytes an event 5 MiB are gone after about 20,000 events a partition.
const RATE_MAX: u64 = 20_000;
/// Rounds of the generators in a second: each writes a share of every topic.
const ROUNDS: u64 = 50;

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
    for job in JOBS {
        let created = cluster.create_topic(job.kind.topic(), job.partitions, 1);
        created.map_err(|error| CommandError::failed(format!("no topic in the embedded broker: {error}")))?;
    }
    let folder = folder(args);
    jobs::write_users(&folder)?;
    let files = vec![jobs::write_jobs(&folder)?];
    let options = jobs::options(&cluster.bootstrap_servers(), &folder)?;
    let outputs = options.outputs.clone();
    let together = Together::new(files, Kinds { streaming: true, batch: false }, options, faults)?;
    let pages = Pages::default();
    // Where no port can be had the demo goes on without.
    let page = several::start("127.0.0.1:0", pages.all(None)).ok();
    print(&introduction(args.rate, &folder, page, time.is_none()));

    let stop = together.listen();
    let generator = {
        let (servers, stop, rate) = (cluster.bootstrap_servers(), stop.clone(), args.rate);
        std::thread::spawn(move || generate(&servers, rate, time, &stop))
    };
    let mut supervisor = Supervisor::new(together, pages, stop);
    supervisor.run(Figures::Printed)?;
    let produced = generator.join().map_err(|_| CommandError::failed("the generator failed"))??;
    // The rest of each topic, and every window that is still open.
    print("\nProcessing what is left, and closing every window …\n");
    supervisor.drain()?;
    let statuses = supervisor.statuses();
    let ended: Vec<_> = JOBS.iter().filter_map(|job| Done::of(job, &statuses, &produced)).collect();
    account::show(&ended, &folder, &outputs)
}

fn folder(args: &DemoArgs) -> PathBuf {
    let now = chrono::DateTime::from_timestamp_micros(SystemClock.now()).unwrap_or_default();
    let name = || format!("demo-{}", now.format("%Y%m%d-%H%M%S"));
    args.folder.clone().unwrap_or_else(|| PathBuf::from(name()))
}

fn introduction(rate: u64, folder: &Path, page: Option<SocketAddr>, for_ever: bool) -> String {
    let folder = folder.display();
    let mut text = format!("{} streaming jobs on an embedded broker\n\n", JOBS.len());
    for job in JOBS {
        let what = format!("{} ({} records a second)", job.kind.topic(), grouped(job.rate(rate)));
        text.push_str(&format!("  {:<21} {what}\n    -> {}\n", job.name, job.does));
    }
    text.push_str(&format!("\ntheir files in {folder}/jobs, their tables in {folder}/outputs"));
    text.push_str(&page.map_or_else(String::new, |page| format!(", their page at http://{page}/")));
    text.push_str(if for_ever { "\nCtrl-C ends it.\n\n" } else { "\n\n" });
    text
}

/// Writes the records of every topic until somebody says stop, and says it to all when the time is over, or nothing can be
/// written; gives how many each topic got.
fn generate(servers: &str, rate: u64, time: Option<Duration>, stop: &StopSignal) -> Result<Vec<u64>, CommandError> {
    let written = write(servers, rate, time, stop);
    stop.stop();
    written
}

fn write(servers: &str, rate: u64, time: Option<Duration>, stop: &StopSignal) -> Result<Vec<u64>, CommandError> {
    let mut topics = Vec::new();
    for job in JOBS {
        let settings = EventSettings {
            kind: job.kind,
            users: job.users,
            disorder_ms: 1_000,
            messy: 0.005,
            late: 0.001,
            every_timestamp_form: true,
            ..EventSettings::default()
        };
        let producer = EventProducer::new(servers, job.kind.topic(), job.partitions)?;
        topics.push(Topic { job, producer, generator: EventGenerator::new(settings), number: 0 });
    }
    let (began, mut round) = (SystemClock.instant(), 0);
    let is_over = || time.is_some_and(|time| SystemClock.since(began) >= time);
    while !stop.is_stopped() && !is_over() {
        round += 1;
        let now_ms = SystemClock.now() / 1_000 - 1_000;
        for topic in &mut topics {
            topic.fill(now_ms, topic.job.rate(rate) * round / ROUNDS)?;
        }
        pace(began, round, ROUNDS);
    }
    topics.iter().try_for_each(|topic| topic.producer.finish())?;
    Ok(topics.into_iter().map(|topic| topic.number).collect())
}

struct Topic {
    job: &'static DemoJob,
    producer: EventProducer,
    generator: EventGenerator,
    /// Records that were written.
    number: u64,
}

impl Topic {
    /// Writes records until there are so many.
    fn fill(&mut self, now_ms: i64, number: u64) -> Result<(), CommandError> {
        while self.number < number {
            self.producer.send(&self.generator.event(now_ms))?;
            self.number += 1;
        }
        self.producer.poll();
        Ok(())
    }
}
