//! DeleteTopics (key 20).

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::topic_name;
use crate::controller::TopicToDelete;
use crate::protocol::guard::shapes;
use crate::protocol::messages::delete_topics_response::DeletableTopicResult;
use crate::protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS_AND_CONTROLLERS, Handler, Need, Operation, Request,
    Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;
use crate::types::TopicId;

pub(super) const API: Api = Api {
    shape: &shapes::DELETE_TOPICS,
    versions: 1..=6,
    notes: &[(6, "topics by name or by id (KIP-516)")],
    served_on: BROKERS_AND_CONTROLLERS,
    answered_by: AnsweredBy::ActiveController,
    // The second to be told the name of a topic that is called by its id.
    needs: &[Need(Operation::Delete, Resource::Topic), Need(Operation::Describe, Resource::Topic)],
    handler: Handler::later::<DeleteTopicsRequest>(),
};

error_codes!(DeleteTopicsResponse: [responses]);

/// The first version that has an error for topics that must not be deleted.
const TOPIC_DELETION_DISABLED: i16 = 3;
/// The first version whose answers may be without a name.
const NAME_MAY_BE_NULL: i16 = 6;

impl Answered for DeleteTopicsRequest {
    type Response = DeleteTopicsResponse;

    fn error_response(&self, version: i16, error: &WireError) -> DeleteTopicsResponse {
        let results = topics_to_delete(self).into_iter().map(|topic| error_result(version, &topic, error));
        DeleteTopicsResponse::default().with_responses(results.collect())
    }
}

impl AnswerLater for DeleteTopicsRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> DeleteTopicsResponse {
        let controller = broker.controller.within_ms(self.timeout_ms);
        let answers = match controller.delete_topics(topics_to_delete(&self)).await {
            Ok(answers) => answers,
            Err(error) => return self.error_response(request.version, &error.into()),
        };
        broker.wait_applied().await;
        let results = answers.into_iter().map(|(topic, answer)| match answer {
            Ok(deleted) => {
                tracing::info!(topic = deleted.name, id = %deleted.id, client = request.client(), host = %request.client_host, "deleted a topic");
                DeletableTopicResult::default()
                    .with_name(Some(topic_name(&deleted.name)))
                    .with_topic_id(deleted.id.0)
            }
            Err(error) => error_result(request.version, &topic, &error.into()),
        });
        DeleteTopicsResponse::default().with_responses(results.collect())
    }
}

fn topics_to_delete(request: &DeleteTopicsRequest) -> Vec<TopicToDelete> {
    let by_name = request
        .topic_names
        .iter()
        .map(|name| TopicToDelete { name: Some(name.to_string()), id: TopicId::ZERO });
    let by_either = request.topics.iter().map(|topic| TopicToDelete {
        name: topic.name.as_ref().map(|name| name.to_string()),
        id: TopicId(topic.topic_id),
    });
    by_name.chain(by_either).collect()
}

fn error_result(version: i16, topic: &TopicToDelete, error: &WireError) -> DeletableTopicResult {
    let name = topic.name.as_deref().map(topic_name);
    let name = if version < NAME_MAY_BE_NULL { name.or_else(|| Some(topic_name(""))) } else { name };
    let code = match error.code {
        ResponseError::TopicDeletionDisabled if version < TOPIC_DELETION_DISABLED => {
            ResponseError::InvalidRequest
        }
        code => code,
    };
    DeletableTopicResult::default()
        .with_name(name)
        .with_topic_id(topic.id.0)
        .with_error_code(code.code())
        .with_error_message(error.text())
}
