//! `max.connection.creation.rate` (KIP-612): when the next connection may be accepted. Those that come
//! sooner wait in the kernel's queue.

/// As in Kafka with its default windows, what was not used for ten seconds may be made up for at once.
const WINDOW_S: f64 = 10.0;
/// Without a limit, as Kafka writes it.
const UNLIMITED: i32 = i32::MAX;
/// Longest time until somebody looks again: the limit may have changed.
const LOOK_MS: f64 = 200.0;

/// Counts connections against a rate that may change at any time.
#[derive(Debug)]
pub(super) struct CreationRate {
    /// Connections in a second.
    per_second: i32,
    /// Connections that may come now.
    room: f64,
    counted_at_ms: i64,
}

impl CreationRate {
    pub(super) fn new(per_second: i32, now_ms: i64) -> Self {
        Self { per_second, room: f64::from(per_second) * WINDOW_S, counted_at_ms: now_ms }
    }

    /// A new rate begins with its whole room; the same one changes nothing.
    pub(super) fn set(&mut self, per_second: i32, now_ms: i64) {
        if per_second != self.per_second {
            *self = Self::new(per_second, now_ms);
        }
    }

    /// Milliseconds to wait before asking again; 0 lets one connection in, and counts it.
    pub(super) fn admit(&mut self, now_ms: i64) -> u64 {
        if self.per_second == UNLIMITED {
            return 0;
        }
        let rate = f64::from(self.per_second);
        let passed_s = (now_ms - self.counted_at_ms).max(0) as f64 / 1000.0;
        self.room = (self.room + passed_s * rate).min(rate * WINDOW_S);
        self.counted_at_ms = now_ms;
        if self.room >= 1.0 {
            self.room -= 1.0;
            return 0;
        }
        let wait_ms = (1.0 - self.room) / rate * 1000.0;
        // At least one: 0 means that it may come.
        wait_ms.min(LOOK_MS).ceil().max(1.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_come_at_the_rate_after_a_first_burst() {
        let mut rate = CreationRate::new(10, 0);
        assert_eq!((0..100).map(|_| rate.admit(0)).sum::<u64>(), 0);
        assert_eq!(rate.admit(0), 100);
        assert_eq!(rate.admit(60), 40);
        assert_eq!((rate.admit(100), rate.admit(100)), (0, 100));
        rate.set(0, 200);
        assert_eq!(rate.admit(100_000), LOOK_MS as u64);
        rate.set(UNLIMITED, 200);
        assert_eq!(rate.admit(300), 0);
    }
}
