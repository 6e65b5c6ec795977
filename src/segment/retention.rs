//! What leaves a log: at its start by retention and DeleteRecords, at its end by truncation, as a whole
//! with its topic.
//!
//! Removed segments are renamed to `*.deleted` first and go after `file.delete.delay.ms` (or with the
//! next opening, or at once when there is no room on the disk): reads that were under way keep their files.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::file_cache::FileKind;
use super::log::{Log, Writer};
use super::producer_state::ProducerState;
use super::recovery;
use super::removals;
use super::room::Room;
use super::segment_file::{Segment, file_name, offset_of};
use super::{LeadershipEnded, LogConfig};
use crate::types::{LeaderEpoch, Offset};

/// Why a log was not cut.
#[derive(Debug, thiserror::Error)]
pub enum TruncateError {
    #[error(transparent)]
    LeadershipEnded(#[from] LeadershipEnded),
    /// When the failure could not be undone, the log is offline.
    #[error("the log could not be cut: {0}")]
    Io(#[from] io::Error),
}

impl Log {
    /// Hides the records below `offset` (DeleteRecords); their segments go with the next
    /// [`Self::delete_hidden_segments`]. An offset that is not above the log start offset changes nothing.
    ///
    /// # Errors
    /// `InvalidInput` when the log ends before `offset`.
    pub fn advance_log_start_offset(&self, offset: Offset) -> io::Result<()> {
        self.check_usable()?;
        if offset > self.log_end_offset() {
            let message = format!("the log ends at {}, before {offset}", self.log_end_offset());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        self.advance_start(offset.0);
        Ok(())
    }

    fn advance_start(&self, offset: i64) {
        if self.log_start_offset.fetch_max(offset, Ordering::AcqRel) < offset {
            self.epochs.advance_start(offset);
        }
    }

    /// Hides the oldest segments that `retention.ms`, `retention.bytes` or the log start offset no longer keep, but none
    /// that reaches above `high_watermark`: the log begins after them from now on. Returns their number;
    /// [`Self::delete_hidden_segments`] removes them.
    pub fn hide_old_segments(&self, now_ms: i64, high_watermark: Offset) -> io::Result<usize> {
        self.remove_due(now_ms);
        self.check_usable()?;
        let config = self.config();
        let segments = self.segments.read().clone();
        let mut count = match self.count_old(&segments, &config, now_ms, high_watermark.0) {
            // Compaction replaced one of them meanwhile: the next look sees the new one.
            Err(_) if segments.iter().any(|segment| segment.is_gone()) => return Ok(0),
            counted => counted?,
        };
        if count == 0 {
            return Ok(0);
        }
        let mut writer = self.lock_writer();
        {
            // A truncation may have come in between.
            let now = self.segments.read();
            if now.len() < count
                || !std::iter::zip(now.iter(), &segments[..count]).all(|(a, b)| Arc::ptr_eq(a, b))
            {
                return Ok(0);
            }
        }
        if count == segments.len() {
            // Somebody may have appended since: what came late stays.
            let last = self.last_segment();
            if segments.last().is_none_or(|counted| !Arc::ptr_eq(counted, &last))
                || last.next_offset() > high_watermark.0
            {
                return Ok(0);
            }
            let end = self.log_end_offset().0;
            if let Err(error) =
                self.roll_to(&mut writer, end).or_else(|error| self.roll_bare(&mut writer, end, error))
            {
                // On a full disk the others have to go all the same, to make room.
                count -= 1;
                if count == 0 {
                    return Err(error);
                }
            }
        }
        if let Some(first) = self.segments.read().get(count) {
            self.advance_start(first.base_offset);
        }
        Ok(count)
    }

    /// Removes the segments below the log start offset, but none that reaches above `high_watermark`; returns their
    /// number.
    pub fn delete_hidden_segments(&self, now_ms: i64, high_watermark: Offset) -> io::Result<usize> {
        self.check_usable()?;
        let writer = self.lock_writer();
        let end = self.log_start_offset().min(high_watermark).0;
        let count = {
            let segments = self.segments.read();
            let closed = segments.get(..segments.len() - 1).unwrap_or_default();
            closed.iter().take_while(|segment| segment.next_offset() <= end).count()
        };
        if count > 0 {
            let delay_ms = self.config().file_delete_delay_ms;
            self.remove_first(&writer, count, now_ms.saturating_add(delay_ms))?;
        }
        Ok(count)
    }

    /// Both at once.
    #[cfg(test)]
    pub(super) fn delete_old_segments(&self, now_ms: i64, high_watermark: Offset) -> io::Result<usize> {
        self.hide_old_segments(now_ms, high_watermark)?;
        self.delete_hidden_segments(now_ms, high_watermark)
    }

    /// Forgets producers that wrote nothing for that long, by this broker's clock; returns their number.
    pub fn expire_producers(&self, now_ms: i64, expiration_ms: i64) -> usize {
        self.transactions.expire(now_ms, expiration_ms);
        self.lock_writer().producers.expire(now_ms, expiration_ms)
    }

    /// As [`Self::roll_to`] where that found no room, for a segment that goes at once: without what would be written
    /// for it. The producers are noted with the next checkpoint.
    fn roll_bare(&self, writer: &mut Writer, base_offset: i64, full: io::Error) -> io::Result<()> {
        if !matches!(full.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Err(full);
        }
        let last = self.last_segment();
        writer.room.give_back(last.len(), last.age_by_file(), || last.log_file(&self.files));
        let next = self.new_segment(base_offset)?;
        last.state.write().next_offset = base_offset;
        self.segments.write().push(Arc::new(next));
        writer.bytes_since_entry = 0;
        writer.first_timestamp = None;
        self.checkpointed_end.store(-1, Ordering::Release);
        Ok(())
    }

    /// How many of the first segments are too old or too many.
    fn count_old(
        &self,
        segments: &[Arc<Segment>],
        config: &LogConfig,
        now_ms: i64,
        high_watermark: i64,
    ) -> io::Result<usize> {
        let start = self.log_start_offset().0;
        let total: u64 = segments.iter().map(|segment| segment.len()).sum();
        let limit = u64::try_from(config.retention_bytes).ok().filter(|_| config.cleanup.delete);
        let mut excess = limit.map_or(0, |limit| total.saturating_sub(limit));
        for (at, segment) in segments.iter().enumerate() {
            let (len, end) = (segment.len(), segment.next_offset());
            let is_last = at + 1 == segments.len();
            let is_old = || -> io::Result<bool> {
                if !config.cleanup.delete || config.retention_ms < 0 {
                    return Ok(false);
                }
                let newest = segment.largest_timestamp(&self.files)?.map_or(-1, |(timestamp, _)| timestamp);
                let newest = if newest < 0 { segment.written_ms() } else { newest };
                Ok(now_ms.saturating_sub(newest) > config.retention_ms)
            };
            let is_surplus = excess >= len && excess > 0;
            let goes = end <= high_watermark
                && !(is_last && len == 0)
                && (!is_last && end <= start || is_surplus || is_old()?);
            if !goes {
                return Ok(at);
            }
            excess = excess.saturating_sub(len);
        }
        Ok(segments.len())
    }

    fn remove_first(&self, writer: &Writer, count: usize, due_ms: i64) -> io::Result<()> {
        let (removed, first) = {
            let mut segments = self.segments.write();
            let removed: Vec<_> = segments.drain(..count).collect();
            (removed, segments[0].base_offset)
        };
        self.advance_start(first);
        for segment in removed {
            segment.retire(&self.files);
            self.rename_away(segment.base_offset, due_ms)?;
            if writer.snapshot_offset != Some(segment.base_offset) {
                self.remove_file(self.files.path(&file_name(segment.base_offset, "snapshot")))?;
            }
        }
        Ok(())
    }

    /// Renames the files of a segment that is retired; they are removed when due.
    pub(super) fn rename_away(&self, base_offset: i64, due_ms: i64) -> io::Result<()> {
        self.removals.rename_away(&self.files, base_offset, due_ms)?;
        self.is_dir_unsynced.store(true, Ordering::Release);
        Ok(())
    }

    pub(super) fn remove_file(&self, path: PathBuf) -> io::Result<()> {
        removals::remove(&*self.files.disk, &path)
    }

    /// Removes the renamed files whose time has come.
    pub fn remove_due(&self, now_ms: i64) {
        self.removals.remove_due(&*self.files.disk, now_ms);
    }

    /// Removes the records from `offset` on, as the leader of `epoch` asks its follower to; whole batches, so also what
    /// shares a batch with it. What it leaves is on the disk when this returns.
    ///
    /// `lower` is told the offset where the cut will be, before anything is cut: see [`super::DataDir::truncate`],
    /// through which logs of a data folder are cut.
    pub fn truncate_to(
        &self,
        offset: Offset,
        epoch: LeaderEpoch,
        lower: impl FnOnce(Offset) -> io::Result<()>,
    ) -> Result<(), TruncateError> {
        self.check_usable()?;
        let _one_at_a_time = self.flushing.lock();
        let mut writer = self.lock_writer();
        writer.leadership.check_follows(epoch)?;
        if offset >= self.log_end_offset() {
            return Ok(());
        }
        let first = self.segments.read()[0].base_offset;
        if offset.0 <= first {
            return self.start_anew_under(&mut writer, offset.0, lower);
        }
        // The segment that ends below or at `offset`, or holds it.
        let (segment, _) = self.segment_of(offset.0 - 1);
        let found = segment.find(&self.files, offset.0, segment.len())?;
        let cut = found.as_ref().map_or(offset.0, |batch| batch.header.base_offset.min(offset.0));
        lower(Offset(cut))?;
        self.recovery_point.fetch_min(cut, Ordering::AcqRel);
        self.compaction.truncates(cut);
        let done = self.cut(&mut writer, &segment, found.map(|batch| batch.position));
        done.inspect_err(|error| self.fail("a truncation", error))?;
        Ok(())
    }

    /// Removes everything, as the leader of `epoch` asks its follower to; the log is empty then and begins at
    /// `offset`. `lower` as in [`Self::truncate_to`].
    pub fn truncate_fully_and_start_at(
        &self,
        offset: Offset,
        epoch: LeaderEpoch,
        lower: impl FnOnce(Offset) -> io::Result<()>,
    ) -> Result<(), TruncateError> {
        self.check_usable()?;
        let _one_at_a_time = self.flushing.lock();
        let mut writer = self.lock_writer();
        writer.leadership.check_follows(epoch)?;
        self.start_anew_under(&mut writer, offset.0, lower)
    }

    fn start_anew_under(
        &self,
        writer: &mut Writer,
        offset: i64,
        lower: impl FnOnce(Offset) -> io::Result<()>,
    ) -> Result<(), TruncateError> {
        // Nothing of what is on the disk is to be believed until the folder is synced.
        let least = offset.min(self.segments.read()[0].base_offset);
        lower(Offset(least))?;
        self.recovery_point.fetch_min(least, Ordering::AcqRel);
        self.compaction.truncates(least);
        self.start_anew(writer, offset).inspect_err(|error| self.fail("a truncation", error))?;
        Ok(())
    }

    /// Cuts the log behind `segment`, and that at position `end`, where there is something to cut.
    fn cut(&self, writer: &mut Writer, segment: &Arc<Segment>, end: Option<u64>) -> io::Result<()> {
        segment.spill_indexes(&self.files)?;
        // From the last one on, so that a crash leaves a log without holes.
        let after: Vec<_> = {
            let mut segments = self.segments.write();
            let keep = segments.partition_point(|other| other.base_offset <= segment.base_offset);
            segments.drain(keep..).collect()
        };
        for later in after.iter().rev() {
            self.remove_segment(later)?;
        }
        self.files.renumber();
        let file = segment.log_file(&self.files)?;
        // Who reads it by what it was looks it up anew.
        segment.retire(&self.files);
        if let Some(end) = end {
            file.set_len(end)?;
            // What comes next may be as long as what was here: were the old bytes behind it to come back, they
            // would pass for the log's.
            file.sync_data()?;
        }
        let epochs = self.epochs.read().clone();
        let (cut, bytes_since_entry) = recovery::reopen(self, segment.base_offset, epochs)?;
        let log_end = cut.next_offset();
        if let Some(last) = self.segments.write().last_mut() {
            *last = Arc::new(cut);
        }
        writer.bytes_since_entry = bytes_since_entry;
        writer.first_timestamp = None;
        writer.room = Room::default();
        self.log_end_offset.store(log_end, Ordering::Release);
        self.log_start_offset.fetch_min(log_end, Ordering::AcqRel);
        self.epochs.cut(log_end);
        self.write_epochs()?;
        self.last_segment().cut_aborted(&self.files, log_end)?;
        let recovered = recovery::producers_again(self)?;
        self.transactions
            .reset(recovered.producers.open_transactions(), self.transactions.ended_below(log_end));
        (writer.producers, writer.snapshot_offset) = (recovered.producers, recovered.snapshot_offset);
        self.sync_dir()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.files.disk.sync_dir(&self.files.dir.read())?;
        self.is_dir_unsynced.store(false, Ordering::Release);
        Ok(())
    }

    fn start_anew(&self, writer: &mut Writer, offset: i64) -> io::Result<()> {
        let before = self.segments.read().clone();
        for segment in before.iter().rev() {
            self.remove_segment(segment)?;
        }
        for entry in self.files.disk.list(&self.files.dir.read())? {
            if offset_of(&entry.name, "snapshot").is_some() {
                self.remove_file(self.files.path(&entry.name))?;
            }
        }
        self.files.renumber();
        let segment = self.new_segment(offset)?;
        *self.segments.write() = vec![Arc::new(segment)];
        *writer = Writer {
            leadership: writer.leadership,
            producers: ProducerState::default(),
            bytes_since_entry: 0,
            first_timestamp: None,
            snapshot_offset: None,
            room: Room::default(),
        };
        self.transactions.reset(std::iter::empty(), BTreeMap::new());
        self.log_end_offset.store(offset, Ordering::Release);
        self.log_start_offset.store(offset, Ordering::Release);
        self.epochs.clear();
        self.write_epochs()?;
        self.sync_metadata()?;
        self.sync_dir()?;
        // Only now: a segment that came back must not pass for one that was looked at.
        self.recovery_point.store(offset, Ordering::Release);
        Ok(())
    }

    fn remove_segment(&self, segment: &Segment) -> io::Result<()> {
        segment.retire(&self.files);
        for kind in FileKind::ALL {
            self.remove_file(self.files.path(&file_name(segment.base_offset, kind.extension())))?;
        }
        self.is_dir_unsynced.store(true, Ordering::Release);
        Ok(())
    }

    /// Renames the partition's folder, as the first step of its deletion. The log is closed by that.
    pub fn rename_dir(&self, to: PathBuf) -> io::Result<()> {
        self.is_closed.store(true, Ordering::Release);
        let _writer = self.lock_writer();
        let mut dir = self.files.dir.write();
        self.files.disk.rename(&dir, &to)?;
        *dir = to;
        drop(dir);
        self.release_files();
        Ok(())
    }

    /// Removes the log with its folder. Reads that are under way keep their files.
    pub fn delete(&self) -> io::Result<()> {
        self.is_closed.store(true, Ordering::Release);
        let _one_at_a_time = self.flushing.lock();
        let _writer = self.lock_writer();
        self.release_files();
        match self.files.disk.remove_dir_all(&self.files.dir.read()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{append, batch_of, place, read_all};
    use super::super::{LogPlace, ReadError};
    use super::*;
    use crate::protocol::batch::batches;
    use crate::protocol::builder::BatchOptions;

    /// 50 batches of 2 records; batch n is of n seconds, by producer 5.
    fn filled(dir: &std::path::Path, config: LogConfig) -> Log {
        let log = Log::open(place(dir), config).unwrap();
        for at in 0..50 {
            let options = BatchOptions {
                producer_id: 5,
                producer_epoch: 0,
                base_sequence: 2 * at,
                ..BatchOptions::default()
            };
            append(&log, batch_of(2, 50, 1000 * i64::from(at), options)).unwrap();
        }
        log
    }

    fn small() -> LogConfig {
        LogConfig { segment_bytes: 1000, index_interval_bytes: 200, ..LogConfig::default() }
    }

    fn names(dir: &std::path::Path, ending: &str) -> usize {
        let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().ends_with(ending)).count()
    }

    #[test]
    fn retention_removes_from_the_start_by_time_size_and_log_start() {
        let dir = tempfile::tempdir().unwrap();
        let log = filled(dir.path(), small());
        let segments = log.segment_count();
        assert_eq!(log.delete_old_segments(7 * 86_400_000, log.log_end_offset()).unwrap(), 0);
        let under_way = log.read(Offset(0), 100, Offset(100), true).unwrap();
        // Everything up to 20 s is too old.
        let removed = log.delete_old_segments(7 * 86_400_000 + 20_001, log.log_end_offset()).unwrap();
        assert!(removed > 1 && log.segment_count() == segments - removed);
        let start = log.log_start_offset();
        assert!(start.0 > 20 && start.0 <= 42, "{start}");
        assert!(matches!(log.read(Offset(0), 9, Offset(9), true), Err(ReadError::OffsetOutOfRange { .. })));
        assert_eq!(under_way.file.read_at(&mut [0; 50], 0).unwrap(), 50);
        assert!(names(dir.path(), ".deleted") > 1);
        log.advance_log_start_offset(Offset(start.0 + 20)).unwrap();
        assert!(log.delete_old_segments(7 * 86_400_000, log.log_end_offset()).unwrap() > 0);
        log.update_config(LogConfig { retention_bytes: 1500, retention_ms: -1, ..small() });
        assert!(log.delete_old_segments(i64::MAX, log.log_end_offset()).unwrap() > 0);
        assert!(log.size_bytes() > 1000 && log.size_bytes() < 2600, "{}", log.size_bytes());
        log.update_config(LogConfig { retention_ms: 0, ..small() });
        log.delete_old_segments(i64::MAX, log.log_end_offset()).unwrap();
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(100), Offset(100)));
        assert_eq!(log.size_bytes(), 0);
        drop(log);
        let log = Log::open(place(dir.path()), small()).unwrap();
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(100), Offset(100)));
        assert_eq!(names(dir.path(), ".deleted"), 0);
    }

