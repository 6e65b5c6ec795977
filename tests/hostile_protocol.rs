//! Hostile bytes against everything that takes bytes apart before anyone has vouched for them:
//! request headers, Produce requests, record batches and their codecs. Nothing may panic, and nothing
//! may take memory out of proportion to the bytes that were sent. (Requests behind the guard have a
//! test of their own.)

use std::io::Write;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};
use proptest::prelude::*;
use raftsman::protocol::batch::{self, Batch, BatchError, BatchHeader, Compression, batches};
use raftsman::protocol::builder::{BatchBuilder, BatchOptions, recompress};
use raftsman::protocol::check::check_producer_batch;
use raftsman::protocol::compression::decompress;
use raftsman::protocol::header::RequestHeader;
use raftsman::protocol::produce::ProduceView;

#[path = "support/allocations.rs"]
mod allocations;

use allocations::peak_bytes;

/// One change to valid bytes, as a hostile client would try it.
#[derive(Debug, Clone)]
enum Change {
    Set(prop::sample::Index, u8),
    /// Four bytes at once: counts and lengths.
    SetInt(prop::sample::Index, i32),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    let int = prop_oneof![Just(i32::MAX), Just(i32::MIN), Just(-1), Just(0), any::<i32>(), 0..1000];
    let byte = prop_oneof![Just(0u8), Just(0xff), Just(0x7f), Just(0x80), any::<u8>()];
    prop_oneof![
        4 => (at(), byte).prop_map(|(at, byte)| Change::Set(at, byte)),
        4 => (at(), int).prop_map(|(at, int)| Change::SetInt(at, int)),
        1 => at().prop_map(Change::Cut),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, new)| Change::Insert(at, new)),
        1 => (at(), 1usize..20).prop_map(|(at, length)| Change::Remove(at, length)),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        match change {
            Change::Set(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Change::SetInt(at, int) => {
                let at = at.index(bytes.len());
                for (to, from) in bytes[at..].iter_mut().zip(int.to_be_bytes()) {
                    *to = from;
                }
            }
            Change::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Change::Insert(at, new) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, new.iter().copied());
            }
            Change::Remove(at, length) => {
                let at = at.index(bytes.len());
                let end = bytes.len().min(at + length);
                bytes.drain(at..end);
            }
        }
    }
    bytes
}

type Fields = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>, i64);

fn record() -> impl Strategy<Value = Fields> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let headers = prop::collection::vec((bytes(), prop::option::of(bytes())), 0..4);
    (prop::option::of(bytes()), prop::option::of(bytes()), headers, any::<i64>())
}

fn compression() -> impl Strategy<Value = Compression> {
    prop::sample::select(Compression::ALL.to_vec())
}

fn build(records: &[Fields], compression: Compression) -> BytesMut {
    let mut builder = BatchBuilder::new(BatchOptions { compression, ..BatchOptions::default() });
    for (key, value, headers, timestamp) in records {
        let headers: Vec<_> = headers.iter().map(|(key, value)| (&key[..], value.as_deref())).collect();
        builder.add_with_headers(*timestamp, key.as_deref(), value.as_deref(), &headers).expect("is small");
    }
    builder.build_mut().expect("builds")
}

/// Everything that reads batches, on bytes that may be anything.
fn read_all(bytes: &[u8], limit: usize) {
    let _ = BatchHeader::parse(bytes);
    let _ = check_producer_batch(bytes);
    for batch in batches(bytes).take(100) {
        let Ok(batch) = batch else { break };
        let _ = (batch.header.last_offset(), batch.header.next_offset(), batch.header.last_sequence());
        let _ = (batch.verify_crc(), batch.walk(), batch.walk_compressed(limit));
        if let Ok(records) = batch.records(limit) {
            for record in records {
                if record.is_err() {
                    break;
                }
            }
        }
        let _ = recompress(&batch, Compression::Zstd, None, limit);
    }
}

