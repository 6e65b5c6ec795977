//! CreateTopics (key 19). The answer waits until this node holds the partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{node_ids, text, topic_name};
use crate::config::{BrokerValues, topic};
use crate::controller::{CreateTopics, CreatedTopic, NewTopic};
use crate::protocol::guard::shapes;
use crate::protocol::messages::create_topics_request::CreatableTopic;
use crate::protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use crate::protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS_AND_CONTROLLERS, Handler, Need, Operation, Request,
    Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;

pub(super) const API: Api = Api {
    shape: &shapes::CREATE_TOPICS,
    versions: 2..=7,
    notes: &[
        (5, "answers with the topic's configurations (KIP-525)"),
        (7, "answers with topic ids (KIP-516)"),
    ],
    served_on: BROKERS_AND_CONTROLLERS,
    answered_by: AnsweredBy::ActiveController,
    // The first for all topics, or the second for those named; the third to be told the configurations.
    needs: &[
        Need(Operation::Create, Resource::Cluster),
        Need(Operation::Create, Resource::Topic),
        Need(Operation::DescribeConfigs, Resource::Topic),
    ],
    handler: Handler::later::<CreateTopicsRequest>(),
};

error_codes!(CreateTopicsResponse: [topics]);

impl Answered for CreateTopicsRequest {
    type Response = CreateTopicsResponse;

    fn error_response(&self, _: i16, error: &WireError) -> CreateTopicsResponse {
        let topics = self.topics.iter().map(|topic| error_result(&topic.name, error));
        CreateTopicsResponse::default().with_topics(topics.collect())
    }
}

impl AnswerLater for CreateTopicsRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> CreateTopicsResponse {
        let validate_only = self.validate_only;
        let topics = self.topics.iter().map(new_topic).collect();
        let controller = broker.controller.within_ms(self.timeout_ms);
        let answers = match controller.create_topics(CreateTopics { topics, validate_only }).await {
            Ok(answers) => answers,
            Err(error) => return self.error_response(request.version, &error.into()),
        };
        broker.wait_applied().await;
        let results = answers.into_iter().map(|(name, answer)| match answer {
            Ok(created) => {
                if !validate_only {
                    let (partitions, replicas) = (created.partition_count, created.replication_factor);
                    tracing::info!(topic = name, id = %created.id, partitions, replicas, client = request.client(), host = %request.client_host, "created a topic");
                }
                to_result(&broker, &name, &created)
            }
            Err(error) => error_result(&name, &error.into()),
        });
        CreateTopicsResponse::default().with_topics(results.collect())
    }
}

fn new_topic(topic: &CreatableTopic) -> NewTopic {
    NewTopic {
        name: topic.name.to_string(),
        partition_count: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|assignment| (assignment.partition_index, node_ids(&assignment.broker_ids)))
            .collect(),
        configs: topic
            .configs
            .iter()
            .map(|config| (config.name.to_string(), config.value.as_ref().map(ToString::to_string)))
            .collect(),
    }
}

fn to_result(broker: &Broker, name: &str, created: &CreatedTopic) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(topic_name(name))
        .with_error_message(None)
        .with_topic_id(created.id.0)
        .with_num_partitions(created.partition_count)
        .with_replication_factor(created.replication_factor)
        .with_configs(Some(effective_configs(&created.configs, &broker.dynamic.current().values)))
}

fn error_result(name: &str, error: &WireError) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(topic_name(name))
        .with_error_code(error.number())
        .with_error_message(error.text())
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(Some(Vec::new()))
}

/// Every configuration of the new topic, with where its value comes from.
fn effective_configs(set: &BTreeMap<String, String>, broker: &BrokerValues) -> Vec<CreatableTopicConfigs> {
    let effective = topic::keys().iter().map(|entry| {
        let (value, source) = entry.effective(set, broker);
        CreatableTopicConfigs::default()
            .with_name(text(entry.key.name))
            .with_value(Some(text(&value)))
            .with_config_source(source as i8)
    });
    effective.collect()
}
