//! How a producer behaves, what it takes, how it fails; and the batches that it builds.

use bytes::Bytes;

use crate::client::ClientError;
use crate::client::records::{self, Compression, Record};
use crate::protocol::builder::BatchOptions;

/// Requests in flight per broker, and batches per partition: what the broker's memory of the last five
/// batches of a producer covers.
const IN_FLIGHT_MAX: usize = 5;

/// How a producer behaves. Names and meanings are Kafka's.
#[derive(Debug, Clone)]
pub struct ProducerOptions {
    /// -1 (all), 0 or 1.
    pub acks: i16,
    pub compression: Compression,
    /// Bytes of records, before compression, that a batch gathers.
    pub batch_bytes: usize,
    pub linger_ms: u64,
    /// Needs acks=-1.
    pub is_idempotent: bool,
    /// From the sealing of a batch to its acknowledgement, all retries included.
    pub delivery_timeout_ms: u64,
    pub request_bytes_max: usize,
    /// Records not yet acknowledged; beyond it the producer is full.
    pub buffer_bytes: usize,
    pub in_flight_max: usize,
    /// Attempts after the first; None: as many as the delivery timeout allows.
    pub retries: Option<u32>,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            acks: -1,
            compression: Compression::None,
            batch_bytes: 256 * 1024,
            linger_ms: 5,
            is_idempotent: true,
            delivery_timeout_ms: 120_000,
            request_bytes_max: 1024 * 1024,
            buffer_bytes: 32 * 1024 * 1024,
            in_flight_max: IN_FLIGHT_MAX,
            retries: None,
        }
    }
}

/// A record for the producer; without a partition the key decides, without a key the producer.
#[derive(Debug, Clone, Default)]
pub struct ProducerRecord {
    pub record: Record,
    pub partition: Option<i32>,
}

/// Why producing ended.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    #[error("topic '{0}' does not exist (UNKNOWN_TOPIC_OR_PARTITION)")]
    UnknownTopic(String),
    #[error("topic '{topic}' has no partition {partition}: it has {partitions}, counted from 0")]
    UnknownPartition { topic: String, partition: i32, partitions: usize },
    #[error("cannot write to {partition}: {error}; {unacknowledged} records are not acknowledged")]
    Delivery { partition: String, unacknowledged: u64, error: ClientError },
    #[error(transparent)]
    Client(#[from] ClientError),
}

pub(super) fn build(
    records: &[Record],
    compression: Compression,
    producer: Option<(i64, i16)>,
    base_sequence: i32,
) -> Result<Bytes, ClientError> {
    let (producer_id, producer_epoch) = producer.unwrap_or((-1, -1));
    let options =
        BatchOptions { compression, producer_id, producer_epoch, base_sequence, ..BatchOptions::default() };
    records::encode(records, options).map_err(ClientError::Batch)
}

/// The sequence number `count` records later; after the largest one comes 0.
pub(super) fn sequence_after(sequence: i32, count: usize) -> i32 {
    let after = (i64::from(sequence) + count as i64) % (i64::from(i32::MAX) + 1);
    i32::try_from(after).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(0, 5), 5);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
    }
}
