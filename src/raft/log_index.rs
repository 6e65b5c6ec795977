//! Where the entries of the log are, and the newest of them in memory.
//!
//! The journal changes the index after it has changed the disk, so whoever reads waits for no write and no
//! sync: a reader takes the places of what it wants, lets go of the lock, and reads the files.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;

use super::frame::{ENTRY, FRAME_HEAD_BYTES, parse};
use super::{Entry, LogId, LogStoreError};
use crate::env::File;

/// Entries that are kept in memory: those that are about to be applied and sent to followers.
const RECENT_ENTRIES_MAX: usize = 1000;
const RECENT_BYTES_MAX: usize = 1024 * 1024;

/// One file of the journal.
#[derive(Clone, Debug)]
pub(super) struct LogFile {
    pub path: PathBuf,
    pub file: Arc<dyn File>,
    pub len: u64,
    pub first_index: u64,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Index of the first entry of its file, which names the file.
    pub file: u64,
    pub position: u64,
    pub payload_len: usize,
}

/// See the head of this module. The log reaches from `first` to `last`.
#[derive(Debug, Default)]
pub(super) struct LogIndex {
    /// Empty only until the journal is open.
    pub files: VecDeque<LogFile>,
    /// Of the entries from `first` on.
    places: VecDeque<Place>,
    /// The last of them, without holes.
    recent: VecDeque<Entry>,
    recent_bytes: usize,
    /// Index of the first entry that is kept, or would be.
    pub first: u64,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
    /// How far the last file has room set aside on the disk.
    pub room_to: u64,
    /// How often entries were taken back, whose places later ones may have.
    truncations: u64,
}

/// An entry that is not in memory, and how to read it.
struct Wanted {
    index: u64,
    file: Arc<dyn File>,
    path: PathBuf,
    place: Place,
}

impl LogIndex {
    pub(super) fn next_index(&self) -> u64 {
        self.last.map_or(self.first, |id| id.index + 1)
    }

    /// True when `bytes` more can be appended with `left` still behind them.
    pub(super) fn has_room(&self, bytes: u64, left: u64) -> bool {
        let len = self.files.back().map_or(0, |file| file.len);
        len.saturating_add(bytes).saturating_add(left) <= self.room_to
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }

