//! Compaction against a model that knows every record ever written: random keys, tombstones, codecs and
//! producers, rounds at random times with maps of random sizes, on a disk that fails, fills up and loses power
//! at any step.
//!
//! What must hold after each round and each opening:
//! 1. Offsets only grow, and what is at an offset is what was written there.
//! 2. The last record of every key is there, and every record that no round has reached yet; tombstones for as
//!    long as they are to stay.
//! 3. A reader of the whole log ends up with the same value of every key as one of the log before compaction.
//! 4. The producers' sequences are those of a log that was never compacted.
//! 5. What was synced survives power cuts.
//!
//! A failure prints the command that repeats its seed ([`seeds`]).

use std::collections::BTreeMap;
use std::path::Path;

use super::super::file_cache::FileCache;
use super::super::tests::{place, read_all};
use super::super::{Append, AppendRequest, CleanupPolicy, LogPlace, Origin};
use super::*;
use crate::env::sim::{Faults, SimClock, SimDisk, SimRandom, seeds};
use crate::env::{Clock, Disk};
use crate::protocol::batch::{Compression, batches};
use crate::protocol::builder::{BatchBuilder, BatchOptions};
use crate::types::LeaderEpoch;

const DIR: &str = "/data/t-0";
const DELETE_RETENTION_MS: i64 = 300;
const KEYS: u64 = 12;

/// A record as it was written.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp: i64,
    appended_ms: i64,
}

struct World {
    seed: u64,
    random: SimRandom,
    disk: SimDisk,
    clock: Arc<SimClock>,
    config: LogConfig,
    log: Option<Log>,
    /// By offset.
    written: Vec<Written>,
    /// Below it nothing may be lost.
    flushed: i64,
    /// What the checkpoint files would say.
    recovery_point: i64,
    first_dirty: Option<Offset>,
    /// Next sequence of each of a few producers.
    sequences: [i32; 3],
    /// No round went further, finished or not.
    reached: i64,
}

