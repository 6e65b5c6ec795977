use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::env::real::{BlockingThreads, RealChance, RealDisk, SystemClock};
use crate::env::sim::SimChance;
use crate::metadata::{ConfigResource, Listener, PartitionImage};
use crate::raft::{MetadataQuorum, QuorumConfig};
use crate::types::{LeaderEpoch, NodeId, ProducerId, TopicId};
use proptest::prelude::*;
use uuid::Uuid;

/// Counts, so that decisions can be foretold.
#[derive(Debug, Default)]
struct NoChance(AtomicU64);

impl Chance for NoChance {
    fn next_u64(&self) -> u64 {
        0
    }

    fn topic_id(&self) -> TopicId {
        TopicId(Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::Relaxed)) + 1))
    }
}

fn validate(_: ConfigResourceType, configs: &BTreeMap<String, String>) -> Result<(), String> {
    configs.iter().try_for_each(|(key, value)| match (key.as_str(), value) {
        ("retention.ms", value) if value.parse::<i64>().is_err() => {
            Err(format!("Invalid value {value} for configuration retention.ms: Not a number of type LONG"))
        }
        ("retention.ms" | "cleanup.policy" | "min.insync.replicas" | "unclean.leader.election.enable", _) => {
            Ok(())
        }
        (key, _) => Err(format!("Unknown topic config name: {key}")),
    })
}

pub(super) const CONFIG: ControllerConfig = ControllerConfig {
    partitions_default: 2,
    replication_factor_default: 1,
    delete_topic_enable: true,
    schema: ConfigSchema {
        validate,
        is_list: |_, key| key == "cleanup.policy",
        default: |_, key| (key == "cleanup.policy").then(|| "delete".into()),
    },
};

/// An image with what was decided so far.
#[derive(Default)]
pub(super) struct World {
    pub image: MetadataImage,
    chance: NoChance,
}

