//! What clients of a running broker see: order, limits, waiting, zero copy, metrics.

#![allow(clippy::unwrap_used)] // A test that unwraps says what failed.

mod support;

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use kafka_protocol::messages::*;
use support::{Broker, batch, fetch_request, http_get, produce_request};

#[test]
fn requests_of_one_connection_are_answered_in_order_and_appended_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &[]);
    let mut client = broker.connect();
    // Each append waits for a sync of its own; the next one is taken meanwhile.
    client.create_topic("synced", 1, &[("flush.messages", "1")]);
    let mut frames = Vec::new();
    for number in 0..50 {
        let request = produce_request("synced", 0, -1, batch(&[format!("{number}").as_bytes()], None));
        frames.extend_from_slice(&client.frame(&request, 9));
    }
    frames.extend_from_slice(&client.frame(&fetch_request("synced", 0, 0, 1_000_000, 0), 12));
    client.stream.write_all(&frames).unwrap();
    for number in 0..50 {
        let response = client.receive::<ProduceRequest>(9).unwrap();
        assert_eq!(response.responses[0].partition_responses[0].base_offset, number);
    }
    // The fetch came after all of them, and sees all of them.
    let response = client.receive::<FetchRequest>(12).unwrap();
    assert_eq!(response.responses[0].partitions[0].high_watermark, 50);
    let values: Vec<_> = client.read_all("synced", 0).into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, (0..50).map(|number| number.to_string()).collect::<Vec<_>>());
    broker.stop();
}

#[test]
fn requests_of_all_sizes_arrive_whole_however_they_are_cut_and_short_memory_is() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &["queued.max.request.bytes=200000"]);
    let (sizes, cuts) = (
        [1, 10, 16_000, 16_384, 40_000, 65_000, 65_536, 66_000, 70_000, 200_000, 900_000, 1, 15_000, 10],
        [3, 1, 4, 1_000, 300_000, 16_384, 65_535, 65_536, 7, 65_540],
    );
    broker.connect().create_topic("sizes", 3, &[]);
    // Three at a time, which together want more memory than there is.
    std::thread::scope(|scope| {
        for partition in 0..3 {
            let broker = &broker;
            scope.spawn(move || {
                let mut client = broker.connect();
                let values: Vec<Vec<u8>> = sizes.iter().map(|size| vec![*size as u8; *size]).collect();
                let mut frames = Vec::new();
                for value in &values {
                    let request = produce_request("sizes", partition, 1, batch(&[value], None));
                    frames.extend_from_slice(&client.frame(&request, 9));
                }
                let mut rest = frames.as_slice();
                for cut in cuts.iter().cycle().skip(partition as usize) {
                    let (piece, left) = rest.split_at(rest.len().min(*cut));
                    client.stream.write_all(piece).unwrap();
                    rest = left;
                    if rest.is_empty() {
                        break;
                    }
                }
                for number in 0..sizes.len() {
                    let response = client.receive::<ProduceRequest>(9).unwrap();
                    let told = &response.responses[0].partition_responses[0];
                    assert_eq!((told.error_code, told.base_offset), (0, number as i64));
                }
                let read = client.read_all("sizes", partition).into_iter().map(|(_, value)| value.to_vec());
                assert!(read.collect::<Vec<_>>() == values);
            });
        }
    });
    broker.stop();
}

#[test]
fn large_fetches_leave_by_sendfile_and_limits_in_bytes_hold() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &["log.segment.bytes=20000000"]);
    let mut client = broker.connect();
    client.create_topic("large", 1, &[]);
    let value = vec![b'v'; 900_000];
    for _ in 0..40 {
        assert_eq!(client.produce("large", 0, 1, batch(&[&value], None)).unwrap().0, 0);
    }
    let records = client.read_all("large", 0);
    assert!(records.len() == 40 && records.iter().all(|(_, read)| read == &value));
    let by_sendfile = broker.metric("raftsman_log_sent_bytes_total{path=\"sendfile\"}");
    assert!(by_sendfile > 36_000_000.0, "{by_sendfile} bytes went through sendfile");
    // The first batch comes whole whatever the limit says; beyond it the limit holds, and may cut.
    let (_, _, bytes) = client.fetch("large", 0, 3, 1000);
    assert!((900_000..901_000).contains(&bytes.len()), "{}", bytes.len());
    let (_, _, bytes) = client.fetch("large", 0, 3, 2_000_000);
    assert_eq!(bytes.len(), 2_000_000);
    // Offsets outside of the log are refused.
    assert_eq!(client.fetch("large", 0, 41, 1000).0, 1);
    assert_eq!(client.fetch("large", 0, -5, 1000).0, 1);
    assert_eq!(client.fetch("large", 1, 0, 1000).0, 3);
    broker.stop();
}

