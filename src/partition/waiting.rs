//! Those who wait for a partition: fetches for bytes, produces for the high watermark.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::types::{LeaderEpoch, Offset};

/// A fetch that waits for more bytes, in one partition or in many.
#[derive(Debug)]
pub struct WaitingFetch {
    missing_bytes: AtomicI64,
    woken: Notify,
}

impl WaitingFetch {
    /// A fetch that lacks this many bytes.
    pub fn new(missing_bytes: i64) -> Arc<Self> {
        Arc::new(Self { missing_bytes: AtomicI64::new(missing_bytes), woken: Notify::new() })
    }

    /// Returns when the bytes are there, or something else happened that the fetch must tell.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Corrects how much the fetch lacks: so many bytes more than it was registered with.
    pub fn lacks(&self, more_bytes: i64) {
        let before = self.missing_bytes.fetch_add(more_bytes, Ordering::AcqRel);
        if before + more_bytes <= 0 {
            self.woken.notify_one();
        }
    }

    fn arrived(&self, bytes: i64) -> bool {
        let before = self.missing_bytes.fetch_sub(bytes, Ordering::AcqRel);
        let is_enough = before <= bytes;
        if is_enough {
            self.woken.notify_one();
        }
        is_enough
    }
}

/// The fetches that wait for one partition. Costs nothing while there is none.
#[derive(Debug, Default)]
pub struct WaitingFetches(Mutex<Vec<Arc<WaitingFetch>>>);

impl WaitingFetches {
    pub fn register(&self, fetch: &Arc<WaitingFetch>) {
        self.0.lock().push(fetch.clone());
    }

    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    pub fn forget(&self, fetch: &Arc<WaitingFetch>) {
        let mut waiting = self.0.lock();
        waiting.retain(|other| !Arc::ptr_eq(other, fetch));
        if waiting.is_empty() {
            *waiting = Vec::new();
        }
    }

    /// So many bytes may now be read: wakes exactly those that have enough.
    pub fn arrived(&self, bytes: i64) {
        let mut waiting = self.0.lock();
        if !waiting.is_empty() {
            waiting.retain(|fetch| !fetch.arrived(bytes));
        }
    }

    /// Something happened that every fetch must tell: leadership, truncation, deletion.
    pub fn wake_all(&self) {
        self.arrived(i64::MAX / 2);
    }
}

/// How a wait for the high watermark ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    Yes,
    /// The leadership in which the record was appended is over; whether the record stays is not known.
    LeadershipLost,
}

/// Those who wait until the high watermark passes the records that they appended.
///
/// They wait within one unbroken leadership of this node: at the same offset, a later one may have another record.
/// Kept under the lock of the replica whose high watermark they wait for, so that none comes too late for it.
#[derive(Debug)]
pub struct Acknowledgements<W> {
    /// The epoch in which the present leadership of this node began, if it leads. (When the next epoch is this node's
    /// too, its log is not cut in between, and who waits goes on waiting.)
    leads_since: Option<LeaderEpoch>,
    waiting: BTreeMap<Offset, Vec<W>>,
}

impl<W> Default for Acknowledgements<W> {
    fn default() -> Self {
        Self { leads_since: None, waiting: BTreeMap::new() }
    }
}

impl<W> Acknowledgements<W> {
    /// This node leads from `epoch` on.
    pub fn lead(&mut self, epoch: LeaderEpoch) {
        self.leads_since.get_or_insert(epoch);
    }

    /// This node leads no more, or its log is cut. Those who wait have to be told.
    #[must_use]
    pub fn end(&mut self) -> Vec<W> {
        self.leads_since = None;
        std::mem::take(&mut self.waiting).into_values().flatten().collect()
    }

