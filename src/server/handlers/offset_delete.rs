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
        later(request.version, async move { deleted(&broker, message).await })
    })
}

async fn deleted(broker: &Broker, message: OffsetDeleteRequest) -> OffsetDeleteResponse {
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
    let mut each = answers.into_iter();
    let topics = message.topics.iter().map(|topic| {
        let known = image.topic(&topic.name);
        let partitions = topic.partitions.iter().map(|partition| {
            let result = match known.and_then(|known| known.partition(partition.partition_index)) {
                Some(_) => each.next().unwrap_or(Err(ResponseError::UnknownServerError)),
                None => Err(ResponseError::UnknownTopicOrPartition),
            };
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code(result))
        });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    let topics = topics.collect();
    OffsetDeleteResponse::default().with_topics(topics)
}
