//! Records that cannot be read: kept in a topic, counted, or the end of the job; and the circuit breaker.

use anyhow::Context;
use data_platform_runner::checkpoint::record::{Record as LogRecord, decode, encode};
use data_platform_tests::{Record, needs_broker, unique_topic};
use rdkafka::message::{Headers, Message};
use serde_json::{Value, json};

use super::numbers::{NAME, Numbers, record};

/// A record from a topic, as far as it matters.
#[derive(Debug, PartialEq)]
struct Letter {
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(String, Option<String>)>,
}

fn letters(job: &Numbers, topic: &str) -> anyhow::Result<Vec<Letter>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut letters = Vec::new();
    job.broker.for_each_record(topic, |message| {
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        let headers = headers.map(|header| (header.key.to_owned(), header.value.map(text))).collect();
        letters.push(Letter { key: message.key().map(text), value: message.payload().map(text), headers });
        Ok(())
    })?;
    Ok(letters)
}

/// A job over three good and two bad records, in this order: good, bad, good, bad, good.
fn messy(name: &str, action: Value) -> anyhow::Result<Option<Numbers>> {
    let Some(broker) = data_platform_tests::Broker::shared() else { return Ok(None) };
    let mut job = Numbers::new(broker, name, 1)?;
    job.set("/badRecords", action);
    let bad = [
        Record::new("{\"n\": 1").key("k").header("trace", Some(b"7")).header("none", None),
        Record::new("{\"n\": \"three\"}"),
    ];
    let [first, second] = bad.map(|record| record.partition(0).timestamp_ms(1_767_225_600_123));
    let good = |number| record(number).partition(0);
    job.broker.produce(&job.topic, [good(0), first, good(2), second, good(4)])?;
    Ok(Some(job))
}

#[test]
fn dead_letters_arrive_in_their_topic_with_the_reason() -> anyhow::Result<()> {
    needs_broker!();
    let topic = unique_topic("letters");
    let Some(mut job) = messy("messy-topic", json!({"topic": topic}))? else { return Ok(()) };
    job.set("/kafka/config", json!({"topic.metadata.propagation.max.ms": "500"}));
    // While the topic is not there, nothing is committed and nothing is lost.
    let says = job.drain_fails(1)?;
    assert!(says.contains(&topic) && says.contains("what to do: create the topic"), "{says}");
    assert_eq!(job.committed(), 0);
    job.broker.create_topic(&topic, 1, &[])?;
    let summary = job.drain()?;
    assert_eq!((&summary["dead_letters"], &summary["rows"]), (&json!(2), &json!(3)), "{summary}");
    assert_eq!(job.numbers()?, [0, 2, 4]);
    let mut letters = letters(&job, &topic)?;
    assert_eq!(letters.len(), 2, "{letters:?}");
    for (letter, (offset, reason)) in letters.iter_mut().zip([("1", "truncated"), ("3", "wrong_type")]) {
        let own = |name: &str, value: &str| (format!("dataplatform.{name}"), Some(value.to_owned()));
        let detail = letter.headers.iter().position(|(name, _)| name == "dataplatform.detail");
        let (_, detail) = letter.headers.remove(detail.context("a detail")?);
        assert!(detail.is_some_and(|detail| !detail.is_empty()), "the detail is for people");
        let place = [own("topic", &job.topic), own("partition", "0"), own("offset", offset)];
        let place = place.into_iter().chain([own("timestamp", "1767225600123"), own("reason", reason)]);
        let own: Vec<_> = letter.headers.drain(..5).collect();
        assert_eq!(own, Vec::from_iter(place));
    }
    let trace = vec![("trace".to_owned(), Some("7".to_owned())), ("none".to_owned(), None)];
    let first = Letter { key: Some("k".to_owned()), value: Some("{\"n\": 1".to_owned()), headers: trace };
    let second = Letter { key: None, value: Some("{\"n\": \"three\"}".to_owned()), headers: Vec::new() };
    assert_eq!(letters, [first, second]);
    Ok(())
}

