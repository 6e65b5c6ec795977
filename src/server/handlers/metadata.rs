//! Metadata (key 3), versions 0 to 13: brokers, topics, and who leads which partition.
//!
//! Topics by name, by id (from 12; 10 and 11 carry ids in answers), or all. A topic that is missing
//! is created where client and broker allow it (`auto.create.topics.enable`), and then answered at
//! once with its leaders, where Kafka answers with an error first.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{ApiKey, BrokerId, MetadataRequest, MetadataResponse};
use uuid::Uuid;

use super::super::Broker;
use super::super::api::{Api, Reply, Request, body, with_message};
use super::{
    CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED, TOPIC_OPERATIONS, broker_ids, later, leader_id, text,
    topic_name,
};
use crate::controller::{CreateTopics, NewTopic, validate_topic_name};
use crate::metadata::{MetadataImage, PartitionImage, TopicImage};
use crate::types::{NodeId, TopicId};

pub const API: Api = Api { key: ApiKey::Metadata, least: 0, greatest: 13, handle };

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    with_message(request, |request, message: MetadataRequest| {
        if request.version < ID_LOOKUP_SINCE && !asks_by_name_only(&message) {
            return Reply::Now(body(&refused(&message), request.version));
        }
        let missing = missing_topics(broker, &message);
        if missing.is_empty() {
            return Reply::Now(body(&response(broker, &request, &message), request.version));
        }
        let broker = broker.clone();
        later(request.version, async move {
            let topics = missing.into_iter().map(|name| NewTopic::named(name, -1)).collect();
            match broker.controller.create_topics(CreateTopics { topics, validate_only: false }).await {
                Ok(answers) => {
                    for (name, answer) in answers {
                        match answer {
                            Ok(topic) => {
                                tracing::info!(
                                    topic = name,
                                    partitions = topic.partition_count,
                                    "created a topic that a client asked for (auto.create.topics.enable)"
                                );
                            }
                            Err(error) => {
                                tracing::warn!(topic = name, %error, "a topic could not be auto-created")
                            }
                        }
                    }
                    broker.wait_applied().await;
                }
                Err(error) => tracing::warn!(%error, "topics could not be auto-created"),
            }
            response(&broker, &request, &message)
        })
    })
}

/// First version in which an answer may be without a topic's name, and topics be asked for by id.
const ID_LOOKUP_SINCE: i16 = 12;

fn asks_by_name_only(message: &MetadataRequest) -> bool {
    message.topics.iter().flatten().all(|topic| topic.topic_id.is_nil() && topic.name.is_some())
}

/// Kafka's answer to a request that asks for what its version cannot: nothing but the error.
fn refused(message: &MetadataRequest) -> MetadataResponse {
    let topics = message.topics.iter().flatten().map(|topic| {
        MetadataResponseTopic::default()
            .with_error_code(ResponseError::InvalidRequest.code())
            .with_name(Some(topic.name.clone().unwrap_or_default()))
            .with_topic_id(topic.topic_id)
            .with_topic_authorized_operations(OPERATIONS_NOT_ASKED)
    });
    MetadataResponse::default()
        .with_cluster_id(None)
        .with_controller_id(BrokerId(-1))
        .with_topics(topics.collect())
}

/// Names that are asked for, not there, and allowed to be created.
fn missing_topics(broker: &Broker, message: &MetadataRequest) -> Vec<String> {
    if !broker.config.auto_create_topics || !message.allow_auto_topic_creation {
        return Vec::new();
    }
    let image = broker.image();
    let mut missing: Vec<String> = message
        .topics
        .iter()
        .flatten()
        .filter(|topic| topic.topic_id.is_nil())
        .filter_map(|topic| topic.name.as_ref())
        .filter(|name| image.topic(name).is_none() && validate_topic_name(name).is_ok())
        .map(|name| name.to_string())
        .collect();
    missing.sort();
    missing.dedup();
    missing
}

fn response(broker: &Broker, request: &Request, message: &MetadataRequest) -> MetadataResponse {
    let image = broker.image();
    let listener = broker.listener_names.get(request.listener).map_or("", String::as_str);
    let brokers = image.brokers().values().filter(|known| !known.fenced).filter_map(|known| {
        let address = known.listener(listener)?;
        let told = MetadataResponseBroker::default()
            .with_node_id(BrokerId(known.id.0))
            .with_host(text(&address.host))
            .with_port(i32::from(address.port))
            .with_rack(known.rack.as_deref().map(text));
        Some(told)
    });
    let operations =
        if message.include_topic_authorized_operations { TOPIC_OPERATIONS } else { OPERATIONS_NOT_ASKED };
    let all = message.topics.is_none()
        || (request.version == 0 && message.topics.iter().flatten().next().is_none());
    let topics = if all {
        image.topics().map(|topic| described(broker, &image, topic, operations)).collect()
    } else {
        // Who asks twice is told once, as by Kafka.
        let mut seen = std::collections::HashSet::new();
        let asked = message.topics.iter().flatten();
        asked
            .filter(|topic| seen.insert((topic.name.as_ref().map(|name| name.as_str()), topic.topic_id)))
            .map(|topic| {
                asked_topic(
                    broker,
                    &image,
                    topic.name.as_ref().map(|name| name.as_str()),
                    topic.topic_id,
                    operations,
                )
            })
            .collect()
    };
    let response = MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(text(&broker.cluster_id)))
        .with_controller_id(leader_id(broker.quorum.leader()))
        .with_topics(topics);
    match message.include_cluster_authorized_operations {
        true => response.with_cluster_authorized_operations(CLUSTER_OPERATIONS),
        false => response,
    }
}

