//! Pauses before what failed is tried again, and the loop that does so.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ClientError;
use crate::env::Chance;

/// Part of a pause by which it is made longer or shorter, so that many who failed together do not come again
/// together (KIP-580).
const JITTER: f64 = 0.2;

/// Pauses that double from the first (`retry.backoff.ms`) up to the longest (`retry.backoff.max.ms`).
pub(crate) struct Backoff {
    chance: Arc<dyn Chance>,
    first_ms: u64,
    max_ms: u64,
    next_ms: u64,
}

impl Backoff {
    pub(crate) fn new(first_ms: u64, max_ms: u64, chance: Arc<dyn Chance>) -> Self {
        // As in Kafka: a first pause that is longer than the longest is the longest.
        let max_ms = max_ms.max(1);
        let first_ms = first_ms.clamp(1, max_ms);
        Self { chance, first_ms, max_ms, next_ms: first_ms }
    }

    pub(crate) fn next_pause(&mut self) -> Duration {
        let share = self.chance.next_u64() as f64 / u64::MAX as f64;
        let factor = 1.0 - JITTER + 2.0 * JITTER * share;
        let pause = Duration::from_millis(self.next_ms).mul_f64(factor);
        self.next_ms = self.next_ms.saturating_mul(2).min(self.max_ms);
        pause.min(Duration::from_millis(self.max_ms))
    }

    /// What was tried has succeeded: the next pause is the first again.
    pub(crate) fn reset(&mut self) {
        self.next_ms = self.first_ms;
    }
}

/// Tries until a deadline.
pub(crate) struct Retries {
    backoff: Backoff,
    deadline: Instant,
}

impl Retries {
    pub(crate) fn new(backoff: Backoff, timeout: Duration) -> Self {
        Self { backoff, deadline: Instant::now() + timeout }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// The error itself, when it does not pass or there is no time for another attempt.
    pub(crate) async fn after(&mut self, error: ClientError, passes: bool) -> Result<(), ClientError> {
        let pause = self.backoff.next_pause();
        if !passes || Instant::now() + pause > self.deadline {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Calls `attempt` until it succeeds, fails with what does not pass, or the time is over; the error is the last one met.
    pub(crate) async fn run<T>(
        mut self,
        passes: impl Fn(&ClientError) -> bool,
        mut attempt: impl AsyncFnMut() -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => {
                    let passes = passes(&error);
                    self.after(error, passes).await?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::real::RealChance;

    #[test]
    fn pauses_double_up_to_the_longest_and_no_two_clients_keep_step() {
        let mut backoff = Backoff::new(100, 1000, Arc::new(RealChance));
        for expected in [100.0, 200.0, 400.0, 800.0] {
            let pause = backoff.next_pause().as_secs_f64() * 1000.0;
            assert!((expected * 0.8 - 1.0..=expected * 1.2 + 1.0).contains(&pause), "{pause} for {expected}");
        }
        assert!(backoff.next_pause() <= Duration::from_millis(1000));
        backoff.reset();
        assert!(backoff.next_pause() <= Duration::from_millis(121));
        let firsts = (0..20).map(|_| Backoff::new(1000, 5000, Arc::new(RealChance)).next_pause());
        assert!(firsts.collect::<std::collections::BTreeSet<_>>().len() > 1);
        // A first pause above the longest.
        let mut short = Backoff::new(5000, 50, Arc::new(RealChance));
        assert!(short.next_pause() <= Duration::from_millis(50));
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_tried_until_the_time_is_over() {
        let retries = |ms| {
            let backoff = Backoff::new(100, 1000, Arc::new(RealChance));
            Retries::new(backoff, Duration::from_millis(ms))
        };
        let lost = || ClientError::Lost { address: "a".into(), reason: "r".into() };
        let mut attempts = 0;
        let third = retries(10_000).run(ClientError::is_retriable, async || {
            attempts += 1;
            if attempts == 3 { Ok(attempts) } else { Err(lost()) }
        });
        assert_eq!(third.await.unwrap(), 3);
        let started = Instant::now();
        let never = retries(5_000).run(ClientError::is_retriable, async || Err::<(), _>(lost()));
        assert!(matches!(never.await, Err(ClientError::Lost { .. })));
        assert!(started.elapsed() <= Duration::from_millis(5_000));
        let mut attempts = 0;
        let wrong = retries(5_000).run(ClientError::is_retriable, async || {
            attempts += 1;
            Err::<(), _>(ClientError::Address("x".into()))
        });
        assert!(wrong.await.is_err());
        assert_eq!(attempts, 1);
    }
}
