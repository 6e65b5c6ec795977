//! Random histories of transactions against a naive reference: what a `read_committed` reader sees, and how far it may
//! read, through rolled segments, starts in and out of order, and truncations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::BytesMut;
use proptest::prelude::*;

use super::cleaner::CleanOptions;
use super::tests::{place, read_all};
use super::{
    Append, AppendError, AppendRequest, Appended, CleanupPolicy, Guard, Log, LogConfig, LogPlace, Origin,
    Verification,
};
use crate::protocol::batch::{BatchHeader, batches};
use crate::protocol::builder::{BatchBuilder, BatchOptions};
use crate::protocol::control::{Marker, TransactionResult};
use crate::types::{LeaderEpoch, Offset};

const PRODUCERS: usize = 3;

/// A batch as the reference has it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Plain,
    Data(usize),
    Marker(usize, TransactionResult),
}

#[derive(Clone, Copy, Debug)]
struct Written {
    first: i64,
    last: i64,
    kind: Kind,
}

struct History<'a> {
    dir: &'a Path,
    log: Option<Log>,
    written: Vec<Written>,
    /// The high watermark; what lies below is never cut.
    high_watermark: i64,
    epoch: i32,
    recovery_point: i64,
}

impl<'a> History<'a> {
    /// Without a log yet.
    fn new(dir: &'a Path) -> Self {
        Self { dir, log: None, written: Vec::new(), high_watermark: 0, epoch: 0, recovery_point: 0 }
    }

    fn begun(dir: &'a Path) -> Self {
        let mut history = Self::new(dir);
        history.open(false);
        history
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("is open")
    }

    fn open(&mut self, was_closed: bool) {
        let recovery_point = Some(Offset(self.recovery_point));
        let config = LogConfig { segment_bytes: 1200, index_interval_bytes: 150, ..LogConfig::default() };
        let log = Log::open(LogPlace { recovery_point, was_closed, ..place(self.dir) }, config).unwrap();
        self.log = Some(log);
        self.lead();
    }

    fn lead(&mut self) {
        self.epoch += 1;
        self.log().lead(LeaderEpoch(self.epoch)).unwrap();
    }

    fn append(&self, records: BytesMut, origin: Origin) -> Result<Appended, AppendError> {
        match self.log().append(AppendRequest { records, epoch: LeaderEpoch(self.epoch), origin }) {
            Append::Done(result) => result,
            Append::Queued(_) => unreachable!("nobody else writes"),
        }
    }

    fn note(&mut self, appended: Appended, kind: Kind) {
        let (first, last) = (appended.first_offset.0, appended.last_offset.0);
        self.written.push(Written { first, last, kind });
    }

    /// The next sequence of a producer.
    fn sequence(&self, producer: usize) -> i32 {
        let of = self.written.iter().filter(|written| written.kind == Kind::Data(producer));
        of.map(|written| (written.last - written.first + 1) as i32).sum()
    }

    fn data(&self, producer: usize, sequence: i32, records: i32) -> BytesMut {
        let options = BatchOptions {
            producer_id: producer as i64,
            producer_epoch: 0,
            base_sequence: sequence,
            transactional: true,
            ..BatchOptions::default()
        };
        let mut builder = BatchBuilder::new(options);
        (0..records).for_each(|_| drop(builder.add(1, None, Some(b"value")).map(|_| ())));
        builder.build_mut().unwrap()
    }

