//! A node's partitions on a simulated disk, for tests.

use std::sync::Arc;

use arc_swap::ArcSwap;

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
    let (config, work) =
        (Arc::new(ArcSwap::from_pointee(config)), Work::new(surroundings.blocking.clone(), tasks.clone()));
    let manager = PartitionManager::new(node, data, found, config, work);
    manager.start(image);
    manager
}
