//! The image: what the cluster looks like after some prefix of the metadata log.

use std::ops::Bound;
use std::sync::Arc;

use imbl::{HashMap, OrdMap, Vector};
use uuid::Uuid;

use super::features::Feature;
use super::record::{
    BrokerChange, ConfigResource, ConfigResourceType, Listener, METADATA_VERSION_FEATURE, MetadataRecord,
    PartitionChange, PartitionRegistration, RegisterBroker, SupportedFeatures,
};
use crate::types::{LeaderEpoch, NodeId, ProducerId, TopicId};

/// Configurations of one thing, by key.
pub type Configs = OrdMap<String, String>;

/// The cluster's metadata as a value. Cloning shares everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetadataImage {
    cluster_id: Option<Arc<str>>,
    features: OrdMap<String, i16>,
    brokers: OrdMap<NodeId, Arc<BrokerImage>>,
    broker_epoch: i64,
    topics: OrdMap<Arc<str>, Arc<TopicImage>>,
    topic_names: HashMap<TopicId, Arc<str>>,
    /// Names with dots or underscores, by the name with all dots made underscores.
    collisions: HashMap<String, Arc<str>>,
    partition_count: usize,
    /// Of everything but topics, which carry their own.
    configs: OrdMap<ConfigResource, Configs>,
    next_producer_id: ProducerId,
}

/// A registered broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerImage {
    pub id: NodeId,
    pub incarnation_id: Uuid,
    /// Rises with every registration in the cluster.
    pub epoch: i64,
    pub listeners: Vec<Listener>,
    pub rack: Option<String>,
    /// Ids of its data folders.
    pub log_directories: Vec<Uuid>,
    pub fenced: bool,
    pub in_controlled_shutdown: bool,
    /// The features that its software has; empty for one that does not say.
    pub features: SupportedFeatures,
}

/// A topic with its partitions and its own configurations. (`Eq` matters: pointers to types that have it
/// are equal without a look at what they point to when they are the same, which is most of a delta's work.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicImage {
    pub name: Arc<str>,
    pub id: TopicId,
    /// By partition index.
    pub partitions: Vector<Arc<PartitionImage>>,
    pub configs: Configs,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionImage {
    /// The preferred leader first.
    pub replicas: Vec<NodeId>,
    pub isr: Vec<NodeId>,
    pub leader: Option<NodeId>,
    pub leader_epoch: LeaderEpoch,
    /// Rises by one with every change.
    pub partition_epoch: i32,
    /// KIP-966.
    pub eligible_leader_replicas: Vec<NodeId>,
    /// KIP-966.
    pub last_known_eligible_leader_replicas: Vec<NodeId>,
    /// Of a reassignment under way (KIP-455).
    pub adding_replicas: Vec<NodeId>,
    /// Of a reassignment under way (KIP-455).
    pub removing_replicas: Vec<NodeId>,
    /// True after an unclean election until the leader has recovered (KIP-704).
    pub recovering: bool,
    /// To whom the leader is to hand over, once that one has all of its log.
    pub heir: Option<NodeId>,
}

/// A record that does not fit the image that it was replayed on. The controller never makes one; it
/// means a bug or a damaged log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    #[error("topic {0} exists already")]
    TopicExists(String),
    #[error("topic id {0} is not known")]
    UnknownTopicId(TopicId),
    #[error("topic {0} is not known")]
    UnknownTopic(String),
    #[error("partition {1} of topic {0} is not known")]
    UnknownPartition(Arc<str>, i32),
    #[error("partition {1} of topic {0} does not follow the {2} there are")]
    PartitionOutOfOrder(Arc<str>, i32, usize),
    #[error(
        "partition {1} of topic {0} would have a leader that is not in sync, or in-sync replicas that are not replicas"
    )]
    PartitionInconsistent(Arc<str>, i32),
    #[error("broker {0} with epoch {1} is not registered")]
    UnknownBroker(NodeId, i64),
    #[error("broker epoch {0} does not rise above {1}")]
    BrokerEpochBack(i64, i64),
    #[error("producer id {0} lies below {1}, which is given away")]
    ProducerIdBack(ProducerId, ProducerId),
    #[error("the cluster has the id {0} already")]
    ClusterIdChanged(Arc<str>),
}

impl TopicImage {
    /// The partition with this index, which may come from outside.
    pub fn partition(&self, index: i32) -> Option<&Arc<PartitionImage>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    /// True for the topics that the cluster keeps for itself.
    pub fn is_internal(&self) -> bool {
        is_internal_topic(&self.name)
    }
}

