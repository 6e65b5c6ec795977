//! What can be asked of the controller, and what it answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::metadata::{ConfigResource, Listener, SupportedFeatures};
use crate::types::{LeaderEpoch, NodeId, ProducerId, TopicId};

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewTopic {
    pub name: String,
    /// -1 for the default, and with `assignments`.
    pub partition_count: i32,
    /// -1 for the default, and with `assignments`.
    pub replication_factor: i16,
    /// Replicas by partition, when the client places them itself.
    pub assignments: Vec<(i32, Vec<NodeId>)>,
    pub configs: NewConfigs,
}

impl NewTopic {
    /// A topic with as many partitions as asked for, or -1, and -1 replicas.
    pub fn named(name: impl Into<String>, partition_count: i32) -> Self {
        Self {
            name: name.into(),
            partition_count,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreateTopics {
    pub topics: Vec<NewTopic>,
    pub validate_only: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreatedTopic {
    pub id: TopicId,
    pub partition_count: i32,
    pub replication_factor: i16,
    /// Configurations that were set on the topic; all others have their defaults.
    pub configs: BTreeMap<String, String>,
}

/// How a topic to delete is named. A request that gives both or none is refused as Kafka does it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopicToDelete {
    pub name: Option<String>,
    /// [`TopicId::ZERO`] for none.
    pub id: TopicId,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeleteTopics {
    pub topics: Vec<TopicToDelete>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeletedTopic {
    pub name: String,
    pub id: TopicId,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MorePartitions {
    pub topic: String,
    /// How many there shall be in the end.
    pub partition_count: i32,
    /// Replicas of the new partitions, when the client places them itself.
    pub assignments: Option<Vec<Vec<NodeId>>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreatePartitions {
    pub topics: Vec<MorePartitions>,
    pub validate_only: bool,
}

/// What to do with a configuration (KIP-339). Numbers on the wire: 0 to 3 in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigOperation {
    Set,
    Delete,
    Append,
    Subtract,
}

impl ConfigOperation {
    pub fn from_number(number: i8) -> Option<Self> {
        Some(match number {
            0 => Self::Set,
            1 => Self::Delete,
            2 => Self::Append,
            3 => Self::Subtract,
            _ => return None,
        })
    }
}

/// One change of one configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigChange {
    pub key: String,
    pub operation: ConfigOperation,
    pub value: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncrementalAlterConfigs {
    pub resources: Vec<(ConfigResource, Vec<ConfigChange>)>,
    pub validate_only: bool,
}

/// Configurations by key, as they come in a request.
pub type NewConfigs = Vec<(String, Option<String>)>;

/// The older form: what is not named goes back to its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlterConfigs {
    pub resources: Vec<(ConfigResource, NewConfigs)>,
    pub validate_only: bool,
}

/// A broker's process introduces itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BrokerRegistration {
    pub id: NodeId,
    /// New for each process.
    pub incarnation_id: Uuid,
    /// False when this process was registered before, and is no more.
    pub is_first: bool,
    pub listeners: Vec<Listener>,
    pub rack: Option<String>,
    /// Ids of its data folders.
    pub log_directories: Vec<Uuid>,
    /// The features that its software has.
    #[serde(default)]
    pub features: SupportedFeatures,
    /// The broker epoch of the process before, when that one shut down in order; -1 otherwise (KIP-966).
    pub previous_epoch: i64,
    /// Its operator said that it goes on without what it had.
    pub accepts_missing_data: bool,
    /// True when the broker is ready to lead at once; a node that has the image already need not be
    /// unfenced by a later request.
    pub unfence: bool,
}

/// Whose state changes, as that broker's process knows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BrokerIdentity {
    pub id: NodeId,
    pub epoch: i64,
}

/// What happens to a registered broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrokerTransition {
    /// It does not answer any more: it leaves all in-sync replicas.
    Fence,
    /// It has the image and may lead.
    Unfence,
    /// It goes down in order: it gives its leaderships away where someone else can have them.
    BeginShutdown,
    /// It does not come back.
    Unregister,
}

/// A broker says that it lives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub broker: BrokerIdentity,
    /// It follows the metadata, at least to its own registration, and can be a replica and lead.
    pub may_serve: bool,
}

/// What a broker is after its heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatAnswer {
    pub is_fenced: bool,
    /// Milliseconds since the active controller last heard of a majority: for so long another one may lead already.
    pub majority_ms: u64,
}

