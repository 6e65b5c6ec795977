//! Opening a log: trust what was synced, check the rest, cut where it is torn.
//!
//! 1. Compactions are finished or dropped (see [`super::cleaner`]). Leftovers go: files on their way out,
//!    indexes without a log.
//! 2. Segments below the recovery point are taken as they are. Of the others every batch is checked
//!    from the last index entry below the recovery point on; at the first byte that is not part of a whole
//!    and sound batch the file is cut. Records that lie behind it, and the segments after it, are set aside
//!    (see [`super::set_aside`]).
//! 3. Indexes of what was checked are made again, as are those that do not fit their log.
//!    Aborted transactions (`.txnindex`): as they are for what was synced, of what was checked from the batches again.
//! 4. Producers: the newest snapshot, and the batches after it. Epochs: cut at the log's end, and
//!    extended by what the batches say.
//!
//! A log of which synced records are missing is not opened, and nothing of it is cut or removed ([`super::missing`]).
//!
//! A log that was closed is not checked: only the few batches from its last index entry on are looked at,
//! to find its end. Where these do not fit together, all of its entries are held to their batches; and before
//! anything is cut that was synced, the whole segment is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::LogConfig;
use super::aborted::{self, AbortedIndex, AbortedTransaction};
use super::cleaner::finish_swaps;
use super::compaction::Compaction;
use super::epoch_file::EpochFile;
use super::file_cache::FileKind;
use super::index::{self, Entry, Index, OffsetEntry, TimeEntry};
use super::leader_epochs::{self, LeaderEpochs};
use super::leadership::Leadership;
use super::log::{Log, LogPlace, Writer};
use super::missing::{self, Expected, Missing};
use super::producer_state::ProducerState;
use super::removals::Removals;
use super::room::Room;
use super::scan;
use super::segment_file::{Files, Found, Segment, State, file_name, offset_of};
use super::set_aside::SetAside;
use super::transactions::{Change, Transactions};
use super::trusted_indexes::{self, Indexes};
use crate::env::planted::{Planted, is_planted};
use crate::env::{DirEntry, File, OpenMode};
use crate::protocol::batch::Batch;
use crate::protocol::control::Marker;

/// Endings of files that a crash may leave behind.
const LEFTOVERS: [&str; 3] = [".deleted", ".cleaned", ".tmp"];

impl Log {
    /// Opens the log in a folder, recovering what has to be; an empty folder becomes an empty log that
    /// begins at the log start offset.
    pub fn open(place: LogPlace, config: LogConfig) -> io::Result<Log> {
        let entries = place.disk.list(&place.dir)?;
        open_found(place, config, entries)
    }

    /// As [`Self::open`], in a folder that was just made: nothing is looked for.
    pub fn create(place: LogPlace, config: LogConfig) -> io::Result<Log> {
        open_found(place, config, Vec::new())
    }
}

