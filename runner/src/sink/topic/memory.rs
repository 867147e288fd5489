//! Topics in memory, for tests: what arrives and what only seems to, and brokers that refuse.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::sink::topic::producer::{MakeProducer, Message, Producer};
use crate::sink::{SinkError, TopicProblem};

/// Topics that outlive the jobs which write to them. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct MemoryTopics(Rc<Topics>);

#[derive(Default)]
struct Topics {
    messages: RefCell<BTreeMap<String, Vec<Message>>>,
    refusals: RefCell<BTreeMap<String, TopicProblem>>,
}

impl MemoryTopics {
    /// What arrived in a topic, in its order.
    pub(crate) fn messages(&self, topic: &str) -> Vec<Message> {
        self.0.messages.borrow().get(topic).cloned().unwrap_or_default()
    }

    /// The topic acknowledges nothing from now on, or everything again.
    pub(crate) fn refuse(&self, topic: &str, problem: Option<TopicProblem>) {
        match problem {
            Some(problem) => self.0.refusals.borrow_mut().insert(topic.to_owned(), problem),
            None => self.0.refusals.borrow_mut().remove(topic),
        };
    }

    /// What jobs are given to send with.
    pub(crate) fn producers(&self) -> Box<MakeProducer> {
        let topics = self.clone();
        Box::new(move |topic, _| {
            let waiting = RefCell::default();
            Ok(Rc::new(MemoryProducer { topics: topics.clone(), topic: topic.to_owned(), waiting, sent: Cell::new(0) }))
        })
    }
}

/// Of what is sent every other message arrives at once and the others when they are waited for: a sender that dies between
/// leaves some of them there.
struct MemoryProducer {
    topics: MemoryTopics,
    topic: String,
    waiting: RefCell<Vec<Message>>,
    sent: Cell<u64>,
}

impl MemoryProducer {
    fn check(&self) -> Result<(), SinkError> {
        match self.topics.0.refusals.borrow().get(&self.topic) {
            Some(problem) => {
                let (topic, word) = (self.topic.clone(), "it was told to refuse".to_owned());
                Err(SinkError::Topic { topic, problem: *problem, word })
            }
            None => Ok(()),
        }
    }

    fn deliver(&self, messages: impl IntoIterator<Item = Message>) {
        self.topics.0.messages.borrow_mut().entry(self.topic.clone()).or_default().extend(messages);
    }
}

impl Producer for MemoryProducer {
    fn probe(&self) -> Result<(), SinkError> {
        Ok(())
    }

    fn send(&self, message: Message) -> Result<(), SinkError> {
        self.sent.set(self.sent.get() + 1);
        if self.sent.get().is_multiple_of(2) && self.check().is_ok() {
            self.deliver([message]);
        } else {
            self.waiting.borrow_mut().push(message);
        }
        Ok(())
    }

    fn wait(&self) -> Result<(), SinkError> {
        self.check()?;
        self.deliver(self.waiting.take());
        Ok(())
    }
}
