//! Every configuration key once: its name as in Kafka, type, default, range and meaning.
//!
//! * [`key`]: what a key is, and the checks that its type and range give (with Kafka's messages).
//! * [`topic`]: the keys of a topic, and [`topic::TopicConfig`], their typed values.
//! * [`broker`]: the keys of `server.properties`, and [`broker::BrokerConfig`], their typed values.
//! * [`groups`]: the typed values of the group coordinator.
//! * [`properties`]: the file format.

pub mod broker;
pub mod documentation;
pub mod groups;
pub mod key;
pub mod properties;
pub mod topic;

pub use broker::BrokerConfig;
pub use key::{ConfigError, Key, Kind};
pub use topic::TopicConfig;
