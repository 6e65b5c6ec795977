//! Bytes that changed under the log, and what is kept of what lies behind them.

use std::path::Path;
use std::sync::Arc;

use super::tests::{append, batch_of, place, read_all};
use super::*;
use crate::env::sim::{Faults, SimClock, SimDisk};
use crate::env::{Clock, Disk};
use crate::protocol::batch::batches;
use crate::protocol::builder::BatchOptions;

fn small() -> LogConfig {
    LogConfig { segment_bytes: 1000, index_interval_bytes: 200, ..LogConfig::default() }
}

/// 30 batches of 2 records in several segments, closed.
fn filled(dir: &Path) {
    let log = Log::open(place(dir), small()).unwrap();
    for at in 0..30 {
        append(&log, batch_of(2, 50, 1000 * at, BatchOptions::default())).unwrap();
    }
    assert!(log.segment_count() > 4);
    log.close().unwrap();
}

fn reopened(dir: &Path) -> Log {
    Log::open(LogPlace { was_closed: true, ..place(dir) }, small()).unwrap()
}

/// Every batch: its file, position and first offset.
fn located(dir: &Path) -> Vec<(std::path::PathBuf, usize, i64)> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    let mut found = Vec::new();
    for path in files {
        let (content, mut position) = (std::fs::read(&path).unwrap(), 0);
        for batch in batches(&content) {
            let batch = batch.unwrap();
            found.push((path.clone(), position, batch.header.base_offset));
            position += batch.bytes.len();
        }
    }
    found
}

#[test]
fn a_damaged_header_is_an_error_and_never_an_empty_answer() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let log = reopened(dir.path());
    let end = log.log_end_offset();
    for (path, position, first) in located(dir.path()) {
        let sound = std::fs::read(&path).unwrap();
        // Base offset, length, magic: no checksum covers them.
        for at in [0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16] {
            for bit in [0x01, 0x02, 0x10, 0x80] {
                let mut damaged = sound.clone();
                damaged[position + at] ^= bit;
                // In place: the log has the file open.
                std::fs::write(&path, &damaged).unwrap();
                for from in [first, first + 1] {
                    for bytes_max in [1, 1 << 20] {
                        match log.read(Offset(from), bytes_max, end, true) {
                            Err(ReadError::Corrupt(_)) => {}
                            Err(other) => panic!("{other}"),
                            // The client finds out by the checksum.
                            Ok(slice) => {
                                assert!((8..12).contains(&at), "byte {at} of batch {first}, from {from}");
                                assert!(slice.len > 0 && slice.position == position as u64);
                            }
                        }
                    }
                }
            }
        }
        std::fs::write(&path, &sound).unwrap();
    }
    assert_eq!(batches(&read_all(&log, 0, 1 << 20)).count(), 30);
}

#[test]
fn what_lies_behind_damage_is_set_aside_and_never_loaded_or_removed() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let all = located(dir.path());
    let (path, position, first) = all[12].clone();
    let in_segment = all.iter().filter(|(other, ..)| *other == path).count();
    assert!(in_segment > 2 && position > 0);
    let behind: Vec<_> = all.iter().map(|(path, ..)| path.clone()).filter(|other| *other > path).collect();
    let content = std::fs::read(&path).unwrap();
    let contents: Vec<_> = behind.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let mut damaged = content.clone();
    damaged[position + 70] ^= 1;
    std::fs::write(&path, &damaged).unwrap();

    // Not closed in order, so that every batch is looked at; twice, as what is set aside stays.
    let mut bytes = 0;
    for round in 0..2 {
        let log = Log::open(place(dir.path()), small()).unwrap();
        assert_eq!(log.log_end_offset(), Offset(first));
        assert_eq!(batches(&read_all(&log, 0, 1 << 20)).count(), 12);
        let aside = |offset: i64| dir.path().join(format!("{offset:020}.log.set-aside"));
        assert_eq!(std::fs::read(aside(first)).unwrap(), damaged[position..]);
        for (path, content) in behind.iter().zip(&contents) {
            let name = format!("{}.set-aside", path.file_name().unwrap().to_str().unwrap());
            assert_eq!(&std::fs::read(dir.path().join(name)).unwrap(), content);
            assert!(!path.exists());
        }
        let expected: u64 = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_name().to_str().unwrap().ends_with(".set-aside"))
            .map(|entry| entry.metadata().unwrap().len())
            .sum();
        assert_eq!(log.set_aside_bytes(), expected);
        if round == 1 {
            assert_eq!(expected, bytes);
        }
        bytes = expected;
    }
    // The same damage again does not take the place of what is there.
    let log = Log::open(place(dir.path()), small()).unwrap();
    for at in 0..3 {
        append(&log, batch_of(2, 50, at, BatchOptions::default())).unwrap();
    }
    log.flush().unwrap();
    drop(log);
    let (path, position, _) = located(dir.path())[12].clone();
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[position + 70] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let log = Log::open(place(dir.path()), small()).unwrap();
    assert_eq!(log.log_end_offset(), Offset(first));
    assert!(log.set_aside_bytes() > bytes);
    assert!(dir.path().join(format!("{first:020}.log.set-aside-2")).exists());
}

