//! The leader epochs of a log, and what of them is in its file (`leader-epoch-checkpoint`).
//!
//! An epoch that has no record yet is not worth a write: a start, which gives every partition a new one, would
//! cost idle partitions a file each. With its first record the file is noted, unsynced (what a power cut takes of it,
//! recovery reads out of the batches), and written durably before anything relies on it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::leader_epochs::{self, LeaderEpochs};
use super::leadership::EpochBack;
use super::segment_file::Files;
use crate::env::OpenMode;

#[derive(Debug)]
pub(super) struct EpochFile {
    epochs: RwLock<LeaderEpochs>,
    /// The epochs changed since they were written.
    is_unwritten: AtomicBool,
    /// The file differs from the epochs in some without a record: they are written once there is one.
    awaits_record: AtomicBool,
    /// The file holds the epochs, though not durably.
    is_noted: AtomicBool,
    /// Held by who writes the file.
    writing: Mutex<()>,
}

impl EpochFile {
    /// With the epochs of a log that was just opened: whether the file lacks some of its records, or some without any.
    pub(super) fn new(epochs: LeaderEpochs, is_unwritten: bool, awaits_record: bool) -> Self {
        Self {
            epochs: RwLock::new(epochs),
            is_unwritten: AtomicBool::new(is_unwritten),
            awaits_record: AtomicBool::new(awaits_record),
            is_noted: AtomicBool::new(false),
            writing: Mutex::default(),
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, LeaderEpochs> {
        self.epochs.read()
    }

    /// An epoch begins at `offset` of a log that ends at `end`.
    ///
    /// # Errors
    /// A later one has begun.
    pub(super) fn assign(&self, epoch: i32, offset: i64, end: i64) -> Result<(), EpochBack> {
        let is_latest = |epochs: &LeaderEpochs| {
            epochs.latest().is_some_and(|latest| latest.epoch == epoch && offset >= latest.start_offset)
        };
        if is_latest(&self.epochs.read()) {
            return Ok(());
        }
        let mut epochs = self.epochs.write();
        let with_records = epochs.count_below(end);
        if epochs.assign(epoch, offset)? {
            self.is_noted.store(false, Ordering::Release);
            let awaits_record = offset >= end && epochs.count_below(end) == with_records;
            let changed = if awaits_record { &self.awaits_record } else { &self.is_unwritten };
            changed.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Records were appended: what waited for one is to be written, and is noted.
    pub(super) fn appended(&self, files: &Files) -> io::Result<()> {
        if self.awaits_record.load(Ordering::Acquire) && self.awaits_record.swap(false, Ordering::AcqRel) {
            self.is_unwritten.store(true, Ordering::Release);
        }
        match self.is_unwritten.load(Ordering::Acquire) && !self.is_noted.swap(true, Ordering::AcqRel) {
            true => self.note(files),
            false => Ok(()),
        }
    }

    fn note(&self, files: &Files) -> io::Result<()> {
        let _one_at_a_time = self.writing.lock();
        let content = self.epochs.read().encode();
        let path = files.path(leader_epochs::FILE_NAME);
        let temporary = files.path(leader_epochs::TEMPORARY_FILE_NAME);
        let file = files.disk.open(&temporary, OpenMode::Create)?;
        file.set_len(0)?;
        file.write_all_at(&mut [io::IoSlice::new(content.as_bytes())], 0)?;
        files.disk.rename(&temporary, &path)
    }

    /// Writes the epochs, durably, if they changed.
    pub(super) fn write(&self, files: &Files) -> io::Result<()> {
        let _one_at_a_time = self.writing.lock();
        if self.is_unwritten.swap(false, Ordering::AcqRel) {
            let content = self.epochs.read().encode();
            let path = files.path(leader_epochs::FILE_NAME);
            files.disk.write_atomic(&path, content.as_bytes()).inspect_err(|_| {
                self.is_unwritten.store(true, Ordering::Release);
            })?;
        }
        Ok(())
    }

    /// The records from `end` on were cut off.
    pub(super) fn cut(&self, end: i64) {
        if self.epochs.write().truncate_to(end) {
            self.is_unwritten.store(true, Ordering::Release);
        }
    }

    /// Forgets the epochs without a record in a log that ends at `end`.
    pub(super) fn forget_without_records(&self, end: i64) {
        if self.epochs.write().truncate_to(end) {
            self.awaits_record.store(true, Ordering::Release);
        }
    }

    /// The log begins at `offset` from now on.
    pub(super) fn advance_start(&self, offset: i64) {
        if self.epochs.write().advance_start(offset) {
            self.is_unwritten.store(true, Ordering::Release);
        }
    }

    /// The log is empty.
    pub(super) fn clear(&self) {
        self.epochs.write().clear();
        self.is_unwritten.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_written_once_it_has_a_record() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::in_folder(dir.path());
        let written = || std::fs::read_to_string(dir.path().join(leader_epochs::FILE_NAME)).ok();
        let epochs = EpochFile::new(LeaderEpochs::default(), false, false);
        epochs.assign(1, 0, 0).unwrap();
        epochs.write(&files).unwrap();
        assert_eq!(written(), None, "a leadership without a record costs no write");
        epochs.appended(&files).unwrap();
        assert_eq!(written().as_deref(), Some("0\n1\n1 0\n"));
        epochs.assign(2, 10, 10).unwrap();
        epochs.forget_without_records(10);
        assert_eq!(epochs.read().latest().unwrap().epoch, 1);
        epochs.assign(3, 10, 10).unwrap();
        epochs.appended(&files).unwrap();
        assert_eq!(written().as_deref(), Some("0\n2\n1 0\n3 10\n"));
        epochs.cut(5);
        epochs.write(&files).unwrap();
        assert_eq!(written().as_deref(), Some("0\n1\n1 0\n"));
        assert!(epochs.assign(0, 7, 5).is_err(), "epochs never go back");
    }
}
