//! All partitions of this node. Follows the metadata image: partitions appear, change leaders and
//! disappear as the controller decides. Look-ups take no lock.
//!
//! Locks: `changing` is held while partitions come and go; `unclaimed` for moments, under it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::Partition;
use super::gathering::Gathering;
use super::offline::{Absent, Offline};
use super::syncing::Work;
use crate::config::{BrokerConfig, TopicConfig};
use crate::metadata::{Configs, MetadataDelta, MetadataImage, PartitionImage, TopicImage};
use crate::segment::{DataDir, LogError, OpenedLog};
use crate::types::{LeaderEpoch, NodeId, Offset, TopicId, TopicPartition};

/// What went in and out of a topic's partitions on this node since its start.
#[derive(Debug, Default)]
pub struct Traffic {
    pub produced_bytes: AtomicU64,
    pub produced_batches: AtomicU64,
    pub fetched_bytes: AtomicU64,
    /// To followers.
    pub replicated_out_bytes: AtomicU64,
    /// From leaders.
    pub replicated_in_bytes: AtomicU64,
}

/// One of a topic's partitions on this node.
#[derive(Clone, Debug)]
enum Slot {
    /// Other nodes hold it.
    Elsewhere,
    Held(Arc<Partition>),
    /// This node should hold it, and cannot.
    Offline(Arc<Offline>),
}

impl Slot {
    fn held(&self) -> Option<&Arc<Partition>> {
        match self {
            Slot::Held(partition) => Some(partition),
            Slot::Elsewhere | Slot::Offline(_) => None,
        }
    }
}

/// A topic of which this node holds partitions.
#[derive(Debug)]
pub struct Topic {
    pub name: Arc<str>,
    pub id: TopicId,
    /// What went in and out, for the metrics.
    pub traffic: Traffic,
    config: ArcSwap<TopicConfig>,
    /// By index.
    partitions: ArcSwap<Vec<Slot>>,
}

impl Topic {
    /// The effective configuration.
    pub fn config(&self) -> arc_swap::Guard<Arc<TopicConfig>> {
        self.config.load()
    }

    /// The partition of that index, which may come from outside.
    pub fn partition(&self, index: i32) -> Result<Arc<Partition>, Absent> {
        let at = usize::try_from(index).map_err(|_| Absent::Unknown)?;
        match self.partitions.load().get(at) {
            Some(Slot::Held(partition)) => Ok(partition.clone()),
            Some(Slot::Offline(_)) => Err(Absent::Offline),
            Some(Slot::Elsewhere) | None => Err(Absent::Unknown),
        }
    }

    /// Every partition that this node holds, but for those that are offline.
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.load().iter().filter_map(Slot::held).cloned().collect()
    }

    /// Every partition that this node should hold, and whose log it cannot open.
    pub fn offline(&self) -> Vec<Arc<Offline>> {
        let slots = self.partitions.load();
        let offline = slots.iter().filter_map(|slot| match slot {
            Slot::Offline(offline) => Some(offline.clone()),
            Slot::Elsewhere | Slot::Held(_) => None,
        });
        offline.collect()
    }
}

#[derive(Clone, Debug, Default)]
struct Topics {
    by_name: imbl::OrdMap<Arc<str>, Arc<Topic>>,
    by_id: imbl::HashMap<TopicId, Arc<Topic>>,
}

/// All partitions of this node.
#[derive(Debug)]
pub struct PartitionManager {
    node: NodeId,
    pub data: DataDir,
    /// The broker's configuration as it is now, which topics take their defaults from.
    broker_config: Arc<ArcSwap<BrokerConfig>>,
    work: Work,
    topics: ArcSwap<Topics>,
    /// Logs found at start that no topic of the image has claimed yet.
    unclaimed: Mutex<BTreeMap<TopicPartition, OpenedLog>>,
    /// Held by who makes, opens and removes partitions.
    changing: Mutex<()>,
    offline: AtomicUsize,
}

