//! A partition's log: its segments, and what is known of their producers and leader epochs.
//!
//! Locks, in the order they are taken: that of `compaction`, `flushing`, `writer`, that of `epochs`, then any of the small ones
//! (`segments`, a segment's state, `epochs`, `queue`), which are held for moments and never while a disk is asked.
//! Readers take small ones only.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::oneshot;

use super::compaction::Compaction;
use super::epoch_file::EpochFile;
use super::file_cache::{FileCache, FileKind};
use super::leadership::{EpochBack, Leadership, LeadershipEnded};
use super::producer_state::{ProducerState, ProducerSummary};
use super::removals::{Removals, remove};
use super::room::Room;
use super::segment_file::{Files, Segment, State, file_name};
use super::transactions::{Transactions, Verification};
use super::{AppendError, AppendRequest, Appended, LogConfig};
use crate::env::planted::{Planted, is_planted};
use crate::env::{Clock, Disk, OpenMode};
use crate::protocol::batch::BatchHeader;
use crate::types::{LeaderEpoch, Offset};

/// Where a log lives, and what its data folder's checkpoints say of it.
#[derive(Clone, Debug)]
pub struct LogPlace {
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    /// Shared by the logs of a data folder.
    pub cache: Arc<FileCache>,
    /// The partition's folder; it exists.
    pub dir: PathBuf,
    /// Where it begins; `None` where nothing says so.
    pub log_start_offset: Option<Offset>,
    /// What lies below was synced.
    pub recovery_point: Option<Offset>,
    /// What lies below was compacted.
    pub first_dirty_offset: Option<Offset>,
    /// Whether the log was closed before the broker stopped: nothing has to be checked then.
    pub was_closed: bool,
    /// Synced records that are missing do not keep the log from opening.
    pub accepts_missing_data: bool,
}

/// An append that waits for the writer.
#[derive(Debug)]
pub(super) struct Queued {
    pub request: AppendRequest,
    pub answer: oneshot::Sender<Result<Appended, AppendError>>,
}

/// One partition on disk. All methods may be called from many threads.
pub struct Log {
    pub(super) files: Files,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: RwLock<Arc<LogConfig>>,
    /// Never empty; sorted by base offset. The last is the one appended to.
    pub(super) segments: RwLock<Vec<Arc<Segment>>>,
    pub(super) epochs: EpochFile,
    pub(super) log_start_offset: AtomicI64,
    pub(super) log_end_offset: AtomicI64,
    pub(super) recovery_point: AtomicI64,
    pub(super) is_failed: AtomicBool,
    /// What lies below can still be read when the log has failed.
    pub(super) readable_end: AtomicI64,
    pub(super) is_closed: AtomicBool,
    /// When the broker's log was last told that appends cannot be written, and that reads fail (ms).
    pub(super) write_error_told_ms: AtomicI64,
    pub(super) read_error_told_ms: AtomicI64,
    /// Bytes of files that recovery set aside, now or at an earlier start.
    pub(super) set_aside_bytes: u64,
    pub(super) transactions: Transactions,
    pub(super) queue: Mutex<Vec<Queued>>,
    pub(super) writer: Mutex<Writer>,
    pub(super) flushing: Mutex<()>,
    /// The log end offset at the last checkpoint.
    pub(super) checkpointed_end: AtomicI64,
    /// Files were made or renamed since the folder was synced.
    pub(super) is_dir_unsynced: AtomicBool,
    /// The name of the log's folder may not be on the disk.
    pub(super) is_name_unsynced: AtomicBool,
    /// The last segment may have been cut without a sync: what was cut off must not come back once the segment is not
    /// looked at any more.
    pub(super) is_cut_unsynced: AtomicBool,
    pub(super) compaction: Compaction,
    pub(super) removals: Removals,
}

/// What only who appends needs.
#[derive(Debug)]
pub struct Writer {
    /// Under which leadership the log is written to and cut. It changes under the writer lock, so that
    /// no append and no truncation is between two.
    pub leadership: Leadership,
    pub producers: ProducerState,
    /// Since the last index entry of the last segment.
    pub bytes_since_entry: u64,
    /// The timestamp (ms) that `segment.ms` counts from, once the last segment has a batch.
    pub first_timestamp: Option<i64>,
    /// Offset of the newest snapshot file.
    pub snapshot_offset: Option<i64>,
    /// Of the last segment.
    pub room: Room,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("dir", &*self.files.dir.read())
            .field("log_start_offset", &self.log_start_offset)
            .field("log_end_offset", &self.log_end_offset)
            .finish_non_exhaustive()
    }
}

