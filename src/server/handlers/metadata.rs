//! Metadata (key 3): brokers, topics, and who leads which partition.
//!
//! A topic that is missing is created where client and broker allow it (`auto.create.topics.enable`), and then
//! answered at once with its leaders, where Kafka answers with an error first.
//!
//! A partition that this node is to lead is shown with a leader once it takes records here, and with
//! LEADER_NOT_AVAILABLE before: a client that is told of a leader writes to it at once.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::{
    CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED, TOPIC_OPERATIONS, broker_ids, leader_id, text, topic_name,
};
use crate::controller::{CreateTopics, NewTopic, validate_topic_name};
use crate::metadata::{MetadataImage, PartitionImage, TopicImage};
use crate::protocol::guard::shapes;
use crate::protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::messages::{BrokerId, MetadataRequest, MetadataResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;
use crate::types::{NodeId, TopicId};

pub(super) const API: Api = Api {
    shape: &shapes::METADATA,
    versions: 0..=13,
    notes: &[
        (4, "a client may forbid that missing topics are created"),
        (8, "what the client may do"),
        (10, "answers with topic ids (KIP-516)"),
        (12, "topics by name or by id"),
        (13, "an error of the whole answer"),
    ],
    served_on: BROKERS,
    answered_by: AnsweredBy::AnyBroker,
    // The others for topics that are missing and may be created.
    needs: &[
        Need(Operation::Describe, Resource::Topic),
        Need(Operation::Create, Resource::Topic),
        Need(Operation::Create, Resource::Cluster),
    ],
    handler: Handler::later::<MetadataRequest>(),
};

error_codes!(MetadataResponse: [topics] [topics partitions]);

impl Answered for MetadataRequest {
    type Response = MetadataResponse;

    fn error_response(&self, _: i16, error: &WireError) -> MetadataResponse {
        let topics = self.topics.iter().flatten().map(|topic| {
            MetadataResponseTopic::default()
                .with_error_code(error.number())
                .with_name(Some(topic.name.clone().unwrap_or_default()))
                .with_topic_id(topic.topic_id)
                .with_topic_authorized_operations(OPERATIONS_NOT_ASKED)
        });
        MetadataResponse::default()
            .with_cluster_id(None)
            .with_controller_id(BrokerId(-1))
            .with_topics(topics.collect())
    }
}

impl AnswerLater for MetadataRequest {
    fn answer_now(&self, broker: &Arc<Broker>, request: &Request) -> Option<MetadataResponse> {
        if request.version < ID_LOOKUP && !asks_by_name_only(self) {
            return Some(self.error_response(request.version, &ResponseError::InvalidRequest.into()));
        }
        let is_all_there = missing_topics(broker, self).is_empty();
        is_all_there.then(|| to_response(broker, request, self))
    }

    async fn answer(self, broker: Arc<Broker>, request: Request) -> MetadataResponse {
        let missing = missing_topics(&broker, &self);
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
        to_response(&broker, &request, &self)
    }
}

/// First version in which an answer may be without a topic's name, and topics be asked for by id.
const ID_LOOKUP: i16 = 12;

fn asks_by_name_only(message: &MetadataRequest) -> bool {
    message.topics.iter().flatten().all(|topic| topic.topic_id.is_nil() && topic.name.is_some())
}

/// Names that are asked for, not there, and allowed to be created.
fn missing_topics(broker: &Broker, message: &MetadataRequest) -> Vec<String> {
    if !broker.config.topics.auto_create || !message.allow_auto_topic_creation {
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

fn to_response(broker: &Broker, request: &Request, message: &MetadataRequest) -> MetadataResponse {
    let image = broker.image();
    let listener = broker.listener_names.get(request.listener).map_or("", String::as_str);
    let brokers = image.brokers().values().filter(|known| !known.fenced).filter_map(|known| {
        let address = known.listener(listener)?;
        let described = MetadataResponseBroker::default()
            .with_node_id(BrokerId(known.id.0))
            .with_host(text(&address.host))
            .with_port(i32::from(address.port))
            .with_rack(known.rack.as_deref().map(text));
        Some(described)
    });
    let operations =
        if message.include_topic_authorized_operations { TOPIC_OPERATIONS } else { OPERATIONS_NOT_ASKED };
    let all = message.topics.is_none()
        || (request.version == 0 && message.topics.iter().flatten().next().is_none());
    let topics = if all {
        image.topics().map(|topic| describe(broker, &image, topic, operations)).collect()
    } else {
        // What is asked for twice is answered once, as by Kafka.
        let mut seen = std::collections::HashSet::new();
        let asked = message.topics.iter().flatten();
        asked
            .filter(|topic| seen.insert((topic.name.as_ref().map(|name| name.as_str()), topic.topic_id)))
            .map(|topic| {
                find(
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
        .with_controller_id(leader_id(broker.shown_controller()))
        .with_topics(topics);
    match message.include_cluster_authorized_operations {
        true => response.with_cluster_authorized_operations(CLUSTER_OPERATIONS),
        false => response,
    }
}

fn find(
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
            Some(topic) => describe(broker, image, topic, operations),
            None if validate_topic_name(name).is_err() => failed(ResponseError::InvalidTopicException),
            None => failed(ResponseError::UnknownTopicOrPartition),
        },
        _ => match image.topic_by_id(TopicId(id)) {
            Some(topic) => describe(broker, image, topic, operations),
            None => failed(ResponseError::UnknownTopicId),
        },
    }
}

fn describe(
    broker: &Broker,
    image: &MetadataImage,
    topic: &TopicImage,
    operations: i32,
) -> MetadataResponseTopic {
    let partitions = (0..).zip(&topic.partitions).map(|(index, partition)| {
        let health = Health::of(image, partition, here(broker, topic.id, index, partition));
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

/// What this node knows better of a partition than the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Here {
    Nothing,
    /// It should hold the partition and cannot open its log.
    WithoutLog(NodeId),
    /// It is to lead, and has not begun to: who came now would be refused.
    NotYet(NodeId),
}

pub(super) fn here(broker: &Broker, topic: TopicId, index: i32, partition: &PartitionImage) -> Here {
    let node = broker.node;
    if broker.partitions.is_offline(topic, index) {
        Here::WithoutLog(node)
    } else if partition.leader == Some(node)
        && !broker.partitions.takes_records(topic, index, partition.leader_epoch)
    {
        Here::NotYet(node)
    } else {
        Here::Nothing
    }
}

/// Which of a partition's replicas can be asked.
pub(super) struct Health {
    /// 0 when it has a leader that answers.
    pub error_code: i16,
    /// Also one that is fenced: clients are told of it, with the error.
    pub leader: Option<NodeId>,
    pub offline_replicas: Vec<NodeId>,
}

impl Health {
    /// As the image says, but for what is known `here` of this node, which the controller may still name the leader.
    pub(super) fn of(image: &MetadataImage, partition: &PartitionImage, here: Here) -> Self {
        let is_offline = |node: &NodeId| {
            here == Here::WithoutLog(*node) || image.broker(*node).is_none_or(|known| known.fenced)
        };
        let leads = |leader: &NodeId| here != Here::NotYet(*leader) && here != Here::WithoutLog(*leader);
        let answers = partition.leader.is_some_and(|leader| leads(&leader) && !is_offline(&leader));
        Self {
            error_code: if answers { 0 } else { ResponseError::LeaderNotAvailable.code() },
            leader: partition.leader.filter(leads),
            offline_replicas: partition.replicas.iter().filter(|node| is_offline(node)).copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages;
    use crate::protocol::messages::metadata_request::MetadataRequestTopic;

    #[test]
    fn a_leader_is_shown_when_it_takes_records() {
        let node = NodeId(1);
        let registration = crate::metadata::RegisterBroker {
            broker_id: node,
            incarnation_id: Uuid::from_u128(1),
            broker_epoch: 1,
            listeners: Vec::new(),
            rack: None,
            log_directories: Vec::new(),
            fenced: false,
            in_controlled_shutdown: false,
            features: Default::default(),
        };
        let records = [crate::metadata::MetadataRecord::RegisterBroker(registration)];
        let image = MetadataImage::default().with(&records).unwrap();
        let partition = PartitionImage {
            replicas: vec![node],
            isr: vec![node],
            leader: Some(node),
            leader_epoch: crate::types::LeaderEpoch(3),
            partition_epoch: 3,
            eligible_leader_replicas: Vec::new(),
            last_known_eligible_leader_replicas: Vec::new(),
            adding_replicas: Vec::new(),
            removing_replicas: Vec::new(),
            recovering: false,
            heir: None,
        };
        let told = |here| {
            let health = Health::of(&image, &partition, here);
            (health.error_code, health.leader, health.offline_replicas.len())
        };
        let not_available = ResponseError::LeaderNotAvailable.code();
        assert_eq!(told(Here::Nothing), (0, Some(node), 0));
        assert_eq!(told(Here::NotYet(node)), (not_available, None, 0));
        assert_eq!(told(Here::NotYet(NodeId(2))), (0, Some(node), 0));
        assert_eq!(told(Here::WithoutLog(node)), (not_available, None, 1));
    }

    #[test]
    fn topics_asked_for_by_id_in_versions_without_it_are_refused_readably() {
        let by_id = MetadataRequestTopic::default().with_name(None).with_topic_id(Uuid::from_u128(7));
        let message = MetadataRequest::default().with_topics(Some(vec![by_id]));
        assert!(!asks_by_name_only(&message));
        for version in 0..ID_LOOKUP {
            let refused = message.error_response(version, &ResponseError::InvalidRequest.into());
            assert_eq!(refused.topics[0].name, Some(topic_name("")), "null cannot be read");
            messages::encode(&refused, version).unwrap();
        }
        assert!(asks_by_name_only(&MetadataRequest::default().with_topics(None)));
    }
}
