//! Compaction: of the records of one key the last one stays (`cleanup.policy=compact`).
//!
//! ```text
//! 0 ......... first dirty offset ......... end of the round .... first uncleanable ... log end
//!   compacted before            its keys go into the map        not now
//! ```
//!
//! One round ([`Log::clean`]) reads the keys of the dirty part into a map ([`offset_map`]), as many as it takes,
//! and writes every segment up to where the map reaches anew without the records that a later one
//! replaces ([`filter`]); small neighbours become one segment. A round that the map cut short is followed by the
//! next. Offsets never change: what is left keeps its own, and batches keep theirs.
//!
//! Invariants:
//! 1. Only what is below the noted recovery point is compacted, and the last batch of a segment stays, if only
//!    as a header: recovery takes a gap between segments for a lost tail where nothing says that they were synced.
//! 2. The new segment is synced before an old one loses its name ([`swap`]), and a crash at any point leaves
//!    either; nothing that must stay is lost in between.
//! 3. Appends go on throughout, readers keep what they hold. Truncation, retention, closing and deletion may come
//!    at any time: the round is given up where its segments are no longer the log's.

mod batches;
mod cleaned;
mod filter;
pub mod offset_map;
mod round;
mod swap;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::LogConfig;
use super::log::Log;
use super::segment_file::Segment;
use crate::protocol::batch::BatchHeader;
use crate::protocol::records::each_record;
use crate::types::Offset;
use batches::{BatchReader, invalid};
use cleaned::CleanedSegment;
use filter::{Fate, Filtered, Judge, Scratch, Transactions};
use offset_map::OffsetMap;
use round::Round;

pub use round::{Pace, Stop};
pub use swap::finish_swaps;

/// Most bytes that a batch may expand to.
const DECOMPRESSED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What may be compacted of a log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cleanable {
    pub first_dirty_offset: Offset,
    /// Where it ends: the active segment, the last stable offset, or what is too new (`min.compaction.lag.ms`).
    pub first_uncleanable_offset: Offset,
    pub clean_bytes: u64,
    pub cleanable_bytes: u64,
    /// Has to be noted as synced before.
    pub synced_below: Offset,
    /// How much longer (ms) than `max.compaction.lag.ms` a record has been waiting.
    pub overdue_ms: i64,
    min_dirty_ratio: f64,
    round: Round,
}

impl Cleanable {
    /// The share of dirty bytes, 0 to 1.
    pub fn dirty_ratio(&self) -> f64 {
        let total = self.clean_bytes + self.cleanable_bytes;
        if total == 0 { 0.0 } else { self.cleanable_bytes as f64 / total as f64 }
    }

    /// Whether it is worth a round, or due.
    pub fn is_due(&self) -> bool {
        self.overdue_ms > 0 && self.cleanable_bytes > 0 || self.dirty_ratio() > self.min_dirty_ratio
    }
}

/// What a round may take.
#[derive(Clone, Copy, Debug)]
pub struct CleanOptions {
    pub now_ms: i64,
    /// Memory for the map of keys, and how full it may get (0 to 1).
    pub dedupe_buffer_bytes: usize,
    pub load_factor: f64,
    /// Read and written at once.
    pub io_bytes: usize,
    /// Seeds of the map's hashes, which producers must not guess.
    pub seeds: [u64; 2],
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanStats {
    /// Bytes read for the map and for the new segments.
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub records_kept: u64,
    pub records_dropped: u64,
    /// Bytes of the segments before, and after.
    pub bytes_before: u64,
    pub bytes_after: u64,
    /// The new first dirty offset.
    pub end_offset: i64,
}

/// Sizes of the segments that a map is made for, or that become one.
struct Group {
    segments: Vec<Arc<Segment>>,
    next_offset: i64,
}

impl Log {
    /// What lies below was compacted; `None` while nothing was.
    pub fn first_dirty_offset(&self) -> Option<Offset> {
        self.compaction.first_dirty_offset()
    }

    /// Takes over what was noted; `None` forgets it.
    pub fn set_first_dirty_offset(&self, offset: Option<Offset>) {
        self.compaction.set_first_dirty_offset(offset);
    }

    /// Whether compaction failed on this log: it is not tried again until the next start.
    pub fn is_uncleanable(&self) -> bool {
        self.compaction.is_given_up()
    }

    pub fn set_uncleanable(&self) {
        self.compaction.give_up();
    }

    /// Whether somebody compacts it right now.
    pub fn is_being_cleaned(&self) -> bool {
        self.compaction.is_running()
    }

    /// What may be compacted, below `last_stable_offset`.
    pub fn cleanable(&self, last_stable_offset: Offset, now_ms: i64) -> io::Result<Cleanable> {
        let round = Round::begin(self);
        self.look_through(|segments| self.cleanable_of(segments, round, last_stable_offset, now_ms))
    }

