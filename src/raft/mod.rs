//! The metadata quorum: one Raft group that agrees on the cluster's metadata records.
//!
//! openraft runs the protocol. This room gives it a log store ([`log_store`], its file [`journal`]), a state
//! machine ([`state_machine`]) with snapshots ([`snapshot`]), and a network ([`network`]), and shows the rest of
//! the broker nothing of it but [`MetadataQuorum`].
//!
//! One folder holds it all:
//!
//! | name | what |
//! |---|---|
//! | `<index of the first entry, 20 digits>.journal` | log entries (see [`journal`]) |
//! | `vote` | the vote (see [`log_store`]) |
//! | `<index, 20 digits>.snapshot` | the image after the entry with that index (see [`snapshot`]) |
//!
//! Invariants, from the disk upwards:
//! 1. An entry, and a vote, is on the disk (`fdatasync`) before openraft hears of it, so before
//!    [`MetadataQuorum::propose`] answers.
//! 2. The log has no holes between what was purged and its end; what was purged is in a snapshot that is
//!    on the disk. Both are checked when the folder is opened, and so are all checksums.
//! 3. The image is published before the index that it stands for.

mod journal;
mod log_store;
mod network;
mod quorum;
mod snapshot;
mod state_machine;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::metadata::MetadataRecord;

pub use log_store::{LogStoreError, is_there};
pub(crate) use quorum::records_bytes;
pub use quorum::{
    MetadataQuorum, MetadataSubscription, OpenError, ProposeError, Published, QuorumConfig, QuorumStatus,
    RECORDS_BYTES_MAX, ReplicaStatus,
};
pub use snapshot::SnapshotError;

openraft::declare_raft_types!(
    /// The types that openraft works with.
    pub(in crate::raft) Types:
        D = RecordBatch,
        R = Applied,
        NodeId = u64,
        Node = openraft::BasicNode,
        Entry = openraft::Entry<Types>,
        SnapshotData = snapshot::SnapshotFile,
        AsyncRuntime = openraft::TokioRuntime,
);

pub(in crate::raft) type StorageError = openraft::StorageError<u64>;
pub(in crate::raft) type LogId = openraft::LogId<u64>;
pub(in crate::raft) type Entry = openraft::Entry<Types>;
pub(in crate::raft) type Raft = openraft::Raft<Types>;

/// What one entry of the log carries: records that take effect together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::raft) struct RecordBatch {
    pub records: Vec<MetadataRecord>,
}

/// What became of an entry when it was applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::raft) struct Applied {
    /// Why the records did not fit the image; then none of them took effect, on any node.
    pub refused: Option<String>,
}
