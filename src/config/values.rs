//! What is set on a broker, and where: at run time on the broker, at run time for all brokers, or in
//! `server.properties`. The first of them that has a key decides (KIP-226).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::key::Kind;
use super::{broker, topic};

/// Values by key, as somebody wrote them.
pub type Set = BTreeMap<String, String>;

/// Where an effective value comes from; the numbers are those of `ConfigSource` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Topic = 1,
    DynamicBroker = 2,
    /// Set at run time for all brokers.
    DynamicDefaultBroker = 3,
    /// `server.properties`.
    StaticBroker = 4,
    Default = 5,
    BrokerLogger = 6,
    Group = 8,
}

/// One place that gives a value to a key, in the unit of the key that is set there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    pub name: &'static str,
    pub value: String,
    pub source: Source,
}

/// What is set on a broker, by where. Clones share `server.properties`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerValues {
    pub dynamic: Set,
    pub dynamic_default: Set,
    pub fixed: Arc<Set>,
}

impl BrokerValues {
    /// What `server.properties` set, and nothing else.
    pub fn fixed(set: Set) -> Self {
        Self { fixed: Arc::new(set), ..Self::default() }
    }

    fn layers(&self) -> [(&Set, Source); 3] {
        [
            (&self.dynamic, Source::DynamicBroker),
            (&self.dynamic_default, Source::DynamicDefaultBroker),
            (&self.fixed, Source::StaticBroker),
        ]
    }

    /// The value that somebody set, and where.
    pub fn get(&self, name: &str) -> Option<(&str, Source)> {
        self.layers().into_iter().find_map(|(set, source)| Some((set.get(name)?.trim(), source)))
    }

    /// Every key with the value that counts.
    pub fn merged(&self) -> Set {
        let mut merged = Set::clone(&self.fixed);
        merged.extend(self.dynamic_default.clone());
        merged.extend(self.dynamic.clone());
        merged
    }

    /// All values of a broker key and of those that stand in for it (`log.retention.hours` for
    /// `log.retention.ms`), the effective one first. As in Kafka, those that stand in are told of only
    /// behind a value of the key itself.
    pub fn synonyms(&self, name: &str) -> Vec<Synonym> {
        let names = topic::stand_ins(name);
        let mut all = Vec::new();
        for (set, source) in self.layers() {
            for name in &names {
                if let Some(value) = set.get(*name) {
                    all.push(Synonym { name, value: value.trim().to_owned(), source });
                }
            }
        }
        for name in &names {
            if let Some(default) = broker::find(name).and_then(|key| key.default) {
                all.push(Synonym { name, value: default.to_owned(), source: Source::Default });
            }
        }
        let first = all.iter().position(|synonym| synonym.name == name).unwrap_or(all.len());
        all.split_off(first)
    }
}

/// How a key may be changed while brokers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateMode {
    /// In `server.properties`, with a restart.
    ReadOnly,
    /// On one broker or for all of them.
    ClusterWide,
}

/// Keys that take effect while the broker runs, beside those that topics take their defaults from.
const DYNAMIC: &[&str] = &[
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.io.buffer.load.factor",
    "log.cleaner.io.buffer.size",
    "log.cleaner.io.max.bytes.per.second",
    "log.cleaner.threads",
    "max.connection.creation.rate",
    "max.connections",
    "max.connections.per.ip",
    "max.connections.per.ip.overrides",
    "producer.id.expiration.ms",
];

/// How a broker key may be changed, as in Kafka where this broker serves the key: times in hours or
/// minutes are read-only there as well.
pub fn update_mode(name: &str) -> UpdateMode {
    let is_topic_default = topic::KEYS.iter().any(|entry| {
        let mut names = entry.broker_keys.iter();
        names.next().is_some_and(|(first, _)| *first == name)
    });
    match is_topic_default || DYNAMIC.contains(&name) {
        true => UpdateMode::ClusterWide,
        false => UpdateMode::ReadOnly,
    }
}

