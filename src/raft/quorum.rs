//! The façade: what the rest of the broker sees of the quorum.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::error::Fatal;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use super::journal::RESERVED_BYTES;
use super::links::Links;
use super::log_store::LogStore;
use super::member::{Endpoint, Member};
use super::room::Room;
use super::state_machine::Shared;
use super::{LeaderId, LogId, Raft};
use crate::env::{Blocking, Clock};
use crate::metadata::{MetadataDelta, MetadataImage};
use crate::types::NodeId;

/// What DescribeQuorum answers. Offsets are indexes of the metadata log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumStatus {
    pub leader_id: Option<NodeId>,
    /// The term of the quorum.
    pub leader_epoch: i32,
    /// Offset after the last applied entry.
    pub high_watermark: i64,
    pub voters: Vec<ReplicaStatus>,
    pub observers: Vec<ReplicaStatus>,
}

/// What a monitor wants to know of the quorum on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumHealth {
    pub leader_id: Option<NodeId>,
    pub is_leader: bool,
    /// The term of the quorum.
    pub term: u64,
    /// Index of the last entry in this node's log, and of the last that is in its image; -1 for none.
    pub last_index: i64,
    pub applied_index: i64,
    /// On the leader: milliseconds since a majority last answered it.
    pub ms_since_quorum_ack: Option<u64>,
    /// Bytes of the log on the disk.
    pub journal_bytes: u64,
    /// What waits until the disk takes it, and why.
    pub waits_for_room: Option<String>,
    /// Why nothing can be decided now, though the quorum runs: the disk does not take it.
    pub blocked: Option<String>,
    /// Why the quorum has ended on this node.
    pub failure: Option<String>,
}

/// How far a node's copy of the metadata log is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    pub id: NodeId,
    /// Offset after the last entry; -1 when not known here.
    pub log_end_offset: i64,
    /// When it was last heard of, in wall clock milliseconds; -1 when not known.
    pub last_fetch_ms: i64,
    /// When it last had all entries; -1 when not known.
    pub last_caught_up_ms: i64,
    /// The folder with its metadata, once the quorum knows it.
    pub directory_id: Option<Uuid>,
    /// Where its controller listens.
    pub endpoints: Vec<Endpoint>,
}

/// The metadata quorum as seen by this node. Clones share it.
#[derive(Clone)]
pub struct MetadataQuorum {
    pub(super) inner: Arc<Inner>,
}

impl std::fmt::Debug for MetadataQuorum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetadataQuorum").finish_non_exhaustive()
    }
}

pub(super) struct Inner {
    pub raft: Raft,
    pub shared: Arc<Shared>,
    pub store: LogStore,
    pub room: Arc<Room>,
    pub clock: Arc<dyn Clock>,
    pub blocking: Arc<dyn Blocking>,
    /// The way to the other nodes, where there may be any.
    pub links: Option<Arc<Links>>,
    /// The leadership of this node that may decide: all that was decided before it is in the image.
    pub active: Mutex<Option<LeaderId>>,
}

/// A new image with what changed since the one before.
#[derive(Clone, Debug)]
pub struct Published {
    pub image: Arc<MetadataImage>,
    pub delta: MetadataDelta,
    /// At least the index of the entry that `image` stands for.
    pub applied_index: u64,
}

/// Follows the image. One that is slow misses no change: it gets several at once.
#[derive(Debug)]
pub struct MetadataSubscription {
    shared: Arc<Shared>,
    applied_index: watch::Receiver<u64>,
    last: Arc<MetadataImage>,
}

impl MetadataSubscription {
    /// Waits until more was applied. Entries that change nothing are told of too, with an empty delta:
    /// somebody may wait until this node follows them. `None` when the quorum has been closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Published> {
        self.applied_index.changed().await.ok()?;
        let applied_index = *self.applied_index.borrow_and_update();
        let image = self.shared.image();
        let delta = MetadataDelta::between(&self.last, &image);
        self.last = image.clone();
        Some(Published { image, delta, applied_index })
    }

    /// The image that the last delta led to; at first that of the subscription.
    pub fn image(&self) -> &Arc<MetadataImage> {
        &self.last
    }
}

