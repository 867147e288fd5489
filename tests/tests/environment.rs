//! The tests' own tools: if these lie, every other test may.

use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use data_platform_tests::process::expect_code;
use data_platform_tests::readers::Expected;
use data_platform_tests::{
    Broker, Ended, JobFolders, Producer, Record, Runner, Watcher, environment, needs_broker, python_reader, skip,
    unique_topic, wait_for,
};
use rdkafka::message::{Headers, Message};
use rustix::process::Signal;

const TIMEOUT: Duration = Duration::from_secs(60);

#[test]
fn records_come_back_as_they_were_produced() -> anyhow::Result<()> {
    let broker = needs_broker!();
    let topic = unique_topic("environment");
    broker.create_topic(&topic, 2, &[])?;
    let records = [
        Record::new("value")
            .partition(1)
            .key("key")
            .timestamp_ms(1_767_225_600_123)
            .header("a", Some(b"1"))
            .header("a", None),
        Record::tombstone().partition(1).key("key"),
        Record::new("").partition(1),
    ];
    broker.produce(&topic, records)?;
    assert_eq!(broker.offsets(&topic)?, [(0, 0), (0, 3)]);

    let mut found = Vec::new();
    broker.for_each_record(&topic, |message| {
        let headers = message.headers().map_or(0, Headers::count);
        found.push((message.key().map(<[u8]>::to_vec), message.payload().map(<[u8]>::to_vec), headers));
        if message.offset() == 0 {
            assert_eq!(message.timestamp().to_millis(), Some(1_767_225_600_123));
            let values = message.headers().context("headers")?.iter().map(|header| header.value).collect::<Vec<_>>();
            assert_eq!(values, [Some(b"1".as_slice()), None]);
        }
        Ok(())
    })?;
    let key = Some(b"key".to_vec());
    assert_eq!(found, [(key.clone(), Some(b"value".to_vec()), 2), (key, None, 0), (None, Some(Vec::new()), 0)]);
    Ok(())
}

#[test]
fn every_compression_can_be_read() -> anyhow::Result<()> {
    let broker = needs_broker!();
    let topic = unique_topic("compressed");
    broker.create_topic(&topic, 1, &[])?;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let producer = Producer::new(&broker, &[("compression.type", codec)])?;
        for _ in 0..100 {
            producer.send(&topic, &Record::new(codec.repeat(50)))?;
        }
        producer.flush()?;
    }
    assert_eq!(broker.count_records(&topic)?, 500);
    Ok(())
}

#[test]
fn a_refused_record_is_an_error_of_the_test() -> anyhow::Result<()> {
    let broker = needs_broker!();
    let topic = unique_topic("small");
    broker.create_topic(&topic, 1, &[("max.message.bytes", "1000")])?;
    let error = broker.produce(&topic, [Record::new(vec![b'x'; 5000])]).expect_err("it is too large for the topic");
    assert!(format!("{error:#}").contains("not acknowledged"), "{error:#}");
    Ok(())
}

#[test]
fn aborted_transactions_take_up_offsets_that_nobody_reads() -> anyhow::Result<()> {
    let broker = needs_broker!();
    let topic = unique_topic("transactions");
    broker.create_topic(&topic, 1, &[])?;
    let producer = Producer::new(&broker, &[("transactional.id", &topic)])?;
    producer.begin()?;
    producer.send(&topic, &Record::new("kept"))?;
    producer.commit()?;
    producer.begin()?;
    producer.send(&topic, &Record::new("dropped"))?;
    producer.abort()?;
    assert_eq!(broker.count_records(&topic)?, 1);
    // Two records and two markers.
    assert_eq!(broker.offsets(&topic)?, [(0, 4)]);
    Ok(())
}

#[test]
fn a_topic_can_lose_records_grow_and_be_deleted() -> anyhow::Result<()> {
    let broker = needs_broker!();
    let topic = unique_topic("changing");
    broker.create_topic(&topic, 1, &[])?;
    broker.produce(&topic, (0..10).map(|number| Record::new(number.to_string())))?;
    broker.delete_records(&topic, 0, 4)?;
    assert_eq!(broker.offsets(&topic)?, [(4, 10)]);
    assert_eq!(broker.count_records(&topic)?, 6);
    broker.add_partitions(&topic, 3)?;
    assert_eq!(broker.offsets(&topic)?, [(4, 10), (0, 0), (0, 0)]);
    // Records of 1970 fall to a retention time at once.
    broker.produce(&topic, [Record::new("old").partition(1).timestamp_ms(0)])?;
    broker.configure_topic(&topic, &[("retention.ms", "1000"), ("segment.ms", "100")])?;
    wait_for("retention", TIMEOUT, || (broker.offsets(&topic).ok()?[1].0 == 1).then_some(()))?;
    broker.delete_topic(&topic)?;
    assert!(broker.offsets(&topic).is_err());
    broker.create_topic(&topic, 1, &[])?;
    assert_eq!(broker.offsets(&topic)?, [(0, 0)]);
    Ok(())
}

