//! `data-platform` with faults: the very code that users run, told by environment variables where to die, to sleep, to be
//! slow, or which guard to do without. No release contains this program.
//!
//! | variable | meaning |
//! |---|---|
//! | `FAULT_KILL=decide:before:3` | SIGKILL itself when it reaches that moment for the third time |
//! | `FAULT_STOP=decide:before:1` | SIGSTOP itself there: a zombie, until somebody continues it |
//! | `FAULT_WITHOUT=fence,staging` | without these guards |
//! | `FAULT_DISK_DELAY_MS=20` | every write to a local disk takes so much longer |
//! | `FAULT_REST_AFTER_MS=500` | a source rests after so long without records |
//! | `FAULT_LOG=FILE` | a line for every fault that happened, written before it happens |

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use data_platform_runner::app;
use data_platform_runner::faults::{Faults, Guard, Moment, Step};
use rustix::process::{Signal, getpid, kill_process};

fn main() -> ExitCode {
    match Orders::from_environment() {
        Ok(orders) => app::main(Arc::new(orders)),
        Err(problem) => {
            eprintln!("data-platform-faults: {problem}");
            ExitCode::from(64)
        }
    }
}

/// One fault at one moment.
struct Order {
    step: Step,
    moment: Moment,
    times: AtomicU32,
    signal: Signal,
}

struct Orders {
    orders: Vec<Order>,
    without: BTreeSet<Guard>,
    disk_delay: Duration,
    rest_after: Option<Duration>,
    log: Option<String>,
}

impl Orders {
    fn from_environment() -> Result<Self, String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut orders = Vec::new();
        for (name, signal) in [("FAULT_KILL", Signal::KILL), ("FAULT_STOP", Signal::STOP)] {
            if let Some(text) = variable(name) {
                orders.push(Order::parse(&text, signal)?);
            }
        }
        let without = variable("FAULT_WITHOUT").unwrap_or_default();
        let without = without.split(',').filter(|name| !name.is_empty()).map(guard).collect::<Result<_, _>>()?;
        let milliseconds = |name| {
            let parse = |text: String| {
                text.parse().map(Duration::from_millis).map_err(|_| format!("{text:?} is no number of milliseconds"))
            };
            variable(name).map(parse).transpose()
        };
        let disk_delay = milliseconds("FAULT_DISK_DELAY_MS")?.unwrap_or_default();
        let rest_after = milliseconds("FAULT_REST_AFTER_MS")?;
        Ok(Self { orders, without, disk_delay, rest_after, log: variable("FAULT_LOG") })
    }

    fn note(&self, line: &str) {
        let Some(path) = &self.log else { return };
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let written = file.and_then(|mut file| writeln!(file, "{line}"));
        written.expect("a fault must leave its trace");
    }
}

impl Order {
    fn parse(text: &str, signal: Signal) -> Result<Self, String> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let step = Step::ALL.into_iter().find(|step| step.name() == name);
        let step = step.ok_or_else(|| format!("{name:?} is no step of a commit"))?;
        let moment = match parts.next() {
            Some("before") => Moment::Before,
            Some("after") => Moment::After,
            other => return Err(format!("{other:?} is neither before nor after")),
        };
        let times = parts.next().unwrap_or("1").parse().map_err(|_| format!("{text:?} has no number at its end"))?;
        Ok(Self { step, moment, times: AtomicU32::new(times), signal })
    }
}

fn guard(name: &str) -> Result<Guard, String> {
    let plain = |text: &str| text.replace('_', "").to_lowercase();
    let named = |guard: &Guard| plain(&format!("{guard:?}")) == plain(name);
    Guard::ALL.into_iter().find(named).ok_or_else(|| format!("{name:?} is no guard"))
}

impl Faults for Orders {
    fn reached(&self, step: Step, moment: Moment) {
        for order in &self.orders {
            if (order.step, order.moment) != (step, moment) || order.times.load(Ordering::SeqCst) == 0 {
                continue;
            }
            if order.times.fetch_sub(1, Ordering::SeqCst) == 1 {
                self.note(&format!("{:?} {} {moment:?}", order.signal, step.name()));
                kill_process(getpid(), order.signal).expect("a process may signal itself");
            }
        }
    }

    fn guard(&self, guard: Guard) -> bool {
        !self.without.contains(&guard)
    }

    fn disk_delay(&self) -> Duration {
        self.disk_delay
    }

    fn rest_after(&self) -> Option<Duration> {
        self.rest_after
    }
}
