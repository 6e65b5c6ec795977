//! Tokio as openraft's runtime, with the node's chance in place of the thread's randomness.
//!
//! openraft asks for random numbers (election timeouts) without saying on whose behalf. So the chance travels with the tasks:
//! [`with_chance`] gives it to what opens a quorum, and every task that openraft starts from there hands it on.

use std::sync::Arc;
use std::time::Duration;

use openraft::{AsyncRuntime, OptionalSend, TokioRuntime};
use rand_core::{Error, RngCore, impls};

use crate::env::Chance;

tokio::task_local! {
    static CHANCE: Arc<dyn Chance>;
}

/// Runs what opens a quorum with the node's chance.
pub(super) async fn with_chance<F: Future>(chance: Arc<dyn Chance>, opening: F) -> F::Output {
    CHANCE.scope(chance, opening).await
}

/// See the head of this module.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NodeRuntime;

/// The chance of the node whose task asks.
#[derive(Debug)]
pub(super) struct NodeChance(Arc<dyn Chance>);

impl RngCore for NodeChance {
    fn next_u32(&mut self) -> u32 {
        (self.0.next_u64() >> 32) as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, into: &mut [u8]) {
        impls::fill_bytes_via_next(self, into);
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(into);
        Ok(())
    }
}

impl AsyncRuntime for NodeRuntime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = NodeChance;
    type OneshotSender<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiver<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotReceiver<T>;
    type OneshotReceiverError = <TokioRuntime as AsyncRuntime>::OneshotReceiverError;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        match CHANCE.try_with(Arc::clone) {
            Ok(chance) => TokioRuntime::spawn(CHANCE.scope(chance, future)),
            Err(_) => TokioRuntime::spawn(future),
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> NodeChance {
        // openraft's own tests of the stores have no node.
        NodeChance(CHANCE.try_with(Arc::clone).unwrap_or_else(|_| Arc::new(crate::env::real::RealChance)))
    }

    fn oneshot<T>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>)
    where
        T: OptionalSend,
    {
        TokioRuntime::oneshot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::sim::SimChance;

    #[tokio::test]
    async fn tasks_draw_from_the_chance_of_those_that_started_them() {
        let drawn = |seed| {
            with_chance(Arc::new(SimChance::new(seed)), async {
                NodeRuntime::spawn(async {
                    NodeRuntime::spawn(async { NodeRuntime::thread_rng().next_u64() }).await
                })
                .await
                .unwrap()
                .unwrap()
            })
        };
        assert_eq!(drawn(7).await, drawn(7).await);
        assert_ne!(drawn(7).await, drawn(8).await);
    }
}
