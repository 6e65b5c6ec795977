//! OffsetDelete (key 47, KIP-496): forgets what a group has committed.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::groups::to_owned_text;
use crate::coordinator::group::request::DeleteOffsets;
use crate::protocol::guard::shapes;
use crate::protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use crate::protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::{WireError, group_error};

pub(super) const API: Api = Api {
    shape: &shapes::OFFSET_DELETE,
    versions: 0..=0,
    notes: &[],
    served_on: BROKERS,
    answered_by: AnsweredBy::GroupCoordinator,
    needs: &[Need(Operation::Delete, Resource::Group), Need(Operation::Read, Resource::Topic)],
    handler: Handler::later::<OffsetDeleteRequest>(),
};

error_codes!(OffsetDeleteResponse: [] [topics partitions]);

impl Answered for OffsetDeleteRequest {
    type Response = OffsetDeleteResponse;

    fn error_response(&self, _: i16, error: &WireError) -> OffsetDeleteResponse {
        OffsetDeleteResponse::default().with_error_code(error.number())
    }
}

impl AnswerLater for OffsetDeleteRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> OffsetDeleteResponse {
        if self.group_id.is_empty() {
            return self.error_response(request.version, &ResponseError::InvalidGroupId.into());
        }
        let image = broker.image();
        let mut partitions = Vec::new();
        for topic in &self.topics {
            let name = to_owned_text(&topic.name);
            let Some(known) = image.topic(&name) else { continue };
            let there =
                topic.partitions.iter().filter(|each| known.partition(each.partition_index).is_some());
            partitions.extend(there.map(|each| (name.clone(), each.partition_index)));
        }
        let delete = DeleteOffsets { group_id: to_owned_text(&self.group_id), partitions };
        let answers = match broker.groups.delete_offsets(delete).await {
            Ok(answers) => answers,
            Err(error) => return self.error_response(request.version, &group_error(&error).into()),
        };
        let offsets = answers.iter().filter(|answer| **answer == Ok(true)).count();
        if offsets > 0 {
            tracing::info!(group = %self.group_id.as_str(), offsets, client = request.client(), host = %request.client_host, "deleted offsets");
        }
        let codes = answers.iter().map(|answer| answer.as_ref().err().map(group_error));
        let mut codes = codes.map(|error| error.map_or(0, |error| error.code()));
        let mut topics = Vec::with_capacity(self.topics.len());
        for topic in self.topics.iter().filter(|topic| !topic.partitions.is_empty()) {
            let known = image.topic(&topic.name);
            let is_there = |index| known.is_some_and(|known| known.partition(index).is_some());
            let result = |index, code| {
                OffsetDeleteResponsePartition::default().with_partition_index(index).with_error_code(code)
            };
            // As by Kafka, what is not there comes first.
            let indexes = || topic.partitions.iter().map(|partition| partition.partition_index);
            let missing = indexes().filter(|index| !is_there(*index));
            let missing = missing.map(|index| result(index, ResponseError::UnknownTopicOrPartition.code()));
            let there = indexes().filter(|index| is_there(*index));
            let there = there
                .map(|index| result(index, codes.next().unwrap_or(ResponseError::UnknownServerError.code())));
            let partitions = missing.chain(there).collect();
            topics.push(
                OffsetDeleteResponseTopic::default()
                    .with_name(topic.name.clone())
                    .with_partitions(partitions),
            );
        }
        OffsetDeleteResponse::default().with_topics(topics)
    }
}
