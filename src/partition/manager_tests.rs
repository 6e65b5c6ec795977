//! Partitions come, go, and stay away while a disk will not have them.

use std::path::Path;
use std::sync::Arc;

use super::test_setup::{open_partitions, surroundings};
use super::{Absent, Partition, PartitionManager, ReadBound};
use crate::env::real::RealChance;
use crate::env::sim::{Bad, Faults, SimClock, SimDisk};
use crate::env::{Chance, Disk, Tasks};
use crate::metadata::{MetadataDelta, MetadataImage, MetadataRecord, PartitionChange, PartitionRegistration};
use crate::protocol::builder::{BatchBuilder, BatchOptions};
use crate::segment::{Append, AppendRequest, Origin};
use crate::types::{LeaderEpoch, NodeId, Offset, TopicId};

const NODE: NodeId = NodeId(1);
const ELSEWHERE: NodeId = NodeId(2);

struct Place {
    disk: SimDisk,
    clock: Arc<SimClock>,
    image: MetadataImage,
    manager: PartitionManager,
}

fn manager(disk: &SimDisk, clock: &Arc<SimClock>, image: &MetadataImage) -> PartitionManager {
    open_partitions(NODE, &surroundings(disk, clock), &Tasks::new(), image)
}

impl Place {
    fn new() -> Self {
        let (disk, clock) = (SimDisk::new(1), SimClock::new(1_000_000));
        let image = MetadataImage::default();
        let manager = manager(&disk, &clock, &image);
        Self { disk, clock, image, manager }
    }

    fn change(&mut self, records: impl IntoIterator<Item = MetadataRecord>) {
        let before = self.image.clone();
        records.into_iter().for_each(|record| self.image.replay(&record).unwrap());
        self.manager.apply(&MetadataDelta::between(&before, &self.image));
    }

