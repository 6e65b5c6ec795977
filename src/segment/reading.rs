//! Reads: from offsets and timestamps to places in files. No read waits for a write.
//!
//! The batch that a read begins with is held to its neighbours and to the index; those behind it in the same slice
//! leave as they are, as Kafka's do. A look at each header would be one more read of the file for each batch, beside
//! one `sendfile` for all of them (about 0.35 us each: a quarter more CPU for batches of 16 KiB). So where a base
//! offset is damaged in the middle of a slice, which no checksum covers, the client is who sees it, and only who asks
//! from there on is told `CORRUPT_MESSAGE`.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};

use super::aborted::AbortedTransaction;
use super::log::Log;
use super::scan::{self, Located};
use super::segment_file::{Segment, file_name};
use super::{LogSlice, ReadError, TimestampOffset};
use crate::env::File;
use crate::protocol::batch::{Batch, BatchError, BatchHeader, TimestampType};
use crate::types::{LeaderEpoch, Offset};

/// Consumers try again and again; the log of the broker is told of a log that cannot be read this often.
const ERROR_TOLD_EVERY_MS: i64 = 10_000;

/// Largest batch that is looked into for a timestamp.
const LOOKED_INTO_BYTES_MAX: usize = 256 * 1024 * 1024;

impl Log {
    /// Where the records from `from` on are: up to `bytes_max` bytes, and none from `up_to` on. The last batch may
    /// be cut, but not the first: when it does not fit there is nothing, or with `whole_first_batch` all of it.
    ///
    /// # Errors
    /// `OffsetOutOfRange` when `from` is below the log start offset or above the log end offset.
    pub fn read(
        &self,
        from: Offset,
        bytes_max: usize,
        up_to: Offset,
        whole_first_batch: bool,
    ) -> Result<LogSlice, ReadError> {
        if self.is_closed() {
            return Err(ReadError::Closed);
        }
        self.check_range(from)?;
        let mut up_to = up_to;
        if self.is_failed() {
            let readable_end = self.readable_end();
            if from >= readable_end {
                return Err(ReadError::Failed);
            }
            up_to = up_to.min(readable_end);
        }
        if from >= up_to || from >= self.log_end_offset() {
            return Ok(LogSlice::nothing());
        }
        let mut offset = from.0;
        loop {
            let (segment, next) = self.segment_of(offset);
            match read_segment(self, &segment, offset, bytes_max, up_to.0, whole_first_batch) {
                Ok(Some(slice)) => return Ok(slice),
                Ok(None) => match next {
                    Some(next) if next < up_to.0 => offset = next,
                    _ => return Ok(LogSlice::nothing()),
                },
                Err(error) => {
                    // The segment may have been removed since it was looked up, or replaced by compaction.
                    self.check_range(from)?;
                    if !segment.is_gone() || self.is_failed() {
                        self.tell_read_error(segment.base_offset, offset, &error);
                        return Err(error.into());
                    }
                    std::thread::yield_now();
                }
            }
        }
    }

    /// The aborted transactions that have batches among those from `from` on, below `up_to`, in the segment that holds
    /// `from`: what a slice of [`Self::read`] may hold. By where they began.
    pub fn aborted_transactions(&self, from: Offset, up_to: Offset) -> io::Result<Vec<AbortedTransaction>> {
        let look = |segments: &[Arc<Segment>]| {
            let first = segments.partition_point(|segment| segment.base_offset <= from.0).max(1) - 1;
            // A slice may come from a later segment, where compaction left nothing behind `from` in this one.
            let has_it = |segment: &&Arc<Segment>| !segment.is_empty() && segment.next_offset() > from.0;
            let end = segments.get(first..).unwrap_or_default().iter().find(has_it);
            let up_to = end.map_or(up_to.0, |segment| segment.next_offset().min(up_to.0));
            self.aborted_within(segments.get(first..).unwrap_or_default(), from.0, up_to)
        };
        self.look_through(look)
    }

    /// Those that have batches from `from` on, below `up_to`, where `segments` begin with the one that holds `from`. By where
    /// they began.
    pub(super) fn aborted_within(
        &self,
        segments: &[Arc<Segment>],
        from: i64,
        up_to: i64,
    ) -> io::Result<Vec<AbortedTransaction>> {
        let mut found = Vec::new();
        for segment in segments {
            if segment.aborted_transactions(&self.files, from, up_to, &mut found)? {
                break;
            }
        }
        found.sort_unstable_by_key(|aborted| aborted.first_offset);
        Ok(found)
    }

    /// What lies below can be read, also after a failure.
    fn readable_end(&self) -> Offset {
        Offset(self.readable_end.load(Ordering::Acquire))
    }

