//! OffsetFetch (key 9), versions 1 to 10: of one group up to 7, of several since 8 (KIP-709). Since 10
//! topics are named by id; see [`topic_ids`].
//!
//! Two fields change nothing. The member and its epoch (version 9) are checked for groups of the new protocol
//! alone, which there are none of; without transactions every commit is stable (KIP-447).

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{ApiKey, OffsetFetchRequest, OffsetFetchResponse, TopicName};

use super::super::Broker;
use super::super::api::{Api, Reply, Request, with_message};
use super::groups::kept;
use super::{called, later, later_by_id, text, topic_name};
use crate::coordinator::group::request::{FetchOffsets, FetchedOffset};
use crate::coordinator::group::{self, Response};
use crate::protocol::topic_ids::{self, TOPIC_IDS};

pub const API: Api = Api { key: ApiKey::OffsetFetch, least: 1, greatest: 10, handle };

/// Since this version several groups are asked for.
const BATCHED: i16 = 8;

type Partitions = Option<Vec<(Arc<str>, i32)>>;

fn handle(broker: &Arc<Broker>, mut request: Request) -> Reply {
    let broker = broker.clone();
    let version = request.version;
    request.version = version.min(TOPIC_IDS - 1);
    with_message(request, |_, message: OffsetFetchRequest| match version {
        TOPIC_IDS.. => later_by_id(API.key, async move { several_by_id(&broker, message).await }),
        BATCHED.. => later(version, async move { several(&broker, message).await }),
        _ => later(version, async move { one(&broker, message, version).await }),
    })
}

/// The partitions that are asked for; `None` is all.
fn asked<'a>(topics: Option<impl Iterator<Item = (&'a TopicName, &'a Vec<i32>)>>) -> Partitions {
    let topics = topics?;
    let partitions = topics.flat_map(|(name, indexes)| {
        let name = kept(name);
        indexes.iter().map(move |index| (name.clone(), *index))
    });
    Some(partitions.collect())
}

async fn fetch(broker: &Broker, fetch: FetchOffsets) -> Result<Vec<FetchedOffset>, ResponseError> {
    let group_id = fetch.group_id.clone();
    match broker.groups.ask(&group_id, group::Request::FetchOffsets(fetch)).await {
        Response::FetchOffsets(answer) => answer,
        Response::Failed(error) => Err(error),
        _ => Err(ResponseError::UnknownServerError),
    }
}

/// What was fetched, one list for each topic asked for, or for each that has something.
fn by_topic(
    names: Option<Vec<(TopicName, usize)>>,
    fetched: Vec<FetchedOffset>,
) -> Vec<(TopicName, Vec<FetchedOffset>)> {
    let mut rest = fetched.into_iter();
    match names {
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

async fn one(broker: &Broker, message: OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
    let topics = message.topics.as_ref();
    let partitions =
        asked(topics.map(|topics| topics.iter().map(|each| (&each.name, &each.partition_indexes))));
    let names = topics.map(|topics| {
        topics.iter().map(|topic| (topic.name.clone(), topic.partition_indexes.len())).collect::<Vec<_>>()
    });
    let asking = FetchOffsets { group_id: kept(&message.group_id), partitions: partitions.clone() };
    let (fetched, error) = match fetch(broker, asking).await {
        Ok(fetched) => (fetched, 0),
        // Version 1 has no place for an error but at each partition.
        Err(error) => (unknown(partitions), error.code()),
    };
    let topics = by_topic(names, fetched).into_iter().map(|(name, offsets)| {
        let partitions = offsets.into_iter().map(|offset| {
            let partition = OffsetFetchResponsePartition::default()
                .with_partition_index(offset.partition)
                .with_committed_offset(offset.offset)
                .with_metadata(Some(text(&offset.metadata)))
                .with_error_code(error);
            if version >= 5 { partition.with_committed_leader_epoch(offset.leader_epoch) } else { partition }
        });
        OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
    });
    let response = OffsetFetchResponse::default();
    // Since version 2 the whole answer has an error, and then no topics.
    match version {
        2.. if error != 0 => response.with_error_code(error),
        _ => response.with_topics(topics.collect()),
    }
}

/// Nothing, of every partition that was asked for.
fn unknown(partitions: Partitions) -> Vec<FetchedOffset> {
    let unknown = |(topic, partition)| FetchedOffset {
        topic,
        partition,
        offset: -1,
        leader_epoch: -1,
        metadata: "".into(),
    };
    partitions.into_iter().flatten().map(unknown).collect()
}

async fn several(broker: &Broker, message: OffsetFetchRequest) -> OffsetFetchResponse {
    let mut groups = Vec::with_capacity(message.groups.len());
    for group in message.groups {
        let topics = group.topics.as_ref();
        let asking = FetchOffsets {
            group_id: kept(&group.group_id),
            partitions: asked(
                topics.map(|topics| topics.iter().map(|each| (&each.name, &each.partition_indexes))),
            ),
        };
        let names = topics.map(|topics| {
            topics.iter().map(|topic| (topic.name.clone(), topic.partition_indexes.len())).collect::<Vec<_>>()
        });
        let answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id);
        groups.push(match fetch(broker, asking).await {
            Err(error) => answer.with_error_code(error.code()),
            Ok(fetched) => {
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
                answer.with_topics(topics.collect())
            }
        });
    }
    OffsetFetchResponse::default().with_groups(groups)
}

/// As [`several`], with ids where topics have names.
async fn several_by_id(broker: &Broker, mut message: OffsetFetchRequest) -> OffsetFetchResponse {
    let image = broker.image();
    // What has an id that nobody knows is not asked for, and told so behind the rest.
    let mut unknown = Vec::with_capacity(message.groups.len());
    for group in &mut message.groups {
        let mut missing = Vec::new();
        if let Some(topics) = &mut group.topics {
            topics.retain_mut(|topic| match called(&image, &topic.name, TOPIC_IDS) {
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
        unknown.push(missing);
    }
    let mut response = several(broker, message).await;
    for (group, missing) in response.groups.iter_mut().zip(unknown) {
        group.topics.retain_mut(|topic| match image.topic(&topic.name) {
            Some(known) => {
                topic.name = topic_name(&topic_ids::name_of(known.id.0));
                true
            }
            None => false, // deleted since: it has no id that could be told
        });
        if group.error_code != 0 {
            continue;
        }
        group.topics.extend(missing.into_iter().map(|topic| {
            let partitions = topic.partition_indexes.into_iter().map(|partition| {
                OffsetFetchResponsePartitions::default()
                    .with_partition_index(partition)
                    .with_committed_offset(-1)
                    .with_committed_leader_epoch(-1)
                    .with_metadata(Some(text("")))
                    .with_error_code(ResponseError::UnknownTopicId.code())
            });
            OffsetFetchResponseTopics::default().with_name(topic.name).with_partitions(partitions.collect())
        }));
    }
    response
}
