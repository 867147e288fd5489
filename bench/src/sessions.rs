//! Sessions: clickstream-analysis over generated clicks, and a million sessions that stay open.

use std::time::Duration;

use data_platform_runner::random::Random;
use data_platform_runner::source::decode::{DecodePlan, Decoder};
use data_platform_runner::source::record::{NoHeaders, Record};
use data_platform_runner::transform::{BatchClock, SourceTable, StreamQuery};
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::TimestampMicrosecondType;

use crate::{BATCH_ROWS, START_MS, clickstream, declared, report, thread_time};

/// Who clicks when.
#[derive(Clone, Copy)]
pub(crate) struct Clicks {
    /// Visits that are open at a time.
    pub(crate) visits: u64,
    /// Events of a visit, on average.
    pub(crate) events: u64,
    /// Milliseconds of event time between two events.
    pub(crate) step_ms: f64,
    /// Whether the watermark closes visits on the way.
    pub(crate) closes: bool,
}

/// Takes records in and closes what has ended; only that is measured.
pub(crate) fn run(name: &str, records: u64, clicks: Clicks) {
    let (source, sql) = clickstream();
    let event_time = source.event_time.as_ref().map(|time| time.column.clone());
    let table = SourceTable { name: source.name.clone(), schema: declared(&source), event_time };
    let query = StreamQuery::plan(&sql, &table.into(), BatchClock::default()).expect("the query runs as a stream");
    let plan = DecodePlan::new(&source, query.input_columns(0)).expect("the columns are declared");
    let time_column = query.input_columns(0).iter().position(|column| *column == 3).expect("the event time is read");
    let mut decoder = Decoder::new(plan);
    let mut operator = query.operator();
    let (mut spent, mut bytes, mut rows, mut largest, mut watermark) = (Duration::ZERO, 0, 0, 0, None);
    let mut random = Random::new(1);
    let mut version = 0;
    let mut ingest = |batch: RecordBatch| {
        version += 1;
        let times = batch.column(time_column).as_primitive::<TimestampMicrosecondType>();
        let latest = times.values().iter().max().copied();
        let began = thread_time();
        operator.ingest(0, &batch, watermark, version).expect("generated events have every field");
        watermark = latest.map(|latest| latest - 30_000_000).filter(|_| clicks.closes);
        if let Some(watermark) = watermark {
            rows += operator.close(watermark).expect("visits close").iter().map(RecordBatch::num_rows).sum::<usize>();
        }
        spent += thread_time() - began;
        largest = largest.max(operator.size_bytes());
    };
    for number in 0..records {
        let event = event(number, clicks, &mut random);
        bytes += event.len();
        let record = Record {
            topic: "topic_clickstream",
            partition: (number % 8) as i32,
            offset: (number / 8) as i64,
            timestamp_ms: None,
            key: None,
            value: Some(event.as_bytes()),
            headers: &NoHeaders,
        };
        decoder.decode(&record, i64::MAX).expect("generated events are good");
        if decoder.rows() == BATCH_ROWS {
            ingest(decoder.finish());
        }
    }
    ingest(decoder.finish());
    let open = operator.open_windows();
    let began = thread_time();
    rows += operator.close(i64::MAX).expect("visits close").iter().map(RecordBatch::num_rows).sum::<usize>();
    spent += thread_time() - began;
    report(name, spent, records, bytes);
    println!("    {rows} visits, {open} open at the end, state at most {:.0} MB", largest as f64 / 1e6);
}

fn event(number: u64, clicks: Clicks, random: &mut Random) -> String {
    let place = random.below(clicks.visits);
    // The visits at all places end after so many events on average, and others take their places.
    let visit = place + number / (clicks.visits * clicks.events) * clicks.visits;
    let time_ms = START_MS + (number as f64 * clicks.step_ms) as i64;
    format!(
        r#"{{"event_id":"{number:016x}","user_id":"user-{place}","session_id":"{:08x}-{visit:027x}","page_url":"https://shop.example/products/{}","timestamp":{time_ms},"event_type":"click","element_id":"button-{}","x_pos":{},"y_pos":12.5,"device_type":"{}"}}"#,
        visit.wrapping_mul(0x9e37_79b9) as u32,
        random.below(2_000),
        random.below(40),
        random.below(1_000),
        ["desktop", "mobile", "tablet"][random.below(3) as usize],
    )
}
