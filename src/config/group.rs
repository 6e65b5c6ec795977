//! The configuration of a group: every group key of Kafka 4.3.
//!
//! They tune groups of the new protocols (`consumer`, `share`, `streams`), which this broker does not
//! serve yet: they are checked, kept and told of, and take effect with those protocols. Groups of the
//! classic protocol bring their timeouts with them.

use super::declaration::{Check, Value};
use super::key::{ConfigError, Key, Kind};
use super::values::{Set, Source, Synonym};

/// A group key, with Kafka's broker key that sets its default and limits.
#[derive(Clone, Copy, Debug)]
pub struct GroupKey {
    pub key: Key,
    check: Check,
    /// The key of Kafka's brokers that has the default; the key itself where there is none.
    pub default_name: &'static str,
    /// Kafka's broker keys that limit it, with their defaults.
    least: Option<(&'static str, i32)>,
    greatest: Option<(&'static str, i32)>,
}

const RESETS: &str = "by_duration:";

/// The rows: each with the type that its value is read into, which is its check. No room reads them yet; the first
/// that does gets a struct of them, as `config!` makes it.
macro_rules! keys {
    ($(
        $(#[doc = $doc:literal])+
        $name:literal: $type:ty, $kind:expr, default $default:literal from $default_name:literal
            $(, at_least $least_name:literal $least:literal)? $(, at_most $greatest_name:literal $greatest:literal)?;
    )*) => {
        &[$(GroupKey {
            key: Key {
                name: $name,
                kind: $kind,
                default: Some(concat!($default)),
                doc: concat!($($doc),+).trim_ascii_start(),
            },
            check: |key, text| <$type>::read(key, text).map(drop),
            default_name: $default_name,
            least: keys!(@limit $($least_name $least)?),
            greatest: keys!(@limit $($greatest_name $greatest)?),
        }),*]
    };
    (@limit) => { None };
    (@limit $name:literal $limit:literal) => { Some(($name, $limit)) };
}

/// All group keys, in the order of their names.
pub const KEYS: &[GroupKey] = keys! {
    /// Least time between two assignments of a consumer group.
    "consumer.assignment.interval.ms": i32, Kind::Int(0, i32::MAX), default 1000 from "group.consumer.assignment.interval.ms",
        at_least "group.consumer.min.assignment.interval.ms" 0,
        at_most "group.consumer.max.assignment.interval.ms" 15_000;
    /// How often members of a consumer group send heartbeats.
    "consumer.heartbeat.interval.ms": i32, Kind::Int(1, i32::MAX), default 5000 from "group.consumer.heartbeat.interval.ms",
        at_least "group.consumer.min.heartbeat.interval.ms" 5_000,
        at_most "group.consumer.max.heartbeat.interval.ms" 15_000;
    /// Time without a heartbeat after which a member of a consumer group is gone.
    "consumer.session.timeout.ms": i32, Kind::Int(1, i32::MAX), default 45_000 from "group.consumer.session.timeout.ms",
        at_least "group.consumer.min.session.timeout.ms" 45_000,
        at_most "group.consumer.max.session.timeout.ms" 60_000;
    /// Least time between two assignments of a share group.
    "share.assignment.interval.ms": i32, Kind::Int(0, i32::MAX), default 1000 from "group.share.assignment.interval.ms",
        at_least "group.share.min.assignment.interval.ms" 0,
        at_most "group.share.max.assignment.interval.ms" 15_000;
    /// Where a share group begins: `earliest`, `latest`, or `by_duration:` and how far back (`by_duration:PT1H`).
    "share.auto.offset.reset": OffsetReset, Kind::Text, default "latest" from "share.auto.offset.reset";
    /// How often a record is given to members of a share group before it is given up.
    "share.delivery.count.limit": i32, Kind::Int(2, i32::MAX), default 5 from "group.share.delivery.count.limit",
        at_least "group.share.min.delivery.count.limit" 2,
        at_most "group.share.max.delivery.count.limit" 10;
    /// How often members of a share group send heartbeats.
    "share.heartbeat.interval.ms": i32, Kind::Int(1, i32::MAX), default 5000 from "group.share.heartbeat.interval.ms",
        at_least "group.share.min.heartbeat.interval.ms" 5_000,
        at_most "group.share.max.heartbeat.interval.ms" 15_000;
    /// Whether a share group sees records of open transactions.
    "share.isolation.level": String, Kind::OneOf(&["read_committed", "read_uncommitted"]), default "read_uncommitted" from "share.isolation.level";
    /// Most records of a partition that a share group holds at a time.
    "share.partition.max.record.locks": i32, Kind::Int(100, i32::MAX), default 2000 from "group.share.partition.max.record.locks",
        at_least "group.share.min.partition.max.record.locks" 100,
        at_most "group.share.max.partition.max.record.locks" 4_000;
    /// How long a member of a share group holds a record.
    "share.record.lock.duration.ms": i32, Kind::Int(1_000, i32::MAX), default 30_000 from "group.share.record.lock.duration.ms",
        at_least "group.share.min.record.lock.duration.ms" 15_000,
        at_most "group.share.max.record.lock.duration.ms" 60_000;
    /// Let members of a share group hold a record for longer.
    "share.renew.acknowledge.enable": bool, Kind::Boolean, default true from "share.renew.acknowledge.enable";
    /// Time without a heartbeat after which a member of a share group is gone.
    "share.session.timeout.ms": i32, Kind::Int(1, i32::MAX), default 45_000 from "group.share.session.timeout.ms",
        at_least "group.share.min.session.timeout.ms" 45_000,
        at_most "group.share.max.session.timeout.ms" 60_000;
    /// Least time between two assignments of a streams group.
    "streams.assignment.interval.ms": i32, Kind::Int(0, i32::MAX), default 1000 from "group.streams.assignment.interval.ms",
        at_least "group.streams.min.assignment.interval.ms" 0,
        at_most "group.streams.max.assignment.interval.ms" 15_000;
    /// How often members of a streams group send heartbeats.
    "streams.heartbeat.interval.ms": i32, Kind::Int(1, i32::MAX), default 5000 from "group.streams.heartbeat.interval.ms",
        at_least "group.streams.min.heartbeat.interval.ms" 5_000,
        at_most "group.streams.max.heartbeat.interval.ms" 15_000;
    /// How long the first assignment of an empty streams group waits for more members.
    "streams.initial.rebalance.delay.ms": i32, Kind::Int(0, i32::MAX), default 3000 from "group.streams.initial.rebalance.delay.ms";
    /// Warm copies of each task's state.
    "streams.num.standby.replicas": i32, Kind::Int(0, i32::MAX), default 0 from "group.streams.num.standby.replicas",
        at_most "group.streams.max.standby.replicas" 2;
    /// Time without a heartbeat after which a member of a streams group is gone.
    "streams.session.timeout.ms": i32, Kind::Int(1, i32::MAX), default 45_000 from "group.streams.session.timeout.ms",
        at_least "group.streams.min.session.timeout.ms" 45_000,
        at_most "group.streams.max.session.timeout.ms" 60_000;
};

impl GroupKey {
    /// The limits that Kafka's brokers set unless told otherwise.
    pub fn limits(&self) -> (Option<i32>, Option<i32>) {
        (self.least.map(|(_, limit)| limit), self.greatest.map(|(_, limit)| limit))
    }

    /// All values of the key, the effective one first. Kafka's broker keys stand for the default.
    pub fn synonyms(&self, set: &Set) -> Vec<Synonym> {
        let name = self.key.name;
        let own = set.get(name).map(|value| Synonym {
            name,
            value: value.trim().to_owned(),
            source: Source::Group,
        });
        let value = self.key.default.unwrap_or_default().to_owned();
        let default = Synonym { name: self.default_name, value, source: Source::Default };
        own.into_iter().chain([default]).collect()
    }

    fn check(&self, value: &str) -> Result<(), ConfigError> {
        let value = value.trim();
        (self.check)(&self.key, value)?;
        let Ok(number) = value.parse::<i32>() else { return Ok(()) };
        let limited = |limit: Option<(&str, i32)>, fits: fn(&i32, &i32) -> bool, how: &str| match limit {
            Some((name, limit)) if !fits(&number, &limit) => {
                Err(ConfigError::Refused(format!("{} must be {how} than or equal to {name}", self.key.name)))
            }
            _ => Ok(()),
        };
        limited(self.least, i32::ge, "greater")?;
        limited(self.greatest, i32::le, "less")
    }
}

/// Checks all configurations of a group; the texts are Kafka's.
pub fn validate_all(set: &Set) -> Result<(), String> {
    for (name, value) in set {
        let entry = KEYS.iter().find(|entry| entry.key.name == name);
        let entry = entry.ok_or_else(|| format!("Unknown group config name: {name}"))?;
        entry.check(value).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Where a share group begins.
struct OffsetReset;

impl Value for OffsetReset {
    fn read(key: &Key, text: &str) -> Result<Self, ConfigError> {
        match is_reset(text) {
            true => Ok(Self),
            false => Err(key.invalid(text, "expected 'earliest', 'latest' or 'by_duration:<PnDTnHnMn.nS>'")),
        }
    }
}

fn is_reset(value: &str) -> bool {
    match value.strip_prefix(RESETS) {
        Some(duration) => is_duration(duration),
        None => matches!(value, "earliest" | "latest"),
    }
}

/// A duration that is not negative, as ISO 8601 writes it down to seconds: `P1DT2H3M4.5S`.
fn is_duration(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(['P', 'p']) else { return false };
    let (days, time) = match rest.split_once(['T', 't']) {
        Some((_, "")) => return false,
        Some((days, time)) => (days, time),
        None => (rest, ""),
    };
    let mut units = "HMS".chars();
    let mut count = 0;
    let mut number = String::new();
    for letter in time.to_ascii_uppercase().chars() {
        if letter.is_ascii_digit() || letter == '.' {
            number.push(letter);
            continue;
        }
        let is_number = match letter {
            'S' => number.parse::<f64>().is_ok(),
            _ => number.parse::<u64>().is_ok(),
        };
        if !is_number || !units.any(|unit| unit == letter) {
            return false;
        }
        number.clear();
        count += 1;
    }
    let has_days = match days.strip_suffix(['D', 'd']) {
        Some(number) if number.parse::<u64>().is_ok() => true,
        None if days.is_empty() => false,
        _ => return false,
    };
    number.is_empty() && (has_days || count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, value: &str) -> String {
        validate_all(&Set::from([(name.to_owned(), value.to_owned())])).unwrap_err()
    }

    #[test]
    fn group_keys_are_checked_as_kafka_checks_them() {
        for entry in KEYS {
            assert!(entry.check(entry.key.default.unwrap()).is_ok(), "{}", entry.key.name);
        }
        assert!(KEYS.is_sorted_by_key(|entry| entry.key.name));
        assert_eq!(
            refused("consumer.session.timeout.ms", "10"),
            "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms"
        );
        assert_eq!(
            refused("streams.num.standby.replicas", "5"),
            "streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas"
        );
        assert_eq!(
            refused("share.record.lock.duration.ms", "500"),
            "Invalid value 500 for configuration share.record.lock.duration.ms: Value must be at least 1000"
        );
        assert_eq!(refused("no.such", "1"), "Unknown group config name: no.such");
        refused("share.isolation.level", "READ_COMMITTED");
        for fine in ["earliest", "by_duration:PT1H", "by_duration:P1D", "by_duration:P1DT2H3M4.5S"] {
            assert!(is_reset(fine), "{fine}");
        }
        for wrong in [
            "",
            "none",
            "by_duration:",
            "by_duration:P",
            "by_duration:PT",
            "by_duration:-PT1H",
            "by_duration:PT1M1H",
            "by_duration:PT1",
        ] {
            assert!(!is_reset(wrong), "{wrong}");
        }
    }
}
