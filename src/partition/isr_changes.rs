//! Partitions whose leader has something to ask the controller about their in-sync replicas.
//!
//! Whoever notices it (the fetch of a follower that has caught up, the look at those that lag) puts the partition here;
//! one task takes all that have gathered along in one request (`replication::isr`).

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Partition;
use crate::types::TopicPartition;

/// The partitions that wait to be asked for, each once.
#[derive(Debug, Default)]
pub struct IsrChanges {
    waiting: Mutex<BTreeMap<TopicPartition, Weak<Partition>>>,
    come: Notify,
}

impl IsrChanges {
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
