//! The group coordinator of this node: which shard a group belongs to, and its topic.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;

use super::config::GroupShardConfig;
use super::offsets::TopicIds;
use super::request::{
    CommitOffsets, CommittedOffsets, DeleteOffsets, DescribedGroup, FetchOffsets, FetchedOffset, GroupError,
    GroupId, Heartbeat, JoinGroup, JoinedGroup, LeaveGroup, LeftMember, ListedGroup, RefusedJoin, Request,
    Response, SyncGroup, SyncedGroup,
};
use super::shard::GroupShard;
use crate::config::rooms::group_coordinator::GroupCoordinatorConfig;
use crate::controller::{ControllerHandle, CreateTopics, NewTopic};
use crate::coordinator::CoordinatorError;
use crate::coordinator::runtime::{Runtime, RuntimeConfig};
use crate::env::{Surroundings, Tasks};
use crate::metadata::{GROUP_METADATA_TOPIC, MetadataDelta};
use crate::partition::transactions::Ending;
use crate::partition::{Partition, PartitionManager, ProduceError};
use crate::protocol::batch::Compression;
use crate::raft::MetadataQuorum;
use crate::types::{NodeId, TopicId};

/// Replicas of the topic in a cluster, unless something else is set.
const REPLICATION_FACTOR: i16 = 3;

/// The answer of a shard to a request of the same kind.
macro_rules! answer {
    ($response:expr, $kind:ident) => {
        match $response {
            Response::$kind(answer) => answer,
            other => unreachable!("a shard answers {} with {other:?}", stringify!($kind)),
        }
    };
}

/// Groups and their offsets, as handlers ask for them.
#[derive(Clone)]
pub struct GroupCoordinator {
    tasks: Tasks,
    runtime: Arc<Runtime<GroupShard>>,
    controller: ControllerHandle,
    quorum: MetadataQuorum,
    config: GroupCoordinatorConfig,
}

impl GroupCoordinator {
    /// Ends a producer's transaction in a partition of the groups' offsets: writes its marker, and waits until that is
    /// committed.
    ///
    /// # Errors
    /// Those of [`Partition::append_marker`] and [`Partition::committed`].
    pub async fn end_transaction(
        &self,
        partition: &Arc<Partition>,
        ending: Ending,
        timeout: Duration,
    ) -> Result<(), ProduceError> {
        let now_ms = self.runtime.now().wall_ms;
        let (end, epoch) = partition.append_marker(ending, None, now_ms).await?;
        partition.committed(end, epoch, timeout).await
    }