    fn cleanable_of(
        &self,
        segments: &[Arc<Segment>],
        round: Round,
        last_stable_offset: Offset,
        now_ms: i64,
    ) -> io::Result<Cleanable> {
        let config = self.config();
        let (start, end) = (self.log_start_offset().0, self.log_end_offset().0);
        let first_dirty = match self.first_dirty_offset() {
            Some(noted) if (start..=end).contains(&noted.0) => noted.0,
            Some(noted) => {
                // Records went at the start; or the log lost its end, and what came since is dirty.
                if noted.0 > end || !config.cleanup.delete {
                    tracing::warn!(log = %self.dir().display(), %noted, start, end, "the first dirty offset is not in the log; it begins anew at its start");
                }
                self.set_first_dirty_offset(Some(Offset(start)));
                start
            }
            None => start,
        };
        let Some((active, closed)) = segments.split_last() else {
            return Err(io::Error::other("a log has at least one segment"));
        };
        let dirty = &closed[closed.partition_point(|segment| segment.next_offset() <= first_dirty)..];
        let mut uncleanable = last_stable_offset.0.min(active.base_offset);
        if config.min_compaction_lag_ms > 0 {
            let newest = now_ms.saturating_sub(config.min_compaction_lag_ms);
            for segment in dirty {
                if segment.largest_timestamp(&self.files)?.is_some_and(|(timestamp, _)| timestamp > newest) {
                    uncleanable = uncleanable.min(segment.base_offset);
                    break;
                }
            }
        }
        let first_uncleanable = uncleanable.max(first_dirty);
        let mut overdue_ms = 0;
        if config.max_compaction_lag_ms < i64::MAX {
            let clean_until = now_ms.saturating_sub(config.max_compaction_lag_ms.max(0));
            for segment in dirty {
                if let Some(header) = segment.first_header(&self.files)?
                    && header.max_timestamp > 0
                {
                    overdue_ms = overdue_ms.max(clean_until.saturating_sub(header.max_timestamp));
                }
            }
        }
        let bytes = |from: i64, to: i64| -> u64 {
            let within =
                closed.iter().filter(|segment| segment.base_offset < to && segment.next_offset() > from);
            within.map(|segment| segment.len()).sum()
        };
        // Segments that are dirty to their half count on both sides, as Kafka counts them.
        let until = closed.iter().map(|segment| segment.base_offset).find(|base| *base >= first_uncleanable);
        Ok(Cleanable {
            first_dirty_offset: Offset(first_dirty),
            first_uncleanable_offset: Offset(first_uncleanable),
            clean_bytes: bytes(i64::MIN, first_dirty),
            cleanable_bytes: bytes(first_dirty, until.unwrap_or(active.base_offset)),
            synced_below: Offset(active.base_offset),
            overdue_ms,
            min_dirty_ratio: config.min_cleanable_dirty_ratio,
            round,
        })
    }

    /// One round. Everything below `recovery_point`, which the data folder has noted, is synced.
    ///
    /// # Errors
    /// `Io` of kind `InvalidData` for a batch that is not sound, `StorageFull`, or what else the disk says.
    pub fn clean(
        &self,
        cleanable: &Cleanable,
        recovery_point: Offset,
        options: &CleanOptions,
        pace: Pace<'_>,
    ) -> Result<CleanStats, Stop> {
        let Some(_cleaning) = self.compaction.begin() else { return Err(Stop::Aborted) };
        let round = cleanable.round;
        let read = Cell::new(0);
        let watched = |bytes: u64| {
            read.set(read.get() + bytes);
            pace(bytes)?;
            if round.is_valid(self) { Ok(()) } else { Err(Stop::Aborted) }
        };
        let mut cleaning = Cleaning {
            log: self,
            round,
            options,
            pace: &watched,
            scratch: Scratch::default(),
            stats: CleanStats::default(),
            transactions: Transactions::default(),
        };
        let cleaned = cleaning.run(cleanable, recovery_point);
        let stats = cleaning.stats;
        match cleaned {
            Ok(()) => Ok(CleanStats { bytes_read: read.get().saturating_sub(stats.bytes_written), ..stats }),
            // Whatever went wrong in a log that is being closed, cut or deleted is no failure.
            Err(_) if !round.is_valid(self) => Err(Stop::Aborted),
            Err(stop) => Err(stop),
        }
    }
}

/// One round under way, and what it has done so far.
struct Cleaning<'a> {
    log: &'a Log,
    round: Round,
    options: &'a CleanOptions,
    pace: Pace<'a>,
    scratch: Scratch,
    stats: CleanStats,
    /// As they are where the next group begins.
    transactions: Transactions,
}

