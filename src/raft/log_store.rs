//! Vote, committed index and log in `sled`.
//!
//! One tree holds, by key:
//!
//! | key | value |
//! |---|---|
//! | `m/vote`, `m/committed`, `m/purged` | JSON of openraft's vote and log ids |
//! | `l` + index (8 bytes) + piece (4 bytes), big-endian | a piece of the entry: the count of pieces (4 bytes, little-endian), then up to [`PIECE_BYTES`] of the entry's JSON |
//!
//! Every value starts with the CRC-32C (4 bytes, little-endian) of its key and of the rest of the value.
//! Entries are cut into pieces because sled puts a tree node above 128 KiB into a file of its own, which
//! it does not sync; a node holds up to 17 values. An entry's pieces are written as one sled batch, which
//! is all there or not at all after a crash.
//!
//! sled's `flush` writes its buffer but leaves it to `sync_file_range` to bring it to the disk, which
//! neither writes the file's length nor empties the disk's cache. So after each flush this store syncs
//! `db` itself through a handle of its own.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{
    AnyError, ErrorSubject, ErrorVerb, LogState, OptionalSend, RaftLogReader, StorageIOError, Vote,
};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Entry, LogId, StorageError, Types};

/// Bytes of an entry's JSON in one value.
pub(super) const PIECE_BYTES: usize = 4096;
/// What sled may keep in memory.
const CACHE_BYTES: u64 = 2 * 1024 * 1024;
/// Removals in one batch.
const REMOVALS_MAX: usize = 1024;
/// How long to wait for this process itself to let go of the folder, after a close.
const LOCK_WAIT: Duration = Duration::from_millis(500);

const VOTE: &[u8] = b"m/vote";
const COMMITTED: &[u8] = b"m/committed";
const PURGED: &[u8] = b"m/purged";
const LOG: &[u8] = b"l";

/// The log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogStoreError {
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    #[error("{0}: {1}")]
    Sled(PathBuf, sled::Error),
    #[error("{0} is damaged: {1}")]
    Damaged(PathBuf, String),
}

/// The store. Clones share it.
#[derive(Clone)]
pub(super) struct LogStore {
    inner: Arc<Inner>,
}

struct Inner {
    tree: sled::Db,
    /// `db`, to be named in errors.
    path: PathBuf,
    /// A handle on `db`, only to sync it.
    file: File,
    ends: Mutex<Ends>,
}

/// Where the log starts and ends, so that no one need look into sled for it.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    purged: Option<LogId>,
    last: Option<LogId>,
}

impl LogStore {
    /// Opens the store in `dir`, creates it when missing, and checks every key and checksum. Blocks.
    pub fn open(dir: &Path) -> Result<Self, LogStoreError> {
        let path = dir.join("db");
        let io = |e| LogStoreError::Io(path.clone(), e);
        std::fs::create_dir_all(dir).map_err(io)?;
        let is_new = !path.exists();
        let tree = open_sled(dir, &path)?;
        let file = File::open(&path).map_err(io)?;
        if is_new {
            tree.flush().map_err(|e| LogStoreError::Sled(path.clone(), e))?;
            for name in ["conf", "db"] {
                File::open(dir.join(name)).and_then(|file| file.sync_all()).map_err(io)?;
            }
            for folder in [Some(dir), dir.parent()].into_iter().flatten() {
                // The parent of a relative path of one component is the empty path.
                let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
                File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
            }
        }
        let inner = Inner { tree, path, file, ends: Mutex::default() };
        let ends = inner.check()?;
        *inner.ends.lock() = ends;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The log ids last purged and last in the log.
    pub fn ends(&self) -> (Option<LogId>, Option<LogId>) {
        let ends = *self.inner.ends.lock();
        (ends.purged, ends.last)
    }

    /// The id of the last entry known to be committed.
    pub fn committed(&self) -> Result<Option<LogId>, LogStoreError> {
        Ok(self.inner.meta::<Option<LogId>>(COMMITTED)?.flatten())
    }

    /// An error that names the database.
    pub fn damaged(&self, why: impl Into<String>) -> LogStoreError {
        self.inner.damaged(why)
    }

    /// Brings all that was written so far to the disk. Blocks.
    pub fn sync(&self) -> Result<(), LogStoreError> {
        self.inner.sync()
    }

    pub fn vote(&self) -> Result<Option<Vote<u64>>, LogStoreError> {
        self.inner.meta(VOTE)
    }

    /// Runs a blocking change of the store on a thread for such.
    async fn change<F>(&self, subject: ErrorSubject<u64>, work: F) -> Result<(), StorageError>
    where
        F: FnOnce(&Inner) -> Result<(), LogStoreError> + Send + 'static,
    {
        let inner = self.inner.clone();
        let result = tokio::task::spawn_blocking(move || work(&inner)).await;
        let error = match result {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(e)) => AnyError::new(&e),
            Err(e) => AnyError::new(&e),
        };
        Err(StorageIOError::new(subject, ErrorVerb::Write, error).into())
    }
}

