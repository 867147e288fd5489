//! Seeded, realistic records of the platform's topics: for the demo, the tests and the benchmarks.
//!
//! Pure. Event `i` of a seed has the same bytes every time. Users have about two sessions in ten minutes; event time runs
//! roughly upwards with some disorder; on request some records are bad or late, and timestamps come in every form.

use std::fmt::Write as _;

use self::changes::Changes;

pub mod avro;
mod changes;
mod clickstream;
mod external;

use crate::random::Random;

/// Which of the platform's topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventKind {
    /// What users do in applications.
    #[default]
    AppEvents,
    /// Clicks, scrolls and navigation.
    Clickstream,
    /// Changes of a database, in every form.
    Changes,
    /// Weather, maps, social media, market data, news.
    ExternalData,
}

impl EventKind {
    /// Every topic.
    pub const ALL: [Self; 4] = [Self::AppEvents, Self::Clickstream, Self::Changes, Self::ExternalData];

    /// Name of the topic.
    pub const fn topic(self) -> &'static str {
        match self {
            Self::AppEvents => "topic_app_events",
            Self::Clickstream => "topic_clickstream",
            Self::Changes => "topic_cdc_changes",
            Self::ExternalData => "topic_external_data",
        }
    }

    /// Partitions that the topic has in production.
    pub const fn partitions(self) -> i32 {
        match self {
            Self::AppEvents => 6,
            Self::Clickstream => 8,
            Self::Changes => 4,
            Self::ExternalData => 3,
        }
    }

    /// The kind of a topic whose name contains that of one of the platform's, without `topic_`.
    pub fn of_topic(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| name.contains(kind.topic().trim_start_matches("topic_")))
    }
}

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EventSettings {
    /// Of which topic.
    pub kind: EventKind,
    /// The same seed gives the same events.
    pub seed: u64,
    /// Number of users.
    pub users: u64,
    /// Greatest disorder of event times, in milliseconds.
    pub disorder_ms: u64,
    /// Share of bad records, 0 to 1.
    pub messy: f64,
    /// Share of late events, 0 to 1.
    pub late: f64,
    /// How far late events are behind, in milliseconds.
    pub late_ms: u64,
    /// Timestamps in every form that there is, not only the usual one.
    pub every_timestamp_form: bool,
}

impl Default for EventSettings {
    fn default() -> Self {
        let (messy, late, late_ms) = (0.0, 0.0, 300_000);
        let (kind, every_timestamp_form) = (EventKind::default(), false);
        Self { kind, seed: 1, users: 2_000, disorder_ms: 5_000, messy, late, late_ms, every_timestamp_form }
    }
}

/// A generated record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedEvent {
    /// The key: the user, or what the record is about.
    pub key: Vec<u8>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Number of the user (or of what the record is about), which chooses the partition.
    pub user: u64,
    /// Time of the event, in milliseconds since 1970.
    pub time_ms: i64,
}

const EVENT_TYPES: [(&str, u64); 5] =
    [("page_view", 50), ("click", 25), ("purchase", 4), ("scroll", 11), ("search", 10)];
const APPS: [&str; 3] = ["web", "mobile", "api"];
/// Time in which a user has the same two sessions.
const SESSION_MS: i64 = 600_000;

/// Generates events.
#[derive(Clone, Debug)]
pub struct EventGenerator {
    settings: EventSettings,
    random: Random,
    number: u64,
    changes: Changes,
}

impl EventGenerator {
    /// A generator at its first event.
    pub fn new(settings: EventSettings) -> Self {
        Self { settings, random: Random::new(settings.seed), number: 0, changes: Changes::default() }
    }

    /// The next event, around `time_ms` (milliseconds since 1970).
    pub fn event(&mut self, time_ms: i64) -> GeneratedEvent {
        match self.settings.kind {
            EventKind::AppEvents => self.app_event(time_ms),
            EventKind::Clickstream | EventKind::Changes | EventKind::ExternalData => self.other(time_ms),
        }
    }

    /// The time of an event around `time_ms`: disorder, and sometimes late.
    fn time(&mut self, time_ms: i64) -> i64 {
        let disorder = self.random.below(self.settings.disorder_ms.max(1)) as i64;
        let late = if self.random.unit() < self.settings.late { self.settings.late_ms as i64 } else { 0 };
        time_ms + disorder - late
    }

