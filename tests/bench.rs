//! `raftsman bench` against a broker: each workload runs briefly, and what it counts is what is there.

mod support;

use std::process::Command;

use serde_json::Value;
use support::Broker;

struct Bench {
    broker: Broker,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let broker = Broker::start(folder.path(), &["group.initial.rebalance.delay.ms=0"]);
        Self { broker, _folder: folder }
    }

    fn run(&self, arguments: &[&str]) -> Value {
        let (address, pid) = (self.broker.address.to_string(), self.broker.pid().to_string());
        let output = Command::new(env!("CARGO_BIN_EXE_raftsman"))
            .arg("bench")
            .args(arguments)
            .args(["--bootstrap-server", &address, "--broker-pid", &pid, "--json"])
            .output()
            .expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    fn held_records(&self, topic: &str) -> i64 {
        let partitions = self.broker.connect().metadata(&[topic]).topics[0].partitions.len() as i32;
        let mut client = self.broker.connect();
        (0..partitions).map(|partition| client.fetch(topic, partition, 0, 1).1).sum()
    }
}

#[test]
fn what_is_produced_is_held_and_fetched() {
    let bench = Bench::start();
    let large = ["--batch-bytes", "1000000", "--requests", "20", "--connections", "3"];
    let report = bench.run(&[&["produce", "--create-topic", "--partitions", "4"], &large[..]].concat());
    let records = report["records"].as_i64().expect("a number");
    assert_eq!(report["requests"], 20);
    assert_eq!(records, 20 * report["batch_records"].as_i64().expect("a number"));
    assert_eq!(report["bytes"], 20 * report["batch_bytes"].as_i64().expect("a number"));
    assert_eq!(bench.held_records("raftsman-bench"), records);
    assert!(report["broker"]["resident_peak_bytes"].as_i64() > Some(1_000_000));

    // Each partition belongs to one of two connections, so both passes see everything once.
    let fetched = bench.run(&["fetch", "--passes", "2", "--connections", "2"]);
    assert_eq!(
        (&fetched["records"], &fetched["bytes"]),
        (&(2 * records).into(), &(2 * report["bytes"].as_i64().expect("a number")).into())
    );

    // Not answered, in every compression, in requests that are in one piece.
    let mut all = records;
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let small = ["--acks", "0", "--batch-records", "10", "--record-size", "100", "--requests", "50"];
        let report = bench.run(&[&["produce", "--compression", compression], &small[..]].concat());
        assert_eq!((&report["records"], &report["latency"]), (&500.into(), &Value::Null));
        all += 500;
    }
    assert_eq!(bench.held_records("raftsman-bench"), all);
}

#[test]
fn a_rate_is_kept_and_records_arrive() {
    let bench = Bench::start();
    let paced = ["--batch-records", "1", "--record-size", "10", "--rate", "1000", "--requests", "200"];
    let report = bench.run(&[&["produce", "--create-topic"], &paced[..]].concat());
    assert_eq!(report["records"], 200);

    let report = bench.run(&["latency", "--rate", "500", "--warmup", "0.2", "--duration", "0.4"]);
    assert_eq!(report["records"], 200);
    assert_eq!(bench.held_records("raftsman-bench"), 500);
    let at = |kind: &str, name: &str| report[kind][name].as_f64().expect("a number");
    assert!(at("end_to_end", "p50_ms") > 0.0 && at("end_to_end", "max_ms") >= at("end_to_end", "p99_ms"));

    let report = bench.run(&["fetch", "--feed", "100", "--connections", "4", "--requests", "40"]);
    // On a machine that stalls, a fetch finds more than the one record that it waited for.
    assert_eq!(report["requests"], 40);
    assert!(report["records"].as_i64().is_some_and(|records| records >= 40), "{report}");
    let fed = report["records_fed"].as_i64().expect("a number");
    assert_eq!(bench.held_records("raftsman-bench"), 500 + fed);

    // Each record goes to another partition, and each request names the one that the last answer was of.
    let many = ["--create-topic", "--topic", "many", "--partitions", "20", "--sessions"];
    let fed = ["fetch", "--feed", "100", "--connections", "4", "--requests", "100"];
    let report = bench.run(&[&fed[..], &many[..]].concat());
    let fed = report["records_fed"].as_i64().expect("a number");
    assert_eq!((&report["requests"], bench.held_records("many")), (&100.into(), fed));
    assert!(report["records"].as_i64().is_some_and(|records| records >= 100 && fed >= 25), "{report}");
}

#[test]
fn connections_and_groups_come_and_go() {
    let bench = Bench::start();
    let report = bench.run(&["connections", "--count", "50", "--duration", "0.1"]);
    assert_eq!(report["connections"], 50);

    bench.run(&["groups", "--create-topic", "--partitions", "6", "--groups", "2", "--members", "3"]);
    let commits = ["--commit", "--requests", "100", "--depth", "2"];
    let report = bench.run(&[&["groups", "--groups", "3"], &commits[..]].concat());
    assert_eq!(report["requests"], 100);
    assert!(report["verified"].as_str().is_some_and(|text| text.starts_with("3 groups")));
}

#[test]
fn what_cannot_be_measured_is_said() {
    let bench = Bench::start();
    let run = |arguments: &[&str]| {
        let address = bench.broker.address.to_string();
        let output = Command::new(env!("CARGO_BIN_EXE_raftsman"))
            .args(["bench", arguments[0], "--bootstrap-server", &address])
            .args(&arguments[1..])
            .output()
            .expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = run(&["produce", "--topic", "absent"]);
    assert!(code == Some(1) && text.contains("--create-topic"), "{text}");
    assert_eq!(run(&["produce", "--rate", "-1"]).0, Some(2));
    assert_eq!(run(&["latency", "--record-size", "4"]).0, Some(2));
    assert_eq!(run(&["fetch", "--topic", "small", "--sessions"]).0, Some(2));
    bench.broker.connect().create_topic("small", 1, &[("max.message.bytes", "1000")]);
    let (code, text) = run(&["produce", "--topic", "small", "--requests", "5"]);
    assert!(code == Some(1) && text.contains("MESSAGE_TOO_LARGE"), "{text}");
    let (code, text) = run(&["fetch", "--topic", "small"]);
    assert!(code == Some(1) && text.contains("is empty"), "{text}");
}
