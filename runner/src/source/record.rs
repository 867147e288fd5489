//! One Kafka record as the decoder sees it: borrowed from the client library, gone after the batch is decoded.

/// Names of the columns that hold a record's topic, partition and offset behind those that are declared. Reserved: they
/// are built where the engine needs them, and no query can name them.
pub const IDENTITY_COLUMNS: [&str; 3] = ["__topic", "__partition", "__offset"];

/// A record, borrowed from the client's buffer.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// Name of the topic.
    pub topic: &'a str,
    /// Partition of the topic.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// The time that Kafka keeps with the record, as it came; readers ask [`Record::time_ms`].
    pub timestamp_ms: Option<i64>,
    /// The key; `None` is Kafka's null.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, read only when somebody asks.
    pub headers: &'a dyn Headers,
}

impl Record<'_> {
    /// The time that Kafka keeps with the record, in milliseconds since 1970. One before 1970 is none: producers and
    /// brokers write -1 where they have no time.
    #[inline]
    pub fn time_ms(&self) -> Option<i64> {
        self.timestamp_ms.filter(|milliseconds| *milliseconds >= 0)
    }
}

/// The headers of a record, in order. Names may repeat.
pub trait Headers {
    /// Calls `visit` with each header's name and value (`None` is Kafka's null).
    fn visit(&self, visit: &mut dyn FnMut(&str, Option<&[u8]>));
}

/// A record without headers.
pub struct NoHeaders;

impl Headers for NoHeaders {
    fn visit(&self, _: &mut dyn FnMut(&str, Option<&[u8]>)) {}
}

impl Headers for Vec<(String, Option<Vec<u8>>)> {
    fn visit(&self, visit: &mut dyn FnMut(&str, Option<&[u8]>)) {
        for (name, value) in self {
            visit(name, value.as_deref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_1970_is_none() {
        let at = |timestamp_ms| {
            let (topic, partition, offset) = ("t", 0, 0);
            Record { topic, partition, offset, timestamp_ms, key: None, value: None, headers: &NoHeaders }.time_ms()
        };
        assert_eq!((at(None), at(Some(-1)), at(Some(i64::MIN)), at(Some(-1_000))), (None, None, None, None));
        assert_eq!((at(Some(0)), at(Some(1_767_225_600_000))), (Some(0), Some(1_767_225_600_000)));
    }
}
