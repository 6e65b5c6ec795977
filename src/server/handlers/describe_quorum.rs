//! DescribeQuorum (key 55), versions 0 to 2: who leads the metadata quorum, and how far each member's
//! copy of the metadata log is.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use kafka_protocol::messages::{ApiKey, BrokerId, DescribeQuorumRequest, DescribeQuorumResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, answer};
use super::{leader_id, text};
use crate::raft::ReplicaStatus;

pub const API: Api = Api { key: ApiKey::DescribeQuorum, least: 0, greatest: 2, handle };

/// The name under which clients ask for the metadata log.
const METADATA_TOPIC: &str = "__cluster_metadata";

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    answer(request, |request, message: DescribeQuorumRequest| {
        let topics = message.topics.iter().map(|asked| {
            let partitions = asked.partitions.iter().map(|partition| {
                let index = partition.partition_index;
                if asked.topic_name.as_str() != METADATA_TOPIC || index != 0 {
                    let error = ResponseError::UnknownTopicOrPartition;
                    return PartitionData::default()
                        .with_partition_index(index)
                        .with_error_code(error.code());
                }
                described(broker, request.version)
            });
            TopicData::default()
                .with_topic_name(asked.topic_name.clone())
                .with_partitions(partitions.collect())
        });
        let response = DescribeQuorumResponse::default().with_topics(topics.collect());
        if request.version < 2 {
            return response;
        }
        let image = broker.image();
        let nodes = image.brokers().values().map(|known| {
            let listeners = known.listeners.iter().map(|listener| {
                Listener::default()
                    .with_name(text(&listener.name))
                    .with_host(text(&listener.host))
                    .with_port(listener.port)
            });
            Node::default().with_node_id(BrokerId(known.id.0)).with_listeners(listeners.collect())
        });
        response.with_nodes(nodes.collect())
    })
}

fn described(broker: &Broker, version: i16) -> PartitionData {
    let status = broker.quorum.status();
    let replicas = |members: &[ReplicaStatus]| {
        let told = members.iter().map(|member| {
            let state = ReplicaState::default()
                .with_replica_id(BrokerId(member.id.0))
                .with_log_end_offset(member.log_end_offset);
            let state = if version >= 1 {
                state
                    .with_last_fetch_timestamp(member.last_fetch_ms)
                    .with_last_caught_up_timestamp(member.last_caught_up_ms)
            } else {
                state
            };
            if version >= 2 && member.id == broker.node {
                return state.with_replica_directory_id(broker.partitions.data.directory_id());
            }
            state
        });
        told.collect()
    };
    PartitionData::default()
        .with_partition_index(0)
        .with_leader_id(leader_id(status.leader_id))
        .with_leader_epoch(status.leader_epoch)
        .with_high_watermark(status.high_watermark)
        .with_current_voters(replicas(&status.voters))
        .with_observers(replicas(&status.observers))
}
