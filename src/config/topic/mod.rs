//! The configuration of a topic: every topic key of Kafka 4.3, where its default comes from, and the
//! typed values.
//!
//! A topic's own value wins over the broker's ([`BrokerValues`]), which wins over the default.
//!
//! [`BrokerValues`]: super::values::BrokerValues

pub mod declaration;
pub mod log;
mod unserved;

use std::sync::LazyLock;

pub use declaration::{DefaultKey, TopicKey, Unit};

use super::declaration::Value;
use super::key::{ConfigError, Key};
use super::values::{BrokerValues, Set};
use declaration::topic_config;
use log::LogConfig;

topic_config! {
    /// The typed configuration of a topic: what its logs go by, and what is asked of its records and replicas.
    pub struct TopicConfig(
        /// What its logs go by.
        log: LogConfig
    ) {
        /// Level when this topic recompresses to gzip; -1 is the codec's own default.
        compression_gzip_level: GzipLevel =
            "compression.gzip.level", Int(-1, 9), default -1, from ["compression.gzip.level"];
        /// Level when this topic recompresses to lz4; 9 alone.
        compression_lz4_level: Lz4Level =
            "compression.lz4.level", Int(1, 17), default 9, from ["compression.lz4.level"];
        /// Codec that batches are stored with; `producer` keeps what the producer chose.
        compression: CompressionType =
            "compression.type", OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), default "producer",
            from ["compression.type"];
        /// Level when this topic recompresses to zstd.
        compression_zstd_level: i32 =
            "compression.zstd.level", Int(-131_072, 22), default 3, from ["compression.zstd.level"];
        /// Largest record batch taken, in bytes, after compression.
        max_message_bytes: i32 =
            "max.message.bytes", Int(0, i32::MAX), default 1_048_588, from ["message.max.bytes"];
        /// How far ahead of the broker's clock a record's timestamp may be.
        timestamp_after_max_ms: i64 = "message.timestamp.after.max.ms", Long(0, i64::MAX), default 3_600_000,
            from ["log.message.timestamp.after.max.ms"];
        /// How far behind the broker's clock a record's timestamp may be.
        timestamp_before_max_ms: i64 =
            "message.timestamp.before.max.ms", Long(0, i64::MAX), default 9223372036854775807,
            from ["log.message.timestamp.before.max.ms"];
        /// Whose time a record carries: its producer's or the broker's.
        timestamp_type: TimestampType =
            "message.timestamp.type", OneOf(&["CreateTime", "LogAppendTime"]), default "CreateTime",
            from ["log.message.timestamp.type"];
        /// Replicas that must have a record before acks=all is answered.
        min_insync_replicas: i32 =
            "min.insync.replicas", Int(1, i32::MAX), default 1, from ["min.insync.replicas"];
        /// Look into every compressed batch before it is taken, as Kafka does, and not only where its header cannot be
        /// right.
        check_compressed_records: bool = "raftsman.check.compressed.records", Boolean, default false,
            from ["raftsman.check.compressed.records"];
        /// Let a replica outside the in-sync set lead when no other is left, losing records. (On one node there is no
        /// other.)
        unclean_leader_election: bool =
            "unclean.leader.election.enable", Boolean, default false, from ["unclean.leader.election.enable"];
    }
}

/// The rows of all that is declared.
const TABLES: &[&[TopicKey]] = &[LogConfig::KEYS, TopicConfig::KEYS, unserved::KEYS];

/// All topic keys, in the order of their names.
pub fn keys() -> &'static [&'static TopicKey] {
    static SORTED: LazyLock<Vec<&'static TopicKey>> = LazyLock::new(|| {
        let mut all: Vec<_> = TABLES.iter().copied().flatten().collect();
        all.sort_by_key(|entry| entry.key.name);
        all
    });
    &SORTED
}

/// The key of that name.
pub fn find(name: &str) -> Option<&'static TopicKey> {
    let keys = keys();
    Some(keys[keys.binary_search_by_key(&name, |entry| entry.key.name).ok()?])
}

