//! Opening a log: trust what was synced, check the rest, cut where it is torn.
//!
//! 1. Compactions are finished or dropped (see [`super::cleaner`]). Leftovers go: files on their way out,
//!    indexes without a log.
//! 2. Segments below the recovery point are taken as they are. Of the others every batch is checked
//!    from the last index entry below the recovery point on; at the first byte that is not part of a whole
//!    and sound batch the file is cut, and the segments after it go.
//! 3. Indexes of what was checked are made again, as are those that do not fit their log.
//! 4. Producers: the newest snapshot, and the batches after it. Epochs: cut at the log's end, and
//!    extended by what the batches say.
//!
//! A log that was closed is not checked: only the few batches after its last index entry are looked at,
//! to find its end.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::LogConfig;
use super::cleaner::finish_swaps;
use super::file_cache::FileKind;
use super::index::{self, Entry, Index, OffsetEntry, TimeEntry};
use super::leader_epochs::{self, LeaderEpochs};
use super::log::{Log, LogPlace, Writer};
use super::producer_state::ProducerState;
use super::room::Room;
use super::scan;
use super::segment_file::{Files, Segment, State, file_name, offset_of};
use crate::env::OpenMode;

/// Endings of files that a crash may leave behind.
const LEFTOVERS: [&str; 3] = [".deleted", ".cleaned", ".tmp"];

/// A segment's files as the folder lists them.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    log_bytes: u64,
    index_bytes: Option<u64>,
    time_index_bytes: Option<u64>,
}

pub fn open(place: LogPlace, config: LogConfig) -> io::Result<Log> {
    let files = Files {
        log: AtomicU64::new(place.cache.next_log()),
        disk: place.disk.clone(),
        cache: place.cache.clone(),
        dir: RwLock::new(place.dir.clone()),
    };
    finish_swaps(&files)?;
    let (mut found, mut snapshots, has_epochs) = list(&files)?;
    remove_empty_segments(&files, &mut found)?;
    let first = found.keys().next().copied();
    let start = place.log_start_offset.map_or(0, |offset| offset.0).max(first.unwrap_or(0)).max(0);
    let recovery_point = place.recovery_point.map_or(0, |offset| offset.0);
    let was_closed = place.was_closed;
    let read = read_epochs(&files, has_epochs)?;
    let are_epochs_lost = read.is_none();
    let mut epochs = read.unwrap_or_default();
    let written_epochs = epochs.clone();
    if !was_closed {
        // What lies above is read anyway, and says when its epochs began. The file may tell of an end
        // of the log that has been cut off since.
        epochs.truncate_to(recovery_point.max(start + 1));
    }

    let mut opener = Opener {
        files: &files,
        config: &config,
        created_ms: place.clock.now_ms(),
        epochs: &mut epochs,
        bytes_since_entry: 0,
        recovery_point: if was_closed { i64::MAX } else { recovery_point },
        first_dirty: place.first_dirty_offset.map_or(-1, |offset| offset.0),
    };
    let mut segments: Vec<Arc<Segment>> = Vec::new();
    let mut is_torn = false;
    let bases: Vec<i64> = found.keys().copied().collect();
    for (at, (&base, found)) in found.iter().enumerate() {
        if is_torn {
            tracing::warn!(log = %files.dir.read().display(), base, "a segment after a torn one is removed");
            remove_segment(&files, base)?;
            continue;
        }
        let next = bases.get(at + 1).copied();
        let (segment, torn) = opener.segment(base, next, found)?;
        segment.are_indexes_unsynced.store(!was_closed, Ordering::Release);
        is_torn = torn;
        segments.push(Arc::new(segment));
    }
    let bytes_since_entry = opener.bytes_since_entry;
    // Offsets below the log start offset were given out: they must not be given again.
    if segments.last().is_some_and(|last| last.next_offset() < start) {
        tracing::warn!(log = %place.dir.display(), start, "the log ends before its start; it begins anew there");
        segments.drain(..).try_for_each(|segment| remove_segment(&files, segment.base_offset))?;
    }
    if segments.is_empty() {
        files.open(start, FileKind::Log, OpenMode::Create)?;
        segments.push(Arc::new(Segment::new(&files, start, State::new(0, start), place.clock.now_ms())));
    }
    let end = segments.last().map_or(start, |segment| segment.next_offset());
    // A segment that others follow ends where the next begins.
    for pair in segments.windows(2) {
        pair[0].state.write().next_offset = pair[1].base_offset;
    }
    if are_epochs_lost {
        epochs = epochs_of_batches(&files, &segments)?;
    }
    epochs.truncate_to(end.max(start + 1));
    epochs.advance_start(start);
    let are_epochs_unwritten = epochs != written_epochs;

    remove_snapshots_beyond(&files, &mut snapshots, end)?;
    let (producers, snapshot_offset) = recover_producers(&files, &segments, snapshots, start, end)?;
    let recovered_to = if was_closed { end } else { recovery_point.clamp(start, end) };
    Ok(Log {
        files,
        clock: place.clock,
        config: RwLock::new(Arc::new(config)),
        segments: RwLock::new(segments),
        epochs: RwLock::new(epochs),
        log_start_offset: AtomicI64::new(start),
        log_end_offset: AtomicI64::new(end),
        recovery_point: AtomicI64::new(recovered_to),
        is_failed: AtomicBool::new(false),
        is_closed: AtomicBool::new(false),
        write_error_told_ms: AtomicI64::new(i64::MIN),
        queue: Mutex::default(),
        writer: Mutex::new(Writer {
            producers,
            bytes_since_entry,
            first_timestamp: None,
            snapshot_offset,
            room: Room::default(),
        }),
        flushing: Mutex::new(()),
        checkpointed_end: AtomicI64::new(end),
        is_dir_unsynced: AtomicBool::new(!was_closed),
        are_epochs_unwritten: AtomicBool::new(are_epochs_unwritten),
        are_epochs_noted: AtomicBool::new(false),
        cleaning: Mutex::default(),
        truncations: AtomicU64::new(0),
        first_dirty_offset: AtomicI64::new(place.first_dirty_offset.map_or(-1, |offset| offset.0)),
        is_uncleanable: AtomicBool::new(false),
        removals: Mutex::default(),
    })
}

