//! Record batches, Kafka's format v2 (`magic` 2, KIP-98), as views over bytes.
//!
//! ```text
//!  0  base_offset            i64   offset of the first record; the broker sets it
//!  8  batch_length           i32   bytes after this field; the whole batch is 12 + batch_length
//! 12  partition_leader_epoch i32   the broker sets it
//! 16  magic                  i8    2
//! 17  crc                    u32   CRC-32C of everything from `attributes` to the end
//! 21  attributes             i16   bits 0-2 compression, 3 timestamp type, 4 transactional,
//!                                  5 control, 6 delete horizon (base_timestamp holds it)
//! 23  last_offset_delta      i32   offset of the last record, counted from base_offset
//! 27  base_timestamp         i64   ms; the records' timestamps count from it
//! 35  max_timestamp          i64   ms; with log-append time, the timestamp of all records
//! 43  producer_id            i64   -1: not idempotent
//! 51  producer_epoch         i16
//! 53  base_sequence          i32   the producer's number of the first record
//! 57  records_count          i32
//! 61  the records, compressed as one block when `attributes` says so
//! ```
//!
//! The checksum covers nothing that the broker assigns (base offset, leader epoch), so a batch is
//! appended with its offsets written in place and without a new checksum. Compaction may leave
//! `last_offset_delta` larger than `records_count - 1`, and batches without any record: what a log
//! may hold is more than what a producer may send.

use super::reader::{ReadError, Reader};

/// The format version that is written, and the only one that is read.
pub const MAGIC: i8 = 2;

const ATTRIBUTES_AT: usize = 21;
const CRC_AT: usize = 17;
const MAX_TIMESTAMP_AT: usize = 35;

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;

/// Why a batch is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("the batch needs {needed} bytes, there are {available}")]
    Truncated { needed: usize, available: usize },
    #[error("batch_length {0} is less than a batch's header")]
    Length(i32),
    #[error("batches of magic {0} are not supported, only those of magic 2")]
    Magic(i8),
    #[error("the batch's checksum is {computed:#010x}, its header says {stored:#010x}")]
    Checksum { stored: u32, computed: u32 },
    #[error("unknown compression type {0}")]
    UnknownCompression(i16),
    #[error("zstd is allowed in Produce requests from version 7 on, this is version {0}")]
    ZstdTooEarly(i16),
    #[error("there is no record batch; a Produce request must hold one per partition")]
    NoBatch,
    #[error("there is more than one record batch; a Produce request must hold one per partition")]
    SeveralBatches,
    #[error("the batch is of {size} bytes, the largest allowed is {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("a producer's batch must have base offset 0, this has {0}")]
    BaseOffset(i64),
    #[error("the batch declares {0} records")]
    RecordsCount(i32),
    #[error("the batch declares {records_count} records, and a last offset delta of {last_offset_delta}")]
    OffsetRange { records_count: i32, last_offset_delta: i32 },
    #[error("clients are not allowed to write control batches")]
    Control,
    #[error("producers must not set the timestamp type to LogAppendTime")]
    TimestampType,
    #[error(
        "producer id {producer_id}, epoch {producer_epoch}, base sequence {base_sequence} do not fit together"
    )]
    Producer { producer_id: i64, producer_epoch: i16, base_sequence: i32 },
    #[error("record {index} of the batch: {cause}")]
    Record { index: i32, cause: RecordError },
    #[error("{0} bytes are left over after the last record of the batch")]
    LeftOver(usize),
    #[error("the batch cannot be decompressed ({codec}): {cause}")]
    Decompress { codec: &'static str, cause: String },
    #[error("the batch decompresses to more than {limit} bytes")]
    DecompressedTooLarge { limit: usize },
}

/// Why a record inside of a batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("its length does not fit its fields")]
    Length,
    #[error("a key or value has length {0}")]
    FieldLength(i32),
    #[error("the number of headers is {0}")]
    HeaderCount(i32),
    #[error("its offset delta is {found}, not {expected}")]
    OffsetDelta { expected: i32, found: i32 },
}

