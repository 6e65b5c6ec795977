//! What a log knows of its idempotent producers (KIP-98), and the `.snapshot` files that keep it.
//!
//! ```text
//! version i16 = 1, crc u32 (CRC-32C of all that follows), count i32, and for each producer:
//!   producer_id i64, producer_epoch i16, last_sequence i32, last_offset i64, offset_delta i32,
//!   timestamp i64, coordinator_epoch i32, current_txn_first_offset i64 (-1: none)
//! ```
//!
//! The last five batches of a producer are remembered, as many as a client has under way: one that
//! comes again is answered with its old offsets. A snapshot keeps only the last. A marker ends that: who ends a transaction
//! has had the answers that it waited for, so a sequence that comes again after it is no repetition, least of all of
//! records that were aborted. (Kafka would answer it with the old offset.) Everything here is state and rules; files are
//! read and written by others.

use std::collections::HashMap;

use super::AppendError;
use super::transactions::Change;
use crate::protocol::batch::BatchHeader;
use crate::protocol::control::{Marker, TransactionResult};
use crate::protocol::reader::{ReadError, Reader};
use crate::types::{LeaderEpoch, Offset, ProducerId};

/// Batches remembered per producer.
const BATCHES: usize = 5;
/// Of so many producers it is known at most that the disk refused what they sent.
const REFUSED_MAX: usize = 10_000;
const VERSION: i16 = 1;
/// Bytes before what the checksum covers.
const CHECKED_AT: usize = 6;
const ENTRY_BYTES: usize = 46;

/// A batch of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    last_sequence: i32,
    last_offset: i64,
    offset_delta: i32,
    timestamp: i64,
}

impl Written {
    fn first_sequence(&self) -> i32 {
        // Sequences wrap from i32::MAX to 0.
        let first = i64::from(self.last_sequence) - i64::from(self.offset_delta);
        i32::try_from(if first < 0 { first + (1 << 31) } else { first }).unwrap_or(-1)
    }
}

/// A producer's state.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    /// Oldest first, at most [`BATCHES`].
    batches: Vec<Written>,
    /// A marker came after them.
    are_batches_ended: bool,
    coordinator_epoch: i32,
    current_transaction_start: i64,
    last_timestamp: i64,
    /// When it wrote last, by this broker's clock (ms); the opening of the log counts.
    seen_ms: i64,
}

/// A producer as DescribeProducers shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerSummary {
    pub producer_id: ProducerId,
    pub producer_epoch: i16,
    /// -1: none.
    pub last_sequence: i32,
    /// ms.
    pub last_timestamp: i64,
    pub coordinator_epoch: LeaderEpoch,
    /// Where its open transaction began.
    pub current_transaction_start: Option<Offset>,
}

/// The last that a log knows of a producer: compaction keeps it, so that sequences can still be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastBatch {
    /// Last offset of its last batch of data; `None` when only a marker is known.
    pub last_offset: Option<i64>,
    pub epoch: i16,
}

/// What becomes of a producer's batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is next; the state counts it as written, with what it did to its producer's transaction.
    Accepted(Option<Change>),
    /// It was written before, at these offsets.
    Duplicate {
        first_offset: Offset,
        last_offset: Offset,
        /// As it was stored (ms).
        max_timestamp: i64,
    },
}

/// A snapshot that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error("the producer snapshot's version {0} is unknown")]
    Version(i16),
    #[error("the producer snapshot's checksum does not fit")]
    Checksum,
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The producers of a log.
#[derive(Debug, Default)]
pub struct ProducerState {
    producers: HashMap<i64, Producer>,
    /// What the producers were before the batches that are not in the file yet, oldest first.
    undo: Vec<(i64, Option<Producer>)>,
    /// Producers of which the disk did not take a batch, which they will send again: why not, and how many batches that a
    /// client had under way behind it may still come before. These are not out of order: what is missing is missing
    /// here, and librdkafka would begin a new epoch, for which nobody knows what it sent before.
    refused: HashMap<i64, (AppendError, usize)>,
}

