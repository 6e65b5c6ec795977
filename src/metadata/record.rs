//! The records of the metadata log.
//!
//! They are written as JSON with the variant's name outside (`{"Topic":{"name":"a","id":"…"}}`). The
//! form evolves by adding fields with defaults: a reader ignores fields that it does not know. A new
//! variant needs a feature level first, since a reader that does not know it must not skip it.
//! The words are those of Kafka's metadata records (KIP-631).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::types::{LeaderEpoch, NodeId, ProducerId, TopicId, host_and_port};

/// The feature whose level says what the metadata log may hold. Names and levels are this software's own, as its records
/// are.
///
/// | level | from it on |
/// |---|---|
/// | 0 | (no record of it) what version 0.1.0 reads |
/// | 1 | entries carry the leadership and the state that they were decided on, and are refused where those do not fit |
///
/// The leader raises it when all voters know the level; a node that does not know it ends rather than read on.
pub const METADATA_VERSION_FEATURE: &str = "raftsman.metadata.version";

/// Kafka's feature of eligible leader replicas (KIP-966): from level 1 on, what leaves an ISR that is smaller than
/// `min.insync.replicas` is remembered as able to lead, and an ISR may be empty.
pub const ELIGIBLE_LEADER_REPLICAS_FEATURE: &str = "eligible.leader.replicas.version";

/// The highest level that this version of the software knows.
pub const METADATA_VERSION: i16 = 1;

/// Levels of a feature, as a node says that it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    pub min: i16,
    pub max: i16,
}

/// The levels of features that a node supports, by their names.
pub type SupportedFeatures = BTreeMap<String, Levels>;

/// One fact about the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetadataRecord {
    /// The id that the cluster got when it was formatted.
    ClusterId { cluster_id: String },
    /// The level at which the whole cluster runs a feature (KIP-584); level 0 removes the feature.
    FeatureLevel { name: String, level: i16 },
    /// A broker's process introduced itself.
    RegisterBroker(RegisterBroker),
    /// A broker left for good.
    UnregisterBroker { broker_id: NodeId, broker_epoch: i64 },
    /// A registered broker was fenced, unfenced, or shuts down.
    BrokerChange(BrokerChange),
    /// The highest broker epoch given so far; keeps epochs rising when the broker that had it is gone.
    /// Only snapshots need it, as a registration says the same.
    BrokerEpoch { broker_epoch: i64 },
    /// A topic exists. Its partitions follow.
    Topic { name: String, id: TopicId },
    /// A partition exists. Partitions of a topic appear in the order of their indexes.
    Partition(PartitionRegistration),
    /// Something about a partition changed.
    PartitionChange(PartitionChange),
    /// A topic is gone, with its partitions and configurations.
    RemoveTopic { id: TopicId },
    /// A configuration was set, or with no value went back to its default.
    Config {
        resource: ConfigResource,
        key: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
    /// All producer ids below `next_producer_id` are given away (KIP-730).
    ProducerIds { broker_id: NodeId, broker_epoch: i64, next_producer_id: ProducerId },
}

/// One address at which a broker answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Name of the listener, such as `PLAINTEXT` or `EXTERNAL`.
    pub name: String,
    pub host: String,
    pub port: u16,
    /// Kafka's number of the security protocol: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    #[serde(default)]
    pub security_protocol: i16,
}

impl Listener {
    /// `host:port`, as one connects to it.
    pub fn address(&self) -> String {
        host_and_port(&self.host, self.port)
    }
}

/// A broker's process introduced itself. A registration of an id that is registered already replaces the
/// earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterBroker {
    pub broker_id: NodeId,
    /// New for each process.
    pub incarnation_id: Uuid,
    /// Rises with every registration in the cluster.
    pub broker_epoch: i64,
    pub listeners: Vec<Listener>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    /// Ids of the broker's data folders (KIP-858).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_directories: Vec<Uuid>,
    /// A fenced broker leads nothing and is in no ISR.
    #[serde(default)]
    pub fenced: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub in_controlled_shutdown: bool,
    /// The features that its software has; empty for one that does not say.
    #[serde(default, skip_serializing_if = "SupportedFeatures::is_empty")]
    pub features: SupportedFeatures,
}

