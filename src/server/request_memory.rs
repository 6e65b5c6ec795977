//! The budget for requests in memory (`queued.max.request.bytes`), over all connections.
//!
//! Bytes are charged as they arrive, not when they are announced: a sender that announces 100 MB and
//! then dawdles holds only what it has sent. As several connections could then wait for each other
//! with half a request each, one connection at a time may go over the budget to finish its request.
//! So what is held is at most the budget and one request; and a connection that is over the budget
//! and receives nothing for [`STALLED_AFTER`] is closed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// How long the connection that is over the budget may receive nothing.
pub const STALLED_AFTER: Duration = Duration::from_secs(10);

/// What a permit stands for: 1 KiB, so that budgets up to 4 TiB fit a permit count.
const UNIT_BYTES: usize = 1024;

#[derive(Debug, Clone)]
pub struct RequestMemory(Option<Arc<Budget>>);

#[derive(Debug)]
struct Budget {
    units: Arc<Semaphore>,
    overdraft: Arc<Mutex<()>>,
    units_max: usize,
}

/// What one request holds; given back when dropped.
#[derive(Debug, Default)]
pub struct Held {
    permits: Option<OwnedSemaphorePermit>,
    overdraft: Option<OwnedMutexGuard<()>>,
    bytes: usize,
}

impl Held {
    /// True when the request goes over the budget and others wait for it.
    pub fn is_overdraft(&self) -> bool {
        self.overdraft.is_some()
    }
}

impl RequestMemory {
    /// `None` is without a limit.
    pub fn new(bytes_max: Option<u64>) -> Self {
        Self(bytes_max.map(|bytes| {
            let units = usize::try_from(bytes).unwrap_or(usize::MAX) / UNIT_BYTES;
            let units_max = units.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
            Arc::new(Budget {
                units: Arc::new(Semaphore::new(units_max)),
                overdraft: Arc::new(Mutex::new(())),
                units_max,
            })
        }))
    }

    /// Charges a request until it holds `bytes` in all; waits where others hold too much.
    pub async fn hold(&self, held: &mut Held, bytes: usize) {
        let Some(budget) = &self.0 else { return };
        if bytes <= held.bytes || held.is_overdraft() {
            held.bytes = held.bytes.max(bytes);
            return;
        }
        let units = bytes.div_ceil(UNIT_BYTES) - held.bytes.div_ceil(UNIT_BYTES);
        let Ok(count) = u32::try_from(units) else { return };
        if count == 0 {
            held.bytes = bytes;
            return;
        }
        let permits = match budget.units.clone().try_acquire_many_owned(count) {
            Ok(permits) => Some(permits),
            Err(_) => tokio::select! {
                biased;
                permits = budget.units.clone().acquire_many_owned(count), if units <= budget.units_max => permits.ok(),
                guard = budget.overdraft.clone().lock_owned() => {
                    held.overdraft = Some(guard);
                    None
                }
            },
        };
        // After the wait: a caller that gives up waiting has been charged for nothing.
        held.bytes = bytes;
        match (&mut held.permits, permits) {
            (Some(all), Some(more)) => all.merge(more),
            (none, Some(first)) => *none = Some(first),
            (_, None) => {}
        }
    }

    /// Bytes held now, for the metric.
    pub fn held_bytes(&self) -> usize {
        let held = |budget: &Arc<Budget>| (budget.units_max - budget.units.available_permits()) * UNIT_BYTES;
        self.0.as_ref().map_or(0, held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn half_sent_requests_never_wait_for_each_other() {
        let memory = RequestMemory::new(Some(10 * 1024));
        let (mut a, mut b, mut c) = (Held::default(), Held::default(), Held::default());
        memory.hold(&mut a, 5 * 1024).await;
        memory.hold(&mut b, 5 * 1024).await;
        assert_eq!(memory.held_bytes(), 10 * 1024);
        // The budget is gone; `a` may go over it and finish, `b` waits until `a` gives back.
        memory.hold(&mut a, 9 * 1024).await;
        assert!(a.is_overdraft());
        let waiting = tokio::spawn({
            let memory = memory.clone();
            async move {
                memory.hold(&mut b, 8 * 1024).await;
                b
            }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(a);
        let b = waiting.await.unwrap();
        drop(b);
        assert_eq!(memory.held_bytes(), 0);
        // A request greater than the budget goes over it alone.
        memory.hold(&mut c, 100 * 1024).await;
        assert!(c.is_overdraft());
    }
}
