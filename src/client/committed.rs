//! Offsets that groups have committed: OffsetFetch and OffsetCommit.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest};

use super::admin::Partition;
use super::coordinator::{PerGroup, group_id};
use super::{Client, ClientError, Connection, text, topic_name};

/// OffsetFetch takes several groups from this version on (KIP-709).
const FETCH_BATCHED_VERSION: i16 = 8;
/// OffsetFetch can wait for the end of transactions from this version on (KIP-447).
const FETCH_STABLE_VERSION: i16 = 7;
/// OffsetFetch can ask for all partitions from this version on.
const FETCH_ALL_VERSION: i16 = 2;

/// A committed offset: that of the next record to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Committed {
    pub offset: i64,
    /// Of the last record read; -1: not known.
    pub leader_epoch: i32,
    pub metadata: String,
}

impl Committed {
    pub fn new(offset: i64, leader_epoch: i32) -> Self {
        Self { offset, leader_epoch, metadata: String::new() }
    }
}

pub type Offsets = BTreeMap<Partition, Committed>;

/// Who commits.
#[derive(Debug, Clone)]
pub struct Committer {
    pub group: String,
    /// Empty for a group without members.
    pub member_id: String,
    pub instance_id: Option<String>,
    /// -1 for a group without members.
    pub generation: i32,
}

impl Committer {
    /// Commits from outside, which only a group without members allows.
    pub fn administrator(group: &str) -> Self {
        Self { group: group.to_owned(), member_id: String::new(), instance_id: None, generation: -1 }
    }
}

impl Client {
    /// All that groups have committed. A group that does not exist has committed nothing.
    pub async fn committed_offsets(&self, groups: &[String]) -> Result<PerGroup<Offsets>, ClientError> {
        self.per_coordinator(groups, async |connection, _, part| {
            fetch_offsets(connection, part, None, false).await
        })
        .await
    }

    /// Commits offsets for a group without members.
    pub async fn commit_offsets(
        &self,
        group: &str,
        offsets: &Offsets,
    ) -> Result<BTreeMap<Partition, Result<(), ClientError>>, ClientError> {
        self.at_coordinator(group, async |connection| {
            commit_offsets(connection, &Committer::administrator(group), offsets).await
        })
        .await
    }
}

/// Asks a coordinator for what groups have committed: for all partitions or the given ones, with
/// `require_stable` only once no transaction is about to commit (UNSTABLE_OFFSET_COMMIT until then).
pub async fn fetch_offsets(
    connection: &Connection,
    groups: &[&str],
    partitions: Option<&[Partition]>,
    require_stable: bool,
) -> Result<PerGroup<Offsets>, ClientError> {
    let version = connection.require::<OffsetFetchRequest>(i16::MAX)?;
    let mut by_topic = BTreeMap::<&str, Vec<i32>>::new();
    for (topic, index) in partitions.unwrap_or_default() {
        by_topic.entry(topic).or_default().push(*index);
    }
    if version >= FETCH_BATCHED_VERSION {
        let groups = groups.iter().map(|group| {
            let topics = by_topic.iter().map(|(name, indexes)| {
                OffsetFetchRequestTopics::default()
                    .with_name(topic_name(name))
                    .with_partition_indexes(indexes.clone())
            });
            OffsetFetchRequestGroup::default()
                .with_group_id(group_id(group))
                .with_topics(partitions.map(|_| topics.collect()))
        });
        let request =
            OffsetFetchRequest::default().with_groups(groups.collect()).with_require_stable(require_stable);
        let response = connection.call_version(&request, version).await?;
        let mut fetched = PerGroup::new();
        for group in &response.groups {
            let offsets = ClientError::check(group.error_code, None).and_then(|()| {
                let partitions = group.topics.iter().flat_map(|topic| {
                    topic.partitions.iter().map(|partition| {
                        let key = (topic.name.to_string(), partition.partition_index);
                        let offset = (partition.committed_offset, partition.committed_leader_epoch);
                        (key, partition.error_code, offset, partition.metadata.as_deref())
                    })
                });
                offsets_of(partitions)
            });
            fetched.insert(group.group_id.to_string(), offsets);
        }
        return Ok(fetched);
    }
    if partitions.is_none() && version < FETCH_ALL_VERSION {
        return Err(ClientError::Unsupported {
            address: connection.address().to_owned(),
            api: "OffsetFetch of all partitions".to_owned(),
        });
    }
    let mut fetched = PerGroup::new();
    for group in groups {
        let topics = by_topic.iter().map(|(name, indexes)| {
            OffsetFetchRequestTopic::default()
                .with_name(topic_name(name))
                .with_partition_indexes(indexes.clone())
        });
        let request = OffsetFetchRequest::default()
            .with_group_id(group_id(group))
            .with_topics(partitions.map(|_| topics.collect()))
            .with_require_stable(require_stable && version >= FETCH_STABLE_VERSION);
        let response = connection.call_version(&request, version).await?;
        let offsets = ClientError::check(response.error_code, None).and_then(|()| {
            let partitions = response.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|partition| {
                    let key = (topic.name.to_string(), partition.partition_index);
                    let offset = (partition.committed_offset, partition.committed_leader_epoch);
                    (key, partition.error_code, offset, partition.metadata.as_deref())
                })
            });
            offsets_of(partitions)
        });
        fetched.insert((*group).to_owned(), offsets);
    }
    Ok(fetched)
}

