//! The configuration of the broker: the keys of `server.properties` that mean something here, and
//! their typed values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use strsim::damerau_levenshtein;

use super::groups::GroupsConfig;
use super::key::{self, ConfigError, Key, Kind};
use super::topic;
use super::values::{BrokerValues, Set};

const I32: i32 = i32::MAX;
const I64: i64 = i64::MAX;

/// Without a map, the names of the protocols stand for themselves.
const PROTOCOLS: &str = "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT";

macro_rules! keys {
    ($($name:literal, $kind:expr, $default:expr, $doc:literal;)*) => {
        &[$(Key { name: $name, kind: $kind, default: $default, doc: $doc }),*]
    };
}

/// The broker's keys besides those that set a topic default (see [`topic::KEYS`]).
pub const KEYS: &[Key] = keys! {
    "advertised.listeners", Kind::List(&[]), None,
        "Addresses that clients are told; those of `listeners` unless set.";
    "auto.create.topics.enable", Kind::Boolean, Some("true"),
        "Create a topic when a producer asks for its metadata and it is not there.";
    "broker.id", Kind::Int(-1, I32), Some("-1"),
        "Old name of node.id.";
    "broker.heartbeat.interval.ms", Kind::Int(10, I32), Some("500"),
        "How often a broker tells the active controller that it lives. (Kafka's default is 2000.)";
    "broker.rack", Kind::Text, None,
        "Rack of this broker, for the placement of replicas.";
    "broker.session.timeout.ms", Kind::Int(100, I32), Some("3000"),
        "How long a broker may be silent before it is fenced; one whose process has ended is fenced at once. (Kafka's default is 9000.)";
    "connections.max.idle.ms", Kind::Long(-1, I64), Some("600000"),
        "Idle time after which a connection is closed.";
    "controller.listener.names", Kind::List(&[]), Some("CONTROLLER"),
        "Names of the listeners that serve controllers; others reach a controller by the first of them.";
    "controller.quorum.bootstrap.servers", Kind::List(&[]), Some(""),
        "Addresses of controllers, host:port, that a node asks for its cluster when it joins.";
    "controller.quorum.voters", Kind::List(&[]), Some(""),
        "The controllers that form the quorum, as in 1@host-a:9093,2@host-b:9093,3@host-c:9093.";
    "default.replication.factor", Kind::Int(1, i16::MAX as i32), Some("1"),
        "Replicas of a topic that does not say how many.";
    "delete.topic.enable", Kind::Boolean, Some("true"),
        "Allow topics to be deleted.";
    "fetch.max.bytes", Kind::Int(1024, I32), Some("57671680"),
        "Most bytes that one fetch is answered with.";
    "group.initial.rebalance.delay.ms", Kind::Int(0, I32), Some("3000"),
        "How long the first rebalance of an empty group waits for more members.";
    "group.max.session.timeout.ms", Kind::Int(1, I32), Some("1800000"),
        "Longest session timeout that a member may ask for.";
    "group.max.size", Kind::Int(1, I32), Some("2147483647"),
        "Most members of a group.";
    "group.min.session.timeout.ms", Kind::Int(1, I32), Some("6000"),
        "Shortest session timeout that a member may ask for.";
    "initial.broker.registration.timeout.ms", Kind::Int(1, I32), Some("60000"),
        "How long a broker that starts tries to register with the active controller.";
    "inter.broker.listener.name", Kind::Text, None,
        "Name of the listener by which brokers reach each other; the first one for clients unless set.";
    "listener.security.protocol.map", Kind::Text, Some(PROTOCOLS),
        "Security protocol of each listener name.";
    "listeners", Kind::List(&[]), Some("PLAINTEXT://127.0.0.1:9092"),
        "Address to listen on: NAME://host:port; an empty host is every interface, port 0 a free one.";
    "log.cleaner.backoff.ms", Kind::Long(0, I64), Some("15000"),
        "How long the cleaner waits when there is nothing to compact.";
    "log.cleaner.dedupe.buffer.size", Kind::Long(0, I64), Some("134217728"),
        "Most memory for the keys of logs under compaction, over all threads; it is taken as needed.";
    "log.cleaner.enable", Kind::Boolean, Some("true"),
        "Compact topics with `cleanup.policy=compact`.";
    "log.cleaner.io.buffer.load.factor", Kind::Double(0.0, 1.0), Some("0.9"),
        "How full the memory for keys may get, as a share of it.";
    "log.cleaner.io.buffer.size", Kind::Int(0, I32), Some("524288"),
        "Bytes that the cleaner reads and writes at once, over all threads.";
    "log.cleaner.io.max.bytes.per.second", Kind::Double(0.0, f64::MAX), Some("1.7976931348623157E308"),
        "Most bytes that the cleaner reads and writes in a second.";
    "log.cleaner.threads", Kind::Int(0, 256), Some("1"),
        "Logs that are compacted at a time; 0 is none.";
    "log.dir", Kind::List(&[]), Some("raftsman-data"),
        "Folder for the data, when log.dirs does not say.";
    "log.dirs", Kind::List(&[]), None,
        "Folder for the data.";
    "log.flush.offset.checkpoint.interval.ms", Kind::Int(1, I32), Some("60000"),
        "How often what was written is synced and the recovery point noted.";
    "log.flush.start.offset.checkpoint.interval.ms", Kind::Int(1, I32), Some("60000"),
        "How often log start offsets are noted.";
    "log.retention.check.interval.ms", Kind::Long(1, I64), Some("300000"),
        "How often retention is looked at.";
    "max.connection.creation.rate", Kind::Int(0, I32), Some("2147483647"),
        "Most new connections in a second, over ten seconds; those beyond wait.";
    "max.connections", Kind::Int(0, I32), Some("2147483647"),
        "Most connections at a time.";
    "max.connections.per.ip", Kind::Int(0, I32), Some("2147483647"),
        "Most connections at a time from one address.";
    "max.connections.per.ip.overrides", Kind::Text, Some(""),
        "Other limits for some addresses, as in `10.0.0.1:100,::1:5`. (Kafka takes host names, too.)";
    "max.incremental.fetch.session.cache.slots", Kind::Int(0, I32), Some("1000"),
        "Most fetch sessions at a time.";
    "max.request.partition.size.limit", Kind::Int(1, I32), Some("2000"),
        "Most partitions in one answer of DescribeTopicPartitions.";
    "metadata.log.dir", Kind::Text, None,
        "Folder for the metadata; inside the data folder unless set.";
    "node.id", Kind::Int(0, I32), Some("1"),
        "Id of this node in its cluster.";
    "num.partitions", Kind::Int(1, I32), Some("1"),
        "Partitions of a topic that does not say how many.";
    "num.recovery.threads.per.data.dir", Kind::Int(1, I32), Some("2"),
        "Threads that open logs at start.";
    "offset.metadata.max.bytes", Kind::Int(0, I32), Some("4096"),
        "Longest text that a member may commit beside an offset, in bytes.";
    "offsets.commit.timeout.ms", Kind::Int(1, I32), Some("5000"),
        "How long a commit may wait for the replicas of the offsets topic.";
    "offsets.retention.check.interval.ms", Kind::Long(1, I64), Some("600000"),
        "How often committed offsets that expired are looked for.";
    "offsets.retention.minutes", Kind::Int(1, I32), Some("10080"),
        "How long offsets stay that nobody uses: counted from when their group became empty, or from their commit when it has no members that subscribe.";
    "offsets.topic.compression.codec", Kind::Int(0, 4), Some("0"),
        "Codec of the offsets topic: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.";
    "offsets.topic.num.partitions", Kind::Int(1, I32), Some("50"),
        "Partitions of the offsets topic; it must not change once the topic is there.";
    "offsets.topic.replication.factor", Kind::Short(1, i16::MAX), Some("1"),
        "Replicas of the offsets topic. (Kafka's default is 3.)";
    "offsets.topic.segment.bytes", Kind::Int(1_048_576, I32), Some("104857600"),
        "Size of a segment file of the offsets topic.";
    "process.roles", Kind::List(&["broker", "controller"]), Some("broker,controller"),
        "Roles of this node; a single node has both.";
    "producer.id.expiration.check.interval.ms", Kind::Int(1, I32), Some("600000"),
        "How often idle producer ids are looked for.";
    "producer.id.expiration.ms", Kind::Int(1, I32), Some("86400000"),
        "Idle time after which a partition forgets a producer id.";
    "queued.max.request.bytes", Kind::Long(-1, I64), Some("268435456"),
        "Most bytes of requests held in memory at a time, over all connections; -1 is without a limit. While others wait for memory, a request that holds some must arrive at 64 KiB/s, or its connection is closed. (Kafka's default is -1, and it has no such rate.)";
    "raftsman.admin.listener", Kind::Text, Some("127.0.0.1:9190"),
        "Address of the HTTP listener for /metrics, /healthz and /readyz; empty is none.";
    "raftsman.worker.threads", Kind::Int(0, 1024), Some("0"),
        "Threads that serve connections; 0 is one per core.";
    "replica.high.watermark.checkpoint.interval.ms", Kind::Long(1, I64), Some("5000"),
        "How often high watermarks are noted.";
    "socket.listen.backlog.size", Kind::Int(1, I32), Some("1024"),
        "Connections that wait to be accepted. (Kafka's default is 50, which drops some when thousands come at once.)";
    "socket.receive.buffer.bytes", Kind::Int(-1, I32), Some("-1"),
        "Receive buffer of a connection; -1 lets the kernel tune it. (Kafka's default is 102400.)";
    "socket.request.max.bytes", Kind::Int(1, I32), Some("104857600"),
        "Largest request taken.";
    "socket.send.buffer.bytes", Kind::Int(-1, I32), Some("-1"),
        "Send buffer of a connection; -1 lets the kernel tune it. (Kafka's default is 102400.)";
};

