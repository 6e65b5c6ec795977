//! OffsetForLeaderEpoch (key 23, KIP-101, KIP-320): where a leader epoch ends.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::find_partition;
use crate::protocol::guard::shapes;
use crate::protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use crate::protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use crate::protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerNow, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::{WireError, fetch_error};
use crate::types::{LeaderEpoch, Offset};

pub(super) const API: Api = Api {
    shape: &shapes::OFFSET_FOR_LEADER_EPOCH,
    versions: 2..=4,
    notes: &[(3, "says which replica asks")],
    served_on: BROKERS,
    answered_by: AnsweredBy::PartitionLeader,
    // Who may the first, as other brokers may, need not the second.
    needs: &[Need(Operation::ClusterAction, Resource::Cluster), Need(Operation::Describe, Resource::Topic)],
    handler: Handler::now::<OffsetForLeaderEpochRequest>(),
};

error_codes!(OffsetForLeaderEpochResponse: [topics partitions]);

impl Answered for OffsetForLeaderEpochRequest {
    type Response = OffsetForLeaderEpochResponse;

    fn error_response(&self, _: i16, error: &WireError) -> OffsetForLeaderEpochResponse {
        to_response(self, |_, _| Err(error.code))
    }
}

impl AnswerNow for OffsetForLeaderEpochRequest {
    fn answer(self, broker: &Arc<Broker>, _: &Request) -> OffsetForLeaderEpochResponse {
        to_response(&self, |topic, asked| end_offset(broker, topic, asked))
    }
}

fn to_response(
    request: &OffsetForLeaderEpochRequest,
    end_offset: impl Fn(&str, &OffsetForLeaderPartition) -> Result<(LeaderEpoch, Offset), ResponseError>,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let result = EpochEndOffset::default().with_partition(partition.partition);
            match end_offset(&topic.topic, partition) {
                Ok((epoch, offset)) => result.with_leader_epoch(epoch.0).with_end_offset(offset.0),
                Err(error) => result.with_error_code(error.code()).with_leader_epoch(-1).with_end_offset(-1),
            }
        });
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic.clone())
            .with_partitions(partitions.collect())
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn end_offset(
    broker: &Broker,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<(LeaderEpoch, Offset), ResponseError> {
    let partition = find_partition(broker, topic, asked.partition)?;
    partition.check_leader(LeaderEpoch(asked.current_leader_epoch)).map_err(|error| fetch_error(&error))?;
    Ok(partition.log.end_offset_for_epoch(LeaderEpoch(asked.leader_epoch)))
}
