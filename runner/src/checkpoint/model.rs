//! A small exhaustive model of the protocol: two writers, three commits, every interleaving and every crash.
//!
//! Coarse steps over the same decisions that the program uses ([`decide`]); the state space is searched whole.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::checkpoint::decide::{self, BaseCheck, SlotDecision};
use crate::faults::Guard;
use crate::storage::Created;

const COMMITS: u8 = 3;

/// A record of the model's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Entry {
    /// Writer takes the epoch.
    Own(u8, u8),
    /// Epoch, writer and the one batch (0, 1, 2) that it covers.
    Commit(u8, u8, u8),
}

/// What a writer is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Next {
    Start,
    Own,
    CheckOwn(u8),
    Commit,
    CheckBase(u8),
    Publish(u8, u8),
    Collect,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Writer {
    next: Next,
    epoch: u8,
    /// Last version it knows.
    version: u8,
    /// Next batch to commit.
    batch: u8,
    restarts_left: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    log: BTreeMap<u8, Entry>,
    /// Every record that was ever in the log and not withdrawn: what a base keeps of collected ones.
    history: BTreeMap<u8, Entry>,
    base: Option<u8>,
    /// Visible files: version and batch.
    files: BTreeSet<(u8, u8)>,
    writers: [Writer; 2],
}

impl World {
    fn begin() -> Self {
        let writer = Writer { next: Next::Start, epoch: 0, version: 0, batch: 0, restarts_left: 1 };
        let (log, history) = (BTreeMap::new(), BTreeMap::new());
        Self { log, history, base: None, files: BTreeSet::new(), writers: [writer; 2] }
    }

    /// What a start finds: what the newest base keeps, then the records after it.
    fn decided(&self) -> BTreeMap<u8, Entry> {
        let base = self.base.unwrap_or(0);
        let mut decided: BTreeMap<_, _> = self.history.range(..=base).map(|(v, e)| (*v, *e)).collect();
        decided.extend(self.log.range(base + 1..).map(|(v, e)| (*v, *e)));
        decided
    }

    /// What that means: last version, last epoch, next batch.
    fn read(&self) -> (u8, u8, u8) {
        let mut read = (0, 0, 0);
        for (version, entry) in &self.decided() {
            read.0 = *version;
            match entry {
                Entry::Own(epoch, _) => read.1 = *epoch,
                Entry::Commit(_, _, batch) => read.2 = batch + 1,
            }
        }
        read
    }

    /// Creates a slot as the store does, and asks the program what it means.
    fn create(&mut self, version: u8, entry: Entry) -> SlotDecision {
        let bytes = |entry: &Entry| format!("{entry:?}").into_bytes();
        let (answer, found) = match self.log.get(&version) {
            Some(other) => (Created::AlreadyExists, Some(bytes(other))),
            None => {
                self.log.insert(version, entry);
                (Created::Yes, None)
            }
        };
        decide::slot(&bytes(&entry), Some(answer), found.as_deref())
    }