    fn timestamp(&mut self, time_ms: i64) -> String {
        let form = if self.settings.every_timestamp_form { self.random.below(FORMS) } else { 0 };
        timestamp(time_ms, form)
    }

    /// A record of the topics other than the applications' one.
    fn other(&mut self, time_ms: i64) -> GeneratedEvent {
        if let Some(tombstone) = self.changes.tombstone.take() {
            return tombstone;
        }
        let user = self.random.below(self.settings.users);
        let time_ms = self.time(time_ms);
        let number = self.number;
        self.number += 1;
        let (key, value, required) = match self.settings.kind {
            EventKind::Changes => {
                let made = self.changes.make(&mut self.random, user, number, time_ms);
                return self.spoiled(made, user, time_ms, &["op", "ts_ms"]);
            }
            EventKind::ExternalData => {
                let timestamp = self.timestamp(time_ms);
                let (key, value) = external::json(&mut self.random, number, &timestamp);
                (key, value, ["data_source", "timestamp"].as_slice())
            }
            EventKind::AppEvents | EventKind::Clickstream => {
                let timestamp = self.timestamp(time_ms);
                let value = clickstream::json(&mut self.random, user, number, time_ms, &timestamp);
                (format!("user_{user:06}"), value, ["event_id", "user_id", "page_url", "timestamp"].as_slice())
            }
        };
        self.spoiled((key.into_bytes(), value.into_bytes()), user, time_ms, required)
    }

    /// A record, made bad if it is its turn.
    fn spoiled(
        &mut self,
        (key, mut value): (Vec<u8>, Vec<u8>),
        user: u64,
        time_ms: i64,
        required: &[&str],
    ) -> GeneratedEvent {
        if self.random.unit() < self.settings.messy {
            // What follows a delete follows a good one.
            self.changes.tombstone = None;
            let name = required[self.random.below(required.len() as u64) as usize];
            let text = || String::from_utf8_lossy(&value).into_owned();
            value = match self.random.below(10) {
                0 => value[..value.len() / 2].to_vec(),
                1 => b"not json".to_vec(),
                2 => [b"[".as_slice(), &value, b"]"].concat(),
                3 | 4 => text().replace(&format!("\"{name}\":"), &format!("\"not_{name}\":")).into_bytes(),
                5 => [value.as_slice(), b"}"].concat(),
                6 => [&value[..value.len() / 3], b"\xff", &value[value.len() / 3..]].concat(),
                7 => Vec::new(),
                8 => [b"\xef\xbb\xbf".as_slice(), &value].concat(),
                _ => return GeneratedEvent { key, value: None, user, time_ms },
            };
        }
        GeneratedEvent { key, value: Some(value), user, time_ms }
    }

    fn app_event(&mut self, time_ms: i64) -> GeneratedEvent {
        let user = self.random.below(self.settings.users);
        let event_type = self.event_type();
        let app = if self.random.unit() < 0.8 { (user % 3) as usize } else { self.random.below(3) as usize };
        let time_ms = self.time(time_ms);
        let session = (user * 7_919 + time_ms.div_euclid(SESSION_MS) as u64 * 104_729 + self.random.below(2)) as u32;
        let number = self.number;
        self.number += 1;
        let event = Event { number, user, event_type, app: APPS[app], session, seed: self.settings.seed };
        let timestamp = self.timestamp(time_ms);
        let mut value = event.json(&timestamp, &mut self.random);
        let mut tombstone = false;
        if self.random.unit() < self.settings.messy {
            tombstone = self.spoil(&event, &timestamp, &mut value);
        }
        let key = format!("user_{user:06}").into_bytes();
        GeneratedEvent { key, value: if tombstone { None } else { Some(value) }, user, time_ms }
    }