#[test]
fn a_value_that_the_query_refuses_is_a_letter_with_its_own_bytes_and_the_job_goes_on() -> anyhow::Result<()> {
    let broker = needs_broker!();
    let topic = unique_topic("refused-letters");
    broker.create_topic(&topic, 1, &[])?;
    let mut job = Numbers::new(broker, "refused", 2)?;
    job.set("/query", json!(format!("SELECT n, 10 / (n - 3) AS x FROM {NAME}")));
    job.set("/badRecords", json!({"topic": topic}));
    let refused = Record::new("{ \"n\" : 3 , \"more\": [1, 2]}").key("k").header("trace", Some(b"7")).partition(1);
    job.produce(0, 0..3)?;
    job.broker.produce(&job.topic, [refused])?;
    job.produce(1, 4..7)?;
    let summary = job.drain()?;
    assert_eq!((&summary["refused"], &summary["rows"], &summary["dead_letters"]), (&json!(1), &json!(6), &json!(0)));
    // It goes on behind what was read once more.
    job.produce(0, 7..9)?;
    job.produce(1, 9..10)?;
    job.drain()?;
    assert_eq!(job.numbers()?, [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    let letters = letters(&job, &topic)?;
    let [letter] = &letters[..] else { anyhow::bail!("one letter: {letters:?}") };
    assert_eq!(letter.key.as_deref(), Some("k"));
    assert_eq!(letter.value.as_deref(), Some("{ \"n\" : 3 , \"more\": [1, 2]}"), "as it came");
    let own = |name: &str, value: &str| (format!("dataplatform.{name}"), Some(value.to_owned()));
    for header in
        [own("partition", "1"), own("offset", "0"), own("reason", "query"), ("trace".to_owned(), Some("7".to_owned()))]
    {
        assert!(letter.headers.contains(&header), "{header:?} is not in {:?}", letter.headers);
    }
    job.set("/badRecords", json!({"action": "fail"}));
    job.produce(0, 3..4)?;
    let says = job.drain_fails(2)?;
    assert!(says.contains("partition 0 offset 5") && says.contains("badRecords.action to deadLetter"), "{says}");
    Ok(())
}

#[test]
fn a_late_row_is_a_letter_in_the_topic_with_its_own_bytes_and_headers() -> anyhow::Result<()> {
    let broker = needs_broker!();
    let topic = unique_topic("late-letters");
    broker.create_topic(&topic, 1, &[])?;
    let mut job = Numbers::new(broker, "late", 2)?;
    job.count_in_windows("1 minute", "0s");
    job.set("/badRecords", json!({"topic": topic}));
    job.set("/lateRows", json!({"action": "deadLetter"}));
    job.produce(0, 0..10)?;
    let summary = job.drain()?;
    assert_eq!((&summary["rows"], &summary["late"]), (&json!(1), &json!(0)), "{summary}");
    let value = b"{ \"n\" : 7 , \"more\": [1, \"\xc3\xa9\"]}";
    let late = Record::new(value.as_slice()).key("k").header("trace", Some(b"7")).header("none", None);
    let late = late.partition(1).timestamp_ms(1_767_225_600_123);
    // One that is read beside it is not late, and neither is the next one of its partition.
    job.broker.produce(&job.topic, [record(500).partition(0), late, record(501).partition(1)])?;
    let summary = job.drain()?;
    assert_eq!((&summary["rows"], &summary["late"]), (&json!(2), &json!(1)), "{summary}");
    let letters = letters(&job, &topic)?;
    let [letter] = &letters[..] else { anyhow::bail!("one letter: {letters:?}") };
    assert_eq!(letter.key.as_deref(), Some("k"));
    assert_eq!(letter.value.as_deref().map(str::as_bytes), Some(value.as_slice()), "as it came");
    let own = |name: &str, value: &str| (format!("dataplatform.{name}"), Some(value.to_owned()));
    let (place, of_record): (Vec<_>, Vec<_>) =
        letter.headers.iter().cloned().partition(|(name, _)| name.starts_with("dataplatform."));
    assert_eq!(of_record, [("trace".to_owned(), Some("7".to_owned())), ("none".to_owned(), None)]);
    let timestamp = own("timestamp", "1767225600123");
    for header in
        [own("topic", &job.topic), own("partition", "1"), own("offset", "0"), own("reason", "late"), timestamp]
    {
        assert!(place.contains(&header), "{header:?} is not in {place:?}");
    }
    // The next run sends nothing again.
    job.drain()?;
    assert_eq!(self::letters(&job, &topic)?.len(), 1);
    job.audit()
}

#[test]
fn a_dead_letter_may_be_larger_than_what_clients_send_by_default() -> anyhow::Result<()> {
    let broker = needs_broker!();
    let topic = unique_topic("large-letters");
    broker.create_topic(&topic, 1, &[("max.message.bytes", "10000000")])?;
    let mut job = Numbers::with_topic(broker, "large", 1, &[("max.message.bytes", "10000000")])?;
    job.set("/badRecords", json!({"topic": topic}));
    let value = format!("{{\"n\": 1, \"filler\": \"{}\"}}", "x".repeat(3_000_000));
    job.broker.produce(&job.topic, [Record::new(value.clone()), record(2)])?;
    let summary = job.drain()?;
    assert_eq!((&summary["dead_letters"], &summary["rows"]), (&json!(1), &json!(1)), "{summary}");
    let letters = letters(&job, &topic)?;
    assert!(letters[0].value.as_ref() == Some(&value), "the letter is not what was sent");
    let reason = ("dataplatform.reason".to_owned(), Some("too_large".to_owned()));
    assert!(letters[0].headers.contains(&reason), "{:?}", letters[0].headers);
    Ok(())
}

#[test]
fn a_dead_letter_that_is_too_large_for_its_topic_is_cut_and_says_so() -> anyhow::Result<()> {
    let broker = needs_broker!();
    let topic = unique_topic("cut-letters");
    broker.create_topic(&topic, 1, &[("max.message.bytes", "100000")])?;
    let mut job = Numbers::with_topic(broker, "cut", 1, &[])?;
    job.set("/badRecords", json!({"topic": topic}));
    let bad = |letter: &str, length: usize| format!("{{\"n\": \"{}", letter.repeat(length));
    let headers = vec![0; 150_000];
    let records = [
        record(0),
        Record::new(bad("x", 99_900)),
        Record::new(bad("y", 900_000)).key("k").header("trace", Some(b"7")),
        Record::new("{").key("h").header("large", Some(&headers)),
        record(4),
    ];
    job.broker.produce(&job.topic, records)?;
    let summary = job.drain()?;
    assert_eq!((&summary["dead_letters"], &summary["rows"]), (&json!(3), &json!(2)), "{summary}");
    let mut letters = letters(&job, &topic)?;
    let offset = |letter: &Letter| {
        letter.headers.iter().find(|(name, _)| name == "dataplatform.offset").and_then(|(_, value)| value.clone())
    };
    letters.sort_by_key(offset);
    for (letter, (sent, offset)) in
        letters.iter().zip([(bad("x", 99_900), 1), (bad("y", 900_000), 2), ("{".to_owned(), 3)])
    {
        let value = letter.value.clone().unwrap_or_default();
        assert!(sent.starts_with(&value) && value.len() < sent.len(), "letter {offset} has {} bytes", value.len());
        let truncated = ("dataplatform.truncated".to_owned(), Some(sent.len().to_string()));
        assert!(letter.headers.contains(&truncated), "letter {offset}");
        let place = ("dataplatform.offset".to_owned(), Some(offset.to_string()));
        assert!(letter.headers.contains(&place), "letter {offset}");
    }
    assert_eq!(letters.len(), 3);
    // Most of what fits is there, and what the record had beside its value.
    assert!(letters[0].value.as_ref().is_some_and(|value| value.len() > 70_000));
    assert_eq!(letters[1].key.as_deref(), Some("k"));
    assert!(letters[1].headers.contains(&("trace".to_owned(), Some("7".to_owned()))));
    assert_eq!(letters[2].key.as_deref(), Some("h"));
    Ok(())
}

#[test]
fn a_compressed_record_that_is_too_large_is_told_as_that() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "inflated", 1)?;
    let producer = job.producer(&[("compression.type", "zstd"), ("message.max.bytes", "9000000")])?;
    producer.send(&job.topic, &record(0).partition(0))?;
    producer.flush()?;
    let filler = format!("{{\"n\": 1, \"filler\": \"{}\"}}", "x".repeat(5_000_000));
    producer.send(&job.topic, &Record::new(filler).partition(0))?;
    producer.flush()?;
    job.set("/kafka/config", json!({"fetch.max.bytes": "1000000", "receive.message.max.bytes": "1500000"}));
    let says = job.drain_fails(2)?;
    assert!(
        says.contains(&format!("{} partition 0: the records from offset 1 on cannot be decompressed", job.topic)),
        "{says}"
    );
    assert!(says.contains("what to do: raise receive.message.max.bytes in kafka.config"), "{says}");
    job.set("/kafka/config", json!({}));
    let summary = job.drain()?;
    let counts = ["records", "dead_letters", "rows"].map(|name| summary[name].as_u64());
    assert_eq!(counts, [Some(2), Some(1), Some(1)], "{summary}");
    Ok(())
}

