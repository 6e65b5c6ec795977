//! A compacted segment takes the place of others, so that a crash at any point leaves the old ones or
//! the new one.
//!
//! 1. `*.cleaned` (synced) become `*.swap`, the log first. While there is any `.cleaned`, the compaction counts as
//!    not done: the next start removes both. Once all are `.swap`, it counts as done.
//! 2. The old segments become `*.deleted`.
//! 3. `*.swap` get their names.
//!
//! At the next start, a `.swap` replaces every segment that begins within its offsets.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::cleaned::{CLEANED, discard, path_of};
use super::round::{Round, Stop};
use crate::env::{DirEntry, OpenMode};
use crate::segment::file_cache::FileKind;
use crate::segment::log::{Log, Writer};
use crate::segment::scan;
use crate::segment::segment_file::{Files, Segment, file_name, offset_of};

const SWAP: &str = ".swap";

impl Log {
    /// Puts `new` in the place of `old`, a run of the log's segments.
    pub(super) fn replace_segments(
        &self,
        round: &Round,
        old: &[Arc<Segment>],
        new: Segment,
    ) -> Result<(), Stop> {
        let base_offset = new.base_offset;
        // What is left of a `.swap` would be taken for done by the next start.
        let give_up = |stop| {
            if !discard(&self.files, base_offset, &[CLEANED, SWAP]) {
                self.fail("undoing a compaction", &io::Error::other("its files could not be removed"));
            }
            let _ = self.files.disk.sync_dir(&self.dir());
            Err(stop)
        };
        // Truncation, closing and removal wait.
        let _flushing = self.flushing.lock();
        if !round.is_valid(self) || self.place_of(old).is_none() {
            return give_up(Stop::Aborted);
        }
        for kind in FileKind::ALL {
            let [from, to] = [CLEANED, SWAP].map(|ending| path_of(&self.files, base_offset, kind, ending));
            match self.files.disk.rename(&from, &to) {
                Err(error) if !is_optional(kind, &error) => return give_up(error.into()),
                _ => {}
            }
        }
        if let Err(error) = self.files.disk.sync_dir(&self.dir()) {
            return give_up(error.into());
        }
        {
            let writer = self.lock_writer();
            // Retention may have taken some since, or the partition is being deleted.
            if !round.is_valid(self) || self.place_of(old).is_none() {
                return give_up(Stop::Aborted);
            }
            self.exchange(&writer, old, new).inspect_err(|error| self.fail("replacing segments", error))?;
        }
        // Should this be lost, the next start does it again.
        self.files.disk.sync_dir(&self.dir()).inspect_err(|error| self.fail("sync", error))?;
        Ok(())
    }

    /// Where `old` is among the segments, if all of it still is; never up to the last one.
    fn place_of(&self, old: &[Arc<Segment>]) -> Option<usize> {
        let segments = self.segments.read();
        let first = old.first()?;
        let at = segments.iter().position(|segment| Arc::ptr_eq(segment, first))?;
        let same = segments.get(at..at + old.len())?.iter().zip(old).all(|(a, b)| Arc::ptr_eq(a, b));
        (same && at + old.len() < segments.len()).then_some(at)
    }

    fn exchange(&self, writer: &Writer, old: &[Arc<Segment>], new: Segment) -> io::Result<()> {
        let due_ms = self.clock.now_ms().saturating_add(self.config().file_delete_delay_ms);
        let new = Arc::new(new);
        let Some(at) = self.place_of(old) else { return Ok(()) };
        // Readers find the new segment, which reads from open files, before any file changes its name.
        self.segments.write().splice(at..at + old.len(), [new.clone()]);
        for segment in old {
            segment.retire(&self.files);
            self.rename_away(segment.base_offset, due_ms)?;
        }
        for kind in FileKind::ALL {
            let from = path_of(&self.files, new.base_offset, kind, SWAP);
            let to = self.files.path(&file_name(new.base_offset, kind.extension()));
            match self.files.disk.rename(&from, &to) {
                Err(error) if is_optional(kind, &error) => {}
                other => other?,
            }
        }
        new.unpin();
        for segment in old.iter().filter(|segment| segment.base_offset != new.base_offset) {
            if writer.snapshot_offset != Some(segment.base_offset) {
                self.remove_file(self.files.path(&file_name(segment.base_offset, "snapshot")))?;
            }
        }
        self.is_dir_unsynced.store(true, Ordering::Release);
        Ok(())
    }
}

