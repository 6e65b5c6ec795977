//! The runtime around the decisions: a queue, one task, one proposal at a time.
//!
//! A proposal waits until it is known what became of it, be it for long (without a majority, or on a full disk);
//! whoever asked waits no longer than they said. Urgent requests ([`ControllerRequest::IS_URGENT`]) go before all that
//! wait, so that a broker's death waits for one proposal at most.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use kafka_protocol::ResponseError;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::balancing::Balancing;
use super::forwarding::{ControllerChannel, ControllerRequest, Outcome};
use super::handle::{ControllerHandle, Sessions};
use super::liveness::Liveness;
use super::watching::Watch;
use super::{ControllerConfig, ControllerError, Decider, Decision, too_many_records};
use crate::env::{Chance, Surroundings};
use crate::metadata::{MetadataImage, MetadataRecord};
use crate::raft::{Basis, Fence, MetadataQuorum, ProposeError, RoomNeed, records_bytes};

/// How long a proposal that is under way may hold up the stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Requests that may wait; who comes when as many do waits for room.
const QUEUE_LENGTH: usize = 1024;
/// Requests decided for one proposal.
const REQUESTS_PER_BATCH: usize = 256;
/// Records and bytes in one proposal. A request that leads to more has one for itself, or several when its
/// records need not stay together.
const RECORDS_PER_BATCH: usize = 10_000;
const BYTES_PER_BATCH: usize = 4 * 1024 * 1024;

/// A request that waits for its decision, and then for what becomes of it. One that is dropped is answered.
trait Job: Send {
    /// Decides it on an image, anew when it was decided before; `None` when whoever asked has gone away.
    fn decide(&mut self, decider: &mut Decider<'_>) -> Option<Decided>;

    fn answer(self: Box<Self>, outcome: Outcome<()>);
}

struct Decided {
    records: Vec<MetadataRecord>,
    is_atomic: bool,
}

/// How a controller is run.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    pub config: ControllerConfig,
    /// The way to the controllers of other nodes; `None`: there are none.
    pub channel: Option<Arc<dyn ControllerChannel>>,
    /// `broker.session.timeout.ms`
    pub session_timeout: Duration,
    pub balancing: Balancing,
    /// `inter.broker.listener.name`
    pub broker_listener: String,
}

/// The running controller.
#[derive(Debug)]
pub struct Controller {
    handle: ControllerHandle,
    task: JoinHandle<()>,
    watch: JoinHandle<()>,
    stopping: CancellationToken,
}

impl Controller {
    /// Starts the controller on the quorum. While another node leads it decides nothing, and its handle asks that node.
    pub fn start(quorum: MetadataQuorum, options: ControllerOptions, surroundings: &Surroundings) -> Self {
        let ControllerOptions { config, channel, session_timeout, balancing, broker_listener } = options;
        let (urgent, urgent_jobs) = mpsc::channel(QUEUE_LENGTH);
        let (other, other_jobs) = mpsc::channel(QUEUE_LENGTH);
        let queue = Queue { urgent, other };
        let stopping = CancellationToken::new();
        let chance = surroundings.chance.clone();
        let actor = Actor {
            quorum: quorum.clone(),
            config,
            chance: chance.clone(),
            jobs: Jobs {
                urgent: urgent_jobs,
                other: other_jobs,
                taken_urgent: VecDeque::new(),
                taken: VecDeque::new(),
            },
            stopping: stopping.clone(),
        };
        let liveness = Arc::new(Mutex::new(Liveness::new(session_timeout)));
        let (closed_sender, closed) = mpsc::unbounded_channel();
        let watch = Watch {
            quorum: quorum.clone(),
            queue: queue.clone(),
            liveness: liveness.clone(),
            network: surroundings.network.clone(),
            broker_listener,
            session_timeout,
            closed,
        };
        let balancing = super::balancing::run(quorum.clone(), queue.clone(), balancing);
        let watching = async move { tokio::join!(watch.run(), balancing) };
        let watching = stopping.clone().run_until_cancelled_owned(watching);
        let watch = tokio::spawn(async move { _ = watching.await });
        let sessions = Sessions { liveness, closed: closed_sender };
        let handle = ControllerHandle::new(queue, quorum, channel, sessions, chance);
        Self { handle, task: tokio::spawn(actor.run()), watch, stopping }
    }

    pub fn handle(&self) -> ControllerHandle {
        self.handle.clone()
    }

    /// Ends once what it is about to decide is decided; all who ask from then on, or wait in the queue, are told that the
    /// active controller is elsewhere.
    pub async fn stop(self) {
        self.stopping.cancel();
        if let Err(error) = self.watch.await {
            tracing::error!(%error, "the watch over the brokers failed");
        }
        let mut task = self.task;
        match tokio::time::timeout(STOP_TIMEOUT, &mut task).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::error!(error = %e, "the controller failed"),
            // Without a majority, or on a disk that takes nothing, a proposal has no outcome yet.
            Err(_) => {
                task.abort();
                let _ = task.await;
            }
        }
    }
}

