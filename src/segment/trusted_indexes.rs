//! Which of the index entries on disk a log goes on from when it is opened.
//!
//! Of a log that was closed, and of segments below the recovery point, indexes are as durable as the records: their
//! last entries are taken. Otherwise the files may be older than the log, or torn: every entry is held to the
//! batch that it names.

use std::io;

use super::file_cache::FileKind;
use super::index::{self, Entry, Index, OffsetEntry, TimeEntry};
use super::scan;
use super::segment_file::{Files, Found, file_name};
use crate::env::OpenMode;

/// A segment's two indexes.
pub(super) type Indexes = (Index<OffsetEntry>, Index<TimeEntry>);

/// The indexes as they are, if they fit the log, which gets an entry each `interval_bytes`.
pub(super) fn as_they_are(
    files: &Files,
    base: i64,
    found: &Found,
    interval_bytes: u32,
) -> io::Result<Option<Indexes>> {
    // Records may be without timestamps, and then there is nothing to enter.
    let times = match found.time_index_bytes {
        None => Index::default(),
        bytes => match last_entry::<TimeEntry>(files, base, FileKind::TimeIndex, bytes)? {
            Some(times) => times,
            None => return Ok(None),
        },
    };
    // A small segment may be without an entry, and without a file for them.
    let offsets = match found.index_bytes {
        None if found.log_bytes <= 2 * u64::from(interval_bytes) => Index::default(),
        bytes => match last_entry::<OffsetEntry>(files, base, FileKind::Index, bytes)? {
            Some(offsets) => offsets,
            None => return Ok(None),
        },
    };
    let fits = offsets.last().is_none_or(|last| u64::from(last.position) < found.log_bytes);
    Ok(fits.then_some((offsets, times)))
}

/// An index of a whole number of entries with its last one; `None` where that cannot be right.
fn last_entry<E: Entry>(
    files: &Files,
    base: i64,
    kind: FileKind,
    bytes: Option<u64>,
) -> io::Result<Option<Index<E>>> {
    let Some(bytes) = bytes else { return Ok(None) };
    let Ok(entries) = u32::try_from(bytes / E::SIZE as u64) else { return Ok(None) };
    if bytes % E::SIZE as u64 != 0 {
        return Ok(None);
    }
    if entries == 0 {
        return Ok(Some(Index::default()));
    }
    let file = files.open(base, kind, OpenMode::ReadWrite)?;
    let (before, last) = index::last_two::<E>(&*file, entries)?;
    // A crash may leave a tail of zeros, and Kafka preallocates one.
    let grows = match (before, last) {
        (Some(before), Some(last)) => before.key() < last.key(),
        (None, Some(_)) => entries == 1,
        (_, None) => false,
    };
    Ok(grows.then(|| Index::on_file(entries, last)))
}

/// The part of the indexes that belongs to offsets below the recovery point, every entry held to the batch that it
/// names.
pub(super) fn below(files: &Files, base: i64, found: &Found, recovery_point: i64) -> io::Result<Indexes> {
    let nothing = || (Index::default(), Index::default());
    if recovery_point <= base || found.log_bytes == 0 {
        return Ok(nothing());
    }
    let mut offsets: Vec<OffsetEntry> = read_entries(files, base, FileKind::Index, found.index_bytes)?;
    let mut times: Vec<TimeEntry> = read_entries(files, base, FileKind::TimeIndex, found.time_index_bytes)?;
    if offsets.is_empty() || times.is_empty() {
        return Ok(nothing());
    }
    let file = files.open(base, FileKind::Log, OpenMode::ReadWrite)?;
    let batch_at = |position: u64| scan::headers(&*file, position, found.log_bytes).next().transpose();
    let (mut kept, mut last) = (0, None);
    for entry in &offsets {
        let grows = last.is_none_or(|last: OffsetEntry| {
            last.relative_offset < entry.relative_offset && last.position < entry.position
        });
        let offset = base + i64::from(entry.relative_offset);
        if !grows || offset >= recovery_point {
            break;
        }
        match batch_at(u64::from(entry.position)) {
            Ok(Some(batch)) if batch.header.last_offset() == offset => {}
            Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(error),
            _ => break,
        }
        (kept, last) = (kept + 1, Some(*entry));
    }
    offsets.truncate(kept);
    let (mut kept, mut last) = (0, None);
    for entry in &times {
        let grows = last.is_none_or(|last: TimeEntry| {
            last.timestamp < entry.timestamp && last.relative_offset < entry.relative_offset
        });
        let offset = base + i64::from(entry.relative_offset);
        let before = offsets.partition_point(|other| other.relative_offset <= entry.relative_offset);
        let start = before.checked_sub(1).and_then(|at| offsets.get(at)).map_or(0, |other| other.position);
        if !grows || offsets.last().is_none_or(|other| entry.relative_offset > other.relative_offset) {
            break;
        }
        let batch = scan::headers(&*file, u64::from(start), found.log_bytes)
            .find(|batch| batch.as_ref().map_or(true, |batch| batch.header.last_offset() >= offset))
            .transpose();
        match batch {
            Ok(Some(batch))
                if batch.header.last_offset() == offset && batch.header.max_timestamp == entry.timestamp => {}
            Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(error),
            _ => break,
        }
        (kept, last) = (kept + 1, Some(*entry));
    }
    times.truncate(kept);
    // Later time entries may have been lost: only up to the last one the largest timestamp is known.
    let Some(last_time) = last else { return Ok(nothing()) };
    offsets.truncate(offsets.partition_point(|entry| entry.relative_offset <= last_time.relative_offset));
    let (count, time_count) = (offsets.len() as u32, times.len() as u32);
    Ok((Index::on_file(count, offsets.last().copied()), Index::on_file(time_count, Some(last_time))))
}

fn read_entries<E: Entry>(
    files: &Files,
    base: i64,
    kind: FileKind,
    bytes: Option<u64>,
) -> io::Result<Vec<E>> {
    if bytes.is_none() {
        return Ok(Vec::new());
    }
    let content = files.disk.read(&files.path(&file_name(base, kind.extension())))?;
    Ok(content.chunks_exact(E::SIZE).filter_map(E::decode).collect())
}
