//! The walk over a producer's records: their count, lengths and offset deltas are held to what the batch says, and
//! timestamps and missing keys are noted. Nothing is decoded that nobody asks for.
//!
//! What is compressed is walked as it comes out of its codec, a window of [`WINDOW_BYTES`] at a time: the memory for
//! it does not depend on what a batch expands to, nor on how large a record is.

use std::cell::Cell;
use std::io::Read;

use super::batch::{Batch, BatchError, BatchHeader, Compression, RecordError};
use super::compression::{failed, with_reader};
use super::reader::{ReadError, Reader, short_varint, unzigzag};
use super::records::{RawRecord, nullable};

/// Decompressed bytes that are looked at together. A record that is larger is passed over field by field.
const WINDOW_BYTES: usize = 64 * 1024;

/// Bytes of the longest varint.
const VARINT_BYTES_MAX: usize = 10;

thread_local! {
    static WINDOW: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
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
    /// that it appends, as not every client finds it (some put the last record's there, or none). -1 is none.
    pub fn max_timestamp(&self, header: &BatchHeader) -> i64 {
        header.base_timestamp.wrapping_add(self.timestamp_delta_max).max(-1)
    }

    /// The smallest and the largest timestamp, in ms; `None` when they are beyond what 64 bits hold.
    pub fn timestamps(&self, header: &BatchHeader) -> Option<[i64; 2]> {
        let min_ms = header.base_timestamp.checked_add(self.timestamp_delta_min)?;
        Some([min_ms, header.base_timestamp.checked_add(self.timestamp_delta_max)?])
    }
}

/// What a walk shows of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// In ms after the batch's base timestamp.
    pub timestamp_delta: i64,
    pub keyed: bool,
}

impl Walked {
    const NOTHING: Self =
        Self { timestamp_delta_min: i64::MAX, timestamp_delta_max: i64::MIN, keyless: None };

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

/// Where a walk is, and who is shown the records.
struct Walk<S> {
    records_count: i32,
    /// Of the next record.
    index: i32,
    see: S,
}

impl<S: FnMut(i32, &Passed)> Walk<S> {
    fn new(records_count: i32, see: S) -> Result<Self, BatchError> {
        match records_count {
            ..=0 => Err(BatchError::RecordsCount(records_count)),
            _ => Ok(Self { records_count, index: 0, see }),
        }
    }

    fn is_done(&self) -> bool {
        self.index == self.records_count
    }

    /// Passes over records as long as they are [usual](pass_usual), and gives what is left.
    #[inline(always)]
    fn pass_usual<'a>(&mut self, mut rest: &'a [u8]) -> &'a [u8] {
        let mut index = self.index;
        loop {
            let mut expected = DeltaEncoding::of(index);
            let until = expected.until.min(self.records_count);
            while index < until
                && let Some((record, left)) = pass_usual(&expected, rest)
            {
                (self.see)(index, &record);
                rest = left;
                index += 1;
                expected.advance();
            }
            if index < until || index == self.records_count {
                self.index = index;
                return rest;
            }
        }
    }

    /// Passes over one record, usual or not, and gives what is left.
    fn pass<'a>(&mut self, rest: &'a [u8]) -> Result<&'a [u8], BatchError> {
        let index = self.index;
        let (record, rest) = pass(index, rest).map_err(|cause| BatchError::Record { index, cause })?;
        self.passed(&record);
        Ok(rest)
    }

    fn passed(&mut self, record: &Passed) {
        (self.see)(self.index, record);
        self.index += 1;
    }
}

/// Holds `payload` (not compressed) to be `records_count` records with the offset deltas 0, 1, 2 ...
/// and nothing after them. Keys, values and headers are passed over.
///
/// # Errors
/// `Record` of the first that is not right, `LeftOver`, `RecordsCount` when there are none.
pub fn walk_payload(records_count: i32, payload: &[u8]) -> Result<Walked, BatchError> {
    let mut walked = Walked::NOTHING;
    walk_bytes(records_count, payload, |index, record| walked.see(index, record))?;
    Ok(walked)
}

#[inline(always)]
fn walk_bytes(records_count: i32, payload: &[u8], see: impl FnMut(i32, &Passed)) -> Result<(), BatchError> {
    let mut walk = Walk::new(records_count, see)?;
    let mut rest = walk.pass_usual(payload);
    while !walk.is_done() {
        rest = walk.pass(rest)?;
        rest = walk.pass_usual(rest);
    }
    match rest.len() {
        0 => Ok(()),
        left => Err(BatchError::LeftOver(left)),
    }
}

