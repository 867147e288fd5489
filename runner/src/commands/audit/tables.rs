//! What lies in the outputs: every file that the log names, whole, and nothing else that readers would see.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::job_state::JobState;
use crate::checkpoint::log::OpenOutput;
use crate::checkpoint::output::Listed;
use crate::commands::checkpoint::{FileState, Retention, check_listed, files_of, listed_of, read_facts};
use crate::offsets::Partitions;
use crate::sink::footer::FileFacts;
use crate::storage::{SharedStore, StoreError, paths};

use super::chain::Chains;
use super::counting::letters_missing;
use super::log::{AuditedLog, ExpectedFile};

/// What was found in an output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AuditedTable {
    /// Files of this log that readers see.
    pub(super) files: u64,
    /// Their length.
    pub(super) bytes: u64,
    /// Their rows.
    pub(super) rows: u64,
    /// Files that are decided and not visible yet.
    pub(super) staged: u64,
    /// Rows in those.
    pub(super) staged_rows: u64,
    /// Files that readers see and this log did not write.
    pub(super) foreign: u64,
    /// Files that the log names and that were removed on purpose.
    pub(super) removed: u64,
    /// Rows in those.
    pub(super) removed_rows: u64,
    /// It has a log of its own, and other writers may put rows of older files into other ones.
    pub(super) is_shared: bool,
}

/// Where an output lies.
pub(super) struct Place {
    store: SharedStore,
    /// What the table's own log says, if it has one.
    listed: Option<Listed>,
}

/// Where an output lies and lay, today's place first: a table may have been moved, and its path changed.
pub(super) async fn places(
    log: &AuditedLog,
    name: &str,
    roots: &[String],
    open: &OpenOutput,
) -> Result<Vec<Place>, StoreError> {
    let current = log.end.plan.outputs.get(name).or(log.end.outputs.get(name).map(|output| &output.root));
    let mut places: Vec<Place> = Vec::new();
    for root in current.into_iter().chain(roots) {
        let Some(store) = files_of(open, root)? else { continue };
        if !places.iter().any(|known| known.store.root() == store.root()) {
            places.push(Place { store, listed: listed_of(open, root).await? });
        }
    }
    Ok(places)
}

/// Looks at everything in an output.
pub(super) async fn look(
    log: &AuditedLog,
    name: &str,
    places: &[Place],
    retention: Retention,
) -> Result<(AuditedTable, Vec<String>), StoreError> {
    let root = places.first().map_or("", |place| place.store.root()).to_owned();
    let is_shared = places.iter().any(|place| place.listed.is_some());
    let table = AuditedTable { is_shared, ..AuditedTable::default() };
    let (problems, older) = (Vec::new(), BTreeMap::new());
    let mut look = Look { log, root, retention, table, problems, older, is_text: false, has_merged: false };
    let mut lists = Vec::new();
    for place in places {
        lists.push(place.store.list("").await?);
    }
    // Their rows count with the file that has them; a table with a log of its own says that itself.
    let plain = places.iter().zip(&lists).filter(|(place, _)| place.listed.is_none());
    let covered: BTreeSet<_> =
        plain.flat_map(|(_, listed)| paths::covered(listed.iter().map(|entry| entry.path.as_str()))).collect();
    let expected: BTreeMap<&str, &ExpectedFile> =
        log.files.iter().filter(|file| file.output == name).map(|file| (file.file.path.as_str(), file)).collect();
    for expected in expected.values().filter(|expected| !covered.contains(expected.file.path.as_str())) {
        let place = place_of(places, expected).await?;
        place.store.root().clone_into(&mut look.root);
        look.named_by_the_log(place, expected).await?;
    }
    // A table that was copied leaves its files in the old place.
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (Place { store, listed: named }, listed) in places.iter().zip(&lists) {
        store.root().clone_into(&mut look.root);
        let mut listed = listed.clone();
        listed.retain(|entry| !covered.contains(entry.path.as_str()));
        if let Some(named) = named {
            // Of the others some were never decided, and some are another writer's, who may write there.
            let is_ours = |path: &str| paths::final_version(path, &log.end.start.log_id).is_some();
            listed.retain(|entry| named.active.contains(&entry.path) && is_ours(&entry.path));
        }
        let is_ours = |path: &&str| paths::final_version(path, &log.end.start.log_id).is_some();
        let ours = listed.iter().map(|entry| entry.path.as_str()).filter(is_ours).chain(expected.keys().copied());
        // Readers of one format do not see files of another.
        let mut endings: BTreeSet<_> = ours.filter_map(paths::visible_ending).collect();
        look.is_text |= endings.iter().any(|ending| paths::text_of(ending).is_some());
        if endings.is_empty() {
            endings.insert(paths::PARQUET);
        }
        let is_seen = |path: &str| paths::visible_ending(path).is_some_and(|ending| endings.contains(ending));
        for entry in listed.iter().filter(|entry| is_seen(&entry.path)) {
            if !expected.contains_key(entry.path.as_str()) && seen.insert(entry.path.clone()) {
                look.not_named_by_records(store, &entry.path, entry.bytes).await?;
            }
        }
    }
    if let Some(place) = places.first() {
        place.store.root().clone_into(&mut look.root);
    }
    look.older_ranges(name);
    Ok((look.table, look.problems))
}