/// The broker key of that name, of those here or those that set a topic default.
pub fn find(name: &str) -> Option<Key> {
    key::find(KEYS, name).copied().or_else(|| topic::broker_keys().find(|key| key.name == name))
}

/// Every broker key, in the order of their names.
pub fn all_keys() -> Vec<Key> {
    let mut all: Vec<Key> = KEYS.iter().copied().chain(topic::broker_keys()).collect();
    all.sort_by_key(|key| key.name);
    all
}

/// True for keys that Raftsman or Kafka has.
pub fn is_known(name: &str) -> bool {
    find(name).is_some() || is_of_kafka(name)
}

/// Checks the value of a broker key: it fits, and this broker does what it asks for.
pub fn check(name: &str, value: &str) -> Result<(), ConfigError> {
    if name == "max.connections.per.ip.overrides" {
        return address_limits(value).map(drop);
    }
    let same_unit = |(known, unit): &(&str, topic::Unit)| *known == name && *unit == topic::Unit::Same;
    if let Some(entry) = topic::KEYS.iter().find(|entry| entry.broker_keys.iter().any(same_unit)) {
        return topic::check_as(entry, name, value);
    }
    find(name).map_or(Ok(()), |key| key.check(value))
}

/// Reads `max.connections.per.ip.overrides`: `10.0.0.1:100,::1:5`.
fn address_limits(value: &str) -> Result<Vec<(IpAddr, i32)>, ConfigError> {
    let wrong = |entry: &str| ConfigError::InvalidValue {
        name: "max.connections.per.ip.overrides".to_owned(),
        value: entry.to_owned(),
        reason: "expected an address and a number, such as 10.0.0.1:100".to_owned(),
    };
    let read = |entry: &str| {
        let (address, count) = entry.rsplit_once(':')?;
        let address = address.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok()?;
        Some((address.to_canonical(), count.trim().parse::<i32>().ok().filter(|count| *count >= 0)?))
    };
    key::list(value).map(|entry| read(entry).ok_or_else(|| wrong(entry))).collect()
}

