//! What a leader demands of a produce before it takes it, beyond what [`crate::protocol`] checks of
//! every batch: the topic's size limit, timestamps, codec. And what it changes: log-append time and
//! recompression.

use bytes::BytesMut;

use crate::config::TopicConfig;
use crate::config::topic::{CompressionType, TimestampType};
use crate::protocol::batch::{self, Batch, BatchError, Compression};
use crate::protocol::check::{ProducerBatch, check_keys, check_producer_batch};

/// Why a produce is refused before it reaches the log.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(
        "The record batch size in the append to this partition is {bytes} bytes which exceeds the maximum configured value of {bytes_max}."
    )]
    TooLarge { bytes: usize, bytes_max: i32 },
    #[error(
        "Timestamp {timestamp_ms} of message with offset {offset} is out of range. The timestamp should be within [{least_ms}, {greatest_ms}]"
    )]
    Timestamp { timestamp_ms: i64, offset: i64, least_ms: i64, greatest_ms: i64 },
    #[error("transactional records need a transaction, which this broker does not serve")]
    Transactional,
}

/// A checked produce, ready for the log.
#[derive(Debug)]
pub struct Checked {
    pub records: BytesMut,
    /// The broker's time that every record now carries, with log-append time.
    pub log_append_time_ms: Option<i64>,
}

/// Most bytes that a batch may expand to where the broker has to look inside: many times what a
/// producer's batch holds, and no bomb.
pub const DECOMPRESSED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Checks one partition's records of a produce, and changes them as the topic demands.
pub fn check(mut records: BytesMut, config: &TopicConfig, now_ms: i64) -> Result<Checked, CheckError> {
    let ProducerBatch { header, walked } = check_producer_batch(&records)?;
    if header.is_transactional() {
        return Err(CheckError::Transactional);
    }
    if config.compact {
        check_keys(&records, &ProducerBatch { header, walked }, DECOMPRESSED_BYTES_MAX)?;
    }
    let came_with = header.compression()?;
    let target = target_codec(config);
    if target == Some(came_with) {
        // Nothing to change, but the topic names its codec: what it stores is in it.
        if walked.is_none() {
            Batch::parse(&records)?.walk_compressed(DECOMPRESSED_BYTES_MAX)?;
        }
    } else if let Some(codec) = target {
        let level = match codec {
            Compression::Gzip => Some(config.compression_gzip_level).filter(|level| *level >= 0),
            Compression::Lz4 => Some(config.compression_lz4_level),
            Compression::Zstd => Some(config.compression_zstd_level),
            _ => None,
        };
        let batch = Batch::parse(&records)?;
        records = crate::protocol::recompress(&batch, codec, level, DECOMPRESSED_BYTES_MAX)?;
    }
    let bytes_max = config.max_message_bytes;
    if records.len() > usize::try_from(bytes_max).unwrap_or_default() {
        return Err(CheckError::TooLarge { bytes: records.len(), bytes_max });
    }
    let log_append_time_ms = match config.timestamp_type {
        TimestampType::CreateTime => {
            // A compressed batch is taken at its header's word.
            let least_ms = walked.map_or(header.base_timestamp, |walked| walked.min_timestamp(&header));
            let greatest_ms = walked.map_or(header.max_timestamp, |walked| walked.max_timestamp(&header));
            check_timestamps([least_ms, greatest_ms], config, now_ms)?;
            if greatest_ms != header.max_timestamp {
                batch::set_max_timestamp(&mut records, greatest_ms);
            }
            None
        }
        TimestampType::LogAppendTime => {
            batch::set_log_append_time(&mut records, now_ms);
            Some(now_ms)
        }
    };
    Ok(Checked { records, log_append_time_ms })
}

/// The codec to store a batch with, when the topic names one.
fn target_codec(config: &TopicConfig) -> Option<Compression> {
    match config.compression {
        CompressionType::Producer => None,
        CompressionType::Uncompressed => Some(Compression::None),
        CompressionType::Gzip => Some(Compression::Gzip),
        CompressionType::Snappy => Some(Compression::Snappy),
        CompressionType::Lz4 => Some(Compression::Lz4),
        CompressionType::Zstd => Some(Compression::Zstd),
    }
}

/// Checks the least and the greatest timestamp of a batch against the broker's clock.
fn check_timestamps(timestamps_ms: [i64; 2], config: &TopicConfig, now_ms: i64) -> Result<(), CheckError> {
    let least_ms = now_ms.saturating_sub(config.timestamp_before_max_ms);
    let greatest_ms = now_ms.saturating_add(config.timestamp_after_max_ms);
    for timestamp_ms in timestamps_ms {
        // -1 is "no timestamp".
        if timestamp_ms != -1 && !(least_ms..=greatest_ms).contains(&timestamp_ms) {
            return Err(CheckError::Timestamp { timestamp_ms, offset: 0, least_ms, greatest_ms });
        }
    }
    Ok(())
}