impl Cleaning<'_> {
    fn run(&mut self, cleanable: &Cleanable, recovery_point: Offset) -> Result<(), Stop> {
        let config = self.log.config();
        let mut closed = self.log.segments.read().clone();
        closed.pop();
        let from = cleanable.first_dirty_offset.0;
        // Where the round may end, which may be before the segments that it touches do.
        let up_to = cleanable.first_uncleanable_offset.0;
        closed.retain(|segment| segment.base_offset < up_to);
        if closed.last().is_none_or(|last| last.next_offset() > recovery_point.0) && !closed.is_empty() {
            return Err(io::Error::other("what is to be compacted is not synced").into());
        }
        let map = self.map_of(&closed, from, up_to).map_err(|stop| unless_gone(stop, &closed))?;
        let end_offset = map.latest_offset().saturating_add(1);
        closed.retain(|segment| segment.base_offset < end_offset);
        if let Some(first) = closed.first() {
            let aborted = self.log.aborted_within(&closed, first.base_offset, up_to);
            self.transactions =
                Transactions::new(aborted.map_err(|error| unless_gone(error.into(), &closed))?);
        }
        for group in groups(closed, &config, up_to) {
            let producers = self.log.lock_writer().producers.last_batches();
            self.transactions.kept.clear();
            let judge = Judge {
                map: &map,
                now_ms: self.options.now_ms,
                delete_retention_ms: config.delete_retention_ms,
                end_offsets: [up_to, group.next_offset],
                producers: &producers,
            };
            self.clean_group(&group, &judge).map_err(|stop| unless_gone(stop, &group.segments))?;
        }
        self.stats.end_offset = end_offset.max(from);
        // A truncation since has set it to what it cut off, and waits for nobody but this lock.
        let _flushing = self.log.flushing.lock();
        if !self.round.is_valid(self.log) {
            return Err(Stop::Aborted);
        }
        self.log.set_first_dirty_offset(Some(Offset(self.stats.end_offset)));
        Ok(())
    }

    /// The last offset of each key from `from` on, up to `up_to` or until the map is full.
    fn map_of(&self, closed: &[Arc<Segment>], from: i64, up_to: i64) -> Result<OffsetMap, Stop> {
        let (files, options) = (&self.log.files, self.options);
        let offsets = u64::try_from(up_to.saturating_sub(from)).unwrap_or_default();
        let mut map =
            OffsetMap::new(options.dedupe_buffer_bytes, options.load_factor, offsets, options.seeds);
        let aborted = self.log.aborted_within(closed, from, up_to)?;
        let mut transactions = Transactions::new(aborted);
        for segment in closed.iter().filter(|segment| segment.next_offset() > from) {
            let file = segment.log_file(files)?;
            let position = segment.floor_position(files, from)?;
            let mut reader = BatchReader::new(&*file, position, segment.len(), options.io_bytes);
            while let Some(batch) = reader.next(self.pace)? {
                let header = batch.header;
                if header.base_offset >= up_to {
                    break;
                }
                let wrong = |error| invalid(header.base_offset as u64, &error);
                if transactions.next(&batch).map_err(wrong)? == Fate::Judged && header.last_offset() >= from {
                    let payload = batch.decompressed(DECOMPRESSED_BYTES_MAX).map_err(wrong)?;
                    let mut is_full = false;
                    let enter = |record: crate::protocol::records::RecordRef<'_>| {
                        let offset = header.base_offset.saturating_add(i64::from(record.offset_delta));
                        if let Some(key) = record.key
                            && !is_full
                            && (from..up_to).contains(&offset)
                        {
                            is_full = !map.put(key, offset);
                        }
                    };
                    each_record(&header, &payload, enter).map_err(wrong)?;
                    if is_full {
                        return Ok(map);
                    }
                }
                if header.last_offset() >= from {
                    map.advance(header.last_offset().min(up_to - 1));
                }
            }
            // Offsets that an earlier round took away need not be looked at again.
            map.advance(segment.next_offset().min(up_to) - 1);
        }
        Ok(map)
    }

    fn clean_group(&mut self, group: &Group, judge: &Judge<'_>) -> Result<(), Stop> {
        let Some((first, last)) = group.segments.first().zip(group.segments.last()) else { return Ok(()) };
        let before: u64 = group.segments.iter().map(|segment| segment.len()).sum();
        self.stats.bytes_before += before;
        if group.segments.len() == 1 && self.stays_as_it_is(group, judge)? {
            self.stats.bytes_after += before;
            return Ok(());
        }
        let (files, io_bytes) = (&self.log.files, self.options.io_bytes);
        let interval = self.log.config().index_interval_bytes;
        let mut cleaned = CleanedSegment::create(files, first.base_offset, interval, io_bytes)?;
        let (kept, dropped) = self.fill(&mut cleaned, group, judge).inspect_err(|_| cleaned.discard())?;
        let after = cleaned.len();
        cleaned.set_aborted(&self.transactions.kept);
        let segment = cleaned.finish(group.next_offset, last.written_ms(), self.pace)?;
        self.log.replace_segments(&self.round, &group.segments, segment)?;
        self.stats.records_kept += kept;
        self.stats.records_dropped += dropped;
        self.stats.bytes_written += after;
        self.stats.bytes_after += after;
        Ok(())
    }

    /// Whether compaction would change nothing in a group, so that it need not be written anew.
    fn stays_as_it_is(&mut self, group: &Group, judge: &Judge<'_>) -> Result<bool, Stop> {
        let (mut is_whole, mut kept) = (true, 0);
        let after = self.each_filtered(group, judge, |filtered, _| {
            is_whole = filtered.is_whole;
            kept += filtered.records_kept;
            Ok(if is_whole { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        if is_whole {
            self.stats.records_kept += kept;
            self.transactions = after.unwrap_or_default();
        }
        Ok(is_whole)
    }

    /// Puts what is left of a group into its new segment; returns how many records stayed, and how many went.
    fn fill(
        &mut self,
        cleaned: &mut CleanedSegment<'_>,
        group: &Group,
        judge: &Judge<'_>,
    ) -> Result<(u64, u64), Stop> {
        let pace = self.pace;
        let (mut kept, mut dropped) = (0, 0);
        let after = self.each_filtered(group, judge, |filtered, left| {
            kept += filtered.records_kept;
            dropped += filtered.records_read - filtered.records_kept;
            if !left.is_empty() {
                let header = BatchHeader::parse(left).map_err(|error| invalid(cleaned.len(), &error))?;
                cleaned.push(&header, left, pace)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        self.transactions = after.unwrap_or_default();
        Ok((kept, dropped))
    }

    /// Judges the batches of a group one after the other, and hands on what becomes of each and the bytes that
    /// are left of it, until `take` has enough. Returns what became of transactions by the end of the group.
    fn each_filtered(
        &mut self,
        group: &Group,
        judge: &Judge<'_>,
        mut take: impl FnMut(Filtered, &[u8]) -> Result<ControlFlow<()>, Stop>,
    ) -> Result<Option<Transactions>, Stop> {
        let (mut transactions, mut left) = (self.transactions.clone(), Vec::new());
        for segment in &group.segments {
            let file = segment.log_file(&self.log.files)?;
            let mut reader = BatchReader::new(&*file, 0, segment.len(), self.options.io_bytes);
            while let Some(batch) = reader.next(self.pace)? {
                left.clear();
                let filtered = judge
                    .filter(&batch, &mut transactions, &mut self.scratch, &mut left)
                    .map_err(|error| invalid(batch.header.base_offset as u64, &error))?;
                if take(filtered, &left)?.is_break() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(transactions))
    }
}

/// What failed on segments that retention took away meanwhile is no failure.
fn unless_gone(stop: Stop, segments: &[Arc<Segment>]) -> Stop {
    if segments.iter().any(|segment| segment.is_gone()) { Stop::Aborted } else { stop }
}

/// Neighbours that fit into one segment together.
fn groups(closed: Vec<Arc<Segment>>, config: &LogConfig, up_to: i64) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let (mut log_bytes, mut index_bytes, mut time_index_bytes) = (0, 0, 0);
    let index_bytes_max = u64::from(config.segment_index_bytes);
    let bases: Vec<i64> = closed.iter().map(|segment| segment.base_offset).collect();
    for (at, segment) in closed.into_iter().enumerate() {
        let (len, next_offset, of_index, of_time_index) = {
            let state = segment.state.read();
            let (offsets, times) = (state.offsets.len() as u64 * 8, state.times.len() as u64 * 12);
            (state.len, state.next_offset, offsets, times)
        };
        let last_offset = bases.get(at + 1).copied().unwrap_or(up_to) - 1;
        if let Some(group) = groups.last_mut()
            && let Some(first) = group.segments.first()
            && log_bytes + len <= u64::from(config.segment_bytes)
            && index_bytes + of_index <= index_bytes_max
            && time_index_bytes + of_time_index <= index_bytes_max
            && (len == 0 || last_offset.saturating_sub(first.base_offset) <= i64::from(i32::MAX))
        {
            group.segments.push(segment);
            group.next_offset = next_offset;
            log_bytes += len;
            index_bytes += of_index;
            time_index_bytes += of_time_index;
        } else {
            groups.push(Group { segments: vec![segment], next_offset });
            (log_bytes, index_bytes, time_index_bytes) = (len, of_index, of_time_index);
        }
    }
    groups
}
