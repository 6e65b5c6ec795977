//! DescribeTopicPartitions (key 75, KIP-966): topics page by page, with eligible leader replicas.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::metadata::{Health, Here, here};
use super::{TOPIC_OPERATIONS, broker_ids, leader_id, topic_name};
use crate::controller::validate_topic_name;
use crate::metadata::{MetadataImage, PartitionImage, TopicImage};
use crate::protocol::guard::shapes;
use crate::protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use crate::protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerNow, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;
use crate::types::TopicId;

pub(super) const API: Api = Api {
    shape: &shapes::DESCRIBE_TOPIC_PARTITIONS,
    versions: 0..=0,
    notes: &[],
    served_on: BROKERS,
    answered_by: AnsweredBy::AnyBroker,
    needs: &[Need(Operation::Describe, Resource::Topic)],
    handler: Handler::now::<DescribeTopicPartitionsRequest>(),
};

error_codes!(DescribeTopicPartitionsResponse: [topics] [topics partitions]);

impl Answered for DescribeTopicPartitionsRequest {
    type Response = DescribeTopicPartitionsResponse;

    fn error_response(&self, _: i16, error: &WireError) -> DescribeTopicPartitionsResponse {
        let topics = self.topics.iter().map(|topic| error_topic(&topic.name, error.code));
        DescribeTopicPartitionsResponse::default().with_topics(topics.collect())
    }
}

impl AnswerNow for DescribeTopicPartitionsRequest {
    fn answer(self, broker: &Arc<Broker>, _: &Request) -> DescribeTopicPartitionsResponse {
        let here = |topic, index, partition: &PartitionImage| here(broker, topic, index, partition);
        page(&broker.image(), &here, &self, broker.config.requests.partition_limit)
    }
}

/// What this node knows better of a partition than the image.
type Known<'a> = &'a dyn Fn(TopicId, i32, &PartitionImage) -> Here;

fn page(
    image: &MetadataImage,
    known: Known<'_>,
    message: &DescribeTopicPartitionsRequest,
    limit_max: i32,
) -> DescribeTopicPartitionsResponse {
    let (first_topic, first_partition) = message
        .cursor
        .as_ref()
        .map_or(("", 0), |cursor| (cursor.topic_name.as_str(), cursor.partition_index.max(0)));
    // No names is all topics.
    let names: Vec<Arc<str>> = if message.topics.is_empty() {
        image.topics_from(first_topic).map(|topic| topic.name.clone()).collect()
    } else {
        let asked: BTreeSet<&str> = message.topics.iter().map(|topic| topic.name.as_str()).collect();
        asked.into_iter().filter(|name| *name >= first_topic).map(Arc::from).collect()
    };
    let mut left = usize::try_from(message.response_partition_limit.clamp(1, limit_max.max(1))).unwrap_or(1);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names {
        let from = if *name == *first_topic { first_partition } else { 0 };
        if left == 0 {
            return response.with_next_cursor(Some(cursor(&name, from)));
        }
        let Some(topic) = image.topic(&name) else {
            let error = match validate_topic_name(&name) {
                Ok(()) => ResponseError::UnknownTopicOrPartition,
                Err(_) => ResponseError::InvalidTopicException,
            };
            response.topics.push(error_topic(&name, error));
            continue;
        };
        let from = usize::try_from(from).unwrap_or_default();
        let to = topic.partitions.len().min(from.saturating_add(left));
        response.topics.push(describe(image, known, topic, from, to));
        left -= to.saturating_sub(from);
        if to < topic.partitions.len() {
            let index = i32::try_from(to).unwrap_or(i32::MAX);
            return response.with_next_cursor(Some(cursor(&name, index)));
        }
    }
    response
}

fn error_topic(name: &str, error: ResponseError) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(error.code())
        .with_name(Some(topic_name(name)))
}

fn cursor(topic: &str, partition_index: i32) -> Cursor {
    Cursor::default().with_topic_name(topic_name(topic)).with_partition_index(partition_index)
}

fn describe(
    image: &MetadataImage,
    known: Known<'_>,
    topic: &TopicImage,
    from: usize,
    to: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let described = (0..).zip(&topic.partitions).take(to).skip(from).map(|(index, partition)| {
        let health = Health::of(image, partition, known(topic.id, index, partition));
        DescribeTopicPartitionsResponsePartition::default()
            .with_error_code(health.error_code)
            .with_partition_index(index)
            .with_leader_id(leader_id(health.leader))
            .with_leader_epoch(partition.leader_epoch.0)
            .with_replica_nodes(broker_ids(&partition.replicas))
            .with_isr_nodes(broker_ids(&partition.isr))
            .with_eligible_leader_replicas(Some(broker_ids(&partition.eligible_leader_replicas)))
            .with_last_known_elr(Some(broker_ids(&partition.last_known_eligible_leader_replicas)))
            .with_offline_replicas(broker_ids(&health.offline_replicas))
    });
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(topic.id.0)
        .with_is_internal(topic.is_internal())
        .with_partitions(described.collect())
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::describe_topic_partitions_request::TopicRequest;

    #[test]
    fn a_limit_of_nothing_known_tells_what_is_unknown() {
        let asked = |name: &str| TopicRequest::default().with_name(topic_name(name));
        let message = DescribeTopicPartitionsRequest::default()
            .with_topics(vec![asked("b"), asked("a b"), asked("b")])
            .with_response_partition_limit(1);
        let response = page(&MetadataImage::default(), &|_, _, _| Here::Nothing, &message, 2000);
        let found: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
        let codes = [ResponseError::InvalidTopicException, ResponseError::UnknownTopicOrPartition];
        assert_eq!(found, codes.map(|error| error.code()));
        assert!(response.next_cursor.is_none());
    }
}
