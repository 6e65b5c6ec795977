//! ListOffsets (key 2): offsets by time, and the ends of a log.
//!
//! Besides times: -1 latest, -2 earliest, -3 the record with the greatest timestamp, -4 earliest on this disk,
//! -5 latest in tiered storage, -6 the earliest that is still to be taken there. There is no tiered storage.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;

use crate::partition::{ReadBound, Topic};
use crate::protocol::guard::shapes;
use crate::protocol::messages::list_offsets_request::ListOffsetsPartition;
use crate::protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use crate::protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::{WireError, absent_error, fetch_error, storage_error};
use crate::types::{LeaderEpoch, NodeId, Offset};

pub(super) const API: Api = Api {
    shape: &shapes::LIST_OFFSETS,
    versions: 1..=11,
    notes: &[
        (2, "isolation levels (KIP-98)"),
        (4, "leader epochs (KIP-320)"),
        (7, "the record with the greatest timestamp (KIP-734)"),
        (8, "the earliest on this disk (KIP-405)"),
        (9, "the latest in tiered storage (KIP-1005), of which there is none"),
        (10, "a timeout for tiered storage (KIP-1075)"),
        (11, "the earliest that tiered storage lacks (KIP-1023)"),
    ],
    served_on: BROKERS,
    answered_by: AnsweredBy::PartitionLeader,
    needs: &[Need(Operation::Describe, Resource::Topic)],
    handler: Handler::later::<ListOffsetsRequest>(),
};

error_codes!(ListOffsetsResponse: [topics partitions]);

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;
/// On the wire: the isolation level that sees only committed transactions.
const READ_COMMITTED: i8 = 1;

impl Answered for ListOffsetsRequest {
    type Response = ListOffsetsResponse;

    fn error_response(&self, _: i16, error: &WireError) -> ListOffsetsResponse {
        let topics = self.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter();
            let partitions =
                partitions.map(|partition| error_partition(partition.partition_index, error.code));
            ListOffsetsTopicResponse::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        ListOffsetsResponse::default().with_topics(topics.collect())
    }
}

impl AnswerLater for ListOffsetsRequest {
    fn answer_now(&self, broker: &Arc<Broker>, request: &Request) -> Option<ListOffsetsResponse> {
        // Looking for a time reads the disk, and may decompress a batch.
        let is_in_memory = |timestamp: i64| timestamp < 0 && timestamp != MAX_TIMESTAMP;
        let mut partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        partitions
            .all(|partition| is_in_memory(partition.timestamp))
            .then(|| to_response(broker, request.version, self))
    }

    async fn answer(self, broker: Arc<Broker>, request: Request) -> ListOffsetsResponse {
        let (version, message) = (request.version, self.clone());
        let blocking = broker.surroundings.blocking.clone();
        let looking = blocking.run(move || to_response(&broker, version, &message));
        looking.await.unwrap_or_else(|error| self.error_response(version, &error.into()))
    }
}

fn to_response(broker: &Broker, version: i16, message: &ListOffsetsRequest) -> ListOffsetsResponse {
    let mut counts: BTreeMap<(&str, i32), usize> = BTreeMap::new();
    for topic in &message.topics {
        for partition in &topic.partitions {
            *counts.entry((topic.name.as_str(), partition.partition_index)).or_default() += 1;
        }
    }
    let reader = match message.isolation_level {
        // A follower whose offset is out of range wants to know where the log ends.
        _ if broker.image().broker(NodeId(message.replica_id.0)).is_some() => ReadBound::LogEnd,
        READ_COMMITTED => ReadBound::LastStableOffset,
        _ => ReadBound::HighWatermark,
    };
    let topics = message.topics.iter().map(|asked| {
        let topic = broker.partitions.topic(&asked.name);
        let partitions = asked.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let is_double = counts.get(&(asked.name.as_str(), index)).is_some_and(|count| *count > 1);
            let found = match is_double {
                true => Err(ResponseError::InvalidRequest),
                false => look_up(topic.as_deref(), version, reader, partition),
            };
            let result = ListOffsetsPartitionResponse::default().with_partition_index(index);
            match found {
                Err(error) => error_partition(index, error),
                Ok(None) => result,
                Ok(Some((timestamp, offset, epoch))) => {
                    let result = result.with_timestamp(timestamp).with_offset(offset.0);
                    if version >= 4 { result.with_leader_epoch(epoch.0) } else { result }
                }
            }
        });
        ListOffsetsTopicResponse::default()
            .with_name(asked.name.clone())
            .with_partitions(partitions.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn error_partition(index: i32, error: ResponseError) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse::default().with_partition_index(index).with_error_code(error.code())
}

/// Timestamp (-1 where it has no meaning), offset and leader epoch of what was asked for.
type Found = (i64, Offset, LeaderEpoch);

fn look_up(
    topic: Option<&Topic>,
    version: i16,
    reader: ReadBound,
    asked: &ListOffsetsPartition,
) -> Result<Option<Found>, ResponseError> {
    let topic = topic.ok_or(ResponseError::UnknownTopicOrPartition)?;
    let partition = topic.partition(asked.partition_index).map_err(absent_error)?;
    let epoch = partition
        .check_leader(LeaderEpoch(asked.current_leader_epoch))
        .map_err(|error| fetch_error(&error))?;
    let end = match reader {
        ReadBound::LogEnd => partition.log.log_end_offset(),
        ReadBound::LastStableOffset => partition.last_stable_offset(),
        ReadBound::HighWatermark => partition.high_watermark(),
    };
    let storage = |error: std::io::Error| {
        storage_error(&format!("an offset of {} could not be looked up", partition.name), &error)
    };
    let first_version = match asked.timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        _ => 1,
    };
    if version < first_version || asked.timestamp < EARLIEST_PENDING_UPLOAD {
        return Err(ResponseError::UnsupportedVersion);
    }
    // A new leader may not know yet how far consumers were told that they may read: what it would say now might be behind
    // that (KIP-207).
    let is_behind = reader != ReadBound::LogEnd && partition.is_behind_epoch_start();
    let not_available = match version {
        5.. => ResponseError::OffsetNotAvailable,
        _ => ResponseError::LeaderNotAvailable,
    };
    let found = match asked.timestamp {
        LATEST if is_behind => return Err(not_available),
        LATEST => return Ok(Some((-1, end, epoch))),
        EARLIEST | EARLIEST_LOCAL => {
            let start = partition.log.log_start_offset();
            return Ok(Some((-1, start, partition.log.epoch_of(start).unwrap_or(LeaderEpoch::NONE))));
        }
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => {
            return Ok(Some((-1, Offset::NONE, LeaderEpoch::NONE)));
        }
        MAX_TIMESTAMP => partition.log.max_timestamp().map_err(storage)?,
        timestamp => partition.log.offset_for_timestamp(timestamp).map_err(storage)?,
    };
    match found.filter(|found| found.offset < end) {
        None if is_behind => Err(not_available),
        found => Ok(found.map(|found| (found.timestamp, found.offset, found.leader_epoch))),
    }
}
