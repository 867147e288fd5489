//! What the C allocator holds, and giving back what of it is free. The Rust code and librdkafka share it.
//!
//! The allocator keeps what was freed for the next who asks, which is right while records come. Before a pause it is not: what
//! a micro-batch held lies there until the next one, and every job of a node keeps the most that it ever had.

/// What a process has of the allocator, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    /// Allocated and not freed.
    pub in_use: u64,
    /// Freed and not given back. What of it was given back page by page still counts.
    pub free: u64,
}

/// Less than this is not worth giving back: some hundred pages, which come back one by one.
const LEAST_FREE_BYTES: u64 = 1 << 20;

/// What is allocated now; zeros where the system's allocator does not say.
pub fn heap() -> Heap {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: the call only reads what the allocator counts, under its own locks.
        #[allow(unsafe_code)]
        let told = unsafe { libc::mallinfo2() };
        Heap { in_use: (told.uordblks + told.hblkhd) as u64, free: told.fordblks as u64 }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    Heap::default()
}

/// Gives back whole pages that are free.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if heap().free >= LEAST_FREE_BYTES {
        // SAFETY: the call gives pages back in which nothing is allocated, under the allocator's own locks.
        #[allow(unsafe_code)]
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn what_is_allocated_is_in_use() {
        let before = heap().in_use;
        // Other tests take and give back meanwhile, but not this much.
        let taken = black_box(vec![1_u8; 256 << 20]);
        let with = heap().in_use;
        let taken = black_box(taken);
        assert!(with >= before + (taken.len() / 2) as u64, "{before} bytes before, {with} with {} more", taken.len());
        drop(taken);
        give_back();
    }
}
