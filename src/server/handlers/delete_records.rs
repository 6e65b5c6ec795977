//! DeleteRecords (key 21), versions 0 to 2: moves the log start offset.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{ApiKey, DeleteRecordsRequest, DeleteRecordsResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, with_message};
use super::{absent_error, later};
use crate::metadata::is_internal_topic;
use crate::partition::DeleteRecordsError;
use crate::types::Offset;

pub const API: Api = Api { key: ApiKey::DeleteRecords, least: 0, greatest: 2, handle };

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    let broker = broker.clone();
    with_message(request, |request, message: DeleteRecordsRequest| {
        let version = request.version;
        let client = request.client_id.clone().unwrap_or_default();
        later(version, async move {
            let deleting = tokio::task::spawn_blocking(move || response(&broker, &message, &client));
            deleting.await.unwrap_or_default()
        })
    })
}

fn response(broker: &Broker, message: &DeleteRecordsRequest, client: &str) -> DeleteRecordsResponse {
    let topics = message.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let result = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            match deleted(broker, &topic.name, asked.partition_index, asked.offset) {
                Ok(low_watermark) => {
                    tracing::info!(topic = %topic.name.as_str(), partition = asked.partition_index, %low_watermark, client, "deleted records");
                    result.with_low_watermark(low_watermark.0)
                }
                Err(error) => result.with_low_watermark(-1).with_error_code(error.code()),
            }
        });
        DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

fn deleted(broker: &Broker, topic: &str, index: i32, offset: i64) -> Result<Offset, ResponseError> {
    if is_internal_topic(topic) {
        return Err(ResponseError::InvalidTopicException);
    }
    let topic = broker.partitions.topic(topic).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let partition = topic.partition(index).map_err(absent_error)?;
    // -1 is the high watermark.
    let offset = (offset != -1).then_some(Offset(offset));
    partition.delete_records(offset).map_err(|error| match error {
        DeleteRecordsError::NotLeader => ResponseError::NotLeaderOrFollower,
        DeleteRecordsError::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
        DeleteRecordsError::Storage(error) => {
            tracing::error!(%error, "records could not be deleted");
            ResponseError::KafkaStorageError
        }
    })
}
