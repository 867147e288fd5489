//! The queue between the reading thread and the pipeline: bounded in items and in bytes.
//!
//! Batches of one topic can be a hundred times as large as those of another, so a number of them says nothing of the
//! memory that they take. What the receiver works on counts too, until it asks for the next item: everything that was
//! read and is not done with lies within the bound, but for one item that is larger alone.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The reading thread's end.
pub struct Sender<T>(Arc<Shared<T>>);

/// The pipeline's end.
pub struct Receiver<T>(Arc<Shared<T>>);

/// How much may be on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Items.
    pub items: usize,
    /// Bytes of all items, with what the receiver works on.
    pub bytes: usize,
}

struct Shared<T> {
    limits: Limits,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    items: VecDeque<(T, usize)>,
    /// Bytes of `items`.
    waiting: usize,
    /// Bytes of the item that the receiver works on.
    taken: usize,
    sender_is_gone: bool,
    receiver_is_gone: bool,
}

/// An empty queue.
pub fn queue<T>(limits: Limits) -> (Sender<T>, Receiver<T>) {
    let state = State { items: VecDeque::new(), waiting: 0, taken: 0, sender_is_gone: false, receiver_is_gone: false };
    let shared = Arc::new(Shared { limits, state: Mutex::new(state), changed: Condvar::new() });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    /// Whether an item of so many bytes may come; one that is larger than the bound comes alone.
    fn has_room(&self, bytes: usize, limits: Limits) -> bool {
        let on_the_way = self.waiting + self.taken;
        self.items.len() < limits.items && (on_the_way == 0 || on_the_way.saturating_add(bytes) <= limits.bytes)
    }
}

impl<T> Sender<T> {
    /// Hands an item of so many bytes over; waits for room.
    ///
    /// # Errors
    /// The item, when the receiver is gone.
    pub fn send(&self, item: T, bytes: usize) -> Result<(), T> {
        let mut state = self.0.lock();
        while !state.receiver_is_gone && !state.has_room(bytes, self.0.limits) {
            state = self.0.wait(state);
        }
        if state.receiver_is_gone {
            return Err(item);
        }
        state.items.push_back((item, bytes));
        state.waiting += bytes;
        drop(state);
        self.0.changed.notify_one();
        Ok(())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.lock().sender_is_gone = true;
        self.0.changed.notify_one();
    }
}

impl<T> Receiver<T> {
    /// The next item; waits for it. What was received before counts no more. `None`: the sender is gone.
    pub fn receive(&self) -> Option<T> {
        let mut state = self.0.lock();
        if std::mem::take(&mut state.taken) > 0 {
            self.0.changed.notify_one();
        }
        loop {
            if let Some((item, bytes)) = state.items.pop_front() {
                state.waiting -= bytes;
                state.taken = bytes;
                drop(state);
                self.0.changed.notify_one();
                return Some(item);
            }
            if state.sender_is_gone {
                return None;
            }
            state = self.0.wait(state);
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.receiver_is_gone = true;
        let left = std::mem::take(&mut state.items);
        drop(state);
        self.0.changed.notify_one();
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn items_come_in_order_and_the_end_is_told() {
        let (sender, receiver) = queue(Limits { items: 8, bytes: 100 });
        for number in 0..3 {
            sender.send(number, 10).unwrap();
        }
        drop(sender);
        assert_eq!(std::iter::from_fn(|| receiver.receive()).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn a_sender_without_receiver_does_not_wait() {
        let (sender, receiver) = queue(Limits { items: 1, bytes: 1 });
        sender.send("first", 1).unwrap();
        let waiting = std::thread::spawn(move || sender.send("second", 1));
        drop(receiver);
        assert_eq!(waiting.join().unwrap(), Err("second"));
    }

    #[test]
    fn what_the_receiver_works_on_counts() {
        let state = State { items: VecDeque::from([(1, 40)]), waiting: 40, taken: 50, ..empty() };
        let limits = Limits { items: 2, bytes: 100 };
        assert!(state.has_room(10, limits));
        assert!(!state.has_room(11, limits));
        assert!(!State { taken: 0, ..state }.has_room(10, Limits { items: 1, bytes: 100 }));
    }

    #[test]
    fn an_item_larger_than_the_bound_comes_alone() {
        let limits = Limits { items: 8, bytes: 100 };
        assert!(empty().has_room(1_000, limits));
        assert!(!State { taken: 1, ..empty() }.has_room(1_000, limits));
    }

    fn empty() -> State<i32> {
        State { items: VecDeque::new(), waiting: 0, taken: 0, sender_is_gone: false, receiver_is_gone: false }
    }

    proptest! {
        #[test]
        fn no_more_bytes_are_on_their_way_than_allowed(sizes in prop::collection::vec(0_usize..60, 1..60)) {
            let limits = Limits { items: 4, bytes: 100 };
            let (sender, receiver) = queue(limits);
            let sent = Arc::new(AtomicUsize::new(0));
            let (told, input) = (Arc::clone(&sent), sizes.clone());
            let thread = std::thread::spawn(move || {
                for size in input {
                    sender.send(size, size).unwrap();
                    told.fetch_add(size, Ordering::SeqCst);
                }
            });
            let (mut done, mut working_on, mut received) = (0, 0, Vec::new());
            loop {
                // What is sent and not done with, at any moment before the next item is asked for.
                prop_assert!(sent.load(Ordering::SeqCst) - done <= limits.bytes);
                let Some(size) = receiver.receive() else { break };
                done += working_on;
                working_on = size;
                received.push(size);
            }
            thread.join().unwrap();
            prop_assert_eq!(received, sizes);
        }
    }
}
