//! What a producer may send: stricter than what a log may hold.

use super::batch::{Batch, BatchError, BatchHeader, Compression, TimestampType};
use super::walk::Walked;

/// A producer's batch that is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerBatch {
    pub header: BatchHeader,
    /// What its records showed; nothing when they are compressed.
    pub walked: Option<Walked>,
}

/// Checks the records of one partition of a Produce request: exactly one batch of magic 2 and of
/// exactly these bytes, its checksum, its counts, its producer, and (if it is not compressed) every
/// record's lengths and offset delta. A compressed batch is not opened: see
/// [`Batch::walk_compressed`].
///
/// # Errors
/// What is wrong first.
pub fn check_for_produce(records: &[u8]) -> Result<BatchHeader, BatchError> {
    check_producer_batch(records).map(|batch| batch.header)
}

/// As [`check_for_produce`], and gives what the walk over the records saw: a compacted topic refuses
/// records without a key, and Kafka puts right a `max_timestamp` that is not the records' largest.
///
/// # Errors
/// Those of [`check_for_produce`].
pub fn check_producer_batch(records: &[u8]) -> Result<ProducerBatch, BatchError> {
    if records.is_empty() {
        return Err(BatchError::NoBatch);
    }
    let batch = Batch::parse(records)?;
    let header = batch.header;
    if batch.bytes.len() != records.len() {
        return Err(BatchError::SeveralBatches);
    }
    batch.verify_crc()?;
    header.compression()?;
    // The broker sets the offsets; Kafka wants them to count from 0 until then.
    if header.base_offset != 0 {
        return Err(BatchError::BaseOffset(header.base_offset));
    }
    if header.is_control() {
        return Err(BatchError::Control);
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Err(BatchError::TimestampType);
    }
    if header.records_count <= 0 {
        return Err(BatchError::RecordsCount(header.records_count));
    }
    if header.last_offset_delta != header.records_count - 1 {
        return Err(BatchError::OffsetRange {
            records_count: header.records_count,
            last_offset_delta: header.last_offset_delta,
        });
    }
    check_producer(&header)?;
    let walked = batch.walk()?;
    Ok(ProducerBatch { header, walked })
}

/// Refuses zstd in versions of Produce that clients without zstd use.
///
/// # Errors
/// `ZstdTooEarly` before version 7 (KIP-110).
pub fn check_codec_for_version(header: &BatchHeader, produce_version: i16) -> Result<(), BatchError> {
    match header.compression()? {
        Compression::Zstd if produce_version < 7 => Err(BatchError::ZstdTooEarly(produce_version)),
        _ => Ok(()),
    }
}

/// Either there is no producer, or it has an epoch and a sequence.
fn check_producer(header: &BatchHeader) -> Result<(), BatchError> {
    let fits = match header.has_producer() {
        true => header.producer_epoch >= 0 && header.base_sequence >= 0,
        false => header.producer_id == -1 && !header.is_transactional(),
    };
    match fits {
        true => Ok(()),
        false => Err(BatchError::Producer {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
        }),
    }
}