/// What names that collide have in common; `None` for a name that can collide with none.
fn collision_key(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

/// Name of the topic that holds consumer groups and their offsets.
pub const GROUP_METADATA_TOPIC: &str = "__consumer_offsets";

/// True for the names of the topics that the cluster keeps for itself.
pub fn is_internal_topic(name: &str) -> bool {
    matches!(name, GROUP_METADATA_TOPIC | "__transaction_state" | "__share_group_state")
}

impl BrokerImage {
    /// True when it may lead and be in sync.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }

    /// Its address on the listener of this name.
    pub fn listener(&self, name: &str) -> Option<&Listener> {
        self.listeners.iter().find(|listener| listener.name == name)
    }
}

impl MetadataImage {
    /// The id that the cluster got when it was formatted.
    pub fn cluster_id(&self) -> Option<&Arc<str>> {
        self.cluster_id.as_ref()
    }

    /// Finalised feature levels, by name.
    pub fn features(&self) -> &OrdMap<String, i16> {
        &self.features
    }

    /// The level at which the cluster has a feature; 0 for one that it does not have.
    pub fn feature_level(&self, name: &str) -> i16 {
        let unrecorded = || Feature::named(name).map_or(0, |feature| feature.unrecorded);
        self.features.get(name).copied().unwrap_or_else(unrecorded)
    }

    /// The level of [`METADATA_VERSION_FEATURE`].
    pub fn metadata_version(&self) -> i16 {
        self.features.get(METADATA_VERSION_FEATURE).copied().unwrap_or(0)
    }

    /// All registered brokers, fenced ones too, by id.
    pub fn brokers(&self) -> &OrdMap<NodeId, Arc<BrokerImage>> {
        &self.brokers
    }

    pub fn broker(&self, id: NodeId) -> Option<&Arc<BrokerImage>> {
        self.brokers.get(&id)
    }

    /// True when this broker is registered and may lead.
    pub fn is_active(&self, id: NodeId) -> bool {
        self.broker(id).is_some_and(|broker| broker.is_active())
    }

    /// The highest broker epoch given so far.
    pub fn broker_epoch(&self) -> i64 {
        self.broker_epoch
    }

    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.topic_names.get(&id)?)
    }

    pub fn partition(&self, topic: &str, index: i32) -> Option<&Arc<PartitionImage>> {
        self.topic(topic)?.partition(index)
    }

    /// An existing topic whose name differs from this one at most in dots and underscores, which look the
    /// same in the names of metrics.
    pub fn colliding_topic(&self, name: &str) -> Option<&Arc<str>> {
        self.collisions.get(&collision_key(name)?)
    }

    /// All topics in the order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    /// Topics in the order of their names, from `name` on (with it, if it exists).
    pub fn topics_from(&self, name: &str) -> impl Iterator<Item = &Arc<TopicImage>> {
        let range = (Bound::Included(name), Bound::Unbounded);
        self.topics.range::<_, str>(range).map(|(_, topic)| topic)
    }

    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// Configurations set on a resource; `None` when there are none, or no such resource.
    pub fn configs(&self, resource: &ConfigResource) -> Option<&Configs> {
        match resource.kind {
            ConfigResourceType::Topic => {
                self.topic(&resource.name).map(|topic| &topic.configs).filter(|configs| !configs.is_empty())
            }
            _ => self.configs.get(resource),
        }
    }

    /// Everything but topics that has configurations.
    pub fn configured(&self) -> impl Iterator<Item = &ConfigResource> {
        self.configs.keys()
    }

    /// Producer ids below this one are given away.
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    pub(super) fn topic_map(&self) -> &OrdMap<Arc<str>, Arc<TopicImage>> {
        &self.topics
    }

    pub(super) fn config_map(&self) -> &OrdMap<ConfigResource, Configs> {
        &self.configs
    }

    /// The image with these records replayed on it, all or none.
    pub fn with<'a>(
        &self,
        records: impl IntoIterator<Item = &'a MetadataRecord>,
    ) -> Result<MetadataImage, ReplayError> {
        let mut image = self.clone();
        for record in records {
            image.replay(record)?;
        }
        Ok(image)
    }

    /// Applies one record of a snapshot, which gives the brokers in the order of their ids, after the highest epoch.
    /// After an error nothing has changed.
    pub fn restore(&mut self, record: &MetadataRecord) -> Result<(), ReplayError> {
        match record {
            MetadataRecord::RegisterBroker(registration) => {
                self.register(registration);
                Ok(())
            }
            other => self.replay(other),
        }
    }

    /// Applies one record. After an error nothing has changed.
    pub fn replay(&mut self, record: &MetadataRecord) -> Result<(), ReplayError> {
        match record {
            MetadataRecord::ClusterId { cluster_id } => match &self.cluster_id {
                Some(known) if **known != **cluster_id => Err(ReplayError::ClusterIdChanged(known.clone())),
                _ => {
                    self.cluster_id = Some(cluster_id.as_str().into());
                    Ok(())
                }
            },
            MetadataRecord::FeatureLevel { name, level } => {
                if *level == 0 {
                    self.features.remove(name);
                } else {
                    self.features.insert(name.clone(), *level);
                }
                Ok(())
            }
            MetadataRecord::RegisterBroker(registration) => self.replay_registration(registration),
            MetadataRecord::UnregisterBroker { broker_id, broker_epoch } => {
                self.registered(*broker_id, *broker_epoch)?;
                self.brokers.remove(broker_id);
                Ok(())
            }
            MetadataRecord::BrokerChange(change) => self.replay_broker_change(change),
            MetadataRecord::BrokerEpoch { broker_epoch } => {
                self.broker_epoch = self.broker_epoch.max(*broker_epoch);
                Ok(())
            }
            MetadataRecord::Topic { name, id } => self.replay_topic(name, *id),
            MetadataRecord::Partition(registration) => self.replay_partition(registration),
            MetadataRecord::PartitionChange(change) => self.replay_partition_change(change),
            MetadataRecord::RemoveTopic { id } => {
                let name = self.topic_names.remove(id).ok_or(ReplayError::UnknownTopicId(*id))?;
                if let Some(key) = collision_key(&name)
                    && self.collisions.get(&key) == Some(&name)
                {
                    self.collisions.remove(&key);
                }
                if let Some(topic) = self.topics.remove(&name) {
                    self.partition_count -= topic.partitions.len();
                }
                Ok(())
            }
            MetadataRecord::Config { resource, key, value } => {
                self.replay_config(resource, key, value.as_deref())
            }
            MetadataRecord::ProducerIds { next_producer_id, .. } => {
                // The same again would give a block away twice.
                if *next_producer_id <= self.next_producer_id {
                    return Err(ReplayError::ProducerIdBack(*next_producer_id, self.next_producer_id));
                }
                self.next_producer_id = *next_producer_id;
                Ok(())
            }
        }
    }

    fn registered(&self, id: NodeId, epoch: i64) -> Result<&Arc<BrokerImage>, ReplayError> {
        self.brokers
            .get(&id)
            .filter(|broker| broker.epoch == epoch)
            .ok_or(ReplayError::UnknownBroker(id, epoch))
    }

    fn replay_registration(&mut self, registration: &RegisterBroker) -> Result<(), ReplayError> {
        let epoch = registration.broker_epoch;
        if epoch <= self.broker_epoch {
            return Err(ReplayError::BrokerEpochBack(epoch, self.broker_epoch));
        }
        self.register(registration);
        Ok(())
    }

    fn register(&mut self, registration: &RegisterBroker) {
        let epoch = registration.broker_epoch;
        self.broker_epoch = self.broker_epoch.max(epoch);
        let broker = BrokerImage {
            id: registration.broker_id,
            incarnation_id: registration.incarnation_id,
            epoch,
            listeners: registration.listeners.clone(),
            rack: registration.rack.clone(),
            log_directories: registration.log_directories.clone(),
            fenced: registration.fenced,
            in_controlled_shutdown: registration.in_controlled_shutdown,
            features: registration.features.clone(),
        };
        self.brokers.insert(registration.broker_id, Arc::new(broker));
    }

    fn replay_broker_change(&mut self, change: &BrokerChange) -> Result<(), ReplayError> {
        let mut broker = BrokerImage::clone(self.registered(change.broker_id, change.broker_epoch)?);
        broker.fenced = change.fenced.unwrap_or(broker.fenced);
        broker.in_controlled_shutdown =
            change.in_controlled_shutdown.unwrap_or(broker.in_controlled_shutdown);
        self.brokers.insert(change.broker_id, Arc::new(broker));
        Ok(())
    }

    fn replay_topic(&mut self, name: &str, id: TopicId) -> Result<(), ReplayError> {
        if self.topics.contains_key(name) || self.topic_names.contains_key(&id) {
            return Err(ReplayError::TopicExists(name.to_owned()));
        }
        let name: Arc<str> = name.into();
        let topic = TopicImage { name: name.clone(), id, partitions: Vector::new(), configs: Configs::new() };
        self.topic_names.insert(id, name.clone());
        if let Some(key) = collision_key(&name) {
            self.collisions.entry(key).or_insert_with(|| name.clone());
        }
        self.topics.insert(name, Arc::new(topic));
        Ok(())
    }

    fn topic_mut(&mut self, id: TopicId) -> Result<&mut TopicImage, ReplayError> {
        let name = self.topic_names.get(&id).ok_or(ReplayError::UnknownTopicId(id))?;
        let topic = self.topics.get_mut(name).ok_or(ReplayError::UnknownTopicId(id))?;
        Ok(Arc::make_mut(topic))
    }

    fn replay_partition(&mut self, registration: &PartitionRegistration) -> Result<(), ReplayError> {
        let topic = self.topic_mut(registration.topic_id)?;
        let (index, count) = (registration.partition, topic.partitions.len());
        if usize::try_from(index).ok() != Some(count) {
            return Err(ReplayError::PartitionOutOfOrder(topic.name.clone(), index, count));
        }
        let partition = PartitionImage {
            replicas: registration.replicas.clone(),
            isr: registration.isr.clone(),
            leader: registration.leader,
            leader_epoch: registration.leader_epoch,
            partition_epoch: registration.partition_epoch,
            eligible_leader_replicas: registration.eligible_leader_replicas.clone(),
            last_known_eligible_leader_replicas: registration.last_known_eligible_leader_replicas.clone(),
            adding_replicas: registration.adding_replicas.clone(),
            removing_replicas: registration.removing_replicas.clone(),
            recovering: registration.recovering,
            heir: registration.heir,
        };
        if !partition.is_consistent() {
            return Err(ReplayError::PartitionInconsistent(topic.name.clone(), index));
        }
        topic.partitions.push_back(Arc::new(partition));
        self.partition_count += 1;
        Ok(())
    }

    fn replay_partition_change(&mut self, change: &PartitionChange) -> Result<(), ReplayError> {
        let topic = self.topic_mut(change.topic_id)?;
        let name = topic.name.clone();
        let index = change.partition;
        let slot = usize::try_from(index)
            .ok()
            .and_then(|index| topic.partitions.get_mut(index))
            .ok_or_else(|| ReplayError::UnknownPartition(name.clone(), index))?;
        let partition = slot.changed(change);
        if !partition.is_consistent() {
            return Err(ReplayError::PartitionInconsistent(name, index));
        }
        *slot = Arc::new(partition);
        Ok(())
    }

    fn replay_config(
        &mut self,
        resource: &ConfigResource,
        key: &str,
        value: Option<&str>,
    ) -> Result<(), ReplayError> {
        let set = |configs: &mut Configs| match value {
            Some(value) => _ = configs.insert(key.to_owned(), value.to_owned()),
            None => _ = configs.remove(key),
        };
        if resource.kind == ConfigResourceType::Topic {
            let topic = self
                .topics
                .get_mut(resource.name.as_str())
                .ok_or_else(|| ReplayError::UnknownTopic(resource.name.clone()))?;
            set(&mut Arc::make_mut(topic).configs);
            return Ok(());
        }
        let mut configs = self.configs.get(resource).cloned().unwrap_or_default();
        set(&mut configs);
        if configs.is_empty() {
            self.configs.remove(resource);
        } else {
            self.configs.insert(resource.clone(), configs);
        }
        Ok(())
    }

    /// The records that make this image out of an empty one.
    pub fn snapshot(&self) -> impl Iterator<Item = MetadataRecord> + '_ {
        let cluster_id =
            self.cluster_id.iter().map(|id| MetadataRecord::ClusterId { cluster_id: id.to_string() });
        let features = self
            .features
            .iter()
            .map(|(name, level)| MetadataRecord::FeatureLevel { name: name.clone(), level: *level });
        let broker_epoch = (self.broker_epoch > 0)
            .then_some(MetadataRecord::BrokerEpoch { broker_epoch: self.broker_epoch });
        let brokers = self.brokers.values().map(|broker| broker.to_record());
        let configs = self.configs.iter().flat_map(|(resource, configs)| config_records(resource, configs));
        let producer_ids = (self.next_producer_id.0 > 0).then_some(MetadataRecord::ProducerIds {
            broker_id: NodeId(-1),
            broker_epoch: -1,
            next_producer_id: self.next_producer_id,
        });
        cluster_id
            .chain(features)
            .chain(broker_epoch)
            .chain(brokers)
            .chain(configs)
            .chain(producer_ids)
            .chain(self.topics.values().flat_map(|topic| topic.to_records()))
    }

    /// About as many records as [`MetadataImage::snapshot`] gives, counted without making them.
    pub fn record_count(&self) -> u64 {
        (self.topics.len() + self.partition_count + self.brokers.len() + self.configs.len()) as u64
    }

    /// Checks the invariants of the module's head; for tests and after loading a snapshot.
    pub fn check(&self) -> Result<(), ReplayError> {
        let mut partition_count = 0;
        for topic in self.topics() {
            if self.topic_names.get(&topic.id) != Some(&topic.name) {
                return Err(ReplayError::UnknownTopicId(topic.id));
            }
            for (index, partition) in (0..).zip(&topic.partitions) {
                if !partition.is_consistent() {
                    return Err(ReplayError::PartitionInconsistent(topic.name.clone(), index));
                }
            }
            partition_count += topic.partitions.len();
        }
        assert_eq!(self.topics.len(), self.topic_names.len(), "every topic has its id");
        assert_eq!(self.partition_count, partition_count, "partitions are counted");
        Ok(())
    }
}

