//! From a decision to what it changes: what a decision is made on, and what becomes of its records.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::error::{ClientWriteError, RaftError};

use super::planted::{Bug, is_planted};
use super::quorum::node_id;
use super::{Applied, Fence, LeaderId, MetadataQuorum, RecordBatch};
use crate::metadata::{MetadataImage, MetadataRecord};
use crate::types::NodeId;

/// Bytes that the records of one proposal may take in the log.
pub const RECORDS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A snapshot is taken earlier than by the count of entries, when this many records would have to be replayed and
/// the last snapshot held no more.
const SNAPSHOT_RECORDS: u64 = 10_000;
/// How long who has become the leader may take to learn all that was decided before, while somebody waits.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a proposal of a leader that is none any more may wait to hear what became of it.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(2);
/// A leader of several voters that has not heard of a majority for so long decides nothing: another one may lead.
const QUORUM_ACK_MS_MAX: u64 = 3000;
/// Bytes of an entry beside its records.
const ENTRY_BYTES: u64 = 512;

/// Records were not taken. Except after [`ProposeError::OutcomeUnknown`] and [`ProposeError::Stopped`] none of them
/// has taken effect, and none will.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("this node does not lead the metadata quorum; the leader is {0:?}")]
    NotLeader(Option<NodeId>),
    #[error("the records take {bytes} bytes, more than {RECORDS_BYTES_MAX}")]
    TooLarge { bytes: usize },
    #[error(
        "the disk does not take it into the metadata log ({0}): make room, for example by deleting topics, or mend the disk"
    )]
    NoRoom(String),
    #[error("the records do not fit the metadata: {0}")]
    Refused(String),
    /// Another leader decided something first. Decided anew, the records may be taken.
    #[error("the records were decided on an earlier state of the metadata")]
    Stale,
    /// This node has lost its leadership meanwhile; the next leader may have them or not.
    #[error("it is not known whether the records took effect: this node leads the metadata quorum no more")]
    OutcomeUnknown,
    /// It is not known whether they took effect.
    #[error("the metadata quorum stopped: {0}")]
    Stopped(String),
}

/// What the active controller decides on: an image that holds all that was decided before.
#[derive(Clone, Debug)]
pub struct Basis {
    pub image: Arc<MetadataImage>,
    pub fence: Fence,
}

impl MetadataQuorum {
    /// What may be decided on now. Only the leader decides, and only once its image holds all that was decided
    /// before it led and a majority has confirmed that it leads (after a restart, too, in which it may have missed
    /// another leader).
    pub async fn basis(&self) -> Result<Basis, ProposeError> {
        let leader = self.leadership()?;
        if *self.inner.active.lock() != Some(leader) && !is_planted(Bug::NoBarrier) {
            let barrier = tokio::time::timeout(BARRIER_TIMEOUT, self.become_active(leader));
            barrier.await.unwrap_or(Err(ProposeError::NotLeader(None)))?;
        }
        let current = self.inner.shared.current.load();
        let fence = Fence { leader, records_index: current.records_index };
        Ok(Basis { image: current.image.clone(), fence })
    }

    /// The leadership of this node.
    fn leadership(&self) -> Result<LeaderId, ProposeError> {
        if let Some(why) = self.failure() {
            return Err(ProposeError::Stopped(why));
        }
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow();
        let leads = metrics.vote.committed && metrics.vote.leader_id.node_id == metrics.id;
        if !leads {
            let other = metrics.current_leader.filter(|leader| *leader != metrics.id);
            return Err(ProposeError::NotLeader(other.map(node_id)));
        }
        let is_alone = metrics.membership_config.membership().voter_ids().count() == 1;
        let has_contact = match &self.inner.links {
            Some(links) => links.has_contact(metrics.membership_config.membership().voter_ids()),
            None => metrics.millis_since_quorum_ack.is_none_or(|ms| ms <= QUORUM_ACK_MS_MAX),
        };
        if !is_alone && !has_contact {
            return Err(ProposeError::NotLeader(None));
        }
        Ok(metrics.vote.leader_id)
    }

    async fn become_active(&self, leader: LeaderId) -> Result<(), ProposeError> {
        let raft = &self.inner.raft;
        raft.ensure_linearizable().await.map_err(|e| match e {
            RaftError::APIError(_) => ProposeError::NotLeader(None),
            RaftError::Fatal(e) => ProposeError::Stopped(e.to_string()),
        })?;
        // What this leadership proposed before a restart, too: it is in the log, and may yet be committed.
        let last = self.inner.store.ends().1.map_or(0, |id| id.index);
        if !self.wait_applied(last).await {
            return Err(ProposeError::Stopped("it was closed".to_owned()));
        }
        *self.inner.active.lock() = Some(leader);
        Ok(())
    }

