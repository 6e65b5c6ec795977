//! The runtime with a shard of counters, on partitions of a simulated disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::group::config::GroupShardConfig;
use super::group::offsets::TopicIds;
use super::group::request::{CommitOffsets, FetchOffsets, OffsetToCommit, Request, Response};
use super::group::shard::GroupShard;
use super::runtime::{Runtime, RuntimeConfig};
use super::{CoordinatorError, CoordinatorRecord, Decision, Now, ReplayError, Shard, Ticket};
use crate::config::BrokerConfig;
use crate::env::real::RealChance;
use crate::env::sim::{Faults, SimClock, SimDisk};
use crate::env::{Chance, Tasks};
use crate::metadata::{MetadataDelta, MetadataImage, MetadataRecord, PartitionChange, PartitionRegistration};
use crate::partition::PartitionManager;
use crate::partition::lease::Lease;
use crate::partition::test_setup::{open_partitions_for, surroundings};
use crate::protocol::batch::Compression;
use crate::types::{LeaderEpoch, NodeId, TopicId};

const TOPIC: &str = "__consumer_offsets";
const NODE: NodeId = NodeId(1);
/// How long a waiting request waits for its counter.
const PATIENCE_MS: i64 = 5_000;

/// Counters that survive, and requests that wait for them, which do not.
#[derive(Default)]
struct Counters {
    counts: BTreeMap<u8, u8>,
    waiting: Vec<(Ticket, u8, i64)>,
}

enum Asked {
    Add(u8),
    Read(u8),
    /// Answered when the counter is added to, or with `None` when that takes too long.
    Wait(u8),
}

enum Soft {
    Waits(Ticket, u8, i64),
    Answered(Ticket),
}

impl Shard for Counters {
    type Request = Asked;
    type Response = Option<u8>;
    type Change = Soft;

    fn replay(&mut self, record: &CoordinatorRecord, _: Now) -> Result<(), ReplayError> {
        match (record.key.as_ref(), record.value.as_deref()) {
            ([key], Some([value])) => _ = self.counts.insert(*key, *value),
            _ => return Err(ReplayError("not a counter".into())),
        }
        Ok(())
    }

    fn loaded(&mut self, _: Now) {}

    fn decide(&self, request: Asked, ticket: Ticket, now: Now) -> Decision<Self> {
        let mut decision = Decision::default();
        let count = |key| self.counts.get(&key).copied();
        match request {
            Asked::Read(key) => decision.answers.push((ticket, count(key))),
            Asked::Wait(key) => {
                decision.changes.push(Soft::Waits(ticket, key, now.monotonic_ms + PATIENCE_MS))
            }
            Asked::Add(key) => {
                let next = count(key).unwrap_or(0) + 1;
                let (key_bytes, value) = (Bytes::from(vec![key]), Bytes::from(vec![next]));
                decision.records.push(CoordinatorRecord { key: key_bytes, value: Some(value) });
                decision.answers.push((ticket, Some(next)));
                for (waiting, ..) in self.waiting.iter().filter(|(_, wanted, _)| *wanted == key) {
                    decision.answers.push((*waiting, Some(next)));
                    decision.changes.push(Soft::Answered(*waiting));
                }
            }
        }
        decision
    }

    fn tick(&self, now: Now) -> Decision<Self> {
        let mut decision = Decision::default();
        for (ticket, ..) in self.waiting.iter().filter(|(_, _, deadline)| *deadline <= now.monotonic_ms) {
            decision.answers.push((*ticket, None));
            decision.changes.push(Soft::Answered(*ticket));
        }
        decision
    }

    fn postpone(&mut self, _: Decision<Self>, _: i64) {}

    fn deadline(&self) -> Option<i64> {
        self.waiting.iter().map(|(_, _, deadline)| *deadline).min()
    }

    fn install(&mut self, change: Soft) {
        match change {
            Soft::Waits(ticket, key, deadline) => self.waiting.push((ticket, key, deadline)),
            Soft::Answered(answered) => self.waiting.retain(|(ticket, ..)| *ticket != answered),
        }
    }
}

/// One broker's partitions with their runtime.
struct Place<S: Shard = Counters> {
    disk: SimDisk,
    image: MetadataImage,
    topic: TopicId,
    partitions: Arc<PartitionManager>,
    lease: Lease,
    runtime: Arc<Runtime<S>>,
    new_shard: Arc<dyn Fn() -> S + Send + Sync>,
}

