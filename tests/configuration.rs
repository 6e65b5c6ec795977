//! Configuration of a running broker: what changes at once, what is told of it, what survives a restart,
//! and files that come from a Kafka installation.

#![allow(clippy::unwrap_used)] // A test that unwraps says what failed.

mod support;

use std::process::{Command, Stdio};
use std::time::Instant;

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use raftsman::protocol::builder::{BatchBuilder, BatchOptions};
use support::{Broker, Client, batch};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const GROUP: i8 = 32;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Sets a key, or with no value takes it away; gives error code and message.
fn alter(client: &mut Client, kind: i8, name: &str, key: &str, value: Option<&str>) -> (i16, String) {
    let config = AlterableConfig::default()
        .with_name(text(key))
        .with_config_operation(if value.is_some() { 0 } else { 1 })
        .with_value(value.map(text));
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response = client.call(&request, 1).unwrap();
    let answer = &response.responses[0];
    (answer.error_code, answer.error_message.as_ref().map(ToString::to_string).unwrap_or_default())
}

/// A key's value with its synonyms: `5 {retention.ms=5@1 log.retention.hours=168@5}`.
fn described(client: &mut Client, kind: i8, name: &str, key: &str) -> String {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(Some(vec![text(key)]));
    let request =
        DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
    let response = client.call(&request, 4).unwrap();
    let result = &response.results[0];
    assert_eq!((result.error_code, result.configs.len()), (0, 1), "{:?}", result.error_message);
    let config = &result.configs[0];
    let value = |value: &Option<StrBytes>| value.as_ref().map_or("null".to_owned(), ToString::to_string);
    let synonyms = config.synonyms.iter();
    let synonyms = synonyms.map(|other| format!("{}={}@{}", &*other.name, value(&other.value), other.source));
    format!("{} {{{}}}", value(&config.value), synonyms.collect::<Vec<_>>().join(" "))
}

#[test]
fn what_is_set_on_brokers_takes_effect_at_once_and_survives_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &["log.retention.hours=24", "node.id=3"]);
    let mut client = broker.connect();
    client.create_topic("follows", 1, &[]);
    client.create_topic("its-own", 1, &[("max.message.bytes", "5000")]);
    let large = batch(&[&[b'x'; 2000]], None);

    assert_eq!(alter(&mut client, BROKER, "", "message.max.bytes", Some("1000")), (0, String::new()));
    assert_eq!(client.produce("follows", 0, 1, large.clone()).unwrap().0, 10, "larger than allowed");
    assert_eq!(client.produce("its-own", 0, 1, large.clone()).unwrap().0, 0);
    assert_eq!(alter(&mut client, BROKER, "3", "message.max.bytes", Some("4000")).0, 0);
    assert_eq!(client.produce("follows", 0, 1, large.clone()).unwrap().0, 0);
    assert_eq!(alter(&mut client, BROKER, "", "log.retention.ms", Some("7200000")).0, 0);
    assert_eq!(alter(&mut client, GROUP, "g", "consumer.session.timeout.ms", Some("50000")).0, 0);
    broker.kill();

    let broker = Broker::start(folder.path(), &["log.retention.hours=24", "node.id=3"]);
    let mut client = broker.connect();
    assert_eq!(
        described(&mut client, TOPIC, "follows", "max.message.bytes"),
        "4000 {message.max.bytes=4000@2 message.max.bytes=1000@3 message.max.bytes=1048588@5}"
    );
    assert_eq!(
        described(&mut client, TOPIC, "its-own", "max.message.bytes"),
        "5000 {max.message.bytes=5000@1 message.max.bytes=4000@2 message.max.bytes=1000@3 message.max.bytes=1048588@5}"
    );
    assert_eq!(
        described(&mut client, TOPIC, "follows", "retention.ms"),
        "7200000 {log.retention.ms=7200000@3 log.retention.hours=24@4 log.retention.hours=168@5}"
    );
    assert_eq!(
        described(&mut client, GROUP, "g", "consumer.session.timeout.ms"),
        "50000 {consumer.session.timeout.ms=50000@8 group.consumer.session.timeout.ms=45000@5}"
    );
    assert_eq!(described(&mut client, BROKER, "3", "advertised.listeners"), "null {}");
    let request = ListConfigResourcesRequest::default().with_resource_types(vec![GROUP, TOPIC]);
    let listed = client.call(&request, 1).unwrap().config_resources;
    let listed: Vec<_> =
        listed.iter().map(|each| (each.resource_type, each.resource_name.to_string())).collect();
    assert_eq!(listed, [(TOPIC, "follows".into()), (TOPIC, "its-own".into()), (GROUP, "g".into())]);

    // Still in force, not just told of; and gone when it is taken away.
    assert_eq!(alter(&mut client, BROKER, "3", "message.max.bytes", None).0, 0);
    assert_eq!(client.produce("follows", 0, 1, large.clone()).unwrap().0, 10);
    assert_eq!(alter(&mut client, BROKER, "", "message.max.bytes", None).0, 0);
    assert_eq!(client.produce("follows", 0, 1, large).unwrap().0, 0);
    // The same value again changes nothing, and is answered.
    assert_eq!(alter(&mut client, BROKER, "", "log.retention.ms", Some("7200000")).0, 0);
    broker.stop();
}