/// As [`walk_bytes`], over what comes out of `source`, `limit_bytes` at most.
fn walk_stream(
    records_count: i32,
    source: &mut dyn Read,
    (codec, limit_bytes): (Compression, usize),
    see: impl FnMut(i32, &Passed),
) -> Result<(), BatchError> {
    let mut walk = Walk::new(records_count, see)?;
    let mut bytes = WINDOW.take();
    bytes.resize(WINDOW_BYTES, 0);
    let mut window =
        Window { source, codec, limit_bytes, bytes, start: 0, end: 0, arrived: 0, is_at_end: false };
    let walked = window.walk(&mut walk);
    WINDOW.set(window.bytes);
    walked
}

/// A piece of what a decompressor gives: `bytes[start..end]` has not been looked at yet.
struct Window<'a> {
    source: &'a mut dyn Read,
    codec: Compression,
    limit_bytes: usize,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes that the source has given.
    arrived: usize,
    is_at_end: bool,
}

impl Window<'_> {
    fn walk<S: FnMut(i32, &Passed)>(&mut self, walk: &mut Walk<S>) -> Result<(), BatchError> {
        loop {
            let left = walk.pass_usual(self.rest()).len();
            self.start = self.end - left;
            if walk.is_done() {
                break;
            }
            if self.is_at_end || holds_record(self.rest()) {
                let left = walk.pass(self.rest())?.len();
                self.start = self.end - left;
            } else if left < self.bytes.len() {
                self.fill()?;
            } else {
                let record = Large::pass(self, walk.index)?;
                walk.passed(&record);
            }
        }
        let mut left = 0;
        loop {
            left += self.rest().len();
            self.start = self.end;
            if self.is_at_end {
                break;
            }
            self.fill()?;
        }
        match left {
            0 => Ok(()),
            left => Err(BatchError::LeftOver(left)),
        }
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Makes room, and fills it.
    fn fill(&mut self) -> Result<(), BatchError> {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= std::mem::take(&mut self.start);
        while let Some(room @ [_, ..]) = self.bytes.get_mut(self.end..) {
            let count = match self.source.read(room) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(self.codec, error)),
            };
            if count == 0 {
                self.is_at_end = true;
                break;
            }
            self.end += count;
            self.arrived += count;
            if self.arrived > self.limit_bytes {
                return Err(BatchError::DecompressedTooLarge { limit: self.limit_bytes });
            }
        }
        Ok(())
    }
}

/// Whether the record at the start of `bytes` ends in them, or cannot be read, however many follow.
fn holds_record(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    match reader.varint() {
        Ok(length) => usize::try_from(length).is_ok_and(|length| length <= reader.remaining()) || length < 0,
        Err(ReadError::End) => false,
        Err(ReadError::Varint) => true,
    }
}

/// A record that is larger than the window.
struct Large<'a, 'b> {
    window: &'a mut Window<'b>,
    index: i32,
    /// Bytes of the record that come yet.
    left: usize,
}

impl Large<'_, '_> {
    fn pass(window: &mut Window<'_>, index: i32) -> Result<Passed, BatchError> {
        let mut record = Large { window, index, left: usize::MAX };
        let length = record.read(|reader| reader.varint())?;
        record.left = usize::try_from(length).map_err(|_| record.wrong(RecordError::Length))?;
        record.skip(1)?;
        let timestamp_delta = record.read(|reader| reader.varlong())?;
        let offset_delta = record.read(|reader| reader.varint())?;
        let keyed = record.skip_nullable()?;
        record.skip_nullable()?;
        let header_count = record.read(|reader| reader.varint())?;
        if header_count < 0 {
            return Err(record.wrong(RecordError::HeaderCount(header_count)));
        }
        for _ in 0..header_count {
            if !record.skip_nullable()? {
                return Err(record.wrong(RecordError::FieldLength(-1)));
            }
            record.skip_nullable()?;
        }
        if record.left > 0 {
            return Err(record.wrong(RecordError::Length));
        }
        if offset_delta != index {
            return Err(record.wrong(RecordError::OffsetDelta { expected: index, found: offset_delta }));
        }
        Ok(Passed { timestamp_delta, keyed })
    }

    fn wrong(&self, cause: RecordError) -> BatchError {
        BatchError::Record { index: self.index, cause }
    }

