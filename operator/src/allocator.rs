//! Keeps the C allocator small: one arena, and what a burst of jobs left free goes back to the system. The one place of the
//! operator with unsafe code.

#![allow(unsafe_code)]

use std::time::Duration;

use data_platform_memory::{code, heap};

/// How often free memory is given back: it costs a millisecond, and in between a burst may need it again.
const PERIOD: Duration = Duration::from_secs(10);
/// From this size on a piece of memory is a mapping of its own, and so much may lie free at the end of the others: what
/// glibc begins with. Left alone it raises both with every large answer that it frees, up to 64 MiB.
const THRESHOLD_BYTES: i32 = 128 * 1024;

/// Tells the allocator to keep little. glibc makes up to eight arenas per core, each of which keeps what it was given.
pub fn limit() {
    #[cfg(target_env = "gnu")]
    // SAFETY: called once, before any other thread exists; the calls only set numbers.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, THRESHOLD_BYTES);
    }
}

/// Gives back what is free, and code that has run, again and again.
pub async fn give_back() {
    loop {
        tokio::time::sleep(PERIOD).await;
        heap::give_back();
        code::give_back();
    }
}
