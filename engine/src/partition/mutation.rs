//! Rules of the protocol that can be left out, one at a time, to show that the simulation finds what
//! comes of it.
//!
//! The simulation alone turns on the feature `mutations`; without it nothing can be left out, and
//! the question costs nothing.

use super::Config;

/// One rule of the protocol left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// An entry that was loaded is not dispatched again.
    NoRedispatch,
    /// An entry that was found by a conflict is not dispatched again.
    NoConflictRedispatch,
    /// An entry that was loaded is dispatched again although all its causes are done.
    AlwaysRedispatch,
    /// Where one effect is refused, all of its entry are published again.
    AllEffectsAgain,
    /// The position passes what is open.
    PositionEarly,
    /// What is open in the position is not read again at a takeover.
    OpenForgotten,
    /// Messages are done when their entry is committed, before its dispatch.
    DoneAtCommit,
    /// What a step judged without taking it is done before the entry of the step is committed.
    VerdictsEarly,
    /// A past margin of the lease breaks off what is in flight and goes on when it is renewed.
    KeepAbandoned,
    /// What names a newer entry or attempt is stale.
    StaleIgnored,
    /// A task is published at a dispatch that is repeated without a look for it.
    TaskWithoutLook,
    /// That there is no entry is believed to any replica.
    TrustReplica,
    /// An unknown signal is judged without reading the events first.
    EndUnread,
    /// What cannot be taken is set aside without asking the leader.
    LeaderUnasked,
    /// A message is set aside before the position says so.
    AsideUnwritten,
    /// Sends to one target go out together.
    SendsAtOnce,
    /// An effect without an answer counts as done.
    UnknownIsDone,
    /// An effect for which there is no room counts as there already.
    FullIsDone,
    /// An entry without an answer counts as committed.
    UnknownIsCommitted,
    /// An entry that another's was before is published behind that.
    AppendedAnyway,
    /// An event that nothing wants gets an answer and no entry.
    IgnoredUnwritten,
    /// A timer that is fired in process gets no schedule.
    TimerUnscheduled,
    /// A timer that fired before it was due is taken.
    EarlyTaken,
    /// An entry of a newer epoch is taken for one's own.
    EpochIgnored,
    /// Another server is taken for the one before.
    ServerUncompared,
    /// The streams are compared with what was read since the question.
    ComparedWithNewer,
}

impl Config {
    /// Whether a rule is left out.
    #[cfg(feature = "mutations")]
    pub(super) fn leaves_out(&self, rule: Mutation) -> bool {
        self.mutation == Some(rule)
    }

    /// Whether a rule is left out: none is.
    #[cfg(not(feature = "mutations"))]
    #[expect(clippy::unused_self, reason = "as where one can be")]
    pub(super) const fn leaves_out(&self, _: Mutation) -> bool {
        false
    }
}
