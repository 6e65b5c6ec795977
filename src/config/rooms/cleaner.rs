//! What the log cleaner is told.

use crate::config::declaration::config;

config! {
    /// The `log.cleaner` keys.
    pub struct LogCleanerConfig {
        /// How long the cleaner waits when there is nothing to compact.
        backoff_ms: i64 = "log.cleaner.backoff.ms", ClusterWide, Long(0, i64::MAX), default 15_000;
        /// Most memory for the keys of logs under compaction, over all threads; it is taken as needed.
        dedupe_buffer_bytes: usize =
            "log.cleaner.dedupe.buffer.size", ClusterWide, Long(0, i64::MAX), default 134_217_728;
        /// Compact topics with `cleanup.policy=compact`.
        enable: bool = "log.cleaner.enable", ReadOnly, Boolean, default true;
        /// How full the memory for keys may get, as a share of it.
        load_factor: f64 = "log.cleaner.io.buffer.load.factor", ClusterWide, Double(0.0, 1.0), default 0.9;
        /// Bytes that the cleaner reads and writes at once, over all threads.
        io_buffer_bytes: usize = "log.cleaner.io.buffer.size", ClusterWide, Int(0, i32::MAX), default 524_288;
        /// Most bytes that the cleaner reads and writes in a second.
        io_bytes_per_second_max: f64 =
            "log.cleaner.io.max.bytes.per.second", ClusterWide, Double(0.0, f64::MAX), default 1.7976931348623157E308;
        /// Logs that are compacted at a time; 0 is none.
        threads: usize = "log.cleaner.threads", ClusterWide, Int(0, 256), default 1;
    }
}
