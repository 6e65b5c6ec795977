//! Every configuration key once: its name as in Kafka, type, default, range and meaning.
//!
//! * [`key`]: what a key is, and the checks that its type and range give (with Kafka's messages).
//! * [`topic`]: the keys of a topic, and [`topic::TopicConfig`], their typed values.
//! * [`broker`]: the keys of `server.properties`, and [`broker::BrokerConfig`], their typed values.
//! * [`group`]: the keys of a group.
//! * [`groups`]: the typed values of the group coordinator.
//! * [`values`]: what is set on a broker at run time and in its file, and which of it counts.
//! * [`properties`]: the file format.

pub mod broker;
pub mod documentation;
pub mod group;
pub mod groups;
pub mod key;
pub mod properties;
pub mod topic;
pub mod values;

pub use broker::BrokerConfig;
pub use key::{ConfigError, Key, Kind};
pub use topic::TopicConfig;
pub use values::BrokerValues;