fn config_records(resource: &ConfigResource, configs: &Configs) -> Vec<MetadataRecord> {
    let record = |(key, value): (&String, &String)| MetadataRecord::Config {
        resource: resource.clone(),
        key: key.clone(),
        value: Some(value.clone()),
    };
    configs.iter().map(record).collect()
}

impl BrokerImage {
    fn to_record(&self) -> MetadataRecord {
        MetadataRecord::RegisterBroker(RegisterBroker {
            broker_id: self.id,
            incarnation_id: self.incarnation_id,
            broker_epoch: self.epoch,
            listeners: self.listeners.clone(),
            rack: self.rack.clone(),
            log_directories: self.log_directories.clone(),
            fenced: self.fenced,
            in_controlled_shutdown: self.in_controlled_shutdown,
            features: self.features.clone(),
        })
    }
}

impl TopicImage {
    fn to_records(&self) -> impl Iterator<Item = MetadataRecord> + '_ {
        let partition = |(index, partition): (i32, &Arc<PartitionImage>)| {
            MetadataRecord::Partition(PartitionRegistration {
                topic_id: self.id,
                partition: index,
                replicas: partition.replicas.clone(),
                isr: partition.isr.clone(),
                leader: partition.leader,
                leader_epoch: partition.leader_epoch,
                partition_epoch: partition.partition_epoch,
                eligible_leader_replicas: partition.eligible_leader_replicas.clone(),
                last_known_eligible_leader_replicas: partition.last_known_eligible_leader_replicas.clone(),
                adding_replicas: partition.adding_replicas.clone(),
                removing_replicas: partition.removing_replicas.clone(),
                recovering: partition.recovering,
                heir: partition.heir,
            })
        };
        std::iter::once(MetadataRecord::Topic { name: self.name.to_string(), id: self.id })
            .chain(config_records(&ConfigResource::topic(&*self.name), &self.configs))
            .chain((0..).zip(&self.partitions).map(partition))
    }
}