impl<S: Shard> Place<S> {
    fn of(new_shard: impl Fn() -> S + Send + Sync + 'static) -> Self {
        let topic = RealChance.topic_id();
        let partition = |index| {
            MetadataRecord::Partition(PartitionRegistration {
                topic_id: topic,
                partition: index,
                replicas: vec![NODE, NodeId(2)],
                isr: vec![NODE],
                leader: Some(NODE),
                leader_epoch: LeaderEpoch(0),
                partition_epoch: 0,
                eligible_leader_replicas: Vec::new(),
                last_known_eligible_leader_replicas: Vec::new(),
                adding_replicas: Vec::new(),
                removing_replicas: Vec::new(),
                recovering: false,
                heir: None,
            })
        };
        let records = [MetadataRecord::Topic { name: TOPIC.into(), id: topic }, partition(0), partition(1)];
        let mut image = MetadataImage::default();
        for record in &records {
            image.replay(record).unwrap();
        }
        Self::open(SimDisk::new(7), image, topic, Arc::new(new_shard))
    }

    fn open(
        disk: SimDisk,
        image: MetadataImage,
        topic: TopicId,
        new_shard: Arc<dyn Fn() -> S + Send + Sync>,
    ) -> Self {
        let (surroundings, tasks) = (surroundings(&disk, &SimClock::new(1_000)), Tasks::new());
        let lease = Lease::new(surroundings.clock.clone());
        let partitions = open_partitions_for(lease.clone(), NODE, &surroundings, &tasks, &image);
        let partitions = Arc::new(partitions);
        let config = RuntimeConfig {
            topic: TOPIC,
            commit_timeout: Duration::from_secs(5),
            compression: Compression::None,
        };
        let runtime = Runtime::new(config, partitions.clone(), &surroundings, &tasks, {
            let new_shard = new_shard.clone();
            move || new_shard()
        });
        runtime.follow();
        tokio::spawn(runtime.clone().watch_clock());
        Self { disk, image, topic, partitions, lease, runtime, new_shard }
    }

    /// The process dies and starts again; what was written stays.
    async fn restarted(self) -> Self {
        self.runtime.stop().await;
        self.disk.kill();
        Self::open(self.disk, self.image, self.topic, self.new_shard)
    }
}

impl Place {
    fn new() -> Self {
        Self::of(Counters::default)
    }

    /// The controller makes this node lead partition 0, or nobody.
    fn lead(&mut self, leader: Option<NodeId>) {
        let before = self.image.clone();
        let change = PartitionChange {
            topic_id: self.topic,
            partition: 0,
            leader: Some(leader.unwrap_or(NodeId(-1))),
            ..PartitionChange::default()
        };
        self.image.replay(&MetadataRecord::PartitionChange(change)).unwrap();
        self.partitions.apply(&MetadataDelta::between(&before, &self.image));
        self.runtime.follow();
    }

    async fn ask(&self, asked: Asked) -> Result<Option<u8>, CoordinatorError> {
        self.runtime.ask(0, asked).await
    }
}

#[tokio::test]
async fn what_was_decided_is_there_after_a_restart() {
    let place = Place::new();
    for count in 1..=3 {
        assert_eq!(place.ask(Asked::Add(9)).await, Ok(Some(count)));
    }
    assert_eq!(place.runtime.ask(1, Asked::Read(9)).await, Ok(None), "a shard of its own");
    assert_eq!(place.runtime.ask(2, Asked::Read(9)).await, Err(CoordinatorError::NotCoordinator));
    let place = place.restarted().await;
    assert_eq!(place.ask(Asked::Read(9)).await, Ok(Some(3)));
    assert_eq!(place.ask(Asked::Add(9)).await, Ok(Some(4)));
}

#[tokio::test]
async fn who_is_not_heard_of_any_more_tells_nothing_of_what_others_may_have_changed() {
    let place = Place::new();
    assert_eq!(place.ask(Asked::Add(9)).await, Ok(Some(1)));
    place.lease.renew(place.lease.now_ms() - 10, Duration::from_millis(5));
    assert_eq!(place.ask(Asked::Read(9)).await, Err(CoordinatorError::NotCoordinator));
    place.lease.renew(place.lease.now_ms(), Duration::from_secs(3600));
    assert_eq!(place.ask(Asked::Read(9)).await, Ok(Some(1)));
}

#[tokio::test]
async fn a_decision_that_cannot_be_written_did_not_happen() {
    let place = Place::new();
    assert_eq!(place.ask(Asked::Add(1)).await, Ok(Some(1)));
    let runtime = place.runtime.clone();
    let waiting = tokio::spawn(async move { runtime.ask(0, Asked::Wait(1)).await });
    while place.waiting().await == 0 {
        tokio::task::yield_now().await;
    }
    place.disk.arm(Faults { fail_write_in: Some(1), ..Faults::default() });
    assert_eq!(place.ask(Asked::Add(1)).await, Err(CoordinatorError::NotCoordinator));
    assert_eq!(place.ask(Asked::Read(1)).await, Ok(Some(1)));
    assert_eq!(place.waiting().await, 1, "nobody is told of what did not happen");
    assert_eq!(place.ask(Asked::Add(1)).await, Ok(Some(2)));
    assert_eq!(waiting.await.unwrap(), Ok(Some(2)));
}

