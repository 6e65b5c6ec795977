//! The records inside of a batch of format v2.
//!
//! ```text
//! length          varint   bytes of the record after this field
//! attributes      i8       unused
//! timestamp_delta varlong  ms after the batch's base timestamp
//! offset_delta    varint   after the batch's base offset
//! key             varint length (-1: null), bytes
//! value           varint length (-1: null), bytes
//! headers         varint count, each: key (varint length, bytes), value (as the record's value)
//! ```
//!
//! Header keys may repeat and are taken as bytes: nothing in here needs them to be text.

use std::borrow::Cow;

use bytes::Bytes;

use super::batch::{Batch, BatchError, BatchHeader, RecordError, TimestampType};
use super::compression::decompress;
use super::reader::{Reader, put_varint, put_varlong};

/// One record, its bytes shared with the block that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordView {
    pub offset: i64,
    /// In ms; the broker's time of append if the batch says so.
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<RecordHeader>,
}

/// A header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// The fields of a record as they are in the bytes; `headers` not taken apart yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawRecord<'a> {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub header_count: i32,
    pub headers: &'a [u8],
}

impl<'a> RawRecord<'a> {
    /// Takes the next record. Its headers are only known to be bytes of the record.
    // A walk drops most fields unread: inlined, it does not make them.
    #[inline(always)]
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, RecordError> {
        let length = usize::try_from(reader.varint()?).map_err(|_| RecordError::Length)?;
        let mut fields = Reader::new(reader.take(length)?);
        fields.i8()?;
        Ok(Self {
            timestamp_delta: fields.varlong()?,
            offset_delta: fields.varint()?,
            key: nullable(&mut fields)?,
            value: nullable(&mut fields)?,
            header_count: fields.varint()?,
            headers: fields.rest(),
        })
    }

    /// Calls `each` with every header, and holds the record to end with the last one.
    #[inline]
    pub(super) fn headers(
        &self,
        mut each: impl FnMut(&'a [u8], Option<&'a [u8]>),
    ) -> Result<(), RecordError> {
        if self.header_count < 0 {
            return Err(RecordError::HeaderCount(self.header_count));
        }
        let mut reader = Reader::new(self.headers);
        for _ in 0..self.header_count {
            // Every header takes two bytes or more: a count beyond the bytes ends here soon.
            let key = nullable(&mut reader)?.ok_or(RecordError::FieldLength(-1))?;
            each(key, nullable(&mut reader)?);
        }
        match reader.is_empty() {
            true => Ok(()),
            false => Err(RecordError::Length),
        }
    }
}

/// One record as it lies in its batch: what compaction looks at, and the rest as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// ms after the batch's base timestamp.
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    /// False for a tombstone.
    pub has_value: bool,
    /// Key, value and headers with their lengths, as they are.
    fields: &'a [u8],
}

impl RecordRef<'_> {
    /// Writes the record with another timestamp delta (ms).
    pub fn write(&self, timestamp_delta: i64, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        scratch.clear();
        scratch.push(0);
        put_varlong(scratch, timestamp_delta);
        put_varint(scratch, self.offset_delta);
        // It was shorter than 2 GiB, and at most nine bytes are new.
        put_varint(out, i32::try_from(scratch.len() + self.fields.len()).unwrap_or(i32::MAX));
        out.extend_from_slice(scratch);
        out.extend_from_slice(self.fields);
    }
}

/// Calls `each` with every record of `payload` (not compressed), in the order of their offsets, which
/// may have gaps.
///
/// # Errors
/// `Record` of the first that cannot be read, or whose offset is not above the one before or not of the batch;
/// `LeftOver`.
pub fn each_record<'a>(
    header: &BatchHeader,
    payload: &'a [u8],
    mut each: impl FnMut(RecordRef<'a>),
) -> Result<(), BatchError> {
    let mut reader = Reader::new(payload);
    let mut expected = 0;
    for index in 0..header.records_count {
        let mut read = || -> Result<RecordRef<'a>, RecordError> {
            let length = usize::try_from(reader.varint()?).map_err(|_| RecordError::Length)?;
            let mut fields = Reader::new(reader.take(length)?);
            fields.i8()?;
            let (timestamp_delta, offset_delta) = (fields.varlong()?, fields.varint()?);
            let rest = fields.rest();
            let (key, value) = (nullable(&mut fields)?, nullable(&mut fields)?);
            if offset_delta < expected || offset_delta > header.last_offset_delta {
                return Err(RecordError::OffsetDelta { expected, found: offset_delta });
            }
            Ok(RecordRef { timestamp_delta, offset_delta, key, has_value: value.is_some(), fields: rest })
        };
        let record = read().map_err(|cause| BatchError::Record { index, cause })?;
        expected = record.offset_delta.saturating_add(1);
        each(record);
    }
    match reader.remaining() {
        0 => Ok(()),
        left => Err(BatchError::LeftOver(left)),
    }
}

#[inline(always)]
pub(super) fn nullable<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, RecordError> {
    let raw = reader.unsigned_varint()?;
    match raw {
        1 => Ok(None),
        _ if raw & 1 == 0 => Ok(Some(reader.take((raw >> 1) as usize)?)),
        _ => Err(RecordError::FieldLength(!(raw >> 1) as i32)),
    }
}

