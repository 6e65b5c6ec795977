//! A broker on a folder that is not its own, or not whole any more: it says so before it writes, and acknowledged data
//! is never replaced by nothing.

#![allow(clippy::unwrap_used)] // A test that unwraps says what failed.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use support::{Broker, PATIENCE, batch};

/// Content of all files below, and the names of folders.
fn content(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(content(&path));
            found.insert(path, None);
        } else {
            found.insert(path.clone(), Some(fs::read(path).unwrap()));
        }
    }
    found
}

/// What a broker says that does not start on the folder.
fn refusal(folder: &Path, more: &[&str]) -> String {
    let data = format!("log.dirs={}", folder.display());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_raftsman"));
    command.args(["server", "--override", "listeners=PLAINTEXT://127.0.0.1:0", "--override", &data]);
    command.args(["--override", "raftsman.admin.listener="]).args(more);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stderr).unwrap();
    said.lines().last().unwrap_or_default().to_owned()
}

fn start_accepting(folder: &Path) -> Broker {
    let data = format!("log.dirs={}", folder.display());
    let ports = ["listeners=PLAINTEXT://127.0.0.1:0", "raftsman.admin.listener=127.0.0.1:0", &data];
    let mut arguments: Vec<&str> = ports.iter().flat_map(|value| ["--override", *value]).collect();
    arguments.push("--accept-missing-data");
    Broker::run(folder, &arguments)
}

/// A folder with three records in t-0, its broker stopped in order.
fn written() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &[]);
    let mut client = broker.connect();
    client.create_topic("t", 2, &[]);
    client.produce("t", 0, -1, batch(&[b"a", b"b", b"c"], None)).unwrap();
    drop(client);
    broker.stop();
    folder
}

fn values(broker: &Broker) -> Vec<String> {
    let records = broker.connect().read_all("t", 0);
    records.into_iter().map(|(_, value)| String::from_utf8_lossy(&value).into_owned()).collect()
}

fn ending(folder: &Path, ending: &str) -> usize {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(ending)).count()
}

#[test]
fn a_folder_of_apache_kafka_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("__cluster_metadata-0")).unwrap();
    fs::create_dir_all(folder.path().join("orders-0")).unwrap();
    fs::write(folder.path().join("orders-0/00000000000000000000.log"), b"records").unwrap();
    let meta = "#\nversion=1\ncluster.id=abc\nnode.id=1\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAQ\n";
    fs::write(folder.path().join("meta.properties"), meta).unwrap();
    fs::write(folder.path().join("recovery-point-offset-checkpoint"), "0\n1\norders 0 7\n").unwrap();
    let before = content(folder.path());
    for more in [&["--override", "node.id=1"] as &[&str], &["--accept-missing-data"]] {
        let said = refusal(folder.path(), more);
        assert!(said.contains("is Apache Kafka's") && said.contains("log.dirs"), "{said}");
        assert_eq!(content(folder.path()), before);
    }
}

#[test]
fn partitions_without_their_metadata_are_refused_and_set_aside_only_when_told() {
    for is_emptied in [false, true] {
        let folder = written();
        let metadata = folder.path().join("__cluster_metadata");
        if is_emptied {
            fs::read_dir(&metadata)
                .unwrap()
                .for_each(|entry| fs::remove_file(entry.unwrap().path()).unwrap());
        } else {
            fs::remove_dir_all(&metadata).unwrap();
        }
        let before = content(folder.path());
        let said = refusal(folder.path(), &[]);
        assert!(said.contains("2 partitions (t-0, t-1)") && said.contains("metadata"), "{said}");
        assert_eq!(content(folder.path()), before);
        start_accepting(folder.path()).stop();
        assert_eq!(ending(folder.path(), "-stray"), 2);
        // Told once, it need not be told again.
        Broker::start(folder.path(), &[]).stop();
    }
}

#[test]
fn a_metadata_log_that_is_missing_empty_or_cut_is_told_at_once() {
    let journal = |folder: &Path| {
        let entries =
            fs::read_dir(folder.join("__cluster_metadata")).unwrap().map(|entry| entry.unwrap().path());
        entries.max_by_key(|path| path.extension().is_some_and(|kind| kind == "journal")).unwrap()
    };
    let started = Instant::now();
    for damage in ["missing", "empty", "cut"] {
        let folder = written();
        let path = journal(folder.path());
        assert!(path.extension().is_some_and(|kind| kind == "journal"));
        match damage {
            "missing" => fs::remove_file(&path).unwrap(),
            "empty" => fs::write(&path, b"").unwrap(),
            _ => {
                // The topic's entries, with all witnesses of theirs that stand in the same file.
                let content = fs::read(&path).unwrap();
                let at = content.windows(3).position(|bytes| bytes == b"\"t\"").unwrap();
                fs::write(&path, &content[..at]).unwrap();
            }
        }
        let said = refusal(folder.path(), &[]);
        assert!(said.contains("metadata log"), "{damage}: {said}");
        assert!(!said.contains("never acknowledged"), "{damage}: {said}");
        assert_eq!(refusal(folder.path(), &[]), said, "{damage}");
        assert!(folder.path().join("t-0").exists());
    }
    assert!(started.elapsed() < PATIENCE);
}

