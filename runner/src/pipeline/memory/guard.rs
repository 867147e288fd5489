//! The last line before the kernel's: a batch run that is about to take more memory than it may have says so and ends.
//!
//! The query engine counts most of what it holds, spills, or gives up with an error. It does not count everything: the
//! values that `array_agg` or `collect_set` hold for one group become one array, which is made in a moment. So large
//! allocations are looked at before they are made, and what grows in small steps is looked at from time to time. Where
//! nobody watches, an allocation costs one comparison more.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Allocations below this size are not looked at one by one: to look takes 20 µs, to fill this much takes longer.
const LARGE_BYTES: usize = 1 << 20;
/// How often the process is looked at: in this time small allocations fill some megabytes.
const LOOK: Duration = Duration::from_millis(20);
/// Share of the limit that is left to the kernel (page tables, files being written): one part in so many.
const LEFT_TO_KERNEL: u64 = 20;

/// Bytes that the process may have; 0: nobody watches.
static LIMIT: AtomicU64 = AtomicU64::new(0);
static END: OnceLock<Box<dyn Fn(Excess) + Send + Sync>> = OnceLock::new();

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// What is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Excess {
    /// What the process has, in bytes.
    pub(crate) used: u64,
    /// What it is about to take in addition.
    pub(crate) wanted: u64,
    /// What it may have.
    pub(crate) limit: u64,
}

/// Watches this process from now on, if the system limits its memory. `end` is called once, on any thread, and ends the
/// process.
pub(crate) fn watch(end: impl Fn(Excess) + Send + Sync + 'static) {
    let Some(limit) = super::cgroup_limit() else { return };
    if END.set(Box::new(end)).is_err() {
        return;
    }
    LIMIT.store(limit - limit / LEFT_TO_KERNEL, Ordering::Relaxed);
    let watching = || {
        while LIMIT.load(Ordering::Relaxed) > 0 {
            look(0);
            std::thread::sleep(LOOK);
        }
    };
    // Without the thread large allocations are still looked at.
    let _ = std::thread::Builder::new().name("memory".to_owned()).spawn(watching);
}

fn look(wanted: u64) {
    let limit = LIMIT.load(Ordering::Relaxed);
    let Some(excess) = excess(limit, wanted, private_bytes) else { return };
    // The first one ends the process; the others go on until it has.
    if LIMIT.swap(0, Ordering::Relaxed) > 0
        && let Some(end) = END.get()
    {
        end(excess);
    }
}

fn excess(limit: u64, wanted: u64, used: impl Fn() -> u64) -> Option<Excess> {
    if limit == 0 {
        return None;
    }
    let used = used();
    (used + wanted > limit).then_some(Excess { used, wanted, limit })
}

/// Memory that only this process has, in bytes: what is mapped from files can be taken back. 0 where the system does not
/// say.
fn private_bytes() -> u64 {
    super::own_status(&["RssAnon"])
}

/// The system's allocator, which asks first where much is wanted.
struct Watched;

// SAFETY: every call is passed on as it came to the system's allocator, which keeps the promises.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ask(layout.size());
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ask(layout.size());
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ask(size.saturating_sub(layout.size()));
        // SAFETY: the caller's promise is the same.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(place, layout) }
    }
}

#[inline]
fn ask(bytes: usize) {
    if bytes >= LARGE_BYTES && LIMIT.load(Ordering::Relaxed) > 0 {
        look(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn too_much_is_what_goes_over_the_limit_together_with_what_is_there() {
        assert_eq!(excess(0, u64::MAX, || panic!("nobody watches")), None);
        assert_eq!(excess(100, 40, || 60), None);
        assert_eq!(excess(100, 41, || 60), Some(Excess { used: 60, wanted: 41, limit: 100 }));
        assert_eq!(excess(100, 0, || 101), Some(Excess { used: 101, wanted: 0, limit: 100 }));
    }

    #[test]
    fn the_process_knows_what_is_its_own() {
        // Other tests take and give back meanwhile, but not this.
        let taken = black_box(vec![1_u8; 64 << 20]);
        let used = private_bytes();
        // Without it the compiler may leave the pages out, or give them back before they are counted.
        let taken = black_box(taken);
        assert!(used >= taken.len() as u64, "{used}");
    }
}
