use proptest::prelude::*;

use super::super::MetadataDelta;
use super::*;

fn topic_id(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

fn partition(topic_id: TopicId, partition: i32) -> MetadataRecord {
    MetadataRecord::Partition(PartitionRegistration {
        topic_id,
        partition,
        replicas: vec![NodeId(1), NodeId(2)],
        isr: vec![NodeId(1), NodeId(2)],
        leader: Some(NodeId(1)),
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
        eligible_leader_replicas: vec![],
        last_known_eligible_leader_replicas: vec![],
        adding_replicas: vec![],
        removing_replicas: vec![],
        recovering: false,
        heir: None,
    })
}

fn topic(name: &str, id: u128, partitions: i32) -> Vec<MetadataRecord> {
    let id = topic_id(id);
    std::iter::once(MetadataRecord::Topic { name: name.into(), id })
        .chain((0..partitions).map(|index| partition(id, index)))
        .collect()
}

/// Records over a small world, so that many of them hit each other; those that do not fit are refused.
fn any_record() -> impl Strategy<Value = MetadataRecord> {
    let id = (0..6u128).prop_map(topic_id);
    let nodes = || prop::collection::vec((1..4).prop_map(NodeId), 0..3);
    let change = (id.clone(), 0..3, prop::option::of(nodes()), prop::option::of(prop_oneof![Just(-1), 1..4]));
    prop_oneof![
        ("[a-d]", id.clone()).prop_map(|(name, id)| MetadataRecord::Topic { name, id }),
        (id.clone(), 0..3).prop_map(|(id, index)| partition(id, index)),
        change.prop_map(|(topic_id, partition, isr, leader)| {
            let leader = leader.map(NodeId);
            MetadataRecord::PartitionChange(PartitionChange {
                isr: isr.clone(),
                eligible_leader_replicas: isr,
                leader,
                ..PartitionChange::of(topic_id, partition)
            })
        }),
        id.prop_map(|id| MetadataRecord::RemoveTopic { id }),
        ("[a-d]", "k[12]", prop::option::of("v[12]")).prop_map(|(name, key, value)| {
            MetadataRecord::Config { resource: ConfigResource::topic(name), key, value }
        }),
        ("[12]?", "k[12]", prop::option::of("v[12]")).prop_map(|(name, key, value)| {
            let resource = ConfigResource { kind: ConfigResourceType::Broker, name };
            MetadataRecord::Config { resource, key, value }
        }),
        (1..3, 1..9i64, any::<bool>()).prop_map(|(id, broker_epoch, fenced)| {
            MetadataRecord::RegisterBroker(RegisterBroker {
                broker_id: NodeId(id),
                incarnation_id: Uuid::from_u128(7),
                broker_epoch,
                listeners: vec![],
                rack: fenced.then(|| "r".into()),
                log_directories: vec![],
                fenced,
                in_controlled_shutdown: false,
                features: Default::default(),
            })
        }),
        (1..3, 1..9i64).prop_map(|(id, broker_epoch)| MetadataRecord::UnregisterBroker {
            broker_id: NodeId(id),
            broker_epoch
        }),
        (1..3, 1..9i64, prop::option::of(any::<bool>())).prop_map(|(id, broker_epoch, fenced)| {
            MetadataRecord::BrokerChange(BrokerChange {
                broker_id: NodeId(id),
                broker_epoch,
                fenced,
                in_controlled_shutdown: None,
            })
        }),
        (0..5000i64).prop_map(|next| MetadataRecord::ProducerIds {
            broker_id: NodeId(1),
            broker_epoch: 1,
            next_producer_id: ProducerId(next)
        }),
        ("f[12]", 0..3i16).prop_map(|(name, level)| MetadataRecord::FeatureLevel { name, level }),
        Just(MetadataRecord::ClusterId { cluster_id: "c".into() }),
    ]
}

proptest! {
    #[test]
    fn a_snapshot_makes_the_same_image_and_records_survive_their_text_form(
        records in prop::collection::vec(any_record(), 0..60)
    ) {
        let mut image = MetadataImage::default();
        for record in &records {
            let text = serde_json::to_string(record).unwrap();
            prop_assert_eq!(&serde_json::from_str::<MetadataRecord>(&text).unwrap(), record);
            let before = image.clone();
            if image.replay(record).is_err() {
                prop_assert_eq!(&image, &before);
            }
            image.check().unwrap();
        }
        let snapshot: Vec<_> = image.snapshot().collect();
        let mut restored = MetadataImage::default();
        for record in &snapshot {
            restored.restore(record).unwrap();
        }
        prop_assert_eq!(restored, image);
    }

    #[test]
    fn a_delta_names_what_changed_and_nothing_else(
        records in prop::collection::vec(any_record(), 0..60), at in 0..60usize
    ) {
        let mut new = MetadataImage::default();
        let mut old = new.clone();
        let mut ids = std::collections::BTreeSet::new();
        for (index, record) in records.iter().enumerate() {
            // Ids are random: the controller never gives one twice.
            let reused = matches!(record, MetadataRecord::Topic { id, .. } if !ids.insert(*id));
            if !reused {
                _ = new.replay(record);
            }
            if index == at {
                old = new.clone();
            }
        }
        let delta = MetadataDelta::between(&old, &new);
        for topic in new.topics() {
            let earlier = old.topic_by_id(topic.id);
            let change = delta.topics_changed.get(&topic.id);
            prop_assert_eq!(change.is_some(), earlier != Some(topic));
            let Some(change) = change else { continue };
            prop_assert_eq!(change.is_new, earlier.is_none());
            for (index, partition) in (0..).zip(&topic.partitions) {
                let same = earlier.and_then(|topic| topic.partition(index)) == Some(partition);
                prop_assert_eq!(change.partitions_changed.contains(&index), !same);
            }
        }
        for topic in old.topics() {
            prop_assert_eq!(
                delta.topics_removed.contains_key(&topic.id),
                new.topic_by_id(topic.id).is_none()
            );
        }
        for id in (1..3).map(NodeId) {
            prop_assert_eq!(delta.brokers_changed.contains(&id), old.broker(id) != new.broker(id));
        }
    }
}

#[test]
fn topics_are_found_by_name_by_id_and_in_order() {
    let records: Vec<_> = ["b", "a", "c"].iter().zip(1..).flat_map(|(name, id)| topic(name, id, 2)).collect();
    let image = MetadataImage::default().with(&records).unwrap();
    assert_eq!(image.topic("b").unwrap().id, topic_id(1));
    assert_eq!(&*image.topic_by_id(topic_id(2)).unwrap().name, "a");
    assert_eq!(image.topics_from("aa").map(|topic| &*topic.name).collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(image.partition_count(), 6);
    assert!(image.partition("a", 2).is_none() && image.partition("a", -1).is_none());
}

#[test]
fn a_change_of_leader_raises_the_leader_epoch_and_a_change_of_isr_alone_does_not() {
    let mut image = MetadataImage::default().with(&topic("a", 1, 1)).unwrap();
    let change = PartitionChange { isr: Some(vec![NodeId(2)]), ..PartitionChange::of(topic_id(1), 0) };
    let refused = image.replay(&MetadataRecord::PartitionChange(change.clone()));
    assert_eq!(refused, Err(ReplayError::PartitionInconsistent("a".into(), 0)));
    let change = PartitionChange { leader: Some(NodeId(2)), ..change };
    image.replay(&MetadataRecord::PartitionChange(change)).unwrap();
    let both = Some(vec![NodeId(1), NodeId(2)]);
    let change = PartitionChange { isr: both, ..PartitionChange::of(topic_id(1), 0) };
    image.replay(&MetadataRecord::PartitionChange(change)).unwrap();
    let partition = image.partition("a", 0).unwrap();
    assert_eq!((partition.leader_epoch, partition.partition_epoch), (LeaderEpoch(1), 2));
}

#[test]
fn no_two_registrations_have_the_same_broker_epoch() {
    let registration = |id, broker_epoch| {
        MetadataRecord::RegisterBroker(RegisterBroker {
            broker_id: NodeId(id),
            incarnation_id: Uuid::from_u128(7),
            broker_epoch,
            listeners: vec![],
            rack: None,
            log_directories: vec![],
            fenced: false,
            in_controlled_shutdown: false,
            features: Default::default(),
        })
    };
    let mut image = MetadataImage::default().with(&[registration(1, 3)]).unwrap();
    for (id, epoch) in [(1, 3), (2, 3), (2, 1)] {
        let refused = image.replay(&registration(id, epoch));
        assert_eq!(refused, Err(ReplayError::BrokerEpochBack(epoch, 3)), "{id} with {epoch}");
    }
    let gone = MetadataRecord::UnregisterBroker { broker_id: NodeId(1), broker_epoch: 3 };
    image.replay(&gone).unwrap();
    assert!(image.replay(&registration(1, 3)).is_err(), "nor after the first is gone");
    image.replay(&registration(2, 4)).unwrap();
}

#[test]
fn a_record_of_a_later_version_keeps_what_this_one_knows() {
    let text = r#"{"Topic":{"name":"a","id":"00000000-0000-0000-0000-000000000001","later":[1]}}"#;
    let record: MetadataRecord = serde_json::from_str(text).unwrap();
    assert_eq!(record, MetadataRecord::Topic { name: "a".into(), id: topic_id(1) });
    assert!(serde_json::from_str::<MetadataRecord>(r#"{"Later":{}}"#).is_err());
}

#[test]
fn fifty_thousand_partitions_are_no_burden() {
    let records: Vec<_> = (0..5000u128).flat_map(|id| topic(&format!("t{id}"), id + 1, 10)).collect();
    let image = MetadataImage::default().with(&records).unwrap();
    assert_eq!((image.topic_count(), image.partition_count()), (5000, 50_000));
    let change = PartitionChange { isr: Some(vec![NodeId(1)]), ..PartitionChange::of(topic_id(77), 3) };
    let after = image.with(&[MetadataRecord::PartitionChange(change)]).unwrap();
    let delta = MetadataDelta::between(&image, &after);
    assert_eq!(delta.topics_changed.len(), 1);
    assert_eq!(delta.topics_changed[&topic_id(77)].partitions_changed, [3].into());
}
