//! A partition that this node should hold, and whose log it could not open or make: on a full or failing
//! disk, mostly. It is tried again by itself, later and later, and answers `KAFKA_STORAGE_ERROR` meanwhile.

use std::sync::Arc;

use crate::metadata::PartitionImage;
use crate::types::TopicPartition;

/// First and longest time between two tries.
const RETRY_MS: (i64, i64) = (1_000, 10_000);

/// A partition without a log.
#[derive(Clone, Debug)]
pub struct Offline {
    pub name: TopicPartition,
    /// What is the matter, for people.
    pub reason: String,
    /// What the partition is to follow once it is there.
    pub(super) image: Arc<PartitionImage>,
    tries: u32,
    pub(super) next_try_ms: i64,
}

impl Offline {
    /// A first try failed.
    pub(super) fn new(name: TopicPartition, reason: String, image: Arc<PartitionImage>, now_ms: i64) -> Self {
        Self { name, reason, image, tries: 1, next_try_ms: now_ms.saturating_add(RETRY_MS.0) }
    }

    /// One more try failed.
    pub(super) fn failed_again(&self, reason: String, now_ms: i64) -> Self {
        let wait_ms = RETRY_MS.0.saturating_mul(1 << self.tries.min(16)).min(RETRY_MS.1);
        let next_try_ms = now_ms.saturating_add(wait_ms);
        Self { reason, tries: self.tries.saturating_add(1), next_try_ms, ..self.clone() }
    }

    /// The metadata changed meanwhile.
    pub(super) fn following(&self, image: &Arc<PartitionImage>) -> Self {
        Self { image: image.clone(), ..self.clone() }
    }
}

/// Why a partition cannot be asked for anything here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absent {
    #[error("this node does not hold the partition")]
    Unknown,
    #[error("the partition is offline: its log cannot be opened")]
    Offline,
}
