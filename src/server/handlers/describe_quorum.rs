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
use crate::raft::{QuorumStatus, ReplicaStatus};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS_AND_CONTROLLERS, Handler, Need, Operation, Request,
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
    handler: Handler::later::<DescribeQuorumRequest>(),
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

impl AnswerLater for DescribeQuorumRequest {
    fn answer_now(&self, broker: &Arc<Broker>, request: &Request) -> Option<DescribeQuorumResponse> {
        let status = broker.quorum.status();
        (status.leader_id == Some(broker.node)).then(|| answer(self, Some(&status), broker, request.version))
    }

    /// Only the leader knows how far the others are.
    async fn answer(self, broker: Arc<Broker>, request: Request) -> DescribeQuorumResponse {
        let status = broker.quorum.leaders_status().await;
        answer(&self, status.as_ref(), &broker, request.version)
    }
}

/// The answer; without a status nobody leads, and whoever asks asks again.
fn answer(
    request: &DescribeQuorumRequest,
    status: Option<&QuorumStatus>,
    broker: &Broker,
    version: i16,
) -> DescribeQuorumResponse {
    let topics = request.topics.iter().map(|asked| {
        let partitions = asked.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let refused = |error: ResponseError| {
                PartitionData::default().with_partition_index(index).with_error_code(error.code())
            };
            if asked.topic_name.as_str() != METADATA_TOPIC || index != 0 {
                return refused(ResponseError::UnknownTopicOrPartition);
            }
            match status {
                Some(status) => describe(status, broker, version),
                None => refused(ResponseError::NotLeaderOrFollower),
            }
        });
        TopicData::default().with_topic_name(asked.topic_name.clone()).with_partitions(partitions.collect())
    });
    let response = DescribeQuorumResponse::default().with_topics(topics.collect());
    match status {
        Some(status) if version >= 2 => response.with_nodes(controllers(status, broker)),
        _ => response,
    }
}

/// Where the controllers are. One that is alone has no listener of its own for them: clients' will do.
fn controllers(status: &QuorumStatus, broker: &Broker) -> Vec<Node> {
    let listener = |name: &str, host: &str, port: u16| {
        Listener::default().with_name(text(name)).with_host(text(host)).with_port(port)
    };
    let image = broker.image();
    let nodes = status.voters.iter().map(|voter| {
        let mut listeners: Vec<_> =
            voter.endpoints.iter().map(|one| listener(&one.name, &one.host, one.port)).collect();
        if listeners.is_empty()
            && let Some(known) = image.broker(voter.id)
        {
            listeners.extend(known.listeners.iter().map(|one| listener(&one.name, &one.host, one.port)));
        }
        Node::default().with_node_id(BrokerId(voter.id.0)).with_listeners(listeners)
    });
    nodes.collect()
}

fn describe(status: &QuorumStatus, broker: &Broker, version: i16) -> PartitionData {
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
            let own = || (member.id == broker.node).then(|| broker.partitions.data.directory_id());
            match member.directory_id.or_else(own) {
                Some(directory_id) if version >= 2 => state.with_replica_directory_id(directory_id),
                _ => state,
            }
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