/// What changed about a registered broker; what is `None` stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerChange {
    pub broker_id: NodeId,
    pub broker_epoch: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fenced: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_controlled_shutdown: Option<bool>,
}

/// A partition as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRegistration {
    pub topic_id: TopicId,
    /// Index of the partition in its topic, from 0.
    pub partition: i32,
    /// The brokers that hold the partition, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// The replicas in sync.
    pub isr: Vec<NodeId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<NodeId>,
    #[serde(default)]
    pub leader_epoch: LeaderEpoch,
    #[serde(default)]
    pub partition_epoch: i32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eligible_leader_replicas: Vec<NodeId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_known_eligible_leader_replicas: Vec<NodeId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adding_replicas: Vec<NodeId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removing_replicas: Vec<NodeId>,
    /// True after an unclean election until the leader has recovered (KIP-704).
    #[serde(default, skip_serializing_if = "is_false")]
    pub recovering: bool,
    /// To whom the leader is to hand over, once that one has all of its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heir: Option<NodeId>,
}

/// What changed about a partition; what is `None` stays. Every change raises the partition epoch by one.
/// A change of `leader` (also to none, or to the same one again) raises the leader epoch by one; without
/// it, the leader epoch stays. With a change of `leader`, an heir that the change does not name is none any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionChange {
    pub topic_id: TopicId,
    pub partition: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<Vec<NodeId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isr: Option<Vec<NodeId>>,
    /// `Some(NO_LEADER)` takes the leader away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<NodeId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eligible_leader_replicas: Option<Vec<NodeId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_known_eligible_leader_replicas: Option<Vec<NodeId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adding_replicas: Option<Vec<NodeId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removing_replicas: Option<Vec<NodeId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovering: Option<bool>,
    /// `Some(NO_LEADER)`: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heir: Option<NodeId>,
}

impl PartitionChange {
    /// In [`PartitionChange::leader`]: the partition has no leader; in [`PartitionChange::heir`]: no heir.
    pub const NO_LEADER: NodeId = NodeId(-1);

    /// A change of nothing yet; the caller fills in what changes.
    pub fn of(topic_id: TopicId, partition: i32) -> Self {
        Self { topic_id, partition, ..Self::default() }
    }

    /// True when the record would change nothing but the partition epoch.
    pub fn is_empty(&self) -> bool {
        *self == Self::of(self.topic_id, self.partition)
    }
}

/// Kinds of things that have configurations, with Kafka's numbers on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConfigResourceType {
    Topic,
    Broker,
    BrokerLogger,
    ClientMetrics,
    Group,
}

impl ConfigResourceType {
    /// Kafka's number for this kind.
    pub fn number(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
            Self::BrokerLogger => 8,
            Self::ClientMetrics => 16,
            Self::Group => 32,
        }
    }

    /// The kind with Kafka's number, if there is one.
    pub fn from_number(number: i8) -> Option<Self> {
        Some(match number {
            2 => Self::Topic,
            4 => Self::Broker,
            8 => Self::BrokerLogger,
            16 => Self::ClientMetrics,
            32 => Self::Group,
            _ => return None,
        })
    }
}

/// One thing that has configurations. A broker's name is its id as text; the empty name stands for the
/// defaults of all brokers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConfigResource {
    pub kind: ConfigResourceType,
    pub name: String,
}

impl ConfigResource {
    pub fn topic(name: impl Into<String>) -> Self {
        Self { kind: ConfigResourceType::Topic, name: name.into() }
    }

    pub fn broker(id: NodeId) -> Self {
        Self { kind: ConfigResourceType::Broker, name: id.to_string() }
    }

    /// The defaults of all brokers.
    pub fn all_brokers() -> Self {
        Self { kind: ConfigResourceType::Broker, name: String::new() }
    }
}

/// As Kafka prints it: `ConfigResource(type=TOPIC, name='a')`.
impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ConfigResourceType::Topic => "TOPIC",
            ConfigResourceType::Broker => "BROKER",
            ConfigResourceType::BrokerLogger => "BROKER_LOGGER",
            ConfigResourceType::ClientMetrics => "CLIENT_METRICS",
            ConfigResourceType::Group => "GROUP",
        };
        write!(f, "ConfigResource(type={kind}, name='{}')", self.name)
    }
}

fn is_false(value: &bool) -> bool {
    !value
}
