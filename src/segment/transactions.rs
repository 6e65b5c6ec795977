//! The transactions of a log as its readers have to know them: which are open, and which have ended above the high
//! watermark; and which producers' transactions are being verified (KIP-890).
//!
//! What lies below the first of the open and of the ended whose marker is not replicated is *stable*: neither is it
//! rolled back, nor does anybody later learn that it was aborted. A change is noted here once it is in the file and
//! before the log's end is published, so that whoever may read a batch finds its transaction here.
//!
//! A transactional batch of a producer without an open transaction may come late, after the marker that ended its
//! transaction: no marker would ever end what it opens. So the coordinator is asked first whether the partition
//! belongs to a transaction, and the batch carries a [`Guard`] that was given out before that; a marker
//! takes the guard away, and a batch without one is refused.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::types::Offset;

/// That a producer's transaction is being verified, from before the coordinator was asked. [`Guard::NONE`] fits nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard(u64);

impl Guard {
    pub const NONE: Guard = Guard(0);
}

/// Whether a batch needs to be verified before it is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Its transaction is open.
    NotNeeded,
    Needed(Guard),
}

/// What a batch does to its producer's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Or it goes on in another epoch.
    Begun {
        producer_id: i64,
        epoch: i16,
        first_offset: i64,
    },
    Ended {
        producer_id: i64,
        first_offset: i64,
        marker_offset: i64,
        is_abort: bool,
    },
}

#[derive(Clone, Copy, Debug)]
struct Verifying {
    guard: Guard,
    epoch: i16,
    /// Of the batches that wait: the first one's.
    lowest_sequence: i32,
    since_ms: i64,
}

#[derive(Debug, Default)]
struct State {
    /// The producers' epochs.
    open: HashMap<i64, i16>,
    /// The same producers, by where they began.
    by_offset: BTreeMap<i64, i64>,
    /// Ended, the marker's offset by where they began, while that may not be below the high watermark.
    ended: BTreeMap<i64, i64>,
    verifying: HashMap<i64, Verifying>,
    next_guard: u64,
}

/// Of one log. Its lock is held for moments.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    state: Mutex<State>,
    /// Whether anything holds back readers.
    is_any: AtomicBool,
}

impl Transactions {
    /// These are open (producer, epoch, first offset), and these have ended (first offset, marker's).
    pub(super) fn reset(&self, open: impl Iterator<Item = (i64, i16, i64)>, ended: BTreeMap<i64, i64>) {
        let state = &mut *self.state.lock();
        *state = State { next_guard: state.next_guard, ended, ..State::default() };
        for (producer_id, epoch, first_offset) in open {
            state.open.insert(producer_id, epoch);
            state.by_offset.insert(first_offset, producer_id);
        }
        self.publish(state);
    }

    /// Those that have ended, as in [`Self::reset`], with markers below `end`.
    pub(super) fn ended_below(&self, end: i64) -> BTreeMap<i64, i64> {
        let mut ended = self.state.lock().ended.clone();
        ended.retain(|_, marker| *marker < end);
        ended
    }

    fn publish(&self, state: &State) {
        self.is_any.store(!(state.by_offset.is_empty() && state.ended.is_empty()), Ordering::SeqCst);
    }

    /// Where the first transaction begins that is open once this one's marker is written; the offset after that when none is.
    pub(super) fn stable_after(&self, producer_id: i64, marker_offset: i64) -> i64 {
        let state = self.state.lock();
        let other = state.by_offset.iter().find(|(_, other)| **other != producer_id);
        other.map_or(marker_offset + 1, |(first, _)| *first)
    }

    /// What is in the file now.
    pub(super) fn note(&self, change: Change) {
        let state = &mut *self.state.lock();
        match change {
            Change::Begun { producer_id, epoch, first_offset } => {
                state.open.insert(producer_id, epoch);
                state.by_offset.insert(first_offset, producer_id);
            }
            Change::Ended { producer_id, first_offset, marker_offset, .. } => {
                state.open.remove(&producer_id);
                state.by_offset.remove(&first_offset);
                state.ended.insert(first_offset, marker_offset);
            }
        }
        self.publish(state);
    }

    /// Whether any transaction holds back readers, or did when last looked.
    pub(super) fn is_any(&self) -> bool {
        self.is_any.load(Ordering::SeqCst)
    }

    /// What lies below is stable, of what lies below the high watermark.
    pub(super) fn last_stable_offset(&self, high_watermark: Offset, log_start: Offset) -> Offset {
        if !self.is_any() {
            return high_watermark;
        }
        let state = &mut *self.state.lock();
        state.ended.retain(|_, marker| *marker >= high_watermark.0);
        self.publish(state);
        let first_open = state.by_offset.first_key_value().map(|(first, _)| *first);
        let first_ended = state.ended.first_key_value().map(|(first, _)| *first);
        let first = first_open.into_iter().chain(first_ended).min();
        first.map_or(high_watermark, |first| Offset(first).max(log_start).min(high_watermark))
    }

