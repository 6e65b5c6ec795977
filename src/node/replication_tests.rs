//! A node that leads, and the followers of another one, whose metadata is the first's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;

use super::*;
use crate::controller::{BrokerIdentity, BrokerRegistration, CreateTopics, NewTopic};
use crate::env::real;
use crate::env::sim::SimDisk;
use crate::partition::{Appending, Partition};
use crate::protocol::builder::{BatchBuilder, BatchOptions};
use crate::segment::{DataDir, DataDirOptions, Guard};
use crate::types::{Acks, Offset};

const PATIENCE: Duration = Duration::from_secs(60);
const LEADER: NodeId = NodeId(1);
const FOLLOWER: NodeId = NodeId(2);

fn config(more: &[(&str, &str)]) -> BrokerConfig {
    let values = [
        ("listeners", "PLAINTEXT://127.0.0.1:0"),
        ("log.dirs", "/data"),
        ("raftsman.admin.listener", ""),
        ("replica.lag.time.max.ms", "400"),
        ("replica.fetch.backoff.ms", "50"),
    ];
    let values = values.iter().chain(more).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    BrokerConfig::from_values(values.collect()).unwrap().0
}

/// The part of a broker that follows.
struct Follower {
    disk: SimDisk,
    identity: BrokerIdentity,
    partitions: Arc<PartitionManager>,
    tasks: Tasks,
}

impl Follower {
    async fn start(leader: &Node, disk: SimDisk) -> Self {
        let surroundings = Surroundings { disk: Arc::new(disk.clone()), ..real::surroundings() };
        let registration = BrokerRegistration {
            id: FOLLOWER,
            incarnation_id: surroundings.chance.kafka_uuid(),
            listeners: Vec::new(),
            rack: Some("b".to_owned()),
            log_directories: vec![uuid::Uuid::from_u128(2)],
            features: Default::default(),
            is_first: true,
            previous_epoch: -1,
            accepts_missing_data: false,
            unfence: true,
        };
        let epoch = leader.broker.controller.register_broker(registration).await.unwrap();
        let identity = BrokerIdentity { id: FOLLOWER, epoch };
        let options = DataDirOptions {
            dir: PathBuf::from("/follower"),
            node_id: FOLLOWER,
            cluster_id: "the-cluster".into(),
            recovery_threads: 1,
            open_files_max: 100,
            accepts_missing_data: false,
        };
        let (data, found) = DataDir::open(&surroundings, options).unwrap();
        let (config, tasks) = (config(&[]), Tasks::new());
        let work = Work::new(surroundings.blocking.clone(), tasks.clone());
        let dynamic = Arc::new(ArcSwap::from_pointee(config.clone()));
        let partitions = Arc::new(PartitionManager::new(FOLLOWER, data, found, dynamic, work));
        let quorum = leader.broker.quorum.clone();
        let mut subscription = quorum.subscribe();
        partitions.start(subscription.image());
        let context = replication::Context {
            config: config.replication.clone(),
            listener: "PLAINTEXT".to_owned(),
            peers: Peers::new(FOLLOWER, &surroundings),
            surroundings,
            partitions: partitions.clone(),
            image: Box::new(move || quorum.image()),
            identity: Box::new(move || identity),
            counters: replication::Counters::default(),
        };
        let replication = Replication::new(Arc::new(context), &tasks);
        replication.follow_all();
        tasks.spawn_until_stopped({
            let (partitions, replication) = (partitions.clone(), replication.clone());
            async move {
                while let Some(published) = subscription.next().await {
                    partitions.apply(&published.delta);
                    replication.follow(&published.delta);
                }
            }
        });
        Self { disk, identity, partitions, tasks }
    }

    /// As `kill -9` leaves it.
    async fn kill(self) -> SimDisk {
        self.tasks.stop().await;
        self.disk.kill();
        self.disk
    }

    fn partition(&self, topic: &str) -> Arc<Partition> {
        self.partitions.topic(topic).unwrap().partition(0).unwrap()
    }
}

