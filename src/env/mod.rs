//! The ports to the outside world: clock, disk, network, chance, and threads that may block.
//!
//! A node is a value of its [`Surroundings`]: what it does depends on its configuration and on what these five
//! answer, and on nothing else. On [`real`] ones it is a broker; on `sim`ulated ones the same code runs on one
//! thread in virtual time, on a disk that loses unsynced bytes and a network that cuts, and the same seed gives the
//! same run. Hence the rule that clippy holds (`clippy.toml`): no clock, randomness, thread, socket or file outside of
//! this room, the terminal's tools and tests. The simulated surroundings are not part of the released binary: they are
//! compiled for tests and benches, which switch the feature `sim` on.
//!
//! | port | real | what a simulation must do |
//! |---|---|---|
//! | [`Clock`] | the machine's | give the virtual time |
//! | [`Disk`] | files | see `sim` |
//! | [`Network`] | TCP | hand over [`Socket::Other`]s |
//! | [`Chance`] | the kernel's randomness | draw from the seed |
//! | [`Blocking`] | tokio's threads for blocking work | run the work inline, after some virtual time |
//!
//! Not a port, as a simulation has them already: tasks (`tokio::spawn` puts them on the runtime that it is called on) and
//! timers (`tokio::time`, its `Instant` too, follow the runtime's clock, which tests pause). What is under way in tokio
//! uses those; [`Clock::monotonic`] is for work that blocks and for what is counted on every request.

pub mod blocking;
pub mod chance;
pub mod disk;
pub mod network;
pub mod panics;
pub mod planted;
pub mod real;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod tasks;

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use blocking::{Blocking, WorkPanicked};
pub use chance::Chance;
pub use disk::{DirEntry, Disk, File, OpenMode, Space};
pub use network::{Acceptor, Duplex, ListenOptions, Network, Socket, SocketReader, SocketWriter};
pub use tasks::Tasks;

/// What the methods of the ports give that have to wait.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// All that a node has to do with outside of itself. Clones are the same surroundings; whoever needs but one or two of
/// the ports takes those.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub clock: Arc<dyn Clock>,
    pub disk: Arc<dyn Disk>,
    pub network: Arc<dyn Network>,
    pub chance: Arc<dyn Chance>,
    pub blocking: Arc<dyn Blocking>,
}

/// Wall clock and stop watch.
pub trait Clock: Send + Sync + Debug {
    /// Wall clock: milliseconds since 1970-01-01T00:00:00Z, as record timestamps count them. May jump either way.
    fn now_ms(&self) -> i64;

    /// Time since some fixed moment before the node started; it never goes back. Only differences mean something.
    fn monotonic(&self) -> Duration;

    /// [`Clock::monotonic`] in milliseconds.
    fn monotonic_ms(&self) -> i64 {
        i64::try_from(self.monotonic().as_millis()).unwrap_or(i64::MAX)
    }
}
