//! The way to the controller, the same on every node: on the one that leads the quorum into its queue, from the others
//! to that one.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::actor::Queue;
use super::forwarding::{
    self, AnyRequest, ChannelError, ControllerChannel, ControllerRequest, Decides, Outcome,
};
use super::liveness::Liveness;
use super::partitions::PartitionName;
use super::request::*;
use super::{Answers, ControllerError};
use crate::env::Chance;
use crate::metadata::ConfigResource;
use crate::raft::{MetadataQuorum, ProposeError};
use crate::types::NodeId;

/// How long those wait who do not say how long.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long who was told that the active controller is elsewhere waits before it asks again, at first and at most. It
/// asks earlier when another node is seen to lead.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(320);
/// How long one node is waited for where the request can be repeated. A machine that lost its power closes no connection, and
/// nothing tells whoever waits for its answer that it is there again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may yet come from a node that leads no more, where the request cannot be repeated.
const LATE_ANSWER_TIMEOUT: Duration = Duration::from_millis(300);

/// The way to the controller. Clones share the queue.
///
/// The outer error of an answer is about the request as a whole: the quorum failed, or the time is over
/// ([`ControllerHandle::within`]). When an answer is given, this node has applied what it tells of.
#[derive(Clone, Debug)]
pub struct ControllerHandle {
    queue: Queue,
    quorum: MetadataQuorum,
    /// `None`: there are no other nodes.
    channel: Option<Arc<dyn ControllerChannel>>,
    sessions: Sessions,
    chance: Arc<dyn Chance>,
    timeout: Duration,
}

/// What the active controller knows of the brokers' sessions, and whom it shall look after.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    pub liveness: Arc<Mutex<Liveness>>,
    pub closed: mpsc::UnboundedSender<BrokerIdentity>,
}

impl ControllerHandle {
    pub(super) fn new(
        queue: Queue,
        quorum: MetadataQuorum,
        channel: Option<Arc<dyn ControllerChannel>>,
        sessions: Sessions,
        chance: Arc<dyn Chance>,
    ) -> Self {
        Self { queue, quorum, channel, sessions, chance, timeout: TIMEOUT }
    }

    /// This handle for requests that must be answered within `timeout`. When it is over the answer is
    /// REQUEST_TIMED_OUT, whose message says whether what was asked may have taken effect.
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

    /// Answers a request that another node has forwarded over this connection: decides it, or says at once that another node is to be
    /// asked.
    ///
    /// # Errors
    /// When the request cannot be read: whoever sent it is no node of this software.
    pub async fn answer_forwarded(
        &self,
        connection: u64,
        payload: &[u8],
    ) -> Result<Vec<u8>, serde_json::Error> {
        let (within, request) = forwarding::decode(payload)?;
        if let AnyRequest::Heartbeat(beat) = &request {
            self.sessions.liveness.lock().connected(beat.broker, connection);
        }
        request.answer(&self.within(within)).await
    }

    /// Nothing more comes over this connection. If a broker's heartbeats came over it, the active controller looks whether
    /// its process is still there.
    pub fn connection_closed(&self, connection: u64) {
        if let Some(broker) = self.sessions.liveness.lock().closed(connection) {
            // Nobody listens any more where the controller stops.
            _ = self.sessions.closed.send(broker);
        }
    }

    /// The answer, once this node knows of all that it tells of, or the time is over.
    async fn ask<R: ControllerRequest>(&self, request: R) -> Result<R::Answer, ControllerError> {
        let deadline = Instant::now() + self.timeout;
        let (answer, index) = self.ask_until(request, deadline).await?;
        // What was decided is decided, even if this node does not learn of it in time.
        _ = timeout_at(deadline, self.quorum.wait_applied(index)).await;
        Ok(answer)
    }

