//! Laws of sessions, against sessions that are found by looking at all events of a key at once.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::keys::NONE;
use super::pieces::{Changes, Ended, Fragment, Piece, Pieces};
use super::*;

/// A session: key, first and last event, end, and number of events.
type Row = (u32, i64, i64, i64, u64);

/// Key and time of an event.
type Event = (u32, i64);

/// All sessions of some events: chains without a gap, pieces of chains by cell, and cuts between pieces.
fn naive(session: Session, events: &[Event]) -> Vec<Row> {
    let mut by_key: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
    events.iter().for_each(|(key, time)| by_key.entry(*key).or_default().push(*time));
    let mut rows = vec![];
    for (key, mut times) in by_key {
        times.sort_unstable();
        let cell = |time: i64| time.div_euclid(session.maximum);
        let pieces: Vec<&[i64]> = times.chunk_by(|a, b| b - a < session.gap && cell(*a) == cell(*b)).collect();
        let mut from = 0;
        while from < pieces.len() {
            let mut to = from;
            let mut end = None;
            while to + 1 < pieces.len() && pieces[to + 1][0] - pieces[to].last().unwrap() < session.gap {
                if pieces[to + 1].last().unwrap() - pieces[to][0] >= session.maximum {
                    end = Some((cell(pieces[to][0]) + 1) * session.maximum);
                    break;
                }
                to += 1;
            }
            let last = *pieces[to].last().unwrap();
            let count = pieces[from..=to].iter().map(|piece| piece.len() as u64).sum();
            rows.push((key, pieces[from][0], last, end.unwrap_or(last + session.gap), count));
            from = to + 1;
        }
    }
    rows
}

/// Open sessions with a count of events as their only aggregate.
struct Model {
    session: Session,
    pieces: Pieces,
    heads: HashMap<u32, u32>,
    held: Counts,
}

#[derive(Default)]
struct Counts {
    counts: HashMap<u32, u64>,
    waits: BTreeMap<u32, i64>,
    open: BTreeMap<u32, Piece>,
}

impl Changes for Counts {
    fn opened(&mut self, piece: u32, what: &Piece) {
        assert!(self.open.insert(piece, *what).is_none());
        self.counts.insert(piece, 0);
    }

    fn changed(&mut self, piece: u32, from: &Piece, to: &Piece) {
        let old = self.open.insert(piece, *to).unwrap();
        assert_eq!((old.first, old.last, old.version), (from.first, from.last, from.version));
    }

    fn closed(&mut self, piece: u32, _: &Piece) {
        self.open.remove(&piece).unwrap();
        self.waits.remove(&piece);
    }

    fn united(&mut self, _: u32, into: u32, from: u32) {
        *self.counts.get_mut(&into).unwrap() += self.counts[&from];
    }

    fn wait(&mut self, piece: u32, time: i64) {
        let earlier = self.waits.get(&piece).copied().unwrap_or(i64::MAX);
        self.waits.insert(piece, earlier.min(time));
    }
}

impl Model {
    fn new(session: Session) -> Self {
        Self { session, pieces: Pieces::new(session), heads: HashMap::new(), held: Counts::default() }
    }

    fn put(&mut self, key: u32, fragment: Fragment, count: u64, watermark: Option<i64>) -> bool {
        let head = self.heads.entry(key).or_insert(NONE);
        match self.pieces.put(key, head, fragment, watermark, &mut self.held) {
            Some(piece) => {
                *self.held.counts.get_mut(&piece).unwrap() += count;
                true
            }
            None => false,
        }
    }

    /// A micro-batch; gives the number of late events.
    fn add(&mut self, events: &[Event], watermark: Option<i64>, version: u64) -> usize {
        let mut sorted = events.to_vec();
        sorted.sort_unstable();
        let cell = |time: i64| time.div_euclid(self.session.maximum);
        let gap = self.session.gap;
        let fragments: Vec<Vec<Event>> = sorted
            .chunk_by(|a, b| a.0 == b.0 && b.1 - a.1 < gap && cell(a.1) == cell(b.1))
            .map(<[Event]>::to_vec)
            .collect();
        let mut late = 0;
        for events in fragments {
            let (key, first, last) = (events[0].0, events[0].1, events.last().unwrap().1);
            let fragment = Fragment { first, last, version, before: None };
            if !self.put(key, fragment, events.len() as u64, watermark) {
                late += events.len();
            }
        }
        late
    }

    /// Ends what has ended, looking only at pieces that may have.
    fn end(&mut self, watermark: i64) -> Vec<Row> {
        let due: Vec<u32> =
            self.held.waits.iter().filter(|(_, time)| **time <= watermark).map(|(piece, _)| *piece).collect();
        let mut ended: Vec<Ended> = vec![];
        for piece in due {
            self.held.waits.remove(&piece);
            let key = self.pieces.get(piece).key;
            let head = self.heads.get_mut(&key).unwrap();
            self.pieces.end(head, watermark, &mut self.held, &mut ended);
        }
        let rows = ended.iter().map(|ended| {
            let piece = self.pieces.get(ended.piece);
            (piece.key, piece.first, piece.last, ended.end, self.held.counts[&ended.piece])
        });
        let rows = rows.collect();
        ended.iter().for_each(|ended| self.pieces.release(ended.piece));
        rows
    }

