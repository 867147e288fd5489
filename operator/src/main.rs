//! `data-platform-operator`: everything is in `app`.

use std::process::ExitCode;

use clap::Parser;
use data_platform_operator::args::Args;
use data_platform_operator::{app, error, telemetry};

fn main() -> ExitCode {
    let args = Args::parse();
    telemetry::start(args.log_level, args.log_format);
    // Two threads: the operator waits for the API server most of the time, and each thread keeps memory of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
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
