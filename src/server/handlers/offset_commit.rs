//! OffsetCommit (key 8), versions 2 to 10. Since 10 topics are named by id; see [`topic_ids`](crate::protocol::topic_ids).

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{ApiKey, OffsetCommitRequest, OffsetCommitResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, with_message};
use super::groups::{code, kept, kept_optional};
use super::{called, later, later_by_id};
use crate::coordinator::group::request::{CommitOffsets, OffsetToCommit};
use crate::coordinator::group::{self, Response};
use crate::protocol::topic_ids::TOPIC_IDS;

pub const API: Api = Api { key: ApiKey::OffsetCommit, least: 2, greatest: 10, handle };

fn handle(broker: &Arc<Broker>, mut request: Request) -> Reply {
    let broker = broker.clone();
    let version = request.version;
    request.version = version.min(TOPIC_IDS - 1);
    with_message(request, |request, message: OffsetCommitRequest| {
        let answer = async move { committed(&broker, &request, message, version).await };
        if version >= TOPIC_IDS { later_by_id(API.key, answer) } else { later(version, answer) }
    })
}

/// Somebody sets what the members of a group go on from, as administrators do.
fn log_reset(request: &Request, message: &OffsetCommitRequest, results: &[Result<(), ResponseError>]) {
    let offsets = results.iter().filter(|result| result.is_ok()).count();
    let (group, client) = (message.group_id.as_str(), request.client_id.as_deref().unwrap_or(""));
    tracing::info!(%group, offsets, client, host = %request.client_host, "offsets of a group without members were set");
}

async fn committed(
    broker: &Broker,
    request: &Request,
    message: OffsetCommitRequest,
    version: i16,
) -> OffsetCommitResponse {
    let image = broker.image();
    // Partitions that are not there are told so, whatever becomes of the rest.
    let mut offsets = Vec::new();
    for topic in &message.topics {
        let Some(known) = called(&image, &topic.name, version) else { continue };
        for partition in &topic.partitions {
            if known.partition(partition.partition_index).is_some() {
                offsets.push(OffsetToCommit {
                    topic: known.name.clone(),
                    topic_id: known.id,
                    partition: partition.partition_index,
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.committed_metadata.as_ref().map(kept).unwrap_or_default(),
                });
            }
        }
    }
    let is_any_known = !offsets.is_empty();
    let commit = CommitOffsets {
        group_id: kept(&message.group_id),
        generation_id: message.generation_id_or_member_epoch,
        member_id: kept(&message.member_id),
        group_instance_id: kept_optional(&message.group_instance_id),
        retention_ms: Some(message.retention_time_ms).filter(|retention| *retention >= 0),
        offsets,
    };
    let answer = match is_any_known {
        true => match broker.groups.ask(&message.group_id, group::Request::CommitOffsets(commit)).await {
            Response::CommitOffsets(Ok(committed)) => {
                if committed.is_reset {
                    log_reset(request, &message, &committed.results);
                }
                Ok(committed.results)
            }
            Response::CommitOffsets(Err(error)) => Err(error),
            // Older clients know no other way to be told to come again.
            Response::Failed(ResponseError::CoordinatorLoadInProgress) if version < 3 => {
                Err(ResponseError::CoordinatorNotAvailable)
            }
            Response::Failed(error) => Err(error),
            _ => Err(ResponseError::UnknownServerError),
        },
        false => Ok(Vec::new()),
    };
    // Only since version 9 a client may be told that there is no such group.
    let answer = answer.map_err(|error| match error {
        ResponseError::GroupIdNotFound if version < 9 => ResponseError::IllegalGeneration,
        error => error,
    });
    let mut each = answer.as_ref().ok().into_iter().flatten();
    let mut topics = Vec::with_capacity(message.topics.len());
    for topic in message.topics.iter().filter(|topic| !topic.partitions.is_empty()) {
        let known = called(&image, &topic.name, version);
        let error = match known {
            None if version >= TOPIC_IDS => ResponseError::UnknownTopicId,
            _ => ResponseError::UnknownTopicOrPartition,
        };
        let is_there = |index| known.is_some_and(|known| known.partition(index).is_some());
        let told = |index, result| {
            OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code(result))
        };
        // As by Kafka, what is not there is told first.
        let indexes = || topic.partitions.iter().map(|partition| partition.partition_index);
        let missing = indexes().filter(|index| !is_there(*index));
        let missing = missing.map(|index| told(index, Err(error)));
        let there = indexes().filter(|index| is_there(*index)).map(|index| {
            let result = match &answer {
                Ok(_) => each.next().copied().unwrap_or(Err(ResponseError::UnknownServerError)),
                Err(error) => Err(*error),
            };
            told(index, result)
        });
        let partitions = missing.chain(there).collect();
        topics.push(
            OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions),
        );
    }
    OffsetCommitResponse::default().with_topics(topics)
}
