//! ListOffsets (key 2), versions 1 to 10: offsets by time, and the ends of a log.
//!
//! Besides times: -1 latest, -2 earliest, -3 the record with the greatest timestamp (from 7, KIP-734),
//! -4 earliest on this disk (from 8, KIP-405), -5 latest in tiered storage (from 9, KIP-1005; there is
//! none).

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ApiKey, ListOffsetsRequest, ListOffsetsResponse};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, body, with_message};
use super::{absent_error, fetch_error, later};
use crate::partition::Partition;
use crate::types::{LeaderEpoch, Offset};

pub const API: Api = Api { key: ApiKey::ListOffsets, least: 1, greatest: 10, handle };

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
/// On the wire: the isolation level that sees only committed transactions.
const READ_COMMITTED: i8 = 1;

fn handle(broker: &Arc<Broker>, request: Request) -> Reply {
    let broker = broker.clone();
    with_message(request, |request, message: ListOffsetsRequest| {
        let version = request.version;
        let partitions = || message.topics.iter().flat_map(|topic| &topic.partitions);
        let is_in_memory = |timestamp: i64| timestamp < 0 && timestamp != MAX_TIMESTAMP;
        if partitions().all(|partition| is_in_memory(partition.timestamp)) {
            return Reply::Now(body(&response(&broker, version, &message), version));
        }
        // Looking for a time reads the disk, and may decompress a batch.
        later(version, async move {
            let looking = tokio::task::spawn_blocking(move || response(&broker, version, &message));
            looking.await.unwrap_or_default()
        })
    })
}

fn response(broker: &Broker, version: i16, message: &ListOffsetsRequest) -> ListOffsetsResponse {
    let mut counts: BTreeMap<(&str, i32), usize> = BTreeMap::new();
    for topic in &message.topics {
        for partition in &topic.partitions {
            *counts.entry((topic.name.as_str(), partition.partition_index)).or_default() += 1;
        }
    }
    let topics = message.topics.iter().map(|asked| {
        let topic = broker.partitions.topic(&asked.name);
        let partitions = asked.partitions.iter().map(|partition| {
            let result =
                ListOffsetsPartitionResponse::default().with_partition_index(partition.partition_index);
            let failed = |error: ResponseError| {
                ListOffsetsPartitionResponse::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(error.code())
            };
            if counts.get(&(asked.name.as_str(), partition.partition_index)).is_some_and(|count| *count > 1) {
                return failed(ResponseError::InvalidRequest);
            }
            let Some(topic) = &topic else { return failed(ResponseError::UnknownTopicOrPartition) };
            let held = match topic.partition(partition.partition_index) {
                Ok(held) => held,
                Err(absent) => return failed(absent_error(absent)),
            };
            match found(&held, version, message.isolation_level, partition) {
                Err(error) => failed(error),
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

/// Timestamp (-1 where it has no meaning), offset and leader epoch of what was asked for.
type Found = (i64, Offset, LeaderEpoch);

fn found(
    partition: &Partition,
    version: i16,
    isolation_level: i8,
    asked: &ListOffsetsPartition,
) -> Result<Option<Found>, ResponseError> {
    let epoch = partition
        .check_leader(LeaderEpoch(asked.current_leader_epoch))
        .map_err(|error| fetch_error(&error))?;
    let end = match isolation_level {
        READ_COMMITTED => partition.last_stable_offset(),
        _ => partition.high_watermark(),
    };
    let storage = |error: std::io::Error| {
        tracing::error!(partition = %partition.name, %error, "an offset could not be looked up");
        ResponseError::KafkaStorageError
    };
    let least_version = match asked.timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        _ => 1,
    };
    if version < least_version || asked.timestamp < LATEST_TIERED {
        return Err(ResponseError::UnsupportedVersion);
    }
    match asked.timestamp {
        LATEST => Ok(Some((-1, end, epoch))),
        EARLIEST | EARLIEST_LOCAL => {
            let start = partition.log.log_start_offset();
            Ok(Some((-1, start, partition.log.epoch_of(start).unwrap_or(LeaderEpoch::NONE))))
        }
        LATEST_TIERED => Ok(Some((-1, Offset::NONE, LeaderEpoch::NONE))),
        MAX_TIMESTAMP => {
            let found = partition.log.max_timestamp().map_err(storage)?;
            Ok(found
                .filter(|found| found.offset < end)
                .map(|found| (found.timestamp, found.offset, found.leader_epoch)))
        }
        timestamp => {
            let found = partition.log.offset_for_timestamp(timestamp).map_err(storage)?;
            Ok(found
                .filter(|found| found.offset < end)
                .map(|found| (found.timestamp, found.offset, found.leader_epoch)))
        }
    }
}
