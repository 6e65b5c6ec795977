//! DescribeProducers (key 61), version 0 (KIP-664): the producers that a partition remembers.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{ApiKey, DescribeProducersRequest, DescribeProducersResponse, ProducerId};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, answer};
use super::{absent_error, text};

pub const API: Api = Api { key: ApiKey::DescribeProducers, least: 0, greatest: 0, handle };

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    answer(request, |_, message: DescribeProducersRequest| {
        let topics = message.topics.iter().map(|asked| {
            let topic = broker.partitions.topic(&asked.name);
            let partitions = asked.partition_indexes.iter().map(|index| {
                let response = PartitionResponse::default().with_partition_index(*index);
                let failed = |error: ResponseError| {
                    let message = Some(text(&error.to_string()));
                    PartitionResponse::default()
                        .with_partition_index(*index)
                        .with_error_code(error.code())
                        .with_error_message(message)
                };
                let Some(topic) = &topic else { return failed(ResponseError::UnknownTopicOrPartition) };
                let partition = match topic.partition(*index) {
                    Ok(partition) => partition,
                    Err(absent) => return failed(absent_error(absent)),
                };
                if !partition.is_leader() {
                    return failed(ResponseError::NotLeaderOrFollower);
                }
                let producers = partition.log.producers().into_iter().map(|producer| {
                    ProducerState::default()
                        .with_producer_id(ProducerId(producer.producer_id.0))
                        .with_producer_epoch(i32::from(producer.producer_epoch))
                        .with_last_sequence(producer.last_sequence)
                        .with_last_timestamp(producer.last_timestamp)
                        .with_coordinator_epoch(producer.coordinator_epoch.0)
                        .with_current_txn_start_offset(
                            producer.current_transaction_start.map_or(-1, |offset| offset.0),
                        )
                });
                response.with_active_producers(producers.collect())
            });
            TopicResponse::default().with_name(asked.name.clone()).with_partitions(partitions.collect())
        });
        DescribeProducersResponse::default().with_topics(topics.collect())
    })
}
