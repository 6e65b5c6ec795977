//! OffsetCommit (key 8): how far a group has read.

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::find_topic;
use super::groups::{to_owned_optional, to_owned_text};
use crate::coordinator::CoordinatorError;
use crate::coordinator::group::request::{CommitOffsets, GroupError, OffsetToCommit};
use crate::metadata::MetadataImage;
use crate::protocol::guard::shapes;
use crate::protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::{WireError, group_error};

pub(super) const API: Api = Api {
    shape: &shapes::OFFSET_COMMIT,
    versions: 2..=10,
    notes: &[
        (5, "how long offsets are kept is the broker's to say (KIP-211)"),
        (6, "leader epochs (KIP-320)"),
        (7, "static members (KIP-345)"),
        (10, "topics by id (KIP-848)"),
    ],
    served_on: BROKERS,
    answered_by: AnsweredBy::GroupCoordinator,
    needs: &[Need(Operation::Read, Resource::Group), Need(Operation::Read, Resource::Topic)],
    handler: Handler::later::<OffsetCommitRequest>(),
};

error_codes!(OffsetCommitResponse: [topics partitions]);

/// The first version in which a client knows how to be told that its coordinator loads.
const KNOWS_LOADING: i16 = 3;
/// The first version in which a client may be told that there is no such group.
const KNOWS_MISSING_GROUP: i16 = 9;
/// The first version that names topics by id.
const TOPIC_IDS: i16 = 10;

impl Answered for OffsetCommitRequest {
    type Response = OffsetCommitResponse;

    fn error_response(&self, _: i16, error: &WireError) -> OffsetCommitResponse {
        let topics = self.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                OffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(error.number())
            });
            OffsetCommitResponseTopic::default()
                .with_name(topic.name.clone())
                .with_topic_id(topic.topic_id)
                .with_partitions(partitions.collect())
        });
        OffsetCommitResponse::default().with_topics(topics.collect())
    }
}

impl AnswerLater for OffsetCommitRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> OffsetCommitResponse {
        let image = broker.image();
        // Partitions that are not there have their error, whatever becomes of the rest.
        let offsets = known_offsets(&self, &image);
        if offsets.is_empty() {
            return to_response(&self, &image, request.version, &Ok(Vec::new()));
        }
        let commit = CommitOffsets {
            group_id: to_owned_text(&self.group_id),
            generation_id: self.generation_id_or_member_epoch,
            member_id: to_owned_text(&self.member_id),
            group_instance_id: to_owned_optional(&self.group_instance_id),
            retention_ms: Some(self.retention_time_ms).filter(|retention| *retention >= 0),
            offsets,
        };
        let committed = broker.groups.commit_offsets(commit).await.map_err(|error| match error {
            // Older clients know no other way to be told to come again.
            GroupError::Coordinator(CoordinatorError::Loading) if request.version < KNOWS_LOADING => {
                ResponseError::CoordinatorNotAvailable
            }
            GroupError::GroupIdNotFound if request.version < KNOWS_MISSING_GROUP => {
                ResponseError::IllegalGeneration
            }
            error => group_error(&error),
        });
        if let Ok(committed) = &committed
            && committed.is_reset
        {
            log_reset(&request, &self, &committed.results);
        }
        to_response(&self, &image, request.version, &committed.map(|committed| committed.results))
    }
}

/// Somebody sets what the members of a group go on from, as administrators do.
fn log_reset(request: &Request, message: &OffsetCommitRequest, results: &[Result<(), GroupError>]) {
    let offsets = results.iter().filter(|result| result.is_ok()).count();
    tracing::info!(group = %message.group_id.as_str(), offsets, client = request.client(), host = %request.client_host, "offsets of a group without members were set");
}

/// What is to be committed for partitions that are there.
fn known_offsets(message: &OffsetCommitRequest, image: &MetadataImage) -> Vec<OffsetToCommit> {
    let mut offsets = Vec::new();
    for topic in &message.topics {
        let Some(known) = find_topic(image, &topic.name, topic.topic_id) else { continue };
        for partition in &topic.partitions {
            if known.partition(partition.partition_index).is_some() {
                offsets.push(OffsetToCommit {
                    topic: known.name.clone(),
                    topic_id: known.id,
                    partition: partition.partition_index,
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.committed_metadata.as_ref().map(to_owned_text).unwrap_or_default(),
                });
            }
        }
    }
    offsets
}

/// `committed`: what became of each known partition in the order of the request, or of all of them.
fn to_response(
    message: &OffsetCommitRequest,
    image: &MetadataImage,
    version: i16,
    committed: &Result<Vec<Result<(), GroupError>>, ResponseError>,
) -> OffsetCommitResponse {
    let mut each = committed.as_ref().ok().into_iter().flatten();
    let mut topics = Vec::with_capacity(message.topics.len());
    for topic in message.topics.iter().filter(|topic| !topic.partitions.is_empty()) {
        let known = find_topic(image, &topic.name, topic.topic_id);
        let missing_error = match known {
            None if version >= TOPIC_IDS => ResponseError::UnknownTopicId,
            _ => ResponseError::UnknownTopicOrPartition,
        };
        let is_there = |index| known.is_some_and(|known| known.partition(index).is_some());
        let result = |index, error: Option<ResponseError>| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(error.map_or(0, |error| error.code()))
        };
        // As by Kafka, what is not there comes first.
        let indexes = || topic.partitions.iter().map(|partition| partition.partition_index);
        let missing = indexes().filter(|index| !is_there(*index));
        let missing = missing.map(|index| result(index, Some(missing_error)));
        let there = indexes().filter(|index| is_there(*index)).map(|index| {
            let error = match committed {
                Ok(_) => match each.next() {
                    Some(result) => result.as_ref().err().map(group_error),
                    None => Some(ResponseError::UnknownServerError),
                },
                Err(error) => Some(*error),
            };
            result(index, error)
        });
        let partitions = missing.chain(there).collect();
        topics.push(
            OffsetCommitResponseTopic::default()
                .with_name(topic.name.clone())
                .with_topic_id(topic.topic_id)
                .with_partitions(partitions),
        );
    }
    OffsetCommitResponse::default().with_topics(topics)
}