fn go(_: u64) -> Result<(), Stop> {
    Ok(())
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = SimRandom::new(seed);
        let disk = SimDisk::new(random.next_u64());
        disk.create_dir_all(Path::new(DIR)).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk.sync_dir(Path::new("/data")).unwrap();
        let config = LogConfig {
            segment_bytes: 1000 + random.below(3000) as u32,
            index_interval_bytes: [0, 200, 1000][random.index(3)],
            cleanup: CleanupPolicy::COMPACT,
            delete_retention_ms: DELETE_RETENTION_MS,
            file_delete_delay_ms: random.below(100) as i64,
            ..LogConfig::default()
        };
        let clock = SimClock::new(1_000_000);
        let mut world = Self {
            seed,
            random,
            disk,
            clock,
            config,
            log: None,
            written: Vec::new(),
            flushed: 0,
            recovery_point: 0,
            first_dirty: None,
            sequences: [0; 3],
            reached: 0,
        };
        world.open();
        world
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("open between steps")
    }

    fn files(&self) -> Vec<(String, u64)> {
        let entries = self.disk.list(Path::new(DIR)).unwrap().into_iter();
        let mut files: Vec<_> = entries.map(|entry| (entry.name, entry.len)).collect();
        files.sort();
        files
    }

    fn open(&mut self) {
        tracing::debug!(files = ?self.files(), self.recovery_point, "opening");
        // The checkpoints may be lost, too: then all is looked at.
        if self.random.one_in(4) {
            (self.recovery_point, self.first_dirty) = (0, None);
        }
        let place = LogPlace {
            disk: Arc::new(self.disk.clone()),
            clock: self.clock.clone(),
            cache: Arc::new(FileCache::new(4)),
            dir: DIR.into(),
            log_start_offset: None,
            recovery_point: Some(Offset(self.recovery_point)),
            first_dirty_offset: self.first_dirty,
            was_closed: false,
            accepts_missing_data: false,
        };
        let log = Log::open(place, self.config.clone());
        let log = log.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        log.lead(LeaderEpoch(0)).unwrap();
        self.log = Some(log);
        self.check_nothing_is_left_over();
    }

    fn check_nothing_is_left_over(&self) {
        let files = self.files();
        let is_left = |name: &str| [".cleaned", ".swap"].iter().any(|ending| name.ends_with(ending));
        assert!(!files.iter().any(|(name, _)| is_left(name)), "seed {}: {files:?}", self.seed);
    }

    fn append(&mut self) {
        let who = self.random.index(self.sequences.len() + 2);
        let mut options =
            BatchOptions { compression: Compression::ALL[self.random.index(5)], ..BatchOptions::default() };
        if let Some(sequence) = self.sequences.get(who) {
            options.producer_id = who as i64 + 100;
            options.producer_epoch = 0;
            options.base_sequence = *sequence;
        }
        let mut builder = BatchBuilder::new(options);
        let now_ms = self.clock.now_ms();
        let mut records = Vec::new();
        for _ in 0..1 + self.random.below(6) {
            let timestamp = now_ms + self.random.below(20) as i64 - 10;
            let offset = self.written.len() + records.len();
            let key = format!("key-{}", self.random.below(KEYS)).into_bytes();
            let value = format!("{offset}-{}", "v".repeat(self.random.index(80))).into_bytes();
            let value = (!self.random.one_in(6)).then_some(value);
            let header: [(&[u8], _); 1] = [(b"h", Some(&b"x"[..]))];
            let headers = &header[..self.random.index(2)];
            builder.add_with_headers(timestamp, Some(&key), value.as_deref(), headers).unwrap();
            records.push(Written { key: Some(key), value, timestamp, appended_ms: now_ms });
        }
        let request = AppendRequest {
            records: builder.build_mut().unwrap(),
            epoch: LeaderEpoch(0),
            origin: Origin::PRODUCER,
        };
        let Append::Done(result) = self.log().append(request) else { panic!("nobody else writes") };
        match result {
            Ok(appended) => {
                assert_eq!(appended.first_offset.0 as usize, self.written.len(), "seed {}", self.seed);
                if let Some(sequence) = self.sequences.get_mut(who) {
                    *sequence += records.len() as i32;
                }
                self.written.append(&mut records);
            }
            Err(error) => assert!(self.disk.faults() != Faults::default(), "seed {}: {error}", self.seed),
        }
    }

    fn note_synced(&mut self) {
        self.log().flush().unwrap();
        self.flushed = self.written.len() as i64;
        self.log().checkpoint().unwrap();
        self.recovery_point = self.log().recovery_point().0;
    }

    fn clean(&mut self, buffer_bytes: usize) -> Result<CleanStats, Stop> {
        let bytes = [4096, 1 << 20][self.random.index(2)];
        let behind = if self.random.one_in(4) { self.random.below(20) as i64 } else { 0 };
        let stable = Offset((self.written.len() as i64 - behind).max(0));
        let now_ms = self.clock.now_ms();
        let cleanable = self.log().cleanable(stable, now_ms)?;
        self.reached = self.reached.max(cleanable.first_uncleanable_offset.0);
        let options = CleanOptions {
            now_ms,
            dedupe_buffer_bytes: buffer_bytes,
            load_factor: 0.9,
            io_bytes: bytes,
            seeds: [1, 2],
        };
        tracing::debug!(?cleanable, files = ?self.files(), "a round");
        let stats = self.log().clean(&cleanable, Offset(self.recovery_point), &options, &go)?;
        let log = self.log();
        assert!(stats.end_offset <= stable.0.max(cleanable.first_dirty_offset.0));
        assert_eq!(log.first_dirty_offset().unwrap().0, stats.end_offset);
        self.first_dirty = log.first_dirty_offset();
        Ok(stats)
    }

    /// A round during which the machine loses power, or the process is killed.
    fn interrupted_clean(&mut self) {
        self.note_synced();
        self.disk.arm(Faults { dies_in: Some(1 + self.random.below(60)), ..Faults::default() });
        let _ = self.clean(1 << 20);
        let (flushed, len) = (self.flushed, self.written.len() as i64);
        assert_eq!(flushed, len);
        if self.random.one_in(2) {
            self.disk.kill()
        } else {
            self.disk.power_cut()
        }
        self.open();
        self.settle();
        self.verify();
    }

    fn failing_clean(&mut self) {
        self.note_synced();
        let before = read_all(self.log(), 0, 1 << 20);
        let nth = Some(1 + self.random.below(6));
        let capacity = self.disk.used_bytes() + self.random.below(600);
        let faults = match self.random.below(3) {
            0 => Faults { fail_write_in: nth, ..Faults::default() },
            1 => Faults { fail_sync_in: nth, ..Faults::default() },
            _ => Faults { capacity_bytes: Some(capacity), ..Faults::default() },
        };
        self.disk.arm(faults);
        let cleaned = self.clean(1 << 20);
        self.disk.arm(Faults::default());
        let seed = self.seed;
        if self.log().is_failed() {
            // A sync that failed in the middle of the exchange: the next start sees to it.
            self.disk.kill();
            self.open();
            self.settle();
        } else if let Err(stop) = &cleaned {
            if faults.capacity_bytes.is_some() {
                let is_full = matches!(stop, Stop::Io(error) if error.kind() == io::ErrorKind::StorageFull);
                assert!(is_full, "seed {seed}: {stop}");
            }
            self.check_nothing_is_left_over();
            // The segments before the one that failed may be done; those after it are as they were.
            assert!(read_all(self.log(), 0, 1 << 20).len() <= before.len(), "seed {seed}");
        }
        self.verify();
        self.append();
    }

    fn power_cut(&mut self) {
        if self.random.one_in(2) {
            self.disk.kill()
        } else {
            self.disk.power_cut()
        }
        self.open();
        self.settle();
        self.verify();
    }

    /// Goes on from what survived, as producers would.
    fn settle(&mut self) {
        let end = self.log().log_end_offset().0;
        assert!(
            end >= self.flushed,
            "seed {}: {} was flushed, the log ends at {end}",
            self.seed,
            self.flushed
        );
        self.written.truncate(end as usize);
        self.recovery_point = self.recovery_point.min(end);
        for (at, sequence) in self.sequences.iter_mut().enumerate() {
            let producers = self.log.as_ref().expect("open").producers();
            let found = producers.iter().find(|producer| producer.producer_id.0 == at as i64 + 100);
            let last = found.map_or(-1, |producer| producer.last_sequence);
            // What was synced is known.
            *sequence = last + 1;
        }
    }

    fn records(&self) -> Vec<(i64, Written)> {
        let content = read_all(self.log(), 0, 1 << 20);
        let mut records = Vec::new();
        for batch in batches(&content).map(Result::unwrap) {
            for record in batch.records(1 << 20).unwrap().map(Result::unwrap) {
                assert!((batch.header.base_offset..=batch.header.last_offset()).contains(&record.offset));
                let [key, value] = [record.key, record.value].map(|bytes| bytes.map(|bytes| bytes.to_vec()));
                records.push((
                    record.offset,
                    Written { key, value, timestamp: record.timestamp, appended_ms: 0 },
                ));
            }
        }
        records
    }

    fn verify(&mut self) {
        let seed = self.seed;
        let records = self.records();
        assert!(records.is_sorted_by(|(a, _), (b, _)| a < b), "seed {seed}: offsets go back");
        let mut seen: BTreeMap<Option<Vec<u8>>, Option<Vec<u8>>> = BTreeMap::new();
        for (offset, record) in &records {
            let appended_ms = self.written[*offset as usize].appended_ms;
            let found = Written { appended_ms, ..record.clone() };
            assert_eq!(found, self.written[*offset as usize], "seed {seed}: offset {offset}");
            seen.insert(record.key.clone(), record.value.clone());
        }
        let mut last: BTreeMap<_, _> = BTreeMap::new();
        for (offset, written) in self.written.iter().enumerate() {
            last.insert(written.key.clone(), (offset as i64, written));
        }
        let is_there = |offset: i64| records.binary_search_by_key(&offset, |(offset, _)| *offset).is_ok();
        for (key, (offset, written)) in &last {
            let is_young = self.clock.now_ms() < written.appended_ms + DELETE_RETENTION_MS;
            let must_stay = written.value.is_some() || is_young;
            assert!(
                !must_stay || is_there(*offset),
                "seed {seed}: the last record of {key:?}, at {offset}, is lost"
            );
            assert_eq!(seen.get(key).cloned().flatten(), written.value, "seed {seed}: {key:?}");
        }
        for offset in self.reached..self.written.len() as i64 {
            assert!(is_there(offset), "seed {seed}: no round reached {offset}, and it is not there");
        }
        let producers: Vec<_> = self.log().producers();
        for (at, next) in self.sequences.iter().enumerate().filter(|(_, next)| **next > 0) {
            let found = producers.iter().find(|producer| producer.producer_id.0 == at as i64 + 100);
            assert_eq!(found.map(|producer| producer.last_sequence), Some(next - 1), "seed {seed}");
        }
        // Every offset can be asked for, and gives what comes next.
        for _ in 0..8.min(self.written.len()) {
            let asked = self.random.below(self.written.len() as u64) as i64;
            let end = self.log().log_end_offset();
            let slice = self.log().read(Offset(asked), 1, end, true).unwrap();
            let mut bytes = vec![0; slice.len];
            slice.file.read_at(&mut bytes, slice.position).unwrap();
            let first = batches(&bytes).next().unwrap().unwrap().header;
            assert!(first.last_offset() >= asked, "seed {seed}: {asked}");
            let next = records.iter().map(|(offset, _)| *offset).find(|offset| *offset >= asked);
            assert!(next.is_none_or(|next| first.base_offset <= next), "seed {seed}: {asked} skips {next:?}");
        }
        let latest = self.log().max_timestamp().unwrap().map(|found| found.timestamp);
        assert_eq!(latest, records.iter().map(|(_, record)| record.timestamp).max(), "seed {seed}");
        let asked = 1_000_000 + self.random.below(3000) as i64;
        let found = self.log().offset_for_timestamp(asked).unwrap().map(|found| found.offset.0);
        let first = records.iter().find(|(_, record)| record.timestamp >= asked).map(|(offset, _)| *offset);
        assert_eq!(found, first, "seed {seed}: timestamp {asked}");
    }

    fn step(&mut self) {
        self.clock.advance(self.random.below(20) as i64);
        match self.random.below(100) {
            0..70 => self.append(),
            70..74 => self.log().roll().unwrap(),
            74..78 => self.note_synced(),
            78..88 => {
                self.note_synced();
                let buffer_bytes = [0, 5 * 24, 1 << 20][self.random.index(3)];
                self.clean(buffer_bytes).unwrap_or_else(|stop| panic!("seed {}: {stop}", self.seed));
                let (now_ms, end) = (self.clock.now_ms(), self.log().log_end_offset());
                self.log().delete_old_segments(now_ms, end).unwrap();
                self.verify();
            }
            88..93 => self.interrupted_clean(),
            93..96 => self.failing_clean(),
            _ => self.power_cut(),
        }
    }

    /// Once all of it was compacted, and all tombstones are due, each key is there once or not at all.
    fn finish(&mut self) {
        self.log().roll().unwrap();
        for _ in 0..2 {
            self.note_synced();
            self.first_dirty = Some(Offset(0));
            self.log().set_first_dirty_offset(self.first_dirty);
            while self.first_dirty.unwrap() < self.log().log_end_offset() {
                self.clean(1 << 20).unwrap();
            }
            self.clock.advance(DELETE_RETENTION_MS);
        }
        self.verify();
        let mut keys: Vec<_> = self.records().into_iter().map(|(_, record)| record.key).collect();
        let (len, seed) = (keys.len(), self.seed);
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), len, "seed {seed}: a key is there twice");
        assert!(
            self.records().iter().all(|(_, record)| record.value.is_some()),
            "seed {seed}: a tombstone stayed"
        );
        assert_eq!(self.log().log_end_offset().0 as usize, self.written.len(), "seed {seed}");
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..150 {
        world.step();
    }
    world.finish();
    world.power_cut();
}

