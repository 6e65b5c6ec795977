//! A partition on this node: its log, its replica state, and those who wait for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use super::checks::{self, CheckError};
use super::handing_over::HandingOver;
use super::manager::Topic;
use super::replica::{EpochError, FollowerError, FollowerFetch, IsrProposal, Replica, Turn};
use super::syncing::{Syncing, Work};
use super::transactions::Ending;
use super::waiting::{Acknowledgements, Committed, Waiter, WaitingFetch, WaitingFetches};
use crate::env::planted::{Planted, is_planted};
use crate::metadata::PartitionImage;
use crate::protocol::batch::BatchHeader;
use crate::segment::aborted::AbortedTransaction;
use crate::segment::{
    Append, AppendError, AppendRequest, Appended, Guard, Log, LogSlice, Origin, ReadError, Verification,
};
use crate::types::{Acks, LeaderEpoch, NodeId, Offset, TopicPartition};

/// A partition that this node holds.
///
/// Locks, in the order they are taken: `turning`, then the log's writer lock, or `state`; the last is held for
/// moments, and nothing is asked of the log under it but where it ends.
#[derive(Debug)]
pub struct Partition {
    pub name: TopicPartition,
    pub topic: Arc<Topic>,
    pub log: Arc<Log>,
    /// One change of leadership, truncation or replicated append at a time.
    pub(super) turning: Mutex<()>,
    pub(super) state: RwLock<State>,
    /// Consumers, who wait for the high watermark.
    waiting_fetches: WaitingFetches,
    /// Those among them that read what is committed alone, and wait for the last stable offset.
    waiting_committed: WaitingFetches,
    /// The last stable offset when they were last woken.
    woken_stable: AtomicI64,
    /// Followers, who wait for the log's end.
    waiting_followers: WaitingFetches,
    syncing: Arc<Syncing>,
    work: Work,
    /// True while a timer runs that will sync the log (`flush.ms`).
    has_sync_timer: AtomicBool,
}

/// What changes together: the replica with its high watermark, and who waits for that.
#[derive(Debug)]
pub(super) struct State {
    pub(super) replica: Replica,
    acknowledgements: Acknowledgements<Waiter>,
    /// While it is, the log is suspended. Changes under `turning`.
    pub(super) handing_over: Option<HandingOver>,
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
    Append(AppendError),
    #[error("the log could not be synced: {0}")]
    Sync(Arc<io::Error>),
}

impl From<AppendError> for ProduceError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::LeadershipEnded(_) => ProduceError::NotLeader,
            error => ProduceError::Append(error),
        }
    }
}

/// What an acknowledged produce is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    pub base_offset: Offset,
    /// With log-append time; -1 otherwise.
    pub log_append_time_ms: i64,
    pub log_start_offset: Offset,
}

/// Whose records are appended.
#[derive(Clone, Copy, Debug)]
enum Whose {
    Producer {
        must_be_known: bool,
        guard: Guard,
    },
    /// The broker's own, in the leadership that it decided them in.
    Own {
        epoch: LeaderEpoch,
    },
    /// A transaction coordinator's marker, in that leadership where one is named.
    Marker {
        transaction_version: i8,
        epoch: Option<LeaderEpoch>,
    },
}

impl Whose {
    /// The leadership that it is for, where only one will do.
    fn epoch(self) -> Option<LeaderEpoch> {
        match self {
            Whose::Producer { .. } => None,
            Whose::Own { epoch } => Some(epoch),
            Whose::Marker { epoch, .. } => epoch,
        }
    }
}

/// What an append was checked for.
#[derive(Clone, Copy, Debug)]
struct Checked {
    /// This node's leadership then.
    epoch: LeaderEpoch,
    /// The broker's time that the records carry; -1 for none.
    log_append_time_ms: i64,
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
    /// A `read_committed` consumer.
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
    /// The aborted transactions that the slice may hold records of, by where they began; for `read_committed` alone.
    pub aborted: Vec<AbortedTransaction>,
    pub log_start_offset: Offset,
    /// See [`Partition::is_behind_epoch_start`].
    pub is_behind_epoch_start: bool,
}

