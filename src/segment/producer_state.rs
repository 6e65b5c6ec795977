//! What a log knows of its idempotent producers (KIP-98), and the `.snapshot` files that keep it.
//!
//! ```text
//! version i16 = 1, crc u32 (CRC-32C of all that follows), count i32, and for each producer:
//!   producer_id i64, producer_epoch i16, last_sequence i32, last_offset i64, offset_delta i32,
//!   timestamp i64, coordinator_epoch i32, current_txn_first_offset i64 (-1: none)
//! ```
//!
//! The last five batches of a producer are remembered, as many as a client has under way: one that
//! comes again is answered with its old offsets. A snapshot keeps only the last. Everything here is
//! state and rules; files are read and written by others.

use std::collections::HashMap;

use super::AppendError;
use crate::protocol::batch::BatchHeader;
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
    coordinator_epoch: i32,
    current_transaction_start: i64,
    last_timestamp: i64,
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
pub enum Verdict {
    /// It is next; the state counts it as written.
    Accepted,
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
    pub fn check_and_add(
        &mut self,
        header: &BatchHeader,
        offset: i64,
        must_be_known: bool,
    ) -> Result<Verdict, AppendError> {
        if !header.has_producer() {
            return Ok(Verdict::Accepted);
        }
        let was_refused = self.refused.contains_key(&header.producer_id);
        let judged = self.judge(header, offset, must_be_known || was_refused);
        if was_refused && matches!(judged, Err(AppendError::OutOfOrderSequence { .. })) {
            return Err(self.behind_refused(header.producer_id));
        }
        if matches!(judged, Ok(Verdict::Accepted)) {
            self.add(header, offset + i64::from(header.last_offset_delta));
        }
        judged
    }

