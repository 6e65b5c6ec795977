//! DeleteRecords (key 21): moves the log start offset, and waits until the followers have moved theirs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use tokio::time::Instant;

use super::find_partition;
use crate::metadata::is_internal_topic;
use crate::partition::Partition;
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
        let deadline = Instant::now() + Duration::from_millis(u64::try_from(self.timeout_ms).unwrap_or(0));
        let deleting = broker.surroundings.blocking.run({
            let broker = broker.clone();
            move || {
                let mut deleted = BTreeMap::new();
                let response = to_response(&message, |topic, index, offset| {
                    let (partition, low_watermark) = delete(&broker, topic, index, offset)?;
                    tracing::info!(topic, partition = index, %low_watermark, client = request.client(), "deleted records");
                    deleted.insert((topic.to_owned(), index), (partition, low_watermark));
                    Ok(low_watermark)
                });
                (response, deleted)
            }
        });
        let (response, mut deleted) = match deleting.await {
            Ok(done) => done,
            Err(error) => return self.error_response(version, &error.into()),
        };
        if deleted.is_empty() {
            return response;
        }
        // Records are deleted where no replica has them any more.
        while !deleted.values().all(|(partition, reached)| has_followed(&broker, partition, *reached))
            && Instant::now() < deadline
        {
            tokio::time::sleep(FOLLOWERS_LOOK).await;
        }
        to_response(&self, |topic, index, _| match deleted.remove(&(topic.to_owned(), index)) {
            Some((partition, _)) if !partition.is_leader() => Err(ResponseError::NotLeaderOrFollower),
            Some((partition, reached)) if has_followed(&broker, &partition, reached) => {
                low_watermark(&broker, &partition).ok_or(ResponseError::RequestTimedOut)
            }
            Some(_) => Err(ResponseError::RequestTimedOut),
            None => refused(&response, topic, index),
        })
    }
}

/// How often it is looked whether the followers have followed.
const FOLLOWERS_LOOK: Duration = Duration::from_millis(10);

fn low_watermark(broker: &Broker, partition: &Partition) -> Option<Offset> {
    let image = broker.image();
    partition.low_watermark(|id| image.is_active(id))
}

/// Whether the log begins at `reached` or later on all replicas that are alive, or this node leads no more.
fn has_followed(broker: &Broker, partition: &Partition, reached: Offset) -> bool {
    !partition.is_leader() || low_watermark(broker, partition).is_some_and(|low| low >= reached)
}

/// The error that a partition was answered with.
fn refused(response: &DeleteRecordsResponse, topic: &str, index: i32) -> Result<Offset, ResponseError> {
    let topic = response.topics.iter().find(|known| known.name.as_str() == topic);
    let partition =
        topic.and_then(|topic| topic.partitions.iter().find(|known| known.partition_index == index));
    let code = partition.and_then(|partition| ResponseError::try_from_code(partition.error_code));
    Err(code.unwrap_or(ResponseError::UnknownServerError))
}

fn to_response(
    request: &DeleteRecordsRequest,
    mut delete: impl FnMut(&str, i32, i64) -> Result<Offset, ResponseError>,
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

fn delete(
    broker: &Broker,
    topic: &str,
    index: i32,
    offset: i64,
) -> Result<(Arc<Partition>, Offset), ResponseError> {
    if is_internal_topic(topic) {
        return Err(ResponseError::InvalidTopicException);
    }
    let partition = find_partition(broker, topic, index)?;
    // -1 is the high watermark.
    let offset = (offset != -1).then_some(Offset(offset));
    let start = partition.delete_records(offset).map_err(|error| delete_records_error(&error))?;
    Ok((partition, start))
}
