//! A data folder that Apache Kafka 4.3.0 wrote (`tests/fixtures/kafka-4.3.0`) is opened, read and continued.

#![allow(clippy::unwrap_used)] // A test that unwraps says what failed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use raftsman::env::real;
use raftsman::protocol::batch::{BatchHeader, batches};
use raftsman::protocol::builder::{BatchBuilder, BatchOptions};
use raftsman::protocol::records::RecordView;
use raftsman::segment::{
    Append, AppendError, AppendRequest, Appended, DataDir, DataDirOptions, Log, OpenedLog, Origin,
};
use raftsman::types::{LeaderEpoch, NodeId, Offset};

const LOG_END: i64 = 70;
const PRODUCERS: usize = 7;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kafka-4.3.0")
}

/// A copy of the folder, as Kafka left it when it was stopped.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("fixture-0")).unwrap();
    for name in ["", "fixture-0"] {
        for entry in fs::read_dir(fixture().join(name)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                let to = folder.path().join(name).join(entry.file_name());
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    folder
}

/// The files of the partition, by name.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder.join("fixture-0")).unwrap().map(Result::unwrap);
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
    entries.map(|entry| (name(&entry), fs::read(entry.path()).unwrap())).collect()
}

fn logs_of(content: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let logs = content.iter().filter(|(name, _)| name.ends_with(".log"));
    logs.flat_map(|(_, bytes)| bytes.iter().copied()).collect()
}

fn open(folder: &Path) -> (DataDir, OpenedLog) {
    let options = DataDirOptions {
        dir: folder.to_owned(),
        node_id: NodeId(1),
        cluster_id: "uc17HCtySSmZz7sxkyzo_Q".to_owned(),
        recovery_threads: 1,
        open_files_max: 64,
        // The producers wrote long ago.
        accepts_missing_data: false,
    };
    let (data, mut opened) = DataDir::open(&real::surroundings(), options).unwrap();
    assert_eq!(opened.len(), 1);
    (data, opened.remove(0))
}

fn read(log: &Log, from: i64, bytes_max: usize) -> Vec<u8> {
    let (mut content, mut next) = (Vec::new(), from);
    loop {
        let slice = log.read(Offset(next), bytes_max, log.log_end_offset(), true).unwrap();
        if slice.len == 0 {
            return content;
        }
        let mut bytes = vec![0; slice.len];
        assert_eq!(slice.file.read_at(&mut bytes, slice.position).unwrap(), slice.len);
        for batch in batches(&bytes).map_while(Result::ok) {
            content.extend_from_slice(batch.bytes);
            next = batch.header.next_offset();
        }
    }
}

fn hex(bytes: Option<&[u8]>) -> String {
    let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    bytes.map_or("-".to_owned(), |bytes| format!("x{}", digits(bytes)))
}

/// As a line of `records.tsv`.
fn line(record: &RecordView) -> String {
    let header = |key: &[u8], value| format!("{}={}", hex(Some(key)), hex(value));
    let headers: Vec<_> = record.headers.iter().map(|h| header(&h.key, h.value.as_deref())).collect();
    let (key, value) = (hex(record.key.as_deref()), hex(record.value.as_deref()));
    format!("{}\t{}\t{key}\t{value}\t{}", record.offset, record.timestamp, headers.join(","))
}

/// Everything that Kafka's own consumer and tools said of the folder holds for the opened log.
fn check(opened: &OpenedLog) {
    let log = &opened.log;
    assert_eq!(opened.name.to_string(), "fixture-0");
    assert_eq!(opened.high_watermark, Offset(LOG_END));
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(0), Offset(LOG_END)));
    assert_eq!(log.segment_count(), 4);
    assert_eq!(log.latest_epoch(), LeaderEpoch(0));
    assert_eq!(log.end_offset_for_epoch(LeaderEpoch(0)), (LeaderEpoch(0), Offset(LOG_END)));

    let listed = fs::read_to_string(fixture().join("records.tsv")).unwrap();
    let expected: Vec<&str> = listed.lines().filter(|line| !line.starts_with('#')).collect();
    for bytes_max in [1, 700, 1 << 20] {
        let (mut lines, mut controls) = (Vec::new(), Vec::new());
        for batch in batches(&read(log, 0, bytes_max)).map(Result::unwrap) {
            batch.verify_crc().unwrap();
            for record in batch.records(1 << 20).unwrap().map(Result::unwrap) {
                if batch.header.is_control() {
                    controls.push((record.offset, record.key.unwrap()));
                } else {
                    lines.push(line(&record));
                }
            }
        }
        assert_eq!(lines, expected);
        // Version 0; type 1: commit, 0: abort.
        let controls: Vec<_> = controls.iter().map(|(offset, key)| (*offset, &key[..])).collect();
        assert_eq!(controls, [(63, &[0, 0, 0, 1][..]), (67, &[0, 0, 0, 0])]);
    }
    for offset in 0..LOG_END {
        let bytes = read(log, offset, 1);
        let first = BatchHeader::parse(&bytes).unwrap();
        assert!((first.base_offset..first.next_offset()).contains(&offset));
    }

    let times: Vec<_> = listed.lines().filter_map(|line| line.strip_prefix("# time ")).collect();
    assert_eq!(times.len(), 10);
    for time in times {
        let (timestamp, answer) = time.split_once(" -> ").unwrap();
        let found = log.offset_for_timestamp(timestamp.parse().unwrap()).unwrap().unwrap();
        assert_eq!(format!("{} {}", found.offset, found.timestamp), answer, "at {timestamp}");
        assert_eq!(found.leader_epoch, LeaderEpoch(0));
    }
    check_producers(log);
}

