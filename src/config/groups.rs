//! What the group coordinator and its topic are told.

use super::broker::Values;

/// The typed values of `group.*` and `offsets.*`.
#[derive(Clone, Debug)]
pub struct GroupsConfig {
    pub session_timeout_min_ms: i32,
    pub session_timeout_max_ms: i32,
    pub initial_rebalance_delay_ms: i32,
    /// Most members of a group.
    pub size_max: i32,
    pub offset_metadata_bytes_max: i32,
    pub commit_timeout_ms: i32,
    pub offsets_retention_ms: i64,
    pub offsets_retention_check_interval_ms: i64,
    pub topic_partitions: i32,
    pub topic_replication_factor: i16,
    pub topic_segment_bytes: i32,
    /// The codec's number in a batch's attributes.
    pub topic_compression: i16,
}

impl GroupsConfig {
    pub(super) fn from_values(values: &Values<'_>) -> Self {
        Self {
            session_timeout_min_ms: values.int("group.min.session.timeout.ms"),
            session_timeout_max_ms: values.int("group.max.session.timeout.ms"),
            initial_rebalance_delay_ms: values.int("group.initial.rebalance.delay.ms"),
            size_max: values.int("group.max.size"),
            offset_metadata_bytes_max: values.int("offset.metadata.max.bytes"),
            commit_timeout_ms: values.int("offsets.commit.timeout.ms"),
            offsets_retention_ms: values.long("offsets.retention.minutes").saturating_mul(60_000),
            offsets_retention_check_interval_ms: values.long("offsets.retention.check.interval.ms"),
            topic_partitions: values.int("offsets.topic.num.partitions"),
            topic_replication_factor: i16::try_from(values.int("offsets.topic.replication.factor"))
                .unwrap_or(i16::MAX),
            topic_segment_bytes: values.int("offsets.topic.segment.bytes"),
            topic_compression: i16::try_from(values.int("offsets.topic.compression.codec"))
                .unwrap_or_default(),
        }
    }
}