/// A file that does not say who wrote it.
fn is_text(path: &str) -> bool {
    paths::visible_ending(path).and_then(paths::text_of).is_some()
}

/// The first place that has a file.
async fn place_of<'a>(places: &'a [Place], expected: &ExpectedFile) -> Result<&'a Place, StoreError> {
    let file = &expected.file;
    for place in places {
        let store = &place.store;
        let is_there = store.length(&file.path).await?.is_some()
            || expected.may_be_staged && store.length(&file.stage).await?.is_some();
        if is_there {
            return Ok(place);
        }
    }
    Ok(&places[0])
}

struct Look<'a> {
    log: &'a AuditedLog,
    root: String,
    retention: Retention,
    table: AuditedTable,
    problems: Vec<String>,
    /// There are files that do not say who wrote them.
    is_text: bool,
    /// Files were merged: what each of them covered is not known any more.
    has_merged: bool,
    /// Files whose records are gone, by version.
    older: BTreeMap<u64, Vec<(String, FileFacts)>>,
}

impl Look<'_> {
    fn problem(&mut self, path: &str, problem: impl AsRef<str>) {
        self.problems.push(format!("{}/{path}: {}", self.root, problem.as_ref()));
    }

    fn count(&mut self, bytes: u64, rows: u64) {
        self.table.files += 1;
        self.table.bytes += bytes;
        self.table.rows += rows;
    }

    async fn named_by_the_log(&mut self, place: &Place, expected: &ExpectedFile) -> Result<(), StoreError> {
        let (file, version, store) = (&expected.file, expected.version, &place.store);
        let state = check_listed(store, place.listed.as_ref(), file, expected.may_be_staged).await?;
        let was_removed =
            |state: &FileState| *state == FileState::Missing && self.retention.covers(&file.path, expected.clock);
        let Some(state) = state.filter(|state| !was_removed(state)) else {
            self.table.removed += 1;
            self.table.removed_rows += file.rows;
            return Ok(());
        };
        if let Some(problem) = state.problem(file) {
            self.problem(&file.path, format!("{problem} (version {version}, {} rows)", file.rows));
            return Ok(());
        }
        if state == FileState::Merged {
            // Its rows count with the file that has them.
            return Ok(());
        }
        let is_staged = state == FileState::Staged;
        let found = read_facts(store, if is_staged { &file.stage } else { &file.path }, &file.path).await?;
        let facts = match found {
            Ok(facts) => facts,
            Err(problem) => {
                self.problem(&file.path, format!("it is not a Parquet file: {problem}"));
                return Ok(());
            }
        };
        if is_staged {
            self.table.staged += 1;
            self.table.staged_rows += facts.rows;
        } else {
            self.count(file.bytes, facts.rows);
        }
        if facts.rows != file.rows {
            self.problem(&file.path, format!("it has {} rows, the log says {}", facts.rows, file.rows));
        }
        if is_text(&file.path) {
            return Ok(());
        }
        self.footer(&file.path, &facts, expected);
        if expected.offsets.is_none() {
            self.older.entry(version).or_default().push((file.path.clone(), facts));
        }
        Ok(())
    }

    fn footer(&mut self, path: &str, facts: &FileFacts, expected: &ExpectedFile) {
        let Some(footer) = &facts.footer else {
            return self.problem(path, "its footer does not say who wrote it");
        };
        let log_id = &self.log.end.start.log_id;
        if footer.log_id != *log_id || footer.version != expected.version {
            let problem = format!("its footer names log {} version {}", footer.log_id, footer.version);
            return self.problem(path, problem);
        }
        if let Some(offsets) = expected.offsets.as_ref().filter(|offsets| **offsets != footer.offsets) {
            let text = |offsets| serde_json::to_string(offsets).expect("names and numbers are always JSON");
            self.problem(path, format!("its footer covers {}, the log says {}", text(&footer.offsets), text(offsets)));
        }
    }

    /// A file of an older commit, or one that does not belong here.
    async fn not_named_by_records(&mut self, store: &SharedStore, path: &str, bytes: u64) -> Result<(), StoreError> {
        let facts = match read_facts(store, path, path).await? {
            Ok(facts) => facts,
            Err(problem) => {
                self.table.foreign += 1;
                self.problem(path, format!("it is not a file of this log, and no whole Parquet file: {problem}"));
                return Ok(());
            }
        };
        let log_id = self.log.end.start.log_id.clone();
        if is_text(path) {
            // Only its name says who wrote it.
            match paths::final_version(path, &log_id).filter(|version| *version <= self.log.begin.version) {
                Some(_) => self.count(bytes, facts.rows),
                None => {
                    self.table.foreign += 1;
                    self.problem(path, format!("it is not a file of this log; readers see its {} rows", facts.rows));
                }
            }
            return Ok(());
        }
        let Some(footer) = facts.footer.clone() else {
            self.table.foreign += 1;
            self.problem(path, format!("it is not a file of this log; readers see its {} rows", facts.rows));
            return Ok(());
        };
        let name_says = paths::final_version(path, &log_id);
        let begin = self.log.begin.version;
        let is_void =
            self.log.end.rewinds.iter().any(|rewound| (rewound.to + 1..rewound.version).contains(&footer.version));
        if footer.log_id != log_id {
            self.table.foreign += 1;
            let problem = format!(
                "log {} wrote it (version {}); readers see its {} rows",
                footer.log_id, footer.version, facts.rows
            );
            self.problem(path, problem);
        } else if footer.merged.is_some() && name_says == Some(footer.version) && !is_void {
            self.has_merged = true;
            self.count(bytes, facts.rows);
        } else if footer.version > begin || name_says != Some(footer.version) {
            self.table.foreign += 1;
            let problem =
                format!("the log has no such file (version {}); readers see its {} rows", footer.version, facts.rows);
            self.problem(path, problem);
        } else if is_void {
            self.table.foreign += 1;
            self.problem(
                path,
                format!("a rewind made version {} void; readers see its {} rows", footer.version, facts.rows),
            );
        } else {
            self.count(bytes, facts.rows);
            self.older.entry(footer.version).or_default().push((path.to_owned(), facts));
        }
        Ok(())
    }

    /// Before the first record that is kept: the footers follow each other from record 0 on.
    fn older_ranges(&mut self, name: &str) {
        let begin = &self.log.begin;
        if begin.version == 0 || self.is_text {
            return;
        }
        let was_there = begin.start.plan.outputs.contains_key(name);
        let chains = if was_there { Chains::from(&begin.start.offsets) } else { Chains::default() };
        let may_have_gaps = self.retention.since.is_some() || self.table.is_shared || self.has_merged;
        let mut chains = chains.with_gaps(may_have_gaps);
        let mut rewinds = begin.rewinds.iter().peekable();
        let mut problems = Vec::new();
        for (version, files) in &self.older {
            while let Some(rewound) = rewinds.next_if(|rewound| rewound.version < *version) {
                chains.restart(&rewound.positions);
            }
            let offsets: BTreeSet<_> =
                files.iter().filter_map(|(_, facts)| Some(facts.footer.as_ref()?.offsets.clone())).collect();
            if offsets.len() > 1 {
                problems.push(format!("{}: the files of version {version} do not name the same offsets", self.root));
            }
            for (topic, partition, (start, end)) in offsets.iter().next().into_iter().flat_map(Partitions::iter) {
                let fits = chains.add(topic, partition, *start, *end);
                problems.extend(fits.err().map(|problem| format!("{}: version {version}: {problem}", self.root)));
            }
        }
        rewinds.for_each(|rewound| chains.restart(&rewound.positions));
        if let Some(output) = begin.outputs.get(name) {
            let ends = chains.ends_at(&output.covered);
            problems.extend(
                ends.into_iter().map(|problem| format!("{}: before version {}: {problem}", self.root, begin.version)),
            );
        }
        self.problems.extend(problems);
    }
}

