//! Compacted topics of a broker that runs: the last value of each key stays, at its offset, under readers,
//! kills and changes of the configuration; a damaged log does not keep the others.

#![allow(clippy::unwrap_used)] // A test that unwraps says what failed.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::messages::IncrementalAlterConfigsRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::protocol::StrBytes;
use raftsman::protocol::batch::{Compression, batches};
use raftsman::protocol::builder::{BatchBuilder, BatchOptions};
use support::{Broker, Client, PATIENCE, now_ms};

const OVERRIDES: [&str; 4] = [
    "log.segment.bytes=1048576",
    "log.cleaner.backoff.ms=20",
    "log.segment.delete.delay.ms=0",
    "log.retention.check.interval.ms=50",
];
const CONFIGS: [(&str, &str); 2] = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01")];
const KEYS: usize = 50;

/// The last record of each key: its offset and value; `None` is a tombstone.
type Last = BTreeMap<usize, (i64, Option<Vec<u8>>)>;

/// Writes `rounds` batches of ten records of about 4 KiB, in all codecs.
fn write(client: &mut Client, topic: &str, rounds: usize, last: &mut Last) {
    for round in 0..rounds {
        let options = BatchOptions { compression: Compression::ALL[round % 5], ..BatchOptions::default() };
        let mut builder = BatchBuilder::new(options);
        let records: Vec<(usize, Option<Vec<u8>>)> = (0..10)
            .map(|at| {
                let key = (round * 7 + at * 3) % KEYS;
                // Incompressible enough that segments fill.
                let noise = (0..4000usize).map(|n| ((n * n * 31 + round * 7919 + n * at) >> 3) as u8);
                ((key), (round % 9 > 0).then(|| noise.collect()))
            })
            .collect();
        for (key, value) in &records {
            let key = format!("key-{key}");
            builder.add(now_ms(), Some(key.as_bytes()), value.as_deref()).unwrap();
        }
        let (error, base_offset) = client.produce(topic, 0, -1, builder.build().unwrap()).unwrap();
        assert_eq!(error, 0);
        for (at, (key, value)) in records.into_iter().enumerate() {
            last.insert(key, (base_offset + at as i64, value));
        }
    }
}

/// Reads the topic from its start; gives the number of records and the last of each key.
fn read(client: &mut Client, topic: &str) -> (usize, Last) {
    let (mut last, mut offset, mut count) = (Last::new(), 0, 0);
    loop {
        let (error, high_watermark, bytes): (i16, i64, Bytes) = client.fetch(topic, 0, offset, 300_000);
        assert_eq!(error, 0);
        if offset >= high_watermark {
            return (count, last);
        }
        let before = offset;
        for batch in batches(&bytes).map_while(Result::ok) {
            batch.verify_crc().unwrap();
            for record in batch.records(1 << 30).unwrap().map(Result::unwrap) {
                if record.offset < before {
                    continue;
                }
                count += 1;
                let key = std::str::from_utf8(record.key.as_ref().unwrap()).unwrap().to_owned();
                let key = key.trim_start_matches("key-").parse().unwrap();
                last.insert(key, (record.offset, record.value.map(|value| value.to_vec())));
            }
            offset = batch.header.last_offset() + 1;
        }
        assert!(offset > before, "the fetch at {before} brings nothing, below {high_watermark}");
    }
}

fn wait_for(broker: &Broker, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} does not happen:\n{}", broker.log_text());
        std::thread::yield_now();
    }
}

fn checkpoint(folder: &Path) -> String {
    fs::read_to_string(folder.join("cleaner-offset-checkpoint")).unwrap_or_default()
}

#[test]
fn the_last_value_of_each_key_stays() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let broker = Broker::start(&data, &OVERRIDES);
    let mut client = broker.connect();
    client.create_topic("compacted", 1, &CONFIGS);
    client.create_topic("plain", 1, &[]);
    let (mut last, mut plain) = (Last::new(), Last::new());
    write(&mut client, "plain", 60, &mut plain);
    std::thread::scope(|scope| {
        // Somebody reads from the start all the time.
        let mut reader = broker.connect();
        let reading = scope.spawn(move || {
            for _ in 0..10 {
                read(&mut reader, "compacted");
            }
        });
        write(&mut client, "compacted", 300, &mut last);
        reading.join().unwrap();
    });
    let size = "raftsman_topic_log_size_bytes{topic=\"compacted\"}";
    // What is left: at most one of each key below the active segment, and that segment.
    wait_for(&broker, "compaction", || broker.metric(size) < (KEYS * 4200 + 1_200_000) as f64);
    let (count, found) = read(&mut client, "compacted");
    assert!(count < 1000, "{count} of 3000 records are left");
    assert!(found == last, "another last record");
    assert_eq!(read(&mut client, "plain").0, 600);
    assert!(broker.metric("raftsman_log_cleaner_records_dropped_total") > 1000.0);
    assert!(checkpoint(&data).contains("compacted 0 "));
    broker.kill();

    let broker = Broker::start(&data, &OVERRIDES);
    let mut client = broker.connect();
    assert!(read(&mut client, "compacted").1 == last, "another last record after a kill");
    write(&mut client, "compacted", 100, &mut last);
    wait_for(&broker, "another compaction", || broker.metric("raftsman_log_cleaner_runs_total") > 0.0);
    assert!(read(&mut client, "compacted").1 == last);

    // Without the policy nothing is compacted, and nothing is known of it.
    let config = AlterableConfig::default()
        .with_name(StrBytes::from_static_str("cleanup.policy"))
        .with_value(Some(StrBytes::from_static_str("delete")));
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(StrBytes::from_static_str("compacted"))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    assert_eq!(client.call(&request, 1).unwrap().responses[0].error_code, 0);
    wait_for(&broker, "forgetting", || !checkpoint(&data).contains("compacted"));
    broker.stop();
}

#[test]
fn a_damaged_log_is_left_alone_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let broker = Broker::start(&data, &["log.cleaner.enable=false", OVERRIDES[0]]);
    let mut client = broker.connect();
    let [mut damaged, mut sound] = [Last::new(), Last::new()];
    client.create_topic("damaged", 1, &CONFIGS);
    client.create_topic("sound", 1, &CONFIGS);
    write(&mut client, "damaged", 80, &mut damaged);
    write(&mut client, "sound", 80, &mut sound);
    broker.stop();
    let path = data.join("damaged-0/00000000000000000000.log");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();

    let broker = Broker::start(&data, &OVERRIDES);
    wait_for(&broker, "compaction of the other", || {
        broker.metric("raftsman_log_cleaner_uncleanable_partitions") == 1.0
            && broker.metric("raftsman_log_cleaner_runs_total") == 1.0
    });
    assert_eq!(broker.log_text().matches("the log cannot be compacted").count(), 1, "{}", broker.log_text());
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert!(read(&mut broker.connect(), "sound").1 == sound);
    broker.stop();
}
