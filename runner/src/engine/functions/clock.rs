//! The batch clock and the functions that read it: `now()`, `current_timestamp`, `current_date`, `today()`.
//!
//! DataFusion replaces `now()` by a constant when it plans; a streaming query is planned once and runs for months.
//! These functions read one shared number instead, which the pipeline sets once per micro-batch and commits with it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::engine::UTC;

const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

/// What `now()` reads: microseconds since 1970. The pipeline sets it once per micro-batch, before rows of that batch
/// are ingested or emitted; a rebuild sets the clock that the log has for each batch.
#[derive(Clone, Debug, Default)]
pub struct BatchClock(Arc<AtomicI64>);

impl BatchClock {
    /// A clock that shows `microseconds` since 1970.
    pub fn new(microseconds: i64) -> Self {
        Self(Arc::new(AtomicI64::new(microseconds)))
    }

    /// Sets the clock of all clones.
    pub fn set(&self, microseconds: i64) {
        self.0.store(microseconds, Ordering::Relaxed);
    }

    /// Microseconds since 1970.
    pub fn microseconds(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The functions that replace DataFusion's.
pub(crate) fn functions(clock: &BatchClock) -> Vec<ScalarUDF> {
    let function = |name, aliases: &[&str], reading| {
        ScalarUDF::new_from_impl(ReadClock {
            name,
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            reading,
            clock: clock.clone(),
            // Volatile keeps the optimizer from computing it ahead. All calls of a batch still agree.
            signature: Signature::nullary(Volatility::Volatile),
        })
    };
    vec![
        function("now", &["current_timestamp", "localtimestamp"], Reading::Instant),
        function("current_date", &["today"], Reading::Date),
        function("current_time", &[], Reading::TimeOfDay),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reading {
    Instant,
    Date,
    TimeOfDay,
}

#[derive(Debug)]
struct ReadClock {
    name: &'static str,
    aliases: Vec<String>,
    reading: Reading,
    clock: BatchClock,
    signature: Signature,
}

/// Two functions are equal when they read the same clock in the same way.
impl PartialEq for ReadClock {
    fn eq(&self, other: &Self) -> bool {
        self.reading == other.reading && Arc::ptr_eq(&self.clock.0, &other.clock.0)
    }
}

impl Eq for ReadClock {}

impl Hash for ReadClock {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.reading.hash(state);
    }
}

impl ScalarUDFImpl for ReadClock {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.reading {
            Reading::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            Reading::Date => DataType::Date32,
            Reading::TimeOfDay => DataType::Time64(TimeUnit::Microsecond),
        })
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let now = self.clock.microseconds();
        Ok(ColumnarValue::Scalar(match self.reading {
            Reading::Instant => ScalarValue::TimestampMicrosecond(Some(now), Some(UTC.into())),
            Reading::Date => ScalarValue::Date32(i32::try_from(now.div_euclid(MICROSECONDS_PER_DAY)).ok()),
            Reading::TimeOfDay => ScalarValue::Time64Microsecond(Some(now.rem_euclid(MICROSECONDS_PER_DAY))),
        }))
    }
}