/// Checks what somebody wants to set on a broker at run time; all of it, not what changes. The texts are
/// Kafka's where Kafka refuses too.
pub fn check_dynamic(set: &Set) -> Result<(), String> {
    if let Some(name) = set.keys().find(|name| !broker::is_known(name)) {
        let meant = topic::broker_key(name)
            .map(|key| format!(", which is a topic's; for all topics the broker has {key}"))
            .unwrap_or_default();
        return Err(format!("Unknown broker config name: {name}{meant}"));
    }
    let fixed: Vec<&str> =
        set.keys().map(String::as_str).filter(|name| update_mode(name) == UpdateMode::ReadOnly).collect();
    if !fixed.is_empty() {
        return Err(format!("Cannot update these configs dynamically: [{}]", fixed.join(", ")));
    }
    for (name, value) in set {
        broker::check(name, value).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// True for keys whose values are lists.
pub fn is_list(name: &str) -> bool {
    broker::find(name).is_some_and(|key| matches!(key.kind, Kind::List(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(entries: &[(&str, &str)]) -> Set {
        entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn told(values: &BrokerValues, name: &str) -> Vec<String> {
        let one = |s: Synonym| format!("{}={}@{}", s.name, s.value, s.source as i8);
        values.synonyms(name).into_iter().map(one).collect()
    }

    #[test]
    fn a_broker_wins_over_all_brokers_over_the_file_over_the_default() {
        let values = BrokerValues {
            dynamic: set(&[("message.max.bytes", "3")]),
            dynamic_default: set(&[("message.max.bytes", "2"), ("log.retention.ms", "7")]),
            fixed: Arc::new(set(&[("message.max.bytes", " 1 "), ("log.retention.hours", "24")])),
        };
        assert_eq!(values.get("message.max.bytes"), Some(("3", Source::DynamicBroker)));
        assert_eq!(values.merged()["log.retention.ms"], "7");
        assert_eq!(
            told(&values, "message.max.bytes"),
            [
                "message.max.bytes=3@2",
                "message.max.bytes=2@3",
                "message.max.bytes=1@4",
                "message.max.bytes=1048588@5"
            ]
        );
        assert_eq!(
            told(&values, "log.retention.ms"),
            ["log.retention.ms=7@3", "log.retention.hours=24@4", "log.retention.hours=168@5"]
        );
        assert_eq!(
            told(&values, "log.retention.hours"),
            ["log.retention.hours=24@4", "log.retention.hours=168@5"]
        );
        assert_eq!(told(&BrokerValues::default(), "log.retention.ms"), [""; 0]);
        assert_eq!(told(&values, "advertised.listeners"), [""; 0]);
    }

    #[test]
    fn what_cannot_change_at_run_time_is_refused_in_kafkas_words() {
        let refused = |entries| check_dynamic(&set(entries)).unwrap_err();
        assert_eq!(
            refused(&[("num.partitions", "3"), ("node.id", "2"), ("message.max.bytes", "5")]),
            "Cannot update these configs dynamically: [node.id, num.partitions]"
        );
        assert_eq!(
            refused(&[("log.retention.hours", "3")]),
            "Cannot update these configs dynamically: [log.retention.hours]"
        );
        // Kafka has it and changes it at run time; here it has no meaning.
        assert_eq!(
            refused(&[("num.io.threads", "3")]),
            "Cannot update these configs dynamically: [num.io.threads]"
        );
        assert_eq!(refused(&[("no.such.key", "3")]), "Unknown broker config name: no.such.key");
        assert!(
            refused(&[("retention.ms", "3")]).ends_with("for all topics the broker has log.retention.ms")
        );
        assert_eq!(
            refused(&[("message.max.bytes", "x")]),
            "Invalid value x for configuration message.max.bytes: Not a number of type INT"
        );
        assert!(refused(&[("log.preallocate", "true")]).contains("does not serve it"));
        assert!(DYNAMIC.iter().all(|name| broker::find(name).is_some()));
    }
}
