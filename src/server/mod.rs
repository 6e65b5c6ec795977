//! The broker's face to its clients: listener, connections, dispatch, and a handler for each API.
//!
//! [`Broker`] is what handlers share; the room `node` puts one together.

pub mod api;
pub mod api_page;
pub mod connection;
pub mod controller_listener;
mod creation_rate;
mod dispatch;
pub mod dynamic_config;
mod errors;
pub mod fetch_session;
pub mod handlers;
pub mod internal;
pub mod listener;
pub mod loggers;
pub mod metrics;
pub mod producer_ids;
pub mod request_memory;
pub mod transactions;
mod unsettled;
mod wire_errors;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::client::peers::Peers;
use crate::config::BrokerConfig;
use crate::controller::{BrokerIdentity, ControllerHandle};
use crate::coordinator::group::GroupCoordinator;
use crate::env::{Surroundings, Tasks};
use crate::metadata::MetadataImage;
use crate::partition::PartitionManager;
use crate::partition::cleaning::LogCleaner;
use crate::partition::lease::Lease;
use crate::raft::MetadataQuorum;
use crate::replication::Replication;
use crate::types::NodeId;
use crate::zerocopy::Sent;
use dynamic_config::DynamicConfig;
use fetch_session::FetchSessions;
use metrics::Metrics;
use producer_ids::ProducerIds;
use request_memory::RequestMemory;

/// How long an answer waits until this node follows what it tells of.
const APPLIED_TIMEOUT: Duration = Duration::from_secs(30);

/// What the handlers of one broker share.
pub struct Broker {
    /// The configuration that this process started with. What can change at run time is in `dynamic`.
    pub config: BrokerConfig,
    pub dynamic: DynamicConfig,
    /// What this node has to do with outside of itself.
    pub surroundings: Surroundings,
    /// What goes on beside the requests, and ends with the node.
    pub tasks: Tasks,
    pub cluster_id: Arc<str>,
    pub node: NodeId,
    /// This process as the controller knows it; see [`Broker::identity`].
    pub registered: watch::Receiver<BrokerIdentity>,
    /// Until when it may lead what others hold, too.
    pub lease: Lease,
    /// Names of the listeners, by their index; those for controllers come last.
    pub listener_names: Vec<String>,
    /// How many of them serve clients of this broker.
    pub broker_listeners: usize,
    /// The way to the other nodes.
    pub peers: Peers,
    pub quorum: MetadataQuorum,
    pub controller: ControllerHandle,
    pub partitions: Arc<PartitionManager>,
    pub replication: Replication,
    pub groups: GroupCoordinator,
    /// Index of the metadata that the partitions of this node follow.
    pub applied: watch::Receiver<u64>,
    pub request_memory: RequestMemory,
    pub sent: Sent,
    pub fetch_sessions: FetchSessions,
    pub producer_ids: ProducerIds,
    pub log_cleaner: LogCleaner,
    pub metrics: Metrics,
}

impl Broker {
    /// The cluster's metadata as this node knows it now.
    pub fn image(&self) -> Arc<MetadataImage> {
        self.quorum.image()
    }

    /// This process as the controller knows it now.
    pub fn identity(&self) -> BrokerIdentity {
        *self.registered.borrow()
    }

    /// The broker that clients are told to ask for what the active controller decides: any can take it there. Its own one,
    /// where that serves clients.
    pub fn shown_controller(&self) -> Option<NodeId> {
        let image = self.image();
        // One that is silent would let the client wait; nobody is told of it until it is heard again.
        let leader = self.quorum.leader().filter(|_| self.quorum.hears_leader());
        let leader = leader.filter(|leader| image.broker(*leader).is_some_and(|it| !it.fenced));
        leader.or_else(|| {
            let own = image.broker(self.node).filter(|own| !own.fenced);
            own.or_else(|| image.brokers().values().find(|other| !other.fenced)).map(|broker| broker.id)
        })
    }

    /// Notes in the data folder how far its logs follow the metadata. Blocks on the disk.
    pub fn note_metadata_index(&self) {
        let index = *self.applied.borrow();
        if let Err(error) = self.partitions.data.note_metadata_index(index) {
            tracing::error!(%error, "how far the logs follow the metadata could not be noted");
        }
    }

    /// Wall clock, in milliseconds, as record timestamps count.
    pub fn now_ms(&self) -> i64 {
        self.surroundings.clock.now_ms()
    }

    /// Milliseconds that only go on, for idle times.
    pub fn monotonic_ms(&self) -> i64 {
        self.surroundings.clock.monotonic_ms()
    }

    /// Waits until this node's partitions follow the image as it is at this call, but not for ever: a disk may
    /// hold them up, and whoever asked wants an answer.
    pub async fn wait_applied(&self) {
        let index = self.quorum.applied_index();
        let mut applied = self.applied.clone();
        let _ = tokio::time::timeout(APPLIED_TIMEOUT, applied.wait_for(|applied| *applied >= index)).await;
    }
}
