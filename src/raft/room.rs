//! What happens when the quorum's disk takes no more: what has to be written waits, and says so.
//!
//! A disk that is full, a quota that is used up and a file system that has turned read-only can all get well
//! again, and openraft takes any error of a store for the end of the node. So writes are tried again until they
//! succeed or the quorum is closed. Nothing here blocks a thread; but openraft's own task waits for its
//! log store. Therefore the journal has room set aside, and proposals are asked beforehand whether there is
//! enough for them (see [`super::journal`]).

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

/// What [`Room::write`] calls a snapshot that is made here.
pub(super) const SNAPSHOT: &str = "a metadata snapshot";
/// How often a write is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// True for errors that end when somebody makes room, or makes the file system writable again.
pub(super) fn is_lack_of_room(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Phase {
    Open,
    /// Nothing waits for room any more.
    Closing,
    /// openraft's task has ended.
    Closed,
}

/// Who waits for room, and until when.
#[derive(Debug)]
pub(super) struct Room {
    phase: watch::Sender<Phase>,
    /// What waits, and why.
    waiting: Mutex<BTreeMap<&'static str, String>>,
}

impl Default for Room {
    fn default() -> Self {
        Self { phase: watch::Sender::new(Phase::Open), waiting: Mutex::default() }
    }
}

impl Room {
    /// From now on a write that finds no room fails.
    pub(super) fn start_closing(&self) {
        self.advance(Phase::Closing);
    }

    pub(super) fn close(&self) {
        self.advance(Phase::Closed);
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let is_later = *phase < to;
            if is_later {
                *phase = to;
            }
            is_later
        });
    }

    pub(super) fn is_closing(&self) -> bool {
        *self.phase.borrow() >= Phase::Closing
    }

    pub(super) async fn closing(&self) {
        // The sender lives as long as this.
        _ = self.phase.subscribe().wait_for(|phase| *phase >= Phase::Closing).await;
    }

    /// Waits until openraft's task has ended and does not hear of failures any more.
    pub(super) async fn closed(&self) {
        _ = self.phase.subscribe().wait_for(|phase| *phase >= Phase::Closed).await;
    }

    /// What cannot be written now, and why.
    pub(super) fn waiting(&self) -> Option<String> {
        let waiting = self.waiting.lock();
        let (what, why) = waiting.first_key_value()?;
        Some(format!("{what} waits for the disk: {why}"))
    }

    /// The same of what nothing can be decided without. (A snapshot is not missed before the next start.)
    pub(super) fn blocked(&self) -> Option<String> {
        let waiting = self.waiting.lock();
        let (what, why) = waiting.iter().find(|(what, _)| **what != SNAPSHOT)?;
        Some(format!("{what} waits for the disk: {why}"))
    }

    /// Writes, again and again while `may_wait` says that the error is one to wait for.
    pub(super) async fn write<T, E, F>(
        &self,
        what: &'static str,
        may_wait: impl Fn(&E) -> bool,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        E: Display,
        F: Future<Output = Result<T, E>>,
    {
        loop {
            let outcome = attempt().await;
            match &outcome {
                Err(error) if may_wait(error) && !self.is_closing() => {
                    let is_first = self.waiting.lock().insert(what, error.to_string()).is_none();
                    if is_first {
                        tracing::error!(%error, "{what} waits until the disk takes it; make room or mend the disk");
                    }
                    tokio::select! {
                        () = tokio::time::sleep(RETRY) => {}
                        () = self.closing() => {}
                    }
                }
                _ => {
                    if self.waiting.lock().remove(what).is_some() && outcome.is_ok() {
                        tracing::info!("{what} is written: the disk takes it again");
                    }
                    return outcome;
                }
            }
        }
    }
}
