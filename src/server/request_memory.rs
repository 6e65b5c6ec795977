//! The budget for requests in memory (`queued.max.request.bytes`), over all connections.
//!
//! Bytes are charged as they arrive, not when they are announced: a sender that announces 100 MB and
//! then dawdles holds only what it has sent. As several connections could then wait for each other
//! with half a request each, one connection at a time may go over the budget to finish its request.
//! So what is held is at most the budget and one request.
//!
//! A quarter of the budget is for requests that are small beside it, which those of nearly all producers are: where the
//! rest is taken, a small request is charged for the whole of it at once, and large ones cannot keep it waiting.
//!
//! While memory is short, a request that memory is charged for must arrive at [`PACE_BYTES_MIN`] in each
//! [`PACE_WINDOW`] at least, or its connection is closed: who drips does not hold up the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// How long senders are watched before their pace is judged.
pub const PACE_WINDOW: Duration = Duration::from_secs(2);

/// Least bytes of a request that arrive in that time while memory is short: 64 KiB in a second.
pub const PACE_BYTES_MIN: usize = 128 * 1024;

/// What a permit stands for: 1 KiB, so that budgets up to 4 TiB fit a permit count.
const UNIT_BYTES: usize = 1024;

/// Smaller budgets have nothing set apart.
const DIVIDED_UNITS_MIN: usize = 1024;

#[derive(Debug, Clone)]
pub struct RequestMemory(Option<Arc<Budget>>);

#[derive(Debug)]
struct Budget {
    /// For requests of any size.
    common: Pool,
    /// For small ones.
    small: Pool,
    small_units_max: usize,
    overdraft: Arc<Mutex<()>>,
    /// Requests that wait for memory.
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct Pool {
    units: Arc<Semaphore>,
    units_max: usize,
}

impl Pool {
    fn new(units_max: usize) -> Self {
        Self { units: Arc::new(Semaphore::new(units_max)), units_max }
    }

    fn held_bytes(&self) -> usize {
        (self.units_max - self.units.available_permits()) * UNIT_BYTES
    }

    /// As many units, at once or never.
    fn try_take(&self, units: usize) -> Option<OwnedSemaphorePermit> {
        self.units.clone().try_acquire_many_owned(u32::try_from(units).ok()?).ok()
    }

    /// As many units, sooner or later; never, where it has not so many.
    async fn take(&self, units: usize) -> OwnedSemaphorePermit {
        if let Some(count) = u32::try_from(units).ok().filter(|_| units <= self.units_max)
            && let Ok(permits) = self.units.clone().acquire_many_owned(count).await
        {
            return permits;
        }
        std::future::pending().await
    }
}

/// What one request holds; given back when dropped.
#[derive(Debug, Default)]
pub struct Held {
    permits: Option<OwnedSemaphorePermit>,
    /// Of the memory for small requests: all that the request needs.
    small: Option<OwnedSemaphorePermit>,
    overdraft: Option<OwnedMutexGuard<()>>,
    bytes: usize,
}

impl Held {
    /// True when the request goes over the budget and others wait for it.
    pub fn is_overdraft(&self) -> bool {
        self.overdraft.is_some()
    }

    /// True when memory is charged for the request.
    pub fn is_charged(&self) -> bool {
        self.bytes > 0
    }
}

/// Counts a request that waits, however that ends.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RequestMemory {
    /// `None` is without a limit.
    pub fn new(bytes_max: Option<u64>) -> Self {
        Self(bytes_max.map(|bytes| {
            let units = usize::try_from(bytes).unwrap_or(usize::MAX) / UNIT_BYTES;
            let units_max = units.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
            let for_small = if units_max < DIVIDED_UNITS_MIN { 0 } else { units_max / 4 };
            Arc::new(Budget {
                common: Pool::new(units_max - for_small),
                small: Pool::new(for_small),
                small_units_max: for_small / 16,
                overdraft: Arc::new(Mutex::new(())),
                waiting: AtomicUsize::new(0),
            })
        }))
    }