/// Removes the files of segments without a batch between others. A roll that failed (on a full disk) leaves
/// one, and the segment before it goes on beyond its base offset. (When a power cut took its batches, the one
/// before it does not reach the next, which shows as a gap.)
fn remove_empty_segments(files: &Files, found: &mut BTreeMap<i64, Found>) -> io::Result<()> {
    let ends = [found.keys().next().copied(), found.keys().next_back().copied()];
    let is_left_over = |base: i64, segment: &Found| segment.log_bytes == 0 && !ends.contains(&Some(base));
    let empty: Vec<i64> =
        found.iter().filter(|(base, segment)| is_left_over(**base, segment)).map(|(base, _)| *base).collect();
    for base in empty {
        remove_segment(files, base)?;
        found.remove(&base);
    }
    Ok(())
}

/// Offsets of snapshot files.
type Snapshots = BTreeSet<i64>;

/// Lists the folder, and removes what is left over.
fn list(files: &Files) -> io::Result<(BTreeMap<i64, Found>, Snapshots, bool)> {
    let dir = files.dir.read().clone();
    let (found, snapshots, others) = list_segments(files)?;
    let mut has_epochs = false;
    for name in others {
        let orphan = offset_of(&name, "index").or(offset_of(&name, "timeindex")).is_some();
        if orphan || LEFTOVERS.iter().any(|ending| name.ends_with(ending)) {
            files.disk.remove_file(&dir.join(name))?;
        } else if name == leader_epochs::FILE_NAME {
            has_epochs = true;
        }
    }
    Ok((found, snapshots, has_epochs))
}

/// The segments and snapshots of the folder, and the names of all other files.
fn list_segments(files: &Files) -> io::Result<(BTreeMap<i64, Found>, Snapshots, Vec<String>)> {
    let entries = files.disk.list(&files.dir.read())?;
    let mut found: BTreeMap<i64, Found> = BTreeMap::new();
    let mut snapshots = Snapshots::new();
    for entry in entries.iter().filter(|entry| !entry.is_dir) {
        if let Some(base) = offset_of(&entry.name, "log") {
            found.entry(base).or_default().log_bytes = entry.len;
        } else if let Some(offset) = offset_of(&entry.name, "snapshot") {
            snapshots.insert(offset);
        }
    }
    let mut others = Vec::new();
    for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
        let name = entry.name.as_str();
        let (index, time_index) = (offset_of(name, "index"), offset_of(name, "timeindex"));
        let of_segment = index.or(time_index).and_then(|base| found.get_mut(&base));
        match of_segment {
            Some(segment) if index.is_some() => segment.index_bytes = Some(entry.len),
            Some(segment) => segment.time_index_bytes = Some(entry.len),
            None if offset_of(name, "log").or(offset_of(name, "snapshot")).is_none() => {
                others.push(entry.name)
            }
            None => {}
        }
    }
    Ok((found, snapshots, others))
}