#[test]
fn compaction_keeps_the_last_of_each_key_whatever_happens() {
    seeds::run(30, "--lib cleaner", run);
}

/// A batch of records from `offset` on: each has its offset for a value, and one of seven keys.
fn batch_at(offset: i64, records: i64) -> bytes::BytesMut {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for at in offset..offset + records {
        let key = [b'k', (at % 7) as u8];
        builder.add(at, Some(&key), Some(format!("{at:040}").as_bytes())).unwrap();
    }
    builder.build_mut().unwrap()
}

/// Reads the log from its start on, and holds each record to its offset; gives the last offset of each key.
fn check_offsets(log: &Log) -> BTreeMap<Vec<u8>, i64> {
    let (mut next, mut last) = (log.log_start_offset().0, BTreeMap::new());
    loop {
        let slice = match log.read(Offset(next), 2000, log.log_end_offset(), true) {
            Ok(slice) if slice.len > 0 => slice,
            // Its start or its end went by.
            Ok(_) | Err(_) => return last,
        };
        let mut bytes = vec![0; slice.len];
        let count = slice.file.read_at(&mut bytes, slice.position).unwrap();
        for batch in batches(&bytes[..count]).map_while(Result::ok) {
            // A truncation may cut the file below a reader.
            if batch.verify_crc().is_err() {
                break;
            }
            for record in batch.records(1 << 20).unwrap().map(Result::unwrap) {
                assert_eq!(record.value.as_deref(), Some(format!("{:040}", record.offset).as_bytes()));
                last.insert(record.key.unwrap().to_vec(), record.offset);
            }
            next = batch.header.next_offset();
        }
        if batches(&bytes[..count]).next().is_none_or(|first| first.is_err()) {
            return last;
        }
    }
}

