//! Requests that are encoded once and sent many times, and as much of the answers as has to be read.
//!
//! Nothing in a request changes from one time to the next, not even its correlation id: a connection's
//! answers come in the order of its requests, so that counting them is enough. Only a Fetch has its
//! offsets written over.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, ProduceRequest, RequestHeader};
use kafka_protocol::protocol::{Encodable, Request, StrBytes};

use crate::client::records::Compression;
use crate::client::{ClientError, TopicMetadata, topic_name};
use crate::protocol::builder::{BatchBuilder, BatchOptions};
use crate::protocol::reader::{ReadError, Reader};

/// The correlation id of all requests.
pub(super) const CORRELATION_ID: i32 = 7;
/// Produce and Fetch name topics by their ids from these versions on.
const PRODUCE_ID_VERSION: i16 = 13;
const FETCH_ID_VERSION: i16 = 13;
/// Produce's strings and arrays are compact from this version on.
const PRODUCE_FLEXIBLE_VERSION: i16 = 9;
/// The oldest version of Fetch whose answers are read here, and of OffsetCommit.
pub(super) const FETCH_VERSION_MIN: i16 = 12;
pub(super) const COMMIT_VERSION_MIN: i16 = 8;
/// Frames up to this many bytes are kept in one piece, so that one plain write sends them.
const WHOLE_BYTES_MAX: usize = 32 * 1024;

/// A request: the batch may be shared by the requests for many partitions.
#[derive(Debug, Clone)]
pub struct Frame {
    pub head: Bytes,
    pub batch: Bytes,
    pub tail: Bytes,
}

impl Frame {
    fn whole(bytes: Bytes) -> Self {
        Self { head: bytes, batch: Bytes::new(), tail: Bytes::new() }
    }
}

fn encode<R: Request>(request: &R, version: i16, client_id: &str) -> Result<BytesMut, ClientError> {
    let wrong = |reason: String| ClientError::Encode { api: format!("request {}", R::KEY), reason };
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(CORRELATION_ID)
        .with_client_id(Some(StrBytes::from_string(client_id.to_owned())));
    let mut frame = BytesMut::new();
    frame.put_u32(0);
    header.encode(&mut frame, R::header_version(version)).map_err(|error| wrong(error.to_string()))?;
    request.encode(&mut frame, version).map_err(|error| wrong(error.to_string()))?;
    let length = u32::try_from(frame.len() - 4).map_err(|error| wrong(error.to_string()))?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// A request that is sent as it is, in one piece.
pub(super) fn plain<R: Request>(request: &R, version: i16, client_id: &str) -> Result<Frame, ClientError> {
    Ok(Frame::whole(encode(request, version, client_id)?.freeze()))
}

/// Values of `size` bytes that compress about as well as log lines: words in an order without a pattern.
pub(super) fn value(size: usize, seed: u64) -> Vec<u8> {
    const WORDS: [&[u8]; 16] = [
        b"GET ",
        b"POST ",
        b"/index ",
        b"/api/v1/orders ",
        b"200 ",
        b"404 ",
        b"user=",
        b"id=",
        b"10.0.",
        b"time=",
        b"ms ",
        b"error ",
        b"info ",
        b"warn ",
        b"cache ",
        b"miss ",
    ];
    // xorshift64*: enough to be without a pattern.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut value = Vec::with_capacity(size + 24);
    while value.len() < size {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let random = state.wrapping_mul(0x2545_f491_4f6c_dd1d);
        let word = WORDS.get((random >> 60) as usize).copied().unwrap_or_default();
        value.extend_from_slice(word);
        value.extend_from_slice(format!("{:x}", (random >> 20) & 0xffff).as_bytes());
    }
    value.truncate(size);
    value
}

/// A batch of records without keys, all of the same size.
#[derive(Debug, Clone)]
pub struct BuiltBatch {
    pub bytes: Bytes,
    pub records: u64,
}

/// How large a batch gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchSize {
    Records(u32),
    /// As many records as fit into so many bytes before compression, and one at least.
    Bytes(usize),
}

