//! The few calls of librdkafka that the safe wrapper does not have: batches of messages from a partition's own queue,
//! offsets of many partitions in one request, topic ids. The only `unsafe` of the source.
//!
//! Batches cost a third of single messages (2.3 against 6.0 million messages per CPU-second, own measurement).

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::raw::c_char;
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::bindings::rd_kafka_resp_err_t as Code;
use rdkafka::types::{RDKafka, RDKafkaErrorCode};

use crate::offsets::Partitions;
use crate::source::record::Headers;

/// Greatest number of messages of one call: large enough that the call costs nothing, small enough for the cache.
pub(crate) const BATCH_MESSAGES_MAX: usize = 8_192;

/// Tells a client another user name and password, for the connections that it makes from here on.
pub(crate) fn set_login(client: *mut RDKafka, username: &str, password: &str) {
    let (Ok(username), Ok(password)) = (CString::new(username), CString::new(password)) else { return };
    // SAFETY: the client is alive, both are C strings, which it copies. The error is ours to free; it comes only where the
    // client logs in by another mechanism.
    unsafe {
        let error = sys::rd_kafka_sasl_set_credentials(client, username.as_ptr(), password.as_ptr());
        if !error.is_null() {
            sys::rd_kafka_error_destroy(error);
        }
    }
}

/// A partition's own queue. The client must outlive it; [`super::consumer::Consumer`] owns both.
pub(crate) struct PartitionQueue {
    queue: *mut sys::rd_kafka_queue_t,
}

// SAFETY: librdkafka's queues may be used from any thread; this one is used by one thread at a time.
unsafe impl Send for PartitionQueue {}

impl PartitionQueue {
    /// Splits the queue of a partition off the consumer's, before or after it is assigned.
    pub(crate) fn split(client: *mut RDKafka, topic: &str, partition: i32) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        // SAFETY: the client is alive, the topic is a C string; the answer is owned by us, or null.
        let queue = unsafe { sys::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition) };
        if queue.is_null() {
            return None;
        }
        // SAFETY: a queue that we own; null forwards to nowhere, so that messages stay in it.
        unsafe { sys::rd_kafka_queue_forward(queue, ptr::null_mut()) };
        Some(Self { queue })
    }

    /// Moves up to `max` messages and errors into `messages`, which must be empty; waits up to `timeout` for the first.
    pub(crate) fn consume(&self, timeout: Duration, max: usize, messages: &mut Messages) {
        debug_assert!(messages.pointers.is_empty(), "the messages before were not released");
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        messages.pointers.reserve(max);
        // SAFETY: there is room for `max` pointers; the call writes as many as it returns.
        let number =
            unsafe { sys::rd_kafka_consume_batch_queue(self.queue, timeout_ms, messages.pointers.as_mut_ptr(), max) };
        let number = usize::try_from(number).unwrap_or(0);
        // SAFETY: `number <= max` pointers were written.
        unsafe { messages.pointers.set_len(number) };
    }
}

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        // SAFETY: ours, and dropped before the client.
        unsafe { sys::rd_kafka_queue_destroy(self.queue) };
    }
}

/// Messages that librdkafka lent us; they go back when this is dropped or cleared.
#[derive(Default)]
pub(crate) struct Messages {
    pointers: Vec<*mut sys::rd_kafka_message_t>,
}

// SAFETY: messages are plain memory of librdkafka, which may be released on any thread.
unsafe impl Send for Messages {}

impl Messages {
    pub(crate) fn is_empty(&self) -> bool {
        self.pointers.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        // SAFETY: the pointers are valid until they are destroyed, which needs `&mut self`.
        self.pointers.iter().map(|pointer| Message { message: unsafe { &**pointer } })
    }

    pub(crate) fn clear(&mut self) {
        for pointer in self.pointers.drain(..) {
            // SAFETY: each pointer is ours and destroyed once.
            unsafe { sys::rd_kafka_message_destroy(pointer) };
        }
    }