    fn offset(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first)?).ok()
    }

    pub(super) fn place(&self, index: u64) -> Option<Place> {
        self.places.get(self.offset(index)?).copied()
    }

    /// Adds the entry after the last one, at its place; `entry` when it is to be kept in memory.
    pub(super) fn push(&mut self, id: LogId, place: Place, entry: Option<&Entry>) {
        self.places.push_back(place);
        self.last = Some(id);
        let Some(entry) = entry.filter(|_| place.payload_len <= RECENT_BYTES_MAX) else {
            self.forget_recent();
            return;
        };
        self.recent.push_back(entry.clone());
        self.recent_bytes += place.payload_len;
        while self.recent.len() > RECENT_ENTRIES_MAX || self.recent_bytes > RECENT_BYTES_MAX {
            self.drop_oldest_recent();
        }
    }

    fn drop_oldest_recent(&mut self) {
        let oldest = self.next_index() - self.recent.len() as u64;
        let bytes = self.place(oldest).map_or(0, |place| place.payload_len);
        self.recent.pop_front();
        self.recent_bytes = self.recent_bytes.saturating_sub(bytes);
    }

    fn forget_recent(&mut self) {
        self.recent.clear();
        self.recent_bytes = 0;
    }

    /// Forgets the entries from `index` on; `last` is the one before.
    pub(super) fn truncate(&mut self, index: u64, last: Option<LogId>) {
        if let Some(count) = self.offset(index) {
            self.places.truncate(count);
        }
        self.last = last;
        self.truncations += 1;
        self.forget_recent();
    }

    /// Forgets the entries up to `id`, which may lie beyond the last one; then the log begins anew behind it.
    pub(super) fn purge(&mut self, id: LogId) {
        self.purged = self.purged.max(Some(id));
        if id.index < self.first {
            return;
        }
        let is_beyond = id.index >= self.next_index();
        let gone = self.offset(id.index + 1).unwrap_or(usize::MAX).min(self.places.len());
        let kept = self.places.len() - gone;
        while self.recent.len() > kept {
            self.drop_oldest_recent();
        }
        self.places.drain(..gone);
        self.first = id.index + 1;
        if is_beyond {
            self.last = Some(id);
        }
    }

    /// The entries of a range that are in memory, when all of it that there is are.
    fn recent(&self, range: &Range<u64>) -> Option<Vec<Entry>> {
        let oldest = self.next_index() - self.recent.len() as u64;
        let from = usize::try_from(range.start.checked_sub(oldest)?).ok()?;
        let count = usize::try_from(range.end.saturating_sub(range.start)).ok()?;
        Some(self.recent.iter().skip(from).take(count).cloned().collect())
    }

    /// The part of a range that the log has, and no more of it than `bytes_max`, but at least one entry.
    fn bounded(&self, range: Range<u64>, bytes_max: usize) -> Range<u64> {
        let start = range.start.max(self.first);
        let end = range.end.min(self.next_index()).max(start);
        let mut bytes = 0_usize;
        let fits = (start..end).take_while(|index| {
            bytes = bytes.saturating_add(self.place(*index).map_or(0, |place| place.payload_len));
            *index == start || bytes <= bytes_max
        });
        start..start + fits.count() as u64
    }

    fn wanted(&self, range: Range<u64>) -> Vec<Wanted> {
        let wanted = range.filter_map(|index| {
            let place = self.place(index)?;
            let at = self.files.partition_point(|file| file.first_index <= place.file);
            let file = self.files.get(at.checked_sub(1)?)?;
            Some(Wanted { index, file: file.file.clone(), path: file.path.clone(), place })
        });
        wanted.collect()
    }
}

/// The entries of a range, as far as the log has them and `bytes_max` (of at least one entry) allows, when
/// they are in memory.
pub(super) fn entries_in_memory(
    index: &RwLock<LogIndex>,
    range: Range<u64>,
    bytes_max: usize,
) -> Option<Vec<Entry>> {
    let index = index.read();
    let range = index.bounded(range, bytes_max);
    if range.is_empty() { Some(Vec::new()) } else { index.recent(&range) }
}

/// As [`entries_in_memory`], from the disk. Blocks.
pub(super) fn read_entries(
    index: &RwLock<LogIndex>,
    range: Range<u64>,
    bytes_max: usize,
) -> Result<Vec<Entry>, LogStoreError> {
    loop {
        let (wanted, truncations) = {
            let index = index.read();
            (index.wanted(index.bounded(range.clone(), bytes_max)), index.truncations)
        };
        let entries = wanted.iter().map(read_entry).collect();
        // What was taken back meanwhile may be overwritten.
        if index.read().truncations == truncations {
            return entries;
        }
    }
}

fn read_entry(wanted: &Wanted) -> Result<Entry, LogStoreError> {
    let Wanted { index, file, path, place } = wanted;
    let mut bytes = vec![0; FRAME_HEAD_BYTES + place.payload_len];
    let count = file.read_at(&mut bytes, place.position);
    let count = count.map_err(|e| LogStoreError::Io(path.clone(), e))?;
    let damaged = || {
        let why = format!("entry {index} of the metadata log, at byte {}, cannot be read", place.position);
        LogStoreError::Damaged(path.clone(), why)
    };
    let (frame, _) = bytes.get(..count).and_then(parse).ok_or_else(damaged)?;
    if (frame.kind, frame.index) != (ENTRY, *index) {
        return Err(damaged());
    }
    serde_json::from_slice(frame.payload).map_err(|_| damaged())
}
