//! What compaction leaves of one batch. Pure: bytes in, bytes out.
//!
//! - A record stays unless a later one of its key is in the map; a tombstone also goes once the delete horizon
//!   of its batch has passed; a record without a key goes.
//! - A batch that loses nothing is copied as it is. One that loses records keeps base offset, last offset,
//!   producer, sequence and leader epoch, so that offsets and sequences mean what they meant.
//! - The first time that a batch with tombstones is compacted, its delete horizon is set (KIP-534): the
//!   attribute bit, and the time in place of the base timestamp.
//! - Data of an aborted transaction goes; its marker, as that of a committed one, once nothing of the transaction is left
//!   and its delete horizon has passed.
//! - A batch that loses all is dropped, but for the last one of a producer that is still known, and the last
//!   one of the round: those stay as a header without records. So does the last one of a segment (which Kafka drops):
//!   a segment that ends before the next begins looks to recovery as if it had lost its tail.

use std::collections::{HashMap, HashSet};

use super::offset_map::OffsetMap;
use crate::protocol::batch::{Batch, BatchError, TimestampType};
use crate::protocol::builder::join;
use crate::protocol::compression::compress;
use crate::protocol::control::{Marker, TransactionResult};
use crate::protocol::records::{RecordRef, each_record};
use crate::segment::aborted::AbortedTransaction;
use crate::segment::producer_state::LastBatch;

/// Most bytes that a batch may expand to.
const DECOMPRESSED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What a batch is worth by the transaction that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its records are looked at one by one.
    Judged,
    /// It is of an aborted transaction: all of it goes.
    Aborted,
    /// It ends a transaction, of which there may be nothing left.
    Marker { is_needed: bool },
}

/// Decides over markers, and over the data of transactions. Kafka's `CleanedTransactionMetadata`.
///
/// A marker stays while batches of its transaction are met before it: a reader may be in between. In the first round that
/// meets none, its delete horizon is set, and once that has passed it goes. Everything that is compacted is below the last
/// stable offset, so every transaction has its marker; a round looks at all from the log's start on.
#[derive(Clone, Debug, Default)]
pub(super) struct Transactions {
    /// Not reached yet, the next one last.
    to_come: Vec<AbortedTransaction>,
    /// Of the producers that are in an aborted one, with whether there was a batch of it.
    aborted: HashMap<i64, (AbortedTransaction, bool)>,
    /// Producers with batches of one that is committed later.
    committed: HashSet<i64>,
    /// What the index of the new segment is to hold.
    pub(super) kept: Vec<AbortedTransaction>,
}

impl Transactions {
    /// Where these have been aborted, by where they began.
    pub(super) fn new(mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted.reverse();
        Self { to_come: aborted, ..Self::default() }
    }

    /// Looks at the batches in their order.
    pub(super) fn next(&mut self, batch: &Batch<'_>) -> Result<Fate, BatchError> {
        let header = &batch.header;
        while let Some(next) = self.to_come.pop_if(|next| next.first_offset <= header.last_offset()) {
            self.aborted.insert(next.producer_id, (next, false));
        }
        if header.is_control() {
            let marker = Marker::of(batch)?;
            let is_needed = match marker.map(|marker| marker.result) {
                Some(TransactionResult::Abort) => match self.aborted.remove(&header.producer_id) {
                    Some((transaction, true)) => {
                        self.kept.push(transaction);
                        true
                    }
                    _ => false,
                },
                Some(TransactionResult::Commit) => self.committed.remove(&header.producer_id),
                // It has been emptied; or it is no marker, of which none can be missed.
                None => header.records_count > 0,
            };
            return Ok(Fate::Marker { is_needed });
        }
        if !header.is_transactional() {
            return Ok(Fate::Judged);
        }
        match self.aborted.get_mut(&header.producer_id) {
            Some((_, has_batch)) => {
                *has_batch = true;
                Ok(Fate::Aborted)
            }
            None => {
                self.committed.insert(header.producer_id);
                Ok(Fate::Judged)
            }
        }
    }
}

/// What batches are judged by.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    pub map: &'a OffsetMap,
    pub now_ms: i64,
    pub delete_retention_ms: i64,
    /// The offsets where the round ends, and where the segment does that is written.
    pub end_offsets: [i64; 2],
    /// The last batch of each known producer, by its id.
    pub producers: &'a HashMap<i64, LastBatch>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filtered {
    pub records_read: u64,
    pub records_kept: u64,
    /// It was copied byte for byte.
    pub is_whole: bool,
}

/// Buffers that are used again and again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    payload: Vec<u8>,
    record: Vec<u8>,
}

/// Buffers larger than this are given back.
const KEPT_BYTES: usize = 4 * 1024 * 1024;