/// Names of all broker keys of Kafka 4.3, to tell a key that has no meaning here from a mistyped one.
static KAFKA_KEYS: &str = include_str!("kafka_broker_keys.txt");

/// Keys that Kafka had before 4.0, and beginnings of keys that it hands on to plugins or listeners.
const EARLIER_KEYS: &[&str] = &[
    "auto.include.jmx.reporter",
    "broker.id.generation.enable",
    "control.plane.listener.name",
    "delegation.token.master.key",
    "inter.broker.protocol.version",
    "log.message.downconversion.enable",
    "log.message.format.version",
    "log.message.timestamp.difference.max.ms",
    "offsets.commit.required.acks",
    "reserved.broker.max.id",
];
const PREFIXES: &[&str] =
    &["listener.name.", "metrics.context.", "password.encoder.", "rlmm.config.", "rsm.config.", "zookeeper."];

/// Keys of Kafka's authorizer, which the broker hands on to it.
const AUTHORIZER_KEYS: &[&str] = &["allow.everyone.if.no.acl.found", "super.users"];

/// True for Kafka's keys, those of a single listener (`listener.name.external.ssl.key.password`) too.
fn is_of_kafka(name: &str) -> bool {
    KAFKA_KEYS.lines().any(|known| known == name)
        || EARLIER_KEYS.contains(&name)
        || AUTHORIZER_KEYS.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The known key that somebody may have meant.
fn nearest_key(name: &str) -> Option<&'static str> {
    if let Some(of_broker) = topic::broker_key(name) {
        return Some(of_broker);
    }
    // Longer than any key is; the count of errors grows with the square.
    if name.len() > 100 {
        return None;
    }
    let known = KEYS.iter().map(|key| key.name).chain(KAFKA_KEYS.lines());
    let nearest = known.map(|known| (damerau_levenshtein(name, known), known)).min()?;
    // One in five letters: more is another word.
    (nearest.0 <= name.chars().count().div_ceil(5)).then_some(nearest.1)
}