/// The broker's key that says for all topics what a topic's key says for one.
pub fn broker_key(name: &str) -> Option<&'static str> {
    Some(find(name)?.broker_keys.first()?.name)
}

/// The broker keys that topics take their defaults from.
pub fn broker_keys() -> impl Iterator<Item = DefaultKey> {
    keys().iter().flat_map(|entry| entry.defaults())
}

/// The topic key that this broker key sets the default of.
pub fn set_by(name: &str) -> Option<&'static TopicKey> {
    keys().iter().find(|entry| entry.broker_keys.iter().any(|known| known.name == name)).copied()
}

/// Checks one topic configuration: the key is known, the value fits, and this broker does what it
/// asks for.
pub fn validate(name: &str, value: &str) -> Result<(), ConfigError> {
    let entry = find(name).ok_or_else(|| ConfigError::UnknownTopicKey(name.to_owned()))?;
    entry.check_as(entry.key.name, value)
}

/// Checks all configurations that a topic has of its own, also against each other.
pub fn validate_all(set: &Set) -> Result<(), String> {
    for (name, value) in set {
        validate(name, value).map_err(|error| error.to_string())?;
    }
    let own = LogConfig::resolve(set, &BrokerValues::default());
    match (own.min_compaction_lag_ms, own.max_compaction_lag_ms) {
        (min, max) if min > max => Err(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        )),
        _ => Ok(()),
    }
}

/// Codec that batches are stored with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    /// Whatever the producer chose.
    Producer,
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Value for CompressionType {
    fn read(key: &Key, text: &str) -> Result<Self, ConfigError> {
        key.check(text)?;
        match text {
            "producer" => Ok(Self::Producer),
            "uncompressed" => Ok(Self::Uncompressed),
            "gzip" => Ok(Self::Gzip),
            "snappy" => Ok(Self::Snappy),
            "lz4" => Ok(Self::Lz4),
            "zstd" => Ok(Self::Zstd),
            _ => Err(key.invalid(text, "no such codec")),
        }
    }
}

/// A level of gzip; `None` is the codec's own default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GzipLevel(pub Option<i32>);

impl Value for GzipLevel {
    fn read(key: &Key, text: &str) -> Result<Self, ConfigError> {
        match text.parse() {
            Ok(-1) => Ok(Self(None)),
            Ok(level @ 1..=9) => Ok(Self(Some(level))),
            Ok(_) => Err(key.invalid(text, "Value must be between 1 and 9 or equal to -1")),
            Err(_) => key.check(text).and(Err(key.invalid(text, "it is out of range"))),
        }
    }
}

/// A level of lz4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lz4Level(pub i32);

impl Value for Lz4Level {
    fn read(key: &Key, text: &str) -> Result<Self, ConfigError> {
        match i32::read(key, text)? {
            9 => Ok(Self(9)),
            _ => Err(key.unserved(text, "its lz4 encoder has one level, called 9")),
        }
    }
}

/// Whose time records carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