/// Each producer's last batch of records, from the batches themselves.
fn last_batches(log: &Log) -> BTreeMap<i64, BatchHeader> {
    let content = read(log, 0, 1 << 20);
    let headers = batches(&content).map(|batch| batch.unwrap().header).filter(|header| !header.is_control());
    headers.map(|header| (header.producer_id, header)).collect()
}

fn check_producers(log: &Log) {
    let lasts = last_batches(log);
    let producers = log.producers();
    assert_eq!((lasts.len(), producers.len()), (PRODUCERS, PRODUCERS));
    for producer in &producers {
        let last = &lasts[&producer.producer_id.0];
        if last.is_transactional() {
            // The marker that came after them has the next epoch, and no sequence.
            let found = (producer.producer_epoch, producer.last_sequence);
            assert_eq!(found, (last.producer_epoch + 1, -1));
            continue;
        }
        let found = (producer.producer_epoch, producer.last_sequence, producer.last_timestamp);
        assert_eq!(found, (last.producer_epoch, last.last_sequence(), last.max_timestamp));
    }
    assert!(producers.iter().all(|producer| producer.current_transaction_start.is_none()));
}

fn append(log: &Log, producer: &BatchHeader, sequence: i32, records: i32) -> Result<Appended, AppendError> {
    let mut builder = BatchBuilder::new(BatchOptions {
        producer_id: producer.producer_id,
        producer_epoch: producer.producer_epoch,
        base_sequence: sequence,
        ..BatchOptions::default()
    });
    for _ in 0..records {
        builder.add(1_700_000_100_000, None, Some(b"continued")).unwrap();
    }
    let records: BytesMut = builder.build_mut().unwrap();
    log.lead(LeaderEpoch(0)).expect("no later epoch is known");
    match log.append(AppendRequest { records, epoch: LeaderEpoch(0), origin: Origin::PRODUCER }) {
        Append::Done(result) => result,
        Append::Queued(_) => unreachable!("nobody else appends"),
    }
}

/// Idempotent producers go on where Kafka left them.
fn continue_producers(log: &Log) {
    let mut end = LOG_END;
    let lasts = last_batches(log);
    let idempotent = lasts.values().filter(|last| !last.is_transactional());
    for last in idempotent {
        let again = append(log, last, last.base_sequence, last.records_count).unwrap();
        assert!(again.duplicate);
        assert_eq!(
            (again.first_offset, again.last_offset),
            (Offset(last.base_offset), Offset(last.last_offset()))
        );
        let gap = append(log, last, last.last_sequence() + 2, 1);
        assert!(matches!(gap, Err(AppendError::OutOfOrderSequence { .. })), "{gap:?}");
        let next = append(log, last, last.last_sequence() + 1, 2).unwrap();
        assert!(!next.duplicate);
        assert_eq!(next.first_offset, Offset(end));
        end += 2;
    }
    assert_eq!(log.log_end_offset(), Offset(end));
    assert_eq!(end, LOG_END + 2 * 6);
}

#[test]
fn a_folder_that_kafka_closed_is_read_as_it_is_and_continued() {
    let folder = copy();
    let before = content(folder.path());
    let (data, opened) = open(folder.path());
    assert_eq!(data.cluster_id(), "uc17HCtySSmZz7sxkyzo_Q");
    check(&opened);
    assert_eq!(content(folder.path()), before);
    data.close(vec![(opened.name.clone(), opened.log.log_end_offset())], -1).unwrap();
    drop((data, opened));
    assert_eq!(content(folder.path()), before);

    let (data, opened) = open(folder.path());
    check(&opened);
    continue_producers(&opened.log);
    data.close(vec![(opened.name.clone(), opened.log.log_end_offset())], -1).unwrap();
    // What Kafka wrote stands as it stood; its segments are continued, not rewritten.
    let after = content(folder.path());
    assert!(logs_of(&after).starts_with(&logs_of(&before)));
    for (name, bytes) in before.iter().filter(|(name, _)| !name.starts_with("00000000000000000063.")) {
        if name.ends_with(".log") || name.ends_with("index") || name == "partition.metadata" {
            assert_eq!(after.get(name), Some(bytes), "{name}");
        }
    }
}

#[test]
fn a_folder_that_kafka_left_in_a_crash_is_recovered() {
    // Torn: half a batch at the end, indexes as long as Kafka allocates them, no word of what was synced.
    for torn in [false, true] {
        let folder = copy();
        let before = content(folder.path());
        fs::remove_file(folder.path().join(".kafka_cleanshutdown")).unwrap();
        if torn {
            let partition = folder.path().join("fixture-0");
            fs::remove_file(folder.path().join("recovery-point-offset-checkpoint")).unwrap();
            let name = |ending| format!("00000000000000000063.{ending}");
            let mut log = before[&name("log")].clone();
            log.extend_from_within(..80);
            fs::write(partition.join(name("log")), log).unwrap();
            for ending in ["index", "timeindex"] {
                let mut index = before[&name(ending)].clone();
                index.resize(12 * 8 * 1000, 0);
                fs::write(partition.join(name(ending)), index).unwrap();
            }
            for name in before.keys().filter(|name| name.ends_with(".snapshot")) {
                fs::remove_file(partition.join(name)).unwrap();
            }
        }
        let (data, opened) = open(folder.path());
        check(&opened);
        assert_eq!(logs_of(&content(folder.path())), logs_of(&before));
        continue_producers(&opened.log);
        data.close(vec![(opened.name.clone(), opened.log.log_end_offset())], -1).unwrap();
    }
}
