//! Logs on a real disk: appends, reads, rolls, crashes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::{Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::file_cache::FileCache;
use super::*;
use crate::env::real::RealDisk;
use crate::env::{Clock, Disk};
use crate::protocol::batch::{BatchHeader, batches};
use crate::protocol::builder::{BatchBuilder, BatchOptions, join};

#[derive(Debug, Default)]
pub(super) struct SetClock(pub AtomicI64);

impl Clock for SetClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

pub(super) fn place(dir: &Path) -> LogPlace {
    LogPlace {
        disk: Arc::new(RealDisk) as Arc<dyn Disk>,
        clock: Arc::new(SetClock::default()),
        cache: Arc::new(FileCache::new(64)),
        dir: dir.to_owned(),
        log_start_offset: None,
        recovery_point: None,
        first_dirty_offset: None,
        was_closed: false,
        accepts_missing_data: false,
    }
}

/// A batch of `records` records of `value_bytes` each, the first at `timestamp`, then 1 ms apart.
pub(super) fn batch_of(records: i32, value_bytes: usize, timestamp: i64, options: BatchOptions) -> BytesMut {
    let mut builder = BatchBuilder::new(options);
    let value = vec![b'v'; value_bytes];
    for at in 0..records {
        builder.add(timestamp + i64::from(at), None, Some(&value)).unwrap();
    }
    builder.build_mut().unwrap()
}

/// Appends in the leadership that there is, or begins one.
pub(super) fn append(log: &Log, records: BytesMut) -> Result<Appended, AppendError> {
    if log.leadership_epoch() < LeaderEpoch(0) {
        log.lead(LeaderEpoch(log.latest_epoch().0.max(0))).unwrap();
    }
    match log.append(AppendRequest { records, epoch: log.leadership_epoch(), origin: Origin::PRODUCER }) {
        Append::Done(result) => result,
        Append::Queued(receiver) => receiver.blocking_recv().unwrap(),
    }
}

fn plain(records: i32, value_bytes: usize, timestamp: i64) -> BytesMut {
    batch_of(records, value_bytes, timestamp, BatchOptions::default())
}

fn small() -> LogConfig {
    LogConfig { segment_bytes: 2000, index_interval_bytes: 200, ..LogConfig::default() }
}

/// Everything from `from` on, read in pieces of `bytes_max`.
pub(super) fn read_all(log: &Log, from: i64, bytes_max: usize) -> Vec<u8> {
    let (mut content, mut next) = (Vec::new(), from);
    loop {
        let slice = log.read(Offset(next), bytes_max, log.log_end_offset(), true).unwrap();
        if slice.len == 0 {
            return content;
        }
        let mut bytes = vec![0; slice.len];
        assert_eq!(slice.file.read_at(&mut bytes, slice.position).unwrap(), slice.len);
        for batch in batches(&bytes).map_while(Result::ok) {
            batch.verify_crc().unwrap();
            if batch.header.last_offset() >= next {
                content.extend_from_slice(batch.bytes);
                next = batch.header.next_offset();
            }
        }
    }
}

fn offsets(content: &[u8]) -> Vec<(i64, i64)> {
    batches(content).map(|batch| batch.unwrap().header).map(|h| (h.base_offset, h.last_offset())).collect()
}

#[test]
fn what_is_appended_is_read_from_any_offset_and_after_every_kind_of_opening() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    {
        let log = Log::open(place(dir.path()), small()).unwrap();
        for at in 0..100 {
            let appended = append(&log, plain(1 + at % 3, 50, 1000 * i64::from(at))).unwrap();
            expected.push((appended.first_offset.0, appended.last_offset.0));
        }
        assert!(log.segment_count() > 5);
        check(&log, &expected);
    }
    // Dropped as in a crash of the process: the files are there, nothing was closed.
    let log = Log::open(place(dir.path()), small()).unwrap();
    check(&log, &expected);
    log.flush().unwrap();
    assert_eq!(log.recovery_point(), log.log_end_offset());
    let recovery_point = Some(log.recovery_point());
    let appended = append(&log, plain(2, 50, 500)).unwrap();
    expected.push((appended.first_offset.0, appended.last_offset.0));
    drop(log);
    let log = Log::open(LogPlace { recovery_point, ..place(dir.path()) }, small()).unwrap();
    check(&log, &expected);
    log.close().unwrap();
    assert!(matches!(append(&log, plain(1, 1, 1)), Err(AppendError::Closed)));
    drop(log);
    let log = Log::open(LogPlace { was_closed: true, ..place(dir.path()) }, small()).unwrap();
    check(&log, &expected);
    let appended = append(&log, plain(2, 50, 500)).unwrap();
    expected.push((appended.first_offset.0, appended.last_offset.0));
    check(&log, &expected);
}

