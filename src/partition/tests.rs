//! A partition through leaderships that come and go, on a simulated disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::following::LeaderState;
use super::replica::FollowerFetch;
use super::test_setup::{open_partitions, surroundings};
use super::{Appending, Partition, PartitionManager, ProduceError, Produced};
use crate::env::sim::{SimClock, SimDisk};
use crate::env::{Disk, Tasks};
use crate::metadata::{MetadataDelta, MetadataImage, MetadataRecord, PartitionChange, PartitionRegistration};
use crate::protocol::builder::{BatchBuilder, BatchOptions};
use crate::segment::{Guard, TruncateError};
use crate::types::{Acks, LeaderEpoch, NodeId, Offset, TopicId};

const NODE: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);
const LONG: Duration = Duration::from_secs(3600);

/// Node 1, which holds a partition that node 2 holds, too.
struct Place {
    disk: SimDisk,
    image: MetadataImage,
    topic: TopicId,
    partitions: PartitionManager,
}

impl Place {
    fn new() -> Self {
        Self::with_seed(3)
    }

    fn with_seed(seed: u64) -> Self {
        let topic = TopicId(uuid::Uuid::from_u128(9));
        let records = [
            MetadataRecord::Topic { name: "t".into(), id: topic },
            MetadataRecord::Partition(PartitionRegistration {
                topic_id: topic,
                partition: 0,
                replicas: vec![NODE, OTHER],
                isr: vec![NODE, OTHER],
                leader: Some(NODE),
                leader_epoch: LeaderEpoch(0),
                partition_epoch: 0,
                eligible_leader_replicas: Vec::new(),
                last_known_eligible_leader_replicas: Vec::new(),
                adding_replicas: Vec::new(),
                removing_replicas: Vec::new(),
                recovering: false,
                heir: None,
            }),
        ];
        let image = MetadataImage::default().with(&records).unwrap();
        let disk = SimDisk::new(seed);
        disk.create_dir_all(Path::new("/data")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        Self::open(disk, image, topic)
    }

    fn open(disk: SimDisk, image: MetadataImage, topic: TopicId) -> Self {
        let surroundings = surroundings(&disk, &SimClock::new(1_000));
        let partitions = open_partitions(NODE, &surroundings, &Tasks::new(), &image);
        Self { disk, image, topic, partitions }
    }

    fn power_cut(self) -> Self {
        self.disk.power_cut();
        let Self { disk, image, topic, .. } = self;
        Self::open(disk, image, topic)
    }

    fn partition(&self) -> Arc<Partition> {
        self.partitions.topic("t").unwrap().partition(0).unwrap()
    }

    fn change(&mut self, leader: Option<NodeId>, isr: &[NodeId]) {
        let before = self.image.clone();
        let change = PartitionChange {
            topic_id: self.topic,
            partition: 0,
            leader,
            isr: Some(isr.to_vec()),
            ..PartitionChange::default()
        };
        self.image.replay(&MetadataRecord::PartitionChange(change)).unwrap();
        self.partitions.apply(&MetadataDelta::between(&before, &self.image));
    }
}

fn batch(value: &str, options: BatchOptions) -> BytesMut {
    let mut builder = BatchBuilder::new(options);
    builder.add(1_000, None, Some(value.as_bytes())).unwrap();
    builder.build_mut().unwrap()
}

fn produce(partition: &Arc<Partition>, value: &str, acks: Acks) -> Appending {
    partition.produce(batch(value, BatchOptions::default()), acks, 1_000, LONG, (false, Guard::NONE))
}

async fn outcome(appending: Appending) -> Result<Produced, ProduceError> {
    match appending {
        Appending::Done(outcome) => outcome,
        Appending::Coming(coming) => coming.await.unwrap(),
    }
}

fn leader(epoch: LeaderEpoch, high_watermark: i64) -> LeaderState {
    LeaderState { epoch, high_watermark: Offset(high_watermark), log_start: Offset(0) }
}

fn fetch(offset: i64) -> FollowerFetch {
    let (leader_epoch, offset) = (LeaderEpoch::NONE, Offset(offset));
    FollowerFetch { follower: OTHER, broker_epoch: 1, leader_epoch, offset, log_start: Offset(0) }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_cut_off_is_never_acknowledged_whatever_takes_its_offset() {
    let mut place = Place::new();
    let partition = place.partition();
    let waits = produce(&partition, "lost", Acks::All);
    let started = tokio::time::Instant::now();
    tokio::task::yield_now().await;
    place.change(Some(OTHER), &[NODE, OTHER]);
    assert!(matches!(outcome(waits).await, Err(ProduceError::NotLeader)));
    partition.truncate(&place.partitions.data, Offset(0), LeaderEpoch(1)).unwrap();
    place.change(Some(NODE), &[NODE]);
    let kept = outcome(produce(&partition, "kept", Acks::All)).await.unwrap();
    assert_eq!((kept.base_offset, partition.high_watermark()), (Offset(0), Offset(1)));
    // Whoever comes late, for the record of then, is told at once.
    let late = partition.committed(Offset(1), LeaderEpoch(0), LONG).await;
    assert!(matches!(late, Err(ProduceError::NotLeader)));
    partition.committed(Offset(1), LeaderEpoch(2), LONG).await.unwrap();
    place.change(Some(OTHER), &[NODE, OTHER]);
    let late = partition.committed(Offset(2), LeaderEpoch(2), LONG).await;
    assert!(matches!(late, Err(ProduceError::NotLeader)));
    assert_eq!(started.elapsed(), Duration::ZERO, "nobody waited for a timeout");
}

#[tokio::test(start_paused = true)]
async fn who_waits_goes_on_waiting_when_the_next_epoch_is_this_nodes_too() {
    let mut place = Place::new();
    let partition = place.partition();
    let waits = produce(&partition, "a", Acks::All);
    tokio::task::yield_now().await;
    place.change(Some(NODE), &[NODE, OTHER]);
    assert_eq!(partition.leader_epoch(), LeaderEpoch(1));
    assert!(partition.is_behind_epoch_start());
    partition.follower_fetched(fetch(1), 1_000, |_| Some(1)).unwrap();
    assert!(!partition.is_behind_epoch_start());
    assert_eq!(outcome(waits).await.unwrap().base_offset, Offset(0));
}

#[tokio::test(start_paused = true)]
async fn a_follower_takes_what_its_leader_sends_and_nothing_of_a_leader_that_is_none_any_more() {
    let mut place = Place::new();
    let partition = place.partition();
    outcome(produce(&partition, "a", Acks::Leader)).await.unwrap();
    place.change(Some(OTHER), &[NODE, OTHER]);
    let of = |base_offset, partition_leader_epoch| {
        batch("b", BatchOptions { base_offset, partition_leader_epoch, ..BatchOptions::default() })
    };
    let (before, now) = (LeaderEpoch(0), LeaderEpoch(1));
    assert!(partition.append_replicated(of(1, 0).freeze(), leader(before, 1)).is_err());
    assert!(matches!(outcome(produce(&partition, "b", Acks::Leader)).await, Err(ProduceError::NotLeader)));
    partition.append_replicated(of(1, 1).freeze(), leader(now, 1)).unwrap();
    assert_eq!((partition.log.log_end_offset(), partition.high_watermark()), (Offset(2), Offset(1)));
    partition.append_replicated(of(2, 1).freeze(), leader(now, 9)).unwrap();
    assert_eq!(partition.high_watermark(), Offset(3));
    let late = partition.truncate(&place.partitions.data, Offset(0), before);
    assert!(matches!(late, Err(TruncateError::LeadershipEnded(_))));
    partition.truncate(&place.partitions.data, Offset(2), now).unwrap();
    assert_eq!((partition.log.log_end_offset(), partition.high_watermark()), (Offset(2), Offset(2)));
    place.change(Some(NODE), &[NODE]);
    assert!(partition.append_replicated(of(2, 1).freeze(), leader(now, 9)).is_err());
    assert!(partition.truncate(&place.partitions.data, Offset(0), LeaderEpoch(2)).is_err());
    partition.closed();
    assert!(matches!(outcome(produce(&partition, "c", Acks::Leader)).await, Err(ProduceError::NotLeader)));
}

/// The recovery point on the disk is what recovery believes: were it higher than the cut, it would take what came
/// after at its word.
#[tokio::test]
async fn what_a_truncation_left_is_looked_at_after_a_power_cut() {
    for seed in 0..40 {
        let mut place = Place::with_seed(seed);
        for at in 0..50 {
            outcome(produce(&place.partition(), &format!("{at}"), Acks::Leader)).await.unwrap();
        }
        place.partitions.data.checkpoint_all().unwrap();
        place.change(Some(OTHER), &[NODE, OTHER]);
        let partition = place.partition();
        partition.truncate(&place.partitions.data, Offset(10), LeaderEpoch(1)).unwrap();
        for offset in 10..40 {
            let options =
                BatchOptions { base_offset: offset, partition_leader_epoch: 1, ..BatchOptions::default() };
            let records = batch(&format!("new {offset} {seed}"), options);
            partition.append_replicated(records.freeze(), leader(LeaderEpoch(1), 0)).unwrap();
        }
        drop(partition);
        let place = place.power_cut();
        let log = place.partition().log.clone();
        let end = log.log_end_offset();
        assert!((Offset(10)..=Offset(40)).contains(&end), "{end}");
        let slice = log.read(Offset(0), 1 << 20, end, true).unwrap();
        let mut bytes = vec![0; slice.len];
        slice.file.read_at(&mut bytes, slice.position).unwrap();
        for found in crate::protocol::batch::batches(&bytes).map(Result::unwrap) {
            found.verify_crc().unwrap();
            let epoch = i32::from(found.header.base_offset >= 10);
            assert_eq!(found.header.partition_leader_epoch, epoch, "at {}", found.header.base_offset);
        }
    }
}
