//! Linux files.

use std::any::Any;
use std::fs;
use std::io::{self, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::env::{DirEntry, Disk, File, OpenMode, Space};

#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(mode != OpenMode::Read)
            .create(mode == OpenMode::Create)
            .truncate(false)
            .open(path)?;
        Ok(Arc::new(RealFile { file, is_suspect: AtomicBool::new(false) }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(path)?;
        // Small files mostly fit, and then nobody has to ask how long they are.
        let mut content = vec![0; 1024];
        let count = file.read(&mut content)?;
        let is_whole = count < content.len();
        content.truncate(count);
        if !is_whole {
            file.read_to_end(&mut content)?;
        }
        Ok(content)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<bool> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // The folder itself tells what is a folder: only a file's length has to be asked for, and what a link
            // leads to.
            let look = || -> io::Result<_> {
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    return Ok((true, 0, 0));
                }
                let about = if kind.is_symlink() { fs::metadata(entry.path()) } else { entry.metadata() }?;
                match about.is_dir() {
                    true => Ok((true, 0, 0)),
                    false => Ok((false, about.len(), milliseconds(about.modified()?))),
                }
            };
            let (is_dir, len, modified_ms) = match look() {
                // Removed since the folder was read, or a link that leads nowhere.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            entries.push(DirEntry { name, is_dir, len, modified_ms });
        }
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        if fs::symlink_metadata(path)?.is_symlink() {
            fs::remove_dir_all(fs::canonicalize(path)?)?;
            return fs::remove_file(path);
        }
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // The parent of a bare relative name is the empty path.
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        fs::File::open(dir)?.sync_all()
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = nix::sys::statvfs::statvfs(path)?;
        let unit = stat.fragment_size();
        Ok(Space {
            free_bytes: stat.blocks_available() * unit,
            total_bytes: stat.blocks() * unit,
            is_read_only: stat.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY),
        })
    }

    /// Raises the process's limit on open files as far as it goes, and gives logs the half of it; the rest is for
    /// connections.
    fn open_files_max(&self) -> usize {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let limit = match getrlimit(Resource::RLIMIT_NOFILE) {
            Ok((soft, hard)) if soft < hard => {
                setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard)
            }
            Ok((soft, _)) => soft,
            Err(_) => 1024,
        };
        usize::try_from(limit / 2).unwrap_or(usize::MAX).clamp(64, 100_000)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        // `flock`: the kernel lets go of it when the process ends, however it ends.
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

#[derive(Debug)]
struct RealFile {
    file: fs::File,
    is_suspect: AtomicBool,
}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.file.read_at(&mut buf[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }

    fn write_all_at(&self, mut bufs: &mut [IoSlice<'_>], mut position: u64) -> io::Result<()> {
        /// The most buffers that Linux takes in one call (`UIO_MAXIOV`).
        const BUFFERS_MAX: usize = 1024;
        IoSlice::advance_slices(&mut bufs, 0);
        while !bufs.is_empty() {
            let head = &bufs[..bufs.len().min(BUFFERS_MAX)];
            let offset = i64::try_from(position).map_err(io::Error::other)?;
            match nix::sys::uio::pwritev(&self.file, head, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    position += count as u64;
                    IoSlice::advance_slices(&mut bufs, count);
                }
                Err(nix::Error::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn set_modified(&self, modified_ms: i64) -> io::Result<()> {
        let since = Duration::from_millis(u64::try_from(modified_ms).unwrap_or_default());
        self.file.set_modified(UNIX_EPOCH + since)
    }

    fn path(&self) -> Option<PathBuf> {
        fs::read_link(format!("/proc/self/fd/{}", self.file.as_raw_fd())).ok()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        use nix::fcntl::{FallocateFlags, fallocate};
        let len = i64::try_from(len).map_err(io::Error::other)?;
        match fallocate(&self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, len) {
            Ok(()) | Err(nix::Error::EOPNOTSUPP) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn is_cached(&self, position: u64, len: u64) -> bool {
        !self.is_suspect() && real_is_cached(&self.file, position, len)
    }

    fn suspect(&self) {
        self.is_suspect.store(true, Ordering::Relaxed);
    }

    fn is_suspect(&self) -> bool {
        self.is_suspect.load(Ordering::Relaxed)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

/// Since 1970.
fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The default read-ahead: pages come into memory and leave it in such runs, so one of each tells nearly
/// as much as all of them at a fraction of the cost.
const RUN_BYTES: u64 = 128 * 1024;

fn real_is_cached(file: &fs::File, position: u64, len: u64) -> bool {
    let end = position + len;
    if len > RUN_BYTES
        && let Some(pages) = cached_pages(file, position, len)
    {
        let page_bytes = page_bytes();
        // The kernel counts pages whose read is still under way; the last one is the last to come.
        return pages >= end.div_ceil(page_bytes) - position / page_bytes && is_byte_cached(file, end - 1);
    }
    let mut at = position;
    while at < end {
        let probe = (at + RUN_BYTES).min(end) - 1;
        if !is_byte_cached(file, probe) {
            return false;
        }
        at = probe + 1;
    }
    true
}

/// How many pages of a range are in the page cache; `None` where the kernel does not say (`cachestat` came
/// with Linux 6.5).
fn cached_pages(file: &fs::File, position: u64, len: u64) -> Option<u64> {
    /// `struct cachestat_range` of the kernel's interface.
    #[repr(C)]
    struct Range {
        offset: u64,
        len: u64,
    }
    /// `struct cachestat` of the kernel's interface.
    #[repr(C)]
    #[derive(Default)]
    struct Pages {
        cached: u64,
        dirty: u64,
        writeback: u64,
        evicted: u64,
        recently_evicted: u64,
    }
    /// The same on all architectures.
    const SYS_CACHESTAT: libc::c_long = 451;
    let range = Range { offset: position, len };
    let mut pages = Pages::default();
    // SAFETY: both structures are live and laid out as the kernel's; the call keeps neither.
    let result =
        unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const range, &raw mut pages, 0u32) };
    (result == 0).then_some(pages.cached)
}

/// Whether reading a byte would not have to wait for a device.
fn is_byte_cached(file: &fs::File, position: u64) -> bool {
    let mut byte = 0u8;
    let iov = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let offset = i64::try_from(position).unwrap_or(i64::MAX);
    // SAFETY: `iov` points to one live byte, and the call does not keep it.
    let count = unsafe { libc::preadv2(file.as_raw_fd(), &raw const iov, 1, offset, libc::RWF_NOWAIT) };
    // 0: not in the file at all, which whoever reads it on will tell. EAGAIN: not in memory. Anything else (a file system without RWF_NOWAIT): treat as cached, since
    // there is no way to know and warming costs a thread hop each time.
    count > 0 || count < 0 && io::Error::last_os_error().kind() != io::ErrorKind::WouldBlock
}

fn page_bytes() -> u64 {
    static PAGE_BYTES: LazyLock<u64> = LazyLock::new(|| {
        // SAFETY: takes a number and gives a number.
        u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
    });
    *PAGE_BYTES
}