#[test]
fn a_torn_end_leaves_nothing_aside() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let (path, position, first) = located(dir.path()).pop().unwrap();
    let mut content = std::fs::read(&path).unwrap();
    content[position + 70..].fill(0);
    content.extend([0; 5000]);
    std::fs::write(&path, content).unwrap();
    let log = Log::open(place(dir.path()), small()).unwrap();
    assert_eq!((log.log_end_offset(), log.set_aside_bytes()), (Offset(first), 0));
}

struct Simulated {
    disk: SimDisk,
    clock: Arc<SimClock>,
}

impl Simulated {
    fn new() -> Self {
        let (disk, clock) = (SimDisk::new(3), SimClock::new(1_000_000));
        disk.keep_times(&clock);
        disk.create_dir_all(Path::new("/t-0")).unwrap();
        Self { disk, clock }
    }

    fn open(&self, was_closed: bool, config: LogConfig) -> Log {
        let place = LogPlace {
            disk: Arc::new(self.disk.clone()),
            clock: self.clock.clone(),
            was_closed,
            ..place(Path::new("/t-0"))
        };
        Log::open(place, config).unwrap()
    }
}

const HOUR_MS: i64 = 3_600_000;

#[test]
fn records_without_timestamps_age_by_their_files_over_restarts_too() {
    let sim = Simulated::new();
    let config = LogConfig { retention_ms: 10 * HOUR_MS, ..small() };
    let mut log = sim.open(false, config.clone());
    for _ in 0..10 {
        append(&log, batch_of(1, 100, -1, BatchOptions::default())).unwrap();
    }
    let segments = log.segment_count();
    assert!(segments > 1);
    let end = log.log_end_offset();
    // Restarted more often than the records are kept for.
    for _ in 0..3 {
        sim.clock.advance(3 * HOUR_MS);
        assert_eq!(log.delete_old_segments(sim.clock.now_ms(), end).unwrap(), 0);
        log.close().unwrap();
        drop(log);
        sim.disk.kill();
        log = sim.open(true, config.clone());
    }
    // What is written now is new, and keeps its segment.
    append(&log, batch_of(1, 10, -1, BatchOptions::default())).unwrap();
    sim.clock.advance(2 * HOUR_MS);
    let end = log.log_end_offset();
    assert_eq!(log.delete_old_segments(sim.clock.now_ms(), end).unwrap(), segments - 1);
    sim.clock.advance(9 * HOUR_MS);
    assert_eq!(log.delete_old_segments(sim.clock.now_ms(), end).unwrap(), 1);
    assert_eq!((log.log_start_offset(), log.size_bytes()), (end, 0));
}

#[test]
fn an_active_segment_past_its_retention_goes_on_a_full_disk() {
    let sim = Simulated::new();
    let log = sim.open(false, LogConfig { retention_ms: HOUR_MS, ..LogConfig::default() });
    let options = BatchOptions { producer_id: 5, producer_epoch: 0, base_sequence: 0, ..Default::default() };
    append(&log, batch_of(1, 100, 1_000_000, options)).unwrap();
    for _ in 0..100 {
        append(&log, batch_of(1, 100, 1_000_000, BatchOptions::default())).unwrap();
    }
    let used = sim.disk.used_bytes();
    sim.disk.arm(Faults { capacity_bytes: Some(used + 10), ..Faults::default() });
    let refused = append(&log, batch_of(1, 100, 1_000_000, BatchOptions::default()));
    assert!(matches!(refused, Err(AppendError::StorageFull)));
    sim.clock.advance(2 * HOUR_MS);
    let end = log.log_end_offset();
    assert_eq!(log.delete_old_segments(sim.clock.now_ms(), end).unwrap(), 1);
    log.remove_due(i64::MAX);
    assert!(sim.disk.used_bytes() < used / 2);
    append(&log, batch_of(1, 100, 1_000_000, BatchOptions::default())).unwrap();
    assert_eq!(log.producers().len(), 1);
    log.checkpoint().unwrap();
    drop(log);
    sim.disk.kill();
    let log = sim.open(false, LogConfig::default());
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (end, end.plus(1)));
    assert_eq!(log.producers().len(), 1);
}
