//! Open files, a bounded number for the whole data folder.
//!
//! A log opens its files on use and lets them go when others need the room. Whoever holds an `Arc` of a file
//! goes on using it: being put out of the cache closes it only when nobody else does.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::env::File;

/// Which of a segment's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    Log,
    Index,
    TimeIndex,
}

impl FileKind {
    pub const ALL: [FileKind; 3] = [FileKind::Log, FileKind::Index, FileKind::TimeIndex];

    /// What file names of this kind end in, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            FileKind::Log => "log",
            FileKind::Index => "index",
            FileKind::TimeIndex => "timeindex",
        }
    }
}

/// A file of a segment of a log; logs have numbers of their own, as their folders may be renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    pub log: u64,
    pub base_offset: i64,
    pub kind: FileKind,
}

const SHARDS: usize = 16;

#[derive(Debug)]
struct Open {
    file: Arc<dyn File>,
    used: u64,
}

/// What went wrong with the files of a data folder since its opening; `/metrics` shows it.
#[derive(Debug, Default)]
pub struct DiskErrors {
    pub reads: AtomicU64,
    pub writes: AtomicU64,
    pub syncs: AtomicU64,
    /// When there last was no room (ms).
    full_ms: AtomicI64,
}

/// So long after there was no room the disk counts as full.
const FULL_FOR_MS: i64 = 10_000;

impl DiskErrors {
    pub fn read_failed(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    pub fn sync_failed(&self) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
    }

    pub fn write_failed(&self, error: &io::Error, now_ms: i64) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            self.full_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// Whether a write found no room a moment ago.
    pub fn is_full(&self, now_ms: i64) -> bool {
        let full_ms = self.full_ms.load(Ordering::Relaxed);
        full_ms > 0 && now_ms.saturating_sub(full_ms) < FULL_FOR_MS
    }
}

/// The open files of all logs of a data folder.
#[derive(Debug)]
pub struct FileCache {
    shards: [Mutex<HashMap<FileKey, Open>>; SHARDS],
    /// Not seeded: nobody outside chooses the keys.
    hasher: BuildHasherDefault<DefaultHasher>,
    uses: AtomicU64,
    logs: AtomicU64,
    per_shard_max: usize,
    pub errors: DiskErrors,
}

impl FileCache {
    /// Keeps about `files_max` files open.
    pub fn new(files_max: usize) -> Self {
        Self {
            shards: Default::default(),
            hasher: BuildHasherDefault::default(),
            uses: AtomicU64::new(0),
            logs: AtomicU64::new(0),
            per_shard_max: files_max.div_ceil(SHARDS).max(4),
            errors: DiskErrors::default(),
        }
    }

    /// A number for one more log.
    pub fn next_log(&self) -> u64 {
        self.logs.fetch_add(1, Ordering::Relaxed)
    }

    fn shard(&self, key: &FileKey) -> &Mutex<HashMap<FileKey, Open>> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    /// The open file, or what `open` gives.
    pub fn get(
        &self,
        key: FileKey,
        open: impl FnOnce() -> io::Result<Arc<dyn File>>,
    ) -> io::Result<Arc<dyn File>> {
        let used = self.uses.fetch_add(1, Ordering::Relaxed);
        if let Some(open) = self.shard(&key).lock().get_mut(&key) {
            open.used = used;
            return Ok(open.file.clone());
        }
        // Opened without the lock, as it may take the device's time. Two may do so at once; both
        // handles are good.
        let file = open()?;
        let mut shard = self.shard(&key).lock();
        let mut put_out = None;
        if shard.len() >= self.per_shard_max
            && let Some(oldest) = shard.iter().min_by_key(|(_, open)| open.used).map(|(key, _)| *key)
        {
            put_out = shard.remove(&oldest);
        }
        shard.insert(key, Open { file: file.clone(), used });
        drop(shard);
        drop(put_out);
        Ok(file)
    }

    /// Lets go of a file that is removed or replaced.
    pub fn forget(&self, key: FileKey) {
        let forgotten = self.shard(&key).lock().remove(&key);
        drop(forgotten);
    }

    /// Number of files held open.
    pub fn open_files(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}
