//! What moves records between nodes: this node's followers fetch from their leaders, and its leaders ask the controller who is
//! in sync.
//!
//! * [`fetcher`]: one connection to a leader, with the partitions that are fetched over it.
//! * [`session`]: what each fetch has to say (KIP-227).
//! * [`taking`]: what becomes of an answer: records are appended, logs cut where they part.
//! * [`isr`]: changes of in-sync replicas, asked for in one request at a time.
//! * [`hand_over`]: leaderships that go to other replicas, as planned.
//!
//! Kafka's protocol of followers: a fetch tells where the log ends, the epoch of its last record and the epoch of the leader that is
//! followed. The leader answers with records, or says where the two logs part (KIP-595), which is where the follower cuts. So
//! nothing is cut before the leader has said so, and a follower's fetch is what acknowledges records.
//!
//! Invariants: one fetcher at a time fetches a partition, over one connection. An answer counts only for what was asked in
//! it, and only while this node follows the leader of that epoch (the log's writer lock sees to that). Where a topic is to be
//! synced with every message, it is before the next fetch tells of it. A log that fails takes no other partition along.
//!
//! Locks: `assigned`, then a fetcher's `place`; both for moments.

mod fetcher;
pub mod hand_over;
pub mod isr;
mod session;
mod taking;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use crate::client::peers::Peers;
use crate::config::rooms::replication::ReplicationConfig;
use crate::controller::{BrokerIdentity, ControllerHandle};
use crate::env::{Surroundings, Tasks};
use crate::metadata::{MetadataDelta, MetadataImage};
use crate::partition::PartitionManager;
use crate::types::{NodeId, TopicId};
use fetcher::Fetcher;
use session::Key;

/// What a fetcher has to know of its node.
pub struct Context {
    pub config: ReplicationConfig,
    /// `inter.broker.listener.name`
    pub listener: String,
    pub surroundings: Surroundings,
    pub peers: Peers,
    pub partitions: Arc<PartitionManager>,
    /// The metadata as this node knows it now.
    pub image: Box<dyn Fn() -> Arc<MetadataImage> + Send + Sync>,
    /// This process as the controller knows it now.
    pub identity: Box<dyn Fn() -> BrokerIdentity + Send + Sync>,
    pub counters: Counters,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("identity", &(self.identity)()).finish_non_exhaustive()
    }
}

/// What happened since the start, for the metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Fetches that failed as a whole.
    pub fetches_failed: AtomicU64,
    /// Partitions whose answers were errors, or could not be taken.
    pub partitions_failed: AtomicU64,
    pub isr_shrinks: AtomicU64,
    pub isr_expands: AtomicU64,
    pub isr_updates_failed: AtomicU64,
}

/// The followers of this node. Clones are the same.
#[derive(Clone, Debug)]
pub struct Replication {
    context: Arc<Context>,
    tasks: Tasks,
    assigned: Arc<Mutex<Assigned>>,
}

/// Who fetches what.
#[derive(Debug, Default)]
struct Assigned {
    fetchers: BTreeMap<(NodeId, u16), Arc<Fetcher>>,
    by_partition: HashMap<Key, (NodeId, u16)>,
}

impl Replication {
    /// Follows nobody yet: [`Self::follow_all`] begins. The fetchers end with `tasks`.
    pub fn new(context: Arc<Context>, tasks: &Tasks) -> Self {
        Self { context, tasks: tasks.clone(), assigned: Arc::default() }
    }

    pub fn counters(&self) -> &Counters {
        &self.context.counters
    }

    /// Follows a change of the metadata, once the partitions have followed it.
    pub fn follow(&self, delta: &MetadataDelta) {
        let assigned = &mut *self.assigned.lock();
        for (id, topic) in &delta.topics_removed {
            for index in 0..topic.partitions.len() {
                let Ok(index) = i32::try_from(index) else { continue };
                self.assign(assigned, (*id, index));
            }
        }
        for (id, change) in &delta.topics_changed {
            for index in &change.partitions_changed {
                self.assign(assigned, (*id, *index));
            }
        }
        for broker in &delta.brokers_changed {
            // It may have come back, or be elsewhere.
            let fetchers = assigned.fetchers.range((*broker, 0)..=(*broker, u16::MAX));
            fetchers.for_each(|(_, fetcher)| fetcher.leader_changed());
        }
    }

    /// Hands over all that this broker leads and others have: it shuts down.
    pub async fn hand_over_all(&self, controller: &ControllerHandle) {
        hand_over::hand_over_all(&self.context, controller).await;
    }

    /// Looks at every partition: at the start, and when some have come up that were offline.
    pub fn follow_all(&self) {
        let assigned = &mut *self.assigned.lock();
        for topic in self.context.partitions.topics() {
            for partition in topic.partitions() {
                self.assign(assigned, (topic.id, partition.name.partition));
            }
        }
    }

    /// Has the partition fetched from whom it follows now, if anybody.
    fn assign(&self, assigned: &mut Assigned, key: Key) {
        let partition =
            self.context.partitions.topic_by_id(key.0).and_then(|topic| topic.partition(key.1).ok());
        let following = partition.and_then(|partition| {
            let (leader, epoch) = partition.follows()?;
            Some((partition, leader, epoch))
        });
        let place = following.as_ref().map(|(_, leader, _)| (*leader, self.fetcher_of(key)));
        if let Some(before) = assigned.by_partition.get(&key).filter(|before| place != Some(**before)) {
            if let Some(fetcher) = assigned.fetchers.get(before) {
                fetcher.leave(key);
            }
            assigned.by_partition.remove(&key);
        }
        let (Some((partition, leader, epoch)), Some(place)) = (following, place) else { return };
        let fetcher = assigned.fetchers.entry(place).or_insert_with(|| {
            let fetcher = Arc::new(Fetcher::new(leader, place.1, self.context.clone()));
            self.tasks.spawn_until_stopped(fetcher.clone().run());
            fetcher
        });
        fetcher.follow(key, partition, epoch);
        assigned.by_partition.insert(key, place);
    }

    /// Which of the fetchers of a leader: always the same, and spread evenly.
    fn fetcher_of(&self, (TopicId(id), index): Key) -> u16 {
        let hash = (id.as_u128() as u64 ^ (id.as_u128() >> 64) as u64).wrapping_add(index as u64);
        (hash % self.context.config.fetchers.max(1) as u64) as u16
    }
}