#[test]
fn limits_on_connections_change_while_they_are_open() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &[]);
    let mut client = broker.connect();
    let asks = |client: &mut Client| client.call(&ApiVersionsRequest::default(), 0).is_ok();
    assert_eq!(alter(&mut client, BROKER, "1", "max.connections.per.ip", Some("2")).0, 0);
    let mut second = broker.connect();
    assert!(asks(&mut second));
    assert!(!asks(&mut broker.connect()), "a third one is refused");
    assert_eq!(alter(&mut client, BROKER, "", "max.connections.per.ip.overrides", Some("127.0.0.1:3")).0, 0);
    assert!(asks(&mut broker.connect()), "this address may have three");
    assert_eq!(alter(&mut client, BROKER, "1", "max.connections.per.ip", Some("0")).0, 0);
    assert!(asks(&mut second), "who is there stays");
    broker.stop();
}

#[test]
fn the_cleaner_starts_and_stops_while_the_broker_runs() {
    let folder = tempfile::tempdir().unwrap();
    // Looked at once, and then not again before the test is over.
    let overrides =
        ["log.cleaner.threads=0", "log.cleaner.backoff.ms=100000000", "log.segment.bytes=1048576"];
    let broker = Broker::start(folder.path(), &overrides);
    let mut client = broker.connect();
    client.create_topic(
        "compacted",
        1,
        &[("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01")],
    );
    for _ in 0..3 {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.add(support::now_ms(), Some(b"one key"), Some(&[b'v'; 600_000])).unwrap();
        assert_eq!(client.produce("compacted", 0, -1, builder.build().unwrap()).unwrap().0, 0);
    }
    assert_eq!(broker.metric("raftsman_log_cleaner_runs_total"), 0.0);
    assert_eq!(alter(&mut client, BROKER, "1", "log.cleaner.threads", Some("2")).0, 0);
    let deadline = Instant::now() + support::PATIENCE;
    while broker.metric("raftsman_log_cleaner_runs_total") == 0.0 {
        assert!(Instant::now() < deadline, "nothing is compacted:\n{}", broker.log_text());
        std::thread::yield_now();
    }
    assert_eq!(alter(&mut client, BROKER, "1", "log.cleaner.threads", Some("0")).0, 0);
    broker.stop();
}

#[test]
fn refusals_name_the_reason_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &[]);
    let mut client = broker.connect();
    client.create_topic("t", 1, &[]);
    const INVALID_REQUEST: i16 = 42;
    const INVALID_CONFIG: i16 = 40;
    let refused = [
        (
            BROKER,
            "1",
            "num.partitions",
            INVALID_REQUEST,
            "Cannot update these configs dynamically: [num.partitions]",
        ),
        (
            BROKER,
            "9",
            "message.max.bytes",
            INVALID_REQUEST,
            "Unexpected broker id, expected 1, but received 9",
        ),
        (BROKER, "", "no.such", INVALID_REQUEST, "Unknown broker config name: no.such"),
        (GROUP, "g", "no.such", INVALID_CONFIG, "Unknown group config name: no.such"),
        (
            TOPIC,
            "t",
            "preallocate",
            INVALID_CONFIG,
            "Invalid value true for configuration preallocate: this broker does not serve it: segments grow as records come",
        ),
        (LOGGER, "1", "no.such", INVALID_CONFIG, "Logger no.such does not exist!"),
        (
            16,
            "m",
            "interval.ms",
            INVALID_CONFIG,
            "client metrics are not served: this broker takes no telemetry of clients (KIP-714)",
        ),
    ];
    for (kind, name, key, code, reason) in refused {
        assert_eq!(alter(&mut client, kind, name, key, Some("true")), (code, reason.to_owned()));
    }
    assert!(!broker.log_text().contains("configuration changed"));
    broker.stop();
}