fn remove_snapshots_beyond(files: &Files, snapshots: &mut Snapshots, end: i64) -> io::Result<()> {
    let beyond = snapshots.split_off(&(end + 1));
    for offset in &beyond {
        files.disk.remove_file(&files.path(&file_name(*offset, "snapshot")))?;
    }
    // They must not come back beside what is appended now.
    if beyond.is_empty() { Ok(()) } else { files.disk.sync_dir(&files.dir.read()) }
}

/// The epochs that the batches tell of.
fn epochs_of_batches(files: &Files, segments: &[Arc<Segment>]) -> io::Result<LeaderEpochs> {
    let mut epochs = LeaderEpochs::default();
    for segment in segments.iter().filter(|segment| !segment.is_empty()) {
        let file = segment.log_file(files)?;
        for batch in scan::many_headers(&*file, 0, segment.len()) {
            let header = batch?.header;
            if epochs.latest().is_none_or(|latest| latest.epoch < header.partition_leader_epoch) {
                epochs.assign(header.partition_leader_epoch, header.base_offset);
            }
        }
    }
    Ok(epochs)
}

/// The epochs that the file tells of; `None` when it cannot be read.
fn read_epochs(files: &Files, exists: bool) -> io::Result<Option<LeaderEpochs>> {
    if !exists {
        return Ok(Some(LeaderEpochs::default()));
    }
    let path = files.path(leader_epochs::FILE_NAME);
    let content = files.disk.read(&path)?;
    let epochs = std::str::from_utf8(&content).ok().and_then(LeaderEpochs::decode);
    if epochs.is_none() {
        tracing::warn!(path = %path.display(), "the leader epochs cannot be read; they are made again");
    }
    Ok(epochs)
}

fn remove_segment(files: &Files, base: i64) -> io::Result<()> {
    files.forget(base);
    for extension in ["log", "index", "timeindex"] {
        let path = files.path(&file_name(base, extension));
        if files.disk.exists(&path) {
            files.disk.remove_file(&path)?;
        }
    }
    // It must not come back beside what is appended now.
    files.disk.sync_dir(&files.dir.read())
}

struct Opener<'a> {
    files: &'a Files,
    config: &'a LogConfig,
    created_ms: i64,
    epochs: &'a mut LeaderEpochs,
    /// Of the last segment opened.
    bytes_since_entry: u64,
    recovery_point: i64,
    /// What lies below was compacted.
    first_dirty: i64,
}

