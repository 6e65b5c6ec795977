//! Every key of `server.properties`: those that the rooms declare, and those that topics take their defaults from.

use strsim::damerau_levenshtein;

use super::declaration::UpdateMode;
use super::key::{ConfigError, Key, Kind};
use super::values::{BrokerValues, Set, Synonym};
use super::{kafka_names, rooms, topic};

/// A broker key, of a room's or a default of topics.
#[derive(Clone, Copy, Debug)]
pub struct KnownKey {
    pub key: Key,
    pub update_mode: UpdateMode,
    check: Check,
}

#[derive(Clone, Copy, Debug)]
enum Check {
    OfRoom(super::declaration::Check),
    OfTopics(topic::DefaultKey),
}

impl KnownKey {
    /// Checks a value: it fits, and this broker does what it asks for.
    pub fn check(&self, value: &str) -> Result<(), ConfigError> {
        match self.check {
            Check::OfRoom(check) => check(&self.key, value),
            Check::OfTopics(known) => known.check(value),
        }
    }
}

fn keys() -> impl Iterator<Item = KnownKey> {
    let of_rooms = rooms::TABLES.iter().copied().flatten().map(|known| KnownKey {
        key: known.key,
        update_mode: known.update_mode,
        check: Check::OfRoom(known.check),
    });
    let of_topics = topic::broker_keys().map(|known| KnownKey {
        key: known.key,
        // Times in hours or minutes are read-only in Kafka as well.
        update_mode: if known.is_first { UpdateMode::ClusterWide } else { UpdateMode::ReadOnly },
        check: Check::OfTopics(known),
    });
    of_rooms.chain(of_topics)
}

/// The broker key of that name.
pub fn find(name: &str) -> Option<KnownKey> {
    keys().find(|known| known.key.name == name)
}

/// Every broker key, in the order of their names.
pub fn all() -> Vec<KnownKey> {
    let mut all: Vec<KnownKey> = keys().collect();
    all.sort_by_key(|known| known.key.name);
    all
}

/// The known key that somebody may have meant.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    if let Some(of_broker) = topic::broker_key(name) {
        return Some(of_broker);
    }
    // Longer than any key is; the count of errors grows with the square.
    if name.len() > 100 {
        return None;
    }
    let known = keys().map(|known| known.key.name).chain(kafka_names::broker_keys());
    let nearest = known.map(|known| (damerau_levenshtein(name, known), known)).min()?;
    // One in five letters: more is another word.
    (nearest.0 <= name.chars().count().div_ceil(5)).then_some(nearest.1)
}

/// Checks what somebody wants to set on a broker at run time; all of it, not what changes. The texts are
/// Kafka's where Kafka refuses too.
pub fn check_dynamic(set: &Set) -> Result<(), String> {
    if let Some(name) = set.keys().find(|name| find(name).is_none() && !kafka_names::has(name)) {
        let meant = topic::broker_key(name)
            .map(|key| format!(", which is a topic's; for all topics the broker has {key}"))
            .unwrap_or_default();
        return Err(format!("Unknown broker config name: {name}{meant}"));
    }
    // Kafka's keys that have no meaning here do not change anything.
    let is_fixed = |name: &str| find(name).is_none_or(|known| known.update_mode == UpdateMode::ReadOnly);
    let fixed: Vec<&str> = set.keys().map(String::as_str).filter(|name| is_fixed(name)).collect();
    if !fixed.is_empty() {
        return Err(format!("Cannot update these configs dynamically: [{}]", fixed.join(", ")));
    }
    for (name, value) in set {
        find(name).map_or(Ok(()), |known| known.check(value)).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// True for keys whose values are lists.
pub fn is_list(name: &str) -> bool {
    find(name).is_some_and(|known| matches!(known.key.kind, Kind::List(_)))
}

/// All values of a broker key and of those that stand in for it (`log.retention.hours` for
/// `log.retention.ms`), the effective one first. As in Kafka, those that stand in are told of only
/// behind a value of the key itself.
pub fn synonyms(name: &str, values: &BrokerValues) -> Vec<Synonym> {
    let mut all = match topic::set_by(name) {
        Some(entry) => entry.broker_synonyms(values),
        None => match find(name) {
            Some(known) => values.synonyms(&[(known.key.name, known.key.default)]),
            None => Vec::new(),
        },
    };
    let first = all.iter().position(|synonym| synonym.name == name).unwrap_or(all.len());
    all.split_off(first)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn set(entries: &[(&str, &str)]) -> Set {
        entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn told(values: &BrokerValues, name: &str) -> Vec<String> {
        let one = |s: Synonym| format!("{}={}@{}", s.name, s.value, s.source as i8);
        synonyms(name, values).into_iter().map(one).collect()
    }

    #[test]
    fn a_key_is_declared_once_and_its_default_and_limits_fit_its_field() {
        let all = all();
        assert!(all.windows(2).all(|pair| pair[0].key.name < pair[1].key.name));
        for known in all {
            let Key { name, kind, default, .. } = known.key;
            let limits = match kind {
                Kind::Short(least, greatest) => vec![least.to_string(), greatest.to_string()],
                Kind::Int(least, greatest) => vec![least.to_string(), greatest.to_string()],
                Kind::Long(least, greatest) => vec![least.to_string(), greatest.to_string()],
                Kind::Double(least, greatest) => vec![least.to_string(), greatest.to_string()],
                Kind::Boolean | Kind::Text | Kind::OneOf(_) | Kind::List(_) => Vec::new(),
            };
            for value in default.map(str::to_owned).into_iter().chain(limits) {
                match known.check(&value) {
                    Ok(()) => {}
                    Err(error) => assert!(error.to_string().contains("does not serve it"), "{name}: {error}"),
                }
            }
        }
    }

    #[test]
    fn a_broker_wins_over_all_brokers_over_the_file_over_the_default() {
        let values = BrokerValues {
            dynamic: set(&[("message.max.bytes", "3")]),
            dynamic_default: set(&[("message.max.bytes", "2"), ("log.retention.ms", "7")]),
            fixed: Arc::new(set(&[("message.max.bytes", " 1 "), ("log.retention.hours", "24")])),
        };
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
        assert!(refused(&[("max.connections.per.ip.overrides", "x")]).contains("such as 10.0.0.1:100"));
    }
}
