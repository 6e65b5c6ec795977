//! One segment: a `.log` file with its indexes.
//!
//! Who appends holds the log's writer lock; readers take [`Segment::state`] for moments only, never
//! while a file is read or written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::aborted::{self, AbortedIndex, AbortedTransaction};
use super::file_cache::{FileCache, FileKey, FileKind};
use super::index::{self, Entry, Index, OffsetEntry, Search, TimeEntry};
use super::scan::{self, Located};
use crate::env::{Disk, File, OpenMode};
use crate::protocol::batch::BatchHeader;

/// A segment's files as the folder lists them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    pub log_bytes: u64,
    /// When the log was last written to (ms).
    pub modified_ms: i64,
    pub index_bytes: Option<u64>,
    pub time_index_bytes: Option<u64>,
    pub txn_index_bytes: Option<u64>,
}

/// What all segments of a log share.
#[derive(Debug)]
pub struct Files {
    pub disk: Arc<dyn Disk>,
    pub cache: Arc<FileCache>,
    /// The log's number in the cache; another one after a truncation.
    pub log: AtomicU64,
    /// The partition's folder; changes when the partition is deleted.
    pub dir: RwLock<PathBuf>,
}

impl Files {
    /// Those of a folder of the real disk.
    #[cfg(test)]
    pub fn in_folder(dir: &std::path::Path) -> Self {
        Self {
            disk: Arc::new(crate::env::real::RealDisk),
            cache: Arc::new(FileCache::new(1)),
            log: AtomicU64::new(0),
            dir: RwLock::new(dir.to_owned()),
        }
    }

    /// Path of a file of the partition.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.read().join(name)
    }

    /// The open file of a segment.
    pub fn open(&self, base_offset: i64, kind: FileKind, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.open_as(self.number(), base_offset, kind, mode)
    }

    /// As [`Self::open`], of a segment with that number.
    fn open_as(
        &self,
        log: u64,
        base_offset: i64,
        kind: FileKind,
        mode: OpenMode,
    ) -> io::Result<Arc<dyn File>> {
        let key = FileKey { log, base_offset, kind };
        self.cache.get(key, || self.disk.open(&self.path(&file_name(base_offset, kind.extension())), mode))
    }

    /// The log's number in the cache.
    pub fn number(&self) -> u64 {
        self.log.load(Ordering::Acquire)
    }

    /// Files were removed whose names may come again: a reader that is just opening one of them must
    /// not leave it in the cache for who writes to the new one.
    pub fn renumber(&self) {
        self.log.store(self.cache.next_log(), Ordering::Release);
    }

    /// Lets go of the open files of that name.
    pub fn forget(&self, base_offset: i64) {
        self.forget_as(self.number(), base_offset);
    }

    fn forget_as(&self, log: u64, base_offset: i64) {
        FileKind::ALL.iter().for_each(|kind| self.cache.forget(FileKey { log, base_offset, kind: *kind }));
    }
}

/// A file name of Kafka's: an offset of 20 digits and what it is.
pub fn file_name(offset: i64, extension: &str) -> String {
    format!("{offset:020}.{extension}")
}

/// The offset of a file name with that extension.
pub fn offset_of(name: &str, extension: &str) -> Option<i64> {
    let stem = Path::new(name).file_stem()?.to_str()?;
    let is_ours = stem.len() == 20 && stem.bytes().all(|digit| digit.is_ascii_digit());
    let found = name.strip_prefix(stem)?.strip_prefix('.')?;
    if is_ours && found == extension { stem.parse().ok() } else { None }
}

/// Where earlier writes ended, newest first: where consumers that keep up ask next.
const BORDERS: usize = 4;

/// What readers may rely on.
#[derive(Debug)]
pub struct State {
    /// Bytes of whole batches in the file.
    pub len: u64,
    /// The offset after the last one; in a segment that is not the last, the next one's base offset.
    pub next_offset: i64,
    borders: [(i64, u64); BORDERS],
    pub offsets: Index<OffsetEntry>,
    pub times: Index<TimeEntry>,
    pub(super) aborted: AbortedIndex,
    /// Largest timestamp (ms) with the last offset of its batch; `None` while not looked up.
    pub largest: Option<(i64, i64)>,
}

