//! [`Schedule`]: when the runs of a batch job are due.
//!
//! Pure. The five fields are those that the CronJob controller of Kubernetes reads, no more: what passes here passes
//! there. croner finds the times; it would also read extensions that a CronJob refuses.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// Words for five fields, as Kubernetes has them.
const WORDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// What the fields are called, their least and greatest numbers, and their names.
const FIELDS: [(&str, u32, u32, &[&str]); 5] = [
    ("minute", 0, 59, &[]),
    ("hour", 0, 23, &[]),
    ("day of the month", 1, 31, &[]),
    ("month", 1, 12, &MONTHS),
    ("day of the week", 0, 6, &WEEKDAYS),
];
/// Times that daylight saving time skips, one after the other, before a schedule is taken to have no more times.
const SKIPPED_MAX: usize = 100;

/// When the runs of a batch job are due.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

/// Why a schedule is none: what is wrong, and the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleError {
    /// The fields cannot be read, or no time fits them.
    Fields(String, String),
    /// There is no such zone.
    Zone(String, String),
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    ///
    /// What Kubernetes would not take, and what no time fits.
    pub fn new(fields: &str, time_zone: &str) -> Result<Self, ScheduleError> {
        let zone = zone(time_zone)?;
        let text = WORDS.iter().find(|(word, _)| *word == fields).map_or(fields, |(_, meaning)| meaning);
        let refused = |message: String, cure: &str| ScheduleError::Fields(message, cure.to_owned());
        check(text).map_err(|message| refused(message, "write five fields, such as 5 * * * *"))?;
        // A question mark is a star in Kubernetes, and something else in other crons.
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).dom_and_dow(false);
        let cron = parser.sloppy_ranges(true).build().parse(&text.replace('?', "*")).map_err(|error| {
            refused(format!("{fields:?} cannot be read: {error}"), "write five fields, such as 5 * * * *")
        })?;
        let schedule = Self { cron, zone };
        match schedule.after(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(refused(format!("no time fits {fields:?}"), "correct the day of the month, or the month")),
        }
    }

    /// The first time after this one at which a run is due; `None`: there is no more.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let mut time: Zoned = time.to_zoned(self.zone.clone());
        for _ in 0..SKIPPED_MAX {
            time = self.cron.find_next_occurrence(&time, false).ok()?;
            // A time that the clock leaps over is left out by Kubernetes; croner gives the next one that there is.
            if self.cron.is_time_matching(&time).ok()? {
                return Some(time.timestamp());
            }
        }
        None
    }

    /// The times after `from`, up to and with `to`; at most `limit`.
    pub fn between(&self, from: Timestamp, to: Timestamp, limit: usize) -> Vec<Timestamp> {
        let times = std::iter::successors(self.after(from), |time| self.after(*time));
        times.take_while(|time| *time <= to).take(limit).collect()
    }
}

/// The zone of this name, written as the database writes it: where Kubernetes looks it up, case counts.
fn zone(name: &str) -> Result<TimeZone, ScheduleError> {
    let refused = |cure: String| ScheduleError::Zone(format!("there is no time zone {name}"), cure);
    let zone = TimeZone::get(name).map_err(|_| refused("write an IANA name such as Europe/Berlin".to_owned()))?;
    match zone.iana_name() {
        Some(known) if known != name => Err(refused(format!("did you mean {known}?"))),
        _ => Ok(zone),
    }
}

/// Checks five fields.
fn check(text: &str) -> Result<(), String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("{text:?} has {} fields", fields.len()));
    }
    for (field, (what, least, greatest, names)) in fields.into_iter().zip(FIELDS) {
        for part in field.split(',') {
            check_part(part, least, greatest, names).map_err(|why| format!("the {what} {part:?} {why}"))?;
        }
    }
    Ok(())
}

