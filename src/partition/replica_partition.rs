//! A partition on this node: its log, its replica state, and those who wait for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::RwLock;

use super::checks::{self, CheckError};
use super::manager::Topic;
use super::replica::{EpochError, Replica};
use super::syncing::{Syncing, Work};
use super::waiting::{Committed, WaitingFetch, WaitingFetches, WaitingProduces};
use crate::env::planted::{Planted, is_planted};
use crate::metadata::PartitionImage;
use crate::segment::{Append, AppendError, AppendRequest, Appended, Log, LogSlice, Origin, ReadError};
use crate::types::{Acks, LeaderEpoch, NodeId, Offset, TopicPartition};

/// A partition that this node holds.
#[derive(Debug)]
pub struct Partition {
    pub name: TopicPartition,
    pub topic: Arc<Topic>,
    pub log: Arc<Log>,
    replica: RwLock<Replica>,
    high_watermark: AtomicI64,
    waiting_fetches: WaitingFetches,
    waiting_produces: WaitingProduces,
    syncing: Arc<Syncing>,
    work: Work,
    /// True while a timer runs that will sync the log (`flush.ms`).
    has_sync_timer: AtomicBool,
}

/// Why a produce failed.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    #[error("this node does not lead the partition")]
    NotLeader,
    #[error("{in_sync} replicas are in sync, and min.insync.replicas is {needed}")]
    NotEnoughReplicas { in_sync: usize, needed: usize },
    #[error("{in_sync} replicas have the records, and min.insync.replicas is {needed}")]
    NotEnoughReplicasAfterAppend { in_sync: usize, needed: usize },
    #[error("the records were not replicated in time")]
    TimedOut,
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("the log could not be synced: {0}")]
    Sync(Arc<io::Error>),
}

/// What an acknowledged produce is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    pub base_offset: Offset,
    /// With log-append time; -1 otherwise.
    pub log_append_time_ms: i64,
    pub log_start_offset: Offset,
}

/// How a produce goes on.
pub enum Appending {
    Done(Result<Produced, ProduceError>),
    /// It is in order behind what was appended before; the rest (queue, sync, replicas) takes time.
    /// It goes on whether or not somebody waits for it.
    Coming(tokio::task::JoinHandle<Result<Produced, ProduceError>>),
}

/// How far a fetch may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadBound {
    /// A consumer that reads whatever is replicated.
    HighWatermark,
    /// A `read_committed` consumer. Without transactions the last stable offset is the high watermark.
    LastStableOffset,
    /// A follower.
    LogEnd,
}

/// What a fetch is shown of a partition.
#[derive(Debug)]
pub struct FetchView {
    /// `None` when there is nothing to read from that offset on.
    pub slice: Option<LogSlice>,
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start_offset: Offset,
}