    /// Records that depend on nothing, to log and image; see [`MetadataQuorum::propose_on`]. Answers with the index
    /// of their entry.
    pub async fn propose(&self, records: Vec<MetadataRecord>) -> Result<u64, ProposeError> {
        let basis = self.basis().await?;
        Ok(self.propose_on(basis.fence, records).await?.records_index)
    }

    /// Records to log and image, all or none; answers when they are on the disks of a majority and in the image
    /// of this node, with what may be decided on the image that they lead to. Only the leader takes any.
    ///
    /// Without a majority this waits until there is one, or another leader; whoever has a deadline goes away.
    pub async fn propose_on(
        &self,
        fence: Fence,
        records: Vec<MetadataRecord>,
    ) -> Result<Fence, ProposeError> {
        let bytes = records_bytes(&records);
        if bytes > RECORDS_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes });
        }
        let image = self.image();
        let left = RoomNeed::of(&records).left(image.partition_count());
        let room = self.inner.store.make_room(bytes as u64 + ENTRY_BYTES, left).await;
        room.map_err(|e| ProposeError::NoRoom(e.to_string()))?;
        // Earlier versions of the software would take effect for what this one refuses.
        let fenced = (image.metadata_version() >= 1).then_some(fence);
        let write = self.inner.raft.client_write(RecordBatch { records: Arc::new(records), fence: fenced });
        tokio::pin!(write);
        let answer = tokio::select! {
            biased;
            answer = &mut write => answer,
            () = self.lost(fence.leader) => match tokio::time::timeout(OUTCOME_TIMEOUT, write).await {
                Ok(answer) => answer,
                // A leader that was overtaken by a snapshot never hears of it.
                Err(_) => return Err(ProposeError::OutcomeUnknown),
            },
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                return Err(ProposeError::NotLeader(forward.leader_id.map(node_id)));
            }
            Err(e) => return Err(ProposeError::Stopped(self.failure().unwrap_or_else(|| e.to_string()))),
        };
        match answer.data {
            Applied::Taken => {}
            Applied::Refused(why) => return Err(ProposeError::Refused(why)),
            Applied::Stale => return Err(ProposeError::Stale),
        }
        let shared = &self.inner.shared;
        let pending = shared.records_since_snapshot.load(Ordering::Relaxed);
        if pending >= SNAPSHOT_RECORDS.max(shared.records_in_snapshot.load(Ordering::Relaxed)) {
            // Counted anew from here, so that the next proposal does not ask again.
            shared.records_since_snapshot.store(0, Ordering::Relaxed);
            if let Err(e) = self.inner.raft.trigger().snapshot().await {
                tracing::warn!(error = %e, "no metadata snapshot was taken");
            }
        }
        Ok(Fence { leader: fence.leader, records_index: answer.log_id.index })
    }

    /// Waits until this leadership has ended.
    async fn lost(&self, leader: LeaderId) {
        let mut metrics = self.inner.raft.metrics();
        let has_ended = metrics.wait_for(|metrics| {
            let leads = metrics.vote.committed && metrics.vote.leader_id == leader;
            !leads || metrics.running_state.is_err()
        });
        _ = has_ended.await;
    }
}

/// What records do to a disk that may be full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomNeed {
    /// They make room.
    Frees,
    /// They keep the cluster going.
    Keeps,
    /// They ask for more of the disk than the log takes.
    Grows,
}

impl RoomNeed {
    pub fn of(records: &[MetadataRecord]) -> Self {
        use MetadataRecord::{Partition, RemoveTopic, Topic};
        if records.iter().any(|record| matches!(record, Topic { .. } | Partition(_))) {
            Self::Grows
        } else if records.iter().all(|record| matches!(record, RemoveTopic { .. })) {
            Self::Frees
        } else {
            Self::Keeps
        }
    }

    /// Room that must be left behind such records in the log.
    fn left(self, partition_count: usize) -> u64 {
        const KIB: u64 = 1024;
        match self {
            Self::Frees => 64 * KIB,
            Self::Keeps => 256 * KIB,
            // A broker that starts changes each of its partitions; it shall be able to do so twice.
            Self::Grows => (2048 * KIB).max(256 * partition_count as u64),
        }
    }
}

/// What records take in the log, in bytes.
pub(crate) fn records_bytes(records: &[MetadataRecord]) -> usize {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    match serde_json::to_writer(&mut counter, records) {
        Ok(()) => counter.0,
        Err(_) => usize::MAX,
    }
}