/// How well a partition is replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicated {
    pub replicas: usize,
    pub in_sync: usize,
    /// As many as `min.insync.replicas` asks for, and there are.
    pub least: usize,
    /// Records that the slowest follower lacks, of those that have been heard of.
    pub lag: i64,
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
            turning: Mutex::new(()),
            state: RwLock::new(State {
                replica: Replica::new(node, high_watermark),
                acknowledgements: Acknowledgements::default(),
                handing_over: None,
            }),
            waiting_fetches: WaitingFetches::default(),
            waiting_committed: WaitingFetches::default(),
            woken_stable: AtomicI64::new(-1),
            waiting_followers: WaitingFetches::default(),
            syncing: Arc::default(),
            work,
            has_sync_timer: AtomicBool::new(false),
        }
    }

    /// Follows the controller. The log is told of a new leader epoch first: what was checked in an earlier one is
    /// refused from then on, and where a leadership begins nothing is between its start and what it finds.
    pub fn apply(self: &Arc<Self>, image: &PartitionImage) -> io::Result<()> {
        let _one_at_a_time = self.turning.lock();
        let turn = self.state.read().replica.turn(image);
        let told = match turn {
            Turn::Lead(epoch) => {
                let led = self.log.lead(epoch).map(|_| ()).map_err(io::Error::other);
                // What a crash left unsynced would stay invisible where records are shown once synced.
                match self.topic.config().log.flush_messages {
                    1 => led.and(self.log.flush().map(|_| ())),
                    _ => led,
                }
            }
            Turn::Follow(epoch) => {
                let follows = self.log.follow(epoch).map_err(io::Error::other);
                if is_planted(Planted::TruncationToHighWatermark) {
                    let _ = self.log.truncate_to(self.high_watermark(), epoch, |_| Ok(()));
                }
                follows
            }
            Turn::Nothing | Turn::Same => Ok(()),
        };
        let mut was_handing_over = None;
        self.changed(|state| {
            state.replica.apply(image, self.log.log_end_offset(), self.log.monotonic_ms());
            if turn != Turn::Nothing {
                was_handing_over = state.handing_over.take();
            }
            match turn {
                Turn::Lead(epoch) => {
                    state.acknowledgements.lead(epoch);
                    Vec::new()
                }
                Turn::Follow(_) => state.acknowledgements.end(),
                Turn::Nothing | Turn::Same => Vec::new(),
            }
        });
        if was_handing_over.is_some() {
            // Where the leadership has ended, it did with it.
            self.log.resume();
        }
        if turn != Turn::Nothing && self.heir().is_some() {
            self.work.to_hand_over.push(self);
        }
        self.advance_high_watermark();
        self.wake_all_fetches();
        told
    }

    /// Changes the state, and tells those whose wait that ends.
    fn changed(&self, change: impl FnOnce(&mut State) -> Vec<Waiter>) {
        for waiter in change(&mut self.state.write()) {
            let _ = waiter.send(Committed::LeadershipLost);
        }
    }

    /// Tells everybody who waits that the partition is gone.
    ///
    /// A fetch that waits holds on to it, and would otherwise go on waiting for a log that never grows.
    pub fn closed(&self) {
        let _one_at_a_time = self.turning.lock();
        self.log.end_leadership();
        self.changed(|state| {
            state.replica.retire();
            state.handing_over = None;
            state.acknowledgements.end()
        });
        self.wake_all_fetches();
    }

    /// More is replicated.
    pub(super) fn wake_consumers(&self) {
        self.waiting_fetches.wake_all();
        self.wake_committed(None);
    }

    /// Wakes those who read what is committed alone, if they may read more: `bytes` more when no transaction is in their
    /// way, where that is known.
    fn wake_committed(&self, bytes: Option<i64>) {
        if self.waiting_committed.is_empty() {
            return;
        }
        match bytes.filter(|_| !self.log.has_transactions()) {
            Some(bytes) => self.waiting_committed.arrived(bytes),
            None => {
                let stable = self.last_stable_offset().0;
                if self.woken_stable.swap(stable, Ordering::AcqRel) != stable {
                    self.waiting_committed.wake_all();
                }
            }
        }
    }

    pub(super) fn wake_all_fetches(&self) {
        self.waiting_fetches.wake_all();
        self.waiting_committed.wake_all();
        self.waiting_followers.wake_all();
    }

    /// Notes how far a follower is, as its fetch tells: once for each fetch, and not when the answer is that the logs
    /// part. What that commits is acknowledged, and consumers may read it; and who has caught up may join the ISR.
    /// Returns the high watermark that the follower was told last. `active_epoch` as for
    /// [`Replica::propose_expansion`].
    pub fn follower_fetched(
        self: &Arc<Self>,
        fetch: FollowerFetch,
        now_ms: i64,
        active_epoch: impl Fn(NodeId) -> Option<i64>,
    ) -> Result<Offset, FollowerError> {
        let end = self.log.log_end_offset();
        let (told, before, joins) = {
            let replica = &mut self.state.write().replica;
            let told = replica.fetched(fetch, end, now_ms)?;
            let joins = replica.propose_expansion(fetch.follower, active_epoch).is_some();
            (told, replica.high_watermark(), joins)
        };
        if joins {
            self.work.isr_changes.push(self);
        }
        if self.advance(|state| state.replica.high_watermark()) > before {
            self.wake_consumers();
        }
        Ok(told)
    }

    /// A follower is about to be told of this high watermark.
    pub fn told(&self, follower: NodeId, high_watermark: Offset) {
        self.state.write().replica.told(follower, high_watermark);
    }

    /// Asks for those to leave the ISR that lag for longer than `lag_ms_max`, if there are any.
    pub fn look_for_lag(
        self: &Arc<Self>,
        now_ms: i64,
        lag_ms_max: i64,
        active_epoch: impl Fn(NodeId) -> Option<i64>,
    ) {
        {
            let replica = &self.state.read().replica;
            if !replica.is_leader() || replica.in_sync().committed().len() < 2 {
                return;
            }
        }
        let end = self.log.log_end_offset();
        let leave = self.state.write().replica.propose_shrink(end, now_ms, lag_ms_max, active_epoch);
        if leave.is_some() {
            self.work.isr_changes.push(self);
        }
    }

    /// What the controller is to be asked for (again).
    pub fn proposal_under_way(&self, active_epoch: impl Fn(NodeId) -> Option<i64>) -> Option<IsrProposal> {
        self.state.read().replica.proposal_under_way(active_epoch)
    }

    /// The controller has refused it, as a member is not eligible.
    pub fn proposal_refused(&self, proposal: &IsrProposal) {
        self.state.write().replica.refused(proposal);
    }

    /// How well the partition is replicated; `None` where this node does not lead it.
    pub fn replicated(&self) -> Option<Replicated> {
        let config = self.topic.config();
        let end = self.log.log_end_offset();
        let replica = &self.state.read().replica;
        let followers = replica.followers().values();
        let lag = followers.map(|known| end.0.saturating_sub(known.log_end.0)).max().unwrap_or(0);
        replica.is_leader().then(|| Replicated {
            replicas: replica.replicas().len(),
            in_sync: replica.in_sync().committed().len(),
            least: replica.needed_in_sync(config.min_insync_replicas),
            lag: lag.max(0),
        })
    }

    /// What is known of the replica and its followers now.
    pub fn replica(&self) -> Replica {
        self.state.read().replica.clone()
    }

    /// The leader that this node follows, and in which epoch.
    pub fn follows(&self) -> Option<(NodeId, LeaderEpoch)> {
        let replica = &self.state.read().replica;
        replica.leader().filter(|_| !replica.is_leader()).map(|leader| (leader, replica.leader_epoch()))
    }

    /// Of the followers that are in sync and have that offset, the one that is furthest among those that are wanted. `None`
    /// where this node does not lead.
    pub fn furthest_follower(&self, offset: Offset, is_wanted: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let replica = &self.state.read().replica;
        let in_sync = replica.in_sync().committed();
        let able = replica.followers().iter().filter(|(id, known)| {
            in_sync.contains(id) && (known.log_start..=known.log_end).contains(&offset) && is_wanted(**id)
        });
        let furthest = able.max_by_key(|(_, known)| known.log_end).filter(|_| replica.is_leader());
        furthest.map(|(id, _)| *id)
    }

    /// Where the log begins on all replicas that are alive; `None` while that is not known.
    pub fn low_watermark(&self, is_alive: impl Fn(NodeId) -> bool) -> Option<Offset> {
        self.state.read().replica.low_watermark(self.log.log_start_offset(), is_alive)
    }

    /// Whether what is produced to this node is taken: it leads, in this epoch or a later one.
    pub fn takes_records(&self, epoch: LeaderEpoch) -> bool {
        let replica = &self.state.read().replica;
        replica.is_leader() && replica.leader_epoch() >= epoch
    }

    /// Whether records are taken and read here: this node leads by the metadata that it knows, and nobody else can by
    /// later metadata.
    pub(super) fn leads(&self, replica: &Replica) -> bool {
        replica.is_leader() && (replica.replicas().len() == 1 || self.work.may_lead())
    }

    pub fn is_leader(&self) -> bool {
        self.state.read().replica.is_leader()
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.state.read().replica.leader_epoch()
    }

    /// What is replicated lies below.
    pub fn high_watermark(&self) -> Offset {
        self.state.read().replica.high_watermark()
    }

    /// Whether the high watermark may be behind what consumers were told by an earlier leader: until it reaches where
    /// this leadership began (KIP-207).
    pub fn is_behind_epoch_start(&self) -> bool {
        self.state.read().replica.is_behind_epoch_start()
    }

    /// What is neither replicated nor part of an open transaction lies below.
    pub fn last_stable_offset(&self) -> Offset {
        self.log.last_stable_offset(self.high_watermark())
    }

    /// Checks that this node leads, in the epoch that a request expects.
    pub fn check_leader(&self, expected: LeaderEpoch) -> Result<LeaderEpoch, FetchError> {
        let replica = &self.state.read().replica;
        replica.check_epoch(expected)?;
        if self.leads(replica) { Ok(replica.leader_epoch()) } else { Err(FetchError::NotLeader) }
    }

    /// Whether a producer's transactional batch needs to be verified with its coordinator before it is appended, as
    /// [`Log::verification`] says.
    ///
    /// # Errors
    /// This node does not lead: nobody has to be asked for that.
    pub fn verification(&self, header: &BatchHeader) -> Result<Verification, ProduceError> {
        if !self.leads(&self.state.read().replica) {
            return Err(ProduceError::NotLeader);
        }
        Ok(self.log.verification(header))
    }

    /// Appends a producer's records. `must_be_known` and `guard` as in [`Origin::Producer`].
    pub fn produce(
        self: &Arc<Self>,
        records: BytesMut,
        acks: Acks,
        now_ms: i64,
        timeout: Duration,
        (must_be_known, guard): (bool, Guard),
    ) -> Appending {
        let whose = Whose::Producer { must_be_known, guard };
        let (append, checked) = match self.append(records, acks, now_ms, whose) {
            Ok(appended) => appended,
            Err(error) => return Appending::Done(Err(error)),
        };
        let partition = self.clone();
        match append {
            Append::Done(Err(error)) => Appending::Done(Err(error.into())),
            Append::Done(Ok(appended)) if !appended.flush_due => {
                let outcome = self.appended(&appended, checked.epoch);
                match outcome {
                    _ if acks != Acks::All => Appending::Done(self.acknowledge(&appended, acks, checked)),
                    Some(Committed::Yes) => Appending::Done(self.acknowledge(&appended, acks, checked)),
                    Some(Committed::LeadershipLost) => Appending::Done(Err(ProduceError::NotLeader)),
                    None => Appending::Coming(
                        self.work
                            .tasks
                            .spawn(async move { partition.finish(appended, acks, checked, timeout).await }),
                    ),
                }
            }
            Append::Done(Ok(appended)) => Appending::Coming(
                self.work
                    .tasks
                    .spawn(async move { partition.finish(appended, acks, checked, timeout).await }),
            ),
            Append::Queued(receiver) => Appending::Coming(self.work.tasks.spawn(async move {
                let appended = receiver.await.unwrap_or(Err(AppendError::Closed))?;
                partition.finish(appended, acks, checked, timeout).await
            })),
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
        self.append_internal(records, now_ms, Whose::Own { epoch }).await.map(|(end, _)| end)
    }

    /// Appends the marker that ends a producer's transaction here, where the transaction coordinator has decided that. Returns
    /// the offset after it and the leadership in which it was appended; [`Self::committed`] tells when it is there to stay.
    /// One that comes again is appended again, and changes nothing. `epoch`: the leadership that it is for, if only one
    /// will do.
    ///
    /// # Errors
    /// Nothing was appended. [`AppendError::CoordinatorFenced`] for a coordinator that is one no more,
    /// [`AppendError::InvalidProducerEpoch`] for a transaction that is over.
    pub async fn append_marker(
        self: &Arc<Self>,
        ending: Ending,
        epoch: Option<LeaderEpoch>,
        now_ms: i64,
    ) -> Result<(Offset, LeaderEpoch), ProduceError> {
        let Ending { producer_id, producer_epoch, marker, transaction_version } = ending;
        let records = marker.batch(producer_id, producer_epoch, now_ms).map_err(CheckError::from)?;
        self.append_internal(records, now_ms, Whose::Marker { transaction_version, epoch }).await
    }

    async fn append_internal(
        self: &Arc<Self>,
        records: BytesMut,
        now_ms: i64,
        whose: Whose,
    ) -> Result<(Offset, LeaderEpoch), ProduceError> {
        let (append, checked) = self.append(records, Acks::All, now_ms, whose)?;
        let appended = match append {
            Append::Done(appended) => appended?,
            Append::Queued(receiver) => receiver.await.unwrap_or(Err(AppendError::Closed))?,
        };
        if appended.flush_due {
            let partition = self.clone();
            self.work.tasks.spawn(async move {
                match partition.syncing.sync(&partition.log, &partition.work).await {
                    Ok(_) => drop(partition.appended(&appended, checked.epoch)),
                    Err(error) => {
                        tracing::error!(partition = %partition.name, %error, "the log could not be synced");
                    }
                }
            });
        } else {
            self.appended(&appended, checked.epoch);
        }
        Ok((appended.last_offset.plus(1), checked.epoch))
    }

    /// Waits until all that lies below `end`, appended in this node's leadership of `epoch`, is committed: on every
    /// in-sync replica, and synced where the topic asks for it.
    ///
    /// # Errors
    /// `TimedOut`, or `NotLeader` when that leadership is over.
    pub async fn committed(
        &self,
        end: Offset,
        epoch: LeaderEpoch,
        timeout: Duration,
    ) -> Result<(), ProduceError> {
        let committed = {
            let state = &mut *self.state.write();
            match state.acknowledgements.outcome(epoch, end, state.replica.high_watermark()) {
                Some(Committed::Yes) => return Ok(()),
                Some(Committed::LeadershipLost) => return Err(ProduceError::NotLeader),
                None => {}
            }
            let (waiter, committed) = oneshot::channel();
            state.acknowledgements.wait(end, waiter);
            committed
        };
        match tokio::time::timeout(timeout, committed).await {
            Err(_) => {
                // In a log that cannot be synced, nothing else would take it away.
                self.state.write().acknowledgements.give_up(end, Waiter::is_closed);
                Err(ProduceError::TimedOut)
            }
            Ok(Ok(Committed::Yes)) => Ok(()),
            Ok(Ok(Committed::LeadershipLost) | Err(_)) => Err(ProduceError::NotLeader),
        }
    }

    /// Whether all below `end`, appended in this node's leadership of `epoch`, is committed by now.
    pub fn is_committed(&self, end: Offset, epoch: LeaderEpoch) -> bool {
        let state = self.state.read();
        let outcome = state.acknowledgements.outcome(epoch, end, state.replica.high_watermark());
        outcome == Some(Committed::Yes)
    }

    /// Checks and appends; gives the append and what it was checked for. What producers are held to,
    /// `max.message.bytes` too, is not asked of the broker's own records.
    fn append(
        &self,
        records: BytesMut,
        acks: Acks,
        now_ms: i64,
        whose: Whose,
    ) -> Result<(Append, Checked), ProduceError> {
        let config = self.topic.config();
        let epoch = {
            let replica = &self.state.read().replica;
            let epoch = replica.leader_epoch();
            let is_expected = whose.epoch().is_none_or(|expected| expected == epoch);
            if !self.leads(replica) || !is_expected {
                return Err(ProduceError::NotLeader);
            }
            let in_sync = replica.in_sync().committed().len();
            let needed = replica.needed_in_sync(config.min_insync_replicas);
            if acks == Acks::All && in_sync < needed {
                return Err(ProduceError::NotEnoughReplicas { in_sync, needed });
            }
            epoch
        };
        let (records, log_append_time_ms, origin) = match whose {
            Whose::Own { .. } => (records, None, Origin::Coordinator),
            Whose::Marker { transaction_version, .. } => {
                (records, None, Origin::Marker { transaction_version })
            }
            Whose::Producer { must_be_known, guard } => {
                let checked = checks::check(records, &self.name, &config, now_ms)?;
                let origin = Origin::Producer { must_be_known, guard };
                (checked.records, checked.log_append_time_ms, origin)
            }
        };
        let checked = Checked { epoch, log_append_time_ms: log_append_time_ms.unwrap_or(-1) };
        Ok((self.log.append(AppendRequest { records, epoch, origin }), checked))
    }

    /// Sync, high watermark and replicas of what was appended.
    async fn finish(
        self: Arc<Self>,
        appended: Appended,
        acks: Acks,
        checked: Checked,
        timeout: Duration,
    ) -> Result<Produced, ProduceError> {
        if appended.flush_due && !is_planted(Planted::EarlyAcknowledgement) {
            self.syncing.sync(&self.log, &self.work).await.map_err(ProduceError::Sync)?;
        }
        self.appended(&appended, checked.epoch);
        if acks == Acks::All {
            self.committed(appended.last_offset.plus(1), checked.epoch, timeout).await?;
        }
        self.acknowledge(&appended, acks, checked)
    }

    /// What was appended in `epoch` may become readable, and the fetches that wait for it are told. Returns how it
    /// stands with it.
    fn appended(self: &Arc<Self>, appended: &Appended, epoch: LeaderEpoch) -> Option<Committed> {
        let end = appended.last_offset.plus(1);
        let (outcome, is_readable) = self.advance(|state| {
            let high_watermark = state.replica.high_watermark();
            (state.acknowledgements.outcome(epoch, end, high_watermark), high_watermark >= end)
        });
        if !appended.duplicate {
            let bytes = i64::try_from(appended.bytes).unwrap_or(i64::MAX);
            self.waiting_followers.arrived(bytes);
            if is_readable {
                self.waiting_fetches.arrived(bytes);
                self.wake_committed(Some(bytes));
            }
        }
        if !appended.flush_due {
            self.start_sync_timer();
        }
        outcome
    }

    fn acknowledge(
        &self,
        appended: &Appended,
        acks: Acks,
        checked: Checked,
    ) -> Result<Produced, ProduceError> {
        if acks == Acks::All {
            let replica = &self.state.read().replica;
            let needed = replica.needed_in_sync(self.topic.config().min_insync_replicas);
            let in_sync = replica.in_sync().committed().len();
            if in_sync < needed {
                return Err(ProduceError::NotEnoughReplicasAfterAppend { in_sync, needed });
            }
        }
        // Of a repetition, what was stored then.
        let log_append_time_ms = match appended.duplicate {
            true if checked.log_append_time_ms != -1 => appended.max_timestamp,
            _ => checked.log_append_time_ms,
        };
        Ok(Produced {
            base_offset: appended.first_offset,
            log_append_time_ms,
            log_start_offset: appended.log_start_offset,
        })
    }

    /// Moves the high watermark to where every in-sync replica is.
    fn advance_high_watermark(&self) {
        self.advance(|_| ());
    }

    /// Moves the high watermark to where every in-sync replica is, looks at the state as it is then, and tells those
    /// whose records are committed.
    fn advance<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        let config = self.topic.config();
        let (seen, told) = {
            let state = &mut *self.state.write();
            // Read under the lock: while this node leads, its log is not cut.
            let is_synced_first =
                config.log.flush_messages == 1 && !is_planted(Planted::EarlyAcknowledgement);
            let own_end = if is_synced_first { self.log.recovery_point() } else { self.log.log_end_offset() };
            let moved = state.replica.advance(own_end, config.min_insync_replicas);
            state.look_whether_drained();
            let told = match moved {
                true => state.acknowledgements.advanced(state.replica.high_watermark()),
                false => Vec::new(),
            };
            (look(state), told)
        };
        for waiter in told {
            let _ = waiter.send(Committed::Yes);
        }
        seen
    }

    /// Sees to it that what was appended is synced within `flush.ms`.
    pub(super) fn start_sync_timer(self: &Arc<Self>) {
        let flush_ms = self.topic.config().log.flush_ms;
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

    /// What there is to read from `from` on. With `may_follow`, a follower answers, too (KIP-392).
    pub fn fetch(
        &self,
        from: Offset,
        bytes_max: usize,
        bound: ReadBound,
        whole_first_batch: bool,
        expected_epoch: LeaderEpoch,
        may_follow: bool,
    ) -> Result<FetchView, FetchError> {
        let (high_watermark, is_behind_epoch_start) = {
            let replica = &self.state.read().replica;
            replica.check_epoch(expected_epoch)?;
            // A follower reads out what it knows to be committed, while it follows somebody.
            let follows = !replica.is_leader() && replica.leader().is_some();
            let is_served_here = self.leads(replica) || may_follow && follows;
            if !is_served_here {
                return Err(FetchError::NotLeader);
            }
            (replica.high_watermark(), replica.is_behind_epoch_start())
        };
        let last_stable_offset = self.log.last_stable_offset(high_watermark);
        let up_to = match bound {
            ReadBound::HighWatermark => high_watermark,
            ReadBound::LastStableOffset => last_stable_offset,
            ReadBound::LogEnd => self.log.log_end_offset(),
        };
        let slice = self.log.read(from, bytes_max, up_to, whole_first_batch)?;
        let slice = Some(slice).filter(|slice| slice.len > 0);
        let aborted = match bound {
            ReadBound::LastStableOffset if slice.is_some() => {
                self.log.aborted_transactions(from, up_to).map_err(ReadError::from)?
            }
            _ => Vec::new(),
        };
        Ok(FetchView {
            slice,
            high_watermark,
            last_stable_offset,
            aborted,
            log_start_offset: self.log.log_start_offset(),
            is_behind_epoch_start,
        })
    }

    /// Wakes the fetch when this partition has more to read for it.
    pub fn wake_when_more(&self, fetch: &Arc<WaitingFetch>, bound: ReadBound) {
        self.waiting(bound).register(fetch);
    }

    pub fn forget(&self, fetch: &Arc<WaitingFetch>, bound: ReadBound) {
        self.waiting(bound).forget(fetch);
    }

    fn waiting(&self, bound: ReadBound) -> &WaitingFetches {
        match bound {
            ReadBound::HighWatermark => &self.waiting_fetches,
            ReadBound::LastStableOffset => &self.waiting_committed,
            ReadBound::LogEnd => &self.waiting_followers,
        }
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
        // Followers are to follow at once.
        self.waiting_followers.wake_all();
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
