//! The metadata quorum: one Raft group that agrees on the cluster's metadata records.
//!
//! openraft runs the protocol. This room gives it a log store ([`log_store`], its file [`journal`]), a state
//! machine ([`state_machine`]) with snapshots ([`snapshot`]), and a network ([`network`]), and shows the rest of
//! the broker nothing of it but [`MetadataQuorum`] ([`opening`], [`proposing`]).
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
//! 4. Entries are purged from the log when a snapshot that has them is on the disk, and not before.
//! 5. Records take effect only on the image that they were decided on, and only by the leadership that decided
//!    them ([`Fence`]).
//! 6. A disk that takes no more for now never ends the quorum ([`room`]); an error that leaves in doubt what is on
//!    the disk does, and the quorum says why ([`MetadataQuorum::failed`]).

mod changing;
#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod fault_tests;
mod following;
mod frame;
mod journal;
mod links;
mod log_index;
mod log_store;
mod log_store_error;
mod mailbox;
mod member;
mod network;
mod opening;
mod planted;
mod proposing;
mod quorum;
mod receiving;
mod room;
mod runtime;
mod snapshot;
mod state_machine;
mod taking;
#[cfg(test)]
pub(crate) mod test_cluster;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::metadata::{METADATA_VERSION, MetadataRecord};
use planted::{Bug, is_planted};

pub use changing::{VoterChange, VoterError, VoterKey};
pub use following::Formation;
pub use frame::{JournalFrame, journal_frames};
pub use links::{QuorumState, Reach};
pub use log_store::is_there;
pub use log_store_error::LogStoreError;
pub use member::{Endpoint, Member};
pub use opening::{OpenError, QuorumConfig};
pub(crate) use proposing::records_bytes;
pub use proposing::{Basis, ProposeError, RECORDS_BYTES_MAX, RoomNeed};
pub use quorum::{
    MetadataQuorum, MetadataSubscription, Published, QuorumHealth, QuorumStatus, ReplicaStatus,
};
pub use snapshot::SnapshotError;

openraft::declare_raft_types!(
    /// The types that openraft works with.
    pub(in crate::raft) Types:
        D = RecordBatch,
        R = Applied,
        NodeId = u64,
        Node = Member,
        Entry = openraft::Entry<Types>,
        SnapshotData = snapshot::SnapshotFile,
        AsyncRuntime = runtime::NodeRuntime,
);

pub(in crate::raft) type StorageError = openraft::StorageError<u64>;
pub(in crate::raft) type LogId = openraft::LogId<u64>;
pub(in crate::raft) type Entry = openraft::Entry<Types>;
pub(in crate::raft) type Raft = openraft::Raft<Types>;
pub(in crate::raft) type Metrics = openraft::RaftMetrics<u64, Member>;
pub(in crate::raft) type RpcError = openraft::error::RPCError<u64, Member, openraft::error::RaftError<u64>>;

pub(in crate::raft) type LeaderId = openraft::CommittedLeaderId<u64>;

/// What one entry of the log carries: records that take effect together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::raft) struct RecordBatch {
    pub records: Arc<Vec<MetadataRecord>>,
    /// From metadata version 1 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
}

/// What records were decided on. Where an entry turns out to have another leader, or to follow on other
/// records, nothing of it takes effect: the decision was made by a leader that had lost its place meanwhile
/// (and perhaps has it again), or that did not know of all that was decided before it.
///
/// A leadership is a term and a node: without openraft's `single-term-leader` a term may see several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    leader: LeaderId,
    /// Index of the last entry whose records took effect on the image that was decided on.
    records_index: u64,
}

impl Fence {
    /// Index of the last entry whose records took effect on the image that was decided on.
    pub fn records_index(&self) -> u64 {
        self.records_index
    }

    fn holds(&self, leader: LeaderId, records_index: u64) -> bool {
        let fits = self.leader == leader && self.records_index == records_index;
        fits || is_planted(Bug::NoFence) || is_planted(Bug::SameProducerIds)
    }
}

/// What became of an entry when it was applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::raft) enum Applied {
    #[default]
    Taken,
    /// The records did not fit the image, and why; none of them took effect, on any node.
    Refused(String),
    /// The records were decided on another state of things ([`Fence`]); none of them took effect, on any node.
    Stale,
}

/// The cluster has metadata that this version of the software cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the metadata has version {found}, this software knows versions up to {METADATA_VERSION}: run the version of the software that wrote it, or a newer one"
)]
pub struct NewerVersion {
    found: i16,
}
