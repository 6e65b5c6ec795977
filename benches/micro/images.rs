//! The metadata image of a cluster with 100,000 partitions: updates and deltas.

use criterion::Criterion;
use raftsman::metadata::{
    MetadataDelta, MetadataImage, MetadataRecord, PartitionChange, PartitionRegistration,
};
use raftsman::types::{LeaderEpoch, NodeId, TopicId};
use uuid::Uuid;

use super::cpu_time::CpuTime;

const SMALL_TOPICS: u32 = 900;
const SMALL_TOPIC_PARTITIONS: i32 = 100;
const LARGE_TOPIC_PARTITIONS: i32 = 10_000;

fn topic_id(number: u32) -> TopicId {
    // Ids are random in truth: neighbours must not lie side by side.
    TopicId(Uuid::from_u128(u128::from(number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)))
}

fn topic(number: u32, partitions: i32) -> Vec<MetadataRecord> {
    let id = topic_id(number);
    let partition = |partition| {
        MetadataRecord::Partition(PartitionRegistration {
            topic_id: id,
            partition,
            replicas: vec![NodeId(1), NodeId(2), NodeId(3)],
            isr: vec![NodeId(1), NodeId(2), NodeId(3)],
            leader: Some(NodeId(1)),
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
    let topic = MetadataRecord::Topic { name: format!("topic.{number}"), id };
    std::iter::once(topic).chain((0..partitions).map(partition)).collect()
}

fn isr_change(number: u32, partition: i32) -> [MetadataRecord; 1] {
    [MetadataRecord::PartitionChange(PartitionChange {
        isr: Some(vec![NodeId(1), NodeId(2)]),
        ..PartitionChange::of(topic_id(number), partition)
    })]
}

pub(crate) fn all(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("image of 100000 partitions");
    let records: Vec<_> = (0..SMALL_TOPICS)
        .flat_map(|number| topic(number, SMALL_TOPIC_PARTITIONS))
        .chain(topic(SMALL_TOPICS, LARGE_TOPIC_PARTITIONS))
        .collect();
    let image = MetadataImage::default().with(&records).expect("fits");
    assert_eq!(image.partition_count(), 100_000);

    let updates = [
        ("create a topic of 3 partitions", topic(SMALL_TOPICS + 1, 3)),
        ("change an ISR in a topic of 100", isr_change(450, 50).into()),
        ("change an ISR in a topic of 10000", isr_change(SMALL_TOPICS, 5000).into()),
    ];
    for (name, records) in updates {
        group.bench_function(name, |bencher| bencher.iter(|| image.with(&records).expect("fits")));
        let changed = image.with(&records).expect("fits");
        group.bench_function(format!("{name}: delta"), |bencher| {
            bencher.iter(|| MetadataDelta::between(&image, &changed));
        });
    }
    group.sample_size(10);
    group.bench_function("replay all of it", |bencher| {
        bencher.iter(|| MetadataImage::default().with(&records).expect("fits"));
    });
}
