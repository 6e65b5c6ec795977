//! What a panic does (ADR 4): planted in a broker of its own, by a switch that release builds do not have.

#![allow(clippy::unwrap_used)] // A test that unwraps says what failed.

mod support;

use std::os::unix::process::ExitStatusExt;

use kafka_protocol::messages::*;
use support::{Broker, batch, produce_request};

/// A broker that panics at a place.
fn start(folder: &std::path::Path, place: &str) -> Broker {
    Broker::start_with_environment(folder, &[], &[("RAFTSMAN_PLANTED_PANIC", place)])
}

#[test]
fn a_panic_under_a_writer_s_lock_ends_the_process_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    {
        let broker = Broker::start(folder.path(), &[]);
        let mut client = broker.connect();
        client.create_topic("logs", 1, &[]);
        assert_eq!(client.produce("logs", 0, -1, batch(&[b"kept"], None)).unwrap(), (0, 0));
    }
    let mut broker = start(folder.path(), "append");
    assert!(broker.connect().produce("logs", 0, -1, batch(&[b"never acknowledged"], None)).is_err());
    let status = broker.wait();
    assert_eq!(status.signal(), Some(nix::sys::signal::Signal::SIGABRT as i32), "{status}");
    let log = broker.log_text();
    assert!(log.contains("planted in append") && log.contains("the broker panicked and ends"), "{log}");
    drop(broker);
    let broker = Broker::start(folder.path(), &[]);
    let mut client = broker.connect();
    assert_eq!(client.produce("logs", 0, -1, batch(&[b"later"], None)).unwrap(), (0, 1));
    assert_eq!(client.read_all("logs", 0).len(), 2);
    broker.stop();
}

#[test]
fn a_panic_in_blocking_work_ends_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = start(folder.path(), "sync");
    let mut client = broker.connect();
    client.create_topic("synced", 1, &[("flush.messages", "1")]);
    assert!(client.produce("synced", 0, -1, batch(&[b"v"], None)).is_err());
    let status = broker.wait();
    assert_eq!(status.signal(), Some(nix::sys::signal::Signal::SIGABRT as i32), "{status}");
}

#[test]
fn a_panic_while_a_request_is_read_costs_its_connection_alone() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path(), std::any::type_name::<DescribeClusterRequest>());
    let mut neighbour = broker.connect();
    neighbour.create_topic("logs", 1, &[]);
    for _ in 0..3 {
        assert!(broker.connect().call(&DescribeClusterRequest::default(), 1).is_err());
    }
    assert_eq!(neighbour.produce("logs", 0, -1, batch(&[b"v"], None)).unwrap(), (0, 0));
    assert_eq!(broker.metric("raftsman_panics_contained_total"), 3.0);
    // None of them has left its place taken.
    let deadline = std::time::Instant::now() + support::PATIENCE;
    while broker.metric("raftsman_connections") > 1.0 {
        assert!(
            std::time::Instant::now() < deadline,
            "{} connections",
            broker.metric("raftsman_connections")
        );
    }
    broker.stop();
}

#[test]
fn a_panic_while_a_batch_is_checked_is_an_error_of_its_producer() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path(), "check");
    let mut client = broker.connect();
    client.create_topic("logs", 1, &[]);
    let request = produce_request("logs", 0, -1, batch(&[b"v"], None));
    let answer = client.call(&request, 9).unwrap();
    let answer = &answer.responses[0].partition_responses[0];
    assert_eq!(answer.error_code, -1, "{answer:?}");
    assert_eq!(client.metadata(&["logs"]).topics[0].error_code, 0);
    broker.stop();
}