    /// Counts a read that failed, and says where; not for each of those who try again and again.
    fn tell_read_error(&self, segment: i64, offset: i64, error: &io::Error) {
        self.files.cache.errors.read_failed();
        let (now_ms, told_ms) = (self.clock.now_ms(), self.read_error_told_ms.load(Ordering::Relaxed));
        if now_ms.saturating_sub(told_ms) >= ERROR_TOLD_EVERY_MS {
            self.read_error_told_ms.store(now_ms, Ordering::Relaxed);
            let path = self.files.path(&file_name(segment, "log"));
            tracing::error!(path = %path.display(), offset, %error, "a log cannot be read");
        }
    }

    /// What was read of the log to send it failed: records from `offset` on.
    pub fn read_failed(&self, offset: Offset, error: &io::Error) {
        let (segment, _) = self.segment_of(offset.0);
        self.tell_read_error(segment.base_offset, offset.0, error);
    }

    fn check_range(&self, from: Offset) -> Result<(), ReadError> {
        let (start, end) = (self.log_start_offset(), self.log_end_offset());
        if from < start || from > end {
            return Err(ReadError::OffsetOutOfRange { start, end });
        }
        Ok(())
    }

    /// The segment that holds an offset, and the base offset of the one after it.
    pub(super) fn segment_of(&self, offset: i64) -> (Arc<Segment>, Option<i64>) {
        let segments = self.segments.read();
        let after = segments.partition_point(|segment| segment.base_offset <= offset).max(1);
        let segment = segments.get(after - 1).expect("a log has at least one segment").clone();
        (segment, segments.get(after).map(|next| next.base_offset))
    }

    /// Looks through the segments, again when compaction replaced some of them meanwhile.
    pub(super) fn look_through<T>(&self, look: impl Fn(&[Arc<Segment>]) -> io::Result<T>) -> io::Result<T> {
        loop {
            if self.is_closed() {
                return Err(io::Error::other("the log is closed"));
            }
            let segments = self.segments.read().clone();
            match look(&segments) {
                Err(_) if !self.is_failed() && segments.iter().any(|segment| segment.is_gone()) => {
                    std::thread::yield_now();
                }
                found => return found,
            }
        }
    }

    /// Looks for an offset, which a log that failed gives only of what can still be read.
    fn look_for(
        &self,
        look: impl Fn(&[Arc<Segment>]) -> io::Result<Option<TimestampOffset>>,
    ) -> io::Result<Option<TimestampOffset>> {
        let found = self.look_through(look)?;
        let is_readable = |found: &TimestampOffset| found.offset < self.readable_end();
        if self.is_failed() && !found.as_ref().is_some_and(is_readable) {
            return Err(io::Error::other("the log is offline after a failure of its disk"));
        }
        Ok(found)
    }