    fn event_type(&mut self) -> &'static str {
        let total = EVENT_TYPES.iter().map(|(_, weight)| weight).sum();
        let mut left = self.random.below(total);
        for (name, weight) in EVENT_TYPES {
            if left < weight {
                return name;
            }
            left -= weight;
        }
        EVENT_TYPES[0].0
    }

    /// Makes a record bad in one of many ways, or a tombstone.
    fn spoil(&mut self, event: &Event, timestamp: &str, value: &mut Vec<u8>) -> bool {
        let good = || event.json(timestamp, &mut Random::new(event.number));
        let text = || String::from_utf8(good()).expect("a generated event is text");
        let swap = |from: &str, to: &str| text().replacen(from, to, 1).into_bytes();
        let user = format!("\"user_id\":\"user_{:06}\"", event.user);
        *value = match self.random.below(18) {
            0 => value[..value.len() / 2].to_vec(),
            1 => b"not json".to_vec(),
            2 => [b"[".as_slice(), value.as_slice(), b"]"].concat(),
            3 => swap(&user, "\"user\":\"x\""),
            4 => swap(&user, "\"user_id\":null"),
            5 => swap(&user, "\"user_id\":\"\""),
            6 => swap(&user, &format!("\"user_id\":\"{}\"", "u".repeat(256))),
            7 => swap(&user, "\"user_id\":{\"id\":1}"),
            8 => swap(timestamp, "\"yesterday\""),
            9 => swap(timestamp, "\"2026-01-01\""),
            10 => swap(timestamp, "true"),
            11 => swap(&user, &format!("{user},{user}")),
            12 => [value.as_slice(), b"}"].concat(),
            13 => swap("user_", "us\u{1}er_"),
            14 => {
                let mut broken = good();
                let at = broken.len() / 3;
                broken[at] = 0xff;
                broken
            }
            15 => Vec::new(),
            16 => swap("\"session_id\"", "\"session\""),
            _ => return true,
        };
        false
    }
}

struct Event {
    number: u64,
    user: u64,
    event_type: &'static str,
    app: &'static str,
    session: u32,
    seed: u64,
}

impl Event {
    /// About 246 bytes, as the events of production are.
    fn json(&self, timestamp: &str, random: &mut Random) -> Vec<u8> {
        let Self { number, user, event_type, app, session, seed } = self;
        let mut text = String::with_capacity(256);
        let _ = write!(
            text,
            "{{\"event_id\":\"{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}\",\"event_type\":\"{event_type}\",\
             \"user_id\":\"user_{user:06}\",\"session_id\":\"sess_{session:08x}\",\"timestamp\":{timestamp},\
             \"app_type\":\"{app}\",\"properties\":{{\"page\":\"/p/{}\",\"duration_ms\":{},\"ref\":\"{}\"}}}}",
            number & 0xffff_ffff,
            (seed * 40_503) & 0xffff,
            number & 0xfff,
            user & 0xfff,
            number.wrapping_mul(2_654_435_761) & 0xffff_ffff_ffff,
            number % 97,
            random.below(10_000),
            ["aaaa", "bbbb", "cccc", "dddd", "eeee", "ffff", "gggg", "hhhh"][(number & 7) as usize],
        );
        text.into_bytes()
    }
}

/// Number of forms of a timestamp.
const FORMS: u64 = 15;

/// A timestamp as JSON, in one of the forms that arrive.
fn timestamp(time_ms: i64, form: u64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(time_ms).unwrap_or_default();
    let text = |format: &str| format!("\"{}\"", time.format(format));
    let offset = chrono::FixedOffset::east_opt(5 * 3_600 + 1_800).expect("five and a half hours are an offset");
    match form {
        0 => text("%Y-%m-%dT%H:%M:%S%.3fZ"),
        1 => text("%Y-%m-%d %H:%M:%S%.3f"),
        2 => text("%Y-%m-%dT%H:%M:%S%.3f"),
        3 => text("%Y-%m-%dT%H:%M:%S%.6fZ"),
        4 => text("%Y-%m-%d %H:%M:%S%.9f"),
        5 => format!("\"{}\"", time.with_timezone(&offset).format("%Y-%m-%dT%H:%M:%S%.3f%:z")),
        6 => format!("\"{}\"", time.with_timezone(&offset).format("%Y-%m-%d %H:%M:%S%.3f%z")),
        7 => time_ms.to_string(),
        8 => format!("{}.{:03}", time_ms.div_euclid(1_000), time_ms.rem_euclid(1_000)),
        9 if time_ms % 1_000 == 0 => (time_ms / 1_000).to_string(),
        10 => text("%Y-%m-%d %H:%M:%S%.3f UTC"),
        11 => text("%Y-%m-%dt%H:%M:%S%.3fz"),
        12 => text("%Y-%m-%d %H:%M:%S%.6f+00"),
        13 if time_ms % 60_000 == 0 => text("%Y-%m-%dT%H:%MZ"),
        14 => format!("\"{}\"", time.with_timezone(&offset).format("%Y-%m-%d %H:%M:%S%.3f %:z")),
        _ => text("%Y-%m-%dT%H:%M:%S%.3f+00:00"),
    }
}

#[cfg(test)]
mod tests;
