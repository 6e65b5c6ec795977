//! Every configuration key once: its name as in Kafka, type, default, range, meaning, how it may be changed, and the
//! typed field that its value is read into.
//!
//! From the bottom up, each knowing only what stands above it in this list (`tests/architecture.rs` holds that no
//! files need each other):
//!
//! * [`key`]: what a key is, and the checks that its type and range give (with Kafka's messages).
//! * [`values`]: what is set on a broker at run time and in its file, and which of it counts.
//! * [`declaration`]: how keys are declared, as rows that are fields.
//! * [`rooms`]: the keys of `server.properties` by the room that they are for, and [`BrokerConfig`], which holds all.
//! * [`topic`]: the keys of a topic, and [`TopicConfig`], their typed values.
//! * [`group`]: the keys of a group.
//! * [`broker_keys`]: all keys of a broker together: those of the rooms, and what topics take their defaults from.
//! * [`broker`]: how `server.properties` is read ([`properties`] is the file format, [`kafka_names`] what Kafka knows).
//! * [`environment`]: environment variables that set keys, as the container image of Apache Kafka names them.
//! * [`documentation`]: the page that is made of all this.

pub mod broker;
pub mod broker_keys;
pub mod declaration;
pub mod documentation;
pub mod environment;
pub mod group;
pub mod kafka_names;
pub mod key;
pub mod properties;
pub mod rooms;
pub mod topic;
pub mod values;

pub use key::{ConfigError, Key, Kind};
pub use rooms::BrokerConfig;
pub use topic::TopicConfig;
pub use values::BrokerValues;
