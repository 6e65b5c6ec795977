//! What a leader demands of a produce before it takes it, beyond what [`crate::protocol`] checks of
//! every batch: the topic's size limit, keys, timestamps, codec. And what it changes: the largest timestamp,
//! log-append time and recompression.
//!
//! Records that are not compressed are all looked at. A compressed batch is opened where the topic asks for it
//! (`raftsman.check.compressed.records`, compaction, a codec of its own), where its header cannot be right, and
//! where the header alone would have it refused.

use bytes::BytesMut;

use crate::config::TopicConfig;
use crate::config::topic::{CompressionType, TimestampType};
use crate::env::panics;
use crate::protocol::batch::{self, Batch, BatchError, BatchHeader, Compression};
use crate::protocol::check::check_producer_batch;
use crate::types::TopicPartition;

/// Why a produce is refused before it reaches the log.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(
        "The record batch size in the append to this partition is {bytes} bytes which exceeds the maximum configured value of {bytes_max}."
    )]
    TooLarge { bytes: usize, bytes_max: i32 },
    #[error(transparent)]
    Records(#[from] RefusedRecords),
    /// The check itself; the batch may be right.
    #[error(transparent)]
    Panicked(#[from] panics::Panicked),
}

impl CheckError {
    /// The records at fault, where it is records.
    pub fn into_faults(self) -> Vec<RecordFault> {
        match self {
            Self::Records(refused) => refused.faults,
            Self::Batch(BatchError::Record { index, cause }) => {
                vec![RecordFault { index, reason: cause.to_string() }]
            }
            _ => Vec::new(),
        }
    }
}

/// A record that has its batch refused (KIP-467).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFault {
    /// Its place in the batch.
    pub index: i32,
    pub reason: String,
}

/// Records that a topic does not take. The text is Kafka's.
#[derive(Debug, Default)]
pub struct RefusedRecords {
    /// The first of them, up to [`FAULTS_MAX`].
    pub faults: Vec<RecordFault>,
    pub count: usize,
    /// At least one is refused for its timestamp, which decides about the error code.
    pub is_for_timestamps: bool,
}

impl std::error::Error for RefusedRecords {}

impl std::fmt::Display for RefusedRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_for_timestamps {
            return f.write_str("One or more records have been rejected due to invalid timestamp");
        }
        write!(
            f,
            "One or more records have been rejected due to {} record errors in total, and only showing the first three errors at most: [",
            self.count
        )?;
        for (at, fault) in self.faults.iter().take(3).enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}RecordError(batchIndex={}, message='{}')", fault.index, fault.reason)?;
        }
        f.write_str("]")
    }
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

/// Most records of a batch that are named as being at fault; the rest are counted.
pub const FAULTS_MAX: usize = 10_000;

/// Checks one partition's records of a produce, and changes them as the topic demands.
pub fn check(
    records: BytesMut,
    partition: &TopicPartition,
    config: &TopicConfig,
    now_ms: i64,
) -> Result<Checked, CheckError> {
    panics::contained(|| {
        panics::planted("check");
        check_records(records, partition, config, now_ms)
    })?
}

