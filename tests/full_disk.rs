//! A disk that is full: nothing is acknowledged that is not there, nothing that is acknowledged is lost,
//! and deleting makes room without a restart.

#![allow(clippy::unwrap_used)] // A test that unwraps says what failed.

mod support;

use std::path::Path;
use std::time::Instant;

use kafka_protocol::messages::DeleteTopicsRequest;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use support::{Broker, Client, PATIENCE, batch, topic_name};

const KAFKA_STORAGE_ERROR: i16 = 56;

/// A small file system in memory; unmounted when dropped.
struct SmallDisk<'a>(&'a Path);

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}

/// Fills the disk with ever smaller batches; gives what was acknowledged.
fn fill(client: &mut Client, acknowledged: &mut Vec<(i64, Vec<u8>)>) {
    for bytes in [100_000, 3_000, 1] {
        loop {
            let value = vec![u8::try_from(acknowledged.len() % 251).unwrap(); bytes];
            let (error, offset) = client.produce("full", 0, -1, batch(&[&value], None)).unwrap();
            if error != 0 {
                assert_eq!(error, KAFKA_STORAGE_ERROR);
                break;
            }
            acknowledged.push((offset, value));
        }
    }
}

fn check(client: &mut Client, acknowledged: &[(i64, Vec<u8>)]) {
    let found = client.read_all("full", 0);
    assert_eq!(found.len(), acknowledged.len());
    for (found, acknowledged) in found.iter().zip(acknowledged) {
        assert_eq!((found.0, &found.1[..]), (acknowledged.0, &acknowledged.1[..]));
    }
}

#[test]
fn a_full_disk_refuses_keeps_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let options = Some("size=16m");
    if let Err(error) = mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), options) {
        println!("not tested: a small disk cannot be mounted here ({error})");
        return;
    }
    let disk = SmallDisk(folder.path());
    let data = disk.0.join("data");
    let overrides = ["log.segment.bytes=1048576"];
    let mut acknowledged = Vec::new();

    let broker = Broker::start(&data, &overrides);
    let mut client = broker.connect();
    client.create_topic("spare", 1, &[("file.delete.delay.ms", "0")]);
    let (error, _) = client.produce("spare", 0, -1, batch(&[&vec![7; 800_000]], None)).unwrap();
    assert_eq!(error, 0);
    client.create_topic("full", 1, &[]);
    fill(&mut client, &mut acknowledged);
    check(&mut client, &acknowledged);
    broker.kill();

    // Killed and started on the full disk.
    let broker = Broker::start(&data, &overrides);
    let mut client = broker.connect();
    check(&mut client, &acknowledged);
    fill(&mut client, &mut acknowledged);

    // Deleting works, and makes room, without a restart.
    let request =
        DeleteTopicsRequest::default().with_topic_names(vec![topic_name("spare")]).with_timeout_ms(30_000);
    let response = client.call(&request, 5).unwrap();
    assert_eq!(response.responses[0].error_code, 0);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let value = vec![9; 50_000];
        let (error, offset) = client.produce("full", 0, -1, batch(&[&value], None)).unwrap();
        if error == 0 {
            acknowledged.push((offset, value));
            break;
        }
        assert!(Instant::now() < deadline, "no room after the deletion:\n{}", broker.log_text());
        std::thread::yield_now();
    }
    check(&mut client, &acknowledged);
    fill(&mut client, &mut acknowledged);
    broker.stop();

    // Stopped in order, or as far as the disk let it.
    let broker = Broker::start(&data, &overrides);
    check(&mut broker.connect(), &acknowledged);
    broker.kill();
}