fn open_sled(dir: &Path, path: &Path) -> Result<sled::Db, LogStoreError> {
    let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let started = Instant::now();
    loop {
        // On some damages sled panics instead of returning an error.
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open()));
        let error = match opened {
            Ok(Ok(tree)) => return Ok(tree),
            Ok(Err(e)) => e,
            Err(panic) => {
                let why = panic.downcast_ref::<String>().map_or("sled cannot read it", String::as_str);
                return Err(LogStoreError::Damaged(path.to_owned(), why.to_owned()));
            }
        };
        // sled's threads let go of the file a little after a close.
        let is_locked = matches!(&error, sled::Error::Io(e) if e.to_string().contains("acquire lock"));
        if !is_locked || started.elapsed() > LOCK_WAIT {
            return Err(LogStoreError::Sled(path.to_owned(), error));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn log_key(index: u64, piece: u32) -> [u8; 13] {
    let mut key = [0; 13];
    key[..1].copy_from_slice(LOG);
    key[1..9].copy_from_slice(&index.to_be_bytes());
    key[9..].copy_from_slice(&piece.to_be_bytes());
    key
}

fn parse_log_key(key: &[u8]) -> Option<(u64, u32)> {
    let (index, piece) = key.strip_prefix(LOG)?.split_first_chunk()?;
    Some((u64::from_be_bytes(*index), u32::from_be_bytes(piece.try_into().ok()?)))
}

fn checksum(key: &[u8], payload: &[u8]) -> [u8; 4] {
    crc32c::crc32c_append(crc32c::crc32c(key), payload).to_le_bytes()
}

fn sealed(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut value = vec![0; 4];
    for part in parts {
        value.extend_from_slice(part);
    }
    let checksum = checksum(key, &value[4..]);
    value[..4].copy_from_slice(&checksum);
    value
}

impl Inner {
    fn sled(&self, error: sled::Error) -> LogStoreError {
        LogStoreError::Sled(self.path.clone(), error)
    }

    fn damaged(&self, why: impl Into<String>) -> LogStoreError {
        LogStoreError::Damaged(self.path.clone(), why.into())
    }

    /// What is behind the checksum of a value.
    fn unsealed<'a>(&self, key: &[u8], value: &'a [u8]) -> Result<&'a [u8], LogStoreError> {
        match value.split_first_chunk::<4>() {
            Some((stored, payload)) if *stored == checksum(key, payload) => Ok(payload),
            _ => Err(self.damaged(match parse_log_key(key) {
                Some((index, piece)) => {
                    format!("the checksum of metadata log entry {index} (piece {piece}) does not match")
                }
                None => format!("the checksum of '{}' does not match", key.escape_ascii()),
            })),
        }
    }

    fn meta<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, LogStoreError> {
        let Some(value) = self.tree.get(key).map_err(|e| self.sled(e))? else { return Ok(None) };
        let payload = self.unsealed(key, &value)?;
        serde_json::from_slice(payload).map_err(|e| self.damaged(format!("'{}': {e}", key.escape_ascii())))
    }

    fn to_json(&self, value: &impl Serialize) -> Result<Vec<u8>, LogStoreError> {
        serde_json::to_vec(value).map_err(|e| LogStoreError::Io(self.path.clone(), e.into()))
    }

    fn insert_meta(
        &self,
        batch: &mut sled::Batch,
        key: &[u8],
        value: &impl Serialize,
    ) -> Result<(), LogStoreError> {
        batch.insert(key, sealed(key, &[&self.to_json(value)?]));
        Ok(())
    }

    /// Walks over everything: checksums, pieces, and that the log has no holes. Removes what a crash left
    /// behind of a purge.
    fn check(&self) -> Result<Ends, LogStoreError> {
        let purged: Option<LogId> = self.meta(PURGED)?;
        let mut next = purged.map_or(0, |id| id.index + 1);
        let (mut expected_piece, mut pieces) = (0, 0);
        let mut leftover = Vec::new();
        for item in self.tree.scan_prefix(LOG) {
            let (key, value) = item.map_err(|e| self.sled(e))?;
            let payload = self.unsealed(&key, &value)?;
            let (index, piece) = parse_log_key(&key)
                .ok_or_else(|| self.damaged(format!("it holds the unknown key '{}'", key.escape_ascii())))?;
            if purged.is_some_and(|purged| index <= purged.index) {
                leftover.push(key);
                continue;
            }
            if (index, piece) != (next, expected_piece) {
                return Err(self.damaged(format!(
                    "metadata log entry {next} (piece {expected_piece}) is missing before entry {index}"
                )));
            }
            let count = payload.first_chunk().map(|count| u32::from_le_bytes(*count));
            pieces = count.ok_or_else(|| self.damaged(format!("metadata log entry {index} is empty")))?;
            expected_piece = piece + 1;
            if expected_piece >= pieces {
                (next, expected_piece) = (index + 1, 0);
            }
        }
        if expected_piece != 0 {
            return Err(self.damaged(format!(
                "metadata log entry {next} ends after {expected_piece} of {pieces} pieces"
            )));
        }
        for keys in leftover.chunks(REMOVALS_MAX) {
            let mut batch = sled::Batch::default();
            keys.iter().for_each(|key| batch.remove(key));
            self.tree.apply_batch(batch).map_err(|e| self.sled(e))?;
        }
        let first = purged.map_or(0, |id| id.index + 1);
        let last = match next.checked_sub(1) {
            Some(index) if next > first => self.entries(index..next)?.pop().map(|entry| entry.log_id),
            _ => purged,
        };
        Ok(Ends { purged, last })
    }

    fn entries(&self, range: impl RangeBounds<u64>) -> Result<Vec<Entry>, LogStoreError> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let mut entries = Vec::new();
        if start >= end {
            return Ok(entries);
        }
        let mut json = Vec::new();
        for item in self.tree.range(log_key(start, 0)..log_key(end, 0)) {
            let (key, value) = item.map_err(|e| self.sled(e))?;
            let payload = self.unsealed(&key, &value)?;
            let parsed = parse_log_key(&key).zip(payload.split_first_chunk());
            let ((index, piece), (count, part)) =
                parsed.ok_or_else(|| self.damaged("a log entry has a wrong form"))?;
            json.extend_from_slice(part);
            if piece + 1 < u32::from_le_bytes(*count) {
                continue;
            }
            let entry: Entry = serde_json::from_slice(&json)
                .map_err(|e| self.damaged(format!("metadata log entry {index}: {e}")))?;
            if entry.log_id.index != index {
                let is = entry.log_id.index;
                return Err(self.damaged(format!("metadata log entry {index} says that it is entry {is}")));
            }
            entries.push(entry);
            json.clear();
        }
        Ok(entries)
    }

    /// Brings all that was written so far to the disk.
    fn sync(&self) -> Result<(), LogStoreError> {
        self.tree.flush().map_err(|e| self.sled(e))?;
        self.file.sync_data().map_err(|e| LogStoreError::Io(self.path.clone(), e))
    }

    fn append(&self, entries: &[Entry]) -> Result<(), LogStoreError> {
        let mut batch = sled::Batch::default();
        for entry in entries {
            let json = self.to_json(entry)?;
            let count = json.len().div_ceil(PIECE_BYTES) as u32;
            for (piece, part) in (0..).zip(json.chunks(PIECE_BYTES)) {
                let key = log_key(entry.log_id.index, piece);
                batch.insert(&key, sealed(&key, &[&count.to_le_bytes(), part]));
            }
        }
        self.tree.apply_batch(batch).map_err(|e| self.sled(e))?;
        self.sync()
    }

    fn remove(&self, range: impl RangeBounds<[u8; 13]>) -> Result<(), LogStoreError> {
        let mut keys = self.tree.range(range).keys();
        loop {
            let mut batch = sled::Batch::default();
            let mut count = 0;
            for key in keys.by_ref().take(REMOVALS_MAX) {
                batch.remove(key.map_err(|e| self.sled(e))?);
                count += 1;
            }
            if count == 0 {
                return Ok(());
            }
            self.tree.apply_batch(batch).map_err(|e| self.sled(e))?;
        }
    }
}

