//! Members of groups when their broker stops.

#![allow(clippy::unwrap_used)] // A test that unwraps says what failed.

mod support;

use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{FindCoordinatorRequest, GroupId, JoinGroupRequest};
use support::{Broker, Client, PATIENCE};

/// As of a client that needs no id to join; it waits for others for a minute.
fn join(group: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name("range".into())
        .with_metadata(Bytes::from_static(b"\0\0\0\0\0\0\xff\xff\xff\xff"));
    JoinGroupRequest::default()
        .with_group_id(GroupId(group.to_owned().into()))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type("consumer".into())
        .with_protocols(vec![protocol])
}

#[test]
fn members_that_wait_are_told_when_their_coordinator_stops() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &["group.initial.rebalance.delay.ms=60000"]);
    let mut client = broker.connect();
    let asked = FindCoordinatorRequest::default().with_key("g".into());
    assert_eq!(client.call(&asked, 3).unwrap().error_code, 0);
    let mut waiting: Vec<Client> = (0..50)
        .map(|number| {
            let mut client = broker.connect();
            client.send(&join(&format!("group-{number}")), 3).unwrap();
            client
        })
        .collect();
    let joined = || broker.metric("raftsman_groups{state=\"PreparingRebalance\"}");
    let started = Instant::now();
    while joined() < 50.0 {
        assert!(started.elapsed() < PATIENCE, "all have joined by now");
    }
    broker.stop();
    for client in &mut waiting {
        let told = client.receive::<JoinGroupRequest>(3).expect("an answer before the connection is closed");
        assert_eq!(told.error_code, ResponseError::NotCoordinator.code());
    }
}
