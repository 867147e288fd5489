//! Gives back the program's own code and constants that were needed to start and hardly will be again.
//!
//! They are mapped from the program's file: the kernel counts what a process has touched as its memory, with 64 KiB around
//! each place, though it lies in the page cache, once for all processes of the program. Planning a query runs through
//! much of the engine, and reading, computing and writing through little of it. What is given back and needed again comes
//! back from the page cache by itself, 64 KiB in about a microsecond.

use std::fs;
use std::ops::Range;
use std::sync::OnceLock;

/// Mappings smaller than this are not worth a call.
const LEAST_BYTES: usize = 128 << 10;

/// Gives back what the process has touched so far. Does nothing where the system does not say what that is.
#[allow(unsafe_code)]
pub fn give_back() {
    static OWN: OnceLock<Vec<Range<usize>>> = OnceLock::new();
    let own = || {
        let (program, mappings) = (fs::read_link("/proc/self/exe"), fs::read_to_string("/proc/self/smaps"));
        program.and_then(|program| Ok(unchanged(&mappings?, &program.to_string_lossy()))).unwrap_or_default()
    };
    for range in OWN.get_or_init(own) {
        #[cfg(target_os = "linux")]
        // SAFETY: the range is a mapping of the program's file that nobody may write to and no page of which differs from
        // the file: what is read there next is read from the file again, and is the same.
        unsafe {
            libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED);
        }
    }
}

/// The mappings of a program's file that are as in the file. Those that its start had to change (addresses in constants) are
/// not writable either, but have pages of their own.
fn unchanged(mappings: &str, program: &str) -> Vec<Range<usize>> {
    let mut found = vec![];
    let mut at: Option<Range<usize>> = None;
    for line in mappings.lines() {
        if let Some((range, rest)) = begin(line) {
            let is_read_only = rest.starts_with("r-xp ") || rest.starts_with("r--p ");
            let is_own = rest.find('/').is_some_and(|path| rest[path..] == *program);
            at = Some(range).filter(|range| is_read_only && is_own && range.len() >= LEAST_BYTES);
        } else if line.split_ascii_whitespace().eq(["Anonymous:", "0", "kB"]) {
            found.extend(at.take());
        }
    }
    found
}

/// Addresses and the rest of the first line of a mapping: `55d0c0a00000-55d0c2800000 r-xp 01e00000 fe:00 42  /data-platform`.
fn begin(line: &str) -> Option<(Range<usize>, &str)> {
    let (addresses, rest) = line.split_once(' ')?;
    let (start, end) = addresses.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some((address(start)?..address(end)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPPINGS: &str = "\
100000-400000 r--p 00000000 fe:00 42                             /opt/data platform
Size:               3072 kB
Rss:                1024 kB
Anonymous:             0 kB
400000-900000 r-xp 00300000 fe:00 42                             /opt/data platform
Rss:                4096 kB
Anonymous:             0 kB
AnonHugePages:         0 kB
900000-c00000 r--p 00800000 fe:00 42                             /opt/data platform
Anonymous:          3072 kB
c00000-d00000 rw-p 00b00000 fe:00 42                             /opt/data platform
Anonymous:             0 kB
d00000-d10000 r--p 00c00000 fe:00 42                             /opt/data platform
Anonymous:             0 kB
e00000-f00000 rw-p 00000000 00:00 0                              [heap]
Anonymous:             0 kB
7f0000000000-7f0000400000 r-xp 00000000 fe:00 43                 /usr/lib/libc.so.6
Anonymous:             0 kB
";

    #[test]
    fn only_what_is_as_in_the_programs_file_is_given_back() {
        assert_eq!(unchanged(MAPPINGS, "/opt/data platform"), [0x10_0000..0x40_0000, 0x40_0000..0x90_0000]);
        assert!(unchanged(MAPPINGS, "/opt/data").is_empty());
    }

    #[test]
    fn a_process_goes_on_with_less() {
        let file_bytes = || {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap().to_owned();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
        };
        let before = file_bytes();
        give_back();
        assert!(file_bytes() < before, "{before} bytes before, {} after", file_bytes());
        give_back();
    }
}