    /// Takes the messages from the first one for which `keep` holds.
    pub(crate) fn split_off(&mut self, mut keep: impl FnMut(&Message<'_>) -> bool) -> Self {
        let at = self.iter().position(|message| keep(&message)).unwrap_or(self.pointers.len());
        Self { pointers: self.pointers.split_off(at) }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A message or an error in a partition's queue.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    message: &'a sys::rd_kafka_message_t,
}

impl<'a> Message<'a> {
    /// The error, if it is one.
    pub(crate) fn error(self) -> Option<RDKafkaErrorCode> {
        if self.message.err == Code::RD_KAFKA_RESP_ERR_NO_ERROR { None } else { Some(self.message.err.into()) }
    }

    /// What librdkafka says about the error.
    pub(crate) fn error_text(self) -> String {
        // SAFETY: a valid message; the text belongs to it.
        let text = unsafe { sys::rd_kafka_message_errstr(self.message) };
        if text.is_null() { String::new() } else { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() }
    }

    pub(crate) fn offset(self) -> i64 {
        self.message.offset
    }

    pub(crate) fn key(self) -> Option<&'a [u8]> {
        bytes(self.message.key.cast(), self.message.key_len)
    }

    pub(crate) fn value(self) -> Option<&'a [u8]> {
        bytes(self.message.payload.cast(), self.message.len)
    }

    /// Milliseconds since 1970, if the broker keeps a time.
    pub(crate) fn timestamp_ms(self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: a valid message and a place for the answer.
        let time = unsafe { sys::rd_kafka_message_timestamp(self.message, &mut kind) };
        if kind == sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE { None } else { Some(time) }
    }
}

/// Null is not the same as empty: a null value is a tombstone.
fn bytes<'a>(pointer: *const u8, length: usize) -> Option<&'a [u8]> {
    // SAFETY: librdkafka gives a pointer to `length` bytes that live as long as the message, or null.
    if pointer.is_null() { None } else { Some(unsafe { std::slice::from_raw_parts(pointer, length) }) }
}

impl Headers for Message<'_> {
    fn visit(&self, visit: &mut dyn FnMut(&str, Option<&[u8]>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: a valid message; the headers stay its own.
        let answer = unsafe { sys::rd_kafka_message_headers(self.message, &mut headers) };
        if answer != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        for index in 0.. {
            let (mut name, mut value, mut size): (*const c_char, _, _) = (ptr::null(), ptr::null(), 0);
            // SAFETY: places for the answer; an index behind the last gives an error.
            let answer = unsafe { sys::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size) };
            if answer != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            // SAFETY: names are C strings.
            let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
            visit(&name, bytes(value.cast(), size));
        }
    }
}

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OffsetQuestion {
    /// The first that is still there.
    Earliest,
    /// One past the last that may be read.
    End,
    /// The first at or after this time, in milliseconds since 1970; the end, if there is none.
    At(i64),
    /// No offset, but the newest time of a record, in milliseconds since 1970; -1, if there is none.
    NewestTime,
}

/// A request that failed as a whole or for one partition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct RequestError {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) message: String,
}

/// A topic as the brokers describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicDescription {
    /// Its id; another one after it was deleted and created again.
    pub(crate) id: String,
    /// Number of partitions.
    pub(crate) partitions: i32,
    /// What we may do with it; `None` if that was not asked, or is not told.
    pub(crate) rights: Option<Rights>,
}

/// What the user of a connection may do with a topic or a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Rights {
    /// From the list of a description; an empty one comes from brokers that do not tell.
    ///
    /// # Safety
    /// `operations` points to `number` of them.
    unsafe fn of(operations: *const sys::rd_kafka_AclOperation_t, number: usize) -> Option<Self> {
        use sys::rd_kafka_AclOperation_t as Operation;
        if operations.is_null() || number == 0 {
            return None;
        }
        // SAFETY: the caller's promise.
        let operations = unsafe { std::slice::from_raw_parts(operations, number) };
        let has = |wanted: Operation| {
            operations.iter().any(|found| *found == wanted || *found == Operation::RD_KAFKA_ACL_OPERATION_ALL)
        };
        let (read, write) = (Operation::RD_KAFKA_ACL_OPERATION_READ, Operation::RD_KAFKA_ACL_OPERATION_WRITE);
        Some(Self { read: has(read), write: has(write) })
    }
}