    /// Whether a session is open that has ended, though nobody looked at it.
    fn is_behind(&self, watermark: i64) -> bool {
        // Looked at all at once in a copy, which knows nothing of what waits for what.
        let mut copy = self.restored(&[]);
        copy.held.waits = copy.held.open.keys().map(|piece| (*piece, i64::MIN)).collect();
        !copy.end(watermark).is_empty()
    }

    /// What is open, as it is kept: key, fragment and count.
    fn open(&self) -> Vec<(u32, Fragment, u64)> {
        let open = self.held.open.iter().map(|(piece, what)| {
            let Piece { first, last, version, before, .. } = *what;
            (what.key, Fragment { first, last, version, before }, self.held.counts[piece])
        });
        open.collect()
    }

    fn restored(&self, others: &[&Self]) -> Self {
        let mut new = Self::new(self.session);
        for model in std::iter::once(&self).chain(others) {
            for (key, fragment, count) in model.open() {
                assert!(new.put(key, fragment, count, None));
            }
        }
        new
    }
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_unstable();
    rows
}

/// Gap 10 and maximum 30 to 70: a few hundred ticks have everything.
fn sessions() -> impl Strategy<Value = Session> {
    (30_i64..70).prop_map(|maximum| Session::new(10, Some(maximum)).unwrap())
}

