//! How the program is linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // At a fixed address: constants that hold addresses are then right in the file and shared by all processes of the
    // program, where each would otherwise change 3 MB of them at its start and keep its own. What it gives up stands in
    // docs/security.md.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
