//! The group coordinator of this node: which shard a group belongs to, and its topic.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;

use super::offsets::TopicIds;
use super::request::{Request, Response};
use super::shard::{GroupShard, GroupShardConfig};
use crate::config::groups::GroupsConfig;
use crate::controller::{ControllerHandle, CreateTopics, NewTopic};
use crate::coordinator::runtime::{Runtime, RuntimeConfig};
use crate::env::Clock;
use crate::metadata::{GROUP_METADATA_TOPIC, MetadataDelta};
use crate::partition::PartitionManager;
use crate::protocol::batch::Compression;
use crate::raft::MetadataQuorum;
use crate::types::{NodeId, TopicId};

/// Groups and their offsets, as handlers ask for them.
#[derive(Clone)]
pub struct GroupCoordinator {
    runtime: Arc<Runtime<GroupShard>>,
    controller: ControllerHandle,
    quorum: MetadataQuorum,
    config: GroupsConfig,
}

impl GroupCoordinator {
    /// A coordinator without shards; [`Self::follow`] loads them.
    pub fn new(
        config: GroupsConfig,
        partitions: Arc<PartitionManager>,
        clock: Arc<dyn Clock>,
        controller: ControllerHandle,
        quorum: MetadataQuorum,
    ) -> Self {
        let runtime = RuntimeConfig {
            topic: GROUP_METADATA_TOPIC,
            commit_timeout: Duration::from_millis(u64::try_from(config.commit_timeout_ms).unwrap_or(0)),
            compression: Compression::ALL
                .into_iter()
                .find(|codec| *codec as i16 == config.topic_compression)
                .unwrap_or(Compression::None),
        };
        let shard = GroupShardConfig::from(&config);
        let topics = TopicIds::new({
            let quorum = quorum.clone();
            move |name| quorum.image().topic(name).map(|topic| topic.id)
        });
        let new_shard = move || GroupShard::new(shard.clone(), topics.clone());
        let runtime = Runtime::new(runtime, partitions, clock, new_shard);
        tokio::spawn(runtime.clone().watch_clock());
        Self { runtime, controller, quorum, config }
    }

    /// Follows a change of the metadata, once the partitions have followed it: leaderships begin and end,
    /// and offsets of topics that are gone go too.
    pub fn follow(&self, delta: &MetadataDelta) {
        self.runtime.follow();
        if delta.topics_removed.is_empty() {
            return;
        }
        let removed = delta.topics_removed.values();
        let gone: Vec<(Arc<str>, TopicId)> = removed.map(|topic| (topic.name.clone(), topic.id)).collect();
        let runtime = self.runtime.clone();
        tokio::spawn(async move {
            for answer in runtime.ask_all(|| Request::TopicsDeleted(gone.clone())).await {
                match answer {
                    // A shard that is loaded later looks itself which topics there still are.
                    Ok(_) | Err(ResponseError::CoordinatorLoadInProgress) => {}
                    Err(error) => {
                        tracing::warn!(topics = ?gone, %error, "offsets committed for deleted topics stay until they are loaded again");
                    }
                }
            }
        });
    }

    /// Drops all shards; who waits is told to look for the coordinator again.
    pub async fn stop(&self) {
        self.runtime.stop().await;
    }

    /// Asks the shard that holds the group.
    pub async fn ask(&self, group_id: &str, request: Request) -> Response {
        let Some(partition) = self.partition_of(group_id) else {
            return Response::Failed(ResponseError::NotCoordinator);
        };
        self.runtime.ask(partition, request).await.unwrap_or_else(Response::Failed)
    }

    /// Asks every shard of this node.
    pub async fn ask_all(&self, request: impl Fn() -> Request) -> Vec<Response> {
        let answers = self.runtime.ask_all(request).await.into_iter();
        answers.map(|answer| answer.unwrap_or_else(Response::Failed)).collect()
    }

    /// Looks at every shard of this node, one after the other.
    pub async fn look(&self, look: impl FnMut(&GroupShard)) {
        self.runtime.look(look).await;
    }

    /// The node that coordinates the group. The topic is created when it is not there yet.
    ///
    /// # Errors
    /// `CoordinatorNotAvailable` when the topic cannot be created, or nobody leads the partition.
    pub async fn coordinator_of(&self, group_id: &str) -> Result<NodeId, ResponseError> {
        if self.partition_of(group_id).is_none() {
            self.create_topic().await?;
        }
        let partition = self.partition_of(group_id).ok_or(ResponseError::CoordinatorNotAvailable)?;
        let image = self.quorum.image();
        let leader = image.topic(GROUP_METADATA_TOPIC).and_then(|topic| topic.partition(partition)?.leader);
        leader.ok_or(ResponseError::CoordinatorNotAvailable)
    }

    fn partition_of(&self, group_id: &str) -> Option<i32> {
        let image = self.quorum.image();
        let count = image.topic(GROUP_METADATA_TOPIC)?.partitions.len();
        Some(partition_for(group_id, i32::try_from(count).ok()?))
    }

    async fn create_topic(&self) -> Result<(), ResponseError> {
        let mut topic = NewTopic::named(GROUP_METADATA_TOPIC, self.config.topic_partitions);
        topic.replication_factor = self.config.topic_replication_factor;
        topic.configs = [
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "producer".to_owned()),
            ("segment.bytes", self.config.topic_segment_bytes.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), Some(value)))
        .into();
        let created =
            self.controller.create_topics(CreateTopics { topics: vec![topic], validate_only: false });
        let answer = created
            .await
            .and_then(|answers| answers.into_iter().try_for_each(|(_, answer)| answer.map(|_| ())));
        match answer {
            Ok(()) => {
                tracing::info!(
                    topic = GROUP_METADATA_TOPIC,
                    partitions = self.config.topic_partitions,
                    "created the topic of consumer groups"
                );
                Ok(())
            }
            // Somebody else asked at the same time.
            Err(error) if error.code == ResponseError::TopicAlreadyExists => Ok(()),
            Err(error) => {
                tracing::error!(topic = GROUP_METADATA_TOPIC, %error, "the topic of consumer groups cannot be created");
                Err(ResponseError::CoordinatorNotAvailable)
            }
        }
    }
}

/// Where a group is kept, as Kafka places it: `abs(groupId.hashCode()) % partitions`, with Java's hash of
/// a string.
fn partition_for(group_id: &str, partitions: i32) -> i32 {
    let hash =
        group_id.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_kept_where_kafka_keeps_them() {
        // "test-group" and "foo" by Java's String.hashCode; the last has the hash of i32::MIN.
        assert_eq!(partition_for("foo", 50), 101_574 % 50);
        assert_eq!(partition_for("hello world", 50), 1_794_106_052 % 50);
        assert_eq!(partition_for("polygenelubricants", 50), 0);
    }
}
