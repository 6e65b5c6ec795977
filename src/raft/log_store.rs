//! What openraft asks of a log store: the log in a [`Journal`], the vote in a file of its own.
//!
//! The file `vote` holds openraft's vote as a line of JSON, and a line with the CRC-32C of the line before
//! (with its end), as eight hexadecimal digits. It is replaced as a whole and durable before openraft hears
//! that it is.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{
    AnyError, ErrorSubject, ErrorVerb, LogState, OptionalSend, RaftLogReader, StorageIOError, Vote,
};
use parking_lot::Mutex;

use super::journal::{self, Journal};
use super::snapshot;
use super::{Entry, LogId, StorageError, Types};
use crate::env::Disk;

const VOTE: &str = "vote";
/// How often a write is tried again on a disk that is full.
const FULL_DISK_RETRY: Duration = Duration::from_millis(200);

/// The log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogStoreError {
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    #[error("{0} is damaged: {1}")]
    Damaged(PathBuf, String),
}

impl LogStoreError {
    /// The disk has no room.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io(_, error) if error.kind() == io::ErrorKind::StorageFull)
    }
}

/// The store. Clones share it.
#[derive(Clone)]
pub(super) struct LogStore {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<dyn Disk>,
    vote_path: PathBuf,
    journal: Mutex<Journal>,
    is_closing: AtomicBool,
}

impl LogStore {
    /// Opens the store in `dir`, which exists, and checks every checksum. Blocks.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, LogStoreError> {
        // Both follow the log's first entry.
        let is_expected = disk
            .list(dir)
            .map_err(|error| LogStoreError::Io(dir.to_owned(), error))?
            .iter()
            .any(|entry| entry.name == VOTE || snapshot::is_snapshot(&entry.name));
        let journal = Mutex::new(Journal::open(disk.clone(), dir, is_expected)?);
        let store = Self {
            inner: Arc::new(Inner {
                disk,
                vote_path: dir.join(VOTE),
                journal,
                is_closing: AtomicBool::new(false),
            }),
        };
        let (vote, last) = (store.vote()?, store.ends().1);
        // The entry that forms a cluster comes before any vote; every other one follows one.
        let needed = last.filter(|last| last.index > 0).map(|last| last.leader_id);
        if vote.map(|vote| vote.leader_id) < needed {
            let vote = vote.map_or("no vote".to_owned(), |vote| format!("the vote {vote}"));
            let last = last.map_or_else(String::new, |last| last.to_string());
            return Err(store
                .damaged(format!("it holds {vote}, but the metadata log beside it ends with entry {last}")));
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

    /// An error that names the file of the vote.
    pub fn damaged(&self, why: impl Into<String>) -> LogStoreError {
        self.inner.damaged(why)
    }

    /// From now on nothing waits for room on a full disk.
    pub fn start_closing(&self) {
        self.inner.is_closing.store(true, Ordering::Release);
    }

    /// Brings all that was written so far to the disk. Blocks.
    pub fn sync(&self) -> Result<(), LogStoreError> {
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

impl Inner {
    /// Appends, and waits while the disk is full: openraft takes an error for the end of the node, and
    /// records that are deleted or expire make room.
    fn append(&self, entries: &[Entry]) -> Result<(), LogStoreError> {
        let mut is_told = false;
        loop {
            let appended = self.journal.lock().append(entries);
            match appended {
                Err(error) if error.is_full() && !self.is_closing.load(Ordering::Acquire) => {
                    if !is_told {
                        tracing::error!(%error, "the disk is full: changes of metadata wait until there is room");
                        is_told = true;
                    }
                    std::thread::sleep(FULL_DISK_RETRY);
                }
                other => {
                    if is_told && other.is_ok() {
                        tracing::info!("there is room again: metadata is written");
                    }
                    return other;
                }
            }
        }
    }

    fn damaged(&self, why: impl Into<String>) -> LogStoreError {
        LogStoreError::Damaged(self.vote_path.clone(), why.into())
    }

    fn vote(&self) -> Result<Option<Vote<u64>>, LogStoreError> {
        if !self.disk.exists(&self.vote_path) {
            return Ok(None);
        }
        let io = |e| LogStoreError::Io(self.vote_path.clone(), e);
        let content = self.disk.read(&self.vote_path).map_err(io)?;
        let parts = content.len().checked_sub(CHECKSUM_BYTES).map(|at| content.split_at(at));
        match parts {
            Some((line, stored)) if stored == checksum(line).as_bytes() => {
                serde_json::from_slice(line).map(Some).map_err(|e| self.damaged(e.to_string()))
            }
            _ => Err(self.damaged("its checksum does not match")),
        }
    }

    fn save_vote(&self, vote: &Vote<u64>) -> Result<(), LogStoreError> {
        let io = |e| LogStoreError::Io(self.vote_path.clone(), e);
        let mut content = serde_json::to_vec(vote).map_err(|e| io(e.into()))?;
        content.push(b'\n');
        let checksum = checksum(&content);
        content.extend_from_slice(checksum.as_bytes());
        self.disk.write_atomic(&self.vote_path, &content).map_err(io)
    }
}

/// Whether the folder, which need not exist, holds any of a quorum's files. Reads only.
pub fn is_there(disk: &dyn Disk, dir: &Path) -> io::Result<bool> {
    let of_quorum = |name: &str| name == VOTE || journal::is_journal(name) || snapshot::is_snapshot(name);
    Ok(disk.exists(dir) && disk.list(dir)?.iter().any(|entry| of_quorum(&entry.name)))
}

const CHECKSUM_BYTES: usize = 9;

fn checksum(line: &[u8]) -> String {
    format!("{:08x}\n", crc32c::crc32c(line))
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
        self.change(ErrorSubject::Vote, move |inner| inner.save_vote(&vote)).await
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
        let append = move |inner: &Inner| inner.append(&entries);
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