fn check(log: &Log, expected: &[(i64, i64)]) {
    let end = expected.last().unwrap().1 + 1;
    assert_eq!(log.log_end_offset(), Offset(end));
    for from in (0..end).step_by(7) {
        let at = expected.iter().position(|(_, last)| *last >= from).unwrap();
        assert_eq!(offsets(&read_all(log, from, 300)), expected[at..], "from {from}");
    }
    for up_to in 1..end {
        let slice = log.read(Offset(0), 1 << 20, Offset(up_to), false).unwrap();
        let mut bytes = vec![0; slice.len];
        slice.file.read_at(&mut bytes, slice.position).unwrap();
        let last = offsets(&bytes).last().map_or(-1, |(_, last)| *last);
        assert!(last < up_to, "{last} was to be below {up_to}");
    }
    let beyond = log.read(Offset(end + 1), 100, Offset(end + 2), true);
    assert!(matches!(beyond, Err(ReadError::OffsetOutOfRange { .. })));
}

/// Whatever happens to the unsynced part of the files, a log opens, and holds a prefix of what was
/// appended: whole batches, in order.
#[test]
fn torn_logs_open_with_a_prefix() {
    for seed in 0..150 {
        let mut random = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let mut recovery_point = None;
        let whole = {
            let log = Log::open(place(dir.path()), small()).unwrap();
            let synced = random.random_range(0..60);
            for at in 0..60 {
                if at == synced {
                    recovery_point = Some(log.flush().unwrap());
                    log.checkpoint().unwrap();
                }
                append(&log, plain(random.random_range(1..5), random.random_range(1..200), at)).unwrap();
            }
            read_all(&log, 0, 1 << 20)
        };
        // Files of which not all is below the recovery point.
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension != "snapshot"))
            .collect();
        names.sort();
        let logs: Vec<_> = names.iter().filter(|path| path.extension().unwrap() == "log").cloned().collect();
        let base = |path: &Path| path.file_stem().unwrap().to_str().unwrap().parse::<i64>().unwrap_or(-1);
        let at = random.random_range(0..logs.len());
        let torn = &logs[at];
        let synced_to = recovery_point.unwrap().0;
        let content = std::fs::read(torn).unwrap();
        // What is synced stays as it is.
        let synced_bytes: usize = batches(&content)
            .map_while(Result::ok)
            .filter(|batch| batch.header.last_offset() < synced_to)
            .map(|batch| batch.bytes.len())
            .sum();
        if synced_bytes < content.len() {
            let mut content = content;
            let at = random.random_range(synced_bytes..content.len());
            match random.random_range(0..3) {
                0 => content.truncate(at),
                1 => content[at] ^= 1 << random.random_range(0..8),
                _ => content.extend((0..random.random_range(1..100)).map(|_| random.random::<u8>())),
            }
            std::fs::write(torn, content).unwrap();
        }
        for name in names.iter().filter(|path| path.extension().unwrap() != "log") {
            let mut content = std::fs::read(name).unwrap();
            if base(name) + 1 >= synced_to && random.random_bool(0.3) && !content.is_empty() {
                content.truncate(random.random_range(0..content.len()));
                std::fs::write(name, content).unwrap();
            }
        }
        let log = Log::open(LogPlace { recovery_point, ..place(dir.path()) }, small())
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(log.log_end_offset() >= recovery_point.unwrap(), "seed {seed}");
        let read = read_all(&log, 0, 1 << 20);
        // The leader epoch and base offset are not under the checksum: a flip there may pass.
        let same = offsets(&read).len();
        assert_eq!(offsets(&read), offsets(&whole)[..same], "seed {seed}");
        append(&log, plain(3, 10, 99)).unwrap();
        assert_eq!(offsets(&read_all(&log, 0, 1 << 20)).len(), same + 1, "seed {seed}");
    }
}

#[test]
fn many_append_at_once_and_nobody_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(place(dir.path()), LogConfig { segment_bytes: 20_000, ..small() }).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut last = -1;
                for _ in 0..200 {
                    let appended = append(&log, plain(2, 20, 5)).unwrap();
                    assert!(appended.first_offset.0 > last);
                    last = appended.last_offset.0;
                }
            });
        }
        scope.spawn(|| {
            (0..50).for_each(|_| {
                log.roll().unwrap();
                log.flush().unwrap();
            })
        });
    });
    assert_eq!(log.log_end_offset(), Offset(3200));
    let read = offsets(&read_all(&log, 0, 10_000));
    assert_eq!(read, (0..1600).map(|at| (2 * at, 2 * at + 1)).collect::<Vec<_>>());
}