/// Whether a description tells the rights, too: it costs the brokers a look at their rules for each topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// No.
    Plain,
    /// Yes.
    WithRights,
}

/// Answers of [`list_offsets`], per partition.
pub(crate) type OffsetAnswers = Partitions<Result<i64, RequestError>>;

/// Asks for one offset of every partition, in one request per broker.
pub(crate) fn list_offsets(
    client: *mut RDKafka,
    questions: &Partitions<OffsetQuestion>,
    read_committed: bool,
    timeout: Duration,
) -> Result<OffsetAnswers, RequestError> {
    let mut list = rdkafka::TopicPartitionList::new();
    for (topic, partition, question) in questions.iter() {
        let offset = match question {
            OffsetQuestion::Earliest => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST as i64,
            OffsetQuestion::End => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i64,
            OffsetQuestion::At(milliseconds) => *milliseconds,
            OffsetQuestion::NewestTime => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_MAX_TIMESTAMP as i64,
        };
        list.add_partition(topic, partition);
        set_raw_offset_of_last(&list, offset);
    }
    let level = if read_committed {
        sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED
    } else {
        sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED
    };
    let options = Options::new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS, timeout)?;
    // SAFETY: the options are alive; an error object would be ours.
    let refused = unsafe { sys::rd_kafka_AdminOptions_set_isolation_level(options.0, level) };
    check(refused)?;
    // SAFETY: client, list and options are alive during the call; the answer comes to the queue.
    let event =
        ask(client, timeout, |queue| unsafe { sys::rd_kafka_ListOffsets(client, list.ptr(), options.0, queue) })?;
    let mut answers = OffsetAnswers::new();
    // SAFETY: the event is of the kind that was asked for and lives until the end of this function.
    unsafe {
        let result = sys::rd_kafka_event_ListOffsets_result(event.0);
        let mut number = 0;
        let infos = sys::rd_kafka_ListOffsets_result_infos(result, &mut number);
        for index in 0..number {
            let partition = &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(index));
            let topic = CStr::from_ptr(partition.topic).to_string_lossy();
            let answer = match partition.err {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    let question = questions.at(&topic, partition.partition);
                    let answer = match question {
                        Some(OffsetQuestion::NewestTime) => {
                            sys::rd_kafka_ListOffsetsResultInfo_timestamp(*infos.add(index))
                        }
                        _ => partition.offset,
                    };
                    answered(question, answer)
                }
                error => Err(request_error(error)),
            };
            answers.insert(&topic, partition.partition, answer);
        }
    }
    Ok(answers)
}

/// What an offset without an error says. The library gives partitions whose broker did not answer an invalid offset, and no
/// error with it; taken for an end, it would look as if the topic had lost its records.
fn answered(question: Option<OffsetQuestion>, offset: i64) -> Result<i64, RequestError> {
    // -1: no record at or after that time.
    let least = if matches!(question, Some(OffsetQuestion::At(_) | OffsetQuestion::NewestTime)) { -1 } else { 0 };
    if offset < least {
        let message = "its broker did not answer".to_owned();
        return Err(RequestError { code: RDKafkaErrorCode::BrokerTransportFailure, message });
    }
    Ok(offset)
}

/// The list carries raw specifications here, which the safe setter would translate or refuse.
fn set_raw_offset_of_last(list: &rdkafka::TopicPartitionList, offset: i64) {
    // SAFETY: the list is alive and has `cnt` elements, which nobody else looks at now.
    unsafe {
        let raw = &*list.ptr();
        let Some(last) = usize::try_from(raw.cnt).ok().and_then(|number| number.checked_sub(1)) else { return };
        (*raw.elems.add(last)).offset = offset;
    }
}