impl PartitionImage {
    /// This partition after a change.
    pub fn changed(&self, change: &PartitionChange) -> PartitionImage {
        let or = |changed: &Option<Vec<NodeId>>, now: &Vec<NodeId>| changed.as_ref().unwrap_or(now).clone();
        let (leader, leader_epoch) = match change.leader {
            None => (self.leader, self.leader_epoch),
            Some(PartitionChange::NO_LEADER) => (None, LeaderEpoch(self.leader_epoch.0 + 1)),
            Some(leader) => (Some(leader), LeaderEpoch(self.leader_epoch.0 + 1)),
        };
        let heir = match change.heir {
            Some(PartitionChange::NO_LEADER) => None,
            None if change.leader.is_some() => None,
            heir => heir.or(self.heir),
        };
        PartitionImage {
            replicas: or(&change.replicas, &self.replicas),
            isr: or(&change.isr, &self.isr),
            leader,
            leader_epoch,
            partition_epoch: self.partition_epoch + 1,
            eligible_leader_replicas: or(&change.eligible_leader_replicas, &self.eligible_leader_replicas),
            last_known_eligible_leader_replicas: or(
                &change.last_known_eligible_leader_replicas,
                &self.last_known_eligible_leader_replicas,
            ),
            adding_replicas: or(&change.adding_replicas, &self.adding_replicas),
            removing_replicas: or(&change.removing_replicas, &self.removing_replicas),
            recovering: change.recovering.unwrap_or(self.recovering),
            heir,
        }
    }

    fn is_consistent(&self) -> bool {
        self.isr.iter().all(|id| self.replicas.contains(id))
            && self.leader.is_none_or(|leader| self.isr.contains(&leader))
    }
}

#[cfg(test)]
mod tests;