pub(super) fn batch(
    record_bytes: usize,
    size: BatchSize,
    compression: Compression,
    timestamp_ms: i64,
) -> Result<BuiltBatch, ClientError> {
    let wrong = |error: crate::protocol::batch::BatchError| ClientError::Batch(error.to_string());
    let mut builder = BatchBuilder::new(BatchOptions { compression, ..BatchOptions::default() });
    loop {
        let value = value(record_bytes, builder.records_count() as u64 + 1);
        let before = builder.size();
        builder.add(timestamp_ms, None, Some(&value)).map_err(wrong)?;
        let count = builder.records_count() as u32;
        let is_full = match size {
            BatchSize::Records(wanted) => count >= wanted,
            // The next record takes as much as this one, or a byte more.
            BatchSize::Bytes(wanted) => 2 * builder.size() + 1 - before > wanted,
        };
        if is_full {
            let bytes = builder.build().map_err(wrong)?;
            return Ok(BuiltBatch { bytes, records: u64::from(count) });
        }
    }
}

/// A batch of equal records.
pub(super) fn batch_of(value: &[u8], records: u32, timestamp_ms: i64) -> Result<Bytes, ClientError> {
    let wrong = |error: crate::protocol::batch::BatchError| ClientError::Batch(error.to_string());
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for _ in 0..records {
        builder.add(timestamp_ms, None, Some(value)).map_err(wrong)?;
    }
    builder.build().map_err(wrong)
}

/// What Produce requests have in common.
#[derive(Debug, Clone)]
pub(super) struct ProduceSettings<'a> {
    pub topic: &'a TopicMetadata,
    pub version: i16,
    pub acks: i16,
    pub timeout_ms: i32,
    pub client_id: &'a str,
}

/// One Produce request per partition; the requests share the batch when it is large.
pub(super) fn produce_frames(
    settings: &ProduceSettings<'_>,
    partitions: &[i32],
    batch: &Bytes,
) -> Result<Vec<Frame>, ClientError> {
    let data = PartitionProduceData::default().with_index(0).with_records(Some(batch.clone()));
    let mut topic = TopicProduceData::default().with_partition_data(vec![data]);
    if settings.version >= PRODUCE_ID_VERSION {
        topic = topic.with_topic_id(settings.topic.id);
    } else {
        topic = topic.with_name(topic_name(&settings.topic.name));
    }
    let request = ProduceRequest::default()
        .with_acks(settings.acks)
        .with_timeout_ms(settings.timeout_ms)
        .with_topic_data(vec![topic]);
    let frame = encode(&request, settings.version, settings.client_id)?;
    // Behind the batch come the tags of the partition, the topic and the request; in front of it its
    // length, and in front of that the partition's index.
    let is_flexible = settings.version >= PRODUCE_FLEXIBLE_VERSION;
    let tail_bytes = if is_flexible { 3 } else { 0 };
    let length_bytes = if is_flexible { varint_bytes(batch.len() + 1) } else { 4 };
    let batch_start = frame.len().saturating_sub(tail_bytes + batch.len());
    let index = batch_start.saturating_sub(length_bytes + 4)..batch_start.saturating_sub(length_bytes);
    let mut frames = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let shared = frame.len() > WHOLE_BYTES_MAX;
        let mut head = BytesMut::from(if shared { &frame[..batch_start] } else { &frame[..] });
        head[index.clone()].copy_from_slice(&partition.to_be_bytes());
        frames.push(match shared {
            false => Frame::whole(head.freeze()),
            true => Frame {
                head: head.freeze(),
                batch: batch.clone(),
                tail: Bytes::copy_from_slice(&frame[batch_start + batch.len()..]),
            },
        });
    }
    Ok(frames)
}