#[test]
fn a_bad_record_ends_a_job_that_is_to_fail_and_is_only_counted_where_it_is_to_be_dropped() -> anyhow::Result<()> {
    needs_broker!();
    let Some(mut job) = messy("messy-fail", json!({"action": "fail"}))? else { return Ok(()) };
    let says = job.drain_fails(2)?;
    assert!(says.contains(&format!("{} partition 0 offset 1: ", job.topic)), "{says}");
    assert!(says.contains("(truncated)") && says.contains("badRecords.action to deadLetter"), "{says}");
    assert_eq!(job.committed(), 0, "the good records of the batch wait too");
    job.set("/badRecords", json!({"action": "drop"}));
    let summary = job.drain()?;
    assert_eq!((&summary["dead_letters"], &summary["rows"]), (&json!(2), &json!(3)), "{summary}");
    assert_eq!(job.numbers()?, [0, 2, 4]);
    let tables: Vec<_> =
        std::fs::read_dir(job.folders.outputs())?.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    let tables: Vec<_> = tables.into_iter().filter(|name| name != "_dataplatform").collect();
    assert_eq!(tables, [NAME], "nothing is kept");
    Ok(())
}

/// Moves the beginning of the circuit breaker's evidence back in the last commit: a minute passes in no time.
fn let_a_minute_pass(job: &Numbers) -> anyhow::Result<()> {
    let folder = job.folders.checkpoints().join("local").join(NAME).join("log");
    for version in (0..job.log().len() as u64).rev() {
        let path = folder.join(format!("{version:020}.json"));
        if let LogRecord::Commit(mut commit) = decode::<LogRecord>(version, &std::fs::read(&path)?)? {
            commit.breaker.since -= 61_000_000;
            std::fs::write(&path, encode(version, &LogRecord::Commit(commit)))?;
            return Ok(());
        }
    }
    anyhow::bail!("there is no commit in {}", folder.display())
}