impl State {
    /// A segment's state as found on disk.
    pub fn new(len: u64, next_offset: i64) -> Self {
        Self {
            len,
            next_offset,
            borders: [(next_offset, len); BORDERS],
            offsets: Index::default(),
            times: Index::default(),
            aborted: AbortedIndex::default(),
            largest: None,
        }
    }

    /// The batch at `position` belongs to the segment: takes its timestamp and, when `index_interval`
    /// bytes went by since the last entry, makes index entries.
    pub fn index_batch(
        &mut self,
        base_offset: i64,
        header: &BatchHeader,
        position: u64,
        bytes_since_entry: &mut u64,
        index_interval_bytes: u32,
    ) {
        let last_offset = header.last_offset();
        // A batch that compaction emptied has no record of that time.
        if header.records_count > 0
            && self.largest.is_none_or(|(timestamp, _)| header.max_timestamp > timestamp)
        {
            self.largest = Some((header.max_timestamp, last_offset));
        }
        if *bytes_since_entry > u64::from(index_interval_bytes)
            && let (Ok(relative_offset), Ok(position)) =
                (u32::try_from(last_offset - base_offset), u32::try_from(position))
        {
            self.offsets.push(OffsetEntry { relative_offset, position });
            self.push_time(base_offset);
            *bytes_since_entry = 0;
        }
        *bytes_since_entry += header.size() as u64;
    }

    /// Enters the largest timestamp into the time index, unless it is there.
    pub fn push_time(&mut self, base_offset: i64) {
        if let Some((timestamp, offset)) = self.largest
            && timestamp > self.times.last().map_or(-1, |last| last.timestamp)
            && let Ok(relative_offset) = u32::try_from(offset - base_offset)
        {
            self.times.push(TimeEntry { timestamp, relative_offset });
        }
    }

    /// Recovery found where the segment ends.
    pub fn found_end(&mut self, len: u64, next_offset: i64) {
        (self.len, self.next_offset) = (len, next_offset);
        self.borders = [(next_offset, len); BORDERS];
    }

    /// Publishes a write that ended the file at `len`.
    pub fn publish(&mut self, len: u64, next_offset: i64) {
        self.borders.copy_within(..BORDERS - 1, 1);
        self.borders[0] = (self.next_offset, self.len);
        self.len = len;
        self.next_offset = next_offset;
    }

    /// The position of the batch that starts with `offset`, when that is known without looking.
    pub fn known_position(&self, offset: i64) -> Option<u64> {
        if offset == self.next_offset {
            return Some(self.len);
        }
        self.borders.iter().find(|(border, _)| *border == offset).map(|(_, position)| *position)
    }
}

/// Where to begin to look for an offset.
#[derive(Debug)]
struct Floor {
    /// A batch starts there,
    position: u64,
    /// which begins with this offset or a later one,
    first: i64,
    /// and ends with this one, where an index entry says so.
    last: Option<i64>,
}

/// One segment of a log.
#[derive(Debug)]
pub struct Segment {
    pub base_offset: i64,
    pub state: RwLock<State>,
    /// When it was made, or written to before the start (ms): what `segment.ms` counts from while it is without
    /// timestamps.
    pub created_ms: i64,
    /// When records without a timestamp were last written to it (ms): what retention counts from while it has no others.
    written_ms: AtomicI64,
    /// Index entries were written to the files since these were synced.
    pub are_indexes_unsynced: AtomicBool,
    /// Its number in the cache: that of its log, or one of its own when it takes the name of another.
    number: u64,
    /// Its files are removed, or another segment has taken their names.
    is_gone: AtomicBool,
    /// Its open files, while they have not got their names yet.
    pinned: Mutex<Vec<(FileKind, Arc<dyn File>)>>,
    is_pinned: AtomicBool,
}