impl Value for TimestampType {
    fn read(key: &Key, text: &str) -> Result<Self, ConfigError> {
        key.check(text)?;
        match text {
            "CreateTime" => Ok(Self::CreateTime),
            "LogAppendTime" => Ok(Self::LogAppendTime),
            _ => Err(key.invalid(text, "no such time")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::declaration::converted;
    use super::*;
    use crate::config::key::Kind;

    fn map(entries: &[(&str, &str)]) -> Set {
        entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_topic_wins_over_the_broker_and_milliseconds_over_hours() {
        let broker = |entries: &[(&str, &str)]| BrokerValues::fixed(map(entries));
        let set = broker(&[("log.retention.hours", "1"), ("log.segment.bytes", "2000000")]);
        let config = TopicConfig::resolve(&map(&[("segment.bytes", "1048576")]), &set);
        assert_eq!((config.log.retention_ms, config.log.segment_bytes), (3_600_000, 1_048_576));
        let set = broker(&[("log.retention.hours", "1"), ("log.retention.ms", "5")]);
        assert_eq!(TopicConfig::resolve(&map(&[]), &set).log.retention_ms, 5);
        let set = broker(&[("log.retention.hours", "-1")]);
        assert_eq!(TopicConfig::resolve(&map(&[]), &set).log.retention_ms, -1);
        let default = |name| broker_keys().find(|known| known.key.name == name).unwrap().key.default;
        assert_eq!(default("log.retention.hours"), Some("168"));
        assert_eq!(default("log.roll.jitter.hours"), Some("0"));
        assert_eq!(default("log.retention.ms"), None);
    }

    #[test]
    fn refusals_are_worded_as_kafka_words_them() {
        let text = |name, value| validate(name, value).unwrap_err().to_string();
        assert_eq!(
            text("retention.ms", "x"),
            "Invalid value x for configuration retention.ms: Not a number of type LONG"
        );
        assert_eq!(
            text("segment.bytes", "14"),
            "Invalid value 14 for configuration segment.bytes: Value must be at least 1048576"
        );
        assert_eq!(text("no.such", "x"), "Unknown topic config name: no.such");
        assert!(keys().iter().all(|entry| validate(entry.key.name, entry.key.default.unwrap()).is_ok()));
        assert!(keys().is_sorted_by_key(|entry| entry.key.name));
    }

    #[test]
    fn the_least_compaction_lag_is_not_above_the_greatest() {
        let (min, max) = ("min.compaction.lag.ms", "max.compaction.lag.ms");
        let conflict =
            "conflict topic config setting min.compaction.lag.ms (11) > max.compaction.lag.ms (10)";
        assert_eq!(validate_all(&map(&[(min, "11"), (max, "10")])), Err(conflict.to_owned()));
        for sound in [&[(min, "10"), (max, "10")][..], &[(min, "11")], &[(max, "1")]] {
            assert_eq!(validate_all(&map(sound)), Ok(()), "{sound:?}");
        }
    }

    #[test]
    fn every_key_has_an_effect_or_is_refused() {
        let default = TopicConfig::resolve(&map(&[]), &BrokerValues::default());
        for entry in keys() {
            let name = entry.key.name;
            let value = match (name, entry.key.kind) {
                ("cleanup.policy", _) => "compact".to_owned(),
                ("follower.replication.throttled.replicas" | "leader.replication.throttled.replicas", _) => {
                    "*".to_owned()
                }
                (_, Kind::OneOf(words)) => words[1].to_owned(),
                (_, Kind::Boolean) => "true".to_owned(),
                (_, Kind::Double(..)) => "0.25".to_owned(),
                ("compression.gzip.level" | "compression.lz4.level" | "compression.zstd.level", _) => {
                    "5".to_owned()
                }
                _ => "2097152".to_owned(),
            };
            let set = map(&[(name, &value)]);
            let has_effect = TopicConfig::resolve(&set, &BrokerValues::default()) != default;
            match validate_all(&set) {
                Ok(()) => {
                    assert!(has_effect, "{name}={value} changes nothing")
                }
                Err(reason) => assert!(reason.contains("does not serve it: "), "{reason}"),
            }
            // The broker's keys lead to the same.
            for known in entry.defaults() {
                let (broker_key, unit) = (known.key.name, known.unit);
                let values = BrokerValues::fixed(map(&[(broker_key, &value)]));
                match known.check(&value) {
                    Ok(()) if unit == Unit::Same => {
                        assert_eq!(
                            TopicConfig::resolve(&map(&[]), &values),
                            TopicConfig::resolve(&set, &BrokerValues::default()),
                            "{broker_key}"
                        );
                    }
                    Ok(()) => assert_ne!(TopicConfig::resolve(&map(&[]), &values), default, "{broker_key}"),
                    Err(reason) => assert!(reason.to_string().contains("does not serve it: "), "{reason}"),
                }
            }
            // What nobody sets says the same in every unit.
            if let Some(last) = entry.defaults().last() {
                let in_its_unit = last.key.default.unwrap();
                assert_eq!(converted(in_its_unit, last.unit), entry.key.default.unwrap(), "{last:?}");
            }
        }
    }
}
