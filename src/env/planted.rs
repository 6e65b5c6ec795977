//! Bugs that the simulation plants, to prove that it would catch them.
//!
//! A simulation that has never failed proves nothing. Each of these is one line in the room that it names; a test
//! holds that it is caught within so many seeds (`tests/simulation`). A build without the feature `sim` (the released binary)
//! has none of them: there [`is_planted`] is `false` at compile time.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// `segment`: a log's flush says that it has synced, and has not.
    SkippedSync,
    /// `partition`: a record is acknowledged before the sync that its topic promises (`flush.messages=1`).
    EarlyAcknowledgement,
    /// `segment`: producers' sequences are forgotten when a log is recovered.
    ForgottenProducers,
    /// `coordinator`: committed offsets are passed over when a partition of the offsets topic is loaded.
    LostCommits,
    /// `partition`: the high watermark is where the leader's log ends, wherever its followers are.
    AcknowledgementBeforeQuorum,
    /// `partition`: who begins to follow cuts its log to its high watermark, as Kafka did before KIP-101.
    TruncationToHighWatermark,
    /// `segment`: a follower takes no notice of who produced what it is sent.
    ForgetfulFollowers,
    /// `partition`: a broker leads on when the active controller has not heard of it for its session.
    ServingOldLeaders,
    /// `controller`: whoever is alive may lead.
    ElectionOutsideIsr,
    /// `partition`: what a follower's earlier process had counts for the one after it (KIP-903).
    IgnoredBrokerEpoch,
}

impl Planted {
    pub const ALL: [Self; 10] = [
        Self::SkippedSync,
        Self::EarlyAcknowledgement,
        Self::ForgottenProducers,
        Self::LostCommits,
        Self::AcknowledgementBeforeQuorum,
        Self::TruncationToHighWatermark,
        Self::ForgetfulFollowers,
        Self::ServingOldLeaders,
        Self::ElectionOutsideIsr,
        Self::IgnoredBrokerEpoch,
    ];
}

#[cfg(any(test, feature = "sim"))]
mod switch {
    use super::Planted;

    thread_local! {
        /// A simulation is one thread.
        static PLANTED: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
    }

    /// Plants a bug in all that this thread does from now on.
    pub fn plant(bug: Option<Planted>) {
        PLANTED.set(bug);
    }

    pub fn is_planted(bug: Planted) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(not(any(test, feature = "sim")))]
mod switch {
    #[inline(always)]
    pub const fn is_planted(_: super::Planted) -> bool {
        false
    }
}

pub use switch::*;
