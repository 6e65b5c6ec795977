//! OffsetDelete (key 47), version 0 (KIP-496).

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{ApiKey, OffsetDeleteRequest, OffsetDeleteResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, with_message};
use super::groups::{code, kept};
use super::later;
use crate::coordinator::group::request::DeleteOffsets;
use crate::coordinator::group::{self, Response};

pub const API: Api = Api { key: ApiKey::OffsetDelete, least: 0, greatest: 0, handle };

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    let broker = broker.clone();
    with_message(request, |request, message: OffsetDeleteRequest| {
        later(request.version, async move { deleted(&broker, &request, message).await })
    })
}

async fn deleted(broker: &Broker, request: &Request, message: OffsetDeleteRequest) -> OffsetDeleteResponse {
    if message.group_id.is_empty() {
        return OffsetDeleteResponse::default().with_error_code(ResponseError::InvalidGroupId.code());
    }
    let image = broker.image();
    let mut partitions = Vec::new();
    for topic in &message.topics {
        let name = kept(&topic.name);
        let Some(known) = image.topic(&name) else { continue };
        let there = topic.partitions.iter().filter(|each| known.partition(each.partition_index).is_some());
        partitions.extend(there.map(|each| (name.clone(), each.partition_index)));
    }
    let asking = DeleteOffsets { group_id: kept(&message.group_id), partitions };
    let answers = match broker.groups.ask(&message.group_id, group::Request::DeleteOffsets(asking)).await {
        Response::DeleteOffsets(Ok(answers)) => answers,
        Response::DeleteOffsets(Err(error)) | Response::Failed(error) => {
            return OffsetDeleteResponse::default().with_error_code(error.code());
        }
        _ => {
            return OffsetDeleteResponse::default().with_error_code(ResponseError::UnknownServerError.code());
        }
    };
    let offsets = answers.iter().filter(|answer| **answer == Ok(true)).count();
    if offsets > 0 {
        let (group, client) = (message.group_id.as_str(), request.client_id.as_deref().unwrap_or(""));
        tracing::info!(%group, offsets, client, host = %request.client_host, "deleted offsets");
    }
    let mut each = answers.into_iter().map(|answer| answer.map(|_| ()));
    let mut topics = Vec::with_capacity(message.topics.len());
    for topic in message.topics.iter().filter(|topic| !topic.partitions.is_empty()) {
        let known = image.topic(&topic.name);
        let is_there = |index| known.is_some_and(|known| known.partition(index).is_some());
        let told = |index, result| {
            OffsetDeleteResponsePartition::default().with_partition_index(index).with_error_code(code(result))
        };
        // As by Kafka, what is not there is told first.
        let indexes = || topic.partitions.iter().map(|partition| partition.partition_index);
        let missing = indexes().filter(|index| !is_there(*index));
        let missing = missing.map(|index| told(index, Err(ResponseError::UnknownTopicOrPartition)));
        let there = indexes().filter(|index| is_there(*index));
        let there =
            there.map(|index| told(index, each.next().unwrap_or(Err(ResponseError::UnknownServerError))));
        let partitions = missing.chain(there).collect();
        topics.push(
            OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions),
        );
    }
    OffsetDeleteResponse::default().with_topics(topics)
}
