//! CreatePartitions (key 37). The answer waits until this node holds the partitions.

use std::sync::Arc;

use super::{node_ids, topic_name};
use crate::controller::{CreatePartitions, MorePartitions};
use crate::protocol::guard::shapes;
use crate::protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use crate::protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS_AND_CONTROLLERS, Handler, Need, Operation, Request,
    Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::WireError;

pub(super) const API: Api = Api {
    shape: &shapes::CREATE_PARTITIONS,
    versions: 0..=3,
    notes: &[],
    served_on: BROKERS_AND_CONTROLLERS,
    answered_by: AnsweredBy::ActiveController,
    needs: &[Need(Operation::Alter, Resource::Topic)],
    handler: Handler::later::<CreatePartitionsRequest>(),
};

error_codes!(CreatePartitionsResponse: [results]);

impl Answered for CreatePartitionsRequest {
    type Response = CreatePartitionsResponse;

    fn error_response(&self, _: i16, error: &WireError) -> CreatePartitionsResponse {
        let results = self.topics.iter().map(|topic| error_result(&topic.name, error));
        CreatePartitionsResponse::default().with_results(results.collect())
    }
}

impl AnswerLater for CreatePartitionsRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> CreatePartitionsResponse {
        let topics = self.topics.iter().map(|topic| MorePartitions {
            topic: topic.name.to_string(),
            partition_count: topic.count,
            assignments: topic.assignments.as_ref().map(|assignments| {
                assignments.iter().map(|assignment| node_ids(&assignment.broker_ids)).collect()
            }),
        });
        let create = CreatePartitions { topics: topics.collect(), validate_only: self.validate_only };
        let answers = match broker.controller.within_ms(self.timeout_ms).create_partitions(create).await {
            Ok(answers) => answers,
            Err(error) => return self.error_response(request.version, &error.into()),
        };
        broker.wait_applied().await;
        let results = answers.into_iter().map(|(name, answer)| match answer {
            Ok(()) => CreatePartitionsTopicResult::default().with_name(topic_name(&name)),
            Err(error) => error_result(&name, &error.into()),
        });
        CreatePartitionsResponse::default().with_results(results.collect())
    }
}

fn error_result(topic: &str, error: &WireError) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult::default()
        .with_name(topic_name(topic))
        .with_error_code(error.number())
        .with_error_message(error.text())
}
