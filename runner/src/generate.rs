//! Seeded, realistic events of `topic_app_events`: for the demo, the tests and the benchmarks.
//!
//! Pure. Event `i` of a seed has the same bytes every time. Users have about two sessions in ten minutes; event time runs
//! roughly upwards with some disorder; on request some records are bad or late, and timestamps come in every form.

use std::fmt::Write as _;

use crate::random::Random;

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EventSettings {
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
        Self { seed: 1, users: 2_000, disorder_ms: 5_000, messy, late, late_ms, every_timestamp_form: false }
    }
}

/// A generated record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedEvent {
    /// The key: the user.
    pub key: Vec<u8>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Number of the user, which chooses the partition.
    pub user: u64,
    /// Time of the event, in milliseconds since 1970.
    pub time_ms: i64,
}

const EVENT_TYPES: [(&str, u64); 6] =
    [("page_view", 50), ("click", 25), ("purchase", 4), ("login", 6), ("logout", 5), ("search", 10)];
const APPS: [&str; 3] = ["web", "ios", "android"];
/// Time in which a user has the same two sessions.
const SESSION_MS: i64 = 600_000;

/// Generates events.
#[derive(Clone, Debug)]
pub struct EventGenerator {
    settings: EventSettings,
    random: Random,
    number: u64,
}

impl EventGenerator {
    /// A generator at its first event.
    pub fn new(settings: EventSettings) -> Self {
        Self { settings, random: Random::new(settings.seed), number: 0 }
    }

    /// The next event, around `time_ms` (milliseconds since 1970).
    pub fn event(&mut self, time_ms: i64) -> GeneratedEvent {
        let user = self.random.below(self.settings.users);
        let event_type = self.event_type();
        let app = if self.random.unit() < 0.8 { (user % 3) as usize } else { self.random.below(3) as usize };
        let disorder = self.random.below(self.settings.disorder_ms.max(1)) as i64;
        let late = if self.random.unit() < self.settings.late { self.settings.late_ms as i64 } else { 0 };
        let time_ms = time_ms + disorder - late;
        let session = (user * 7_919 + time_ms.div_euclid(SESSION_MS) as u64 * 104_729 + self.random.below(2)) as u32;
        let number = self.number;
        self.number += 1;
        let event = Event { number, user, event_type, app: APPS[app], session, seed: self.settings.seed };
        let form = if self.settings.every_timestamp_form { self.random.below(FORMS) } else { 0 };
        let timestamp = timestamp(time_ms, form);
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
const FORMS: u64 = 10;

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
        _ if time_ms % 1_000 == 0 => (time_ms / 1_000).to_string(),
        _ => text("%Y-%m-%dT%H:%M:%S%.3f+00:00"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::decode::{DecodePlan, Decoder};
    use crate::source::record::{NoHeaders, Record};
    use data_platform_crds::source::SourceSpec;

    const START: i64 = 1_767_225_600_000;

    fn source() -> SourceSpec {
        let text = crate::config::templates::find("event-aggregation").unwrap();
        let manifest = data_platform_crds::check::Manifest::read(text).unwrap().remove(0);
        let data_platform_crds::job::Job::Streaming(job) = manifest.check().unwrap().0 else {
            panic!("a streaming job")
        };
        job.spec.sources[0].clone()
    }

    fn decode(decoder: &mut Decoder, event: &GeneratedEvent) -> Option<Result<i64, String>> {
        let value = event.value.as_deref()?;
        let record = Record {
            topic: "t",
            partition: 0,
            offset: 0,
            timestamp_ms: None,
            key: Some(&event.key),
            value: Some(value),
            headers: &NoHeaders,
        };
        Some(decoder.decode(&record, i64::MAX).map(|time| time.unwrap()).map_err(|bad| bad.to_string()))
    }

    #[test]
    fn the_same_seed_gives_the_same_events_of_the_usual_size() {
        let events = |seed| -> Vec<_> {
            let mut generator = EventGenerator::new(EventSettings { seed, ..EventSettings::default() });
            (0..1_000).map(|i| generator.event(START + i)).collect()
        };
        assert_eq!(events(1), events(1));
        assert_ne!(events(1), events(2));
        let bytes: usize = events(1).iter().map(|event| event.value.as_ref().unwrap().len()).sum();
        assert!((230..260).contains(&(bytes / 1_000)), "{}", bytes / 1_000);
    }

    #[test]
    fn every_timestamp_form_is_read_back_as_the_time_that_was_meant() {
        let mut generator =
            EventGenerator::new(EventSettings { every_timestamp_form: true, ..EventSettings::default() });
        let mut decoder = Decoder::new(DecodePlan::new(&source(), &[0, 4]).unwrap());
        for i in 0..2_000 {
            let event = generator.event(START + i * 37);
            assert_eq!(decode(&mut decoder, &event), Some(Ok(event.time_ms * 1_000)), "{event:?}");
        }
    }

    #[test]
    fn about_as_many_records_are_bad_as_asked_for() {
        let mut generator = EventGenerator::new(EventSettings { messy: 0.5, ..EventSettings::default() });
        let mut decoder = Decoder::new(DecodePlan::new(&source(), &[0, 4]).unwrap());
        let (mut bad, mut tombstones) = (0, 0);
        for i in 0..4_000 {
            match decode(&mut decoder, &generator.event(START + i)) {
                None => tombstones += 1,
                Some(Err(_)) => bad += 1,
                Some(Ok(_)) => {}
            }
        }
        assert!((1_800..2_200).contains(&(bad + tombstones)), "{bad} bad, {tombstones} tombstones");
        assert!(tombstones > 50);
    }
}
