//! DescribeQuorum (key 55, KIP-595): who leads the metadata quorum, and how far each member's copy of the
//! metadata log is.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::{leader_id, text};
use crate::protocol::guard::shapes;
use crate::protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use crate::protocol::messages::{BrokerId, DescribeQuorumRequest, DescribeQuorumResponse};
use crate::raft::ReplicaStatus;
use crate::server::Broker;
use crate::server::api::{
    AnswerNow, Answered, AnsweredBy, Api, BROKERS_AND_CONTROLLERS, Handler, Need, Operation, Request,
    Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;

pub(super) const API: Api = Api {
    shape: &shapes::DESCRIBE_QUORUM,
    versions: 0..=2,
    notes: &[
        (1, "when a member last fetched, and had caught up (KIP-836)"),
        (2, "directory ids, and where the members listen (KIP-853)"),
    ],
    served_on: BROKERS_AND_CONTROLLERS,
    answered_by: AnsweredBy::ActiveController,
    needs: &[Need(Operation::Describe, Resource::Cluster)],
    handler: Handler::now::<DescribeQuorumRequest>(),
};

error_codes!(DescribeQuorumResponse: [] [topics partitions]);

/// The name under which clients ask for the metadata log.
const METADATA_TOPIC: &str = "__cluster_metadata";

impl Answered for DescribeQuorumRequest {
    type Response = DescribeQuorumResponse;

    fn error_response(&self, version: i16, error: &WireError) -> DescribeQuorumResponse {
        let response = DescribeQuorumResponse::default().with_error_code(error.number());
        if version >= 2 { response.with_error_message(error.text()) } else { response }
    }
}

impl AnswerNow for DescribeQuorumRequest {
    fn answer(self, broker: &Arc<Broker>, request: &Request) -> DescribeQuorumResponse {
        let topics = self.topics.iter().map(|asked| {
            let partitions = asked.partitions.iter().map(|partition| {
                let index = partition.partition_index;
                if asked.topic_name.as_str() != METADATA_TOPIC || index != 0 {
                    let error = ResponseError::UnknownTopicOrPartition;
                    return PartitionData::default()
                        .with_partition_index(index)
                        .with_error_code(error.code());
                }
                describe(broker, request.version)
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
    }
}

fn describe(broker: &Broker, version: i16) -> PartitionData {
    let status = broker.quorum.status();
    let replicas = |members: &[ReplicaStatus]| {
        let states = members.iter().map(|member| {
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
        states.collect()
    };
    PartitionData::default()
        .with_partition_index(0)
        .with_leader_id(leader_id(status.leader_id))
        .with_leader_epoch(status.leader_epoch)
        .with_high_watermark(status.high_watermark)
        .with_current_voters(replicas(&status.voters))
        .with_observers(replicas(&status.observers))
}