    #[test]
    fn truncation_leaves_a_log_that_goes_on_from_there() {
        for to in [100, 99, 98, 57, 56, 12, 2, 1, 0] {
            let dir = tempfile::tempdir().unwrap();
            let log = filled(dir.path(), small());
            log.lead(LeaderEpoch(1)).unwrap();
            log.flush().unwrap();
            log.follow(LeaderEpoch(2)).unwrap();
            let mut lowered = None;
            let lower = |to| {
                lowered = Some(to);
                Ok(())
            };
            log.truncate_to(Offset(to), LeaderEpoch(2), lower).unwrap();
            let end = to / 2 * 2;
            assert_eq!(log.log_end_offset(), Offset(end), "to {to}");
            assert_eq!(lowered, (to < 100).then_some(Offset(end)), "to {to}");
            // A leadership without a record is forgotten by who follows another.
            assert_eq!(log.latest_epoch(), LeaderEpoch(if end == 0 { -1 } else { 0 }));
            let late = log.truncate_to(Offset(0), LeaderEpoch(1), |_| Ok(()));
            assert!(matches!(late, Err(TruncateError::LeadershipEnded(_))));
            log.lead(LeaderEpoch(3)).unwrap();
            assert_eq!(log.recovery_point(), Offset(end));
            let last_sequence = log.producers().first().map(|producer| i64::from(producer.last_sequence));
            assert_eq!(last_sequence, (end > 0).then_some(end - 1), "to {to}");
            append(&log, batch_of(3, 9, 1, BatchOptions::default())).unwrap();
            for log in [log, Log::open(place(dir.path()), small()).unwrap()] {
                let read = read_all(&log, 0, 1 << 20);
                assert_eq!(batches(&read).count() as i64, end / 2 + 1);
                assert_eq!(log.log_end_offset(), Offset(end + 3));
            }
        }
    }

    #[test]
    fn a_log_can_begin_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        let log = filled(dir.path(), small());
        log.follow(LeaderEpoch(1)).unwrap();
        log.truncate_fully_and_start_at(Offset(1 << 40), LeaderEpoch(1), |_| Ok(())).unwrap();
        log.lead(LeaderEpoch(2)).unwrap();
        assert_eq!(
            append(&log, batch_of(3, 9, 1, BatchOptions::default())).unwrap().first_offset,
            Offset(1 << 40)
        );
        log.close().unwrap();
        let log = Log::open(LogPlace { was_closed: true, ..place(dir.path()) }, small()).unwrap();
        assert_eq!(log.log_start_offset(), Offset(1 << 40));
        assert_eq!(log.log_end_offset(), Offset((1 << 40) + 3));
        let to = dir.path().join("away");
        log.delete().unwrap();
        assert!(!dir.path().exists() && !to.exists());
    }
}
