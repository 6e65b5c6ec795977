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
//! acknowledged only if it is in the last file and no readable frame comes after it; then it is cut off.
//! In any other place it is damage, and an error. As a committed entry is followed by a frame that says
//! so, even the last one cannot get lost in silence.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Entry, LogId, LogStoreError};
use crate::env::{Disk, File, OpenMode};

const FRAME_HEAD_BYTES: usize = 17;
/// More than any entry has (see `RECORDS_BYTES_MAX`); what claims more is not a frame.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A file that has reached this size is followed by another one.
const FILE_BYTES: u64 = 1024 * 1024;
/// Room that is set aside behind the end of the last file, so that topics can still be deleted when
/// records have filled the disk.
const RESERVED_BYTES: u64 = 2 * FILE_BYTES;
const SUFFIX: &str = ".journal";

const HEAD: u8 = 0;
const ENTRY: u8 = 1;
const COMMITTED: u8 = 2;

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

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: Arc<dyn File>,
    len: u64,
    first_index: u64,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Index of the first entry of its file, which names the file.
    file: u64,
    position: u64,
    payload_len: usize,
}

#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Never empty.
    files: VecDeque<LogFile>,
    /// Of the entries from `first` on.
    places: VecDeque<Place>,
    /// Index of the first entry that is kept, or would be.
    first: u64,
    purged: Option<LogId>,
    last: Option<LogId>,
    committed: Option<u64>,
    /// After an error that left the last file in an unknown state.
    failed: bool,
}

struct Frame<'a> {
    kind: u8,
    index: u64,
    payload: &'a [u8],
}

fn frame(kind: u8, index: u64, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("entries are bounded").to_le_bytes();
    let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + payload.len());
    frame.extend_from_slice(&len);
    frame.extend_from_slice(&[0; 4]);
    frame.push(kind);
    frame.extend_from_slice(&index.to_le_bytes());
    frame.extend_from_slice(payload);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&len), &frame[8..]);
    frame[4..8].copy_from_slice(&checksum.to_le_bytes());
    frame
}

/// The frame at the start of `bytes`, if there is a whole and unharmed one.
fn parse(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, _) = rest.split_first_chunk::<4>()?;
    let payload_len = u32::from_le_bytes(*len) as usize;
    if payload_len > PAYLOAD_BYTES_MAX {
        return None;
    }
    let size = FRAME_HEAD_BYTES + payload_len;
    let (kind, rest) = bytes.get(8..size)?.split_first()?;
    let (index, payload) = rest.split_first_chunk()?;
    let is_whole =
        || crc32c::crc32c_append(crc32c::crc32c(len), &bytes[8..size]) == u32::from_le_bytes(*checksum);
    if *kind > COMMITTED || !is_whole() {
        return None;
    }
    Some((Frame { kind: *kind, index: u64::from_le_bytes(*index), payload }, size))
}

fn to_json(path: &Path, value: &impl Serialize) -> Result<Vec<u8>, LogStoreError> {
    serde_json::to_vec(value).map_err(|e| LogStoreError::Io(path.to_owned(), e.into()))
}

