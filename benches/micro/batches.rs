//! The check of a producer's batch, and the batches that other benches use too.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput};
use raftsman::protocol::batch::{Compression, crc};
use raftsman::protocol::builder::{BatchBuilder, BatchOptions};
use raftsman::protocol::check::check_producer_batch;

use super::cpu_time::CpuTime;

pub(crate) const KIB: usize = 1024;
pub(crate) const MIB: usize = 1024 * KIB;

pub(crate) const BASE_TIMESTAMP_MS: i64 = 1_700_000_000_000;

/// A batch with its name in the results.
pub(crate) struct Sample {
    pub name: &'static str,
    pub records: i32,
    pub bytes: BytesMut,
}

/// The batches of the work that is measured beside Kafka.
pub(crate) fn samples() -> [Sample; 4] {
    [
        sample("1 record of 100 B", 100, 1, Compression::None),
        sample("16 KiB of 1 KiB records", KIB, 16 * KIB, Compression::None),
        sample("1 MiB of 10 B records", 10, MIB, Compression::None),
        sample("16 KiB of 100 B records, lz4", 100, 16 * KIB, Compression::Lz4),
    ]
}

/// Records of `value_bytes` until `batch_bytes` are reached (not compressed), at least one, as a
/// producer without idempotence sends them.
fn sample(name: &'static str, value_bytes: usize, batch_bytes: usize, compression: Compression) -> Sample {
    let mut builder = BatchBuilder::new(BatchOptions { compression, ..BatchOptions::default() });
    let mut noise = scattered(256);
    while builder.records_count() == 0 || builder.size() < batch_bytes {
        let timestamp_ms = BASE_TIMESTAMP_MS + i64::from(builder.records_count() / 100);
        // Half of it noise: codecs find about as much to do as in honest records.
        let value: Vec<u8> =
            (0..value_bytes).map(|at| if at % 8 < 4 { noise() as u8 } else { b'v' }).collect();
        builder.add(timestamp_ms, None, Some(&value)).expect("is small");
    }
    Sample { name, records: builder.records_count(), bytes: builder.build_mut().expect("builds") }
}

pub(crate) fn all(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("check");
    for sample in samples() {
        group.throughput(Throughput::Bytes(sample.bytes.len() as u64));
        println!("check/{}: {} records, {} bytes", sample.name, sample.records, sample.bytes.len());
        group.bench_function(sample.name, |bencher| {
            bencher.iter(|| check_producer_batch(black_box(&sample.bytes)).expect("is right"));
        });
        group.bench_function(format!("floor: checksum of {}", sample.name), |bencher| {
            bencher.iter(|| crc(black_box(&sample.bytes)));
        });
    }
}

/// Numbers in an order that no cache foresees, the same in every run.
pub(crate) fn scattered(below: i64) -> impl FnMut() -> i64 {
    let mut state = 1u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as i64) % below
    }
}