#[test]
fn appends_reads_retention_truncation_and_rounds_go_on_beside_each_other() {
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 3000, cleanup: CleanupPolicy::COMPACT, ..LogConfig::default() };
    let log = Log::open(place(dir.path()), config.clone()).unwrap();
    log.lead(LeaderEpoch(0)).unwrap();
    let (stable, rounds, is_done) = (AtomicI64::new(0), AtomicI64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Acquire) {
                    check_offsets(&log);
                    let _ = log.offset_for_timestamp(log.log_end_offset().0 / 2).unwrap();
                    let _ = log.max_timestamp().unwrap();
                }
            });
        }
        scope.spawn(|| {
            while !is_done.load(Ordering::Acquire) {
                let stable = Offset(stable.load(Ordering::Acquire));
                log.advance_log_start_offset(Offset(stable.0 / 4)).unwrap();
                log.delete_old_segments(0, stable).unwrap();
                log.flush().unwrap();
                log.checkpoint().unwrap();
            }
        });
        scope.spawn(|| {
            while !is_done.load(Ordering::Acquire) {
                let cleanable = log.cleanable(Offset(stable.load(Ordering::Acquire)), 0).unwrap();
                let recovery_point = log.flush().unwrap();
                let options = CleanOptions {
                    now_ms: 0,
                    dedupe_buffer_bytes: 1 << 16,
                    load_factor: 0.9,
                    io_bytes: 1,
                    seeds: [1, 2],
                };
                match log.clean(&cleanable, recovery_point, &options, &go) {
                    Ok(_) => drop(rounds.fetch_add(1, Ordering::AcqRel)),
                    Err(Stop::Aborted) => {}
                    Err(stop) => {
                        is_done.store(true, Ordering::Release);
                        panic!("{stop}");
                    }
                }
            }
        });
        let mut random = SimRandom::new(7);
        for at in 0..1500 {
            let end = log.log_end_offset().0;
            let request = AppendRequest {
                records: batch_at(end, 1 + random.below(5) as i64),
                epoch: log.leadership_epoch(),
                origin: Origin::PRODUCER,
            };
            match log.append(request) {
                Append::Done(appended) => drop(appended.unwrap()),
                Append::Queued(receiver) => drop(receiver.blocking_recv().unwrap().unwrap()),
            }
            // Rounds come to an end now and then, and are cut short now and then.
            let finished = rounds.load(Ordering::Acquire);
            while at % 100 == 99
                && !is_done.load(Ordering::Acquire)
                && rounds.load(Ordering::Acquire) < finished + 2
            {
                std::thread::yield_now();
            }
            if at % 50 == 20 {
                let (epoch, to) = (log.leadership_epoch().0, stable.load(Ordering::Acquire).max(end - 20));
                log.follow(LeaderEpoch(epoch + 1)).unwrap();
                log.truncate_to(Offset(to), LeaderEpoch(epoch + 1), |_| Ok(())).unwrap();
                log.lead(LeaderEpoch(epoch + 2)).unwrap();
            }
            if at % 7 == 0 {
                stable.store(log.log_end_offset().0, Ordering::Release);
            }
        }
        is_done.store(true, Ordering::Release);
    });
    let end = log.log_end_offset().0;
    assert!(log.size_bytes() < 20 * end as u64, "{} bytes for {end} records", log.size_bytes());
    let last = |log: &Log| check_offsets(log).into_values().max();
    assert_eq!((check_offsets(&log).len(), last(&log)), (7, Some(end - 1)));
    let first = log.log_start_offset();
    drop(log);
    let log = Log::open(LogPlace { log_start_offset: Some(first), ..place(dir.path()) }, config).unwrap();
    assert_eq!((check_offsets(&log).len(), last(&log)), (7, Some(end - 1)));
    log.close().unwrap();
    assert!(log.cleanable(Offset(end), 0).is_err());
}