impl Journal {
    /// Opens the log in `dir` and reads all of it; makes its first file when there is none, and none `is_expected`.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, is_expected: bool) -> Result<Self, LogStoreError> {
        let mut journal = Self {
            disk,
            dir: dir.to_owned(),
            files: VecDeque::new(),
            places: VecDeque::new(),
            first: 0,
            purged: None,
            last: None,
            committed: None,
            failed: false,
        };
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
        if journal.files.is_empty() {
            if is_expected {
                let why = "the metadata log is gone, though a vote or a snapshot beside it tells that there was one";
                return Err(LogStoreError::Damaged(dir.to_owned(), why.into()));
            }
            journal.start_file()?;
        }
        journal.reserve();
        Ok(journal)
    }

    /// Sets room aside for what comes next. A disk that has none left is no error yet.
    fn reserve(&self) {
        let Some(file) = self.files.back() else { return };
        if let Err(error) = file.file.reserve(file.len + RESERVED_BYTES) {
            tracing::warn!(path = %file.path.display(), %error, "no room could be set aside for the metadata log");
        }
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
                    if self.files.is_empty() {
                        (self.purged, self.last, self.first) = (head.previous, head.previous, first_index);
                    } else if head.previous != self.last || first_index != self.next_index() {
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
                    self.places.push_back(place);
                    self.last = Some(entry.log_id);
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
        self.files.push_back(LogFile { path, file, len: position as u64, first_index });
        Ok(())
    }

    /// The log ids last purged and last in the log.
    pub fn ends(&self) -> (Option<LogId>, Option<LogId>) {
        (self.purged, self.last)
    }

    /// Index of the last entry known to be committed.
    pub fn committed(&self) -> Option<u64> {
        self.committed
    }

    fn next_index(&self) -> u64 {
        self.last.map_or(self.first, |id| id.index + 1)
    }

    /// Starts a file after the last entry.
    fn start_file(&mut self) -> Result<(), LogStoreError> {
        let first_index = self.next_index();
        let path = self.dir.join(format!("{first_index:020}{SUFFIX}"));
        let io = |e| LogStoreError::Io(path.clone(), e);
        let head = Head { format: 1, previous: self.last };
        let head = frame(HEAD, first_index, &to_json(&path, &head)?);
        let file = self.disk.open(&path, OpenMode::Create).map_err(io)?;
        let written = file
            .set_len(0)
            .and_then(|()| file.write_all_at(&mut [IoSlice::new(&head)], 0))
            .and_then(|()| file.sync_data())
            .and_then(|()| self.disk.sync_dir(&self.dir));
        if let Err(error) = written {
            // Half a file would be in the way of what is read at the next start.
            _ = self.disk.remove_file(&path);
            return Err(io(error));
        }
        self.files.push_back(LogFile { path, file, len: head.len() as u64, first_index });
        Ok(())
    }

    fn last_file(&mut self) -> Result<&mut LogFile, LogStoreError> {
        if self.failed {
            let why = io::Error::other("an earlier write failed");
            return Err(LogStoreError::Io(self.dir.clone(), why));
        }
        Ok(self.files.back_mut().expect("there is always a file"))
    }

    /// Writes frames at the end of the last file. After an error the file is as it was before, or the
    /// journal takes no more.
    fn write(&mut self, frames: &[u8], sync: bool) -> Result<(), LogStoreError> {
        let file = self.last_file()?;
        if let Err(e) = file.file.write_all_at(&mut [IoSlice::new(frames)], file.len) {
            let is_full = e.kind() == io::ErrorKind::StorageFull;
            let error = LogStoreError::Io(file.path.clone(), e);
            let is_undone = file.file.set_len(file.len).is_ok();
            // Nothing was dropped: when there is room again, it goes on.
            self.failed = !(is_full && is_undone);
            return Err(error);
        }
        let synced = if sync { file.file.sync_data() } else { Ok(()) };
        match synced {
            Ok(()) => {
                file.len += frames.len() as u64;
                Ok(())
            }
            Err(e) => {
                let error = LogStoreError::Io(file.path.clone(), e);
                _ = file.file.set_len(file.len);
                // A failed sync may have dropped what the kernel held; nothing here is certain any more.
                self.failed = true;
                Err(error)
            }
        }
    }

    /// Appends entries, which follow the last one. They are durable when this returns.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), LogStoreError> {
        // What is purged is in a snapshot; it need not come back.
        let purged =
            entries.iter().take_while(|entry| Some(entry.log_id.index) <= self.purged.map(|id| id.index));
        let entries = &entries[purged.count()..];
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        if self.last.is_none() && first.log_id.index != self.first {
            // The first entry that there ever is may have any index.
            let earlier = self.files.pop_back();
            self.first = first.log_id.index;
            self.start_file()?;
            if let Some(file) = earlier {
                self.disk.remove_file(&file.path).map_err(|e| LogStoreError::Io(file.path.clone(), e))?;
            }
        }
        if self.last_file()?.len >= FILE_BYTES {
            match self.start_file() {
                Ok(()) => self.reserve(),
                // The file there is has room set aside.
                Err(error) if error.is_full() => {}
                Err(error) => return Err(error),
            }
        }
        let (position, file) = {
            let file = self.last_file()?;
            (file.len, file.first_index)
        };
        let mut frames = Vec::new();
        let mut places = Vec::with_capacity(entries.len());
        for (index, entry) in (self.next_index()..).zip(entries) {
            assert_eq!(entry.log_id.index, index, "the log has no holes");
            let payload = to_json(&self.dir, entry)?;
            let position = position + frames.len() as u64;
            places.push(Place { file, position, payload_len: payload.len() });
            frames.extend(frame(ENTRY, index, &payload));
        }
        self.write(&frames, true)?;
        self.places.extend(places);
        self.last = Some(last.log_id);
        Ok(())
    }

    /// Bears witness that entries up to this one are committed.
    pub fn save_committed(&mut self, index: u64) -> Result<(), LogStoreError> {
        if self.committed < Some(index) {
            match self.write(&frame(COMMITTED, index, &[]), false) {
                // A witness less is no loss; the next one says more.
                Err(error) if error.is_full() && !self.failed => return Ok(()),
                other => other?,
            }
            self.committed = Some(index);
        }
        Ok(())
    }

    pub fn sync(&mut self) -> Result<(), LogStoreError> {
        let file = self.last_file()?;
        file.file.sync_data().map_err(|e| LogStoreError::Io(file.path.clone(), e))
    }

    /// The entries of a range, as far as the log has them.
    pub fn entries(&self, range: Range<u64>) -> Result<Vec<Entry>, LogStoreError> {
        let first = self.first;
        let from = range.start.max(first);
        let to = range.end.min(self.next_index());
        (from..to).map(|index| self.entry(index, self.places[(index - first) as usize])).collect()
    }

    fn entry(&self, index: u64, place: Place) -> Result<Entry, LogStoreError> {
        let at = self.files.partition_point(|file| file.first_index <= place.file);
        let file = &self.files[at - 1];
        let mut bytes = vec![0; FRAME_HEAD_BYTES + place.payload_len];
        let count = file.file.read_at(&mut bytes, place.position);
        let count = count.map_err(|e| LogStoreError::Io(file.path.clone(), e))?;
        let damaged = || {
            let why =
                format!("entry {index} of the metadata log, at byte {}, cannot be read", place.position);
            LogStoreError::Damaged(file.path.clone(), why)
        };
        let (frame, _) = parse(&bytes[..count]).ok_or_else(damaged)?;
        if (frame.kind, frame.index) != (ENTRY, index) {
            return Err(damaged());
        }
        serde_json::from_slice(frame.payload).map_err(|_| damaged())
    }

    /// Removes the entries from `index` on.
    pub fn truncate(&mut self, index: u64) -> Result<(), LogStoreError> {
        let first = self.first;
        if index >= self.next_index() || index < first {
            return Ok(());
        }
        let place = self.places[(index - first) as usize];
        // The latest first, so that a crash in between leaves no hole.
        while self.files.back().is_some_and(|file| file.first_index > place.file) {
            if let Some(file) = self.files.pop_back() {
                self.disk.remove_file(&file.path).map_err(|e| LogStoreError::Io(file.path.clone(), e))?;
                self.disk.sync_dir(&self.dir).map_err(|e| LogStoreError::Io(file.path.clone(), e))?;
            }
        }
        let last = match index.checked_sub(1) {
            Some(before) if before >= first => {
                Some(self.entry(before, self.places[(before - first) as usize])?.log_id)
            }
            _ => self.purged,
        };
        self.places.truncate((index - first) as usize);
        self.last = last;
        let file = self.last_file()?;
        file.len = place.position;
        let cut = file.file.set_len(place.position).and_then(|()| file.file.sync_data());
        let outcome = cut.map_err(|e| LogStoreError::Io(file.path.clone(), e));
        self.failed = outcome.is_err();
        outcome
    }

    /// Forgets the entries up to `id`, which may lie beyond the last one. Files go when nothing in them is
    /// needed.
    pub fn purge(&mut self, id: LogId) -> Result<(), LogStoreError> {
        let count = (id.index + 1).saturating_sub(self.first);
        let is_beyond = id.index >= self.next_index();
        self.places.drain(..(count as usize).min(self.places.len()));
        self.purged = self.purged.max(Some(id));
        self.first = self.first.max(id.index + 1);
        if is_beyond {
            self.last = Some(id);
            self.start_file()?;
        }
        while let Some(second) = self.files.get(1)
            && second.first_index <= id.index + 1
            && let Some(file) = self.files.pop_front()
        {
            self.disk.remove_file(&file.path).map_err(|e| LogStoreError::Io(file.path.clone(), e))?;
        }
        Ok(())
    }
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
