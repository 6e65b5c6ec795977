//! OffsetForLeaderEpoch (key 23), versions 2 to 4 (KIP-101, KIP-320): where a leader epoch ends.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{ApiKey, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, answer};
use super::{absent_error, fetch_error};
use crate::partition::Topic;
use crate::types::{LeaderEpoch, Offset};

pub const API: Api = Api { key: ApiKey::OffsetForLeaderEpoch, least: 2, greatest: 4, handle };

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    answer(request, |_, message: OffsetForLeaderEpochRequest| {
        let topics = message.topics.iter().map(|asked| {
            let topic = broker.partitions.topic(&asked.topic);
            let partitions = asked.partitions.iter().map(|partition| {
                let result = EpochEndOffset::default().with_partition(partition.partition);
                match end_offset(topic.as_deref(), partition) {
                    Ok((epoch, offset)) => result.with_leader_epoch(epoch.0).with_end_offset(offset.0),
                    Err(error) => {
                        result.with_error_code(error.code()).with_leader_epoch(-1).with_end_offset(-1)
                    }
                }
            });
            OffsetForLeaderTopicResult::default()
                .with_topic(asked.topic.clone())
                .with_partitions(partitions.collect())
        });
        OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
    })
}

fn end_offset(
    topic: Option<&Topic>,
    asked: &OffsetForLeaderPartition,
) -> Result<(LeaderEpoch, Offset), ResponseError> {
    let topic = topic.ok_or(ResponseError::UnknownTopicOrPartition)?;
    let partition = topic.partition(asked.partition).map_err(absent_error)?;
    partition.check_leader(LeaderEpoch(asked.current_leader_epoch)).map_err(|error| fetch_error(&error))?;
    Ok(partition.log.end_offset_for_epoch(LeaderEpoch(asked.leader_epoch)))
}