impl Segment {
    pub fn new(files: &Files, base_offset: i64, state: State, created_ms: i64) -> Self {
        Self {
            base_offset,
            state: RwLock::new(state),
            created_ms,
            written_ms: AtomicI64::new(created_ms),
            are_indexes_unsynced: AtomicBool::new(false),
            number: files.number(),
            is_gone: AtomicBool::new(false),
            pinned: Mutex::default(),
            is_pinned: AtomicBool::new(false),
        }
    }

    /// A segment that will take the names of others, and is read by these files until [`Self::unpin`].
    pub fn pinned(
        files: &Files,
        base_offset: i64,
        state: State,
        created_ms: i64,
        pinned: Vec<(FileKind, Arc<dyn File>)>,
    ) -> Self {
        Self {
            number: files.cache.next_log(),
            pinned: Mutex::new(pinned),
            is_pinned: AtomicBool::new(true),
            ..Self::new(files, base_offset, state, created_ms)
        }
    }

    /// Its files have their names from now on.
    pub fn unpin(&self) {
        self.is_pinned.store(false, Ordering::Release);
        self.pinned.lock().clear();
    }

    /// Records without a timestamp were written to it.
    pub fn written(&self, now_ms: i64) {
        self.written_ms.store(now_ms, Ordering::Relaxed);
    }

    pub fn written_ms(&self) -> i64 {
        self.written_ms.load(Ordering::Relaxed)
    }

    /// When it was last written to (ms), of a segment in which no record says so.
    pub fn age_by_file(&self) -> Option<i64> {
        let state = self.state.read();
        let is_untimed = state.len > 0 && state.largest.is_some_and(|(timestamp, _)| timestamp < 0);
        is_untimed.then(|| self.written_ms())
    }

    /// Marks it as gone, before its files are: who opens one of them afterwards is told.
    pub fn retire(&self, files: &Files) {
        self.is_gone.store(true, Ordering::SeqCst);
        self.forget(files);
    }

