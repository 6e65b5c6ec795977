//! The segment that takes the place of others: its files are written beside theirs, as `*.cleaned`.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use super::round::{Pace, Stop};
use crate::env::{File, OpenMode};
use crate::protocol::batch::BatchHeader;
use crate::segment::aborted::{self, AbortedIndex, AbortedTransaction};
use crate::segment::file_cache::FileKind;
use crate::segment::index::{self, Entry, Index};
use crate::segment::segment_file::{Files, Segment, State, file_name};

pub(super) const CLEANED: &str = ".cleaned";

/// A segment under way.
pub(super) struct CleanedSegment<'a> {
    files: &'a Files,
    base_offset: i64,
    opened: Vec<(FileKind, Arc<dyn File>)>,
    state: State,
    bytes_since_entry: u64,
    index_interval_bytes: u32,
    /// What is not in the file yet.
    buffer: Vec<u8>,
    written: u64,
    write_bytes: usize,
}

/// The path of a file of a segment that is not in its place yet.
pub(super) fn path_of(files: &Files, base_offset: i64, kind: FileKind, ending: &str) -> PathBuf {
    files.path(&format!("{}{ending}", file_name(base_offset, kind.extension())))
}

impl<'a> CleanedSegment<'a> {
    pub(super) fn create(
        files: &'a Files,
        base_offset: i64,
        index_interval_bytes: u32,
        write_bytes: usize,
    ) -> io::Result<Self> {
        let mut cleaned = Self {
            files,
            base_offset,
            opened: Vec::new(),
            state: State::new(0, base_offset),
            bytes_since_entry: 0,
            index_interval_bytes,
            buffer: Vec::new(),
            written: 0,
            write_bytes: write_bytes.max(4096),
        };
        // These also where no entry comes: they take the names of others.
        for kind in [FileKind::Log, FileKind::Index, FileKind::TimeIndex] {
            cleaned.create_file(kind)?;
        }
        Ok(cleaned)
    }

    fn create_file(&mut self, kind: FileKind) -> io::Result<()> {
        let path = path_of(self.files, self.base_offset, kind, CLEANED);
        let file = self.files.disk.open(&path, OpenMode::Create).and_then(|file| {
            file.set_len(0)?;
            Ok(file)
        });
        self.opened.push((kind, file.inspect_err(|_| self.discard())?));
        Ok(())
    }

    fn file(&self, kind: FileKind) -> io::Result<&Arc<dyn File>> {
        let found = self.opened.iter().find(|(opened, _)| *opened == kind);
        found.map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Adds one batch; `bytes` are all of it.
    pub(super) fn push(&mut self, header: &BatchHeader, bytes: &[u8], pace: Pace<'_>) -> Result<(), Stop> {
        let position = self.written + self.buffer.len() as u64;
        let is_reachable = i32::try_from(position + bytes.len() as u64).is_ok()
            && i32::try_from(header.last_offset().saturating_sub(self.base_offset)).is_ok();
        if !is_reachable {
            return Err(io::Error::other("the compacted segment is too large").into());
        }
        let interval = self.index_interval_bytes;
        self.state.index_batch(self.base_offset, header, position, &mut self.bytes_since_entry, interval);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= self.write_bytes {
            self.write(pace)?;
        }
        Ok(())
    }

    fn write(&mut self, pace: Pace<'_>) -> Result<(), Stop> {
        self.file(FileKind::Log)?.write_all_at(&mut [IoSlice::new(&self.buffer)], self.written)?;
        let count = self.buffer.len() as u64;
        self.written += count;
        self.buffer.clear();
        if self.buffer.capacity() > 2 * self.write_bytes {
            self.buffer = Vec::new();
        }
        if self.state.offsets.is_tail_full() || self.state.times.is_tail_full() {
            self.write_indexes()?;
        }
        pace(count)
    }

    fn write_indexes(&mut self) -> io::Result<()> {
        fn write<E: Entry>(file: &dyn File, index: &mut Index<E>) -> io::Result<()> {
            if let Some((bytes, position)) = index.unwritten() {
                index::write(file, &bytes, position)?;
                index.written();
            }
            Ok(())
        }
        let (offsets, times) = (self.file(FileKind::Index)?.clone(), self.file(FileKind::TimeIndex)?.clone());
        write(&*offsets, &mut self.state.offsets)?;
        write(&*times, &mut self.state.times)
    }

    /// What its index of aborted transactions is to hold.
    pub(super) fn set_aborted(&mut self, kept: &[AbortedTransaction]) {
        self.state.aborted = AbortedIndex::unwritten(kept.to_vec());
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Writes and syncs what is left, and gives the segment, which ends at `next_offset`.
    pub(super) fn finish(
        mut self,
        next_offset: i64,
        written_ms: i64,
        pace: Pace<'_>,
    ) -> Result<Segment, Stop> {
        let finished = self.finish_files(pace);
        if let Err(stop) = finished {
            self.discard();
            return Err(stop);
        }
        // Records without timestamps are as old as what they were copied from.
        for (kind, file) in &self.opened {
            if *kind == FileKind::Log
                && let Err(error) = file.set_modified(written_ms)
            {
                tracing::debug!(%error, "the time of a compacted segment could not be kept");
            }
        }
        let mut state = self.state;
        state.found_end(self.written, next_offset);
        Ok(Segment::pinned(self.files, self.base_offset, state, written_ms, self.opened))
    }

    fn finish_files(&mut self, pace: Pace<'_>) -> Result<(), Stop> {
        self.write(pace)?;
        self.state.push_time(self.base_offset);
        self.write_indexes()?;
        if let Some((bytes, position)) = self.state.aborted.to_write() {
            self.create_file(FileKind::TxnIndex)?;
            aborted::write(&**self.file(FileKind::TxnIndex)?, &bytes, position)?;
            self.state.aborted.written();
        }
        self.opened.iter().try_for_each(|(_, file)| file.sync_data())?;
        Ok(())
    }

    /// Removes the files.
    pub(super) fn discard(&self) {
        discard(self.files, self.base_offset, &[CLEANED]);
    }
}

/// Removes files that never got their names; false when one is still there.
pub(super) fn discard(files: &Files, base_offset: i64, endings: &[&str]) -> bool {
    let mut is_done = true;
    for ending in endings {
        for kind in FileKind::ALL {
            let path = path_of(files, base_offset, kind, ending);
            match files.disk.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "a file of a compaction could not be removed");
                    is_done = false;
                }
                _ => {}
            }
        }
    }
    is_done
}