/// Checks `*`, `7` (with a step: from there on), `7-9`, and these with a step.
fn check_part(part: &str, least: u32, greatest: u32, names: &[&str]) -> Result<(), String> {
    let number = |text: &str| {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let named = named.and_then(|position| u32::try_from(position).ok()).map(|position| position + least);
        let digits = || text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
        let value = named.or_else(digits).ok_or_else(|| "is not a number".to_owned())?;
        let fits = (least..=greatest).contains(&value);
        fits.then_some(value).ok_or_else(|| format!("is not from {least} to {greatest}"))
    };
    let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
    if let Some(step) = step
        && !step.parse::<u32>().is_ok_and(|step| (1..=greatest - least + 1).contains(&step))
    {
        return Err(format!("has a step that is not from 1 to {}", greatest - least + 1));
    }
    match range.split_once('-') {
        _ if matches!(range, "*" | "?") => Ok(()),
        None => number(range).map(|_| ()),
        Some((from, to)) if number(from)? > number(to)? => Err("ends before it begins".to_owned()),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(fields: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::new(fields, zone).unwrap();
        let to = Timestamp::from_second(4_000_000_000).unwrap();
        schedule.between(from.parse().unwrap(), to, count).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_next_times_are_those_of_the_clock_of_the_zone() {
        let from = "2026-02-16T14:05:00Z";
        assert_eq!(times("5 * * * *", "UTC", from, 2), ["2026-02-16T15:05:00Z", "2026-02-16T16:05:00Z"]);
        assert_eq!(times("@daily", "Europe/Berlin", from, 1), ["2026-02-16T23:00:00Z"]);
        assert_eq!(times("0 0 ? * 1", "UTC", from, 1), ["2026-02-23T00:00:00Z"]);
        // Either of the two days, as in every cron.
        assert_eq!(times("0 0 20 * mon", "UTC", from, 2), ["2026-02-20T00:00:00Z", "2026-02-23T00:00:00Z"]);
        assert_eq!(times("40/10 0 1 1 *", "UTC", from, 2), ["2027-01-01T00:40:00Z", "2027-01-01T00:50:00Z"]);
        assert_eq!(times("0 0 29 2 *", "UTC", from, 1), ["2028-02-29T00:00:00Z"]);
    }

    #[test]
    fn a_time_that_the_clock_leaps_over_is_left_out() {
        let found = times("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 2);
        assert_eq!(found, ["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"]);
    }

    #[test]
    fn what_kubernetes_does_not_take_is_refused() {
        for (fields, message) in [
            ("5 * * *", "4 fields"),
            ("0 5 * * * *", "6 fields"),
            ("60 * * * *", "from 0 to 59"),
            ("* 24 * * *", "hour \"24\""),
            ("* * 0 * *", "from 1 to 31"),
            ("* * * 13 *", "month"),
            ("* * * * 7", "from 0 to 6"),
            ("* * * * 5L", "not a number"),
            ("* * * MON *", "not a number"),
            ("*/0 * * * *", "step"),
            ("*/61 * * * *", "step"),
            ("9-5 * * * *", "ends before it begins"),
            ("* * * * fri-mon", "ends before it begins"),
            ("1, * * * *", "not a number"),
            ("0 0 30 2 *", "no time fits"),
        ] {
            let Err(ScheduleError::Fields(found, cure)) = Schedule::new(fields, "UTC") else { panic!("{fields}") };
            assert!(found.contains(message), "{fields}: {found}");
            assert!(!cure.is_empty());
        }
    }

    #[test]
    fn a_zone_is_known_and_written_as_it_is_known() {
        for (name, cure) in [("Mars/Olympus", "IANA"), ("europe/berlin", "did you mean Europe/Berlin?")] {
            let Err(ScheduleError::Zone(message, found)) = Schedule::new("@hourly", name) else { panic!("{name}") };
            assert!(message.contains(name) && found.contains(cure), "{found}");
        }
        for name in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+3"] {
            assert!(Schedule::new("@hourly", name).is_ok(), "{name}");
        }
    }
}