    pub fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::SeqCst)
    }

    /// Lets go of its open files.
    pub fn forget(&self, files: &Files) {
        files.forget_as(self.number, self.base_offset);
    }

    fn open(&self, files: &Files, kind: FileKind, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if self.is_pinned.load(Ordering::Acquire)
            && let Some((_, file)) = self.pinned.lock().iter().find(|(pinned, _)| *pinned == kind)
        {
            return Ok(file.clone());
        }
        let file = files.open_as(self.number, self.base_offset, kind, mode);
        if self.is_gone() {
            // What was opened may be another segment's; and it must not stay in the cache.
            self.forget(files);
            return Err(io::Error::new(io::ErrorKind::NotFound, "the segment is gone"));
        }
        file
    }

    pub fn log_file(&self, files: &Files) -> io::Result<Arc<dyn File>> {
        self.open(files, FileKind::Log, OpenMode::ReadWrite)
    }

    pub fn len(&self) -> u64 {
        self.state.read().len
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn next_offset(&self) -> i64 {
        self.state.read().next_offset
    }

    /// Writes the index entries that are in memory only. For who holds the writer lock.
    pub fn spill_indexes(&self, files: &Files) -> io::Result<()> {
        // Between the two locks nobody else can push: that takes the writer lock.
        let (offsets, times, aborted) = {
            let state = self.state.read();
            (state.offsets.unwritten(), state.times.unwritten(), state.aborted.to_write())
        };
        if offsets.is_some() || times.is_some() || aborted.is_some() {
            self.are_indexes_unsynced.store(true, Ordering::Release);
        }
        if let Some((bytes, position)) = offsets {
            let file = self.open(files, FileKind::Index, OpenMode::Create)?;
            index::write(&*file, &bytes, position)?;
            self.state.write().offsets.written();
        }
        if let Some((bytes, position)) = times {
            let file = self.open(files, FileKind::TimeIndex, OpenMode::Create)?;
            index::write(&*file, &bytes, position)?;
            self.state.write().times.written();
        }
        if let Some((bytes, position)) = aborted {
            let file = self.open(files, FileKind::TxnIndex, OpenMode::Create)?;
            aborted::write(&*file, &bytes, position)?;
            self.state.write().aborted.written();
        }
        Ok(())
    }

    /// Makes what is written of the segment durable.
    pub fn sync(&self, files: &Files, with_indexes: bool) -> io::Result<()> {
        self.log_file(files)?.sync_data()?;
        if with_indexes { self.sync_indexes(files) } else { Ok(()) }
    }

    /// Makes the index entries durable that were written to the files.
    pub fn sync_indexes(&self, files: &Files) -> io::Result<()> {
        if !self.are_indexes_unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let sync = |kind| match self.open(files, kind, OpenMode::ReadWrite) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other?.sync_data(),
        };
        [FileKind::Index, FileKind::TimeIndex, FileKind::TxnIndex].into_iter().try_for_each(sync).inspect_err(
            |_| {
                self.are_indexes_unsynced.store(true, Ordering::Release);
            },
        )
    }

    fn search<E: Entry>(
        &self,
        files: &Files,
        kind: FileKind,
        search: Search<E>,
        key: i64,
    ) -> io::Result<Option<E>> {
        match search {
            Search::Found(entry) => Ok(Some(entry)),
            Search::OnFile(0) => Ok(None),
            Search::OnFile(entries) => {
                let file = self.open(files, kind, OpenMode::ReadWrite)?;
                index::search_file(&*file, entries, key)
            }
        }
    }

    /// A position, at or before the batch that holds `offset`, where a batch starts.
    pub fn floor_position(&self, files: &Files, offset: i64) -> io::Result<u64> {
        self.floor(files, offset).map(|floor| floor.position)
    }

    fn floor(&self, files: &Files, offset: i64) -> io::Result<Floor> {
        let relative = offset - self.base_offset;
        let search = {
            let state = self.state.read();
            if let Some(position) = state.known_position(offset) {
                return Ok(Floor { position, first: offset, last: None });
            }
            state.offsets.search(relative)
        };
        let entry = self.search(files, FileKind::Index, search, relative)?;
        Ok(match entry {
            None => Floor { position: 0, first: self.base_offset, last: None },
            Some(entry) => Floor {
                position: u64::from(entry.position),
                first: self.base_offset,
                last: Some(self.base_offset + entry.key()),
            },
        })
    }

    /// The first batch that ends at or after `offset`; `None` when there is none below `limit`.
    ///
    /// # Errors
    /// `InvalidData` where the batches' offsets do not fit together. No checksum covers where a batch begins and how
    /// long it is: a batch that claims other offsets would hide the records that are looked for.
    pub fn find(&self, files: &Files, offset: i64, limit: u64) -> io::Result<Option<Located>> {
        let floor = self.floor(files, offset)?;
        if floor.position >= limit {
            return Ok(None);
        }
        let end = self.next_offset();
        let file = self.log_file(files)?;
        let mut expected = floor.first;
        // From where an index entry points to, the batches reach the entry's offset without a gap after the first.
        let mut reaches = floor.last;
        let mut batches = scan::headers(&*file, floor.position, limit);
        while let Some(batch) = batches.next() {
            let batch = batch?;
            let header = &batch.header;
            let is_first = batch.position == floor.position;
            let fits = header.base_offset >= expected
                && header.last_offset() < end
                && reaches.is_none_or(|to| {
                    if is_first { header.last_offset() <= to } else { header.base_offset <= to }
                });
            if !fits {
                return Err(scan::misplaced(&batch, expected, end));
            }
            reaches = reaches.filter(|to| header.last_offset() < *to);
            if header.last_offset() >= offset {
                // Compaction leaves gaps, and so does a batch that claims to begin later. That one reaches over
                // the next, as no offset was free.
                let is_known = is_first && floor.last.is_some();
                if !is_known
                    && header.base_offset > expected
                    && let Some(next) = batches.next()
                {
                    let next = next?.header.base_offset;
                    if next <= header.last_offset() {
                        return Err(scan::misplaced(&batch, expected, next));
                    }
                }
                return Ok(Some(batch));
            }
            expected = header.next_offset();
        }
        match reaches {
            Some(to) => Err(scan::invalid(
                limit,
                &format!("the batches end before offset {to}, which the index knows"),
            )),
            None => Ok(None),
        }
    }

    /// The time-index entry after which a timestamp of `timestamp` or later is to be looked for: gives
    /// the offset to start from.
    pub fn floor_time(&self, files: &Files, timestamp: i64) -> io::Result<i64> {
        let search = self.state.read().times.search(timestamp);
        let entry: Option<TimeEntry> = self.search(files, FileKind::TimeIndex, search, timestamp)?;
        Ok(entry.map_or(self.base_offset, |entry| self.base_offset + i64::from(entry.relative_offset)))
    }

    /// Largest timestamp (ms) with the last offset of its batch; `None` for an empty segment.
    pub fn largest_timestamp(&self, files: &Files) -> io::Result<Option<(i64, i64)>> {
        let entries = {
            let state = self.state.read();
            if state.largest.is_some() || state.len == 0 {
                return Ok(state.largest);
            }
            state.times.len()
        };
        // Only segments that were there at the start come here; rolled ones end with an entry of it.
        let last = match u32::try_from(entries).ok().and_then(|entries| entries.checked_sub(1)) {
            Some(at) => {
                let file = self.open(files, FileKind::TimeIndex, OpenMode::ReadWrite)?;
                index::entry_at::<TimeEntry>(&*file, at)?
            }
            None => None,
        };
        let largest = match last {
            Some(entry) => Some((entry.timestamp, self.base_offset + i64::from(entry.relative_offset))),
            None => self.scan_largest(files)?,
        };
        self.state.write().largest = largest;
        Ok(largest)
    }

    fn scan_largest(&self, files: &Files) -> io::Result<Option<(i64, i64)>> {
        let (file, limit) = (self.log_file(files)?, self.len());
        let mut largest: Option<(i64, i64)> = None;
        for batch in scan::many_headers(&*file, 0, limit) {
            let header = batch?.header;
            if header.records_count > 0
                && largest.is_none_or(|(timestamp, _)| header.max_timestamp > timestamp)
            {
                largest = Some((header.max_timestamp, header.last_offset()));
            }
        }
        Ok(largest)
    }

    /// Adds the aborted transactions that concern who reads from `from` on, below `up_to`; tells whether later segments have
    /// none.
    pub(super) fn aborted_transactions(
        &self,
        files: &Files,
        from: i64,
        up_to: i64,
        found: &mut Vec<AbortedTransaction>,
    ) -> io::Result<bool> {
        let (on_file, tail) = {
            let state = self.state.read();
            if state.aborted.is_empty() {
                return Ok(false);
            }
            state.aborted.parts()
        };
        let mut take = |entry: AbortedTransaction| {
            if entry.last_offset >= from && entry.first_offset < up_to {
                found.push(entry);
            }
            entry.last_stable_offset >= up_to
        };
        if on_file > 0 {
            let file = self.open(files, FileKind::TxnIndex, OpenMode::ReadWrite)?;
            let first = aborted::first_from(&*file, on_file, from)?;
            if aborted::each_from(&*file, first, on_file, &mut take)? {
                return Ok(true);
            }
        }
        Ok(tail.into_iter().any(take))
    }

    /// Cuts the index of aborted transactions to those whose marker is below `end`. For who holds the writer lock, once
    /// nothing of it waits in memory.
    pub(super) fn cut_aborted(&self, files: &Files, end: i64) -> io::Result<()> {
        let (on_file, _) = self.state.read().aborted.parts();
        if on_file > 0 {
            let file = self.open(files, FileKind::TxnIndex, OpenMode::ReadWrite)?;
            let kept = aborted::first_from(&*file, on_file, end)?;
            file.set_len(u64::from(kept) * aborted::ENTRY_BYTES)?;
            file.sync_data()?;
            self.state.write().aborted = AbortedIndex::on_file(kept);
        }
        Ok(())
    }

    /// The header of the first batch.
    pub fn first_header(&self, files: &Files) -> io::Result<Option<BatchHeader>> {
        let limit = self.len();
        if limit == 0 {
            return Ok(None);
        }
        let file = self.log_file(files)?;
        scan::headers(&*file, 0, limit).next().transpose().map(|batch| batch.map(|batch| batch.header))
    }
}
