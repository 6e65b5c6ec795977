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
use super::reader::{Reader, put_varint, put_varlong, short_varint, unzigzag};

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
    // A walk drops most fields unread: inlined, it does not make them.
    #[inline(always)]
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
fn nullable<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, RecordError> {
    let raw = reader.unsigned_varint()?;
    match raw {
        1 => Ok(None),
        _ if raw & 1 == 0 => Ok(Some(reader.take((raw >> 1) as usize)?)),
        _ => Err(RecordError::FieldLength(!(raw >> 1) as i32)),
    }
}

/// What a walk over a producer's records saw. Timestamps are ms after the batch's base timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    pub timestamp_delta_min: i64,
    pub timestamp_delta_max: i64,
    /// The first record without a key, which a compacted topic does not take.
    pub keyless: Option<i32>,
}

impl Walked {
    /// The largest timestamp of the records, in ms. Kafka writes it into the header of every batch
    /// that it appends, as not every client finds it (some put the last record's there).
    pub fn max_timestamp(&self, header: &BatchHeader) -> i64 {
        header.base_timestamp.wrapping_add(self.timestamp_delta_max)
    }

    /// The smallest timestamp of the records, in ms.
    pub fn min_timestamp(&self, header: &BatchHeader) -> i64 {
        header.base_timestamp.wrapping_add(self.timestamp_delta_min)
    }
}

/// What a walk takes from one record.
struct Passed {
    timestamp_delta: i64,
    keyed: bool,
}

impl Walked {
    #[inline(always)]
    fn see(&mut self, index: i32, record: &Passed) {
        self.timestamp_delta_min = self.timestamp_delta_min.min(record.timestamp_delta);
        self.timestamp_delta_max = self.timestamp_delta_max.max(record.timestamp_delta);
        if !record.keyed && self.keyless.is_none() {
            self.keyless = Some(index);
        }
    }
}

/// The encodings of the offset deltas from one on, as long as they are of one length: a record's is
/// compared with the one that it must be, which costs less than decoding it.
struct DeltaEncoding {
    /// The delta's bytes, lowest first, as all of these.
    bytes: u64,
    /// The bits that say of a byte that another one follows.
    continued: u64,
    /// All bits of the delta's bytes.
    mask: u64,
    length: usize,
    /// The first delta that takes more bytes.
    until: i32,
}

impl DeltaEncoding {
    /// `delta` is 0 or more.
    fn of(delta: i32) -> Self {
        let (length, until) = match delta {
            ..0x40 => (1, 0x40),
            0x40..0x2000 => (2, 0x2000),
            0x2000..0x10_0000 => (3, 0x10_0000),
            0x10_0000..0x800_0000 => (4, 0x800_0000),
            _ => (5, i32::MAX),
        };
        let mask = u64::MAX >> (64 - 8 * length);
        let continued = 0x8080_8080 & mask >> 8;
        let raw = 2 * u64::from(delta.unsigned_abs());
        let sevens = (0..5).fold(0, |bytes, at| bytes | (raw >> (7 * at) & 0x7f) << (8 * at));
        Self { bytes: sevens | continued, continued, mask, length, until }
    }

    /// To the next delta, in zigzag two more; the bits between the sevens are set, and so hand a carry on.
    #[inline(always)]
    fn advance(&mut self) {
        self.bytes = (self.bytes + 2) | self.continued;
    }
}

/// Holds `payload` (not compressed) to be `records_count` records with the offset deltas 0, 1, 2 ...
/// and nothing after them. Keys, values and headers are passed over.
///
/// # Errors
/// `Record` of the first that is not right, `LeftOver`, `RecordsCount` when there are none.
pub fn walk_payload(records_count: i32, payload: &[u8]) -> Result<Walked, BatchError> {
    if records_count <= 0 {
        return Err(BatchError::RecordsCount(records_count));
    }
    let mut walked = Walked { timestamp_delta_min: i64::MAX, timestamp_delta_max: i64::MIN, keyless: None };
    let mut rest = payload;
    let mut index = 0;
    let mut expected = DeltaEncoding::of(0);
    loop {
        let until = expected.until.min(records_count);
        while index < until
            && let Some((record, left)) = pass_usual(&expected, rest)
        {
            walked.see(index, &record);
            rest = left;
            index += 1;
            expected.advance();
        }
        if index < until {
            let (record, left) = pass(index, rest).map_err(|cause| BatchError::Record { index, cause })?;
            walked.see(index, &record);
            rest = left;
            index += 1;
        }
        if index == records_count {
            break;
        }
        expected = DeltaEncoding::of(index);
    }
    match rest.len() {
        0 => Ok(walked),
        left => Err(BatchError::LeftOver(left)),
    }
}