/// Bytes of an unsigned varint.
pub(super) fn varint_bytes(value: usize) -> usize {
    (usize::BITS - value.max(1).leading_zeros()).div_ceil(7) as usize
}

/// A Fetch request over some partitions of one topic, with offsets that can be written over.
#[derive(Debug)]
pub(super) struct FetchFrame {
    pub bytes: BytesMut,
    first_offset: usize,
}

/// Bytes of a partition in a Fetch request, and where its offset begins there.
const FETCH_PARTITION_BYTES: usize = 33;
const FETCH_OFFSET_AT: usize = 8;
/// Behind the partitions: the topic's tags, no forgotten topics, no rack, the request's tags.
const FETCH_TAIL_BYTES: usize = 4;

/// What Fetch requests have in common.
#[derive(Debug, Clone)]
pub(super) struct FetchSettings {
    pub topic: TopicMetadata,
    pub version: i16,
    pub bytes_max: i32,
    pub partition_bytes_max: i32,
    pub bytes_min: i32,
    pub wait_ms: i32,
    pub client_id: String,
}

/// Where a Fetch stands in a fetch session (KIP-227).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FetchSession {
    pub id: i32,
    pub epoch: i32,
}

impl FetchSession {
    pub(super) const NONE: Self = Self { id: 0, epoch: -1 };
    /// Asks for a session over the partitions that the request names.
    pub(super) const FIRST: Self = Self { id: 0, epoch: 0 };

    /// For the request behind this one. `id` is what the answer gave; 0 says that there is no session.
    pub(super) fn next(self, id: i32) -> Self {
        match id {
            0 => Self::FIRST,
            id => Self { id, epoch: self.epoch.checked_add(1).unwrap_or(1) },
        }
    }
}

impl FetchFrame {
    pub(super) fn new(
        settings: &FetchSettings,
        session: FetchSession,
        partitions: &[i32],
    ) -> Result<Self, ClientError> {
        let parts = partitions.iter().map(|index| {
            FetchPartition::default()
                .with_partition(*index)
                .with_partition_max_bytes(settings.partition_bytes_max)
        });
        let mut topic = FetchTopic::default().with_partitions(parts.collect());
        if settings.version >= FETCH_ID_VERSION {
            topic = topic.with_topic_id(settings.topic.id);
        } else {
            topic = topic.with_topic(topic_name(&settings.topic.name));
        }
        let topics = if partitions.is_empty() { Vec::new() } else { vec![topic] };
        let request = FetchRequest::default()
            .with_max_wait_ms(settings.wait_ms)
            .with_min_bytes(settings.bytes_min)
            .with_max_bytes(settings.bytes_max)
            .with_session_id(session.id)
            .with_session_epoch(session.epoch)
            .with_topics(topics);
        let bytes = encode(&request, settings.version, &settings.client_id)?;
        let behind = FETCH_TAIL_BYTES + partitions.len() * FETCH_PARTITION_BYTES;
        let first_offset = bytes.len().saturating_sub(behind) + FETCH_OFFSET_AT;
        Ok(Self { bytes, first_offset })
    }

    /// Sets the offset of the partition that was the `position`th when the request was made.
    pub(super) fn set_offset(&mut self, position: usize, offset: i64) {
        let start = self.first_offset + position * FETCH_PARTITION_BYTES;
        if let Some(place) = self.bytes.get_mut(start..start + 8) {
            place.copy_from_slice(&offset.to_be_bytes());
        }
    }
}

/// Reads one request's answer; gives the first error code in it, or 0. `version` is the request's.
pub(super) type Check = fn(&[u8], i16) -> Result<i16, ReadError>;

fn skip_string(reader: &mut Reader<'_>, is_flexible: bool) -> Result<(), ReadError> {
    let length = if is_flexible {
        reader.unsigned_varint()?.saturating_sub(1) as usize
    } else {
        usize::try_from(reader.i16()?).unwrap_or(0)
    };
    reader.skip(length)
}

