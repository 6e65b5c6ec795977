//! What was acknowledged survives `kill -9` at any moment, under load, many times.

#![allow(clippy::unwrap_used)] // A test that unwraps says what failed.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use support::{Broker, Client, PATIENCE, batch};

const KILLS: usize = 8;
const WRITERS: usize = 4;

/// Values name their writer and their number, so that loss, doubling and mixing up all show.
fn value(writer: usize, number: usize) -> Vec<u8> {
    format!("writer {writer} record {number} {}", "x".repeat(number % 300)).into_bytes()
}

/// Produces until the broker goes away; gives what was acknowledged: offset and value of each record.
fn write(
    address: std::net::SocketAddr,
    writer: usize,
    from: usize,
    acked: &AtomicUsize,
) -> Vec<(i64, Vec<u8>)> {
    let mut acknowledged = Vec::new();
    let Ok(mut client) = Client::connect(address) else { return acknowledged };
    let mut number = from;
    loop {
        let values: Vec<Vec<u8>> = (0..1 + number % 5).map(|i| value(writer, number + i)).collect();
        let slices: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let Ok((error, base_offset)) = client.produce("load", 0, -1, batch(&slices, None)) else {
            return acknowledged;
        };
        assert_eq!(error, 0);
        number += values.len();
        acknowledged.extend((base_offset..).zip(values));
        acked.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn every_acknowledged_record_survives_kill_9_under_load() {
    let folder = tempfile::tempdir().unwrap();
    // Small segments: kills fall into rolls, too.
    let overrides = ["log.segment.bytes=1048576", "log.flush.offset.checkpoint.interval.ms=50"];
    let mut acknowledged: Vec<(i64, Vec<u8>)> = Vec::new();
    for round in 0..KILLS {
        let broker = Broker::start(folder.path(), &overrides);
        if round == 0 {
            broker.connect().create_topic("load", 1, &[]);
        }
        let acked = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (address, acked) = (broker.address, acked.clone());
                std::thread::spawn(move || write(address, writer, round * 1_000_000, &acked))
            })
            .collect();
        let deadline = Instant::now() + PATIENCE;
        while acked.load(Ordering::Relaxed) < 300 + 137 * round {
            assert!(Instant::now() < deadline, "the broker takes no records");
            std::thread::yield_now();
        }
        broker.kill();
        for writer in writers {
            acknowledged.extend(writer.join().unwrap());
        }
    }
    let broker = Broker::start(folder.path(), &overrides);
    let records = broker.connect().read_all("load", 0);
    // The log has no gap, and every acknowledged record is where it was said to be.
    for (expected, (offset, _)) in (0..).zip(&records) {
        assert_eq!(*offset, expected);
    }
    assert!(acknowledged.len() > KILLS * 300);
    for (offset, value) in &acknowledged {
        let found = usize::try_from(*offset).ok().and_then(|at| records.get(at));
        assert_eq!(found.map(|(_, value)| value), Some(&Bytes::from(value.clone())), "offset {offset}");
    }
    broker.stop();
}

#[test]
fn topics_configurations_and_producer_state_survive_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &[]);
    let mut client = broker.connect();
    client.create_topic("kept", 3, &[("retention.ms", "123456789")]);
    client.create_topic("synced", 1, &[("flush.messages", "1")]);
    let topic_id = client.metadata(&["kept"]).topics[0].topic_id;
    let epoch = client.metadata(&["kept"]).topics[0].partitions[0].leader_epoch;
    let id = client.producer_id();
    for sequence in 0..7 {
        let produced = client.produce("kept", 0, -1, batch(&[b"v"], Some((id, 0, sequence)))).unwrap();
        assert_eq!(produced, (0, i64::from(sequence)));
    }
    assert_eq!(client.produce("synced", 0, -1, batch(&[b"s"], None)).unwrap(), (0, 0));
    broker.kill();

    let broker = Broker::start(folder.path(), &[]);
    let mut client = broker.connect();
    let topic = client.metadata(&["kept"]).topics[0].clone();
    assert_eq!((topic.error_code, topic.topic_id, topic.partitions.len()), (0, topic_id, 3));
    // A new process is a new leadership.
    assert!(topic.partitions[0].leader_epoch > epoch);
    // A retry of what was acknowledged is answered with its old offset; a gap is refused; the next
    // sequence goes on.
    assert_eq!(client.produce("kept", 0, -1, batch(&[b"v"], Some((id, 0, 6)))).unwrap(), (0, 6));
    assert_eq!(client.produce("kept", 0, -1, batch(&[b"v"], Some((id, 0, 9)))).unwrap().0, 45);
    assert_eq!(client.produce("kept", 0, -1, batch(&[b"v"], Some((id, 0, 7)))).unwrap(), (0, 7));
    assert_eq!(client.read_all("kept", 0).len(), 8);
    assert_eq!(client.read_all("synced", 0).len(), 1);
    let next = client.producer_id();
    assert!(next > id, "producer ids are given once: {next} after {id}");
    broker.stop();

    // A second start after an orderly stop finds the same.
    let broker = Broker::start(folder.path(), &[]);
    assert_eq!(broker.connect().read_all("kept", 0).len(), 8);
    broker.stop();
}
