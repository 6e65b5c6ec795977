//! The tools under the names of Kafka's scripts, with command lines of tutorials, and what they say when
//! something is not as it should be.

#![allow(clippy::unwrap_used)] // A test that unwraps says what failed.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::Broker;

const RAFTSMAN: &str = env!("CARGO_BIN_EXE_raftsman");

/// A folder with the binary under other names.
struct Scripts(tempfile::TempDir);

impl Scripts {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        if !path.exists() {
            std::os::unix::fs::symlink(RAFTSMAN, &path).unwrap();
        }
        path
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Done {
        Done::of(Command::new(self.path(name)).args(arguments))
    }
}

struct Done {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Done {
    fn of(command: &mut Command) -> Done {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Done {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    #[track_caller]
    fn ended(self, code: i32) -> Done {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    fn says(self, part: &str) -> Done {
        assert!(self.stderr.contains(part), "'{part}' is not in: {}", self.stderr);
        self
    }
}

struct Cluster {
    broker: Broker,
    address: String,
    scripts: Scripts,
    folder: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let overrides = ["group.initial.rebalance.delay.ms=0", "offsets.topic.num.partitions=1"];
        let broker = Broker::start(folder.path(), &overrides);
        let address = broker.address.to_string();
        Self { broker, address, scripts: Scripts::new(), folder }
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Done {
        self.scripts.run(script, &[&["--bootstrap-server", &self.address], arguments].concat())
    }

    fn write(&self, topic: &str, values: &[&[u8]]) {
        let mut client = self.broker.connect();
        if client.metadata(&[topic]).topics[0].partitions.is_empty() {
            client.create_topic(topic, 1, &[]);
        }
        assert_eq!(client.produce(topic, 0, -1, support::batch(values, None)).unwrap().0, 0);
    }

    /// A tool that runs on, with its output piped.
    fn spawn(&self, script: &str, arguments: &[&str]) -> Child {
        Command::new(self.scripts.path(script))
            .args(["--bootstrap-server", &self.address])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

const CONSUMER: &str = "kafka-console-consumer.sh";
const SERIALIZATION: &str = "org.apache.kafka.common.serialization";

#[test]
fn values_are_read_with_the_deserializers_that_are_named_and_others_are_refused() {
    let cluster = Cluster::start();
    cluster.write("counts", &[&7i64.to_be_bytes(), &(-1i64).to_be_bytes(), b"short"]);
    let long = format!("value.deserializer={SERIALIZATION}.LongDeserializer");
    let read = ["--topic", "counts", "--from-beginning", "--max-messages", "2"];
    // As the quickstart of Kafka Streams has it.
    let seen = cluster
        .run(CONSUMER, &[&read[..], &["--property", "print.value=true", "--property", &long]].concat());
    assert_eq!(seen.ended(0).stdout, "7\n-1\n");
    let option = format!("{SERIALIZATION}.LongDeserializer");
    let seen = cluster.run(CONSUMER, &[&read[..], &["--value-deserializer", &option]].concat());
    assert_eq!(seen.ended(0).stdout, "7\n-1\n");
    let json = ["--formatter-property", &long, "--json"];
    let seen = cluster.run(CONSUMER, &[&read[..], &json].concat()).ended(0);
    let first: serde_json::Value = serde_json::from_str(seen.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(first["value"], 7);

    // The third is no long: what came before is printed, and the place is told.
    let all = ["--topic", "counts", "--from-beginning", "--exit-at-end", "--value-deserializer", &option];
    let seen =
        cluster.run(CONSUMER, &all).ended(1).says("counts-0 at offset 2: the value: 5 bytes are no long");
    assert_eq!(seen.stdout, "7\n-1\n");
    let seen = cluster
        .run(CONSUMER, &[&all[..], &["--skip-message-on-error"]].concat())
        .ended(0)
        .says("passed over");
    assert_eq!(seen.stdout, "7\n-1\n");

    for (option, value, part) in [
        (
            "--value-deserializer",
            "io.confluent.kafka.serializers.KafkaAvroDeserializer",
            "KafkaAvroDeserializer",
        ),
        ("--formatter-property", "value.deserializer.schema.registry.url=x", "schema.registry.url"),
        ("--formatter", "my.Formatter", "my.Formatter"),
        ("--formatter", "org.apache.kafka.tools.consumer.TransactionLogMessageFormatter", "transactions"),
        ("--consumer-property", "interceptor.classes=a.B", "interceptor.classes"),
        ("--consumer-property", "group.protocol=consumer", "group.protocol"),
    ] {
        cluster.run(CONSUMER, &[&read[..], &[option, value]].concat()).ended(2).says(part);
    }
}

#[test]
fn records_of_groups_are_printed_by_kafkas_formatters() {
    let cluster = Cluster::start();
    cluster.write("orders", &[b"a", b"b"]);
    let group = ["--topic", "orders", "--group", "billing", "--from-beginning", "--max-messages", "2"];
    cluster.run(CONSUMER, &group).ended(0);
    let print = |class: &str| {
        let class = format!("org.apache.kafka.tools.consumer.{class}");
        let read =
            ["--topic", "__consumer_offsets", "--from-beginning", "--exit-at-end", "--formatter", &class];
        let lines = cluster.run(CONSUMER, &read).ended(0).stdout;
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<serde_json::Value>>()
    };
    let offsets = print("OffsetsMessageFormatter");
    let last = offsets.last().unwrap();
    assert_eq!(
        last["key"]["data"],
        serde_json::json!({"group": "billing", "topic": "orders", "partition": 0})
    );
    assert_eq!((&last["key"]["type"], &last["value"]["data"]["offset"]), (&1.into(), &2.into()));
    let groups = print("GroupMetadataMessageFormatter");
    assert!(groups.iter().any(|group| group["value"]["data"]["members"][0]["clientHost"] == "/127.0.0.1"));
    assert!(groups.iter().all(|group| group["key"]["type"] == 2));
}

#[test]
fn a_consumer_waits_for_its_topic_and_gets_the_first_record_of_it() {
    let cluster = Cluster::start();
    for (topic, creates) in [("made-by-the-consumer", "true"), ("made-by-another", "false")] {
        let property = format!("allow.auto.create.topics={creates}");
        let wanted = ["--topic", topic, "--max-messages", "1", "--consumer-property", &property];
        let mut consumer = cluster.spawn(CONSUMER, &wanted);
        let mut said = String::new();
        BufReader::new(consumer.stderr.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.contains("does not exist") && said.contains("waiting"), "{said}");
        cluster.write(topic, &[b"first"]);
        let mut printed = String::new();
        BufReader::new(consumer.stdout.take().unwrap()).read_to_string(&mut printed).unwrap();
        assert_eq!(printed, "first\n");
        assert!(consumer.wait().unwrap().success());
    }
    // Nothing to wait for.
    cluster.run(CONSUMER, &["--topic", "never", "--exit-at-end"]).ended(1).says("'never' does not exist");
    let absent = ["--topic", "made-by-another", "--partition", "3"];
    cluster.run(CONSUMER, &absent).ended(1).says("has no partition 3: it has 1");
    let beyond = ["--topic", "made-by-another", "--partition", "0", "--offset", "99", "--exit-at-end"];
    cluster.run(CONSUMER, &beyond).ended(0).says("offset 99 lies beyond the log's end");
}

#[test]
fn a_consumer_that_is_cut_off_does_not_end_as_if_all_were_read() {
    let cluster = Cluster::start();
    cluster.write("logs", &[b"one"]);
    cluster.write("logs", &[b"two"]);
    // A byte of the second record is another: the broker sends the file as it is.
    let log = cluster.folder.path().join("logs-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&log).unwrap();
    let at = bytes.windows(3).position(|window| window == b"two").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let read = ["--topic", "logs", "--from-beginning", "--timeout-ms", "3000"];
    for more in [&[][..], &["--group", "g"]] {
        let seen = cluster.run(CONSUMER, &[&read[..], more].concat()).ended(1).says("logs-0");
        assert!(seen.stderr.contains("offset 1"), "{}", seen.stderr);
    }

    // The broker goes while it is read from.
    cluster.write("tail", &[b"one"]);
    let mut consumer =
        cluster.spawn(CONSUMER, &["--topic", "tail", "--from-beginning", "--timeout-ms", "2000"]);
    let mut printed = String::new();
    BufReader::new(consumer.stdout.take().unwrap()).read_line(&mut printed).unwrap();
    assert_eq!(printed, "one\n");
    cluster.broker.kill();
    let mut said = String::new();
    consumer.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(consumer.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("cannot read on: tail-0 at offset 1"), "{said}");
}

/// Takes every connection and answers with these bytes; with none it says nothing, and never closes.
fn answering(bytes: Option<&'static [u8]>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            if let Some(bytes) = bytes {
                let mut request = [0; 64];
                drop(stream.read(&mut request));
                drop(stream.write_all(bytes));
            } else {
                open.push(stream);
            }
        }
    });
    address
}

#[test]
fn an_address_that_is_no_kafka_listener_is_told_within_seconds() {
    let scripts = Scripts::new();
    for (bytes, part) in [
        (Some(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]), "it answers in HTTP"),
        (Some(&b"\x15\x03\x03\x00\x02\x02\x46"[..]), "it answers in TLS"),
        (Some(&b""[..]), "closed"),
        (None, "has said nothing for 5000 ms"),
    ] {
        let address = answering(bytes).to_string();
        let mut running = Vec::new();
        for (script, arguments) in [
            ("kafka-topics.sh", &["--list"][..]),
            (CONSUMER, &["--topic", "t"]),
            (CONSUMER, &["--topic", "t", "--group", "g"]),
            ("kafka-console-producer.sh", &["--topic", "t"]),
            ("kafka-consumer-groups.sh", &["--describe", "--group", "g"]),
        ] {
            let mut command = Command::new(scripts.path(script));
            command.args(["--bootstrap-server", &address]).args(arguments);
            running.push(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        }
        let deadline = Instant::now() + Duration::from_secs(40);
        for mut child in running {
            while child.try_wait().unwrap().is_none() {
                assert!(Instant::now() < deadline, "{part}: it has not ended");
                std::thread::sleep(Duration::from_millis(20));
            }
            let done = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.code() == Some(1) && said.contains(part), "'{part}' is not in: {said}");
        }
    }
}

#[test]
fn every_script_is_its_tool_or_says_why_there_is_none() {
    let cluster = Cluster::start();
    let perf = ["--topic", "perf", "--num-records", "100", "--record-size", "100", "--throughput", "-1"];
    cluster.run("kafka-producer-perf-test.sh", &perf).ended(0);
    let properties = format!("bootstrap.servers={}", cluster.address);
    let properties = [&perf[..], &["--producer-props", &properties, "acks=1", "linger.ms=5"]].concat();
    cluster.scripts.run("kafka-producer-perf-test", &properties).ended(0).says("'linger.ms' is not used");
    let seen = cluster.run("kafka-consumer-perf-test.sh", &["--topic", "perf", "--messages", "150"]).ended(0);
    assert!(seen.stdout.contains("200") || seen.stdout.contains("150"), "{}", seen.stdout);
    let latency = ["--topic", "e2e", "--num-records", "50", "--producer-acks", "all", "--record-size", "20"];
    cluster.run("kafka-e2e-latency.sh", &latency).ended(0);
    cluster.run("kafka-producer-perf-test", &[&perf[..], &["--print-metrics"]].concat()).ended(2);

    cluster
        .run("kafka-topics", &["-create", "-topic", "one-dash", "--partitions=3", "--replication=1"])
        .ended(0);
    let seen = cluster.run("kafka-topics", &["--describe", "-topic=one-dash"]).ended(0);
    assert!(seen.stdout.contains("PartitionCount: 3"), "{}", seen.stdout);
    let alter = ["--alter", "--topic", "one-dash", "--partitions", "4", "--delete-config", "retention.ms"];
    cluster.run("kafka-topics", &alter).ended(0).says("raftsman configs --alter");

    let valid = cluster.scripts.run("kafka-consumer-groups.sh", &["--validate-regex", "orders.*"]).ended(0);
    assert_eq!(valid.stdout, "The regular expression `orders.*` is valid.\n");
    let invalid = cluster.scripts.run("kafka-consumer-groups.sh", &["--validate-regex", "orders("]).ended(1);
    assert!(
        invalid.stdout.starts_with("The regular expression `orders(` is invalid: "),
        "{}",
        invalid.stdout
    );

    for (script, part) in [
        ("kafka-acls.sh", "authorisation"),
        ("kafka-transactions.sh", "not served"),
        ("connect-distributed.sh", "Kafka Connect"),
        ("zookeeper-server-start.sh", "no ZooKeeper"),
        ("kafka-run-class.sh", "raftsman --help"),
    ] {
        cluster.scripts.run(script, &["--list"]).ended(1).says(part);
    }
    for (script, line, part) in [
        ("kafka-topics.sh", &["--list", "--zookeeper", "h:2181"][..], "there is no ZooKeeper"),
        ("kafka-console-consumer", &["--zookeeper=h:2181", "--topic", "t"][..], "--bootstrap-server"),
        ("kafka-console-producer.sh", &["--broker-list", "h:1", "--topic", "t"][..], "--bootstrap-server"),
        (
            "kafka-run-class.sh",
            &["kafka.tools.GetOffsetShell", "--broker-list", "h:1"][..],
            "--bootstrap-server",
        ),
    ] {
        cluster.scripts.run(script, line).ended(2).says(part);
    }
    // What tutorials run by the names of Kafka's classes.
    let class = ["kafka.tools.GetOffsetShell", "--bootstrap-server", &cluster.address, "--topic", "one-dash"];
    let offsets = cluster.scripts.run("kafka-run-class.sh", &class).ended(0).stdout;
    assert_eq!(offsets.lines().next(), Some("one-dash:0:0"), "{offsets}");
    let positional = [cluster.address.as_str(), "e2e", "20", "all", "20"];
    cluster.scripts.run("kafka-e2e-latency.sh", &positional).ended(0);
    let refused = ["--describe", "--user", "u"];
    cluster.run("kafka-configs", &refused).ended(2).says("quotas are not served");
}

#[test]
fn logs_are_dumped_by_what_their_records_mean() {
    let cluster = Cluster::start();
    cluster.write("orders", &[&7i32.to_be_bytes()]);
    let group = ["--topic", "orders", "--group", "billing", "--from-beginning", "--max-messages", "1"];
    cluster.run(CONSUMER, &group).ended(0);
    let data = cluster.folder.path();
    let dump = |path: &str, more: &[&str]| {
        let path = data.join(path).display().to_string();
        cluster.scripts.run("kafka-dump-log.sh", &[&["--files", &path], more].concat())
    };
    let offsets =
        dump("__consumer_offsets-0/00000000000000000000.log", &["--offsets-decoder"]).ended(0).stdout;
    let key = r#"key: {"data":{"group":"billing","partition":0,"topic":"orders"},"type":"1"}"#;
    assert!(offsets.contains(key), "{offsets}");
    assert!(offsets.contains(r#""subscription":{"generationId":-1,"#), "{offsets}");

    let log = "orders-0/00000000000000000000.log";
    let decoder = "org.apache.kafka.tools.api.IntegerDecoder";
    let seen = dump(log, &["--value-decoder-class", decoder]).ended(0).stdout;
    assert!(seen.contains("payload: 7\n"), "{seen}");
    dump(log, &["--value-decoder-class", "my.Decoder"]).ended(2).says("my.Decoder");
    dump(log, &["--transaction-log-decoder"]).ended(2).says("transactions");

    let metadata = dump("__cluster_metadata", &["--cluster-metadata-decoder"]).ended(0).stdout;
    assert!(metadata.contains("kind: entry") && metadata.contains("orders"), "{metadata}");

    // An index that is written, and one whose end is missing.
    let address = cluster.address.clone();
    let Cluster { broker, folder, scripts, .. } = cluster;
    broker.stop();
    assert!(!address.is_empty());
    let index = folder.path().join("orders-0/00000000000000000000.index");
    std::fs::write(&index, [0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 7, 0, 0, 0, 90]).unwrap();
    let check = ["--files", index.to_str().unwrap(), "--index-sanity-check"];
    let passed = scripts.run("kafka-dump-log", &check).ended(0).stdout;
    assert!(passed.contains("00000000000000000000.index passed sanity check."), "{passed}");
    std::fs::write(&index, [0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0]).unwrap();
    scripts.run("kafka-dump-log", &check).ended(1).says("no whole number of entries");
    std::fs::write(&index, [0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 3, 0, 0, 0, 90]).unwrap();
    scripts.run("kafka-dump-log", &check).ended(1).says("do not rise");
}

#[test]
fn the_cluster_tells_its_id_its_brokers_and_what_they_serve() {
    let cluster = Cluster::start();
    let id = cluster.scripts.run("kafka-cluster.sh", &["cluster-id", "-b", &cluster.address]).ended(0).stdout;
    assert!(id.starts_with("Cluster ID: ") && id.trim_end().len() == 12 + 22, "{id}");
    let list = ["list-endpoints", "--bootstrap-server", &cluster.address];
    let listed = cluster.scripts.run("kafka-cluster.sh", &list).ended(0).stdout;
    let words = listed.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>();
    let (host, port) = cluster.address.split_once(':').unwrap();
    assert_eq!(words[1..], [host, port, "null", "unfenced", "broker"]);
    let quorum = |more: &[&str]| {
        let line = [&["--bootstrap-server", &cluster.address, "describe"], more].concat();
        cluster.scripts.run("kafka-metadata-quorum.sh", &line).ended(0).stdout
    };
    let status = quorum(&["--status"]);
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name}: {status}")).trim().to_owned()
    };
    assert_eq!(of("ClusterId:"), id.trim_end()["Cluster ID: ".len()..]);
    assert_eq!(
        (of("LeaderId:"), of("MaxFollowerLag:"), of("MaxFollowerLagTimeMs:")),
        ("1".into(), "0".into(), "0".into())
    );
    assert!(of("HighWatermark:").parse::<i64>().unwrap() > 0);
    let voters: serde_json::Value = serde_json::from_str(&of("CurrentVoters:")).unwrap();
    assert_eq!(voters[0]["endpoints"][0], format!("PLAINTEXT://{}", cluster.address));
    assert_eq!(of("CurrentObservers:"), "[]");
    let replication = quorum(&["--replication", "--human-readable"]);
    let rows: Vec<Vec<&str>> =
        replication.lines().map(|line| line.split('\t').map(str::trim).collect()).collect();
    assert_eq!((rows[0][0], rows[0][6], rows[1][0], rows[1][6]), ("NodeId", "Status", "1", "Leader"));
    assert!(rows[1][4].ends_with(" ms ago"), "{replication}");
    let json: serde_json::Value = serde_json::from_str(&quorum(&["--status", "--json"])).unwrap();
    assert_eq!((&json["leader_id"], &json["current_voters"][0]["id"]), (&1.into(), &1.into()));
    cluster.scripts.run("kafka-metadata-quorum.sh", &["describe"]).ended(2).says("--status");
    let quorum = |arguments: &[&str]| {
        let arguments = [&["--bootstrap-server", &cluster.address], arguments].concat();
        cluster.scripts.run("kafka-metadata-quorum.sh", &arguments)
    };
    quorum(&["add-controller"]).ended(1).says("You must supply the configuration file");
    let directory = json["current_voters"][0]["directory_id"].as_str().unwrap().to_owned();
    let remove = ["remove-controller", "-i", "1", "-d", &directory];
    let dry = quorum(&[&remove[..], &["--dry-run"]].concat()).ended(0).stdout;
    assert_eq!(dry, format!("DRY RUN of removing  KRaft controller 1 with directory id {directory}\n"));
    quorum(&remove).ended(1).says("this node is alone");
    let unregister = ["unregister", "--bootstrap-server", &cluster.address, "--id", "4711"];
    cluster.scripts.run("kafka-cluster.sh", &unregister).ended(1).says("not currently registered");
    let features = ["--bootstrap-server", &cluster.address, "describe"];
    let features = cluster.scripts.run("kafka-features.sh", &features).ended(0).stdout;
    let line = format!(
        "Feature: {:<41} SupportedMinVersion: {:<16} SupportedMaxVersion: {:<16} FinalizedVersionLevel: {:<16} Epoch: ",
        "metadata.version", "4.3-IV0", "4.3-IV0", "4.3-IV0"
    );
    assert!(features.lines().any(|feature| feature.starts_with(&line)), "{features}");
    let elr = "eligible.leader.replicas.version";
    for (action, feature, code, said) in [
        ("upgrade", format!("{elr}=1"), 0, format!("{elr} was upgraded to 1.")),
        (
            "upgrade",
            format!("{elr}=0"),
            1,
            format!("Could not upgrade {elr} to 0. The update failed for all"),
        ),
        ("downgrade", format!("{elr}=0"), 0, format!("{elr} was downgraded to 0.")),
        ("upgrade", "unheard.of=1".to_owned(), 1, "1 out of 1 operation(s) failed.".to_owned()),
        ("disable", elr.to_owned(), 0, format!("{elr} was disabled.")),
    ] {
        let arguments = ["--bootstrap-server", &cluster.address, action, "--feature", &feature];
        let done = cluster.scripts.run("kafka-features.sh", &arguments).ended(code);
        assert!((done.stdout + &done.stderr).contains(&said), "{said}");
    }
    let dry = ["upgrade", "--release-version", "4.3", "--dry-run"];
    let dry = [&["--bootstrap-server", &cluster.address], &dry[..]].concat();
    let dry = cluster.scripts.run("kafka-features.sh", &dry).ended(0).stdout;
    assert!(dry.contains("metadata.version can be upgraded to 30."), "{dry}");
    let served = cluster.run("kafka-broker-api-versions.sh", &[]).ended(0).stdout;
    assert!(served.starts_with(&format!("{} (id: ", cluster.address)), "{served}");
    assert!(served.contains("\tFetch(1): 4 to ") && served.contains("[usable: "), "{served}");
}

#[test]
fn a_folder_is_formatted_with_an_id_and_its_node_is_of_that_cluster() {
    let (scripts, folder) = (Scripts::new(), tempfile::tempdir().unwrap());
    let (data, config) = (folder.path().join("data"), folder.path().join("server.properties"));
    let lines = [
        &format!("log.dirs={}", data.display()),
        "node.id=3",
        "process.roles=broker,controller",
        "listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0",
        "controller.quorum.bootstrap.servers=localhost:9093",
    ];
    std::fs::write(&config, lines.join("\n")).unwrap();
    let config = config.to_str().unwrap();
    let storage = |arguments: &[&str]| scripts.run("kafka-storage.sh", arguments);
    let id = storage(&["random-uuid"]).ended(0).stdout.trim().to_owned();
    assert_eq!(id.len(), 22);
    let info = storage(&["info", "-c", config]).ended(1).stdout;
    assert_eq!(info, format!("Found problem:\n  {} does not exist\n\n", data.display()));
    storage(&["format", "-c", config, "-t", &id]).ended(1).says("you must specify one of the following");
    let format = ["format", "-c", config, "-t", &id, "--standalone"];
    let formatted = storage(&format).ended(0).stdout;
    let line = format!(
        "Formatting dynamic metadata voter directory {} with metadata.version 4.3-IV0.",
        data.display()
    );
    assert!(formatted.contains("metadata.version=30") && formatted.contains(&line), "{formatted}");
    storage(&format).ended(1).says("is already formatted. Use --ignore-formatted");
    let ignored = storage(&[&format[..], &["--ignore-formatted"]].concat()).ended(0).stdout;
    assert_eq!(ignored, "All of the log directories are already formatted.\n");
    let info = storage(&["info", "-c", config]).ended(0).stdout;
    assert!(info.contains(&format!("Found metadata: {{cluster.id={id}, directory.id=")), "{info}");
    assert!(info.ends_with(", node.id=3, version=1}\n\n"), "{info}");
    storage(&["format", "-c", config, "-t", &id, "-S", "SCRAM-SHA-256=[name=a,password=b]"])
        .ended(1)
        .says("--add-scram");

    let overrides = ["raftsman.admin.listener=127.0.0.1:0"];
    let arguments = [config, "--override", overrides[0]];
    let broker = Broker::run(&data, &arguments);
    let shown =
        scripts.run("kafka-cluster.sh", &["cluster-id", "--bootstrap-server", &broker.address.to_string()]);
    assert_eq!(shown.ended(0).stdout, format!("Cluster ID: {id}\n"));
    broker.stop();
}

#[test]
fn shells_and_man_get_what_they_need() {
    let raftsman = |arguments: &[&str]| Done::of(Command::new(RAFTSMAN).args(arguments)).ended(0).stdout;
    for shell in ["bash", "zsh", "fish"] {
        assert!(raftsman(&["completions", shell]).contains("delete-records"), "{shell}");
    }
    assert!(raftsman(&["man"]).contains("raftsman"));
    let folder = tempfile::tempdir().unwrap();
    raftsman(&["man", "--folder", folder.path().to_str().unwrap()]);
    assert!(folder.path().join("raftsman-topics.1").exists());
}
