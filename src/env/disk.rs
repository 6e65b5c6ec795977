//! The port to file systems.

use std::any::Any;
use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How [`Disk::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must exist; reading only.
    Read,
    /// Must exist; reading and writing.
    ReadWrite,
    /// Created when missing; reading and writing. Never truncates.
    Create,
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    pub name: String,
    pub is_dir: bool,
    /// Bytes, 0 for a folder.
    pub len: u64,
    /// When it was last written to (ms since 1970), 0 for a folder.
    pub modified_ms: i64,
}

/// Free and total bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub free_bytes: u64,
    pub total_bytes: u64,
    /// Nothing can be written, however much is free.
    pub is_read_only: bool,
}

/// A file system. Errors are those of the operating system (`NotFound`, `StorageFull`, EIO…).
pub trait Disk: Send + Sync + Debug {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Creates a folder and its parents; no error when it exists.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Creates a folder whose parent is there; `false` when it exists already.
    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        let is_new = !self.exists(path);
        if is_new {
            self.create_dir_all(path)?;
        }
        Ok(is_new)
    }
    /// Entries of a folder in no special order. Names that are not UTF-8 are left out; a symbolic link is what it
    /// leads to.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    fn exists(&self, path: &Path) -> bool;
    /// Atomic within one file system; replaces `to`. Durable after [`Disk::sync_dir`] of the parent.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder with all that is in it; of a symbolic link, also the folder that it leads to.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// Most files that logs may hold open at a time.
    fn open_files_max(&self) -> usize {
        1000
    }
    /// Takes a file, made when missing, for this process alone, until what is returned is dropped. A disk that only one process
    /// can see need not do anything.
    ///
    /// # Errors
    /// `WouldBlock` when another process has it.
    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(()))
    }

    /// Creates a folder and its parents where they are missing. When this returns, they are there to stay: a folder
    /// whose name is not synced is gone after a power cut with all that is in it, synced or not.
    fn create_dir_durably(&self, path: &Path) -> io::Result<()> {
        let is_missing = |dir: &&Path| !dir.as_os_str().is_empty() && !self.exists(dir);
        let missing = path.ancestors().take_while(is_missing).count();
        self.create_dir_all(path)?;
        // Its own name in any case: whoever made it may have ended before it was synced.
        for parent in path.ancestors().skip(1).take(missing.max(1)) {
            self.sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
        }
        Ok(())
    }

    /// The whole content of a (small) file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let mut content = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        let count = file.read_at(&mut content, 0)?;
        content.truncate(count);
        Ok(content)
    }

    /// Replaces a (small) file as a whole: after a crash it holds the old content or the new one.
    /// Durable when this returns.
    fn write_atomic(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = Path::new(&temporary);
        let file = self.open(temporary, OpenMode::Create)?;
        file.set_len(0)?;
        file.write_all_at(&mut [IoSlice::new(content)], 0)?;
        file.sync_data()?;
        self.rename(temporary, path)?;
        match path.parent() {
            Some(parent) => self.sync_dir(parent),
            None => Ok(()),
        }
    }
}

/// An open file. Positions are bytes from its start; there is no cursor, so one handle serves many.
pub trait File: Send + Sync + Debug {
    /// Fills `buf` from `position` as far as the file reaches; returns the bytes read.
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all of `bufs`, one after the other, from `position` on. After an error any part of
    /// them may have been written.
    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], position: u64) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    /// True when the file holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// `fdatasync`: content and length are durable when this returns.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes it look as if last written to then (ms since 1970); a hint where the file system cannot.
    fn set_modified(&self, _modified_ms: i64) -> io::Result<()> {
        Ok(())
    }
    /// The path by which it can be found now, for people. May ask the operating system.
    fn path(&self) -> Option<PathBuf> {
        None
    }
    /// Sets room on the disk aside for the first `len` bytes, without changing the length; a hint where
    /// the file system cannot. Cutting the file gives the room back.
    fn reserve(&self, _len: u64) -> io::Result<()> {
        Ok(())
    }
    /// Reads only what is in memory already: `Ok(None)` where a device would have to be asked.
    /// (`preadv2` with `RWF_NOWAIT`.) The way to learn whether a `sendfile` would block.
    fn is_cached(&self, position: u64, len: u64) -> bool;
    /// Reading it failed where it was taken to be in memory: nothing of it is any more.
    fn suspect(&self) {}
    /// Whether that happened.
    fn is_suspect(&self) -> bool {
        false
    }
    /// The descriptor for `sendfile`, where there is one.
    fn as_fd(&self) -> Option<BorrowedFd<'_>>;
}
