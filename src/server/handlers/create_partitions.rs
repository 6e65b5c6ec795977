//! CreatePartitions (key 37), versions 0 to 3.

use std::sync::Arc;

use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{ApiKey, CreatePartitionsRequest, CreatePartitionsResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, with_message};
use super::{later, refusal, topic_name};
use crate::controller::{CreatePartitions, MorePartitions};
use crate::types::NodeId;

pub const API: Api = Api { key: ApiKey::CreatePartitions, least: 0, greatest: 3, handle };

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    let broker = broker.clone();
    with_message(request, |request, message: CreatePartitionsRequest| {
        later(request.version, async move { response(&broker, message).await })
    })
}

async fn response(broker: &Broker, message: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let topics = message.topics.iter().map(|topic| MorePartitions {
        topic: topic.name.to_string(),
        partition_count: topic.count,
        assignments: topic.assignments.as_ref().map(|assignments| {
            let nodes =
                |ids: &[kafka_protocol::messages::BrokerId]| ids.iter().map(|id| NodeId(id.0)).collect();
            assignments.iter().map(|assignment| nodes(&assignment.broker_ids)).collect()
        }),
    });
    let request = CreatePartitions { topics: topics.collect(), validate_only: message.validate_only };
    let controller = broker.controller.within_ms(message.timeout_ms);
    let answers = match controller.create_partitions(request).await {
        Ok(answers) => answers,
        Err(error) => {
            message.topics.iter().map(|topic| (topic.name.to_string(), Err(error.clone()))).collect()
        }
    };
    broker.wait_applied().await;
    let results = answers.into_iter().map(|(name, answer)| {
        let result = CreatePartitionsTopicResult::default().with_name(topic_name(&name));
        match answer {
            Ok(()) => result,
            Err(error) => {
                let (code, text) = refusal(&error);
                result.with_error_code(code).with_error_message(text)
            }
        }
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}
