//! Markers: the control batches that end a producer's transaction in a partition (KIP-98).
//!
//! ```text
//! one record: key   version i16 = 0, type i16 (0 abort, 1 commit)
//!             value version i16 = 0, coordinator_epoch i32
//! ```
//!
//! A batch that is marked as control and transactional, of the producer whose transaction ends, without a sequence.
//! Later versions may add to both at their end, so what follows is passed over; control records of other types (a change of
//! leader, of KRaft logs) are none of ours.

use bytes::BytesMut;

use super::batch::{Batch, BatchError};
use super::builder::{BatchBuilder, BatchOptions};
use super::reader::Reader;

const ABORT: i16 = 0;
const COMMIT: i16 = 1;
const VERSION: i16 = 0;

/// Most bytes that a control batch may expand to: it is of a few dozen, and never compressed.
const DECOMPRESSED_BYTES_MAX: usize = 64 * 1024;

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionResult {
    Abort,
    Commit,
}

impl TransactionResult {
    pub fn of(is_commit: bool) -> Self {
        if is_commit { Self::Commit } else { Self::Abort }
    }

    fn of_type(number: i16) -> Option<Self> {
        match number {
            ABORT => Some(Self::Abort),
            COMMIT => Some(Self::Commit),
            _ => None,
        }
    }
}

/// What a marker says beside its batch's producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub result: TransactionResult,
    /// The leadership of the transaction coordinator that decided it.
    pub coordinator_epoch: i32,
}

impl Marker {
    /// The batch that ends the producer's transaction; offset and leader epoch come with the append.
    ///
    /// # Errors
    /// None that a marker of these few bytes can meet.
    pub fn batch(
        self,
        producer_id: i64,
        producer_epoch: i16,
        timestamp_ms: i64,
    ) -> Result<BytesMut, BatchError> {
        let number = match self.result {
            TransactionResult::Abort => ABORT,
            TransactionResult::Commit => COMMIT,
        };
        let key = [VERSION.to_be_bytes(), number.to_be_bytes()].concat();
        let value = [&VERSION.to_be_bytes()[..], &self.coordinator_epoch.to_be_bytes()].concat();
        let options = BatchOptions {
            producer_id,
            producer_epoch,
            transactional: true,
            control: true,
            ..BatchOptions::default()
        };
        let mut builder = BatchBuilder::new(options);
        builder.add(timestamp_ms, Some(&key), Some(&value))?;
        builder.build_mut()
    }

    /// The marker that a batch is; `None` for any other batch, and for one that compaction has emptied.
    ///
    /// # Errors
    /// What is wrong with the record.
    pub fn of(batch: &Batch<'_>) -> Result<Option<Self>, BatchError> {
        if !batch.header.is_control() || !batch.header.has_producer() {
            return Ok(None);
        }
        let Some(record) = batch.records(DECOMPRESSED_BYTES_MAX)?.next() else { return Ok(None) };
        let record = record?;
        Ok(record.key.zip(record.value).and_then(|(key, value)| Self::read(&key, &value)))
    }

    /// The marker of a control record.
    pub fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let (mut key, mut value) = (Reader::new(key), Reader::new(value));
        let (key_version, number) = (key.i16().ok()?, key.i16().ok()?);
        let value_version = value.i16().ok()?;
        if key_version < VERSION || value_version < VERSION {
            return None;
        }
        let result = TransactionResult::of_type(number)?;
        Some(Self { result, coordinator_epoch: value.i32().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_reads_back_and_is_of_kafkas_bytes() {
        for result in [TransactionResult::Abort, TransactionResult::Commit] {
            let marker = Marker { result, coordinator_epoch: 7 };
            let bytes = marker.batch(4, 2, 1000).expect("builds");
            let batch = Batch::parse(&bytes).expect("parses");
            batch.verify_crc().expect("is sound");
            // As Kafka's `MemoryRecords.withEndTransactionMarker` writes it.
            assert_eq!(bytes.len(), 78);
            assert!(batch.header.is_control() && batch.header.is_transactional());
            assert_eq!((batch.header.base_sequence, batch.header.last_sequence()), (-1, -1));
            assert_eq!((batch.header.producer_id, batch.header.producer_epoch), (4, 2));
            assert_eq!(Marker::of(&batch), Ok(Some(marker)));
            let emptied = super::super::builder::join(batch.header.emptied(), &[]).expect("joins");
            assert_eq!(Marker::of(&Batch::parse(&emptied).expect("parses")), Ok(None));
        }
    }

    #[test]
    fn later_versions_are_read_and_other_types_are_not_ours() {
        let commit = Marker { result: TransactionResult::Commit, coordinator_epoch: 9 };
        let value = [0, 3, 0, 0, 0, 9, 1, 2];
        assert_eq!(Marker::read(&[0, 1, 0, 1, 7], &value), Some(commit));
        assert_eq!(Marker::read(&[0, 0, 0, 2], &value), None, "a change of leader");
        assert_eq!(Marker::read(&[0xff, 0xff, 0, 1], &value), None);
        for end in 0..4 {
            assert_eq!(Marker::read(&[0, 0, 0, 1][..end], &value), None);
        }
        for end in 0..6 {
            assert_eq!(Marker::read(&[0, 0, 0, 1], &value[..end]), None);
        }
    }
}
