//! The one way out: Ctrl-C or TERM, told to every loop.

use pled_workers::CancellationToken;
use tokio::signal::unix::{SignalKind, signal};

/// Cancelled once the process is asked to stop. A second Ctrl-C or TERM ends the process at once.
pub(crate) fn listen() -> anyhow::Result<CancellationToken> {
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                break;
            }
            stop.cancel();
        }
        std::process::exit(130);
    });
    Ok(shutdown)
}
