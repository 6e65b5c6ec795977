//! What the group coordinator and its topic are told.

use crate::config::declaration::config;

config! {
    /// The `group` and `offsets` keys.
    pub struct GroupCoordinatorConfig {
        /// How long the first rebalance of an empty group waits for more members.
        initial_rebalance_delay_ms: i32 =
            "group.initial.rebalance.delay.ms", ReadOnly, Int(0, i32::MAX), default 3000;
        /// Longest session timeout that a member may ask for.
        session_timeout_max_ms: i32 =
            "group.max.session.timeout.ms", ReadOnly, Int(1, i32::MAX), default 1_800_000;
        /// Most members of a group.
        size_max: usize = "group.max.size", ReadOnly, Int(1, i32::MAX), default 2147483647;
        /// Shortest session timeout that a member may ask for.
        session_timeout_min_ms: i32 = "group.min.session.timeout.ms", ReadOnly, Int(1, i32::MAX), default 6000;
        /// Longest text that a member may commit beside an offset, in bytes.
        offset_metadata_bytes_max: usize = "offset.metadata.max.bytes", ReadOnly, Int(0, i32::MAX), default 4096;
        /// How long a commit may wait for the replicas of the offsets topic.
        commit_timeout_ms: u64 = "offsets.commit.timeout.ms", ReadOnly, Int(1, i32::MAX), default 5000;
        /// How often committed offsets that expired are looked for.
        offsets_retention_check_interval_ms: i64 =
            "offsets.retention.check.interval.ms", ReadOnly, Long(1, i64::MAX), default 600_000;
        /// How long offsets stay that nobody uses: counted from when their group became empty, or from their commit
        /// when it has no members that subscribe.
        offsets_retention_ms: i64 =
            "offsets.retention.minutes", ReadOnly, Int(1, i32::MAX), default 10_080, via minutes_to_ms;
        /// Codec of the offsets topic: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
        topic_compression: i16 = "offsets.topic.compression.codec", ReadOnly, Int(0, 4), default 0;
        /// Partitions of the offsets topic; it must not change once the topic is there.
        topic_partitions: i32 = "offsets.topic.num.partitions", ReadOnly, Int(1, i32::MAX), default 50;
        /// Replicas of the offsets topic; it is not created until so many brokers are there. Unless set, 1 on a node that is
        /// alone, and 3 in a cluster. (Kafka's default is 3.)
        topic_replication_factor: Option<i16> =
            "offsets.topic.replication.factor", ReadOnly, Short(1, i16::MAX);
        /// Size of a segment file of the offsets topic.
        topic_segment_bytes: i32 =
            "offsets.topic.segment.bytes", ReadOnly, Int(1_048_576, i32::MAX), default 104_857_600;
    }
}

fn minutes_to_ms(minutes: i32) -> i64 {
    i64::from(minutes) * 60_000
}
