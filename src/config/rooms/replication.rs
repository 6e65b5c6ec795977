//! What replicas are told.

use std::time::Duration;

use crate::config::declaration::{Value, config};
use crate::config::key::{ConfigError, Key};

config! {
    /// The `replica` keys.
    pub struct ReplicationConfig {
        /// How often high watermarks are noted.
        high_watermark_checkpoint_interval_ms: i64 =
            "replica.high.watermark.checkpoint.interval.ms", ReadOnly, Long(1, i64::MAX), default 5000;
        /// Connections over which a broker follows each of the others.
        fetchers: usize = "num.replica.fetchers", ReadOnly, Int(1, 1024), default 1;
        /// Longest pause of a follower after a failed fetch; the first is 10 ms.
        backoff: Duration = "replica.fetch.backoff.ms", ReadOnly, Int(0, i32::MAX), default 1000, via ms;
        /// Most bytes of a partition in one fetch of a follower; a larger batch is sent whole.
        fetch_bytes_max: i32 = "replica.fetch.max.bytes", ReadOnly, Int(0, i32::MAX), default 1_048_576;
        /// Least bytes that a follower's fetch waits for.
        fetch_bytes_min: i32 = "replica.fetch.min.bytes", ReadOnly, Int(1, i32::MAX), default 1;
        /// Most bytes that one fetch of a follower is answered with.
        response_bytes_max: i32 =
            "replica.fetch.response.max.bytes", ReadOnly, Int(0, i32::MAX), default 10_485_760;
        /// How long a follower's fetch waits for records.
        fetch_wait_ms_max: i32 = "replica.fetch.wait.max.ms", ReadOnly, Int(0, i32::MAX), default 500;
        /// A follower that has not had all of a log for so long leaves its in-sync replicas.
        lag_ms_max: i64 = "replica.lag.time.max.ms", ReadOnly, Long(1, i64::MAX), default 30_000;
        /// Where consumers read that tell their rack (`client.rack`):
        /// `org.apache.kafka.common.replica.RackAwareReplicaSelector` is the replica in their rack, nothing is the leader.
        selector: Selector = "replica.selector.class", ReadOnly, Text, default "";
        /// How long a leader may take to answer a follower.
        socket_timeout: Duration = "replica.socket.timeout.ms", ReadOnly, Int(1, i32::MAX), default 30_000, via ms;
    }
}

/// Which replica a consumer reads from (KIP-392).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    Leader,
    /// One in the consumer's rack, if there is any in sync.
    Nearest,
}

impl Value for Selector {
    fn read(key: &Key, text: &str) -> Result<Self, ConfigError> {
        match text {
            "" | "org.apache.kafka.common.replica.LeaderSelector" => Ok(Self::Leader),
            "org.apache.kafka.common.replica.RackAwareReplicaSelector" => Ok(Self::Nearest),
            other => Err(key.invalid(other, "there is org.apache.kafka.common.replica.RackAwareReplicaSelector, and nothing for reading from leaders alone")),
        }
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