impl Opener<'_> {
    /// Opens one segment; returns whether it was torn.
    fn segment(&mut self, base: i64, next: Option<i64>, found: &Found) -> io::Result<(Segment, bool)> {
        let mut state = State::new(found.log_bytes, next.unwrap_or(base));
        self.bytes_since_entry = 0;
        if found.log_bytes == 0 && next.is_none() {
            self.reset_indexes(base, found)?;
            return Ok((Segment::new(self.files, base, state, self.created_ms), false));
        }
        // A segment that ends just at the recovery point may have been synced while it was the last one,
        // without its indexes.
        let is_whole_below = next.is_some_and(|next| next < self.recovery_point);
        let indexes = self.indexes(base, found)?;
        if let (true, Some((offsets, times))) = (is_whole_below, indexes) {
            (state.offsets, state.times) = (offsets, times);
            return Ok((Segment::new(self.files, base, state, self.created_ms), false));
        }
        let torn = self.scan(
            base,
            next,
            found,
            indexes_below(self.files, base, found, self.recovery_point)?,
            &mut state,
        )?;
        Ok((Segment::new(self.files, base, state, self.created_ms), torn))
    }

    /// The indexes as they are, if they fit the log.
    fn indexes(
        &self,
        base: i64,
        found: &Found,
    ) -> io::Result<Option<(Index<OffsetEntry>, Index<TimeEntry>)>> {
        // Records may be without timestamps, and then there is nothing to enter.
        let times = match found.time_index_bytes {
            None => Index::default(),
            bytes => match last_entry::<TimeEntry>(self.files, base, FileKind::TimeIndex, bytes)? {
                Some(times) => times,
                None => return Ok(None),
            },
        };
        // A small segment may be without an entry, and without a file for them.
        let offsets = match found.index_bytes {
            None if found.log_bytes <= 2 * u64::from(self.config.index_interval_bytes) => Index::default(),
            bytes => match last_entry::<OffsetEntry>(self.files, base, FileKind::Index, bytes)? {
                Some(offsets) => offsets,
                None => return Ok(None),
            },
        };
        let fits = offsets.last().is_none_or(|last| u64::from(last.position) < found.log_bytes);
        Ok(fits.then_some((offsets, times)))
    }

    fn reset_indexes(&self, base: i64, found: &Found) -> io::Result<()> {
        for (kind, bytes) in
            [(FileKind::Index, found.index_bytes), (FileKind::TimeIndex, found.time_index_bytes)]
        {
            if bytes.is_some_and(|bytes| bytes > 0) {
                self.files.open(base, kind, OpenMode::ReadWrite)?.set_len(0)?;
            }
        }
        Ok(())
    }

    /// Walks over the batches from the last index entry that can be trusted, checks those that are not
    /// known to be synced, and makes the index of them.
    fn scan(
        &mut self,
        base: i64,
        next: Option<i64>,
        found: &Found,
        (offsets, times): (Index<OffsetEntry>, Index<TimeEntry>),
        state: &mut State,
    ) -> io::Result<bool> {
        self.cut_index(base, FileKind::Index, found.index_bytes, &offsets)?;
        self.cut_index(base, FileKind::TimeIndex, found.time_index_bytes, &times)?;
        let from = offsets.last().map_or(0, |last| u64::from(last.position));
        // The entry's batch is looked at again, and is not to be entered again.
        let entered = offsets.last().map_or(-1, |last| base + last.key());
        let largest = times.last().map(|last| (last.timestamp, base + i64::from(last.relative_offset)));
        (state.offsets, state.times, state.largest) = (offsets, times, largest);
        let file = self.files.open(base, FileKind::Log, OpenMode::ReadWrite)?;
        let limit = file.len()?;
        let (mut end, mut expected, mut buffer) = (from, base, Vec::new());
        for batch in scan::many_headers(&*file, from, limit) {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => break,
                Err(error) => return Err(error),
            };
            let header = &batch.header;
            let follows = header.base_offset >= expected
                && header.last_offset() - base <= i64::from(i32::MAX)
                && next.is_none_or(|next| header.last_offset() < next);
            let is_synced = header.last_offset() < self.recovery_point;
            if !follows || !is_synced && !scan::is_sound(&*file, &batch, &mut buffer)? {
                break;
            }
            if header.last_offset() > entered {
                let interval = self.config.index_interval_bytes;
                state.index_batch(base, header, batch.position, &mut self.bytes_since_entry, interval);
                // Epochs do not go down in a log: an older one is of a batch that the file tells of.
                if self.epochs.latest().is_none_or(|latest| latest.epoch < header.partition_leader_epoch) {
                    self.epochs.assign(header.partition_leader_epoch, header.base_offset);
                }
            } else {
                self.bytes_since_entry += header.size() as u64;
            }
            (end, expected) = (batch.end(), header.next_offset());
        }
        let is_torn = end < limit;
        if is_torn {
            let log = self.files.dir.read().display().to_string();
            tracing::warn!(log, base, end, limit, "the log is torn; it is cut after the last whole batch");
            file.set_len(end)?;
            file.sync_data()?;
        }
        if next.is_some() {
            state.push_time(base);
        }
        // Where nothing says that the next segment was synced, a gap before it is a lost tail. (Below the
        // recovery point, or the first dirty offset, compaction made it, as it did where a segment could not
        // reach over it.)
        let is_cut_short = next.is_some_and(|next| {
            let is_within_reach = next - expected <= i64::from(i32::MAX) / 2;
            expected < next && next > self.recovery_point.max(self.first_dirty) && is_within_reach
        });
        let is_torn = is_torn || is_cut_short;
        let segment_end = if is_torn { expected } else { next.unwrap_or(expected) };
        state.found_end(end, segment_end);
        if let Err(error) = self.spill(base, state) {
            // The entries stay in memory: a full disk is no reason not to start.
            tracing::warn!(log = %self.files.dir.read().display(), base, %error, "index entries could not be written");
        }
        Ok(is_torn)
    }

    fn cut_index<E: Entry>(
        &self,
        base: i64,
        kind: FileKind,
        bytes: Option<u64>,
        index: &Index<E>,
    ) -> io::Result<()> {
        let wanted = index.len() as u64 * E::SIZE as u64;
        if bytes.is_some_and(|bytes| bytes != wanted) {
            self.files.open(base, kind, OpenMode::ReadWrite)?.set_len(wanted)?;
        }
        Ok(())
    }

    /// Writes the entries that were made.
    fn spill(&self, base: i64, state: &mut State) -> io::Result<()> {
        let write = |kind, unwritten: Option<(Vec<u8>, u64)>| match unwritten {
            None => Ok(false),
            Some((bytes, position)) => {
                let written = self
                    .files
                    .open(base, kind, OpenMode::Create)
                    .and_then(|file| index::write(&*file, &bytes, position));
                match written {
                    Ok(()) => Ok(true),
                    // A log must open on a full disk too: the entries stay in memory.
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(false),
                    Err(error) => Err(error),
                }
            }
        };
        if write(FileKind::Index, state.offsets.unwritten())? {
            state.offsets.written();
        }
        if write(FileKind::TimeIndex, state.times.unwritten())? {
            state.times.written();
        }
        Ok(())
    }
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
    let Some(last_at) = entries.checked_sub(1) else { return Ok(Some(Index::default())) };
    let file = files.open(base, kind, OpenMode::ReadWrite)?;
    let last = index::entry_at::<E>(&*file, last_at)?;
    let before = match last_at.checked_sub(1) {
        Some(at) => index::entry_at::<E>(&*file, at)?,
        None => None,
    };
    // A crash may leave a tail of zeros, and Kafka preallocates one.
    let grows = match (before, last) {
        (Some(before), Some(last)) => before.key() < last.key(),
        (None, Some(_)) => true,
        (_, None) => false,
    };
    Ok(grows.then(|| Index::on_file(entries, last)))
}

