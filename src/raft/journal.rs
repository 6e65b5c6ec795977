//! The raft log on disk: files of frames, appended and synced.
//!
//! A file is called `<index of its first entry, 20 digits>.journal` and holds frames, one after the other:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the payload, little-endian, as all numbers here |
//! | 4 | CRC-32C of everything after it and of the length |
//! | 1 | kind: 0 head, 1 entry, 2 committed |
//! | 8 | index: of the entry, of the last committed entry, or of the file's first entry |
//! | … | payload: the file's [`Head`] as JSON, openraft's entry as JSON, nothing |
//!
//! Each file starts with a head, durable before anything follows it. Entries follow each other without
//! holes over all files. An append is one write and one `fdatasync`. Frames of what was committed are not
//! synced by themselves: they only bear witness.
//!
//! **Damage or torn tail?** A frame that cannot be read is the torn end of an append that was never
//! acknowledged only if it is in the last file and no readable frame comes after it; then it is cut off. (A file
//! is synced before another one follows it.)
//! In any other place it is damage, and an error. As a committed entry is followed by a frame that says
//! so, even the last one cannot get lost in silence.
//!
//! **Room.** Behind the end of the last file room is set aside on the disk (`fallocate`), so that a full disk
//! does not keep the quorum from its work: topics can be deleted, brokers can restart. Who wants to append asks
//! first ([`Journal::make_room`]), and gets only what leaves enough for those who matter more. A file system
//! that cannot set room aside makes no difference until it is full; then an append waits.
//!
//! **A snapshot beyond the end** of the log ([`Journal::purge`]) begins a file behind it, then removes all
//! earlier ones. When the process ends in between, a file's head names an entry beyond the end of the file before
//! it; then the earlier ones are removed at the next opening. (That a snapshot holds what is gone, is
//! checked by who opens the folder.)

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::frame::{COMMITTED, ENTRY, HEAD, frame, parse};
use super::log_index::{LogFile, LogIndex, Place, read_entries};
use super::planted::{Bug, is_planted};
use super::{Entry, LogId, LogStoreError};
use crate::env::{Disk, File, OpenMode};

/// A file that has reached this size is followed by another one.
const FILE_BYTES: u64 = 1024 * 1024;
/// Room that is set aside behind the end of the last file, at least.
pub(super) const RESERVED_BYTES: u64 = 2 * 1024 * 1024;
/// What is set aside beyond that at once, so that not every append has to ask the disk.
const STEP_BYTES: u64 = 256 * 1024;
const SUFFIX: &str = ".journal";

/// How a file starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Head {
    format: u32,
    /// The entry before the file's first one.
    previous: Option<LogId>,
}

/// All that opening needs of an entry.
#[derive(Deserialize)]
struct EntryId {
    log_id: LogId,
}

/// The writer of the log; readers have its index.
#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    index: Arc<RwLock<LogIndex>>,
    committed: Option<u64>,
    /// After an error that left the last file in an unknown state.
    failed: bool,
}

fn to_json(path: &Path, value: &impl Serialize) -> Result<Vec<u8>, LogStoreError> {
    serde_json::to_vec(value).map_err(|e| LogStoreError::Io(path.to_owned(), e.into()))
}