impl ProducerState {
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Judges a producer's batch that would get `offset`, and counts it if it is the next. A producer that is not known
    /// may begin anywhere, as its state may have expired (KIP-360); with `must_be_known`, only at 0.
    pub(super) fn check_and_add(
        &mut self,
        header: &BatchHeader,
        offset: i64,
        must_be_known: bool,
        now_ms: i64,
    ) -> Result<Verdict, AppendError> {
        if !header.has_producer() {
            return Ok(Verdict::Accepted(None));
        }
        let was_refused = self.refused.contains_key(&header.producer_id);
        let judged = self.judge(header, offset, must_be_known || was_refused);
        if was_refused && matches!(judged, Err(AppendError::OutOfOrderSequence { .. })) {
            return Err(self.behind_refused(header.producer_id));
        }
        match judged {
            Ok(Verdict::Accepted(_)) => {
                let last_offset = offset + i64::from(header.last_offset_delta);
                Ok(Verdict::Accepted(self.add(header, last_offset, None, now_ms)))
            }
            other => other,
        }
    }

    fn judge(&self, header: &BatchHeader, offset: i64, must_be_known: bool) -> Result<Verdict, AppendError> {
        let known = self.producers.get(&header.producer_id);
        if known.is_none() && must_be_known && header.base_sequence != 0 {
            return Err(out_of_order(header, offset, -1));
        }
        if let Some(producer) = known {
            if let Some(written) = producer.duplicate_of(header) {
                return Ok(Verdict::Duplicate {
                    first_offset: Offset(written.last_offset - i64::from(written.offset_delta)),
                    last_offset: Offset(written.last_offset),
                    max_timestamp: written.timestamp,
                });
            }
            producer.check_epoch(header, offset)?;
            producer.check(header, offset)?;
        }
        Ok(Verdict::Accepted(None))
    }

    /// What a batch is told that came behind one that the disk did not take.
    fn behind_refused(&mut self, id: i64) -> AppendError {
        match self.refused.remove(&id) {
            Some((error, left)) => {
                if left > 1 {
                    self.refused.insert(id, (error.clone(), left - 1));
                }
                error
            }
            None => AppendError::Failed,
        }
    }

    /// The disk did not take the batches that were counted since the last [`Self::keep`].
    pub fn refuse(&mut self, error: &AppendError) {
        let ids: Vec<i64> = self.undo.iter().map(|(id, _)| *id).collect();
        self.undo_to(0);
        self.note_refused(ids, error);
    }

    /// The disk did not take a batch of each of these producers.
    pub fn note_refused(&mut self, ids: impl IntoIterator<Item = i64>, error: &AppendError) {
        for id in ids.into_iter().filter(|id| *id >= 0) {
            if self.refused.len() < REFUSED_MAX || self.refused.contains_key(&id) {
                self.refused.insert(id, (error.clone(), BATCHES - 1));
            }
        }
    }

    /// Counts a batch of a coordinator's that belongs to a producer's transaction, which has no sequence.
    pub(super) fn check_epoch_and_add(
        &mut self,
        header: &BatchHeader,
        offset: i64,
        now_ms: i64,
    ) -> Result<Verdict, AppendError> {
        self.check_epoch(header, offset)?;
        let last_offset = offset + i64::from(header.last_offset_delta);
        Ok(Verdict::Accepted(self.add(header, last_offset, None, now_ms)))
    }

    /// Judges the marker of a coordinator, and counts it.
    ///
    /// With transaction version 2 it has the epoch that the producer goes on with, which is above that of its batches:
    /// what comes late of them is fenced. One that comes again, as the coordinator did not hear of the first, changes nothing.
    pub(super) fn check_and_add_marker(
        &mut self,
        header: &BatchHeader,
        marker: &Marker,
        transaction_version: i8,
        offset: i64,
        now_ms: i64,
    ) -> Result<Verdict, AppendError> {
        if let Some(producer) = self.producers.get(&header.producer_id) {
            let (producer_id, offset) = (ProducerId(header.producer_id), Offset(offset));
            let (found, last) = (header.producer_epoch, producer.epoch);
            let is_again = found == last && producer.current_transaction_start < 0;
            if found < last || transaction_version >= 2 && found == last && !is_again {
                return Err(AppendError::InvalidProducerEpoch { producer_id, offset, found, last });
            }
            if marker.coordinator_epoch < producer.coordinator_epoch {
                let (found, last) = (marker.coordinator_epoch, producer.coordinator_epoch);
                return Err(AppendError::CoordinatorFenced { producer_id, found, last });
            }
        }
        Ok(Verdict::Accepted(self.add(header, offset, Some(marker), now_ms)))
    }