impl PartitionManager {
    /// A manager of the logs that were found at start. They are claimed by the first [`Self::apply`].
    pub fn new(
        node: NodeId,
        data: DataDir,
        found: Vec<OpenedLog>,
        broker_config: Arc<ArcSwap<BrokerConfig>>,
        work: Work,
    ) -> Self {
        let unclaimed = found.into_iter().map(|opened| (opened.name.clone(), opened)).collect();
        Self {
            node,
            data,
            broker_config,
            work,
            topics: ArcSwap::default(),
            unclaimed: Mutex::new(unclaimed),
            changing: Mutex::default(),
            offline: AtomicUsize::new(0),
        }
    }

    /// Where partitions come that have something to ask about their in-sync replicas.
    pub fn isr_changes(&self) -> &Arc<Gathering> {
        &self.work.isr_changes
    }

    /// Those that this node leads and is to hand over.
    pub fn to_hand_over(&self) -> &Arc<Gathering> {
        &self.work.to_hand_over
    }

    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.load().by_name.get(name).cloned()
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.topics.load().by_id.get(&id).cloned()
    }

    /// All topics, in the order of their names.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics.load().by_name.values().cloned().collect()
    }

    /// All partitions, in the order of their topics' names and their indexes.
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.topics.load().by_name.values().flat_map(|topic| topic.partitions()).collect()
    }

    /// Every partition that this node should hold, and whose log it cannot open.
    pub fn offline(&self) -> Vec<Arc<Offline>> {
        match self.offline.load(Ordering::Acquire) {
            0 => Vec::new(),
            _ => self.topics.load().by_name.values().flat_map(|topic| topic.offline()).collect(),
        }
    }

    /// Whether this node should hold the partition, and cannot open its log.
    pub fn is_offline(&self, topic: TopicId, index: i32) -> bool {
        self.offline.load(Ordering::Acquire) > 0
            && self
                .topic_by_id(topic)
                .is_some_and(|topic| matches!(topic.partition(index), Err(Absent::Offline)))
    }

    /// Whether this node takes records for the partition, as its leader in this epoch (or a later one).
    pub fn takes_records(&self, topic: TopicId, index: i32, epoch: LeaderEpoch) -> bool {
        self.topic_by_id(topic)
            .and_then(|topic| topic.partition(index).ok())
            .is_some_and(|partition| partition.takes_records(epoch))
    }

    /// Tries those again whose time has come; returns how many are there now. Blocks on the disk.
    pub fn retry_offline(&self, now_ms: i64) -> usize {
        if self.offline.load(Ordering::Acquire) == 0 {
            return 0;
        }
        let _one_at_a_time = self.changing.lock();
        let mut opened = 0;
        for topic in self.topics() {
            let due = topic.offline().into_iter().filter(|offline| offline.next_try_ms <= now_ms);
            let due: Vec<_> = due.collect();
            if due.is_empty() {
                continue;
            }
            let mut slots = Vec::clone(&topic.partitions.load());
            for offline in due {
                let tried = self.claim_or_create(&topic, offline.name.clone());
                let slot = match tried {
                    Ok((partition, _)) => {
                        tracing::info!(partition = %offline.name, "the partition is online again");
                        follow(&partition, &offline.image);
                        opened += 1;
                        Slot::Held(partition)
                    }
                    Err(error) => {
                        tracing::debug!(partition = %offline.name, %error, "the partition is still offline");
                        Slot::Offline(Arc::new(offline.failed_again(error.to_string(), now_ms)))
                    }
                };
                set(&mut slots, offline.name.partition, slot);
            }
            topic.partitions.store(Arc::new(slots));
        }
        if opened > 0 {
            self.sync_folder();
        }
        self.count_offline();
        opened
    }

    fn count_offline(&self) {
        let topics = self.topics.load();
        let count = topics.by_name.values().map(|topic| topic.offline().len()).sum();
        self.offline.store(count, Ordering::Release);
    }

    fn sync_folder(&self) {
        if let Err(error) = self.data.sync() {
            tracing::error!(%error, "new partition folders could not be synced");
        }
    }

    /// Takes over the image that the node starts with. Blocks on the disk.
    pub fn start(&self, image: &MetadataImage) {
        self.apply(&MetadataDelta::between(&MetadataImage::default(), image));
        self.data.forget_missing(|name| {
            self.topic(&name.topic)
                .is_some_and(|topic| matches!(topic.partition(name.partition), Err(Absent::Offline)))
        });
        for (name, opened) in std::mem::take(&mut *self.unclaimed.lock()) {
            tracing::warn!(partition = %name, topic_id = %opened.topic_id, "a folder of no known topic is set aside (-stray)");
            if let Err(error) = self.data.set_aside(&opened) {
                tracing::error!(partition = %name, %error, "the folder could not be set aside");
            }
        }
    }

    /// Follows what changed. Blocks on the disk.
    pub fn apply(&self, delta: &MetadataDelta) {
        let _one_at_a_time = self.changing.lock();
        let mut topics = Topics::clone(&self.topics.load());
        for (id, image) in &delta.topics_removed {
            if let Some(topic) = topics.by_id.remove(id) {
                if topics.by_name.get(&image.name).is_some_and(|named| named.id == *id) {
                    topics.by_name.remove(&image.name);
                }
                self.remove(&topic);
            }
        }
        if !delta.topics_removed.is_empty()
            && let Err(error) = self.data.checkpoint_gone()
        {
            tracing::error!(%error, "deleted partitions could not be taken out of the checkpoints");
        }
        let mut created = false;
        for (id, change) in &delta.topics_changed {
            let topic = match topics.by_id.get(id) {
                Some(topic) => topic.clone(),
                None => {
                    let topic = Arc::new(Topic {
                        name: change.topic.name.clone(),
                        id: *id,
                        traffic: Traffic::default(),
                        config: ArcSwap::from_pointee(self.effective(&change.topic.configs)),
                        partitions: ArcSwap::default(),
                    });
                    topics.by_name.insert(topic.name.clone(), topic.clone());
                    topics.by_id.insert(*id, topic.clone());
                    topic
                }
            };
            if change.configs_changed && !change.is_new {
                self.reconfigure(&topic, &change.topic.configs);
            }
            created |= self.change_partitions(&topic, &change.topic, &change.partitions_changed);
        }
        if created {
            self.sync_folder();
        }
        self.topics.store(Arc::new(topics));
        self.count_offline();
    }

    /// Gives every topic the configuration that follows from the broker's as it is now. The caller sees to
    /// it that this does not overlap with [`Self::apply`].
    pub fn broker_config_changed(&self, image: &MetadataImage) {
        for topic in self.topics() {
            if let Some(image) = image.topic_by_id(topic.id) {
                self.reconfigure(&topic, &image.configs);
            }
        }
    }

    fn effective(&self, configs: &Configs) -> TopicConfig {
        let set = configs.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        TopicConfig::resolve(&set, &self.broker_config.load().values)
    }

    fn reconfigure(&self, topic: &Topic, configs: &Configs) {
        let config = self.effective(configs);
        for partition in topic.partitions() {
            partition.log.update_config(config.log.clone());
        }
        topic.config.store(Arc::new(config));
    }

    /// Creates, updates and gives up partitions; true when a folder was made.
    fn change_partitions(
        &self,
        topic: &Arc<Topic>,
        image: &TopicImage,
        changed: &std::collections::BTreeSet<i32>,
    ) -> bool {
        let mut slots = Vec::clone(&topic.partitions.load());
        let (mut created, mut failed, mut reason) = (false, Vec::new(), String::new());
        for index in changed {
            let (Some(partition_image), Ok(at)) = (image.partition(*index), usize::try_from(*index)) else {
                continue;
            };
            let name = TopicPartition { topic: topic.name.clone(), partition: *index };
            let slot = slots.get(at).cloned().unwrap_or(Slot::Elsewhere);
            let slot = match slot {
                Slot::Elsewhere if !partition_image.replicas.contains(&self.node) => slot,
                Slot::Held(_) | Slot::Offline(_) if !partition_image.replicas.contains(&self.node) => {
                    tracing::info!(partition = %name, "this node holds the partition no longer");
                    self.give_up(topic, &slot);
                    Slot::Elsewhere
                }
                Slot::Held(partition) => {
                    follow(&partition, partition_image);
                    Slot::Held(partition)
                }
                Slot::Offline(offline) => Slot::Offline(Arc::new(offline.following(partition_image))),
                Slot::Elsewhere => match self.claim_or_create(topic, name.clone()) {
                    Ok((partition, is_new)) => {
                        created |= is_new;
                        follow(&partition, partition_image);
                        Slot::Held(partition)
                    }
                    Err(error) => {
                        failed.push(*index);
                        reason = error.to_string();
                        let (image, now_ms) = (partition_image.clone(), self.data.now_ms());
                        Slot::Offline(Arc::new(Offline::new(name, reason.clone(), image, now_ms)))
                    }
                },
            };
            set(&mut slots, *index, slot);
        }
        topic.partitions.store(Arc::new(slots));
        // Once, and not for each of what may be thousands.
        if !failed.is_empty() {
            let partitions = failed.len();
            tracing::error!(topic = %topic.name, partitions, ?failed, error = %reason, "partitions are offline: their logs cannot be opened; this is tried again until it works");
        }
        created
    }

    /// The partition with the log that was found at start, or that is there or made now.
    fn claim_or_create(
        &self,
        topic: &Arc<Topic>,
        name: TopicPartition,
    ) -> Result<(Arc<Partition>, bool), LogError> {
        let config = topic.config().log.clone();
        let found = self.unclaimed.lock().remove(&name);
        let (opened, is_new) = match found {
            Some(opened) if opened.topic_id == topic.id => {
                opened.log.update_config(config);
                (opened, false)
            }
            Some(unnamed) if unnamed.topic_id == TopicId::ZERO => {
                // A power cut may take this small file, or a hand. The folder has the name, and a deleted topic's
                // folder would have been renamed: its records are not given up for that.
                tracing::warn!(partition = %name, topic_id = %topic.id, "partition.metadata is missing or cannot be read; the folder is taken by its name, and the file written anew");
                if let Err(error) = self.data.adopt(&unnamed, topic.id) {
                    // Once more when the partition is tried again.
                    self.unclaimed.lock().insert(name, unnamed);
                    return Err(error);
                }
                unnamed.log.update_config(config);
                (unnamed, false)
            }
            Some(stray) => {
                tracing::warn!(partition = %name, topic_id = %stray.topic_id, "the folder of an earlier topic of that name is set aside (-stray)");
                if let Err(error) = self.data.set_aside(&stray) {
                    self.unclaimed.lock().insert(name, stray);
                    return Err(error);
                }
                (self.data.create_log(&name, topic.id, config)?, true)
            }
            None => (self.data.create_log(&name, topic.id, config)?, true),
        };
        let OpenedLog { log, high_watermark, .. } = opened;
        Ok((
            Arc::new(Partition::new(name, topic.clone(), log, self.node, high_watermark, self.work.clone())),
            is_new,
        ))
    }

    /// Closes what this node no longer is to hold, and removes it from the disk.
    fn give_up(&self, topic: &Topic, slot: &Slot) {
        let (name, removed) = match slot {
            Slot::Elsewhere => return,
            Slot::Held(partition) => {
                partition.closed();
                (&partition.name, self.data.delete_log(&partition.log))
            }
            Slot::Offline(offline) => {
                let delay_ms = topic.config().log.file_delete_delay_ms;
                (&offline.name, self.data.delete_unopened(&offline.name, delay_ms))
            }
        };
        if let Err(error) = removed {
            tracing::error!(partition = %name, %error, "the partition's folder could not be removed");
        }
    }

    fn remove(&self, topic: &Topic) {
        topic.partitions.swap(Arc::default()).iter().for_each(|slot| self.give_up(topic, slot));
        tracing::info!(topic = %topic.name, id = %topic.id, "the topic is deleted");
    }

    /// Tells all who wait that this node leads nothing any more.
    pub fn close(&self) {
        for partition in self.partitions() {
            partition.closed();
        }
    }

    /// High watermarks of all partitions, for their checkpoint.
    pub fn high_watermarks(&self) -> Vec<(TopicPartition, Offset)> {
        self.partitions()
            .iter()
            .map(|partition| (partition.name.clone(), partition.high_watermark()))
            .collect()
    }
}

fn follow(partition: &Arc<Partition>, image: &PartitionImage) {
    if let Err(error) = partition.apply(image) {
        tracing::error!(partition = %partition.name, %error, "the leader epoch could not be noted");
    }
}

fn set(slots: &mut Vec<Slot>, index: i32, slot: Slot) {
    let Ok(at) = usize::try_from(index) else { return };
    if slots.len() <= at {
        slots.resize(at + 1, Slot::Elsewhere);
    }
    slots[at] = slot;
}