/// How the records of a batch are compressed. The numbers are those of `attributes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    #[default]
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Compression {
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// Kafka's name of it, as in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    fn from_attributes(attributes: i16) -> Result<Self, BatchError> {
        match attributes & COMPRESSION_MASK {
            0 => Ok(Compression::None),
            1 => Ok(Compression::Gzip),
            2 => Ok(Compression::Snappy),
            3 => Ok(Compression::Lz4),
            4 => Ok(Compression::Zstd),
            other => Err(BatchError::UnknownCompression(other)),
        }
    }
}

/// What the timestamps of a batch mean (`message.timestamp.type`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum TimestampType {
    #[default]
    CreateTime,
    LogAppendTime,
}

/// The fixed part of a batch. All values are as the bytes say, unchecked but for magic and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    pub batch_length: i32,
    pub partition_leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub records_count: i32,
}

impl BatchHeader {
    /// Bytes of the header.
    pub const SIZE: usize = 61;
    /// Bytes of base offset and batch length: what `batch_length` does not count.
    pub const LOG_OVERHEAD: usize = 12;

    /// Reads the header at the start of `bytes`; the records need not be there.
    ///
    /// # Errors
    /// `Truncated` with fewer than 61 bytes, `Magic` of another format, `Length` when the batch would
    /// be shorter than its header.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        // Older formats have their magic at the same place but shorter headers: look at it first.
        if let Some(&magic) = bytes.get(16)
            && magic as i8 != MAGIC
        {
            return Err(BatchError::Magic(magic as i8));
        }
        let truncated = BatchError::Truncated { needed: Self::SIZE, available: bytes.len() };
        let header = Self::read(bytes).map_err(|_| truncated)?;
        if header.batch_length < (Self::SIZE - Self::LOG_OVERHEAD) as i32 {
            return Err(BatchError::Length(header.batch_length));
        }
        Ok(header)
    }

    fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        // Taking the header as one piece leaves a single bounds check for all of its fields.
        let mut reader = Reader::new(Reader::new(bytes).take(Self::SIZE)?);
        Ok(Self {
            base_offset: reader.i64()?,
            batch_length: reader.i32()?,
            partition_leader_epoch: reader.i32()?,
            magic: reader.i8()?,
            crc: reader.u32()?,
            attributes: reader.i16()?,
            last_offset_delta: reader.i32()?,
            base_timestamp: reader.i64()?,
            max_timestamp: reader.i64()?,
            producer_id: reader.i64()?,
            producer_epoch: reader.i16()?,
            base_sequence: reader.i32()?,
            records_count: reader.i32()?,
        })
    }

    /// Writes the header as it is, checksum included.
    pub fn encode(&self, out: &mut [u8; Self::SIZE]) {
        out[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        out[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        out[16] = self.magic as u8;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.records_count.to_be_bytes());
    }

    /// Bytes of the whole batch.
    pub fn size(&self) -> usize {
        Self::LOG_OVERHEAD + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// Offset of the last record (also of one that compaction took away).
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset after the last one.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// The producer's number of the last record; sequences wrap around to 0 after `i32::MAX`.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (last & i64::from(i32::MAX)) as i32
    }

    /// # Errors
    /// `UnknownCompression` for the ids 5 to 7.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        Compression::from_attributes(self.attributes)
    }

    /// False where a producer that does its work cannot have written these timestamps: the base timestamp is that of
    /// the first record, so a lone record's is the largest too. Several records may have been made within one
    /// millisecond; but a largest timestamp that was never set may be just that of the first (or -1, or 0).
    pub fn has_plausible_timestamps(&self) -> bool {
        match self.records_count {
            1 => self.max_timestamp == self.base_timestamp,
            _ => self.max_timestamp > self.base_timestamp,
        }
    }

    pub fn timestamp_type(&self) -> TimestampType {
        match self.attributes & LOG_APPEND_TIME {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether its records are markers of the broker (a transaction's end, a leader change).
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// When compaction may drop the tombstones of this batch (ms), once that has been decided.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// The header of this batch once compaction wrote it anew: with the time (ms) when its tombstones may go, which
    /// takes the place of the base timestamp (KIP-534), or with the base timestamp that the caller has set.
    pub fn with_delete_horizon(self, horizon_ms: Option<i64>) -> Self {
        match horizon_ms {
            Some(horizon_ms) => {
                let attributes = self.attributes | DELETE_HORIZON;
                Self { attributes, base_timestamp: horizon_ms, ..self }
            }
            None => Self { attributes: self.attributes & !DELETE_HORIZON, ..self },
        }
    }

    /// The header of this batch once compaction has taken all records out of it: it stays for its offsets and its
    /// producer's sequence.
    pub fn emptied(self) -> Self {
        let attributes = self.attributes & !(COMPRESSION_MASK | DELETE_HORIZON);
        Self { attributes, base_timestamp: -1, records_count: 0, ..self }
    }

    /// Whether an idempotent or transactional producer wrote it.
    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }
}

/// One whole batch: its header, and all of its bytes, the header's included.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    pub header: BatchHeader,
    pub bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Takes the batch at the start of `bytes`, which may go on after it.
    ///
    /// # Errors
    /// Those of [`BatchHeader::parse`]; `Truncated` also when the records are not all there.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let needed = header.size();
        match bytes.get(..needed) {
            Some(bytes) => Ok(Self { header, bytes }),
            None => Err(BatchError::Truncated { needed, available: bytes.len() }),
        }
    }

    /// The bytes after the header: the records, compressed or not.
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(BatchHeader::SIZE..).unwrap_or_default()
    }

    /// Holds the header's checksum to the bytes.
    ///
    /// # Errors
    /// `Checksum`.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = crc(self.bytes);
        match computed == self.header.crc {
            true => Ok(()),
            false => Err(BatchError::Checksum { stored: self.header.crc, computed }),
        }
    }
}