/// Describes topics; one that does not exist has an error of its own. Any broker knows the answer: `broker` is asked.
pub(crate) fn describe_topics(
    client: *mut RDKafka,
    broker: i32,
    names: &[String],
    rights: Ask,
    timeout: Duration,
) -> Result<BTreeMap<String, Result<TopicDescription, RequestError>>, RequestError> {
    let names: Vec<_> = names.iter().filter_map(|name| CString::new(name.as_str()).ok()).collect();
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let options = Options::new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout)?;
    options.set_broker(broker)?;
    options.ask(rights)?;
    // SAFETY: the names are C strings and are copied by the call; the collection is destroyed below.
    let topics = unsafe { sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()) };
    // SAFETY: client, topics and options are alive during the call.
    let event = ask(client, timeout, |queue| unsafe { sys::rd_kafka_DescribeTopics(client, topics, options.0, queue) });
    // SAFETY: ours; the request has its own copy.
    unsafe { sys::rd_kafka_TopicCollection_destroy(topics) };
    let event = event?;
    let mut described = BTreeMap::new();
    // SAFETY: the event is of the kind that was asked for and lives until the end of this function.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0);
        let mut number = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &mut number);
        for index in 0..number {
            let topic = *topics.add(index);
            let name = CStr::from_ptr(sys::rd_kafka_TopicDescription_name(topic)).to_string_lossy().into_owned();
            let error = sys::rd_kafka_TopicDescription_error(topic);
            let code = sys::rd_kafka_error_code(error);
            let description = if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                let id = sys::rd_kafka_Uuid_base64str(sys::rd_kafka_TopicDescription_topic_id(topic));
                let mut partitions = 0;
                sys::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
                let id = CStr::from_ptr(id).to_string_lossy().into_owned();
                let mut number = 0;
                let operations = sys::rd_kafka_TopicDescription_authorized_operations(topic, &mut number);
                let rights = Rights::of(operations, number);
                Ok(TopicDescription { id, partitions: i32::try_from(partitions).unwrap_or(i32::MAX), rights })
            } else {
                Err(request_error(code))
            };
            described.insert(name, description);
        }
    }
    Ok(described)
}

/// What we may do in a group of consumers; `None` if the brokers do not tell. A group that nobody is in is as good as one
/// that is.
pub(crate) fn rights_in_group(
    client: *mut RDKafka,
    group: &str,
    timeout: Duration,
) -> Result<Option<Rights>, RequestError> {
    let Ok(name) = CString::new(group) else {
        return Err(request_error(Code::RD_KAFKA_RESP_ERR_INVALID_GROUP_ID));
    };
    let mut pointers = [name.as_ptr()];
    let options = Options::new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS, timeout)?;
    options.ask(Ask::WithRights)?;
    // SAFETY: the name is a C string and is copied by the call; client and options are alive during it.
    let event = ask(client, timeout, |queue| unsafe {
        sys::rd_kafka_DescribeConsumerGroups(client, pointers.as_mut_ptr(), pointers.len(), options.0, queue);
    })?;
    // SAFETY: the event is of the kind that was asked for and lives until the end of this function.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event.0);
        let mut number = 0;
        let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut number);
        if number == 0 {
            return Ok(None);
        }
        let group = *groups;
        match sys::rd_kafka_error_code(sys::rd_kafka_ConsumerGroupDescription_error(group)) {
            // Since version 6 of the request a group that is not there has an error: it may become one.
            Code::RD_KAFKA_RESP_ERR_NO_ERROR | Code::RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND => {}
            code => return Err(request_error(code)),
        }
        let mut number = 0;
        let operations = sys::rd_kafka_ConsumerGroupDescription_authorized_operations(group, &mut number);
        Ok(Rights::of(operations, number))
    }
}

struct Options(*mut sys::rd_kafka_AdminOptions_t);

