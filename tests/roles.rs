//! Controllers and brokers on nodes of their own.

#![allow(clippy::unwrap_used)] // A test that unwraps says what failed.

mod support;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{
    ApiVersionsRequest, DescribeClusterRequest, DescribeConfigsRequest, MetadataRequest,
};
use raftsman::controller::{CreateTopics, NewTopic};
use raftsman::types::NodeId;
use support::Client;
use support::cluster::TestCluster;

/// Has a topic created by way of a node.
fn create(cluster: &TestCluster, id: i32, name: &str, replication_factor: i16) {
    let topic = NewTopic { replication_factor, ..NewTopic::named(name, 6) };
    let request = CreateTopics { topics: vec![topic], validate_only: false };
    let broker = cluster.broker(id);
    let created = cluster.on(id, broker.controller.create_topics(request)).unwrap();
    created[0].1.as_ref().unwrap();
}

#[test]
fn controllers_decide_and_brokers_follow_them_and_hold_the_partitions() {
    let roles = ["controller", "controller", "controller", "broker", "broker"];
    let mut cluster = TestCluster::start_roles(&roles, &[]);
    create(&cluster, 4, "before", 2);
    cluster.wait_for("all nodes know the topic", |image| image.topic("before").is_some());
    let image = cluster.broker(4).image();
    assert_eq!(image.brokers().keys().copied().collect::<Vec<_>>(), [NodeId(4), NodeId(5)]);
    for partition in &image.topic("before").unwrap().partitions {
        assert!(partition.replicas.iter().all(|replica| replica.0 >= 4), "{partition:?}");
    }
    let leader = cluster.controller();
    assert!(leader <= 3);
    let status = cluster.broker(leader).quorum.status();
    let ids =
        |members: &[raftsman::raft::ReplicaStatus]| members.iter().map(|it| it.id.0).collect::<Vec<_>>();
    assert_eq!((ids(&status.voters), ids(&status.observers)), (vec![1, 2, 3], vec![4, 5]));

    // Records go to a leader on one broker and its follower on the other, and the next active controller goes on.
    let shown = Client::connect(cluster.address(4)).unwrap().metadata(&["before"]);
    assert_eq!(shown.brokers.len(), 2);
    assert!(shown.controller_id.0 >= 4, "clients are told of a broker: {}", shown.controller_id.0);
    cluster.kill(leader);
    create(&cluster, 5, "after", 2);
    cluster.wait_for("the brokers follow the next one", |image| image.topic("after").is_some());
    assert_ne!(cluster.controller(), leader);

    // A broker that comes back follows what was decided meanwhile.
    cluster.stop(4);
    create(&cluster, 5, "meanwhile", 1);
    cluster.start_nodes(&[4, leader]);
    cluster.wait_for_brokers();
    cluster.wait_for("all follow", |image| image.topic("meanwhile").is_some());
    cluster.stop_all();
}

#[test]
fn a_controller_by_itself_answers_on_its_listener_what_kafkas_do() {
    let cluster = TestCluster::start_roles(&["controller", "broker"], &[]);
    let mut client = Client::connect(cluster.controller_address(1)).unwrap();
    let request = DescribeClusterRequest::default().with_endpoint_type(2);
    let described = client.call(&request, 1).unwrap();
    assert_eq!((described.error_code, described.endpoint_type, described.controller_id.0), (0, 2, 1));
    let shown: Vec<_> = described.brokers.iter().map(|node| (node.broker_id.0, node.port)).collect();
    assert_eq!(shown, [(1, i32::from(cluster.controller_address(1).port()))]);
    let mismatched = ResponseError::MismatchedEndpointType.code();
    let brokers = client.call(&DescribeClusterRequest::default(), 1).unwrap();
    assert_eq!(brokers.error_code, mismatched);
    let mut broker = Client::connect(cluster.address(2)).unwrap();
    assert_eq!(broker.call(&request, 1).unwrap().error_code, mismatched);

    let served = client.call(&ApiVersionsRequest::default(), 0).unwrap();
    let keys: Vec<_> = served.api_keys.iter().map(|api| api.api_key).collect();
    assert!(keys.contains(&55) && !keys.contains(&0) && !keys.contains(&3), "{keys:?}");
    let resource = DescribeConfigsResource::default().with_resource_type(4).with_resource_name("1".into());
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answered = client.call(&request, 4).unwrap();
    let role = answered.results[0].configs.iter().find(|config| config.name.as_str() == "process.roles");
    assert_eq!(role.and_then(|role| role.value.clone()).unwrap().as_str(), "controller");
    // Not what brokers do: the connection is closed.
    assert!(client.call(&MetadataRequest::default(), 9).is_err());
    cluster.stop_all();
}