    fn judge(&self, header: &BatchHeader, offset: i64, must_be_known: bool) -> Result<Verdict, AppendError> {
        let known = self.producers.get(&header.producer_id);
        if known.is_none() && must_be_known && header.base_sequence != 0 {
            let (producer_id, found) = (ProducerId(header.producer_id), header.base_sequence);
            return Err(AppendError::OutOfOrderSequence {
                producer_id,
                offset: Offset(offset),
                found,
                last: -1,
            });
        }
        if let Some(producer) = known
            && !header.is_control()
        {
            if let Some(written) = producer.duplicate_of(header) {
                return Ok(Verdict::Duplicate {
                    first_offset: Offset(written.last_offset - i64::from(written.offset_delta)),
                    last_offset: Offset(written.last_offset),
                    max_timestamp: written.timestamp,
                });
            }
            producer.check(header, offset)?;
        }
        Ok(Verdict::Accepted)
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

    /// Counts a batch that is not to be judged: the leader's, or one that is in the log.
    /// `last_offset` is that of its last record.
    pub fn add(&mut self, header: &BatchHeader, last_offset: i64) {
        if !header.has_producer() {
            return;
        }
        let before = self.producers.get(&header.producer_id).cloned();
        self.undo.push((header.producer_id, before));
        let producer = self.producers.entry(header.producer_id).or_insert_with(|| Producer {
            epoch: header.producer_epoch,
            batches: Vec::new(),
            coordinator_epoch: -1,
            current_transaction_start: -1,
            last_timestamp: header.max_timestamp,
        });
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        producer.last_timestamp = header.max_timestamp;
        if header.is_control() {
            producer.current_transaction_start = -1;
            return;
        }
        if header.is_transactional() && producer.current_transaction_start < 0 {
            producer.current_transaction_start = last_offset - i64::from(header.last_offset_delta);
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

    /// Forgets producers without an open transaction that wrote nothing for `expiration_ms`.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) -> usize {
        let before = self.producers.len();
        self.producers.retain(|_, producer| {
            producer.current_transaction_start >= 0
                || now_ms.saturating_sub(producer.last_timestamp) < expiration_ms
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
    pub fn decode(content: &[u8]) -> Result<Self, SnapshotError> {
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
        if self.epoch != header.producer_epoch {
            return None;
        }
        let last_sequence = header.last_sequence();
        self.batches.iter().find(|written| {
            written.last_sequence == last_sequence && written.first_sequence() == header.base_sequence
        })
    }

    fn check(&self, header: &BatchHeader, offset: i64) -> Result<(), AppendError> {
        let (producer_id, offset) = (ProducerId(header.producer_id), Offset(offset));
        if header.producer_epoch < self.epoch {
            let (found, last) = (header.producer_epoch, self.epoch);
            return Err(AppendError::InvalidProducerEpoch { producer_id, offset, found, last });
        }
        let last = match self.batches.last() {
            // A new epoch begins with 0, as does one of which only its number is known.
            _ if header.producer_epoch > self.epoch => -1,
            None => -1,
            Some(written) => written.last_sequence,
        };
        let next = if last == i32::MAX { 0 } else { last + 1 };
        if header.base_sequence != next {
            let found = header.base_sequence;
            return Err(AppendError::OutOfOrderSequence { producer_id, offset, found, last });
        }
        Ok(())
    }
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
        assert_eq!(state.check_and_add(&batch(0, 10, 2), 100, false).unwrap(), Verdict::Accepted);
        for at in 0..5 {
            assert_eq!(
                state.check_and_add(&batch(0, 12 + at, 1), 200 + i64::from(at), false).unwrap(),
                Verdict::Accepted
            );
        }
        for at in 0..5 {
            let offset = Offset(200 + i64::from(at));
            let expected = Verdict::Duplicate { first_offset: offset, last_offset: offset, max_timestamp: 5 };
            assert_eq!(state.check_and_add(&batch(0, 12 + at, 1), 300, false).unwrap(), expected);
        }
        // The first is forgotten by now, so it is only out of order.
        for wrong in [batch(0, 10, 2), batch(0, 18, 1), batch(0, 16, 2), batch(1, 17, 1)] {
            let refused = state.check_and_add(&wrong, 300, false);
            assert!(matches!(refused, Err(AppendError::OutOfOrderSequence { .. })), "{wrong:?}");
        }
        state.check_and_add(&batch(1, 0, 1), 300, false).unwrap();
        let fenced = state.check_and_add(&batch(0, 17, 1), 301, false);
        assert!(matches!(fenced, Err(AppendError::InvalidProducerEpoch { found: 0, last: 1, .. })));
    }

    #[test]
    fn a_producer_of_which_something_is_missing_begins_with_0_or_where_it_is_known() {
        let mut state = ProducerState::default();
        let refused = state.check_and_add(&batch(0, 8, 4), 0, true);
        assert!(matches!(refused, Err(AppendError::OutOfOrderSequence { found: 8, last: -1, .. })));
        assert!(state.is_empty());
        assert_eq!(state.check_and_add(&batch(0, 0, 8), 0, true).unwrap(), Verdict::Accepted);
        assert_eq!(state.check_and_add(&batch(0, 8, 4), 8, true).unwrap(), Verdict::Accepted);
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut state = ProducerState::default();
        state.check_and_add(&batch(0, i32::MAX - 1, 3), 0, false).unwrap();
        let again = state.check_and_add(&batch(0, i32::MAX - 1, 3), 9, false).unwrap();
        assert_eq!(
            again,
            Verdict::Duplicate { first_offset: Offset(0), last_offset: Offset(2), max_timestamp: 5 }
        );
        assert_eq!(state.check_and_add(&batch(0, 1, i32::MAX), 3, false).unwrap(), Verdict::Accepted);
        assert_eq!(state.check_and_add(&batch(0, 0, 1), 4, false).unwrap(), Verdict::Accepted);
    }

    #[test]
    fn what_was_not_written_is_forgotten() {
        let mut state = ProducerState::default();
        state.check_and_add(&batch(0, 0, 1), 0, false).unwrap();
        state.keep();
        let before = state.encode();
        let mark = state.mark();
        state.check_and_add(&batch(0, 1, 1), 1, false).unwrap();
        state.check_and_add(&batch(1, 0, 1), 2, false).unwrap();
        state.undo_to(mark);
        assert_eq!(state.encode(), before);
        assert_eq!(state.check_and_add(&batch(0, 1, 1), 1, false).unwrap(), Verdict::Accepted);
    }

    #[test]
    fn what_was_under_way_behind_a_batch_that_the_disk_refused_is_refused_as_it_was() {
        let mut state = ProducerState::default();
        state.check_and_add(&batch(0, 0, 1), 0, false).unwrap();
        state.keep();
        state.check_and_add(&batch(0, 1, 1), 1, false).unwrap();
        state.refuse(&AppendError::StorageFull);
        // There is room again, and the client has not heard of any of it yet.
        for sequence in 2..6 {
            let behind = state.check_and_add(&batch(0, sequence, 1), 1, false);
            assert!(matches!(behind, Err(AppendError::StorageFull)), "{behind:?}");
        }
        // More a client does not have under way: this one leaves something out.
        let gap = state.check_and_add(&batch(0, 2, 1), 1, false);
        assert!(matches!(gap, Err(AppendError::OutOfOrderSequence { found: 2, last: 0, .. })));
        state.note_refused([7], &AppendError::StorageFull);
        assert_eq!(state.check_and_add(&batch(0, 1, 1), 1, false).unwrap(), Verdict::Accepted);
        state.keep();
        let gap = state.check_and_add(&batch(0, 3, 1), 2, false);
        assert!(matches!(gap, Err(AppendError::OutOfOrderSequence { .. })));
    }

    #[test]
    fn a_producer_whose_first_batch_the_disk_refused_does_not_begin_with_its_second() {
        let mut state = ProducerState::default();
        state.check_and_add(&batch(0, 0, 3), 0, false).unwrap();
        state.refuse(&AppendError::StorageFull);
        assert!(state.is_empty());
        let behind = state.check_and_add(&batch(0, 3, 1), 0, false);
        assert!(matches!(behind, Err(AppendError::StorageFull)), "{behind:?}");
        assert_eq!(state.check_and_add(&batch(0, 0, 3), 0, false).unwrap(), Verdict::Accepted);
        assert_eq!(state.check_and_add(&batch(0, 3, 1), 3, false).unwrap(), Verdict::Accepted);
    }

    #[test]
    fn snapshots_read_back_and_every_flipped_bit_is_seen() {
        let mut state = ProducerState::default();
        state.check_and_add(&batch(3, 5, 4), 100, false).unwrap();
        let content = state.encode();
        assert_eq!(content.len(), 10 + ENTRY_BYTES);
        let mut read = ProducerState::decode(&content).unwrap();
        assert_eq!(read.summaries(), state.summaries());
        let again = read.check_and_add(&batch(3, 5, 4), 200, false).unwrap();
        assert_eq!(
            again,
            Verdict::Duplicate { first_offset: Offset(100), last_offset: Offset(103), max_timestamp: 5 }
        );
        for bit in 0..content.len() * 8 {
            let mut torn = content.clone();
            torn[bit / 8] ^= 1 << (bit % 8);
            assert!(ProducerState::decode(&torn).is_err());
        }
        for end in 0..content.len() {
            assert!(ProducerState::decode(&content[..end]).is_err());
        }
    }

    #[test]
    fn silent_producers_expire() {
        let mut state = ProducerState::default();
        state.add(&batch(0, 0, 1), 0);
        assert_eq!(state.expire(14, 10), 0);
        assert_eq!(state.expire(15, 10), 1);
        assert!(state.is_empty());
    }
}
