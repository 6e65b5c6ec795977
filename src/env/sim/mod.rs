//! A disk, a clock, a network ([`net`]) and whole machines ([`world`]) for tests: deterministic, seeded, and unkind in the ways real ones are.
//!
//! What [`SimDisk`] does to its users, all of it decided by the seed:
//! - **Power cut** ([`SimDisk::power_cut`]): of what was not synced, anything may be lost.
//!   - Of a file's writes since its last `sync_data`, a prefix survives; the write after it may be
//!     torn at any byte, or be there in length only (a hole of zeros, as after a crash of a file
//!     system that journals lengths before data), or have garbage in its last sector.
//!   - Of a folder's creations, renames and removals since its last `sync_dir`, a prefix survives.
//!     A file that was synced but whose name was not may be gone.
//! - **Process kill** ([`SimDisk::kill`]): all that was written stays; open handles and locks are dead.
//! - **Failing writes** ([`Faults::fail_write_in`]): the n-th write from now on fails with EIO after any
//!   part of it was written.
//! - **Failing syncs** ([`Faults::fail_sync_in`]): EIO, and what was to be synced counts as unsynced
//!   for good though later syncs succeed, as Linux does it (pages are marked clean after the error).
//! - **Failing truncation** ([`Faults::fail_set_len_in`]): EIO, nothing changes.
//! - **Bad places** ([`SimDisk::break_path`]): reads, writes or syncs of files whose path holds a text fail with EIO
//!   until [`SimDisk::mend`]. What cannot be read is not in memory ([`File::is_cached`]).
//! - **Read-only** ([`Faults::is_read_only`]): every change fails with EROFS, as after an error that made the
//!   kernel remount the file system.
//! - **End in the middle** ([`Faults::dies_in`]): the n-th change from now on and all that is asked later fail, so that
//!   a power cut or kill after it comes just there.
//! - **Full disk** ([`Faults::capacity_bytes`]): writes that grow a file beyond it write as much as fits
//!   and fail with ENOSPC (EDQUOT with [`Faults::is_quota`]), and so do creations on a disk that is full to the brim. Removing, renaming,
//!   overwriting and shortening go on, and so do writes into room that was set aside. (A power cut takes
//!   that room away.)
//!
//! What it never does: change what was synced, reorder the surviving changes of one file or one
//! folder, or lie about a sync that it said succeeded.

mod files;
pub mod net;
mod random;
pub mod seeds;
pub mod trace;
pub mod world;

use std::any::Any;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Chance, Clock, DirEntry, Disk, File, OpenMode, Space};
use files::{Change, Inode, Names};
use trace::{Trace, digest};

pub use random::SimRandom;

/// A clock that stands still until it is told otherwise.
#[derive(Debug, Default)]
pub struct SimClock {
    now_ms: AtomicI64,
    /// How far it was told to go on.
    passed_ms: AtomicU64,
}

impl SimClock {
    pub fn new(now_ms: i64) -> Arc<Self> {
        Arc::new(Self { now_ms: AtomicI64::new(now_ms), passed_ms: AtomicU64::default() })
    }

    /// Goes on by `ms`, or has its wall clock put back when it is negative.
    pub fn advance(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
        self.passed_ms.fetch_add(u64::try_from(ms).unwrap_or_default(), Ordering::SeqCst);
    }

    /// Sets the wall clock; no time passes.
    pub fn set(&self, now_ms: i64) {
        self.now_ms.store(now_ms, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.passed_ms.load(Ordering::SeqCst))
    }
}

/// All chance from one seed.
#[derive(Debug)]
pub struct SimChance(Mutex<SimRandom>);

impl SimChance {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(SimRandom::new(seed)))
    }
}

impl Chance for SimChance {
    fn next_u64(&self) -> u64 {
        self.0.lock().next_u64()
    }
}

/// Faults to come. Counters go down with every call of their kind; the call that finds 1 fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    pub fail_write_in: Option<u64>,
    pub fail_sync_in: Option<u64>,
    pub fail_set_len_in: Option<u64>,
    /// Counts every change: writes, syncs, creations, renames and removals. At 0 all calls fail.
    pub dies_in: Option<u64>,
    /// Bytes that the disk holds at most.
    pub capacity_bytes: Option<u64>,
    /// What is full is the user's share, not the disk.
    pub is_quota: bool,
    pub is_read_only: bool,
}

/// What fails of the files in a bad place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bad {
    pub reads: bool,
    pub writes: bool,
    pub syncs: bool,
    /// Syncs panic, as a defect would.
    pub panics: bool,
}

/// What was asked of a disk so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub opens: u64,
    pub reads: u64,
    pub writes: u64,
    pub syncs: u64,
    pub dir_syncs: u64,
}

