//! All partitions of this node. Follows the metadata image: partitions appear, change leaders and
//! disappear as the controller decides. Look-ups take no lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::Partition;
use crate::config::{BrokerConfig, TopicConfig};
use crate::metadata::{Configs, MetadataDelta, MetadataImage, TopicImage};
use crate::segment::{DataDir, LogConfig, OpenedLog};
use crate::types::{NodeId, Offset, TopicId, TopicPartition};

/// What went in and out of a topic's partitions on this node since its start.
#[derive(Debug, Default)]
pub struct Traffic {
    pub produced_bytes: AtomicU64,
    pub produced_batches: AtomicU64,
    pub fetched_bytes: AtomicU64,
}

/// A topic of which this node holds partitions.
#[derive(Debug)]
pub struct Topic {
    pub name: Arc<str>,
    pub id: TopicId,
    /// What went in and out, for the metrics.
    pub traffic: Traffic,
    config: ArcSwap<TopicConfig>,
    /// By index; `None` for those that other nodes hold.
    partitions: ArcSwap<Vec<Option<Arc<Partition>>>>,
}

impl Topic {
    /// The effective configuration.
    pub fn config(&self) -> arc_swap::Guard<Arc<TopicConfig>> {
        self.config.load()
    }

    /// The partition of that index, which may come from outside.
    pub fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        self.partitions.load().get(usize::try_from(index).ok()?)?.clone()
    }

    /// Every partition that this node holds.
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.load().iter().flatten().cloned().collect()
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
    topics: ArcSwap<Topics>,
    /// Logs found at start that no topic of the image has claimed yet.
    unclaimed: Mutex<BTreeMap<TopicPartition, OpenedLog>>,
}