#[tokio::test]
async fn a_full_disk_is_told_and_what_was_written_goes_on_when_there_is_room_again() {
    let place = Place::new();
    assert_eq!(place.ask(Asked::Add(1)).await, Ok(Some(1)));
    let capacity_bytes = Some(place.disk.used_bytes());
    place.disk.arm(Faults { capacity_bytes, ..Faults::default() });
    for _ in 0..3 {
        assert_eq!(place.ask(Asked::Add(1)).await, Err(CoordinatorError::NotCoordinator));
        assert_eq!(place.ask(Asked::Read(1)).await, Ok(Some(1)));
    }
    place.disk.arm(Faults::default());
    assert_eq!(place.ask(Asked::Add(1)).await, Ok(Some(2)));
    let place = place.restarted().await;
    assert_eq!(place.ask(Asked::Read(1)).await, Ok(Some(2)));
}

impl Place {
    async fn waiting(&self) -> usize {
        let mut count = 0;
        self.runtime.inspect(|shard| count += shard.waiting.len()).await;
        count
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_comes_though_nobody_asks() {
    let place = Place::new();
    let begun = tokio::time::Instant::now();
    assert_eq!(place.ask(Asked::Wait(1)).await, Ok(None));
    assert!(begun.elapsed() >= Duration::from_millis(PATIENCE_MS as u64));
    assert_eq!(place.waiting().await, 0);
}

#[tokio::test]
async fn a_new_leadership_reads_anew_and_turns_away_who_waits() {
    let mut place = Place::new();
    assert_eq!(place.ask(Asked::Add(1)).await, Ok(Some(1)));
    let runtime = place.runtime.clone();
    let waiting = tokio::spawn(async move { runtime.ask(0, Asked::Wait(1)).await });
    while place.waiting().await == 0 {
        tokio::task::yield_now().await;
    }
    place.lead(None);
    assert_eq!(waiting.await.unwrap(), Err(CoordinatorError::NotCoordinator));
    assert_eq!(place.ask(Asked::Read(1)).await, Err(CoordinatorError::NotCoordinator));
    place.lead(Some(NODE));
    assert_eq!(place.ask(Asked::Read(1)).await, Ok(Some(1)));
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_half_done() {
    let place = Place::new();
    for round in 0..50 {
        let (runtime, yields) = (place.runtime.clone(), round % 4);
        let asking = tokio::spawn(async move { runtime.ask(0, Asked::Add(1)).await });
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        asking.abort();
    }
    let Ok(Some(count)) = place.ask(Asked::Add(1)).await else { panic!("it goes on") };
    let place = place.restarted().await;
    assert_eq!(place.ask(Asked::Read(1)).await, Ok(Some(count)));
}

/// The node dies before it followed the deletion of a topic, and the topic is made anew.
#[tokio::test]
async fn what_was_committed_for_an_earlier_topic_is_gone_after_a_restart() {
    let (first, second) = (RealChance.topic_id(), RealChance.topic_id());
    let is_now = Arc::new(Mutex::new(first));
    let topics = TopicIds::new({
        let is_now = is_now.clone();
        move |_| Some(*is_now.lock())
    });
    let (config, _) = BrokerConfig::from_values(BTreeMap::new()).unwrap();
    let config = GroupShardConfig::new(&config.groups, Arc::new(RealChance));
    let place = Place::of(move || GroupShard::new(config.clone(), topics.clone()));
    let offset = OffsetToCommit {
        topic: "t".into(),
        topic_id: first,
        partition: 0,
        offset: 7,
        leader_epoch: -1,
        metadata: "".into(),
    };
    let commit = CommitOffsets {
        group_id: "g".into(),
        generation_id: -1,
        member_id: "".into(),
        group_instance_id: None,
        retention_ms: None,
        offsets: vec![offset],
    };
    place.runtime.ask(0, Request::CommitOffsets(commit)).await.unwrap();
    assert_eq!(committed(&place).await, 7);
    let place = place.restarted().await;
    assert_eq!(committed(&place).await, 7, "it is the same topic still");

    *is_now.lock() = second;
    let place = place.restarted().await;
    assert_eq!(committed(&place).await, -1);
    // Its tombstone comes without anybody asking.
    let log = place.partitions.topic(TOPIC).unwrap().partition(0).unwrap();
    while log.log.log_end_offset().0 < 2 {
        tokio::task::yield_now().await;
    }
    *is_now.lock() = first;
    let place = place.restarted().await;
    assert_eq!(committed(&place).await, -1, "the tombstone was written");
}

/// The offset of `g` in partition 0 of `t`.
async fn committed(place: &Place<GroupShard>) -> i64 {
    let fetch = FetchOffsets { group_id: "g".into(), partitions: Some(vec![("t".into(), 0)]) };
    match place.runtime.ask(0, Request::FetchOffsets(fetch)).await {
        Ok(Response::FetchOffsets(Ok(fetched))) => fetched[0].offset,
        other => panic!("a fetch is answered {other:?}"),
    }
}