#[test]
fn a_fetch_waits_for_its_bytes_and_an_append_wakes_it() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &[]);
    let mut writer = broker.connect();
    writer.create_topic("tail", 2, &[]);
    let mut reader = broker.connect();
    // A minute is far longer than the append takes; the test would fail on the socket's timeout.
    let request = fetch_request("tail", 0, 0, 1_000_000, 50_000).with_min_bytes(200);
    reader.send(&request, 12).unwrap();
    let before = Instant::now();
    writer.produce("tail", 0, 1, batch(&[&[b'a'; 60]], None)).unwrap();
    writer.produce("tail", 1, 1, batch(&[&[b'a'; 600]], None)).unwrap();
    writer.produce("tail", 0, 1, batch(&[&[b'b'; 60]], None)).unwrap();
    let response = reader.receive::<FetchRequest>(12).unwrap();
    assert_eq!(response.responses[0].partitions[0].high_watermark, 2);
    assert!(before.elapsed() < Duration::from_secs(45));
    // With nothing to come, it answers when its time is over.
    let response = reader.call(&fetch_request("tail", 0, 2, 1_000_000, 50), 12).unwrap();
    assert_eq!(response.responses[0].partitions[0].records.as_deref(), Some(&[][..]));
    broker.stop();
}

#[test]
fn deleting_a_topic_frees_the_disk_and_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &["log.segment.delete.delay.ms=0"]);
    let mut client = broker.connect();
    client.create_topic("gone", 3, &[]);
    client.produce("gone", 2, -1, batch(&[&vec![b'x'; 500_000]], None)).unwrap();
    let request = DeleteTopicsRequest::default()
        .with_topic_names(vec![support::topic_name("gone")])
        .with_timeout_ms(1000);
    let response = client.call(&request, 5).unwrap();
    assert_eq!(response.responses[0].error_code, 0);
    assert_eq!(client.produce("gone", 2, -1, batch(&[b"x"], None)).unwrap().0, 3);
    let deadline = Instant::now() + support::PATIENCE;
    while std::fs::read_dir(folder.path())
        .unwrap()
        .any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("gone-"))
    {
        assert!(Instant::now() < deadline, "the folders stay");
        std::thread::yield_now();
    }
    client.create_topic("gone", 1, &[]);
    assert_eq!(client.produce("gone", 0, -1, batch(&[b"x"], None)).unwrap(), (0, 0));
    broker.stop();
}

#[test]
fn health_and_metrics_answer() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &[]);
    broker.connect().create_topic("counted", 3, &[]);
    assert_eq!(http_get(broker.admin, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(http_get(broker.admin, "/readyz").0, 200);
    assert_eq!(http_get(broker.admin, "/nothing").0, 404);
    assert_eq!(broker.metric("raftsman_partitions"), 3.0);
    assert_eq!(broker.metric("raftsman_requests_total{api=\"CreateTopics\"}"), 1.0);
    broker.stop();
}

#[test]
fn an_idle_partition_costs_no_file_and_little_disk() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &[]);
    let before = open_files(&broker);
    broker.connect().create_topic("many", 500, &[]);
    assert!(open_files(&broker) < before + 10, "{} open files, {before} before", open_files(&broker));
    let mut disk_bytes = 0;
    for entry in std::fs::read_dir(folder.path().join("many-7")).unwrap() {
        disk_bytes += entry.unwrap().metadata().unwrap().blocks() * 512;
    }
    assert!(disk_bytes <= 16 * 1024, "an empty partition takes {disk_bytes} bytes");
    broker.stop();
}

fn open_files(broker: &Broker) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", broker.pid())).unwrap().count()
}

#[test]
fn two_brokers_do_not_share_a_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &[]);
    let data = format!("log.dirs={}", folder.path().display());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_raftsman"))
        .args(["server", "--override", &data, "--override", "listeners=PLAINTEXT://127.0.0.1:0"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("another broker"), "{text}");
    broker.stop();
}

