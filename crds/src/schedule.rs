//! [`Schedule`]: when the runs of a batch job are due.
//!
//! Pure. The five fields are those that the CronJob controller of Kubernetes reads, no more: what passes here passes
//! there. Its library also decides what happens where the clock of a zone leaps, and some of that is not what one would
//! think; the same steps are taken here, and compared with a table that the library made (`tests/cron_times.tsv`).

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};

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
/// Years after which a schedule is taken to have no more times, as in Kubernetes.
const YEARS_MAX: i16 = 5;

/// When the runs of a batch job are due.
#[derive(Clone, Debug)]
pub struct Schedule {
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
    zone: TimeZone,
}

/// The numbers of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Field {
    /// A bit for each number.
    numbers: u64,
    /// It stands for any: `*`, `?`, and these with a step of 1.
    is_star: bool,
}

impl Field {
    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| self.numbers >> number & 1 == 1)
    }
}

/// Where a search has come to.
enum Step {
    Fits(Timestamp),
    /// Look at all fields again from here.
    Next(Timestamp),
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
        let [minutes, hours, days, months, weekdays] =
            read(text).map_err(|message| refused(message, "write five fields, such as 5 * * * *"))?;
        let schedule = Self { minutes, hours, days, months, weekdays, zone };
        match schedule.after(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(refused(format!("no time fits {fields:?}"), "correct the day of the month, or the month")),
        }
    }

    /// The first time after this one at which a run is due; `None`: there is no more.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let minute = time.as_second().div_euclid(60) + 1;
        let mut time = Timestamp::from_second(minute.checked_mul(60)?).ok()?;
        let last_year = self.clock(time).year().checked_add(YEARS_MAX)?;
        // Before the first step on, what is smaller begins anew: the first day, midnight, the full hour.
        let mut is_stepped = false;
        while self.clock(time).year() <= last_year {
            match self.step(time, &mut is_stepped)? {
                Step::Fits(time) => return Some(time),
                Step::Next(next) => time = next,
            }
        }
        None
    }

    /// As [`Self::after`], in seconds since 1970 UTC: for who has no use for more of a time than that.
    pub fn after_second(&self, second: i64) -> Option<i64> {
        self.after(Timestamp::from_second(second).ok()?).map(Timestamp::as_second)
    }

    /// Goes to where the first field fits that does not: over months, days, hours, minutes. Where that carries into a larger
    /// field, all are looked at again; so a step over an hour that is not midnight carries into no day.
    fn step(&self, mut time: Timestamp, is_stepped: &mut bool) -> Option<Step> {
        let mut begin = |time: Timestamp, floor: fn(DateTime) -> DateTime| {
            if std::mem::replace(is_stepped, true) { Some(time) } else { self.instant(floor(self.clock(time))) }
        };
        while !self.months.has(self.clock(time).month()) {
            time = begin(time, |clock| clock.date().first_of_month().into())?;
            time = self.next_month(time)?;
            if self.clock(time).month() == 1 {
                return Some(Step::Next(time));
            }
        }
        while !self.fits_day(self.clock(time).date()) {
            time = begin(time, |clock| clock.date().into())?;
            time = self.next_day(time)?;
            if self.clock(time).day() == 1 {
                return Some(Step::Next(time));
            }
        }
        while !self.hours.has(self.clock(time).hour()) {
            time = begin(time, |clock| clock.date().at(clock.hour(), 0, 0, 0))?;
            time = time.checked_add(SignedDuration::from_hours(1)).ok()?;
            if self.clock(time).hour() == 0 {
                return Some(Step::Next(time));
            }
        }
        while !self.minutes.has(self.clock(time).minute()) {
            *is_stepped = true;
            time = time.checked_add(SignedDuration::from_mins(1)).ok()?;
            if self.clock(time).minute() == 0 {
                return Some(Step::Next(time));
            }
        }
        Some(Step::Fits(time))
    }

    /// Day of the month and day of the week: both where one of them is a star, else either.
    fn fits_day(&self, date: Date) -> bool {
        let day = self.days.has(date.day());
        let weekday = self.weekdays.has(date.weekday().to_sunday_zero_offset());
        if self.days.is_star || self.weekdays.is_star { day && weekday } else { day || weekday }
    }

    /// The same clock a month later; a day that the month does not have is one of the next.
    fn next_month(&self, time: Timestamp) -> Option<Timestamp> {
        let clock = self.clock(time);
        let first = clock.date().first_of_month().checked_add(1.month()).ok()?;
        let date = first.checked_add(i64::from(clock.day() - 1).days()).ok()?;
        self.instant(date.to_datetime(clock.time()))
    }

    /// The next midnight; where a day has none, the one after it or an hour beside it.
    fn next_day(&self, time: Timestamp) -> Option<Timestamp> {
        let next = self.instant(self.clock(time).checked_add(1.day()).ok()?)?;
        let hour = i64::from(self.clock(next).hour());
        let to_midnight = if hour > 12 { 24 - hour } else { -hour };
        next.checked_add(SignedDuration::from_hours(to_midnight)).ok()
    }

    fn clock(&self, time: Timestamp) -> DateTime {
        self.zone.to_datetime(time)
    }

    /// When a clock shows this. For one that it leaps over: the moment that one of the two offsets around the leap gives,
    /// whichever is in force at the same time of UTC.
    fn instant(&self, clock: DateTime) -> Option<Timestamp> {
        let as_utc = Offset::UTC.to_timestamp(clock).ok()?;
        let before = |offset: Offset| as_utc.checked_sub(SignedDuration::from_secs(offset.seconds().into())).ok();
        before(self.zone.to_offset(before(self.zone.to_offset(as_utc))?))
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

/// Reads five fields.
fn read(text: &str) -> Result<[Field; 5], String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("{text:?} has {} fields", fields.len()));
    }
    let mut read = [Field::default(); 5];
    for ((read, field), (what, least, greatest, names)) in read.iter_mut().zip(fields).zip(FIELDS) {
        for part in field.split(',') {
            let part = read_part(part, least, greatest, names).map_err(|why| format!("the {what} {part:?} {why}"))?;
            read.numbers |= part.numbers;
            read.is_star |= part.is_star;
        }
    }
    Ok(read)
}

