//! Until when this broker may lead, by the active controller's word.
//!
//! A broker that the active controller has not heard for its session is fenced, and others lead its partitions. It cannot be
//! told so when it is cut off. So it stops by itself, a little earlier, by its own monotonic clock and from the moment on at
//! which it asked: nobody reads from it what a later leader may not have, and no producer that waits for the leader alone
//! is told that its records are kept. Partitions that nobody else has are nobody else's to lead.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::env::Clock;

/// Clones are the same.
#[derive(Clone, Debug)]
pub struct Lease {
    clock: Arc<dyn Clock>,
    /// In milliseconds of the monotonic clock.
    until_ms: Arc<AtomicI64>,
    heard_ms: Arc<AtomicI64>,
}

impl Lease {
    /// One without an end, until it is renewed for a time.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let now_ms = clock.monotonic_ms();
        Self {
            clock,
            until_ms: Arc::new(AtomicI64::new(i64::MAX)),
            heard_ms: Arc::new(AtomicI64::new(now_ms)),
        }
    }

    pub fn now_ms(&self) -> i64 {
        self.clock.monotonic_ms()
    }

    /// The active controller heard this broker at some time after `asked_ms`, or had a majority then at least.
    pub fn renew(&self, asked_ms: i64, duration: Duration) {
        let duration_ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        self.heard_ms.store(asked_ms, Ordering::Relaxed);
        self.until_ms.store(asked_ms.saturating_add(duration_ms), Ordering::Relaxed);
    }

    /// There is nobody else who could lead.
    pub fn renew_for_ever(&self) {
        self.heard_ms.store(self.now_ms(), Ordering::Relaxed);
        self.until_ms.store(i64::MAX, Ordering::Relaxed);
    }

    /// Whether this broker may lead now what others hold, too.
    pub fn holds(&self) -> bool {
        let until_ms = self.until_ms.load(Ordering::Relaxed);
        // A node that is alone does not ask for the time.
        until_ms == i64::MAX || self.now_ms() < until_ms
    }

    /// Since when the active controller has not heard this broker; nothing while there is nobody to be heard by.
    pub fn silent_ms(&self) -> i64 {
        match self.until_ms.load(Ordering::Relaxed) {
            i64::MAX => 0,
            _ => self.now_ms() - self.heard_ms.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::sim::SimClock;

    #[test]
    fn a_lease_ends_a_while_after_it_was_asked_for() {
        let clock = SimClock::new(0);
        let lease = Lease::new(clock.clone());
        let asked_ms = lease.now_ms();
        clock.advance(1_000_000);
        assert!(lease.holds() && lease.silent_ms() == 0);
        lease.renew(lease.now_ms() - 100, Duration::from_secs(2));
        clock.advance(1_899);
        assert!(lease.holds());
        clock.advance(1);
        assert!(!lease.holds() && lease.silent_ms() == 2_000);
        lease.renew_for_ever();
        assert!(lease.holds() && asked_ms < lease.now_ms());
    }
}
