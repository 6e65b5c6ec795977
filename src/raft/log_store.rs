//! What openraft asks of a log store: the log in a [`Journal`], the vote in `sled`.
//!
//! sled holds one key, `m/vote`: the CRC-32C (4 bytes, little-endian) of key and vote, then openraft's vote
//! as JSON. Two things must be known about sled 0.34 (see docs/adr/0001):
//!
//! - Its `flush` writes its buffer but leaves it to `sync_file_range` to bring it to the disk, which neither
//!   writes the file's length nor empties the disk's cache. So after each flush this store syncs `db` itself
//!   through a handle of its own.
//! - It takes damage in the middle of its file for a torn tail and silently goes back to what was before.
//!   So the journal bears witness of votes, and an opening refuses a sled that knows less.

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

use super::journal::Journal;
use super::{Entry, LogId, StorageError, Types};
use crate::env::Disk;

/// What sled may keep in memory.
const CACHE_BYTES: u64 = 512 * 1024;
/// How long to wait for this process itself to let go of the folder, after a close.
const LOCK_WAIT: Duration = Duration::from_millis(500);

const VOTE: &[u8] = b"m/vote";

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
    journal: Mutex<Journal>,
}

impl LogStore {
    /// Opens the store in `dir`, creates it when missing, and checks every checksum. Blocks.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, LogStoreError> {
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
        let journal = Mutex::new(Journal::open(disk, dir)?);
        let store = Self { inner: Arc::new(Inner { tree, path, file, journal }) };
        let vote = store.vote()?;
        let (witness, last) = {
            let journal = store.inner.journal.lock();
            (journal.vote(), journal.ends().1)
        };
        // The entry that forms a cluster comes before any vote.
        let needed = last.filter(|last| last.index > 0).map(|last| last.leader_id);
        if vote < witness || vote.map(|vote| vote.leader_id) < needed {
            let text =
                |vote: Option<Vote<u64>>| vote.map_or("no vote".to_owned(), |vote| format!("vote {vote}"));
            let (vote, last) =
                (text(vote), last.map_or_else(String::new, |last| format!("entry {last} and ")));
            let why = format!("it holds {vote}, but the metadata log beside it {last}{}", text(witness));
            return Err(store.damaged(why));
        }
        Ok(store)
    }

    /// The log ids last purged and last in the log.
    pub fn ends(&self) -> (Option<LogId>, Option<LogId>) {
        self.inner.journal.lock().ends()
    }

    /// Index of the last entry known to be committed.
    pub fn committed(&self) -> Option<u64> {
        self.inner.journal.lock().committed()
    }

    /// An error that names sled's file.
    pub fn damaged(&self, why: impl Into<String>) -> LogStoreError {
        self.inner.damaged(why)
    }

    /// Brings all that was written so far to the disk. Blocks.
    pub fn sync(&self) -> Result<(), LogStoreError> {
        self.inner.sync()?;
        self.inner.journal.lock().sync()
    }

    pub fn vote(&self) -> Result<Option<Vote<u64>>, LogStoreError> {
        self.inner.vote()
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

fn checksum(payload: &[u8]) -> [u8; 4] {
    crc32c::crc32c_append(crc32c::crc32c(VOTE), payload).to_le_bytes()
}

impl Inner {
    fn sled(&self, error: sled::Error) -> LogStoreError {
        LogStoreError::Sled(self.path.clone(), error)
    }

    fn damaged(&self, why: impl Into<String>) -> LogStoreError {
        LogStoreError::Damaged(self.path.clone(), why.into())
    }

    fn vote(&self) -> Result<Option<Vote<u64>>, LogStoreError> {
        let Some(value) = self.tree.get(VOTE).map_err(|e| self.sled(e))? else { return Ok(None) };
        let payload = match value.split_first_chunk::<4>() {
            Some((stored, payload)) if *stored == checksum(payload) => payload,
            _ => return Err(self.damaged("the checksum of the vote does not match")),
        };
        serde_json::from_slice(payload).map_err(|e| self.damaged(format!("the vote: {e}")))
    }

    fn save_vote(&self, vote: Vote<u64>) -> Result<(), LogStoreError> {
        let payload =
            serde_json::to_vec(&vote).map_err(|e| LogStoreError::Io(self.path.clone(), e.into()))?;
        let value = [&checksum(&payload), payload.as_slice()].concat();
        self.tree.insert(VOTE, value).map_err(|e| self.sled(e))?;
        self.sync()?;
        self.journal.lock().save_vote(vote)
    }

    /// Brings all that sled has to the disk.
    fn sync(&self) -> Result<(), LogStoreError> {
        self.tree.flush().map_err(|e| self.sled(e))?;
        self.file.sync_data().map_err(|e| LogStoreError::Io(self.path.clone(), e))
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
        self.inner.journal.lock().entries(start..end).map_err(read_error)
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
        self.change(ErrorSubject::Vote, move |inner| inner.save_vote(vote)).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError> {
        self.vote().map_err(read_error)
    }

    /// Not synced: after a crash the index may be an earlier one, and entries after it are committed again.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let Some(id) = committed else { return Ok(()) };
        let saved = self.inner.journal.lock().save_committed(id.index);
        saved.map_err(|e| StorageIOError::write(AnyError::new(&e)).into())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let journal = self.inner.journal.lock();
        let Some(index) = journal.committed() else { return Ok(None) };
        let (purged, _) = journal.ends();
        if purged.is_some_and(|purged| index <= purged.index) {
            // A snapshot holds more than that.
            return Ok(None);
        }
        let entry = journal.entries(index..index + 1).map_err(read_error)?.pop();
        Ok(entry.map(|entry| entry.log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let append = move |inner: &Inner| inner.journal.lock().append(&entries);
        let result = self.change(ErrorSubject::Logs, append).await;
        callback.log_io_completed(result.as_ref().copied().map_err(|e| io::Error::other(e.to_string())));
        result
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let truncate = move |inner: &Inner| inner.journal.lock().truncate(log_id.index);
        self.change(ErrorSubject::Log(log_id), truncate).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let purge = move |inner: &Inner| inner.journal.lock().purge(log_id);
        self.change(ErrorSubject::Log(log_id), purge).await
    }
}