/// The way into the queue of this node's controller.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    urgent: mpsc::Sender<Box<dyn Job>>,
    other: mpsc::Sender<Box<dyn Job>>,
}

impl std::fmt::Debug for dyn Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

impl Queue {
    /// True once this node's controller has stopped.
    pub(super) fn is_closed(&self) -> bool {
        self.other.is_closed()
    }

    /// Has a request decided by this node, if it is the active controller.
    pub(super) async fn decide<R: ControllerRequest>(
        &self,
        request: R,
        deadline: Instant,
    ) -> Outcome<R::Answer> {
        let (reply, answer) = oneshot::channel();
        let stage = Arc::new(AtomicU8::new(WAITS));
        let job = Asked { request, response: None, stage: stage.clone(), reply: Some(reply) };
        let stopped = || Outcome::Undecided {
            leader: None,
            why: "the controller of the node that was asked has stopped".to_owned(),
        };
        let queue = if R::IS_URGENT { &self.urgent } else { &self.other };
        let decided = async {
            if queue.send(Box::new(job)).await.is_err() {
                return stopped();
            }
            answer.await.unwrap_or_else(|_| stopped())
        };
        match timeout_at(deadline, decided).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let why = "the active controller has not come to it".to_owned();
                match stage.compare_exchange(WAITS, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => Outcome::Undecided { leader: None, why },
                    Err(_) => {
                        Outcome::Unknown { why: "the active controller has not answered in time".to_owned() }
                    }
                }
            }
        }
    }
}

/// Stages of a request: nobody has looked at it, it may be proposed, nobody wants it any more.
const WAITS: u8 = 0;
const DECIDED: u8 = 1;
const WITHDRAWN: u8 = 2;

struct Asked<R: ControllerRequest> {
    request: R,
    response: Option<R::Answer>,
    stage: Arc<AtomicU8>,
    reply: Option<oneshot::Sender<Outcome<R::Answer>>>,
}

impl<R: ControllerRequest> Asked<R> {
    fn reply(&mut self, outcome: Outcome<R::Answer>) {
        if let Some(reply) = self.reply.take() {
            // Whoever asked may have gone away.
            _ = reply.send(outcome);
        }
    }
}

impl<R: ControllerRequest> Job for Asked<R> {
    fn decide(&mut self, decider: &mut Decider<'_>) -> Option<Decided> {
        let is_unwanted = self.reply.as_ref().is_none_or(oneshot::Sender::is_closed)
            || self.stage.compare_exchange(WAITS, DECIDED, Ordering::AcqRel, Ordering::Acquire)
                == Err(WITHDRAWN);
        if is_unwanted {
            return None;
        }
        let Decision { records, response, is_atomic } = self.request.decide(decider);
        self.response = Some(response);
        Some(Decided { records, is_atomic })
    }

    fn answer(mut self: Box<Self>, outcome: Outcome<()>) {
        let outcome = match (outcome, self.response.take()) {
            (Outcome::Answered { index, .. }, Some(answer)) => Outcome::Answered { answer, index },
            (Outcome::Answered { .. }, None) => Outcome::Unknown { why: "it has no answer".to_owned() },
            (Outcome::Undecided { leader, why }, _) => Outcome::Undecided { leader, why },
            (Outcome::Unknown { why }, _) => Outcome::Unknown { why },
            (Outcome::Refused(error), _) => Outcome::Refused(error),
        };
        self.reply(outcome);
    }
}

impl<R: ControllerRequest> Drop for Asked<R> {
    fn drop(&mut self) {
        let why = "the controller of the node that was asked has stopped".to_owned();
        self.reply(match self.response {
            Some(_) => Outcome::Unknown { why },
            None => Outcome::Undecided { leader: None, why },
        });
    }
}

/// The requests that wait.
struct Jobs {
    urgent: mpsc::Receiver<Box<dyn Job>>,
    other: mpsc::Receiver<Box<dyn Job>>,
    /// Taken out of the channels, and not proposed yet.
    taken_urgent: VecDeque<Box<dyn Job>>,
    taken: VecDeque<Box<dyn Job>>,
}

impl Jobs {
    /// Waits until there are some. False when there never will be.
    async fn wait(&mut self) -> bool {
        if !self.taken_urgent.is_empty() || !self.taken.is_empty() {
            return true;
        }
        tokio::select! {
            biased;
            Some(job) = self.urgent.recv() => self.taken_urgent.push_back(job),
            Some(job) = self.other.recv() => self.taken.push_back(job),
            else => return false,
        }
        true
    }

