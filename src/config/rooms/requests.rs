//! What the front to clients is told of requests and responses.

use crate::config::declaration::config;

config! {
    /// Limits of requests and responses.
    pub struct RequestsConfig {
        /// Most bytes that one fetch is answered with.
        fetch_bytes_max: i32 = "fetch.max.bytes", ReadOnly, Int(1024, i32::MAX), default 57_671_680;
        /// Most fetch sessions at a time.
        fetch_session_slots: i32 =
            "max.incremental.fetch.session.cache.slots", ReadOnly, Int(0, i32::MAX), default 1000;
        /// Most partitions in one answer of DescribeTopicPartitions.
        partition_limit: i32 = "max.request.partition.size.limit", ReadOnly, Int(1, i32::MAX), default 2000;
        /// Most bytes of requests held in memory at a time, over all connections; -1 is without a limit. While others
        /// wait for memory, a request that holds some must arrive at 64 KiB/s, or its connection is closed. (Kafka's
        /// default is -1, and it has no such rate.)
        queued_bytes_max: Option<u64> =
            "queued.max.request.bytes", ReadOnly, Long(-1, i64::MAX), default 268_435_456, via not_negative;
        /// Largest request taken.
        bytes_max: i32 = "socket.request.max.bytes", ReadOnly, Int(1, i32::MAX), default 104_857_600;
    }
}

fn not_negative(bytes: i64) -> Option<u64> {
    u64::try_from(bytes).ok()
}