impl<'a> Batch<'a> {
    /// The bytes of the records, decompressed when they are compressed.
    ///
    /// # Errors
    /// `UnknownCompression`, `Decompress`, or `DecompressedTooLarge` beyond `limit_bytes`.
    pub fn decompressed(&self, limit_bytes: usize) -> Result<Cow<'a, [u8]>, BatchError> {
        let compression = self.header.compression()?;
        // A batch that compaction emptied has no block at all, not an empty one.
        if self.header.records_count == 0 && self.payload().is_empty() {
            return Ok(Cow::Borrowed(&[]));
        }
        decompress(compression, self.payload(), limit_bytes)
    }

    /// The records in their order. The offsets may have gaps, in what compaction wrote.
    /// Records that are not compressed are copied once; `limit_bytes` bounds the memory.
    ///
    /// # Errors
    /// Those of [`Batch::decompressed`]; the iterator itself ends after its first error.
    pub fn records(&self, limit_bytes: usize) -> Result<Records, BatchError> {
        let payload = Bytes::from(self.decompressed(limit_bytes)?.into_owned());
        Ok(Records { header: self.header, payload, position: 0, index: 0 })
    }
}

/// See [`Batch::records`].
#[derive(Debug, Clone)]
pub struct Records {
    header: BatchHeader,
    payload: Bytes,
    position: usize,
    /// Of the next record; the header's count once an error ended it all.
    index: i32,
}

impl Records {
    fn read(&mut self) -> Result<RecordView, RecordError> {
        let rest = self.payload.get(self.position..).unwrap_or_default();
        let mut reader = Reader::new(rest);
        let raw = RawRecord::read(&mut reader)?;
        // Grown header by header: the count alone must not allocate.
        let mut headers = Vec::new();
        raw.headers(|key, value| {
            let key = self.payload.slice_ref(key);
            headers.push(RecordHeader { key, value: value.map(|value| self.payload.slice_ref(value)) });
        })?;
        let timestamp = match self.header.timestamp_type() {
            TimestampType::CreateTime => self.header.base_timestamp.wrapping_add(raw.timestamp_delta),
            TimestampType::LogAppendTime => self.header.max_timestamp,
        };
        let view = RecordView {
            offset: self.header.base_offset.wrapping_add(i64::from(raw.offset_delta)),
            timestamp,
            key: raw.key.map(|key| self.payload.slice_ref(key)),
            value: raw.value.map(|value| self.payload.slice_ref(value)),
            headers,
        };
        self.position += rest.len() - reader.remaining();
        Ok(view)
    }
}

impl Iterator for Records {
    type Item = Result<RecordView, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.header.records_count {
            let left = self.payload.len() - self.position;
            self.position = self.payload.len();
            return (left > 0).then_some(Err(BatchError::LeftOver(left)));
        }
        let record = self.read().map_err(|cause| BatchError::Record { index: self.index, cause });
        match record {
            Ok(_) => self.index += 1,
            Err(_) => {
                self.index = self.header.records_count;
                self.position = self.payload.len();
            }
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check_for_produce;
    use super::*;

    /// Written by Kafka 4.3's `MemoryRecordsBuilder`: three records, one with headers, one tombstone.
    #[rustfmt::skip]
    const KAFKA: [(&str, &str); 5] = [
        ("none", "0000000000000000000000840000000002e52a270c00000000000200000000000003e800000000000003e900000000000000070001000000050000000370000000066b65795e76616c75652076616c75652076616c75652076616c75652076616c75652076616c75652076616c75652076616c7565001c00010201027804026802310268011400020408746f6d620100"),
        ("gzip", "0000000000000000000000710000000002352adea400010000000200000000000003e800000000000003e90000000000000007000100000005000000031f8b08000000000000ff2b60606060cb4ead8c2b4bcc294d55209a64906160646264aa6061ca603264ca6014616062e128c9cf4d626400009cc7434753000000"),
        ("snappy", "0000000000000000000000750000000002d7c29bab00020000000200000000000003e800000000000003e900000000000000070001000000050000000382534e4150505900000000010000000100000030533870000000066b65795e76616c756520a2060068001c00010201027804026802310268011400020408746f6d620100"),
        ("lz4", "00000000000000000000007100000000029b6c04a800030000000200000000000003e800000000000003e900000000000000070001000000050000000304224d1860408231000000ff0070000000066b65795e76616c756520060016f00c001c00010201027804026802310268011400020408746f6d62010000000000"),
        ("zstd", "00000000000000000000006e00000000028a35b4aa00040000000200000000000003e800000000000003e900000000000000070001000000050000000328b52ffd00588c0100a40270000000066b65795e76616c756520001c00010201027804026802310268011400020408746f6d620100010002953a010000"),
    ];

    #[test]
    fn batches_that_kafka_wrote_are_read_in_every_codec() {
        for (name, hex) in KAFKA {
            let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("is hex");
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digit).collect();
            let header = check_for_produce(&bytes).expect("is right");
            assert_eq!(header.compression().expect("is known").name(), name);
            assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 1, 5));
            let batch = Batch::parse(&bytes).expect("parses");
            let walked = batch.walk_compressed(1000).expect("is right");
            assert_eq!(walked.timestamps(&header), Some([999, 1001]), "{name}");
            assert_eq!((header.max_timestamp, walked.keyless), (1001, Some(1)), "{name}");
            let records: Vec<_> = batch.records(1000).expect("opens").map(|r| r.expect("reads")).collect();
            let text = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
            let record = |offset, timestamp, key, value| RecordView {
                offset,
                timestamp,
                key,
                value,
                headers: Vec::new(),
            };
            let twice = |value| RecordHeader { key: Bytes::from_static(b"h"), value };
            let mut expected = vec![
                record(0, 1000, text("key"), text("value value value value value value value value")),
                record(1, 999, None, text("x")),
                record(2, 1001, text("tomb"), None),
            ];
            expected[1].headers = vec![twice(text("1")), twice(None)];
            assert_eq!(records, expected, "{name}");
        }
    }
}
