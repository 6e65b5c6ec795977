//! The checkpoints of a data folder: what is noted of its logs, and when.
//!
//! Recovery takes what is noted at its word. So a recovery point is noted once all below it is synced and before epochs and
//! indexes are older than it; where logs begin, before segments go; and nothing speaks of more than what stays before a log is cut.
//! Of logs that could not be opened what was noted before stays.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::{Checkpoints, DataDir, FIRST_DIRTY, HIGH_WATERMARKS, LOG_STARTS, RECOVERY_POINTS};
use crate::segment::checkpoint;
use crate::segment::log::Log;
use crate::segment::retention::TruncateError;
use crate::types::{LeaderEpoch, Offset, TopicPartition};

/// Longest time (ms) that a checkpoint goes on syncing logs; what it does not reach has its turn next
/// time, the logs with most to sync first.
const SYNC_MS_MAX: i64 = 10_000;

impl DataDir {
    /// Syncs what was appended, and notes recovery points and log start offsets: recovery will look only
    /// at what comes later. A log that fails does not keep the others.
    pub fn checkpoint_all(&self) -> io::Result<()> {
        let mut written = self.checkpoints.lock();
        let logs: Vec<_> = self.logs.lock().iter().map(|(name, log)| (name.clone(), log.clone())).collect();
        let mut unsynced: Vec<_> = logs
            .iter()
            .map(|(_, log)| (log.log_end_offset().0 - log.recovery_point().0, log))
            .filter(|(records, log)| *records > 0 && !log.is_failed())
            .collect();
        unsynced.sort_by_key(|(records, _)| std::cmp::Reverse(*records));
        let started_ms = self.clock.now_ms();
        for (_, log) in unsynced {
            if self.clock.now_ms().saturating_sub(started_ms) > SYNC_MS_MAX {
                break;
            }
            if let Err(error) = log.flush() {
                tracing::error!(log = %log.dir().display(), %error, "a log could not be synced");
            }
        }
        // Taken before epochs and indexes are written: those must not be older than what is noted.
        let mut points: BTreeMap<_, _> =
            logs.iter().map(|(name, log)| (name.clone(), log.recovery_point())).collect();
        for (name, log) in logs.iter().filter(|(_, log)| !log.is_failed() && !log.is_closed()) {
            if let Err(error) = log.checkpoint() {
                tracing::error!(partition = %name, %error, "a log could not be checkpointed");
                points.remove(name);
            }
        }
        self.write_starts(&mut written)?;
        self.write_offsets(&mut written, RECOVERY_POINTS, points)
    }

    /// Notes where logs begin. Before segments go: at the next start those would be missed that lie between the noted
    /// start and the first segment, below the recovery point.
    pub fn note_starts(&self) -> io::Result<()> {
        self.write_starts(&mut self.checkpoints.lock())
    }

    /// Comes before recovery points are noted, for the same reason.
    pub(super) fn write_starts(&self, written: &mut Checkpoints) -> io::Result<()> {
        let starts = starts(&self.logs.lock());
        self.write_offsets(written, LOG_STARTS, starts)
    }

    /// Makes sure that what lies below `needed` is synced, and that recovery will be told so; returns the offset
    /// below which that is so.
    pub fn note_synced(&self, name: &TopicPartition, log: &Log, needed: Offset) -> io::Result<Offset> {
        if let Some(noted) = self.checkpoints.lock().get(RECOVERY_POINTS).and_then(|points| points.get(name))
            && (needed..=log.recovery_point()).contains(noted)
        {
            return Ok(*noted);
        }
        log.flush()?;
        // Taken before epochs and indexes are written: those must not be older than what is noted.
        let point = log.recovery_point();
        log.checkpoint()?;
        let mut written = self.checkpoints.lock();
        let noted = written.get(RECOVERY_POINTS).cloned().unwrap_or_default();
        let mut points = BTreeMap::new();
        for (other, log) in self.logs.lock().iter() {
            // A log of that name may have been another one when it was noted.
            let known = noted.get(other).map(|noted| (*noted).min(log.recovery_point()));
            points.extend(known.map(|known| (other.clone(), known)));
        }
        // A truncation may have come in between.
        points.insert(name.clone(), point.min(log.recovery_point()));
        self.write_starts(&mut written)?;
        self.write_offsets(&mut written, RECOVERY_POINTS, points)?;
        Ok(point)
    }

