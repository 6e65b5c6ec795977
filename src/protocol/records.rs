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

use super::batch::{Batch, BatchError, BatchHeader, Compression, RecordError, TimestampType};
use super::compression::decompress;
use super::reader::Reader;

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
struct RawRecord<'a> {
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    header_count: i32,
    headers: &'a [u8],
}

impl<'a> RawRecord<'a> {
    /// Takes the next record. Its headers are only known to be bytes of the record.
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, RecordError> {
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
    fn headers(&self, mut each: impl FnMut(&'a [u8], Option<&'a [u8]>)) -> Result<(), RecordError> {
        if self.header_count < 0 {
            return Err(RecordError::HeaderCount(self.header_count));
        }
        let mut reader = Reader::new(self.headers);
        for _ in 0..self.header_count {
            // Every header takes two bytes or more: a count beyond the bytes ends here soon.
            let length = reader.varint()?;
            let length = usize::try_from(length).map_err(|_| RecordError::FieldLength(length))?;
            let key = reader.take(length)?;
            each(key, nullable(&mut reader)?);
        }
        match reader.is_empty() {
            true => Ok(()),
            false => Err(RecordError::Length),
        }
    }
}

#[inline]
fn nullable<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, RecordError> {
    match reader.varint()? {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Ok(length) => Ok(Some(reader.take(length)?)),
            Err(_) => Err(RecordError::FieldLength(length)),
        },
    }
}

/// Holds `payload` (not compressed) to be `records_count` records with the offset deltas 0, 1, 2 ...
/// and nothing after them. Keys, values and headers are passed over.
///
/// # Errors
/// `Record` of the first that is not right, `LeftOver`.
pub fn walk_payload(records_count: i32, payload: &[u8]) -> Result<(), BatchError> {
    let mut reader = Reader::new(payload);
    for index in 0..records_count {
        let record = RawRecord::read(&mut reader)
            .and_then(|record| record.headers(|_, _| ()).map(|()| record))
            .map_err(|cause| BatchError::Record { index, cause })?;
        if record.offset_delta != index {
            let cause = RecordError::OffsetDelta { expected: index, found: record.offset_delta };
            return Err(BatchError::Record { index, cause });
        }
    }
    match reader.remaining() {
        0 => Ok(()),
        left => Err(BatchError::LeftOver(left)),
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

    /// Holds the records of a producer's batch to their count, their lengths and the offset deltas
    /// 0, 1, 2 ..., without copying or decoding anything. Compressed records are left alone; see
    /// [`Batch::walk_compressed`].
    ///
    /// # Errors
    /// Those of [`walk_payload`], `UnknownCompression`.
    pub fn walk(&self) -> Result<(), BatchError> {
        match self.header.compression()? {
            Compression::None => walk_payload(self.header.records_count, self.payload()),
            _ => Ok(()),
        }
    }

    /// As [`Batch::walk`], and decompresses what is compressed.
    ///
    /// # Errors
    /// Those of [`walk_payload`] and [`Batch::decompressed`].
    pub fn walk_compressed(&self, limit_bytes: usize) -> Result<(), BatchError> {
        walk_payload(self.header.records_count, &self.decompressed(limit_bytes)?)
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
