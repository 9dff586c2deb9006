//! Logs and metrics of the process.

use std::io::IsTerminal;

use anyhow::Context;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Logs to standard error: lines for people on a terminal, JSON elsewhere with
/// `PLED_LOG_FORMAT=json`. `PLED_LOG` (or `RUST_LOG`) says what: `info`, `pled_workers=debug`.
pub(crate) fn logs(default: &str) {
    let wanted = std::env::var("PLED_LOG").or_else(|_| std::env::var("RUST_LOG"));
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or(default))
        .unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = std::env::var("PLED_LOG_FORMAT").is_ok_and(|format| format == "json");
    let started = if json {
        builder.json().try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    if let Err(error) = started {
        tracing::debug!(%error, "logs were set up before");
    }
}

/// Collects the process's metrics; `/metrics` prints them.
pub(crate) fn metrics() -> anyhow::Result<PrometheusHandle> {
    let seconds = [
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ];
    let handle = PrometheusBuilder::new()
        .set_buckets(&seconds)
        .context("the histogram buckets")?
        .install_recorder()
        .context("the metrics recorder")?;
    metrics::gauge!("pled_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}
