//! A node in this process: from its start to its end, nothing of it is left.

#![allow(clippy::unwrap_used)] // A test that unwraps says what failed.

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{FindCoordinatorRequest, GroupId, JoinGroupRequest};
use raftsman::client::{ClientError, Connection};
use raftsman::config::BrokerConfig;
use raftsman::controller::BrokerTransition;
use raftsman::env::real;
use raftsman::node::{Node, StartError};
use raftsman::protocol::internal::{self, Answer, Head, InternalKey, Refusal};
use raftsman::raft::QuorumState;
use raftsman::types::NodeId;
use support::{Client, PATIENCE, batch, fetch_request, produce_request};
use tokio::runtime::Handle;

fn config(folder: &Path, overrides: &[(&str, &str)]) -> BrokerConfig {
    let data = folder.to_str().unwrap();
    let own = [
        ("listeners", "PLAINTEXT://127.0.0.1:0"),
        ("raftsman.admin.listener", "127.0.0.1:0"),
        ("log.dirs", data),
        ("log.flush.interval.ms", "3600000"),
        ("group.initial.rebalance.delay.ms", "3600000"),
    ];
    let pairs = own.iter().chain(overrides);
    let values: BTreeMap<_, _> = pairs.map(|(key, value)| ((*key).into(), (*value).into())).collect();
    BrokerConfig::from_values(values).unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_stopped_leaves_no_task_and_all_its_records() {
    let folder = tempfile::tempdir().unwrap();
    let alive = || Handle::current().metrics().num_alive_tasks();
    let before = alive();

    let node = Node::start(config(folder.path(), &[]), real::surroundings()).await.unwrap();
    let address = node.addresses[0];
    let (mut producing, mut fetching) =
        (Client::connect(address).unwrap(), Client::connect(address).unwrap());
    producing.create_topic("a", 3, &[]);
    producing.create_topic("compacted", 1, &[("cleanup.policy", "compact")]);
    for partition in 0..3 {
        assert_eq!(producing.produce("a", partition, -1, batch(&[b"value"], None)).unwrap(), (0, 0));
    }
    assert_eq!(producing.produce("a", 0, 1, batch(&[b"another"], None)).unwrap(), (0, 1));
    // All that can be under way: a fetch that waits, a member that waits for others, half a request, a monitor.
    fetching.send(&fetch_request("a", 0, 2, 1024, 3_600_000), 12).unwrap();
    let mut joining = Client::connect(address).unwrap();
    let asked = FindCoordinatorRequest::default().with_key("g".into());
    assert_eq!(joining.call(&asked, 3).unwrap().error_code, 0);
    let protocol = JoinGroupRequestProtocol::default()
        .with_name("range".into())
        .with_metadata(bytes::Bytes::from_static(b"\0\0\0\0\0\0\xff\xff\xff\xff"));
    let join = JoinGroupRequest::default()
        .with_group_id(GroupId("g".into()))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type("consumer".into())
        .with_protocols(vec![protocol]);
    joining.send(&join, 3).unwrap();
    let started = Instant::now();
    loop {
        let mut groups = 0;
        node.broker.groups.inspect(|shard| groups += shard.groups().count()).await;
        if groups == 1 {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "it has joined by now");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut half = Client::connect(address).unwrap();
    let frame = half.frame(&produce_request("a", 1, -1, batch(&[b"never"], None)), 12);
    half.stream.write_all(&frame[..frame.len() / 2]).unwrap();
    let mut monitor = TcpStream::connect(node.admin_address.unwrap()).unwrap();
    monitor.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();

    node.stop().await;
    assert_eq!(alive(), before, "no task of the node is left");
    assert!(TcpStream::connect(address).is_err(), "nobody listens");
    let joined = joining.receive::<JoinGroupRequest>(3).expect("an answer before the connection is closed");
    assert_eq!(joined.error_code, ResponseError::NotCoordinator.code());
    assert_eq!(monitor.read(&mut [0; 16]).unwrap_or(0), 0, "the monitor's connection is closed");

    // The folder is let go of, and was closed in order.
    assert!(folder.path().join(".kafka_cleanshutdown").exists());
    let node = Node::start(config(folder.path(), &[]), real::surroundings()).await.unwrap();
    let mut client = Client::connect(node.addresses[0]).unwrap();
    for (partition, count) in [(0, 2), (1, 1), (2, 1)] {
        assert_eq!(client.read_all("a", partition).len(), count);
    }
    node.stop().await;
    assert_eq!(alive(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_leaves_nothing_either() {
    let folder = tempfile::tempdir().unwrap();
    let before = Handle::current().metrics().num_alive_tasks();
    let node = Node::start(config(folder.path(), &[]), real::surroundings()).await.unwrap();
    let taken = node.admin_address.unwrap().to_string();
    let other = tempfile::tempdir().unwrap();
    let refused =
        Node::start(config(other.path(), &[("raftsman.admin.listener", &taken)]), real::surroundings()).await;
    assert!(matches!(refused, Err(StartError::Listen { .. })));
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 0, "nothing was written");
    // The data folder is in use.
    let refused = Node::start(config(folder.path(), &[]), real::surroundings()).await;
    assert!(matches!(refused, Err(StartError::Data(_))));
    node.stop().await;
    // The folder is another node's: found when the logs are about to be opened.
    let refused = Node::start(config(folder.path(), &[("node.id", "7")]), real::surroundings()).await;
    assert!(matches!(refused, Err(StartError::Data(_))));
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nodes_ask_each_other_is_served_to_those_of_the_cluster_on_listeners_for_controllers() {
    let folder = tempfile::tempdir().unwrap();
    let listeners = [("listeners", "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0")];
    let surroundings = real::surroundings();
    let node = Node::start(config(folder.path(), &listeners), surroundings.clone()).await.unwrap();
    let open = async |address: std::net::SocketAddr| {
        let network = &*surroundings.network;
        Connection::open(network, &address.to_string(), "another", PATIENCE, 60_000).await.unwrap()
    };
    let controller = open(node.controller_addresses[0]).await;
    let head = Head {
        cluster_id: Some(node.broker.cluster_id.to_string()),
        node: NodeId(2),
        directory_id: Default::default(),
        broker_epoch: -1,
        to: Some(NodeId(1)),
        to_directory_id: None,
    };
    let ask = async |head: &Head| {
        let asked = internal::body(head, b"\"State\"").unwrap();
        let answered = controller.call_internal(InternalKey::QuorumState, asked).await.unwrap();
        let (answer, at) = internal::split::<Answer>(&answered).unwrap();
        (answer.refusal, answered.slice(at..))
    };
    let (refusal, payload) = ask(&head).await;
    let state: QuorumState = serde_json::from_slice(&payload).unwrap();
    assert_eq!((refusal, state.leader), (None, Some(NodeId(1))));
    let (refusal, payload) = ask(&Head { cluster_id: Some("another".into()), ..head.clone() }).await;
    assert!(matches!(refusal, Some(Refusal::OtherCluster { .. })) && payload.is_empty());
    let (refusal, _) = ask(&Head { to: Some(NodeId(7)), ..head.clone() }).await;
    assert_eq!(refusal, Some(Refusal::OtherNode { node: NodeId(1) }));
    let other = uuid::Uuid::from_u128(7);
    let (refusal, _) = ask(&Head { to_directory_id: Some(other), ..head.clone() }).await;
    assert!(matches!(refusal, Some(Refusal::OtherDirectory { .. })));

    // Clients are told what serves them, on either listener, and nothing of this.
    let clients = open(node.addresses[0]).await;
    let (of_clients, of_controllers) = (clients.served(), controller.served());
    assert!(of_clients.contains_key(&0) && !of_controllers.contains_key(&0), "Produce");
    assert!(of_clients.contains_key(&55) && of_controllers.contains_key(&55), "DescribeQuorum");
    assert!(of_controllers.keys().all(|key| *key < 20_000));
    let asked = internal::body(&head, b"").unwrap();
    let refused = clients.call_internal(InternalKey::QuorumState, asked).await;
    assert!(matches!(refused, Err(ClientError::Lost { .. })), "{refused:?}");
    // Bytes that are no head close the connection.
    let nonsense = bytes::Bytes::from_static(&[0xff; 64]);
    let refused = controller.call_internal(InternalKey::QuorumState, nonsense).await;
    assert!(matches!(refused, Err(ClientError::Lost { .. })), "{refused:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_whose_registration_is_gone_registers_again_and_serves() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(config(folder.path(), &[]), real::surroundings()).await.unwrap();
    let mut client = Client::connect(node.addresses[0]).unwrap();
    client.create_topic("a", 1, &[]);
    client.produce("a", 0, -1, batch(&[b"one"], None)).unwrap();
    let before = node.broker.identity();
    node.broker.controller.change_broker(before, BrokerTransition::Unregister).await.unwrap();
    let mut registered = node.broker.registered.clone();
    let again = registered.wait_for(|now| now.epoch > before.epoch);
    let now = *tokio::time::timeout(PATIENCE, again).await.unwrap().unwrap();
    let image = node.broker.image();
    assert!(image.broker(now.id).is_some_and(|broker| broker.epoch == now.epoch && !broker.fenced));
    node.broker.wait_applied().await;
    assert_eq!(client.produce("a", 0, -1, batch(&[b"two"], None)).unwrap(), (0, 1));
    let stale = node.broker.controller.change_broker(before, BrokerTransition::Fence).await.unwrap_err();
    assert_eq!(stale.code, ResponseError::StaleBrokerEpoch);
    node.stop().await;
}
