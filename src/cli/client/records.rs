//! Records into batches and out of them, on the client's side.

use std::io::{Read, Write};

use bytes::{BufMut, Bytes};

use crate::protocol::batch::{self, Batch, BatchHeader, TimestampType};
use crate::protocol::reader::{Reader, put_varint, put_varlong};

pub use crate::protocol::batch::Compression;

/// What the records of one batch may unpack to.
const UNPACKED_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Blocks in which xerial's snappy stream, which Kafka uses, is packed.
const SNAPPY_BLOCK_BYTES: usize = 32 * 1024;
const SNAPPY_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";

/// One record. Keys, values and headers' values may be null; headers' names may repeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

impl Record {
    /// Bytes of key, value and headers.
    pub fn data_bytes(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + length(value)).sum();
        length(&self.key) + length(&self.value) + headers
    }

    /// Bytes that the record takes in a batch, at most.
    pub fn size_estimate(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + length(value) + 10).sum();
        length(&self.key) + length(&self.value) + headers + 24
    }
}

/// A record as read from a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRecord {
    pub offset: i64,
    pub record: Record,
}

/// What a batch's header says beside its records.
#[derive(Debug, Clone, Copy)]
pub struct BatchOptions {
    pub compression: Compression,
    /// -1: not idempotent.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
}

/// Builds one batch with base offset 0.
pub fn encode(records: &[Record], options: BatchOptions) -> Result<Bytes, String> {
    let first = records.first().ok_or("a batch needs a record")?;
    let mut payload = Vec::with_capacity(records.iter().map(Record::size_estimate).sum());
    let mut max_timestamp = first.timestamp;
    let (mut body, mut tail) = (Vec::new(), Vec::new());
    for (delta, record) in records.iter().enumerate() {
        max_timestamp = max_timestamp.max(record.timestamp);
        body.clear();
        body.push(0);
        put_varlong(&mut body, record.timestamp.wrapping_sub(first.timestamp));
        put_varint(&mut body, length(delta)?);
        put_nullable(&mut body, record.key.as_deref())?;
        // The value is long: it is written straight into the payload, so its length is counted here.
        let value_length = match &record.value {
            Some(value) => length(value.len())?,
            None => -1,
        };
        put_varint(&mut body, value_length);
        tail.clear();
        put_varint(&mut tail, length(record.headers.len())?);
        for (name, value) in &record.headers {
            put_nullable(&mut tail, Some(name))?;
            put_nullable(&mut tail, value.as_deref())?;
        }
        let value = record.value.as_deref().unwrap_or_default();
        put_varint(&mut payload, length(body.len() + value.len() + tail.len())?);
        payload.extend_from_slice(&body);
        payload.extend_from_slice(value);
        payload.extend_from_slice(&tail);
    }
    let payload = compress(options.compression, payload)?;
    let count = length(records.len())?;
    let header = BatchHeader {
        base_offset: 0,
        batch_length: length(payload.len() + BatchHeader::SIZE - BatchHeader::LOG_OVERHEAD)?,
        partition_leader_epoch: -1,
        magic: batch::MAGIC,
        crc: 0,
        attributes: options.compression as i16,
        last_offset_delta: count - 1,
        base_timestamp: first.timestamp,
        max_timestamp,
        producer_id: options.producer_id,
        producer_epoch: options.producer_epoch,
        base_sequence: options.base_sequence,
        records_count: count,
    };
    let mut head = [0; BatchHeader::SIZE];
    header.encode(&mut head);
    let mut bytes = Vec::with_capacity(BatchHeader::SIZE + payload.len());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(&payload);
    let crc = batch::crc(&bytes);
    if let Some(field) = bytes.get_mut(17..21) {
        field.copy_from_slice(&crc.to_be_bytes());
    }
    Ok(bytes.into())
}

fn length(length: usize) -> Result<i32, String> {
    i32::try_from(length).map_err(|_| "a batch cannot hold more than 2 GiB".to_owned())
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) -> Result<(), String> {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, length(bytes.len())?);
            out.put_slice(bytes);
        }
    }
    Ok(())
}

/// The records of a batch. `whole` is the buffer that the batch's bytes are part of: records that are
/// not compressed keep slices of it.
pub fn decode(batch: &Batch<'_>, whole: &Bytes) -> Result<Vec<ReadRecord>, String> {
    let compression = batch.header.compression().map_err(|error| error.to_string())?;
    let payload = match compression {
        Compression::None => whole.slice_ref(batch.payload()),
        packed => Bytes::from(decompress(packed, batch.payload())?),
    };
    let header = &batch.header;
    let append_time =
        (header.timestamp_type() == TimestampType::LogAppendTime).then_some(header.max_timestamp);
    let mut reader = Reader::new(&payload);
    // A record takes seven bytes at least, so a false count cannot cost much.
    let count = usize::try_from(header.records_count).unwrap_or(0);
    let mut records = Vec::with_capacity(count.min(payload.len() / 7));
    let failed = |error: crate::protocol::reader::ReadError| error.to_string();
    for _ in 0..count {
        let size =
            usize::try_from(reader.varint().map_err(failed)?).map_err(|_| "a negative record length")?;
        let mut fields = Reader::new(reader.take(size).map_err(failed)?);
        fields.skip(1).map_err(failed)?;
        let timestamp_delta = fields.varlong().map_err(failed)?;
        let offset_delta = fields.varint().map_err(failed)?;
        let key = take_nullable(&mut fields, &payload)?;
        let value = take_nullable(&mut fields, &payload)?;
        let headers_count =
            usize::try_from(fields.varint().map_err(failed)?).map_err(|_| "a negative count")?;
        let mut headers = Vec::with_capacity(headers_count.min(fields.remaining() / 2));
        for _ in 0..headers_count {
            let name = take_nullable(&mut fields, &payload)?.ok_or("a header without a name")?;
            headers.push((name, take_nullable(&mut fields, &payload)?));
        }
        let timestamp = append_time.unwrap_or(header.base_timestamp.wrapping_add(timestamp_delta));
        records.push(ReadRecord {
            offset: header.base_offset.wrapping_add(i64::from(offset_delta)),
            record: Record { timestamp, key, value, headers },
        });
    }
    Ok(records)
}

