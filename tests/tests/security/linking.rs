//! How the program that users run is linked: docs/security.md says it.

use std::fs;

use anyhow::Context;
use data_platform_tests::environment::program;

/// A little-endian number at a place of a file.
fn number<const BYTES: usize>(file: &[u8], at: usize) -> anyhow::Result<u64> {
    let bytes: [u8; BYTES] = file.get(at..at + BYTES).context("the file is too short")?.try_into()?;
    Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[test]
#[cfg(target_os = "linux")]
fn the_program_is_at_a_fixed_address_and_hardened_otherwise() -> anyhow::Result<()> {
    const FIXED: u64 = 2;
    const DYNAMIC: u64 = 2;
    const STACK: u64 = 0x6474_e551;
    const RELRO: u64 = 0x6474_e552;
    let file = fs::read(program("data-platform"))?;
    assert_eq!(&file[..5], b"\x7fELF\x02", "an ELF file of 64 bits");
    assert_eq!(number::<2>(&file, 16)?, FIXED);
    let (headers, size, count) = (number::<8>(&file, 32)?, number::<2>(&file, 54)?, number::<2>(&file, 56)?);
    let headers = (0..count).map(|index| usize::try_from(headers + index * size));
    let mut found = Vec::new();
    for at in headers {
        let at = at?;
        found.push((
            number::<4>(&file, at)?,
            number::<4>(&file, at + 4)?,
            number::<8>(&file, at + 8)?,
            number::<8>(&file, at + 32)?,
        ));
    }
    assert!(found.iter().any(|(kind, ..)| *kind == RELRO), "tables are read-only once it runs");
    let stack = found.iter().find(|(kind, ..)| *kind == STACK).context("it says how its stack is")?;
    assert_eq!(stack.1 & 1, 0, "its stack can be executed");
    let (.., from, bytes) = found.iter().find(|(kind, ..)| *kind == DYNAMIC).context("it needs libraries")?;
    let entries = (0..bytes / 16).map(|index| -> anyhow::Result<_> {
        let at = usize::try_from(from + index * 16)?;
        Ok((number::<8>(&file, at)?, number::<8>(&file, at + 8)?))
    });
    let entries = entries.collect::<anyhow::Result<Vec<_>>>()?;
    // DF_BIND_NOW, or DF_1_NOW.
    let is_bound = |entry: &(u64, u64)| match entry {
        (30, flags) => flags & 8 != 0,
        (0x6fff_fffb, flags) => flags & 1 != 0,
        _ => false,
    };
    assert!(entries.iter().any(is_bound), "functions of libraries are bound at the start");
    Ok(())
}