    /// A coordinator without shards; [`Self::follow`] loads them.
    pub fn new(
        config: GroupCoordinatorConfig,
        partitions: Arc<PartitionManager>,
        surroundings: &Surroundings,
        tasks: &Tasks,
        controller: ControllerHandle,
        quorum: MetadataQuorum,
    ) -> Self {
        let runtime = RuntimeConfig {
            topic: GROUP_METADATA_TOPIC,
            commit_timeout: Duration::from_millis(config.commit_timeout_ms),
            compression: Compression::ALL
                .into_iter()
                .find(|codec| *codec as i16 == config.topic_compression)
                .unwrap_or(Compression::None),
        };
        let shard = GroupShardConfig::new(&config, surroundings.chance.clone());
        let topics = TopicIds::new({
            let quorum = quorum.clone();
            move |name| quorum.image().topic(name).map(|topic| topic.id)
        });
        let new_shard = move || GroupShard::new(shard.clone(), topics.clone());
        let runtime = Runtime::new(runtime, partitions, surroundings, tasks, new_shard);
        tasks.spawn_until_stopped(runtime.clone().watch_clock());
        Self { tasks: tasks.clone(), runtime, controller, quorum, config }
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
        self.tasks.spawn(async move {
            for answer in runtime.ask_all(|| Request::TopicsDeleted(gone.clone())).await {
                match answer {
                    // A shard that is loaded later looks itself which topics there still are.
                    Ok(_) | Err(CoordinatorError::Loading) => {}
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

    /// A member joins; it is answered when the group's next generation begins.
    ///
    /// # Errors
    /// When it is not in the generation.
    pub async fn join(&self, join: JoinGroup) -> Result<JoinedGroup, RefusedJoin> {
        let (group_id, member_id) = (join.group_id.clone(), join.member_id.clone());
        match self.ask(&group_id, Request::Join(join)).await {
            Ok(response) => answer!(response, Join),
            Err(error) => Err(RefusedJoin { error, member_id }),
        }
    }

    /// A member asks for its assignment, or brings everybody's.
    ///
    /// # Errors
    /// When there is none for it.
    pub async fn sync(&self, sync: SyncGroup) -> Result<SyncedGroup, GroupError> {
        let group_id = sync.group_id.clone();
        answer!(self.ask(&group_id, Request::Sync(sync)).await?, Sync)
    }

    /// A member is there.
    ///
    /// # Errors
    /// When the group does not know it, or wants something of it.
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<(), GroupError> {
        let group_id = heartbeat.group_id.clone();
        answer!(self.ask(&group_id, Request::Heartbeat(heartbeat)).await?, Heartbeat)
    }

    /// Members leave; each has its answer.
    ///
    /// # Errors
    /// When none of them does.
    pub async fn leave(&self, leave: LeaveGroup) -> Result<Vec<LeftMember>, GroupError> {
        let group_id = leave.group_id.clone();
        answer!(self.ask(&group_id, Request::Leave(leave)).await?, Leave)
    }

    /// # Errors
    /// `GroupIdNotFound` when there is no such group.
    pub async fn describe(&self, group_id: GroupId) -> Result<DescribedGroup, GroupError> {
        answer!(self.ask(&group_id.clone(), Request::Describe(group_id)).await?, Describe)
    }

    /// The groups of this node in one of these states, and of one of these types; none is any.
    ///
    /// # Errors
    /// When a shard of this node cannot say which it has.
    pub async fn list(
        &self,
        states: Vec<String>,
        types: Vec<String>,
    ) -> Result<Vec<ListedGroup>, GroupError> {
        let list = || Request::List { states: states.clone(), types: types.clone() };
        let mut groups = Vec::new();
        for response in self.runtime.ask_all(list).await {
            match response {
                Ok(response) => groups.extend(answer!(response, List)),
                // A shard that moved away meanwhile is listed where it is now.
                Err(CoordinatorError::NotCoordinator) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(groups)
    }

    /// Deletes a group without members; answers how many offsets went with it.
    ///
    /// # Errors
    /// When it is not there, or has members.
    pub async fn delete(&self, group_id: GroupId) -> Result<usize, GroupError> {
        answer!(self.ask(&group_id.clone(), Request::Delete(group_id)).await?, Delete)
    }

    /// Commits offsets; each has its answer.
    ///
    /// # Errors
    /// When none of them is.
    pub async fn commit_offsets(&self, commit: CommitOffsets) -> Result<CommittedOffsets, GroupError> {
        let group_id = commit.group_id.clone();
        answer!(self.ask(&group_id, Request::CommitOffsets(commit)).await?, CommitOffsets)
    }

    /// What is committed, in the order in which it was asked for.
    ///
    /// # Errors
    /// When the group's shard is not to be asked.
    pub async fn fetch_offsets(&self, fetch: FetchOffsets) -> Result<Vec<FetchedOffset>, GroupError> {
        let group_id = fetch.group_id.clone();
        answer!(self.ask(&group_id, Request::FetchOffsets(fetch)).await?, FetchOffsets)
    }

    /// Forgets offsets; of each it is answered whether it was there.
    ///
    /// # Errors
    /// When the group is not there, or its members read what it has committed.
    pub async fn delete_offsets(
        &self,
        delete: DeleteOffsets,
    ) -> Result<Vec<Result<bool, GroupError>>, GroupError> {
        let group_id = delete.group_id.clone();
        answer!(self.ask(&group_id, Request::DeleteOffsets(delete)).await?, DeleteOffsets)
    }

    /// Asks the shard that holds the group.
    async fn ask(&self, group_id: &str, request: Request) -> Result<Response, GroupError> {
        let partition = self.partition_of(group_id).ok_or(CoordinatorError::NotCoordinator)?;
        Ok(self.runtime.ask(partition, request).await?)
    }

    /// Shows every shard of this node, one after the other.
    pub async fn inspect(&self, inspect: impl FnMut(&GroupShard)) {
        self.runtime.inspect(inspect).await;
    }

    /// The node that coordinates the group. The topic is created when it is not there yet.
    ///
    /// # Errors
    /// `NotAvailable` when the topic cannot be created, or nobody leads the partition.
    pub async fn coordinator_of(&self, group_id: &str) -> Result<NodeId, CoordinatorError> {
        if self.partition_of(group_id).is_none() {
            self.create_topic().await?;
        }
        let partition = self.partition_of(group_id).ok_or(CoordinatorError::NotAvailable)?;
        let image = self.quorum.image();
        let leader = image.topic(GROUP_METADATA_TOPIC).and_then(|topic| topic.partition(partition)?.leader);
        leader.ok_or(CoordinatorError::NotAvailable)
    }

    fn partition_of(&self, group_id: &str) -> Option<i32> {
        let image = self.quorum.image();
        let count = image.topic(GROUP_METADATA_TOPIC)?.partitions.len();
        Some(partition_for(group_id, i32::try_from(count).ok()?))
    }

    /// The topic is made once and for all by the first who asks: in a cluster that has not come together yet, it is refused
    /// rather than made with too few copies.
    fn topic_replication_factor(&self) -> i16 {
        self.config.topic_replication_factor.unwrap_or_else(|| {
            let is_alone = self.quorum.is_only_voter() && self.quorum.image().brokers().len() <= 1;
            if is_alone { 1 } else { REPLICATION_FACTOR }
        })
    }

    async fn create_topic(&self) -> Result<(), CoordinatorError> {
        let mut topic = NewTopic::named(GROUP_METADATA_TOPIC, self.config.topic_partitions);
        topic.replication_factor = self.topic_replication_factor();
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
            // Clients ask again and again: as Kafka, it waits for more brokers.
            Err(error) if error.code == ResponseError::InvalidReplicationFactor => {
                tracing::warn!(topic = GROUP_METADATA_TOPIC, %error, "the topic of consumer groups is created once there are brokers enough; offsets.topic.replication.factor says how many it takes");
                Err(CoordinatorError::NotAvailable)
            }
            Err(error) => {
                tracing::error!(topic = GROUP_METADATA_TOPIC, %error, "the topic of consumer groups cannot be created");
                Err(CoordinatorError::NotAvailable)
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
