//! How a topic's key is declared: as a row of [`topic_config!`], which is at the same time the field that it is read
//! into, as `config!` does for the broker's (`config/declaration.rs`). Behind the default stand the broker's keys that
//! set it for all topics, the strongest first.

use crate::config::declaration::{Check, Value};
use crate::config::key::{ConfigError, Key, Kind};
use crate::config::values::{BrokerValues, Set, Source, Synonym};

/// How a broker key's value becomes a topic key's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Same,
    HoursToMs,
    MinutesToMs,
}

/// A broker key that sets the default of a topic key.
#[derive(Clone, Copy, Debug)]
pub struct BrokerDefault {
    pub name: &'static str,
    pub unit: Unit,
    /// Of the last of several: what counts when nobody sets any, in its unit.
    pub default: Option<&'static str>,
}

/// A topic key with the broker keys that set its default, the strongest first.
#[derive(Clone, Copy, Debug)]
pub struct TopicKey {
    pub key: Key,
    pub broker_keys: &'static [BrokerDefault],
    pub(super) check: Check,
    /// Why this broker does not do what any value but the default asks for.
    pub(super) unserved: Option<&'static str>,
}

impl TopicKey {
    /// Checks a value: it fits, and this broker does what it asks for. Errors speak of the key by the name that
    /// somebody wrote: its own, or that of a broker key in the same unit.
    pub fn check_as(&self, name: &'static str, value: &str) -> Result<(), ConfigError> {
        let (key, value) = (Key { name, ..self.key }, value.trim());
        (self.check)(&key, value)?;
        match self.unserved {
            Some(why) if Some(key.canonical(value).as_str()) != key.default => Err(key.unserved(value, why)),
            _ => Ok(()),
        }
    }

    /// The broker keys that set the default, as keys of their own.
    pub fn defaults(&'static self) -> impl Iterator<Item = DefaultKey> {
        self.broker_keys.iter().enumerate().map(move |(at, known)| {
            let kind = match (known.unit, self.key.kind) {
                (Unit::HoursToMs | Unit::MinutesToMs, Kind::Long(least, _)) => {
                    Kind::Int(least.clamp(-1, 1) as i32, i32::MAX)
                }
                (_, kind) => kind,
            };
            let key = Key { name: known.name, kind, default: known.default, ..self.key };
            DefaultKey { key, of: self, unit: known.unit, is_first: at == 0 }
        })
    }

    /// The value that counts, in the topic key's unit, and where it comes from.
    pub fn effective(&self, topic: &Set, broker: &BrokerValues) -> (String, Source) {
        if let Some(value) = topic.get(self.key.name) {
            return (value.trim().to_owned(), Source::Topic);
        }
        let mut of_broker = self.broker_keys.iter().filter_map(|known| {
            let (value, source) = broker.get(known.name)?;
            Some((converted(value, known.unit), source))
        });
        of_broker.next().unwrap_or_else(|| (self.key.default.unwrap_or_default().to_owned(), Source::Default))
    }

    /// All values that the key has, the effective one first (KIP-226's synonyms).
    pub fn synonyms(&'static self, topic: &Set, broker: &BrokerValues) -> Vec<Synonym> {
        let name = self.key.name;
        let own = topic.get(name).map(|value| Synonym {
            name,
            value: value.trim().to_owned(),
            source: Source::Topic,
        });
        let mut of_broker = self.broker_synonyms(broker);
        // As in Kafka, those in other units are told of only behind a value of the first.
        let first = self.broker_keys.first().map(|known| known.name);
        let from = of_broker.iter().position(|synonym| Some(synonym.name) == first);
        own.into_iter().chain(of_broker.split_off(from.unwrap_or(of_broker.len()))).collect()
    }

    /// All values of the broker keys that set the default, the effective one first.
    pub fn broker_synonyms(&self, broker: &BrokerValues) -> Vec<Synonym> {
        let keys: Vec<_> = self.broker_keys.iter().map(|known| (known.name, known.default)).collect();
        broker.synonyms(&keys)
    }

    /// The value that counts, as it is used. Values are taken to be checked already; one that is not (that of another
    /// version) gives way to the default.
    pub(super) fn read<T: Value>(&self, topic: &Set, broker: &BrokerValues) -> T {
        let (value, _) = self.effective(topic, broker);
        T::read(&self.key, &value).or_else(|_| T::read_or_default(&self.key, None)).unwrap_or_else(|error| {
            // Every default is read by a test.
            panic!("the default of {} does not fit it: {error}", self.key.name)
        })
    }
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
            Unit::Same => self.of.check_as(self.key.name, value),
            Unit::MinutesToMs | Unit::HoursToMs => self.key.check(value),
        }
    }
}

pub(super) fn converted(value: &str, unit: Unit) -> String {
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

/// Gives the last of the broker keys the topic key's default, unless it has one in its own unit.
pub(super) const fn with_default<const N: usize>(
    mut keys: [BrokerDefault; N],
    default: &'static str,
) -> [BrokerDefault; N] {
    if N > 0 && keys[N - 1].default.is_none() {
        keys[N - 1].default = Some(default);
    }
    keys
}

/// Declares keys of a topic and the struct that holds their values: see the head of the module. In brackets behind the
/// struct's name stands a part that is declared elsewhere.
macro_rules! topic_config {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident $(($(#[doc = $part_doc:literal])+ $part:ident: $part_type:ty))? {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty = $key:literal, $kind:expr, default $default:literal,
                    from [$($broker_key:literal $(in $unit:ident $($unit_default:literal)?)?),*];
            )+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[doc = $part_doc])+ pub $part: $part_type,)?
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        /// The rows.
        #[allow(non_upper_case_globals)]
        impl $name {
            $(
                pub const $field: $crate::config::topic::declaration::TopicKey =
                    $crate::config::topic::declaration::TopicKey {
                        key: $crate::config::key::Key {
                            name: $key,
                            kind: {
                                #[allow(unused_imports)]
                                use $crate::config::key::Kind::*;
                                $kind
                            },
                            default: Some(concat!($default)),
                            doc: concat!($($doc),+).trim_ascii_start(),
                        },
                        broker_keys: &$crate::config::topic::declaration::with_default(
                            [$($crate::config::topic::declaration::BrokerDefault {
                                name: $broker_key,
                                unit: topic_config!(@unit $($unit)?),
                                default: topic_config!(@default $($($unit_default)?)?),
                            }),*],
                            concat!($default),
                        ),
                        check: |key, text| <$type as $crate::config::declaration::Value>::read(key, text).map(drop),
                        unserved: None,
                    };
            )+

            pub(in crate::config) const KEYS: &'static [$crate::config::topic::declaration::TopicKey] =
                &[$(Self::$field),+];

            /// What counts for a topic with these values of its own. Values are taken to be checked already; one that
            /// is not gives way to the default.
            pub fn resolve(topic: &$crate::config::values::Set, broker: &$crate::config::BrokerValues) -> Self {
                Self {
                    $($part: <$part_type>::resolve(topic, broker),)?
                    $($field: Self::$field.read(topic, broker),)+
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::resolve(&Default::default(), &Default::default())
            }
        }
    };
    (@unit) => { $crate::config::topic::declaration::Unit::Same };
    (@unit $unit:ident) => { $crate::config::topic::declaration::Unit::$unit };
    (@default) => { None };
    (@default $default:literal) => { Some(concat!($default)) };
}

pub(super) use topic_config;
