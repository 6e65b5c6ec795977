//! Who leads, who is eligible, and where replicas go.

use super::tests::{World, error, registration};
use super::*;
use crate::metadata::{ConfigResource, ELIGIBLE_LEADER_REPLICAS_FEATURE, PartitionImage};
use crate::types::{LeaderEpoch, NodeId};
use ResponseError::*;
use uuid::Uuid;

fn nodes(ids: &[i32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn reassignment(topic: &str, index: i32, target: Option<&[i32]>) -> Reassignment {
    Reassignment { partition: (topic.into(), index), target: target.map(nodes) }
}

/// Brokers 1 to 4, and a topic of one partition on the first three.
fn world(keeps_eligible: bool, min_insync: &str) -> World {
    let mut world = World::default();
    for id in 1..=4 {
        world.register(id, 1, None);
    }
    let topic = NewTopic {
        assignments: vec![(0, nodes(&[1, 2, 3]))],
        configs: vec![("min.insync.replicas".into(), Some(min_insync.into()))],
        ..NewTopic::named("t", -1)
    };
    world.create(topic).unwrap();
    if keeps_eligible {
        let name = ELIGIBLE_LEADER_REPLICAS_FEATURE.to_owned();
        world.image.replay(&MetadataRecord::FeatureLevel { name, level: 1 }).unwrap();
    }
    world
}

impl World {
    fn epoch(&self, id: i32) -> i64 {
        self.image.broker(NodeId(id)).unwrap().epoch
    }

    fn change(&mut self, id: i32, transition: BrokerTransition) {
        let identity = BrokerIdentity { id: NodeId(id), epoch: self.epoch(id) };
        self.decide(|decider| decider.change_broker(identity, transition)).unwrap();
    }

    /// A new process, with the logs of that directory, fenced as long as it does not follow the metadata.
    fn restart(&mut self, id: i32, is_clean: bool, directory: u128) {
        let request = BrokerRegistration {
            incarnation_id: Uuid::from_u128(u128::from(self.epoch(id).unsigned_abs()) + 100),
            log_directories: vec![Uuid::from_u128(directory)],
            features: Default::default(),
            previous_epoch: if is_clean { self.epoch(id) } else { -1 },
            unfence: false,
            ..registration(id, 1, None)
        };
        self.decide(|decider| decider.register_broker(&request)).unwrap();
    }

    fn shrink(&mut self, isr: &[i32]) {
        let partition = self.t();
        let request = AlterPartition {
            topic_id: self.image.topic("t").unwrap().id,
            partition: 0,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: isr.iter().map(|id| IsrMember { id: NodeId(*id), broker_epoch: -1 }).collect(),
            recovering: false,
        };
        let leader = partition.leader.unwrap();
        let identity = BrokerIdentity { id: leader, epoch: self.epoch(leader.0) };
        self.decide(|decider| decider.alter_partitions(identity, &[request])).unwrap().remove(0).unwrap();
    }

    fn reassign(&mut self, target: Option<&[i32]>) -> Result<(), ControllerError> {
        let request = AlterPartitionReassignments {
            partitions: vec![reassignment("t", 0, target)],
            allows_other_count: true,
        };
        self.decide(|decider| decider.alter_partition_reassignments(&request)).unwrap().pop().unwrap().1
    }

    /// The leader hands over to the heir that it was told, or to another one.
    fn hand_over(&mut self, heir: i32) -> Result<(), ControllerError> {
        let partition = self.t();
        let leader = partition.leader.unwrap();
        let request = HandOvers {
            broker: BrokerIdentity { id: leader, epoch: self.epoch(leader.0) },
            partitions: vec![HandOver {
                topic_id: self.image.topic("t").unwrap().id,
                partition: 0,
                leader_epoch: partition.leader_epoch,
                partition_epoch: partition.partition_epoch,
                heir: NodeId(heir),
            }],
        };
        self.decide(|decider| decider.hand_over(&request)).unwrap().remove(0)
    }

    fn elect(&mut self, kind: ElectionKind) -> Result<(), ControllerError> {
        let request = ElectLeaders { kind, partitions: Some(vec![("t".into(), 0)]) };
        self.decide(|decider| decider.elect_leaders(&request)).pop().unwrap().1
    }

    fn t(&self) -> PartitionImage {
        self.partition("t", 0)
    }

    /// Leader, ISR and eligible replicas.
    fn state(&self) -> (Option<i32>, Vec<i32>, Vec<i32>) {
        let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
        let partition = self.t();
        (
            partition.leader.map(|leader| leader.0),
            ids(&partition.isr),
            ids(&partition.eligible_leader_replicas),
        )
    }
}

#[test]
fn who_leaves_an_isr_below_its_minimum_can_lead_as_long_as_it_lost_nothing() {
    let mut world = world(true, "2");
    world.shrink(&[1, 2]);
    assert_eq!(world.state(), (Some(1), vec![1, 2], vec![]), "3 left while the ISR was large enough");
    world.shrink(&[1]);
    assert_eq!(world.state(), (Some(1), vec![1], vec![2]));
    world.change(1, BrokerTransition::Fence);
    assert_eq!(world.state(), (Some(2), vec![2], vec![1]), "an eligible one leads");
    world.change(2, BrokerTransition::Fence);
    assert_eq!(world.state(), (None, vec![], vec![1, 2]));
    world.restart(1, true, 1);
    assert_eq!(world.state(), (None, vec![], vec![1, 2]), "it ended in order, and is not back yet");
    world.restart(2, false, 2);
    assert_eq!(world.state(), (None, vec![], vec![1]), "it may have lost what it had");
    world.change(2, BrokerTransition::Unfence);
    assert_eq!(world.state().0, None);
    world.change(1, BrokerTransition::Unfence);
    assert_eq!(world.state(), (Some(1), vec![1], vec![]));
    world.shrink(&[1, 2]);
    assert_eq!(world.state(), (Some(1), vec![1, 2], vec![]));
    assert!(!world.t().recovering);
}

#[test]
fn the_last_leader_leads_again_where_nobody_is_left_and_an_empty_log_never() {
    for has_its_log in [true, false] {
        let mut world = world(true, "1");
        world.restart(1, true, 1);
        world.change(1, BrokerTransition::Unfence);
        world.shrink(&[2]);
        world.restart(2, true, 2);
        world.change(2, BrokerTransition::Unfence);
        assert_eq!(world.state(), (Some(2), vec![2], vec![]));
        world.change(2, BrokerTransition::Fence);
        assert_eq!(world.state(), (None, vec![], vec![2]));
        world.restart(2, false, if has_its_log { 2 } else { 22 });
        world.change(2, BrokerTransition::Unfence);
        let expected = if has_its_log { (Some(2), vec![2], vec![]) } else { (None, vec![], vec![]) };
        assert_eq!(world.state(), expected);
        assert_eq!(world.t().recovering, has_its_log);
        if !has_its_log {
            assert_eq!(world.elect(ElectionKind::Unclean), Ok(()));
            assert_eq!(world.state(), (Some(1), vec![1], vec![]));
        }
    }
}

#[test]
fn without_eligible_replicas_the_last_in_sync_stays_unless_its_log_is_gone() {
    let mut world = world(false, "2");
    world.restart(1, true, 1);
    world.change(1, BrokerTransition::Unfence);
    assert_eq!(world.state(), (Some(2), vec![2, 3], vec![]), "its new process has to catch up first");
    world.shrink(&[2]);
    world.change(2, BrokerTransition::Fence);
    assert_eq!(world.state(), (None, vec![2], vec![]));
    assert_eq!(
        world.elect(ElectionKind::Preferred),
        Err(ControllerError::plain(PreferredLeaderNotAvailable))
    );
    world.restart(2, false, 2);
    world.change(2, BrokerTransition::Unfence);
    assert_eq!(world.state(), (Some(2), vec![2], vec![]));
    world.restart(2, true, 22);
    world.change(2, BrokerTransition::Unfence);
    assert_eq!(world.state(), (None, vec![], vec![]), "its data folder is another one");
    assert_eq!(world.elect(ElectionKind::Unclean), Ok(()));
    assert_eq!(world.state().0, Some(1));
    assert!(world.t().recovering);
}

#[test]
fn an_unclean_leader_is_elected_by_itself_where_the_topic_says_so() {
    let mut world = world(true, "1");
    let key = "unclean.leader.election.enable".to_owned();
    let record =
        MetadataRecord::Config { resource: ConfigResource::topic("t"), key, value: Some("true".to_owned()) };
    world.image.replay(&record).unwrap();
    world.shrink(&[1]);
    world.change(1, BrokerTransition::Fence);
    assert_eq!(world.state(), (Some(2), vec![2], vec![]));
    assert!(world.t().recovering);
}

#[test]
fn a_smaller_minimum_ends_eligibility() {
    let mut world = world(true, "3");
    world.shrink(&[1, 2]);
    assert_eq!(world.state(), (Some(1), vec![1, 2], vec![3]));
    let change = |value: &str| {
        let key = "min.insync.replicas".to_owned();
        let change = ConfigChange { key, operation: ConfigOperation::Set, value: Some(value.to_owned()) };
        IncrementalAlterConfigs {
            resources: vec![(ConfigResource::topic("t"), vec![change])],
            validate_only: false,
        }
    };
    world.decide(|decider| decider.incremental_alter_configs(&change("2"))).pop().unwrap().1.unwrap();
    assert_eq!(world.state(), (Some(1), vec![1, 2], vec![]));
}

#[test]
fn a_reassignment_ends_once_those_added_are_in_sync() {
    let mut world = world(false, "1");
    assert_eq!(world.reassign(None), Err(ControllerError::plain(NoReassignmentInProgress)));
    let message = "The manual partition assignment includes broker 9, but no such broker is registered.";
    assert_eq!(world.reassign(Some(&[1, 9])), Err(error(InvalidReplicaAssignment, message)));
    assert_eq!(world.reassign(Some(&[4, 2])), Ok(()));
    let partition = world.t();
    assert_eq!(partition.replicas, nodes(&[4, 2, 1, 3]));
    assert_eq!((partition.adding_replicas, partition.removing_replicas), (nodes(&[4]), nodes(&[1, 3])));
    let ongoing = ongoing_reassignments(&world.image, None);
    assert_eq!(ongoing.len(), 1);
    assert_eq!(ongoing_reassignments(&world.image, Some(&[("t".into(), 0), ("z".into(), 3)])), ongoing);
    world.shrink(&[1, 2]);
    assert_eq!(world.t().replicas.len(), 4);
    world.shrink(&[1, 2, 4]);
    assert_eq!((world.state().0, world.t().heir), (Some(1), Some(NodeId(4))), "it is to hand over");
    assert_eq!(world.t().replicas.len(), 4);
    assert_eq!(world.hand_over(4), Ok(()));
    assert_eq!(world.state(), (Some(4), vec![2, 4], vec![]), "the old leader is no replica any more");
    assert_eq!(world.t().heir, None);
    let partition = world.t();
    assert_eq!(partition.replicas, nodes(&[4, 2]));
    assert!(partition.adding_replicas.is_empty() && partition.removing_replicas.is_empty());
    assert!(ongoing_reassignments(&world.image, None).is_empty());
}

#[test]
fn a_reassignment_is_taken_back_or_changed_under_way() {
    let mut world = world(false, "1");
    let before = world.t();
    world.reassign(Some(&[4, 2])).unwrap();
    world.reassign(None).unwrap();
    let after = world.t();
    assert_eq!((after.replicas.len(), after.isr), (3, before.isr));
    assert!(after.adding_replicas.is_empty() && after.removing_replicas.is_empty());
    // The one that is being added is not wanted any more.
    world.reassign(Some(&[1, 2, 4])).unwrap();
    world.reassign(Some(&[1, 2])).unwrap();
    assert_eq!(world.t().replicas, nodes(&[1, 2]), "all that stay are in sync");
    let fewer = AlterPartitionReassignments {
        partitions: vec![
            reassignment("t", 0, Some(&[1])),
            reassignment("z", 0, None),
            reassignment("t", 7, None),
        ],
        allows_other_count: false,
    };
    let answers = world.decide(|decider| decider.alter_partition_reassignments(&fewer)).unwrap();
    let codes: Vec<_> = answers.into_iter().map(|(_, answer)| answer.unwrap_err()).collect();
    assert_eq!(codes[0].code, InvalidReplicationFactor);
    assert_eq!(codes[1], error(UnknownTopicOrPartition, "Unable to find a topic named z."));
    assert_eq!(codes[2], error(UnknownTopicOrPartition, "Unable to find partition t:7."));
}

#[test]
fn leaderships_go_back_to_preferred_leaders_that_are_in_sync() {
    let mut world = world(false, "1");
    world.change(1, BrokerTransition::Fence);
    world.change(1, BrokerTransition::Unfence);
    let rebalance = |world: &mut World| world.decide(|decider| decider.rebalance_leaders(true, 100));
    rebalance(&mut world);
    assert_eq!(world.state().0, Some(2), "1 is not in sync");
    world.shrink(&[2, 3, 1]);
    let epoch = world.t().leader_epoch;
    rebalance(&mut world);
    assert_eq!((world.state().0, world.t().heir), (Some(2), Some(NodeId(1))));
    let partition = world.t();
    rebalance(&mut world);
    assert_eq!(world.t(), partition, "the leader hands over");
    assert_eq!(world.elect(ElectionKind::Preferred), Ok(()));
    assert_eq!(world.t(), partition, "the leader hands over");
    assert_eq!(world.hand_over(1), Ok(()));
    assert_eq!((world.state().0, world.t().leader_epoch), (Some(1), LeaderEpoch(epoch.0 + 1)));
    let partition = world.t();
    rebalance(&mut world);
    assert_eq!(world.t(), partition, "nothing is to be done");
}

#[test]
fn an_heir_leads_once_the_leader_asks_for_it_and_nobody_else_deposes_a_leader_that_is_well() {
    let mut world = world(false, "1");
    assert_eq!(world.hand_over(3), Ok(()));
    assert_eq!((world.state().0, world.t().leader_epoch), (Some(3), LeaderEpoch(1)));
    // Whatever is answered, the leader learns that it is: the partition has another epoch.
    let before = world.t();
    assert_eq!(world.hand_over(4), Err(ControllerError::plain(IneligibleReplica)));
    assert_eq!(world.t(), PartitionImage { partition_epoch: before.partition_epoch + 1, ..before });
    // An heir that goes is none any more, and a leader that goes needs none.
    world.elect(ElectionKind::Preferred).unwrap();
    assert_eq!(world.t().heir, Some(NodeId(1)));
    world.change(1, BrokerTransition::Fence);
    assert_eq!((world.state().0, world.t().heir), (Some(3), None));
    assert_eq!(
        world.elect(ElectionKind::Preferred),
        Err(ControllerError::plain(PreferredLeaderNotAvailable))
    );
    world.change(1, BrokerTransition::Unfence);
    world.shrink(&[3, 2, 1]);
    world.elect(ElectionKind::Preferred).unwrap();
    world.change(3, BrokerTransition::BeginShutdown);
    assert_eq!((world.state().0, world.t().heir), (Some(1), None));
    // What was asked under an earlier epoch of the partition changes nothing.
    let partition = world.t();
    let request = HandOvers {
        broker: BrokerIdentity { id: NodeId(1), epoch: world.epoch(1) },
        partitions: vec![HandOver {
            topic_id: world.image.topic("t").unwrap().id,
            partition: 0,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch - 1,
            heir: NodeId(2),
        }],
    };
    let answer = world.decide(|decider| decider.hand_over(&request)).unwrap().remove(0);
    assert_eq!(answer, Err(ControllerError::plain(InvalidUpdateVersion)));
    assert_eq!(world.t(), partition);
}