fn check_records(
    mut records: BytesMut,
    partition: &TopicPartition,
    config: &TopicConfig,
    now_ms: i64,
) -> Result<Checked, CheckError> {
    let bytes_max = config.max_message_bytes;
    let check_size = |bytes: usize| match bytes > usize::try_from(bytes_max).unwrap_or_default() {
        true => Err(CheckError::TooLarge { bytes, bytes_max }),
        false => Ok(()),
    };
    if let Ok(batch) = Batch::parse(&records)
        && batch.header.base_offset == 0
    {
        check_size(batch.bytes.len())?;
    }
    let checked = check_producer_batch(&records)?;
    let (header, mut walked) = (checked.header, checked.walked);
    let rules = Rules::of(config, now_ms);
    match target_codec(config) {
        Some(codec) if codec != header.compression()? => {
            let level = match codec {
                Compression::Gzip => config.compression_gzip_level.0,
                Compression::Lz4 => Some(config.compression_lz4_level.0),
                Compression::Zstd => Some(config.compression_zstd_level),
                _ => None,
            };
            let batch = Batch::parse(&records)?;
            let recompressed = crate::protocol::recompress(&batch, codec, level, DECOMPRESSED_BYTES_MAX)?;
            (records, walked) = (recompressed.0, Some(recompressed.1));
        }
        // Nothing to change, but a topic that names its codec holds what is in it.
        target if walked.is_none() && (target.is_some() || rules.want_a_look(config, &header)) => {
            walked = Some(Batch::parse(&records)?.walk_compressed(DECOMPRESSED_BYTES_MAX)?);
        }
        _ => {}
    }
    if let Some(walked) = walked
        && (rules.needs_keys && walked.keyless.is_some() || rules.may_refuse(walked.timestamps(&header)))
    {
        let refused = rules.refused(&Batch::parse(&records)?, partition)?;
        if refused.count > 0 {
            return Err(refused.into());
        }
    }
    check_size(records.len())?;
    let log_append_time_ms = match config.timestamp_type {
        TimestampType::CreateTime => {
            let greatest_ms = walked.map_or(header.max_timestamp, |walked| walked.max_timestamp(&header));
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

/// What a topic asks of each record.
struct Rules {
    needs_keys: bool,
    /// The least and the greatest timestamp, where producers' timestamps are kept.
    timestamps_ms: Option<[i64; 2]>,
}

impl Rules {
    fn of(config: &TopicConfig, now_ms: i64) -> Self {
        let least_ms = now_ms.saturating_sub(config.timestamp_before_max_ms);
        let greatest_ms = now_ms.saturating_add(config.timestamp_after_max_ms);
        let keeps_timestamps = config.timestamp_type == TimestampType::CreateTime;
        Self {
            needs_keys: config.log.cleanup.compact,
            timestamps_ms: keeps_timestamps.then_some([least_ms, greatest_ms]),
        }
    }

    /// Whether a compressed batch must be opened.
    fn want_a_look(&self, config: &TopicConfig, header: &BatchHeader) -> bool {
        config.check_compressed_records
            || self.needs_keys
            || self.timestamps_ms.is_some() && !header.has_plausible_timestamps()
            || self.may_refuse(Some([header.base_timestamp, header.max_timestamp]))
    }

    /// Whether a batch with this least and this greatest timestamp may have one that is not taken. (-1, "no timestamp",
    /// may hide others.)
    fn may_refuse(&self, timestamps_ms: Option<[i64; 2]>) -> bool {
        let Some([least_ms, greatest_ms]) = self.timestamps_ms else { return false };
        timestamps_ms.is_none_or(|[min_ms, max_ms]| min_ms < least_ms || max_ms > greatest_ms)
    }

    /// The records that are not taken.
    fn refused(&self, batch: &Batch<'_>, partition: &TopicPartition) -> Result<RefusedRecords, BatchError> {
        let mut refused = RefusedRecords::default();
        let mut add = |index, reason: &dyn Fn() -> String| {
            refused.count += 1;
            if refused.faults.len() < FAULTS_MAX {
                refused.faults.push(RecordFault { index, reason: reason() });
            }
        };
        let mut is_for_timestamps = false;
        batch.each_passed(DECOMPRESSED_BYTES_MAX, |index, record| {
            if self.needs_keys && !record.keyed {
                return add(index, &|| {
                    format!("Compacted topic cannot accept message without key in topic partition {partition}")
                });
            }
            let Some([least_ms, greatest_ms]) = self.timestamps_ms else { return };
            let timestamp_ms = batch.header.base_timestamp.wrapping_add(record.timestamp_delta);
            if timestamp_ms != -1 && !(least_ms..=greatest_ms).contains(&timestamp_ms) {
                is_for_timestamps = true;
                add(index, &|| {
                    format!(
                        "Timestamp {timestamp_ms} of message with offset {index} is out of range. The timestamp should be within [{least_ms}, {greatest_ms}]"
                    )
                });
            }
        })?;
        refused.is_for_timestamps = is_for_timestamps;
        Ok(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values::{BrokerValues, Set};
    use crate::protocol::builder::{BatchBuilder, BatchOptions};

    const NOW_MS: i64 = 1_700_000_000_000;
    const HOUR_MS: i64 = 3_600_000;

    fn config(entries: &[(&str, &str)]) -> TopicConfig {
        let set: Set = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        TopicConfig::resolve(&set, &BrokerValues::default())
    }

    /// A batch of records with these timestamps, keyed or not, whose header says `max_timestamp`.
    fn batch(
        compression: Compression,
        records: &[(i64, Option<&[u8]>)],
        max_timestamp: Option<i64>,
    ) -> BytesMut {
        let mut builder = BatchBuilder::new(BatchOptions { compression, ..BatchOptions::default() });
        for (timestamp_ms, key) in records {
            builder.add(*timestamp_ms, *key, Some(b"value")).expect("is small");
        }
        let mut bytes = builder.build_mut().expect("builds");
        if let Some(max_timestamp) = max_timestamp {
            batch::set_max_timestamp(&mut bytes, max_timestamp);
        }
        bytes
    }

    fn checked(records: BytesMut, config: &TopicConfig) -> Result<Checked, CheckError> {
        check(records, &"logs-3".parse().expect("is a partition"), config, NOW_MS)
    }

    /// Places and texts as a running Kafka 4.3 gave them, of batches in any codec.
    #[test]
    fn every_record_at_fault_is_named_as_kafka_names_it() {
        let (key, late) = (Some(&b"k"[..]), NOW_MS + 2 * HOUR_MS);
        let no_key = "Compacted topic cannot accept message without key in topic partition logs-3";
        let compacted = [("cleanup.policy", "compact"), ("message.timestamp.before.max.ms", "3600000")];
        let out = |index: i32| {
            format!(
                "Timestamp {late} of message with offset {index} is out of range. The timestamp should be within [{}, {}]",
                NOW_MS - HOUR_MS,
                NOW_MS + HOUR_MS
            )
        };
        for codec in Compression::ALL {
            for naming in [&[][..], &[("compression.type", "lz4")]] {
                let config = config(&[&compacted[..], naming].concat());
                let refused = |records: &[(i64, Option<&[u8]>)]| {
                    let error = checked(batch(codec, records, None), &config).expect_err("is refused");
                    (error.to_string(), error.into_faults())
                };
                let fault = |index, reason: &str| RecordFault { index, reason: reason.to_owned() };
                let (text, faults) = refused(&[(NOW_MS, key), (NOW_MS, None), (-1, key), (NOW_MS, None)]);
                assert_eq!(faults, [fault(1, no_key), fault(3, no_key)], "{codec:?}");
                assert_eq!(
                    text,
                    format!(
                        "One or more records have been rejected due to 2 record errors in total, and only showing the first three errors at most: [RecordError(batchIndex=1, message='{no_key}'), RecordError(batchIndex=3, message='{no_key}')]"
                    )
                );
                // A timestamp decides about the whole; a record without a key is named for that alone.
                let (text, faults) = refused(&[(NOW_MS, None), (late, None), (late, key), (-1, key)]);
                assert_eq!(faults, [fault(0, no_key), fault(1, no_key), fault(2, &out(2))], "{codec:?}");
                assert_eq!(text, "One or more records have been rejected due to invalid timestamp");
            }
        }
    }

    #[test]
    fn a_record_that_cannot_be_read_is_named_too() {
        let mut records = batch(Compression::None, &[(NOW_MS, None), (NOW_MS, None)], None);
        // The second record's offset delta.
        let at = records.len() - 9;
        records[at] = 6;
        batch::seal(&mut records);
        let faults = checked(records, &config(&[])).expect_err("is refused").into_faults();
        assert_eq!(faults.iter().map(|fault| fault.index).collect::<Vec<_>>(), [1], "{faults:?}");
    }

    #[test]
    fn the_largest_timestamp_is_looked_for_where_the_header_cannot_have_it() {
        let records = [(NOW_MS, None), (NOW_MS + 20, None), (NOW_MS + 10, None)];
        for codec in Compression::ALL {
            for said in [-1, 0, NOW_MS, NOW_MS - 1] {
                for (records, greatest) in [(&records[..], NOW_MS + 20), (&records[..1], NOW_MS)] {
                    let stored = checked(batch(codec, records, Some(said)), &config(&[])).expect("is taken");
                    check_producer_batch(&stored.records).expect("is whole");
                    let header = BatchHeader::parse(&stored.records).expect("parses");
                    assert_eq!(header.max_timestamp, greatest, "{codec:?} {said}");
                }
            }
        }
    }

    #[test]
    fn compression_hides_no_timestamp_where_all_compressed_records_are_checked() {
        // Refused by a header that looks right and is not, and taken though the header looks wrong and is not.
        let hides = |codec| batch(codec, &[(NOW_MS, None), (NOW_MS + 2 * HOUR_MS, None)], Some(NOW_MS + 1));
        let defames = |codec| batch(codec, &[(NOW_MS, None), (NOW_MS + 1, None)], Some(NOW_MS + 2 * HOUR_MS));
        let all = config(&[("raftsman.check.compressed.records", "true")]);
        for codec in &Compression::ALL[1..] {
            let error = checked(hides(*codec), &all).expect_err("is refused");
            assert_eq!(error.into_faults().len(), 1, "{codec:?}");
            // Taken at the header's word.
            checked(hides(*codec), &config(&[])).expect("is taken");
            let stored = checked(defames(*codec), &config(&[])).expect("is taken");
            assert_eq!(BatchHeader::parse(&stored.records).expect("parses").max_timestamp, NOW_MS + 1);
        }
    }

    #[test]
    fn a_batch_beyond_the_limit_is_not_even_looked_at() {
        let mut records = batch(Compression::None, &[(NOW_MS, None); 20], None);
        let last = records.len() - 1;
        records[last] ^= 1;
        let small = config(&[("max.message.bytes", "100")]);
        assert!(matches!(checked(records, &small), Err(CheckError::TooLarge { .. })));
    }
}