fn open_found(place: LogPlace, config: LogConfig, mut entries: Vec<DirEntry>) -> io::Result<Log> {
    let files = Files {
        log: AtomicU64::new(place.cache.next_log()),
        disk: place.disk.clone(),
        cache: place.cache.clone(),
        dir: RwLock::new(place.dir.clone()),
    };
    if finish_swaps(&files, &entries)? {
        entries = files.disk.list(&place.dir)?;
    }
    let mut aside = SetAside::found(&entries);
    let synced = place.recovery_point.map_or(0, |offset| offset.0);
    let was_compacted = place.first_dirty_offset.is_some() || config.cleanup.compact;
    let mut expected = Expected::new(synced, was_compacted, place.accepts_missing_data, &entries);
    let (mut found, mut snapshots, has_epochs) = sort_out(&files, entries)?;
    remove_empty_segments(&files, &mut found)?;
    let first = found.keys().next().copied();
    let start = place.log_start_offset.map_or(0, |offset| offset.0).max(first.unwrap_or(0)).max(0);
    if let (Some(noted), Some(begins)) = (place.log_start_offset.map(|offset| offset.0), first)
        && noted < begins.min(synced)
    {
        expected.miss(Missing::Start { noted, begins: begins.min(synced) })?;
    }
    let recovery_point = synced;
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
        now_ms: place.clock.now_ms(),
        epochs: &mut epochs,
        bytes_since_entry: 0,
        recovery_point: if was_closed { i64::MAX } else { recovery_point },
        was_closed,
        first_dirty: place.first_dirty_offset.map_or(-1, |offset| offset.0),
        aside: &mut aside,
        expected: &mut expected,
    };
    let mut segments: Vec<Arc<Segment>> = Vec::new();
    let mut is_torn = false;
    let bases: Vec<i64> = found.keys().copied().collect();
    for (at, (&base, found)) in found.iter().enumerate() {
        if is_torn {
            if found.log_bytes > 0 {
                opener.aside.segment(&files, base)?;
            }
            remove_segment(&files, base)?;
            continue;
        }
        let next = bases.get(at + 1).copied();
        let (segment, torn) = opener.segment(base, next, found)?;
        segment.are_indexes_unsynced.fetch_or(!was_closed, Ordering::AcqRel);
        is_torn = torn;
        segments.push(Arc::new(segment));
    }
    let bytes_since_entry = opener.bytes_since_entry;
    let end = segments.last().map_or(start, |segment| segment.next_offset());
    if end < synced && synced > start && !aside.is_at(end) {
        expected.miss(Missing::End { end: end.max(start), synced })?;
    }
    // Offsets below the log start offset were given out: they must not be given again.
    if end < start {
        expected.miss(Missing::Beyond { start, end })?;
        for segment in segments.drain(..) {
            if !segment.is_empty() {
                aside.segment(&files, segment.base_offset)?;
            }
            remove_segment(&files, segment.base_offset)?;
        }
    }
    expected.settle_gaps(&files, start)?;
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
    let mut written_of_records = written_epochs.clone();
    written_of_records.truncate_to(end.max(start + 1));
    let are_epochs_unwritten = are_epochs_lost || epochs != written_of_records;

    remove_snapshots_beyond(&files, &mut snapshots, end)?;
    let now_ms = place.clock.now_ms();
    let trusted_below = if was_closed { i64::MAX } else { recovery_point };
    recover_aborted(&files, &segments, &found, &snapshots, trusted_below)?;
    let recovered = recover_producers(&files, &segments, snapshots, (start, end), now_ms)?;
    let transactions = Transactions::default();
    transactions.reset(recovered.producers.open_transactions(), recovered.ended);
    let recovered_to = if was_closed { end } else { recovery_point.clamp(start, end) };
    Ok(Log {
        files,
        clock: place.clock,
        config: RwLock::new(Arc::new(config)),
        segments: RwLock::new(segments),
        epochs: EpochFile::new(epochs, are_epochs_unwritten, written_of_records != written_epochs),
        log_start_offset: AtomicI64::new(start),
        log_end_offset: AtomicI64::new(end),
        recovery_point: AtomicI64::new(recovered_to),
        is_failed: AtomicBool::new(false),
        readable_end: AtomicI64::new(i64::MAX),
        is_closed: AtomicBool::new(false),
        write_error_told_ms: AtomicI64::new(i64::MIN),
        read_error_told_ms: AtomicI64::new(i64::MIN),
        set_aside_bytes: aside.bytes,
        transactions,
        queue: Mutex::default(),
        writer: Mutex::new(Writer {
            leadership: Leadership::default(),
            producers: recovered.producers,
            bytes_since_entry,
            first_timestamp: None,
            snapshot_offset: recovered.snapshot_offset,
            room: Room::default(),
        }),
        flushing: Mutex::new(()),
        checkpointed_end: AtomicI64::new(end),
        is_dir_unsynced: AtomicBool::new(!was_closed),
        is_name_unsynced: AtomicBool::new(!was_closed),
        is_cut_unsynced: AtomicBool::new(!was_closed),
        compaction: Compaction::new(place.first_dirty_offset),
        removals: Removals::default(),
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

/// Tells what the folder holds, and removes what is left over.
fn sort_out(files: &Files, entries: Vec<DirEntry>) -> io::Result<(BTreeMap<i64, Found>, Snapshots, bool)> {
    let dir = files.dir.read().clone();
    let (found, snapshots, others) = segments_of(entries);
    let mut has_epochs = false;
    for name in others {
        let orphan = ["index", "timeindex", "txnindex"].iter().any(|kind| offset_of(&name, kind).is_some());
        if orphan || LEFTOVERS.iter().any(|ending| name.ends_with(ending)) {
            files.disk.remove_file(&dir.join(name))?;
        } else if name == leader_epochs::FILE_NAME {
            has_epochs = true;
        }
    }
    Ok((found, snapshots, has_epochs))
}

/// The segments and snapshots of a folder, and the names of all other files.
fn segments_of(entries: Vec<DirEntry>) -> (BTreeMap<i64, Found>, Snapshots, Vec<String>) {
    let mut found: BTreeMap<i64, Found> = BTreeMap::new();
    let mut snapshots = Snapshots::new();
    for entry in entries.iter().filter(|entry| !entry.is_dir) {
        if let Some(base) = offset_of(&entry.name, "log") {
            let found = found.entry(base).or_default();
            (found.log_bytes, found.modified_ms) = (entry.len, entry.modified_ms);
        } else if let Some(offset) = offset_of(&entry.name, "snapshot") {
            snapshots.insert(offset);
        }
    }
    let mut others = Vec::new();
    for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
        let name = entry.name.as_str();
        let (index, time_index) = (offset_of(name, "index"), offset_of(name, "timeindex"));
        let txn_index = offset_of(name, "txnindex");
        let of_segment = index.or(time_index).or(txn_index).and_then(|base| found.get_mut(&base));
        match of_segment {
            Some(segment) if index.is_some() => segment.index_bytes = Some(entry.len),
            Some(segment) if time_index.is_some() => segment.time_index_bytes = Some(entry.len),
            Some(segment) => segment.txn_index_bytes = Some(entry.len),
            None if offset_of(name, "log").or(offset_of(name, "snapshot")).is_none() => {
                others.push(entry.name)
            }
            None => {}
        }
    }
    (found, snapshots, others)
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
                _ = epochs.assign(header.partition_leader_epoch, header.base_offset);
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
    for kind in FileKind::ALL {
        let path = files.path(&file_name(base, kind.extension()));
        if files.disk.exists(&path) {
            files.disk.remove_file(&path)?;
        }
    }
    // It must not come back beside what is appended now.
    files.disk.sync_dir(&files.dir.read())
}

/// What a walk over a segment's batches found.
struct Walk {
    state: State,
    epochs: LeaderEpochs,
    bytes_since_entry: u64,
    /// Where the last batch ends, in bytes.
    end: u64,
    /// The offset after the last one.
    expected: i64,
    /// Bytes of the file.
    limit: u64,
    /// The time index's last entry is not what the batches say.
    is_time_off: bool,
}

impl Walk {
    fn is_torn(&self) -> bool {
        self.end < self.limit
    }

    /// Whether batches and index entries fit together, to the end of the file.
    fn is_sound(&self) -> bool {
        !self.is_torn() && !self.is_time_off
    }
}

struct Opener<'a> {
    files: &'a Files,
    config: &'a LogConfig,
    now_ms: i64,
    epochs: &'a mut LeaderEpochs,
    /// Of the last segment opened.
    bytes_since_entry: u64,
    recovery_point: i64,
    /// In order: the last index entries are as good as the log.
    was_closed: bool,
    /// What lies below was compacted.
    first_dirty: i64,
    aside: &'a mut SetAside,
    expected: &'a mut Expected,
}