#[test]
fn another_data_folder_in_the_place_of_this_ones_is_refused() {
    let (data, metadata) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let elsewhere = format!("metadata.log.dir={}", metadata.path().display());
    let broker = Broker::start(data.path(), &[&elsewhere]);
    broker.connect().create_topic("t", 1, &[]);
    broker.connect().produce("t", 0, -1, batch(&[b"a"], None)).unwrap();
    broker.stop();
    let empty = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let said = refusal(empty.path(), &["--override", &elsewhere]);
        assert!(said.contains("directory.id") && said.contains("1 partitions"), "{said}");
    }
    let broker = Broker::start(data.path(), &[&elsewhere]);
    assert_eq!(values(&broker), ["a"]);
}

#[test]
fn a_partition_whose_small_file_is_gone_keeps_its_records() {
    for content in [None, Some(&b""[..]), Some(b"version: 0\ntopic_id: ???\n")] {
        let folder = written();
        let file = folder.path().join("t-0/partition.metadata");
        let original = fs::read(&file).unwrap();
        match content {
            None => fs::remove_file(&file).unwrap(),
            Some(content) => fs::write(&file, content).unwrap(),
        }
        let broker = Broker::start(folder.path(), &[]);
        assert_eq!(values(&broker), ["a", "b", "c"]);
        assert!(broker.log_text().contains("partition.metadata is missing or cannot be read"));
        broker.stop();
        assert_eq!((fs::read(&file).unwrap(), ending(folder.path(), "-stray")), (original, 0));
    }
}

#[test]
fn a_folder_that_the_broker_did_not_make_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = ["old-backup-delete", "t-0-delete", "t-0.0123-delete", "t-0.stray", "lost+found"];
    for name in foreign {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("notes.txt"), "precious").unwrap();
    }
    let deleted = folder.path().join(format!("t-0.{}-delete", "0123456789abcdef".repeat(2)));
    fs::create_dir(&deleted).unwrap();
    let broker = Broker::start(folder.path(), &[]);
    let deadline = Instant::now() + PATIENCE;
    while deleted.exists() {
        assert!(Instant::now() < deadline, "what a deletion left is not removed");
        std::thread::yield_now();
    }
    let named =
        |broker: &Broker| broker.log_text().contains("-delete\" ") || broker.log_text().contains("-delete");
    while !named(&broker) {
        assert!(Instant::now() < deadline, "what is removed is not named:\n{}", broker.log_text());
        std::thread::yield_now();
    }
    broker.stop();
    for name in foreign {
        assert_eq!(fs::read_to_string(folder.path().join(name).join("notes.txt")).unwrap(), "precious");
    }
}

#[test]
fn a_partition_behind_a_symbolic_link_is_found_counted_and_deleted() {
    let (folder, other_disk) = (written(), tempfile::tempdir().unwrap());
    let (place, moved) = (folder.path().join("t-0"), other_disk.path().join("moved"));
    let move_it = || {
        fs::create_dir(&moved).unwrap();
        for entry in fs::read_dir(&place).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), moved.join(entry.file_name())).unwrap();
        }
        fs::remove_dir_all(&place).unwrap();
        symlink(&moved, &place).unwrap();
    };
    move_it();
    let broker = Broker::start(folder.path(), &[]);
    let mut client = broker.connect();
    assert_eq!(values(&broker), ["a", "b", "c"]);
    let delete =
        kafka_protocol::messages::DeleteRecordsRequest::default().with_timeout_ms(10_000).with_topics(vec![
            kafka_protocol::messages::delete_records_request::DeleteRecordsTopic::default()
                .with_name(support::topic_name("t"))
                .with_partitions(vec![
                    kafka_protocol::messages::delete_records_request::DeleteRecordsPartition::default()
                        .with_offset(2),
                ]),
        ]);
    assert_eq!(client.call(&delete, 2).unwrap().topics[0].partitions[0].error_code, 0);
    drop(client);
    broker.stop();
    // What was deleted stays so: the log's start is remembered at every start.
    let broker = Broker::start(folder.path(), &[]);
    assert_eq!(broker.connect().fetch("t", 0, 0, 1000).0, 1);
    assert!(place.symlink_metadata().unwrap().is_symlink());
    let topic = kafka_protocol::messages::DeleteTopicsRequest::default()
        .with_topic_names(vec![support::topic_name("t")])
        .with_timeout_ms(10_000);
    assert_eq!(broker.connect().call(&topic, 5).unwrap().responses[0].error_code, 0);
    broker.stop();
    let broker = Broker::start(folder.path(), &[]);
    let deadline = Instant::now() + PATIENCE;
    while moved.exists() || ending(folder.path(), "-delete") > 0 {
        assert!(Instant::now() < deadline, "the deleted partition is still there:\n{}", broker.log_text());
        std::thread::yield_now();
    }
    assert!(other_disk.path().exists());
}

