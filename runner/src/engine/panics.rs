//! A panic inside a library's function becomes an error of the value at hand.
//!
//! The message of a panic may hold values of records, so it is not printed.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use datafusion::common::exec_err;
use datafusion::error::Result;

thread_local! {
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Computes something that must not end the process. `what` names it in the error.
pub(crate) fn caught<T>(what: &str, compute: impl FnOnce() -> Result<T>) -> Result<T> {
    keep_quiet();
    let outer = CAUGHT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(compute));
    CAUGHT.set(outer);
    match result {
        Ok(result) => result,
        Err(_) => exec_err!("{what} failed on a value that it does not take"),
    }
}

/// Once in a process: panics that are caught here are not printed, all others are as before.
fn keep_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !CAUGHT.get() {
                before(panic);
            }
        }));
    });
}