    /// Whether the producer has a transaction open in that epoch.
    pub(super) fn has_open_transaction(&self, producer_id: i64, epoch: i16) -> bool {
        self.producers
            .get(&producer_id)
            .is_some_and(|producer| producer.epoch == epoch && producer.current_transaction_start >= 0)
    }

    /// Whether the batch is of an epoch of its producer that is over.
    pub(super) fn check_epoch(&self, header: &BatchHeader, offset: i64) -> Result<(), AppendError> {
        let known = self.producers.get(&header.producer_id);
        known.map_or(Ok(()), |producer| producer.check_epoch(header, offset))
    }

    /// Whether anything is known of the producer in that epoch.
    pub(super) fn knows(&self, producer_id: i64, epoch: i16) -> bool {
        self.producers.get(&producer_id).is_some_and(|producer| producer.epoch == epoch)
    }

    /// The open transactions: producer, epoch, first offset.
    pub(super) fn open_transactions(&self) -> impl Iterator<Item = (i64, i16, i64)> + '_ {
        let open = self.producers.iter().filter(|(_, producer)| producer.current_transaction_start >= 0);
        open.map(|(id, producer)| (*id, producer.epoch, producer.current_transaction_start))
    }

    /// Counts a batch that is not to be judged: the leader's, or one that is in the log. `last_offset` is that of its last
    /// record, `marker` what it says if it is one. Returns what it did to its producer's transaction.
    pub(super) fn add(
        &mut self,
        header: &BatchHeader,
        last_offset: i64,
        marker: Option<&Marker>,
        now_ms: i64,
    ) -> Option<Change> {
        if !header.has_producer() {
            return None;
        }
        let before = self.producers.get(&header.producer_id).cloned();
        self.undo.push((header.producer_id, before));
        let (producer_id, epoch) = (header.producer_id, header.producer_epoch);
        let producer = self.producers.entry(producer_id).or_insert_with(|| Producer {
            epoch,
            batches: Vec::new(),
            are_batches_ended: false,
            coordinator_epoch: -1,
            current_transaction_start: -1,
            last_timestamp: header.max_timestamp,
            seen_ms: now_ms,
        });
        let is_other_epoch = producer.epoch != epoch;
        if is_other_epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        producer.last_timestamp = header.max_timestamp;
        producer.seen_ms = now_ms;
        if header.is_control() {
            // One that compaction has emptied says nothing any more but that it was there.
            let is_abort = marker.is_some_and(|marker| marker.result == TransactionResult::Abort);
            producer.coordinator_epoch =
                marker.map_or(producer.coordinator_epoch, |marker| marker.coordinator_epoch);
            producer.are_batches_ended = true;
            let first_offset = std::mem::replace(&mut producer.current_transaction_start, -1);
            let ended = Change::Ended { producer_id, first_offset, marker_offset: last_offset, is_abort };
            return (first_offset >= 0).then_some(ended);
        }
        let mut change = None;
        let is_open = producer.current_transaction_start >= 0;
        if header.is_transactional() && (!is_open || is_other_epoch) {
            if !is_open {
                producer.current_transaction_start = last_offset - i64::from(header.last_offset_delta);
            }
            let first_offset = producer.current_transaction_start;
            change = Some(Change::Begun { producer_id, epoch, first_offset });
        }
        if std::mem::replace(&mut producer.are_batches_ended, false) {
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES {
            producer.batches.remove(0);
        }
        producer.batches.push(Written {
            last_sequence: header.last_sequence(),
            last_offset,
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        });
        change
    }

    /// Marks a point to which [`Self::undo_to`] can go back.
    pub fn mark(&self) -> usize {
        self.undo.len()
    }

    /// Forgets the batches counted since `mark`.
    pub fn undo_to(&mut self, mark: usize) {
        while self.undo.len() > mark {
            match self.undo.pop() {
                Some((id, Some(before))) => self.producers.insert(id, before),
                Some((id, None)) => self.producers.remove(&id),
                None => None,
            };
        }
    }

    /// What was counted is in the file.
    pub fn keep(&mut self) {
        if !self.refused.is_empty() {
            self.undo.iter().for_each(|(id, _)| _ = self.refused.remove(id));
        }
        self.undo.clear();
        // A burst must not keep its memory for ever.
        if self.undo.capacity() > 64 {
            self.undo = Vec::new();
        }
    }

    /// Forgets producers without an open transaction that wrote nothing for `expiration_ms`, by this broker's clock: what
    /// time a client writes into its records is its own affair.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) -> usize {
        let before = self.producers.len();
        self.producers.retain(|_, producer| {
            producer.current_transaction_start >= 0 || now_ms.saturating_sub(producer.seen_ms) < expiration_ms
        });
        before - self.producers.len()
    }

    /// All producers, by id.
    pub fn summaries(&self) -> Vec<ProducerSummary> {
        let mut all: Vec<_> = self
            .producers
            .iter()
            .map(|(id, producer)| ProducerSummary {
                producer_id: ProducerId(*id),
                producer_epoch: producer.epoch,
                last_sequence: producer.batches.last().map_or(-1, |written| written.last_sequence),
                last_timestamp: producer.last_timestamp,
                coordinator_epoch: LeaderEpoch(producer.coordinator_epoch),
                current_transaction_start: Some(Offset(producer.current_transaction_start))
                    .filter(|start| start.0 >= 0),
            })
            .collect();
        all.sort_by_key(|summary| summary.producer_id);
        all
    }

    /// The last batch of each producer, by its id.
    pub fn last_batches(&self) -> HashMap<i64, LastBatch> {
        let last = |producer: &Producer| LastBatch {
            last_offset: producer.batches.last().map(|written| written.last_offset),
            epoch: producer.epoch,
        };
        self.producers.iter().map(|(id, producer)| (*id, last(producer))).collect()
    }

    /// A snapshot file's content.
    pub fn encode(&self) -> Vec<u8> {
        let mut checked = Vec::with_capacity(4 + self.producers.len() * ENTRY_BYTES);
        checked.extend_from_slice(&(self.producers.len() as i32).to_be_bytes());
        let mut ids: Vec<_> = self.producers.iter().collect();
        ids.sort_by_key(|(id, _)| **id);
        for (id, producer) in ids {
            let nothing = Written {
                last_sequence: -1,
                last_offset: -1,
                offset_delta: 0,
                timestamp: producer.last_timestamp,
            };
            let last = producer.batches.last().unwrap_or(&nothing);
            checked.extend_from_slice(&id.to_be_bytes());
            checked.extend_from_slice(&producer.epoch.to_be_bytes());
            checked.extend_from_slice(&last.last_sequence.to_be_bytes());
            checked.extend_from_slice(&last.last_offset.to_be_bytes());
            checked.extend_from_slice(&last.offset_delta.to_be_bytes());
            checked.extend_from_slice(&last.timestamp.to_be_bytes());
            checked.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
            checked.extend_from_slice(&producer.current_transaction_start.to_be_bytes());
        }
        let mut content = Vec::with_capacity(CHECKED_AT + checked.len());
        content.extend_from_slice(&VERSION.to_be_bytes());
        content.extend_from_slice(&crc32c::crc32c(&checked).to_be_bytes());
        content.extend_from_slice(&checked);
        content
    }

    /// Reads a snapshot file's content.
    /// Its producers count as seen now.
    pub fn decode(content: &[u8], now_ms: i64) -> Result<Self, SnapshotError> {
        let mut reader = Reader::new(content);
        let version = reader.i16()?;
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let crc = reader.u32()?;
        if crc32c::crc32c(content.get(CHECKED_AT..).unwrap_or_default()) != crc {
            return Err(SnapshotError::Checksum);
        }
        let mut state = Self::default();
        for _ in 0..reader.i32()? {
            let (id, epoch) = (reader.i64()?, reader.i16()?);
            let written = Written {
                last_sequence: reader.i32()?,
                last_offset: reader.i64()?,
                offset_delta: reader.i32()?,
                timestamp: reader.i64()?,
            };
            let producer = Producer {
                epoch,
                batches: if written.last_sequence < 0 { Vec::new() } else { vec![written] },
                are_batches_ended: false,
                seen_ms: now_ms,
                last_timestamp: written.timestamp,
                coordinator_epoch: reader.i32()?,
                current_transaction_start: reader.i64()?,
            };
            state.producers.insert(id, producer);
        }
        Ok(state)
    }
}

