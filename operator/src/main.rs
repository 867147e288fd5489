//! `data-platform-operator`: everything is in `app`.

use std::process::ExitCode;

use clap::Parser;
use data_platform_operator::args::Args;
use data_platform_operator::{allocator, app, error, telemetry};

fn main() -> ExitCode {
    let args = Args::parse();
    allocator::limit();
    telemetry::start(args.log_level, args.log_format);
    // One thread: the operator waits for the API server most of the time. More of them wake each other for every answer,
    // which takes as long as the work itself.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(app::run(args));
            // Watches have nothing to finish.
            runtime.shutdown_background();
            ended.map_err(|error| error::chain(&error))
        }
        Err(error) => Err(error.to_string()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "the operator ends");
            ExitCode::FAILURE
        }
    }
}