    /// How it stands with what was appended in `epoch` and ends at `end`; `None`: it has to be waited for.
    pub fn outcome(&self, epoch: LeaderEpoch, end: Offset, high_watermark: Offset) -> Option<Committed> {
        match self.leads_since {
            Some(since) if since <= epoch => (high_watermark >= end).then_some(Committed::Yes),
            _ => Some(Committed::LeadershipLost),
        }
    }

    /// Waits until the high watermark reaches `end`, where [`Self::outcome`] says so.
    pub fn wait(&mut self, end: Offset, who: W) {
        self.waiting.entry(end).or_default().push(who);
    }

    /// The high watermark has moved. Those whose records are committed have to be told.
    #[must_use]
    pub fn advanced(&mut self, high_watermark: Offset) -> Vec<W> {
        if self.waiting.first_key_value().is_none_or(|(end, _)| *end > high_watermark) {
            return Vec::new();
        }
        let later = self.waiting.split_off(&high_watermark.plus(1));
        std::mem::replace(&mut self.waiting, later).into_values().flatten().collect()
    }

    /// Those who wait for `end` and fit wait no longer.
    pub fn give_up(&mut self, end: Offset, fits: impl Fn(&W) -> bool) {
        if let Some(waiting) = self.waiting.get_mut(&end) {
            waiting.retain(|who| !fits(who));
            if waiting.is_empty() {
                self.waiting.remove(&end);
            }
        }
    }
}

/// Who waits is told through this.
pub type Waiter = oneshot::Sender<Committed>;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_append_wakes_exactly_the_fetches_it_satisfies() {
        let waiting = WaitingFetches::default();
        let (small, large) = (WaitingFetch::new(10), WaitingFetch::new(100));
        waiting.register(&small);
        waiting.register(&large);
        waiting.arrived(9);
        assert_eq!(waiting.0.lock().len(), 2);
        waiting.arrived(1);
        small.woken().await;
        assert_eq!(waiting.0.lock().len(), 1);
        waiting.wake_all();
        large.woken().await;
        assert_eq!(waiting.0.lock().len(), 0);
    }

    #[test]
    fn produces_wait_for_the_high_watermark_to_pass_their_records_within_one_leadership() {
        let mut waiting = Acknowledgements::default();
        let (one, three) = (LeaderEpoch(1), LeaderEpoch(3));
        waiting.lead(one);
        assert_eq!(waiting.outcome(one, Offset(5), Offset(4)), None);
        assert_eq!(waiting.outcome(one, Offset(4), Offset(4)), Some(Committed::Yes));
        waiting.wait(Offset(5), "a");
        waiting.wait(Offset(6), "b");
        assert!(waiting.advanced(Offset(4)).is_empty());
        assert_eq!(waiting.advanced(Offset(5)), ["a"]);
        // The next epoch is this node's, too: the record is still there.
        waiting.lead(LeaderEpoch(2));
        assert_eq!(waiting.outcome(one, Offset(7), Offset(5)), None);
        assert_eq!(waiting.end(), ["b"]);
        // Who comes after the loss is told at once, also when this node leads again.
        assert_eq!(waiting.outcome(one, Offset(4), Offset(5)), Some(Committed::LeadershipLost));
        waiting.lead(three);
        assert_eq!(waiting.outcome(one, Offset(4), Offset(5)), Some(Committed::LeadershipLost));
        assert_eq!(waiting.outcome(three, Offset(6), Offset(5)), None);
        assert!(waiting.advanced(Offset(9)).is_empty());
    }

    #[test]
    fn who_waited_in_vain_leaves_nothing_behind() {
        let mut waiting = Acknowledgements::default();
        waiting.lead(LeaderEpoch(0));
        for (end, who) in [(5, "stays"), (5, "goes"), (6, "goes")] {
            waiting.wait(Offset(end), who);
        }
        for end in [5, 6] {
            waiting.give_up(Offset(end), |who| *who == "goes");
        }
        assert_eq!(waiting.waiting.len(), 1);
        assert_eq!(waiting.advanced(Offset(9)), ["stays"]);
    }
}
