//! What a node has on its disk: the logs of its data folder, and the metadata quorum's. Each is held to what the other
//! tells of it before anything is served.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::controller_side::{ControllerSide, part_in_quorum};
use super::formatting::{self, Bootstrap};
use super::{Bound, StartError};
use crate::config::BrokerConfig;
use crate::env::{Disk, Surroundings};
use crate::metadata::{ConfigResource, ELIGIBLE_LEADER_REPLICAS_FEATURE, Feature, MetadataRecord};
use crate::raft::{self, Formation, Member, MetadataQuorum, QuorumConfig};
use crate::segment::ownership::{self, OwnershipError};
use crate::segment::{DataDir, DataDirError, DataDirOptions, OpenedLog};
use crate::types::{NodeId, uuid_to_base64};

/// What this node has on its disk.
pub(super) struct Storage {
    pub data: DataDir,
    pub logs: Vec<OpenedLog>,
    pub quorum: MetadataQuorum,
    pub cluster_id: Arc<str>,
}

/// What this node had and does not find again. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MissingData {
    #[error(
        "the data folder {} is not the one that node {node} used before (its directory.id is {found}, not {expected}), and \
         {partitions} partitions are said to be in that one. Is its disk mounted? Is log.dirs right? To go on without what \
         was in it, start with raftsman server --accept-missing-data",
        dir.display()
    )]
    Replaced { dir: PathBuf, node: NodeId, found: String, expected: String, partitions: usize },
    #[error(
        "the metadata log in {} ends with entry {last}, but this node had followed it to entry {noted}: its end is \
         missing, and with it topics, configurations or deletions that were acknowledged. Bring the file back, or go on \
         with what is there: raftsman server --accept-missing-data (partitions of topics that it does not know are set \
         aside under names that end in -stray)",
        dir.display()
    )]
    MetadataCut { dir: PathBuf, last: u64, noted: u64 },
}

pub(super) async fn open_storage(
    config: &BrokerConfig,
    surroundings: &Surroundings,
    bound: &Bound,
    side: &ControllerSide,
    cancelled: &CancellationToken,
) -> Result<Storage, StartError> {
    let node = NodeId(config.node.id);
    let checking = {
        let (disk, config) = (surroundings.disk.clone(), config.clone());
        move || check_folders(&*disk, &config)
    };
    surroundings.blocking.run(checking).await.map_err(|error| DataDirError::stopped(&error))??;
    let reading = {
        let (disk, dir) = (surroundings.disk.clone(), config.storage.log_dir().to_owned());
        move || formatting::read(&*disk, &dir).map_err(|error| DataDirError::Io { path: dir, error })
    };
    let bootstrap =
        surroundings.blocking.run(reading).await.map_err(|error| DataDirError::stopped(&error))??;
    let bootstrap = bootstrap.unwrap_or_default();
    let network = &surroundings.network;
    let part = part_in_quorum(config, &bootstrap.quorum, side, &bound.controller_addresses, network);
    let options = DataDirOptions {
        dir: config.storage.log_dir().to_owned(),
        node_id: node,
        // Who has others beside it is told.
        cluster_id: match (&config.cluster_id, &part) {
            (Some(id), _) => id.clone(),
            (None, None | Some((_, Formation::Alone(_)))) => uuid_to_base64(surroundings.chance.kafka_uuid()),
            (None, Some(_)) => String::new(),
        },
        recovery_threads: config.storage.recovery_threads,
        open_files_max: surroundings.disk.open_files_max(),
        accepts_missing_data: config.accepts_missing_data,
    };
    let taking = {
        let surroundings = surroundings.clone();
        move || DataDir::take(&surroundings, options)
    };
    let Surroundings { clock, disk, chance, blocking, .. } = surroundings;
    let data = blocking.run(taking).await.map_err(|error| DataDirError::stopped(&error))??;
    if let Some(wanted) = config.cluster_id.as_deref().filter(|wanted| *wanted != data.cluster_id()) {
        let found = data.cluster_id();
        tracing::warn!(
            wanted,
            found,
            "CLUSTER_ID is not the cluster of the data folder, which stays with its own"
        );
    }
    let quorum_config = QuorumConfig {
        dir: config.storage.metadata_log_dir(),
        node_id: node,
        cluster_id: Some(data.cluster_id().to_owned()).filter(|id| !id.is_empty()),
        directory_id: data.directory_id(),
        voters: BTreeMap::from([(node, Member::default())]),
        first_records: first_records(config, &bootstrap, part.is_none()),
        disk: disk.clone(),
        clock: clock.clone(),
        chance: chance.clone(),
        blocking: blocking.clone(),
    };
    let opening = blocking.run(move || data.open_logs().map(|logs| (data, logs)));
    // Beside the logs: neither needs the other.
    let joining = async {
        let Some((reach, formation)) = part else { return MetadataQuorum::open(quorum_config).await };
        let quorum = MetadataQuorum::open_with_others(&quorum_config, reach, formation).await?;
        side.serve(&quorum);
        match quorum.join_others(&quorum_config, cancelled).await {
            Ok(()) => Ok(quorum),
            Err(error) => {
                side.stop(Some(&quorum)).await;
                Err(error)
            }
        }
    };
    let (opened, quorum) = tokio::join!(opening, joining);
    let quorum = quorum?;
    let opened = opened.map_err(|error| DataDirError::stopped(&error)).flatten();
    let checked = opened.map_err(StartError::from).and_then(|(mut data, logs)| {
        check_nothing_missing(config, &data, &quorum)?;
        match quorum.belongs_to(data.cluster_id(), &config.storage.metadata_log_dir()) {
            Err(error) if !config.accepts_missing_data => return Err(error.into()),
            _ => {}
        }
        if let Some(id) = quorum.image().cluster_id() {
            data.join_cluster(id)?;
        }
        Ok((data, logs))
    });
    match checked {
        Ok((data, logs)) => {
            let cluster_id = data.cluster_id().into();
            Ok(Storage { data, logs, quorum, cluster_id })
        }
        Err(error) => {
            quorum.shutdown().await;
            Err(error)
        }
    }
}

