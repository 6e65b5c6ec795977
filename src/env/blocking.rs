//! The port to threads: work that may block does not belong on those that drive tasks.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Pending;

/// The work panicked, and its outcome with it. (What it held, it let go of.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("blocking work panicked; its backtrace is on standard error")]
pub struct WorkPanicked;

/// Where work runs that blocks: on the disk, on a lock that is held over the disk, or on much computing.
///
/// Real: one of tokio's threads for blocking work. Simulated: the runtime's only thread, after a drawn latency of virtual time;
/// so work must never wait for a task or for other work.
pub trait Blocking: Send + Sync + Debug {
    /// Starts the work, which runs to its end whether or not anybody waits for what is returned.
    fn start(&self, work: Box<dyn FnOnce() + Send>) -> Pending<'static, Result<(), WorkPanicked>>;

    /// Called by work that is under way: lets time go by. A simulation cannot let its only thread wait: it puts the clock that the
    /// work sees forward, and lets the work end so much later.
    fn pause(&self, duration: Duration);

    /// Called by work that is under way: runs parts of it beside each other and returns when all have ended. Real: on threads of
    /// their own. Simulated: one after the other, in an order that the seed decides.
    ///
    /// # Panics
    /// When one of the parts does.
    fn side_by_side(&self, parts: Vec<Box<dyn FnOnce() + Send + '_>>);
}

impl dyn Blocking {
    /// Runs work that may block and gives what it gives. The work starts with this call, not when its outcome is first waited for,
    /// and goes on when nobody waits for it any more.
    ///
    /// # Errors
    /// When the work panicked.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, WorkPanicked>> + Send + 'static {
        let outcome = Arc::new(Mutex::new(None));
        let ended = self.start({
            let outcome = outcome.clone();
            Box::new(move || {
                let result = work();
                *outcome.lock() = Some(result);
            })
        });
        async move {
            ended.await?;
            outcome.lock().take().ok_or(WorkPanicked)
        }
    }
}