/// An address to listen on or to be reached at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Name of the listener, such as `PLAINTEXT`.
    pub name: String,
    /// Empty: every interface.
    pub host: String,
    pub port: u16,
}

impl Listener {
    /// Reads `NAME://host:port`.
    fn parse(text: &str, key: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::InvalidValue {
            name: key.to_owned(),
            value: text.to_owned(),
            reason: "expected NAME://host:port, such as PLAINTEXT://127.0.0.1:9092".to_owned(),
        };
        let (name, address) = text.split_once("://").ok_or_else(wrong)?;
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().map_err(|_| wrong())?;
        Ok(Self { name: name.trim().to_ascii_uppercase(), host: host.to_owned(), port })
    }
}

/// The typed configuration of this node.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    pub node_id: i32,
    pub rack: Option<String>,
    pub listeners: Vec<Listener>,
    /// One for each of `listeners`, in their order.
    pub advertised_listeners: Vec<Listener>,
    /// Those for controllers, and what others are told of each.
    pub controller_listeners: Vec<Listener>,
    pub advertised_controller_listeners: Vec<Listener>,
    /// In the order of the key, upper case.
    pub controller_listener_names: Vec<String>,
    pub inter_broker_listener_name: String,
    pub quorum: QuorumKeys,
    pub heartbeat_interval_ms: u64,
    pub session_timeout_ms: u64,
    pub registration_timeout_ms: u64,
    pub log_dir: PathBuf,
    pub metadata_log_dir: PathBuf,
    /// Start although acknowledged data is missing, with what is there. Of one start (`--accept-missing-data`): no
    /// key sets it, so that nobody forgets it in a file.
    pub accepts_missing_data: bool,
    pub admin_listener: Option<String>,
    /// True when somebody chose the admin address: then a port that is taken is an error.
    pub admin_listener_is_set: bool,
    pub worker_threads: usize,
    pub auto_create_topics: bool,
    pub num_partitions: i32,
    pub default_replication_factor: i16,
    pub delete_topic: bool,
    pub fetch_max_bytes: i32,
    pub connections_max_idle_ms: i64,
    /// In a second.
    pub max_connection_creation_rate: i32,
    pub max_connections: i32,
    pub max_connections_per_ip: i32,
    /// Limits for some addresses that go before `max_connections_per_ip`.
    pub max_connections_per_ip_overrides: Vec<(IpAddr, i32)>,
    pub fetch_session_slots: i32,
    pub request_partition_limit: i32,
    pub recovery_threads: i32,
    pub producer_id_expiration_ms: i64,
    pub producer_id_expiration_check_interval_ms: i64,
    pub queued_request_bytes_max: Option<u64>,
    pub request_bytes_max: i32,
    pub listen_backlog: i32,
    pub receive_buffer_bytes: Option<i32>,
    pub send_buffer_bytes: Option<i32>,
    pub flush_offset_checkpoint_interval_ms: i64,
    pub start_offset_checkpoint_interval_ms: i64,
    pub high_watermark_checkpoint_interval_ms: i64,
    pub retention_check_interval_ms: i64,
    pub groups: GroupsConfig,
    pub log_cleaner: LogCleanerConfig,
    /// Every value that somebody set, and where; topic defaults are resolved from it.
    pub values: BrokerValues,
}

/// The `controller.quorum` keys: where the controllers of this cluster are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuorumKeys {
    /// Those that form the quorum, with their addresses (`host:port`).
    pub voters: BTreeMap<i32, String>,
    pub bootstrap_servers: Vec<String>,
}

