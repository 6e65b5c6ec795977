//! CreateTopics (key 19), versions 2 to 7. The answer waits until this node holds the partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{ApiKey, CreateTopicsRequest, CreateTopicsResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, with_message};
use super::{later, refusal, text, topic_name};
use crate::config::{BrokerValues, topic};
use crate::controller::{ControllerError, CreateTopics, CreatedTopic, NewTopic};
use crate::types::NodeId;

pub const API: Api = Api { key: ApiKey::CreateTopics, least: 2, greatest: 7, handle };

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    let broker = broker.clone();
    with_message(request, |request, message: CreateTopicsRequest| {
        later(request.version, async move { response(&broker, &request, message).await })
    })
}

async fn response(broker: &Broker, request: &Request, message: CreateTopicsRequest) -> CreateTopicsResponse {
    let validate_only = message.validate_only;
    let topics: Vec<NewTopic> = message.topics.iter().map(new_topic).collect();
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    let controller = broker.controller.within_ms(message.timeout_ms);
    let answers = match controller.create_topics(CreateTopics { topics, validate_only }).await {
        Ok(answers) => answers,
        Err(error) => names.into_iter().map(|name| (name, Err(error.clone()))).collect(),
    };
    broker.wait_applied().await;
    let results = answers.into_iter().map(|(name, answer)| {
        if let (Ok(created), false) = (&answer, validate_only) {
            let (partitions, replicas) = (created.partition_count, created.replication_factor);
            let client = request.client_id.as_deref().unwrap_or("");
            tracing::info!(topic = name, id = %created.id, partitions, replicas, client, host = %request.client_host, "created a topic");
        }
        result(broker, &name, answer)
    });
    CreateTopicsResponse::default().with_topics(results.collect())
}

fn new_topic(topic: &CreatableTopic) -> NewTopic {
    let nodes = |ids: &[kafka_protocol::messages::BrokerId]| ids.iter().map(|id| NodeId(id.0)).collect();
    NewTopic {
        name: topic.name.to_string(),
        partition_count: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|assignment| (assignment.partition_index, nodes(&assignment.broker_ids)))
            .collect(),
        configs: topic
            .configs
            .iter()
            .map(|config| (config.name.to_string(), config.value.as_ref().map(ToString::to_string)))
            .collect(),
    }
}

fn result(
    broker: &Broker,
    name: &str,
    answer: Result<CreatedTopic, ControllerError>,
) -> CreatableTopicResult {
    let result = CreatableTopicResult::default().with_name(topic_name(name));
    match answer {
        Ok(created) => result
            .with_error_message(None)
            .with_topic_id(created.id.0)
            .with_num_partitions(created.partition_count)
            .with_replication_factor(created.replication_factor)
            .with_configs(Some(effective_configs(&created.configs, &broker.dynamic.current().values))),
        Err(error) => {
            let (code, message) = refusal(&error);
            result
                .with_error_code(code)
                .with_error_message(message)
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_configs(Some(Vec::new()))
        }
    }
}

/// Every configuration of the new topic, with where its value comes from.
fn effective_configs(set: &BTreeMap<String, String>, broker: &BrokerValues) -> Vec<CreatableTopicConfigs> {
    let effective = topic::KEYS.iter().map(|entry| {
        let (value, source) = topic::effective(entry, set, broker);
        CreatableTopicConfigs::default()
            .with_name(text(entry.key.name))
            .with_value(Some(text(&value)))
            .with_config_source(source as i8)
    });
    effective.collect()
}
