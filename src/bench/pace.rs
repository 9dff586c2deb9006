//! When a client sends: as soon as there is room, or at times that were planned before.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// How load is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Load {
    /// This many at once: the next goes out when one is through. Finds the most that there is.
    Closed(usize),
    /// This many a second, whatever the answers do. What is late counts from when it was planned,
    /// so that a pause is seen by all that would have come in it (no coordinated omission).
    Open(f64),
}

/// Says when the next is to be sent.
pub(crate) enum Pace {
    Closed { most: usize },
    Open { planned: UnboundedReceiver<Instant> },
}

impl Pace {
    /// Begins now, and plans nothing after `span`.
    pub(crate) fn begin(load: Load, span: Duration) -> Self {
        match load {
            Load::Closed(most) => Self::Closed { most },
            Load::Open(rate) => Self::Open { planned: plan(rate, span) },
        }
    }

    /// Waits until the next is to be sent, and gives the time from which it counts. For ever where
    /// there is no room, or where all were sent.
    pub(crate) async fn next(&mut self, under_way: usize) -> Instant {
        match self {
            Self::Closed { most } if under_way < *most => Instant::now(),
            Self::Closed { .. } => std::future::pending().await,
            Self::Open { planned } => match planned.recv().await {
                Some(planned) => planned,
                None => std::future::pending().await,
            },
        }
    }
}

/// On a thread, since the timers of the async runtime are a millisecond wide.
fn plan(rate: f64, span: Duration) -> UnboundedReceiver<Instant> {
    let (sender, receiver) = unbounded_channel();
    std::thread::spawn(move || {
        let begin = Instant::now();
        for number in 0_u32.. {
            let after = Duration::from_secs_f64(f64::from(number) / rate);
            if after >= span {
                return;
            }
            std::thread::sleep((begin + after).saturating_duration_since(Instant::now()));
            if sender.send(begin + after).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn planned_times_do_not_depend_on_answers() {
        let mut pace = Pace::begin(Load::Open(1_000.0), Duration::from_millis(10));

        let mut planned = Vec::new();
        for _ in 0..10 {
            planned.push(pace.next(1_000_000).await);
        }

        assert!(planned.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_millis(1)));
    }

    #[tokio::test]
    async fn a_closed_load_waits_for_room() {
        let mut pace = Pace::begin(Load::Closed(2), Duration::from_secs(1));

        assert!(tokio::time::timeout(Duration::from_millis(5), pace.next(2)).await.is_err());
        pace.next(1).await;
    }
}