/// Passes over the record at the start of `bytes`, and gives what is after it.
// Not inlined: the loop around it would run out of registers.
#[inline(never)]
fn pass(index: i32, bytes: &[u8]) -> Result<(Passed, &[u8]), RecordError> {
    let mut reader = Reader::new(bytes);
    let record = RawRecord::read(&mut reader)?;
    record.headers(|_, _| ())?;
    if record.offset_delta != index {
        return Err(RecordError::OffsetDelta { expected: index, found: record.offset_delta });
    }
    Ok((Passed { timestamp_delta: record.timestamp_delta, keyed: record.key.is_some() }, reader.rest()))
}

/// As [`pass`], for records as producers write them: shorter than 1 MiB, with a timestamp delta of up to four
/// bytes and an offset delta in as few as it needs; not for a batch's last 15 bytes. `None` is no verdict: [`pass`]
/// has it.
#[inline(always)]
fn pass_usual<'a>(expected: &DeltaEncoding, bytes: &'a [u8]) -> Option<(Passed, &'a [u8])> {
    // Length, attributes, timestamp and offset: with these bytes there, nothing asks again whether they are.
    let head = bytes.first_chunk::<16>()?;
    let (raw_length, length_bytes) = short_varint(word(head, 0)?)?;
    if raw_length & 1 != 0 || length_bytes > 3 {
        return None;
    }
    let (record, rest) = bytes.split_at_checked(length_bytes + (raw_length >> 1) as usize)?;
    let at = length_bytes + 1;
    let (raw_timestamp, timestamp_bytes) = short_varint(word(head, at)?)?;
    let timestamp_delta = unzigzag(raw_timestamp);
    let at = at + timestamp_bytes;
    if word(head, at)? & expected.mask != expected.bytes {
        return None;
    }
    let mut fields = Reader::new(record.get(at + expected.length..)?);
    let key = nullable(&mut fields).ok()?;
    if !is_last_value(fields.rest()) {
        let value = nullable(&mut fields).ok()?;
        let header_count = fields.varint().ok()?;
        // Its offset delta is right, whatever it is.
        let record =
            RawRecord { timestamp_delta, offset_delta: 0, key, value, header_count, headers: fields.rest() };
        record.headers(|_, _| ()).ok()?;
    }
    Some((Passed { timestamp_delta, keyed: key.is_some() }, rest))
}

