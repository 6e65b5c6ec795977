//! The metadata quorum's voters come and go while it runs.

#![allow(clippy::unwrap_used)] // A test that unwraps says what failed.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_raft_voter_request::Listener;
use kafka_protocol::messages::{AddRaftVoterRequest, RemoveRaftVoterRequest};
use raftsman::controller::{CreateTopics, NewTopic};
use raftsman::node::Node;
use raftsman::node::formatting::{self, Bootstrap, FirstQuorum, Formatting};
use raftsman::types::uuid_to_base64;
use support::Client;
use support::cluster::{BOTH, TestCluster};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

fn directory(cluster: &TestCluster, id: i32) -> Uuid {
    cluster.broker(id).partitions.data.directory_id()
}

/// Has a voter added by way of a node; gives the error code.
fn add(cluster: &TestCluster, by: i32, id: i32, directory_id: Uuid) -> i16 {
    let listener = Listener::default().with_name("CONTROLLER".into()).with_host("127.0.0.1".into());
    let request = AddRaftVoterRequest::default()
        .with_cluster_id(None)
        .with_timeout_ms(20_000)
        .with_voter_id(id)
        .with_voter_directory_id(directory_id)
        .with_listeners(vec![listener.with_port(cluster.controller_address(id).port())]);
    Client::connect(cluster.address(by)).unwrap().call(&request, 0).unwrap().error_code
}

fn remove(cluster: &TestCluster, by: i32, id: i32, directory_id: Uuid) -> i16 {
    let request = RemoveRaftVoterRequest::default().with_cluster_id(None);
    let request = request.with_voter_id(id).with_voter_directory_id(directory_id);
    Client::connect(cluster.address(by)).unwrap().call(&request, 0).unwrap().error_code
}

/// Has a topic created by way of a node.
fn create(cluster: &TestCluster, id: i32, name: &str) {
    let request = CreateTopics { topics: vec![NewTopic::named(name, 3)], validate_only: false };
    let broker = cluster.broker(id);
    cluster.on(id, broker.controller.create_topics(request)).unwrap()[0].1.as_ref().unwrap();
}

/// Waits until all that run know these voters.
fn wait_for_voters(cluster: &TestCluster, wanted: &[i32]) {
    let voters = |id: i32| {
        let status = cluster.broker(id).quorum.status();
        status.voters.iter().map(|voter| voter.id.0).collect::<Vec<_>>()
    };
    let what = format!("{wanted:?} are the voters");
    support::until(&what, || cluster.running().all(|id| voters(id) == wanted).then_some(()));
}

/// The folder of a node that was alone, as version 0.1.0 wrote it.
fn fixture(data: &Path) {
    let metadata = data.join("__cluster_metadata");
    std::fs::create_dir(&metadata).unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/metadata-0.1.0");
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), metadata.join(entry.file_name())).unwrap();
    }
    let directory = uuid_to_base64(Uuid::from_u128(77));
    let meta = format!("version=1\ncluster.id=the-cluster\nnode.id=1\ndirectory.id={directory}\n");
    std::fs::write(data.join("meta.properties"), meta).unwrap();
}

#[test]
fn a_folder_of_one_node_grows_to_three_that_go_on_without_it() {
    let mut cluster = TestCluster::start_first_in(fixture);
    assert_eq!(cluster.broker(1).image().metadata_version(), raftsman::metadata::METADATA_VERSION);
    cluster.add(2, BOTH);
    cluster.add(3, BOTH);
    wait_for_voters(&cluster, &[1]);
    // Whichever node is asked. Ids alone do not make a voter, and one is added once.
    assert_eq!(add(&cluster, 2, 2, Uuid::from_u128(5)), ResponseError::InvalidRequest.code());
    assert_eq!(add(&cluster, 2, 2, directory(&cluster, 2)), 0);
    assert_eq!(add(&cluster, 3, 2, directory(&cluster, 2)), ResponseError::DuplicateVoter.code());
    assert_eq!(add(&cluster, 1, 3, directory(&cluster, 3)), 0);
    wait_for_voters(&cluster, &[1, 2, 3]);
    let status = cluster.broker(1).quorum.status();
    let ports: Vec<_> = status.voters.iter().map(|voter| voter.endpoints[0].port).collect();
    let listening: Vec<_> = (1..=3).map(|id| cluster.controller_address(id).port()).collect();
    assert_eq!(ports, listening);

    cluster.kill(1);
    assert_ne!(cluster.controller(), 1);
    create(&cluster, 2, "without-1");
    let topics: Vec<_> = cluster.broker(3).image().topics().map(|topic| topic.name.to_string()).collect();
    assert!(topics.contains(&"topic-1".to_owned()), "what it had is kept: {topics:?}");
    cluster.start_nodes(&[1]);
    cluster.wait_for("the first one is back", |image| image.topic("without-1").is_some());
    cluster.stop_all();
}

