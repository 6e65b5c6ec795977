//! Tasks that end when their owner says so, and whose end can be waited for.

use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one part of a node. Clones are the same tasks. A node that has stopped has waited for every one of them, so
/// nothing of it goes on afterwards.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
}

impl Tasks {
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task that ends by itself, when what it waits for has come or [`Tasks::stopping`] tells it.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.tracker.spawn(task)
    }

    /// Starts a task that is dropped where it waits once these tasks are to stop.
    pub fn spawn_until_stopped(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let stopping = self.stopping.clone();
        let until = async move { stopping.run_until_cancelled_owned(task).await };
        self.tracker.spawn(until).abort_handle()
    }

    /// Tells when the tasks are to end.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Has all tasks end, and waits until they have.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stopping_waits_for_what_ends_by_itself_and_drops_what_waits() {
        let tasks = Tasks::new();
        let stopping = tasks.stopping().clone();
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let ending = tasks.spawn(async move {
            stopping.cancelled().await;
            sender.send("noted").await
        });
        tasks.spawn_until_stopped(std::future::pending());
        tasks.stop().await;
        assert!(ending.is_finished());
        assert_eq!(receiver.recv().await, Some("noted"));
        assert_eq!(receiver.recv().await, None);
    }
}
