//! DeleteTopics (key 20), versions 1 to 6: by name, from version 6 also by id.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{ApiKey, DeleteTopicsRequest, DeleteTopicsResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, with_message};
use super::{later, refusal, topic_name};
use crate::controller::TopicToDelete;
use crate::types::TopicId;

pub const API: Api = Api { key: ApiKey::DeleteTopics, least: 1, greatest: 6, handle };

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    let broker = broker.clone();
    with_message(request, |request, message: DeleteTopicsRequest| {
        later(request.version, async move { response(&broker, &request, message).await })
    })
}

async fn response(broker: &Broker, request: &Request, message: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let named = message
        .topic_names
        .iter()
        .map(|name| TopicToDelete { name: Some(name.to_string()), id: TopicId::ZERO });
    let stated = message.topics.iter().map(|topic| TopicToDelete {
        name: topic.name.as_ref().map(|name| name.to_string()),
        id: TopicId(topic.topic_id),
    });
    let topics: Vec<TopicToDelete> = named.chain(stated).collect();
    let controller = broker.controller.within_ms(message.timeout_ms);
    let answers = match controller.delete_topics(topics.clone()).await {
        Ok(answers) => answers,
        Err(error) => topics.into_iter().map(|topic| (topic, Err(error.clone()))).collect(),
    };
    broker.wait_applied().await;
    let results = answers.into_iter().map(|(asked, answer)| match answer {
        Ok(deleted) => {
            broker.metrics.forget_topic(&deleted.name);
            let client = request.client_id.as_deref().unwrap_or("");
            tracing::info!(topic = deleted.name, id = %deleted.id, client, host = %request.client_host, "deleted a topic");
            DeletableTopicResult::default().with_name(Some(topic_name(&deleted.name))).with_topic_id(deleted.id.0)
        }
        Err(error) => {
            let (code, text) = refusal(&error);
            // Before version 5 there is no room for a name that is not known.
            let name = asked.name.as_deref().map(topic_name);
            let name = if request.version < 6 { name.or_else(|| Some(topic_name(""))) } else { name };
            let result = DeletableTopicResult::default()
                .with_name(name)
                .with_topic_id(asked.id.0)
                .with_error_code(code)
                .with_error_message(text);
            let is_disabled = error.code == ResponseError::TopicDeletionDisabled;
            if is_disabled && request.version < 3 {
                return result.with_error_code(ResponseError::InvalidRequest.code());
            }
            result
        }
    });
    DeleteTopicsResponse::default().with_responses(results.collect())
}
