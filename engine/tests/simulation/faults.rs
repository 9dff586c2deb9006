//! What goes wrong in a run, and how often.

use crate::random::Random;

/// The kinds of bad weather. Each seed has one of them, and each trap the one in which it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Nothing goes wrong.
    Calm,
    /// A little of everything.
    Mixed,
    /// Much of everything.
    Rough,
    /// Processes die after any output, and come back.
    Crashes,
    /// Processes stand still, up to and beyond the margin of their leases.
    Pauses,
    /// Subscriptions bring nothing for a while, each for itself.
    Stalls,
    /// Leases are given to others while they are held, and replicas lag.
    TwoOwners,
    /// Streams are full, for longer than anything is kept.
    Full,
    /// All workers are away for longer than anything is kept.
    Outages,
    /// The server is killed and comes back with all that it acknowledged but task acks.
    Servers,
    /// The server's clock jumps, and the workers follow late.
    Clocks,
    /// The server loses what was not synced, each stream its own end.
    PowerCuts,
}

impl Weather {
    /// That of a seed.
    pub(crate) fn of(random: &mut Random) -> Self {
        *random.pick(&[
            Self::Calm,
            Self::Mixed,
            Self::Mixed,
            Self::Rough,
            Self::Rough,
            Self::Rough,
            Self::Crashes,
            Self::Pauses,
            Self::Stalls,
            Self::TwoOwners,
            Self::Full,
            Self::Outages,
            Self::Servers,
            Self::Clocks,
            Self::PowerCuts,
        ])
    }

    pub(crate) fn faults(self) -> Faults {
        let light = Faults::mixed(1);
        match self {
            Self::Calm => Faults::mixed(0),
            Self::Mixed => light,
            Self::Rough => Faults::mixed(3),
            Self::Crashes => Faults { crash: 2_500, stall: 500, ..Faults::mixed(0) },
            Self::Pauses => {
                Faults { pause: 80_000, pauses: &[1_700, 2_300, 2_550, 2_700, 2_900], ..light }
            }
            Self::Stalls => {
                Faults { stall: 6_000, crash: 1_500, skews: &[-900, 0, 900, 2_500], ..light }
            }
            Self::TwoOwners => Faults { steal: 40_000, stale: 150_000, stall: 1_500, ..light },
            Self::Full => Faults {
                fill: 40_000,
                fills: &[400, 2_500, 9_000],
                refuse: 20_000,
                crash: 300,
                ..light
            },
            Self::Outages => Faults { outage: 12_000, stale: 120_000, ..light },
            Self::Servers => Faults { restart: 40_000, slow: 100_000, ..light },
            Self::Clocks => Faults { jump: 25_000, ..light },
            Self::PowerCuts => Faults { cut: 12_000, ..light },
        }
    }
}

/// How often things go wrong, in millionths.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Of each output: the process dies before it.
    pub(crate) crash: u64,
    /// Of each publish: it is not answered; it is stored, or will be, or not.
    pub(crate) unknown: u64,
    /// Of each read: it fails.
    pub(crate) failed: u64,
    /// Of each read that any replica may answer: it shows an older state.
    pub(crate) stale: u64,
    /// Of each request and each answer: it takes its time.
    pub(crate) slow: u64,
    /// Of each publish: it is refused.
    pub(crate) refuse: u64,
    /// Of each message: its subscription stalls before it.
    pub(crate) stall: u64,
    /// By how much the clock of PLED_SIGNALS may differ from that of PLED_EVENTS.
    pub(crate) skews: &'static [i64],
    /// Of each message: it and some before it are delivered again.
    pub(crate) again: u64,

    // Of each tenth of a second:
    /// A process dies.
    pub(crate) kill: u64,
    /// A process stands still.
    pub(crate) pause: u64,
    /// For how long.
    pub(crate) pauses: &'static [u64],
    /// All stand still, for 9 to 12 seconds.
    pub(crate) outage: u64,
    /// A lease is lost.
    pub(crate) steal: u64,
    /// A stream is full.
    pub(crate) fill: u64,
    /// For how long at most.
    pub(crate) fills: &'static [u64],
    /// The server is killed.
    pub(crate) restart: u64,
    /// A connection is made again.
    pub(crate) reconnect: u64,
    /// The server's clock jumps.
    pub(crate) jump: u64,
    /// The server loses what was not synced.
    pub(crate) cut: u64,
}

impl Faults {
    fn mixed(level: u64) -> Self {
        Self {
            crash: 300 * level,
            unknown: 12_000 * level,
            failed: 8_000 * level,
            stale: 40_000 * level,
            slow: 15_000 * level,
            refuse: 5_000 * level,
            stall: 500 * level,
            again: 4_000 * level,
            skews: &[0, 0, 0, 40, -40],
            kill: 5_700 * level,
            pause: 11_400 * level,
            pauses: &[300, 2_600, 2_800, 4_000, 8_000],
            steal: 5_700 * level,
            fill: 5_700 * level,
            fills: &[400, 2_500],
            restart: 5_700 * level,
            reconnect: 5_700 * level,
            ..Self::default()
        }
    }
}