/// The records of a batch that this client has built.
pub fn decode_own(bytes: &Bytes) -> Result<Vec<Record>, String> {
    let batch = Batch::parse(bytes).map_err(|error| error.to_string())?;
    Ok(decode(&batch, bytes)?.into_iter().map(|read| read.record).collect())
}

fn take_nullable(reader: &mut Reader<'_>, whole: &Bytes) -> Result<Option<Bytes>, String> {
    match reader.varint().map_err(|error| error.to_string())? {
        -1 => Ok(None),
        size => {
            let size = usize::try_from(size).map_err(|_| "a negative length")?;
            Ok(Some(whole.slice_ref(reader.take(size).map_err(|error| error.to_string())?)))
        }
    }
}

/// Packs the records of a batch.
pub fn compress(compression: Compression, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", compression.name());
    match compression {
        Compression::None => Ok(bytes),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&bytes).map_err(failed)?;
            encoder.finish().map_err(failed)
        }
        Compression::Snappy => {
            let mut packed = SNAPPY_MAGIC.to_vec();
            packed.put_i32(1);
            packed.put_i32(1);
            let mut encoder = snap::raw::Encoder::new();
            for block in bytes.chunks(SNAPPY_BLOCK_BYTES) {
                let block = encoder.compress_vec(block).map_err(|error| error.to_string())?;
                packed.put_i32(length(block.len())?);
                packed.put_slice(&block);
            }
            Ok(packed)
        }
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(&bytes).map_err(failed)?;
            encoder.finish().map_err(|error| error.to_string())
        }
        Compression::Zstd => zstd::bulk::compress(&bytes, 3).map_err(failed),
    }
}

/// Unpacks the records of a batch, up to a limit.
pub fn decompress(compression: Compression, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("{} data cannot be unpacked: {error}", compression.name());
    let limited = |reader: &mut dyn Read| {
        let mut unpacked = Vec::new();
        reader.take(UNPACKED_BYTES_MAX + 1).read_to_end(&mut unpacked).map_err(failed)?;
        if unpacked.len() as u64 > UNPACKED_BYTES_MAX {
            return Err(format!("a batch unpacks to more than {UNPACKED_BYTES_MAX} bytes"));
        }
        Ok(unpacked)
    };
    match compression {
        Compression::None => Ok(bytes.to_vec()),
        Compression::Gzip => limited(&mut flate2::read::MultiGzDecoder::new(bytes)),
        Compression::Lz4 => limited(&mut lz4_flex::frame::FrameDecoder::new(bytes)),
        Compression::Zstd => limited(&mut zstd::stream::read::Decoder::new(bytes).map_err(failed)?),
        Compression::Snappy => unsnappy(bytes),
    }
}

/// A xerial stream of blocks, or one raw block, as some clients write it.
fn unsnappy(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut decoder = snap::raw::Decoder::new();
    let mut unpack = |block: &[u8], so_far: usize| {
        let size = snap::raw::decompress_len(block).map_err(|error| error.to_string())?;
        // Snappy packs at most about 64 to 1, whatever the block claims.
        if (so_far + size) as u64 > UNPACKED_BYTES_MAX || size / 64 > block.len() {
            return Err("a snappy block claims more than it can hold".to_owned());
        }
        decoder.decompress_vec(block).map_err(|error| error.to_string())
    };
    let Some(stream) = bytes.strip_prefix(SNAPPY_MAGIC) else { return unpack(bytes, 0) };
    let mut reader = Reader::new(stream);
    let mut unpacked = Vec::new();
    reader.skip(8).map_err(|error| error.to_string())?;
    while !reader.is_empty() {
        let size = reader.i32().map_err(|error| error.to_string())?;
        let size = usize::try_from(size).map_err(|_| "a negative block length")?;
        let block = reader.take(size).map_err(|error| error.to_string())?;
        let block = unpack(block, unpacked.len())?;
        unpacked.extend_from_slice(&block);
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_read_back_in_every_compression() {
        let text = |text: &str| Some(Bytes::copy_from_slice(text.as_bytes()));
        let records = (0..500)
            .map(|number| Record {
                timestamp: 1_000 + number % 7,
                key: if number % 3 == 0 { None } else { text(&format!("key-{number}")) },
                value: if number % 5 == 0 { None } else { text(&"value ".repeat(number as usize)) },
                headers: vec![(Bytes::from_static(b"h"), None), (Bytes::from_static(b"h"), text("2"))],
            })
            .collect::<Vec<_>>();
        for compression in Compression::ALL {
            let options = BatchOptions { compression, producer_id: 9, producer_epoch: 1, base_sequence: 17 };
            let bytes = encode(&records, options).unwrap();
            let batch = Batch::parse(&bytes).unwrap();
            batch.verify_crc().unwrap();
            assert_eq!(batch.bytes.len(), bytes.len());
            assert_eq!((batch.header.records_count, batch.header.base_sequence), (500, 17));
            let read = decode(&batch, &bytes).unwrap();
            assert_eq!(read.iter().map(|read| read.offset).collect::<Vec<_>>(), (0..500).collect::<Vec<_>>());
            assert_eq!(read.into_iter().map(|read| read.record).collect::<Vec<_>>(), records);
        }
    }
}
