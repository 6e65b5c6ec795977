//! Fetch responses: everything but the records, which stay slices of files.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use kafka_protocol::protocol::StrBytes;
use raftsman::protocol::fetch::{FetchBody, FetchPartition, FetchRecords, FetchTopic};
use uuid::Uuid;

use super::cpu_time::CpuTime;

const VERSION: i16 = 17;

/// Every second partition has records, as a slice of a log; the others have none yet.
fn body(partitions: i32) -> FetchBody<u64> {
    let partition = |index| FetchPartition {
        high_watermark: 1_000_000,
        last_stable_offset: 1_000_000,
        log_start_offset: 0,
        records: match index % 2 {
            0 => FetchRecords::Slice(0, 16 * 1024),
            _ => FetchRecords::Bytes(Bytes::new()),
        },
        ..FetchPartition::error(index, 0)
    };
    FetchBody {
        throttle_time_ms: 0,
        error_code: 0,
        session_id: 7,
        topics: vec![FetchTopic {
            name: StrBytes::from_static_str("orders"),
            id: Uuid::from_u128(7),
            partitions: (0..partitions).map(partition).collect(),
        }],
        node_endpoints: Vec::new(),
    }
}

pub(crate) fn all(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("fetch response");
    for partitions in [1, 100, 1000] {
        group.throughput(Throughput::Elements(partitions as u64));
        let body = body(partitions);
        group.bench_function(format!("{partitions} partitions"), |bencher| {
            let pieces = |body: FetchBody<u64>| body.into_pieces(VERSION).expect("encodes");
            bencher.iter_batched(|| body.clone(), pieces, BatchSize::SmallInput);
        });
    }
}
