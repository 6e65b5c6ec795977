//! Follows the metadata on this node: what changed becomes configurations, partitions and groups.

use std::sync::Arc;

use tokio::sync::watch;

use crate::client::peers::Peers;
use crate::coordinator::group::GroupCoordinator;
use crate::env::{Blocking, Tasks};
use crate::metadata::{BrokerImage, MetadataImage};
use crate::partition::PartitionManager;
use crate::raft::{MetadataSubscription, Published};
use crate::replication::Replication;
use crate::server::dynamic_config::DynamicConfig;
use crate::server::listener::Connections;
use crate::types::NodeId;

/// Carries out what the metadata says, one change after the other.
pub(super) struct Applier {
    pub peers: Peers,
    /// `inter.broker.listener.name`
    pub broker_listener: String,
    pub blocking: Arc<dyn Blocking>,
    pub dynamic: DynamicConfig,
    pub connections: Arc<Connections>,
    pub partitions: Arc<PartitionManager>,
    pub replication: Replication,
    pub groups: GroupCoordinator,
}

impl Applier {
    /// Starts following; tells the index of the metadata that this node follows, which is `applied_index` now.
    pub(super) fn start(
        self,
        mut subscription: MetadataSubscription,
        applied_index: u64,
        tasks: &Tasks,
    ) -> watch::Receiver<u64> {
        let (sender, applied) = watch::channel(applied_index);
        let image = subscription.image().clone();
        self.meet(&image, image.brokers().keys());
        let applier = Arc::new(self);
        let stopping = tasks.stopping().clone();
        tasks.spawn(async move {
            // What has begun is carried out: only the wait for more is given up.
            while let Some(Some(published)) = stopping.run_until_cancelled(subscription.next()).await {
                let applied_index = published.applied_index;
                applier.clone().apply(published).await;
                sender.send_replace(applied_index);
            }
        });
        applied
    }

    /// Tells where these brokers are.
    fn meet<'a>(&self, image: &MetadataImage, brokers: impl IntoIterator<Item = &'a NodeId>) {
        let known = brokers.into_iter().filter_map(|id| image.broker(*id));
        let address =
            |broker: &Arc<BrokerImage>| Some((broker.id, broker.listener(&self.broker_listener)?.address()));
        self.peers.set_brokers(known.filter_map(address));
    }

    async fn apply(self: Arc<Self>, published: Published) {
        self.meet(&published.image, &published.delta.brokers_changed);
        let blocking = self.blocking.clone();
        let applying = blocking.run({
            let applier = self.clone();
            move || {
                let Published { image, delta, .. } = published;
                if applier.dynamic.apply(&image, &delta) {
                    applier.partitions.broker_config_changed(&image);
                    applier.connections.set_limits(&applier.dynamic.current());
                    applier.dynamic.tell_changed();
                }
                applier.partitions.apply(&delta);
                applier.replication.follow(&delta);
                delta
            }
        });
        match applying.await {
            Ok(delta) => self.groups.follow(&delta),
            Err(error) => tracing::error!(%error, "a change of the metadata could not be followed"),
        }
    }
}