    /// The answer, with the index of the metadata log of which it tells.
    async fn ask_until<R: ControllerRequest>(
        &self,
        request: R,
        deadline: Instant,
    ) -> Result<(R::Answer, u64), ControllerError> {
        let this_node = self.quorum.node_id();
        let mut pause = PAUSE_FIRST;
        let mut named = None;
        loop {
            let was_named = named.is_some();
            let leader = named.take().or_else(|| self.quorum.leader());
            let outcome = match leader {
                Some(leader) if leader == this_node => self.decide_here(request.clone(), deadline).await,
                Some(leader) if Some(leader) == self.quorum.leader() && !self.quorum.hears_leader() => {
                    undecided(None, "the active controller does not answer")
                }
                Some(leader) => self.decide_there(leader, &request, deadline).await?,
                None => undecided(None, "the metadata quorum has no leader"),
            };
            let (other, why) = match outcome {
                Outcome::Answered { answer, index } => return Ok((answer, index)),
                Outcome::Refused(error) => return Err(error),
                Outcome::Undecided { leader, why } => (leader, why),
                Outcome::Unknown { why } if R::MAY_REPEAT => (None, why),
                Outcome::Unknown { why } => {
                    let message = format!("It is not known whether the request took effect: {why}.");
                    return Err(ControllerError::new(ResponseError::RequestTimedOut, message));
                }
            };
            if let Some(failure) = self.quorum.failure() {
                return Err(ControllerError::new(ResponseError::NotController, failure));
            }
            if self.queue.is_closed() && leader == Some(this_node) {
                return Err(ControllerError::plain(ResponseError::NotController));
            }
            if other.is_some() && other != leader && !was_named {
                named = other;
                continue;
            }
            let now = Instant::now();
            if now >= deadline {
                let message = format!("The request has not been decided in time, and will not be: {why}.");
                return Err(ControllerError::new(ResponseError::RequestTimedOut, message));
            }
            let wait = (pause / 2 + self.chance.up_to(pause / 2)).min(deadline - now);
            _ = timeout(wait, self.quorum.leader_after(self.quorum.leader())).await;
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    /// Has this node's controller decide.
    async fn decide_here<R: ControllerRequest>(&self, request: R, deadline: Instant) -> Outcome<R::Answer> {
        if let Some(why) = self.quorum.blocked() {
            // It would wait behind what waits for the disk already.
            return Outcome::Refused(ControllerError::new(ResponseError::KafkaStorageError, why));
        }
        if R::LOOKS_FIRST {
            // Only the active controller's word counts.
            let basis = match self.quorum.basis().await {
                Ok(basis) => basis,
                Err(ProposeError::NotLeader(leader)) => {
                    return undecided(leader, "it is not the active controller");
                }
                Err(error) => return undecided(None, &error.to_string()),
            };
            let majority_ms = self.quorum.ms_since_quorum_ack();
            let mut liveness = self.sessions.liveness.lock();
            if let Some(answer) = request.before(&basis.image, &mut liveness, majority_ms) {
                return Outcome::Answered { answer, index: basis.fence.records_index() };
            }
        }
        self.queue.decide(request, deadline).await
    }

    /// Has the controller of another node decide. The error is about what cannot be sent.
    async fn decide_there<R: ControllerRequest>(
        &self,
        leader: NodeId,
        request: &R,
        deadline: Instant,
    ) -> Result<Outcome<R::Answer>, ControllerError> {
        let Some(channel) = &self.channel else {
            return Ok(undecided(None, &format!("node {leader} leads, and cannot be reached from here")));
        };
        let mut within = deadline.saturating_duration_since(Instant::now());
        if R::MAY_REPEAT {
            within = within.min(ATTEMPT_TIMEOUT);
        }
        let frame = forwarding::encode(within, request.to_any())?;
        let replaced = async {
            self.quorum.leader_after(Some(leader)).await;
            if !R::MAY_REPEAT {
                sleep(LATE_ANSWER_TIMEOUT).await;
            }
        };
        let unknown = |why: String| Outcome::Unknown { why };
        Ok(tokio::select! {
            answer = channel.call(leader, frame, R::IS_URGENT, within) => match answer {
                Ok(answer) => serde_json::from_slice(&answer).unwrap_or_else(|error| {
                    unknown(format!("the answer of node {leader} cannot be read: {error}"))
                }),
                Err(ChannelError::NotSent(why)) => undecided(None, &why),
                Err(ChannelError::Lost(why)) => unknown(why),
            },
            () = replaced => unknown(format!("node {leader}, which was asked, does not lead any more")),
        })
    }
}

fn undecided<A>(leader: Option<NodeId>, why: &str) -> Outcome<A> {
    Outcome::Undecided { leader, why: why.to_owned() }
}

/// For other nodes.
impl Decides for ControllerHandle {
    async fn decide<R: ControllerRequest>(&self, request: R) -> Outcome<R::Answer> {
        let leader = self.quorum.leader();
        if leader != Some(self.quorum.node_id()) {
            return undecided(leader, "the node that was asked does not lead the metadata quorum");
        }
        self.decide_here(request, Instant::now() + self.timeout).await
    }
}

impl ControllerHandle {
    /// Creates topics. The answers are in no special order.
    pub async fn create_topics(
        &self,
        request: CreateTopics,
    ) -> Result<Answers<String, CreatedTopic>, ControllerError> {
        self.ask(request).await
    }

    /// Deletes topics. The answers are in no special order.
    pub async fn delete_topics(
        &self,
        topics: Vec<TopicToDelete>,
    ) -> Result<Answers<TopicToDelete, DeletedTopic>, ControllerError> {
        self.ask(DeleteTopics { topics }).await
    }

    /// Adds partitions to topics. The answers are in no special order.
    pub async fn create_partitions(
        &self,
        request: CreatePartitions,
    ) -> Result<Answers<String, ()>, ControllerError> {
        self.ask(request).await
    }

    /// Changes single configurations. Answers are in the order of the request.
    pub async fn incremental_alter_configs(
        &self,
        request: IncrementalAlterConfigs,
    ) -> Result<Answers<ConfigResource, ()>, ControllerError> {
        self.ask(request).await
    }

    /// Replaces all configurations of resources. Answers are in the order of the request.
    pub async fn alter_configs(
        &self,
        request: AlterConfigs,
    ) -> Result<Answers<ConfigResource, ()>, ControllerError> {
        self.ask(request).await
    }

    /// Registers a broker's process; answers with its broker epoch.
    pub async fn register_broker(&self, request: BrokerRegistration) -> Result<i64, ControllerError> {
        self.ask(request).await?
    }

    /// Says that a broker lives; and unfences it once it can serve. Does not wait until this node knows of what the answer
    /// tells: it comes with the index of the metadata log from which on it does.
    pub async fn heartbeat(&self, beat: Heartbeat) -> Result<(HeartbeatAnswer, u64), ControllerError> {
        let (answer, index) = self.ask_until(beat, Instant::now() + self.timeout).await?;
        Ok((answer?, index))
    }

    /// Fences, unfences, shuts down or unregisters a broker.
    pub async fn change_broker(
        &self,
        broker: BrokerIdentity,
        transition: BrokerTransition,
    ) -> Result<(), ControllerError> {
        self.ask(ChangeBroker { broker, transition }).await?
    }

    /// Forgets a broker.
    pub async fn unregister_broker(&self, id: NodeId) -> Result<(), ControllerError> {
        self.ask(UnregisterBroker { id }).await?
    }

    /// Gives a broker a block of producer ids. When this answers, no one else will ever get them.
    pub async fn allocate_producer_ids(
        &self,
        broker: BrokerIdentity,
    ) -> Result<ProducerIdBlock, ControllerError> {
        self.ask(AllocateProducerIds { broker }).await?
    }

    /// Changes ISRs as the leader `broker` wants them. Answers are in the order of the request.
    pub async fn alter_partitions(
        &self,
        broker: BrokerIdentity,
        partitions: Vec<AlterPartition>,
    ) -> Result<Vec<Result<AlteredPartition, ResponseError>>, ControllerError> {
        let answers = self.ask(AlterPartitions { broker, partitions }).await??;
        Ok(answers.into_iter().map(|answer| answer.map_err(|error| error.code)).collect())
    }

    /// Makes heirs the leaders of what `broker` hands over to them. Answers are in the order of the request.
    pub async fn hand_over(
        &self,
        broker: BrokerIdentity,
        partitions: Vec<HandOver>,
    ) -> Result<Vec<Result<(), ControllerError>>, ControllerError> {
        self.ask(HandOvers { broker, partitions }).await?
    }

    /// Elects leaders on demand.
    pub async fn elect_leaders(
        &self,
        request: ElectLeaders,
    ) -> Result<Answers<PartitionName, ()>, ControllerError> {
        self.ask(request).await
    }

    /// Begins, changes or cancels reassignments. Answers are in the order of the request.
    pub async fn alter_partition_reassignments(
        &self,
        request: AlterPartitionReassignments,
    ) -> Result<Answers<PartitionName, ()>, ControllerError> {
        self.ask(request).await?
    }

    /// Brings features to other levels.
    pub async fn update_features(&self, request: UpdateFeatures) -> Result<(), ControllerError> {
        self.ask(request).await?
    }
}
