//! What a shard of groups goes by.

use std::sync::Arc;

use crate::config::rooms::group_coordinator::GroupCoordinatorConfig;
use crate::env::Chance;

/// What a shard goes by.
#[derive(Clone, Debug)]
pub struct GroupShardConfig {
    pub session_timeout_min_ms: i32,
    pub session_timeout_max_ms: i32,
    pub initial_delay_ms: i32,
    pub size_max: usize,
    pub offset_metadata_bytes_max: usize,
    pub offsets_retention_ms: i64,
    pub retention_check_interval_ms: i64,
    /// Makes the unique part of a member id.
    pub chance: Arc<dyn Chance>,
}

impl GroupShardConfig {
    pub fn new(config: &GroupCoordinatorConfig, chance: Arc<dyn Chance>) -> Self {
        Self {
            session_timeout_min_ms: config.session_timeout_min_ms,
            session_timeout_max_ms: config.session_timeout_max_ms,
            initial_delay_ms: config.initial_rebalance_delay_ms,
            size_max: config.size_max,
            offset_metadata_bytes_max: config.offset_metadata_bytes_max,
            offsets_retention_ms: config.offsets_retention_ms,
            retention_check_interval_ms: config.offsets_retention_check_interval_ms,
            chance,
        }
    }
}