#[test]
fn a_partition_whose_folder_is_gone_is_offline_until_it_is_back_or_given_up() {
    const KAFKA_STORAGE_ERROR: i16 = 56;
    let folder = written();
    let (place, away) = (folder.path().join("t-0"), tempfile::tempdir().unwrap());
    fs::rename(&place, away.path().join("t-0")).unwrap();
    let broker = Broker::start(folder.path(), &[]);
    let mut client = broker.connect();
    assert_eq!(client.fetch("t", 0, 0, 1000).0, KAFKA_STORAGE_ERROR);
    assert_eq!(client.produce("t", 0, -1, batch(&[b"x"], None)).unwrap().0, KAFKA_STORAGE_ERROR);
    assert_eq!(client.produce("t", 1, -1, batch(&[b"x"], None)).unwrap().0, 0);
    assert!(broker.log_text().contains("t-0 is missing, though it held records up to offset 3"));
    drop(client);
    broker.stop();
    // It is missed at every start, also after a kill; and taken when it is back.
    let broker = Broker::start(folder.path(), &[]);
    assert_eq!(broker.connect().fetch("t", 0, 0, 1000).0, KAFKA_STORAGE_ERROR);
    fs::rename(away.path().join("t-0"), &place).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while broker.connect().fetch("t", 0, 0, 1000).0 == KAFKA_STORAGE_ERROR {
        assert!(Instant::now() < deadline, "the partition stays offline:\n{}", broker.log_text());
        std::thread::yield_now();
    }
    assert_eq!(values(&broker), ["a", "b", "c"]);
    broker.kill();

    fs::remove_dir_all(&place).unwrap();
    let broker = start_accepting(folder.path());
    assert_eq!(broker.connect().produce("t", 0, -1, batch(&[b"d"], None)).unwrap(), (0, 0));
    broker.stop();
    assert_eq!(values(&Broker::start(folder.path(), &[])), ["d"]);
}

/// What Produce, Fetch by name and by id, ListOffsets, DeleteRecords and OffsetForLeaderEpoch say of a partition.
fn answers(client: &mut support::Client, partition: i32) -> [i16; 6] {
    use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    use kafka_protocol::messages::offset_for_leader_epoch_request::{
        OffsetForLeaderPartition, OffsetForLeaderTopic,
    };
    use kafka_protocol::messages::{
        BrokerId, DeleteRecordsRequest, FetchRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest,
    };
    let name = support::topic_name("t");
    let produced = client.produce("t", partition, -1, batch(&[b"x"], None)).unwrap().0;
    let fetched = client.fetch("t", partition, 0, 1000).0;
    let id = client.metadata(&["t"]).topics[0].topic_id;
    let wanted = FetchPartition::default().with_partition(partition).with_partition_max_bytes(1000);
    let by_id = FetchRequest::default()
        .with_max_bytes(1000)
        .with_topics(vec![FetchTopic::default().with_topic_id(id).with_partitions(vec![wanted])]);
    let by_id = client.call(&by_id, 16).unwrap().responses[0].partitions[0].error_code;
    let latest = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(-1);
    let list = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![ListOffsetsTopic::default().with_name(name.clone()).with_partitions(vec![latest])]);
    let listed = client.call(&list, 7).unwrap().topics[0].partitions[0].error_code;
    let none = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(0);
    let delete = DeleteRecordsRequest::default()
        .with_timeout_ms(10_000)
        .with_topics(vec![DeleteRecordsTopic::default().with_name(name.clone()).with_partitions(vec![none])]);
    let deleted = client.call(&delete, 2).unwrap().topics[0].partitions[0].error_code;
    let epoch = OffsetForLeaderPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(-1)
        .with_leader_epoch(0);
    let epochs = OffsetForLeaderEpochRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![OffsetForLeaderTopic::default().with_topic(name).with_partitions(vec![epoch])]);
    let ends = client.call(&epochs, 4).unwrap().topics[0].partitions[0].error_code;
    [produced, fetched, by_id, listed, deleted, ends]
}