async fn leader(more: &[(&str, &str)]) -> Node {
    let surroundings = Surroundings { disk: Arc::new(SimDisk::new(1)), ..real::surroundings() };
    Node::start(config(more), surroundings).await.unwrap()
}

async fn create(node: &Node, topic: &str, configs: &[(&str, &str)]) -> Arc<Partition> {
    create_on(node, topic, vec![LEADER, FOLLOWER], configs).await
}

async fn create_on(
    node: &Node,
    topic: &str,
    replicas: Vec<NodeId>,
    configs: &[(&str, &str)],
) -> Arc<Partition> {
    let new = NewTopic {
        assignments: vec![(0, replicas)],
        configs: configs.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned()))).collect(),
        ..NewTopic::named(topic, -1)
    };
    let request = CreateTopics { topics: vec![new], validate_only: false };
    let answers = node.broker.controller.create_topics(request).await.unwrap();
    answers.into_iter().for_each(|(_, answer)| drop(answer.unwrap()));
    node.broker.wait_applied().await;
    node.broker.partitions.topic(topic).unwrap().partition(0).unwrap()
}

fn batch(value: &str) -> BytesMut {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.add(1_000, None, Some(value.as_bytes())).unwrap();
    builder.build_mut().unwrap()
}

async fn produce(partition: &Arc<Partition>, value: &str, acks: Acks) -> Offset {
    let appending = partition.produce(batch(value), acks, 1_000, PATIENCE, (false, Guard::NONE));
    let outcome = match appending {
        Appending::Done(outcome) => outcome,
        Appending::Coming(coming) => coming.await.unwrap(),
    };
    outcome.unwrap().base_offset
}