#[test]
fn idempotent_producers_survive_closing_and_crashing() {
    let dir = tempfile::tempdir().unwrap();
    let batch = |base_sequence| {
        let options =
            BatchOptions { producer_id: 9, producer_epoch: 0, base_sequence, ..BatchOptions::default() };
        batch_of(3, 10, 7, options)
    };
    let log = Log::open(place(dir.path()), small()).unwrap();
    assert_eq!(append(&log, batch(0)).unwrap().first_offset, Offset(0));
    assert_eq!(append(&log, batch(3)).unwrap().first_offset, Offset(3));
    let again = append(&log, batch(0)).unwrap();
    assert!(again.duplicate && again.first_offset == Offset(0) && again.last_offset == Offset(2));
    log.close().unwrap();
    for was_closed in [true, false, false] {
        let log = Log::open(LogPlace { was_closed, ..place(dir.path()) }, small()).unwrap();
        assert!(append(&log, batch(3)).unwrap().duplicate);
        assert!(matches!(append(&log, batch(7)), Err(AppendError::OutOfOrderSequence { .. })));
        assert_eq!(log.producers().len(), 1);
        assert_eq!(log.log_end_offset(), Offset(6));
    }
}

#[test]
fn timestamps_lead_to_the_first_record_that_is_as_late() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(place(dir.path()), small()).unwrap();
    for at in 0..100 {
        append(&log, plain(2, 50, 1000 + 10 * at)).unwrap();
    }
    for log in [log, Log::open(place(dir.path()), small()).unwrap()] {
        let offset = |timestamp| log.offset_for_timestamp(timestamp).unwrap().map(|found| found.offset.0);
        assert_eq!(offset(0), Some(0));
        for at in 0..100 {
            assert_eq!(offset(1000 + 10 * at), Some(2 * at));
            assert_eq!(offset(1001 + 10 * at), Some(2 * at + 1));
            assert_eq!(offset(992 + 10 * at), Some(2 * at));
        }
        assert_eq!(offset(1992), None);
        let latest = log.max_timestamp().unwrap().unwrap();
        assert_eq!((latest.timestamp, latest.offset.0, latest.leader_epoch.0), (1991, 199, 0));
    }
}

#[test]
fn a_log_that_lost_its_end_begins_at_its_start_offset() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(place(dir.path()), small()).unwrap();
    for at in 0..50 {
        append(&log, plain(2, 50, at)).unwrap();
    }
    drop(log);
    let log_start_offset = Some(Offset(300));
    let place = LogPlace { log_start_offset, accepts_missing_data: true, ..place(dir.path()) };
    let log = Log::open(place, small()).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(300), Offset(300)));
    assert_eq!(append(&log, plain(1, 1, 1)).unwrap().first_offset, Offset(300));
}

#[test]
fn followers_take_offsets_as_they_are_and_only_forwards() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(place(dir.path()), small()).unwrap();
    let follow = |base_offset, partition_leader_epoch| {
        let options = BatchOptions { base_offset, partition_leader_epoch, ..BatchOptions::default() };
        log.append_replicated(batch_of(2, 10, 1, options).freeze(), LeaderEpoch(4)).map(Option::unwrap)
    };
    assert!(matches!(follow(0, 3), Err(AppendError::LeadershipEnded(_))));
    log.follow(LeaderEpoch(4)).unwrap();
    assert_eq!(follow(0, 3).unwrap().last_offset, Offset(1));
    // Compaction leaves gaps, even such that no relative offset reaches over them.
    for (base, epoch) in [(10, 3), (1 << 33, 4)] {
        assert_eq!(follow(base, epoch).unwrap().first_offset, Offset(base));
    }
    assert!(matches!(follow(5, 4), Err(AppendError::OffsetsNotMonotonic { .. })));
    assert!(matches!(follow((1 << 33) + 2, 3), Err(AppendError::EpochNotMonotonic { .. })));
    assert!(matches!(follow(i64::MAX - 1, 4), Err(AppendError::Batch(_))));
    assert_eq!(log.segment_count(), 2);
    assert_eq!(log.end_offset_for_epoch(LeaderEpoch(3)), (LeaderEpoch(3), Offset(1 << 33)));
    assert_eq!(log.end_offset_for_epoch(LeaderEpoch(4)), (LeaderEpoch(4), Offset((1 << 33) + 2)));
    assert_eq!(log.end_offset_for_epoch(LeaderEpoch(5)), (LeaderEpoch::NONE, Offset::NONE));
    // Of a leader that is none any more: it is left for the next one to send.
    let options = BatchOptions { base_offset: 1 << 34, partition_leader_epoch: 5, ..BatchOptions::default() };
    assert_eq!(log.append_replicated(batch_of(1, 1, 1, options).freeze(), LeaderEpoch(4)).unwrap(), None);
    let expected = [(0, 1), (10, 11), (1 << 33, (1 << 33) + 1)];
    for from in [2, 11, 12, 1 << 32] {
        let at = expected.iter().position(|(_, last)| *last >= from).unwrap();
        assert_eq!(offsets(&read_all(&log, from, 1 << 20)), expected[at..], "{from}");
    }
    drop(log);
    let log = Log::open(place(dir.path()), small()).unwrap();
    assert_eq!(offsets(&read_all(&log, 0, 1 << 20)), expected);
    assert_eq!(log.latest_epoch(), LeaderEpoch(4));
}