    /// Where the oldest open transaction began.
    pub(super) fn first_open(&self) -> Option<Offset> {
        self.is_any()
            .then(|| self.state.lock().by_offset.first_key_value().map(|(first, _)| Offset(*first)))?
    }

    /// How many are open.
    pub(super) fn open_count(&self) -> usize {
        if self.is_any() { self.state.lock().open.len() } else { 0 }
    }

    /// A producer's transactional batch has come, of this sequence.
    pub(super) fn verification(
        &self,
        producer_id: i64,
        epoch: i16,
        sequence: i32,
        now_ms: i64,
    ) -> Verification {
        let state = &mut *self.state.lock();
        if state.open.get(&producer_id).is_some_and(|open| *open == epoch) {
            return Verification::NotNeeded;
        }
        let next_guard = &mut state.next_guard;
        let mut new = || {
            *next_guard += 1;
            let guard = Guard(*next_guard);
            Verifying { guard, epoch, lowest_sequence: sequence, since_ms: now_ms }
        };
        let known = state.verifying.entry(producer_id).or_insert_with(&mut new);
        if known.epoch < epoch {
            *known = new();
        }
        if known.epoch == epoch {
            known.lowest_sequence = known.lowest_sequence.min(sequence);
            return Verification::Needed(known.guard);
        }
        // Of an earlier epoch: whatever the coordinator says, it is too late.
        Verification::Needed(Guard::NONE)
    }

    /// Whether the guard is the producer's, with the lowest sequence that was seen under it.
    pub(super) fn guarded(&self, producer_id: i64, epoch: i16, guard: Guard) -> Option<i32> {
        let state = self.state.lock();
        let known = state.verifying.get(&producer_id)?;
        (guard != Guard::NONE && known.guard == guard && known.epoch == epoch)
            .then_some(known.lowest_sequence)
    }

    /// A batch or a marker of the producer is taken: the guard is worth nothing any more.
    pub(super) fn settle(&self, producer_id: i64) {
        self.state.lock().verifying.remove(&producer_id);
    }

    /// Forgets verifications that nobody has come back from for that long.
    pub(super) fn expire(&self, now_ms: i64, expiration_ms: i64) {
        let verifying = &mut self.state.lock().verifying;
        verifying.retain(|_, known| now_ms.saturating_sub(known.since_ms) < expiration_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_stop_at_the_first_that_is_open_or_whose_marker_is_not_replicated() {
        let transactions = Transactions::default();
        let stable = |high_watermark| transactions.last_stable_offset(Offset(high_watermark), Offset(0)).0;
        assert_eq!(stable(100), 100);
        transactions.note(Change::Begun { producer_id: 1, epoch: 0, first_offset: 10 });
        transactions.note(Change::Begun { producer_id: 2, epoch: 0, first_offset: 20 });
        assert_eq!((stable(5), stable(30)), (5, 10));
        assert_eq!((transactions.stable_after(1, 30), transactions.stable_after(2, 30)), (20, 10));
        let end = |producer_id, first_offset, marker_offset| {
            transactions.note(Change::Ended { producer_id, first_offset, marker_offset, is_abort: false });
        };
        end(1, 10, 30);
        assert_eq!((stable(30), stable(31)), (10, 20));
        assert_eq!(transactions.last_stable_offset(Offset(31), Offset(25)), Offset(25));
        assert_eq!(transactions.stable_after(2, 31), 32);
        end(2, 20, 31);
        assert_eq!((stable(31), stable(32), transactions.is_any()), (20, 32, false));
    }

    #[test]
    fn a_guard_holds_until_a_batch_or_a_marker_is_taken_and_for_its_epoch_alone() {
        let transactions = Transactions::default();
        let needed = |epoch, sequence| match transactions.verification(7, epoch, sequence, 0) {
            Verification::Needed(guard) => guard,
            Verification::NotNeeded => panic!("nothing is open"),
        };
        let guard = needed(1, 5);
        assert_eq!(needed(1, 3), guard);
        assert_eq!(transactions.guarded(7, 1, guard), Some(3));
        assert_eq!(transactions.guarded(7, 2, guard), None);
        assert_eq!(transactions.guarded(7, 1, Guard::NONE), None);
        assert_eq!(needed(0, 0), Guard::NONE, "of an epoch that is over");
        let next = needed(2, 0);
        assert_eq!((transactions.guarded(7, 1, guard), transactions.guarded(7, 2, next)), (None, Some(0)));
        transactions.settle(7);
        assert_eq!(transactions.guarded(7, 2, next), None);
        assert_ne!(needed(2, 0), next);
        transactions.note(Change::Begun { producer_id: 7, epoch: 2, first_offset: 10 });
        assert_eq!(transactions.verification(7, 2, 4, 0), Verification::NotNeeded);
        assert!(matches!(transactions.verification(7, 3, 0, 0), Verification::Needed(_)));
        transactions.expire(100, 100);
        assert!(transactions.state.lock().verifying.is_empty());
    }
}
