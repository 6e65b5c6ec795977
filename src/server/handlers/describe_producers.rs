//! DescribeProducers (key 61, KIP-664): the producers that a partition remembers.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::find_partition;
use crate::partition::Partition;
use crate::protocol::guard::shapes;
use crate::protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use crate::protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};
use crate::server::Broker;
use crate::server::api::{
    AnswerNow, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;

pub(super) const API: Api = Api {
    shape: &shapes::DESCRIBE_PRODUCERS,
    versions: 0..=0,
    notes: &[],
    served_on: BROKERS,
    answered_by: AnsweredBy::PartitionLeader,
    needs: &[Need(Operation::Read, Resource::Topic)],
    handler: Handler::now::<DescribeProducersRequest>(),
};

error_codes!(DescribeProducersResponse: [topics partitions]);

impl Answered for DescribeProducersRequest {
    type Response = DescribeProducersResponse;

    fn error_response(&self, _: i16, error: &WireError) -> DescribeProducersResponse {
        to_response(self, |_, _| Err(error.clone()))
    }
}

impl AnswerNow for DescribeProducersRequest {
    fn answer(self, broker: &Arc<Broker>, _: &Request) -> DescribeProducersResponse {
        to_response(&self, |topic, index| {
            let describe = || match find_partition(broker, topic, index)? {
                partition if partition.is_leader() => Ok(to_producers(&partition)),
                _ => Err(ResponseError::NotLeaderOrFollower),
            };
            describe().map_err(|error: ResponseError| WireError::new(error, error.to_string()))
        })
    }
}

fn to_response(
    request: &DescribeProducersRequest,
    describe: impl Fn(&str, i32) -> Result<Vec<ProducerState>, WireError>,
) -> DescribeProducersResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let response = PartitionResponse::default().with_partition_index(*index);
            match describe(&topic.name, *index) {
                Ok(producers) => response.with_active_producers(producers),
                Err(error) => response.with_error_code(error.number()).with_error_message(error.text()),
            }
        });
        TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn to_producers(partition: &Partition) -> Vec<ProducerState> {
    let producers = partition.log.producers().into_iter().map(|producer| {
        let transaction_start = producer.current_transaction_start.map_or(-1, |offset| offset.0);
        ProducerState::default()
            .with_producer_id(ProducerId(producer.producer_id.0))
            .with_producer_epoch(i32::from(producer.producer_epoch))
            .with_last_sequence(producer.last_sequence)
            .with_last_timestamp(producer.last_timestamp)
            .with_coordinator_epoch(producer.coordinator_epoch.0)
            .with_current_txn_start_offset(transaction_start)
    });
    producers.collect()
}
