//! What openraft asks of a log store: the log in a [`Journal`], the vote in a file of its own.
//!
//! The file `vote` holds openraft's vote as a line of JSON, and a line with the CRC-32C of the line before
//! (with its end), as eight hexadecimal digits. It is replaced as a whole and durable before openraft hears
//! that it is. Whatever cannot be written because the disk takes no more waits, see [`super::room`].

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{
    AnyError, ErrorSubject, ErrorVerb, LogState, OptionalSend, RaftLogReader, StorageIOError, Vote,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::journal::{self, Journal};
use super::log_index::{LogIndex, entries_in_memory, read_entries};
use super::planted::{Bug, is_planted};
use super::room::Room;
use super::snapshot;
use super::{Entry, LogId, LogStoreError, StorageError, Types};
use crate::env::{Blocking, Disk};

const VOTE: &str = "vote";
/// Bytes of entries in one message to a follower, which has at least one entry.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// The store. Clones share it.
#[derive(Clone)]
pub(super) struct LogStore {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<dyn Disk>,
    blocking: Arc<dyn Blocking>,
    vote_path: PathBuf,
    /// Locked over writes and syncs, on threads that may block.
    journal: Mutex<Journal>,
    index: Arc<RwLock<LogIndex>>,
    room: Arc<Room>,
    /// How far the newest snapshot reaches that is on the disk; `None` where nobody takes any.
    snapshots: Option<watch::Receiver<DurableSnapshot>>,
    refusal: Mutex<Option<String>>,
    /// The first error that was not to be waited for.
    failure: Mutex<Option<String>>,
}

/// How far the newest snapshot on the disk reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum DurableSnapshot {
    #[default]
    None,
    /// The index of the last entry in it.
    UpTo(u64),
    /// It could not be brought to the disk, and openraft has been told.
    Failed,
}

impl Inner {
    fn check_writable(&self) -> Result<(), LogStoreError> {
        let dir = self.vote_path.parent().unwrap_or(&self.vote_path);
        match self.disk.space(dir) {
            Ok(space) if space.is_read_only => {
                Err(LogStoreError::Io(dir.to_owned(), io::ErrorKind::ReadOnlyFilesystem.into()))
            }
            // Whatever else is the matter, the write itself finds out.
            _ => Ok(()),
        }
    }
}

