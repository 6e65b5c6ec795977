//! Partitions that gather until one task takes all of them along: those whose leader has something to ask the controller
//! about their in-sync replicas (`replication::isr`), and those that their leader is to hand over
//! (`replication::hand_over`).

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Partition;
use crate::types::TopicPartition;

/// Partitions that wait for their turn, each once.
#[derive(Debug, Default)]
pub struct Gathering {
    waiting: Mutex<BTreeMap<TopicPartition, Weak<Partition>>>,
    come: Notify,
}

impl Gathering {
    pub fn push(&self, partition: &Arc<Partition>) {
        self.waiting.lock().insert(partition.name.clone(), Arc::downgrade(partition));
        self.come.notify_one();
    }

    /// Returns when there may be some.
    pub async fn come(&self) {
        self.come.notified().await;
    }

    /// All that wait now.
    pub fn take(&self) -> Vec<Arc<Partition>> {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.into_values().filter_map(|partition| partition.upgrade()).collect()
    }
}
