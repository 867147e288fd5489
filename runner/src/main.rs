//! `data-platform`: everything is in `app`; this program injects no faults.

use std::process::ExitCode;
use std::sync::Arc;

use data_platform_runner::app;
use data_platform_runner::faults::NoFaults;

fn main() -> ExitCode {
    app::main(Arc::new(NoFaults))
}
