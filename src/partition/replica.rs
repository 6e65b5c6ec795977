//! The pure part of a replica: who leads, who is in sync, and how far the high watermark may go.

use std::collections::BTreeMap;

use crate::metadata::PartitionImage;
use crate::types::{LeaderEpoch, NodeId, Offset};

/// What this node knows of a partition it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    node: NodeId,
    leader: Option<NodeId>,
    leader_epoch: LeaderEpoch,
    partition_epoch: i32,
    isr: Vec<NodeId>,
    replicas: usize,
    /// How far the followers' logs go, as their fetches told; of a leader only.
    follower_ends: BTreeMap<NodeId, Offset>,
}

/// Whether a request's idea of the leader epoch fits (KIP-320).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    #[error("the leader epoch of the request is older than the partition's")]
    Fenced,
    #[error("the leader epoch of the request is newer than the partition's")]
    Unknown,
}

impl Replica {
    /// A replica that nobody leads yet.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            leader: None,
            leader_epoch: LeaderEpoch::NONE,
            partition_epoch: -1,
            isr: Vec::new(),
            replicas: 0,
            follower_ends: BTreeMap::new(),
        }
    }

    /// Takes over what the controller decided. True when this node begins to lead (again) with a new
    /// leader epoch. Older news than what is known changes nothing.
    pub fn apply(&mut self, image: &PartitionImage) -> bool {
        if image.partition_epoch <= self.partition_epoch {
            return false;
        }
        let is_new_leadership = image.leader_epoch > self.leader_epoch && image.leader == Some(self.node);
        if image.leader_epoch > self.leader_epoch {
            self.follower_ends.clear();
        }
        self.leader = image.leader;
        self.leader_epoch = image.leader_epoch;
        self.partition_epoch = image.partition_epoch;
        self.isr.clone_from(&image.isr);
        self.replicas = image.replicas.len();
        is_new_leadership
    }

    /// The partition is gone from this node: it leads nothing any more, whatever it is still asked.
    pub fn retire(&mut self) {
        self.leader = None;
    }

    pub fn is_leader(&self) -> bool {
        self.leader == Some(self.node)
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    pub fn isr(&self) -> &[NodeId] {
        &self.isr
    }

    /// How many must be in sync, of those that `min.insync.replicas` asks for: no more than there are.
    pub fn needed_in_sync(&self, min_insync_replicas: i32) -> usize {
        usize::try_from(min_insync_replicas).unwrap_or_default().min(self.replicas)
    }

    /// Checks the leader epoch that a request expects; a negative one expects nothing.
    pub fn check_epoch(&self, expected: LeaderEpoch) -> Result<(), EpochError> {
        match expected {
            LeaderEpoch(..0) => Ok(()),
            expected if expected < self.leader_epoch => Err(EpochError::Fenced),
            expected if expected > self.leader_epoch => Err(EpochError::Unknown),
            _ => Ok(()),
        }
    }

    /// Notes that a follower has all below `end`.
    pub fn follower_has(&mut self, follower: NodeId, end: Offset) {
        self.follower_ends.insert(follower, end);
    }

    /// The offset below which every in-sync replica has every record, when the leader has all below
    /// `own_end`. `None` while an in-sync follower has not been heard of.
    pub fn replicated_end(&self, own_end: Offset) -> Option<Offset> {
        let mut end = own_end;
        for member in self.isr.iter().filter(|member| **member != self.node) {
            end = end.min(*self.follower_ends.get(member)?);
        }
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(leader: i32, leader_epoch: i32, partition_epoch: i32, isr: &[i32]) -> PartitionImage {
        let nodes: Vec<NodeId> = isr.iter().copied().map(NodeId).collect();
        PartitionImage {
            replicas: nodes.clone(),
            isr: nodes,
            leader: Some(NodeId(leader)),
            leader_epoch: LeaderEpoch(leader_epoch),
            partition_epoch,
            eligible_leader_replicas: Vec::new(),
            last_known_eligible_leader_replicas: Vec::new(),
            adding_replicas: Vec::new(),
            removing_replicas: Vec::new(),
            recovering: false,
        }
    }

    #[test]
    fn the_high_watermark_is_what_every_in_sync_replica_has() {
        let mut replica = Replica::new(NodeId(1));
        assert!(replica.apply(&image(1, 0, 0, &[1])));
        assert_eq!(replica.replicated_end(Offset(9)), Some(Offset(9)));
        assert!(!replica.apply(&image(1, 0, 1, &[1, 2, 3])));
        assert_eq!(replica.replicated_end(Offset(9)), None);
        replica.follower_has(NodeId(2), Offset(7));
        replica.follower_has(NodeId(3), Offset(20));
        assert_eq!(replica.replicated_end(Offset(9)), Some(Offset(7)));
        // A new leadership knows nothing of its followers.
        assert!(replica.apply(&image(1, 1, 2, &[1, 2])));
        assert_eq!(replica.replicated_end(Offset(9)), None);
        // Old news.
        assert!(!replica.apply(&image(2, 0, 1, &[2])));
        assert!(replica.is_leader());
    }

    #[test]
    fn epochs_of_requests_are_fenced_or_unknown() {
        let mut replica = Replica::new(NodeId(1));
        replica.apply(&image(1, 3, 0, &[1]));
        assert_eq!(replica.check_epoch(LeaderEpoch::NONE), Ok(()));
        assert_eq!(replica.check_epoch(LeaderEpoch(3)), Ok(()));
        assert_eq!(replica.check_epoch(LeaderEpoch(2)), Err(EpochError::Fenced));
        assert_eq!(replica.check_epoch(LeaderEpoch(4)), Err(EpochError::Unknown));
        replica.retire();
        assert!(!replica.is_leader());
    }
}