impl Journal {
    /// Opens the log in `dir` and reads all of it; makes its first file when there is none, and none `is_expected`.
    pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path, is_expected: bool) -> Result<Self, LogStoreError> {
        let mut journal =
            Self { disk, dir: dir.to_owned(), index: Arc::default(), committed: None, failed: false };
        let mut names: Vec<String> = journal
            .disk
            .list(dir)
            .map_err(|e| LogStoreError::Io(dir.to_owned(), e))?
            .into_iter()
            .map(|entry| entry.name)
            .filter(|name| first_index(name).is_some())
            .collect();
        names.sort_unstable();
        let count = names.len();
        for (at, name) in names.iter().enumerate() {
            journal.load(name, at + 1 == count)?;
        }
        let is_new = journal.index.read().files.is_empty();
        if is_new && is_expected {
            let why =
                "the metadata log is gone, though a vote or a snapshot beside it tells that there was one";
            return Err(LogStoreError::Damaged(dir.to_owned(), why.into()));
        }
        if is_new {
            journal.start_file(None, 0)?;
        }
        journal.find_room();
        Ok(journal)
    }

    /// Where entries are, for readers.
    pub(super) fn index(&self) -> Arc<RwLock<LogIndex>> {
        self.index.clone()
    }

    /// Sets room aside for what comes next, as much as there is. A disk that has none left is no error yet.
    fn find_room(&self) {
        let Some(file) = self.index.read().files.back().cloned() else { return };
        // What an earlier process set aside is still there.
        let mut wanted = RESERVED_BYTES + STEP_BYTES;
        while wanted >= STEP_BYTES {
            match file.file.reserve(file.len + wanted) {
                Ok(()) => {
                    self.index.write().room_to = file.len + wanted;
                    return;
                }
                Err(error) if wanted == STEP_BYTES => {
                    tracing::warn!(path = %file.path.display(), %error, "no room could be set aside for the metadata log");
                }
                Err(_) => {}
            }
            wanted -= STEP_BYTES;
        }
    }

    /// Sees to it that `bytes` more can be appended, and that `left` still have room behind them.
    pub(super) fn make_room(&mut self, bytes: u64, left: u64) -> Result<(), LogStoreError> {
        if self.index.read().has_room(bytes, left) {
            return Ok(());
        }
        let file = self.last_file()?;
        let needed = file.len.saturating_add(bytes).saturating_add(left);
        let wanted = needed.max(file.len.saturating_add(RESERVED_BYTES)).saturating_add(STEP_BYTES);
        let reserved = |to: u64| file.file.reserve(to).map(|()| to);
        let room_to = reserved(wanted).or_else(|_| reserved(needed));
        let room_to = room_to.map_err(|e| LogStoreError::Io(file.path.clone(), e))?;
        self.index.write().room_to = room_to;
        Ok(())
    }

    /// Reads one file, whose entries follow those there are.
    fn load(&mut self, name: &str, is_last: bool) -> Result<(), LogStoreError> {
        let path = self.dir.join(name);
        let io = |e| LogStoreError::Io(path.clone(), e);
        let damaged = |why: String| LogStoreError::Damaged(path.clone(), why);
        let first_index = first_index(name).ok_or_else(|| damaged("its name is wrong".into()))?;
        let file = self.disk.open(&path, OpenMode::ReadWrite).map_err(io)?;
        let content = self.disk.read(&path).map_err(io)?;
        let mut position = 0;
        let (mut next, mut has_head) = (first_index, false);
        let wrong = |e: serde_json::Error| damaged(e.to_string());
        let shared = self.index.clone();
        let mut index = shared.write();
        while let Some((frame, size)) = content.get(position..).and_then(parse) {
            let is_in_order = match frame.kind {
                HEAD => position == 0 && frame.index == first_index,
                ENTRY => has_head && frame.index == next,
                _ => has_head,
            };
            if !is_in_order {
                let (kind, index) = (frame.kind, frame.index);
                return Err(damaged(format!(
                    "a frame of kind {kind} for {index} is where entry {next} belongs"
                )));
            }
            match frame.kind {
                HEAD => {
                    let head: Head = serde_json::from_slice(frame.payload).map_err(wrong)?;
                    let is_first = index.files.is_empty();
                    if is_first {
                        (index.purged, index.last, index.first) = (head.previous, head.previous, first_index);
                    } else if let Some(previous) = head.previous
                        && previous.index + 1 == first_index
                        && previous.index >= index.next_index()
                    {
                        // A snapshot beyond the end was taken over; the process ended before all files went.
                        self.begin_behind(&mut index, previous)?;
                    } else if head.previous.is_none() && index.last.is_none() {
                        // The first entry was about to be written; the process ended before the empty file went.
                        self.remove_files(&mut index, u64::MAX)?;
                        index.first = first_index;
                    } else if head.previous != index.last || first_index != index.next_index() {
                        return Err(damaged("it does not follow the file before it".into()));
                    }
                    has_head = true;
                }
                ENTRY => {
                    let entry: EntryId = serde_json::from_slice(frame.payload).map_err(wrong)?;
                    let place = Place {
                        file: first_index,
                        position: position as u64,
                        payload_len: frame.payload.len(),
                    };
                    index.push(entry.log_id, place, None);
                    next += 1;
                }
                _ => self.committed = self.committed.max(Some(frame.index)),
            }
            position += size;
        }
        if position < content.len() {
            let later = (position + 1..content.len()).any(|at| content.get(at..).and_then(parse).is_some());
            if later || !is_last {
                return Err(damaged(format!(
                    "what is at byte {position}, before entry {next} of the metadata log or in it, cannot be read, though there is more after it"
                )));
            }
            tracing::warn!(path = %path.display(), position, bytes = content.len() - position,
                "the metadata log ends within an entry, as when a stop interrupts an append; that entry is cut off");
        }
        if !has_head {
            // It was being made when the process ended; nothing can be in it.
            return self.disk.remove_file(&path).map_err(io);
        }
        if position < content.len() {
            file.set_len(position as u64).and_then(|()| file.sync_data()).map_err(io)?;
        }
        index.files.push_back(LogFile { path, file, len: position as u64, first_index });
        Ok(())
    }

    /// The log goes on behind `id`, and all files before that go.
    fn begin_behind(&self, index: &mut LogIndex, id: LogId) -> Result<(), LogStoreError> {
        index.purge(id);
        self.remove_files(index, u64::MAX)
    }

    /// Removes all files but the one whose first entry is `kept`.
    fn remove_files(&self, index: &mut LogIndex, kept: u64) -> Result<(), LogStoreError> {
        while let Some(file) = index.files.front().filter(|file| file.first_index != kept) {
            remove(&*self.disk, &file.path)?;
            index.files.pop_front();
        }
        Ok(())
    }

    /// Index of the last entry known to be committed.
    pub(super) fn committed(&self) -> Option<u64> {
        self.committed
    }

    /// Starts the file whose first entry follows `previous` and has `first_index`, with as much room behind its
    /// head as is asked for. When that fails, nothing has changed.
    fn start_file(&mut self, previous: Option<LogId>, room: u64) -> Result<(), LogStoreError> {
        let first_index = previous.map_or(self.index.read().first, |id| id.index + 1);
        self.start_file_at(previous, first_index, room)
    }

    fn start_file_at(
        &mut self,
        previous: Option<LogId>,
        first_index: u64,
        room: u64,
    ) -> Result<(), LogStoreError> {
        let path = self.dir.join(format!("{first_index:020}{SUFFIX}"));
        let io = |e| LogStoreError::Io(path.clone(), e);
        let head = frame(HEAD, first_index, &to_json(&path, &Head { format: 1, previous })?);
        let len = head.len() as u64;
        let make = || -> io::Result<Arc<dyn File>> {
            let file = self.disk.open(&path, OpenMode::Create)?;
            file.set_len(0)?;
            if room > 0 {
                file.reserve(len + room)?;
            }
            file.write_all_at(&mut [IoSlice::new(&head)], 0)?;
            file.sync_data()?;
            self.disk.sync_dir(&self.dir)?;
            Ok(file)
        };
        match make() {
            Ok(file) => {
                let mut index = self.index.write();
                index.files.push_back(LogFile { path, file, len, first_index });
                index.room_to = len + room;
                Ok(())
            }
            Err(error) => {
                // Half a file would be in the way of what is read at the next start.
                if remove(&*self.disk, &path).is_err() && self.disk.exists(&path) {
                    self.failed = true;
                }
                Err(io(error))
            }
        }
    }

    fn last_file(&self) -> Result<LogFile, LogStoreError> {
        if self.failed {
            let why = io::Error::other("an earlier write failed");
            return Err(LogStoreError::Io(self.dir.clone(), why));
        }
        Ok(self.index.read().files.back().expect("there is always a file").clone())
    }

    /// Writes frames at the end of the last file. After an error the file is as it was before, or the
    /// journal takes no more.
    fn write(&mut self, frames: &[u8], sync: bool) -> Result<(), LogStoreError> {
        let LogFile { path, file, len, .. } = self.last_file()?;
        if let Err(e) = file.write_all_at(&mut [IoSlice::new(frames)], len) {
            let error = LogStoreError::Io(path, e);
            let is_undone = file.set_len(len).is_ok() || is_unchanged(&*file, len);
            self.index.write().room_to = 0;
            // Nothing was dropped: when there is room again, it goes on.
            self.failed = !(error.is_lack_of_room() && is_undone);
            return Err(error);
        }
        let synced = if sync { file.sync_data() } else { Ok(()) };
        match synced {
            Ok(()) => {
                if let Some(last) = self.index.write().files.back_mut() {
                    last.len += frames.len() as u64;
                }
                Ok(())
            }
            Err(e) => {
                _ = file.set_len(len);
                // A failed sync may have dropped what the kernel held; nothing here is certain any more.
                self.failed = true;
                Err(LogStoreError::SyncFailed(path, e))
            }
        }
    }

    /// Appends entries, which follow the last one. They are durable when this returns.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<(), LogStoreError> {
        let (purged, last, begin) = {
            let index = self.index.read();
            (index.purged.map(|id| id.index), index.last, index.first)
        };
        // What is purged is in a snapshot; it need not come back.
        let covered = entries.iter().take_while(|entry| Some(entry.log_id.index) <= purged).count();
        let entries = entries.get(covered..).unwrap_or_default();
        let Some(first) = entries.first() else { return Ok(()) };
        if last.is_none() && first.log_id.index != begin {
            // The first entry that there ever is may have any index.
            self.start_file_at(None, first.log_id.index, 0)?;
            let mut index = self.index.write();
            index.first = first.log_id.index;
            self.remove_files(&mut index, first.log_id.index)?;
        }
        let full = self.last_file()?;
        if full.len >= FILE_BYTES {
            if !is_planted(Bug::UnsyncedFile) {
                self.sync()?;
            }
            match self.start_file(last, RESERVED_BYTES) {
                // The room behind its end is given back.
                Ok(()) => _ = full.file.set_len(full.len),
                // The file there is has room set aside.
                Err(error) if error.is_lack_of_room() => {}
                Err(error) => return Err(error),
            }
        }
        let file = self.last_file()?;
        let mut frames = Vec::new();
        let mut places = Vec::with_capacity(entries.len());
        let next_index = self.index.read().next_index();
        for (index, entry) in (next_index..).zip(entries) {
            assert_eq!(entry.log_id.index, index, "the log has no holes");
            let payload = to_json(&self.dir, entry)?;
            let position = file.len + frames.len() as u64;
            places.push(Place { file: file.first_index, position, payload_len: payload.len() });
            frames.extend(frame(ENTRY, index, &payload));
        }
        self.write(&frames, true)?;
        let mut index = self.index.write();
        for (entry, place) in entries.iter().zip(places) {
            index.push(entry.log_id, place, Some(entry));
        }
        Ok(())
    }

    /// Bears witness that entries up to this one are committed.
    pub(super) fn save_committed(&mut self, index: u64) -> Result<(), LogStoreError> {
        if self.committed < Some(index) {
            match self.write(&frame(COMMITTED, index, &[]), false) {
                // A witness less is no loss; the next one says more.
                Err(error) if error.is_lack_of_room() && !self.failed => return Ok(()),
                other => other?,
            }
            self.committed = Some(index);
        }
        Ok(())
    }

    /// Brings all that was written to the disk: a file that another one follows must not be torn at its end.
    pub(super) fn sync(&mut self) -> Result<(), LogStoreError> {
        let LogFile { path, file, .. } = self.last_file()?;
        file.sync_data().map_err(|e| {
            self.failed = true;
            LogStoreError::SyncFailed(path, e)
        })
    }

    /// Removes the entries from `index` on.
    pub(super) fn truncate(&mut self, index: u64) -> Result<(), LogStoreError> {
        let shared = self.index.clone();
        let (place, first) = {
            let log = shared.read();
            (log.place(index), log.first)
        };
        let Some(place) = place else { return Ok(()) };
        let last = match index.checked_sub(1) {
            Some(before) if before >= first => {
                read_entries(&shared, before..index, usize::MAX)?.pop().map(|entry| entry.log_id)
            }
            _ => shared.read().purged,
        };
        let (file, later): (LogFile, Vec<LogFile>) = {
            let log = shared.read();
            let at = log.files.partition_point(|file| file.first_index <= place.file);
            let (mut files, later) = (log.files.clone(), log.files.range(at..).cloned().collect());
            files.truncate(at);
            (files.pop_back().expect("an entry lies in a file"), later)
        };
        // The latest first, so that a crash in between leaves no hole. Tried again, some are gone already.
        for later in later.iter().rev() {
            let io = |e| LogStoreError::Io(later.path.clone(), e);
            remove(&*self.disk, &later.path)?;
            self.disk.sync_dir(&self.dir).map_err(io)?;
        }
        file.file.set_len(place.position).map_err(|e| LogStoreError::Io(file.path.clone(), e))?;
        {
            let mut log = shared.write();
            log.room_to = 0;
            log.truncate(index, last);
            let kept = log.files.len() - later.len();
            log.files.truncate(kept);
            if let Some(file) = log.files.back_mut() {
                file.len = place.position;
            }
        }
        if let Err(error) = file.file.sync_data() {
            self.failed = true;
            return Err(LogStoreError::SyncFailed(file.path, error));
        }
        self.find_room();
        Ok(())
    }

    /// Forgets the entries up to `id`, which may lie beyond the last one. Files go when nothing in them is
    /// needed.
    pub(super) fn purge(&mut self, id: LogId) -> Result<(), LogStoreError> {
        let shared = self.index.clone();
        if id.index >= shared.read().next_index() {
            self.sync()?;
            self.start_file(Some(id), 0)?;
            shared.write().purge(id);
            self.find_room();
        } else {
            shared.write().purge(id);
        }
        loop {
            let file = {
                let log = shared.read();
                let is_needed = log.files.get(1).is_none_or(|second| second.first_index > log.first);
                log.files.front().filter(|_| !is_needed).map(|file| file.path.clone())
            };
            let Some(path) = file else { return Ok(()) };
            remove(&*self.disk, &path)?;
            shared.write().files.pop_front();
        }
    }
}

/// Removes a file that may be gone already.
fn remove(disk: &dyn Disk, path: &Path) -> Result<(), LogStoreError> {
    match disk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LogStoreError::Io(path.to_owned(), error))
        }
        _ => Ok(()),
    }
}

/// A file system that takes no change has not taken the beginning of a write either.
fn is_unchanged(file: &dyn File, len: u64) -> bool {
    file.len().is_ok_and(|now| now == len)
}

/// Whether a file of this name is one of the log's.
pub(super) fn is_journal(name: &str) -> bool {
    first_index(name).is_some()
}

fn first_index(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let is_index = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_index { digits.parse().ok() } else { None }
}
