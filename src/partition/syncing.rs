//! One `fdatasync` for all who wait for one.
//!
//! While a sync of a log runs, whoever asks for one waits for the next, which then serves all of
//! them. At most one blocking thread is busy for a partition, and [`SYNCS_AT_A_TIME`] for the broker:
//! more at a time would not make the device faster, and a file system gathers theirs in one commit of
//! its journal.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::gathering::Gathering;
use super::lease::Lease;
use crate::env::planted::{Planted, is_planted};
use crate::env::{Blocking, Tasks, panics};
use crate::segment::Log;
use crate::types::Offset;

/// Most syncs that run at a time.
pub const SYNCS_AT_A_TIME: usize = 16;

/// What the partitions of a node have in common for work that takes its time. Clones share it.
#[derive(Clone, Debug)]
pub struct Work {
    pub blocking: Arc<dyn Blocking>,
    /// End with the node.
    pub tasks: Tasks,
    /// Those of which the in-sync replicas are to change.
    pub isr_changes: Arc<Gathering>,
    /// Those that are to get another leader.
    pub to_hand_over: Arc<Gathering>,
    /// `None`: this broker leads whatever the metadata says.
    lease: Option<Lease>,
    syncs: Arc<Semaphore>,
}

impl Work {
    pub fn new(blocking: Arc<dyn Blocking>, tasks: Tasks) -> Self {
        Self {
            blocking,
            tasks,
            isr_changes: Arc::default(),
            to_hand_over: Arc::default(),
            lease: None,
            syncs: Arc::new(Semaphore::new(SYNCS_AT_A_TIME)),
        }
    }

    /// This work of a broker that leads what others hold no longer than `lease` holds.
    pub fn while_it_holds(self, lease: Lease) -> Self {
        Self { lease: Some(lease), ..self }
    }

    /// Whether this broker may lead now what others hold, too.
    pub fn may_lead(&self) -> bool {
        self.lease.as_ref().is_none_or(Lease::holds) || is_planted(Planted::ServingOldLeaders)
    }
}

type Answer = Result<Offset, Arc<io::Error>>;

/// The syncs of one log.
#[derive(Debug, Default)]
pub struct Syncing(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    is_running: bool,
    waiting: Vec<oneshot::Sender<Answer>>,
}

impl Syncing {
    /// Waits until all that the log held at this call is on disk; returns the offset below which
    /// everything is.
    pub async fn sync(self: &Arc<Self>, log: &Arc<Log>, work: &Work) -> Answer {
        let (sender, receiver) = oneshot::channel();
        let must_start = {
            let mut state = self.0.lock();
            state.waiting.push(sender);
            !std::mem::replace(&mut state.is_running, true)
        };
        if must_start {
            let (syncing, log) = (self.clone(), log.clone());
            let (slots, blocking) = (work.syncs.clone(), work.blocking.clone());
            work.tasks.spawn(async move {
                let _slot = slots.acquire_owned().await;
                let _ = blocking.run(move || syncing.run(&log)).await;
            });
        }
        receiver.await.unwrap_or_else(|_| Err(Arc::new(io::Error::other("the broker is shutting down"))))
    }

    /// Syncs until nobody waits.
    fn run(&self, log: &Log) {
        loop {
            let served = {
                let mut state = self.0.lock();
                if state.waiting.is_empty() {
                    state.is_running = false;
                    return;
                }
                std::mem::take(&mut state.waiting)
            };
            // A defect that panics must not leave those waiting for ever who come later.
            let flushed = std::panic::catch_unwind(AssertUnwindSafe(|| {
                panics::planted("sync");
                log.flush()
            }));
            let panicked = |_| Err(io::Error::other("syncing the log panicked"));
            let answer = flushed.unwrap_or_else(panicked).map_err(Arc::new);
            for waiting in served {
                let _ = waiting.send(answer.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::env::Disk;
    use crate::env::real;
    use crate::env::sim::{Bad, SimClock, SimDisk};
    use crate::protocol::builder::{BatchBuilder, BatchOptions};
    use crate::segment::file_cache::FileCache;
    use crate::segment::{Append, AppendRequest, LogConfig, LogPlace, Origin};
    use crate::types::LeaderEpoch;

    #[tokio::test]
    async fn a_sync_that_panics_does_not_stop_later_ones() {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/t-0")).unwrap();
        let place = LogPlace {
            disk: Arc::new(disk.clone()),
            clock: SimClock::new(0),
            cache: Arc::new(FileCache::new(10)),
            dir: "/t-0".into(),
            log_start_offset: None,
            recovery_point: None,
            first_dirty_offset: None,
            was_closed: false,
            accepts_missing_data: false,
        };
        let log = Arc::new(Log::open(place, LogConfig::default()).unwrap());
        log.lead(LeaderEpoch(0)).unwrap();
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.add(0, None, Some(b"value")).unwrap();
        let records = builder.build_mut().unwrap();
        let appended = log.append(AppendRequest { records, epoch: LeaderEpoch(0), origin: Origin::PRODUCER });
        assert!(matches!(appended, Append::Done(Ok(_))));
        let (syncing, work) =
            (Arc::new(Syncing::default()), Work::new(real::surroundings().blocking, Tasks::new()));
        disk.break_path("t-0", Bad { panics: true, ..Bad::default() });
        assert!(syncing.sync(&log, &work).await.is_err());
        assert_eq!(log.recovery_point(), Offset(0));
        disk.mend();
        assert_eq!(syncing.sync(&log, &work).await.unwrap(), Offset(1));
    }
}
