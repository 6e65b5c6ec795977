//! The offsets that groups have committed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::records::{OffsetKey, OffsetValue, offset_record, offset_tombstone};
use super::request::{CommitOffsets, DeleteOffsets, FetchOffsets, FetchedOffset, GroupId};
use crate::coordinator::{CoordinatorRecord, Now};

/// Most bytes of the records of one commit. A request names its group and its topics once, its records name
/// both for each partition, so that a small request might take any amount of memory.
const COMMIT_BYTES_MAX: usize = 64 << 20;

/// Topic by topic, partition by partition.
type OffsetsOfGroup = BTreeMap<Arc<str>, BTreeMap<i32, OffsetValue>>;

/// The records of a commit or a deletion, and what each of its partitions is answered.
type Committing = (Vec<CoordinatorRecord>, Vec<Result<(), ResponseError>>);

/// All committed offsets of a shard.
#[derive(Debug, Default)]
pub struct CommittedOffsets {
    groups: HashMap<GroupId, OffsetsOfGroup>,
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
    /// Follows a record.
    pub fn replay(&mut self, key: &OffsetKey, value: Option<OffsetValue>) {
        let Some(value) = value else {
            self.remove(key);
            return;
        };
        let topics = self.groups.entry(key.group.clone()).or_default();
        let partitions = match topics.get_mut(&key.topic) {
            Some(partitions) => partitions,
            None => topics.entry(key.topic.clone()).or_default(),
        };
        if partitions.insert(key.partition, value).is_none() {
            self.count += 1;
        }
    }

    fn remove(&mut self, key: &OffsetKey) {
        let Some(topics) = self.groups.get_mut(&key.group) else { return };
        let Some(partitions) = topics.get_mut(&key.topic) else { return };
        if partitions.remove(&key.partition).is_some() {
            self.count -= 1;
        }
        if partitions.is_empty() {
            topics.remove(&key.topic);
        }
        if topics.is_empty() {
            self.groups.remove(&key.group);
        }
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
            topics.iter().flat_map(move |(topic, partitions)| {
                partitions.iter().map(move |(partition, value)| (group, topic, *partition, value))
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
        metadata_bytes_max: usize,
        now: Now,
    ) -> Result<Committing, ResponseError> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut answers = Vec::with_capacity(request.offsets.len());
        for offset in &request.offsets {
            // Kafka counts what it calls bytes in UTF-16.
            if offset.metadata.encode_utf16().count() > metadata_bytes_max {
                answers.push(Err(ResponseError::OffsetMetadataTooLarge));
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
                return Err(ResponseError::InvalidCommitOffsetSize);
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
                    let value = topics.and_then(|topics| topics.get(topic)?.get(partition));
                    fetched(topic, *partition, value)
                })
                .collect(),
            None => topics
                .into_iter()
                .flatten()
                .flat_map(|(topic, partitions)| {
                    partitions.iter().map(move |(partition, value)| fetched(topic, *partition, Some(value)))
                })
                .collect(),
        }
    }

    fn tombstones(
        &self,
        group: &GroupId,
        mut goes: impl FnMut(&str, i32, &OffsetValue) -> bool,
    ) -> Vec<CoordinatorRecord> {
        let mut records = Vec::new();
        for (topic, partitions) in self.groups.get(group).into_iter().flatten() {
            for (partition, value) in partitions {
                if goes(topic, *partition, value) {
                    let key = OffsetKey { group: group.clone(), topic: topic.clone(), partition: *partition };
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

    /// Of topics that are gone.
    pub fn tombstones_of_topics(&self, topics: &[Arc<str>]) -> Vec<CoordinatorRecord> {
        let is_gone = |topic: &str| topics.iter().any(|gone| **gone == *topic);
        self.groups.keys().flat_map(|group| self.tombstones(group, |topic, _, _| is_gone(topic))).collect()
    }

    /// The records of a deletion, and what each partition is answered: nothing is deleted for topics that
    /// the group is subscribed to.
    pub fn delete(&self, request: &DeleteOffsets, is_subscribed: impl Fn(&str) -> bool) -> Committing {
        let topics = self.groups.get(&request.group_id);
        let mut records = Vec::new();
        let answers = request.partitions.iter().map(|(topic, partition)| {
            if is_subscribed(topic) {
                return Err(ResponseError::GroupSubscribedToTopic);
            }
            if topics
                .is_some_and(|topics| topics.get(topic).is_some_and(|found| found.contains_key(partition)))
            {
                let key = OffsetKey {
                    group: request.group_id.clone(),
                    topic: topic.clone(),
                    partition: *partition,
                };
                records.push(offset_tombstone(&key));
            }
            Ok(())
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

    /// How many offsets a group has committed.
    pub fn count_of(&self, group: &str) -> usize {
        self.groups.get(group).map_or(0, |topics| topics.values().map(BTreeMap::len).sum())
    }
}

#[cfg(test)]
mod tests;