impl QuorumKeys {
    fn from_values(values: &Values<'_>) -> Result<Self, ConfigError> {
        const VOTERS: &str = "controller.quorum.voters";
        let mut voters = BTreeMap::new();
        for text in key::list(&values.text(VOTERS)) {
            let wrong = |reason: &str| ConfigError::InvalidValue {
                name: VOTERS.to_owned(),
                value: text.to_owned(),
                reason: reason.to_owned(),
            };
            let (id, address) = text
                .split_once('@')
                .and_then(|(id, address)| {
                    Some((id.trim().parse().ok().filter(|id: &i32| *id >= 0)?, address))
                })
                .ok_or_else(|| wrong("expected a node id and its address, such as 1@127.0.0.1:9093"))?;
            if !is_address(address) {
                return Err(wrong("expected a node id and its address, such as 1@127.0.0.1:9093"));
            }
            if voters.insert(id, address.trim().to_owned()).is_some() {
                return Err(wrong("a node is named twice"));
            }
        }
        const SERVERS: &str = "controller.quorum.bootstrap.servers";
        let bootstrap_servers: Vec<String> = key::list(&values.text(SERVERS)).map(str::to_owned).collect();
        if let Some(wrong) = bootstrap_servers.iter().find(|address| !is_address(address)) {
            return Err(ConfigError::InvalidValue {
                name: SERVERS.to_owned(),
                value: wrong.clone(),
                reason: "expected host:port, such as 127.0.0.1:9093".to_owned(),
            });
        }
        Ok(Self { voters, bootstrap_servers })
    }
}

/// A time that is not negative.
fn milliseconds(values: &Values<'_>, key: &str) -> u64 {
    u64::try_from(values.long(key)).unwrap_or_default()
}

