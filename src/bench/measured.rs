//! What a workload measured.

use std::time::{Duration, Instant};

/// The time of a run: what is finished in the warm-up is not measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Before the measured time.
    pub(crate) warm_up: Duration,
    /// The measured time.
    pub(crate) span: Duration,
}

impl Window {
    /// Both together.
    pub(crate) fn length(self) -> Duration {
        self.warm_up + self.span
    }
}

/// What was finished, and how long each took.
#[derive(Debug)]
pub(crate) struct Measured {
    begin: Instant,
    window: Window,
    /// How many were finished within the measured time.
    pub(crate) count: usize,
    /// How long each of them took, unsorted.
    pub(crate) latencies: Vec<Duration>,
    /// All that were finished, warm-up and end included: what writes and CPU are divided by.
    pub(crate) total: usize,
}

impl Measured {
    /// The clock of `window` begins; `total` were finished before.
    pub(crate) fn begin(window: Window, total: usize) -> Self {
        Self { begin: Instant::now(), window, count: 0, latencies: Vec::new(), total }
    }

    /// One is finished that counts from `planned`.
    pub(crate) fn finished(&mut self, planned: Instant) {
        let now = Instant::now();
        self.total += 1;
        if now >= self.begin + self.window.warm_up && now < self.end() {
            self.count += 1;
            self.latencies.push(now - planned);
        }
    }

    /// The times of the run.
    pub(crate) fn window(&self) -> Window {
        self.window
    }

    /// Whether more are to be begun.
    pub(crate) fn is_open(&self) -> bool {
        Instant::now() < self.end()
    }

    /// When the measured time ends.
    pub(crate) fn end(&self) -> Instant {
        self.begin + self.window.length()
    }
}