    /// Reads a varint.
    fn read<T>(
        &mut self,
        read: impl FnOnce(&mut Reader<'_>) -> Result<T, ReadError>,
    ) -> Result<T, BatchError> {
        if self.window.rest().len() < VARINT_BYTES_MAX && !self.window.is_at_end {
            self.window.fill()?;
        }
        let here = self.window.rest();
        let mut reader = Reader::new(here.get(..self.left.min(here.len())).unwrap_or_default());
        let before = reader.remaining();
        let value = read(&mut reader).map_err(|error| self.wrong(error.into()))?;
        let bytes = before - reader.remaining();
        self.window.start += bytes;
        self.left -= bytes;
        Ok(value)
    }

    fn skip(&mut self, mut bytes: usize) -> Result<(), BatchError> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| self.wrong(ReadError::End.into()))?;
        loop {
            let here = bytes.min(self.window.rest().len());
            self.window.start += here;
            bytes -= here;
            if bytes == 0 {
                return Ok(());
            }
            if self.window.is_at_end {
                return Err(self.wrong(ReadError::End.into()));
            }
            self.window.fill()?;
        }
    }

    /// Passes over a key or a value; `false` when it is null.
    fn skip_nullable(&mut self) -> Result<bool, BatchError> {
        match self.read(|reader| reader.varint())? {
            -1 => Ok(false),
            length => {
                let bytes =
                    usize::try_from(length).map_err(|_| self.wrong(RecordError::FieldLength(length)))?;
                self.skip(bytes).map(|()| true)
            }
        }
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

impl Batch<'_> {
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
    /// Those of [`walk_payload`]; `Decompress`, or `DecompressedTooLarge` beyond `limit_bytes`.
    pub fn walk_compressed(&self, limit_bytes: usize) -> Result<Walked, BatchError> {
        let mut walked = Walked::NOTHING;
        self.each_passed(limit_bytes, |index, record| walked.see(index, record))?;
        Ok(walked)
    }

    /// Shows `each` the index of every record and what a walk sees of it.
    ///
    /// # Errors
    /// Those of [`Batch::walk_compressed`].
    pub fn each_passed(&self, limit_bytes: usize, each: impl FnMut(i32, &Passed)) -> Result<(), BatchError> {
        let count = self.header.records_count;
        match self.header.compression()? {
            Compression::None if self.payload().len() > limit_bytes => {
                Err(BatchError::DecompressedTooLarge { limit: limit_bytes })
            }
            Compression::None => walk_bytes(count, self.payload(), each),
            codec => with_reader(codec, self.payload(), limit_bytes, |source| {
                walk_stream(count, source, (codec, limit_bytes), each)
            })?,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::super::builder::{BatchBuilder, BatchOptions};
    use super::super::reader::{put_varint, put_varlong};
    use super::*;

    /// A record that is larger than the window between two that are not, and a window's end inside of others.
    #[test]
    fn what_comes_out_of_a_codec_is_walked_as_what_lies_there() {
        for sizes in
            [&[10, 3 * WINDOW_BYTES, 20][..], &[3 * WINDOW_BYTES], &[1000; 300], &[WINDOW_BYTES - 9, 5]]
        {
            for compression in Compression::ALL {
                let mut builder = BatchBuilder::new(BatchOptions { compression, ..BatchOptions::default() });
                for (at, size) in sizes.iter().enumerate() {
                    let headers: [(&[u8], _); 2] = [(b"a", None), (b"b", Some(&b"c"[..]))];
                    let key = (at % 2 == 0).then_some(&b"key"[..]);
                    builder
                        .add_with_headers(at as i64, key, Some(&vec![7; *size]), &headers)
                        .expect("is small");
                }
                let bytes = builder.build().expect("builds");
                let batch = Batch::parse(&bytes).expect("parses");
                let payload = batch.decompressed(1 << 20).expect("opens");
                let walked = walk_payload(batch.header.records_count, &payload);
                assert_eq!(batch.walk_compressed(payload.len()), walked, "{compression:?} {sizes:?}");
                assert!(walked.is_ok(), "{walked:?}");
                let limit = payload.len() - 1;
                assert_eq!(batch.walk_compressed(limit), Err(BatchError::DecompressedTooLarge { limit }));
            }
        }
    }

    /// The walk over what comes piece by piece, in pieces as small as they get.
    fn walk_pieces(records_count: i32, payload: &[u8], window_bytes: usize) -> Result<Walked, BatchError> {
        let mut walked = Walked::NOTHING;
        let mut walk = Walk::new(records_count, |index, record: &Passed| walked.see(index, record))?;
        let mut window = Window {
            source: &mut &*payload,
            codec: Compression::Gzip,
            limit_bytes: usize::MAX,
            bytes: vec![0; window_bytes],
            start: 0,
            end: 0,
            arrived: 0,
            is_at_end: false,
        };
        window.walk(&mut walk)?;
        Ok(walked)
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
                    let walked = walk_payload(count, &payload);
                    prop_assert_eq!(&walked, &walk_by_fields(count, &payload));
                    // In a record larger than the window, what is wrong first may be another thing.
                    prop_assert_eq!(walk_pieces(count, &payload, 16).ok(), walked.ok());
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
