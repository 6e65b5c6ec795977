//! Coordinators: state machines whose state lies in an internal topic, one shard for each partition.
//!
//! * [`Shard`] is the pure half: it decides and replays, does no IO, and is given the time.
//! * [`runtime`] is the other half, the same for all coordinators: it loads a shard by replaying its
//!   partition, appends what was decided, answers once that is committed, and unloads the shard when
//!   its partition is led elsewhere.
//! * [`group`] holds consumer groups and their offsets, on `__consumer_offsets`.

pub mod group;
mod loading;
pub mod runtime;
#[cfg(test)]
mod runtime_tests;

use bytes::Bytes;

/// The time that a decision is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970: for what is written down.
    pub wall_ms: i64,
    /// Milliseconds on a clock that never jumps: for timeouts.
    pub monotonic_ms: i64,
}

/// Who waits for an answer. An answer may come with the decision on another request: a member that
/// joins is answered when all have joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A record of an internal topic. Without a value it is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorRecord {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// What follows from a request, or from the time that has passed.
///
/// The runtime appends `records` as one batch; only when that succeeded it replays them, installs
/// `changes` and, once they are committed, gives the `answers`. When it fails, the shard is as if
/// nothing had been asked: the request's own ticket is answered with the error, and nobody else is.
#[derive(Debug)]
pub struct Decision<S: Shard> {
    pub records: Vec<CoordinatorRecord>,
    /// What changes that is not written down: who waits, since when, until when.
    pub changes: Vec<S::Change>,
    /// Answers that are due, each to who waits for it.
    pub answers: Vec<(Ticket, S::Response)>,
}

impl<S: Shard> Default for Decision<S> {
    fn default() -> Self {
        Self { records: Vec::new(), changes: Vec::new(), answers: Vec::new() }
    }
}

/// A record that cannot be read: of an unknown version, or cut short. It is skipped, and logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReplayError(pub String);

/// Why a coordinator does not answer. Nothing of the request has happened then, but for
/// [`CoordinatorError::NotAvailable`], of which nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoordinatorError {
    /// Another node may.
    #[error("this node does not coordinate it")]
    NotCoordinator,
    #[error("its coordinator is being loaded")]
    Loading,
    /// Nobody leads its partition, or too few replicas have what was decided in time.
    #[error("its coordinator is not available")]
    NotAvailable,
    /// A defect: the decision cannot be written down.
    #[error("the decision cannot be written")]
    Unwritable,
}

/// The state of one partition of an internal topic.
pub trait Shard: Send + Sized + 'static {
    type Request: Send;
    type Response: Send;
    /// A change to what is not written down.
    type Change: Send;

    /// Follows one record, when the shard is loaded and when a decision was appended.
    ///
    /// # Errors
    /// When the record cannot be read; the state stays as it was.
    fn replay(&mut self, record: &CoordinatorRecord, now: Now) -> Result<(), ReplayError>;

    /// All that was written has been replayed: timeouts begin.
    fn loaded(&mut self, now: Now);

    /// Decides on a request. Who asked is answered through `ticket`, now or in a later decision.
    fn decide(&self, request: Self::Request, ticket: Ticket, now: Now) -> Decision<Self>;

    /// Decides on what is due at `now`. Called at [`Shard::deadline`] or later; afterwards the deadline
    /// lies ahead, or there is more to decide at once.
    fn tick(&self, now: Now) -> Decision<Self>;

    /// A decision of [`Shard::tick`] could not be written: it is due again at `until`, in monotonic
    /// milliseconds, and holds up nothing else meanwhile.
    fn postpone(&mut self, undone: Decision<Self>, until: i64);

    /// When [`Shard::tick`] is to be called, in monotonic milliseconds.
    fn deadline(&self) -> Option<i64>;

    /// Follows a change of an appended decision.
    fn install(&mut self, change: Self::Change);
}