/// Rows in all files of an output are the rows that were ever counted; dead letters are the rows of their table.
pub(super) fn rows_in_total(
    log: &AuditedLog,
    tables: &BTreeMap<String, AuditedTable>,
    retention: Retention,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, table) in tables {
        let counted = log.end.totals.outputs.get(name).map_or(0, |output| output.rows);
        let found = table.rows + table.staged_rows + table.removed_rows;
        // Nobody knows how many rows older files had that were removed.
        let may_be_less = (retention.since.is_some() || table.is_shared) && log.begin.version > 0;
        if found > counted || found < counted && !may_be_less {
            problems.push(format!("output {name}: its files have {found} rows, {counted} were counted"));
        }
    }
    problems.extend(older_dead_letters(&log.begin));
    problems
}

/// Commits are checked one by one; here those whose records are gone, unless the table of dead letters changed meanwhile.
fn older_dead_letters(begin: &JobState) -> Option<String> {
    let name = begin.plan.dead_letters.as_ref()?;
    if begin.start.plan.dead_letters.as_ref() != Some(name) {
        return None;
    }
    let rows = begin.totals.outputs.get(name).map_or(0, |output| output.rows);
    let counted = letters_missing(&begin.totals, rows)?;
    Some(format!("up to version {}: {counted}, {rows} are in {name}", begin.version))
}
