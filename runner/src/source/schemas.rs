//! The schemas of writers: from the schema registry by their ids, kept for ever, or from a file.
//!
//! An id never means another schema, so what was found once is never asked for again, and a registry that is away hurts
//! only who needs a schema that is new. Who waits for one says so as trouble and goes on trying. An id that the registry
//! does not know is asked for a few times, since registries have copies that lag behind, and is not asked for again for a
//! while; records with made-up ids cannot keep the job busy by that.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::{Clock, SystemClock};
use crate::source::{SourceError, Trouble};
use crate::stop::StopSignal;

/// The language of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaKind {
    /// Avro.
    Avro,
    /// JSON Schema.
    Json,
    /// Protobuf.
    Protobuf,
}

impl fmt::Display for SchemaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avro => "Avro",
            Self::Json => "JSON Schema",
            Self::Protobuf => "Protobuf",
        })
    }
}

/// A schema by which records were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterSchema {
    /// Its id in the registry; `None` if it is from a file.
    pub id: Option<u32>,
    /// Its language.
    pub kind: SchemaKind,
    /// Its text.
    pub text: String,
    /// Instead of a text: descriptors of Protobuf, as `protoc` writes them.
    pub descriptors: Option<Vec<u8>>,
    /// Names and texts of the schemas that it refers to, each before those that refer to it.
    pub references: Vec<(String, String)>,
    /// Subjects under which it is registered, if anybody asked.
    pub subjects: Vec<String>,
}

/// Why a registry gives no schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryError {
    /// It may pass: no answer, or none that makes sense.
    Passing(String),
    /// Somebody must change something: login, certificates.
    Refused(String),
    /// A secret cannot be read.
    Secret(String),
}

/// Who knows schemas by their ids.
pub trait Registry: Send + Sync {
    /// The address, for messages.
    fn address(&self) -> &str;

    /// The schema of an id; `None` if there is none.
    ///
    /// # Errors
    /// See [`RegistryError`].
    fn schema(&self, id: u32) -> Result<Option<WriterSchema>, RegistryError>;
}

/// Times that an unknown id is asked for at once: a registry's copies follow within a second.
const TRIES: u32 = 4;
/// Pause before the second of them; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause while the registry does not answer.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long an unknown id is not asked for; twice as long each time, up to [`UNKNOWN_MAX`].
const UNKNOWN_FIRST: Duration = Duration::from_secs(10);
/// The longest time in which a schema that was registered late is still unknown.
const UNKNOWN_MAX: Duration = Duration::from_secs(300);
/// Unknown ids that are remembered. Beyond this they are made up: they are asked for once, without patience.
const UNKNOWN_IDS_MAX: usize = 1_000;

/// The schemas that a job knows.
pub struct Schemas {
    registry: Option<Box<dyn Registry>>,
    known: Mutex<HashMap<u32, Arc<WriterSchema>>>,
    unknown: Mutex<HashMap<u32, Unknown>>,
    /// Waits for a registry that is away; a bounded run does not.
    patient: bool,
    trouble: Trouble,
}

impl fmt::Debug for Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registry = self.registry.as_ref().map(|registry| registry.address());
        f.debug_struct("Schemas").field("registry", &registry).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
struct Unknown {
    since: Instant,
    pause: Duration,
}

impl Schemas {
    /// Those of a registry, if the job has one.
    pub fn new(registry: Option<Box<dyn Registry>>, patient: bool, trouble: Trouble) -> Self {
        Self { registry, known: Mutex::default(), unknown: Mutex::default(), patient, trouble }
    }

    /// No schemas.
    pub fn none() -> Self {
        Self::new(None, false, Trouble::default())
    }