/// The error of a Produce answer with one partition. `body` begins behind the correlation id.
pub(super) fn produce_error(body: &[u8], version: i16) -> Result<i16, ReadError> {
    let mut reader = Reader::new(body);
    let is_flexible = version >= PRODUCE_FLEXIBLE_VERSION;
    if is_flexible {
        skip_tags(&mut reader)?;
        reader.unsigned_varint()?;
    } else {
        reader.i32()?;
    }
    if version >= PRODUCE_ID_VERSION {
        reader.skip(16)?;
    } else {
        skip_string(&mut reader, is_flexible)?;
    }
    if is_flexible {
        reader.unsigned_varint()?;
    } else {
        reader.i32()?;
    }
    reader.i32()?;
    reader.i16()
}

/// The error of an OffsetCommit answer with one partition.
pub(super) fn commit_error(body: &[u8], _version: i16) -> Result<i16, ReadError> {
    let mut reader = Reader::new(body);
    skip_tags(&mut reader)?;
    reader.i32()?;
    reader.unsigned_varint()?;
    skip_string(&mut reader, true)?;
    reader.unsigned_varint()?;
    reader.i32()?;
    reader.i16()
}

fn skip_tags(reader: &mut Reader<'_>) -> Result<(), ReadError> {
    for _ in 0..reader.unsigned_varint()? {
        reader.unsigned_varint()?;
        let length = reader.unsigned_varint()? as usize;
        reader.skip(length)?;
    }
    Ok(())
}

/// One partition of a Fetch answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FetchedPartition<'a> {
    pub index: i32,
    pub error_code: i16,
    pub records: &'a [u8],
}

/// What a Fetch answer says of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fetched {
    pub error_code: i16,
    pub session_id: i32,
}

/// Calls `each` for every partition of a Fetch answer. `body` begins behind the correlation id.
pub(super) fn walk_fetch<'a>(
    body: &'a [u8],
    version: i16,
    mut each: impl FnMut(FetchedPartition<'a>),
) -> Result<Fetched, ReadError> {
    let mut reader = Reader::new(body);
    skip_tags(&mut reader)?;
    reader.i32()?;
    let error_code = reader.i16()?;
    let session_id = reader.i32()?;
    for _ in 1..reader.unsigned_varint()? {
        if version >= FETCH_ID_VERSION {
            reader.skip(16)?;
        } else {
            skip_string(&mut reader, true)?;
        }
        for _ in 1..reader.unsigned_varint()? {
            let index = reader.i32()?;
            let error_code = reader.i16()?;
            reader.skip(3 * 8)?;
            for _ in 1..reader.unsigned_varint()? {
                reader.skip(2 * 8)?;
                skip_tags(&mut reader)?;
            }
            reader.i32()?;
            let length = reader.unsigned_varint()?.saturating_sub(1) as usize;
            let records = reader.take(length)?;
            skip_tags(&mut reader)?;
            each(FetchedPartition { index, error_code, records });
        }
        skip_tags(&mut reader)?;
    }
    Ok(Fetched { error_code, session_id })
}

/// What the whole batches of some fetched bytes come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Batches {
    pub records: u64,
    pub bytes: u64,
    /// The offset behind the last of them; None when there is no whole batch.
    pub next_offset: Option<i64>,
}

