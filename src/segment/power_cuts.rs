//! Logs on a simulated disk: random appends, rolls, flushes, checkpoints, failing calls, leaderships that begin and end,
//! truncations, killed processes and power cuts (in the middle of a truncation, too), against a model that knows
//! every batch.
//!
//! What must hold after each opening, whatever happened before:
//! 1. Every batch below the last flushed offset is there, byte for byte.
//! 2. What else is there was appended, at that offset, without a gap, and epochs do not go down (KIP-101's premise).
//! 3. The producers are those that a replay of the log gives (KIP-98).
//! 4. Epochs, offsets and timestamps are found where the batches say (KIP-101, KIP-79).
//! 5. After a process was killed (and no power cut), nothing that was acknowledged is missing.
//! 6. What a truncation took does not come back, once it is done. (Of one that died in its middle, what it took may,
//!    until the log is synced again: a process that begins again finds it done, and a power cut undoes it.)
//!
//! A failure prints the command that repeats its seed ([`seeds`]).

use std::path::Path;
use std::sync::Arc;

use super::file_cache::FileCache;
use super::producer_state::ProducerState;
use super::tests::batch_of;
use super::*;
use crate::env::sim::{Faults, SimClock, SimDisk, SimRandom, seeds};
use crate::env::{Clock, Disk};
use crate::protocol::batch::{BatchHeader, batches};
use crate::protocol::builder::BatchOptions;

const DIR: &str = "/data/t-0";
const STEPS: u64 = 120;

/// A batch that should be in the log.
#[derive(Clone)]
struct Model {
    header: BatchHeader,
    bytes: Vec<u8>,
}

