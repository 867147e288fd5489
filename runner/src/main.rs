//! `data-platform`: see `app`.
fn main() {}