#[test]
fn a_private_broker_survives_kill_with_its_data_and_address() -> anyhow::Result<()> {
    needs_broker!();
    let broker = Broker::private(&[])?;
    let address = broker.address().to_owned();
    broker.create_topic("kept", 1, &[])?;
    // Idempotent: the broker may be killed between writing records and acknowledging them, and they are sent again.
    let producer = Producer::new(&broker, &[("enable.idempotence", "true")])?;
    for number in 0..1000 {
        producer.send("kept", &Record::new(number.to_string()))?;
    }
    broker.kill()?;
    assert!(TcpStream::connect(&address).is_err(), "a killed broker answers nobody");
    // The producer holds these until the broker is back.
    for number in 1000..2000 {
        producer.send("kept", &Record::new(number.to_string()))?;
    }
    broker.restart()?;
    producer.flush()?;
    assert_eq!(broker.address(), address);
    let mut values = Vec::new();
    broker.for_each_record("kept", |message| {
        values.push(String::from_utf8_lossy(message.payload().context("a value")?).into_owned());
        Ok(())
    })?;
    assert_eq!(values, (0..2000).map(|number| number.to_string()).collect::<Vec<_>>());
    broker.stop()?;
    broker.restart()?;
    assert_eq!(broker.count_records("kept")?, 2000);
    Ok(())
}

#[test]
fn the_shared_broker_cannot_be_killed() {
    let broker = needs_broker!();
    assert!(broker.kill().is_err());
    assert!(broker.stop().is_err());
    assert!(broker.restart().is_err());
}