struct World {
    seed: u64,
    random: SimRandom,
    disk: SimDisk,
    clock: Arc<SimClock>,
    config: LogConfig,
    log: Option<Log>,
    batches: Vec<Model>,
    /// Batches that are in no log, and may turn up after a crash: their append failed (as a request may that timed
    /// out), or they were cut off or lost, and nothing was synced since then.
    ghosts: Vec<Model>,
    /// Below it nothing may ever be lost.
    flushed: i64,
    /// What the data folder's checkpoint file would say.
    recovery_point: i64,
    /// The partition's leader epoch.
    epoch: i32,
    power_cuts: u64,
    /// Next sequence of each of a few producers, with its epoch.
    producers: [(i16, i32); 4],
    closed: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = SimRandom::new(seed);
        let disk = SimDisk::new(random.next_u64());
        disk.create_dir_all(Path::new(DIR)).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk.sync_dir(Path::new("/data")).unwrap();
        let config = LogConfig {
            segment_bytes: 2000 + random.below(20_000) as u32,
            index_interval_bytes: [0, 200, 1000][random.index(3)],
            ..LogConfig::default()
        };
        Self {
            seed,
            random,
            disk,
            clock: SimClock::new(1_000_000),
            config,
            log: None,
            batches: Vec::new(),
            ghosts: Vec::new(),
            flushed: 0,
            recovery_point: 0,
            epoch: 0,
            power_cuts: 0,
            producers: [(0, 0); 4],
            closed: false,
        }
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("open between steps")
    }

    fn model_end(&self) -> i64 {
        self.batches.last().map_or(0, |b| b.header.next_offset())
    }

    fn open(&mut self) {
        let mut files: Vec<_> =
            self.disk.list(Path::new(DIR)).unwrap().into_iter().map(|f| (f.name, f.len)).collect();
        files.sort();
        let epochs = self.disk.read(&Path::new(DIR).join("leader-epoch-checkpoint")).unwrap_or_default();
        let epochs = String::from_utf8_lossy(&epochs);
        tracing::debug!(?files, %epochs, "opening");
        let place = LogPlace {
            disk: Arc::new(self.disk.clone()),
            clock: self.clock.clone(),
            cache: Arc::new(FileCache::new(4)),
            dir: DIR.into(),
            log_start_offset: None,
            recovery_point: Some(Offset(self.recovery_point)),
            first_dirty_offset: None,
            was_closed: std::mem::take(&mut self.closed),
            accepts_missing_data: false,
        };
        self.log =
            Some(Log::open(place, self.config.clone()).unwrap_or_else(|e| panic!("seed {}: {e}", self.seed)));
    }

    /// A batch as a producer sends it, with its producer and the number of its records.
    fn batch(&mut self) -> (BytesMut, Option<usize>, i32) {
        let records = 1 + self.random.below(5) as i32;
        let value_bytes = self.random.index(300);
        let timestamp = self.clock.now_ms() + self.random.below(50) as i64;
        let who = self.random.index(self.producers.len() + 2);
        let mut options = BatchOptions::default();
        let producer = self.producers.get(who).copied();
        if let Some((epoch, sequence)) = producer {
            options.producer_id = who as i64 + 100;
            options.producer_epoch = epoch;
            options.base_sequence = sequence;
        }
        (batch_of(records, value_bytes, timestamp, options), producer.map(|_| who), records)
    }

    /// A batch as it is in the log.
    fn model(batch: &BytesMut, offset: i64, epoch: i32) -> Model {
        let mut bytes = batch.to_vec();
        crate::protocol::batch::set_base_offset(&mut bytes, offset);
        crate::protocol::batch::set_partition_leader_epoch(&mut bytes, epoch);
        Model { header: BatchHeader::parse(&bytes).unwrap(), bytes }
    }

    /// One append; whether it must have worked is for the caller to say.
    fn append(&mut self) -> Result<(), AppendError> {
        let (batch, who, records) = self.batch();
        let before = self.log().log_end_offset();
        let model = Self::model(&batch, before.0, self.epoch);
        let appended = match append_with(self.log(), batch.clone(), LeaderEpoch(self.epoch)) {
            Ok(appended) => appended,
            Err(error) => {
                self.ghosts.push(model);
                return Err(error);
            }
        };
        let seed = self.seed;
        assert!(!appended.duplicate, "seed {seed}: a new batch was taken for an old one");
        assert_eq!(appended.first_offset, before, "seed {seed}");
        assert_eq!(appended.last_offset.0, before.0 + i64::from(records) - 1, "seed {seed}");
        self.batches.push(model);
        if let Some(who) = who {
            self.producers[who].1 += records;
            if self.random.one_in(4) {
                // A retry is answered with the old offsets.
                let again = append_with(self.log(), batch, LeaderEpoch(self.epoch))?;
                assert!(again.duplicate, "seed {seed}: a retry was written again");
                assert_eq!(
                    (again.first_offset, again.last_offset),
                    (appended.first_offset, appended.last_offset)
                );
            }
        }
        Ok(())
    }

    fn step(&mut self) {
        self.clock.advance(self.random.below(20) as i64);
        let dice = self.random.below(100);
        let (end, flushed, recovery_point) = (self.model_end(), self.flushed, self.recovery_point);
        tracing::debug!(dice, end, flushed, recovery_point, "step");
        match dice {
            0..56 => self.append().unwrap_or_else(|e| panic!("seed {}: {e}", self.seed)),
            56..60 => self.follow(),
            60..68 => self.flush(),
            68..73 => {
                self.flush();
                self.log().checkpoint().unwrap();
                self.recovery_point = self.log().recovery_point().0;
                self.flushed = self.flushed.max(self.recovery_point);
            }
            73..76 => self.log().roll().unwrap(),
            76..79 => self.begin_epoch(),
            79..82 => {
                let who = self.random.index(self.producers.len());
                self.producers[who].0 += 1;
                self.producers[who].1 = 0;
            }
            82..86 => self.failing_write(),
            86..88 => self.failing_sync(),
            88..91 => self.full_disk(),
            91..93 => {
                self.log().close().unwrap();
                assert!(
                    append_with(self.log(), batch_of(1, 1, 1, BatchOptions::default()), LeaderEpoch(0))
                        .is_err()
                );
                self.flushed = self.model_end();
                self.ghosts.clear();
                self.recovery_point = self.flushed;
                self.closed = true;
                if self.random.one_in(2) { self.kill() } else { self.power_cut() }
            }
            93..96 => self.kill(),
            _ => self.power_cut(),
        }
    }

    /// A leadership of this node begins.
    fn begin_epoch(&mut self) {
        self.epoch += 1;
        let end = self.log().lead(LeaderEpoch(self.epoch)).unwrap();
        assert_eq!(end.0, self.model_end(), "seed {}", self.seed);
    }

    /// Controllers give every partition of a node that registers a new leader epoch.
    fn begin_epoch_after_start(&mut self) {
        self.epoch += self.random.below(2) as i32;
        self.log().lead(LeaderEpoch(self.epoch)).unwrap();
    }

    /// Somebody else leads for a while: this log is cut where the other's goes on in another way, and gets what that
    /// leader has, of its epoch and of earlier ones that this log has not seen.
    fn follow(&mut self) {
        let seed = self.seed;
        for _ in 0..1 + self.random.below(2) {
            self.epoch += 1 + self.random.below(3) as i32;
            self.log().follow(LeaderEpoch(self.epoch)).unwrap();
            if self.random.one_in(2) && !self.truncate() {
                return;
            }
            for _ in 0..self.random.below(3) {
                let mut records = BytesMut::new();
                let (mut epoch, mut offset) = (self.log().latest_epoch().0.max(0), self.model_end());
                for _ in 0..1 + self.random.below(12) {
                    epoch += self.random.below((self.epoch - epoch) as u64 + 1) as i32;
                    let (batch, who, count) = self.batch();
                    let model = Self::model(&batch, offset, epoch);
                    records.extend_from_slice(&model.bytes);
                    offset = model.header.next_offset();
                    self.batches.push(model);
                    if let Some(who) = who {
                        self.producers[who].1 += count;
                    }
                }
                let appended =
                    self.log().append_replicated(records.freeze(), LeaderEpoch(self.epoch)).unwrap();
                assert_eq!(appended.unwrap().last_offset.0, offset - 1, "seed {seed}");
                if self.random.one_in(4) {
                    self.flush();
                }
            }
        }
        self.verify();
        self.begin_epoch();
    }

    /// Cuts the log; false when power went in the middle of it.
    fn truncate(&mut self) -> bool {
        let (seed, end) = (self.seed, self.model_end());
        // Mostly what was appended last.
        let back = if self.random.one_in(3) { end as u64 + 1 } else { 30.min(end as u64 + 1) };
        let to = end - self.random.below(back) as i64;
        let cut = |batch: &&Model| batch.header.next_offset() <= to;
        let kept = self.batches.iter().take_while(cut).count();
        let cut = self.batches.get(kept).map_or(end, |batch| batch.header.base_offset.min(to));
        self.flushed = self.flushed.min(cut);
        if self.random.one_in(2) {
            let dies_in = Some(1 + self.random.below(12));
            self.disk.arm(Faults { dies_in, ..self.disk.faults() });
        }
        let mut lowered = None;
        let noted = self.recovery_point;
        let disk = self.disk.clone();
        let lower = |offset: Offset| {
            // As a checkpoint that is written durably, or not.
            disk.write_atomic(Path::new("/data/recovery-point"), offset.to_string().as_bytes())?;
            lowered = Some(offset.0);
            Ok(())
        };
        let done = self.log().truncate_to(Offset(to), LeaderEpoch(self.epoch), lower);
        self.recovery_point = noted.min(lowered.unwrap_or(noted));
        let is_dead = self.disk.faults().dies_in == Some(0);
        tracing::debug!(to, cut, ?done, is_dead, "truncated");
        if !is_dead {
            self.disk.arm(Faults { dies_in: None, ..self.disk.faults() });
            done.unwrap();
            assert!(to >= end || lowered == Some(cut), "seed {seed}: {lowered:?} is not {cut}");
            self.batches.truncate(kept);
            self.producers_go_on();
            assert_eq!(self.log().log_end_offset().0, cut, "seed {seed}");
            self.verify();
            return true;
        }
        // Of what was to go, anything may be there still.
        if self.random.one_in(3) {
            self.disk.kill();
        } else {
            self.disk.power_cut();
            self.power_cuts += 1;
        }
        self.log = None;
        self.open();
        let end = self.log().log_end_offset().0;
        assert!(end >= self.flushed, "seed {seed}: the log ends at {end}, {} was flushed", self.flushed);
        self.settle();
        self.recovery_point = self.recovery_point.min(end);
        self.verify();
        self.begin_epoch_after_start();
        false
    }

    fn flush(&mut self) {
        let synced = self.log().recovery_point();
        let flushed = self.log().flush().unwrap();
        assert_eq!(flushed.0, self.model_end(), "seed {}", self.seed);
        self.flushed = flushed.0;
        if flushed > synced {
            self.ghosts.clear();
        }
    }

    /// A failed append leaves nothing; the next one works (or says that the log is offline).
    fn failing_write(&mut self) {
        let fail_set_len_in = self.random.one_in(4).then_some(1);
        let faults = self.disk.faults();
        self.disk.arm(Faults { fail_write_in: Some(1), fail_set_len_in, ..faults });
        let end = self.log().log_end_offset();
        if self.append().is_err() {
            assert_eq!(self.log().log_end_offset(), end, "seed {}", self.seed);
        }
        self.disk.arm(Faults { capacity_bytes: faults.capacity_bytes, ..Faults::default() });
        if self.log().is_failed() {
            assert!(self.log().flush().is_err(), "seed {}: an offline log flushed", self.seed);
            if self.random.one_in(2) { self.kill() } else { self.power_cut() }
        } else {
            self.verify_reads();
        }
    }

    /// After a failed sync nothing more is acknowledged.
    fn failing_sync(&mut self) {
        if self.log().recovery_point() == self.log().log_end_offset() {
            return;
        }
        self.disk.arm(Faults { fail_sync_in: Some(1), ..self.disk.faults() });
        assert!(self.log().flush().is_err(), "seed {}", self.seed);
        assert!(self.log().is_failed() && self.append().is_err(), "seed {}", self.seed);
        self.power_cut();
    }

    /// Appends fail until there is room again; everything else goes on.
    fn full_disk(&mut self) {
        let capacity = self.disk.used_bytes() + self.random.below(400);
        self.disk.arm(Faults { capacity_bytes: Some(capacity), ..Faults::default() });
        for _ in 0..4 {
            if let Err(error) = self.append() {
                assert!(matches!(error, AppendError::StorageFull), "seed {}: {error}", self.seed);
            }
        }
        assert!(!self.log().is_failed(), "seed {}: a full disk is no broken one", self.seed);
        self.verify_reads();
        self.flush();
        if self.random.one_in(3) {
            // Opening works on a full disk too.
            self.kill();
        }
        self.disk.arm(Faults::default());
    }

    fn kill(&mut self) {
        self.disk.kill();
        let was_failed = self.log().is_failed();
        self.log = None;
        self.open();
        let end = self.log().log_end_offset().0;
        assert!(end >= self.model_end(), "seed {}: a kill lost records", self.seed);
        assert!(was_failed || end == self.model_end(), "seed {}: a kill made records", self.seed);
        self.settle();
        self.verify();
        self.begin_epoch_after_start();
    }

    fn power_cut(&mut self) {
        self.disk.power_cut();
        self.power_cuts += 1;
        self.log = None;
        self.open();
        let end = self.log().log_end_offset().0;
        let seed = self.seed;
        assert!(end >= self.flushed, "seed {seed}: the log ends at {end}, {} was flushed", self.flushed);
        self.settle();
        self.recovery_point = self.recovery_point.min(end);
        self.verify();
        self.begin_epoch_after_start();
    }

    /// Takes over what survived, and goes on from there as producers would. Each batch above the
    /// flushed offset must have been appended, or tried to be, just there.
    fn settle(&mut self) {
        let (seed, end) = (self.seed, self.log().log_end_offset().0);
        let mut survivors: Vec<Model> = Vec::new();
        while survivors.last().map_or(0, |b| b.header.next_offset()) < end {
            let offset = survivors.last().map_or(0, |b| b.header.next_offset());
            let bytes = read(self.log(), offset, 1, end);
            let same = |m: &&Model| m.bytes == bytes;
            let model = self.batches.iter().chain(&self.ghosts).find(same);
            let model =
                model.unwrap_or_else(|| panic!("seed {seed}: what is at {offset} was never appended"));
            assert_eq!(model.header.base_offset, offset, "seed {seed}: there is a gap");
            let epoch = |model: &Model| model.header.partition_leader_epoch;
            assert!(
                survivors.last().is_none_or(|last| epoch(last) <= epoch(model)),
                "seed {seed}: an older epoch"
            );
            survivors.push(model.clone());
        }
        let flushed = |b: &&Model| b.header.base_offset < self.flushed;
        assert!(
            survivors.iter().filter(flushed).map(|b| &b.bytes).eq(self
                .batches
                .iter()
                .filter(flushed)
                .map(|b| &b.bytes)),
            "seed {seed}: what was flushed has changed"
        );
        let is_gone = |batch: &Model| survivors.iter().all(|survivor| survivor.bytes != batch.bytes);
        let gone = self.batches.drain(..).chain(self.ghosts.drain(..)).filter(is_gone).collect();
        self.ghosts = gone;
        self.batches = survivors;
        self.producers_go_on();
    }

    /// Producers go on from what is in the log.
    fn producers_go_on(&mut self) {
        for (at, (epoch, sequence)) in self.producers.iter_mut().enumerate() {
            let last = self.batches.iter().rev().find(|b| b.header.producer_id == at as i64 + 100);
            (*epoch, *sequence) = match last {
                Some(b) => (b.header.producer_epoch, b.header.last_sequence() + 1),
                None => (0, 0),
            };
        }
    }

    fn verify(&mut self) {
        self.verify_reads();
        let seed = self.seed;
        let mut producers = ProducerState::default();
        for batch in &self.batches {
            producers.add(&batch.header, batch.header.last_offset(), None, 0);
        }
        assert_eq!(self.log().producers(), producers.summaries(), "seed {seed}");
        for epoch in 0..=self.epoch {
            let found = self.log().end_offset_for_epoch(LeaderEpoch(epoch));
            let of = |b: &&Model| b.header.partition_leader_epoch == epoch;
            if let Some(last) = self.batches.iter().rev().find(of) {
                assert_eq!(found, (LeaderEpoch(epoch), Offset(last.header.next_offset())), "seed {seed}");
            }
        }
        for _ in 0..8 {
            let timestamp = 1_000_000 + self.random.below(2000) as i64;
            let found = self.log().offset_for_timestamp(timestamp).unwrap();
            let first = self.batches.iter().find(|b| b.header.max_timestamp >= timestamp).map(|b| {
                let before = timestamp.max(b.header.base_timestamp);
                (before, b.header.base_offset + (before - b.header.base_timestamp))
            });
            assert_eq!(found.map(|f| (f.timestamp, f.offset.0)), first, "seed {seed}: timestamp {timestamp}");
        }
        let latest = self.log().max_timestamp().unwrap().map(|t| t.timestamp);
        assert_eq!(latest, self.batches.iter().map(|b| b.header.max_timestamp).max(), "seed {seed}");
    }

    /// Reads the whole log, and from a few random offsets.
    fn verify_reads(&mut self) {
        let seed = self.seed;
        let (log, end) = (self.log.as_ref().expect("open"), self.model_end());
        let mut offset = 0;
        let mut expected = self.batches.iter();
        while offset < end {
            let bytes = read(log, offset, 1 + self.random.index(5000), end);
            let mut whole = 0;
            for batch in batches(&bytes).map_while(Result::ok) {
                let model = expected.next().unwrap_or_else(|| panic!("seed {seed}: too much in the log"));
                assert_eq!(model.header, batch.header, "seed {seed}: another batch at {offset}");
                assert!(model.bytes == batch.bytes, "seed {seed}: a changed batch at {offset}");
                offset = batch.header.next_offset();
                whole += 1;
            }
            assert!(whole > 0, "seed {seed}: no batch at {offset} of {end}");
        }
        for _ in 0..8.min(end) {
            let asked = self.random.below(end as u64) as i64;
            let up_to = asked + 1 + self.random.below((end - asked) as u64) as i64;
            let bytes = read(log, asked, 3000, up_to);
            let first = batches(&bytes).next().unwrap().unwrap();
            let range = first.header.base_offset..=first.header.last_offset();
            assert!(range.contains(&asked), "seed {seed}: {asked} is not in {range:?}");
            for batch in batches(&bytes).map_while(Result::ok).skip(1) {
                assert!(batch.header.last_offset() < up_to, "seed {seed}: read beyond {up_to}");
            }
        }
    }
}

