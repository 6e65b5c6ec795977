//! The offsets that groups have committed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::records::{OffsetKey, OffsetValue, offset_record, offset_tombstone};
use super::request::{
    CommitOffsets, DeleteOffsets, FetchOffsets, FetchedOffset, GroupError, GroupId, OffsetToCommit,
};
use crate::coordinator::{CoordinatorRecord, Now};
use crate::types::TopicId;

/// Most bytes of the records of one commit. A request names its group and its topics once, its records name
/// both for each partition, so that a small request might take any amount of memory.
const COMMIT_BYTES_MAX: usize = 64 << 20;

/// Topic by topic, partition by partition.
type OffsetsOfGroup = BTreeMap<Arc<str>, OffsetsOfTopic>;

/// What a group has committed for a topic, partition by partition.
#[derive(Debug)]
struct OffsetsOfTopic {
    /// The topic that all of them were committed for: a commit for a new one of the same name ends them.
    /// Zero when no record says so.
    topic_id: TopicId,
    partitions: BTreeMap<i32, OffsetValue>,
}

impl OffsetsOfTopic {
    fn is_of_another(&self, topic_id: TopicId) -> bool {
        self.topic_id != TopicId::ZERO && topic_id != TopicId::ZERO && self.topic_id != topic_id
    }
}

/// The topics that there are, by the newest metadata that this node knows.
#[derive(Clone)]
pub struct TopicIds(Arc<IdOf>);

type IdOf = dyn Fn(&str) -> Option<TopicId> + Send + Sync;

impl TopicIds {
    /// `id_of` finds the id of the topic that has a name now.
    pub fn new(id_of: impl Fn(&str) -> Option<TopicId> + Send + Sync + 'static) -> Self {
        Self(Arc::new(id_of))
    }

    /// Whether this is the topic of that name. A topic whose id is not known (zero) is taken to be.
    fn has(&self, name: &str, id: TopicId) -> bool {
        id == TopicId::ZERO || (self.0)(name) == Some(id)
    }
}

impl fmt::Debug for TopicIds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TopicIds")
    }
}

/// The records of a commit, and what each of its partitions is answered.
type Committing = (Vec<CoordinatorRecord>, Vec<Result<(), GroupError>>);

/// All committed offsets of a shard.
#[derive(Debug, Default)]
pub struct CommittedOffsets {
    groups: BTreeMap<GroupId, OffsetsOfGroup>,
    count: usize,
}

/// From when on the offsets of a group age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgesFrom {
    /// Since the group became empty, in milliseconds since 1970.
    Empty(i64),
    /// Since each was committed.
    Commit,
}

impl CommittedOffsets {
    /// Follows a record; the topic's id is zero when it does not say it.
    pub fn replay(&mut self, key: &OffsetKey, topic_id: TopicId, value: Option<OffsetValue>) {
        let Some(value) = value else {
            self.remove(key);
            return;
        };
        let topics = self.groups.entry(key.group.clone()).or_default();
        let topic = match topics.get_mut(&key.topic) {
            Some(topic) => topic,
            None => topics
                .entry(key.topic.clone())
                .or_insert(OffsetsOfTopic { topic_id, partitions: BTreeMap::new() }),
        };
        if topic.is_of_another(topic_id) {
            self.count -= topic.partitions.len();
            topic.partitions.clear();
        }
        if topic_id != TopicId::ZERO {
            topic.topic_id = topic_id;
        }
        if topic.partitions.insert(key.partition, value).is_none() {
            self.count += 1;
        }
    }

    fn remove(&mut self, key: &OffsetKey) {
        let Some(topics) = self.groups.get_mut(&key.group) else { return };
        let Some(topic) = topics.get_mut(&key.topic) else { return };
        if topic.partitions.remove(&key.partition).is_some() {
            self.count -= 1;
        }
        if topic.partitions.is_empty() {
            topics.remove(&key.topic);
        }
        if topics.is_empty() {
            self.groups.remove(&key.group);
        }
    }