impl Producer {
    fn duplicate_of(&self, header: &BatchHeader) -> Option<&Written> {
        if self.epoch != header.producer_epoch || self.are_batches_ended {
            return None;
        }
        let last_sequence = header.last_sequence();
        self.batches.iter().find(|written| {
            written.last_sequence == last_sequence && written.first_sequence() == header.base_sequence
        })
    }

    fn check_epoch(&self, header: &BatchHeader, offset: i64) -> Result<(), AppendError> {
        if header.producer_epoch < self.epoch {
            let (producer_id, offset) = (ProducerId(header.producer_id), Offset(offset));
            let (found, last) = (header.producer_epoch, self.epoch);
            return Err(AppendError::InvalidProducerEpoch { producer_id, offset, found, last });
        }
        Ok(())
    }

    fn check(&self, header: &BatchHeader, offset: i64) -> Result<(), AppendError> {
        let last = match self.batches.last() {
            // A new epoch begins with 0, as does one of which only its number is known.
            _ if header.producer_epoch > self.epoch => -1,
            None => -1,
            Some(written) => written.last_sequence,
        };
        let next = if last == i32::MAX { 0 } else { last + 1 };
        if header.base_sequence == next { Ok(()) } else { Err(out_of_order(header, offset, last)) }
    }
}