fn append_with(log: &Log, records: BytesMut, epoch: LeaderEpoch) -> Result<Appended, AppendError> {
    match log.append(AppendRequest { records, epoch, origin: Origin::PRODUCER }) {
        Append::Done(result) => result,
        Append::Queued(receiver) => receiver.blocking_recv().unwrap(),
    }
}

fn read(log: &Log, from: i64, bytes_max: usize, up_to: i64) -> Vec<u8> {
    let slice = log.read(Offset(from), bytes_max, Offset(up_to), true).unwrap();
    let mut bytes = vec![0; slice.len];
    assert_eq!(slice.file.read_at(&mut bytes, slice.position).unwrap(), slice.len);
    bytes
}

/// Returns how often power went.
fn run(seed: u64) -> u64 {
    let mut world = World::new(seed);
    world.open();
    world.begin_epoch();
    for _ in 0..STEPS {
        world.step();
    }
    world.kill();
    world.power_cuts
}

#[test]
fn logs_survive_power_cuts_kills_and_failing_disks() {
    let power_cuts = std::cell::Cell::new(0);
    seeds::run(60, "--lib power_cuts", |seed| power_cuts.set(power_cuts.get() + run(seed)));
    println!("{} power cuts", power_cuts.get());
}

/// The simulation is believed because it catches this: a log opened with a recovery point above what
/// was synced, which is what skipping the sync amounts to.
#[test]
fn a_skipped_sync_is_caught() {
    let caught = (0..50).any(|seed| {
        let mut world = World::new(seed);
        world.open();
        world.begin_epoch();
        for _ in 0..10 {
            world.append().unwrap();
        }
        // "Flushed", without a sync.
        let claimed = world.log().log_end_offset().0;
        world.disk.power_cut();
        world.recovery_point = 0;
        world.open();
        world.log().log_end_offset().0 < claimed
    });
    assert!(caught);
}