    /// One step of a writer.
    fn step(&mut self, number: usize, without: Option<Guard>) {
        let mut writer = self.writers[number];
        let name = number as u8;
        match writer.next {
            Next::Start => {
                (writer.version, writer.epoch, writer.batch) = self.read();
                // What is decided is published first; publishing again is the same.
                for (version, entry) in self.decided() {
                    if let Entry::Commit(_, _, batch) = entry {
                        self.files.insert((version, batch));
                    }
                }
                writer.next = Next::Own;
            }
            Next::Own => {
                let entry = Entry::Own(writer.epoch + 1, name);
                writer.next = match self.create(writer.version + 1, entry) {
                    SlotDecision::Ours => Next::CheckOwn(writer.version + 1),
                    _ => Next::Start,
                };
            }
            Next::CheckOwn(version) => {
                writer.next = match self.check_base(version, without) {
                    BaseCheck::Publish => {
                        writer.version = version;
                        writer.epoch += 1;
                        Next::Commit
                    }
                    BaseCheck::Withdraw => Next::Start,
                };
            }
            Next::Commit if writer.batch == COMMITS => writer.next = Next::Ended,
            Next::Commit => {
                let entry = Entry::Commit(writer.epoch, name, writer.batch);
                writer.next = match self.create(writer.version + 1, entry) {
                    SlotDecision::Ours => Next::CheckBase(writer.version + 1),
                    _ if without == Some(Guard::Fence) => {
                        writer.version += 1;
                        Next::Commit
                    }
                    _ => Next::Ended,
                };
            }
            Next::CheckBase(version) => {
                writer.next = match self.check_base(version, without) {
                    BaseCheck::Publish => {
                        writer.version = version;
                        Next::Publish(version, writer.batch)
                    }
                    BaseCheck::Withdraw => Next::Ended,
                };
            }
            Next::Publish(version, batch) => {
                self.files.insert((version, batch));
                writer.batch += 1;
                writer.next = Next::Collect;
            }
            Next::Collect => {
                // A base of everything this writer knows, and then no record up to it is needed.
                let newer = self.base.is_none_or(|base| base < writer.version);
                let still_owner = self.read().1 == writer.epoch;
                if newer && still_owner {
                    let since = self.base.map_or(0, |base| base + 1);
                    self.history.extend(self.log.range(since..=writer.version));
                    self.base = Some(writer.version);
                    self.log.retain(|version, _| *version > writer.version);
                }
                writer.next = Next::Commit;
            }
            Next::Ended => {}
        }
        self.writers[number] = writer;
    }

    /// Looks for a newer base, and withdraws the record if there is one.
    fn check_base(&mut self, version: u8, without: Option<Guard>) -> BaseCheck {
        let bases: Vec<u64> = self.base.iter().map(|base| u64::from(*base)).collect();
        let check = match without {
            Some(Guard::BaseCheck) => BaseCheck::Publish,
            _ => decide::base_check(u64::from(version), &bases),
        };
        if check == BaseCheck::Withdraw {
            self.log.remove(&version);
        }
        check
    }

    fn crash(&mut self, number: usize) {
        let restarts_left = self.writers[number].restarts_left - 1;
        self.writers[number] = Writer { next: Next::Start, epoch: 0, version: 0, batch: 0, restarts_left };
    }

    /// No batch is visible twice.
    fn check(&self) -> Result<(), String> {
        let batches: BTreeSet<_> = self.files.iter().map(|(_, batch)| batch).collect();
        if batches.len() == self.files.len() { Ok(()) } else { Err(format!("a batch is visible twice: {self:?}")) }
    }
}

/// Searches every state that can be reached; returns their number.
fn search(without: Option<Guard>) -> Result<usize, String> {
    let mut seen = HashSet::from([World::begin()]);
    let mut open = vec![World::begin()];
    while let Some(world) = open.pop() {
        world.check()?;
        let mut moved = false;
        for number in 0..2 {
            let writer = world.writers[number];
            let mut successors = Vec::new();
            if writer.next != Next::Ended {
                let mut next = world.clone();
                next.step(number, without);
                successors.push(next);
                moved = true;
            }
            if writer.restarts_left > 0 {
                let mut next = world.clone();
                next.crash(number);
                successors.push(next);
            }
            open.extend(successors.into_iter().filter(|next| seen.insert(next.clone())));
        }
        let ends_well = world.writers.iter().any(|writer| writer.batch == COMMITS);
        let both_ended = !moved;
        if both_ended && ends_well && world.files.len() != usize::from(COMMITS) {
            return Err(format!("a batch is lost: {world:?}"));
        }
    }
    Ok(seen.len())
}

#[test]
fn two_writers_and_three_commits_are_exact_in_every_interleaving() {
    let states = search(None).unwrap();
    println!("{states} states");
    assert!(states > 1_000, "only {states} states: the model does not explore");
}

#[test]
fn the_model_sees_a_missing_fence_and_a_missing_base_check() {
    for guard in [Guard::Fence, Guard::BaseCheck] {
        let problem = search(Some(guard)).expect_err("a wrong result");
        assert!(problem.contains("visible twice"), "{guard:?}: {problem}");
    }
}
