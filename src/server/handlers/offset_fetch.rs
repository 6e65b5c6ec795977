//! OffsetFetch (key 9): what groups have committed.
//!
//! Two fields change nothing. The member and its epoch (version 9) are checked for groups of the new protocol
//! alone, which there are none of; without transactions every commit is stable (KIP-447).

use std::sync::Arc;

use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::groups::to_owned_text;
use super::{find_topic, text, topic_name};
use crate::coordinator::group::request::{FetchOffsets, FetchedOffset};
use crate::metadata::MetadataImage;
use crate::protocol::guard::shapes;
use crate::protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use crate::protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use crate::protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use crate::server::Broker;
use crate::server::api::{
    AnswerLater, Answered, AnsweredBy, Api, BROKERS, Handler, Need, Operation, Request, Resource,
};
use crate::server::errors::error_codes;
use crate::server::wire_errors::{WireError, group_error};

pub(super) const API: Api = Api {
    shape: &shapes::OFFSET_FETCH,
    versions: 1..=10,
    notes: &[
        (2, "all that is committed; an error of the whole answer"),
        (5, "leader epochs (KIP-320)"),
        (7, "stable offsets alone (KIP-447)"),
        (8, "several groups (KIP-709)"),
        (10, "topics by id (KIP-848)"),
    ],
    served_on: BROKERS,
    answered_by: AnsweredBy::GroupCoordinator,
    needs: &[Need(Operation::Describe, Resource::Group), Need(Operation::Describe, Resource::Topic)],
    handler: Handler::later::<OffsetFetchRequest>(),
};

error_codes!(OffsetFetchResponse: [] [topics partitions] [groups] [groups topics partitions]);

/// The first version whose whole answer has an error.
const HAS_ERROR: i16 = 2;
/// Since this version several groups are asked for.
const BATCHED: i16 = 8;
/// The first version that names topics by id.
const TOPIC_IDS: i16 = 10;

impl Answered for OffsetFetchRequest {
    type Response = OffsetFetchResponse;

    fn error_response(&self, version: i16, error: &WireError) -> OffsetFetchResponse {
        match version {
            BATCHED.. => {
                let groups = self.groups.iter().map(|group| {
                    OffsetFetchResponseGroup::default()
                        .with_group_id(group.group_id.clone())
                        .with_error_code(error.number())
                });
                OffsetFetchResponse::default().with_groups(groups.collect())
            }
            HAS_ERROR.. => OffsetFetchResponse::default().with_error_code(error.number()),
            _ => {
                let topics = self.topics.iter().flatten().map(|topic| {
                    let partitions = topic.partition_indexes.iter().map(|index| {
                        OffsetFetchResponsePartition::default()
                            .with_partition_index(*index)
                            .with_committed_offset(-1)
                            .with_metadata(Some(text("")))
                            .with_error_code(error.number())
                    });
                    OffsetFetchResponseTopic::default()
                        .with_name(topic.name.clone())
                        .with_partitions(partitions.collect())
                });
                OffsetFetchResponse::default().with_topics(topics.collect())
            }
        }
    }
}

impl AnswerLater for OffsetFetchRequest {
    async fn answer(self, broker: Arc<Broker>, request: Request) -> OffsetFetchResponse {
        let version = request.version;
        if version < BATCHED {
            return one(&broker, &self, version).await;
        }
        let image = broker.image();
        let mut groups = Vec::with_capacity(self.groups.len());
        for group in self.groups {
            groups.push(match version {
                TOPIC_IDS.. => group_by_id(&broker, &image, group).await,
                _ => group_by_name(&broker, group).await,
            });
        }
        OffsetFetchResponse::default().with_groups(groups)
    }
}

/// The partitions that are asked for; `None` is all.
fn to_partitions<'a>(
    topics: Option<impl Iterator<Item = (&'a TopicName, &'a Vec<i32>)>>,
) -> Option<Vec<(Arc<str>, i32)>> {
    let partitions = topics?.flat_map(|(name, indexes)| {
        let name = to_owned_text(name);
        indexes.iter().map(move |index| (name.clone(), *index))
    });
    Some(partitions.collect())
}