#[test]
fn a_schema_that_broke_stops_the_job_until_somebody_looked() -> anyhow::Result<()> {
    let mut job = Numbers::new(needs_broker!(), "breaker", 1)?;
    job.set("/badRecords", json!({"maxPercent": 10}));
    let producer = job.producer(&[("linger.ms", "20")])?;
    let produce = |numbers: std::ops::Range<u64>, bad_every: u64| {
        for number in numbers {
            let record = if number % bad_every == 0 { Record::new("{}") } else { record(number) };
            producer.send(&job.topic, &record.partition(0))?;
        }
        producer.flush()
    };
    // A tenth is not more than a tenth.
    produce(0..1_000, 10)?;
    job.drain()?;
    let_a_minute_pass(&job)?;
    produce(1_000..1_010, 10)?;
    job.drain()?;
    produce(2_000..3_000, 9)?;
    job.drain()?;
    let_a_minute_pass(&job)?;
    // The last batch still counts: nothing of it comes twice afterwards.
    produce(3_000..3_010, 2)?;
    let says = job.drain_fails(2)?;
    assert!(says.contains("116 of the last 1010 records could not be read"), "{says}");
    assert!(says.contains("--reset-breaker"), "{says}");
    produce(4_000..4_010, 1_000_000)?;
    let before = job.committed();
    assert_eq!(before, 2_020);
    let again = job.drain_fails(2)?;
    assert!(again.contains("116 of the last 1010"), "it stays open: {again}");
    assert_eq!(job.committed(), before, "and reads nothing");
    let summary = crate::events::finish(job.job()?.arg("--drain").arg("--reset-breaker"))?;
    assert_eq!(summary["records"], 2_030, "{summary}");
    assert_eq!(summary["dead_letters"], 100 + 1 + 111 + 5, "{summary}");
    Ok(())
}

#[test]
fn a_changed_job_and_an_order_to_start_again_close_the_circuit_breaker() -> anyhow::Result<()> {
    for cure in ["columns", "limit", "restart"] {
        let mut job = Numbers::new(needs_broker!(), "breaker-cure", 1)?;
        job.set("/badRecords", json!({"maxPercent": 10}));
        let bad = |number: u64| Record::new(json!({ "n": format!("number {number}") }).to_string()).partition(0);
        job.broker.produce(&job.topic, (0..1_000).map(bad))?;
        job.drain()?;
        let_a_minute_pass(&job)?;
        job.broker.produce(&job.topic, (1_000..1_010).map(bad))?;
        let says = job.drain_fails(2)?;
        assert!(says.contains("a changed job reads again") && says.contains("restartedAt"), "{says}");
        match cure {
            "columns" => job.set("/sources/0/columns/0/type", json!("string")),
            "limit" => job.set("/badRecords", json!({"maxPercent": 100})),
            _ => {}
        }
        // Also the run after the next one: the evidence of before is gone, not only passed over once.
        for round in 0..2_u64 {
            job.produce(0, 2_000 + round * 10..2_010 + round * 10)?;
            let run = job.job()?.arg("--drain");
            let run = if cure == "restart" { run.env("DATA_PLATFORM_RESTARTED_AT", "now") } else { run };
            let summary = crate::events::finish(run)?;
            assert_eq!(summary["rows"], (round + 1) * 10, "{cure}: {summary}");
        }
    }
    Ok(())
}
