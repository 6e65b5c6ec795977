//! Those who wait for a partition: fetches for bytes, produces for the high watermark.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::types::Offset;

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
    /// This node leads no more; whether the record stays is not known.
    LeadershipLost,
}

/// The produces that wait until the high watermark passes their records.
#[derive(Debug, Default)]
pub struct WaitingProduces(Mutex<BTreeMap<Offset, Vec<oneshot::Sender<Committed>>>>);

impl WaitingProduces {
    /// Waits until the high watermark reaches `end`. Register first, look at the high watermark then.
    pub fn register(&self, end: Offset) -> oneshot::Receiver<Committed> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().entry(end).or_default().push(sender);
        receiver
    }

    pub fn advanced(&self, high_watermark: Offset) {
        let mut waiting = self.0.lock();
        if waiting.is_empty() {
            return;
        }
        let later = waiting.split_off(&high_watermark.plus(1));
        for sender in std::mem::replace(&mut *waiting, later).into_values().flatten() {
            let _ = sender.send(Committed::Yes);
        }
    }

    /// Somebody waits no longer for `end`: in a log that cannot be synced, nothing else would take it away.
    pub fn given_up(&self, end: Offset) {
        let mut waiting = self.0.lock();
        if let Some(senders) = waiting.get_mut(&end) {
            senders.retain(|sender| !sender.is_closed());
            if senders.is_empty() {
                waiting.remove(&end);
            }
        }
    }

    pub fn leadership_lost(&self) {
        for sender in std::mem::take(&mut *self.0.lock()).into_values().flatten() {
            let _ = sender.send(Committed::LeadershipLost);
        }
    }
}

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

    #[tokio::test]
    async fn produces_wait_for_the_high_watermark_to_pass_their_records() {
        let waiting = WaitingProduces::default();
        let (first, mut second) = (waiting.register(Offset(5)), waiting.register(Offset(6)));
        waiting.advanced(Offset(4));
        waiting.advanced(Offset(5));
        assert_eq!(first.await, Ok(Committed::Yes));
        assert!(second.try_recv().is_err());
        waiting.leadership_lost();
        assert_eq!(second.await, Ok(Committed::LeadershipLost));
    }
    #[tokio::test(start_paused = true)]
    async fn who_waited_in_vain_leaves_nothing_behind() {
        let waiting = WaitingProduces::default();
        let stays = waiting.register(Offset(5));
        for end in [Offset(5), Offset(6)] {
            let gives_up = waiting.register(end);
            assert!(tokio::time::timeout(std::time::Duration::from_secs(5), gives_up).await.is_err());
            waiting.given_up(end);
        }
        assert_eq!(waiting.0.lock().values().map(Vec::len).collect::<Vec<_>>(), [1]);
        waiting.advanced(Offset(5));
        assert_eq!(stays.await, Ok(Committed::Yes));
    }
}