/// Whether a text is `host:port`.
fn is_address(text: &str) -> bool {
    let parts = text.trim().rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// The `log.cleaner` keys.
#[derive(Clone, Debug, PartialEq)]
pub struct LogCleanerConfig {
    pub enable: bool,
    pub threads: usize,
    pub backoff_ms: i64,
    pub dedupe_buffer_bytes: usize,
    /// 0 to 1.
    pub load_factor: f64,
    pub io_buffer_bytes: usize,
    pub io_bytes_per_second_max: f64,
}

/// What reading a configuration has to say besides its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    /// Kafka's keys that have no meaning here.
    pub without_meaning: Vec<String>,
    /// Keys that neither Kafka nor Raftsman knows, with what may have been meant.
    pub unknown: Vec<(String, Option<&'static str>)>,
}

impl BrokerConfig {
    /// Reads what `server.properties` set. Errors name the key, the value and what is allowed.
    pub fn from_values(mut set: Set) -> Result<(Self, Remarks), ConfigError> {
        let mut remarks = Remarks::default();
        for (name, value) in &set {
            if find(name).is_some() {
                check(name, value)?;
            } else if is_of_kafka(name) {
                remarks.without_meaning.push(name.clone());
            } else {
                remarks.unknown.push((name.clone(), nearest_key(name)));
            }
        }
        // Two names for one thing, as in Kafka.
        for (name, other) in [("node.id", "broker.id"), ("broker.id", "node.id")] {
            if let Some(id) = set.get(name).filter(|id| *id != "-1").cloned() {
                set.entry(other.to_owned()).or_insert(id);
            }
        }
        Ok((Self::read(BrokerValues::fixed(set))?, remarks))
    }

    /// This configuration with what is set at run time, for all brokers and for this one.
    pub fn with_dynamic(&self, dynamic_default: Set, dynamic: Set) -> Result<Self, ConfigError> {
        Self::read(BrokerValues { dynamic, dynamic_default, fixed: self.values.fixed.clone() })
    }

    /// Reads checked values.
    fn read(set_where: BrokerValues) -> Result<Self, ConfigError> {
        let set = set_where.merged();
        let values = Values(&set);
        let roles = values.text("process.roles");
        if !["broker", "controller"].iter().all(|role| key::list(&roles).any(|set| set == *role)) {
            return Err(ConfigError::Refused(format!(
                "process.roles={roles}: this version runs a single node that has both roles; set process.roles=broker,controller"
            )));
        }
        let Listeners { listeners, advertised_listeners, controllers, advertised_controllers, names } =
            Listeners::from_values(&values)?;
        let inter_broker = values.text("inter.broker.listener.name").to_ascii_uppercase();
        let inter_broker_listener_name = match listeners.iter().find(|own| own.name == inter_broker) {
            Some(_) => inter_broker,
            None if inter_broker.is_empty() => {
                listeners.first().map(|first| first.name.clone()).unwrap_or_default()
            }
            None => {
                return Err(ConfigError::Refused(format!(
                    "inter.broker.listener.name={inter_broker}: there is no such listener for clients in listeners={}",
                    values.text("listeners")
                )));
            }
        };
        let dirs =
            if set.contains_key("log.dirs") { values.text("log.dirs") } else { values.text("log.dir") };
        let mut folders = key::list(&dirs);
        let log_dir = PathBuf::from(folders.next().unwrap_or("raftsman-data"));
        if folders.next().is_some() {
            return Err(ConfigError::Refused(format!(
                "log.dirs={dirs}: one data folder is served; name a single one (join disks below it, with LVM or RAID)"
            )));
        }
        let metadata_log_dir = match values.text("metadata.log.dir") {
            dir if dir.is_empty() => log_dir.join("__cluster_metadata"),
            dir => PathBuf::from(dir).join("__cluster_metadata"),
        };
        let node_id = match (set.get("node.id"), set.get("broker.id")) {
            (None, Some(_)) if values.long("broker.id") >= 0 => values.int("broker.id"),
            _ => values.int("node.id"),
        };
        let admin_listener = Some(values.text("raftsman.admin.listener")).filter(|text| !text.is_empty());
        let config = Self {
            node_id,
            rack: Some(values.text("broker.rack")).filter(|rack| !rack.is_empty()),
            listeners,
            advertised_listeners,
            controller_listeners: controllers,
            advertised_controller_listeners: advertised_controllers,
            controller_listener_names: names,
            inter_broker_listener_name,
            quorum: QuorumKeys::from_values(&values)?,
            heartbeat_interval_ms: milliseconds(&values, "broker.heartbeat.interval.ms"),
            session_timeout_ms: milliseconds(&values, "broker.session.timeout.ms"),
            registration_timeout_ms: milliseconds(&values, "initial.broker.registration.timeout.ms"),
            log_dir,
            metadata_log_dir,
            accepts_missing_data: false,
            admin_listener,
            admin_listener_is_set: set.contains_key("raftsman.admin.listener"),
            worker_threads: usize::try_from(values.int("raftsman.worker.threads")).unwrap_or_default(),
            auto_create_topics: values.boolean("auto.create.topics.enable"),
            num_partitions: values.int("num.partitions"),
            default_replication_factor: i16::try_from(values.int("default.replication.factor"))
                .unwrap_or(i16::MAX),
            delete_topic: values.boolean("delete.topic.enable"),
            fetch_max_bytes: values.int("fetch.max.bytes"),
            connections_max_idle_ms: values.long("connections.max.idle.ms"),
            max_connection_creation_rate: values.int("max.connection.creation.rate"),
            max_connections: values.int("max.connections"),
            max_connections_per_ip: values.int("max.connections.per.ip"),
            max_connections_per_ip_overrides: address_limits(
                &values.text("max.connections.per.ip.overrides"),
            )?,
            fetch_session_slots: values.int("max.incremental.fetch.session.cache.slots"),
            request_partition_limit: values.int("max.request.partition.size.limit"),
            recovery_threads: values.int("num.recovery.threads.per.data.dir"),
            producer_id_expiration_ms: values.long("producer.id.expiration.ms"),
            producer_id_expiration_check_interval_ms: values.long("producer.id.expiration.check.interval.ms"),
            queued_request_bytes_max: u64::try_from(values.long("queued.max.request.bytes")).ok(),
            request_bytes_max: values.int("socket.request.max.bytes"),
            listen_backlog: values.int("socket.listen.backlog.size"),
            receive_buffer_bytes: Some(values.int("socket.receive.buffer.bytes")).filter(|bytes| *bytes > 0),
            send_buffer_bytes: Some(values.int("socket.send.buffer.bytes")).filter(|bytes| *bytes > 0),
            flush_offset_checkpoint_interval_ms: values.long("log.flush.offset.checkpoint.interval.ms"),
            start_offset_checkpoint_interval_ms: values.long("log.flush.start.offset.checkpoint.interval.ms"),
            high_watermark_checkpoint_interval_ms: values
                .long("replica.high.watermark.checkpoint.interval.ms"),
            retention_check_interval_ms: values.long("log.retention.check.interval.ms"),
            groups: GroupsConfig::from_values(&values),
            log_cleaner: LogCleanerConfig {
                enable: values.boolean("log.cleaner.enable"),
                threads: usize::try_from(values.int("log.cleaner.threads")).unwrap_or_default(),
                backoff_ms: values.long("log.cleaner.backoff.ms"),
                dedupe_buffer_bytes: usize::try_from(values.long("log.cleaner.dedupe.buffer.size"))
                    .unwrap_or(usize::MAX),
                load_factor: values.double("log.cleaner.io.buffer.load.factor"),
                io_buffer_bytes: usize::try_from(values.int("log.cleaner.io.buffer.size"))
                    .unwrap_or_default(),
                io_bytes_per_second_max: values.double("log.cleaner.io.max.bytes.per.second"),
            },
            values: set_where,
        };
        Ok(config)
    }
}

/// Reads checked values, or their defaults.
pub(super) struct Values<'a>(&'a Set);