impl Options {
    fn new(client: *mut RDKafka, operation: sys::rd_kafka_admin_op_t, timeout: Duration) -> Result<Self, RequestError> {
        // SAFETY: the client is alive.
        let options = Self(unsafe { sys::rd_kafka_AdminOptions_new(client, operation) });
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let mut text = [0; 256];
        // SAFETY: the options are alive, the text has its length beside it.
        let code = unsafe {
            sys::rd_kafka_AdminOptions_set_request_timeout(options.0, milliseconds, text.as_mut_ptr(), text.len())
        };
        if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(options) } else { Err(request_error(code)) }
    }
}

impl Options {
    fn ask(&self, rights: Ask) -> Result<(), RequestError> {
        // SAFETY: the options are alive; an error object would be ours.
        check(unsafe {
            sys::rd_kafka_AdminOptions_set_include_authorized_operations(self.0, (rights == Ask::WithRights).into())
        })
    }

    fn set_broker(&self, broker: i32) -> Result<(), RequestError> {
        let mut text = [0; 256];
        // SAFETY: the options are alive, the text has its length beside it.
        let code = unsafe { sys::rd_kafka_AdminOptions_set_broker(self.0, broker, text.as_mut_ptr(), text.len()) };
        if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(request_error(code)) }
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: ours, destroyed once.
        unsafe { sys::rd_kafka_AdminOptions_destroy(self.0) };
    }
}

struct Event(*mut sys::rd_kafka_event_t);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: ours, destroyed once.
        unsafe { sys::rd_kafka_event_destroy(self.0) };
    }
}

/// Sends a request and waits for its answer on a queue of its own.
fn ask(
    client: *mut RDKafka,
    timeout: Duration,
    send: impl FnOnce(*mut sys::rd_kafka_queue_t),
) -> Result<Event, RequestError> {
    // The request has its own time-out; a little more here lets that one answer first.
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).saturating_add(1_000);
    // SAFETY: the client is alive; the queue is ours and destroyed after the answer was taken.
    let event = unsafe {
        let queue = sys::rd_kafka_queue_new(client);
        send(queue);
        let event = sys::rd_kafka_queue_poll(queue, milliseconds);
        sys::rd_kafka_queue_destroy(queue);
        event
    };
    if event.is_null() {
        return Err(request_error(Code::RD_KAFKA_RESP_ERR__TIMED_OUT));
    }
    let event = Event(event);
    // SAFETY: the event is alive; its text belongs to it.
    let (code, text) = unsafe { (sys::rd_kafka_event_error(event.0), sys::rd_kafka_event_error_string(event.0)) };
    if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(event);
    }
    let mut error = request_error(code);
    if !text.is_null() {
        // SAFETY: a C string that lives as long as the event.
        error.message = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    }
    Err(error)
}

fn request_error(code: Code) -> RequestError {
    let code = RDKafkaErrorCode::from(code);
    RequestError { code, message: code.to_string() }
}

/// Takes an error object apart; null is no error.
fn check(error: *mut sys::rd_kafka_error_t) -> Result<(), RequestError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: ours; its code is copied before it is destroyed.
    let code = unsafe {
        let code = sys::rd_kafka_error_code(error);
        sys::rd_kafka_error_destroy(error);
        code
    };
    Err(request_error(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_offset_is_no_answer() {
        for question in [None, Some(OffsetQuestion::Earliest), Some(OffsetQuestion::End)] {
            assert_eq!(answered(question, 0).expect("an offset"), 0);
            for offset in [-1, -1001] {
                let error = answered(question, offset).expect_err("no offset");
                assert_eq!(error.code, RDKafkaErrorCode::BrokerTransportFailure, "{question:?} {offset}");
            }
        }
        let at = Some(OffsetQuestion::At(1_700_000_000_000));
        assert_eq!(answered(at, -1).expect("no record at or after that time"), -1);
        assert_eq!(answered(at, 7).expect("an offset"), 7);
        answered(at, -1001).expect_err("no offset");
    }
}
