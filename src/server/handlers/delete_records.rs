//! DeleteRecords (key 21): moves the log start offset.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::find_partition;
use crate::metadata::is_internal_topic;
use crate::protocol::guard::shapes;
use crate::protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use crate::protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::{WireError, delete_records_error};
use crate::types::Offset;

pub(super) const API: Api = Api {
    shape: &shapes::DELETE_RECORDS,
    versions: 0..=2,
    notes: &[],
    served_on: BROKERS,
    answered_by: AnsweredBy::PartitionLeader,
    needs: &[Need(Operation::Delete, Resource::Topic)],
    handler: Handler::later::<DeleteRecordsRequest>(),
};

error_codes!(DeleteRecordsResponse: [topics partitions]);

impl Answered for DeleteRecordsRequest {
    type Response = DeleteRecordsResponse;

    fn error_response(&self, _: i16, error: &WireError) -> DeleteRecordsResponse {
        to_response(self, |_, _, _| Err(error.code))
    }
}

impl AnswerLater for DeleteRecordsRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> DeleteRecordsResponse {
        let (version, message) = (request.version, self.clone());
        let blocking = broker.surroundings.blocking.clone();
        let deleting = blocking.run(move || {
            to_response(&message, |topic, index, offset| {
                let low_watermark = delete(&broker, topic, index, offset)?;
                tracing::info!(topic, partition = index, %low_watermark, client = request.client(), "deleted records");
                Ok(low_watermark)
            })
        });
        deleting.await.unwrap_or_else(|error| self.error_response(version, &error.into()))
    }
}

fn to_response(
    request: &DeleteRecordsRequest,
    delete: impl Fn(&str, i32, i64) -> Result<Offset, ResponseError>,
) -> DeleteRecordsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let result = DeleteRecordsPartitionResult::default().with_partition_index(index);
            match delete(&topic.name, index, partition.offset) {
                Ok(low_watermark) => result.with_low_watermark(low_watermark.0),
                Err(error) => result.with_low_watermark(-1).with_error_code(error.code()),
            }
        });
        DeleteRecordsTopicResult::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

fn delete(broker: &Broker, topic: &str, index: i32, offset: i64) -> Result<Offset, ResponseError> {
    if is_internal_topic(topic) {
        return Err(ResponseError::InvalidTopicException);
    }
    let partition = find_partition(broker, topic, index)?;
    // -1 is the high watermark.
    let offset = (offset != -1).then_some(Offset(offset));
    partition.delete_records(offset).map_err(|error| delete_records_error(&error))
}