impl Judge<'_> {
    /// Appends to `out` what is left of `batch`.
    ///
    /// # Errors
    /// Of a batch that cannot be read: `Record`, `Decompress`, `LeftOver`…
    pub(super) fn filter(
        &self,
        batch: &Batch<'_>,
        transactions: &mut Transactions,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<Filtered, BatchError> {
        let header = &batch.header;
        let count = u64::try_from(header.records_count).unwrap_or_default();
        let fate = transactions.next(batch)?;
        if let Fate::Marker { is_needed } = fate
            && (is_needed || header.delete_horizon_ms().is_none_or(|horizon_ms| horizon_ms > self.now_ms))
            && count > 0
        {
            let is_whole = is_needed || header.delete_horizon_ms().is_some();
            if is_whole {
                out.extend_from_slice(batch.bytes);
            } else {
                let horizon_ms = self.now_ms.saturating_add(self.delete_retention_ms);
                let mut marker: Vec<RecordRef<'_>> = Vec::new();
                let payload = batch.decompressed(DECOMPRESSED_BYTES_MAX)?;
                each_record(header, &payload, |record| marker.push(record))?;
                self.rewrite(batch, &marker, Some(horizon_ms), scratch, out)?;
            }
            return Ok(Filtered { records_read: count, records_kept: count, is_whole });
        }
        let payload = batch.decompressed(DECOMPRESSED_BYTES_MAX)?;
        let mut kept: Vec<RecordRef<'_>> = Vec::new();
        let mut has_tombstones = false;
        each_record(header, &payload, |record| {
            if fate == Fate::Judged && self.keeps(batch, &record) {
                has_tombstones |= !record.has_value;
                kept.push(record);
            }
        })?;
        let records_kept = kept.len() as u64;
        let filtered = |is_whole| Filtered { records_read: count, records_kept, is_whole };
        let sets_horizon = has_tombstones && header.delete_horizon_ms().is_none();
        if kept.is_empty() {
            if !self.keeps_empty(batch) {
                return Ok(filtered(false));
            }
            let empty = join(header.emptied(), &[])?;
            out.extend_from_slice(&empty);
            return Ok(filtered(*empty == *batch.bytes));
        }
        if records_kept == count && !sets_horizon {
            out.extend_from_slice(batch.bytes);
            return Ok(filtered(true));
        }
        let horizon_ms = match sets_horizon {
            true => Some(self.now_ms.saturating_add(self.delete_retention_ms)),
            false => header.delete_horizon_ms(),
        };
        self.rewrite(batch, &kept, horizon_ms, scratch, out)?;
        Ok(filtered(false))
    }

    fn keeps(&self, batch: &Batch<'_>, record: &RecordRef<'_>) -> bool {
        let offset = batch.header.base_offset.saturating_add(i64::from(record.offset_delta));
        if offset > self.map.latest_offset() {
            return true;
        }
        let Some(key) = record.key else { return false };
        let is_latest = self.map.get(key).is_none_or(|latest| offset >= latest);
        let is_due = || batch.header.delete_horizon_ms().is_some_and(|horizon_ms| horizon_ms <= self.now_ms);
        is_latest && (record.has_value || !is_due())
    }

    /// Whether the batch stays without its records.
    fn keeps_empty(&self, batch: &Batch<'_>) -> bool {
        let header = &batch.header;
        let is_last_of_producer = header.has_producer()
            && self.producers.get(&header.producer_id).is_some_and(|last| match last.last_offset {
                Some(offset) => offset == header.last_offset(),
                None => header.is_control() && last.epoch == header.producer_epoch,
            });
        is_last_of_producer || self.end_offsets.contains(&header.next_offset())
    }

    fn rewrite(
        &self,
        batch: &Batch<'_>,
        kept: &[RecordRef<'_>],
        horizon_ms: Option<i64>,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), BatchError> {
        let mut header = batch.header;
        let timestamp = |record: &RecordRef<'_>| match batch.header.timestamp_type() {
            TimestampType::CreateTime => batch.header.base_timestamp.wrapping_add(record.timestamp_delta),
            TimestampType::LogAppendTime => batch.header.max_timestamp,
        };
        header.base_timestamp = kept.first().map_or(-1, timestamp);
        header = header.with_delete_horizon(horizon_ms);
        header.max_timestamp = kept.iter().map(timestamp).fold(-1, i64::max);
        header.records_count = i32::try_from(kept.len()).unwrap_or(i32::MAX);
        scratch.payload.clear();
        for record in kept {
            let delta = timestamp(record).wrapping_sub(header.base_timestamp);
            record.write(delta, &mut scratch.record, &mut scratch.payload);
        }
        let compressed = compress(header.compression()?, &scratch.payload, None)?;
        out.extend_from_slice(&join(header, &compressed)?);
        drop(compressed);
        if scratch.payload.capacity() > KEPT_BYTES {
            scratch.payload = Vec::new();
        }
        Ok(())
    }
}