/// The batches that follow each other in `bytes`. After an error there is nothing more; bytes that
/// end inside of a batch give `Truncated`, the way a log read up to a number of bytes ends.
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { rest: bytes }
}

/// See [`batches`].
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = Batch::parse(self.rest);
        self.rest = match &batch {
            Ok(batch) => self.rest.get(batch.bytes.len()..).unwrap_or_default(),
            Err(_) => &[],
        };
        Some(batch)
    }
}

/// CRC-32C of a whole batch, from `attributes` to the end of `batch`.
pub fn crc(batch: &[u8]) -> u32 {
    crc32c::crc32c(batch.get(ATTRIBUTES_AT..).unwrap_or_default())
}

/// Writes the offset of the first record. The checksum does not cover it.
///
/// # Panics
/// If `batch` is shorter than a header, as do all setters: parse it first.
pub fn set_base_offset(batch: &mut [u8], base_offset: i64) {
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
}

/// Writes the epoch of the leader that appends. The checksum does not cover it.
pub fn set_partition_leader_epoch(batch: &mut [u8], partition_leader_epoch: i32) {
    batch[12..16].copy_from_slice(&partition_leader_epoch.to_be_bytes());
}

/// Makes `timestamp_ms` the log-append time of all records of the batch, and renews the checksum.
/// `batch` must be exactly one batch.
pub fn set_log_append_time(batch: &mut [u8], timestamp_ms: i64) {
    let attributes = i16::from_be_bytes([batch[ATTRIBUTES_AT], batch[ATTRIBUTES_AT + 1]]);
    let attributes = attributes | LOG_APPEND_TIME;
    batch[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    set_max_timestamp(batch, timestamp_ms);
}

/// Writes the largest timestamp (ms) of the batch, and renews the checksum. `batch` must be exactly
/// one batch.
pub fn set_max_timestamp(batch: &mut [u8], timestamp_ms: i64) {
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&timestamp_ms.to_be_bytes());
    seal(batch);
}

/// Renews the checksum of `batch`, which must be exactly one batch.
pub fn seal(batch: &mut [u8]) {
    let crc = crc(batch);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
}
