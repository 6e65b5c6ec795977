//! Batches written anew: by clients and tests, for the broker's own topics, and in another codec.

use bytes::{Bytes, BytesMut};

use super::batch::{Batch, BatchError, BatchHeader, Compression, MAGIC, TimestampType, crc};
use super::compression::compress;
use super::reader::{put_varint, put_varlong};
use super::walk::{Walked, walk_payload};

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// What a batch says of all of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    pub base_offset: i64,
    pub partition_leader_epoch: i32,
    pub compression: Compression,
    /// The codec's level; see [`compress`].
    pub compression_level: Option<i32>,
    pub timestamp_type: TimestampType,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub transactional: bool,
    pub control: bool,
}

impl Default for BatchOptions {
    /// As a producer without idempotence sends it.
    fn default() -> Self {
        Self {
            base_offset: 0,
            partition_leader_epoch: -1,
            compression: Compression::None,
            compression_level: None,
            timestamp_type: TimestampType::CreateTime,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            transactional: false,
            control: false,
        }
    }
}

/// Gathers records into one batch. Their offsets follow each other from the base offset on.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    options: BatchOptions,
    /// The records so far, not compressed.
    payload: Vec<u8>,
    /// One record without its length; kept for its memory.
    record: Vec<u8>,
    records_count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    pub fn new(options: BatchOptions) -> Self {
        Self {
            options,
            payload: Vec::new(),
            record: Vec::new(),
            records_count: 0,
            base_timestamp: -1,
            max_timestamp: -1,
        }
    }

    /// Adds a record without headers; `timestamp_ms` since 1970.
    ///
    /// # Errors
    /// Those of [`BatchBuilder::add_with_headers`].
    pub fn add(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<&mut Self, BatchError> {
        self.add_with_headers(timestamp_ms, key, value, &[])
    }

    /// Adds a record. The first one's timestamp is the batch's base timestamp.
    ///
    /// # Errors
    /// `TooLarge` when the batch would be of 2 GiB or more; it is as before then.
    pub fn add_with_headers(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> Result<&mut Self, BatchError> {
        let of = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let fields = headers.iter().map(|(key, value)| key.len() + of(*value) + 10).sum::<usize>();
        // The other fields and all their varints take less than 64 bytes.
        let size = self.size() + of(key) + of(value) + fields + 64;
        if i32::try_from(size).is_err() {
            return Err(BatchError::TooLarge { size, limit: i32::MAX as usize });
        }
        if self.records_count == 0 {
            self.base_timestamp = timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        let out = &mut self.record;
        out.clear();
        out.push(0);
        put_varlong(out, timestamp_ms.wrapping_sub(self.base_timestamp));
        put_varint(out, self.records_count);
        put_nullable(out, key);
        put_nullable(out, value);
        put_varint(out, headers.len() as i32);
        for (key, value) in headers {
            put_nullable(out, Some(key));
            put_nullable(out, *value);
        }
        put_varint(&mut self.payload, self.record.len() as i32);
        self.payload.extend_from_slice(&self.record);
        self.records_count += 1;
        Ok(self)
    }

    /// How many records there are.
    pub fn records_count(&self) -> i32 {
        self.records_count
    }

    /// Bytes of the batch before compression.
    pub fn size(&self) -> usize {
        BatchHeader::SIZE + self.payload.len()
    }

    /// The batch. With log-append time, the largest timestamp stands for that of all records.
    ///
    /// # Errors
    /// `Decompress` when the codec refuses its level.
    pub fn build(&self) -> Result<Bytes, BatchError> {
        self.build_mut().map(BytesMut::freeze)
    }

    /// As [`BatchBuilder::build`], to be changed in place.
    ///
    /// # Errors
    /// Those of [`BatchBuilder::build`].
    pub fn build_mut(&self) -> Result<BytesMut, BatchError> {
        let options = &self.options;
        let flag = |is_set: bool, bit: i16| if is_set { bit } else { 0 };
        let attributes = options.compression as i16
            | flag(options.timestamp_type == TimestampType::LogAppendTime, LOG_APPEND_TIME)
            | flag(options.transactional, TRANSACTIONAL)
            | flag(options.control, CONTROL);
        let header = BatchHeader {
            base_offset: options.base_offset,
            batch_length: 0,
            partition_leader_epoch: options.partition_leader_epoch,
            magic: MAGIC,
            crc: 0,
            attributes,
            last_offset_delta: self.records_count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: options.producer_id,
            producer_epoch: options.producer_epoch,
            base_sequence: options.base_sequence,
            records_count: self.records_count,
        };
        let payload = compress(options.compression, &self.payload, options.compression_level)?;
        join(header, &payload)
    }
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
    }
}

/// The header and the block after it, with the length and the checksum that they have together.
///
/// # Errors
/// `TooLarge` when that would be 2 GiB or more.
pub fn join(mut header: BatchHeader, payload: &[u8]) -> Result<BytesMut, BatchError> {
    let size = BatchHeader::SIZE + payload.len();
    let too_large = BatchError::TooLarge { size, limit: i32::MAX as usize };
    header.batch_length = i32::try_from(size - BatchHeader::LOG_OVERHEAD).map_err(|_| too_large)?;
    let mut head = [0; BatchHeader::SIZE];
    header.encode(&mut head);
    let mut out = BytesMut::with_capacity(size);
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
    let crc = crc(&out);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    Ok(out)
}

/// Writes a producer's batch anew in another codec, and gives what the walk over its records saw. The records' bytes stay what they are, so their
/// deltas, keys, values and headers do; of the header, only the codec, the length and the checksum
/// change.
///
/// # Errors
/// What [`Batch::walk_compressed`] finds in the records; `DecompressedTooLarge` beyond `limit_bytes`;
/// `TooLarge` when the new batch would be of 2 GiB or more.
pub fn recompress(
    batch: &Batch<'_>,
    compression: Compression,
    level: Option<i32>,
    limit_bytes: usize,
) -> Result<(BytesMut, Walked), BatchError> {
    let records = batch.decompressed(limit_bytes)?;
    let walked = walk_payload(batch.header.records_count, &records)?;
    let attributes = batch.header.attributes & !COMPRESSION_MASK | compression as i16;
    let payload = compress(compression, &records, level)?;
    Ok((join(BatchHeader { attributes, ..batch.header }, &payload)?, walked))
}

#[cfg(test)]
mod tests {
    use super::super::batch::RecordError;
    use super::super::check_for_produce;
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn sample(options: BatchOptions) -> BytesMut {
        let mut builder = BatchBuilder::new(options);
        for n in 0..100 {
            let value = vec![n as u8; n * 10];
            let headers: [(&[u8], _); 3] = [(b"k", Some(&b"v"[..])), (b"k", None), (b"\xff", Some(b""))];
            let key = (n % 3 > 0).then_some(&b"key"[..]);
            let value = (n % 5 > 0).then_some(&value[..]);
            builder.add_with_headers(1000 - n as i64, key, value, &headers[..n % 4]).expect("is small");
        }
        builder.build_mut().expect("builds")
    }

    #[test]
    fn every_codec_holds_the_same_records_and_recompression_keeps_them() {
        let options =
            BatchOptions { producer_id: 7, producer_epoch: 1, base_sequence: 3, ..BatchOptions::default() };
        let plain = sample(options);
        let plain = Batch::parse(&plain).expect("parses");
        let records = |batch: &Batch<'_>| {
            batch.records(LIMIT).expect("opens").collect::<Result<Vec<_>, _>>().expect("reads")
        };
        let expected = records(&plain);
        assert_eq!((expected.len(), expected[99].offset, expected[99].timestamp), (100, 99, 901));
        assert_eq!(expected[3].headers.len(), 3);
        assert_eq!((expected[0].key.as_deref(), expected[1].key.as_deref()), (None, Some(&b"key"[..])));
        for from in Compression::ALL {
            let bytes = sample(BatchOptions { compression: from, ..options });
            let header = check_for_produce(&bytes).expect("is what a producer may send");
            assert_eq!((header.max_timestamp, header.last_offset_delta), (1000, 99));
            let batch = Batch::parse(&bytes).expect("parses");
            assert_eq!(records(&batch), expected, "{from:?}");
            let walked = batch.walk_compressed(LIMIT).expect("is right");
            assert_eq!(walked.timestamps(&header), Some([901, 1000]));
            assert_eq!(walked.keyless, Some(0));
            assert_eq!(batch.walk_compressed(100), Err(BatchError::DecompressedTooLarge { limit: 100 }));
            for to in Compression::ALL {
                let (bytes, _) = recompress(&batch, to, None, LIMIT).expect("recompresses");
                let again = check_for_produce(&bytes).expect("is right again");
                assert_eq!(again.compression(), Ok(to));
                let (crc, batch_length, attributes) = (header.crc, header.batch_length, header.attributes);
                assert_eq!(BatchHeader { crc, batch_length, attributes, ..again }, header);
                assert_eq!(records(&Batch::parse(&bytes).expect("parses")), expected, "{from:?} {to:?}");
            }
        }
    }

    /// Renews the checksum, so that only what the test changed is wrong.
    fn sealed(mut bytes: BytesMut, change: impl FnOnce(&mut BytesMut)) -> BytesMut {
        change(&mut bytes);
        let length = (bytes.len() - BatchHeader::LOG_OVERHEAD) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc(&bytes);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    #[test]
    fn what_a_producer_must_not_send_is_told_apart() {
        let bytes = sample(BatchOptions::default());
        let check = |change: fn(&mut BytesMut)| {
            check_for_produce(&sealed(bytes.clone(), change)).expect_err("is wrong")
        };
        assert_eq!(check_for_produce(&[]), Err(BatchError::NoBatch));
        let twice = [&bytes[..], &bytes[..]].concat();
        assert_eq!(check_for_produce(&twice), Err(BatchError::SeveralBatches));
        assert!(matches!(check_for_produce(&bytes[..200]), Err(BatchError::Truncated { .. })));
        let mut flipped = bytes.clone();
        flipped[100] ^= 1;
        assert!(matches!(check_for_produce(&flipped), Err(BatchError::Checksum { .. })));
        assert_eq!(check(|bytes| bytes[7] = 4), BatchError::BaseOffset(4));
        assert_eq!(check(|bytes| bytes[22] |= 0x20), BatchError::Control);
        assert_eq!(check(|bytes| bytes[22] |= 0x08), BatchError::TimestampType);
        assert_eq!(check(|bytes| bytes[22] |= 0x07), BatchError::UnknownCompression(7));
        assert_eq!(check(|bytes| bytes[16] = 1), BatchError::Magic(1));
        assert_eq!(check(|bytes| bytes[57] = 0x80), BatchError::RecordsCount(i32::MIN + 100));
        assert!(matches!(check(|bytes| bytes[60] = 99), BatchError::OffsetRange { .. }));
        assert!(matches!(check(|bytes| bytes[43] = 0), BatchError::Producer { .. }));
        assert_eq!(check(|bytes| bytes.extend_from_slice(&[0, 0])), BatchError::LeftOver(2));
        let cut = |bytes: &mut BytesMut| bytes.truncate(bytes.len() - 1);
        assert!(matches!(check(cut), BatchError::Record { index: 99, .. }));
        // The first record: length, attributes, timestamp delta, then the offset delta.
        let cause = RecordError::OffsetDelta { expected: 0, found: 1 };
        assert_eq!(check(|bytes| bytes[64] = 2), BatchError::Record { index: 0, cause });
        let cause = RecordError::FieldLength(-2);
        assert_eq!(check(|bytes| bytes[65] = 3), BatchError::Record { index: 0, cause });
    }

    #[test]
    fn no_byte_makes_it_panic() {
        for codec in Compression::ALL {
            let bytes = sample(BatchOptions { compression: codec, ..BatchOptions::default() });
            for at in (0..bytes.len().min(200)).chain(bytes.len() - 20..bytes.len()) {
                for value in [0, 0x7f, 0xff] {
                    let mut bytes = bytes.clone();
                    bytes[at] = value;
                    let _ = check_for_produce(&bytes);
                    if let Ok(batch) = Batch::parse(&bytes) {
                        let _ = batch.walk();
                        let _ = batch.records(LIMIT).map(|records| records.count());
                    }
                }
            }
        }
    }
}