#[test]
fn compaction_lags_that_contradict_each_other_are_refused_on_creation_and_later() {
    const INVALID_CONFIG: i16 = 40;
    let (min, max) = ("min.compaction.lag.ms", "max.compaction.lag.ms");
    let conflict = "conflict topic config setting min.compaction.lag.ms (11) > max.compaction.lag.ms (10)";
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &[]);
    let mut client = broker.connect();
    let configs = [(min, "11"), (max, "10")].map(|(key, value)| {
        CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
    });
    let topic = CreatableTopic::default()
        .with_name(TopicName(text("refused")))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(configs.into());
    let response = client.call(&CreateTopicsRequest::default().with_topics(vec![topic]), 7).unwrap();
    let answer = &response.topics[0];
    assert_eq!((answer.error_code, answer.error_message.as_deref()), (INVALID_CONFIG, Some(conflict)));

    client.create_topic("t", 1, &[(max, "10")]);
    assert_eq!(alter(&mut client, TOPIC, "t", min, Some("11")), (INVALID_CONFIG, conflict.to_owned()));
    assert_eq!(alter(&mut client, TOPIC, "t", min, Some("10")), (0, String::new()));
    broker.stop();
}

#[test]
fn levels_of_loggers_change_at_once_and_the_log_says_who_changed_what() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), &[]);
    let mut client = broker.connect();
    let until = |what: &str| {
        let deadline = Instant::now() + support::PATIENCE;
        while !broker.log_text().contains(what) {
            assert!(Instant::now() < deadline, "the log does not say: {what}\n{}", broker.log_text());
            std::thread::yield_now();
        }
    };
    assert_eq!(alter(&mut client, LOGGER, "1", "raftsman::server", Some("DEBUG")).0, 0);
    assert_eq!(described(&mut client, LOGGER, "1", "raftsman::server"), "DEBUG {}");
    until("resource=\"ConfigResource(type=BROKER_LOGGER, name='1')\" keys=\"raftsman::server\"");
    // A client that goes away in the middle of a request is a line at DEBUG.
    std::io::Write::write_all(&mut broker.connect().stream, &[0, 0]).unwrap();
    until("a connection ended");
    assert_eq!(alter(&mut client, LOGGER, "1", "raftsman::server", None).0, 0);
    assert_eq!(described(&mut client, LOGGER, "1", "raftsman::server"), "INFO {}");
    assert_eq!(alter(&mut client, BROKER, "", "log.retention.ms", Some("123456")).0, 0);
    until(
        "client=\"test\" host=127.0.0.1 resource=\"ConfigResource(type=BROKER, name='')\" keys=\"log.retention.ms\"",
    );
    assert!(!broker.log_text().contains("123456"), "values are nobody's business");
    broker.stop();
}

#[test]
fn the_properties_of_a_kafka_installation_start_the_broker() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.properties");
    let data = folder.path().join("logs");
    let controller_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let properties = format!(
        "# one node that does both\nprocess.roles=broker,controller\nnode.id=4\n\
         controller.quorum.bootstrap.servers=localhost:{controller_port}\n\
         listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:{controller_port}\n\
         inter.broker.listener.name=PLAINTEXT\ncontroller.listener.names=CONTROLLER\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:{controller_port}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL\n\
         num.network.threads=3\nnum.io.threads=8\nsocket.send.buffer.bytes=102400\n\
         socket.receive.buffer.bytes=102400\nsocket.request.max.bytes=104857600\nlog.dirs={}\n\
         num.partitions=2\nnum.recovery.threads.per.data.dir=2\noffsets.topic.replication.factor=1\n\
         share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         log.retention.hours=48\nlog.segment.bytes=1073741824\nlog.retention.check.interval.ms=300000\n\
         zookeeper.connect=localhost:2181\nlistener.name.plaintext.ssl.key.password=hidden\n\
         log.retentoin.bytes=5\nraftsman.admin.listener=127.0.0.1:0\n",
        data.display()
    );
    std::fs::write(&file, properties).unwrap();
    let broker = Broker::run(folder.path(), &[file.to_str().unwrap()]);
    let mut client = broker.connect();
    assert_eq!(
        described(&mut client, BROKER, "4", "log.retention.hours"),
        "48 {log.retention.hours=48@4 log.retention.hours=168@5}"
    );
    let log = broker.log_text();
    let named: Vec<&str> = log.lines().filter(|line| line.contains("have no meaning here")).collect();
    assert!(
        matches!(named[..], [line] if line.contains("num.io.threads") && line.contains("zookeeper.connect")),
        "{log}"
    );
    assert!(log.contains("did you mean log.retention.bytes?"), "{log}");
    assert!(!log.contains("hidden"));
    assert!(data.join("meta.properties").exists());
    broker.stop();

    // A node that follows others has to know where they are.
    let refused = Command::new(env!("CARGO_BIN_EXE_raftsman"))
        .args(["server", "--override", "process.roles=broker"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("says where the controllers are"));
}