impl World {
    /// Decides, checks that nothing breaks the invariants, and replays.
    pub(super) fn decide<R>(&mut self, decide: impl FnOnce(&mut Decider<'_>) -> Decision<R>) -> R {
        let decider = &mut Decider { image: &self.image, config: &CONFIG, chance: &self.chance };
        let decision = decide(decider);
        let next = self.image.with(&decision.records).unwrap();
        next.check().unwrap();
        check_progress(&self.image, &next);
        self.image = next;
        decision.response
    }

    pub(super) fn register(&mut self, id: i32, incarnation: u128, rack: Option<&str>) -> i64 {
        self.decide(|decider| decider.register_broker(&registration(id, incarnation, rack))).unwrap()
    }

    pub(super) fn create(&mut self, topic: NewTopic) -> Result<CreatedTopic, ControllerError> {
        let request = CreateTopics { topics: vec![topic], validate_only: false };
        self.decide(|decider| decider.create_topics(&request)).pop().unwrap().1
    }

    pub(super) fn partition(&self, topic: &str, index: i32) -> PartitionImage {
        PartitionImage::clone(self.image.partition(topic, index).unwrap())
    }
}

pub(super) fn registration(id: i32, incarnation: u128, rack: Option<&str>) -> BrokerRegistration {
    BrokerRegistration {
        id: NodeId(id),
        incarnation_id: Uuid::from_u128(incarnation),
        listeners: vec![Listener {
            name: "PLAINTEXT".into(),
            host: "localhost".into(),
            port: 9092,
            security_protocol: 0,
        }],
        rack: rack.map(str::to_owned),
        log_directories: vec![Uuid::from_u128(id.unsigned_abs().into())],
        features: Default::default(),
        is_first: true,
        previous_epoch: -1,
        accepts_missing_data: false,
        unfence: true,
    }
}

/// Epochs of a partition never go back, and a new leader has a new epoch.
fn check_progress(before: &MetadataImage, after: &MetadataImage) {
    for topic in before.topics() {
        let Some(later) = after.topic_by_id(topic.id) else { continue };
        for (old, new) in topic.partitions.iter().zip(&later.partitions) {
            assert!(new.leader_epoch >= old.leader_epoch && new.partition_epoch >= old.partition_epoch);
            assert!(new == old || new.partition_epoch > old.partition_epoch);
            assert!(new.leader == old.leader || new.leader_epoch > old.leader_epoch);
        }
    }
}

pub(super) fn error(code: ResponseError, message: &str) -> ControllerError {
    ControllerError::new(code, message)
}

#[test]
fn a_topic_is_created_with_defaults_and_its_records_come_in_kafkas_order() {
    let mut world = World::default();
    world.register(1, 1, None);
    let topic =
        NewTopic { configs: vec![("retention.ms".into(), Some("5".into()))], ..NewTopic::named("a", -1) };
    let request = CreateTopics { topics: vec![topic], validate_only: false };
    let decider = &mut Decider { image: &world.image, config: &CONFIG, chance: &world.chance };
    let decision = decider.create_topics(&request);
    let kinds: Vec<_> = decision
        .records
        .iter()
        .map(|record| match record {
            MetadataRecord::Topic { .. } => "topic",
            MetadataRecord::Config { .. } => "config",
            MetadataRecord::Partition(_) => "partition",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["topic", "config", "partition", "partition"]);
    let created = decision.response[0].1.clone().unwrap();
    assert_eq!((created.partition_count, created.replication_factor), (2, 1));
    assert_eq!(created.configs["retention.ms"], "5");

    let only = CreateTopics { validate_only: true, ..request.clone() };
    let answers = world.decide(|decider| decider.create_topics(&only));
    assert!(answers[0].1.is_ok() && world.image.topic("a").is_none());
    world.decide(|decider| decider.create_topics(&request));
    let partition = world.partition("a", 1);
    assert_eq!((partition.leader, partition.leader_epoch), (Some(NodeId(1)), LeaderEpoch(0)));
}

#[test]
fn refused_topics_are_refused_in_kafkas_words() {
    use ResponseError::*;
    let mut world = World::default();
    world.register(1, 1, None);
    world.create(NewTopic::named("there_is", 1)).unwrap();
    let long = "x".repeat(250);
    let named = |name: &str| NewTopic::named(name, 1);
    let manual = |assignments: &[(i32, &[i32])]| NewTopic {
        assignments: assignments
            .iter()
            .map(|(index, replicas)| (*index, replicas.iter().copied().map(NodeId).collect()))
            .collect(),
        ..NewTopic::named("m", -1)
    };
    let config = |key: &str, value: Option<&str>| NewTopic {
        configs: vec![(key.into(), value.map(str::to_owned))],
        ..named("c")
    };
    let too_long =
        format!("Topic name is invalid: the length of '{long}' is longer than the max allowed length 249");
    let cases: Vec<(NewTopic, ResponseError, &str)> = vec![
        (named("there_is"), TopicAlreadyExists, "Topic 'there_is' already exists."),
        (named("there.is"), InvalidTopicException, "Topic 'there.is' collides with existing topic: there_is"),
        (named(""), InvalidTopicException, "Topic name is invalid: the empty string is not allowed"),
        (named(".."), InvalidTopicException, "Topic name is invalid: '..' is not allowed"),
        (named(&long), InvalidTopicException, &too_long),
        (
            named("a b"),
            InvalidTopicException,
            "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'",
        ),
        (
            named("__cluster_metadata"),
            InvalidRequest,
            "Creation of internal topic __cluster_metadata is prohibited.",
        ),
        (
            NewTopic::named("p", 0),
            InvalidPartitions,
            "Number of partitions was set to an invalid non-positive value.",
        ),
        (
            NewTopic::named("p", 10_001),
            PolicyViolation,
            "Excessively large number of partitions per request.",
        ),
        (
            NewTopic { replication_factor: 0, ..named("r") },
            InvalidReplicationFactor,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ),
        (
            NewTopic { replication_factor: 3, ..named("r") },
            InvalidReplicationFactor,
            "Unable to replicate the partition 3 time(s): The target replication factor of 3 cannot be reached because only 1 broker(s) are registered or some brokers have all their log directories cordoned.",
        ),
        (
            NewTopic { partition_count: 2, ..manual(&[(0, &[1])]) },
            InvalidRequest,
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        ),
        (
            manual(&[(0, &[1]), (2, &[1])]),
            InvalidReplicaAssignment,
            "partitions should be a consecutive 0-based integer sequence",
        ),
        (
            manual(&[(0, &[7])]),
            InvalidReplicaAssignment,
            "The manual partition assignment includes broker 7, but no such broker is registered.",
        ),
        (
            manual(&[(0, &[1, 1])]),
            InvalidReplicaAssignment,
            "The manual partition assignment includes the broker 1 more than once.",
        ),
        (
            manual(&[(0, &[])]),
            InvalidReplicaAssignment,
            "The manual partition assignment includes an empty replica list.",
        ),
        (
            config("retention.ms", Some("x")),
            InvalidConfig,
            "Invalid value x for configuration retention.ms: Not a number of type LONG",
        ),
        (
            config("retention.ms", None),
            InvalidConfig,
            "Null value not supported for topic configs: retention.ms",
        ),
    ];
    for (topic, code, message) in cases {
        let name = topic.name.clone();
        assert_eq!(world.create(topic), Err(error(code, message)), "{name}");
    }
    let twice = CreateTopics { topics: vec![named("d"), named("e"), named("d")], validate_only: false };
    let answers = world.decide(|decider| decider.create_topics(&twice));
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[1], ("d".into(), Err(error(InvalidRequest, "Duplicate topic name."))));
    assert!(world.image.topic("e").is_some() && world.image.topic("d").is_none());
}

#[test]
fn topics_are_deleted_by_name_or_id() {
    use ResponseError::*;
    let mut world = World::default();
    world.register(1, 1, None);
    let ids: Vec<_> =
        ["a", "b", "c"].iter().map(|name| world.create(NewTopic::named(*name, 1)).unwrap().id).collect();
    let by_name = |name: &str| TopicToDelete { name: Some(name.into()), id: TopicId::ZERO };
    let by_id = |id| TopicToDelete { name: None, id };
    let unknown = TopicId(Uuid::from_u128(99));
    let topics = [
        by_name("a"),
        by_id(ids[1]),
        by_name("c"),
        by_id(ids[2]),
        by_name("z"),
        by_id(unknown),
        by_id(TopicId::ZERO),
        TopicToDelete { name: Some("a".into()), id: ids[0] },
        by_name("y"),
        by_name("y"),
    ];
    let answers = world.decide(|decider| decider.delete_topics(&topics));
    let answer = |topic: &TopicToDelete| {
        let mut found = answers.iter().filter(|(asked, _)| asked == topic);
        let answer = found.next().unwrap().1.clone();
        assert!(found.next().is_none());
        answer
    };
    assert_eq!(answer(&topics[0]).unwrap(), DeletedTopic { name: "a".into(), id: ids[0] });
    assert_eq!(answer(&topics[1]).unwrap().name, "b");
    let supplied = "The provided topic name maps to an ID that was already supplied.";
    assert_eq!(answer(&topics[2]), Err(error(InvalidRequest, supplied)));
    assert_eq!(answer(&topics[4]).unwrap_err().code, UnknownTopicOrPartition);
    assert_eq!(answer(&topics[5]).unwrap_err().code, UnknownTopicId);
    let neither = "Neither topic name nor id were specified.";
    assert_eq!(answer(&topics[6]), Err(error(InvalidRequest, neither)));
    let both = "You may not specify both topic name and topic id.";
    assert_eq!(answer(&topics[7]), Err(error(InvalidRequest, both)));
    assert_eq!(answer(&topics[8]), Err(error(InvalidRequest, "Duplicate topic name.")));
    assert_eq!(world.image.topics().map(|topic| &*topic.name).collect::<Vec<_>>(), ["c"]);
}

#[test]
fn partitions_are_added_and_never_taken_away() {
    use ResponseError::*;
    let mut world = World::default();
    world.register(1, 1, None);
    world.create(NewTopic::named("a", 2)).unwrap();
    let mut add = |topic: &str, partition_count, assignments| {
        let topics = vec![MorePartitions { topic: topic.into(), partition_count, assignments }];
        let request = CreatePartitions { topics, validate_only: false };
        world.decide(|decider| decider.create_partitions(&request)).pop().unwrap().1
    };
    assert_eq!(add("a", 4, None), Ok(()));
    assert_eq!(add("a", 4, None), Err(error(InvalidPartitions, "Topic already has 4 partition(s).")));
    let fewer = "The topic a currently has 4 partition(s); 1 would not be an increase.";
    assert_eq!(add("a", 1, None), Err(error(InvalidPartitions, fewer)));
    let one = Some(vec![vec![NodeId(1)]]);
    let message = "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.";
    assert_eq!(add("a", 6, one.clone()), Err(error(InvalidReplicaAssignment, message)));
    assert_eq!(add("a", 5, one), Ok(()));
    assert_eq!(add("z", 5, None), Err(error(UnknownTopicOrPartition, "")));
    assert_eq!(world.image.topic("a").unwrap().partitions.len(), 5);
}

#[test]
fn configurations_are_set_deleted_and_changed_as_lists() {
    use ConfigOperation::*;
    use ResponseError::*;
    let mut world = World::default();
    world.register(1, 1, None);
    world.create(NewTopic::named("a", 1)).unwrap();
    fn alter(
        world: &mut World,
        resource: ConfigResource,
        changes: &[(&str, ConfigOperation, Option<&str>)],
    ) -> Result<(), ControllerError> {
        let change = |(key, operation, value): &(&str, ConfigOperation, Option<&str>)| ConfigChange {
            key: (*key).into(),
            operation: *operation,
            value: value.map(str::to_owned),
        };
        let changes = changes.iter().map(change).collect();
        let request = IncrementalAlterConfigs { resources: vec![(resource, changes)], validate_only: false };
        world.decide(|decider| decider.incremental_alter_configs(&request)).pop().unwrap().1
    }
    let topic = || ConfigResource::topic("a");
    let policy = |world: &World| world.image.topic("a").unwrap().configs.get("cleanup.policy").cloned();
    assert_eq!(alter(&mut world, topic(), &[("cleanup.policy", Append, Some("compact, delete"))]), Ok(()));
    assert_eq!(policy(&world).as_deref(), Some("delete,compact"));
    assert_eq!(alter(&mut world, topic(), &[("cleanup.policy", Subtract, Some("delete"))]), Ok(()));
    assert_eq!(policy(&world).as_deref(), Some("compact"));
    let not_list = "Can't APPEND to key retention.ms because its type is not LIST.";
    let answer = alter(&mut world, topic(), &[("retention.ms", Append, Some("1"))]);
    assert_eq!(answer, Err(error(InvalidConfig, not_list)));
    let answer = alter(&mut world, topic(), &[("retention.ms", Set, Some("1")), ("zzz", Set, Some("1"))]);
    assert_eq!(answer, Err(error(InvalidConfig, "Unknown topic config name: zzz")));
    assert!(!world.image.topic("a").unwrap().configs.contains_key("retention.ms"), "all or nothing");
    let answer = alter(&mut world, topic(), &[("retention.ms", Set, None)]);
    assert_eq!(answer, Err(error(InvalidRequest, "Null value not supported for : retention.ms")));
    let answer = alter(&mut world, ConfigResource::topic("z"), &[("retention.ms", Set, Some("1"))]);
    assert_eq!(answer, Err(error(UnknownTopicOrPartition, "The topic 'z' does not exist.")));
    let answer = alter(&mut world, ConfigResource::broker(NodeId(9)), &[("retention.ms", Set, Some("1"))]);
    assert_eq!(answer, Err(error(BrokerIdNotRegistered, "No node with id 9 found.")));
    assert_eq!(alter(&mut world, ConfigResource::all_brokers(), &[("retention.ms", Set, Some("1"))]), Ok(()));

    let configs = vec![("retention.ms".to_owned(), Some("7".to_owned()))];
    let request = AlterConfigs { resources: vec![(topic(), configs)], validate_only: false };
    let answers = world.decide(|decider| decider.alter_configs(&request));
    assert_eq!(answers[0].1, Ok(()));
    assert_eq!(policy(&world), None, "what the older request does not name goes back to its default");
    assert_eq!(alter(&mut world, topic(), &[("retention.ms", Delete, None)]), Ok(()));
    assert!(world.image.configs(&topic()).is_none());
    let both = IncrementalAlterConfigs {
        resources: vec![(topic(), vec![]), (topic(), vec![])],
        validate_only: false,
    };
    let answers = world.decide(|decider| decider.incremental_alter_configs(&both));
    let message = "Each resource must appear at most once.";
    assert!(answers.iter().all(|(_, answer)| *answer == Err(error(InvalidRequest, message))));
}

#[test]
fn a_restarted_broker_leads_again_with_a_new_epoch() {
    let mut world = World::default();
    let first = world.register(1, 1, None);
    world.create(NewTopic::named("a", 1)).unwrap();
    assert_eq!(world.register(1, 1, None), first, "the same process asks again");
    assert_eq!(world.partition("a", 0).leader_epoch, LeaderEpoch(0));
    assert!(world.register(1, 2, None) > first);
    let partition = world.partition("a", 0);
    assert_eq!((partition.leader, partition.leader_epoch), (Some(NodeId(1)), LeaderEpoch(1)));
    let identity = BrokerIdentity { id: NodeId(1), epoch: first };
    let stale = world.decide(|decider| decider.allocate_producer_ids(identity));
    let message = "Expected broker epoch 2, but got broker epoch 1";
    assert_eq!(stale, Err(error(ResponseError::StaleBrokerEpoch, message)));
    let identity = BrokerIdentity { id: NodeId(1), epoch: 2 };
    for first in [0, 1000] {
        let block = world.decide(|decider| decider.allocate_producer_ids(identity)).unwrap();
        assert_eq!(block, ProducerIdBlock { first: ProducerId(first), count: 1000 });
    }
}

#[test]
fn leadership_moves_within_the_isr_and_the_last_member_stays() {
    let mut world = World::default();
    for id in 1..=2 {
        world.register(id, 1, None);
    }
    let both = vec![(0, vec![NodeId(1), NodeId(2)])];
    world.create(NewTopic { assignments: both, ..NewTopic::named("a", -1) }).unwrap();
    let topic_id = world.image.topic("a").unwrap().id;
    let identity = |world: &World, id| BrokerIdentity {
        id: NodeId(id),
        epoch: world.image.broker(NodeId(id)).unwrap().epoch,
    };
    let change = |world: &mut World, id, transition| {
        let identity = identity(world, id);
        world.decide(|decider| decider.change_broker(identity, transition)).unwrap();
    };
    change(&mut world, 1, BrokerTransition::Fence);
    let partition = world.partition("a", 0);
    assert_eq!((partition.leader, partition.isr), (Some(NodeId(2)), vec![NodeId(2)]));
    change(&mut world, 2, BrokerTransition::Fence);
    let partition = world.partition("a", 0);
    assert_eq!((partition.leader, partition.isr), (None, vec![NodeId(2)]), "it alone has everything");
    change(&mut world, 1, BrokerTransition::Unfence);
    assert_eq!(world.partition("a", 0).leader, None, "it is not in sync");
    change(&mut world, 2, BrokerTransition::Unfence);
    let partition = world.partition("a", 0);
    assert_eq!((partition.leader, partition.leader_epoch), (Some(NodeId(2)), LeaderEpoch(3)));

    let request = |leader_epoch, partition_epoch, isr: &[i32]| AlterPartition {
        topic_id,
        partition: 0,
        leader_epoch: LeaderEpoch(leader_epoch),
        partition_epoch,
        isr: isr.iter().map(|id| IsrMember { id: NodeId(*id), broker_epoch: -1 }).collect(),
        recovering: false,
    };
    let mut alter = |id, partition| {
        let identity = identity(&world, id);
        world.decide(|decider| decider.alter_partitions(identity, &[partition])).unwrap().remove(0)
    };
    use ResponseError::*;
    assert_eq!(alter(2, request(2, 3, &[2, 1])), Err(FencedLeaderEpoch));
    assert_eq!(alter(2, request(3, 2, &[2, 1])), Err(InvalidUpdateVersion));
    assert_eq!(alter(2, request(4, 3, &[2, 1])), Err(NotController));
    assert_eq!(alter(1, request(3, 3, &[2, 1])), Err(InvalidRequest));
    assert_eq!(alter(2, request(3, 3, &[1])), Err(InvalidRequest));
    assert_eq!(alter(2, request(3, 3, &[2, 5])), Err(InvalidRequest));
    let altered = alter(2, request(3, 3, &[2, 1])).unwrap();
    assert_eq!((altered.partition_epoch, altered.leader_epoch), (4, LeaderEpoch(3)));

    let elect = ElectLeaders { kind: ElectionKind::Preferred, partitions: None };
    let answers = world.decide(|decider| decider.elect_leaders(&elect));
    assert_eq!(answers, [(("a".to_owned(), 0), Ok(()))]);
    let partition = world.partition("a", 0);
    assert_eq!((partition.leader, partition.heir), (Some(NodeId(2)), Some(NodeId(1))), "it hands over");
    assert_eq!(world.decide(|decider| decider.elect_leaders(&elect)).len(), 1);
    assert_eq!(world.partition("a", 0), partition);
}

#[test]
fn replicas_are_striped_over_racks_and_leaders_spread() {
    let mut world = World::default();
    for (id, rack) in (0..6).zip(["a", "b", "c", "a", "b", "c"]) {
        world.register(id, 1, Some(rack));
    }
    let placed = place(&world.image, 6, 3, &NoChance::default()).unwrap();
    let mut leaders: Vec<_> = placed.iter().map(|replicas| replicas[0]).collect();
    leaders.sort_unstable();
    leaders.dedup();
    assert!(leaders.len() >= 3, "{placed:?}");
    for replicas in &placed {
        let mut racks: Vec<_> = replicas.iter().map(|id| id.0 % 3).collect();
        racks.sort_unstable();
        assert_eq!(racks, [0, 1, 2], "{replicas:?}");
    }
    let epoch = world.image.broker(NodeId(0)).unwrap().epoch;
    let identity = BrokerIdentity { id: NodeId(0), epoch };
    world.decide(|decider| decider.change_broker(identity, BrokerTransition::Fence)).unwrap();
    for replicas in place(&world.image, 12, 6, &NoChance::default()).unwrap() {
        let mut sorted = replicas.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 6);
        assert_ne!(replicas[0], NodeId(0), "a fenced broker does not lead");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Register(i32, u128, bool),
    Change(i32, BrokerTransition),
    Create(String, i32, i16),
    Delete(String),
    Grow(String, i32),
    Shrink(String, Vec<i32>),
    Elect(ElectionKind),
}

fn any_step() -> impl Strategy<Value = Step> {
    let name = || "[ab]";
    let transition = prop_oneof![
        Just(BrokerTransition::Fence),
        Just(BrokerTransition::Unfence),
        Just(BrokerTransition::BeginShutdown),
    ];
    prop_oneof![
        (1..5, 1..4u128, any::<bool>())
            .prop_map(|(id, process, unfence)| Step::Register(id, process, unfence)),
        (1..5, transition).prop_map(|(id, transition)| Step::Change(id, transition)),
        (name(), -1..4, -1..4i16).prop_map(|(name, count, factor)| Step::Create(name, count, factor)),
        name().prop_map(Step::Delete),
        (name(), 0..6).prop_map(|(name, count)| Step::Grow(name, count)),
        (name(), prop::collection::vec(1..5, 0..4)).prop_map(|(name, isr)| Step::Shrink(name, isr)),
        prop_oneof![Just(ElectionKind::Preferred), Just(ElectionKind::Unclean)].prop_map(Step::Elect),
    ]
}

proptest! {
    #[test]
    fn whatever_is_accepted_leads_to_a_consistent_image(
        seed: u64, steps in prop::collection::vec(any_step(), 0..60)
    ) {
        let mut image = MetadataImage::default();
        let chance = SimChance::new(seed);
        for step in steps {
            let decider = &mut Decider { image: &image, config: &CONFIG, chance: &chance };
            let identity = |id: i32| BrokerIdentity {
                id: NodeId(id),
                epoch: image.broker(NodeId(id)).map_or(-1, |broker| broker.epoch),
            };
            let records = match step {
                Step::Register(id, process, unfence) => {
                    let request = BrokerRegistration { unfence, ..registration(id, process, None) };
                    decider.register_broker(&request).records
                }
                Step::Change(id, transition) => decider.change_broker(identity(id), transition).records,
                Step::Create(name, count, factor) => {
                    let topic = NewTopic { replication_factor: factor, ..NewTopic::named(name, count) };
                    decider.create_topics(&CreateTopics { topics: vec![topic], validate_only: false }).records
                }
                Step::Delete(name) => {
                    decider.delete_topics(&[TopicToDelete { name: Some(name), id: TopicId::ZERO }]).records
                }
                Step::Grow(topic, partition_count) => {
                    let topics = vec![MorePartitions { topic, partition_count, assignments: None }];
                    decider.create_partitions(&CreatePartitions { topics, validate_only: false }).records
                }
                Step::Shrink(name, isr) => match image.partition(&name, 0) {
                    Some(partition) if partition.leader.is_some() => {
                        let request = AlterPartition {
                            topic_id: image.topic(&name).unwrap().id,
                            partition: 0,
                            leader_epoch: partition.leader_epoch,
                            partition_epoch: partition.partition_epoch,
                            isr: isr.iter().map(|id| IsrMember { id: NodeId(*id), broker_epoch: -1 }).collect(),
                            recovering: false,
                        };
                        decider.alter_partitions(identity(partition.leader.unwrap().0), &[request]).records
                    }
                    _ => Vec::new(),
                },
                Step::Elect(kind) => {
                    decider.elect_leaders(&ElectLeaders { kind, partitions: None }).records
                }
            };
            let next = image.with(&records).unwrap();
            next.check().unwrap();
            check_progress(&image, &next);
            for topic in next.topics() {
                for partition in &topic.partitions {
                    prop_assert!(!partition.isr.is_empty() && !partition.replicas.is_empty());
                    if let Some(leader) = partition.leader {
                        prop_assert!(partition.isr.contains(&leader) && next.is_active(leader));
                    }
                }
            }
            image = next;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_controller_answers_is_in_the_image_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        MetadataQuorum::open(QuorumConfig {
            dir: dir.path().join("metadata"),
            node_id: NodeId(1),
            cluster_id: Some("c".into()),
            directory_id: uuid::Uuid::from_u128(1),
            voters: [(NodeId(1), crate::raft::Member::default())].into(),
            first_records: Vec::new(),
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock),
            chance: Arc::new(RealChance),
            blocking: Arc::new(BlockingThreads),
        })
    };
    let quorum = open().await.unwrap();
    let controller = super::actor_tests::start(&quorum, None);
    let handle = controller.handle();
    let epoch = handle.register_broker(registration(1, 1, None)).await.unwrap();
    let tasks: Vec<_> = (0..50)
        .map(|number| {
            let (handle, quorum) = (handle.clone(), quorum.clone());
            tokio::spawn(async move {
                // Two ask for each name, and one of them gets it.
                let topic = NewTopic::named(format!("topic-{}", number / 2), 3);
                let request = CreateTopics { topics: vec![topic], validate_only: false };
                let (name, answer) = handle.create_topics(request).await.unwrap().pop().unwrap();
                let known = quorum.image().topic(&name).map(|topic| topic.id);
                match answer {
                    Ok(created) => assert_eq!(Some(created.id), known),
                    Err(e) => assert_eq!(e.code, ResponseError::TopicAlreadyExists),
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let identity = BrokerIdentity { id: NodeId(1), epoch };
    let block = handle.allocate_producer_ids(identity).await.unwrap();
    let index = quorum.applied_index();
    assert!(index < 50, "requests gather: {index} entries");
    let image = quorum.image();
    assert_eq!((image.topic_count(), image.partition_count()), (25, 75));
    drop(handle);
    controller.stop().await;
    quorum.shutdown().await;
    drop(quorum);

    let quorum = open().await.unwrap();
    assert_eq!(quorum.image(), image);
    let controller = super::actor_tests::start(&quorum, None);
    let epoch = controller.handle().register_broker(registration(1, 2, None)).await.unwrap();
    let partition = PartitionImage::clone(quorum.image().partition("topic-0", 0).unwrap());
    assert_eq!((partition.leader, partition.leader_epoch), (Some(NodeId(1)), LeaderEpoch(1)));
    let identity = BrokerIdentity { id: NodeId(1), epoch };
    let next = controller.handle().allocate_producer_ids(identity).await.unwrap();
    assert_eq!(next.first.0, block.first.0 + 1000);
    controller.stop().await;
    quorum.shutdown().await;
}
