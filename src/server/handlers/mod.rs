//! One file per API, each with its declaration. The table here is what ApiVersions tells and what dispatch looks
//! handlers up in; `docs/developing.md` says how to add one.

mod add_raft_voter;
mod alter_configs;
mod alter_partition_reassignments;
pub mod api_versions;
mod config_changes;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod elect_leaders;
mod fetch;
mod fetch_follower;
mod find_coordinator;
mod groups;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod produce_verifying;
mod remove_raft_voter;
mod sync_group;
mod unregister_broker;
mod update_features;
mod write_txn_markers;

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::Broker;
use super::api::{Api, ListenerRole, Operation};
use super::wire_errors::absent_error;
use crate::metadata::{MetadataImage, TopicImage};
use crate::partition::Partition;
use crate::protocol::messages::{BrokerId, StrBytes, TopicName};
use crate::types::{NodeId, TopicId};

/// Every API that is served, in the order of their keys.
pub static APIS: &[Api] = &[
    produce::API,
    fetch::API,
    list_offsets::API,
    metadata::API,
    offset_commit::API,
    offset_fetch::API,
    find_coordinator::API,
    join_group::API,
    heartbeat::API,
    leave_group::API,
    sync_group::API,
    describe_groups::API,
    list_groups::API,
    api_versions::API,
    create_topics::API,
    delete_topics::API,
    delete_records::API,
    init_producer_id::API,
    offset_for_leader_epoch::API,
    write_txn_markers::API,
    describe_configs::API,
    alter_configs::API,
    describe_log_dirs::API,
    create_partitions::API,
    delete_groups::API,
    elect_leaders::API,
    incremental_alter_configs::API,
    alter_partition_reassignments::API,
    list_partition_reassignments::API,
    offset_delete::API,
    describe_quorum::API,
    update_features::API,
    describe_cluster::API,
    describe_producers::API,
    unregister_broker::API,
    list_config_resources::API,
    describe_topic_partitions::API,
    add_raft_voter::API,
    remove_raft_voter::API,
];

/// The API with this key, when it is served on listeners of this role.
pub fn find(key: i16, role: ListenerRole) -> Option<&'static Api> {
    let found = APIS.binary_search_by_key(&key, |api| api.shape.key).ok()?;
    APIS.get(found).filter(|api| api.served_on.contains(&role))
}

/// Every operation on a topic (without ACLs everybody may do all of them).
const TOPIC_OPERATIONS: i32 = Operation::bits(&[
    Operation::Read,
    Operation::Write,
    Operation::Create,
    Operation::Delete,
    Operation::Alter,
    Operation::Describe,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
]);
/// Every operation on the cluster.
const CLUSTER_OPERATIONS: i32 = Operation::bits(&[
    Operation::Create,
    Operation::Alter,
    Operation::Describe,
    Operation::ClusterAction,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
    Operation::IdempotentWrite,
]);
/// Operations were not asked for.
const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

/// Where a broker is reached.
struct Endpoint {
    id: NodeId,
    host: String,
    port: u16,
    rack: Option<String>,
}

/// Where these leaders are reached on the listener that was asked, for clients that had an old idea of them (KIP-951).
fn leader_endpoints(
    broker: &Broker,
    listener: usize,
    leaders: impl Iterator<Item = NodeId>,
) -> Vec<Endpoint> {
    let leaders: BTreeSet<NodeId> = leaders.collect();
    if leaders.is_empty() {
        return Vec::new();
    }
    let image = broker.image();
    let listener = broker.listener_names.get(listener).map_or("", String::as_str);
    let known = leaders.into_iter().filter_map(|id| image.broker(id));
    let endpoints = known.filter_map(|known| {
        let address = known.listener(listener)?;
        let (host, port) = (address.host.clone(), address.port);
        Some(Endpoint { id: known.id, host, port, rack: known.rack.clone() })
    });
    endpoints.collect()
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn broker_ids(nodes: &[NodeId]) -> Vec<BrokerId> {
    nodes.iter().map(|node| BrokerId(node.0)).collect()
}

fn node_ids(brokers: &[BrokerId]) -> Vec<NodeId> {
    brokers.iter().map(|broker| NodeId(broker.0)).collect()
}

/// The id of a leader on the wire: -1 for none.
fn leader_id(leader: Option<NodeId>) -> BrokerId {
    BrokerId(leader.map_or(-1, |leader| leader.0))
}

/// The topic with this id, or, where there is none, with this name.
fn find_topic<'a>(image: &'a MetadataImage, name: &str, id: Uuid) -> Option<&'a Arc<TopicImage>> {
    if id.is_nil() { image.topic(name) } else { image.topic_by_id(TopicId(id)) }
}

/// The partition, when this broker holds a replica of it.
fn find_partition(broker: &Broker, topic: &str, index: i32) -> Result<Arc<Partition>, ResponseError> {
    let topic = broker.partitions.topic(topic).ok_or(ResponseError::UnknownTopicOrPartition)?;
    topic.partition(index).map_err(absent_error)
}

#[cfg(test)]
mod tests;