/// What the metadata of a new cluster begins with: its features at their first levels, or as they were chosen; and where
/// eligible leader replicas (KIP-966) are kept, `min.insync.replicas`, which they depend on, for the whole cluster, as Kafka
/// does it.
fn first_records(config: &BrokerConfig, bootstrap: &Bootstrap, is_alone: bool) -> Vec<MetadataRecord> {
    const KEY: &str = "min.insync.replicas";
    let value = config.values.get(KEY).map_or("1", |(value, _)| value);
    let mut records = Feature::first_records(&bootstrap.features, is_alone);
    let keeps_eligible = |record: &MetadataRecord| matches!(record, MetadataRecord::FeatureLevel { name, .. } if name == ELIGIBLE_LEADER_REPLICAS_FEATURE);
    if !records.iter().any(keeps_eligible) {
        return records;
    }
    records.push(MetadataRecord::Config {
        resource: ConfigResource::all_brokers(),
        key: KEY.to_owned(),
        value: Some(value.to_owned()),
    });
    records
}

/// Refuses folders that are another's, or have lost what belongs to them.
fn check_folders(disk: &dyn Disk, config: &BrokerConfig) -> Result<(), OwnershipError> {
    let metadata_dir = &config.storage.metadata_log_dir();
    let has_metadata = raft::is_there(disk, metadata_dir)
        .map_err(|error| OwnershipError::Io { path: metadata_dir.clone(), error })?;
    ownership::check(disk, config.storage.log_dir(), metadata_dir, has_metadata, config.accepts_missing_data)
}

/// Holds data folder and metadata log to what each tells of the other.
fn check_nothing_missing(
    config: &BrokerConfig,
    data: &DataDir,
    quorum: &MetadataQuorum,
) -> Result<(), StartError> {
    let (node, image) = (NodeId(config.node.id), quorum.image());
    let missing = |what: MissingData| match config.accepts_missing_data {
        true => {
            tracing::warn!("started with --accept-missing-data: {what}");
            Ok(())
        }
        false => Err(what),
    };
    let failed = |error| DataDirError::Io { path: config.storage.log_dir().to_owned(), error };
    let noted = data.noted_metadata_index().map_err(failed)?;
    let last = quorum.last_index();
    if let Some(noted) = noted.filter(|noted| *noted > last) {
        missing(MissingData::MetadataCut { dir: config.storage.metadata_log_dir(), last, noted })?;
        data.note_metadata_index(last).map_err(failed)?;
    }
    let before = image.broker(node).map_or(&[] as &[_], |broker| &broker.log_directories);
    if let Some(expected) = before.first()
        && !before.contains(&data.directory_id())
    {
        let held = image
            .topics()
            .flat_map(|topic| topic.partitions.iter())
            .filter(|partition| partition.replicas.contains(&node));
        let partitions = held.count();
        if partitions > 0 {
            missing(MissingData::Replaced {
                dir: config.storage.log_dir().to_owned(),
                node,
                found: uuid_to_base64(data.directory_id()),
                expected: uuid_to_base64(*expected),
                partitions,
            })?;
        }
    }
    Ok(())
}
