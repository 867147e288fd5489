//! The checksum of stored objects: xxh3, 64 bits.

/// xxh3 as 16 hexadecimal digits.
pub fn xxh3_hex(hash: u64) -> String {
    format!("{hash:016x}")
}

/// xxh3 of bytes as 16 hexadecimal digits.
pub fn checksum(bytes: &[u8]) -> String {
    xxh3_hex(twox_hash::XxHash3_64::oneshot(bytes))
}