    /// Removes those of topics that are not `current` (any more), and tells which they were.
    pub fn remove_outdated(&mut self, current: &TopicIds) -> Vec<OffsetKey> {
        let mut outdated = Vec::new();
        self.groups.retain(|group, topics| {
            topics.retain(|name, topic| {
                let stays = current.has(name, topic.topic_id);
                if !stays {
                    let key = |partition| OffsetKey { group: group.clone(), topic: name.clone(), partition };
                    outdated.extend(topic.partitions.keys().map(|partition| key(*partition)));
                }
                stays
            });
            !topics.is_empty()
        });
        self.count -= outdated.len();
        outdated
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn has_group(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// Everything that is committed: group, topic, partition and value.
    pub fn all(&self) -> impl Iterator<Item = (&GroupId, &Arc<str>, i32, &OffsetValue)> {
        self.groups.iter().flat_map(|(group, topics)| {
            topics.iter().flat_map(move |(name, topic)| {
                topic.partitions.iter().map(move |(partition, value)| (group, name, *partition, value))
            })
        })
    }

    /// The records of a commit, and what each of its partitions is answered.
    ///
    /// # Errors
    /// `InvalidCommitOffsetSize` when the records are more than [`COMMIT_BYTES_MAX`].
    pub fn commit(
        &self,
        request: &CommitOffsets,
        current: &TopicIds,
        metadata_bytes_max: usize,
        now: Now,
    ) -> Result<Committing, GroupError> {
        let mut records = self.tombstones_of_earlier_topics(request);
        let mut bytes = 0;
        let mut answers = Vec::with_capacity(request.offsets.len());
        for offset in &request.offsets {
            // The topic may have gone on the way here.
            if !current.has(&offset.topic, offset.topic_id) {
                answers.push(Err(GroupError::UnknownTopicOrPartition));
                continue;
            }
            // Kafka counts what it calls bytes in UTF-16.
            if offset.metadata.encode_utf16().count() > metadata_bytes_max {
                answers.push(Err(GroupError::OffsetMetadataTooLarge));
                continue;
            }
            let key = OffsetKey {
                group: request.group_id.clone(),
                topic: offset.topic.clone(),
                partition: offset.partition,
            };
            let value = OffsetValue {
                offset: offset.offset,
                leader_epoch: offset.leader_epoch,
                metadata: offset.metadata.clone(),
                commit_timestamp_ms: now.wall_ms,
                expire_timestamp_ms: request
                    .retention_ms
                    .map(|retention| now.wall_ms.saturating_add(retention)),
            };
            let record = offset_record(&key, &value, offset.topic_id);
            bytes += record.key.len() + record.value.as_ref().map_or(0, Bytes::len);
            if bytes > COMMIT_BYTES_MAX {
                return Err(GroupError::InvalidCommitOffsetSize);
            }
            records.push(record);
            answers.push(Ok(()));
        }
        Ok((records, answers))
    }

    /// What is committed for the partitions that are asked for, or for all.
    pub fn fetch(&self, request: &FetchOffsets) -> Vec<FetchedOffset> {
        let topics = self.groups.get(&request.group_id);
        let fetched = |topic: &Arc<str>, partition: i32, value: Option<&OffsetValue>| FetchedOffset {
            topic: topic.clone(),
            partition,
            offset: value.map_or(-1, |value| value.offset),
            leader_epoch: value.map_or(-1, |value| value.leader_epoch),
            metadata: value.map(|value| value.metadata.clone()).unwrap_or_default(),
        };
        match &request.partitions {
            Some(asked) => asked
                .iter()
                .map(|(topic, partition)| {
                    let value = topics.and_then(|topics| topics.get(topic)?.partitions.get(partition));
                    fetched(topic, *partition, value)
                })
                .collect(),
            None => topics
                .into_iter()
                .flatten()
                .flat_map(|(name, topic)| {
                    let partitions = topic.partitions.iter();
                    partitions.map(move |(partition, value)| fetched(name, *partition, Some(value)))
                })
                .collect(),
        }
    }

    fn tombstones(
        &self,
        group: &GroupId,
        mut goes: impl FnMut(&str, TopicId, &OffsetValue) -> bool,
    ) -> Vec<CoordinatorRecord> {
        let mut records = Vec::new();
        for (name, topic) in self.groups.get(group).into_iter().flatten() {
            for (partition, value) in &topic.partitions {
                if goes(name, topic.topic_id, value) {
                    let key = OffsetKey { group: group.clone(), topic: name.clone(), partition: *partition };
                    records.push(offset_tombstone(&key));
                }
            }
        }
        records
    }

    /// Of a group that is deleted.
    pub fn tombstones_of_group(&self, group: &GroupId) -> Vec<CoordinatorRecord> {
        self.tombstones(group, |_, _, _| true)
    }

    /// Of topics that are gone. A topic that has the name of one of them by now keeps what is its own.
    pub fn tombstones_of_topics(&self, gone: &[(Arc<str>, TopicId)]) -> Vec<CoordinatorRecord> {
        let is_gone = |name: &str, id: TopicId| {
            gone.iter().any(|(gone, gone_id)| **gone == *name && (id == *gone_id || id == TopicId::ZERO))
        };
        let groups = self.groups.keys();
        groups.flat_map(|group| self.tombstones(group, |name, id, _| is_gone(name, id))).collect()
    }

    /// Of topics whose names are committed for anew, with other ids.
    fn tombstones_of_earlier_topics(&self, request: &CommitOffsets) -> Vec<CoordinatorRecord> {
        let Some(topics) = self.groups.get(&request.group_id) else { return Vec::new() };
        let is_earlier = |offset: &&OffsetToCommit| {
            topics.get(&offset.topic).is_some_and(|topic| topic.is_of_another(offset.topic_id))
        };
        let earlier = request.offsets.iter().filter(is_earlier);
        let earlier: BTreeSet<&str> = earlier.map(|offset| &*offset.topic).collect();
        match earlier.is_empty() {
            true => Vec::new(),
            false => self.tombstones(&request.group_id, |name, _, _| earlier.contains(name)),
        }
    }

    /// The records of a deletion, and what each partition is answered (true: there was an offset): nothing
    /// is deleted for topics that the group is subscribed to.
    pub fn delete(
        &self,
        request: &DeleteOffsets,
        is_subscribed: impl Fn(&str) -> bool,
    ) -> (Vec<CoordinatorRecord>, Vec<Result<bool, GroupError>>) {
        let mut records = Vec::new();
        let answers = request.partitions.iter().map(|(topic, partition)| {
            if is_subscribed(topic) {
                return Err(GroupError::GroupSubscribedToTopic);
            }
            let key =
                OffsetKey { group: request.group_id.clone(), topic: topic.clone(), partition: *partition };
            let was_there = self.has(&key);
            if was_there {
                records.push(offset_tombstone(&key));
            }
            Ok(was_there)
        });
        let answers = answers.collect();
        (records, answers)
    }

    /// Tombstones of the offsets that have expired (KIP-211): those with a time of their own at that time,
    /// all others when they have aged for `retention_ms`; none of topics that the group is subscribed to.
    pub fn expired(
        &self,
        group: &GroupId,
        ages_from: AgesFrom,
        is_subscribed: impl Fn(&str) -> bool,
        retention_ms: i64,
        now: Now,
    ) -> Vec<CoordinatorRecord> {
        self.tombstones(group, |topic, _, value| {
            let is_over = match (value.expire_timestamp_ms, ages_from) {
                (Some(end), _) => now.wall_ms >= end,
                (None, AgesFrom::Empty(since)) => now.wall_ms.saturating_sub(since) >= retention_ms,
                (None, AgesFrom::Commit) => {
                    now.wall_ms.saturating_sub(value.commit_timestamp_ms) >= retention_ms
                }
            };
            is_over && !is_subscribed(topic)
        })
    }

    pub fn has(&self, key: &OffsetKey) -> bool {
        let topic = self.groups.get(&key.group).and_then(|topics| topics.get(&key.topic));
        topic.is_some_and(|topic| topic.partitions.contains_key(&key.partition))
    }

    /// How many offsets a group has committed.
    pub fn count_of(&self, group: &str) -> usize {
        self.groups.get(group).map_or(0, |topics| topics.values().map(|topic| topic.partitions.len()).sum())
    }
}

#[cfg(test)]
mod tests;
