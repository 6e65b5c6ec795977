//! ListPartitionReassignments (key 46, KIP-455): the reassignments that are under way, as this node knows them.

use std::sync::Arc;

use super::{broker_ids, topic_name};
use crate::controller::ongoing_reassignments;
use crate::protocol::guard::shapes;
use crate::protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use crate::protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerNow, Answered, AnsweredBy, Api, BROKERS_AND_CONTROLLERS, Handler, Need, Operation, Request,
    Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;

pub(super) const API: Api = Api {
    shape: &shapes::LIST_PARTITION_REASSIGNMENTS,
    versions: 0..=0,
    notes: &[],
    served_on: BROKERS_AND_CONTROLLERS,
    answered_by: AnsweredBy::AnyBroker,
    needs: &[Need(Operation::Describe, Resource::Cluster)],
    handler: Handler::now::<ListPartitionReassignmentsRequest>(),
};

error_codes!(ListPartitionReassignmentsResponse: []);

impl Answered for ListPartitionReassignmentsRequest {
    type Response = ListPartitionReassignmentsResponse;

    fn error_response(&self, _: i16, error: &WireError) -> ListPartitionReassignmentsResponse {
        ListPartitionReassignmentsResponse::default()
            .with_error_code(error.number())
            .with_error_message(error.text())
    }
}

impl AnswerNow for ListPartitionReassignmentsRequest {
    fn answer(self, broker: &Arc<Broker>, _: &Request) -> ListPartitionReassignmentsResponse {
        let asked: Option<Vec<_>> = self.topics.as_ref().map(|topics| {
            let of = |topic: &crate::protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics| {
                let name = topic.name.to_string();
                topic.partition_indexes.iter().map(move |index| (name.clone(), *index)).collect::<Vec<_>>()
            };
            topics.iter().flat_map(of).collect()
        });
        let mut topics: Vec<OngoingTopicReassignment> = Vec::new();
        for ((topic, index), ongoing) in ongoing_reassignments(&broker.image(), asked.as_deref()) {
            let partition = OngoingPartitionReassignment::default()
                .with_partition_index(index)
                .with_replicas(broker_ids(&ongoing.replicas))
                .with_adding_replicas(broker_ids(&ongoing.adding))
                .with_removing_replicas(broker_ids(&ongoing.removing));
            match topics.last_mut() {
                Some(last) if last.name.as_str() == topic => last.partitions.push(partition),
                _ => topics.push(
                    OngoingTopicReassignment::default()
                        .with_name(topic_name(&topic))
                        .with_partitions(vec![partition]),
                ),
            }
        }
        ListPartitionReassignmentsResponse::default().with_topics(topics)
    }
}
