//! What a streaming job is made of: sources, which are decoded once, and flows, each a query with an output of its own.
//!
//! Pure. `config::job` makes it of a job, `pipeline::streaming` runs it.
//!
//! ```text
//! source ── columns that some flow needs ──┬── flow: its columns -> query, state -> output
//! source ──────────────────────────────────┴── flow: its columns -> query, state -> output
//! ```

use std::borrow::Cow;

use data_platform_crds::sink::SinkSpec;
use data_platform_crds::source::EventTimeSpec;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use crate::checkpoint::job_state::Computed;
use crate::sink::SinkPlan;
use crate::source::decode::DecodePlan;
use crate::source::reader::Decoders;
use crate::source::reference::ReferenceFiles;
use crate::source::routes::TopicRoutes;
use crate::transform::StreamQuery;

/// A table of the queries that is read from Kafka.
#[derive(Clone, Debug)]
pub struct SourcePlan {
    /// Name of the table.
    pub name: String,
    /// What the decoder builds: the columns that some flow needs.
    pub decode: DecodePlan,
    /// Event time, if the source declares one.
    pub event_time: Option<EventTimeSpec>,
}

impl SourcePlan {
    /// Events after this time are refused as future, at this batch clock.
    pub fn latest_event_time(&self, clock: i64) -> i64 {
        let skew = self.event_time.as_ref().map_or(i64::MAX, |time| time.max_future_skew.as_micros());
        clock.saturating_add(skew)
    }

    /// How long late events are waited for, in microseconds.
    pub fn watermark_delay(&self) -> i64 {
        self.event_time.as_ref().map_or(0, |time| time.watermark_delay.as_micros())
    }
}

/// A small table that queries join with.
#[derive(Clone, Debug)]
pub struct ReferencePlan {
    /// Its files.
    pub files: ReferenceFiles,
    /// Its columns, as the queries were planned with.
    pub schema: SchemaRef,
    /// Time between two looks at the files, in microseconds.
    pub reload_interval: i64,
    /// Windows depend on it: its versions are kept for rebuilds.
    pub kept: bool,
}

/// New decoders of these sources.
pub fn decoders(sources: &[SourcePlan], routes: &TopicRoutes) -> Decoders {
    Decoders::new(sources.iter().map(|source| &source.decode), routes)
}

/// A query, and the output that its rows go to.
#[derive(Clone)]
pub struct Flow {
    /// Name of the output.
    pub output: String,
    /// The query as the user wrote it.
    pub sql: String,
    /// The query.
    pub query: StreamQuery,
    /// What it takes of each source's batches; `None` if it does not read the source.
    pub inputs: Vec<Option<FlowInput>>,
    /// What the user says of the output.
    pub sink: SinkSpec,
    /// What becomes of its rows.
    pub writes: SinkPlan,
}

impl Flow {
    /// What the query takes of a batch of a source; `None` if it does not read the source.
    pub fn input<'a>(&self, source: usize, rows: &'a RecordBatch) -> Option<Cow<'a, RecordBatch>> {
        self.inputs[source].as_ref().map(|input| input.of(rows))
    }

    /// Whether the query reads a source.
    pub fn reads(&self, source: usize) -> bool {
        self.inputs[source].is_some()
    }
}

/// What an earlier plan of a job computed: a rebuild repeats with it what was committed under it.
pub struct EarlierJob {
    /// As they were declared then.
    pub sources: Vec<SourcePlan>,
    /// Whose a topic was.
    pub routes: TopicRoutes,
    /// The queries of that time, by the names that their outputs have now. Their tables are nobody's.
    pub flows: Vec<Flow>,
}

/// Compiles what an earlier plan computed, or says why it cannot be computed any more.
pub type CompileEarlier = Box<dyn Fn(&Computed) -> Result<EarlierJob, String>>;

/// Which columns of a source's batches a query takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowInput {
    /// All of them, as they are.
    All,
    /// Those at these positions.
    Columns(Vec<usize>),
}

impl FlowInput {
    /// How `wanted` columns of a source lie among those that are `built`, both ascending.
    pub fn new(wanted: &[usize], built: &[usize]) -> Self {
        if wanted == built {
            return Self::All;
        }
        let place = |column| built.binary_search(column).expect("what some query wants is built");
        Self::Columns(wanted.iter().map(place).collect())
    }

    /// These columns of a batch; the columns themselves are shared.
    fn of<'a>(&self, rows: &'a RecordBatch) -> Cow<'a, RecordBatch> {
        match self {
            Self::All => Cow::Borrowed(rows),
            Self::Columns(columns) => Cow::Owned(rows.project(columns).expect("the positions are of this source")),
        }
    }
}

/// The columns that at least one query wants, ascending.
pub fn union<'a>(wanted: impl IntoIterator<Item = &'a [usize]>) -> Vec<usize> {
    let mut all: Vec<usize> = wanted.into_iter().flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use datafusion::arrow::array::{ArrayRef, Int64Array};

    #[test]
    fn each_query_gets_its_columns_of_what_is_built_for_all() {
        let built = union([[1, 4].as_slice(), &[0, 4], &[]]);
        assert_eq!(built, [0, 1, 4]);
        assert_eq!(FlowInput::new(&[0, 1, 4], &built), FlowInput::All);
        assert_eq!(FlowInput::new(&[1, 4], &built), FlowInput::Columns(vec![1, 2]));
        assert_eq!(FlowInput::new(&[], &built), FlowInput::Columns(vec![]));
    }

    #[test]
    fn a_projection_copies_no_column() {
        let column = |value| -> ArrayRef { Arc::new(Int64Array::from(vec![value; 3])) };
        let rows = RecordBatch::try_from_iter([("a", column(1)), ("b", column(2)), ("c", column(3))]).unwrap();
        let taken = FlowInput::Columns(vec![0, 2]).of(&rows);
        assert!(Arc::ptr_eq(taken.column(1), rows.column(2)));
        assert_eq!(FlowInput::Columns(vec![]).of(&rows).num_rows(), 3, "a query may read no column and count rows");
        assert!(matches!(FlowInput::All.of(&rows), Cow::Borrowed(_)));
    }
}