fn out_of_order(header: &BatchHeader, offset: i64, last: i32) -> AppendError {
    let (producer_id, found) = (ProducerId(header.producer_id), header.base_sequence);
    AppendError::OutOfOrderSequence { producer_id, offset: Offset(offset), found, last }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, sequence: i32, records: i32) -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            batch_length: 100,
            partition_leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: records - 1,
            base_timestamp: 5,
            max_timestamp: 5,
            producer_id: 7,
            producer_epoch: epoch,
            base_sequence: sequence,
            records_count: records,
        }
    }

    #[test]
    fn sequences_must_follow_and_repeats_get_their_old_offsets() {
        let mut state = ProducerState::default();
        // Unknown producers may begin anywhere: their state may have expired.
        assert_eq!(state.check_and_add(&batch(0, 10, 2), 100, false, 5).unwrap(), Verdict::Accepted(None));
        for at in 0..5 {
            assert_eq!(
                state.check_and_add(&batch(0, 12 + at, 1), 200 + i64::from(at), false, 5).unwrap(),
                Verdict::Accepted(None)
            );
        }
        for at in 0..5 {
            let offset = Offset(200 + i64::from(at));
            let expected = Verdict::Duplicate { first_offset: offset, last_offset: offset, max_timestamp: 5 };
            assert_eq!(state.check_and_add(&batch(0, 12 + at, 1), 300, false, 5).unwrap(), expected);
        }
        // The first is forgotten by now, so it is only out of order.
        for wrong in [batch(0, 10, 2), batch(0, 18, 1), batch(0, 16, 2), batch(1, 17, 1)] {
            let refused = state.check_and_add(&wrong, 300, false, 5);
            assert!(matches!(refused, Err(AppendError::OutOfOrderSequence { .. })), "{wrong:?}");
        }
        state.check_and_add(&batch(1, 0, 1), 300, false, 5).unwrap();
        let fenced = state.check_and_add(&batch(0, 17, 1), 301, false, 5);
        assert!(matches!(fenced, Err(AppendError::InvalidProducerEpoch { found: 0, last: 1, .. })));
    }

    #[test]
    fn a_producer_of_which_something_is_missing_begins_with_0_or_where_it_is_known() {
        let mut state = ProducerState::default();
        let refused = state.check_and_add(&batch(0, 8, 4), 0, true, 5);
        assert!(matches!(refused, Err(AppendError::OutOfOrderSequence { found: 8, last: -1, .. })));
        assert!(state.is_empty());
        assert_eq!(state.check_and_add(&batch(0, 0, 8), 0, true, 5).unwrap(), Verdict::Accepted(None));
        assert_eq!(state.check_and_add(&batch(0, 8, 4), 8, true, 5).unwrap(), Verdict::Accepted(None));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut state = ProducerState::default();
        state.check_and_add(&batch(0, i32::MAX - 1, 3), 0, false, 5).unwrap();
        let again = state.check_and_add(&batch(0, i32::MAX - 1, 3), 9, false, 5).unwrap();
        assert_eq!(
            again,
            Verdict::Duplicate { first_offset: Offset(0), last_offset: Offset(2), max_timestamp: 5 }
        );
        assert_eq!(
            state.check_and_add(&batch(0, 1, i32::MAX), 3, false, 5).unwrap(),
            Verdict::Accepted(None)
        );
        assert_eq!(state.check_and_add(&batch(0, 0, 1), 4, false, 5).unwrap(), Verdict::Accepted(None));
    }

    #[test]
    fn what_was_not_written_is_forgotten() {
        let mut state = ProducerState::default();
        state.check_and_add(&batch(0, 0, 1), 0, false, 5).unwrap();
        state.keep();
        let before = state.encode();
        let mark = state.mark();
        state.check_and_add(&batch(0, 1, 1), 1, false, 5).unwrap();
        state.check_and_add(&batch(1, 0, 1), 2, false, 5).unwrap();
        state.undo_to(mark);
        assert_eq!(state.encode(), before);
        assert_eq!(state.check_and_add(&batch(0, 1, 1), 1, false, 5).unwrap(), Verdict::Accepted(None));
    }

    #[test]
    fn what_was_under_way_behind_a_batch_that_the_disk_refused_is_refused_as_it_was() {
        let mut state = ProducerState::default();
        state.check_and_add(&batch(0, 0, 1), 0, false, 5).unwrap();
        state.keep();
        state.check_and_add(&batch(0, 1, 1), 1, false, 5).unwrap();
        state.refuse(&AppendError::StorageFull);
        // There is room again, and the client has not heard of any of it yet.
        for sequence in 2..6 {
            let behind = state.check_and_add(&batch(0, sequence, 1), 1, false, 5);
            assert!(matches!(behind, Err(AppendError::StorageFull)), "{behind:?}");
        }
        // More a client does not have under way: this one leaves something out.
        let gap = state.check_and_add(&batch(0, 2, 1), 1, false, 5);
        assert!(matches!(gap, Err(AppendError::OutOfOrderSequence { found: 2, last: 0, .. })));
        state.note_refused([7], &AppendError::StorageFull);
        assert_eq!(state.check_and_add(&batch(0, 1, 1), 1, false, 5).unwrap(), Verdict::Accepted(None));
        state.keep();
        let gap = state.check_and_add(&batch(0, 3, 1), 2, false, 5);
        assert!(matches!(gap, Err(AppendError::OutOfOrderSequence { .. })));
    }

    #[test]
    fn a_producer_whose_first_batch_the_disk_refused_does_not_begin_with_its_second() {
        let mut state = ProducerState::default();
        state.check_and_add(&batch(0, 0, 3), 0, false, 5).unwrap();
        state.refuse(&AppendError::StorageFull);
        assert!(state.is_empty());
        let behind = state.check_and_add(&batch(0, 3, 1), 0, false, 5);
        assert!(matches!(behind, Err(AppendError::StorageFull)), "{behind:?}");
        assert_eq!(state.check_and_add(&batch(0, 0, 3), 0, false, 5).unwrap(), Verdict::Accepted(None));
        assert_eq!(state.check_and_add(&batch(0, 3, 1), 3, false, 5).unwrap(), Verdict::Accepted(None));
    }

    #[test]
    fn snapshots_read_back_and_every_flipped_bit_is_seen() {
        let mut state = ProducerState::default();
        state.check_and_add(&batch(3, 5, 4), 100, false, 5).unwrap();
        let content = state.encode();
        assert_eq!(content.len(), 10 + ENTRY_BYTES);
        let mut read = ProducerState::decode(&content, 0).unwrap();
        assert_eq!(read.summaries(), state.summaries());
        let again = read.check_and_add(&batch(3, 5, 4), 200, false, 5).unwrap();
        assert_eq!(
            again,
            Verdict::Duplicate { first_offset: Offset(100), last_offset: Offset(103), max_timestamp: 5 }
        );
        for bit in 0..content.len() * 8 {
            let mut torn = content.clone();
            torn[bit / 8] ^= 1 << (bit % 8);
            assert!(ProducerState::decode(&torn, 0).is_err());
        }
        for end in 0..content.len() {
            assert!(ProducerState::decode(&content[..end], 0).is_err());
        }
    }

    #[test]
    fn silent_producers_expire_by_the_brokers_clock() {
        let mut state = ProducerState::default();
        state.add(&batch(0, 0, 1), 0, None, 1005);
        assert_eq!(state.expire(1014, 10), 0);
        assert_eq!(state.expire(1015, 10), 1);
        assert!(state.is_empty());
    }

    fn transactional(epoch: i16, sequence: i32) -> BatchHeader {
        BatchHeader { attributes: 0x10, ..batch(epoch, sequence, 1) }
    }

    fn marker(epoch: i16) -> BatchHeader {
        BatchHeader { attributes: 0x30, ..batch(epoch, -1, 1) }
    }

    const ABORT: Marker = Marker { result: TransactionResult::Abort, coordinator_epoch: 3 };

    #[test]
    fn a_sequence_that_comes_again_after_a_marker_is_not_answered_with_the_old_offset() {
        let mut state = ProducerState::default();
        let begun = state.check_and_add(&transactional(0, 0), 10, false, 0).unwrap();
        let expected = Change::Begun { producer_id: 7, epoch: 0, first_offset: 10 };
        assert_eq!(begun, Verdict::Accepted(Some(expected)));
        let again = state.check_and_add(&transactional(0, 0), 11, false, 0).unwrap();
        assert!(matches!(again, Verdict::Duplicate { first_offset: Offset(10), .. }));
        let ended = state.check_and_add_marker(&marker(0), &ABORT, 1, 11, 0).unwrap();
        let expected = Change::Ended { producer_id: 7, first_offset: 10, marker_offset: 11, is_abort: true };
        assert_eq!(ended, Verdict::Accepted(Some(expected)));
        let refused = state.check_and_add(&transactional(0, 0), 12, false, 0);
        assert!(matches!(refused, Err(AppendError::OutOfOrderSequence { found: 0, last: 0, .. })));
        let next = state.check_and_add(&transactional(0, 1), 12, false, 0).unwrap();
        assert!(matches!(next, Verdict::Accepted(Some(Change::Begun { first_offset: 12, .. }))));
        let again = state.check_and_add(&transactional(0, 1), 13, false, 0).unwrap();
        assert!(matches!(again, Verdict::Duplicate { first_offset: Offset(12), .. }));
    }

    #[test]
    fn markers_are_fenced_by_both_epochs_and_harmless_when_they_come_again() {
        let mut state = ProducerState::default();
        state.check_and_add(&transactional(2, 0), 10, false, 0).unwrap();
        let marked = |state: &mut ProducerState, epoch, coordinator_epoch, version| {
            let marker_of = Marker { coordinator_epoch, ..ABORT };
            state.check_and_add_marker(&marker(epoch), &marker_of, version, 20, 0)
        };
        assert!(matches!(marked(&mut state, 1, 3, 1), Err(AppendError::InvalidProducerEpoch { .. })));
        // Version 2: a marker of the batches' own epoch is of the transaction before.
        assert!(matches!(marked(&mut state, 2, 3, 2), Err(AppendError::InvalidProducerEpoch { .. })));
        assert!(matches!(marked(&mut state, 3, 3, 2), Ok(Verdict::Accepted(Some(_)))));
        assert_eq!(marked(&mut state, 3, 3, 2).unwrap(), Verdict::Accepted(None));
        assert_eq!(marked(&mut state, 3, 3, 1).unwrap(), Verdict::Accepted(None));
        let fenced = marked(&mut state, 3, 2, 2);
        assert!(matches!(fenced, Err(AppendError::CoordinatorFenced { found: 2, last: 3, .. })));
        assert_eq!(state.summaries()[0].coordinator_epoch, LeaderEpoch(3));
        // What comes late of the old transaction is fenced.
        let late = state.check_and_add(&transactional(2, 1), 21, false, 0);
        assert!(matches!(late, Err(AppendError::InvalidProducerEpoch { .. })));
        assert!(!state.has_open_transaction(7, 3));
    }
}