impl Values<'_> {
    pub(super) fn text(&self, name: &str) -> String {
        let default = || key::find(KEYS, name).and_then(|key| key.default);
        self.0.get(name).map(String::as_str).or_else(default).unwrap_or_default().trim().to_owned()
    }

    pub(super) fn long(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or_default()
    }

    pub(super) fn int(&self, name: &str) -> i32 {
        self.text(name).parse().unwrap_or_default()
    }

    fn double(&self, name: &str) -> f64 {
        self.text(name).parse().unwrap_or_default()
    }

    pub(super) fn boolean(&self, name: &str) -> bool {
        self.text(name).eq_ignore_ascii_case("true")
    }
}

/// The listeners by whom they serve, with what others are told of each.
struct Listeners {
    listeners: Vec<Listener>,
    advertised_listeners: Vec<Listener>,
    controllers: Vec<Listener>,
    advertised_controllers: Vec<Listener>,
    /// `controller.listener.names`.
    names: Vec<String>,
}

impl Listeners {
    fn from_values(values: &Values<'_>) -> Result<Self, ConfigError> {
        let names = values.text("controller.listener.names");
        let names: Vec<String> = key::list(&names).map(str::to_ascii_uppercase).collect();
        let read = |key: &str| {
            let text = values.text(key);
            let all = key::list(&text).map(|text| Listener::parse(text, key));
            let all = all.collect::<Result<Vec<_>, ConfigError>>()?;
            Ok::<_, ConfigError>(all.into_iter().partition::<Vec<_>, _>(|one| !names.contains(&one.name)))
        };
        let (listeners, mut controllers) = read("listeners")?;
        if listeners.is_empty() {
            return Err(ConfigError::Refused(format!(
                "listeners={}: no listener for clients; add one such as PLAINTEXT://127.0.0.1:9092",
                values.text("listeners")
            )));
        }
        // The first name is the one that others use.
        controllers.sort_by_key(|listener| names.iter().position(|name| *name == listener.name));
        let mut seen = BTreeSet::new();
        for listener in listeners.iter().chain(&controllers) {
            check_protocol(listener, names.contains(&listener.name), values)?;
            if !seen.insert(&listener.name) {
                return Err(ConfigError::Refused(format!(
                    "listeners={}: two listeners are named {}",
                    values.text("listeners"),
                    listener.name
                )));
            }
        }
        let (advertised, advertised_controllers) = read("advertised.listeners")?;
        if let Some(missing) = advertised.iter().find(|told| !seen.contains(&told.name)) {
            return Err(ConfigError::Refused(format!(
                "advertised.listeners names {}, which listeners={} does not",
                missing.name,
                values.text("listeners")
            )));
        }
        let told = |own: &[Listener], advertised: &[Listener]| {
            let told = own.iter().map(|listener| {
                let found = advertised.iter().find(|told| told.name == listener.name);
                found.unwrap_or(listener).clone()
            });
            told.collect()
        };
        Ok(Self {
            advertised_listeners: told(&listeners, &advertised),
            advertised_controllers: told(&controllers, &advertised_controllers),
            listeners,
            controllers,
            names,
        })
    }
}

