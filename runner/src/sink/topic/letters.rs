//! Dead letters to a topic: the original bytes, with where they came from and what was wrong in the headers.
//!
//! At least once: after a crash a dead letter may come twice, with the same topic, partition and offset in its headers.
//! A letter has more bytes than its record, so a topic may refuse one that another topic has taken: it is cut until it
//! fits, and a header says how many bytes it had. A record must not stop the job, whatever its size.

use std::rc::Rc;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use rdkafka::message::{Header, OwnedHeaders};

use crate::checkpoint::record::{OutputCommit, Sent};
use crate::faults::{Faults, Step, step};
use crate::sink::topic::producer::{Message, Producer};
use crate::sink::topic::root_of;
use crate::sink::{Batch, Sink, SinkError, Stage};

/// A topic for dead letters.
pub struct DeadLetterTopic {
    output: String,
    topic: String,
    producer: Rc<dyn Producer>,
    faults: Arc<dyn Faults>,
}

impl DeadLetterTopic {
    /// The letters of the output of this name.
    pub fn new(output: &str, topic: &str, producer: Rc<dyn Producer>, faults: Arc<dyn Faults>) -> Self {
        Self { output: output.to_owned(), topic: topic.to_owned(), producer, faults }
    }
}

#[async_trait(?Send)]
impl Sink for DeadLetterTopic {
    fn name(&self) -> &str {
        &self.output
    }

    /// A topic that is missing is told with the first letter: a job without letters needs none.
    async fn probe(&self) -> Result<(), SinkError> {
        Ok(())
    }

    fn begin(&self, _: Batch) -> Result<Box<dyn Stage>, SinkError> {
        let (producer, faults, topic) = (Rc::clone(&self.producer), Arc::clone(&self.faults), self.topic.clone());
        Ok(Box::new(Letters { producer, faults, topic, sent: Sent::default() }))
    }
}

/// The letters of one attempt.
struct Letters {
    producer: Rc<dyn Producer>,
    faults: Arc<dyn Faults>,
    topic: String,
    sent: Sent,
}

#[async_trait(?Send)]
impl Stage for Letters {
    /// Rows of `source::dead_letter`.
    async fn write(&mut self, letters: &RecordBatch) -> Result<(), SinkError> {
        for row in 0..letters.num_rows() {
            let message = message(letters, row);
            self.sent.rows += 1;
            self.sent.bytes += message.value.as_ref().map_or(0, |value| value.len() as u64);
            self.producer.send(message)?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<OutputCommit, SinkError> {
        step(&*self.faults, Step::DeadLetters, async { self.producer.wait() }).await?;
        Ok(OutputCommit { root: root_of(&self.topic), sent: Some(self.sent), ..OutputCommit::default() })
    }

    /// What was sent stays there, and comes again.
    async fn abandon(self: Box<Self>) {}
}

fn message(letters: &RecordBatch, row: usize) -> Message {
    let text = |name: &str| letters[name].as_string::<i32>();
    let binary = |name: &str| {
        let array = letters[name].as_binary::<i32>();
        if array.is_null(row) { None } else { Some(array.value(row).to_vec()) }
    };
    let partition = letters["partition"].as_primitive::<Int32Type>().value(row).to_string();
    let offset = letters["offset"].as_primitive::<Int64Type>().value(row).to_string();
    let times = letters["timestamp"].as_primitive::<TimestampMicrosecondType>();
    let timestamp = times.is_valid(row).then(|| (times.value(row) / 1_000).to_string());
    let mut headers = OwnedHeaders::new();
    let own = [
        ("dataplatform.topic", Some(text("topic").value(row))),
        ("dataplatform.partition", Some(&partition)),
        ("dataplatform.offset", Some(&offset)),
        // Not the letter's own time: retention would remove old ones at once.
        ("dataplatform.timestamp", timestamp.as_deref()),
        ("dataplatform.reason", Some(text("reason").value(row))),
        ("dataplatform.detail", Some(text("detail").value(row))),
    ];
    for (key, value) in own {
        headers = headers.insert(Header { key, value });
    }
    let original = letters["headers"].as_list::<i32>().value(row);
    let original = original.as_struct();
    let (keys, values) = (original.column(0).as_string::<i32>(), original.column(1).as_binary::<i32>());
    for index in 0..original.len() {
        let value = if values.is_null(index) { None } else { Some(values.value(index)) };
        headers = headers.insert(Header { key: keys.value(index), value });
    }
    Message { key: binary("key"), value: binary("value"), headers }
}