    /// Charges a request, which is to be of `announced` bytes, until it holds `bytes` in all; waits where others hold too
    /// much.
    pub async fn hold(&self, held: &mut Held, bytes: usize, announced: usize) {
        let Some(budget) = &self.0 else { return };
        if bytes <= held.bytes || held.is_overdraft() {
            held.bytes = held.bytes.max(bytes);
            return;
        }
        let units = bytes.div_ceil(UNIT_BYTES) - held.bytes.div_ceil(UNIT_BYTES);
        if units == 0 {
            held.bytes = bytes;
            return;
        }
        let announced = announced.max(bytes);
        let all_units = announced.div_ceil(UNIT_BYTES);
        let is_small = all_units <= budget.small_units_max;
        if let Some(permits) = budget.common.try_take(units) {
            held.keep(permits, bytes);
        } else if let Some(permits) = budget.small.try_take(all_units).filter(|_| is_small) {
            held.keep_small(permits, announced);
        } else {
            let _waiting = Waiting::new(&budget.waiting);
            // A caller that gives up waiting has been charged for nothing.
            tokio::select! {
                biased;
                permits = budget.common.take(units) => held.keep(permits, bytes),
                permits = budget.small.take(all_units), if is_small => held.keep_small(permits, announced),
                guard = budget.overdraft.clone().lock_owned() => {
                    held.overdraft = Some(guard);
                    held.bytes = bytes;
                }
            }
        }
    }

    /// Bytes held now, for the metric.
    pub fn held_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |budget| budget.common.held_bytes() + budget.small.held_bytes())
    }

    /// Most bytes that are held, one request aside.
    pub fn bytes_max(&self) -> Option<usize> {
        let budget = self.0.as_ref()?;
        Some((budget.common.units_max + budget.small.units_max) * UNIT_BYTES)
    }

    /// Requests that wait for memory.
    pub fn waiting(&self) -> usize {
        self.0.as_ref().map_or(0, |budget| budget.waiting.load(Ordering::Relaxed))
    }
}

impl Held {
    fn keep(&mut self, permits: OwnedSemaphorePermit, bytes: usize) {
        self.bytes = bytes;
        match &mut self.permits {
            Some(all) => all.merge(permits),
            none => *none = Some(permits),
        }
    }

    fn keep_small(&mut self, permits: OwnedSemaphorePermit, bytes: usize) {
        self.bytes = bytes;
        self.small = Some(permits);
        // What it held of the rest is free for others.
        self.permits = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn half_sent_requests_never_wait_for_each_other() {
        let memory = RequestMemory::new(Some(10 * 1024));
        let (mut a, mut b, mut c) = (Held::default(), Held::default(), Held::default());
        memory.hold(&mut a, 5 * 1024, 9 * 1024).await;
        memory.hold(&mut b, 5 * 1024, 8 * 1024).await;
        assert_eq!(memory.held_bytes(), 10 * 1024);
        // The budget is gone; `a` may go over it and finish, `b` waits until `a` gives back.
        memory.hold(&mut a, 9 * 1024, 9 * 1024).await;
        assert!(a.is_overdraft());
        let waiting = tokio::spawn({
            let memory = memory.clone();
            async move {
                memory.hold(&mut b, 8 * 1024, 8 * 1024).await;
                b
            }
        });
        while memory.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished());
        drop(a);
        let b = waiting.await.unwrap();
        assert_eq!(memory.waiting(), 0);
        drop(b);
        assert_eq!(memory.held_bytes(), 0);
        // A request greater than the budget goes over it alone.
        memory.hold(&mut c, 100 * 1024, 100 * 1024).await;
        assert!(c.is_overdraft());
    }

    #[tokio::test]
    async fn large_requests_do_not_keep_small_ones_waiting() {
        const MIB: usize = 1024 * 1024;
        let memory = RequestMemory::new(Some(64 * MIB as u64));
        assert_eq!(memory.bytes_max(), Some(64 * MIB));
        let mut large: Vec<Held> = Vec::new();
        for _ in 0..49 {
            let mut held = Held::default();
            memory.hold(&mut held, MIB, 90 * MIB).await;
            large.push(held);
        }
        // Three quarters are gone, and one request is over the budget. A small one gets in, whole.
        assert!(large[48].is_overdraft());
        let mut small = Held::default();
        memory.hold(&mut small, 20_000, MIB).await;
        assert_eq!(memory.held_bytes(), 49 * MIB);
        memory.hold(&mut small, MIB, MIB).await;
        assert_eq!(memory.held_bytes(), 49 * MIB);
        drop((small, large));
        assert_eq!(memory.held_bytes(), 0);
    }
}
