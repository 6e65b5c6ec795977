//! What the controller is told of new and old topics; their own configuration is in `config::topic`.

use crate::config::declaration::config;

config! {
    /// How topics come and go.
    pub struct TopicsConfig {
        /// Create a topic when a producer asks for its metadata and it is not there.
        auto_create: bool = "auto.create.topics.enable", ReadOnly, Boolean, default true;
        /// Replicas of a topic that does not say how many.
        default_replication_factor: i16 =
            "default.replication.factor", ReadOnly, Int(1, i16::MAX as i32), default 1;
        /// Allow topics to be deleted.
        delete_enable: bool = "delete.topic.enable", ReadOnly, Boolean, default true;
        /// Partitions of a topic that does not say how many.
        num_partitions: i32 = "num.partitions", ReadOnly, Int(1, i32::MAX), default 1;
    }
}
