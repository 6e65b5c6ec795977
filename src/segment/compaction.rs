//! What compaction knows of a log beside its segments: how far it got, whether it may go on, and whether it goes on now.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::types::Offset;

#[derive(Debug)]
pub(super) struct Compaction {
    /// Held by who compacts the log.
    running: Mutex<()>,
    /// What lies below was compacted; -1 while that never happened.
    first_dirty_offset: AtomicI64,
    /// Truncations so far: what compaction learnt before one is worth nothing after it.
    truncations: AtomicU64,
    /// Compaction failed, and is not tried again until the next start.
    is_given_up: AtomicBool,
}

impl Compaction {
    /// Of a log that was compacted below that offset, if it ever was.
    pub(super) fn new(first_dirty: Option<Offset>) -> Self {
        Self {
            running: Mutex::default(),
            first_dirty_offset: AtomicI64::new(first_dirty.map_or(-1, |offset| offset.0)),
            truncations: AtomicU64::new(0),
            is_given_up: AtomicBool::new(false),
        }
    }

    /// Begins, unless somebody else is at it; goes on as long as what is given back lives.
    pub(super) fn begin(&self) -> Option<MutexGuard<'_, ()>> {
        self.running.try_lock()
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_locked()
    }

    /// What lies below was compacted; `None` while that never happened.
    pub(super) fn first_dirty_offset(&self) -> Option<Offset> {
        Some(Offset(self.first_dirty_offset.load(Ordering::Acquire))).filter(|offset| offset.0 >= 0)
    }

    pub(super) fn set_first_dirty_offset(&self, offset: Option<Offset>) {
        self.first_dirty_offset.store(offset.map_or(-1, |offset| offset.0), Ordering::Release);
    }

    /// The log is about to be cut at `end`: whoever compacts gives up, and begins there at the latest.
    pub(super) fn truncates(&self, end: i64) {
        self.truncations.fetch_add(1, Ordering::AcqRel);
        self.first_dirty_offset.fetch_min(end, Ordering::AcqRel);
    }

    pub(super) fn truncations(&self) -> u64 {
        self.truncations.load(Ordering::Acquire)
    }

    pub(super) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Release);
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_compacted_ends_where_the_log_is_cut_and_rounds_learn_of_it() {
        let compaction = Compaction::new(None);
        compaction.truncates(5);
        assert_eq!((compaction.first_dirty_offset(), compaction.truncations()), (None, 1));
        compaction.set_first_dirty_offset(Some(Offset(9)));
        compaction.truncates(20);
        assert_eq!(compaction.first_dirty_offset(), Some(Offset(9)));
        compaction.truncates(4);
        assert_eq!((compaction.first_dirty_offset(), compaction.truncations()), (Some(Offset(4)), 3));
    }

    #[test]
    fn one_compacts_at_a_time() {
        let compaction = Compaction::new(Some(Offset(3)));
        let first = compaction.begin();
        assert!(first.is_some() && compaction.begin().is_none() && compaction.is_running());
        drop(first);
        assert!(!compaction.is_running() && compaction.begin().is_some());
    }
}
