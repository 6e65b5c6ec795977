//! One file per API (or per pair that shares its making), each with the versions it serves. The
//! table here is what ApiVersions tells and what dispatch looks handlers up in.

pub mod alter_configs;
pub mod api_versions;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod fetch;
pub mod find_coordinator;
mod groups;
pub mod heartbeat;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sync_group;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::api::{Api, Reply, body};
use super::errors::Answered;
use crate::controller::ControllerError;
use crate::metadata::{MetadataImage, TopicImage};
use crate::partition::{Absent, FetchError};
use crate::protocol::topic_ids::{self, TOPIC_IDS};
use crate::types::{NodeId, TopicId};
use crate::zerocopy::Piece;

/// Every API that is served, in the order of their keys.
pub const APIS: &[Api] = &[
    produce::API,
    fetch::API,
    list_offsets::API,
    metadata::API,
    offset_commit::API,
    offset_fetch::API,
    find_coordinator::API,
    join_group::API,
    heartbeat::API,
    leave_group::API,
    sync_group::API,
    describe_groups::API,
    list_groups::API,
    api_versions::API,
    create_topics::API,
    delete_topics::API,
    delete_records::API,
    init_producer_id::API,
    offset_for_leader_epoch::API,
    describe_configs::API,
    alter_configs::API,
    describe_log_dirs::API,
    create_partitions::API,
    delete_groups::API,
    alter_configs::INCREMENTAL_API,
    offset_delete::API,
    describe_quorum::API,
    describe_cluster::API,
    describe_producers::API,
    list_config_resources::API,
    describe_topic_partitions::API,
];

/// The API with this key, when it is served.
pub fn find(key: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key as i16 == key)
}

/// Every operation on a topic, as bits by `AclOperation` (without ACLs everybody may do all of them).
const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// Every operation on the cluster.
const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;
/// Operations were not asked for.
const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn broker_ids(nodes: &[NodeId]) -> Vec<BrokerId> {
    nodes.iter().map(|node| BrokerId(node.0)).collect()
}

/// The id of a leader on the wire: -1 for none.
fn leader_id(leader: Option<NodeId>) -> BrokerId {
    BrokerId(leader.map_or(-1, |leader| leader.0))
}

/// Code and message of a controller's refusal, as they go on the wire.
fn refusal(error: &ControllerError) -> (i16, Option<StrBytes>) {
    (error.code.code(), Some(error.message.as_str()).filter(|text| !text.is_empty()).map(text))
}

/// Answers when the future ends; the connection's next request waits for it.
fn later<M: Answered + 'static>(version: i16, answer: impl Future<Output = M> + Send + 'static) -> Reply {
    Reply::Later(Box::pin(async move { body(&answer.await, version) }))
}

/// As [`later`], for a message whose topics are called by their ids, in the version that has the ids
/// themselves (see [`topic_ids`]).
fn later_by_id<M: Answered + 'static>(
    key: ApiKey,
    answer: impl Future<Output = M> + Send + 'static,
) -> Reply {
    Reply::Later(Box::pin(async move {
        let mut written = body(&answer.await, TOPIC_IDS - 1);
        for piece in &mut written.pieces {
            if let Piece::Bytes(bytes) = piece {
                match topic_ids::response_by_id(key as i16, bytes) {
                    Ok(by_id) => *bytes = by_id,
                    // A defect: as in `body`, an empty answer is better than a wrong one.
                    Err(error) => {
                        tracing::error!(%error, ?key, "a response could not be rewritten");
                        *bytes = Bytes::new();
                    }
                }
            }
        }
        written
    }))
}

/// The topic that is called so: by its name, or since version 10 by its id.
fn called<'a>(image: &'a MetadataImage, name: &str, version: i16) -> Option<&'a Arc<TopicImage>> {
    match version {
        TOPIC_IDS.. => image.topic_by_id(TopicId(topic_ids::id_of(name)?)),
        _ => image.topic(name),
    }
}

/// Kafka's error for a partition that cannot be asked here.
fn absent_error(absent: Absent) -> ResponseError {
    match absent {
        Absent::Unknown => ResponseError::UnknownTopicOrPartition,
        Absent::Offline => ResponseError::KafkaStorageError,
    }
}

/// Kafka's error for a partition that cannot be read.
fn fetch_error(error: &FetchError) -> ResponseError {
    use crate::partition::replica::EpochError;
    use crate::segment::ReadError;
    match error {
        FetchError::NotLeader => ResponseError::NotLeaderOrFollower,
        FetchError::Epoch(EpochError::Fenced) => ResponseError::FencedLeaderEpoch,
        FetchError::Epoch(EpochError::Unknown) => ResponseError::UnknownLeaderEpoch,
        FetchError::Read(ReadError::OffsetOutOfRange { .. }) => ResponseError::OffsetOutOfRange,
        FetchError::Read(error) => {
            tracing::error!(%error, "a log cannot be read");
            ResponseError::KafkaStorageError
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_within_what_the_messages_carry() {
        assert!(APIS.is_sorted_by_key(|api| api.key as i16));
        for api in APIS {
            let carried = api.key.valid_versions();
            let rewritten = matches!(api.key, ApiKey::OffsetCommit | ApiKey::OffsetFetch);
            let most = if rewritten { TOPIC_IDS } else { carried.max };
            assert!(api.least >= carried.min && api.greatest <= most, "{:?}", api.key);
            assert_eq!(find(api.key as i16).map(|found| found.key), Some(api.key));
        }
    }
}