    /// Cuts a log as the leader of `epoch` asks its follower to ([`Log::truncate_to`]). What is noted of it on the
    /// disk speaks of no more than what stays before anything is cut: recovery takes what lies below its point at
    /// its word, and gaps below the cleaner's for compaction's.
    pub fn truncate(
        &self,
        name: &TopicPartition,
        log: &Log,
        offset: Offset,
        epoch: LeaderEpoch,
    ) -> Result<(), TruncateError> {
        // Held throughout, so that nobody notes what was true before.
        let mut written = self.checkpoints.lock();
        log.truncate_to(offset, epoch, |cut| self.lower(&mut written, name, cut))
    }

    /// As [`Self::truncate`], but everything goes, and the log begins anew at `offset`.
    pub fn truncate_fully_and_start_at(
        &self,
        name: &TopicPartition,
        log: &Log,
        offset: Offset,
        epoch: LeaderEpoch,
    ) -> Result<(), TruncateError> {
        let mut written = self.checkpoints.lock();
        log.truncate_fully_and_start_at(offset, epoch, |least| self.lower(&mut written, name, least))
    }

    /// Sees to it that the files note no offset above `cut` for this log.
    pub(super) fn lower(
        &self,
        written: &mut Checkpoints,
        name: &TopicPartition,
        cut: Offset,
    ) -> io::Result<()> {
        if let Some(noted) = self.unopened.lock().get_mut(name) {
            let lowered = |offset: Option<Offset>| offset.map(|offset| offset.min(cut));
            noted.log_start = lowered(noted.log_start);
            noted.recovery_point = lowered(noted.recovery_point);
            noted.first_dirty = lowered(noted.first_dirty);
        }
        for file in [RECOVERY_POINTS, FIRST_DIRTY, LOG_STARTS] {
            let Some(noted) = written.get(file) else { continue };
            if noted.get(name).is_some_and(|noted| *noted > cut) {
                let mut lowered = noted.clone();
                lowered.insert(name.clone(), cut);
                self.write_offsets(written, file, lowered)?;
            }
        }
        Ok(())
    }

    /// Notes where the compaction of each log goes on, if that changed.
    pub fn write_first_dirty_offsets(&self) -> io::Result<()> {
        let mut written = self.checkpoints.lock();
        self.write_first_dirty(&mut written)
    }

    pub(super) fn write_first_dirty(&self, written: &mut Checkpoints) -> io::Result<()> {
        let logs = self.logs.lock();
        let offsets: BTreeMap<_, _> =
            logs.iter().filter_map(|(name, log)| Some((name.clone(), log.first_dirty_offset()?))).collect();
        drop(logs);
        self.write_offsets(written, FIRST_DIRTY, offsets)
    }

    /// Notes high watermarks.
    pub fn write_high_watermarks(&self, high_watermarks: Vec<(TopicPartition, Offset)>) -> io::Result<()> {
        let mut written = self.checkpoints.lock();
        self.write_offsets(&mut written, HIGH_WATERMARKS, high_watermarks.into_iter().collect())
    }

    pub(super) fn write_offsets(
        &self,
        written: &mut Checkpoints,
        name: &'static str,
        mut offsets: BTreeMap<TopicPartition, Offset>,
    ) -> io::Result<()> {
        for (unopened, noted) in self.unopened.lock().iter() {
            if let Some(offset) = noted.of(name) {
                offsets.entry(unopened.clone()).or_insert(offset);
            }
        }
        if written.get(name) != Some(&offsets) {
            checkpoint::write_offsets(&*self.disk, &self.options.dir.join(name), &offsets)?;
            written.insert(name, offsets);
        }
        Ok(())
    }
}

/// Where logs begin, of those that do not begin at 0. Nothing above what is synced: a power cut may take the records up
/// to there, and a log does not begin beyond its end.
fn starts(logs: &BTreeMap<TopicPartition, Arc<Log>>) -> BTreeMap<TopicPartition, Offset> {
    let start = |log: &Log| log.log_start_offset().min(log.recovery_point());
    let starts = logs.iter().map(|(name, log)| (name.clone(), start(log)));
    starts.filter(|(_, start)| *start > Offset::ZERO).collect()
}
