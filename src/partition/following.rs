//! What a partition does as a follower: it takes what its leader sends, and cuts its log where the two part.
//!
//! Everything names the epoch of the leader that it comes from, and is refused when this node does not follow that one (any
//! more): the log's writer lock sees to it. Only one fetcher at a time writes to a log.

use std::sync::Arc;

use bytes::Bytes;

use super::Partition;
use crate::segment::{AppendError, Appended, DataDir, TruncateError};
use crate::types::{LeaderEpoch, Offset};

/// Where a follower's log stands, as its fetch tells the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub log_end: Offset,
    /// The epoch of the last record; [`LeaderEpoch::NONE`] for an empty log.
    pub last_epoch: LeaderEpoch,
    pub log_start: Offset,
}

/// What a leader says beside records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderState {
    pub epoch: LeaderEpoch,
    pub high_watermark: Offset,
    pub log_start: Offset,
}

impl Partition {
    pub fn position(&self) -> Position {
        Position {
            log_end: self.log.log_end_offset(),
            last_epoch: self.log.latest_epoch(),
            log_start: self.log.log_start_offset(),
        }
    }

    /// Appends what was fetched, if anything, and takes over the leader's high watermark and where its log begins. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// Those of [`crate::segment::Log::append_replicated`]; this node may not follow that leader any more.
    pub fn append_replicated(
        self: &Arc<Self>,
        records: Bytes,
        leader: LeaderState,
    ) -> Result<Option<Appended>, AppendError> {
        let _one_at_a_time = self.turning.lock();
        let appended = self.log.append_replicated(records, leader.epoch)?;
        let end = self.log.log_end_offset();
        let is_committed_more = {
            let replica = &mut self.state.write().replica;
            let before = replica.high_watermark();
            replica.leader_told(leader.high_watermark, end);
            replica.high_watermark() > before
        };
        if is_committed_more {
            // Consumers may read from the nearest replica.
            self.wake_consumers();
        }
        if leader.log_start > self.log.log_start_offset() {
            // What the leader has deleted, it answered no fetch with; so this log is not shorter than that.
            self.log.advance_log_start_offset(leader.log_start.min(end)).map_err(AppendError::from_io)?;
        }
        if let Some(appended) = &appended {
            let bytes = &self.topic.traffic.replicated_in_bytes;
            bytes.fetch_add(appended.bytes, std::sync::atomic::Ordering::Relaxed);
            if !appended.flush_due {
                self.start_sync_timer();
            }
        }
        Ok(appended)
    }

    /// Cuts the log where the leader of `epoch` says that the two part: of the epochs that this log has, the leader knows
    /// `last_common`, which ends there at `end` (KIP-595). Blocks on the disk.
    ///
    /// # Errors
    /// Those of [`Self::truncate`].
    pub fn truncate_where_parted(
        &self,
        data: &DataDir,
        epoch: LeaderEpoch,
        (last_common, end): (LeaderEpoch, Offset),
    ) -> Result<(), TruncateError> {
        self.truncate(data, self.log.parts_at(last_common, end), epoch)
    }

    /// Cuts the log as the leader of `epoch` asks for. Blocks on the disk.
    ///
    /// # Errors
    /// Those of [`crate::segment::Log::truncate_to`]; this node may not follow that leader any more.
    pub fn truncate(&self, data: &DataDir, offset: Offset, epoch: LeaderEpoch) -> Result<(), TruncateError> {
        let _one_at_a_time = self.turning.lock();
        self.cut(|| data.truncate(&self.name, &self.log, offset, epoch))
    }

    /// Empties the log, which then begins at `offset`: all that it had, the leader of `epoch` has deleted. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// Those of [`Self::truncate`].
    pub fn start_anew(
        &self,
        data: &DataDir,
        offset: Offset,
        epoch: LeaderEpoch,
    ) -> Result<(), TruncateError> {
        let _one_at_a_time = self.turning.lock();
        self.cut(|| data.truncate_fully_and_start_at(&self.name, &self.log, offset, epoch))
    }

    fn cut(&self, cut: impl FnOnce() -> Result<(), TruncateError>) -> Result<(), TruncateError> {
        let (end, high_watermark) = (self.log.log_end_offset(), self.high_watermark());
        let done = cut();
        let now = self.log.log_end_offset();
        self.state.write().replica.truncated(now);
        if now < end {
            tracing::info!(partition = %self.name, %end, now = %now, %high_watermark, "the log is cut where it parts from its leader's");
        }
        if now < high_watermark {
            tracing::warn!(partition = %self.name, %high_watermark, now = %now, "committed records are cut off: the leader was elected without them");
        }
        self.wake_all_fetches();
        done
    }
}