#[test]
fn the_time_of_a_record_is_not_the_time_when_its_tombstone_may_go() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(place(dir.path()), small()).unwrap();
    append(&log, plain(1, 50, 1000)).unwrap();
    let compacted = plain(1, 50, 2000);
    let batch = batches(&compacted).next().unwrap().unwrap();
    let header = batch.header.with_delete_horizon(Some(90_000));
    append(&log, join(header, &compacted[BatchHeader::SIZE..]).unwrap()).unwrap();
    assert_eq!(log.first_timestamp_from(Offset(0)).unwrap(), Some(1000));
    assert_eq!(log.first_timestamp_from(Offset(1)).unwrap(), Some(2000));
}

#[test]
fn a_fetch_that_is_larger_than_a_segment_is_split_and_a_damaged_one_changes_nothing() {
    let (dir, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let leader = Log::open(place(source.path()), LogConfig::default()).unwrap();
    for at in 0..100 {
        append(&leader, plain(3, 50, at)).unwrap();
    }
    let fetched = read_all(&leader, 0, 1 << 20);
    let log = Log::open(place(dir.path()), small()).unwrap();
    let follower_of = LeaderEpoch(1);
    log.follow(follower_of).unwrap();
    let mut damaged = BytesMut::from(&fetched[..]);
    let at = damaged.len() - 3;
    damaged[at] ^= 1;
    assert!(matches!(log.append_replicated(damaged.freeze(), follower_of), Err(AppendError::Batch(_))));
    assert_eq!(log.log_end_offset(), Offset(0));
    // The last batch is cut, as a fetch ends.
    let cut = BytesMut::from(&fetched[..fetched.len() - 1]);
    let appended = log.append_replicated(cut.freeze(), follower_of).unwrap().unwrap();
    assert_eq!((appended.first_offset, appended.last_offset), (Offset(0), Offset(296)));
    let rest = read_all(&leader, 297, 1 << 20);
    log.append_replicated(Bytes::copy_from_slice(&rest), follower_of).unwrap();
    assert!(log.segment_count() > 5);
    assert!(read_all(&log, 0, 1 << 20) == fetched);
    drop(log);
    let log = Log::open(place(dir.path()), small()).unwrap();
    assert!(read_all(&log, 0, 1 << 20) == fetched);
    // A batch that is larger than a segment was taken by a leader whose segments are larger.
    log.follow(follower_of).unwrap();
    append(&leader, plain(1, 5000, 1)).unwrap();
    let large = read_all(&leader, 300, 1 << 20);
    log.append_replicated(Bytes::copy_from_slice(&large), follower_of).unwrap();
    assert!(read_all(&log, 300, 1 << 20) == large);
}

#[test]
fn an_append_of_an_ended_leadership_is_refused_also_when_it_had_queued() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(place(dir.path()), small()).unwrap();
    assert_eq!(log.lead(LeaderEpoch(1)).unwrap(), Offset(0));
    let append = |epoch| {
        log.append(AppendRequest {
            records: plain(1, 1, 1),
            epoch: LeaderEpoch(epoch),
            origin: Origin::PRODUCER,
        })
    };
    assert!(matches!(append(1), Append::Done(Ok(_))));
    let writer = log.lock_writer();
    let Append::Queued(mut queued) = append(1) else { panic!("the writer is busy") };
    // What `lead` does, and those who queued before it come after it.
    let mut writer = writer;
    writer.leadership.lead(LeaderEpoch(2)).unwrap();
    drop(writer);
    assert!(matches!(queued.try_recv().unwrap(), Err(AppendError::LeadershipEnded(_))));
    assert_eq!(log.lead(LeaderEpoch(2)).unwrap(), Offset(1));
    assert!(matches!(append(2), Append::Done(Ok(_))));
    for epoch in [0, 1, 3] {
        let refused = append(epoch);
        assert!(matches!(refused, Append::Done(Err(AppendError::LeadershipEnded(_)))), "{epoch}");
    }
    assert_eq!(log.end_offset_for_epoch(LeaderEpoch(1)), (LeaderEpoch(1), Offset(1)));
    assert!(log.lead(LeaderEpoch(1)).is_err());
    assert!(
        matches!(append(2), Append::Done(Err(_))),
        "nobody writes to a log that was told of an old epoch"
    );
    log.follow(LeaderEpoch(3)).unwrap();
    assert!(matches!(append(3), Append::Done(Err(AppendError::LeadershipEnded(_)))));
    assert_eq!(log.log_end_offset(), Offset(2));
}