impl Opener<'_> {
    /// Opens one segment; returns whether it was torn.
    fn segment(&mut self, base: i64, next: Option<i64>, found: &Found) -> io::Result<(Segment, bool)> {
        self.bytes_since_entry = 0;
        // A clock that went back is no reason to keep records for longer.
        let written_ms = if found.log_bytes == 0 { self.now_ms } else { found.modified_ms.min(self.now_ms) };
        let opened = |state| Segment::new(self.files, base, state, written_ms);
        if found.log_bytes == 0 && next.is_none() {
            let segment = opened(State::new(0, base));
            let are_unsynced = self.reset_indexes(base, found)?;
            segment.are_indexes_unsynced.store(are_unsynced, Ordering::Release);
            return Ok((segment, false));
        }
        // A segment that ends just at the recovery point may have been synced while it was the last one,
        // without its indexes.
        let is_whole_below = next.is_some_and(|next| next < self.recovery_point);
        // What is without an entry is walked over as a whole when it is the last.
        let interval = match next {
            None if self.was_closed => u32::MAX,
            _ => self.config.index_interval_bytes,
        };
        let mut indexes = trusted_indexes::as_they_are(self.files, base, found, interval)?;
        if is_whole_below && let Some((offsets, times)) = indexes {
            if let Some(next) = next
                && !self.expected.may_have_gaps
            {
                let from = offsets.last().map_or(0, |last| u64::from(last.position));
                let file = self.files.open(base, FileKind::Log, OpenMode::ReadWrite)?;
                if let Some(end) = missing::end_of(&*file, base, from, found.log_bytes)? {
                    self.expected.gap(end, next);
                }
            }
            let mut state = State::new(found.log_bytes, next.unwrap_or(base));
            (state.offsets, state.times) = (offsets, times);
            return Ok((opened(state), false));
        }
        // Later time entries may have been lost, so without one the largest timestamp is not known.
        indexes =
            indexes.filter(|(offsets, times)| self.was_closed && (offsets.is_empty() || !times.is_empty()));
        let file = self.files.open(base, FileKind::Log, OpenMode::ReadWrite)?;
        let mut walk = match indexes {
            Some(indexes) => Some(self.walk(base, next, found, &*file, indexes)?).filter(Walk::is_sound),
            None => None,
        };
        if walk.is_none() {
            let indexes = trusted_indexes::below(self.files, base, found, self.recovery_point)?;
            let again = self.walk(base, next, found, &*file, indexes)?;
            // What was synced is not cut because of where an index entry points.
            walk = Some(again).filter(|walk| !walk.is_torn() || walk.expected >= self.recovery_point);
        }
        let walk = match walk {
            Some(walk) => walk,
            None => self.walk(base, next, found, &*file, Indexes::default())?,
        };
        let (state, is_torn, are_unsynced) = self.settle(base, next, found, &*file, walk)?;
        let segment = Segment::new(self.files, base, state, written_ms);
        // Entries that hold may be in no more than the page cache: their writer died, or the log was cut since.
        segment.are_indexes_unsynced.store(are_unsynced || !self.was_closed, Ordering::Release);
        Ok((segment, is_torn))
    }

    /// Empties the index files; returns whether they held anything.
    fn reset_indexes(&self, base: i64, found: &Found) -> io::Result<bool> {
        let offsets =
            self.cut_index(base, FileKind::Index, found.index_bytes, &Index::<OffsetEntry>::default())?;
        let times = self.cut_index(
            base,
            FileKind::TimeIndex,
            found.time_index_bytes,
            &Index::<TimeEntry>::default(),
        )?;
        Ok(offsets || times)
    }

    /// Walks over the batches from the last index entry on, checks those that are not known to be synced, and makes
    /// the index of them. Changes nothing on the disk.
    fn walk(
        &self,
        base: i64,
        next: Option<i64>,
        found: &Found,
        file: &dyn File,
        (offsets, times): Indexes,
    ) -> io::Result<Walk> {
        let limit = found.log_bytes;
        let from = offsets.last().map_or(0, |last| u64::from(last.position));
        // The entry's batch is looked at again, and is not to be entered again.
        let entered = offsets.last().map(|last| base + last.key());
        let largest = times.last().map(|last| (last.timestamp, base + i64::from(last.relative_offset)));
        let mut state = State::new(limit, next.unwrap_or(base));
        (state.offsets, state.times, state.largest) = (offsets, times, largest);
        let epochs = self.epochs.clone();
        let mut epoch = -1;
        let mut walk = Walk {
            state,
            epochs,
            bytes_since_entry: 0,
            end: from,
            expected: base,
            limit,
            is_time_off: false,
        };
        // A closed log has few batches after its last entry.
        let has_few = self.was_closed && entered.is_some();
        let batches =
            if has_few { scan::headers(file, from, limit) } else { scan::many_headers(file, from, limit) };
        let mut buffer = Vec::new();
        for batch in batches {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => break,
                Err(error) => return Err(error),
            };
            let header = &batch.header;
            let follows = header.base_offset >= walk.expected
                && header.last_offset() - base <= i64::from(i32::MAX)
                && next.is_none_or(|next| header.last_offset() < next)
                && (batch.position > from || entered.is_none_or(|entered| entered == header.last_offset()));
            let is_synced = header.last_offset() < self.recovery_point;
            // What was cut off, and came back behind what was written over its beginning, is of an older epoch.
            let is_back = header.partition_leader_epoch < epoch;
            if !follows || !is_synced && (is_back || !scan::is_sound(file, &batch, &mut buffer)?) {
                break;
            }
            epoch = header.partition_leader_epoch;
            walk.is_time_off |= largest.is_some_and(|(timestamp, offset)| {
                (header.base_offset..=header.last_offset()).contains(&offset)
                    && (timestamp, offset) != (header.max_timestamp, header.last_offset())
            });
            if entered.is_none_or(|entered| header.last_offset() > entered) {
                let (since, interval) = (&mut walk.bytes_since_entry, self.config.index_interval_bytes);
                walk.state.index_batch(base, header, batch.position, since, interval);
                // Epochs do not go down in a log: an older one is of a batch that the file tells of.
                if walk.epochs.latest().is_none_or(|latest| latest.epoch < header.partition_leader_epoch) {
                    _ = walk.epochs.assign(header.partition_leader_epoch, header.base_offset);
                }
            } else {
                walk.bytes_since_entry += header.size() as u64;
            }
            (walk.end, walk.expected) = (batch.end(), header.next_offset());
        }
        walk.is_time_off |= largest.is_some_and(|(_, offset)| offset >= walk.expected);
        Ok(walk)
    }

    /// Makes the files what the walk found: cuts a torn log, and the indexes to the entries that hold. Returns the
    /// segment's state, whether it was torn, and whether its indexes were written to.
    fn settle(
        &mut self,
        base: i64,
        next: Option<i64>,
        found: &Found,
        file: &dyn File,
        walk: Walk,
    ) -> io::Result<(State, bool, bool)> {
        let is_torn = walk.is_torn();
        let Walk { mut state, epochs, bytes_since_entry, end, expected, limit, .. } = walk;
        // Where nothing says that the next segment was synced, a gap before it is a lost tail. (Below the
        // recovery point, or the first dirty offset, compaction made it, as it did where a segment could not
        // reach over it.)
        let is_cut_short = next.is_some_and(|next| {
            let is_within_reach = next - expected <= i64::from(i32::MAX) / 2;
            expected < next && next > self.recovery_point.max(self.first_dirty) && is_within_reach
        });
        let behind = if is_torn { scan::find_sound(file, end, limit, expected)? } else { None };
        let (synced, mut is_missed) = (self.expected.synced, false);
        if (is_torn || is_cut_short) && behind.is_none() && expected < synced {
            self.expected.miss(Missing::End { end: expected, synced })?;
            is_missed = true;
        }
        (*self.epochs, self.bytes_since_entry) = (epochs, bytes_since_entry);
        let mut are_unsynced = self.cut_index(base, FileKind::Index, found.index_bytes, &state.offsets)?;
        are_unsynced |= self.cut_index(base, FileKind::TimeIndex, found.time_index_bytes, &state.times)?;
        if is_torn {
            let log = self.files.dir.read().display().to_string();
            let first = behind.map(|batch| batch.position).or(is_missed.then_some(end));
            if let Some(first) = first {
                self.aside.tail(self.files, file, (end, limit), first, expected)?;
            }
            tracing::warn!(log, base, end, limit, "the log is torn; it is cut after the last whole batch");
            file.set_len(end)?;
            file.sync_data()?;
        }
        if next.is_some() {
            state.push_time(base);
        }
        if let Some(next) = next.filter(|_| !is_torn && !is_cut_short) {
            self.expected.gap(expected, next);
        }
        let is_torn = is_torn || is_cut_short;
        let segment_end = if is_torn { expected } else { next.unwrap_or(expected) };
        state.found_end(end, segment_end);
        are_unsynced |= state.offsets.unwritten().is_some() || state.times.unwritten().is_some();
        if let Err(error) = self.spill(base, &mut state) {
            // The entries stay in memory: a full disk is no reason not to start.
            tracing::warn!(log = %self.files.dir.read().display(), base, %error, "index entries could not be written");
        }
        Ok((state, is_torn, are_unsynced))
    }

    /// Cuts an index file to the entries that hold; returns whether there were others.
    fn cut_index<E: Entry>(
        &self,
        base: i64,
        kind: FileKind,
        bytes: Option<u64>,
        index: &Index<E>,
    ) -> io::Result<bool> {
        let wanted = index.len_on_file() as u64 * E::SIZE as u64;
        let is_other = bytes.is_some_and(|bytes| bytes != wanted);
        if is_other {
            self.files.open(base, kind, OpenMode::ReadWrite)?.set_len(wanted)?;
        }
        Ok(is_other)
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

/// What the batches tell of producers and their transactions.
pub(super) struct RecoveredProducers {
    pub producers: ProducerState,
    /// Of the newest snapshot.
    pub snapshot_offset: Option<i64>,
    /// Transactions that have ended, as far as was looked back: the marker's offset by where they began.
    ended: BTreeMap<i64, i64>,
}

/// The producers as of the end of `start` to `end`.
fn recover_producers(
    files: &Files,
    segments: &[Arc<Segment>],
    snapshots: Snapshots,
    (start, end): (i64, i64),
    now_ms: i64,
) -> io::Result<RecoveredProducers> {
    let (mut producers, mut from, mut newest) = (ProducerState::default(), start, None);
    let mut ended = BTreeMap::new();
    if is_planted(Planted::ForgottenProducers) {
        return Ok(RecoveredProducers { producers, snapshot_offset: newest, ended });
    }
    for offset in snapshots.into_iter().rev() {
        let path = files.path(&file_name(offset, "snapshot"));
        match ProducerState::decode(&files.disk.read(&path)?, now_ms) {
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
        replay_producers(files, segments, &mut producers, from, now_ms, |_, change| {
            if let Change::Ended { first_offset, marker_offset, .. } = change {
                ended.insert(first_offset, marker_offset);
            }
        })?;
    }
    Ok(RecoveredProducers { producers, snapshot_offset: newest, ended })
}

/// Has the producers follow the batches from `from` on, and tells what becomes of transactions; with the segment's number.
fn replay_producers(
    files: &Files,
    segments: &[Arc<Segment>],
    producers: &mut ProducerState,
    from: i64,
    now_ms: i64,
    mut changed: impl FnMut(usize, Change),
) -> io::Result<()> {
    for (number, segment) in segments.iter().enumerate().filter(|(_, segment)| segment.next_offset() > from) {
        let position = segment.floor_position(files, from)?;
        let limit = segment.len();
        if position >= limit {
            continue;
        }
        let file = segment.log_file(files)?;
        for batch in scan::many_headers(&*file, position, limit) {
            let batch = batch?;
            let header = batch.header;
            if header.base_offset >= from && header.has_producer() {
                let marker = if header.is_control() { read_marker(&*file, &batch)? } else { None };
                let change = producers.add(&header, header.last_offset(), marker.as_ref(), now_ms);
                producers.keep();
                change.into_iter().for_each(|change| changed(number, change));
            }
        }
    }
    Ok(())
}

/// Largest control batch that is looked into.
const MARKER_BYTES_MAX: usize = 64 * 1024;

/// What a control batch says, if it is a marker.
pub(super) fn read_marker(file: &dyn File, batch: &scan::Located) -> io::Result<Option<Marker>> {
    let size = batch.header.size();
    if size > MARKER_BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; size];
    let count = file.read_at(&mut bytes, batch.position)?;
    bytes.truncate(count);
    // One that cannot be read still ends its transaction, as far as the sequence of batches is concerned.
    Ok(Batch::parse(&bytes).and_then(|batch| Marker::of(&batch)).unwrap_or_default())
}

/// The indexes of aborted transactions: as they are for segments that end below `trusted_below`, else made again.
fn recover_aborted(
    files: &Files,
    segments: &[Arc<Segment>],
    found: &BTreeMap<i64, Found>,
    snapshots: &Snapshots,
    trusted_below: i64,
) -> io::Result<()> {
    let mut first_doubtful = None;
    for (number, segment) in segments.iter().enumerate() {
        let bytes = found.get(&segment.base_offset).and_then(|found| found.txn_index_bytes).unwrap_or(0);
        let is_last = number + 1 == segments.len();
        let is_trusted = trusted_below == i64::MAX || !is_last && segment.next_offset() < trusted_below;
        let entries = u32::try_from(bytes / aborted::ENTRY_BYTES).unwrap_or(u32::MAX);
        if is_trusted && bytes.is_multiple_of(aborted::ENTRY_BYTES) {
            segment.state.write().aborted = AbortedIndex::on_file(entries);
        } else {
            first_doubtful.get_or_insert(number);
        }
    }
    let Some(first) = first_doubtful else { return Ok(()) };
    let from = segments.get(first).map_or(0, |segment| segment.base_offset);
    // As the producers were then: of a transaction that began earlier, only that tells.
    let mut producers = ProducerState::default();
    for offset in snapshots.range(..=from).rev() {
        if let Ok(read) =
            ProducerState::decode(&files.disk.read(&files.path(&file_name(*offset, "snapshot")))?, 0)
        {
            producers = read;
            break;
        }
    }
    let transactions = Transactions::default();
    transactions.reset(producers.open_transactions(), BTreeMap::new());
    let mut entries: BTreeMap<usize, Vec<AbortedTransaction>> = BTreeMap::new();
    replay_producers(files, segments, &mut producers, from, 0, |number, change| {
        if let Some(aborted) = AbortedTransaction::of(change, &transactions) {
            entries.entry(number).or_default().push(aborted);
        }
        transactions.note(change);
    })?;
    for (number, segment) in segments.iter().enumerate().skip(first) {
        let bytes = found.get(&segment.base_offset).and_then(|found| found.txn_index_bytes).unwrap_or(0);
        if bytes > 0 {
            files.open(segment.base_offset, FileKind::TxnIndex, OpenMode::ReadWrite)?.set_len(0)?;
        }
        if let Some(entries) = entries.remove(&number) {
            segment.state.write().aborted = AbortedIndex::unwritten(entries);
            if let Err(error) = segment.spill_indexes(files) {
                // They stay in memory: a full disk is no reason not to start.
                tracing::warn!(log = %files.dir.read().display(), base = segment.base_offset, %error, "aborted transactions could not be written");
            }
        }
    }
    Ok(())
}

/// Opens the last segment of a log again, whose file was cut; also gives the bytes since its last index entry.
pub(super) fn reopen(log: &Log, base: i64, mut epochs: LeaderEpochs) -> io::Result<(Segment, u64)> {
    let (found, ..) = segments_of(log.files.disk.list(&log.dir())?);
    let found = found.get(&base).copied().unwrap_or_default();
    let config = log.config();
    let (mut aside, mut expected) = (SetAside::default(), Expected::nothing());
    let mut opener = Opener {
        files: &log.files,
        config: &config,
        now_ms: log.clock.now_ms(),
        epochs: &mut epochs,
        bytes_since_entry: 0,
        recovery_point: i64::MAX,
        was_closed: false,
        first_dirty: i64::MAX,
        aside: &mut aside,
        expected: &mut expected,
    };
    let (segment, _) = opener.segment(base, None, &found)?;
    let entries = found.txn_index_bytes.unwrap_or(0) / aborted::ENTRY_BYTES;
    segment.state.write().aborted = AbortedIndex::on_file(u32::try_from(entries).unwrap_or(u32::MAX));
    Ok((segment, opener.bytes_since_entry))
}

/// The producers as the log's files tell; snapshots from beyond its end go.
pub(super) fn producers_again(log: &Log) -> io::Result<RecoveredProducers> {
    let (_, mut snapshots, _) = segments_of(log.files.disk.list(&log.dir())?);
    let (start, end) = (log.log_start_offset().0, log.log_end_offset().0);
    remove_snapshots_beyond(&log.files, &mut snapshots, end)?;
    let segments = log.segments.read().clone();
    recover_producers(&log.files, &segments, snapshots, (start, end), log.clock.now_ms())
}
