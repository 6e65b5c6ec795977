//! The configuration of a topic: every topic key of Kafka 4.3, where its default comes from, and the
//! typed values.
//!
//! A topic's own value wins over the broker's ([`BrokerValues`]), which wins over the default.

use super::key::{self, ConfigError, Key, Kind};
use super::values::{BrokerValues, Set, Source, Synonym};

/// How a broker key's value becomes a topic key's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Same,
    HoursToMs,
    MinutesToMs,
}

/// A topic key with the broker keys that set its default, the strongest first.
#[derive(Clone, Copy, Debug)]
pub struct TopicKey {
    pub key: Key,
    pub broker_keys: &'static [(&'static str, Unit)],
}

const POLICIES: &[&str] = &["compact", "delete"];
const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];
const MAX: &str = "9223372036854775807";

macro_rules! keys {
    ($($name:literal, $kind:expr, $default:expr, [$($broker:literal $unit:ident),*], $doc:literal;)*) => {
        &[$(TopicKey {
            key: Key { name: $name, kind: $kind, default: Some($default), doc: $doc },
            broker_keys: &[$(($broker, Unit::$unit)),*],
        }),*]
    };
}

/// All topic keys, in the order of their names.
pub const KEYS: &[TopicKey] = keys! {
    "cleanup.policy", Kind::List(POLICIES), "delete", ["log.cleanup.policy" Same],
        "What happens to old segments: `delete` removes them by age and size, `compact` keeps the last record of each key.";
    "compression.gzip.level", Kind::Int(-1, 9), "-1", ["compression.gzip.level" Same],
        "Level when this topic recompresses to gzip; -1 is the codec's own default.";
    "compression.lz4.level", Kind::Int(1, 17), "9", ["compression.lz4.level" Same],
        "Level when this topic recompresses to lz4; 9 alone.";
    "compression.type", Kind::OneOf(CODECS), "producer", ["compression.type" Same],
        "Codec that batches are stored with; `producer` keeps what the producer chose.";
    "compression.zstd.level", Kind::Int(-131_072, 22), "3", ["compression.zstd.level" Same],
        "Level when this topic recompresses to zstd.";
    "delete.retention.ms", Kind::Long(0, i64::MAX), "86400000", ["log.cleaner.delete.retention.ms" Same],
        "How long tombstones stay in a compacted topic.";
    "file.delete.delay.ms", Kind::Long(0, i64::MAX), "60000", ["log.segment.delete.delay.ms" Same],
        "How long a removed file stays on disk.";
    "flush.messages", Kind::Long(1, i64::MAX), MAX, ["log.flush.interval.messages" Same],
        "Records after which the log is synced to disk; 1 syncs before each acknowledgement.";
    "flush.ms", Kind::Long(0, i64::MAX), MAX, ["log.flush.interval.ms" Same, "log.flush.scheduler.interval.ms" Same],
        "Longest time that a record stays unsynced.";
    "follower.replication.throttled.replicas", Kind::List(&[]), "", [],
        "Replicas whose following is throttled.";
    "index.interval.bytes", Kind::Int(0, i32::MAX), "4096", ["log.index.interval.bytes" Same],
        "Bytes of log between two entries of the offset index.";
    "leader.replication.throttled.replicas", Kind::List(&[]), "", [],
        "Replicas whose leading is throttled.";
    "local.retention.bytes", Kind::Long(-2, i64::MAX), "-2", ["log.local.retention.bytes" Same],
        "Bytes kept on this disk with tiered storage.";
    "local.retention.ms", Kind::Long(-2, i64::MAX), "-2", ["log.local.retention.ms" Same],
        "Time kept on this disk with tiered storage.";
    "max.compaction.lag.ms", Kind::Long(1, i64::MAX), MAX, ["log.cleaner.max.compaction.lag.ms" Same],
        "Longest time that a record stays uncompacted.";
    "max.message.bytes", Kind::Int(0, i32::MAX), "1048588", ["message.max.bytes" Same],
        "Largest record batch taken, in bytes, after compression.";
    "message.timestamp.after.max.ms", Kind::Long(0, i64::MAX), "3600000", ["log.message.timestamp.after.max.ms" Same],
        "How far ahead of the broker's clock a record's timestamp may be.";
    "message.timestamp.before.max.ms", Kind::Long(0, i64::MAX), MAX, ["log.message.timestamp.before.max.ms" Same],
        "How far behind the broker's clock a record's timestamp may be.";
    "message.timestamp.type", Kind::OneOf(TIMESTAMP_TYPES), "CreateTime", ["log.message.timestamp.type" Same],
        "Whose time a record carries: its producer's or the broker's.";
    "min.cleanable.dirty.ratio", Kind::Double(0.0, 1.0), "0.5", ["log.cleaner.min.cleanable.ratio" Same],
        "Share of a log that must be uncompacted before it is compacted.";
    "min.compaction.lag.ms", Kind::Long(0, i64::MAX), "0", ["log.cleaner.min.compaction.lag.ms" Same],
        "Shortest time that a record stays uncompacted.";
    "min.insync.replicas", Kind::Int(1, i32::MAX), "1", ["min.insync.replicas" Same],
        "Replicas that must have a record before acks=all is answered.";
    "preallocate", Kind::Boolean, "false", ["log.preallocate" Same],
        "Allocate a segment's file at its full size when it is created.";
    "raftsman.check.compressed.records", Kind::Boolean, "false", ["raftsman.check.compressed.records" Same],
        "Look into every compressed batch before it is taken, as Kafka does, and not only where its header cannot be right.";
    "remote.log.copy.disable", Kind::Boolean, "false", [],
        "With tiered storage: stop copying to it.";
    "remote.log.delete.on.disable", Kind::Boolean, "false", [],
        "With tiered storage: delete what is there once it is disabled.";
    "remote.storage.enable", Kind::Boolean, "false", [],
        "Tiered storage.";
    "retention.bytes", Kind::Long(i64::MIN, i64::MAX), "-1", ["log.retention.bytes" Same],
        "Bytes of a partition that are kept; -1 is without a limit.";
    "retention.ms", Kind::Long(-1, i64::MAX), "604800000",
        ["log.retention.ms" Same, "log.retention.minutes" MinutesToMs, "log.retention.hours" HoursToMs],
        "How long records are kept; -1 is for ever.";
    "segment.bytes", Kind::Int(1_048_576, i32::MAX), "1073741824", ["log.segment.bytes" Same],
        "Size of a segment file.";
    "segment.index.bytes", Kind::Int(4, i32::MAX), "10485760", ["log.index.size.max.bytes" Same],
        "Size at which an index is full and its segment rolls.";
    "segment.jitter.ms", Kind::Long(0, i64::MAX), "0", ["log.roll.jitter.ms" Same, "log.roll.jitter.hours" HoursToMs],
        "Random time taken off segment.ms, so that segments do not all roll at once.";
    "segment.ms", Kind::Long(1, i64::MAX), "604800000", ["log.roll.ms" Same, "log.roll.hours" HoursToMs],
        "Age at which a segment rolls though it is not full.";
    "unclean.leader.election.enable", Kind::Boolean, "false", ["unclean.leader.election.enable" Same],
        "Let a replica outside the in-sync set lead when no other is left, losing records. (On one node there is no other.)";
};