fn read_error(error: LogStoreError) -> StorageError {
    StorageIOError::read(AnyError::new(&error)).into()
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        self.inner.entries(range).map_err(read_error)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let (last_purged_log_id, last_log_id) = self.ends();
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError> {
        let vote = *vote;
        let save = move |inner: &Inner| {
            let mut batch = sled::Batch::default();
            inner.insert_meta(&mut batch, VOTE, &vote)?;
            inner.tree.apply_batch(batch).map_err(|e| inner.sled(e))?;
            inner.sync()
        };
        self.change(ErrorSubject::Vote, save).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError> {
        self.vote().map_err(read_error)
    }

    /// Not synced: after a crash the index may be an earlier one, and entries after it are committed again.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let mut batch = sled::Batch::default();
        let inner = &self.inner;
        let saved = inner
            .insert_meta(&mut batch, COMMITTED, &committed)
            .and_then(|()| inner.tree.apply_batch(batch).map_err(|e| inner.sled(e)));
        saved.map_err(|e| StorageIOError::write(AnyError::new(&e)).into())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        self.committed().map_err(read_error)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let appended = move |inner: &Inner| {
            inner.append(&entries)?;
            if let Some(entry) = entries.last() {
                inner.ends.lock().last = Some(entry.log_id);
            }
            Ok(())
        };
        let result = self.change(ErrorSubject::Logs, appended).await;
        callback.log_io_completed(result.as_ref().map(|()| ()).map_err(|e| io::Error::other(e.to_string())));
        result
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let truncate = move |inner: &Inner| {
            inner.remove(log_key(log_id.index, 0)..=log_key(u64::MAX, u32::MAX))?;
            inner.sync()?;
            let purged = inner.ends.lock().purged;
            let before = match log_id.index.checked_sub(1) {
                Some(index) => inner.entries(index..log_id.index)?.pop().map(|entry| entry.log_id),
                None => None,
            };
            inner.ends.lock().last = before.or(purged);
            Ok(())
        };
        self.change(ErrorSubject::Log(log_id), truncate).await
    }

    /// Not synced: after a crash the entries may be back, which harms no one.
    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let purge = move |inner: &Inner| {
            let mut batch = sled::Batch::default();
            inner.insert_meta(&mut batch, PURGED, &log_id)?;
            inner.tree.apply_batch(batch).map_err(|e| inner.sled(e))?;
            inner.remove(log_key(0, 0)..=log_key(log_id.index, u32::MAX))?;
            let mut ends = inner.ends.lock();
            ends.purged = Some(log_id);
            ends.last = ends.last.max(Some(log_id));
            Ok(())
        };
        self.change(ErrorSubject::Log(log_id), purge).await
    }
}