    fn create(&mut self, name: &str, partitions: i32) -> TopicId {
        let topic_id = RealChance.topic_id();
        let topic = MetadataRecord::Topic { name: name.into(), id: topic_id };
        let partition = |partition| {
            MetadataRecord::Partition(PartitionRegistration {
                topic_id,
                partition,
                replicas: vec![NODE],
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
        self.change(std::iter::once(topic).chain((0..partitions).map(partition)));
        topic_id
    }

    /// Ends the process and starts it again.
    fn restart(self) -> Self {
        drop(self.manager);
        self.disk.kill();
        let Self { disk, clock, image, .. } = self;
        let manager = manager(&disk, &clock, &image);
        Self { disk, clock, image, manager }
    }

    fn partition(&self, name: &str, index: i32) -> Result<Arc<Partition>, Absent> {
        self.manager.topic(name).unwrap().partition(index)
    }

    /// As the broker's clock does it every second.
    fn retry_for(&self, seconds: i64) -> usize {
        let each = (0..seconds).map(|_| {
            self.clock.advance(1_000);
            self.manager.retry_offline(self.manager.data.now_ms())
        });
        each.sum()
    }
}

fn append(partition: &Partition, records: i64) {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for at in 0..records {
        builder.add(at, None, Some(b"value")).unwrap();
    }
    let (records, epoch) = (builder.build_mut().unwrap(), partition.leader_epoch());
    match partition.log.append(AppendRequest { records, epoch, origin: Origin::PRODUCER }) {
        Append::Done(appended) => assert!(appended.is_ok(), "{appended:?}"),
        Append::Queued(_) => panic!("nobody else appends"),
    }
}

#[test]
fn partitions_made_on_a_full_disk_come_up_by_themselves_once_there_is_room() {
    for faults in [
        Faults { capacity_bytes: Some(0), ..Faults::default() },
        Faults { capacity_bytes: Some(0), is_quota: true, ..Faults::default() },
        Faults { is_read_only: true, ..Faults::default() },
    ] {
        let mut place = Place::new();
        let topic_id = place.create("before", 1);
        place.disk.arm(faults);
        let late = place.create("late", 3);
        assert!(place.partition("before", 0).is_ok());
        for index in 0..3 {
            assert_eq!(place.partition("late", index).unwrap_err(), Absent::Offline);
            assert!(place.manager.is_offline(late, index));
        }
        assert_eq!(place.partition("late", 3).unwrap_err(), Absent::Unknown);
        assert!(!place.manager.is_offline(topic_id, 0));
        assert_eq!(place.manager.offline().len(), 3);
        // A new leadership meanwhile is what it comes up with.
        let leader = Some(NODE);
        let change = PartitionChange { topic_id: late, partition: 1, leader, ..PartitionChange::default() };
        place.change([MetadataRecord::PartitionChange(change)]);
        assert_eq!(place.retry_for(60), 0);
        place.disk.arm(Faults::default());
        assert_eq!(place.retry_for(10), 3);
        assert!(place.manager.offline().is_empty());
        for index in 0..3 {
            let partition = place.partition("late", index).unwrap();
            assert!(partition.is_leader());
            assert_eq!(partition.leader_epoch(), LeaderEpoch(i32::from(index == 1)));
            append(&partition, 1);
        }
        assert_eq!(place.retry_for(10), 0);
    }
}

#[test]
fn an_offline_partition_can_be_deleted_and_its_name_used_again() {
    let mut place = Place::new();
    let kept = place.create("kept", 1);
    place.disk.arm(Faults { capacity_bytes: Some(place.disk.used_bytes()), ..Faults::default() });
    let topic_id = place.create("late", 2);
    assert_eq!(place.manager.offline().len(), 2);
    place.change([MetadataRecord::RemoveTopic { id: topic_id }]);
    assert_eq!(place.manager.offline().len(), 0);
    place.disk.arm(Faults::default());
    assert_eq!(place.retry_for(20), 0);
    place.create("late", 1);
    append(&place.partition("late", 0).unwrap(), 1);
    assert!(!place.manager.is_offline(kept, 0));
}

#[test]
fn a_log_that_is_opened_late_keeps_its_start_its_high_watermark_and_where_compaction_goes_on() {
    let mut place = Place::new();
    place.create("kept", 1);
    place.create("other", 1);
    let partition = place.partition("kept", 0).unwrap();
    append(&partition, 11);
    partition.log.advance_log_start_offset(Offset(4)).unwrap();
    partition.log.set_first_dirty_offset(Some(Offset(6)));
    place.manager.data.write_first_dirty_offsets().unwrap();
    place.manager.data.write_high_watermarks(vec![(partition.name.clone(), Offset(9))]).unwrap();
    place.manager.data.checkpoint_all().unwrap();
    drop(partition);
    // Twice, so that what is noted while it is not open counts, too.
    for _ in 0..2 {
        place.disk.break_path("kept-0", Bad { reads: true, ..Bad::default() });
        place = place.restart();
        assert_eq!(place.partition("kept", 0).unwrap_err(), Absent::Offline);
        append(&place.partition("other", 0).unwrap(), 1);
        place.manager.data.write_first_dirty_offsets().unwrap();
        place.manager.data.write_high_watermarks(place.manager.high_watermarks()).unwrap();
        place.manager.data.checkpoint_all().unwrap();
    }
    // Nobody leads it when it comes up: its high watermark is what was noted.
    let topic_id = place.image.topic("kept").unwrap().id;
    let leader = Some(NodeId(-1));
    place.change([MetadataRecord::PartitionChange(PartitionChange {
        topic_id,
        partition: 0,
        leader,
        ..PartitionChange::default()
    })]);
    place.disk.mend();
    assert_eq!(place.retry_for(10), 1);
    let partition = place.partition("kept", 0).unwrap();
    assert_eq!(partition.log.log_start_offset(), Offset(4));
    assert_eq!(partition.log.log_end_offset(), Offset(11));
    assert_eq!(partition.log.recovery_point(), Offset(11));
    assert_eq!(partition.high_watermark(), Offset(9));
    assert_eq!(partition.log.first_dirty_offset(), Some(Offset(6)));
    // And so it stays noted.
    drop(partition);
    place.manager.data.checkpoint_all().unwrap();
    place = place.restart();
    assert_eq!(place.partition("kept", 0).unwrap().log.log_start_offset(), Offset(4));
}

#[test]
fn a_partition_whose_replicas_hold_this_node_no_longer_is_closed_and_goes() {
    let mut place = Place::new();
    let topic_id = place.create("moved", 2);
    let partition = place.partition("moved", 0).unwrap();
    append(&partition, 3);
    let elsewhere = |partition| {
        let (replicas, isr) = (Some(vec![ELSEWHERE]), Some(vec![ELSEWHERE]));
        let leader = Some(ELSEWHERE);
        let change = PartitionChange { replicas, isr, leader, ..PartitionChange::default() };
        MetadataRecord::PartitionChange(PartitionChange { topic_id, partition, ..change })
    };
    place.change([elsewhere(0)]);
    assert_eq!(place.partition("moved", 0).unwrap_err(), Absent::Unknown);
    assert!(!partition.is_leader() && partition.log.is_closed());
    assert!(partition.fetch(Offset(0), 10, ReadBound::LogEnd, true, LeaderEpoch::NONE, false).is_err());
    assert!(!place.disk.exists(Path::new("/data/moved-0")));
    assert!(place.partition("moved", 1).is_ok());
    // Also when it was offline.
    place.disk.break_path("moved-1", Bad { reads: true, ..Bad::default() });
    place = place.restart();
    assert_eq!(place.manager.offline().len(), 1);
    place.change([elsewhere(1)]);
    assert_eq!(place.partition("moved", 1).unwrap_err(), Absent::Unknown);
    assert_eq!((place.manager.offline().len(), place.retry_for(20)), (0, 0));
    place.manager.data.remove_deleted(i64::MAX);
    let left = place.disk.list(Path::new("/data")).unwrap();
    assert!(left.iter().all(|entry| !entry.is_dir), "{left:?}");
}