/// The part of the indexes that belongs to offsets below the recovery point. The index files may be
/// older than the log, or torn: every entry is held to the batch that it names.
fn indexes_below(
    files: &Files,
    base: i64,
    found: &Found,
    recovery_point: i64,
) -> io::Result<(Index<OffsetEntry>, Index<TimeEntry>)> {
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

/// The producers as of `end`, with the offset of the newest snapshot.
fn recover_producers(
    files: &Files,
    segments: &[Arc<Segment>],
    snapshots: Snapshots,
    start: i64,
    end: i64,
) -> io::Result<(ProducerState, Option<i64>)> {
    let (mut producers, mut from, mut newest) = (ProducerState::default(), start, None);
    for offset in snapshots.into_iter().rev() {
        let path = files.path(&file_name(offset, "snapshot"));
        match ProducerState::decode(&files.disk.read(&path)?) {
            Ok(read) => {
                (producers, from, newest) = (read, offset.max(start), Some(offset));
                break;
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a producer snapshot is removed");
                files.disk.remove_file(&path)?;
            }
        }
    }
    if from < end {
        for segment in segments.iter().filter(|segment| segment.next_offset() > from) {
            let position = segment.floor_position(files, from)?;
            let limit = segment.len();
            if position >= limit {
                continue;
            }
            let file = segment.log_file(files)?;
            for batch in scan::many_headers(&*file, position, limit) {
                let header = batch?.header;
                if header.base_offset >= from {
                    producers.add(&header, header.last_offset());
                    producers.keep();
                }
            }
        }
    }
    Ok((producers, newest))
}

/// Opens the last segment of a log again, whose file was cut; also gives the bytes since its last index entry.
pub(super) fn reopen(log: &Log, base: i64, mut epochs: LeaderEpochs) -> io::Result<(Segment, u64)> {
    let (found, ..) = list_segments(&log.files)?;
    let found = found.get(&base).copied().unwrap_or_default();
    let config = log.config();
    let mut opener = Opener {
        files: &log.files,
        config: &config,
        created_ms: log.clock.now_ms(),
        epochs: &mut epochs,
        bytes_since_entry: 0,
        recovery_point: i64::MAX,
        first_dirty: i64::MAX,
    };
    let (segment, _) = opener.segment(base, None, &found)?;
    Ok((segment, opener.bytes_since_entry))
}

/// The producers as the log's files tell; snapshots from beyond its end go.
pub(super) fn producers_again(log: &Log) -> io::Result<(ProducerState, Option<i64>)> {
    let (_, mut snapshots, _) = list_segments(&log.files)?;
    let (start, end) = (log.log_start_offset().0, log.log_end_offset().0);
    remove_snapshots_beyond(&log.files, &mut snapshots, end)?;
    let segments = log.segments.read().clone();
    recover_producers(&log.files, &segments, snapshots, start, end)
}