    fn step(&mut self, (what, producer, number): (u8, usize, i32)) {
        match what {
            0..=4 => self.produce(producer, 1 + number % 3),
            5..=7 => {
                let marker = Marker { result: TransactionResult::of(number % 2 == 0), coordinator_epoch: 1 };
                let records = marker.batch(producer as i64, 0, 1).unwrap();
                let appended = self.append(records, Origin::Marker { transaction_version: 1 }).unwrap();
                self.note(appended, Kind::Marker(producer, marker.result));
            }
            8 => {
                let mut builder = BatchBuilder::new(BatchOptions::default());
                builder.add(1, None, Some(b"plain")).unwrap();
                let appended = self.append(builder.build_mut().unwrap(), Origin::PRODUCER).unwrap();
                self.note(appended, Kind::Plain);
            }
            9 => {
                let span = self.log().log_end_offset().0 - self.high_watermark;
                self.high_watermark += span * i64::from(number % 5) / 4;
            }
            10 => self.truncate(number),
            11 => {
                self.recovery_point = self.log().flush().unwrap().0;
                self.log().checkpoint().unwrap();
            }
            12 => {
                self.log().close().unwrap();
                self.log = None;
                self.recovery_point = self.written.last().map_or(0, |last| last.last + 1);
                self.open(true);
            }
            _ => {
                self.log = None;
                self.open(false);
            }
        }
    }

    fn produce(&mut self, producer: usize, records: i32) {
        let sequence = self.sequence(producer);
        let batch = self.data(producer, sequence, records);
        let header = BatchHeader::parse(&batch).unwrap();
        let verification = self.log().verification(&header);
        let is_open = self.open_from(producer).is_some();
        assert_eq!(verification == Verification::NotNeeded, is_open);
        let guard = match verification {
            Verification::NotNeeded => Guard::NONE,
            Verification::Needed(guard) => {
                let unguarded = self.append(batch.clone(), Origin::PRODUCER);
                assert!(matches!(unguarded, Err(AppendError::NotInTransaction { .. })), "{unguarded:?}");
                guard
            }
        };
        let origin = Origin::Producer { must_be_known: false, guard };
        let appended = self.append(batch.clone(), origin).unwrap();
        assert!(!appended.duplicate);
        self.note(appended, Kind::Data(producer));
        let again = self.append(batch, origin).unwrap();
        assert_eq!((again.duplicate, again.first_offset), (true, appended.first_offset));
    }

    fn truncate(&mut self, number: i32) {
        let span = self.log().log_end_offset().0 - self.high_watermark;
        let to = self.high_watermark + span * i64::from(number % 5) / 4;
        self.epoch += 1;
        self.log().follow(LeaderEpoch(self.epoch)).unwrap();
        self.log().truncate_to(Offset(to), LeaderEpoch(self.epoch), |_| Ok(())).unwrap();
        let end = self.log().log_end_offset().0;
        self.written.retain(|written| written.last < end);
        self.high_watermark = self.high_watermark.min(end);
        self.recovery_point = self.recovery_point.min(end);
        self.lead();
    }

    /// Where a producer's open transaction began.
    fn open_from(&self, producer: usize) -> Option<i64> {
        let mut open = None;
        for written in &self.written {
            match written.kind {
                Kind::Data(of) if of == producer => open = open.or(Some(written.first)),
                Kind::Marker(of, _) if of == producer => open = None,
                _ => {}
            }
        }
        open
    }

    /// The reference: where readers of what is committed stop, and which batches they see below.
    fn expected(&self) -> (i64, Vec<i64>) {
        let (mut open, mut stable) = (BTreeMap::new(), self.high_watermark);
        let (mut fate, mut doubtful) = (BTreeMap::new(), Vec::new());
        for written in &self.written {
            match written.kind {
                Kind::Plain => drop(fate.insert(written.first, true)),
                Kind::Data(producer) => open.entry(producer).or_insert_with(Vec::new).push(written.first),
                Kind::Marker(producer, result) => {
                    let batches = open.remove(&producer).unwrap_or_default();
                    if written.first >= self.high_watermark {
                        doubtful.extend(batches.first().copied());
                    }
                    fate.extend(batches.iter().map(|first| (*first, result == TransactionResult::Commit)));
                }
            }
        }
        doubtful.extend(open.values().filter_map(|batches| batches.first().copied()));
        stable = doubtful.into_iter().chain([stable]).min().unwrap_or(stable);
        let seen = fate.into_iter().filter(|(first, is_seen)| *is_seen && *first < stable);
        (stable, seen.map(|(first, _)| first).collect())
    }

