//! A node's partitions on a simulated disk, for tests.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::lease::Lease;
use super::{PartitionManager, Work};
use crate::config::BrokerConfig;
use crate::env::sim::{SimClock, SimDisk};
use crate::env::{Surroundings, Tasks, real};
use crate::metadata::MetadataImage;
use crate::segment::{DataDir, DataDirOptions};
use crate::types::NodeId;

/// The surroundings of a node that has this disk.
pub(crate) fn surroundings(disk: &SimDisk, clock: &Arc<SimClock>) -> Surroundings {
    let (clock, disk) = (clock.clone(), Arc::new(disk.clone()));
    Surroundings { clock, disk, ..real::surroundings() }
}

/// The partitions that are in the folder `/data`, as the image has them, and with the defaults of every configuration.
pub(crate) fn open_partitions(
    node: NodeId,
    surroundings: &Surroundings,
    tasks: &Tasks,
    image: &MetadataImage,
) -> PartitionManager {
    open_partitions_for(Lease::new(surroundings.clock.clone()), node, surroundings, tasks, image)
}

/// The same of a broker that leads what others hold, too, as long as `lease` holds.
pub(crate) fn open_partitions_for(
    lease: Lease,
    node: NodeId,
    surroundings: &Surroundings,
    tasks: &Tasks,
    image: &MetadataImage,
) -> PartitionManager {
    let options = DataDirOptions {
        dir: "/data".into(),
        node_id: node,
        cluster_id: "the-cluster".into(),
        recovery_threads: 1,
        open_files_max: 100,
        accepts_missing_data: false,
    };
    let (data, found) = DataDir::open(surroundings, options).unwrap();
    let (config, _) = BrokerConfig::from_values(Default::default()).unwrap();
    let config = Arc::new(ArcSwap::from_pointee(config));
    let work = Work::new(surroundings.blocking.clone(), tasks.clone()).while_it_holds(lease);
    let manager = PartitionManager::new(node, data, found, config, work);
    manager.start(image);
    manager
}