/// Reads `*`, `7` (with a step: from there on), `7-9`, and these with a step.
fn read_part(part: &str, least: u32, greatest: u32, names: &[&str]) -> Result<Field, String> {
    let number = |text: &str| {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let named = named.and_then(|position| u32::try_from(position).ok()).map(|position| position + least);
        let digits = || text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
        let value = named.or_else(digits).ok_or_else(|| "is not a number".to_owned())?;
        let fits = (least..=greatest).contains(&value);
        fits.then_some(value).ok_or_else(|| format!("is not from {least} to {greatest}"))
    };
    let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
    let steps = 1..=greatest - least + 1;
    let step = match step {
        Some(step) => match step.parse::<u32>().ok().filter(|step| steps.contains(step)) {
            Some(step) => Some(step),
            None => return Err(format!("has a step that is not from 1 to {}", steps.end())),
        },
        None => None,
    };
    let is_any = matches!(range, "*" | "?");
    let (from, to) = match range.split_once('-') {
        _ if is_any => (least, greatest),
        Some((from, to)) => (number(from)?, number(to)?),
        None => (number(range)?, if step.is_some() { greatest } else { number(range)? }),
    };
    if from > to {
        return Err("ends before it begins".to_owned());
    }
    let step = step.unwrap_or(1);
    let numbers = (from..=to).step_by(step as usize).fold(0, |numbers, number| numbers | 1 << number);
    Ok(Field { numbers, is_star: is_any && step == 1 })
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
    fn times_are_those_of_kubernetes_own_library() {
        let table = include_str!("../tests/cron_times.tsv");
        let mut wrong = Vec::new();
        for line in table.lines() {
            let [zone, fields, from, expected] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let mut found = Vec::new();
            let schedule = Schedule::new(fields, zone).unwrap_or_else(|error| panic!("{line}: {error:?}"));
            let mut time: Timestamp = from.parse().unwrap();
            // Years to come may be other years in another database of zones.
            let is_past = |next: &Timestamp| next.strftime("%Y").to_string().as_str() < "2026";
            while let Some(next) = schedule.after(time).filter(is_past).filter(|_| found.len() < 4) {
                found.push(next.strftime("%Y-%m-%dT%H:%MZ").to_string());
                time = next;
            }
            let found = if found.is_empty() { "-".to_owned() } else { found.join(" ") };
            if found != expected {
                wrong.push(format!("{zone} {fields:?} after {from}:\n  {found}\n  not {expected}"));
            }
        }
        assert!(table.lines().count() > 500);
        assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    }

    #[test]
    fn a_star_with_a_step_of_one_is_a_star() {
        let from = "2026-02-16T14:05:00Z";
        assert_eq!(times("0 0 */1 * 1", "UTC", from, 2), ["2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z"]);
        assert_eq!(times("0 0 */2 * 2", "UTC", from, 2), ["2026-02-17T00:00:00Z", "2026-02-19T00:00:00Z"]);
        assert_eq!(times("0 0 1-7 * */1", "UTC", from, 1), ["2026-03-01T00:00:00Z"]);
    }

    #[test]
    fn an_hour_that_comes_twice_runs_twice_and_a_day_without_midnight_may_be_left_out() {
        let found = times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 3);
        assert_eq!(found, ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"]);
        // On Friday 2026-04-24 Cairo's clocks go from 00:00 to 01:00.
        let found = times("0 12 * * 5", "Africa/Cairo", "2026-04-20T00:00:00Z", 1);
        assert_eq!(found, ["2026-05-01T09:00:00Z"]);
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
