//! Open files, a bounded number for the whole data folder.
//!
//! A log opens its files on use and lets them go when others need the room. Whoever holds an `Arc` of a file
//! goes on using it: being put out of the cache closes it only when nobody else does.

use std::fmt;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use crate::env::File;

/// Which of a segment's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    Log,
    Index,
    TimeIndex,
    /// Of aborted transactions; a segment without one has none.
    TxnIndex,
}

impl FileKind {
    pub const ALL: [FileKind; 4] = [FileKind::Log, FileKind::Index, FileKind::TimeIndex, FileKind::TxnIndex];

    /// What file names of this kind end in, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            FileKind::Log => "log",
            FileKind::Index => "index",
            FileKind::TimeIndex => "timeindex",
            FileKind::TxnIndex => "txnindex",
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

/// The hasher is not seeded: nobody outside chooses the keys.
type OpenFiles = Cache<FileKey, Arc<dyn File>, UnitWeighter, BuildHasherDefault<DefaultHasher>>;

/// The open files of all logs of a data folder. Some of those that are asked for in turn stay, even when there are more of
/// them than there is room for.
pub struct FileCache {
    open: OpenFiles,
    logs: AtomicU64,
    pub errors: DiskErrors,
}

impl fmt::Debug for FileCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileCache").field("open_files", &self.open_files()).finish_non_exhaustive()
    }
}

impl FileCache {
    /// Keeps about `files_max` files open.
    pub fn new(files_max: usize) -> Self {
        let (hasher, lifecycle) = (BuildHasherDefault::default(), DefaultLifecycle::default());
        Self {
            open: Cache::with(files_max, files_max as u64, UnitWeighter, hasher, lifecycle),
            logs: AtomicU64::new(0),
            errors: DiskErrors::default(),
        }
    }

    /// A number for one more log.
    pub fn next_log(&self) -> u64 {
        self.logs.fetch_add(1, Ordering::Relaxed)
    }

    /// The open file, or what `open` gives.
    pub fn get(
        &self,
        key: FileKey,
        open: impl FnOnce() -> io::Result<Arc<dyn File>>,
    ) -> io::Result<Arc<dyn File>> {
        if let Some(file) = self.open.get(&key) {
            return Ok(file);
        }
        // Opened without a lock, as it may take the device's time. Two may do so at once; both handles are
        // good. What is put out for it is closed without a lock as well.
        let file = open()?;
        self.open.insert(key, file.clone());
        Ok(file)
    }

    /// Lets go of a file that is removed or replaced.
    pub fn forget(&self, key: FileKey) {
        self.open.remove(&key);
    }

    /// Number of files held open.
    pub fn open_files(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::Path;

    use super::*;
    use crate::env::sim::SimDisk;
    use crate::env::{Disk, OpenMode};

    #[test]
    fn more_files_than_may_be_open_take_turns_and_some_of_them_stay() {
        const MAX: usize = 400;
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/d")).unwrap();
        let file = disk.open(Path::new("/d/file"), OpenMode::Create).unwrap();
        let (cache, opened) = (FileCache::new(MAX), Cell::new(0));
        let key = |log| FileKey { log, base_offset: 0, kind: FileKind::Log };
        let open = || {
            opened.set(opened.get() + 1);
            Ok(file.clone())
        };
        let turn = |count| (0..count).for_each(|log| drop(cache.get(key(log), open).unwrap()));
        // Where all have room, each is opened once (but for some of a shard that got more than its share).
        (0..3).for_each(|_| turn(300));
        assert!((300..350).contains(&opened.get()), "{}", opened.get());
        cache.forget(key(7));
        let before = opened.get();
        drop(cache.get(key(7), open).unwrap());
        assert_eq!(opened.get(), before + 1);
        // A turn of more: the least recently used alone would open every one anew.
        turn(600);
        opened.set(0);
        turn(600);
        assert!(opened.get() < 550, "{}", opened.get());
        assert!(cache.open_files() <= MAX + MAX / 8, "{}", cache.open_files());
    }
}