/// Adds up batches by their headers. A batch that was cut off at the end does not count.
pub(super) fn walk_batches(records: &[u8], mut each: impl FnMut(&[u8])) -> Result<Batches, ReadError> {
    let mut found = Batches::default();
    let mut rest = records;
    while rest.len() >= 61 {
        let mut reader = Reader::new(rest);
        let base_offset = reader.i64()?;
        let length = usize::try_from(reader.i32()?).map_err(|_| ReadError::Varint)?;
        let Some((batch, after)) = rest.split_at_checked(12 + length) else { break };
        reader.skip(4 + 1 + 4 + 2)?;
        let last_offset_delta = reader.i32()?;
        reader.skip(8 + 8 + 8 + 2 + 4)?;
        found.records += u64::from(reader.u32()?);
        found.bytes += batch.len() as u64;
        found.next_offset = Some(base_offset.saturating_add(i64::from(last_offset_delta)).saturating_add(1));
        each(batch);
        rest = after;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::batch::Batch;
    use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
    use kafka_protocol::messages::offset_commit_response::{
        OffsetCommitResponsePartition, OffsetCommitResponseTopic,
    };
    use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
    use kafka_protocol::messages::{FetchResponse, OffsetCommitResponse, ProduceResponse};
    use kafka_protocol::protocol::{Decodable, HeaderVersion};
    use uuid::Uuid;

    fn topic() -> TopicMetadata {
        let id = Uuid::from_u128(77);
        TopicMetadata { name: "orders".to_owned(), id, is_internal: false, partitions: Vec::new() }
    }

    fn joined(frame: &Frame) -> Bytes {
        [&frame.head[..], &frame.batch[..], &frame.tail[..]].concat().into()
    }

    fn decoded<R: Request + Decodable>(mut frame: Bytes, version: i16) -> R {
        let length = frame.split_to(4);
        assert_eq!(length[..], (frame.len() as u32).to_be_bytes());
        let header = RequestHeader::decode(&mut frame, R::header_version(version)).unwrap();
        assert_eq!((header.correlation_id, header.request_api_key), (CORRELATION_ID, R::KEY));
        let request = R::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty());
        request
    }

    #[test]
    fn batches_are_as_large_as_asked_for() {
        for (record, size) in [(10, 1 << 20), (1024, 16_384), (100, 1), (1024, 1 << 20)] {
            let built = batch(record, BatchSize::Bytes(size), Compression::None, 5).unwrap();
            let one = record + 20;
            assert!(built.bytes.len() <= size.max(61 + one), "{}", built.bytes.len());
            assert!(built.bytes.len() + one > size);
            let parsed = Batch::parse(&built.bytes).unwrap();
            parsed.verify_crc().unwrap();
            assert_eq!(parsed.header.records_count as u64, built.records);
        }
        let built = batch(100, BatchSize::Records(3), Compression::Zstd, 5).unwrap();
        assert_eq!((built.records, Batch::parse(&built.bytes).unwrap().header.records_count), (3, 3));
    }

    #[test]
    fn produce_requests_name_their_partitions_in_every_version() {
        for (version, size) in (3..=13).flat_map(|version| [(version, 100), (version, 100_000)]) {
            let built = batch(1_000, BatchSize::Bytes(size), Compression::None, 5).unwrap();
            let topic = topic();
            let settings = ProduceSettings { topic: &topic, version, acks: 1, timeout_ms: 9, client_id: "c" };
            let frames = produce_frames(&settings, &[0, 7, 300], &built.bytes).unwrap();
            for (frame, partition) in frames.iter().zip([0, 7, 300]) {
                let request: ProduceRequest = decoded(joined(frame), version);
                assert_eq!((request.acks, request.timeout_ms), (1, 9));
                let data = &request.topic_data[0].partition_data[0];
                assert_eq!((data.index, data.records.as_ref()), (partition, Some(&built.bytes)));
            }
        }
    }

    #[test]
    fn fetch_requests_take_new_offsets_in_every_version() {
        for version in FETCH_VERSION_MIN..=17 {
            let settings = FetchSettings {
                topic: topic(),
                version,
                bytes_max: 1,
                partition_bytes_max: 2,
                bytes_min: 3,
                wait_ms: 4,
                client_id: "c".to_owned(),
            };
            let mut frame = FetchFrame::new(&settings, FetchSession::NONE, &[3, 4]).unwrap();
            frame.set_offset(0, 11);
            frame.set_offset(1, i64::MAX);
            let request: FetchRequest = decoded(frame.bytes.freeze(), version);
            assert_eq!((request.max_bytes, request.min_bytes, request.max_wait_ms), (1, 3, 4));
            let parts = &request.topics[0].partitions;
            let found = parts.iter().map(|p| (p.partition, p.fetch_offset, p.partition_max_bytes));
            assert_eq!(found.collect::<Vec<_>>(), [(3, 11, 2), (4, i64::MAX, 2)]);
            assert_eq!((request.session_id, request.session_epoch), (0, -1));

            // In a session, nothing is named of which nothing has changed.
            let session = FetchSession::FIRST.next(7).next(7);
            let frame = FetchFrame::new(&settings, session, &[]).unwrap();
            let request: FetchRequest = decoded(frame.bytes.freeze(), version);
            assert_eq!((request.session_id, request.session_epoch, request.topics.len()), (7, 2, 0));
        }
    }

    fn body<R: Encodable + HeaderVersion>(response: &R, version: i16) -> Bytes {
        let mut body = BytesMut::new();
        if R::header_version(version) == 1 {
            body.put_u8(0);
        }
        response.encode(&mut body, version).unwrap();
        body.freeze()
    }

    #[test]
    fn errors_are_found_in_answers() {
        for version in 3..=13 {
            let part = PartitionProduceResponse::default().with_index(3).with_error_code(19);
            let topic = TopicProduceResponse::default().with_partition_responses(vec![part]);
            let topic = if version >= 13 {
                topic.with_topic_id(Uuid::from_u128(1))
            } else {
                topic.with_name(topic_name("orders"))
            };
            let response = ProduceResponse::default().with_responses(vec![topic]);
            assert_eq!(produce_error(&body(&response, version), version), Ok(19));
        }
        for version in COMMIT_VERSION_MIN..=9 {
            let part = OffsetCommitResponsePartition::default().with_error_code(22);
            let topic = OffsetCommitResponseTopic::default()
                .with_name(topic_name("orders"))
                .with_partitions(vec![part]);
            let response = OffsetCommitResponse::default().with_topics(vec![topic]);
            assert_eq!(commit_error(&body(&response, version), version), Ok(22));
        }
        assert_eq!(produce_error(&[0, 2], 13), Err(ReadError::End));
    }

    #[test]
    fn fetched_batches_are_counted_but_for_one_cut_off() {
        let built = batch(100, BatchSize::Records(3), Compression::None, 5).unwrap();
        let mut second = BytesMut::from(&built.bytes[..]);
        crate::protocol::batch::set_base_offset(&mut second, 3);
        let whole = [&built.bytes[..], &second[..]].concat();
        let cut = [&whole[..], &built.bytes[..80]].concat();
        for version in FETCH_VERSION_MIN..=17 {
            let part = |index, records: &[u8]| {
                PartitionData::default()
                    .with_partition_index(index)
                    .with_error_code(index as i16)
                    .with_records(Some(Bytes::copy_from_slice(records)))
            };
            let mut topic =
                FetchableTopicResponse::default().with_partitions(vec![part(0, &cut), part(6, &[])]);
            if version >= FETCH_ID_VERSION {
                topic = topic.with_topic_id(Uuid::from_u128(1));
            } else {
                topic = topic.with_topic(topic_name("orders"));
            }
            let response =
                FetchResponse::default().with_responses(vec![topic]).with_error_code(70).with_session_id(9);
            let (body, mut seen) = (body(&response, version), Vec::new());
            let code = walk_fetch(&body, version, |fetched| {
                let found = walk_batches(fetched.records, |_| ()).unwrap();
                seen.push((fetched.index, fetched.error_code, found));
            });
            assert_eq!(code, Ok(Fetched { error_code: 70, session_id: 9 }));
            let found = Batches { records: 6, bytes: whole.len() as u64, next_offset: Some(6) };
            assert_eq!(seen, [(0, 0, found), (6, 6, Batches::default())]);
        }
    }
}