/// Whether the security protocol of a listener is known, and served.
fn check_protocol(listener: &Listener, is_controller: bool, values: &Values<'_>) -> Result<(), ConfigError> {
    let protocols = values.text("listener.security.protocol.map");
    let mapped = key::list(&protocols)
        .filter_map(|entry| entry.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case(&listener.name));
    let protocol = match mapped {
        Some((_, protocol)) => protocol,
        // As in Kafka: who sets no map need not name the controllers' listener in it.
        None if is_controller && protocols == PROTOCOLS => "PLAINTEXT",
        None => listener.name.as_str(),
    };
    if ["SSL", "SASL_PLAINTEXT", "SASL_SSL"].contains(&protocol) {
        return Err(ConfigError::Refused(format!(
            "listener {}: security protocol {protocol} is not served by this version; only PLAINTEXT is",
            listener.name
        )));
    }
    if protocol != "PLAINTEXT" {
        return Err(ConfigError::Refused(format!(
            "listener {}: no security protocol is known for this name; add it to listener.security.protocol.map, as in {}:PLAINTEXT",
            listener.name, listener.name
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::properties;

    fn read(text: &str) -> Result<(BrokerConfig, Remarks), ConfigError> {
        BrokerConfig::from_values(properties::parse(text))
    }

    #[test]
    fn a_configuration_of_a_kafka_installation_starts_a_broker() {
        let (config, remarks) = read(
            "process.roles=broker,controller\nnode.id=7\ncontroller.quorum.bootstrap.servers=localhost:9093\n\
             listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ninter.broker.listener.name=PLAINTEXT\n\
             advertised.listeners=PLAINTEXT://host.example:9092,CONTROLLER://localhost:9093\n\
             controller.listener.names=CONTROLLER\nnum.network.threads=3\nlog.dirs=/tmp/x\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\nlog.retention.hours=168\nlog.retentoin.ms=5\n",
        )
        .unwrap();
        assert_eq!(config.node_id, 7);
        assert_eq!(
            config.listeners,
            [Listener { name: "PLAINTEXT".into(), host: String::new(), port: 9092 }]
        );
        assert_eq!(config.advertised_listeners[0].host, "host.example");
        assert_eq!(
            (config.controller_listeners[0].port, &*config.advertised_controller_listeners[0].host),
            (9093, "localhost")
        );
        assert_eq!(config.inter_broker_listener_name, "PLAINTEXT");
        assert_eq!(config.quorum.bootstrap_servers, ["localhost:9093"]);
        assert_eq!(remarks.unknown, [("log.retentoin.ms".to_owned(), Some("log.retention.ms"))]);
        assert!(remarks.without_meaning.contains(&"num.network.threads".to_owned()));
    }

    #[test]
    fn listeners_are_known_by_name_and_by_whom_they_serve() {
        let (config, _) = read(
            "listeners=CTL2://:1,IN://:2,OUT://:3,CTL://:4\ncontroller.listener.names=CTL,CTL2\n\
             advertised.listeners=OUT://far:30,IN://near:20\ninter.broker.listener.name=IN\n\
             listener.security.protocol.map=CTL:PLAINTEXT,CTL2:PLAINTEXT,IN:PLAINTEXT,OUT:PLAINTEXT\n\
             controller.quorum.voters=1@a:9093, 2@[::1]:9093\n",
        )
        .unwrap();
        let ports = |listeners: &[Listener]| listeners.iter().map(|one| one.port).collect::<Vec<_>>();
        assert_eq!((ports(&config.listeners), ports(&config.controller_listeners)), (vec![2, 3], vec![4, 1]));
        assert_eq!(ports(&config.advertised_listeners), [20, 30]);
        assert_eq!(config.inter_broker_listener_name, "IN");
        assert_eq!(config.quorum.voters[&2], "[::1]:9093");
    }

    #[test]
    fn a_bad_value_is_told_by_key_value_and_what_is_allowed() {
        let text = |properties| read(properties).unwrap_err().to_string();
        assert_eq!(
            text("num.partitions=0"),
            "Invalid value 0 for configuration num.partitions: Value must be at least 1"
        );
        assert_eq!(
            text("log.segment.bytes=1"),
            "Invalid value 1 for configuration log.segment.bytes: Value must be at least 1048576"
        );
        assert!(text("listeners=SSL://:9092").contains("only PLAINTEXT"));
        assert!(text("log.dirs=/a,/b").contains("one data folder"));
        assert!(text("controller.quorum.voters=1@localhost").contains("such as 1@127.0.0.1:9093"));
        assert!(text("controller.quorum.voters=1@a:1,1@b:1").contains("named twice"));
        assert!(text("inter.broker.listener.name=OTHER").contains("no such listener"));
        assert!(text("listeners=A://:1\nlistener.security.protocol.map=B:PLAINTEXT").contains("A:PLAINTEXT"));
        assert!(KEYS.iter().all(|key| key.default.is_none_or(|value| key.check(value).is_ok())));
    }
}