/// One record on its way to a partition.
fn producing(broker: &Broker) -> std::process::Child {
    let mut produce = std::process::Command::new(env!("CARGO_BIN_EXE_raftsman"));
    produce.args(["produce", "--bootstrap-server", &broker.address.to_string(), "--topic", "t"]);
    produce.args(["--partition", "0"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut producer = produce.spawn().unwrap();
    producer.stdin.take().unwrap().write_all(b"d\n").unwrap();
    producer
}

#[test]
fn a_partition_that_lost_records_is_offline_until_they_are_back_or_given_up() {
    const KAFKA_STORAGE_ERROR: i16 = 56;
    let folder = written();
    let path = folder.path().join("t-0/00000000000000000000.log");
    let content = fs::read(&path).unwrap();
    for damage in ["missing", "cut"] {
        match damage {
            "missing" => fs::remove_file(&path).unwrap(),
            _ => fs::write(&path, &content[..content.len() / 2]).unwrap(),
        }
        let broker = Broker::start(folder.path(), &[]);
        let mut client = broker.connect();
        assert_eq!(answers(&mut client, 0), [KAFKA_STORAGE_ERROR; 6]);
        assert_eq!(answers(&mut client, 1), [0; 6]);
        let mut consume = std::process::Command::new(env!("CARGO_BIN_EXE_raftsman"));
        consume.args(["consume", "--bootstrap-server", &broker.address.to_string(), "--topic", "t"]);
        let consumed = consume.args(["--from-beginning", "--timeout-ms", "500"]).output().unwrap();
        let said = String::from_utf8_lossy(&consumed.stderr);
        assert!(consumed.status.code() == Some(1) && said.contains("t-0 has no leader"), "{said}");
        let told = "records are missing, offsets 0 to 2: the log ends at 0, and was synced up to 3";
        assert!(broker.log_text().contains(told), "{}", broker.log_text());
        drop(client);
        broker.stop();
        // At every start, and it is taken when it is back.
        let broker = Broker::start(folder.path(), &[]);
        assert_eq!(broker.connect().fetch("t", 0, 0, 1000).0, KAFKA_STORAGE_ERROR);
        // Who writes to it is told why that takes so long, and goes on then.
        let mut producer = (damage == "cut").then(|| producing(&broker));
        if let Some(producer) = &mut producer {
            let mut said = String::new();
            BufReader::new(producer.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
            let told = said.starts_with("warning: t-0 has no leader") && said.contains("trying for another");
            assert!(told, "{said}");
        }
        fs::write(&path, &content).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while broker.connect().fetch("t", 0, 0, 1000).0 == KAFKA_STORAGE_ERROR {
            assert!(Instant::now() < deadline, "the partition stays offline:\n{}", broker.log_text());
            std::thread::yield_now();
        }
        let mut expected = vec!["a", "b", "c"];
        if let Some(mut producer) = producer {
            assert!(producer.wait().unwrap().success());
            expected.push("d");
        }
        assert_eq!(values(&broker), expected);
        broker.stop();
    }
    fs::remove_file(&path).unwrap();
    let broker = start_accepting(folder.path());
    assert_eq!(broker.connect().produce("t", 0, -1, batch(&[b"d"], None)).unwrap(), (0, 0));
    broker.kill();
    assert_eq!(values(&Broker::start(folder.path(), &[])), ["d"]);
}

#[test]
fn a_topic_that_was_deleted_is_not_missed() {
    let folder = written();
    fs::rename(folder.path().join("t-0"), folder.path().join("somewhere")).unwrap();
    let broker = Broker::start(folder.path(), &[]);
    let topic = kafka_protocol::messages::DeleteTopicsRequest::default()
        .with_topic_names(vec![support::topic_name("t")])
        .with_timeout_ms(10_000);
    let mut client = broker.connect();
    assert_eq!(client.call(&topic, 5).unwrap().responses[0].error_code, 0);
    client.create_topic("t", 1, &[]);
    assert_eq!(client.produce("t", 0, -1, batch(&[b"new"], None)).unwrap(), (0, 0));
    broker.kill();
    let noted = fs::read_to_string(folder.path().join("replication-offset-checkpoint")).unwrap();
    assert!(!noted.contains("t 0 3"), "{noted}");
    assert_eq!(values(&Broker::start(folder.path(), &[])), ["new"]);
}
