//! What a terminal shows: a picture that is drawn again and again at the bottom, and lines that appear above it.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines of the picture that is on the screen.
static SHOWN: Mutex<usize> = Mutex::new(0);

/// Draws a picture in the place of the one before.
pub(crate) fn draw(picture: &str) {
    let mut shown = lock();
    let mut output = io::stdout().lock();
    // Somebody who stopped reading is no error.
    let _ = output.write_all(erase(*shown).as_bytes());
    let _ = output.write_all(picture.as_bytes());
    let _ = output.flush();
    *shown = picture.lines().count();
}

/// The picture stays as it is; what comes later stands below it.
pub(crate) fn leave() {
    *lock() = 0;
}

/// Standard error; what is written there appears above the picture.
pub(crate) struct Above;

impl Write for Above {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut shown = lock();
        if *shown > 0 {
            let mut output = io::stdout().lock();
            let _ = output.write_all(erase(*shown).as_bytes());
            let _ = output.flush();
            *shown = 0;
        }
        io::stderr().write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn lock() -> MutexGuard<'static, usize> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Goes up so many lines, and clears the screen from there on.
fn erase(lines: usize) -> String {
    if lines > 0 { format!("\u{1b}[{lines}A\u{1b}[J") } else { String::new() }
}