    /// The first timestamp of the batch that holds `offset`, or of the next one; in milliseconds. `None`
    /// beyond the end. Reads no more than the batch's header.
    ///
    /// # Errors
    /// Those of [`Self::read`].
    pub fn first_timestamp_from(&self, offset: Offset) -> Result<Option<i64>, ReadError> {
        let slice = self.read(offset, BatchHeader::SIZE, self.log_end_offset(), true)?;
        let mut header = [0; BatchHeader::SIZE];
        if slice.len < header.len() || slice.file.read_at(&mut header, slice.position)? < header.len() {
            return Ok(None);
        }
        let header =
            BatchHeader::parse(&header).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Some(match (header.timestamp_type(), header.delete_horizon_ms()) {
            (TimestampType::CreateTime, None) => header.base_timestamp,
            // Compaction put another time in the base timestamp's place (KIP-534).
            (TimestampType::CreateTime, Some(_)) | (TimestampType::LogAppendTime, _) => header.max_timestamp,
        }))
    }

    /// The first record, from the log start offset on, that is as late as `timestamp` (ms) or later.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> io::Result<Option<TimestampOffset>> {
        self.look_for(|segments| self.offset_for_timestamp_in(segments, timestamp))
    }

    fn offset_for_timestamp_in(
        &self,
        segments: &[Arc<Segment>],
        timestamp: i64,
    ) -> io::Result<Option<TimestampOffset>> {
        let start = self.log_start_offset().0;
        for segment in segments {
            if segment.next_offset() <= start {
                continue;
            }
            let largest = segment.largest_timestamp(&self.files)?;
            if largest.is_none_or(|(largest, _)| largest < timestamp) {
                continue;
            }
            let from = segment.floor_time(&self.files, timestamp)?.max(start);
            let (limit, position) = (segment.len(), segment.floor_position(&self.files, from)?);
            let file = segment.log_file(&self.files)?;
            for batch in scan::headers(&*file, position, limit) {
                let batch = batch?;
                if batch.header.max_timestamp < timestamp || batch.header.last_offset() < from {
                    continue;
                }
                if let Some(found) = look_into(&*file, &batch, timestamp, start)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The latest record, by its timestamp; the first of several.
    pub fn max_timestamp(&self) -> io::Result<Option<TimestampOffset>> {
        self.look_for(|segments| self.max_timestamp_in(segments))
    }

    fn max_timestamp_in(&self, segments: &[Arc<Segment>]) -> io::Result<Option<TimestampOffset>> {
        let mut latest: Option<(i64, i64, &Arc<Segment>)> = None;
        for segment in segments {
            if let Some((timestamp, offset)) = segment.largest_timestamp(&self.files)?
                && latest.as_ref().is_none_or(|(best, ..)| timestamp > *best)
            {
                latest = Some((timestamp, offset, segment));
            }
        }
        let Some((timestamp, offset, segment)) = latest else { return Ok(None) };
        let Some(batch) = segment.find(&self.files, offset, segment.len())? else { return Ok(None) };
        look_into(&*segment.log_file(&self.files)?, &batch, timestamp, i64::MIN)
    }
}

fn read_segment(
    log: &Log,
    segment: &Segment,
    from: i64,
    bytes_max: usize,
    up_to: i64,
    whole_first_batch: bool,
) -> io::Result<Option<LogSlice>> {
    let (len, next_offset, known) = {
        let state = segment.state.read();
        (state.len, state.next_offset, state.known_position(from))
    };
    if from >= next_offset || len == 0 {
        return Ok(None);
    }
    // A consumer that keeps up takes all that is left from where an earlier write ended: nothing has
    // to be looked at for that.
    if let Some(position) = known
        && up_to >= next_offset
        && position < len
        && let Ok(left) = usize::try_from(len - position)
        && left <= bytes_max
    {
        return Ok(Some(LogSlice { file: segment.log_file(&log.files)?, position, len: left }));
    }
    let Some(first) = segment.find(&log.files, from, len)? else { return Ok(None) };
    if first.header.base_offset >= up_to {
        return Ok(Some(LogSlice::nothing()));
    }
    let wanted = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let limit = if up_to >= next_offset {
        len
    } else {
        let floor = segment.floor_position(&log.files, up_to)?;
        // Mostly the end that is asked for comes first, and then it does not matter where `up_to` is.
        if first.position.saturating_add(wanted.max(first.header.size() as u64)) <= floor {
            floor
        } else {
            segment.find(&log.files, up_to, len)?.map_or(len, |batch| batch.position)
        }
    };
    let mut count = wanted.min(limit.saturating_sub(first.position));
    // Part of a batch serves nobody: a consumer cannot get on with it, nor know that there is more.
    if count < first.header.size() as u64 {
        if !whole_first_batch {
            return Ok(Some(LogSlice::nothing()));
        }
        count = first.header.size() as u64;
    }
    let file = segment.log_file(&log.files)?;
    Ok(Some(LogSlice { file, position: first.position, len: usize::try_from(count).unwrap_or(usize::MAX) }))
}

/// The first record of a batch that is as late as `timestamp` or later, and not below `start`.
fn look_into(
    file: &dyn File,
    batch: &Located,
    timestamp: i64,
    start: i64,
) -> io::Result<Option<TimestampOffset>> {
    let header = &batch.header;
    let leader_epoch = LeaderEpoch(header.partition_leader_epoch);
    let found = |timestamp, offset| Some(TimestampOffset { timestamp, offset: Offset(offset), leader_epoch });
    // Compaction may have taken the first record.
    let is_dense = i64::from(header.records_count) == i64::from(header.last_offset_delta) + 1;
    if header.timestamp_type() == TimestampType::LogAppendTime && is_dense {
        return Ok(found(header.max_timestamp, header.base_offset.max(start)));
    }
    let mut bytes = vec![0; header.size()];
    let count = file.read_at(&mut bytes, batch.position)?;
    bytes.truncate(count);
    let invalid = |error: BatchError| io::Error::new(io::ErrorKind::InvalidData, error);
    let records =
        Batch::parse(&bytes).and_then(|batch| batch.records(LOOKED_INTO_BYTES_MAX)).map_err(invalid)?;
    for record in records {
        let record = record.map_err(invalid)?;
        if record.timestamp >= timestamp && record.offset >= start {
            return Ok(found(record.timestamp, record.offset));
        }
    }
    Ok(None)
}

impl LogSlice {
    /// A slice of nothing, which takes no file.
    pub fn nothing() -> Self {
        static NOTHING: LazyLock<Arc<dyn File>> = LazyLock::new(|| Arc::new(Nothing));
        Self { file: NOTHING.clone(), position: 0, len: 0 }
    }
}

/// An empty file that nobody can write to.
#[derive(Debug)]
struct Nothing;

impl File for Nothing {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_all_at(&self, _: &mut [io::IoSlice<'_>], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn is_cached(&self, _: u64, _: u64) -> bool {
        true
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