fn asked_topic(
    broker: &Broker,
    image: &MetadataImage,
    name: Option<&str>,
    id: Uuid,
    operations: i32,
) -> MetadataResponseTopic {
    let failed = |error: ResponseError| {
        MetadataResponseTopic::default()
            .with_error_code(error.code())
            .with_name(name.filter(|_| id.is_nil()).map(topic_name))
            .with_topic_id(id)
            .with_topic_authorized_operations(OPERATIONS_NOT_ASKED)
    };
    match name {
        // An id of zero is none; beside any other, clients leave the name empty.
        Some(name) if id.is_nil() => match image.topic(name) {
            Some(topic) => described(broker, image, topic, operations),
            None if validate_topic_name(name).is_err() => failed(ResponseError::InvalidTopicException),
            None => failed(ResponseError::UnknownTopicOrPartition),
        },
        _ => match image.topic_by_id(TopicId(id)) {
            Some(topic) => described(broker, image, topic, operations),
            None => failed(ResponseError::UnknownTopicId),
        },
    }
}

fn described(
    broker: &Broker,
    image: &MetadataImage,
    topic: &TopicImage,
    operations: i32,
) -> MetadataResponseTopic {
    let partitions = (0..).zip(&topic.partitions).map(|(index, partition)| {
        let health = Health::of(image, partition, here(broker, topic.id, index));
        MetadataResponsePartition::default()
            .with_error_code(health.error_code)
            .with_partition_index(index)
            .with_leader_id(leader_id(health.leader))
            .with_leader_epoch(partition.leader_epoch.0)
            .with_replica_nodes(broker_ids(&partition.replicas))
            .with_isr_nodes(broker_ids(&partition.isr))
            .with_offline_replicas(broker_ids(&health.offline_replicas))
    });
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(topic.id.0)
        .with_is_internal(topic.is_internal())
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(operations)
}

/// This node, where it should hold the partition and cannot open its log.
pub fn here(broker: &Broker, topic: TopicId, index: i32) -> Option<NodeId> {
    broker.partitions.is_offline(topic, index).then_some(broker.node)
}

/// Which of a partition's replicas can be asked.
pub struct Health {
    /// 0 when it has a leader that answers.
    pub error_code: i16,
    /// Also one that is fenced: clients are told of it, with the error.
    pub leader: Option<NodeId>,
    pub offline_replicas: Vec<NodeId>,
}

impl Health {
    /// `without_log`: a node whose log of the partition cannot be opened. The controller may still name it
    /// the leader.
    pub fn of(image: &MetadataImage, partition: &PartitionImage, without_log: Option<NodeId>) -> Self {
        let is_offline = |node: &NodeId| {
            Some(*node) == without_log || image.broker(*node).is_none_or(|known| known.fenced)
        };
        let answers = partition.leader.is_some_and(|leader| !is_offline(&leader));
        Self {
            error_code: if answers { 0 } else { ResponseError::LeaderNotAvailable.code() },
            leader: partition.leader.filter(|leader| Some(*leader) != without_log),
            offline_replicas: partition.replicas.iter().filter(|node| is_offline(node)).copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
    use kafka_protocol::protocol::Encodable;

    use super::*;

    #[test]
    fn topics_asked_for_by_id_in_versions_without_it_are_refused_readably() {
        let by_id = MetadataRequestTopic::default().with_name(None).with_topic_id(Uuid::from_u128(7));
        let message = MetadataRequest::default().with_topics(Some(vec![by_id]));
        assert!(!asks_by_name_only(&message));
        for version in 0..ID_LOOKUP_SINCE {
            let refused = refused(&message);
            assert_eq!(refused.topics[0].name, Some(topic_name("")), "null cannot be read");
            let mut bytes = bytes::BytesMut::new();
            refused.encode(&mut bytes, version).unwrap();
        }
        assert!(asks_by_name_only(&MetadataRequest::default().with_topics(None)));
    }
}