fn events(length: usize) -> impl Strategy<Value = Vec<Event>> {
    // Steps of up to 14: most of them leave no gap, so that there are long chains.
    prop::collection::vec((0_u32..3, 0_i64..14), 1..length).prop_map(|steps| {
        let mut times = [-100_i64; 3];
        let event = |(key, step): (u32, i64)| {
            times[key as usize] += step;
            (key, times[key as usize])
        };
        steps.into_iter().map(event).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn any_order_and_any_cuts_give_the_same_sessions(
        session in sessions(),
        events in events(60).prop_shuffle(),
        cuts in prop::collection::vec(1_usize..9, 60),
        restores in prop::collection::vec(any::<bool>(), 60),
    ) {
        let mut model = Model::new(session);
        let mut rest = events.as_slice();
        for (cut, restore) in cuts.iter().zip(restores) {
            let (batch, others) = rest.split_at((*cut).min(rest.len()));
            prop_assert_eq!(model.add(batch, None, 1), 0);
            if restore {
                model = model.restored(&[]);
            }
            rest = others;
        }
        prop_assert_eq!(model.add(rest, None, 1), 0);
        prop_assert_eq!(sorted(model.end(i64::MAX)), naive(session, &events));
        prop_assert!(model.held.open.is_empty() && model.pieces.oldest().is_none());
    }

    #[test]
    fn merging_is_associative_and_commutative(session in sessions(), events in events(60).prop_shuffle(), parts in (0_usize..60, 0_usize..60)) {
        let (a, b) = (parts.0.min(parts.1).min(events.len()), parts.0.max(parts.1).min(events.len()));
        let model = |events: &[Event]| {
            let mut model = Model::new(session);
            model.add(events, None, 1);
            model
        };
        let [first, second, third] = [model(&events[..a]), model(&events[a..b]), model(&events[b..])];
        let mut all = vec![
            first.restored(&[&second, &third]),
            third.restored(&[&first, &second]),
            first.restored(&[&second.restored(&[&third])]),
            first.restored(&[&second]).restored(&[&third]),
        ];
        for model in &mut all {
            prop_assert_eq!(sorted(model.end(i64::MAX)), naive(session, &events));
        }
    }

    #[test]
    fn closing_on_the_way_changes_nothing_and_a_rebuild_gives_the_same_state(
        session in sessions(),
        events in events(120),
        disorder in prop::collection::vec(0_i64..8, 120),
        cuts in prop::collection::vec(1_usize..9, 120),
    ) {
        // In the order of time, each up to 8 ticks late; the delay is 8, so that nothing is late.
        let mut arriving: Vec<(i64, Event)> =
            events.iter().zip(&disorder).map(|(event, late)| (event.1 + late, *event)).collect();
        arriving.sort_unstable();
        let arriving: Vec<Event> = arriving.into_iter().map(|(_, event)| event).collect();

        let mut model = Model::new(session);
        let mut rows = vec![];
        let mut log: Vec<(&[Event], Option<i64>, i64)> = vec![];
        let mut watermark: Option<i64> = None;
        let mut rest = arriving.as_slice();
        for (cut, version) in cuts.iter().zip(1..) {
            let (batch, others) = rest.split_at((*cut).min(rest.len()));
            if batch.is_empty() {
                break;
            }
            prop_assert_eq!(model.add(batch, watermark, version), 0);
            let before = watermark;
            watermark = batch.iter().map(|(_, time)| time - 8).max().max(watermark);
            log.push((batch, before, watermark.unwrap()));
            rows.extend(model.end(watermark.unwrap()));
            prop_assert!(!model.is_behind(watermark.unwrap()));
            rest = others;

            // The log's batches again, from the version that the open pieces name.
            let Some(from) = model.held.open.values().map(Piece::replay_from).min() else { continue };
            let mut rebuilt = Model::new(session);
            for ((batch, before, after), version) in log.iter().zip(1_u64..).filter(|(_, version)| *version >= from) {
                rebuilt.add(batch, *before, version);
                rebuilt.end(*after);
            }
            let state = |model: &Model| {
                let open = model.open().into_iter().map(|(key, piece, count)| {
                    (key, piece.first, piece.last, piece.version, piece.before.is_some(), count)
                });
                let mut open: Vec<_> = open.collect();
                open.sort_unstable();
                open
            };
            prop_assert_eq!(state(&rebuilt), state(&model), "from version {}", from);
        }
        prop_assert_eq!(model.add(rest, watermark, 1_000), 0);
        rows.extend(model.end(i64::MAX));
        prop_assert_eq!(sorted(rows), naive(session, &events));
    }

    #[test]
    fn late_and_kept_are_all(session in sessions(), events in events(80).prop_shuffle(), cuts in prop::collection::vec(1_usize..9, 80)) {
        let mut model = Model::new(session);
        let (mut late, mut kept, mut rest) = (0, 0, events.as_slice());
        let mut watermark = None;
        for (cut, version) in cuts.iter().zip(1..) {
            let (batch, others) = rest.split_at((*cut).min(rest.len()));
            late += model.add(batch, watermark, version) as u64;
            watermark = batch.iter().map(|(_, time)| time - 20).max().max(watermark);
            let rows = model.end(watermark.unwrap_or(i64::MIN));
            prop_assert!(rows.iter().all(|(.., end, _)| *end <= watermark.unwrap_or(i64::MIN)));
            kept += rows.iter().map(|(.., count)| count).sum::<u64>();
            // What is left open ends later, and its oldest start is known to the second.
            prop_assert_eq!(model.held.open.is_empty(), model.pieces.oldest().is_none());
            rest = others;
        }
        late += model.add(rest, watermark, 1_000) as u64;
        kept += model.end(i64::MAX).iter().map(|(.., count)| count).sum::<u64>();
        prop_assert_eq!(late + kept, events.len() as u64);
    }

    #[test]
    fn sessions_of_a_table_are_those_of_a_stream(session in sessions(), events in events(120)) {
        for key in 0..3 {
            let mut times: Vec<i64> = events.iter().filter(|(of, _)| *of == key).map(|(_, time)| *time).collect();
            times.sort_unstable();
            let mut at = 0;
            let rows = session.sessions_of(&times).into_iter().map(|(length, start, end)| {
                let (first, last) = (times[at], times[at + length - 1]);
                at += length;
                assert_eq!(start, first);
                (key, first, last, end, length as u64)
            });
            let rows: Vec<Row> = rows.collect();
            let expected: Vec<Row> = naive(session, &events).into_iter().filter(|row| row.0 == key).collect();
            prop_assert_eq!(rows, expected);
        }
    }

    #[test]
    fn no_session_is_longer_than_the_maximum_and_two_gaps(session in sessions(), events in events(200)) {
        for (_, first, last, end, _) in naive(session, &events) {
            prop_assert!(last - first < session.maximum + 2 * session.gap);
            prop_assert!(last < end);
        }
    }
}

#[test]
fn events_one_gap_apart_are_two_sessions() {
    let session = Session::new(10, None).unwrap();
    let mut model = Model::new(session);
    model.add(&[(1, 0), (1, 9), (1, 19)], None, 1);
    assert_eq!(sorted(model.end(i64::MAX)), [(1, 0, 9, 19, 2), (1, 19, 19, 29, 1)]);
}

/// The part before a cut is closed; what would join it now comes too late, and opens nothing before the cut.
#[test]
fn what_is_cut_stays_cut() {
    let session = Session::new(10, Some(30)).unwrap();
    let mut model = Model::new(session);
    let chain: Vec<Event> = (0..12).map(|number| (1, 15 + number * 3)).collect();
    model.add(&chain, None, 1);
    // Events from 15 to 48: the cell before 30 and the one after it together span 33.
    assert_eq!(model.end(40), [(1, 15, 27, 30, 5)]);
    assert_eq!(model.add(&[(1, 28)], Some(40), 2), 1);
    assert_eq!(model.end(i64::MAX), [(1, 30, 48, 58, 7)]);
}

#[test]
fn the_edges_of_time_do_not_overflow() {
    let session = Session::new(10, Some(30)).unwrap();
    let mut model = Model::new(session);
    for time in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX, 0] {
        let fragment = Fragment { first: time, last: time, version: 1, before: None };
        model.put(1, fragment, 1, Some(i64::MIN));
    }
    assert_eq!(model.end(i64::MAX).iter().map(|row| row.4).sum::<u64>(), 5);
    assert_eq!((Session::new(0, None), Session::new(-1, None), Session::new(i64::MAX, None)), (None, None, None));
    assert_eq!((Session::new(10, Some(29)), Session::new(10, Some(30)).map(Session::maximum)), (None, Some(30)));
}