/// The key of that name.
pub fn find(name: &str) -> Option<&'static TopicKey> {
    KEYS.iter().find(|entry| entry.key.name == name)
}

/// The broker's key that says for all topics what a topic's key says for one.
pub fn broker_key(name: &str) -> Option<&'static str> {
    Some(find(name)?.broker_keys.first()?.0)
}

/// Checks one topic configuration: the key is known, the value fits, and this broker does what it
/// asks for.
pub fn validate(name: &str, value: &str) -> Result<(), ConfigError> {
    let entry = find(name).ok_or_else(|| ConfigError::UnknownTopicKey(name.to_owned()))?;
    check_as(entry, name, value)
}

/// Checks a value of a topic key, or of the broker key `name` that sets its default in the same unit.
pub fn check_as(entry: &TopicKey, name: &str, value: &str) -> Result<(), ConfigError> {
    let value = value.trim();
    if entry.key.name == "compression.gzip.level" && !matches!(value.parse::<i32>(), Ok(-1 | 1..=9) | Err(_))
    {
        return Err(ConfigError::InvalidValue {
            name: name.to_owned(),
            value: value.to_owned(),
            reason: "Value must be between 1 and 9 or equal to -1".to_owned(),
        });
    }
    let key = Key {
        // Errors speak of the name that somebody wrote.
        name: entry
            .broker_keys
            .iter()
            .map(|(known, _)| *known)
            .find(|known| *known == name)
            .unwrap_or(entry.key.name),
        ..entry.key
    };
    key.check(value)?;
    match why_unserved(entry.key.name, value) {
        None => Ok(()),
        Some(why) => Err(ConfigError::Refused(format!(
            "Invalid value {value} for configuration {name}: this broker does not serve it: {why}"
        ))),
    }
}

