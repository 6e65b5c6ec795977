//! What a topic's configuration means to its logs.

use super::declaration::topic_config;
use crate::config::declaration::Value;
use crate::config::key::{self, ConfigError, Key};

topic_config! {
    /// The part of a topic's configuration that its logs go by. Sizes in bytes, times in ms.
    pub struct LogConfig {
        /// What happens to old segments: `delete` removes them by age and size, `compact` keeps the last record of
        /// each key.
        cleanup: CleanupPolicy =
            "cleanup.policy", List(&["compact", "delete"]), default "delete", from ["log.cleanup.policy"];
        /// How long tombstones stay in a compacted topic.
        delete_retention_ms: i64 =
            "delete.retention.ms", Long(0, i64::MAX), default 86_400_000, from ["log.cleaner.delete.retention.ms"];
        /// How long a removed file stays on disk.
        file_delete_delay_ms: i64 =
            "file.delete.delay.ms", Long(0, i64::MAX), default 60_000, from ["log.segment.delete.delay.ms"];
        /// Records after which the log is synced to disk; 1 syncs before each acknowledgement.
        flush_messages: i64 =
            "flush.messages", Long(1, i64::MAX), default 9223372036854775807, from ["log.flush.interval.messages"];
        /// Longest time that a record stays unsynced.
        flush_ms: i64 = "flush.ms", Long(0, i64::MAX), default 9223372036854775807,
            from ["log.flush.interval.ms", "log.flush.scheduler.interval.ms"];
        /// Bytes of log between two entries of the offset index.
        index_interval_bytes: u32 =
            "index.interval.bytes", Int(0, i32::MAX), default 4096, from ["log.index.interval.bytes"];
        /// Longest time that a record stays uncompacted.
        max_compaction_lag_ms: i64 = "max.compaction.lag.ms", Long(1, i64::MAX), default 9223372036854775807,
            from ["log.cleaner.max.compaction.lag.ms"];
        /// Share of a log that must be uncompacted before it is compacted.
        min_cleanable_dirty_ratio: f64 =
            "min.cleanable.dirty.ratio", Double(0.0, 1.0), default 0.5, from ["log.cleaner.min.cleanable.ratio"];
        /// Shortest time that a record stays uncompacted.
        min_compaction_lag_ms: i64 =
            "min.compaction.lag.ms", Long(0, i64::MAX), default 0, from ["log.cleaner.min.compaction.lag.ms"];
        /// Bytes of a partition that are kept; -1 is without a limit.
        retention_bytes: i64 =
            "retention.bytes", Long(i64::MIN, i64::MAX), default -1, from ["log.retention.bytes"];
        /// How long records are kept; -1 is for ever.
        retention_ms: i64 = "retention.ms", Long(-1, i64::MAX), default 604_800_000,
            from ["log.retention.ms", "log.retention.minutes" in MinutesToMs, "log.retention.hours" in HoursToMs 168];
        /// Size of a segment file.
        segment_bytes: u32 =
            "segment.bytes", Int(1_048_576, i32::MAX), default 1_073_741_824, from ["log.segment.bytes"];
        /// Size at which an index is full and its segment rolls.
        segment_index_bytes: u32 =
            "segment.index.bytes", Int(4, i32::MAX), default 10_485_760, from ["log.index.size.max.bytes"];
        /// Random time taken off segment.ms, so that segments do not all roll at once.
        segment_jitter_ms: i64 = "segment.jitter.ms", Long(0, i64::MAX), default 0,
            from ["log.roll.jitter.ms", "log.roll.jitter.hours" in HoursToMs 0];
        /// Age at which a segment rolls though it is not full.
        segment_ms: i64 = "segment.ms", Long(1, i64::MAX), default 604_800_000,
            from ["log.roll.ms", "log.roll.hours" in HoursToMs 168];
    }
}

impl LogConfig {
    /// Age (ms) at which a segment rolls. In a compacted log no record stays in the segment that is written to for
    /// longer than it may stay uncompacted.
    pub fn roll_ms(&self) -> i64 {
        if self.cleanup.compact { self.segment_ms.min(self.max_compaction_lag_ms) } else { self.segment_ms }
    }
}

/// What happens to old segments; both may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    pub delete: bool,
    /// Records need keys, and the last of each key stays.
    pub compact: bool,
}

impl CleanupPolicy {
    pub const COMPACT: Self = Self { delete: false, compact: true };
}

impl Value for CleanupPolicy {
    fn read(key: &Key, text: &str) -> Result<Self, ConfigError> {
        key.check(text)?;
        let has = |wanted| key::list(text).any(|policy| policy == wanted);
        Ok(Self { delete: has("delete"), compact: has("compact") })
    }
}