impl PartitionManager {
    /// A manager of the logs that were found at start. They are claimed by the first [`Self::apply`].
    pub fn new(
        node: NodeId,
        data: DataDir,
        found: Vec<OpenedLog>,
        broker_config: Arc<ArcSwap<BrokerConfig>>,
    ) -> Self {
        let unclaimed = found.into_iter().map(|opened| (opened.name.clone(), opened)).collect();
        Self { node, data, broker_config, topics: ArcSwap::default(), unclaimed: Mutex::new(unclaimed) }
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

    /// Takes over the image that the node starts with. Blocks on the disk.
    pub fn start(&self, image: &MetadataImage) {
        self.apply(&MetadataDelta::between(&MetadataImage::default(), image));
        for (name, opened) in std::mem::take(&mut *self.unclaimed.lock()) {
            tracing::warn!(partition = %name, topic_id = %opened.topic_id, "a folder of no known topic is set aside (-stray)");
            if let Err(error) = self.data.set_aside(&opened) {
                tracing::error!(partition = %name, %error, "the folder could not be set aside");
            }
        }
    }

    /// Follows what changed. Blocks on the disk.
    pub fn apply(&self, delta: &MetadataDelta) {
        let mut topics = Topics::clone(&self.topics.load());
        for (id, image) in &delta.topics_removed {
            if let Some(topic) = topics.by_id.remove(id) {
                if topics.by_name.get(&image.name).is_some_and(|named| named.id == *id) {
                    topics.by_name.remove(&image.name);
                }
                self.remove(&topic);
            }
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
        if created && let Err(error) = self.data.sync() {
            tracing::error!(%error, "new partition folders could not be synced");
        }
        self.topics.store(Arc::new(topics));
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

    fn log_config(&self, config: &TopicConfig) -> LogConfig {
        log_config(config, self.broker_config.load().producer_id_expiration_ms)
    }

    fn reconfigure(&self, topic: &Topic, configs: &Configs) {
        let config = self.effective(configs);
        for partition in topic.partitions() {
            partition.log.update_config(self.log_config(&config));
        }
        topic.config.store(Arc::new(config));
    }

    /// Creates and updates partitions; true when a folder was made.
    fn change_partitions(
        &self,
        topic: &Arc<Topic>,
        image: &TopicImage,
        changed: &std::collections::BTreeSet<i32>,
    ) -> bool {
        let mut partitions = Vec::clone(&topic.partitions.load());
        let mut created = false;
        for index in changed {
            let (Some(partition_image), Ok(at)) = (image.partition(*index), usize::try_from(*index)) else {
                continue;
            };
            if partitions.len() <= at {
                partitions.resize(at + 1, None);
            }
            if !partition_image.replicas.contains(&self.node) {
                continue;
            }
            let partition = match &partitions[at] {
                Some(partition) => partition.clone(),
                None => {
                    let name = TopicPartition { topic: topic.name.clone(), partition: *index };
                    match self.claim_or_create(topic, name.clone()) {
                        Ok((partition, is_new)) => {
                            created |= is_new;
                            partition
                        }
                        Err(error) => {
                            tracing::error!(partition = %name, %error, "the partition is offline: its log cannot be opened");
                            continue;
                        }
                    }
                }
            };
            if let Err(error) = partition.apply(partition_image) {
                tracing::error!(partition = %partition.name, %error, "the leader epoch could not be noted");
            }
            partitions[at] = Some(partition);
        }
        topic.partitions.store(Arc::new(partitions));
        created
    }

    fn claim_or_create(
        &self,
        topic: &Arc<Topic>,
        name: TopicPartition,
    ) -> Result<(Arc<Partition>, bool), crate::segment::LogError> {
        let config = self.log_config(&topic.config());
        let found = self.unclaimed.lock().remove(&name);
        let (log, high_watermark, is_new) = match found {
            Some(opened) if opened.topic_id == topic.id => {
                opened.log.update_config(config);
                (opened.log, opened.high_watermark, false)
            }
            Some(unnamed) if unnamed.topic_id == TopicId::ZERO => {
                // A power cut may take this small file, or a hand. The folder has the name, and a deleted topic's
                // folder would have been renamed: its records are not given up for that.
                tracing::warn!(partition = %name, topic_id = %topic.id, "partition.metadata is missing or cannot be read; the folder is taken by its name, and the file written anew");
                self.data.adopt(&unnamed, topic.id)?;
                unnamed.log.update_config(config);
                (unnamed.log, unnamed.high_watermark, false)
            }
            Some(stray) => {
                tracing::warn!(partition = %name, topic_id = %stray.topic_id, "the folder of an earlier topic of that name is set aside (-stray)");
                self.data.set_aside(&stray)?;
                (self.data.create_log(&name, topic.id, config)?, Offset::ZERO, true)
            }
            None => (self.data.create_log(&name, topic.id, config)?, Offset::ZERO, true),
        };
        Ok((Arc::new(Partition::new(name, topic.clone(), log, self.node, high_watermark)), is_new))
    }

    fn remove(&self, topic: &Topic) {
        for partition in topic.partitions.swap(Arc::default()).iter().flatten() {
            partition.closed();
            if let Err(error) = self.data.delete_log(&partition.log) {
                tracing::error!(partition = %partition.name, %error, "the folder of a deleted topic could not be removed");
            }
        }
        tracing::info!(topic = %topic.name, id = %topic.id, "the topic is deleted");
    }

    /// High watermarks of all partitions, for their checkpoint.
    pub fn high_watermarks(&self) -> Vec<(TopicPartition, Offset)> {
        self.partitions()
            .iter()
            .map(|partition| (partition.name.clone(), partition.high_watermark()))
            .collect()
    }
}

/// What the log has to know of a topic's configuration.
fn log_config(config: &TopicConfig, producer_id_expiration_ms: i64) -> LogConfig {
    LogConfig {
        segment_bytes: u32::try_from(config.segment_bytes).unwrap_or(u32::MAX),
        segment_ms: config.segment_ms,
        segment_jitter_ms: config.segment_jitter_ms,
        index_interval_bytes: u32::try_from(config.index_interval_bytes).unwrap_or_default(),
        segment_index_bytes: u32::try_from(config.segment_index_bytes).unwrap_or(u32::MAX),
        retention_ms: config.retention_ms,
        retention_bytes: config.retention_bytes,
        delete: config.delete,
        compact: config.compact,
        min_cleanable_dirty_ratio: config.min_cleanable_dirty_ratio,
        min_compaction_lag_ms: config.min_compaction_lag_ms,
        max_compaction_lag_ms: config.max_compaction_lag_ms,
        delete_retention_ms: config.delete_retention_ms,
        file_delete_delay_ms: config.file_delete_delay_ms,
        flush_messages: config.flush_messages,
        flush_ms: config.flush_ms,
        producer_id_expiration_ms,
    }
}
