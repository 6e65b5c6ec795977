//! The machine itself: Linux files, TCP, the system's clocks, randomness and threads.

// The place for them.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod disk;
mod network;
mod pacing;
pub mod process;

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Blocking, Chance, Clock, Pending, Surroundings, WorkPanicked};

pub use disk::RealDisk;
pub use network::RealNetwork;

/// The surroundings of a process of its own.
pub fn surroundings() -> Surroundings {
    Surroundings {
        clock: Arc::new(SystemClock),
        disk: Arc::new(RealDisk),
        network: Arc::new(RealNetwork),
        chance: Arc::new(RealChance),
        blocking: Arc::new(BlockingThreads),
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn monotonic(&self) -> Duration {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        FIRST.get_or_init(Instant::now).elapsed()
    }
}

/// The kernel's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealChance;

impl Chance for RealChance {
    fn next_u64(&self) -> u64 {
        // As the standard library has it for its hashes: a kernel without randomness runs nothing.
        getrandom::u64().expect("the kernel gives random bytes")
    }
}

/// Tokio's threads for work that blocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockingThreads;

impl Blocking for BlockingThreads {
    fn start(&self, work: Box<dyn FnOnce() + Send>) -> Pending<'static, Result<(), WorkPanicked>> {
        let running = tokio::task::spawn_blocking(work);
        Box::pin(async move { running.await.map_err(|_| WorkPanicked) })
    }

    fn pause(&self, duration: Duration) {
        std::thread::sleep(duration);
    }

    fn side_by_side(&self, parts: Vec<Box<dyn FnOnce() + Send + '_>>) {
        std::thread::scope(|scope| {
            for part in parts {
                scope.spawn(part);
            }
        });
    }
}
