//! The runtime around the decisions: a queue, one task, one proposal at a time.
//!
//! A proposal waits until it is known what became of it, be it for long (without a majority, or on a full disk);
//! whoever asked waits no longer than they said.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::partitions::PartitionName;
use super::request::*;
use super::{Answers, ControllerConfig, ControllerError, Decider, Decision, too_many_records};
use crate::env::Chance;
use crate::metadata::{ConfigResource, MetadataImage, MetadataRecord};
use crate::raft::{Basis, Fence, MetadataQuorum, ProposeError, RoomNeed, records_bytes};

/// How long those wait who do not say how long.
const TIMEOUT: Duration = Duration::from_secs(30);
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

/// Decides one request on an image; `None` when whoever asked has gone away. One that is dropped is
/// answered with NOT_CONTROLLER.
type Job = Box<dyn FnOnce(&mut Decider<'_>) -> Option<Decided> + Send>;
type Outcome = Result<(), ControllerError>;

struct Decided {
    records: Vec<MetadataRecord>,
    is_atomic: bool,
    /// Answers the request once it is known what became of its records.
    answer: Box<dyn FnOnce(Outcome) + Send>,
}

/// The running controller.
#[derive(Debug)]
pub struct Controller {
    handle: ControllerHandle,
    task: JoinHandle<()>,
    stopping: CancellationToken,
}

/// The way to the controller. Clones share the queue.
///
/// The outer error of an answer is about the request as a whole: this node is not the active controller,
/// the quorum failed, or the time is over ([`ControllerHandle::within`]).
#[derive(Clone, Debug)]
pub struct ControllerHandle {
    jobs: mpsc::Sender<Job>,
    quorum: MetadataQuorum,
    timeout: Duration,
}

impl Controller {
    /// Starts the controller on the quorum; it takes requests at once, and refuses them with
    /// NOT_CONTROLLER while another node leads.
    pub fn start(quorum: MetadataQuorum, config: ControllerConfig, chance: Arc<dyn Chance>) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE_LENGTH);
        let stopping = CancellationToken::new();
        let actor = Actor { quorum: quorum.clone(), config, chance, queue, stopping: stopping.clone() };
        let handle = ControllerHandle { jobs, quorum, timeout: TIMEOUT };
        Self { handle, task: tokio::spawn(actor.run()), stopping }
    }

    pub fn handle(&self) -> ControllerHandle {
        self.handle.clone()
    }

    /// Ends once what it is about to decide is decided; all who ask from then on, or wait in the queue, are told that the
    /// active controller is elsewhere.
    pub async fn stop(self) {
        self.stopping.cancel();
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

struct Actor {
    quorum: MetadataQuorum,
    config: ControllerConfig,
    chance: Arc<dyn Chance>,
    queue: mpsc::Receiver<Job>,
    stopping: CancellationToken,
}

/// Requests that were decided one on top of the other and await their proposal.
#[derive(Default)]
struct Batch {
    records: Vec<MetadataRecord>,
    bytes: usize,
    may_split: bool,
    answers: Vec<Box<dyn FnOnce(Outcome) + Send>>,
}

impl Actor {
    async fn run(mut self) {
        let mut jobs = Vec::new();
        let stopping = self.stopping.clone();
        let next = async |queue: &mut mpsc::Receiver<Job>, jobs: &mut Vec<Job>| {
            stopping.run_until_cancelled(queue.recv_many(jobs, REQUESTS_PER_BATCH)).await.unwrap_or(0)
        };
        while next(&mut self.queue, &mut jobs).await > 0 {
            self.decide_all(jobs.drain(..)).await;
        }
    }

    async fn decide_all(&mut self, jobs: impl Iterator<Item = Job>) {
        // Who does not lead, or does not yet know all that was decided before, decides nothing.
        let Ok(Basis { image, mut fence }) = self.quorum.basis().await else { return };
        let mut image = MetadataImage::clone(&image);
        let mut batch = Batch::default();
        for job in jobs {
            let chance = &*self.chance;
            let Some(decided) = job(&mut Decider { image: &image, config: &self.config, chance }) else {
                continue;
            };
            let next = match image.with(&decided.records) {
                Ok(next) => next,
                Err(e) => {
                    tracing::error!(error = %e, "a decision does not fit the metadata");
                    let error = ControllerError::new(ResponseError::UnknownServerError, e.to_string());
                    (decided.answer)(Err(error));
                    continue;
                }
            };
            let bytes = records_bytes(&decided.records);
            let is_full = batch.records.len() + decided.records.len() > RECORDS_PER_BATCH
                || batch.bytes + bytes > BYTES_PER_BATCH
                // On a full disk what makes room must not fail with what takes some.
                || !batch.records.is_empty() && RoomNeed::of(&batch.records) != RoomNeed::of(&decided.records);
            if is_full && !batch.answers.is_empty() {
                match Self::commit(&self.quorum, fence, std::mem::take(&mut batch)).await {
                    Ok(led_to) => fence = led_to,
                    Err(e) => {
                        // It was decided on what did not come true.
                        let code = ResponseError::NotController;
                        (decided.answer)(Err(ControllerError::new(code, format!("decided in vain: {e}"))));
                        let Ok(basis) = self.quorum.basis().await else { return };
                        (image, fence) = (MetadataImage::clone(&basis.image), basis.fence);
                        continue;
                    }
                }
            }
            image = next;
            batch.may_split = batch.answers.is_empty() && !decided.is_atomic;
            batch.records.extend(decided.records);
            batch.bytes += bytes;
            batch.answers.push(decided.answer);
        }
        _ = Self::commit(&self.quorum, fence, batch).await;
    }

    /// Proposes a batch, waits until this node has applied it, and answers all who are in it. Gives what may be
    /// decided on then.
    async fn commit(quorum: &MetadataQuorum, fence: Fence, batch: Batch) -> Result<Fence, ControllerError> {
        let outcome = Self::propose(quorum, fence, batch.records, batch.may_split).await;
        for answer in batch.answers {
            answer(outcome.clone().map(|_| ()));
        }
        outcome
    }

    async fn propose(
        quorum: &MetadataQuorum,
        mut fence: Fence,
        mut records: Vec<MetadataRecord>,
        may_split: bool,
    ) -> Result<Fence, ControllerError> {
        while !records.is_empty() {
            let count = if may_split { records.len().min(RECORDS_PER_BATCH) } else { records.len() };
            let rest = records.split_off(count);
            fence = quorum.propose_on(fence, records).await.map_err(|e| match e {
                ProposeError::NotLeader(_) | ProposeError::Stale => {
                    ControllerError::plain(ResponseError::NotController)
                }
                ProposeError::TooLarge { .. } => too_many_records(),
                ProposeError::NoRoom(_) => {
                    ControllerError::new(ResponseError::KafkaStorageError, e.to_string())
                }
                ProposeError::OutcomeUnknown => {
                    ControllerError::new(ResponseError::RequestTimedOut, e.to_string())
                }
                ProposeError::Refused(_) | ProposeError::Stopped(_) => {
                    ControllerError::new(ResponseError::UnknownServerError, e.to_string())
                }
            })?;
            records = rest;
        }
        Ok(fence)
    }
}

impl ControllerHandle {
    /// This handle for requests that must be answered within `timeout`. When it is over the answer is
    /// REQUEST_TIMED_OUT: what was asked has not been decided yet, and will not be, or it is not known what
    /// became of it.
    pub fn within(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// As [`ControllerHandle::within`], with `timeout_ms` of a request. One of 0 or less says nothing.
    pub fn within_ms(&self, timeout_ms: i32) -> Self {
        match u64::try_from(timeout_ms) {
            Ok(ms) if ms > 0 => self.within(Duration::from_millis(ms)),
            _ => self.clone(),
        }
    }

    async fn ask<R: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Decider<'_>) -> Decision<R> + Send + 'static,
    ) -> Result<R, ControllerError> {
        if let Some(why) = self.quorum.blocked() {
            // It would wait behind what waits for the disk already.
            return Err(ControllerError::new(ResponseError::KafkaStorageError, why));
        }
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |decider| {
            if sender.is_closed() {
                return None;
            }
            let Decision { records, response, is_atomic } = decide(decider);
            let answer = Box::new(move |outcome: Outcome| {
                // Whoever asked may have gone away.
                _ = sender.send(outcome.map(|()| response));
            });
            Some(Decided { records, is_atomic, answer })
        });
        let stopped = || ControllerError::plain(ResponseError::NotController);
        let answer = tokio::time::timeout(self.timeout, async {
            self.jobs.send(job).await.map_err(|_| stopped())?;
            receiver.await.map_err(|_| stopped())?
        });
        answer.await.unwrap_or_else(|_| {
            let message =
                "The controller has not answered in time: it is not known whether the request took effect.";
            Err(ControllerError::new(ResponseError::RequestTimedOut, message))
        })
    }

    /// Creates topics. The answers are in no special order.
    pub async fn create_topics(
        &self,
        request: CreateTopics,
    ) -> Result<Answers<String, CreatedTopic>, ControllerError> {
        self.ask(move |decider| decider.create_topics(&request)).await
    }

    /// Deletes topics. The answers are in no special order.
    pub async fn delete_topics(
        &self,
        topics: Vec<TopicToDelete>,
    ) -> Result<Answers<TopicToDelete, DeletedTopic>, ControllerError> {
        self.ask(move |decider| decider.delete_topics(&topics)).await
    }

    /// Adds partitions to topics. The answers are in no special order.
    pub async fn create_partitions(
        &self,
        request: CreatePartitions,
    ) -> Result<Answers<String, ()>, ControllerError> {
        self.ask(move |decider| decider.create_partitions(&request)).await
    }

    /// Changes single configurations. Answers are in the order of the request.
    pub async fn incremental_alter_configs(
        &self,
        request: IncrementalAlterConfigs,
    ) -> Result<Answers<ConfigResource, ()>, ControllerError> {
        self.ask(move |decider| decider.incremental_alter_configs(&request)).await
    }

    /// Replaces all configurations of resources. Answers are in the order of the request.
    pub async fn alter_configs(
        &self,
        request: AlterConfigs,
    ) -> Result<Answers<ConfigResource, ()>, ControllerError> {
        self.ask(move |decider| decider.alter_configs(&request)).await
    }

    /// Registers a broker's process; answers with its broker epoch.
    pub async fn register_broker(&self, request: BrokerRegistration) -> Result<i64, ControllerError> {
        self.ask(move |decider| decider.register_broker(&request)).await?
    }

    /// Fences, unfences, shuts down or unregisters a broker.
    pub async fn change_broker(
        &self,
        broker: BrokerIdentity,
        transition: BrokerTransition,
    ) -> Result<(), ControllerError> {
        self.ask(move |decider| decider.change_broker(broker, transition)).await?
    }

    /// Gives a broker a block of producer ids. When this answers, no one else will ever get them.
    pub async fn allocate_producer_ids(
        &self,
        broker: BrokerIdentity,
    ) -> Result<ProducerIdBlock, ControllerError> {
        self.ask(move |decider| decider.allocate_producer_ids(broker)).await?
    }

    /// Changes ISRs as the leader `broker` wants them. Answers are in the order of the request.
    pub async fn alter_partitions(
        &self,
        broker: BrokerIdentity,
        partitions: Vec<AlterPartition>,
    ) -> Result<Vec<Result<AlteredPartition, ResponseError>>, ControllerError> {
        self.ask(move |decider| decider.alter_partitions(broker, &partitions)).await?
    }

    /// Elects leaders on demand.
    pub async fn elect_leaders(
        &self,
        request: ElectLeaders,
    ) -> Result<Answers<PartitionName, ()>, ControllerError> {
        self.ask(move |decider| decider.elect_leaders(&request)).await
    }
}
