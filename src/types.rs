//! The numbers and names that mean something, each as a type of its own.
//!
//! Words are Kafka's: an *offset* is a record's position in a partition, a *leader epoch* counts the
//! leaderships of a partition, a *producer id* with its *producer epoch* names an idempotent producer.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Defines a newtype over an integer that orders, hashes, prints and serialises as that integer.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

number!(
    /// Position of a record in a partition, counted from 0. A log end offset is the offset that the
    /// next record will get.
    Offset(i64)
);
number!(
    /// Counts the leaderships of a partition, from 0. `LeaderEpoch::NONE` (-1) is "not known".
    LeaderEpoch(i32)
);
number!(
    /// Id of a broker or controller (`node.id`).
    NodeId(i32)
);
number!(
    /// Id of an idempotent producer (KIP-98). `ProducerId::NONE` (-1) is "not idempotent".
    ProducerId(i64)
);

impl Offset {
    pub const ZERO: Offset = Offset(0);
    /// The value that the wire uses for "no offset".
    pub const NONE: Offset = Offset(-1);

    /// The offset `records` further on.
    pub fn plus(self, records: i64) -> Offset {
        Offset(self.0 + records)
    }
}

impl LeaderEpoch {
    pub const NONE: LeaderEpoch = LeaderEpoch(-1);
}

impl ProducerId {
    pub const NONE: ProducerId = ProducerId(-1);
}

/// Id of a topic, unique over deletions and re-creations of its name (KIP-516). Printed and parsed
/// as Kafka prints it: 22 characters of URL-safe base64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicId(pub Uuid);

impl TopicId {
    pub const ZERO: TopicId = TopicId(Uuid::nil());
}

/// Kafka's text form of an id: 22 characters of URL-safe base64.
pub fn uuid_to_base64(id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(id.as_bytes())
}

/// Reads Kafka's text form of an id.
pub fn uuid_from_base64(text: &str) -> Option<Uuid> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    Uuid::from_slice(&bytes).ok()
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&uuid_to_base64(self.0))
    }
}

/// A text that is not the text form of the type asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not {1}")]
pub struct ParseError(pub String, pub &'static str);

impl FromStr for TopicId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        uuid_from_base64(text)
            .map(TopicId)
            .ok_or_else(|| ParseError(text.to_owned(), "a topic id (22 characters of base64)"))
    }
}

/// A topic's name with the index of one of its partitions. Its text form, `<topic>-<partition>`, is
/// also the name of the partition's folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl FromStr for TopicPartition {
    type Err = ParseError;

    /// Splits at the last dash, as topic names may hold dashes.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError(text.to_owned(), "a partition name (<topic>-<partition>)");
        let (topic, partition) = text.rsplit_once('-').ok_or_else(wrong)?;
        let canonical = !partition.is_empty() && partition.bytes().all(|b| b.is_ascii_digit());
        if topic.is_empty() || !canonical {
            return Err(wrong());
        }
        Ok(Self::new(topic, partition.parse().map_err(|_| wrong())?))
    }
}

/// Whose acknowledgement a producer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Nobody's: it is not even answered.
    None,
    /// The leader's.
    Leader,
    /// That of every in-sync replica.
    All,
}

impl Acks {
    /// As on the wire, where it may be anything.
    pub fn from_number(number: i16) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Leader),
            -1 => Some(Self::All),
            _ => None,
        }
    }
}

/// `host:port`, as one connects to it: an address of IPv6 in brackets.
pub fn host_and_port(host: &str, port: impl fmt::Display) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_ipv6_stand_in_brackets() {
        assert_eq!(host_and_port("kafka-1.example", 9092), "kafka-1.example:9092");
        assert_eq!(host_and_port("::1", 9092), "[::1]:9092");
    }

    #[test]
    fn topic_ids_print_as_kafka_prints_them_and_read_back() {
        let id = TopicId(Uuid::from_u128(1));
        assert_eq!(id.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!("AAAAAAAAAAAAAAAAAAAAAQ".parse(), Ok(id));
        assert!("short".parse::<TopicId>().is_err());
    }

    #[test]
    fn partition_names_split_at_the_last_dash() {
        assert_eq!("a-b-12".parse(), Ok(TopicPartition::new("a-b", 12)));
        for wrong in ["a", "-1", "a-", "a-+1", "a-x", "a-99999999999", "a-12-delete"] {
            assert!(wrong.parse::<TopicPartition>().is_err(), "{wrong}");
        }
    }
}