/// All that is in the log.
fn bytes(partition: &Partition) -> Vec<u8> {
    let (mut from, end) = (partition.log.log_start_offset(), partition.log.log_end_offset());
    let mut all = Vec::new();
    while from < end {
        let slice = partition.log.read(from, 1 << 20, end, true).unwrap();
        let mut bytes = vec![0; slice.len];
        slice.file.read_at(&mut bytes, slice.position).unwrap();
        let last = crate::protocol::batch::batches(&bytes).last().unwrap().unwrap();
        from = Offset(last.header.next_offset());
        all.extend(bytes);
    }
    all
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

fn isr(node: &Node, topic: &str) -> Vec<NodeId> {
    node.broker.image().partition(topic, 0).unwrap().isr.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_by_all_is_on_the_follower_and_who_lags_leaves_and_comes_back() {
    let node = leader(&[]).await;
    let follower = Follower::start(&node, SimDisk::new(2)).await;
    let partition = create(&node, "t", &[("segment.bytes", "1048576")]).await;
    until("the follower has the topic", || follower.partitions.topic("t").is_some()).await;
    for at in 0..50 {
        let offset = produce(&partition, &format!("{at}{}", "x".repeat(100_000)), Acks::All).await;
        assert_eq!(offset, Offset(at));
        assert_eq!(follower.partition("t").log.log_end_offset(), Offset(at + 1));
    }
    assert_eq!(isr(&node, "t"), [LEADER, FOLLOWER]);
    assert_eq!(bytes(&partition), bytes(&follower.partition("t")));
    assert!(follower.partition("t").log.segment_count() > 3);
    until("the follower is told of the high watermark", || {
        follower.partition("t").high_watermark() == Offset(50)
    })
    .await;

    // It goes: what is acknowledged by all waits for it, until it has left.
    let disk = follower.kill().await;
    produce(&partition, "alone", Acks::All).await;
    assert_eq!(isr(&node, "t"), [LEADER]);
    // The metadata may have changed before the answer to whoever asked for it is here.
    let shrinks = &node.broker.replication.counters().isr_shrinks;
    until("the change is counted", || shrinks.load(std::sync::atomic::Ordering::Relaxed) == 1).await;
    // It comes back, and with it what is acknowledged by all is on it again.
    let follower = Follower::start(&node, disk).await;
    until("the follower is in sync again", || isr(&node, "t").len() == 2).await;
    produce(&partition, "together", Acks::All).await;
    assert_eq!(bytes(&partition), bytes(&follower.partition("t")));
    // One that has lost all begins from nothing; until it has all, it is not in sync.
    follower.kill().await;
    let follower = Follower::start(&node, SimDisk::new(3)).await;
    until("the follower has all", || {
        isr(&node, "t").len() == 2 && bytes(&partition) == bytes(&follower.partition("t"))
    })
    .await;
    follower.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_follows_where_the_log_begins_and_begins_anew_behind_what_is_gone() {
    let node = leader(&[]).await;
    let follower = Follower::start(&node, SimDisk::new(2)).await;
    let partition = create(&node, "t", &[("segment.bytes", "1048576")]).await;
    for _ in 0..30 {
        produce(&partition, &"x".repeat(100_000), Acks::All).await;
    }
    partition.delete_records(Some(Offset(10))).unwrap();
    until("the log begins later", || follower.partition("t").log.log_start_offset() == Offset(10)).await;
    until("the leader knows it", || partition.low_watermark(|_| true) == Some(Offset(10))).await;

    let disk = follower.kill().await;
    for _ in 0..30 {
        produce(&partition, &"y".repeat(100_000), Acks::All).await;
    }
    partition.delete_records(Some(Offset(45))).unwrap();
    partition.log.delete_hidden_segments(0, partition.high_watermark()).unwrap();
    let follower = Follower::start(&node, disk).await;
    until("the follower is in sync again", || isr(&node, "t").len() == 2).await;
    let theirs = follower.partition("t");
    assert_eq!((theirs.log.log_start_offset(), theirs.log.log_end_offset()), (Offset(45), Offset(60)));
    produce(&partition, "z", Acks::All).await;
    assert_eq!(theirs.log.log_end_offset(), Offset(61));
    follower.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_leader_of_before_has_is_cut_off_when_it_follows() {
    let node = leader(&[]).await;
    let follower = Follower::start(&node, SimDisk::new(2)).await;
    // The other one leads first; this node cannot reach it.
    let partition = create_on(&node, "t", vec![FOLLOWER, LEADER], &[]).await;
    until("the follower leads", || {
        follower.partitions.topic("t").is_some_and(|topic| topic.partition(0).unwrap().is_leader())
    })
    .await;
    let theirs = follower.partition("t");
    for _ in 0..3 {
        produce(&theirs, "not acknowledged by all", Acks::Leader).await;
    }
    let change = |transition| node.broker.controller.change_broker(follower.identity, transition);
    change(crate::controller::BrokerTransition::Fence).await.unwrap();
    until("this node leads", || partition.is_leader()).await;
    for at in 0..5 {
        produce(&partition, &format!("new {at}"), Acks::All).await;
    }
    until("the other one follows", || bytes(&partition) == bytes(&theirs)).await;
    assert_eq!(theirs.log.latest_epoch(), partition.leader_epoch());
    assert_eq!(isr(&node, "t"), [LEADER], "it is fenced");
    change(crate::controller::BrokerTransition::Unfence).await.unwrap();
    until("the other one is in sync", || isr(&node, "t").len() == 2).await;
    produce(&partition, "together", Acks::All).await;
    assert_eq!(bytes(&partition), bytes(&theirs));
    follower.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_sync_for_every_message_the_follower_has_synced_what_it_acknowledges() {
    let node = leader(&[]).await;
    let follower = Follower::start(&node, SimDisk::new(2)).await;
    let partition = create(&node, "t", &[("flush.messages", "1")]).await;
    for at in 0..20 {
        produce(&partition, "x", Acks::All).await;
        assert_eq!(follower.partition("t").log.recovery_point(), Offset(at + 1));
        assert_eq!(partition.log.recovery_point(), Offset(at + 1));
    }
    follower.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_is_sent_to_the_replica_in_its_rack_which_shows_it_what_is_committed() {
    use crate::partition::ReadBound;
    use crate::protocol::messages::FetchRequest;
    use crate::protocol::messages::fetch_request::{FetchPartition, FetchTopic};

    let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let node = leader(&[("broker.rack", "a"), ("replica.selector.class", selector)]).await;
    let follower = Follower::start(&node, SimDisk::new(2)).await;
    let partition = create(&node, "t", &[]).await;
    for _ in 0..3 {
        produce(&partition, "x", Acks::All).await;
    }
    let network = &*node.broker.surroundings.network;
    let address = node.addresses[0].to_string();
    let connection =
        crate::client::Connection::open(network, &address, "test", PATIENCE, 10_000).await.unwrap();
    let ask = async |rack: &'static str| {
        let partition = FetchPartition::default().with_fetch_offset(0).with_partition_max_bytes(1_000);
        let topic_id = node.broker.image().topic("t").unwrap().id.0;
        let request = FetchRequest::default()
            .with_session_epoch(-1)
            .with_max_bytes(1_000)
            .with_rack_id(kafka_protocol::protocol::StrBytes::from_static_str(rack))
            .with_topics(vec![
                FetchTopic::default().with_topic_id(topic_id).with_partitions(vec![partition]),
            ]);
        let response = connection.call(&request).await.unwrap();
        let answer = response.responses[0].partitions[0].clone();
        (
            answer.error_code,
            answer.preferred_read_replica.0,
            answer.records.is_some_and(|bytes| !bytes.is_empty()),
        )
    };
    assert_eq!(ask("b").await, (0, 2, false));
    assert_eq!(ask("a").await, (0, -1, true));
    assert_eq!(ask("c").await, (0, -1, true));
    assert_eq!(ask("").await, (0, -1, true));
    let theirs = follower.partition("t");
    until("the follower knows what is committed", || theirs.high_watermark() == Offset(3)).await;
    let read = |may_follow| {
        theirs.fetch(Offset(0), 1_000, ReadBound::HighWatermark, true, partition.leader_epoch(), may_follow)
    };
    assert!(read(true).unwrap().slice.is_some());
    assert!(read(false).is_err(), "only who knows of followers reads from one");
    follower.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_was_told_more_than_a_new_leader_knows_of_is_told_to_wait_even_if_it_does_not() {
    use crate::protocol::messages::FetchRequest;
    use crate::protocol::messages::fetch_request::{FetchPartition, FetchTopic};

    let node = leader(&[]).await;
    let follower = Follower::start(&node, SimDisk::new(2)).await;
    let partition = create(&node, "t", &[]).await;
    follower.kill().await;
    for _ in 0..3 {
        produce(&partition, "x", Acks::Leader).await;
    }
    let image = node.broker.image();
    let known = image.partition("t", 0).unwrap();
    let again = crate::metadata::PartitionImage {
        leader_epoch: crate::types::LeaderEpoch(known.leader_epoch.0 + 1),
        partition_epoch: known.partition_epoch + 100,
        isr: vec![LEADER, FOLLOWER],
        ..(**known).clone()
    };
    partition.apply(&again).unwrap();
    assert!(partition.is_behind_epoch_start());
    let network = &*node.broker.surroundings.network;
    let address = node.addresses[0].to_string();
    let connection =
        crate::client::Connection::open(network, &address, "test", PATIENCE, 10_000).await.unwrap();
    let partition = FetchPartition::default().with_fetch_offset(3).with_partition_max_bytes(1_000);
    let topic =
        FetchTopic::default().with_topic_id(image.topic("t").unwrap().id.0).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_session_epoch(-1)
        .with_max_bytes(1_000)
        .with_max_wait_ms(0)
        .with_topics(vec![topic]);
    let response = connection.call(&request).await.unwrap();
    let error = response.responses[0].partitions[0].error_code;
    assert_eq!(error, kafka_protocol::ResponseError::OffsetNotAvailable.code());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_does_not_lose_its_place_to_a_replica_that_led_before_and_has_less_than_it_has_read() {
    use crate::client::consumer::{Consumer, ConsumerOptions};
    use crate::client::{Client, ClientOptions};

    let node = leader(&[]).await;
    let follower = Follower::start(&node, SimDisk::new(2)).await;
    let partition = create(&node, "t", &[]).await;
    for _ in 0..3 {
        produce(&partition, "x", Acks::All).await;
    }
    let options =
        ClientOptions { bootstrap_servers: vec![node.addresses[0].to_string()], ..ClientOptions::default() };
    let client = Arc::new(Client::new(options, &node.broker.surroundings).unwrap());
    let options = ConsumerOptions { reset_to: None, fetch_max_wait_ms: 50, ..ConsumerOptions::default() };
    let starts = std::collections::BTreeMap::from([(("t".to_owned(), 0), 0)]);
    let mut consumer = Consumer::new(client, options, starts);
    let mut read = 0;
    while read < 3 {
        read += consumer.next().await.unwrap().len();
    }
    // Another one leads; what this one has beyond it is cut off.
    let known = node.broker.image().partition("t", 0).unwrap().clone();
    let epoch = crate::types::LeaderEpoch(known.leader_epoch.0 + 1);
    let moved = crate::metadata::PartitionImage {
        leader: Some(FOLLOWER),
        leader_epoch: epoch,
        partition_epoch: known.partition_epoch + 100,
        ..(*known).clone()
    };
    partition.apply(&moved).unwrap();
    partition.truncate(&node.broker.partitions.data, Offset(1), epoch).unwrap();
    for _ in 0..10 {
        assert_eq!(consumer.next().await.unwrap().len(), 0);
    }
    assert_eq!(consumer.positions().next().unwrap().1, 3);
    follower.kill().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetches_of_an_earlier_process_or_of_no_replica_count_for_nothing() {
    let node = leader(&[]).await;
    let follower = Follower::start(&node, SimDisk::new(2)).await;
    let partition = create(&node, "t", &[]).await;
    produce(&partition, "x", Acks::All).await;
    let stale = follower.identity.epoch;
    let disk = follower.kill().await;
    let follower = Follower::start(&node, disk).await;
    assert!(follower.identity.epoch > stale);
    until("the follower is in sync again", || isr(&node, "t").len() == 2).await;

    use crate::protocol::messages::fetch_request::{FetchPartition, FetchTopic, ReplicaState};
    use crate::protocol::messages::{BrokerId, FetchRequest};
    let network = &*node.broker.surroundings.network;
    let address = node.addresses[0].to_string();
    let connection =
        crate::client::Connection::open(network, &address, "test", PATIENCE, 10_000).await.unwrap();
    let ask = async |id: i32, broker_epoch: i64, leader_epoch: i32| {
        let partition = FetchPartition::default()
            .with_current_leader_epoch(leader_epoch)
            .with_fetch_offset(1)
            .with_partition_max_bytes(1_000);
        let topic_id = node.broker.image().topic("t").unwrap().id.0;
        let request = FetchRequest::default()
            .with_replica_state(
                ReplicaState::default().with_replica_id(BrokerId(id)).with_replica_epoch(broker_epoch),
            )
            .with_session_epoch(-1)
            .with_topics(vec![
                FetchTopic::default().with_topic_id(topic_id).with_partitions(vec![partition]),
            ]);
        let response = connection.call(&request).await.unwrap();
        response.responses[0].partitions[0].error_code
    };
    let not_here = kafka_protocol::ResponseError::NotLeaderOrFollower.code();
    let epoch = partition.leader_epoch().0;
    assert_eq!(ask(2, stale, epoch).await, not_here);
    assert_eq!(ask(3, -1, epoch).await, not_here, "it is not registered");
    assert_eq!(ask(1, -1, epoch).await, not_here, "it is this node itself");
    assert_eq!(ask(2, -1, epoch + 1).await, kafka_protocol::ResponseError::UnknownLeaderEpoch.code());
    assert_eq!(ask(2, follower.identity.epoch, epoch).await, 0);
    follower.kill().await;
    node.stop().await;
}