/// Collects the partitions with an offset: those without one are answered with -1.
fn offsets_of<'a>(
    partitions: impl Iterator<Item = (Partition, i16, (i64, i32), Option<&'a str>)>,
) -> Result<Offsets, ClientError> {
    let mut offsets = Offsets::new();
    for (key, error_code, (offset, leader_epoch), metadata) in partitions {
        match ClientError::check(error_code, None) {
            // A topic that is gone: there is nothing to go on from.
            Err(error) if error.code() == Some(ResponseError::UnknownTopicOrPartition) => {}
            Err(error) => return Err(error),
            Ok(()) if offset < 0 => {}
            Ok(()) => {
                let metadata = metadata.unwrap_or_default().to_owned();
                offsets.insert(key, Committed { offset, leader_epoch, metadata });
            }
        }
    }
    Ok(offsets)
}

/// Commits at a coordinator. An error of the whole group (it moved, it has members, another generation)
/// is the error of the call; what concerns single partitions is in the answer.
pub async fn commit_offsets(
    connection: &Connection,
    committer: &Committer,
    offsets: &Offsets,
) -> Result<BTreeMap<Partition, Result<(), ClientError>>, ClientError> {
    let mut topics = BTreeMap::<&str, Vec<OffsetCommitRequestPartition>>::new();
    for ((topic, index), committed) in offsets {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(*index)
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_committed_metadata(Some(text(committed.metadata.clone())));
        topics.entry(topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetCommitRequestTopic::default().with_name(topic_name(name)).with_partitions(partitions)
    });
    let request = OffsetCommitRequest::default()
        .with_group_id(group_id(&committer.group))
        .with_generation_id_or_member_epoch(committer.generation)
        .with_member_id(text(committer.member_id.clone()))
        .with_group_instance_id(committer.instance_id.clone().map(text))
        .with_topics(topics.collect());
    let response = connection.call(&request).await?;
    let mut results = BTreeMap::new();
    for topic in &response.topics {
        for partition in &topic.partitions {
            let result = ClientError::check(partition.error_code, None);
            if let Err(error) = &result
                && concerns_the_group(error)
            {
                return Err(error.clone());
            }
            results.insert((topic.name.to_string(), partition.partition_index), result);
        }
    }
    Ok(results)
}

/// Errors that OffsetCommit repeats for every partition.
fn concerns_the_group(error: &ClientError) -> bool {
    !matches!(
        error.code(),
        Some(
            ResponseError::UnknownTopicOrPartition
                | ResponseError::TopicAuthorizationFailed
                | ResponseError::OffsetMetadataTooLarge
                | ResponseError::InvalidCommitOffsetSize
        )
    )
}