#[derive(Debug)]
struct State {
    random: SimRandom,
    names: Names,
    inodes: Vec<Inode>,
    faults: Faults,
    bad: Vec<(String, Bad)>,
    /// What files take their times from; without one they look new for ever.
    clock: Option<Arc<SimClock>>,
    counts: Counts,
    locks: Vec<PathBuf>,
    /// Handles and locks of earlier generations are dead.
    generation: u64,
    /// Where changes are noted, and as whose.
    trace: Option<(Trace, u32)>,
}

#[derive(Debug, Hash)]
enum DiskEvent<'a> {
    Create(&'a Path),
    CreateDir(&'a Path),
    Rename(&'a Path, &'a Path),
    Remove(&'a Path),
    SyncDir(&'a Path),
    Write { file: usize, position: usize, len: usize, digest: u64 },
    SetLen { file: usize, len: u64 },
    Sync { file: usize },
}

/// See the head of this module. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", path.display()))
}

fn strikes(counter: &mut Option<u64>) -> bool {
    match counter {
        Some(n) if *n <= 1 => {
            *counter = None;
            true
        }
        Some(n) => {
            *n -= 1;
            false
        }
        None => false,
    }
}

impl SimDisk {
    /// An empty disk with a root folder.
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: SimRandom::new(seed),
            names: Names::default(),
            inodes: Vec::new(),
            faults: Faults::default(),
            bad: Vec::new(),
            clock: None,
            counts: Counts::default(),
            locks: Vec::new(),
            generation: 0,
            trace: None,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Notes every change from now on, as that machine's.
    pub fn trace_to(&self, trace: Trace, machine: u32) {
        self.state.lock().trace = Some((trace, machine));
    }

    pub fn arm(&self, faults: Faults) {
        self.state.lock().faults = faults;
    }

    /// From now on files that are written to carry this clock's time.
    pub fn keep_times(&self, clock: &Arc<SimClock>) {
        self.state.lock().clock = Some(clock.clone());
    }

    /// From now on that fails of files (and folders) whose path holds `part`.
    pub fn break_path(&self, part: &str, bad: Bad) {
        self.state.lock().bad.push((part.to_owned(), bad));
    }

    /// Nothing is broken any more.
    pub fn mend(&self) {
        self.state.lock().bad.clear();
    }

    pub fn faults(&self) -> Faults {
        self.state.lock().faults
    }

    pub fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// Bytes of all files.
    pub fn used_bytes(&self) -> u64 {
        self.state.lock().used_bytes()
    }

    /// The process ends: nothing written is lost; handles and locks are gone.
    pub fn kill(&self) {
        let mut state = self.state.lock();
        state.generation += 1;
        state.locks.clear();
        let Faults { capacity_bytes, is_quota, is_read_only, .. } = state.faults;
        state.faults = Faults { capacity_bytes, is_quota, is_read_only, ..Faults::default() };
    }

    /// The machine ends: see the head of this module for what is left.
    pub fn power_cut(&self) {
        self.kill();
        let mut state = self.state.lock();
        let State { random, names, inodes, .. } = &mut *state;
        names.power_cut(random);
        for inode in inodes {
            inode.power_cut(random);
        }
    }

    /// Damages a file in place, synced or not: flips one bit of it.
    pub fn flip_bit(&self, path: &Path, at: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.names.file(path).ok_or_else(|| not_found(path))?;
        let at = usize::try_from(at).map_err(io::Error::other)?;
        match state.inodes.get_mut(id).map(|inode| inode.flip_bit(at)) {
            Some(true) => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl State {
    fn note(&self, event: &DiskEvent<'_>) {
        if let Some((trace, machine)) = &self.trace {
            trace.note(*machine, event);
        }
    }

    /// One change more, if the disk still takes any.
    fn live(&mut self, is_change: bool) -> io::Result<()> {
        if is_change && self.faults.is_read_only {
            return Err(io::Error::from_raw_os_error(libc::EROFS));
        }
        match &mut self.faults.dies_in {
            Some(0) => Err(eio()),
            Some(left) if is_change => {
                *left -= 1;
                if *left == 0 { Err(eio()) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    fn now_ms(&self) -> i64 {
        self.clock.as_ref().map_or(i64::MAX, |clock| clock.now_ms())
    }

    fn full(&self) -> io::Error {
        io::Error::from_raw_os_error(if self.faults.is_quota { libc::EDQUOT } else { libc::ENOSPC })
    }

    fn is_path_bad(&self, path: &Path, fails: impl Fn(&Bad) -> bool) -> bool {
        self.bad.iter().any(|(part, bad)| fails(bad) && path.to_str().is_some_and(|path| path.contains(part)))
    }

    fn is_bad(&self, id: usize, fails: impl Fn(&Bad) -> bool) -> bool {
        !self.bad.is_empty()
            && self.names.files().any(|(path, file)| file == id && self.is_path_bad(path, &fails))
    }

    fn used_bytes(&self) -> u64 {
        self.names.files().filter_map(|(_, id)| self.inodes.get(id)).map(|i| i.room() as u64).sum()
    }

    fn free_bytes(&self) -> u64 {
        match self.faults.capacity_bytes {
            Some(capacity) => capacity.saturating_sub(self.used_bytes()),
            None => u64::MAX,
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut state = self.state.lock();
        state.counts.opens += 1;
        let is_new = state.names.file(path).is_none() && mode == OpenMode::Create;
        state.live(is_new)?;
        let id = match state.names.file(path) {
            Some(id) => id,
            None if mode != OpenMode::Create => return Err(not_found(path)),
            None => {
                if state.names.is_dir(path) {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                if !path.parent().is_none_or(|parent| state.names.is_dir(parent)) {
                    return Err(not_found(path));
                }
                if state.free_bytes() == 0 {
                    return Err(state.full());
                }
                let id = state.inodes.len();
                let modified_ms = state.now_ms();
                state.inodes.push(Inode::new(modified_ms));
                state.note(&DiskEvent::Create(path));
                state.names.change(Change::Create(path.to_owned(), id));
                id
            }
        };
        let file = SimFile {
            disk: self.clone(),
            id,
            writable: mode != OpenMode::Read,
            generation: state.generation,
        };
        Ok(Arc::new(file))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let mut missing: Vec<&Path> = Vec::new();
        for ancestor in path.ancestors() {
            if state.names.is_dir(ancestor) {
                break;
            }
            if state.names.file(ancestor).is_some() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            missing.push(ancestor);
        }
        if !missing.is_empty() && state.free_bytes() == 0 {
            return Err(state.full());
        }
        if !missing.is_empty() {
            state.live(true)?;
        }
        for dir in missing.into_iter().rev() {
            state.note(&DiskEvent::CreateDir(dir));
            state.names.change(Change::CreateDir(dir.to_owned()));
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.state.lock();
        if !state.names.is_dir(dir) {
            return Err(not_found(dir));
        }
        if state.is_path_bad(dir, |bad| bad.reads) {
            return Err(eio());
        }
        let name = |path: &Path| path.file_name().and_then(|n| n.to_str()).map(str::to_owned);
        let mut entries = Vec::new();
        for (path, id) in state.names.files().filter(|(path, _)| path.parent() == Some(dir)) {
            let inode = state.inodes.get(id);
            let len = inode.map_or(0, |inode| inode.live().len() as u64);
            let modified_ms = inode.map_or(0, |inode| inode.modified_ms);
            entries.extend(name(path).map(|name| DirEntry { name, is_dir: false, len, modified_ms }));
        }
        for path in state.names.dirs().filter(|path| path.parent() == Some(dir)) {
            entries.extend(name(path).map(|name| DirEntry { name, is_dir: true, len: 0, modified_ms: 0 }));
        }
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.state.lock();
        state.names.file(path).is_some() || state.names.is_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.live(true)?;
        if state.names.file(from).is_none() && !state.names.is_dir(from) {
            return Err(not_found(from));
        }
        if !to.parent().is_none_or(|parent| state.names.is_dir(parent)) {
            return Err(not_found(to));
        }
        if state.names.is_dir(from) && (state.names.is_dir(to) || state.names.file(to).is_some()) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.note(&DiskEvent::Rename(from, to));
        state.names.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.live(true)?;
        if state.names.file(path).is_none() {
            return Err(not_found(path));
        }
        state.note(&DiskEvent::Remove(path));
        state.names.change(Change::Remove(path.to_owned()));
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.live(true)?;
        if !state.names.is_dir(path) {
            return Err(not_found(path));
        }
        state.note(&DiskEvent::Remove(path));
        state.names.change(Change::RemoveTree(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.live(true)?;
        state.counts.dir_syncs += 1;
        if strikes(&mut state.faults.fail_sync_in) {
            return Err(eio());
        }
        if !state.names.is_dir(dir) {
            return Err(not_found(dir));
        }
        state.note(&DiskEvent::SyncDir(dir));
        state.names.sync(dir);
        Ok(())
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        let state = self.state.lock();
        let total_bytes = state.faults.capacity_bytes.unwrap_or(1 << 50);
        let free_bytes = total_bytes.saturating_sub(state.used_bytes());
        Ok(Space { free_bytes, total_bytes, is_read_only: state.faults.is_read_only })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.open(path, OpenMode::Create)?;
        let mut state = self.state.lock();
        if state.locks.iter().any(|locked| locked == path) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locks.push(path.to_owned());
        let (disk, generation) = (self.clone(), state.generation);
        Ok(Box::new(SimLock { disk, path: path.to_owned(), generation }))
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    generation: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        if state.generation == self.generation {
            state.locks.retain(|locked| *locked != self.path);
        }
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    id: usize,
    writable: bool,
    generation: u64,
}

impl SimFile {
    /// Runs `with` on the file, unless the process that opened it has ended.
    fn with<T>(&self, with: impl FnOnce(&mut State, usize) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state.lock();
        if state.generation != self.generation {
            return Err(io::Error::other("the process that opened this file has ended"));
        }
        with(&mut state, self.id)
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EBADF)) }
    }
}

fn inode(state: &mut State, id: usize) -> io::Result<&mut Inode> {
    state.inodes.get_mut(id).ok_or_else(eio)
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.with(|state, id| {
            state.counts.reads += 1;
            state.live(false)?;
            if state.is_bad(id, |bad| bad.reads) {
                return Err(eio());
            }
            let position = usize::try_from(position).map_err(io::Error::other)?;
            let content = inode(state, id)?.live().get(position..).unwrap_or_default();
            let count = content.len().min(buf.len());
            if let (Some(to), Some(from)) = (buf.get_mut(..count), content.get(..count)) {
                to.copy_from_slice(from);
            }
            Ok(count)
        })
    }

    fn write_all_at(&self, bufs: &mut [io::IoSlice<'_>], position: u64) -> io::Result<()> {
        self.check_writable()?;
        let bytes: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        self.with(|state, id| {
            state.counts.writes += 1;
            state.live(true)?;
            let position = usize::try_from(position).map_err(io::Error::other)?;
            let free = usize::try_from(state.free_bytes()).unwrap_or(usize::MAX);
            let fails = strikes(&mut state.faults.fail_write_in) || state.is_bad(id, |bad| bad.writes);
            let part = state.random.index(bytes.len() + 1);
            let now_ms = state.now_ms();
            let inode = inode(state, id)?;
            inode.modified_ms = now_ms;
            let fits = inode.room().saturating_add(free).saturating_sub(position).min(bytes.len());
            let count = if fails { part.min(fits) } else { fits };
            if count > 0 {
                let written = bytes.get(..count).unwrap_or_default();
                inode.write(position, written);
                state.note(&DiskEvent::Write { file: id, position, len: count, digest: digest(written) });
            }
            match (fails, count < bytes.len()) {
                (true, _) => Err(eio()),
                (false, true) => Err(state.full()),
                (false, false) => Ok(()),
            }
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.with(|state, id| {
            state.live(true)?;
            if strikes(&mut state.faults.fail_set_len_in) {
                return Err(eio());
            }
            state.note(&DiskEvent::SetLen { file: id, len });
            let now_ms = state.now_ms();
            let inode = inode(state, id)?;
            inode.modified_ms = now_ms;
            inode.set_len(usize::try_from(len).map_err(io::Error::other)?);
            Ok(())
        })
    }

    fn set_modified(&self, modified_ms: i64) -> io::Result<()> {
        self.with(|state, id| {
            inode(state, id)?.modified_ms = modified_ms;
            Ok(())
        })
    }

    fn path(&self) -> Option<PathBuf> {
        let named = |state: &mut State, id| {
            let found = state.names.files().find(|(_, file)| *file == id);
            Ok(found.map(|(path, _)| path.to_owned()))
        };
        self.with(named).ok().flatten()
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|state, id| Ok(inode(state, id)?.live().len() as u64))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|state, id| {
            state.counts.syncs += 1;
            state.live(true)?;
            assert!(!state.is_bad(id, |bad| bad.panics), "a panic that a test asked for");
            let fails = strikes(&mut state.faults.fail_sync_in) || state.is_bad(id, |bad| bad.syncs);
            state.note(&DiskEvent::Sync { file: id });
            let inode = inode(state, id)?;
            if fails {
                inode.lose_sync();
                return Err(eio());
            }
            inode.sync();
            Ok(())
        })
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.with(|state, id| {
            state.live(true)?;
            let free = state.free_bytes();
            let inode = inode(state, id)?;
            if len.saturating_sub(inode.room() as u64) > free {
                return Err(state.full());
            }
            inode.reserve(usize::try_from(len).map_err(io::Error::other)?);
            Ok(())
        })
    }

    fn is_cached(&self, _: u64, _: u64) -> bool {
        self.with(|state, id| Ok(!state.is_bad(id, |bad| bad.reads))).unwrap_or(true)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod world_tests;