#[test]
fn a_voter_that_lost_its_folder_is_removed_under_the_old_one_and_added_under_the_new() {
    let mut cluster = TestCluster::start(3, &[]);
    let leader = cluster.controller();
    let (wiped, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let before = directory(&cluster, wiped);
    support::until("the leader notes the folders", || {
        let status = cluster.broker(leader).quorum.status();
        status.voters.iter().all(|voter| voter.directory_id.is_some()).then_some(())
    });
    cluster.stop(wiped);
    cluster.wipe(wiped);
    let unknown = remove(&cluster, leader, wiped, Uuid::from_u128(5));
    assert_eq!(unknown, ResponseError::VoterNotFound.code());
    assert_eq!(remove(&cluster, other, wiped, before), 0);
    wait_for_voters(&cluster, &{
        let mut left = [leader, other];
        left.sort_unstable();
        left
    });
    cluster.start_nodes(&[wiped]);
    cluster.wait_for_brokers();
    let now = directory(&cluster, wiped);
    assert_ne!(now, before);
    // It follows, and has no vote until it is given one.
    create(&cluster, wiped, "t");
    assert_eq!(add(&cluster, wiped, wiped, now), 0);
    wait_for_voters(&cluster, &[1, 2, 3]);
    // The leader itself can go, too: another one leads then, and it follows.
    assert_eq!(remove(&cluster, other, leader, directory(&cluster, leader)), 0);
    let mut left = [wiped, other];
    left.sort_unstable();
    wait_for_voters(&cluster, &left);
    assert_ne!(cluster.controller(), leader);
    create(&cluster, leader, "after");
    cluster.wait_for("all follow", |image| image.topic("after").is_some());
    cluster.kill_all();
}

#[test]
fn folders_that_were_formatted_as_initial_controllers_form_their_cluster() {
    let directories = [11, 12, 13].map(Uuid::from_u128);
    let cluster = TestCluster::start_formatted("formatted", &directories);
    wait_for_voters(&cluster, &[1, 2, 3]);
    let status = cluster.broker(2).quorum.status();
    let known: Vec<_> = status.voters.iter().filter_map(|voter| voter.directory_id).collect();
    assert_eq!(known, directories);
    for id in 1..=3 {
        assert_eq!(&*cluster.broker(id).cluster_id, "formatted");
    }
    create(&cluster, 3, "t");
    cluster.stop_all();
}

/// A node that is told to join, and finds nobody.
#[test]
fn a_node_that_shall_join_never_makes_a_cluster_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let own = format!("127.0.0.1:{port}");
    let listeners = format!("PLAINTEXT://127.0.0.1:0,CONTROLLER://{own}");
    let values = [
        ("node.id", "1"),
        ("log.dirs", folder.path().to_str().unwrap()),
        ("listeners", listeners.as_str()),
        ("controller.quorum.bootstrap.servers", own.as_str()),
        ("raftsman.admin.listener", ""),
    ];
    let values = values.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let config = raftsman::config::BrokerConfig::from_values(values).unwrap().0;
    let surroundings = raftsman::env::real::surroundings();
    let formatting = Formatting {
        cluster_id: "theirs".to_owned(),
        bootstrap: Bootstrap { quorum: FirstQuorum::Joins, features: BTreeMap::new() },
        ignores_formatted: false,
    };
    formatting::format(&*surroundings.disk, &*surroundings.chance, &config, &formatting).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let cancelled = CancellationToken::new();
    let started = runtime.block_on(async {
        let starting = Node::start_unless(config, surroundings, &cancelled);
        // Long enough for one that would form a cluster.
        let given_up = async {
            tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
            cancelled.cancel();
        };
        tokio::join!(starting, given_up).0
    });
    let error = started.err().expect("it waits for the others").to_string();
    assert!(error.contains("was stopped while it waited"), "{error}");
    let metadata = folder.path().join("__cluster_metadata");
    assert!(!metadata.join("vote").exists(), "and has voted for nobody");
}

#[test]
fn controllers_that_join_by_themselves_get_a_vote_and_get_it_again_with_another_folder() {
    let mut cluster = TestCluster::start_first(&[("controller.quorum.auto.join.enable", "true")]);
    cluster.add(2, BOTH);
    cluster.add(3, BOTH);
    wait_for_voters(&cluster, &[1, 2, 3]);
    cluster.stop(3);
    cluster.wipe(3);
    cluster.start_nodes(&[3]);
    cluster.wait_for_brokers();
    wait_for_voters(&cluster, &[1, 2, 3]);
    let own = directory(&cluster, 3);
    let known = cluster.broker(1).quorum.status().voters[2].directory_id;
    assert_eq!(known, Some(own));
    cluster.kill_all();
}
