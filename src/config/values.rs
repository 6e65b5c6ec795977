//! What is set on a broker, and where: at run time on the broker, at run time for all brokers, or in
//! `server.properties`. The first of them that has a key decides (KIP-226).

use std::collections::BTreeMap;
use std::sync::Arc;

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

    /// All values of keys that decide about the same, the strongest key first, with their defaults; the effective value
    /// first.
    pub(super) fn synonyms(&self, keys: &[(&'static str, Option<&'static str>)]) -> Vec<Synonym> {
        let mut all = Vec::new();
        for (set, source) in self.layers() {
            for (name, _) in keys {
                if let Some(value) = set.get(*name) {
                    all.push(Synonym { name, value: value.trim().to_owned(), source });
                }
            }
        }
        for (name, default) in keys {
            if let Some(default) = default {
                all.push(Synonym { name, value: (*default).to_owned(), source: Source::Default });
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_wins_over_all_brokers_over_the_file() {
        let set = |value: &str| Set::from([("message.max.bytes".to_owned(), value.to_owned())]);
        let mut values =
            BrokerValues { dynamic: set("3"), dynamic_default: set("2"), fixed: Arc::new(set(" 1 ")) };
        assert_eq!(values.get("message.max.bytes"), Some(("3", Source::DynamicBroker)));
        values.dynamic.clear();
        assert_eq!(values.get("message.max.bytes"), Some(("2", Source::DynamicDefaultBroker)));
        values.dynamic_default.clear();
        assert_eq!(values.get("message.max.bytes"), Some(("1", Source::StaticBroker)));
        assert_eq!(values.get("log.retention.ms"), None);
    }
}
