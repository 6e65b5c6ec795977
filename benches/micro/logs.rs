//! Appends to a log and look-ups in it, on a real temporary folder and without syncs.

use std::cell::Cell;
use std::hint::black_box;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use criterion::{Criterion, Throughput};
use raftsman::env::real::{RealDisk, SystemClock};
use raftsman::env::{Disk, OpenMode};
use raftsman::segment::file_cache::FileCache;
use raftsman::segment::index::{self, Entry, OffsetEntry};
use raftsman::segment::{Append, AppendRequest, Log, LogConfig, LogPlace, Origin};
use raftsman::types::{LeaderEpoch, Offset};

use super::batches::{self, MIB, scattered};
use super::cpu_time::{self, CpuTime};

/// Cut when it is reached: neither the disk nor the page cache fills up.
const FILE_BYTES_MAX: u64 = 256 * MIB as u64;

/// Entries of an index: what a full segment of 1 GiB with batches of 16 KiB has.
const ENTRIES: u32 = 65_536;

fn open(dir: &Path, config: LogConfig) -> Log {
    let place = LogPlace {
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock),
        cache: Arc::new(FileCache::new(16)),
        dir: dir.to_owned(),
        log_start_offset: None,
        recovery_point: None,
        first_dirty_offset: None,
        was_closed: false,
        accepts_missing_data: false,
    };
    let log = Log::open(place, config).expect("opens");
    log.lead(LeaderEpoch(0)).expect("leads");
    log
}

fn append(log: &Log, records: BytesMut, epoch: i32) {
    let request = AppendRequest { records, epoch: LeaderEpoch(epoch), origin: Origin::PRODUCER };
    match log.append(request) {
        Append::Done(result) => drop(black_box(result.expect("appends"))),
        Append::Queued(_) => unreachable!("nobody else appends"),
    }
}

/// CPU time of `write` for so many copies of a batch, which are made outside of it.
fn time_of(
    iterations: u64,
    batch: &BytesMut,
    mut write: impl FnMut(BytesMut),
    mut cut: impl FnMut(),
) -> Duration {
    // Copies enough to hide what looking at the clock costs, few enough to stay in a core's cache.
    let at_once = (MIB / 2 / batch.len()).clamp(1, 64) as u64;
    let (mut left, mut elapsed) = (iterations, Duration::ZERO);
    while left > 0 {
        cut();
        let copies: Vec<_> = (0..left.min(at_once)).map(|_| batch.clone()).collect();
        left -= copies.len() as u64;
        let started = cpu_time::now();
        copies.into_iter().for_each(&mut write);
        elapsed += cpu_time::now().saturating_sub(started);
    }
    elapsed
}

pub(crate) fn appends(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("append");
    for sample in batches::samples() {
        group.throughput(Throughput::Bytes(sample.bytes.len() as u64));
        let dir = tempfile::tempdir().expect("makes a folder");
        let log = open(dir.path(), LogConfig::default());
        let epoch = Cell::new(0);
        let cut = || {
            if log.size_bytes() > FILE_BYTES_MAX {
                let follower_of = LeaderEpoch(epoch.get() + 1);
                log.follow(follower_of).expect("follows");
                log.truncate_to(Offset::ZERO, follower_of, |_| Ok(())).expect("truncates");
                epoch.set(epoch.get() + 2);
                log.lead(LeaderEpoch(epoch.get())).expect("leads");
            }
        };
        group.bench_function(sample.name, |bencher| {
            bencher.iter_custom(|iterations| {
                time_of(iterations, &sample.bytes, |records| append(&log, records, epoch.get()), cut)
            });
        });
        let file = RealDisk.open(&dir.path().join("floor"), OpenMode::Create).expect("opens");
        let position = Cell::new(0);
        let cut = || {
            if position.get() > FILE_BYTES_MAX {
                file.set_len(0).expect("truncates");
                position.set(0);
            }
        };
        let write = |records: BytesMut| {
            file.write_all_at(&mut [IoSlice::new(&records)], position.get()).expect("writes");
            position.set(position.get() + records.len() as u64);
        };
        group.bench_function(format!("floor: pwritev of {}", sample.name), |bencher| {
            bencher.iter_custom(|iterations| time_of(iterations, &sample.bytes, write, cut));
        });
    }
}

pub(crate) fn look_ups(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("look-up");
    let dir = tempfile::tempdir().expect("makes a folder");

    let file = RealDisk.open(&dir.path().join("floor"), OpenMode::Create).expect("opens");
    let mut entries = Vec::new();
    (0..ENTRIES).for_each(|at| OffsetEntry { relative_offset: at, position: at }.encode(&mut entries));
    index::write(&*file, &entries, 0).expect("writes");
    let mut next = scattered(i64::from(ENTRIES));
    group.bench_function(format!("offset index of {ENTRIES} entries"), |bencher| {
        bencher.iter(|| {
            let found = index::search_file::<OffsetEntry>(&*file, ENTRIES, next()).expect("reads");
            assert!(found.is_some());
        });
    });
    group.bench_function("floor: one pread of 8 bytes", |bencher| {
        bencher.iter(|| index::entry_at::<OffsetEntry>(&*file, next() as u32).expect("reads"));
    });

    // An entry for every batch, so that small batches make a large index.
    let log = open(dir.path(), LogConfig { index_interval_bytes: 1, ..LogConfig::default() });
    let [sample, ..] = batches::samples();
    (0..ENTRIES).for_each(|_| append(&log, sample.bytes.clone(), 0));
    let end = log.log_end_offset();
    let mut next = scattered(end.0);
    group.bench_function(format!("read from a log of {ENTRIES} entries"), |bencher| {
        bencher.iter(|| {
            let slice = log.read(Offset(next()), MIB, end, true).expect("reads");
            assert!(slice.len > 0);
            slice
        });
    });
    group.bench_function("read at the end of the log", |bencher| {
        bencher.iter(|| log.read(black_box(Offset(end.0 - 1)), MIB, end, true).expect("reads"));
    });
}
