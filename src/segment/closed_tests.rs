//! Logs that were closed: what opening them costs, and index entries that are not what they should be.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file_cache::FileCache;
use super::index::{Entry, OffsetEntry, TimeEntry};
use super::tests::{append, batch_of, read_all};
use super::*;
use crate::env::sim::{Faults, SimClock, SimDisk};
use crate::env::{Disk, OpenMode};
use crate::protocol::batch::{BatchHeader, batches, set_base_offset};
use crate::protocol::builder::{BatchBuilder, BatchOptions};

const DIR: &str = "/data/t-0";

fn log_path() -> PathBuf {
    Path::new(DIR).join("00000000000000000000.log")
}

fn index_path() -> PathBuf {
    Path::new(DIR).join("00000000000000000000.index")
}

fn time_index_path() -> PathBuf {
    Path::new(DIR).join("00000000000000000000.timeindex")
}

fn open(disk: &SimDisk, was_closed: bool) -> Log {
    let place = LogPlace {
        disk: Arc::new(disk.clone()),
        clock: SimClock::new(1_000_000),
        cache: Arc::new(FileCache::new(4)),
        dir: DIR.into(),
        log_start_offset: None,
        recovery_point: None,
        first_dirty_offset: None,
        was_closed,
        accepts_missing_data: false,
    };
    Log::open(place, LogConfig { index_interval_bytes: 200, ..LogConfig::default() }).unwrap()
}

/// A log of so many batches of one record, 10 ms apart, closed.
fn closed(batches: i64) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.sync_dir(Path::new("/data")).unwrap();
    let log = open(&disk, false);
    for at in 0..batches {
        // In the value, what looks like this very batch.
        let mut value = batch_of(1, 10, 10 * at, BatchOptions::default());
        set_base_offset(&mut value, at);
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.add(10 * at, None, Some(&value)).unwrap();
        append(&log, builder.build_mut().unwrap()).unwrap();
    }
    log.close().unwrap();
    disk
}

fn write(disk: &SimDisk, path: &Path, content: &[u8]) {
    let file = disk.open(path, OpenMode::Create).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(&mut [IoSlice::new(content)], 0).unwrap();
}

/// The file's entries, the last one replaced.
fn with_last<E: Entry>(disk: &SimDisk, path: &Path, change: impl Fn(E) -> E) -> Vec<u8> {
    let mut content = disk.read(path).unwrap();
    let last = E::decode(&content.split_off(content.len() - E::SIZE)).unwrap();
    change(last).encode(&mut content);
    content
}

fn check(log: &Log, records: i64, what: &str) {
    assert_eq!(log.log_end_offset(), Offset(records), "{what}");
    for from in (0..records).step_by(37).chain([records - 1]) {
        let read = read_all(log, from, 1 << 20);
        let offsets: Vec<_> = batches(&read).map(|batch| batch.unwrap().header.base_offset).collect();
        assert_eq!(offsets, (from..records).collect::<Vec<_>>(), "{what}, from {from}");
        let found = log.offset_for_timestamp(10 * from).unwrap().map(|found| found.offset.0);
        assert_eq!(found, Some(from), "{what}");
    }
    assert_eq!(log.offset_for_timestamp(10 * records).unwrap(), None, "{what}");
    assert_eq!(log.max_timestamp().unwrap().map(|max| max.timestamp), Some(10 * (records - 1)), "{what}");
}

/// It must not matter how much is in them, and an idle one is not written to.
#[test]
fn opening_and_closing_again_takes_a_few_reads_and_no_write() {
    for batches in [1, 2, 3, 1000, 5000] {
        let disk = closed(batches);
        let before = disk.counts();
        let log = open(&disk, true);
        log.lead(LeaderEpoch(7)).unwrap();
        log.checkpoint().unwrap();
        let after = disk.counts();
        // The last entries of both indexes, the batches after, producers and epochs.
        assert!(after.reads - before.reads <= 6, "{} reads", after.reads - before.reads);
        assert!(after.opens - before.opens <= 5, "{} opens", after.opens - before.opens);
        log.close().unwrap();
        let after = disk.counts();
        let changes =
            (after.writes - before.writes, after.syncs - before.syncs, after.dir_syncs - before.dir_syncs);
        assert_eq!(changes, (0, 0, 0));
        check(&open(&disk, true), batches, "opened again");
    }
}