/// Why this broker does not do what a topic's value asks for; `None` where it does.
fn why_unserved(name: &str, value: &str) -> Option<&'static str> {
    let is_true = value.eq_ignore_ascii_case("true");
    match name {
        "preallocate" if is_true => Some("segments grow as records come"),
        "remote.storage.enable" if is_true => Some(
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.",
        ),
        "remote.log.copy.disable" | "remote.log.delete.on.disable" if is_true => {
            Some("there is no tiered storage")
        }
        "local.retention.bytes" | "local.retention.ms" if value != "-2" => {
            Some("there is no tiered storage, so that retention.bytes and retention.ms say it all")
        }
        "follower.replication.throttled.replicas" | "leader.replication.throttled.replicas"
            if !value.is_empty() =>
        {
            Some("replication is not throttled")
        }
        "compression.lz4.level" if value != "9" => Some("its lz4 encoder has one level, called 9"),
        _ => None,
    }
}

/// Checks all configurations that a topic has of its own, also against each other.
pub fn validate_all(set: &Set) -> Result<(), String> {
    for (name, value) in set {
        validate(name, value).map_err(|error| error.to_string())?;
    }
    let lag = |name: &str| {
        let text =
            set.get(name).map(String::as_str).or_else(|| find(name).and_then(|entry| entry.key.default));
        text.and_then(|text| text.trim().parse::<i64>().ok())
    };
    match (lag("min.compaction.lag.ms"), lag("max.compaction.lag.ms")) {
        (Some(min), Some(max)) if min > max => Err(format!(
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

/// Whose time records carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// The typed configuration of a topic.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    pub compression: CompressionType,
    pub compression_gzip_level: i32,
    pub compression_lz4_level: i32,
    pub compression_zstd_level: i32,
    /// Compressed batches are not taken at their headers' word.
    pub check_compressed_records: bool,
    pub delete: bool,
    /// Records need keys, and the last of each key stays.
    pub compact: bool,
    pub delete_retention_ms: i64,
    pub file_delete_delay_ms: i64,
    pub flush_messages: i64,
    pub flush_ms: i64,
    pub index_interval_bytes: i32,
    pub max_compaction_lag_ms: i64,
    pub max_message_bytes: i32,
    pub timestamp_after_max_ms: i64,
    pub timestamp_before_max_ms: i64,
    pub timestamp_type: TimestampType,
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: i64,
    pub min_insync_replicas: i32,
    pub retention_bytes: i64,
    pub retention_ms: i64,
    pub segment_bytes: i32,
    pub segment_index_bytes: i32,
    pub segment_jitter_ms: i64,
    pub segment_ms: i64,
    pub unclean_leader_election: bool,
}

/// A broker key that topics take a default from.
#[derive(Clone, Copy, Debug)]
pub struct DefaultKey {
    pub key: Key,
    pub of: &'static TopicKey,
    pub unit: Unit,
    /// Of several that decide about the same, the strongest.
    pub is_first: bool,
}

impl DefaultKey {
    /// Checks a value of the broker key.
    pub fn check(&self, value: &str) -> Result<(), ConfigError> {
        match self.unit {
            Unit::Same => check_as(self.of, self.key.name, value),
            Unit::MinutesToMs | Unit::HoursToMs => self.key.check(value),
        }
    }
}

/// The broker keys that topics take their defaults from.
pub fn broker_keys() -> impl Iterator<Item = DefaultKey> {
    KEYS.iter().flat_map(default_keys)
}

/// The topic key that this broker key sets the default of.
pub fn set_by(name: &str) -> Option<&'static TopicKey> {
    KEYS.iter().find(|entry| entry.broker_keys.iter().any(|(known, _)| *known == name))
}

/// The broker keys of a topic key. Where several decide about the same, the last has the default, in its unit.
fn default_keys(entry: &'static TopicKey) -> impl Iterator<Item = DefaultKey> {
    let last = entry.broker_keys.len().saturating_sub(1);
    entry.broker_keys.iter().enumerate().map(move |(at, (name, unit))| {
        let default = entry.key.default.filter(|_| at == last);
        let per_unit = match unit {
            Unit::Same => None,
            Unit::MinutesToMs => Some(60_000),
            Unit::HoursToMs => Some(3_600_000),
        };
        let key = match per_unit {
            None => Key { name, default, ..entry.key },
            Some(per_unit) => {
                let least = match entry.key.kind {
                    Kind::Long(least, _) => i32::try_from(least).unwrap_or_default(),
                    _ => 0,
                };
                let default = default.and_then(|text| text.parse::<i64>().ok());
                let default = default.map(|ms| match ms / per_unit {
                    0 => "0",
                    _ => HOURS_OF_A_WEEK,
                });
                Key { name, kind: Kind::Int(least, i32::MAX), default, ..entry.key }
            }
        };
        DefaultKey { key, of: entry, unit: *unit, is_first: at == 0 }
    })
}

/// What Kafka gives in hours is seven days or nothing.
const HOURS_OF_A_WEEK: &str = "168";

/// All values that a topic key has, the effective one first (KIP-226's synonyms).
pub fn synonyms(entry: &'static TopicKey, topic: &Set, broker: &BrokerValues) -> Vec<Synonym> {
    let name = entry.key.name;
    let own =
        topic.get(name).map(|value| Synonym { name, value: value.trim().to_owned(), source: Source::Topic });
    let mut of_broker = broker_synonyms(entry, broker);
    // As in Kafka, those in other units are told of only behind a value of the first.
    let first = entry.broker_keys.first().map(|(name, _)| *name);
    let from = of_broker.iter().position(|synonym| Some(synonym.name) == first).unwrap_or(of_broker.len());
    own.into_iter().chain(of_broker.split_off(from)).collect()
}

/// All values of the broker keys that set the default of a topic key, the effective one first.
pub fn broker_synonyms(entry: &'static TopicKey, broker: &BrokerValues) -> Vec<Synonym> {
    let keys: Vec<_> = default_keys(entry).map(|known| (known.key.name, known.key.default)).collect();
    broker.synonyms(&keys)
}

/// The value of a topic key that counts, in the topic key's unit, and where it comes from.
pub fn effective(entry: &'static TopicKey, topic: &Set, broker: &BrokerValues) -> (String, Source) {
    if let Some(value) = topic.get(entry.key.name) {
        return (value.trim().to_owned(), Source::Topic);
    }
    let mut of_broker = entry.broker_keys.iter().filter_map(|(name, unit)| {
        let (value, source) = broker.get(name)?;
        Some((converted(value, *unit), source))
    });
    of_broker.next().unwrap_or_else(|| (entry.key.default.unwrap_or_default().to_owned(), Source::Default))
}

fn converted(value: &str, unit: Unit) -> String {
    let factor = match unit {
        Unit::Same => return value.to_owned(),
        Unit::MinutesToMs => 60_000,
        Unit::HoursToMs => 3_600_000,
    };
    match value.parse::<i64>() {
        // Negative is "without a limit", in any unit.
        Ok(number) if number < 0 => "-1".to_owned(),
        Ok(number) => number.saturating_mul(factor).to_string(),
        Err(_) => value.to_owned(),
    }
}

impl TopicConfig {
    /// The effective configuration of a topic. Values are taken to be checked already; one that is not
    /// gives way to the default.
    pub fn resolve(topic: &Set, broker: &BrokerValues) -> Self {
        let text = |name: &str| -> String {
            let Some(entry) = find(name) else { return String::new() };
            let (value, _) = effective(entry, topic, broker);
            match entry.key.check(&value) {
                Ok(()) => value,
                Err(_) => entry.key.default.unwrap_or_default().to_owned(),
            }
        };
        let long = |name: &str| text(name).parse::<i64>().unwrap_or_default();
        let int = |name: &str| text(name).parse::<i32>().unwrap_or_default();
        TopicConfig {
            compression: match text("compression.type").as_str() {
                "uncompressed" => CompressionType::Uncompressed,
                "gzip" => CompressionType::Gzip,
                "snappy" => CompressionType::Snappy,
                "lz4" => CompressionType::Lz4,
                "zstd" => CompressionType::Zstd,
                _ => CompressionType::Producer,
            },
            compression_gzip_level: int("compression.gzip.level"),
            compression_lz4_level: int("compression.lz4.level"),
            compression_zstd_level: int("compression.zstd.level"),
            check_compressed_records: text("raftsman.check.compressed.records").eq_ignore_ascii_case("true"),
            delete: key::list(&text("cleanup.policy")).any(|policy| policy == "delete"),
            compact: key::list(&text("cleanup.policy")).any(|policy| policy == "compact"),
            delete_retention_ms: long("delete.retention.ms"),
            file_delete_delay_ms: long("file.delete.delay.ms"),
            flush_messages: long("flush.messages"),
            flush_ms: long("flush.ms"),
            index_interval_bytes: int("index.interval.bytes"),
            max_compaction_lag_ms: long("max.compaction.lag.ms"),
            max_message_bytes: int("max.message.bytes"),
            timestamp_after_max_ms: long("message.timestamp.after.max.ms"),
            timestamp_before_max_ms: long("message.timestamp.before.max.ms"),
            timestamp_type: match text("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            min_cleanable_dirty_ratio: text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
            min_compaction_lag_ms: long("min.compaction.lag.ms"),
            min_insync_replicas: int("min.insync.replicas"),
            retention_bytes: long("retention.bytes"),
            retention_ms: long("retention.ms"),
            segment_bytes: int("segment.bytes"),
            segment_index_bytes: int("segment.index.bytes"),
            segment_jitter_ms: long("segment.jitter.ms"),
            segment_ms: long("segment.ms"),
            unclean_leader_election: text("unclean.leader.election.enable").eq_ignore_ascii_case("true"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> Set {
        entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_topic_wins_over_the_broker_and_milliseconds_over_hours() {
        let broker = |entries: &[(&str, &str)]| BrokerValues::fixed(map(entries));
        let set = broker(&[("log.retention.hours", "1"), ("log.segment.bytes", "2000000")]);
        let config = TopicConfig::resolve(&map(&[("segment.bytes", "1048576")]), &set);
        assert_eq!((config.retention_ms, config.segment_bytes), (3_600_000, 1_048_576));
        let set = broker(&[("log.retention.hours", "1"), ("log.retention.ms", "5")]);
        assert_eq!(TopicConfig::resolve(&map(&[]), &set).retention_ms, 5);
        let set = broker(&[("log.retention.hours", "-1")]);
        assert_eq!(TopicConfig::resolve(&map(&[]), &set).retention_ms, -1);
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
        assert!(KEYS.iter().all(|entry| validate(entry.key.name, entry.key.default.unwrap()).is_ok()));
        assert!(KEYS.is_sorted_by_key(|entry| entry.key.name));
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
        for entry in KEYS {
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
            for known in default_keys(entry) {
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
            if let Some(last) = default_keys(entry).last() {
                let in_its_unit = last.key.default.unwrap();
                assert_eq!(converted(in_its_unit, last.unit), entry.key.default.unwrap(), "{last:?}");
            }
        }
    }
}