#[test]
fn a_stop_under_load_is_in_order_and_quick_to_start_after() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &[]);
    broker.connect().create_topic("busy", 1, &[]);
    let acknowledged: Vec<_> = (0..3)
        .map(|_| {
            let mut client = broker.connect();
            std::thread::spawn(move || {
                let mut last = -1;
                while let Ok((0, offset)) = client.produce("busy", 0, -1, batch(&[b"v"], None)) {
                    last = offset;
                }
                last
            })
        })
        .collect();
    // A fetch that would wait for a minute.
    let mut waiting = broker.connect();
    waiting.send(&fetch_request("busy", 0, 0, 1000, 60_000).with_min_bytes(1_000_000_000), 12).unwrap();
    while broker.connect().fetch("busy", 0, 0, 1000).1 < 100 {
        std::thread::yield_now();
    }
    broker.stop();
    let last = acknowledged.into_iter().map(|writer| writer.join().unwrap()).max().unwrap();
    assert!(folder.path().join(".kafka_cleanshutdown").exists());

    let broker = Broker::start(folder.path(), &[]);
    assert!(!folder.path().join(".kafka_cleanshutdown").exists());
    assert!(!broker.log_text().contains("torn"), "{}", broker.log_text());
    assert!(broker.connect().fetch("busy", 0, last, 1000).1 > last);
    broker.stop();
}

#[test]
fn connections_are_limited_and_idle_ones_closed() {
    let folder = tempfile::tempdir().unwrap();
    let limits = ["max.connections=3", "connections.max.idle.ms=400"];
    let broker = Broker::start(folder.path(), &limits);
    let mut all: Vec<_> = (0..3).map(|_| broker.connect()).collect();
    for client in &mut all {
        client.call(&ApiVersionsRequest::default(), 0).unwrap();
    }
    // The fourth waits in the kernel's queue until another goes: here, because it is idle.
    let mut fourth = broker.connect();
    fourth.call(&ApiVersionsRequest::default(), 0).unwrap();
    let deadline = Instant::now() + support::PATIENCE;
    while broker.metric("raftsman_connections_refused_total{reason=\"idle\"}") < 3.0 {
        assert!(Instant::now() < deadline, "idle connections stay");
        std::thread::yield_now();
    }
    assert!(all[0].call(&ApiVersionsRequest::default(), 0).is_err());
    broker.stop();

    let broker = Broker::start(folder.path(), &["max.connections.per.ip=2"]);
    let mut first = broker.connect();
    first.call(&ApiVersionsRequest::default(), 0).unwrap();
    let mut second = broker.connect();
    second.call(&ApiVersionsRequest::default(), 0).unwrap();
    assert!(broker.connect().call(&ApiVersionsRequest::default(), 0).is_err());
    first.call(&ApiVersionsRequest::default(), 0).unwrap();
    broker.stop();
}

#[test]
fn the_binary_is_kafka_s_script_under_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &[]);
    let run = |script: &str, arguments: &[&str]| {
        let path = folder.path().join(script);
        if !path.exists() {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_raftsman"), &path).unwrap();
        }
        let address = broker.address.to_string();
        std::process::Command::new(path)
            .args(["--bootstrap-server", &address])
            .args(arguments)
            .output()
            .unwrap()
    };
    let created = run("kafka-topics.sh", &["--create", "--topic", "named", "--partitions", "2"]);
    assert_eq!(String::from_utf8_lossy(&created.stdout), "Created topic named.\n");
    let again = run("kafka-topics.sh", &["--create", "--topic", "named"]);
    assert_eq!(again.status.code(), Some(1));
    let offsets = run("kafka-get-offsets", &["--topic", "named"]);
    assert_eq!(String::from_utf8_lossy(&offsets.stdout), "named:0:0\nnamed:1:0\n");
    assert_eq!(run("kafka-topics", &["--nonsense"]).status.code(), Some(2));
    // The whole data folder passes the check, metadata and all.
    broker.connect().produce("named", 0, 1, batch(&[b"v"], None)).unwrap();
    let data = folder.path().to_str().unwrap();
    let checked = std::process::Command::new(env!("CARGO_BIN_EXE_raftsman"))
        .args(["dump-log", "--verify", "--files", data])
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    broker.stop();
}