/// What was fetched, one list for each topic asked for (with as many partitions), or for each that has something.
fn by_topic(
    asked: Option<Vec<(TopicName, usize)>>,
    fetched: Vec<FetchedOffset>,
) -> Vec<(TopicName, Vec<FetchedOffset>)> {
    let mut rest = fetched.into_iter();
    match asked {
        Some(names) => {
            names.into_iter().map(|(name, count)| (name, rest.by_ref().take(count).collect())).collect()
        }
        None => {
            let mut topics: Vec<(TopicName, Vec<FetchedOffset>)> = Vec::new();
            for offset in rest {
                match topics.last_mut() {
                    Some((name, offsets)) if name.as_str() == &*offset.topic => offsets.push(offset),
                    _ => topics.push((topic_name(&offset.topic), vec![offset])),
                }
            }
            topics
        }
    }
}

async fn one(broker: &Broker, message: &OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
    let topics = message.topics.as_ref();
    let asked = topics.map(|topics| topics.iter().map(|each| (&each.name, &each.partition_indexes)));
    let fetch = FetchOffsets { group_id: to_owned_text(&message.group_id), partitions: to_partitions(asked) };
    let fetched = match broker.groups.fetch_offsets(fetch).await {
        Ok(fetched) => fetched,
        Err(error) => return message.error_response(version, &group_error(&error).into()),
    };
    let names = topics.map(|topics| {
        topics.iter().map(|topic| (topic.name.clone(), topic.partition_indexes.len())).collect::<Vec<_>>()
    });
    let topics = by_topic(names, fetched).into_iter().map(|(name, offsets)| {
        let partitions = offsets.into_iter().map(|offset| {
            let partition = OffsetFetchResponsePartition::default()
                .with_partition_index(offset.partition)
                .with_committed_offset(offset.offset)
                .with_metadata(Some(text(&offset.metadata)));
            if version >= 5 { partition.with_committed_leader_epoch(offset.leader_epoch) } else { partition }
        });
        OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

async fn group_by_name(broker: &Broker, group: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let topics = group.topics.as_ref();
    let asked = topics.map(|topics| topics.iter().map(|each| (&each.name, &each.partition_indexes)));
    let fetch = FetchOffsets { group_id: to_owned_text(&group.group_id), partitions: to_partitions(asked) };
    let names = topics.map(|topics| {
        topics.iter().map(|topic| (topic.name.clone(), topic.partition_indexes.len())).collect::<Vec<_>>()
    });
    let response = OffsetFetchResponseGroup::default().with_group_id(group.group_id);
    let fetched = match broker.groups.fetch_offsets(fetch).await {
        Ok(fetched) => fetched,
        Err(error) => return response.with_error_code(group_error(&error).code()),
    };
    let topics = by_topic(names, fetched).into_iter().map(|(name, offsets)| {
        let partitions = offsets.into_iter().map(|offset| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(offset.partition)
                .with_committed_offset(offset.offset)
                .with_committed_leader_epoch(offset.leader_epoch)
                .with_metadata(Some(text(&offset.metadata)))
        });
        OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.collect())
    });
    response.with_topics(topics.collect())
}

/// As [`group_by_name`], with ids where topics have names.
async fn group_by_id(
    broker: &Broker,
    image: &MetadataImage,
    mut group: OffsetFetchRequestGroup,
) -> OffsetFetchResponseGroup {
    // What has an id that nobody knows is not asked for, and comes behind the rest.
    let mut missing: Vec<OffsetFetchRequestTopics> = Vec::new();
    if let Some(topics) = &mut group.topics {
        topics.retain_mut(|topic| match find_topic(image, "", topic.topic_id) {
            Some(known) => {
                topic.name = topic_name(&known.name);
                true
            }
            None => {
                missing.push(std::mem::take(topic));
                false
            }
        });
    }
    let mut response = group_by_name(broker, group).await;
    response.topics.retain_mut(|topic| match find_topic(image, &topic.name, Uuid::nil()) {
        Some(known) => {
            topic.topic_id = known.id.0;
            true
        }
        None => false, // deleted since: it has no id that could be given
    });
    if response.error_code == 0 {
        response.topics.extend(missing.into_iter().map(|topic| {
            let partitions = topic.partition_indexes.into_iter().map(|partition| {
                OffsetFetchResponsePartitions::default()
                    .with_partition_index(partition)
                    .with_committed_offset(-1)
                    .with_committed_leader_epoch(-1)
                    .with_metadata(Some(text("")))
                    .with_error_code(ResponseError::UnknownTopicId.code())
            });
            OffsetFetchResponseTopics::default()
                .with_topic_id(topic.topic_id)
                .with_partitions(partitions.collect())
        }));
    }
    response
}