/// What a decoder of a codec keeps for itself: windows and blocks of lz4 (4 MiB each way, or 8 MiB of
/// its old format), and the like of the others.
const CODEC_BYTES: usize = 20 << 20;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_read_back_and_recompress_whatever_they_hold(
        records in prop::collection::vec(record(), 1..20), from in compression(), to in compression(),
    ) {
        let bytes = build(&records, from);
        let checked = check_producer_batch(&bytes).unwrap();
        prop_assert_eq!(checked.walked.is_some(), from == Compression::None);
        let batch = Batch::parse(&bytes).unwrap();
        let walked = batch.walk_compressed(1 << 20).unwrap();
        prop_assert_eq!(walked.keyless, records.iter().position(|record| record.0.is_none()).map(|at| at as i32));
        let (again, _) = recompress(&batch, to, None, 1 << 20).unwrap();
        for bytes in [&bytes[..], &again[..]] {
            let back: Vec<Fields> = Batch::parse(bytes).unwrap().records(1 << 20).unwrap().map(|record| {
                let record = record.unwrap();
                let plain = |bytes: Bytes| bytes.to_vec();
                let headers = record.headers.into_iter()
                    .map(|header| (plain(header.key), header.value.map(plain)))
                    .collect();
                (record.key.map(plain), record.value.map(plain), headers, record.timestamp)
            }).collect();
            prop_assert_eq!(&back, &records);
        }
    }

    #[test]
    fn changed_batches_neither_panic_nor_take_memory(
        records in prop::collection::vec(record(), 1..20),
        codec in compression(),
        changes in prop::collection::vec(change(), 1..6),
        is_sealed in any::<bool>(),
    ) {
        let mut bytes = changed(build(&records, codec).to_vec(), &changes);
        // With length and checksum right again, the change reaches what lies behind them.
        if is_sealed && bytes.len() >= BatchHeader::SIZE {
            let length = (bytes.len() - BatchHeader::LOG_OVERHEAD) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[16] = 2;
            batch::seal(&mut bytes);
        }
        let limit = 64 << 10;
        let ((), held) = peak_bytes(|| read_all(&bytes, limit));
        prop_assert!(held <= CODEC_BYTES + 8 * (limit + bytes.len()), "{} bytes held for {}", held, bytes.len());
    }

    #[test]
    fn random_blocks_of_every_codec_stop_at_the_limit(
        codec in compression(),
        text in prop::collection::vec(any::<u8>(), 0..3000),
        changes in prop::collection::vec(change(), 0..4),
        limit in 0usize..4000,
    ) {
        let mut builder = BatchBuilder::new(BatchOptions { compression: codec, ..BatchOptions::default() });
        builder.add(0, None, Some(&text)).unwrap();
        let batch = builder.build().unwrap();
        for block in [changed(batch[BatchHeader::SIZE..].to_vec(), &changes), text] {
            let (out, held) = peak_bytes(|| decompress(codec, &block, limit).map(|out| out.len()));
            prop_assert!(out.is_err() || out.as_ref().is_ok_and(|length| *length <= limit), "{:?}", out);
            prop_assert!(held <= CODEC_BYTES, "{:?}: {} bytes held", codec, held);
        }
    }

    #[test]
    fn changed_produce_requests_neither_panic_nor_take_memory(
        version in 3i16..=13,
        topics in prop::collection::vec(prop::collection::vec(prop::option::of(
            prop::collection::vec(any::<u8>(), 0..30)), 0..5), 0..5),
        changes in prop::collection::vec(change(), 0..6),
    ) {
        let topics = topics.into_iter().map(|partitions| {
            let partitions = partitions.into_iter().map(|records| {
                PartitionProduceData::default().with_records(records.map(Bytes::from))
            });
            let topic = TopicProduceData::default().with_partition_data(partitions.collect());
            match version {
                ..=12 => topic.with_name(TopicName(StrBytes::from_static_str("topic"))),
                _ => topic,
            }
        });
        let request = ProduceRequest::default().with_acks(-1).with_topic_data(topics.collect());
        let mut body = BytesMut::new();
        request.encode(&mut body, version).unwrap();
        let body = changed(body.to_vec(), &changes);
        let length = body.len();
        let frame = BytesMut::from(&body[..]);
        let (view, held) = peak_bytes(|| ProduceView::parse(frame, version));
        if changes.is_empty() {
            prop_assert!(view.is_ok());
        }
        prop_assert!(held <= 40 * length + 1024, "{} bytes held for {}", held, length);
    }

    #[test]
    fn random_headers_neither_panic_nor_take_memory(
        api_key in prop_oneof![0i16..100, any::<i16>()],
        api_version in prop_oneof![0i16..20, any::<i16>()],
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut frame = BytesMut::from(&[&api_key.to_be_bytes()[..], &api_version.to_be_bytes(), &rest].concat()[..]);
        let length = frame.len();
        let (header, held) = peak_bytes(|| RequestHeader::parse(&mut frame));
        prop_assert!(held <= 2 * length + 256, "{} bytes held for {}", held, length);
        match header {
            Ok(_) => prop_assert!(frame.len() < length),
            Err(_) => prop_assert_eq!(frame.len(), length),
        }
    }
}

#[test]
fn bombs_go_off_at_the_limit() {
    let zeros = vec![0u8; 64 << 20];
    let limit = 1 << 20;
    for codec in &Compression::ALL[1..] {
        let block = match codec {
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                encoder.write_all(&zeros).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd::bulk::compress(&zeros, 19).unwrap(),
            Compression::Snappy => snap::raw::Encoder::new().compress_vec(&zeros).unwrap(),
            _ => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(&zeros).unwrap();
                encoder.finish().unwrap()
            }
        };
        let (out, held) = peak_bytes(|| decompress(*codec, &block, limit).map(|out| out.len()));
        assert_eq!(out, Err(BatchError::DecompressedTooLarge { limit }), "{codec:?}");
        assert!(held <= CODEC_BYTES + 4 * limit, "{codec:?} held {held}");
        // What a thread keeps of a codec is clean again.
        let good = raftsman::protocol::compression::compress(*codec, b"good", None).unwrap();
        assert_eq!(decompress(*codec, &good, limit).as_deref(), Ok(&b"good"[..]));
        println!("{codec:?}: {} bytes would be {}; held {held}", block.len(), zeros.len());
    }
}

#[test]
fn eight_bytes_do_not_cost_gigabytes() {
    for version in 3..=13i16 {
        for count in [[0x7f, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0x7f], [0, 0xff, 0xff, 0xff]] {
            // Transactional id null, acks, timeout, then the topics' count.
            let id: &[u8] = if version >= 9 { &[0] } else { &[0xff, 0xff] };
            let body = [id, &[0, 1, 0, 0, 0, 1], &count].concat();
            let (view, held) = peak_bytes(|| ProduceView::parse(BytesMut::from(&body[..]), version));
            assert!(view.is_err() && held < 1024, "version {version}: {held}");
        }
    }
}