/// A broker's state shall change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeBroker {
    pub broker: BrokerIdentity,
    pub transition: BrokerTransition,
}

/// A broker that does not come back shall be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnregisterBroker {
    pub id: NodeId,
}

/// A broker wants producer ids to give away.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AllocateProducerIds {
    pub broker: BrokerIdentity,
}

/// A block of producer ids for one broker to give away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerIdBlock {
    pub first: ProducerId,
    pub count: i64,
}

/// A member of a proposed ISR; broker epoch -1 is not checked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct IsrMember {
    pub id: NodeId,
    pub broker_epoch: i64,
}

/// What a leader wants its partition to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlterPartition {
    pub topic_id: TopicId,
    pub partition: i32,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    pub isr: Vec<IsrMember>,
    /// True while the leader still recovers from an unclean election.
    pub recovering: bool,
}

/// What the leader `broker` wants of partitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlterPartitions {
    pub broker: BrokerIdentity,
    pub partitions: Vec<AlterPartition>,
}

/// What a partition is after an [`AlterPartition`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlteredPartition {
    pub leader: Option<NodeId>,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    pub isr: Vec<NodeId>,
    pub recovering: bool,
}

/// A partition that its leader hands over: it has stopped to write, and the heir has all that it wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HandOver {
    pub topic_id: TopicId,
    pub partition: i32,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    pub heir: NodeId,
}

/// What the leader `broker` hands over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HandOvers {
    pub broker: BrokerIdentity,
    pub partitions: Vec<HandOver>,
}

/// Which leader to elect (KIP-460). Numbers on the wire: 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ElectionKind {
    Preferred,
    Unclean,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ElectLeaders {
    pub kind: ElectionKind,
    /// `None` for all partitions; then those that need no election are left out of the answer.
    pub partitions: Option<Vec<(String, i32)>>,
}

/// Where replicas shall be (KIP-455).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlterPartitionReassignments {
    pub partitions: Vec<Reassignment>,
    /// Whether the number of replicas may become another one (KIP-860).
    pub allows_other_count: bool,
}

/// Where the replicas of one partition shall be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reassignment {
    /// Topic and index.
    pub partition: (String, i32),
    /// `None` cancels the reassignment that is under way.
    pub target: Option<Vec<NodeId>>,
}

/// A reassignment that is under way.
#[derive(Clone, Debug, PartialEq)]
pub struct OngoingReassignment {
    /// All that hold the partition meanwhile.
    pub replicas: Vec<NodeId>,
    pub adding: Vec<NodeId>,
    pub removing: Vec<NodeId>,
}

/// Which way the level of a feature may go (KIP-584). Numbers on the wire: 1 to 3 in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeatureChange {
    Upgrade,
    /// Refused where something would be lost.
    SafeDowngrade,
    UnsafeDowngrade,
}

impl FeatureChange {
    pub fn from_number(number: i8) -> Option<Self> {
        Some(match number {
            1 => Self::Upgrade,
            2 => Self::SafeDowngrade,
            3 => Self::UnsafeDowngrade,
            _ => return None,
        })
    }
}

/// A feature that shall have another level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureUpdate {
    pub name: String,
    pub level: i16,
    /// `None`: of a kind that is not known.
    pub change: Option<FeatureChange>,
}

/// Features shall have other levels, all or none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateFeatures {
    pub updates: Vec<FeatureUpdate>,
    pub validate_only: bool,
}

/// What the active controller asks itself by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RebalanceLeaders {
    /// Leaderships go back to preferred leaders, too.
    pub moves_to_preferred: bool,
}
