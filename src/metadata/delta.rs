//! What differs between two images.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::ordmap::DiffItem;

use super::image::{MetadataImage, TopicImage};
use super::record::ConfigResource;
use crate::types::{NodeId, TopicId};

/// What an applier must look at when one image follows another. The two need not be neighbours: whoever
/// was slow gets all that happened in between as one delta.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetadataDelta {
    /// Topics that are new, or have changed partitions or configurations.
    pub topics_changed: BTreeMap<TopicId, TopicDelta>,
    /// Topics of the earlier image that are gone, also when a new topic has their name.
    pub topics_removed: BTreeMap<TopicId, Arc<TopicImage>>,
    /// Resources other than topics whose configurations changed.
    pub configs_changed: BTreeSet<ConfigResource>,
    /// Brokers that came, changed or went.
    pub brokers_changed: BTreeSet<NodeId>,
}

/// What changed about a topic that is in the later image.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicDelta {
    /// The topic in the later image.
    pub topic: Arc<TopicImage>,
    /// True when the earlier image did not have it.
    pub is_new: bool,
    /// Indexes of partitions that are new or changed; all of them for a new topic.
    pub partitions_changed: BTreeSet<i32>,
    pub configs_changed: bool,
}

impl MetadataDelta {
    /// What `new` has that `old` has not, and the other way round.
    pub fn between(old: &MetadataImage, new: &MetadataImage) -> Self {
        let mut delta = Self::default();
        for item in old.topic_map().diff(new.topic_map()) {
            match item {
                DiffItem::Add(_, topic) => delta.add(topic),
                DiffItem::Remove(_, topic) => delta.remove(topic),
                DiffItem::Update { old: (_, old), new: (_, new) } => {
                    if old.id == new.id {
                        delta.update(old, new);
                    } else {
                        delta.remove(old);
                        delta.add(new);
                    }
                }
            }
        }
        for item in old.config_map().diff(new.config_map()) {
            let (DiffItem::Add(resource, _)
            | DiffItem::Remove(resource, _)
            | DiffItem::Update { new: (resource, _), .. }) = item;
            delta.configs_changed.insert(resource.clone());
        }
        for item in old.brokers().diff(new.brokers()) {
            let (DiffItem::Add(id, _) | DiffItem::Remove(id, _) | DiffItem::Update { new: (id, _), .. }) =
                item;
            delta.brokers_changed.insert(*id);
        }
        delta
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, topic: &Arc<TopicImage>) {
        let partitions_changed = (0..).zip(&topic.partitions).map(|(index, _)| index).collect();
        let change = TopicDelta {
            topic: topic.clone(),
            is_new: true,
            partitions_changed,
            configs_changed: !topic.configs.is_empty(),
        };
        self.topics_changed.insert(topic.id, change);
    }

    fn remove(&mut self, topic: &Arc<TopicImage>) {
        self.topics_removed.insert(topic.id, topic.clone());
    }

    fn update(&mut self, old: &Arc<TopicImage>, new: &Arc<TopicImage>) {
        let mut earlier = old.partitions.iter();
        let mut partitions_changed = BTreeSet::new();
        for (index, partition) in (0..).zip(&new.partitions) {
            let same = earlier.next().is_some_and(|old| Arc::ptr_eq(old, partition) || old == partition);
            if !same {
                partitions_changed.insert(index);
            }
        }
        let configs_changed = old.configs != new.configs;
        if configs_changed || !partitions_changed.is_empty() {
            let change =
                TopicDelta { topic: new.clone(), is_new: false, partitions_changed, configs_changed };
            self.topics_changed.insert(new.id, change);
        }
    }
}
