//! Log lines on standard error: JSON, or text for people.

use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use crate::args::LogFormat;

/// Begins to log.
pub fn start(level: tracing::Level, format: LogFormat) {
    // What the client's libraries say below a warning is of no use to who runs the operator.
    let quiet = ["hyper", "hyper_util", "tower", "rustls", "kube_client", "kube_runtime"];
    let filter = EnvFilter::default().add_directive(LevelFilter::from_level(level).into());
    let filter = quiet.into_iter().fold(filter, |filter, name| {
        filter.add_directive(format!("{name}=warn").parse().expect("a crate and a level are a directive"))
    });
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).init(),
        LogFormat::Text => lines.with_target(false).init(),
    }
}