/// Without an aborted transaction there is no file for them.
fn is_optional(kind: FileKind, error: &io::Error) -> bool {
    kind == FileKind::TxnIndex && error.kind() == io::ErrorKind::NotFound
}

/// Finishes or drops the compactions that a crash cut short; returns whether there was one. `entries` are those of the
/// folder.
pub fn finish_swaps(files: &Files, entries: &[DirEntry]) -> io::Result<bool> {
    let dir = files.dir.read().clone();
    let names: Vec<&str> =
        entries.iter().filter(|entry| !entry.is_dir).map(|entry| entry.name.as_str()).collect();
    let with_ending = |ending: &'static str| {
        names.iter().filter_map(move |name| {
            let plain = name.strip_suffix(ending)?;
            let kind = FileKind::ALL.into_iter().find(|kind| offset_of(plain, kind.extension()).is_some())?;
            Some((offset_of(plain, kind.extension())?, kind, *name))
        })
    };
    let swaps: Vec<_> = with_ending(SWAP).collect();
    if swaps.is_empty() {
        return Ok(false);
    }
    // Compactions of one log come one after the other, so what is beside a `.cleaned` was not done. (Kafka splits
    // segments in the same way, into several at once: those above it were not done either.)
    let undone_from = with_ending(CLEANED).map(|(offset, ..)| offset).min().unwrap_or(i64::MAX);
    let mut done: BTreeMap<i64, Vec<FileKind>> = BTreeMap::new();
    for (offset, kind, name) in swaps {
        if offset >= undone_from {
            files.disk.remove_file(&dir.join(name))?;
        } else {
            done.entry(offset).or_default().push(kind);
        }
    }
    for (base_offset, kinds) in &done {
        if kinds.contains(&FileKind::Log) {
            let last_offset = last_offset_of(files, *base_offset)?;
            tracing::info!(log = %dir.display(), base_offset, last_offset, "a compaction that was cut short is finished");
            remove_replaced(files, &names, *base_offset, last_offset)?;
        }
    }
    // The old ones must not come back beside the new.
    files.disk.sync_dir(&dir)?;
    for (base_offset, kinds) in &done {
        for kind in kinds {
            let from = path_of(files, *base_offset, *kind, SWAP);
            files.disk.rename(&from, &files.path(&file_name(*base_offset, kind.extension())))?;
        }
    }
    files.disk.sync_dir(&dir)?;
    Ok(true)
}

/// The last offset of a segment that is not in its place yet.
fn last_offset_of(files: &Files, base_offset: i64) -> io::Result<i64> {
    let file = files.disk.open(&path_of(files, base_offset, FileKind::Log, SWAP), OpenMode::Read)?;
    let mut last_offset = base_offset;
    for batch in scan::many_headers(&*file, 0, file.len()?) {
        last_offset = batch?.header.last_offset();
    }
    Ok(last_offset)
}

/// Removes the segments that begin within the offsets of a finished compaction.
fn remove_replaced(files: &Files, names: &[&str], base_offset: i64, last_offset: i64) -> io::Result<()> {
    for name in names {
        let offset = FileKind::ALL.iter().find_map(|kind| offset_of(name, kind.extension()));
        if offset.is_some_and(|offset| (base_offset..=last_offset).contains(&offset)) {
            files.disk.remove_file(&files.path(name))?;
        }
    }
    Ok(())
}
