//! Fetches of followers: who may, and what a fetch tells of the follower.
//!
//! A follower names itself and, from version 15 on, its broker epoch (KIP-903). A fetch of an earlier process of it counts
//! for nothing: what that one had may be lost.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;

use crate::partition::Partition;
use crate::partition::replica::{EpochError, FollowerError, FollowerFetch};
use crate::server::Broker;
use crate::server::fetch_session::Wanted;
use crate::types::{LeaderEpoch, NodeId, Offset};

/// The first version in which a follower tells its broker epoch, in a field of its own.
const REPLICA_STATE: i16 = 15;

/// Who fetches as a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Follower {
    pub id: NodeId,
    /// -1: not said.
    broker_epoch: i64,
}

impl Follower {
    /// The follower that asks; `None` for a consumer.
    pub(super) fn of(request: &FetchRequest, version: i16) -> Option<Self> {
        let (id, broker_epoch) = match version {
            REPLICA_STATE.. => (request.replica_state.replica_id.0, request.replica_state.replica_epoch),
            _ => (request.replica_id.0, -1),
        };
        (id >= 0).then_some(Self { id: NodeId(id), broker_epoch })
    }

    /// Only another of its replicas, on a broker that is registered, reads what is not replicated yet.
    pub(super) fn check_replica(&self, broker: &Broker, partition: &Partition) -> Result<(), ResponseError> {
        let image = broker.image();
        let registered = image.broker(self.id).filter(|_| self.id != broker.node);
        let known = image.partition(&partition.name.topic, partition.name.partition);
        let is_stale =
            registered.is_none_or(|known| self.broker_epoch != -1 && self.broker_epoch < known.epoch);
        if is_stale || known.is_none_or(|known| !known.replicas.contains(&self.id)) {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        Ok(())
    }

    /// Notes how far the follower is. Returns the high watermark that it was told last.
    pub(super) fn note(
        &self,
        broker: &Broker,
        partition: &Arc<Partition>,
        wanted: &Wanted,
    ) -> Result<Offset, ResponseError> {
        let fetch = FollowerFetch {
            follower: self.id,
            broker_epoch: self.broker_epoch,
            leader_epoch: LeaderEpoch(wanted.current_leader_epoch),
            offset: Offset(wanted.fetch_offset),
            log_start: Offset(wanted.log_start_offset),
        };
        let image = broker.image();
        let active_epoch =
            |id: NodeId| image.broker(id).filter(|known| known.is_active()).map(|known| known.epoch);
        let noted = partition.follower_fetched(fetch, broker.monotonic_ms(), active_epoch);
        noted.map_err(|error| match error {
            FollowerError::NotLeader | FollowerError::NotReplica | FollowerError::StaleBrokerEpoch => {
                ResponseError::NotLeaderOrFollower
            }
            FollowerError::Epoch(EpochError::Fenced) => ResponseError::FencedLeaderEpoch,
            FollowerError::Epoch(EpochError::Unknown) => ResponseError::UnknownLeaderEpoch,
        })
    }
}