    /// What a reader sees, by the lists of aborted transactions alone.
    fn seen(&self, stable: i64, bytes_max: usize) -> Vec<i64> {
        let (mut seen, mut next) = (Vec::new(), 0);
        loop {
            let slice = self.log().read(Offset(next), bytes_max, Offset(stable), true).unwrap();
            if slice.len == 0 {
                return seen;
            }
            let aborted = self.log().aborted_transactions(Offset(next), Offset(stable)).unwrap();
            assert!(aborted.is_sorted_by_key(|each| each.first_offset));
            let mut aborted: Vec<_> =
                aborted.iter().map(|each| (each.first_offset, each.producer_id)).collect();
            aborted.reverse();
            let mut bytes = vec![0; slice.len];
            slice.file.read_at(&mut bytes, slice.position).unwrap();
            let mut skipped = BTreeSet::new();
            for batch in batches(&bytes).map_while(Result::ok) {
                let header = batch.header;
                while aborted.last().is_some_and(|(first, _)| *first <= header.last_offset()) {
                    skipped.extend(aborted.pop().map(|(_, producer)| producer));
                }
                if header.is_control() {
                    skipped.remove(&header.producer_id);
                } else if header.base_offset >= next && !skipped.contains(&header.producer_id) {
                    seen.push(header.base_offset);
                }
                next = header.next_offset();
            }
        }
    }