impl LogStore {
    /// Opens the store in `dir`, which exists, and checks every checksum. Blocks. With `snapshots`, entries are
    /// purged only when a snapshot on the disk has them.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        blocking: Arc<dyn Blocking>,
        dir: &Path,
        room: Arc<Room>,
        snapshots: Option<watch::Receiver<DurableSnapshot>>,
    ) -> Result<Self, LogStoreError> {
        // Both follow the log's first entry.
        let is_expected = disk
            .list(dir)
            .map_err(|error| LogStoreError::Io(dir.to_owned(), error))?
            .iter()
            .any(|entry| entry.name == VOTE || snapshot::is_snapshot(&entry.name));
        let journal = Journal::open(disk.clone(), dir, is_expected)?;
        let store = Self {
            inner: Arc::new(Inner {
                disk,
                blocking,
                vote_path: dir.join(VOTE),
                index: journal.index(),
                journal: Mutex::new(journal),
                room,
                snapshots,
                refusal: Mutex::default(),
                failure: Mutex::default(),
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
    pub(super) fn ends(&self) -> (Option<LogId>, Option<LogId>) {
        let index = self.inner.index.read();
        (index.purged, index.last)
    }

    /// Bytes of the journal's files.
    pub(super) fn bytes(&self) -> u64 {
        self.inner.index.read().bytes()
    }

    /// Index of the last entry known to be committed.
    pub(super) fn committed(&self) -> Option<u64> {
        self.inner.journal.lock().committed()
    }

    /// An error that names the file of the vote.
    pub(super) fn damaged(&self, why: impl Into<String>) -> LogStoreError {
        self.inner.damaged(why)
    }

    /// Why nothing can be written here any more.
    pub(super) fn failure(&self) -> Option<String> {
        self.inner.failure.lock().clone()
    }

    /// Brings all that was written so far to the disk. Blocks.
    pub(super) fn sync(&self) -> Result<(), LogStoreError> {
        self.inner.journal.lock().sync()
    }

    pub(super) fn vote(&self) -> Result<Option<Vote<u64>>, LogStoreError> {
        self.inner.vote()
    }

    /// Sees to it that `bytes` more can be appended, with `left` behind them for what matters more. A file system that
    /// has turned read-only is noticed here, as a write that has begun waits until it works.
    pub(super) async fn make_room(&self, bytes: u64, left: u64) -> Result<(), LogStoreError> {
        let inner = self.inner.clone();
        let make = move || {
            inner.check_writable()?;
            let has_room = inner.index.read().has_room(bytes, left);
            if has_room { Ok(()) } else { inner.journal.lock().make_room(bytes, left) }
        };
        let made = self.blocking(make).await;
        *self.inner.refusal.lock() = match &made {
            // A full disk still takes what matters more.
            Err(LogStoreError::Io(path, error)) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                Some(format!("nothing can be written to {}: {error}", path.display()))
            }
            _ => None,
        };
        made
    }

    /// Why the log took nothing when it was last asked for room.
    pub(super) fn refusal(&self) -> Option<String> {
        self.inner.refusal.lock().clone()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, LogStoreError> + Send + 'static,
    ) -> Result<T, LogStoreError> {
        self.inner.blocking.run(work).await?
    }

    /// Runs a blocking change of the store where blocking is allowed, again and again while the disk takes no more.
    async fn change<F>(
        &self,
        what: &'static str,
        subject: ErrorSubject<u64>,
        work: F,
    ) -> Result<(), StorageError>
    where
        F: Fn(&Inner) -> Result<(), LogStoreError> + Send + Sync + 'static,
    {
        let work = Arc::new(work);
        let changed = self.inner.room.write(what, LogStoreError::is_lack_of_room, || {
            let (inner, work) = (self.inner.clone(), work.clone());
            self.blocking(move || work(&inner))
        });
        changed.await.map_err(|error| {
            if !self.inner.room.is_closing() {
                self.inner.failure.lock().get_or_insert_with(|| error.to_string());
            }
            StorageIOError::new(subject, ErrorVerb::Write, AnyError::new(&error)).into()
        })
    }

    /// Appends, and waits until it is done.
    #[cfg(test)]
    pub(super) async fn append_now(&self, entries: &[Entry]) -> Result<(), StorageError> {
        let entries = entries.to_vec();
        let append = move |inner: &Inner| inner.journal.lock().append(&entries);
        self.change("the metadata log", ErrorSubject::Logs, append).await
    }

    /// Keeps the journal as a write under way does.
    #[cfg(test)]
    pub(super) fn lock_journal(&self) -> parking_lot::MutexGuard<'_, Journal> {
        self.inner.journal.lock()
    }

    async fn entries(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<Entry>, StorageError> {
        if let Some(entries) = entries_in_memory(&self.inner.index, range.clone(), bytes_max) {
            return Ok(entries);
        }
        let index = self.inner.index.clone();
        self.blocking(move || read_entries(&index, range, bytes_max)).await.map_err(read_error)
    }

    /// Waits until a snapshot on the disk has the entries up to `index`. (openraft asks for the purge as soon as it
    /// has asked for a snapshot to be installed; a process that ended between purge and snapshot could not
    /// start again.)
    async fn wait_for_snapshot(&self, index: u64) -> Result<(), LogStoreError> {
        let Some(mut snapshots) = self.inner.snapshots.clone() else { return Ok(()) };
        if is_planted(Bug::EarlyPurge) {
            return Ok(());
        }
        let reaches = |snapshot: &DurableSnapshot| match snapshot {
            DurableSnapshot::None => false,
            DurableSnapshot::UpTo(upto) => *upto >= index,
            DurableSnapshot::Failed => true,
        };
        let not_done = |why: &str| Err(LogStoreError::NotDone(why.to_owned()));
        tokio::select! {
            biased;
            reached = snapshots.wait_for(reaches) => match reached.as_deref() {
                Ok(DurableSnapshot::UpTo(_)) => Ok(()),
                _ => not_done("the log is not purged, as no snapshot has its entries"),
            },
            () = self.inner.room.closing() => not_done("the log is not purged, as the quorum is being closed"),
        }
    }
}

impl Inner {
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
        self.entries(start..end, usize::MAX).await
    }

    /// What one message to a follower carries.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.entries(start..end, MESSAGE_BYTES_MAX).await
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
        self.change("the vote", ErrorSubject::Vote, move |inner| inner.save_vote(&vote)).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError> {
        self.vote().map_err(read_error)
    }

    /// Not synced: after a crash the index may be an earlier one, and entries after it are committed again.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let Some(id) = committed else { return Ok(()) };
        let save = move |inner: &Inner| inner.journal.lock().save_committed(id.index);
        self.change("the metadata log", ErrorSubject::Logs, save).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let Some(index) = self.committed() else { return Ok(None) };
        // Empty when it was purged: a snapshot holds more than that.
        let entry = self.entries(index..index + 1, usize::MAX).await?.pop();
        Ok(entry.map(|entry| entry.log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let append = move |inner: &Inner| inner.journal.lock().append(&entries);
        let result = self.change("the metadata log", ErrorSubject::Logs, append).await;
        callback.log_io_completed(result.as_ref().copied().map_err(|e| io::Error::other(e.to_string())));
        result
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let truncate = move |inner: &Inner| inner.journal.lock().truncate(log_id.index);
        self.change("the metadata log", ErrorSubject::Log(log_id), truncate).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        if let Err(error) = self.wait_for_snapshot(log_id.index).await {
            return Err(StorageIOError::new(
                ErrorSubject::Log(log_id),
                ErrorVerb::Write,
                AnyError::new(&error),
            )
            .into());
        }
        let purge = move |inner: &Inner| inner.journal.lock().purge(log_id);
        self.change("the metadata log", ErrorSubject::Log(log_id), purge).await
    }
}
