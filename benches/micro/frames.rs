//! From a frame to the request: header, guard and decoder, as the dispatch and its handlers call them.

use bytes::{Buf, Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, FetchRequest, MetadataRequest, ProduceRequest, RequestHeader as WireHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use raftsman::protocol::guard::{self, shapes};
use raftsman::protocol::header::RequestHeader;
use raftsman::protocol::produce::ProduceView;
use uuid::Uuid;

use super::batches;
use super::cpu_time::CpuTime;

/// The newest version that kafka-protocol knows and that names topics as clients do today.
const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 17;
const METADATA_VERSION: i16 = 12;

fn frame(key: ApiKey, version: i16, body: &impl Encodable) -> BytesMut {
    let header = WireHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(7)
        .with_client_id(Some(StrBytes::from_static_str("producer-1")));
    let mut out = BytesMut::new();
    header.encode(&mut out, key.request_header_version(version)).expect("encodes");
    body.encode(&mut out, version).expect("encodes");
    out
}

fn produce(partitions: i32) -> BytesMut {
    let [sample, ..] = batches::samples();
    let records = sample.bytes.freeze();
    let partition =
        |index| PartitionProduceData::default().with_index(index).with_records(Some(records.clone()));
    let topic = TopicProduceData::default()
        .with_name(StrBytes::from_static_str("orders").into())
        .with_partition_data((0..partitions).map(partition).collect());
    let request =
        ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    frame(ApiKey::Produce, PRODUCE_VERSION, &request)
}

fn fetch(partitions: i32) -> BytesMut {
    let partition = |index| {
        FetchPartition::default()
            .with_partition(index)
            .with_fetch_offset(i64::from(index) * 1000)
            .with_partition_max_bytes(1 << 20)
    };
    let topic = FetchTopic::default()
        .with_topic_id(Uuid::from_u128(7))
        .with_partitions((0..partitions).map(partition).collect());
    let request = FetchRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    frame(ApiKey::Fetch, FETCH_VERSION, &request)
}

fn metadata(topics: i32) -> BytesMut {
    let topic = |number| {
        let name = StrBytes::from_string(format!("orders-{number}"));
        MetadataRequestTopic::default().with_name(Some(name.into()))
    };
    let request = MetadataRequest::default().with_topics(Some((0..topics).map(topic).collect()));
    frame(ApiKey::Metadata, METADATA_VERSION, &request)
}

/// Header and guard, as for every request; gives the version and the body.
fn guarded(mut frame: BytesMut) -> (i16, BytesMut) {
    let header = RequestHeader::parse(&mut frame).expect("has a header");
    let shape = shapes::find(header.api_key).expect("is known");
    guard::check(shape, header.api_version, &frame).expect("passes");
    (header.api_version, frame)
}

fn decoded<Q: Decodable>(frame: BytesMut) -> (Q, Bytes) {
    let (version, body) = guarded(frame);
    let mut bytes = body.freeze();
    let request = Q::decode(&mut bytes, version).expect("decodes");
    assert!(!bytes.has_remaining());
    (request, bytes)
}

pub(crate) fn all(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("frame");
    for partitions in [1, 100] {
        let frame = produce(partitions);
        group.throughput(Throughput::Elements(partitions as u64));
        group.bench_function(format!("produce, {partitions} partitions"), |bencher| {
            let view = |frame| {
                let (version, body) = guarded(frame);
                ProduceView::parse(body, version).expect("parses")
            };
            bencher.iter_batched(|| frame.clone(), view, BatchSize::SmallInput);
        });
    }
    let frame = fetch(1000);
    group.throughput(Throughput::Elements(1000));
    group.bench_function("fetch, 1000 partitions", |bencher| {
        bencher.iter_batched(|| frame.clone(), decoded::<FetchRequest>, BatchSize::SmallInput);
    });
    group.bench_function("fetch, 1000 partitions: header and guard alone", |bencher| {
        bencher.iter_batched(|| frame.clone(), guarded, BatchSize::SmallInput);
    });
    let frame = metadata(10);
    group.throughput(Throughput::Elements(10));
    group.bench_function("metadata, 10 topics", |bencher| {
        bencher.iter_batched(|| frame.clone(), decoded::<MetadataRequest>, BatchSize::SmallInput);
    });
}