    /// The schema of an id; `None` if the registry has none.
    ///
    /// # Errors
    /// The registry refuses us or, of a bounded run, does not answer; or somebody said stop.
    pub fn find(&self, id: u32, stop: &StopSignal) -> Result<Option<Arc<WriterSchema>>, SourceError> {
        if let Some(schema) = lock(&self.known).get(&id) {
            return Ok(Some(Arc::clone(schema)));
        }
        let Some(registry) = &self.registry else { return Ok(None) };
        let earlier = lock(&self.unknown).get(&id).copied();
        if earlier.is_some_and(|unknown| SystemClock.since(unknown.since) < unknown.pause) {
            return Ok(None);
        }
        let is_crowded = lock(&self.unknown).len() >= UNKNOWN_IDS_MAX;
        let mut tries = if earlier.is_some() || is_crowded { 1 } else { TRIES };
        let (mut pause, mut in_trouble) = (FIRST_PAUSE, false);
        loop {
            let found = registry.schema(id);
            if in_trouble && found.is_ok() {
                self.trouble.set(None);
                in_trouble = false;
            }
            match found {
                Ok(Some(schema)) => {
                    let schema = Arc::new(schema);
                    lock(&self.known).insert(id, Arc::clone(&schema));
                    lock(&self.unknown).remove(&id);
                    return Ok(Some(schema));
                }
                Ok(None) if tries <= 1 => {
                    self.note_unknown(id, earlier);
                    return Ok(None);
                }
                Ok(None) => tries -= 1,
                Err(error) => {
                    let error = self.told(registry.address(), error);
                    if !self.patient || !matches!(error, SourceError::RegistryUnreachable { .. }) {
                        return Err(error);
                    }
                    if !in_trouble {
                        tracing::warn!(id, "waiting for the schema registry: {error}");
                    }
                    self.trouble.set(Some(error));
                    in_trouble = true;
                }
            }
            if stop.wait(pause) {
                return Err(SourceError::Stopped);
            }
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    fn note_unknown(&self, id: u32, earlier: Option<Unknown>) {
        let pause = earlier.map_or(UNKNOWN_FIRST, |unknown| (2 * unknown.pause).min(UNKNOWN_MAX));
        let mut unknown = lock(&self.unknown);
        if unknown.len() >= UNKNOWN_IDS_MAX && !unknown.contains_key(&id) {
            unknown.retain(|_, unknown| SystemClock.since(unknown.since) < unknown.pause);
        }
        if unknown.len() < UNKNOWN_IDS_MAX || unknown.contains_key(&id) {
            unknown.insert(id, Unknown { since: SystemClock.instant(), pause });
        }
    }

    fn told(&self, address: &str, error: RegistryError) -> SourceError {
        let url = address.to_owned();
        match error {
            RegistryError::Passing(detail) => SourceError::RegistryUnreachable { url, detail },
            RegistryError::Refused(detail) => SourceError::RegistryRefused { url, detail },
            RegistryError::Secret(problem) => SourceError::Secret(problem),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The largest file with a schema.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Reads a schema from a file.
///
/// # Errors
/// [`SourceError::SchemaFile`] with the problem.
pub fn of_file(path: &str, kind: SchemaKind) -> Result<WriterSchema, SourceError> {
    let failed = |problem: String| SourceError::SchemaFile { path: path.to_owned(), problem };
    let length = std::fs::metadata(Path::new(path)).map_err(|error| failed(error.to_string()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(failed(format!("it has {length} bytes, more than {FILE_BYTES_MAX}")));
    }
    let content = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let (references, subjects) = (Vec::new(), Vec::new());
    if kind == SchemaKind::Protobuf && !path.ends_with(".proto") {
        let (text, descriptors) = (String::new(), Some(content));
        return Ok(WriterSchema { id: None, kind, text, descriptors, references, subjects });
    }
    let text = String::from_utf8(content).map_err(|_| failed("it is no text".to_owned()))?;
    Ok(WriterSchema { id: None, kind, text, descriptors: None, references, subjects })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    type Answer = fn(u32) -> Result<Option<WriterSchema>, RegistryError>;

    struct Scripted {
        answer: Answer,
        asked: Arc<AtomicU32>,
    }

    impl Registry for Scripted {
        fn address(&self) -> &str {
            "http://r"
        }

        fn schema(&self, _: u32) -> Result<Option<WriterSchema>, RegistryError> {
            (self.answer)(self.asked.fetch_add(1, Ordering::SeqCst))
        }
    }

    fn schema() -> WriterSchema {
        let (text, references, subjects) = ("\"int\"".to_owned(), Vec::new(), Vec::new());
        WriterSchema { id: Some(7), kind: SchemaKind::Avro, text, descriptors: None, references, subjects }
    }

    fn schemas(patient: bool, answer: Answer) -> (Schemas, Arc<AtomicU32>, Trouble) {
        let (asked, trouble) = (Arc::new(AtomicU32::new(0)), Trouble::default());
        let registry = Scripted { answer, asked: Arc::clone(&asked) };
        (Schemas::new(Some(Box::new(registry)), patient, trouble.clone()), asked, trouble)
    }

    /// Waits for nobody.
    fn stop() -> StopSignal {
        StopSignal::with_wait(|_| {})
    }

    #[test]
    fn a_schema_is_asked_for_once() {
        let (schemas, asked, _) = schemas(true, |_| Ok(Some(schema())));
        for _ in 0..3 {
            assert_eq!(schemas.find(7, &stop()).unwrap().as_deref(), Some(&schema()));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn an_unknown_id_is_asked_for_a_few_times_and_then_not_for_a_while() {
        let (schemas, asked, _) = schemas(true, |_| Ok(None));
        for _ in 0..3 {
            assert_eq!(schemas.find(7, &stop()).unwrap(), None);
        }
        assert_eq!(asked.load(Ordering::SeqCst), TRIES);
    }

    #[test]
    fn an_id_that_a_copy_of_the_registry_learns_late_is_found() {
        let (schemas, ..) = schemas(true, |asked| Ok((asked == 2).then(schema)));
        assert!(schemas.find(7, &stop()).unwrap().is_some());
    }

    #[test]
    fn made_up_ids_cost_one_request_each() {
        let (schemas, asked, _) = schemas(true, |_| Ok(None));
        let ids = UNKNOWN_IDS_MAX as u32;
        (0..ids).for_each(|id| assert_eq!(schemas.find(id, &stop()).unwrap(), None));
        let before = asked.load(Ordering::SeqCst);
        (ids..2 * ids).for_each(|id| assert_eq!(schemas.find(id, &stop()).unwrap(), None));
        assert_eq!(asked.load(Ordering::SeqCst) - before, ids);
        assert!(lock(&schemas.unknown).len() <= UNKNOWN_IDS_MAX);
    }

    #[test]
    fn a_registry_that_is_away_is_waited_for_and_said_so() {
        let (schemas, _, trouble) = schemas(true, |asked| match asked {
            0..5 => Err(RegistryError::Passing("no".to_owned())),
            _ => Ok(Some(schema())),
        });
        let (seen, watched) = (Arc::new(Mutex::new(Vec::new())), trouble.clone());
        let noted = Arc::clone(&seen);
        let stop = StopSignal::with_wait(move |_| lock(&noted).push(watched.get().map(|error| error.to_string())));
        assert!(schemas.find(7, &stop).unwrap().is_some());
        let seen = lock(&seen);
        assert_eq!(seen.len(), 5);
        assert!(
            seen.iter()
                .all(|error| error.as_deref()
                    == Some("the schema registry at http://r does not answer as it should: no"))
        );
        assert_eq!(trouble.get(), None);
    }

    #[test]
    fn a_bounded_run_and_a_refused_login_do_not_wait() {
        let (away, ..) = schemas(false, |_| Err(RegistryError::Passing("no".to_owned())));
        assert!(matches!(away.find(7, &stop()), Err(SourceError::RegistryUnreachable { .. })));
        let (refused, ..) = schemas(true, |_| Err(RegistryError::Refused("401".to_owned())));
        assert!(matches!(refused.find(7, &stop()), Err(SourceError::RegistryRefused { .. })));
        let (away, ..) = schemas(true, |_| Err(RegistryError::Passing("no".to_owned())));
        let stopped = StopSignal::new();
        stopped.stop();
        assert_eq!(away.find(7, &stopped), Err(SourceError::Stopped));
    }
}
