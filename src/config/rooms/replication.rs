//! What replicas are told.

use crate::config::declaration::config;

config! {
    /// The `replica` keys.
    pub struct ReplicationConfig {
        /// How often high watermarks are noted.
        high_watermark_checkpoint_interval_ms: i64 =
            "replica.high.watermark.checkpoint.interval.ms", ReadOnly, Long(1, i64::MAX), default 5000;
    }
}
