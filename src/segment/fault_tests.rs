//! Disks that fail: nothing half done, nothing acknowledged that is not there.

use std::any::Any;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use super::tests::{append, batch_of, place, read_all};
use super::*;
use crate::env::real::RealDisk;
use crate::env::{DirEntry, Disk, File, OpenMode, Space};
use crate::protocol::batch::batches;
use crate::protocol::builder::BatchOptions;

/// What goes wrong, as long as it is set.
#[derive(Debug, Default)]
struct Faults {
    /// The error of writes (errno); half of the bytes are written all the same.
    write: AtomicI32,
    set_len: AtomicBool,
    sync: AtomicBool,
}

#[derive(Debug)]
struct FaultyDisk(Arc<Faults>);

#[derive(Debug)]
struct FaultyFile(Arc<dyn File>, Arc<Faults>);

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(FaultyFile(RealDisk.open(path, mode)?, self.0.clone())))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        RealDisk.list(dir)
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        RealDisk.space(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        RealDisk.lock(path)
    }
}

impl File for FaultyFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_at(buf, position)
    }

    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let error = self.1.write.load(Ordering::Relaxed);
        if error == 0 {
            return self.0.write_all_at(bufs, position);
        }
        let whole: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        self.0.write_all_at(&mut [IoSlice::new(&whole[..whole.len() / 2])], position)?;
        Err(io::Error::from_raw_os_error(error))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.1.set_len.load(Ordering::Relaxed) { Err(io_error()) } else { self.0.set_len(len) }
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.1.sync.load(Ordering::Relaxed) { Err(io_error()) } else { self.0.sync_data() }
    }

    fn is_cached(&self, position: u64, len: u64) -> bool {
        self.0.is_cached(position, len)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_fd()
    }
}

fn io_error() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

fn open(dir: &Path) -> (Log, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let disk = Arc::new(FaultyDisk(faults.clone()));
    let config = LogConfig { segment_bytes: 2000, index_interval_bytes: 200, ..LogConfig::default() };
    (Log::open(LogPlace { disk, ..place(dir) }, config).unwrap(), faults)
}

fn batch(base_sequence: i32) -> BytesMut {
    let options =
        BatchOptions { producer_id: 1, producer_epoch: 0, base_sequence, ..BatchOptions::default() };
    batch_of(2, 60, 5, options)
}

#[test]
fn a_failed_append_leaves_nothing_behind_and_may_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let (log, faults) = open(dir.path());
    let mut sequence = 0;
    // Long enough to fail at rolls, too.
    for round in 0..40 {
        faults.write.store(if round % 2 == 0 { libc::ENOSPC } else { libc::EIO }, Ordering::Relaxed);
        let (end, size) = (log.log_end_offset(), log.size_bytes());
        for _ in 0..2 {
            match append(&log, batch(sequence)) {
                Err(AppendError::StorageFull) => assert_eq!(round % 2, 0),
                Err(AppendError::Io(_)) => assert_eq!(round % 2, 1),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((log.log_end_offset(), log.size_bytes()), (end, size));
        let read = read_all(&log, 0, 1 << 20);
        assert_eq!(batches(&read).count(), usize::try_from(round).unwrap());
        faults.write.store(0, Ordering::Relaxed);
        let appended = append(&log, batch(sequence)).unwrap();
        assert!(!appended.duplicate && appended.first_offset == end);
        assert!(append(&log, batch(sequence)).unwrap().duplicate);
        sequence += 2;
    }
    assert!(log.segment_count() > 2 && !log.is_failed());
    let whole = read_all(&log, 0, 1 << 20);
    drop(log);
    let (log, _) = open(dir.path());
    assert_eq!(read_all(&log, 0, 1 << 20), whole);
}

#[test]
fn a_write_that_cannot_be_undone_takes_the_log_offline_until_it_is_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let (log, faults) = open(dir.path());
    append(&log, batch(0)).unwrap();
    faults.write.store(libc::EIO, Ordering::Relaxed);
    faults.set_len.store(true, Ordering::Relaxed);
    assert!(matches!(append(&log, batch(2)), Err(AppendError::Io(_))));
    assert!(log.is_failed());
    assert!(matches!(append(&log, batch(2)), Err(AppendError::Failed)));
    // What was there before is as it was.
    let read = log.read(Offset(0), 9, Offset(2), true).unwrap();
    assert_eq!(batches(&bytes_of(&read)).count(), 1);
    assert!(matches!(log.read(Offset(2), 9, Offset(2), true), Err(ReadError::Failed)));
    drop(log);
    let (log, _) = open(dir.path());
    assert_eq!(log.log_end_offset(), Offset(2));
    assert_eq!(append(&log, batch(2)).unwrap().first_offset, Offset(2));
}

#[test]
fn a_failed_sync_is_not_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (log, faults) = open(dir.path());
    append(&log, batch(0)).unwrap();
    faults.sync.store(true, Ordering::Relaxed);
    assert!(log.flush().is_err());
    faults.sync.store(false, Ordering::Relaxed);
    // The next one might succeed although the pages of the first are lost.
    assert!(log.flush().is_err() && log.is_failed());
    assert_eq!(log.recovery_point(), Offset(0));
    assert!(matches!(log.read(Offset(0), 9, Offset(2), true), Err(ReadError::Failed)));
}

#[test]
fn what_was_synced_stays_readable_after_a_failed_sync() {
    let dir = tempfile::tempdir().unwrap();
    let (log, faults) = open(dir.path());
    append(&log, batch(0)).unwrap();
    log.flush().unwrap();
    append(&log, batch(2)).unwrap();
    faults.sync.store(true, Ordering::Relaxed);
    assert!(log.flush().is_err());
    let end = log.log_end_offset();
    let read = log.read(Offset(0), 1 << 20, end, true).unwrap();
    assert_eq!(batches(&bytes_of(&read)).count(), 1);
    assert_eq!(log.offset_for_timestamp(0).unwrap().unwrap().offset, Offset(0));
    for from in [2, 3, 4] {
        assert!(matches!(log.read(Offset(from), 9, end, true), Err(ReadError::Failed)));
    }
    // Nobody knows whether there is something as late as that.
    assert!(log.offset_for_timestamp(1 << 40).is_err());
    assert!(matches!(append(&log, batch(4)), Err(AppendError::Failed)));
}

fn bytes_of(slice: &LogSlice) -> Vec<u8> {
    let mut bytes = vec![0; slice.len];
    assert_eq!(slice.file.read_at(&mut bytes, slice.position).unwrap(), slice.len);
    bytes
}