/// All ids in the quorum came from node ids.
pub(super) fn node_id(id: u64) -> NodeId {
    NodeId(i32::try_from(id).unwrap_or(i32::MAX))
}

/// The offset after an entry, in the numbers of the wire.
fn offset_after(id: Option<LogId>) -> i64 {
    id.map_or(0, |id| i64::try_from(id.index).unwrap_or(i64::MAX - 1) + 1)
}

impl MetadataQuorum {
    /// The metadata as this node knows it now. Takes no lock.
    pub fn image(&self) -> Arc<MetadataImage> {
        self.inner.shared.image()
    }

    /// Index of the entry that the image stands for, at least.
    pub fn applied_index(&self) -> u64 {
        *self.inner.shared.applied_index.borrow()
    }

    /// Index of the last entry in this node's log, committed or not; 0 when there is none.
    pub fn last_index(&self) -> u64 {
        self.inner.store.ends().1.map_or(0, |id| id.index)
    }

    /// Follows the index alone.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.inner.shared.applied_index.subscribe()
    }

    /// Follows the image from what it is now.
    pub fn subscribe(&self) -> MetadataSubscription {
        let applied_index = self.inner.shared.applied_index.subscribe();
        let last = self.image();
        MetadataSubscription { shared: self.inner.shared.clone(), applied_index, last }
    }

    /// Waits until the image holds the entry with this index. False when the quorum was closed before.
    pub async fn wait_applied(&self, index: u64) -> bool {
        let mut applied_index = self.inner.shared.applied_index.subscribe();
        applied_index.wait_for(|applied| *applied >= index).await.is_ok()
    }

    /// The node that leads the quorum, the active controller, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow();
        // openraft's last word before it ended still names a leader.
        metrics.current_leader.filter(|_| metrics.running_state.is_ok()).map(node_id)
    }

    /// Waits until another node leads than `known`, or none any more, as far as this node knows. Cancel-safe.
    pub async fn leader_after(&self, known: Option<NodeId>) {
        let mut metrics = self.inner.raft.metrics();
        while self.leader() == known {
            if metrics.changed().await.is_err() {
                // It has ended, and nobody leads from now on.
                return std::future::pending().await;
            }
        }
    }

    /// On the leader of several voters: milliseconds since a majority last answered it.
    pub fn ms_since_quorum_ack(&self) -> u64 {
        match self.is_only_voter() {
            true => 0,
            false => self.inner.raft.metrics().borrow().millis_since_quorum_ack.unwrap_or(0),
        }
    }

    /// Whether this node is the only voter, and there are no learners.
    pub fn is_only_voter(&self) -> bool {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow();
        let mut nodes = metrics.membership_config.membership().nodes().map(|(id, _)| *id);
        nodes.next() == Some(metrics.id) && nodes.next().is_none()
    }

    /// This node.
    pub fn node_id(&self) -> NodeId {
        node_id(self.inner.raft.metrics().borrow().id)
    }

    /// Why the quorum has ended on this node, if it did so by itself.
    pub fn failure(&self) -> Option<String> {
        if self.inner.room.is_closing() {
            return None;
        }
        let ended = match &self.inner.raft.metrics().borrow().running_state {
            Ok(()) => None,
            Err(Fatal::Stopped) => Some("it stopped".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        // Those who failed say it better than openraft, which passes it on.
        let known = self.inner.store.failure().or_else(|| self.inner.shared.failure.lock().clone());
        match (ended, known) {
            (Some(_), Some(known)) => Some(known),
            (ended, _) => ended,
        }
    }

    /// Waits until the quorum ends on this node by itself, and gives why: its disk failed, or it did. Nothing is
    /// decided or learned here from then on. Never ends when the quorum is closed in order. Cancel-safe.
    pub async fn failed(&self) -> String {
        let mut metrics = self.inner.raft.metrics();
        let ended = metrics.wait_for(|metrics| metrics.running_state.is_err()).await.is_ok();
        match self.failure() {
            Some(why) => why,
            None if !ended && !self.inner.room.is_closing() => "it panicked".to_owned(),
            None => std::future::pending().await,
        }
    }

    /// What waits for the disk, and all decisions with it.
    pub fn blocked(&self) -> Option<String> {
        self.inner.room.blocked()
    }

    /// Looks again whether the disk takes the log, when it did not lately.
    pub async fn look_again(&self) {
        if self.inner.store.refusal().is_some() {
            // Noted by the store, either way.
            _ = self.inner.store.make_room(0, RESERVED_BYTES).await;
        }
    }

    /// What a monitor wants to know.
    pub fn health(&self) -> QuorumHealth {
        let failure = self.failure();
        let metrics = self.inner.raft.metrics().borrow().clone();
        let index = |id: Option<LogId>| offset_after(id) - 1;
        let leader_id = metrics.current_leader.filter(|_| failure.is_none());
        QuorumHealth {
            leader_id: leader_id.map(node_id),
            is_leader: leader_id == Some(metrics.id),
            term: metrics.current_term,
            last_index: index(self.inner.store.ends().1),
            applied_index: index(self.inner.shared.current.load().applied),
            ms_since_quorum_ack: metrics.millis_since_quorum_ack.filter(|_| failure.is_none()),
            journal_bytes: self.inner.store.bytes(),
            waits_for_room: self.inner.room.waiting(),
            blocked: self.blocked().or_else(|| self.inner.store.refusal()),
            failure,
        }
    }

    /// What DescribeQuorum answers.
    pub fn status(&self) -> QuorumStatus {
        let now_ms = self.inner.clock.now_ms();
        let metrics = self.inner.raft.metrics().borrow().clone();
        let heard = self.inner.links.as_deref().map(|links| links.heard.lock().followers.clone());
        let members: BTreeMap<u64, Member> =
            metrics.membership_config.nodes().map(|(id, member)| (*id, member.clone())).collect();
        let replica = |id: u64| {
            let member = members.get(&id).cloned().unwrap_or_default();
            let (directory_id, endpoints) = (member.directory_id, member.endpoints);
            if id == metrics.id {
                let log_end_offset = offset_after(self.inner.store.ends().1);
                return ReplicaStatus {
                    id: node_id(id),
                    log_end_offset,
                    last_fetch_ms: now_ms,
                    last_caught_up_ms: now_ms,
                    directory_id,
                    endpoints,
                };
            }
            let followed = heard.as_ref().and_then(|heard| heard.get(&node_id(id)));
            let matched = metrics.replication.as_ref().and_then(|replication| replication.get(&id));
            ReplicaStatus {
                id: node_id(id),
                log_end_offset: matched.map_or(-1, |matched| offset_after(*matched)),
                last_fetch_ms: followed.map_or(-1, |followed| followed.at_ms),
                last_caught_up_ms: followed.map_or(-1, |followed| followed.caught_up_ms),
                directory_id,
                endpoints,
            }
        };
        let membership = metrics.membership_config.membership();
        QuorumStatus {
            leader_id: metrics.current_leader.map(node_id),
            leader_epoch: i32::try_from(metrics.current_term).unwrap_or(i32::MAX),
            // Ahead of the metrics, which openraft brings up to date after it has answered.
            high_watermark: i64::try_from(self.applied_index()).unwrap_or(i64::MAX - 1) + 1,
            voters: membership.voter_ids().map(replica).collect(),
            observers: membership.learner_ids().map(replica).collect(),
        }
    }

    /// Takes a snapshot of the image, and does not wait for it.
    pub async fn snapshot(&self) -> Result<(), String> {
        self.inner.raft.trigger().snapshot().await.map_err(|error| error.to_string())
    }

    /// Stops the quorum. What was acknowledged is on the disk already.
    pub async fn shutdown(&self) {
        self.inner.room.start_closing();
        if let Some(links) = &self.inner.links {
            links.tasks.stop().await;
        }
        if let Err(e) = self.inner.raft.shutdown().await {
            tracing::warn!(error = %e, "the metadata quorum did not stop in order");
        }
        self.inner.room.close();
        let store = self.inner.store.clone();
        match self.inner.blocking.run(move || store.sync()).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::warn!(error = %e, "the metadata log was not synced at the end"),
            Err(e) => tracing::warn!(error = %e, "the metadata log was not synced at the end"),
        }
    }
}