#[test]
fn a_private_broker_has_listeners_with_tls_and_login() -> anyhow::Result<()> {
    needs_broker!();
    let broker = Broker::private(&["--ssl", "--sasl-ssl", "--sasl-plaintext", "--user", "carol:carol-secret"])?;
    broker.create_topic("secure", 1, &[])?;
    let certificates = broker.certificates()?;
    let file = |name: &str| certificates.join(name).to_string_lossy().into_owned();
    let (ca, certificate, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let stranger = (file("stranger.pem"), file("stranger.key"));
    let tls = |certificate: &str, key: &str| {
        vec![
            ("security.protocol", "SSL".to_owned()),
            ("ssl.ca.location", ca.clone()),
            ("ssl.certificate.location", certificate.to_owned()),
            ("ssl.key.location", key.to_owned()),
        ]
    };
    let login = |protocol: &str, mechanism: &str, password: &str| {
        vec![
            ("security.protocol", protocol.to_owned()),
            ("ssl.ca.location", ca.clone()),
            ("sasl.mechanism", mechanism.to_owned()),
            ("sasl.username", "carol".to_owned()),
            ("sasl.password", password.to_owned()),
        ]
    };
    let cases = [
        ("SSL", tls(&certificate, &key), true),
        ("SSL", tls(&stranger.0, &stranger.1), false),
        ("SASL_SSL", login("SASL_SSL", "SCRAM-SHA-256", "carol-secret"), true),
        ("SASL_SSL", login("SASL_SSL", "SCRAM-SHA-512", "carol-secret"), true),
        ("SASL_SSL", login("SASL_SSL", "SCRAM-SHA-512", "wrong"), false),
        ("SASL_PLAINTEXT", login("SASL_PLAINTEXT", "PLAIN", "carol-secret"), true),
        ("SASL_PLAINTEXT", login("SASL_PLAINTEXT", "PLAIN", "wrong"), false),
    ];
    for (listener, settings, works) in cases {
        let address = broker.listener(listener)?;
        let timeout = if works { "30000" } else { "2000" };
        let mut all = vec![("bootstrap.servers", address.as_str()), ("message.timeout.ms", timeout)];
        all.extend(settings.iter().map(|(key, value)| (*key, value.as_str())));
        let producer = Producer::new(&broker, &all)?;
        producer.send("secure", &Record::new("x"))?;
        assert_eq!(producer.flush().is_ok(), works, "{listener} {settings:?}");
    }
    assert_eq!(broker.count_records("secure")?, 4);
    Ok(())
}

/// What the runner would write for the topic of the next test, written by pyarrow.
const WRITE_OUTPUT: &str = r#"
import datetime, os, sys
import pyarrow as pa, pyarrow.parquet
time = pa.timestamp("us", "UTC")
start = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
count = int(sys.argv[2])
table = pa.table({
    "window_start": pa.array([start], time), "window_end": pa.array([start + datetime.timedelta(minutes=1)], time),
    "user_id": ["u"], "event_type": ["click"], "app_type": ["web"], "event_count": [count],
    "session_ids": [["a", "b"]], "processing_time": pa.array([start], time),
})
folder = os.path.join(sys.argv[1], "date=2026-01-01")
os.makedirs(folder, exist_ok=True)
pyarrow.parquet.write_table(table, os.path.join(sys.argv[1], "..", "partial"))
os.rename(os.path.join(sys.argv[1], "..", "partial"), os.path.join(folder, "one.parquet"))
"#;

fn event(session: &str, time: &str) -> String {
    format!(r#"{{"user_id":"u","event_type":"click","session_id":"{session}","timestamp":{time},"app_type":"web"}}"#)
}

#[test]
fn the_readers_compare_an_output_with_the_records_of_a_topic() -> anyhow::Result<()> {
    let broker = needs_broker!();
    let topic = unique_topic("readers");
    broker.create_topic(&topic, 1, &[])?;
    let values =
        [event("b", "1767225600"), event("a", r#""2026-01-01T00:00:59.999""#), "bad".to_owned(), event("a", "null")];
    broker.produce(&topic, values.into_iter().map(Record::new).chain([Record::tombstone()]))?;
    let expected = Expected::of_topic(&broker, &topic, &[])?;
    let counts = ["records", "tombstones", "bad", "accepted", "rows"].map(|name| expected.count(name));
    assert_eq!(counts, [5, 1, 2, 2, 1]);
    assert_eq!(expected.bad_records()?, [(0, 2), (0, 3)]);

    let folders = JobFolders::new()?;
    let output = folders.outputs().join("out");
    let watcher = Watcher::start(&output)?;
    watcher.wait_for_reads(1, TIMEOUT)?;
    let write = |count: &str| -> anyhow::Result<()> {
        let python = environment::python().context("a Python")?;
        let status = Command::new(python).args(["-c", WRITE_OUTPUT]).arg(&output).arg(count).status()?;
        anyhow::ensure!(status.success(), "pyarrow did not write");
        Ok(())
    };
    write("2")?;
    let report = expected.compare(&output, &[])?.expect_success()?;
    assert_eq!(report["duckdb"]["rows"], 1);
    assert_eq!(report["pyarrow"]["events"], 2);
    watcher.wait_for_reads(2, TIMEOUT)?;
    let report = watcher.finish()?.expect_success()?;
    assert_eq!(report["rows_last"]["duckdb"], 1);

    write("3")?;
    let reading = expected.compare(&output, &[])?;
    assert!(!reading.succeeded);
    assert_eq!(reading.report["duckdb"]["wrong"], 1);
    assert!(reading.expect_success().is_err());
    Ok(())
}

#[test]
fn a_reader_that_crashes_is_an_error_and_no_report() {
    needs_broker!();
    let error =
        python_reader("compare.py", ["/nowhere", "/nowhere/expected.parquet"]).expect_err("there is no such file");
    assert!(format!("{error:#}").contains("No files found"), "{error:#}");
}

#[test]
fn a_process_is_waited_for_signalled_and_quoted() -> anyhow::Result<()> {
    let shell = |script: &str| Runner::program("/bin/sh".as_ref(), ["-c", script]);
    let (ended, runner) = shell("echo out; echo err >&2; exit 3").run(TIMEOUT)?;
    assert_eq!(ended, Ended::Code(3));
    assert_eq!((runner.stdout().as_str(), runner.stderr().as_str()), ("out\n", "err\n"));
    expect_code(ended, 3, &runner)?;
    let error = expect_code(ended, 0, &runner).expect_err("it was 3");
    assert!(error.to_string().contains("stderr: err"), "{error}");

    let mut runner = shell("trap 'echo stopping; exit 0' TERM; echo ready; while :; do sleep 0.05; done").start()?;
    runner.wait_for("ready", TIMEOUT, |runner| runner.stdout().contains("ready").then_some(()))?;
    let began = Instant::now();
    let error = runner.wait(Duration::from_millis(100)).expect_err("it goes on");
    assert!(began.elapsed() < TIMEOUT && format!("{error:#}").contains("stdout: ready"), "{error:#}");
    runner.signal(Signal::TERM)?;
    assert_eq!(runner.wait(TIMEOUT)?, Ended::Code(0));
    assert!(runner.stdout().ends_with("stopping\n"));
    let error = runner.wait_for("more", TIMEOUT, |_| None::<()>).expect_err("it has ended");
    assert!(format!("{error:#}").contains("ended (Code(0))"), "{error:#}");

    let mut runner = shell("kill -9 $$").start()?;
    assert_eq!(runner.wait(TIMEOUT)?, Ended::Signal(9));
    runner.signal(Signal::TERM)?;
    Ok(())
}

#[test]
fn the_runner_starts_beside_the_tests() -> anyhow::Result<()> {
    if !environment::program("data-platform").exists() {
        skip!("data-platform is not built; `make test` builds it");
    }
    let (ended, runner) = Runner::command(["version"]).run(TIMEOUT)?;
    expect_code(ended, 0, &runner)
}