    fn check(&self, is_exact: bool) {
        let (stable, expected) = self.expected();
        let found = self.log().last_stable_offset(Offset(self.high_watermark)).0;
        if is_exact {
            assert_eq!(found, stable);
        } else {
            // After a start it is known of ended transactions only as far as was looked back.
            assert!((stable..=self.high_watermark).contains(&found), "{found} {stable}");
        }
        for bytes_max in [1, 300, 100_000] {
            assert_eq!(self.seen(stable, bytes_max), expected);
        }
        let open = (0..PRODUCERS).filter(|producer| self.open_from(*producer).is_some()).count();
        assert_eq!(self.log().open_transactions(), open);
        assert_eq!(read_all(self.log(), 0, 1 << 20).is_empty(), self.written.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn who_reads_what_is_committed_sees_just_that_whatever_happens(
        steps in proptest::collection::vec((0u8..14, 0..PRODUCERS, 0i32..1000), 1..60)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut history = History::begun(dir.path());
        let mut has_restarted = false;
        for step in steps {
            history.step(step);
            has_restarted |= step.0 >= 12;
            history.check(!has_restarted);
        }
    }
}

#[test]
fn a_batch_that_comes_after_its_marker_opens_no_transaction_again() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::begun(dir.path());
    let (first, late) = (history.data(1, 0, 1), history.data(1, 1, 1));
    let Verification::Needed(guard) = history.log().verification(&BatchHeader::parse(&first).unwrap()) else {
        panic!("nothing is open");
    };
    let origin = Origin::Producer { must_be_known: false, guard };
    // The later one has to wait for the first, which the log knows nothing of.
    let early = history.append(late.clone(), origin);
    history.log().verification(&BatchHeader::parse(&late).unwrap());
    assert!(matches!(early, Err(AppendError::OutOfOrderSequence { .. })), "{early:?}");
    history.append(first, origin).unwrap();
    let marker = Marker { result: TransactionResult::Abort, coordinator_epoch: 1 };
    let records = marker.batch(1, 0, 1).unwrap();
    history.append(records, Origin::Marker { transaction_version: 1 }).unwrap();
    let late = history.append(late, origin);
    assert!(matches!(late, Err(AppendError::NotInTransaction { .. })), "{late:?}");
    assert_eq!(history.log().last_stable_offset(Offset(2)), Offset(2));
}

/// A batch of one record of a producer's transaction.
fn keyed(history: &History<'_>, producer: usize, sequence: i32, key: &str, value: &str) -> i64 {
    let options = BatchOptions {
        producer_id: producer as i64,
        producer_epoch: 0,
        base_sequence: sequence,
        transactional: true,
        ..BatchOptions::default()
    };
    let mut builder = BatchBuilder::new(options);
    builder.add(1, Some(key.as_bytes()), Some(value.as_bytes())).unwrap();
    let records = builder.build_mut().unwrap();
    let header = BatchHeader::parse(&records).unwrap();
    let guard = match history.log().verification(&header) {
        Verification::Needed(guard) => guard,
        Verification::NotNeeded => Guard::NONE,
    };
    let origin = Origin::Producer { must_be_known: false, guard };
    history.append(records, origin).unwrap().first_offset.0
}

fn end(history: &History<'_>, producer: usize, result: TransactionResult) {
    let marker = Marker { result, coordinator_epoch: 1 };
    let records = marker.batch(producer as i64, 0, 1).unwrap();
    history.append(records, Origin::Marker { transaction_version: 1 }).unwrap();
}

fn clean(log: &Log, now_ms: i64) {
    let synced = log.flush().unwrap();
    let cleanable = log.cleanable(log.log_end_offset(), now_ms).unwrap();
    let options = CleanOptions {
        now_ms,
        dedupe_buffer_bytes: 1 << 16,
        load_factor: 0.9,
        io_bytes: 1 << 16,
        seeds: [1, 2],
    };
    log.clean(&cleanable, synced, &options, &|_| Ok(())).unwrap();
}

#[test]
fn compaction_drops_aborted_data_at_once_and_markers_once_nothing_of_their_transaction_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let log = || {
        let cleanup = CleanupPolicy { compact: true, delete: false };
        let config = LogConfig { cleanup, delete_retention_ms: 1000, ..LogConfig::default() };
        Log::open(place(dir.path()), config).unwrap()
    };
    let mut history = History { log: Some(log()), ..History::new(dir.path()) };
    history.lead();
    let kept = keyed(&history, 0, 0, "a", "committed");
    end(&history, 0, TransactionResult::Commit);
    let aborted = keyed(&history, 1, 0, "a", "aborted");
    keyed(&history, 1, 1, "a", "aborted, too");
    end(&history, 1, TransactionResult::Abort);
    keyed(&history, 2, 0, "b", "old");
    end(&history, 2, TransactionResult::Commit);
    let new = keyed(&history, 2, 1, "b", "new");
    end(&history, 2, TransactionResult::Commit);
    let index_of = |log: &Log| log.aborted_transactions(Offset(0), Offset(100)).unwrap().len();
    assert_eq!(index_of(history.log()), 1);
    // Rounds leave the last segment alone.
    history.log().roll().unwrap();
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.add(1, Some(b"c"), Some(b"v")).unwrap();
    history.append(builder.build_mut().unwrap(), Origin::PRODUCER).unwrap();
    let headers = |log: &Log| -> Vec<BatchHeader> {
        batches(&read_all(log, 0, 1 << 20)).map(|batch| batch.unwrap().header).collect()
    };
    let markers = |log: &Log| headers(log).iter().filter(|header| header.is_control()).count();
    let data = |log: &Log| -> Vec<i64> {
        let data = headers(log).into_iter().filter(|header| !header.is_control() && header.records_count > 0);
        data.map(|header| header.base_offset).collect()
    };
    clean(history.log(), 10);
    assert_eq!(data(history.log()), [kept, new, 9]);
    assert!(!data(history.log()).contains(&aborted));
    assert_eq!((markers(history.log()), index_of(history.log())), (4, 1), "there was a batch of each");
    assert_eq!(history.seen(10, 1 << 20).len(), headers(history.log()).len() - 4 - 1);
    let rolled_and_cleaned = |history: &History<'_>, now_ms| {
        history.log().set_first_dirty_offset(Some(Offset(0)));
        clean(history.log(), now_ms);
    };
    rolled_and_cleaned(&history, 20);
    rolled_and_cleaned(&history, 30);
    let before = markers(history.log());
    rolled_and_cleaned(&history, 5000);
    rolled_and_cleaned(&history, 50_000);
    assert!(markers(history.log()) < before, "{before}");
    assert_eq!(data(history.log()), [kept, new, 9]);
    // And so it is after a start.
    history.log().close().unwrap();
    history.log = Some(log());
    assert_eq!(data(history.log()), [kept, new, 9]);
    assert_eq!(history.log().open_transactions(), 0);
}
