//! AlterPartitionReassignments (key 45, KIP-455): where replicas shall be. The answer comes once the reassignment is
//! decided and this node follows it; the moving goes on behind it.

use std::sync::Arc;

use super::{node_ids, topic_name};
use crate::controller::{AlterPartitionReassignments, Reassignment};
use crate::protocol::guard::shapes;
use crate::protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use crate::protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS_AND_CONTROLLERS, Handler, Need, Operation, Request,
    Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;

pub(super) const API: Api = Api {
    shape: &shapes::ALTER_PARTITION_REASSIGNMENTS,
    versions: 0..=1,
    notes: &[(1, "may refuse to change the number of replicas (KIP-860)")],
    served_on: BROKERS_AND_CONTROLLERS,
    answered_by: AnsweredBy::ActiveController,
    needs: &[Need(Operation::Alter, Resource::Cluster)],
    handler: Handler::later::<AlterPartitionReassignmentsRequest>(),
};

error_codes!(AlterPartitionReassignmentsResponse: [] [responses partitions]);

impl Answered for AlterPartitionReassignmentsRequest {
    type Response = AlterPartitionReassignmentsResponse;

    fn error_response(&self, _: i16, error: &WireError) -> AlterPartitionReassignmentsResponse {
        AlterPartitionReassignmentsResponse::default()
            .with_error_code(error.number())
            .with_error_message(error.text())
    }
}

impl AnswerLater for AlterPartitionReassignmentsRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> AlterPartitionReassignmentsResponse {
        let partitions = self.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| Reassignment {
                partition: (topic.name.to_string(), partition.partition_index),
                target: partition.replicas.as_deref().map(node_ids),
            })
        });
        let reassignments = AlterPartitionReassignments {
            partitions: partitions.collect(),
            allows_other_count: self.allow_replication_factor_change,
        };
        let controller = broker.controller.within_ms(self.timeout_ms);
        let answers = match controller.alter_partition_reassignments(reassignments).await {
            Ok(answers) => answers,
            Err(error) => return self.error_response(request.version, &error.into()),
        };
        broker.wait_applied().await;
        // In the order of the request.
        let mut topics: Vec<ReassignableTopicResponse> = Vec::new();
        for ((topic, index), answer) in answers {
            let error = answer.err().map(WireError::from);
            let result = ReassignablePartitionResponse::default()
                .with_partition_index(index)
                .with_error_code(error.as_ref().map_or(0, WireError::number))
                .with_error_message(error.as_ref().and_then(WireError::text));
            match topics.last_mut() {
                Some(last) if last.name.as_str() == topic => last.partitions.push(result),
                _ => topics.push(
                    ReassignableTopicResponse::default()
                        .with_name(topic_name(&topic))
                        .with_partitions(vec![result]),
                ),
            }
        }
        AlterPartitionReassignmentsResponse::default()
            .with_allow_replication_factor_change(self.allow_replication_factor_change)
            .with_responses(topics)
    }
}