#[test]
fn wrong_or_missing_last_index_entries_hide_nothing_and_cut_nothing() {
    const RECORDS: i64 = 300;
    type Damage = (&'static str, fn(&SimDisk));
    fn offsets(disk: &SimDisk, change: fn(OffsetEntry) -> OffsetEntry) {
        write(disk, &index_path(), &with_last(disk, &index_path(), change));
    }
    fn times(disk: &SimDisk, change: fn(TimeEntry) -> TimeEntry) {
        write(disk, &time_index_path(), &with_last(disk, &time_index_path(), change));
    }
    fn shorten(disk: &SimDisk, path: &Path, bytes: usize) {
        let content = disk.read(path).unwrap();
        write(disk, path, &content[..content.len() - bytes]);
    }
    fn lengthen(disk: &SimDisk, path: &Path, bytes: &[u8]) {
        write(disk, path, &[&disk.read(path).unwrap(), bytes].concat());
    }
    let damages: &[Damage] = &[
        ("no index", |disk| disk.remove_file(&index_path()).unwrap()),
        ("no time index", |disk| disk.remove_file(&time_index_path()).unwrap()),
        ("an empty index", |disk| write(disk, &index_path(), &[])),
        ("an empty time index", |disk| write(disk, &time_index_path(), &[])),
        ("a torn index", |disk| shorten(disk, &index_path(), 3)),
        ("a torn time index", |disk| shorten(disk, &time_index_path(), 5)),
        ("an entry less", |disk| shorten(disk, &index_path(), OffsetEntry::SIZE)),
        ("two time entries less", |disk| shorten(disk, &time_index_path(), 2 * TimeEntry::SIZE)),
        ("zeros after the index", |disk| lengthen(disk, &index_path(), &[0; 64])),
        ("zeros after the time index", |disk| lengthen(disk, &time_index_path(), &[0; 60])),
        ("a position inside a batch", |disk| {
            offsets(disk, |last| OffsetEntry { position: last.position + 1, ..last })
        }),
        ("a position after the end", |disk| offsets(disk, |last| OffsetEntry { position: u32::MAX, ..last })),
        ("the position of another batch", |disk| offsets(disk, |last| OffsetEntry { position: 0, ..last })),
        ("what only looks like the batch", |disk| {
            let records = disk.read(&log_path()).unwrap();
            let content = with_last(disk, &index_path(), |last: OffsetEntry| {
                let wanted = i64::from(last.relative_offset).to_be_bytes();
                let inside = records.windows(8).rposition(|bytes| bytes == wanted).unwrap();
                assert!(inside > last.position as usize + BatchHeader::SIZE);
                OffsetEntry { position: inside as u32, ..last }
            });
            write(disk, &index_path(), &content);
        }),
        ("another offset", |disk| {
            offsets(disk, |last| OffsetEntry { relative_offset: last.relative_offset + 1, ..last })
        }),
        ("an offset after the end", |disk| {
            offsets(disk, |last| OffsetEntry { relative_offset: u32::MAX, ..last })
        }),
        ("a later time", |disk| {
            times(disk, |last| TimeEntry { timestamp: last.timestamp + 1_000_000, ..last })
        }),
        ("a time of a later offset", |disk| {
            times(disk, |last| TimeEntry { relative_offset: u32::MAX, ..last })
        }),
    ];
    for (what, damage) in damages {
        let disk = closed(RECORDS);
        let records = disk.read(&log_path()).unwrap();
        damage(&disk);
        let log = open(&disk, true);
        assert!(disk.read(&log_path()).unwrap() == records, "{what}: the log is another");
        check(&log, RECORDS, what);
        log.close().unwrap();
        drop(log);
        // What was made again is as durable as what was there.
        disk.power_cut();
        check(&open(&disk, true), RECORDS, what);
    }
}

#[test]
fn an_epoch_is_durable_once_a_record_of_it_is_and_not_earlier() {
    let disk = closed(10);
    let log = open(&disk, true);
    log.lead(LeaderEpoch(3)).unwrap();
    assert_eq!(log.latest_epoch(), LeaderEpoch(3));
    log.checkpoint().unwrap();
    drop(log);
    disk.power_cut();
    // Nobody can have seen it.
    let log = open(&disk, true);
    assert_eq!(log.latest_epoch(), LeaderEpoch(0));
    log.lead(LeaderEpoch(4)).unwrap();
    let request = AppendRequest {
        records: batch_of(1, 10, 0, BatchOptions::default()),
        epoch: LeaderEpoch(4),
        origin: Origin::PRODUCER,
    };
    assert!(matches!(log.append(request), Append::Done(Ok(_))));
    log.flush().unwrap();
    // The next epoch, of no record yet, does not keep the one before it from the disk.
    log.lead(LeaderEpoch(5)).unwrap();
    log.checkpoint().unwrap();
    drop(log);
    disk.power_cut();
    let content = disk.read(&Path::new(DIR).join(leader_epochs::FILE_NAME)).unwrap();
    let written = leader_epochs::LeaderEpochs::decode(std::str::from_utf8(&content).unwrap()).unwrap();
    assert_eq!(written.epoch_of(9), Some(0));
    assert_eq!(written.epoch_of(10), Some(4));
}

/// Of a segment that was rolled nothing is looked at after a closing: what was cut off must be gone for good.
#[test]
fn what_a_failed_write_left_does_not_come_back_after_a_power_cut() {
    for seed in 0..30 {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(Path::new(DIR)).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk.sync_dir(Path::new("/data")).unwrap();
        let log = open(&disk, false);
        append(&log, batch_of(3, 100, 0, BatchOptions::default())).unwrap();
        log.flush().unwrap();
        let whole = log.size_bytes();
        disk.arm(Faults { capacity_bytes: Some(disk.used_bytes() + 150), ..Faults::default() });
        append(&log, batch_of(9, 100, 0, BatchOptions::default())).unwrap_err();
        disk.arm(Faults::default());
        log.roll().unwrap();
        log.close().unwrap();
        drop(log);
        disk.power_cut();
        let log = open(&disk, true);
        assert_eq!((log.size_bytes(), log.log_end_offset()), (whole, Offset(3)), "seed {seed}");
    }
}