/// The writer lock. Whoever lets go of it sees to the appends that queued meanwhile.
pub(super) struct Writing<'a> {
    log: &'a Log,
    guard: Option<MutexGuard<'a, Writer>>,
}

impl std::ops::Deref for Writing<'_> {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        self.guard.as_ref().expect("taken only by drop")
    }
}

impl std::ops::DerefMut for Writing<'_> {
    fn deref_mut(&mut self) -> &mut Writer {
        self.guard.as_mut().expect("taken only by drop")
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.guard = None;
        self.append_queued();
    }
}

impl Writing<'_> {
    fn append_queued(&self) {
        self.log.append_queued();
    }
}

impl Log {
    /// Lets go of its open files; they are opened again on use.
    pub fn release_files(&self) {
        self.segments.read().iter().for_each(|segment| segment.forget(&self.files));
    }

    /// Locks out other writers.
    pub(super) fn lock_writer(&self) -> Writing<'_> {
        Writing { log: self, guard: Some(self.writer.lock()) }
    }

    pub(super) fn config(&self) -> Arc<LogConfig> {
        self.config.read().clone()
    }

    pub fn update_config(&self, config: LogConfig) {
        *self.config.write() = Arc::new(config);
    }

    /// The first offset that may be read.
    pub fn log_start_offset(&self) -> Offset {
        Offset(self.log_start_offset.load(Ordering::Acquire))
    }

    /// The offset that the next record gets.
    pub fn log_end_offset(&self) -> Offset {
        Offset(self.log_end_offset.load(Ordering::Acquire))
    }

    /// Milliseconds that only go on, for how long something takes.
    pub fn monotonic_ms(&self) -> i64 {
        self.clock.monotonic_ms()
    }

    /// Wall clock, in milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// What lies below is synced.
    pub fn recovery_point(&self) -> Offset {
        Offset(self.recovery_point.load(Ordering::Acquire))
    }

    /// Bytes of files that recovery set aside because they lie behind damage, now or at an earlier start.
    pub fn set_aside_bytes(&self) -> u64 {
        self.set_aside_bytes
    }

    /// Whether its disk failed in a way that could not be undone. What was durable before can still be read.
    pub fn is_failed(&self) -> bool {
        self.is_failed.load(Ordering::Acquire)
    }

    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.segments.read().iter().map(|segment| segment.len()).sum()
    }

    pub fn segment_count(&self) -> usize {
        self.segments.read().len()
    }

    /// Path of the partition's folder.
    pub fn dir(&self) -> PathBuf {
        self.files.dir.read().clone()
    }

    pub(super) fn last_segment(&self) -> Arc<Segment> {
        self.segments.read().last().expect("a log has at least one segment").clone()
    }

    pub(super) fn check_usable(&self) -> io::Result<()> {
        match (self.is_failed(), self.is_closed()) {
            (true, _) => Err(io::Error::other("the log is offline after a failure of its disk")),
            (_, true) => Err(io::Error::other("the log is closed")),
            _ => Ok(()),
        }
    }

    /// The newest leader epoch; -1 for none.
    pub fn latest_epoch(&self) -> LeaderEpoch {
        self.epochs.read().latest().map_or(LeaderEpoch::NONE, |latest| LeaderEpoch(latest.epoch))
    }

    /// The leader epoch of the record at `offset`.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.epochs.read().epoch_of(offset.0).map(LeaderEpoch)
    }

    /// The largest epoch not above `epoch` with the offset where it ends, as OffsetForLeaderEpoch
    /// answers (KIP-101); both -1 where that is not known.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let end = self.log_end_offset().0;
        match self.epochs.read().end_offset_for(epoch.0, end) {
            Some((epoch, offset)) => (LeaderEpoch(epoch), Offset(offset)),
            None => (LeaderEpoch::NONE, Offset::NONE),
        }
    }

    /// Where this log parts from its leader's, as [`super::leader_epochs::LeaderEpochs::parts_at`] says.
    pub fn parts_at(&self, epoch: LeaderEpoch, end: Offset) -> Offset {
        let log_end = self.log_end_offset().0;
        Offset(self.epochs.read().parts_at(log_end, epoch.0, end.0))
    }

    /// This node's leadership of `epoch` begins; returns where, which is the log's end. From now on what was checked
    /// under an earlier leadership is neither appended nor cut.
    ///
    /// The epoch is durable with the first checkpoint after a record of it, or with the first such record that is
    /// synced: nobody can rely on it earlier. So a start costs idle partitions no writes.
    ///
    /// # Errors
    /// The log is in a later epoch; nobody writes to it then.
    pub fn lead(&self, epoch: LeaderEpoch) -> Result<Offset, EpochBack> {
        let mut writer = self.lock_writer();
        let end = self.log_end_offset();
        let begun = writer.leadership.lead(epoch).and_then(|()| self.assign_epoch(epoch.0, end.0));
        begun.inspect_err(|_| writer.leadership.end())?;
        Ok(end)
    }

    /// This node follows the leader of `epoch`: from now on only what that leader sent is appended and cut.
    ///
    /// An epoch that this node began to lead without a record in it is forgotten: followers are told apart by the
    /// epochs of the records that they have.
    ///
    /// # Errors
    /// As [`Self::lead`].
    pub fn follow(&self, epoch: LeaderEpoch) -> Result<(), EpochBack> {
        let mut writer = self.lock_writer();
        let begun = writer.leadership.follow(epoch);
        begun.inspect_err(|_| writer.leadership.end())?;
        self.epochs.forget_without_records(self.log_end_offset().0);
        Ok(())
    }

    /// Nothing is written any more in this node's leadership of `epoch`: what comes queues, in order, until the log is
    /// [resumed](Self::resume) or the leadership ends, when it is refused. Returns where the log ends until then.
    ///
    /// # Errors
    /// That leadership is over.
    pub fn suspend(&self, epoch: LeaderEpoch) -> Result<Offset, LeadershipEnded> {
        let mut writer = self.lock_writer();
        writer.leadership.suspend(epoch)?;
        Ok(self.log_end_offset())
    }

    /// Writes on, what has queued first.
    pub fn resume(&self) {
        self.lock_writer().leadership.resume();
    }

    /// Nobody writes to the log any more.
    pub fn end_leadership(&self) {
        self.lock_writer().leadership.end();
    }

    /// The newest leadership that has begun since the log was opened; `NONE` before the first.
    pub fn leadership_epoch(&self) -> LeaderEpoch {
        self.lock_writer().leadership.epoch()
    }

    /// Notes the epoch of an appended batch; writes the file, unsynced, when it is a new one. What a power
    /// cut takes of it, recovery reads out of the batches.
    pub(super) fn note_appended_epoch(&self, epoch: i32, offset: i64) {
        if let Err(error) = self.assign_epoch(epoch, offset) {
            // Leaders and followers have been held to it before they wrote.
            tracing::error!(log = %self.files.dir.read().display(), %error, "an epoch could not be noted");
        }
        if let Err(error) = self.epochs.appended(&self.files) {
            tracing::warn!(log = %self.files.dir.read().display(), %error, "the leader epochs could not be noted");
        }
    }

    fn assign_epoch(&self, epoch: i32, offset: i64) -> Result<(), EpochBack> {
        self.epochs.assign(epoch, offset, self.log_end_offset().0)
    }

    /// Writes the epochs, durably, if they changed.
    pub(super) fn write_epochs(&self) -> io::Result<()> {
        self.epochs.write(&self.files)
    }

    /// The idempotent producers that it knows.
    pub fn producers(&self) -> Vec<ProducerSummary> {
        self.lock_writer().producers.summaries()
    }

    /// Below it, of what lies below the high watermark, nothing belongs to a transaction that is open, or whose end may
    /// not be replicated.
    pub fn last_stable_offset(&self, high_watermark: Offset) -> Offset {
        self.transactions.last_stable_offset(high_watermark, self.log_start_offset())
    }

    /// Whether the last stable offset may be another than the high watermark.
    pub fn has_transactions(&self) -> bool {
        self.transactions.is_any()
    }

    /// How many transactions are open.
    pub fn open_transactions(&self) -> usize {
        self.transactions.open_count()
    }

    /// When the oldest open transaction began (ms), as its first batch says.
    pub fn oldest_transaction_ms(&self) -> Option<i64> {
        let first = self.transactions.first_open()?;
        self.first_timestamp_from(first.max(self.log_start_offset())).ok().flatten()
    }

    /// Whether a producer's transactional batch needs to be verified with its coordinator before it is appended.
    pub fn verification(&self, header: &BatchHeader) -> Verification {
        let (producer_id, epoch) = (header.producer_id, header.producer_epoch);
        self.transactions.verification(producer_id, epoch, header.base_sequence, self.clock.now_ms())
    }

    /// How many producers it knows.
    pub fn producer_count(&self) -> usize {
        self.lock_writer().producers.len()
    }

    /// Syncs all that the log holds at this call; returns the offset below which everything is synced.
    ///
    /// # Errors
    /// The log is offline after a failed sync: what the operating system dropped cannot be told.
    pub fn flush(&self) -> io::Result<Offset> {
        let _one_at_a_time = self.flushing.lock();
        if self.is_closed() && self.recovery_point() < self.log_end_offset() {
            return Err(io::Error::other("the log is closed"));
        }
        self.flush_locked()
    }

    fn flush_locked(&self) -> io::Result<Offset> {
        if self.is_failed() {
            return Err(io::Error::other("the log is offline after a failure of its disk"));
        }
        let (synced, end) = (self.recovery_point().0, self.log_end_offset().0);
        if synced >= end {
            return Ok(Offset(synced));
        }
        let (unsynced, last) = {
            let segments = self.segments.read();
            let unsynced: Vec<_> =
                segments.iter().filter(|segment| segment.next_offset() >= synced).cloned().collect();
            (unsynced, segments.last().map_or(0, |segment| segment.base_offset))
        };
        let sync = || {
            if is_planted(Planted::SkippedSync) {
                return Ok(());
            }
            for segment in unsynced {
                match segment.sync(&self.files, segment.base_offset != last) {
                    // Retention removed it meanwhile, or compaction replaced it by one that is synced.
                    Err(_) if segment.is_gone() => {}
                    other => other?,
                }
            }
            // Whoever made the folder tried, and may have failed.
            if self.is_name_unsynced.swap(false, Ordering::AcqRel)
                && let Some(parent) = self.files.dir.read().parent()
            {
                self.files.disk.sync_dir(parent)?;
            }
            if self.is_dir_unsynced.swap(false, Ordering::AcqRel) {
                self.sync_metadata()?;
                self.files.disk.sync_dir(&self.files.dir.read())?;
            }
            Ok(())
        };
        sync().inspect_err(|error: &io::Error| {
            self.files.cache.errors.sync_failed();
            self.fail("sync", error);
        })?;
        self.recovery_point.fetch_max(end, Ordering::AcqRel);
        Ok(Offset(end))
    }

    /// The file with the topic's id is written without a sync, as creating thousands of partitions
    /// should not take thousands of syncs; without it synced records would be nobody's.
    pub(super) fn sync_metadata(&self) -> io::Result<()> {
        match self
            .files
            .disk
            .open(&self.files.path(super::meta_properties::PARTITION_METADATA), OpenMode::ReadWrite)
        {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other?.sync_data(),
        }
    }

    /// Takes the log offline. What was synced stays readable.
    pub(super) fn fail(&self, what: &str, error: &io::Error) {
        self.fail_above(self.recovery_point(), what, error);
    }

    /// As [`Self::fail`], where what lies below `end` is as it was.
    pub(super) fn fail_above(&self, end: Offset, what: &str, error: &io::Error) {
        self.readable_end.fetch_min(end.0, Ordering::AcqRel);
        if !self.is_failed.swap(true, Ordering::AcqRel) {
            tracing::error!(log = %self.files.dir.read().display(), %error, "{what} failed; the log is offline");
        }
    }

    fn sync_cut(&self, last: &Segment) -> io::Result<()> {
        if self.is_cut_unsynced.swap(false, Ordering::AcqRel) {
            last.sync(&self.files, false).inspect_err(|error| self.fail("sync", error))?;
        }
        Ok(())
    }

    /// Begins a new segment, unless the last one is empty.
    pub fn roll(&self) -> io::Result<()> {
        self.check_usable()?;
        let mut writer = self.lock_writer();
        let end = self.log_end_offset().0;
        self.roll_to(&mut writer, end)
    }

    /// Begins a new segment at `base_offset`.
    pub(super) fn roll_to(&self, writer: &mut Writer, base_offset: i64) -> io::Result<()> {
        let last = self.last_segment();
        if last.base_offset >= base_offset {
            return Ok(());
        }
        last.state.write().push_time(last.base_offset);
        last.spill_indexes(&self.files)?;
        self.sync_cut(&last)?;
        self.write_snapshot(writer)?;
        let next = self.new_segment(base_offset)?;
        writer.room.give_back(last.len(), last.age_by_file(), || last.log_file(&self.files));
        last.state.write().next_offset = base_offset;
        self.segments.write().push(Arc::new(next));
        writer.bytes_since_entry = 0;
        writer.first_timestamp = None;
        Ok(())
    }

    /// Makes an empty segment's file; one that cannot be made whole leaves none.
    pub(super) fn new_segment(&self, base_offset: i64) -> io::Result<Segment> {
        self.try_new_segment(base_offset).inspect_err(|_| {
            // Were it to stay, the log would be taken to end there once it has grown over it.
            let path = self.files.path(&file_name(base_offset, FileKind::Log.extension()));
            self.files.forget(base_offset);
            self.is_dir_unsynced.store(true, Ordering::Release);
            if let Err(error) = remove(&*self.files.disk, &path) {
                self.fail_above(self.log_end_offset(), "taking back a new segment", &error);
            }
        })
    }

    fn try_new_segment(&self, base_offset: i64) -> io::Result<Segment> {
        self.files.forget(base_offset);
        let file = self.files.open(base_offset, FileKind::Log, OpenMode::Create)?;
        file.set_len(0)?;
        for kind in [FileKind::Index, FileKind::TimeIndex, FileKind::TxnIndex] {
            let path = self.files.path(&file_name(base_offset, kind.extension()));
            if self.files.disk.exists(&path) {
                self.files.disk.remove_file(&path)?;
            }
        }
        self.is_dir_unsynced.store(true, Ordering::Release);
        Ok(Segment::new(&self.files, base_offset, State::new(0, base_offset), self.clock.now_ms()))
    }

    /// Writes the producers as of the log end.
    pub(super) fn write_snapshot(&self, writer: &mut Writer) -> io::Result<()> {
        let end = self.log_end_offset().0;
        if writer.snapshot_offset == Some(end) {
            return Ok(());
        }
        let path = self.files.path(&file_name(end, "snapshot"));
        let file = self.files.disk.open(&path, OpenMode::Create)?;
        let content = writer.producers.encode();
        file.set_len(0)?;
        file.write_all_at(&mut [io::IoSlice::new(&content)], 0).inspect_err(|_| {
            // Part of it serves nobody, and takes room where there is none.
            let _ = self.files.disk.remove_file(&path);
        })?;
        self.is_dir_unsynced.store(true, Ordering::Release);
        if let Some(before) = writer.snapshot_offset.replace(end) {
            // One stays for each segment's start; those between only serve until the next.
            let is_base = self.segments.read().iter().any(|segment| segment.base_offset == before);
            if !is_base {
                let _ = self.files.disk.remove_file(&self.files.path(&file_name(before, "snapshot")));
            }
        }
        Ok(())
    }

    /// Writes what recovery would otherwise have to make again: index entries in memory, the
    /// producers, the epochs. Costs nothing when nothing was appended since the last time.
    pub fn checkpoint(&self) -> io::Result<()> {
        self.check_usable()?;
        let end = self.log_end_offset().0;
        if self.checkpointed_end.load(Ordering::Acquire) != end {
            let mut writer = self.lock_writer();
            self.checkpointed_end.store(end, Ordering::Release);
            self.last_segment().spill_indexes(&self.files)?;
            if !writer.producers.is_empty() {
                self.write_snapshot(&mut writer)?;
            }
        }
        self.write_epochs()
    }

    /// Closes the log so that it opens without recovery: appends and reads fail from now on.
    pub fn close(&self) -> io::Result<()> {
        if self.is_failed() || self.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let _one_at_a_time = self.flushing.lock();
        let mut writer = self.lock_writer();
        let last = self.last_segment();
        last.state.write().push_time(last.base_offset);
        last.spill_indexes(&self.files)?;
        if self.log_end_offset() > self.log_start_offset() || writer.snapshot_offset.is_some() {
            self.write_snapshot(&mut writer)?;
        }
        writer.room.give_back(last.len(), last.age_by_file(), || last.log_file(&self.files));
        self.sync_cut(&last)?;
        self.flush_locked()?;
        // What is closed is not checked at the next start: its indexes must be as durable as its records.
        let segments = self.segments.read().clone();
        segments.iter().try_for_each(|segment| segment.sync_indexes(&self.files))?;
        if self.is_dir_unsynced.swap(false, Ordering::AcqRel) {
            self.files.disk.sync_dir(&self.files.dir.read())?;
        }
        self.write_epochs()?;
        self.release_files();
        Ok(())
    }
}
