//! Holding a lease: renewing it in time, and giving it up.

use std::sync::Arc;
use std::time::Duration;

use pled_streams::ReadError;
use pled_streams::locks::Lease;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, millis};

/// A lease and until when it is held, in milliseconds of the own monotonic clock.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) lease: Lease,
    pub(crate) until: u64,
}

/// Renews a lease at a third of its time to live. One renewal is under way at a time; the owner
/// keeps [`Self::next`] among what it waits for.
#[derive(Debug)]
pub(crate) struct Renewal {
    clock: Arc<Clock>,
    ttl: Duration,
    stop: CancellationToken,
}

/// What came of one renewal.
#[derive(Debug)]
pub(crate) enum Renewed {
    /// It is held on, until then.
    Held(Held),
    /// It is not known yet, and there is time to ask again.
    NotYet(Held),
    /// It is gone, another's, or its time is over.
    Lost,
    /// The owner wanted it back.
    Stopped(Held),
}

impl Renewed {
    /// Gives the lease up, if it is held.
    pub(crate) async fn release(self) {
        match self {
            Self::Held(held) | Self::NotYet(held) | Self::Stopped(held) => {
                held.lease.release().await;
            }
            Self::Lost => {}
        }
    }
}

impl Renewal {
    pub(crate) fn new(clock: Arc<Clock>, ttl: Duration) -> Self {
        Self { clock, ttl, stop: CancellationToken::new() }
    }

    /// Ends the wait of [`Self::next`].
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it is time, and renews. `hurried`: the last attempt did not succeed.
    pub(crate) fn next(
        &self,
        held: Held,
        hurried: bool,
    ) -> impl Future<Output = Renewed> + Send + 'static {
        let Self { clock, ttl, stop } = self;
        let (clock, ttl, stop) = (clock.clone(), *ttl, stop.clone());
        async move {
            tokio::select! {
                () = tokio::time::sleep(if hurried { ttl / 20 } else { ttl / 3 }) => {}
                () = stop.cancelled() => return Renewed::Stopped(held),
            }
            let Held { mut lease, until } = held;
            // The time to live begins anew when the server has the request, so not before now.
            let renewed_until = clock.monotonic() + millis(ttl);
            match lease.renew().await {
                Ok(true) => Renewed::Held(Held { lease, until: renewed_until }),
                Ok(false) => Renewed::Lost,
                Err(error @ (ReadError::Unavailable { .. } | ReadError::Corrupt { .. })) => {
                    tracing::debug!(%error, "a lease was not renewed");
                    if clock.monotonic() < until {
                        Renewed::NotYet(Held { lease, until })
                    } else {
                        Renewed::Lost
                    }
                }
            }
        }
    }
}