/// Eight bytes, lowest first.
#[inline(always)]
fn word(bytes: &[u8; 16], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Whether `bytes` are a value with its length (in one byte or two) and the header count 0. What the length must be
/// is known from the number of bytes.
#[inline(always)]
fn is_last_value(bytes: &[u8]) -> bool {
    let [first, second, .., 0] = bytes else {
        return matches!(bytes, [0 | 1, 0]);
    };
    let raw_length = 2 * (bytes.len() - 2);
    if raw_length < 0x80 {
        return usize::from(*first) == raw_length;
    }
    let raw_length = raw_length - 2;
    raw_length < 0x4000
        && usize::from(*first) == 0x80 | raw_length & 0x7f
        && usize::from(*second) == raw_length >> 7
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
    /// 0, 1, 2 ..., without copying or decoding anything. Compressed records are left alone, with
    /// `None`; see [`Batch::walk_compressed`].
    ///
    /// # Errors
    /// Those of [`walk_payload`], `UnknownCompression`.
    pub fn walk(&self) -> Result<Option<Walked>, BatchError> {
        match self.header.compression()? {
            Compression::None => walk_payload(self.header.records_count, self.payload()).map(Some),
            _ => Ok(None),
        }
    }

    /// As [`Batch::walk`], and decompresses what is compressed.
    ///
    /// # Errors
    /// Those of [`walk_payload`] and [`Batch::decompressed`].
    pub fn walk_compressed(&self, limit_bytes: usize) -> Result<Walked, BatchError> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

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
            assert_eq!((walked.min_timestamp(&header), walked.max_timestamp(&header)), (999, 1001), "{name}");
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

    /// What [`walk_payload`] must find: one field after the other, without a word read at once.
    fn walk_by_fields(records_count: i32, payload: &[u8]) -> Result<Walked, BatchError> {
        fn field(reader: &mut Reader<'_>) -> Result<bool, RecordError> {
            match reader.varint()? {
                -1 => Ok(false),
                length @ ..-1 => Err(RecordError::FieldLength(length)),
                length => Ok(reader.skip(length as usize).map(|()| true)?),
            }
        }
        fn record(index: i32, reader: &mut Reader<'_>) -> Result<(i64, bool), RecordError> {
            let length = usize::try_from(reader.varint()?).map_err(|_| RecordError::Length)?;
            let mut fields = Reader::new(reader.take(length)?);
            fields.i8()?;
            let (timestamp_delta, offset_delta) = (fields.varlong()?, fields.varint()?);
            let keyed = field(&mut fields)?;
            field(&mut fields)?;
            let header_count = fields.varint()?;
            if header_count < 0 {
                return Err(RecordError::HeaderCount(header_count));
            }
            for _ in 0..header_count {
                match field(&mut fields)? {
                    true => field(&mut fields)?,
                    false => return Err(RecordError::FieldLength(-1)),
                };
            }
            match (fields.is_empty(), offset_delta == index) {
                (true, true) => Ok((timestamp_delta, keyed)),
                (true, false) => Err(RecordError::OffsetDelta { expected: index, found: offset_delta }),
                (false, _) => Err(RecordError::Length),
            }
        }
        let mut reader = Reader::new(payload);
        let mut records = Vec::new();
        for index in 0..records_count {
            records.push(record(index, &mut reader).map_err(|cause| BatchError::Record { index, cause })?);
        }
        let (min, max) = (records.iter().min(), records.iter().max());
        let (Some(min), Some(max)) = (min, max) else {
            return Err(BatchError::RecordsCount(records_count));
        };
        let keyless = records.iter().position(|(_, keyed)| !keyed).map(|index| index as i32);
        match reader.remaining() {
            0 => Ok(Walked { timestamp_delta_min: min.0, timestamp_delta_max: max.0, keyless }),
            left => Err(BatchError::LeftOver(left)),
        }
    }

    /// A record's timestamp delta, key, value and headers by their lengths, and the varint (if any) that is written
    /// with bytes that it does not need, and how many.
    #[derive(Debug, Clone)]
    struct Shape {
        timestamp_delta: i64,
        key: Option<usize>,
        value: Option<usize>,
        headers: Vec<(usize, Option<usize>)>,
        overlong: Option<(usize, usize)>,
    }

    impl Shape {
        fn write(&self, offset_delta: i32, out: &mut Vec<u8>) {
            let field =
                |length: Option<usize>| (length.map_or(-1, |length| length as i64), length.unwrap_or(0));
            // Varints, each with the number of bytes that follow it.
            let mut fields = vec![(self.timestamp_delta, 0), (i64::from(offset_delta), 0)];
            fields.extend([field(self.key), field(self.value), (self.headers.len() as i64, 0)]);
            for (key, value) in &self.headers {
                fields.extend([field(Some(*key)), field(*value)]);
            }
            let mut record = vec![0x5a];
            for (at, (varint, bytes)) in fields.iter().enumerate() {
                self.put(at + 1, *varint, &mut record);
                record.extend((0..*bytes).map(|at| at as u8));
            }
            self.put(0, record.len() as i64, out);
            out.append(&mut record);
        }

        fn put(&self, which: usize, varint: i64, out: &mut Vec<u8>) {
            put_varlong(out, varint);
            let (_, more) = self.overlong.filter(|(overlong, _)| *overlong == which).unwrap_or_default();
            for _ in 0..more {
                *out.last_mut().expect("has a byte") |= 0x80;
                out.push(0);
            }
        }
    }

    fn length() -> impl Strategy<Value = usize> {
        prop_oneof![20 => 0usize..20, 4 => 60usize..70, 1 => 8185usize..8200]
    }

    fn shape() -> impl Strategy<Value = Shape> {
        let timestamp_delta = prop_oneof![
            6 => 0i64..64,
            3 => -70i64..70,
            3 => 0i64..1 << 21,
            2 => 0i64..1 << 28,
            1 => any::<i64>(),
        ];
        let headers = prop::collection::vec((length(), prop::option::of(length())), 1..3);
        let headers = prop_oneof![2 => Just(Vec::new()), 1 => headers];
        let overlong = prop_oneof![9 => Just(None), 1 => (0usize..8, 1usize..4).prop_map(Some)];
        let fields = (prop::option::of(length()), prop::option::weighted(0.9, length()), headers);
        (timestamp_delta, fields, overlong).prop_map(|(timestamp_delta, fields, overlong)| {
            let (key, value, headers) = fields;
            Shape { timestamp_delta, key, value, headers, overlong }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_walk_finds_what_is_found_field_by_field(
            shapes in prop::collection::vec(shape(), 1..30),
            // Long enough for an offset delta of two bytes.
            repeated in prop_oneof![4 => Just(1usize), 1 => 2usize..6],
            damages in prop::collection::vec((any::<Index>(), 0usize..8, any::<Index>(), -1i32..2), 10),
        ) {
            let mut payload = Vec::new();
            let mut starts = Vec::new();
            for shape in std::iter::repeat_n(&shapes, repeated).flatten() {
                starts.push(payload.len());
                shape.write(starts.len() as i32 - 1, &mut payload);
            }
            let count = starts.len() as i32;
            let walked = walk_payload(count, &payload);
            prop_assert_eq!(&walked, &walk_by_fields(count, &payload));
            if shapes.iter().all(|shape| shape.overlong.is_none()) {
                prop_assert!(walked.is_ok(), "{:?}", walked);
            }
            for (record, bit, at, more) in damages {
                // In the first bytes of a record, where most lengths are, or anywhere.
                let start = starts[record.index(starts.len())];
                let near = start + at.index(16.min(payload.len() - start));
                for at in [near, at.index(payload.len())] {
                    payload[at] ^= 1 << bit;
                    prop_assert_eq!(walk_payload(count, &payload), walk_by_fields(count, &payload));
                    let cut = &payload[..at];
                    prop_assert_eq!(walk_payload(count, cut), walk_by_fields(count, cut));
                    payload[at] ^= 1 << bit;
                    let cut = &payload[..at];
                    prop_assert_eq!(walk_payload(count, cut), walk_by_fields(count, cut));
                }
                let other = count + more;
                prop_assert_eq!(walk_payload(other, &payload), walk_by_fields(other, &payload));
            }
        }
    }

    #[test]
    fn the_encoding_of_the_next_offset_delta_is_the_one_that_is_written() {
        for start in [0, 0x2000 - 3, 0x10_0000 - 3, 0x800_0000 - 3, i32::MAX - 3] {
            let mut encoding = DeltaEncoding::of(start);
            for delta in start..start.saturating_add(100) {
                if delta == encoding.until {
                    encoding = DeltaEncoding::of(delta);
                }
                let mut written = Vec::new();
                put_varint(&mut written, delta);
                assert_eq!(encoding.length, written.len(), "{delta}");
                written.resize(8, 0);
                assert_eq!(encoding.bytes.to_le_bytes()[..], written, "{delta}");
                assert_eq!(encoding.bytes & !encoding.mask, 0, "{delta}");
                encoding.advance();
            }
        }
    }

    /// Across the ends of what offset deltas of one, two and three bytes reach.
    #[test]
    fn a_walk_counts_as_far_as_a_batch_does() {
        let shape = Shape { timestamp_delta: 1, key: None, value: None, headers: Vec::new(), overlong: None };
        let count = 0x10_0000 + 5;
        let mut payload = Vec::new();
        let mut starts = Vec::new();
        for offset_delta in 0..count {
            starts.push(payload.len());
            shape.write(offset_delta, &mut payload);
        }
        let all = Walked { timestamp_delta_min: 1, timestamp_delta_max: 1, keyless: Some(0) };
        assert_eq!(walk_payload(count, &payload), Ok(all));
        for index in [0, 0x3f, 0x40, 0x1fff, 0x2000, 0xf_ffff, 0x10_0000] {
            let at = starts[index as usize] + 3;
            payload[at] ^= 2;
            let found = index ^ 1;
            let cause = RecordError::OffsetDelta { expected: index, found };
            assert_eq!(walk_payload(count, &payload), Err(BatchError::Record { index, cause }));
            payload[at] ^= 2;
        }
    }
}