    /// The next one, and whether it is urgent.
    fn next(&mut self) -> Option<(Box<dyn Job>, bool)> {
        let urgent = self.taken_urgent.pop_front().or_else(|| self.urgent.try_recv().ok());
        let urgent = urgent.map(|job| (job, true));
        let mut other = || self.taken.pop_front().or_else(|| self.other.try_recv().ok());
        urgent.or_else(|| other().map(|job| (job, false)))
    }

    /// Puts back what [`Jobs::next`] gave last.
    fn put_back(&mut self, job: Box<dyn Job>, is_urgent: bool) {
        if is_urgent {
            self.taken_urgent.push_front(job);
        } else {
            self.taken.push_front(job);
        }
    }
}

struct Actor {
    quorum: MetadataQuorum,
    config: ControllerConfig,
    chance: Arc<dyn Chance>,
    jobs: Jobs,
    stopping: CancellationToken,
}

/// Requests that were decided one on top of the other and await their proposal.
#[derive(Default)]
struct Batch {
    records: Vec<MetadataRecord>,
    bytes: usize,
    may_split: bool,
    jobs: Vec<Box<dyn Job>>,
}

impl Actor {
    async fn run(mut self) {
        let stopping = self.stopping.clone();
        while stopping.run_until_cancelled(self.jobs.wait()).await == Some(true) {
            match self.quorum.basis().await {
                Ok(basis) => self.decide_some(basis).await,
                // Who does not lead, or does not yet know all that was decided before, decides nothing.
                Err(error) => {
                    let leader = match error {
                        ProposeError::NotLeader(leader) => leader,
                        _ => None,
                    };
                    let outcome = Outcome::Undecided { leader, why: error.to_string() };
                    while let Some((job, _)) = self.jobs.next() {
                        job.answer(outcome.clone());
                    }
                }
            }
        }
    }

    /// Decides as much as goes into one proposal, and answers it.
    async fn decide_some(&mut self, Basis { image, fence }: Basis) {
        let mut image = MetadataImage::clone(&image);
        let mut batch = Batch::default();
        while batch.jobs.len() < REQUESTS_PER_BATCH
            && let Some((mut job, is_urgent)) = self.jobs.next()
        {
            let chance = &*self.chance;
            let decided = job.decide(&mut Decider { image: &image, config: &self.config, chance });
            let Some(Decided { records, is_atomic }) = decided else { continue };
            let next = match image.with(&records) {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(%error, "a decision does not fit the metadata");
                    job.answer(Outcome::Refused(ControllerError::unexpected(&error)));
                    continue;
                }
            };
            let bytes = records_bytes(&records);
            let is_full = batch.records.len() + records.len() > RECORDS_PER_BATCH
                || batch.bytes + bytes > BYTES_PER_BATCH
                // On a full disk what makes room must not fail with what takes some.
                || !batch.records.is_empty() && RoomNeed::of(&batch.records) != RoomNeed::of(&records);
            if is_full && !batch.jobs.is_empty() {
                self.jobs.put_back(job, is_urgent);
                break;
            }
            image = next;
            batch.may_split = batch.jobs.is_empty() && !is_atomic;
            batch.records.extend(records);
            batch.bytes += bytes;
            batch.jobs.push(job);
        }
        let outcome = match Self::propose(&self.quorum, fence, batch.records, batch.may_split).await {
            Ok(index) => Outcome::Answered { answer: (), index },
            Err(error) => outcome_of(&error),
        };
        for job in batch.jobs {
            job.answer(outcome.clone());
        }
    }

    /// Proposes records and waits until this node has applied them; gives the index that they led to.
    async fn propose(
        quorum: &MetadataQuorum,
        mut fence: Fence,
        mut records: Vec<MetadataRecord>,
        may_split: bool,
    ) -> Result<u64, ProposeError> {
        while !records.is_empty() {
            let count = if may_split { records.len().min(RECORDS_PER_BATCH) } else { records.len() };
            let rest = records.split_off(count);
            fence = quorum.propose_on(fence, records).await?;
            records = rest;
        }
        Ok(fence.records_index())
    }
}

/// What an error means to those whose records it is about. Of a request whose records went out in several proposals, some
/// may have taken effect all the same: each of those brings it nearer to what it wants, so it may be decided again.
fn outcome_of(error: &ProposeError) -> Outcome<()> {
    let why = error.to_string();
    match error {
        ProposeError::NotLeader(leader) => Outcome::Undecided { leader: *leader, why },
        ProposeError::Stale => Outcome::Undecided { leader: None, why },
        ProposeError::TooLarge { .. } => Outcome::Refused(too_many_records()),
        ProposeError::NoRoom(_) => {
            Outcome::Refused(ControllerError::new(ResponseError::KafkaStorageError, why))
        }
        ProposeError::OutcomeUnknown | ProposeError::Stopped(_) => Outcome::Unknown { why },
        ProposeError::Refused(_) => Outcome::Refused(ControllerError::unexpected(error)),
    }
}