/// Why a partition cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("this node does not lead the partition")]
    NotLeader,
    #[error(transparent)]
    Epoch(#[from] EpochError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Partition {
    /// A partition that nobody leads yet. `high_watermark` is what the checkpoint said.
    pub fn new(
        name: TopicPartition,
        topic: Arc<Topic>,
        log: Arc<Log>,
        node: NodeId,
        high_watermark: Offset,
        work: Work,
    ) -> Self {
        let high_watermark = high_watermark.clamp(log.log_start_offset(), log.log_end_offset());
        Self {
            name,
            topic,
            log,
            replica: RwLock::new(Replica::new(node)),
            high_watermark: AtomicI64::new(high_watermark.0),
            waiting_fetches: WaitingFetches::default(),
            waiting_produces: WaitingProduces::default(),
            syncing: Arc::default(),
            work,
            has_sync_timer: AtomicBool::new(false),
        }
    }

    /// Follows the controller. A new leadership begins with a note of its epoch in the log.
    pub fn apply(&self, image: &PartitionImage) -> io::Result<()> {
        let (begins, leads) = {
            let mut replica = self.replica.write();
            (replica.apply(image), replica.is_leader())
        };
        if begins {
            // What a crash left unsynced would stay invisible where records are shown once synced.
            if self.topic.config().flush_messages == 1 {
                self.log.flush()?;
            }
            self.log.assign_epoch_start(image.leader_epoch, self.log.log_end_offset())?;
            self.advance_high_watermark();
        }
        if !leads {
            self.waiting_produces.leadership_lost();
        }
        self.waiting_fetches.wake_all();
        Ok(())
    }

    /// Tells everybody who waits that the partition is gone.
    ///
    /// A fetch that waits holds on to it, and would otherwise go on waiting for a log that never grows.
    pub fn closed(&self) {
        self.replica.write().retire();
        self.waiting_produces.leadership_lost();
        self.waiting_fetches.wake_all();
    }

    pub fn is_leader(&self) -> bool {
        self.replica.read().is_leader()
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.replica.read().leader_epoch()
    }

    /// What is replicated lies below.
    pub fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// What is neither replicated nor part of an open transaction lies below.
    pub fn last_stable_offset(&self) -> Offset {
        self.high_watermark()
    }

    /// Checks that this node leads, in the epoch that a request expects.
    pub fn check_leader(&self, expected: LeaderEpoch) -> Result<LeaderEpoch, FetchError> {
        let replica = self.replica.read();
        replica.check_epoch(expected)?;
        if replica.is_leader() { Ok(replica.leader_epoch()) } else { Err(FetchError::NotLeader) }
    }

    /// Appends a producer's records.
    pub fn produce(
        self: &Arc<Self>,
        records: BytesMut,
        acks: Acks,
        now_ms: i64,
        timeout: Duration,
    ) -> Appending {
        let appended = match self.append(records, acks, now_ms, None) {
            Ok(appended) => appended,
            Err(error) => return Appending::Done(Err(error)),
        };
        let (append, log_append_time_ms) = appended;
        match append {
            Append::Done(Err(error)) => Appending::Done(Err(error.into())),
            Append::Done(Ok(appended)) if !appended.flush_due => {
                self.appended(&appended);
                if acks != Acks::All || self.high_watermark() > appended.last_offset {
                    return Appending::Done(self.acknowledge(&appended, acks, log_append_time_ms));
                }
                let partition = self.clone();
                Appending::Coming(self.work.tasks.spawn(async move {
                    partition.finish(appended, acks, log_append_time_ms, timeout).await
                }))
            }
            Append::Done(Ok(appended)) => {
                let partition = self.clone();
                Appending::Coming(self.work.tasks.spawn(async move {
                    partition.finish(appended, acks, log_append_time_ms, timeout).await
                }))
            }
            Append::Queued(receiver) => {
                let partition = self.clone();
                Appending::Coming(self.work.tasks.spawn(async move {
                    let appended = receiver.await.unwrap_or(Err(AppendError::Closed))?;
                    partition.finish(appended, acks, log_append_time_ms, timeout).await
                }))
            }
        }
    }

    /// Appends the broker's own records to an internal topic that it leads in `epoch`. Returns the offset
    /// after them as soon as they are in the log; [`Self::committed`] tells when they are there to stay.
    ///
    /// # Errors
    /// Nothing was appended. `NotLeader` also in another epoch.
    pub async fn append_own(
        self: &Arc<Self>,
        records: BytesMut,
        epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Result<Offset, ProduceError> {
        let (append, _) = self.append(records, Acks::All, now_ms, Some(epoch))?;
        let appended = match append {
            Append::Done(appended) => appended?,
            Append::Queued(receiver) => receiver.await.unwrap_or(Err(AppendError::Closed))?,
        };
        if appended.flush_due {
            let partition = self.clone();
            self.work.tasks.spawn(async move {
                match partition.syncing.sync(&partition.log, &partition.work).await {
                    Ok(_) => partition.appended(&appended),
                    Err(error) => {
                        tracing::error!(partition = %partition.name, %error, "the log could not be synced");
                    }
                }
            });
        } else {
            self.appended(&appended);
        }
        Ok(appended.last_offset.plus(1))
    }

    /// Waits until all that lies below `end` is committed: on every in-sync replica, and synced where
    /// the topic asks for it.
    ///
    /// # Errors
    /// `TimedOut`, or `NotLeader` when this node leads no more.
    pub async fn committed(&self, end: Offset, timeout: Duration) -> Result<(), ProduceError> {
        let committed = self.waiting_produces.register(end);
        self.waiting_produces.advanced(self.high_watermark());
        match tokio::time::timeout(timeout, committed).await {
            Err(_) => {
                self.waiting_produces.given_up(end);
                Err(ProduceError::TimedOut)
            }
            Ok(Ok(Committed::Yes)) => Ok(()),
            Ok(Ok(Committed::LeadershipLost) | Err(_)) => Err(ProduceError::NotLeader),
        }
    }

    /// Checks and appends; gives the append and the broker's time that the records carry. With `own_epoch`
    /// they are the broker's own: what producers are held to, `max.message.bytes` too, is not asked of them.
    fn append(
        &self,
        records: BytesMut,
        acks: Acks,
        now_ms: i64,
        own_epoch: Option<LeaderEpoch>,
    ) -> Result<(Append, i64), ProduceError> {
        let config = self.topic.config();
        let epoch = {
            let replica = self.replica.read();
            let epoch = replica.leader_epoch();
            if !replica.is_leader() || own_epoch.is_some_and(|expected| expected != epoch) {
                return Err(ProduceError::NotLeader);
            }
            let (in_sync, needed) = (replica.isr().len(), replica.needed_in_sync(config.min_insync_replicas));
            if acks == Acks::All && in_sync < needed {
                return Err(ProduceError::NotEnoughReplicas { in_sync, needed });
            }
            epoch
        };
        let (records, log_append_time_ms) = match own_epoch {
            Some(_) => (records, None),
            None => {
                let checked = checks::check(records, &config, now_ms)?;
                (checked.records, checked.log_append_time_ms)
            }
        };
        let request = AppendRequest { records, origin: Origin::Leader { epoch } };
        Ok((self.log.append(request), log_append_time_ms.unwrap_or(-1)))
    }

    /// Sync, high watermark and replicas of what was appended.
    async fn finish(
        self: Arc<Self>,
        appended: Appended,
        acks: Acks,
        log_append_time_ms: i64,
        timeout: Duration,
    ) -> Result<Produced, ProduceError> {
        if appended.flush_due && !is_planted(Planted::EarlyAcknowledgement) {
            self.syncing.sync(&self.log, &self.work).await.map_err(ProduceError::Sync)?;
        }
        self.appended(&appended);
        if acks == Acks::All {
            self.committed(appended.last_offset.plus(1), timeout).await?;
        }
        self.acknowledge(&appended, acks, log_append_time_ms)
    }

    /// What was appended may become readable, and the fetches that wait for it are told.
    fn appended(self: &Arc<Self>, appended: &Appended) {
        self.advance_high_watermark();
        if self.high_watermark() > appended.last_offset && !appended.duplicate {
            self.waiting_fetches.arrived(i64::try_from(appended.bytes).unwrap_or(i64::MAX));
        }
        if !appended.flush_due {
            self.start_sync_timer();
        }
    }

    fn acknowledge(
        &self,
        appended: &Appended,
        acks: Acks,
        log_append_time_ms: i64,
    ) -> Result<Produced, ProduceError> {
        if acks == Acks::All {
            let replica = self.replica.read();
            let needed = replica.needed_in_sync(self.topic.config().min_insync_replicas);
            let in_sync = replica.isr().len();
            if in_sync < needed {
                return Err(ProduceError::NotEnoughReplicasAfterAppend { in_sync, needed });
            }
        }
        Ok(Produced {
            base_offset: appended.first_offset,
            log_append_time_ms,
            log_start_offset: appended.log_start_offset,
        })
    }

    /// Moves the high watermark to where every in-sync replica is.
    fn advance_high_watermark(&self) {
        let end = {
            let replica = self.replica.read();
            if !replica.is_leader() {
                return;
            }
            let is_synced_first =
                self.topic.config().flush_messages == 1 && !is_planted(Planted::EarlyAcknowledgement);
            let own_end = if is_synced_first { self.log.recovery_point() } else { self.log.log_end_offset() };
            replica.replicated_end(own_end)
        };
        if let Some(end) = end {
            let before = self.high_watermark.fetch_max(end.0, Ordering::AcqRel);
            if before < end.0 {
                self.waiting_produces.advanced(end);
            }
        }
    }

    /// Sees to it that what was appended is synced within `flush.ms`.
    fn start_sync_timer(self: &Arc<Self>) {
        let flush_ms = self.topic.config().flush_ms;
        // A time beyond what a timer can hold (292 million years is the default) is never.
        if flush_ms > 365 * 86_400_000 || self.has_sync_timer.swap(true, Ordering::AcqRel) {
            return;
        }
        let partition = Arc::downgrade(self);
        // What it would have synced is synced when the log is closed.
        self.work.tasks.spawn_until_stopped(async move {
            tokio::time::sleep(Duration::from_millis(u64::try_from(flush_ms).unwrap_or_default())).await;
            let Some(partition) = partition.upgrade() else { return };
            partition.has_sync_timer.store(false, Ordering::Release);
            if let Err(error) = partition.sync().await {
                tracing::error!(partition = %partition.name, %error, "the log could not be synced (flush.ms)");
            }
        });
    }

    /// Waits until all that the log holds now is on disk.
    pub async fn sync(&self) -> Result<Offset, Arc<io::Error>> {
        let synced = self.syncing.sync(&self.log, &self.work).await;
        self.advance_high_watermark();
        synced
    }

    /// What there is to read from `from` on.
    pub fn fetch(
        &self,
        from: Offset,
        bytes_max: usize,
        bound: ReadBound,
        whole_first_batch: bool,
        expected_epoch: LeaderEpoch,
    ) -> Result<FetchView, FetchError> {
        self.check_leader(expected_epoch)?;
        let high_watermark = self.high_watermark();
        let up_to = match bound {
            ReadBound::HighWatermark => high_watermark,
            ReadBound::LastStableOffset => self.last_stable_offset(),
            ReadBound::LogEnd => self.log.log_end_offset(),
        };
        let slice = self.log.read(from, bytes_max, up_to, whole_first_batch)?;
        Ok(FetchView {
            slice: Some(slice).filter(|slice| slice.len > 0),
            high_watermark,
            last_stable_offset: self.last_stable_offset(),
            log_start_offset: self.log.log_start_offset(),
        })
    }

    /// Wakes the fetch when this partition has more to read.
    pub fn wake_when_more(&self, fetch: &Arc<WaitingFetch>) {
        self.waiting_fetches.register(fetch);
    }

    pub fn forget(&self, fetch: &Arc<WaitingFetch>) {
        self.waiting_fetches.forget(fetch);
    }

    /// Deletes the records below `offset` (`None`: the high watermark); returns the new low watermark.
    pub fn delete_records(&self, offset: Option<Offset>) -> Result<Offset, DeleteRecordsError> {
        if !self.is_leader() {
            return Err(DeleteRecordsError::NotLeader);
        }
        let high_watermark = self.high_watermark();
        let offset = offset.unwrap_or(high_watermark);
        if offset > high_watermark || offset < Offset::ZERO {
            return Err(DeleteRecordsError::OutOfRange { offset, high_watermark });
        }
        self.log.advance_log_start_offset(offset).map_err(DeleteRecordsError::Storage)?;
        Ok(self.log.log_start_offset())
    }
}

/// Why records could not be deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteRecordsError {
    #[error("this node does not lead the partition")]
    NotLeader,
    #[error("offset {offset} is not between 0 and the high watermark, {high_watermark}")]
    OutOfRange { offset: Offset, high_watermark: Offset },
    #[error("the log start offset could not be moved: {0}")]
    Storage(io::Error),
}
